//! What the shell tells the core about its surroundings: validated configuration joined with what
//! the kernel says of interfaces. A [`RelayConfig`] is complete and cannot be wrong in itself; a
//! change of any part of it is a new value handed in by [`crate::input::Input::Configure`].

use alloc::string::String;
use alloc::vec::Vec;
use core::net::Ipv6Addr;
use core::time::Duration;

use relay_common::net::VlanTag;

use crate::types::{AccessId, IfIndex, PeerId, Prefix, ServerId};

/// Everything the relay needs to know to relay.
#[derive(Clone, Debug)]
pub struct RelayConfig {
    /// DUID sent as Relay-Id (53), 3 to 130 bytes. Empty: no Relay-Id is sent.
    pub relay_id: Vec<u8>,
    /// Bounds on the binding table.
    pub limits: Limits,
    /// Where client messages go.
    pub servers: Vec<Server>,
    /// Toward clients.
    pub access: Vec<Access>,
    /// Toward servers and the Internet: RELAY-REPL of multicast servers is accepted from here.
    pub core: Vec<IfIndex>,
    /// Which leases become routes.
    pub routes: RoutePolicy,
    /// How long a Reply that changes a lease waits for its route (DESIGN.md: 200 ms).
    pub reply_deadline: Duration,
    /// Replies that wait for their routes at one time; one more leaves at once, as late.
    pub held_replies_max: usize,
    /// Leasequery over TCP with other relays and servers.
    pub leasequery: LeasequeryConfig,
}

/// A peer has one connection for active and one for bulk queries (ALQ-13), however many peers there
/// are: fewer [`LeasequeryConfig::max_connections`] leave some of them outside.
pub const LEAST_CONNECTIONS_PER_PEER: usize = 2;

/// Leasequery over TCP: Active Leasequery with peers, Bulk Leasequery with peers and servers.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub struct LeasequeryConfig {
    /// Peers are asked and answered. Off: connections are refused, servers may still be asked.
    pub enabled: bool,
    /// The leasequery identity, a DUID, in both roles (ALQ-D-22).
    pub identity: Vec<u8>,
    /// This relay's address toward servers: names what it snooped (ALQ-D-4, ALQ-D-11).
    pub own_address: Option<Ipv6Addr>,
    /// ACTIVE_LQ_RCV_TIMEOUT.
    pub receive_timeout: Duration,
    /// ACTIVE_LQ_SEND_TIMEOUT.
    pub send_timeout: Duration,
    /// ACTIVE_LQ_IDLE_TIMEOUT.
    pub idle_timeout: Duration,
    /// BULK_LQ_MAX_CONNS.
    pub max_connections: usize,
    /// How long ended bindings are remembered at least (ALQ-D-26).
    pub history: Duration,
    /// Without progress for so long a peer is not waited for.
    pub ready_timeout: Duration,
    /// Whether a core interface has carrier: `ready_timeout` runs from then on.
    pub has_core_carrier: bool,
    /// Other relays.
    pub peers: Vec<Peer>,
    /// Servers that are asked by Bulk Leasequery when this relay starts.
    pub bulk_servers: Vec<ServerId>,
}

/// Another relay of the mesh.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Peer {
    /// Its number.
    pub id: PeerId,
    /// Where it is, and from where it connects.
    pub address: Ipv6Addr,
    /// TLS is demanded, in both roles and for both kinds of query (ALQ-D-21).
    pub is_secure: bool,
    /// Stands for the name that its certificate bears: another name is another peer (ALQ-24, ALQ-52).
    pub tls_name: u64,
    /// Equal Interface-Ids mean the same link.
    pub has_shared_interface_id: bool,
    /// Its link-addresses that mean a link of ours.
    pub links: Vec<(Ipv6Addr, AccessId)>,
}

