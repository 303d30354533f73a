//! A relay thread with its surroundings, and the server that it talks to.

use std::net::UdpSocket;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::sync::mpsc::sync_channel;
use std::thread::JoinHandle;
use std::time::{Duration, SystemTime};

use nix::sys::eventfd::{EfdFlags, EventFd};
use relay_core::config::{Access, LeasequeryConfig, Limits, RelayConfig, RoutePolicy, Server};
use relay_core::types::{AccessId, IfIndex, ServerId};
use relay_userspace::config::{Capture, OnExit, RateLimit, SourceGuard};
use relay_userspace::counters::Counters;
use relay_userspace::dataplane::{Dataplane, DataplaneHandle};
use relay_userspace::events::Events;
use relay_userspace::handle::{
    AccessPort, Command, LeasequeryEnds, PortState, RelayHandle, Surroundings,
};
use relay_userspace::interfaces::{Interface, InterfaceAddress, InterfaceTable};
use relay_userspace::leasequery::Connections;
use relay_userspace::leasequery::ready::starting;
use relay_userspace::leasequery::tls::Clock;
use relay_userspace::names::Names;
use relay_userspace::relay_thread::{self, LeasequeryParts, RelayThreadConfig};
use relay_userspace::routes::RouteQueue;
use relay_userspace::surroundings::Numbers;
use socket2::{Domain, Socket, Type};
use tempfile::TempDir;

use crate::client::{Client, option, push_option};
use crate::network::*;

/// A relay thread with its surroundings.
pub(crate) struct Bench {
    pub(crate) relay: RelayHandle,
    pub(crate) thread: JoinHandle<()>,
    pub(crate) dataplane: DataplaneHandle,
    pub(crate) counters: Arc<Counters>,
    pub(crate) server: UdpSocket,
    pub(crate) client: Client,
    pub(crate) pins: TempDir,
    /// Of connections, which nobody opens.
    _runtime: tokio::runtime::Runtime,
}

impl Bench {
    pub(crate) fn start(capture: Capture, on_exit: OnExit) -> Self {
        let pins = tempfile::tempdir().unwrap();
        Self::resume(capture, on_exit, pins)
    }

    pub(crate) fn resume(capture: Capture, on_exit: OnExit, pins: TempDir) -> Self {
        Self::with(surroundings(capture, Some(index("acc0"))), on_exit, pins)
    }

    pub(crate) fn with(initial: Surroundings, on_exit: OnExit, pins: TempDir) -> Self {
        let counters = Arc::new(Counters::default());
        let (commands, receiver) = sync_channel(64);
        let flags = EfdFlags::EFD_NONBLOCK | EfdFlags::EFD_CLOEXEC;
        let wake = Arc::new(OwnedFd::from(EventFd::from_flags(flags).unwrap()));
        let relay = RelayHandle::new(commands, Arc::clone(&wake));
        let routes = RouteQueue::new().unwrap();
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .build()
            .unwrap();
        let clock = Clock {
            not_before: SystemTime::UNIX_EPOCH,
        };
        let leasequery = LeasequeryParts {
            connections: Connections::new(runtime.handle().clone(), relay.clone(), clock),
            ready: tokio::sync::watch::channel(starting()).0,
            changes: tokio::sync::mpsc::channel(1).0,
        };
        let config = RelayThreadConfig {
            initial: Box::new(initial),
            seed: [7; 16],
            dataplane: Dataplane::new(pins.path().join("pins"), 1000),
            on_exit,
            counters: Arc::clone(&counters),
            commands: receiver,
            wake,
            routes,
            events: Events::new(Arc::clone(&counters)),
            store: Err("this bench keeps nothing".to_owned()),
            leasequery,
        };
        let spawned = relay_thread::spawn(config, &mut Numbers::default()).unwrap();
        let (thread, dataplane) = (spawned.handle, spawned.dataplane);
        let server = server_socket();
        server.set_read_timeout(Some(PATIENCE)).unwrap();
        Self {
            relay,
            thread,
            dataplane,
            counters,
            server,
            client: Client::new(),
            pins,
            _runtime: runtime,
        }
    }

    /// What the server gets next.
    pub(crate) fn forwarded(&self) -> Vec<u8> {
        let mut bytes = vec![0; 65_536];
        let (len, from) = self.server.recv_from(&mut bytes).expect("a RELAY-FORW");
        assert_eq!(from, (SOURCE, 547).into());
        bytes.truncate(len);
        bytes
    }

