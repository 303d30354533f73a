//! Surroundings and a relay thread that answers from a list, for unit tests.

use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::sync::mpsc::sync_channel;
use std::time::Duration;

use nix::sys::eventfd::EventFd;
use relay_common::net::{MacAddr, VlanTags};
use relay_core::alq::{CatchUp, Digest, Neighbor, Remote, Role, SessionState, SessionStatistics};
use relay_core::config::{Access, LeasequeryConfig, Limits, RelayConfig, RoutePolicy, Server};
use relay_core::time::Instant;
use relay_core::types::{AccessId, AccessLink, IaType, Iaid, IfIndex, PeerId, Prefix, ServerId};
use relay_core::view::{
    BindingState, BindingView, Cursor, Origin, Page, RouteState, SubscriberView, TableSummary,
};

use crate::handle::{
    COMMANDS_MAX, Cleared, Command, LeasequeryEnds, PortState, RelayHandle, Surroundings,
};
use crate::interfaces::{Interface, InterfaceTable};
use crate::names::Names;
use crate::wall_time::boot_now;

/// One access interface `acc0`, one core interface `core0`, one server `kea-a`.
pub(crate) fn surroundings() -> Surroundings {
    let access = Access {
        id: AccessId(0),
        name: "acc0".to_owned(),
        ifindex: Some(IfIndex(2)),
        link_address: "2001:db8:100::1".parse().unwrap(),
        link_address_aliases: Vec::new(),
        interface_id: b"acc0".to_vec(),
        servers: vec![ServerId(0)],
        client_link_layer_address: true,
        remote_id: None,
        subscriber_id: Vec::new(),
        accept_relayed: false,
        accept_rsoo: true,
        accept_reconfigure_request: true,
        echo_request: Vec::new(),
    };
    let server = Server {
        id: ServerId(0),
        address: "2001:db8:ff::11".parse().unwrap(),
        port: 547,
        interface: None,
    };
    Surroundings {
        relay: RelayConfig {
            relay_id: vec![0, 4, 1],
            limits: Limits {
                max_bindings: 1000,
                max_leases_per_client: 8,
                max_leases_per_interface: 0,
            },
            servers: vec![server],
            access: vec![access],
            core: vec![IfIndex(3)],
            routes: RoutePolicy::default(),
            reply_deadline: Duration::from_millis(200),
            held_replies_max: 10,
            leasequery: LeasequeryConfig::default(),
        },
        access: Vec::new(),
        core: Vec::new(),
        forwards: false,
        names: Names {
            access: vec!["acc0".to_owned()],
            servers: vec!["kea-a".to_owned()],
            peers: vec!["r2".to_owned()],
        },
        leasequery: LeasequeryEnds::default(),
        server_names: vec!["kea-a".to_owned()],
        source_address: Some("2001:db8:ff::1".parse().unwrap()),
        interfaces: Arc::new(interfaces()),
    }
}

/// `acc0` and `core0`.
pub(crate) fn interfaces() -> InterfaceTable {
    let interface = |index: u32, name: &str| Interface {
        index: IfIndex(index),
        name: name.to_owned(),
        mac: Some(MacAddr([2, 0, 0, 0, 1, index as u8])),
        up: true,
        carrier: true,
        mtu: 1500,
        vlan: None,
        macvlan_parent: None,
        addresses: Vec::new(),
    };
    InterfaceTable {
        interfaces: vec![interface(2, "acc0"), interface(3, "core0")],
    }
}

/// Client number `n`, with an address and a prefix that end ten days after `now`.
pub(crate) fn subscriber(n: u32, now: Instant) -> SubscriberView {
    let [_, _, high, low] = n.to_be_bytes();
    let mac = MacAddr([2, 0, 0, 0, high, low]);
    let binding = |ia_type, prefix| BindingView {
        ia_type,
        iaid: Iaid(1),
        prefix,
        state: BindingState::Active,
        origin: Origin::Snooped,
        snooped_by: std::net::Ipv6Addr::UNSPECIFIED,
        server_duid: vec![0, 1],
        server_address: "2001:db8:ff::11".parse().unwrap(),
        cltt: now,
        t1_secs: 900,
        t2_secs: 1440,
        preferred_until: now + Duration::from_secs(1800),
        valid_until: now + Duration::from_secs(10 * 86_400 + 1800),
        route: RouteState::Installed,
    };
    let number = u128::from(n);
    let address = (0x2001_0db8_0100_u128 << 80) + 0x1000 + number;
    let prefix = (0x2001_0db8_8000_u128 << 80) + (number << 72);
    SubscriberView {
        duid: [&[0, 3, 0, 1][..], &mac.0].concat(),
        link: AccessLink {
            access: AccessId(0),
            vlans: VlanTags::NONE,
        },
        link_address: "2001:db8:100::1".parse().unwrap(),
        client_address: "fe80::ff:fe00:1".parse().unwrap(),
        mac: Some(mac),
        interface_id: b"acc0".to_vec(),
        remote_id: None,
        subscriber_id: None,
        bindings: vec![
            binding(
                IaType::Na,
                Prefix::host(std::net::Ipv6Addr::from_bits(address)),
            ),
            binding(
                IaType::Pd,
                Prefix::new(std::net::Ipv6Addr::from_bits(prefix), 56).unwrap(),
            ),
        ],
    }
}

