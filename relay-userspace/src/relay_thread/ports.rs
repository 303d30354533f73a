//! Access interfaces and servers as the relay thread uses them: sockets that are open, addresses
//! and counters at hand.
//!
//! Decides which datagrams frames have already brought (never the same message twice), and what
//! becomes of sockets when interfaces or configuration change.

use std::collections::{HashMap, HashSet};
use std::net::Ipv6Addr;
use std::sync::Arc;

use anyhow::Context;
use relay_common::abi;
use relay_common::classify::Datagram;
use relay_common::net::{MacAddr, VlanTags};
use relay_core::config::VlanDevice;
use relay_core::types::{AccessId, IfIndex, Prefix, ServerId};
use relay_core::wire::iana;
use socket2::Socket;

use crate::config::{Capture, SourceGuard};
use crate::counters::{Counters, PortCounters, ShellDrop};
use crate::handle::{AccessPort, PortState, Surroundings};
use crate::interfaces::{Interface, InterfaceTable};
use crate::net::udp::{self, PacketInfo};
use crate::net::{packet, sockopt};

/// One access interface.
pub struct Port {
    /// Its number in the core.
    pub access: AccessId,
    /// Kernel name.
    pub name: String,
    /// `None` while there is no such interface.
    pub ifindex: Option<IfIndex>,
    /// How its frames are to be captured.
    pub wanted: Capture,
    /// What the kernel programs know of it, and the packet socket's rule too.
    pub entry: abi::Interface,
    /// Sources that pass its guard without a binding.
    pub source_allow: Vec<Prefix>,
    /// Source of frames; `None` where the interface is not Ethernet: then only UDP serves it.
    pub mac: Option<MacAddr>,
    /// Bytes of a packet.
    pub mtu: usize,
    /// Source of datagrams to link-local destinations. req: DP-66, RLY-46
    pub link_local: Option<Ipv6Addr>,
    /// Source of datagrams to global destinations.
    pub global: Option<Ipv6Addr>,
    /// Where to count.
    pub counters: Arc<PortCounters>,
    /// Hears frames that the kernel's programs did not take.
    pub socket: Option<Socket>,
    /// What the kernel dropped at the socket and `counters` have already.
    pub socket_drops: u32,
    /// How it is captured, for `show interfaces`; said once in the log.
    pub state: Option<PortState>,
}

/// One server.
pub struct Target {
    /// Where it is.
    pub address: libc::sockaddr_in6,
    /// Fixes the outgoing interface where the address alone does not.
    pub control: Option<PacketInfo>,
    /// Where to count.
    pub counters: Arc<PortCounters>,
    ip: Ipv6Addr,
}

/// All of them.
pub struct Ports {
    /// In the order of the configuration.
    pub list: Vec<Port>,
    /// In the order of the configuration.
    pub targets: Vec<Target>,
    /// Counts what belongs to no access interface and no server.
    pub elsewhere: Arc<PortCounters>,
    /// Counts what the UDP socket of the access side had no room for: whose that was nobody knows.
    pub udp: Arc<PortCounters>,
    /// How core interfaces are watched, for `show interfaces`; said once in the log.
    pub core_states: Vec<PortState>,
    by_ifindex: HashMap<IfIndex, usize>,
    by_access: Vec<Option<usize>>,
    by_server: Vec<Option<usize>>,
    own_addresses: HashSet<[u8; 16]>,
    vlan_devices: Vec<VlanDevice>,
}

impl Ports {
    /// None at all.
    pub fn new(counters: &Counters) -> Self {
        Self {
            list: Vec::new(),
            targets: Vec::new(),
            elsewhere: counters.port("core"),
            udp: counters.port("udp"),
            core_states: Vec::new(),
            by_ifindex: HashMap::new(),
            by_access: Vec::new(),
            by_server: Vec::new(),
            own_addresses: HashSet::new(),
            vlan_devices: Vec::new(),
        }
    }