/// Bounds on the binding table (PDR-G-5, PDR-G-6, PDR-G-7).
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Leases in all.
    pub max_bindings: usize,
    /// Leases of one client (DUID on one access link).
    pub max_leases_per_client: usize,
    /// Leases on one access interface, 0 for no limit.
    pub max_leases_per_interface: usize,
}

/// One server or server group; every client message goes to each (RLY-33).
#[derive(Clone, Debug)]
pub struct Server {
    /// Its number.
    pub id: ServerId,
    /// Unicast or multicast destination.
    pub address: Ipv6Addr,
    /// UDP port, 547 by default.
    pub port: u16,
    /// Outgoing interface of a link-local or multicast destination.
    pub interface: Option<IfIndex>,
}

/// One access interface.
#[derive(Clone, Debug)]
pub struct Access {
    /// Its number.
    pub id: AccessId,
    /// Its name, for `{interface}` in Remote-Id.
    pub name: String,
    /// `None` while the interface does not exist.
    pub ifindex: Option<IfIndex>,
    /// Put into link-address (RLY-20); `::` only where the interface has no global address and no
    /// link-local one either.
    pub link_address: Ipv6Addr,
    /// Further global addresses of the interface by which a server's answer without Interface-Id
    /// may name the link (RLY-45).
    pub link_address_aliases: Vec<Ipv6Addr>,
    /// Sent as Interface-Id (18), at least one byte. Tagged clients get `.VID` per tag appended.
    pub interface_id: Vec<u8>,
    /// The servers that this interface's clients are relayed to.
    pub servers: Vec<ServerId>,
    /// Send option 79 (RLY-25).
    pub client_link_layer_address: bool,
    /// Sent as Remote-Id (37).
    pub remote_id: Option<RemoteId>,
    /// Sent as Subscriber-Id (38); empty: not sent.
    pub subscriber_id: Vec<u8>,
    /// Whether RELAY-FORW from LDRAs and cascaded relays is accepted (RLY-60).
    pub accept_relayed: bool,
    /// Whether RELAY-FORW that holds an RSOO at any level is accepted (RLY-59).
    pub accept_rsoo: bool,
    /// Whether RECONFIGURE-REQUEST is relayed (RLY-14).
    pub accept_reconfigure_request: bool,
    /// Options that the server is asked to echo (43, RLY-58); empty: none.
    pub echo_request: Vec<u16>,
}

/// Remote-Id (RFC 4649): enterprise number and a text in which `{mac}`, `{interface}`, `{svlan}`
/// and `{cvlan}` stand for the client's MAC, the interface's name and the outer and inner VID.
#[derive(Clone, Debug)]
pub struct RemoteId {
    /// IANA enterprise number, not 0.
    pub enterprise: u32,
    /// Text with the four placeholders.
    pub template: String,
}

/// Which leases become routes, and what they must not touch.
#[derive(Clone, Debug, Default)]
pub struct RoutePolicy {
    /// Off: no lease becomes a route.
    pub enabled: bool,
    /// A /128 per IA_NA and IA_TA address.
    pub addresses: bool,
    /// A route per IA_PD prefix.
    pub prefixes: bool,
    /// Neighbour entries for next hops.
    pub neighbors: bool,
    /// Where not empty, only leases inside these prefixes get routes.
    pub allowed: Vec<Prefix>,
    /// On-link networks of all interfaces of this router.
    pub networks: Vec<(IfIndex, Prefix)>,
    /// Every address of this router.
    pub own_addresses: Vec<Ipv6Addr>,
    /// VLAN interfaces: which device receives what comes tagged on another.
    pub vlan_devices: Vec<VlanDevice>,
}

/// A VLAN interface.
#[derive(Clone, Copy, Debug)]
pub struct VlanDevice {
    /// The interface that carries the tagged frames.
    pub parent: IfIndex,
    /// The tag that it takes off.
    pub tag: VlanTag,
    /// The VLAN interface itself.
    pub ifindex: IfIndex,
}