    pub(crate) fn assert_nothing_more_is_forwarded(&self) {
        self.server.set_read_timeout(Some(SILENCE)).unwrap();
        let more = self.server.recv(&mut [0; 16]);
        self.server.set_read_timeout(Some(PATIENCE)).unwrap();
        assert!(more.is_err(), "the same message was relayed twice");
    }

    /// The server answers a RELAY-FORW.
    pub(crate) fn answer(&self, forwarded: &[u8], message: &[u8]) {
        let mut reply = forwarded[..34].to_vec();
        reply[0] = RELAY_REPL;
        if let Some(interface_id) = option(forwarded, 18) {
            push_option(&mut reply, 18, interface_id);
        }
        push_option(&mut reply, 9, message);
        self.server.send_to(&reply, (SOURCE, 547)).unwrap();
    }

    pub(crate) fn port_state(&self) -> PortState {
        let (answer, answered) = tokio::sync::oneshot::channel();
        self.relay.send(Command::Ports(answer)).unwrap();
        answered.blocking_recv().unwrap().remove(0)
    }

    pub(crate) fn stop(self) -> TempDir {
        self.relay.send(Command::Stop).unwrap();
        self.thread.join().unwrap();
        self.pins
    }
}

/// On the same machine as the relay, whose sockets share the port.
pub(crate) fn server_socket() -> UdpSocket {
    let socket = Socket::new(Domain::IPV6, Type::DGRAM, None).unwrap();
    socket.set_reuse_address(true).unwrap();
    let address = std::net::SocketAddr::from((SERVER, 547));
    socket.bind(&address.into()).unwrap();
    socket.into()
}

pub(crate) fn surroundings(capture: Capture, acc0: Option<IfIndex>) -> Surroundings {
    let access = AccessId(0);
    let server = ServerId(0);
    let relay = RelayConfig {
        relay_id: Vec::new(),
        limits: Limits {
            max_bindings: 1000,
            max_leases_per_client: 8,
            max_leases_per_interface: 0,
        },
        servers: vec![Server {
            id: server,
            address: SERVER,
            port: 547,
            interface: None,
        }],
        access: vec![Access {
            id: access,
            name: "acc0".to_owned(),
            ifindex: acc0,
            link_address: LINK,
            link_address_aliases: Vec::new(),
            interface_id: b"acc0".to_vec(),
            servers: vec![server],
            client_link_layer_address: true,
            remote_id: None,
            subscriber_id: Vec::new(),
            accept_relayed: true,
            accept_rsoo: false,
            accept_reconfigure_request: false,
            echo_request: Vec::new(),
        }],
        core: vec![index("lo")],
        routes: RoutePolicy::default(),
        reply_deadline: Duration::from_millis(200),
        held_replies_max: 16,
        leasequery: LeasequeryConfig::default(),
    };
    Surroundings {
        relay,
        access: vec![AccessPort {
            name: "acc0".to_owned(),
            capture,
            rate_limit: RateLimit {
                per_client: 0,
                per_interface: 0,
            },
            accept_relayed: true,
            source_guard: SourceGuard::Off,
            source_allow: Vec::new(),
            anti_loop: false,
            link_local: Some(ROUTER),
        }],
        core: Vec::new(),
        forwards: false,
        names: Names {
            access: vec!["acc0".to_owned()],
            ..Names::default()
        },
        leasequery: LeasequeryEnds::default(),
        server_names: vec!["kea".to_owned()],
        source_address: Some(SOURCE),
        interfaces: Arc::new(table(acc0)),
    }
}

pub(crate) fn table(acc0: Option<IfIndex>) -> InterfaceTable {
    let own = |address, prefix_bits| InterfaceAddress {
        address,
        prefix_bits,
        temporary: false,
        tentative: false,
        deprecated: false,
        protocol: 0,
    };
    let interface = |index, name: &str, mac, addresses| Interface {
        index,
        name: name.to_owned(),
        mac,
        up: true,
        carrier: true,
        mtu: 1500,
        vlan: None,
        macvlan_parent: None,
        addresses,
    };
    let mut interfaces = vec![interface(index("lo"), "lo", None, vec![own(SOURCE, 128)])];
    if let Some(acc0) = acc0 {
        let addresses = vec![own(ROUTER, 64), own(LINK, 64)];
        interfaces.push(interface(acc0, "acc0", Some(ROUTER_MAC), addresses));
    }
    InterfaceTable { interfaces }
}