    /// Takes new surroundings over. Sockets of interfaces that did not change stay open. Returns
    /// what could not be done; everything else was done.
    pub fn update(
        &mut self,
        new: &Surroundings,
        counters: &Counters,
        udp: &Socket,
    ) -> Vec<anyhow::Error> {
        let mut errors = Vec::new();
        let mut old = std::mem::take(&mut self.list);
        for (access, wanted) in new.relay.access.iter().zip(&new.access) {
            let mut port = describe(access, wanted, new, counters);
            let kept = old
                .iter()
                .position(|old| old.name == port.name && old.ifindex == port.ifindex);
            if let Some(kept) = kept.map(|at| old.swap_remove(at)) {
                port.socket = kept.socket;
                port.socket_drops = kept.socket_drops;
                port.state = kept.state;
            }
            if let Some(ifindex) = port.ifindex
                && let Err(error) = port.open(ifindex, udp)
            {
                errors.push(error.context(format!("serve access interface {}", port.name)));
            }
            self.list.push(port);
        }
        for gone in old {
            if let Some(ifindex) = gone.ifindex {
                udp::leave(udp, ifindex);
            }
        }
        self.targets = targets(new, counters);
        self.vlan_devices.clone_from(&new.relay.routes.vlan_devices);
        self.own_addresses = own_addresses(&new.interfaces)
            .map(|(address, _)| address.octets())
            .collect();
        self.index(new);
        errors
    }

    fn index(&mut self, new: &Surroundings) {
        let ifindexes = self.list.iter().map(|port| port.ifindex).enumerate();
        self.by_ifindex = ifindexes
            .filter_map(|(at, ifindex)| ifindex.map(|ifindex| (ifindex, at)))
            .collect();
        self.by_access = by_number(self.list.iter().map(|port| port.access.0));
        self.by_server = by_number(new.relay.servers.iter().map(|server| server.id.0));
    }

    /// By kernel index.
    pub fn by_ifindex(&self, ifindex: IfIndex) -> Option<&Port> {
        self.by_ifindex.get(&ifindex).map(|&at| &self.list[at])
    }

    /// By number in the core.
    pub fn by_access(&self, access: AccessId) -> Option<&Port> {
        let at = self.by_access.get(usize::from(access.0)).copied()??;
        self.list.get(at)
    }

    /// By number in the core.
    pub fn by_server(&self, server: ServerId) -> Option<&Target> {
        let at = self.by_server.get(usize::from(server.0)).copied()??;
        self.targets.get(at)
    }

    /// The server that has this address.
    pub fn server_at(&self, source: Ipv6Addr) -> Option<&Target> {
        self.targets.iter().find(|target| target.ip == source)
    }

    /// Whether a classified frame is for the relay: the rule of the kernel program
    /// `access_ingress`, in the same words.
    pub fn is_for_relay(&self, port: &Port, datagram: &Datagram) -> bool {
        relay_common::classify::addressed_to(&port.entry, datagram)
            && self.takes(port, datagram.destination, datagram.message_type)
    }

    /// Whether a datagram that a UDP socket got came as a frame already, by ring or packet socket.
    /// Those see every frame but fragments and what stands behind extension headers.
    pub fn had_as_frame(&self, port: &Port, arrival: &udp::Arrival, message_type: u8) -> bool {
        port.socket.is_some()
            && !arrival.beyond_frames
            && self.takes(port, arrival.destination.octets(), message_type)
    }

    fn takes(&self, port: &Port, destination: [u8; 16], message_type: u8) -> bool {
        destination == relay_common::classify::ALL_RELAY_AGENTS_AND_SERVERS
            || message_type == iana::RELAY_FORW
                && port.entry.flags & abi::FLAG_ACCEPT_RELAYED != 0
                && self.own_addresses.contains(&destination)
    }

    /// Where a frame on `parent` belongs, and the tags that are left there: a VLAN interface that is
    /// an access interface itself owns the clients behind its tag.
    pub fn owner(&self, parent: IfIndex, vlans: VlanTags) -> (IfIndex, VlanTags) {
        let outer = vlans.outer().map(VlanTags::single);
        let behind_outer = vlans.inner().map_or(VlanTags::NONE, VlanTags::single);
        [(Some(vlans), VlanTags::NONE), (outer, behind_outer)]
            .into_iter()
            .filter_map(|(taken, left)| {
                let device = self.device_for(parent, taken?)?;
                (device != parent && self.by_ifindex.contains_key(&device))
                    .then_some((device, left))
            })
            .next()
            .unwrap_or((parent, vlans))
    }

