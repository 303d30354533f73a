//! From the configuration, the kernel's interfaces and what was chosen before, to what the relay
//! thread needs to know.
//!
//! Decides which addresses stand for this relay: link-address (RFC 8415 §19.1.1) and the source
//! toward servers. Linux lists the newest address of an interface first, so "the first one" would
//! be a VRRP address on the router that is master; choices are made by fitness, the oldest wins,
//! and they are kept. A pure function: reads no clock, file or socket.

use std::collections::BTreeMap;
use std::net::Ipv6Addr;
use std::sync::Arc;
use std::time::Duration;

use relay_core::config::{Access, Limits, RelayConfig, RemoteId, RoutePolicy, Server, VlanDevice};
use relay_core::types::{AccessId, IfIndex, PeerId, ServerId};
use relay_core::view::Origin;

use crate::config::{AccessSection, Config, Forwarding, ServerSection};
use crate::handle::{AccessPort, CorePort, Surroundings};
use crate::interfaces::{Interface, InterfaceAddress, InterfaceTable};
use crate::names::{Names, OriginName, read_origin};
use crate::state::Kept;

/// IFA_PROTO of addresses that keepalived adds.
const KEEPALIVED: u8 = 18;
/// All_DHCP_Servers (RFC 8415 §7.1).
// req: RLY-29
const ALL_DHCP_SERVERS: Ipv6Addr = Ipv6Addr::new(0xff05, 0, 0, 0, 0, 0, 1, 3);
const SERVER_PORT: u16 = 547;
/// A Reply that changes a lease waits this long for its route.
const REPLY_DEADLINE: Duration = Duration::from_millis(200);
/// Replies that wait at one time: more than a route batch, little memory.
const HELD_REPLIES_MAX: usize = 8192;

/// One number per name, for the life of the process: bindings and counters of an interface that a
/// reload removes and another adds again stay its own.
#[derive(Clone, Debug, Default)]
pub struct Numbers {
    access: BTreeMap<String, u16>,
    servers: BTreeMap<String, u16>,
    peers: BTreeMap<String, u16>,
}

impl Numbers {
    /// Of an access interface.
    pub fn access(&mut self, name: &str) -> AccessId {
        AccessId(number(&mut self.access, name))
    }

    /// Of a server.
    pub fn server(&mut self, name: &str) -> ServerId {
        ServerId(number(&mut self.servers, name))
    }

    /// Of a peer.
    pub fn peer(&mut self, name: &str) -> PeerId {
        PeerId(number(&mut self.peers, name))
    }

    /// Of the origin that the store keeps under this name; a name that cannot be read is that of a
    /// later version.
    pub fn origin(&mut self, text: &str) -> Origin {
        match read_origin(text) {
            Some(OriginName::Active(name)) => Origin::ActiveLeasequery(self.peer(name)),
            Some(OriginName::Bulk(name)) => Origin::BulkLeasequery(self.server(name)),
            Some(OriginName::Single(name)) => Origin::Leasequery(self.server(name)),
            Some(OriginName::Snooped) | None => Origin::Snooped,
        }
    }

    /// All that have a number.
    pub fn names(&self) -> Names {
        Names {
            access: by_number(&self.access),
            servers: by_number(&self.servers),
            peers: by_number(&self.peers),
        }
    }
}

fn by_number(numbers: &BTreeMap<String, u16>) -> Vec<String> {
    let mut names = vec![String::new(); numbers.len()];
    for (name, number) in numbers {
        if let Some(place) = names.get_mut(usize::from(*number)) {
            place.clone_from(name);
        }
    }
    names
}

fn number(numbers: &mut BTreeMap<String, u16>, name: &str) -> u16 {
    let next = u16::try_from(numbers.len()).unwrap_or(u16::MAX);
    *numbers.entry(name.to_owned()).or_insert(next)
}

/// What [`join`] found.
#[derive(Clone, Debug)]
pub struct Joined {
    /// For the relay thread.
    pub surroundings: Surroundings,
    /// What was chosen, to be kept.
    pub kept: Kept,
    /// What an operator should know; the same as long as nothing changes.
    pub warnings: Vec<String>,
}

