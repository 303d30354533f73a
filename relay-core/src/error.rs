//! Why something was dropped, or noticed: values with one counter each, never a panic.

/// The bytes are not a DHCPv6 message (RFC 8415 §8, §9).
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum DecodeError {
    /// The message or option is shorter than its fixed part.
    #[error("{need} bytes needed at {at}")]
    Truncated {
        /// Offset in the message.
        at: usize,
        /// Bytes that the fixed part needs.
        need: usize,
    },
    /// An option's length runs beyond what holds it.
    #[error("option {code} at {at} runs beyond its container")]
    OptionOverrun {
        /// Option code.
        code: u16,
        /// Offset of the option in its container.
        at: usize,
    },
    /// Relay messages nested deeper than HOP_COUNT_LIMIT allows.
    #[error("relay messages nested too deep")]
    TooDeep,
    /// A relay message without Relay Message option.
    #[error("no Relay Message option")]
    NoRelayMessage,
    /// Something else where a RELAY-FORW belongs.
    #[error("no RELAY-FORW")]
    NoRelayForw,
    /// An option whose data cannot have this length.
    #[error("option {code} cannot have {len} bytes of data")]
    OptionLength {
        /// Option code.
        code: u16,
        /// Length of its data.
        len: usize,
    },
}

macro_rules! reasons {
    ($(#[$meta:meta])* $name:ident { $($(#[$doc:meta])* $variant:ident => $label:literal,)+ }) => {
        $(#[$meta])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
        pub enum $name { $($(#[$doc])* $variant,)+ }

        impl $name {
            /// All of them, in the order of their discriminants.
            pub const ALL: &'static [Self] = &[$(Self::$variant),+];

            /// The label of the counter.
            pub const fn name(self) -> &'static str {
                match self { $(Self::$variant => $label,)+ }
            }
        }
    };
}

reasons! {
    /// A datagram was dropped on purpose: `twinrelay_messages_dropped_total{reason}`.
    Discard {
        /// The outer structure is broken (RLY-17).
        Malformed => "malformed",
        /// hop-count is at the limit (RLY-36).
        HopCountLimit => "hop_count_limit",
        /// A message that only servers send came from a client (RLY-7, RLY-8).
        ServerMessageFromClient => "server_message_from_client",
        /// RELAY-FORW on a port that does not accept it (RLY-60).
        RelayedNotAccepted => "relayed_not_accepted",
        /// RELAY-REPL from a source that is no configured server (RLY-61).
        NotFromServer => "not_from_server",
        /// A client sent to a unicast address of ours (RLY-11).
        UnicastFromClient => "unicast_from_client",
        /// LEASEQUERY from an access interface (RLY-12).
        LeasequeryFromClient => "leasequery_from_client",
        /// A type that exists on TCP only (RLY-13).
        TcpOnlyType => "tcp_only_type",
        /// A type that no client sends.
        NotFromClient => "not_from_client",
        /// RECONFIGURE-REQUEST where it is refused (RLY-14).
        ReconfigureRequestRefused => "reconfigure_request_refused",
        /// RSOO inside where it is refused (RLY-59).
        RsooRefused => "rsoo_refused",
        /// The interface is not (or no longer) an access interface.
        UnknownInterface => "unknown_interface",
        /// An answer whose Interface-Id or link-address names no link of ours (RLY-48).
        UnknownLink => "unknown_link",
        /// No server is configured for the interface, or none can be reached from it.
        NoServer => "no_server",
        /// The message does not fit into a UDP datagram once wrapped.
        TooLarge => "too_large",
        /// From the servers' side, but neither RELAY-REPL nor anything else for a relay.
        NotForRelay => "not_for_relay",
        /// The source address is unspecified or multicast: no answer could be sent to it.
        BadSource => "bad_source",
        /// The shell did not take effects for too long: no room for one more message.
        Overload => "overload",
    }
}

reasons! {
    /// Counted, though nothing was dropped: `twinrelay_notices_total{notice}`.
    Notice {
        /// A Reply answered no request that we remember (SNP-6).
        UnmatchedReply => "unmatched_reply",
        /// A Reply could not be read for learning; it was delivered all the same.
        UnreadableReply => "unreadable_reply",
        /// A Reply without Server-Id or with another Client-Id was not learned (SNP-31).
        ReplyNotLearned => "reply_not_learned",
        /// A lease with impossible lifetimes or address was not learned (SNP-26, SNP-27, SNP-33).
        LeaseInvalid => "lease_invalid",
        /// A client's limit was reached: forwarded, not installed (PDR-G-5).
        ClientLimit => "client_limit",
        /// An interface's limit was reached (PDR-G-6).
        InterfaceLimit => "interface_limit",
        /// The table is full.
        TableFull => "table_full",
        /// The same prefix is leased to two clients (SNP-35).
        LeaseConflict => "lease_conflict",
        /// A peer or server told of a lease on a link that is none of ours (ALQ-D-4).
        LeaseUnmapped => "lease_unmapped",
        /// A server's answer to an individual LEASEQUERY was about another client, or one with another next
        /// hop, than the one that confirmed its address: not taken.
        LeasequeryMismatch => "leasequery_mismatch",
        /// Release or Decline for a lease of another link or client: no effect (SNP-23).
        ForeignRelease => "foreign_release",
        /// A Reply carried the Server Unicast option (RLY-92).
        ServerUnicast => "server_unicast",
        /// A Reply left at its deadline, before its route was in place or its change on disk.
        LateReply => "late_reply",
        /// A Reply left before its change was on disk: the store cannot write, or is told everything
        /// once more.
        UnkeptReply => "unkept_reply",
        /// An answer went out without a known MAC, through the UDP socket.
        UnknownMac => "unknown_mac",
        /// A client message was dropped from the table of transactions before its answer came.
        TransactionEvicted => "transaction_evicted",
        /// A message in the name of an exchange that another MAC began: its answer goes to the first.
        TransactionConflict => "transaction_conflict",
    }
}