    /// The VLAN interface that sends with these tags on `parent`; `parent` itself without tags.
    pub fn device_for(&self, parent: IfIndex, vlans: VlanTags) -> Option<IfIndex> {
        vlans.iter().try_fold(parent, |parent, tag| {
            self.vlan_devices
                .iter()
                .find(|device| device.parent == parent && device.tag == tag)
                .map(|device| device.ifindex)
        })
    }
}

impl Port {
    fn open(&mut self, ifindex: IfIndex, udp: &Socket) -> anyhow::Result<()> {
        if self.socket.is_none() && self.mac.is_some() {
            self.socket = Some(packet::capture_socket(ifindex)?);
        }
        udp::join(udp, ifindex).context("join ff02::1:2 (is IPv6 on for this interface?)")
    }

    /// The address that a datagram to `destination` leaves from: an LDRA on the way only looks at
    /// datagrams between link-local addresses, and no router forwards those.
    pub fn source_for(&self, destination: Ipv6Addr) -> Option<Ipv6Addr> {
        if destination.is_unicast_link_local() {
            self.link_local
        } else {
            self.global
        }
    }
}

fn describe(
    access: &relay_core::config::Access,
    wanted: &AccessPort,
    new: &Surroundings,
    counters: &Counters,
) -> Port {
    let interface = access
        .ifindex
        .and_then(|index| new.interfaces.by_index(index));
    let own = |address: &Ipv6Addr| own_addresses(&new.interfaces).any(|(own, _)| own == *address);
    let link_address = Some(access.link_address).filter(own);
    Port {
        access: access.id,
        name: wanted.name.clone(),
        ifindex: access.ifindex,
        wanted: wanted.capture,
        entry: access_entry(wanted, interface, new),
        source_allow: wanted.source_allow.clone(),
        mac: interface.and_then(|interface| interface.mac),
        mtu: interface.map_or(1500, |interface| interface.mtu as usize),
        link_local: wanted.link_local,
        global: link_address.or(new.source_address),
        counters: counters.port(&wanted.name),
        socket: None,
        socket_drops: 0,
        state: None,
    }
}

fn access_entry(
    wanted: &AccessPort,
    interface: Option<&Interface>,
    new: &Surroundings,
) -> abi::Interface {
    let guard = wanted.source_guard;
    let flags = [
        (wanted.accept_relayed, abi::FLAG_ACCEPT_RELAYED),
        (guard != SourceGuard::Off, abi::FLAG_GUARD),
        (guard == SourceGuard::Enforce, abi::FLAG_ENFORCE),
        (
            new.forwards && wanted.capture != Capture::Socket,
            abi::FLAG_FORWARD,
        ),
        (wanted.anti_loop, abi::FLAG_ANTI_LOOP),
    ];
    let flags = flags.iter().filter(|(is_on, _)| *is_on);
    abi::Interface {
        flags: flags.fold(0, |all, (_, flag)| all | flag),
        client_rate: wanted.rate_limit.per_client,
        interface_rate: wanted.rate_limit.per_interface,
        ..bare_entry(abi::ROLE_ACCESS, interface, &new.interfaces)
    }
}

/// What the kernel programs know of a core interface.
pub fn core_entry(ifindex: IfIndex, new: &Surroundings) -> abi::Interface {
    let interface = new.interfaces.by_index(ifindex);
    abi::Interface {
        flags: if new.forwards { abi::FLAG_FORWARD } else { 0 },
        ..bare_entry(abi::ROLE_CORE, interface, &new.interfaces)
    }
}

/// Without anything from the configuration.
// req: DP-54
fn bare_entry(role: u32, interface: Option<&Interface>, table: &InterfaceTable) -> abi::Interface {
    let mut entry = abi::Interface {
        role,
        flags: 0,
        client_rate: 0,
        interface_rate: 0,
        mac_count: 0,
        macs: [[0; 6]; abi::INTERFACE_MACS],
        mtu: interface.map_or(0, |interface| interface.mtu),
    };
    let Some(interface) = interface else {
        return entry;
    };
    let children = table
        .interfaces
        .iter()
        .filter(|child| child.macvlan_parent == Some(interface.index) && child.up)
        .filter(|child| !child.addresses.is_empty());
    let macs = interface
        .mac
        .into_iter()
        .chain(children.filter_map(|child| child.mac));
    for (place, mac) in entry.macs.iter_mut().zip(macs) {
        *place = mac.0;
        entry.mac_count += 1;
    }
    entry
}

