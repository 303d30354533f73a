//! Whom this relay asks and answers over TCP, for the core and for the connections.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::net::{Ipv6Addr, SocketAddrV6};
use std::time::Duration;

use relay_core::alq::Remote;
use relay_core::config::{LEAST_CONNECTIONS_PER_PEER, LeasequeryConfig, Peer, Server};
use rustls::pki_types::ServerName;

use super::Numbers;
use crate::config::{Config, PeerSection};
use crate::handle::LeasequeryEnds;
use crate::interfaces::InterfaceTable;
use crate::leasequery::{Limits, Target};

/// Connections of a peer that are accepted beyond those that the core will keep: closed ones linger.
const LINGERING_MAX: usize = 8;

pub(super) fn of(
    config: &Config,
    table: &InterfaceTable,
    numbers: &mut Numbers,
    relay_id: &[u8],
    own_address: Option<Ipv6Addr>,
    servers: &[Server],
) -> (LeasequeryConfig, LeasequeryEnds) {
    let section = &config.active_leasequery;
    let max_connections = section
        .max_connections
        // One more for each: it may show its certificate beyond its share.
        .max((LEAST_CONNECTIONS_PER_PEER + 1) * section.peers.len());
    let secs = |secs: u32| Duration::from_secs(u64::from(secs));
    // Also while it is off: bindings keep the names of those who told them.
    let peers: Vec<(Peer, Target)> = section
        .peers
        .iter()
        .map(|peer| (self::peer(peer, numbers), target(peer)))
        .collect();
    let bulk: Vec<_> = config
        .servers
        .iter()
        .filter(|server| server.bulk_leasequery)
        .map(|server| numbers.server(&server.name))
        .collect();
    let names = numbers.names();
    let server_ends = servers.iter().map(|server| {
        let scope = server.interface.map_or(0, |index| index.0);
        let target = Target {
            name: names.server(server.id),
            address: SocketAddrV6::new(server.address, server.port, 0, scope),
            tls_name: None,
        };
        (Remote::Server(server.id), target)
    });
    let peer_ends = peers
        .iter()
        .map(|(peer, target)| (Remote::Peer(peer.id), target.clone()));
    let ends = LeasequeryEnds {
        remotes: peer_ends.chain(server_ends).collect(),
        limits: Limits {
            send_timeout: secs(section.send_timeout_secs),
            accepted_max: max_connections / section.peers.len().max(1) + LINGERING_MAX,
        },
    };
    let core = config.core.iter().map(|core| core.interface.as_str());
    let carrier = core.filter_map(|name| table.by_name(name));
    let leasequery = LeasequeryConfig {
        enabled: section.enabled,
        identity: relay_id.to_vec(),
        own_address,
        receive_timeout: secs(section.receive_timeout_secs),
        send_timeout: secs(section.send_timeout_secs),
        idle_timeout: secs(section.idle_timeout_secs),
        max_connections,
        history: secs(section.history_secs),
        ready_timeout: secs(config.relay.ready_timeout_secs),
        has_core_carrier: carrier.into_iter().any(|interface| interface.carrier),
        peers: peers.into_iter().map(|(peer, _)| peer).collect(),
        bulk_servers: bulk,
    };
    (leasequery, ends)
}

fn peer(section: &PeerSection, numbers: &mut Numbers) -> Peer {
    let links = section.links.iter();
    Peer {
        id: numbers.peer(&section.name),
        address: section.address,
        is_secure: section.is_secure,
        tls_name: number_of(&section.tls_name),
        has_shared_interface_id: section.has_shared_interface_id,
        links: links
            .map(|(link, interface)| (*link, numbers.access(interface)))
            .collect(),
    }
}

/// The same as long as this daemon runs.
fn number_of(name: &str) -> u64 {
    let mut hasher = DefaultHasher::new();
    name.hash(&mut hasher);
    hasher.finish()
}

fn target(section: &PeerSection) -> Target {
    let name = ServerName::try_from(section.tls_name.clone()).ok();
    Target {
        name: section.name.clone(),
        address: SocketAddrV6::new(section.address, section.port, 0, 0),
        tls_name: name.filter(|_| section.is_secure),
    }
}
