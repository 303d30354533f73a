//! Everything that can go into the core.

use core::net::Ipv6Addr;

use alloc::boxed::Box;
use alloc::vec::Vec;

use relay_common::net::{MacAddr, VlanTags};

use crate::alq::LeasequeryInput;
use crate::config::RelayConfig;
use crate::record::Restored;
use crate::types::{AccessId, IfIndex, Prefix};

/// Something that happened.
#[derive(Debug)]
pub enum Input<'a> {
    /// A datagram to UDP port 547 came in on an access interface.
    Client(ClientDatagram<'a>),
    /// A datagram to UDP port 547 came in from the servers' side.
    Server(ServerDatagram<'a>),
    /// What became of a [`crate::effect::RouteChange::Put`].
    Route(RouteOutcome),
    /// New surroundings.
    Configure(Box<RelayConfig>),
    /// An operator removes bindings (PDR-O-2).
    Clear(Clear),
    /// A binding comes back from the store. Before the first message: what is back afterwards
    /// counts as older than what is there.
    Restore(Restored<'a>),
    /// The store holds all changes up to this [`crate::effect::Effect::Record`] sequence durably.
    Stored {
        /// The last of them.
        through: u64,
    },
    /// How long this relay was away is known now: uncertain times of restored bindings were too
    /// late.
    CorrectTimes {
        /// By this much; negative: too early.
        earlier_nanos: i64,
    },
    /// Leasequery over TCP.
    Leasequery(LeasequeryInput<'a>),
    /// What the wall clock shows, where that is credible: nanoseconds of Unix time minus those of
    /// the boot clock. Told before the first connection and after each step of the clock.
    WallClock {
        /// The difference.
        ahead_nanos: i64,
    },
}

/// A datagram from an access interface, its UDP checksum already verified.
#[derive(Clone, Copy, Debug)]
pub struct ClientDatagram<'a> {
    /// Where it came in.
    pub interface: IfIndex,
    /// The tags that its frame bore.
    pub vlans: VlanTags,
    /// The source of its frame; unknown where only a UDP socket saw it.
    pub mac: Option<MacAddr>,
    /// IPv6 source: becomes peer-address.
    pub source: Ipv6Addr,
    /// UDP source port: matters for downstream relays only (RFC 8357).
    pub source_port: u16,
    /// IPv6 destination: ff02::1:2, or an own address.
    pub destination: Ipv6Addr,
    /// The DHCPv6 message.
    pub payload: &'a [u8],
}

/// A datagram from the servers' side, its UDP checksum already verified.
#[derive(Clone, Copy, Debug)]
pub struct ServerDatagram<'a> {
    /// Where it came in.
    pub interface: IfIndex,
    /// IPv6 source.
    pub source: Ipv6Addr,
    /// UDP source port.
    pub source_port: u16,
    /// The DHCPv6 message.
    pub payload: &'a [u8],
}

/// What became of a route that the core wanted.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct RouteOutcome {
    /// The route's destination.
    pub prefix: Prefix,
    /// The version of the change that this answers.
    pub version: u64,
    /// Whether it is in the kernel.
    pub result: Result<(), RouteRefusal>,
}

/// Why the kernel holds no route for a lease.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum RouteRefusal {
    /// A route that is not ours has the same destination.
    ForeignRoute,
    /// The lease covers or lies inside another interface's network.
    ForeignNetwork,
    /// Outside `[routes] allowed`.
    NotAllowed,
    /// The client's frames are tagged and no VLAN interface takes those tags off.
    NoVlanInterface,
    /// The access interface does not exist.
    NoInterface,
    /// Another lease for the same prefix was given later and owns the route (SNP-35).
    Superseded,
    /// The next hop is not a link-local address (a cascaded relay is in between).
    NotFirstHop,
    /// A peer told it, and no access interface of ours is that link (ALQ-D-4).
    NotMapped,
    /// More leases than one client may have here (PDR-G-5).
    ClientLimit,
    /// More leases than this interface may have (PDR-G-6).
    InterfaceLimit,
    /// More leases than the whole table may have.
    TableFull,
    /// The kernel refused, with this errno (positive).
    Kernel(i32),
}

/// Which bindings an operator removes.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Clear {
    /// Every lease of exactly this address or prefix.
    Lease(Prefix),
    /// Every lease of this client, on every link.
    Client(Vec<u8>),
    /// Every lease on this access interface, tagged or not.
    Interface(AccessId),
}