/// Joins configuration and kernel. `toward` answers the address that the kernel would send from to
/// a server.
pub fn join(
    config: &Config,
    table: &Arc<InterfaceTable>,
    kept: &Kept,
    numbers: &mut Numbers,
    toward: impl Fn(&Server) -> Option<Ipv6Addr>,
) -> Joined {
    let mut kept = kept.clone();
    let mut warnings = Vec::new();
    let (servers, server_names) = servers(config, table, numbers, &mut warnings);
    let source_address = source(config, table, &mut kept, &mut warnings, || {
        servers.first().and_then(&toward)
    });
    let ids: BTreeMap<&str, ServerId> = server_names
        .iter()
        .zip(&servers)
        .map(|(name, server)| (name.as_str(), server.id))
        .collect();
    let access: Vec<Access> = config
        .access
        .iter()
        .map(|section| {
            let servers = match section.servers.is_empty() {
                true => ids.values().copied().collect(),
                false => section
                    .servers
                    .iter()
                    .filter_map(|name| ids.get(name.as_str()).copied())
                    .collect(),
            };
            access(section, table, servers, numbers, &mut kept, &mut warnings)
        })
        .collect();
    let ports = config
        .access
        .iter()
        .map(|section| port(section, table))
        .collect();
    let relay_id = relay_id(config, &kept);
    let (leasequery, ends) =
        leasequery::of(config, table, numbers, &relay_id, source_address, &servers);
    let relay = RelayConfig {
        relay_id,
        limits: Limits {
            max_bindings: config.relay.max_bindings,
            max_leases_per_client: config.relay.max_leases_per_client,
            max_leases_per_interface: config.relay.max_leases_per_interface,
        },
        servers,
        access,
        core: core(config, table, &mut warnings),
        routes: route_policy(config, table),
        reply_deadline: REPLY_DEADLINE,
        held_replies_max: HELD_REPLIES_MAX,
        leasequery,
    };
    let surroundings = Surroundings {
        relay,
        access: ports,
        core: core_ports(config, table),
        forwards: config.dataplane.forwarding == Forwarding::Xdp,
        names: numbers.names(),
        server_names,
        leasequery: ends,
        source_address,
        interfaces: Arc::clone(table),
    };
    Joined {
        surroundings,
        kept,
        warnings,
    }
}

fn relay_id(config: &Config, kept: &Kept) -> Vec<u8> {
    config
        .relay
        .relay_id
        .clone()
        .or_else(|| kept.relay_id_bytes())
        .unwrap_or_default()
}

fn servers(
    config: &Config,
    table: &InterfaceTable,
    numbers: &mut Numbers,
    warnings: &mut Vec<String>,
) -> (Vec<Server>, Vec<String>) {
    let mut found = (Vec::new(), Vec::new());
    let everybody = all_dhcp_servers(config);
    let sections = match config.servers.is_empty() {
        true => &everybody,
        false => &config.servers,
    };
    for section in sections {
        let interface = match section.interface.as_deref() {
            None => None,
            Some(name) => match table.by_name(name) {
                Some(interface) => Some(interface.index),
                None => {
                    warnings.push(format!(
                        "server {}: interface {name} does not exist; nothing is sent to it until it does",
                        section.name
                    ));
                    continue;
                }
            },
        };
        found.0.push(Server {
            id: numbers.server(&section.name),
            address: section.address,
            port: section.port,
            interface,
        });
        found.1.push(section.name.clone());
    }
    found
}

/// Without servers, messages go to All_DHCP_Servers on each core interface.
// req: RLY-29
fn all_dhcp_servers(config: &Config) -> Vec<ServerSection> {
    config
        .core
        .iter()
        .map(|core| ServerSection {
            name: format!("{ALL_DHCP_SERVERS}%{}", core.interface),
            address: ALL_DHCP_SERVERS,
            port: SERVER_PORT,
            interface: Some(core.interface.clone()),
            bulk_leasequery: false,
        })
        .collect()
}

