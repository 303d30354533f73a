//! The relay thread between a client's frames and a server's socket, in a network namespace of its
//! own: capture by socket, generic and native XDP, with none, one and two tags. Needs root;
//! skipped and counted otherwise.
#![allow(
    clippy::unwrap_used,
    reason = "helpers of tests are not recognised as tests"
)]

use std::io::Write as _;
use std::net::{Ipv6Addr, UdpSocket};
use std::os::fd::{AsRawFd, OwnedFd};
use std::process::Command as Process;
use std::sync::Arc;
use std::sync::mpsc::sync_channel;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::sched::{CloneFlags, unshare};
use nix::sys::eventfd::{EfdFlags, EventFd};
use relay_common::net::{MacAddr, TPID_8021AD, TPID_8021Q, VlanTag, VlanTags};
use relay_core::config::{Access, Limits, RelayConfig, RoutePolicy, Server};
use relay_core::types::{AccessId, IfIndex, ServerId};
use relay_userspace::config::{Capture, OnExit, RateLimit};
use relay_userspace::control::view::DataplaneView as _;
use relay_userspace::counters::{Counters, Direction, ShellDrop};
use relay_userspace::dataplane::{self, DataplaneHandle};
use relay_userspace::events::Events;
use relay_userspace::handle::{AccessPort, Command, PortState, RelayHandle, Surroundings};
use relay_userspace::interfaces::{Interface, InterfaceAddress, InterfaceTable};
use relay_userspace::net::batch::{Outgoing, RecvBatch, SendBatch, bytes_of};
use relay_userspace::net::frame::{self, Way};
use relay_userspace::net::packet;
use relay_userspace::relay_thread::{self, RelayThreadConfig};
use socket2::{Domain, Socket, Type};
use tempfile::TempDir;

const ROUTER_MAC: MacAddr = MacAddr([2, 0, 0, 0, 0, 0xfe]);
const CLIENT_MAC: MacAddr = MacAddr([2, 0, 0, 0, 0, 1]);
const GROUP_MAC: MacAddr = MacAddr([0x33, 0x33, 0, 1, 0, 2]);
const ROUTER: Ipv6Addr = Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 0xfe);
const CLIENT: Ipv6Addr = Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 1);
const GROUP: Ipv6Addr = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 1, 2);
const LINK: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 1, 0, 0, 0, 0, 1);
const SOURCE: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 0xff, 0, 0, 0, 0, 1);
const SERVER: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 0xff, 0, 0, 0, 0, 0x11);
const RELAY_FORW: u8 = 12;
const RELAY_REPL: u8 = 13;
const PATIENCE: Duration = Duration::from_secs(3);
/// Long enough for a second copy to come, were there one.
const SILENCE: Duration = Duration::from_millis(150);

/// Runs a test where it can break nothing.
fn in_namespace(name: &str, test: impl FnOnce() + Send + 'static) {
    if !nix::unistd::geteuid().is_root() {
        return skip(name, "not root");
    }
    let thread = std::thread::spawn(move || {
        let apart = unshare(CloneFlags::CLONE_NEWNET | CloneFlags::CLONE_NEWNS);
        if let Err(error) = apart {
            return Some(format!("no namespaces: {error}"));
        }
        let private = MsFlags::MS_REC | MsFlags::MS_PRIVATE;
        mount(None::<&str>, "/", None::<&str>, private, None::<&str>).unwrap();
        ip("link set lo up");
        ip(&format!("addr add {SERVER}/128 dev lo nodad"));
        ip(&format!("addr add {SOURCE}/128 dev lo nodad"));
        add_access();
        test();
        None
    });
    match thread.join() {
        Ok(None) => {}
        Ok(Some(reason)) => skip(name, &reason),
        Err(panic) => std::panic::resume_unwind(panic),
    }
}

fn add_access() {
    ip(&format!(
        "link add acc0 address {ROUTER_MAC} type veth peer name cli0 address {CLIENT_MAC}"
    ));
    for name in ["acc0", "cli0"] {
        ip(&format!("link set {name} addrgenmode none"));
    }
    ip("link set cli0 up");
    ip("link set acc0 up");
    ip(&format!("addr add {ROUTER}/64 dev acc0 nodad"));
    ip(&format!("addr add {LINK}/64 dev acc0 nodad"));
}

