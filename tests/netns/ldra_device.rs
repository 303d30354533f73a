//! A lightweight relay (RFC 6221) between a home and the access network: forwards every frame as it is, but wraps
//! what the home's client says to the relays of the link, and unwraps the answers. Asserts what it is answered.

use crate::harness::on;
use crate::wired::{Wire, frame};
use relay_tests::messages::{Layer, ip};
use std::net::Ipv6Addr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;
use xtask::lab::{Client, Lab};

/// What it calls the port of the home.
const PORT_NAME: &[u8] = b"port 7";
const RELAY_FORW: u8 = 12;
const RELAY_REPL: u8 = 13;
const ETHERNET: usize = 14;
const HEADERS: usize = ETHERNET + 40 + 8;

/// How many messages it wrapped and unwrapped.
#[derive(Clone, Copy, Default, PartialEq, Eq, Debug)]
pub(crate) struct Passed {
    pub(crate) up: usize,
    pub(crate) down: usize,
}

/// The device; it works until it is taken away.
pub(crate) struct Ldra {
    works: Arc<AtomicBool>,
    pump: JoinHandle<Passed>,
}

impl Ldra {
    /// Takes the home's port off the bridge and stands in between.
    pub(crate) fn before(lab: &Lab, client: Client) -> Self {
        let home = client.node();
        for words in [
            format!("ip link set {home} nomaster promisc on up"),
            "ip link add ldra0 type veth peer name ldra1".to_owned(),
            "ip link set ldra1 master br0 up".to_owned(),
            "ip link set ldra0 promisc on up".to_owned(),
        ] {
            on(lab, "access", &words);
        }
        let open = |interface| Wire::open(lab, "access", interface, true);
        let (home, network) = (open(home), open("ldra0"));
        let works = Arc::new(AtomicBool::new(true));
        let goes_on = Arc::clone(&works);
        let pump = std::thread::spawn(move || {
            let mut passed = Passed::default();
            while goes_on.load(Ordering::Relaxed) {
                while let Some(frame) = home.hear() {
                    let wrapped = wrapped(&frame);
                    passed.up += usize::from(wrapped.is_some());
                    network.send(&wrapped.unwrap_or(frame));
                }
                while let Some(frame) = network.hear() {
                    let unwrapped = unwrapped(&frame);
                    passed.down += usize::from(unwrapped.is_some());
                    home.send(&unwrapped.unwrap_or(frame));
                }
                std::thread::sleep(Duration::from_micros(200));
            }
            passed
        });
        Self { works, pump }
    }

    /// Ends it; what it has seen.
    pub(crate) fn take_away(self) -> Passed {
        self.works.store(false, Ordering::Relaxed);
        self.pump.join().expect("all that it got was sound")
    }
}

/// Source, destination, destination port and payload of UDP over IPv6.
fn datagram(frame: &[u8]) -> Option<([Ipv6Addr; 2], u16, &[u8])> {
    let payload = frame.get(HEADERS..)?;
    let is_udp = frame[12..14] == [0x86, 0xdd] && frame[ETHERNET + 6] == 17;
    let address = |at: usize| {
        let octets = <[u8; 16]>::try_from(&frame[at..at + 16]);
        Ipv6Addr::from(octets.expect("16 octets"))
    };
    let port = u16::from_be_bytes([frame[56], frame[57]]);
    is_udp.then(|| ([address(22), address(38)], port, payload))
}

/// RFC 6221 §5.3.1, §6.1.1: link-address unspecified, the client's own addresses outside.
fn wrapped(client_frame: &[u8]) -> Option<Vec<u8>> {
    let (addresses, port, message) = datagram(client_frame)?;
    let [client, destination] = addresses;
    if (destination, port) != (ip("ff02::1:2"), 547) {
        return None;
    }
    let layer = Layer::new(RELAY_FORW, 0, Ipv6Addr::UNSPECIFIED, client)
        .option(18, PORT_NAME)
        .message(message);
    let ethernet = &client_frame[..ETHERNET];
    Some(frame(ethernet, addresses, [547, 547], &layer.build()))
}

/// RFC 6221 §6.2: to us only where it bears our Interface-Id.
fn unwrapped(relay_frame: &[u8]) -> Option<Vec<u8>> {
    let (addresses, port, message) = datagram(relay_frame)?;
    if port != 547 || message.first() != Some(&RELAY_REPL) {
        return None;
    }
    let [relay, client] = addresses;
    let layer = Layer::read(message);
    let shape = (layer.link, layer.peer, layer.find(18));
    assert_eq!(shape, (Ipv6Addr::UNSPECIFIED, client, Some(PORT_NAME)));
    assert!(relay.is_unicast_link_local(), "from {relay}");
    let ethernet = &relay_frame[..ETHERNET];
    Some(frame(ethernet, addresses, [547, 546], layer.inner()))
}
