//! Code points (RFC 8415 and the documents named): message types, option codes, status codes,
//! ports, addresses and limits.

use core::net::Ipv6Addr;

/// UDP port that clients listen on (RFC 8415 §7.2).
pub const CLIENT_PORT: u16 = 546;
/// UDP port that servers and relay agents listen on (RFC 8415 §7.2).
pub const SERVER_PORT: u16 = 547;
/// All_DHCP_Relay_Agents_and_Servers (RFC 8415 §7.1).
pub const ALL_RELAY_AGENTS_AND_SERVERS: Ipv6Addr = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 1, 2);
/// All_DHCP_Servers (RFC 8415 §7.1).
pub const ALL_SERVERS: Ipv6Addr = Ipv6Addr::new(0xff05, 0, 0, 0, 0, 0, 1, 3);
/// Received hop-counts from here on are discarded (RFC 8415 §7.6, §19.1.2).
pub const HOP_COUNT_LIMIT: u8 = 8;
/// Hardware type of Ethernet (IANA ARP parameters) as option 79 begins with it.
pub const HARDWARE_TYPE_ETHERNET: [u8; 2] = [0, 1];

macro_rules! message_types {
    ($($(#[$doc:meta])* $name:ident = $code:literal $label:literal,)+) => {
        $($(#[$doc])* pub const $name: u8 = $code;)+

        /// The label of counters: `solicit`, `relay-forw`, …; `unknown` for the rest.
        pub const fn message_type_name(message_type: u8) -> &'static str {
            match message_type { $($code => $label,)+ _ => "unknown" }
        }
    };
}

message_types! {
    /// RFC 8415 §7.3.
    SOLICIT = 1 "solicit",
    /// RFC 8415 §7.3.
    ADVERTISE = 2 "advertise",
    /// RFC 8415 §7.3.
    REQUEST = 3 "request",
    /// RFC 8415 §7.3.
    CONFIRM = 4 "confirm",
    /// RFC 8415 §7.3.
    RENEW = 5 "renew",
    /// RFC 8415 §7.3.
    REBIND = 6 "rebind",
    /// RFC 8415 §7.3.
    REPLY = 7 "reply",
    /// RFC 8415 §7.3.
    RELEASE = 8 "release",
    /// RFC 8415 §7.3.
    DECLINE = 9 "decline",
    /// RFC 8415 §7.3.
    RECONFIGURE = 10 "reconfigure",
    /// RFC 8415 §7.3.
    INFORMATION_REQUEST = 11 "information-request",
    /// RFC 8415 §7.3.
    RELAY_FORW = 12 "relay-forw",
    /// RFC 8415 §7.3.
    RELAY_REPL = 13 "relay-repl",
    /// RFC 5007.
    LEASEQUERY = 14 "leasequery",
    /// RFC 5007.
    LEASEQUERY_REPLY = 15 "leasequery-reply",
    /// RFC 5460, TCP only.
    LEASEQUERY_DONE = 16 "leasequery-done",
    /// RFC 5460, TCP only.
    LEASEQUERY_DATA = 17 "leasequery-data",
    /// RFC 6977.
    RECONFIGURE_REQUEST = 18 "reconfigure-request",
    /// RFC 6977.
    RECONFIGURE_REPLY = 19 "reconfigure-reply",
    /// RFC 7341.
    DHCPV4_QUERY = 20 "dhcpv4-query",
    /// RFC 7341.
    DHCPV4_RESPONSE = 21 "dhcpv4-response",
    /// RFC 7653, TCP only.
    ACTIVELEASEQUERY = 22 "activeleasequery",
    /// RFC 7653, TCP only.
    STARTTLS = 23 "starttls",
    /// RFC 9686.
    ADDR_REG_INFORM = 36 "addr-reg-inform",
    /// RFC 9686.
    ADDR_REG_REPLY = 37 "addr-reg-reply",
}

macro_rules! option_codes {
    ($($(#[$doc:meta])* $name:ident = $code:literal,)+) => { $($(#[$doc])* pub const $name: u16 = $code;)+ };
}

option_codes! {
    /// Client Identifier, RFC 8415 §21.2.
    OPTION_CLIENTID = 1,
    /// Server Identifier, RFC 8415 §21.3.
    OPTION_SERVERID = 2,
    /// Identity Association for Non-temporary Addresses, RFC 8415 §21.4.
    OPTION_IA_NA = 3,
    /// Identity Association for Temporary Addresses, RFC 8415 §21.5.
    OPTION_IA_TA = 4,
    /// IA Address, RFC 8415 §21.6.
    OPTION_IAADDR = 5,
    /// Option Request, RFC 8415 §21.7.
    OPTION_ORO = 6,
    /// Relay Message, RFC 8415 §21.10.
    OPTION_RELAY_MSG = 9,
    /// Server Unicast, RFC 8415 §21.12.
    OPTION_UNICAST = 12,
    /// Status Code, RFC 8415 §21.13.
    OPTION_STATUS_CODE = 13,
    /// Rapid Commit, RFC 8415 §21.14.
    OPTION_RAPID_COMMIT = 14,
    /// Interface-Id, RFC 8415 §21.18.
    OPTION_INTERFACE_ID = 18,
    /// Identity Association for Prefix Delegation, RFC 8415 §21.21.
    OPTION_IA_PD = 25,
    /// IA Prefix, RFC 8415 §21.22.
    OPTION_IAPREFIX = 26,
    /// Relay Agent Remote-Id, RFC 4649.
    OPTION_REMOTE_ID = 37,
    /// Relay Agent Subscriber-Id, RFC 4580.
    OPTION_SUBSCRIBER_ID = 38,
    /// Relay Agent Echo Request, RFC 4994.
    OPTION_ERO = 43,
    /// Query, RFC 5007 §4.1.2.1.
    OPTION_LQ_QUERY = 44,
    /// Client Data, RFC 5007 §4.1.2.2.
    OPTION_CLIENT_DATA = 45,
    /// Client Last Transaction Time, RFC 5007 §4.1.2.3.
    OPTION_CLT_TIME = 46,
    /// Relay Data, RFC 5007 §4.1.2.4.
    OPTION_LQ_RELAY_DATA = 47,
    /// Client Link, RFC 5007 §4.1.2.5.
    OPTION_LQ_CLIENT_LINK = 48,
    /// Relay-Id, RFC 5460 §5.4.1.
    OPTION_RELAY_ID = 53,
    /// Relay-Supplied Options, RFC 6422.
    OPTION_RSOO = 66,
    /// Client Link-Layer Address, RFC 6939.
    OPTION_CLIENT_LINKLAYER_ADDR = 79,
    /// Base time of an answer, RFC 7653 §6.3.1.
    OPTION_LQ_BASE_TIME = 100,
    /// Query start time, RFC 7653 §6.3.2.
    OPTION_LQ_START_TIME = 101,
    /// Query end time, RFC 7653 §6.3.3.
    OPTION_LQ_END_TIME = 102,
    /// Relay Source Port, RFC 8357.
    OPTION_RELAY_PORT = 135,
}

macro_rules! status_codes {
    ($($(#[$doc:meta])* $name:ident = $code:literal $label:literal,)+) => {
        $($(#[$doc])* pub const $name: u16 = $code;)+

        /// The name in the RFC: `Success`, `DataMissing`, …; `unknown` for the rest.
        pub const fn status_name(code: u16) -> &'static str {
            match code { $($code => $label,)+ _ => "unknown" }
        }
    };
}

status_codes! {
    /// Also what the absence of a Status Code option means (RFC 8415 §7.5).
    STATUS_SUCCESS = 0 "Success",
    /// RFC 8415 §21.13.
    STATUS_UNSPEC_FAIL = 1 "UnspecFail",
    /// RFC 8415 §21.13.
    STATUS_NO_ADDRS_AVAIL = 2 "NoAddrsAvail",
    /// RFC 8415 §21.13.
    STATUS_NO_BINDING = 3 "NoBinding",
    /// RFC 8415 §21.13.
    STATUS_NOT_ON_LINK = 4 "NotOnLink",
    /// RFC 8415 §21.13.
    STATUS_USE_MULTICAST = 5 "UseMulticast",
    /// RFC 8415 §21.13.
    STATUS_NO_PREFIX_AVAIL = 6 "NoPrefixAvail",
    /// RFC 5007 §4.1.3.
    STATUS_UNKNOWN_QUERY_TYPE = 7 "UnknownQueryType",
    /// RFC 5007 §4.1.3.
    STATUS_MALFORMED_QUERY = 8 "MalformedQuery",
    /// RFC 5007 §4.1.3.
    STATUS_NOT_CONFIGURED = 9 "NotConfigured",
    /// RFC 5007 §4.1.3.
    STATUS_NOT_ALLOWED = 10 "NotAllowed",
    /// RFC 5460 §5.5.
    STATUS_QUERY_TERMINATED = 11 "QueryTerminated",
    /// RFC 7653 §11: the catch-up is over, its data is not complete.
    STATUS_DATA_MISSING = 12 "DataMissing",
    /// RFC 7653 §11.
    STATUS_CATCH_UP_COMPLETE = 13 "CatchUpComplete",
    /// RFC 7653 §11.
    STATUS_NOT_SUPPORTED = 14 "NotSupported",
    /// RFC 7653 §11.
    STATUS_TLS_CONNECTION_REFUSED = 15 "TLSConnectionRefused",
}

/// query-type, RFC 5007 §4.1.2.1.
pub const QUERY_BY_ADDRESS: u8 = 1;
/// query-type, RFC 5007 §4.1.2.1.
pub const QUERY_BY_CLIENTID: u8 = 2;
/// query-type, RFC 5460 §5.3.1.
pub const QUERY_BY_RELAY_ID: u8 = 3;
/// query-type, RFC 5460 §5.3.2.
pub const QUERY_BY_LINK_ADDRESS: u8 = 4;
/// query-type, RFC 5460 §5.3.3.
pub const QUERY_BY_REMOTE_ID: u8 = 5;