fn skip(name: &str, reason: &str) {
    println!("SKIPPED: {name}: {reason}");
    if let Ok(path) = std::env::var("TWINRELAY_SKIPPED_FILE") {
        let mut options = std::fs::OpenOptions::new();
        let mut file = options.create(true).append(true).open(path).unwrap();
        writeln!(file, "relay_path::{name}: {reason}").unwrap();
    }
}

fn ip(arguments: &str) -> String {
    let output = Process::new("ip")
        .args(arguments.split(' '))
        .output()
        .unwrap();
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "ip {arguments}: {error}");
    String::from_utf8(output.stdout).unwrap()
}

fn index(name: &str) -> IfIndex {
    IfIndex(nix::net::if_::if_nametoindex(name).unwrap())
}

/// A relay thread with its surroundings.
struct Bench {
    relay: RelayHandle,
    thread: JoinHandle<()>,
    dataplane: DataplaneHandle,
    counters: Arc<Counters>,
    server: UdpSocket,
    client: Client,
    pins: TempDir,
}

impl Bench {
    fn start(capture: Capture, on_exit: OnExit) -> Self {
        let pins = tempfile::tempdir().unwrap();
        Self::resume(capture, on_exit, pins)
    }

    fn resume(capture: Capture, on_exit: OnExit, pins: TempDir) -> Self {
        Self::with(surroundings(capture, Some(index("acc0"))), on_exit, pins)
    }

    fn with(initial: Surroundings, on_exit: OnExit, pins: TempDir) -> Self {
        let counters = Arc::new(Counters::default());
        let (commands, receiver) = sync_channel(64);
        let flags = EfdFlags::EFD_NONBLOCK | EfdFlags::EFD_CLOEXEC;
        let wake = Arc::new(OwnedFd::from(EventFd::from_flags(flags).unwrap()));
        let relay = RelayHandle::new(commands, Arc::clone(&wake));
        let (routes, _) = tokio::sync::mpsc::channel(64);
        let (thread, dataplane) = relay_thread::spawn(RelayThreadConfig {
            initial: Box::new(initial),
            seed: [7; 16],
            pin_path: pins.path().join("pins"),
            on_exit,
            counters: Arc::clone(&counters),
            commands: receiver,
            wake,
            routes,
            events: Events::new(Arc::clone(&counters)),
        })
        .unwrap();
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
        }
    }

    /// What the server gets next.
    fn forwarded(&self) -> Vec<u8> {
        let mut bytes = vec![0; 65_536];
        let (len, from) = self.server.recv_from(&mut bytes).expect("a RELAY-FORW");
        assert_eq!(from, (SOURCE, 547).into());
        bytes.truncate(len);
        bytes
    }

    fn assert_nothing_more_is_forwarded(&self) {
        self.server.set_read_timeout(Some(SILENCE)).unwrap();
        let more = self.server.recv(&mut [0; 16]);
        self.server.set_read_timeout(Some(PATIENCE)).unwrap();
        assert!(more.is_err(), "the same message was relayed twice");
    }

    /// The server answers a RELAY-FORW.
    fn answer(&self, forwarded: &[u8], message: &[u8]) {
        let mut reply = forwarded[..34].to_vec();
        reply[0] = RELAY_REPL;
        if let Some(interface_id) = option(forwarded, 18) {
            push_option(&mut reply, 18, interface_id);
        }
        push_option(&mut reply, 9, message);
        self.server.send_to(&reply, (SOURCE, 547)).unwrap();
    }

    fn port_state(&self) -> PortState {
        let (answer, answered) = tokio::sync::oneshot::channel();
        self.relay.send(Command::Ports(answer)).unwrap();
        answered.blocking_recv().unwrap().remove(0)
    }

    fn stop(self) -> TempDir {
        self.relay.send(Command::Stop).unwrap();
        self.thread.join().unwrap();
        self.pins
    }
}

/// On the same machine as the relay, whose sockets share the port.
fn server_socket() -> UdpSocket {
    let socket = Socket::new(Domain::IPV6, Type::DGRAM, None).unwrap();
    socket.set_reuse_address(true).unwrap();
    let address = std::net::SocketAddr::from((SERVER, 547));
    socket.bind(&address.into()).unwrap();
    socket.into()
}

fn surroundings(capture: Capture, acc0: Option<IfIndex>) -> Surroundings {
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
            link_local: Some(ROUTER),
        }],
        server_names: vec!["kea".to_owned()],
        source_address: Some(SOURCE),
        interfaces: Arc::new(table(acc0)),
    }
}