/// A thread that answers like the relay thread, from a list of clients. It filters by DUID,
/// knows how often it was told to observe, and ends with its last handle.
pub(crate) fn relay_of(clients: Vec<SubscriberView>) -> (RelayHandle, Arc<ObservedBy>) {
    let (sender, receiver) = sync_channel(COMMANDS_MAX);
    let wake = OwnedFd::from(EventFd::new().unwrap());
    let observed = Arc::new(ObservedBy::default());
    let seen = Arc::clone(&observed);
    std::thread::spawn(move || {
        let mut clients = clients;
        for command in receiver {
            match command {
                Command::Page(filter, Cursor(from), limit, answer) => {
                    let at = from as usize;
                    let end = (at + limit).min(clients.len());
                    let matching = clients[at..end]
                        .iter()
                        .filter(|it| filter.duid.as_ref().is_none_or(|duid| *duid == it.duid));
                    let next = (end < clients.len()).then_some(Cursor(end as u32));
                    let _ = answer.send(Page {
                        subscribers: matching.cloned().collect(),
                        next,
                    });
                }
                Command::Summary(answer) => {
                    let _ = answer.send(TableSummary {
                        clients: clients.len(),
                        active: vec![(AccessId(0), IaType::Pd, Origin::Snooped, clients.len())],
                        refused: 0,
                        held_replies: 0,
                    });
                }
                Command::Ports(answer) => {
                    let _ = answer.send(vec![PortState {
                        interface: "acc0".to_owned(),
                        capture: "xdp-generic".to_owned(),
                        reason: Some("the driver has no native XDP".to_owned()),
                    }]);
                }
                Command::Clear(clear, answer) => {
                    let before = clients.len();
                    if let relay_core::input::Clear::Client(duid) = clear {
                        clients.retain(|client| client.duid != duid);
                    }
                    let _ = answer.send(Cleared {
                        bindings: 2 * (before - clients.len()),
                        more: false,
                    });
                }
                Command::Neighbors(answer) => drop(answer.send(neighbors())),
                Command::Digests(answer) => {
                    let digest = Digest {
                        bindings: 2 * clients.len() as u64,
                        sum: 0xfedc_ba98_7654_3210,
                    };
                    let _ = answer.send(vec![(AccessId(0), digest)]);
                }
                Command::Request(ask) => seen.1.lock().unwrap().push(format!("{ask:?}")),
                Command::Observe(on) => seen.0.lock().unwrap().push(on),
                Command::Stop => return,
                _ => {}
            }
        }
    });
    (RelayHandle::new(sender, Arc::new(wake)), observed)
}

/// A peer: we are in sync with it, and it cannot be served.
pub(crate) fn neighbors() -> Vec<Neighbor> {
    let now = boot_now();
    let ago = |secs: u64| now - Duration::from_secs(secs);
    let active = Neighbor {
        remote: Remote::Peer(PeerId(0)),
        role: Role::Requestor,
        state: SessionState::Active,
        is_secure: true,
        since: ago(65),
        retry_at: None,
        catch_up: CatchUp {
            requested_from: Some(0x3000_0000),
            started_at: Some(ago(67)),
            is_complete: true,
            completed_at: Some(ago(65)),
            received: 100_000,
        },
        last_received: Some(ago(1)),
        last_sent: Some(ago(67)),
        lag_nanos: Some(20_000_000),
        statistics: SessionStatistics {
            bindings_received: 100_012,
            stale_ignored: 3,
            messages_received: vec![(15, 1), (17, 100_012)],
            messages_sent: vec![(22, 1)],
            statuses_received: vec![(13, 1)],
            ..SessionStatistics::default()
        },
        last_error: None,
    };
    let failing = Neighbor {
        role: Role::Server,
        state: SessionState::Backoff,
        is_secure: false,
        since: ago(5),
        retry_at: Some(now + Duration::from_secs(55)),
        catch_up: CatchUp::default(),
        lag_nanos: None,
        statistics: SessionStatistics {
            errors: 1,
            ..SessionStatistics::default()
        },
        last_error: Some(
            "certificate refused: the peer's certificate bears the name r3, not r2; set tls_name to the name in it"
                .to_owned(),
        ),
        ..active.clone()
    };
    vec![active, failing]
}

/// Says and counts that a test did not run.
pub(crate) fn skipped(reason: &str) {
    use std::io::Write;
    let test = std::thread::current().name().unwrap_or("?").to_owned();
    println!("SKIPPED: {reason}");
    if let Some(file) = std::env::var_os("TWINRELAY_SKIPPED_FILE") {
        let file = std::fs::OpenOptions::new()
            .create(true)
            .append(true)
            .open(file);
        let mut file = file.expect("the list of skipped tests opens");
        writeln!(file, "{test}: {reason}").expect("the list of skipped tests takes a line");
    }
}

/// What the thread was told of watchers.
#[derive(Debug, Default)]
pub(crate) struct ObservedBy(
    pub std::sync::Mutex<Vec<bool>>,
    /// And what an operator asked for.
    pub std::sync::Mutex<Vec<String>>,
);
