//! Everything that can come out of the core.
//!
//! Messages are not owned by their effect: an effect names a [`Span`] of a buffer inside the core,
//! which stays readable by [`crate::relay::Relay::message`] until the next input goes in after the
//! queue of effects was drained. A batch of inputs so becomes one batch of sends without a copy.

use core::net::Ipv6Addr;

use alloc::boxed::Box;

use relay_common::net::{MacAddr, VlanTags};

use crate::alq::LeasequeryEffect;
use crate::error::{Discard, Notice};
use crate::record::RecordChange;
use crate::time::Instant;
use crate::types::{AccessId, IfIndex, Prefix, ServerId};
use crate::view::SubscriberView;

/// Something for the shell to do, in this order.
#[derive(Debug)]
pub enum Effect {
    /// Send the message from the relay's source address and port 547 to a server.
    SendToServer {
        /// Which server.
        server: ServerId,
        /// The type of the client's message inside, for the counters.
        message_type: u8,
        /// The RELAY-FORW.
        message: Span,
    },
    /// Send the message to a client or a downstream relay, as a frame where `mac` is known, else
    /// through the UDP socket.
    SendToClient {
        /// Which way.
        path: ClientPath,
        /// The type of the message, for the counters.
        message_type: u8,
        /// What the RELAY-REPL held, byte for byte.
        message: Span,
    },
    /// Change a route.
    Route(RouteChange),
    /// Change a neighbour entry.
    Neighbor(NeighborChange),
    /// Change an entry of the kernel's tables of bindings
    /// ([`crate::relay::Relay::set_forwarding`]).
    Forwarding(ForwardingChange),
    /// A binding was changed.
    Binding(BindingEvent),
    /// A durable store has something to do ([`crate::relay::Relay::set_keeping`]).
    Record {
        /// What.
        change: RecordChange,
        /// Grows with every change; answered by [`crate::input::Input::Stored`].
        sequence: u64,
    },
    /// Leasequery over TCP.
    Leasequery(LeasequeryEffect),
    /// A datagram was dropped on purpose.
    Discarded {
        /// Where it came in, if on an access interface.
        access: Option<AccessId>,
        /// Why.
        reason: Discard,
    },
    /// Worth counting (and, for some, telling the operator), yet nothing was dropped.
    Noticed {
        /// The access interface it concerns.
        access: Option<AccessId>,
        /// What.
        notice: Notice,
    },
}

/// A piece of the core's outgoing buffer.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Span {
    pub(crate) start: u32,
    pub(crate) len: u32,
}

/// The way back to a client or downstream relay.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct ClientPath {
    /// The configured access interface.
    pub access: AccessId,
    /// Its present index.
    pub interface: IfIndex,
    /// Tags for the frame.
    pub vlans: VlanTags,
    /// Destination of the frame, where known.
    pub mac: Option<MacAddr>,
    /// IPv6 destination: the peer-address.
    pub destination: Ipv6Addr,
    /// 546 for a client, 547 or the port of RFC 8357 for a relay.
    pub port: u16,
}

/// A route that must be there, or must not.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum RouteChange {
    /// There must be this route; answered by [`crate::input::RouteOutcome`].
    Put(Route),
    /// No route of ours to this prefix.
    Remove {
        /// Destination.
        prefix: Prefix,
        /// Grows with every change of the table; a later one wins.
        version: u64,
    },
}

/// A route to a leased address or delegated prefix.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Route {
    /// Destination, exactly as leased (PDR-R-2).
    pub prefix: Prefix,
    /// The client's link-local address (SNP-4).
    pub gateway: Ipv6Addr,
    /// The access interface, or the VLAN interface for the client's tags.
    pub interface: IfIndex,
    /// Grows with every change of the table; a later one wins.
    pub version: u64,
}

/// A neighbour entry for a next hop (externally learned, DP-28).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum NeighborChange {
    /// There must be this entry.
    Put {
        /// On this interface.
        interface: IfIndex,
        /// The client's link-local address.
        address: Ipv6Addr,
        /// The client's MAC address.
        mac: MacAddr,
    },
    /// No entry of ours.
    Remove {
        /// On this interface.
        interface: IfIndex,
        /// The client's link-local address.
        address: Ipv6Addr,
    },
}

/// A binding that the kernel must know, or must not: to check, count and forward its client's packets.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum ForwardingChange {
    /// There must be exactly this entry.
    Put(ForwardingEntry),
    /// No entry for this prefix.
    Remove {
        /// The leased prefix.
        prefix: Prefix,
    },
}

impl ForwardingChange {
    /// The prefix that it is about.
    pub const fn prefix(&self) -> Prefix {
        match self {
            Self::Put(entry) => entry.prefix,
            Self::Remove { prefix } => *prefix,
        }
    }
}

/// Whose a prefix is, as the kernel has to know it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct ForwardingEntry {
    /// Exactly as leased (PDR-R-3).
    pub prefix: Prefix,
    /// The access interface that receives the client's frames, whatever tags they have.
    pub interface: IfIndex,
    /// The tags of the client's frames.
    pub vlans: VlanTags,
    /// The source of the client's frames.
    pub mac: MacAddr,
    /// End of the valid lifetime, [`Instant::NEVER`] where it is infinite.
    pub valid_until: Instant,
    /// Whether packets to it may pass by the kernel's routes.
    pub is_routed: bool,
}

/// A change of one binding.
#[derive(Debug)]
pub struct BindingEvent {
    /// What happened.
    pub action: BindingAction,
    /// The client with only the binding concerned, as it is after the change. `None` for
    /// [`BindingAction::Renewed`] while nobody watches
    /// ([`crate::relay::Relay::set_observed`]).
    pub subscriber: Option<Box<SubscriberView>>,
}

/// What happened to a binding.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum BindingAction {
    /// A new lease.
    Created,
    /// Lifetimes, server or next hop of a lease changed.
    Renewed,
    /// The client gave it up, or the server set its lifetime to zero.
    Released,
    /// The client found the address in use.
    Declined,
    /// The valid lifetime ran out.
    Expired,
    /// An operator removed it.
    Cleared,
    /// A new lease over a limit: it gets no route (SNP-40).
    Refused,
}

impl BindingAction {
    /// The label of counters and of `monitor`.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Created => "created",
            Self::Renewed => "renewed",
            Self::Released => "released",
            Self::Declined => "declined",
            Self::Expired => "expired",
            Self::Cleared => "cleared",
            Self::Refused => "refused",
        }
    }

    /// All actions, in the order of their discriminants.
    pub const ALL: [Self; 7] = [
        Self::Created,
        Self::Renewed,
        Self::Released,
        Self::Declined,
        Self::Expired,
        Self::Cleared,
        Self::Refused,
    ];
}