fn core(config: &Config, table: &InterfaceTable, warnings: &mut Vec<String>) -> Vec<IfIndex> {
    let mut found = Vec::new();
    for section in &config.core {
        match table.by_name(&section.interface) {
            Some(interface) => found.push(interface.index),
            None => warnings.push(format!(
                "core interface {} does not exist; waiting for it",
                section.interface
            )),
        }
    }
    found
}

/// Those that are there.
fn core_ports(config: &Config, table: &InterfaceTable) -> Vec<CorePort> {
    let present = config.core.iter().filter_map(|section| {
        let interface = table.by_name(&section.interface)?;
        Some(CorePort {
            name: section.interface.clone(),
            ifindex: interface.index,
        })
    });
    present.collect()
}

/// Whether this relay may be known by the address: its own and lasting, with a scope that servers
/// can reach.
// req: RLY-20, RLY-32
fn is_fit(address: &InterfaceAddress) -> bool {
    is_global(address.address)
        && address.prefix_bits != 128
        && !address.temporary
        && !address.tentative
        && !address.deprecated
        && address.protocol != KEEPALIVED
}

fn is_global(address: Ipv6Addr) -> bool {
    !(address.is_unspecified()
        || address.is_loopback()
        || address.is_multicast()
        || address.is_unicast_link_local())
}

/// Linux lists the newest address first: the last is the oldest.
fn oldest_fit(interface: &Interface) -> Option<Ipv6Addr> {
    let fit = interface.addresses.iter().rev().find(|it| is_fit(it));
    fit.map(|it| it.address)
}

/// The interface's own link-local address (DP-66).
fn link_local(interface: &Interface) -> Option<Ipv6Addr> {
    let own = interface.addresses.iter().rev().find(|it| {
        it.address.is_unicast_link_local() && !it.tentative && it.protocol != KEEPALIVED
    });
    own.map(|it| it.address)
}

fn has(interface: &Interface, address: Ipv6Addr) -> bool {
    interface.addresses.iter().any(|it| it.address == address)
}

/// The source of RELAY-FORW.
// req: RLY-31, RLY-32
fn source(
    config: &Config,
    table: &InterfaceTable,
    kept: &mut Kept,
    warnings: &mut Vec<String>,
    toward: impl FnOnce() -> Option<Ipv6Addr>,
) -> Option<Ipv6Addr> {
    let exists = |address| {
        table
            .interfaces
            .iter()
            .any(|interface| has(interface, address))
    };
    // req: RLY-31, RLY-32
    if let Some(address) = config.relay.source_address {
        if !exists(address) {
            warnings.push(format!(
                "[relay] source_address {address} is on no interface; nothing can be sent to servers until it is"
            ));
        }
        return Some(address);
    }
    if let Some(address) = kept.source_address.filter(|address| exists(*address)) {
        return Some(address);
    }
    let fit = |address: &Ipv6Addr| {
        let mut all = table
            .interfaces
            .iter()
            .flat_map(|interface| &interface.addresses);
        all.any(|it| it.address == *address && is_fit(it))
    };
    let of_core = || {
        let mut core = config.core.iter();
        core.find_map(|section| oldest_fit(table.by_name(&section.interface)?))
    };
    let chosen = toward().filter(fit).or_else(of_core);
    match chosen {
        Some(_) => kept.source_address = chosen,
        None => warnings.push(
            "no address is fit to send to servers from: a core interface needs a global address \
             that is no /128, temporary, deprecated or VRRP address, or set [relay] source_address"
                .to_owned(),
        ),
    }
    chosen
}