/// Every address that this router may be spoken to by, and its interface.
pub fn own_addresses(table: &InterfaceTable) -> impl Iterator<Item = (Ipv6Addr, IfIndex)> {
    table.interfaces.iter().flat_map(|interface| {
        let index = interface.index;
        let usable = interface.addresses.iter().filter(|own| !own.tentative);
        usable.map(move |own| (own.address, index))
    })
}

fn targets(new: &Surroundings, counters: &Counters) -> Vec<Target> {
    let servers = new.relay.servers.iter().zip(&new.server_names);
    servers
        .map(|(server, name)| {
            let scope = server
                .interface
                .filter(|_| udp::needs_scope(server.address));
            Target {
                address: udp::socket_address(
                    server.address,
                    server.port,
                    scope.map_or(0, |interface| interface.0),
                ),
                control: scope.map(|interface| PacketInfo::new(Ipv6Addr::UNSPECIFIED, interface)),
                counters: counters.port(name),
                ip: server.address,
            }
        })
        .collect()
}

/// Counts what the kernel dropped at a socket since `counted`.
pub fn count_overflow(socket: &Socket, counted: &mut u32, counters: &PortCounters) {
    // Where it cannot be known nothing was lost that could be counted.
    if let Ok(drops) = sockopt::drops(socket) {
        let new = drops.wrapping_sub(*counted);
        counters.shell_drops[ShellDrop::QueueFull as usize].add(new.into());
        *counted = drops;
    }
}

fn by_number(numbers: impl Iterator<Item = u16>) -> Vec<Option<usize>> {
    let mut places = Vec::new();
    for (at, number) in numbers.enumerate() {
        let number = usize::from(number);
        if places.len() <= number {
            places.resize(number + 1, None);
        }
        places[number] = Some(at);
    }
    places
}

#[cfg(test)]
mod tests {
    use relay_common::net::{TPID_8021AD, TPID_8021Q, VlanTag};

    use super::*;

    const TRUNK: IfIndex = IfIndex(2);
    const SERVICE: IfIndex = IfIndex(3);
    const CUSTOMER: IfIndex = IfIndex(4);
    const OUTER: VlanTag = VlanTag {
        tpid: TPID_8021AD,
        vid: 7,
    };
    const INNER: VlanTag = VlanTag {
        tpid: TPID_8021Q,
        vid: 100,
    };

    /// VLAN interfaces stacked on a trunk, of which these are access interfaces too.
    fn ports(access: &[IfIndex]) -> Ports {
        let mut ports = Ports::new(&Counters::default());
        let device = |parent, tag, ifindex| VlanDevice {
            parent,
            tag,
            ifindex,
        };
        ports.vlan_devices = vec![
            device(TRUNK, OUTER, SERVICE),
            device(SERVICE, INNER, CUSTOMER),
        ];
        ports.by_ifindex = access.iter().map(|&ifindex| (ifindex, 0)).collect();
        ports
    }

    #[test]
    fn tagged_frame_belongs_to_the_deepest_vlan_interface_that_serves_clients() {
        let both = VlanTags::double(OUTER, INNER);
        let one = VlanTags::single(OUTER);

        let all = ports(&[TRUNK, SERVICE, CUSTOMER]);
        assert_eq!(all.owner(TRUNK, both), (CUSTOMER, VlanTags::NONE));
        assert_eq!(all.owner(TRUNK, one), (SERVICE, VlanTags::NONE));
        assert_eq!(all.owner(TRUNK, VlanTags::NONE), (TRUNK, VlanTags::NONE));
        let outer = ports(&[TRUNK, SERVICE]);
        assert_eq!(outer.owner(TRUNK, both), (SERVICE, VlanTags::single(INNER)));
        let none = ports(&[TRUNK]);
        assert_eq!(none.owner(TRUNK, both), (TRUNK, both));
    }

    #[test]
    fn device_for_tags_without_a_vlan_interface_is_none() {
        let ports = ports(&[TRUNK]);

        assert_eq!(ports.device_for(TRUNK, VlanTags::single(INNER)), None);
        assert_eq!(ports.device_for(TRUNK, VlanTags::NONE), Some(TRUNK));
    }
}