fn table(acc0: Option<IfIndex>) -> InterfaceTable {
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

/// The value of an option of a relay message.
fn option(relayed: &[u8], code: u16) -> Option<&[u8]> {
    let mut rest = relayed.get(34..)?;
    while let Some((head, more)) = rest.split_first_chunk::<4>() {
        let len = usize::from(u16::from_be_bytes([head[2], head[3]]));
        let value = more.get(..len)?;
        if u16::from_be_bytes([head[0], head[1]]) == code {
            return Some(value);
        }
        rest = &more[len..];
    }
    None
}

fn push_option(message: &mut Vec<u8>, code: u16, value: &[u8]) {
    message.extend(code.to_be_bytes());
    message.extend(u16::try_from(value.len()).unwrap().to_be_bytes());
    message.extend(value);
}

/// A message with a Client Identifier and, to make it long, an unknown option of `padding` bytes.
fn message(message_type: u8, xid: u8, padding: usize) -> Vec<u8> {
    let mut message = vec![message_type, 0, 0, xid];
    push_option(&mut message, 1, &[0, 3, 0, 1, 2, 0, 0, 0, 0, 1]);
    if padding > 0 {
        push_option(&mut message, 4242, &vec![0xa5; padding]);
    }
    message
}

fn request_way(vlans: VlanTags) -> Way {
    Way {
        source_mac: CLIENT_MAC,
        destination_mac: GROUP_MAC,
        vlans,
        source: CLIENT,
        destination: GROUP,
        source_port: 546,
        destination_port: 547,
        mtu: 1500,
    }
}

/// The client's end of the wire.
struct Client {
    socket: Socket,
    received: RecvBatch,
}

impl Client {
    fn new() -> Self {
        Self::on("cli0")
    }

    fn on(interface: &str) -> Self {
        let socket = packet::send_socket().unwrap();
        let set = |name| {
            let on = 1i32;
            relay_userspace::net::sockopt::set(&socket, libc::SOL_PACKET, name, &on).unwrap();
        };
        set(libc::PACKET_AUXDATA);
        set(libc::PACKET_IGNORE_OUTGOING);
        let all = u16::try_from(libc::ETH_P_ALL).unwrap();
        let address = packet::link_layer_address(index(interface), all);
        let bytes = bytes_of(&address);
        // SAFETY: pointer and length describe `address`, which outlives the call.
        let bound = unsafe {
            libc::bind(
                socket.as_raw_fd(),
                bytes.as_ptr().cast(),
                bytes.len() as libc::socklen_t,
            )
        };
        assert_eq!(bound, 0);
        Self {
            socket,
            received: RecvBatch::new(1, 4096, packet::TAG_BYTES),
        }
    }

    fn send(&self, way: &Way, payload: &[u8]) {
        assert!(frame::build(way, payload, 99, |frame| {
            self.send_raw(&[frame.headers(), &payload[frame.payload.clone()]].concat());
        }));
    }

    fn send_raw(&self, bytes: &[u8]) {
        let address = packet::link_layer_address(index("cli0"), 0x86dd);
        let datagram = Outgoing {
            head: bytes,
            body: &[],
            address: bytes_of(&address),
            control: &[],
        };
        let once = std::iter::once(datagram);
        SendBatch::default().send(&self.socket, once, |_, result| result.unwrap());
    }

    /// The next frame to a client, its tags put back.
    fn receive(&mut self) -> Vec<u8> {
        self.receive_to(546)
    }

    fn receive_to(&mut self, port: u16) -> Vec<u8> {
        let until = Instant::now() + PATIENCE;
        while Instant::now() < until {
            if self.received.receive(&self.socket).unwrap() == 0 {
                std::thread::sleep(Duration::from_millis(1));
                continue;
            }
            let tag = packet::taken_tag(self.received.control(0));
            let bytes = packet::restore_tag(self.received.slot(0), tag).to_vec();
            let ip = 12 + 4 * tags_in(&bytes) + 2;
            if bytes.get(ip + 6) == Some(&17) && bytes[ip + 42..ip + 44] == port.to_be_bytes() {
                return bytes;
            }
        }
        panic!("nothing came to port {port}");
    }
}

fn tags_in(frame: &[u8]) -> usize {
    let is_tag = |at: usize| matches!(frame.get(at..at + 2), Some([0x81, 0] | [0x88, 0xa8]));
    usize::from(is_tag(12)) + usize::from(is_tag(12) && is_tag(16))
}

fn all_tags() -> [VlanTags; 3] {
    let customer = VlanTag {
        tpid: TPID_8021Q,
        vid: 100,
    };
    let service = VlanTag {
        tpid: TPID_8021AD,
        vid: 7,
    };
    [
        VlanTags::NONE,
        VlanTags::single(customer),
        VlanTags::double(service, customer),
    ]
}

fn exchange_both_ways(capture: Capture, expected: &str) {
    let mut bench = Bench::start(capture, OnExit::Detach);
    assert_eq!(bench.port_state().capture, expected);
    for (vlans, xid) in all_tags().into_iter().zip(1..) {
        let solicit = message(1, xid, 0);
        let advertise = message(2, xid, 0);

        bench.client.send(&request_way(vlans), &solicit);
        let forwarded = bench.forwarded();
        bench.answer(&forwarded, &advertise);
        let frame = bench.client.receive();

        assert_eq!(forwarded[0], RELAY_FORW);
        assert_eq!(option(&forwarded, 9), Some(&solicit[..]));
        assert_eq!(
            option(&forwarded, 79),
            Some(&[&[0, 1], &CLIENT_MAC.0[..]].concat()[..])
        );
        bench.assert_nothing_more_is_forwarded();
        let mut way = request_way(vlans);
        way.destination_mac = CLIENT_MAC;
        way.source_mac = ROUTER_MAC;
        (way.source, way.destination) = (ROUTER, CLIENT);
        (way.source_port, way.destination_port) = (547, 546);
        let mut wanted = Vec::new();
        frame::build(&way, &advertise, 0, |frame| {
            wanted = [frame.headers(), &advertise].concat();
        });
        assert_eq!(frame, wanted, "{vlans:?}");
    }
    let port = bench.counters.port("acc0");
    assert_eq!(port.message(Direction::FromClient, 1).get(), 3);
    assert_eq!(port.message(Direction::ToClient, 2).get(), 3);
    let kea = bench.counters.port("kea");
    assert_eq!(kea.message(Direction::ToServer, 1).get(), 3);
    assert_eq!(kea.message(Direction::FromServer, RELAY_REPL).get(), 3);
    let captured = bench
        .dataplane
        .read()
        .packets
        .iter()
        .any(|(name, action, count)| {
            (name.as_str(), action.as_str(), *count) == ("acc0", "ring", 3)
        });
    assert_eq!(captured, expected != "socket");
    let pins = bench.stop();
    assert!(!ip("-d link show acc0").contains("xdp"));
    assert!(!pins.path().join("pins").exists());
}

/// req: RLY-1 (RFC 8415 §7.1), RLY-2 (RFC 8415 §7.2), RLY-46 (RFC 6221 §6.2)
#[test]
fn rly_1_socket_capture_relays_tagged_and_untagged_clients_once_both_ways() {
    in_namespace("socket_capture", || {
        exchange_both_ways(Capture::Socket, "socket")
    });
}

#[test]
fn generic_xdp_capture_relays_tagged_and_untagged_clients_once_both_ways() {
    with_programs("generic_xdp_capture", || {
        exchange_both_ways(Capture::XdpGeneric, "xdp-generic");
    });
}

#[test]
fn native_xdp_capture_relays_tagged_and_untagged_clients_once_both_ways() {
    with_programs("native_xdp_capture", || {
        exchange_both_ways(Capture::Auto, "xdp")
    });
}

fn with_programs(name: &str, test: impl FnOnce() + Send + 'static) {
    if dataplane::has_programs() {
        in_namespace(name, test);
    } else {
        skip(name, "no kernel object; run `cargo xtask build-ebpf`");
    }
}

/// req: RLY-35 (RFC 8200 §4.5)
#[test]
fn rly_35_fragmented_request_is_reassembled_and_relayed_once() {
    in_namespace("fragmented_request", || {
        for capture in [Capture::Socket, Capture::Auto] {
            let bench = Bench::start(capture, OnExit::Detach);
            let solicit = message(1, 9, 3000);

            bench.client.send(&request_way(VlanTags::NONE), &solicit);

            let forwarded = bench.forwarded();
            assert_eq!(option(&forwarded, 9), Some(&solicit[..]));
            bench.assert_nothing_more_is_forwarded();
            bench.stop();
        }
    });
}

/// req: RLY-34 (RFC 8200 §8.1)
#[test]
fn rly_34_request_with_a_wrong_or_absent_checksum_is_dropped_and_counted() {
    in_namespace("wrong_checksum", || {
        for capture in [Capture::Socket, Capture::Auto] {
            let bench = Bench::start(capture, OnExit::Detach);
            let payload = message(1, 3, 0);
            let mut whole = Vec::new();
            frame::build(&request_way(VlanTags::NONE), &payload, 0, |frame| {
                whole = [frame.headers(), &payload].concat();
            });
            let mut absent = whole.clone();
            absent[60..62].fill(0);
            let mut wrong = whole.clone();
            wrong[70] ^= 1;

            bench.client.send_raw(&absent);
            bench.client.send_raw(&wrong);
            bench.client.send_raw(&whole);

            assert_eq!(option(&bench.forwarded(), 9), Some(&payload[..]));
            bench.assert_nothing_more_is_forwarded();
            let drops = &bench.counters.port("acc0").shell_drops;
            assert_eq!(drops[ShellDrop::BadChecksum as usize].get(), 2);
            bench.stop();
        }
    });
}

/// A downstream relay that unicasts to us, and a client that unicasts to a server through us.
#[test]
fn relayed_message_to_an_own_address_is_relayed_once() {
    in_namespace("relayed_to_own_address", || {
        for capture in [Capture::Socket, Capture::Auto] {
            let bench = Bench::start(capture, OnExit::Detach);
            let mut relayed = vec![RELAY_FORW, 0];
            relayed.extend([0; 16]);
            relayed.extend(CLIENT.octets());
            push_option(&mut relayed, 9, &message(1, 4, 0));
            let mut way = request_way(VlanTags::NONE);
            (way.destination_mac, way.destination, way.source_port) = (ROUTER_MAC, LINK, 547);

            bench.client.send(&way, &relayed);

            let forwarded = bench.forwarded();
            assert_eq!(option(&forwarded, 9), Some(&relayed[..]));
            assert_eq!(forwarded[1], 1);
            bench.assert_nothing_more_is_forwarded();
            bench.stop();
        }
    });
}

#[test]
fn interface_that_is_made_anew_is_served_again() {
    in_namespace("interface_made_anew", || {
        for capture in [Capture::Socket, Capture::Auto] {
            let mut bench = Bench::start(capture, OnExit::Detach);
            ip("link del acc0");
            let update = |acc0| {
                let new = Box::new(surroundings(capture, acc0));
                bench.relay.send(Command::Surroundings(new)).unwrap();
                bench.port_state().capture
            };
            assert_eq!(update(None), "absent");
            add_access();
            assert_ne!(update(Some(index("acc0"))), "absent");
            bench.client = Client::new();

            bench
                .client
                .send(&request_way(VlanTags::NONE), &message(1, 5, 0));

            bench.forwarded();
            bench.assert_nothing_more_is_forwarded();
            bench.stop();
        }
    });
}

#[test]
fn program_of_somebody_else_makes_auto_take_sockets_and_say_why() {
    with_programs("foreign_program", || {
        let first = Bench::start(Capture::Auto, OnExit::Keep);
        let pins = first.stop();
        // Another daemon, with other pins, knows nothing of the first one's link.
        let second = Bench::start(Capture::Auto, OnExit::Detach);

        let state = second.port_state();

        assert_eq!(state.capture, "socket");
        assert!(
            state
                .reason
                .unwrap()
                .contains("another program is attached")
        );
        second
            .client
            .send(&request_way(VlanTags::NONE), &message(1, 6, 0));
        second.forwarded();
        second.stop();
        // The folder can go only when nothing is mounted there any more.
        umount2(&pins.path().join("pins"), MntFlags::MNT_DETACH).unwrap();
    });
}

#[test]
fn next_daemon_adopts_link_and_maps_of_the_last() {
    with_programs("adoption", || {
        let first = Bench::start(Capture::Auto, OnExit::Keep);
        first
            .client
            .send(&request_way(VlanTags::NONE), &message(1, 7, 0));
        first.forwarded();
        let pins = first.stop();
        let kept = ip("-d link show acc0");
        assert!(kept.contains("xdp"), "{kept}");

        let second = Bench::resume(Capture::Auto, OnExit::Detach, pins);

        let state = second.port_state();
        assert_eq!((state.capture.as_str(), state.reason), ("xdp", None));
        second
            .client
            .send(&request_way(VlanTags::NONE), &message(1, 8, 0));
        second.forwarded();
        second.assert_nothing_more_is_forwarded();
        // The counters are those of both.
        let packets = second.dataplane.read().packets;
        let ring = packets.iter().find(|(_, action, _)| action == "ring");
        assert_eq!(ring.map(|(_, _, count)| *count), Some(2));
        let pins = second.stop();
        assert!(!ip("-d link show acc0").contains("xdp"));
        // The bpffs that the first one mounted may be anybody's by now: it stays, without our pins.
        // The kernel itself puts maps.debug and progs.debug into each.
        let mounted = pins.path().join("pins");
        let names = std::fs::read_dir(&mounted)
            .unwrap()
            .map(|entry| entry.unwrap().file_name());
        let left: Vec<_> = names
            .filter(|name| !name.to_string_lossy().ends_with(".debug"))
            .collect();
        assert!(left.is_empty(), "{left:?}");
        umount2(&mounted, MntFlags::MNT_DETACH).unwrap();
    });
}

/// req: RLY-2 (RFC 8415 §7.2)
#[test]
fn rly_2_only_datagrams_to_port_547_are_relayed() {
    in_namespace("port_547", || {
        for capture in [Capture::Socket, Capture::Auto] {
            let bench = Bench::start(capture, OnExit::Detach);
            let mut other = request_way(VlanTags::NONE);
            other.destination_port = 546;

            bench.client.send(&other, &message(1, 1, 0));
            bench
                .client
                .send(&request_way(VlanTags::NONE), &message(1, 2, 0));

            assert_eq!(option(&bench.forwarded(), 9), Some(&message(1, 2, 0)[..]));
            bench.assert_nothing_more_is_forwarded();
            bench.stop();
        }
    });
}

/// req: RLY-4 (RFC 9915 §7.2)
#[test]
fn rly_4_both_directions_leave_from_port_547() {
    in_namespace("from_port_547", || {
        let mut bench = Bench::start(Capture::Socket, OnExit::Detach);
        bench
            .client
            .send(&request_way(VlanTags::NONE), &message(1, 1, 0));

        // `forwarded` looks at the source port of what the server gets.
        let forwarded = bench.forwarded();
        bench.answer(&forwarded, &message(2, 1, 0));
        let frame = bench.client.receive();

        assert_eq!(frame[54..56], 547u16.to_be_bytes());
        bench.stop();
    });
}

/// A client whose request was reassembled: only its IPv6 address is known. req: RLY-35, DP-66
#[test]
fn answer_to_a_client_without_known_mac_leaves_through_the_kernel() {
    in_namespace("unknown_mac", || {
        let mut bench = Bench::start(Capture::Socket, OnExit::Detach);
        ip(&format!("neigh add {CLIENT} lladdr {CLIENT_MAC} dev acc0"));
        bench
            .client
            .send(&request_way(VlanTags::NONE), &message(1, 1, 3000));
        let forwarded = bench.forwarded();
        assert_eq!(option(&forwarded, 79), None);

        bench.answer(&forwarded, &message(2, 1, 0));
        let frame = bench.client.receive();

        assert_eq!(frame[..6], CLIENT_MAC.0);
        assert_eq!(frame[22..38], ROUTER.octets());
        assert_eq!(frame[38..54], CLIENT.octets());
        assert_eq!(frame[54..56], 547u16.to_be_bytes());
        assert_eq!(&frame[62..], message(2, 1, 0));
        bench.stop();
    });
}

/// req: RLY-30 (RFC 8415 §19), RLY-31 (RFC 8415 §7.1)
#[test]
fn rly_30_request_to_a_multicast_group_leaves_with_hop_limit_8_from_the_global_source() {
    in_namespace("multicast_servers", || {
        ip("link add core0 type veth peer name srv0");
        ip("link set core0 up");
        ip("link set srv0 up");
        let group: Ipv6Addr = "ff05::1:3".parse().unwrap();
        let mut initial = surroundings(Capture::Socket, Some(index("acc0")));
        initial.relay.servers[0].address = group;
        initial.relay.servers[0].interface = Some(index("core0"));
        let bench = Bench::with(initial, OnExit::Detach, tempfile::tempdir().unwrap());
        let mut wire = Client::on("srv0");

        bench
            .client
            .send(&request_way(VlanTags::NONE), &message(1, 1, 0));
        let frame = wire.receive_to(547);

        assert_eq!(frame[21], 8);
        assert_eq!(frame[22..38], SOURCE.octets());
        assert_eq!(frame[38..54], group.octets());
        assert_eq!(option(&frame[62..], 9), Some(&message(1, 1, 0)[..]));
        bench.stop();
    });
}