fn access(
    section: &AccessSection,
    table: &InterfaceTable,
    servers: Vec<ServerId>,
    numbers: &mut Numbers,
    kept: &mut Kept,
    warnings: &mut Vec<String>,
) -> Access {
    let interface = table.by_name(&section.interface);
    if interface.is_none() {
        warnings.push(format!(
            "access interface {} does not exist; waiting for it",
            section.interface
        ));
    }
    let link_address = link_address(section, interface, kept, warnings);
    let aliases = interface
        .into_iter()
        .flat_map(|interface| &interface.addresses)
        .map(|it| it.address)
        .filter(|address| is_global(*address) && *address != link_address)
        .collect();
    Access {
        id: numbers.access(&section.interface),
        name: section.interface.clone(),
        ifindex: interface.map(|interface| interface.index),
        link_address,
        link_address_aliases: aliases,
        interface_id: section.interface_id.clone().into_bytes(),
        servers,
        client_link_layer_address: section.client_link_layer_address,
        remote_id: section
            .remote_id
            .clone()
            .map(|(enterprise, template)| RemoteId {
                enterprise,
                template,
            }),
        subscriber_id: section.subscriber_id.clone().into_bytes(),
        accept_relayed: section.accept_relayed,
        accept_rsoo: section.accept_rsoo,
        accept_reconfigure_request: section.accept_reconfigure_request,
        echo_request: section.echo_request.clone(),
    }
}

/// What names the link to the servers.
// req: RLY-20
fn link_address(
    section: &AccessSection,
    interface: Option<&Interface>,
    kept: &mut Kept,
    warnings: &mut Vec<String>,
) -> Ipv6Addr {
    let name = &section.interface;
    if let Some(address) = section.link_address {
        return address;
    }
    // req: RLY-98
    let before = kept.link_addresses.get(name).copied();
    let Some(interface) = interface else {
        return before.unwrap_or(Ipv6Addr::UNSPECIFIED);
    };
    if let Some(address) = before.filter(|address| has(interface, *address)) {
        return address;
    }
    if let Some(address) = oldest_fit(interface) {
        kept.link_addresses.insert(name.clone(), address);
        return address;
    }
    // req: RLY-21
    warnings.push(format!(
        "access interface {name} has no fit global address: link-address is its link-local one, \
         which servers must be configured for; add an address, or set link_address"
    ));
    link_local(interface).unwrap_or(Ipv6Addr::UNSPECIFIED)
}

fn port(section: &AccessSection, table: &InterfaceTable) -> AccessPort {
    AccessPort {
        name: section.interface.clone(),
        capture: section.capture,
        rate_limit: section.rate_limit,
        accept_relayed: section.accept_relayed,
        source_guard: section.source_guard,
        source_allow: section.source_allow.clone(),
        anti_loop: section.anti_loop,
        link_local: table.by_name(&section.interface).and_then(link_local),
    }
}

fn route_policy(config: &Config, table: &InterfaceTable) -> RoutePolicy {
    let routes = &config.routes;
    RoutePolicy {
        enabled: routes.enabled,
        addresses: routes.addresses,
        prefixes: routes.prefixes,
        neighbors: routes.neighbors,
        allowed: routes.allowed.clone(),
        networks: networks(table),
        own_addresses: own_addresses(table),
        vlan_devices: vlan_devices(table),
    }
}

/// Every address that packets may be addressed to, of interfaces that are down too.
fn own_addresses(table: &InterfaceTable) -> Vec<Ipv6Addr> {
    let all = table.interfaces.iter().flat_map(|it| &it.addresses);
    all.map(|it| it.address).collect()
}

/// On-link networks. Those of a macvlan (keepalived's `use_vmac`) are its parent's: the same link.
fn networks(table: &InterfaceTable) -> Vec<(IfIndex, relay_core::types::Prefix)> {
    let mut found = Vec::new();
    for interface in &table.interfaces {
        let link = interface.macvlan_parent.unwrap_or(interface.index);
        let global = interface
            .addresses
            .iter()
            .filter(|it| is_global(it.address));
        found.extend(
            global
                .filter_map(InterfaceAddress::network)
                .map(|network| (link, network)),
        );
    }
    found.sort();
    found.dedup();
    found
}

fn vlan_devices(table: &InterfaceTable) -> Vec<VlanDevice> {
    table
        .interfaces
        .iter()
        .filter_map(|interface| {
            let (parent, tag) = interface.vlan?;
            Some(VlanDevice {
                parent,
                tag,
                ifindex: interface.index,
            })
        })
        .collect()
}

mod leasequery;
#[cfg(test)]
mod tests;
