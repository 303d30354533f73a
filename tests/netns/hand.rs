//! What no real client or server does on request: a socket on a node of the lab, and a client made of it that
//! says what the test wants. Decides how an exchange with the real servers goes; knows nothing of the relay.

use relay_tests::messages::{Layer, Message, ip, read_options};
use std::net::{Ipv6Addr, SocketAddr, SocketAddrV6, UdpSocket};
use std::time::{Duration, Instant};
use xtask::lab::{Lab, wait_for};

/// ff02::1:2.
pub(crate) const RELAYS: &str = "ff02::1:2";
const SOLICIT: u8 = 1;
const ADVERTISE: u8 = 2;
const REQUEST: u8 = 3;
const REPLY: u8 = 7;
const RELEASE: u8 = 8;
const DECLINE: u8 = 9;
/// Kea answers within milliseconds; a busy machine takes longer.
const PATIENCE: Duration = Duration::from_secs(5);

/// Runs `work` in the network namespace of a node; what it opens stays there.
pub(crate) fn on_node<T: Send>(lab: &Lab, node: &str, work: impl FnOnce() -> T + Send) -> T {
    let path = format!("/run/netns/{}", lab.namespace(node));
    let namespace = std::fs::File::open(&path).expect("the lab's namespaces have names");
    std::thread::scope(|scope| {
        let inside = scope.spawn(move || {
            nix::sched::setns(namespace, nix::sched::CloneFlags::CLONE_NEWNET)
                .expect("root may enter a namespace");
            work()
        });
        inside
            .join()
            .unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    })
}

/// A UDP socket on an interface of a node.
pub(crate) struct Hand {
    socket: UdpSocket,
    interface: u32,
}

impl Hand {
    /// Bound to `address` (`::` for any) and `port`, once the interface has its link-local address.
    pub(crate) fn on(lab: &Lab, node: &str, interface: &str, address: &str, port: u16) -> Self {
        let words = [
            "ip", "-6", "addr", "show", "dev", interface, "scope", "link",
        ];
        wait_for("a link-local address", PATIENCE, || {
            let shown = lab.exec(node, &words).ok()?;
            shown.contains("inet6 fe80::").then_some(())
        })
        .unwrap_or_else(|error| panic!("{node} {interface}: {error}"));
        let (socket, interface) = on_node(lab, node, || {
            let socket = UdpSocket::bind((ip(address), port)).expect("nobody else has the port");
            let index = nix::net::if_::if_nametoindex(interface).expect("the interface is there");
            (socket, index)
        });
        Self { socket, interface }
    }

    /// Sends to an address and port as seen from the interface.
    pub(crate) fn say(&self, address: &str, port: u16, bytes: &[u8]) {
        let to = SocketAddrV6::new(ip(address), port, 0, self.interface);
        self.socket.send_to(bytes, to).expect("the datagram leaves");
    }

    /// The next datagram and who sent it; `None` when `patience` is over.
    pub(crate) fn hear(&self, patience: Duration) -> Option<(Vec<u8>, SocketAddr)> {
        let patience = patience.max(Duration::from_millis(1));
        self.socket
            .set_read_timeout(Some(patience))
            .expect("a time-out is accepted");
        let mut bytes = vec![0; 65_536];
        let (len, from) = self.socket.recv_from(&mut bytes).ok()?;
        bytes.truncate(len);
        Some((bytes, from))
    }
}

/// What a server granted.
#[derive(Clone, Debug)]
pub(crate) struct Granted {
    /// The server's DUID.
    pub(crate) server_id: Vec<u8>,
    /// Its IA options (code, data), as the server wrote them.
    pub(crate) ias: Vec<(u16, Vec<u8>)>,
}

impl Granted {
    /// Of an Advertise or Reply; `None` where it has no Server-Id.
    fn read(message: &[u8]) -> Option<(Self, Option<u8>)> {
        let options = read_options(&message[4..]);
        let find = |code| options.iter().find(|(it, _)| *it == code);
        let (_, server_id) = find(2)?.clone();
        let preference = find(7).map(|(_, data)| data[0]);
        let is_ia = |(code, _): &&(u16, Vec<u8>)| matches!(code, 3 | 25);
        let ias = options.iter().filter(is_ia).cloned().collect();
        Some((Self { server_id, ias }, preference))
    }

    /// Leased addresses as `ADDRESS/128`, then prefixes, in the order of the message.
    pub(crate) fn destinations(&self) -> Vec<String> {
        self.lifetimes().into_iter().map(|(it, _)| it).collect()
    }

    /// The same, with the valid lifetime of each in seconds.
    pub(crate) fn lifetimes(&self) -> Vec<(String, u32)> {
        let leases = self
            .ias
            .iter()
            .flat_map(|(_, data)| read_options(&data[12..]));
        let secs = |data: &[u8]| u32::from_be_bytes(data.try_into().expect("4 octets"));
        leases
            .filter_map(|(code, data)| match code {
                5 => {
                    let destination = format!("{}/128", address(&data[..16]));
                    Some((destination, secs(&data[20..24])))
                }
                26 => {
                    let destination = format!("{}/{}", address(&data[9..25]), data[8]);
                    Some((destination, secs(&data[4..8])))
                }
                _ => None,
            })
            .collect()
    }
}

fn address(bytes: &[u8]) -> Ipv6Addr {
    Ipv6Addr::from(<[u8; 16]>::try_from(bytes).expect("16 octets"))
}

/// A client by hand, on a node's interface; behind an LDRA where it has an Interface-Id of one.
pub(crate) struct HandClient {
    hand: Hand,
    /// Its DUID; a forger takes another's.
    pub(crate) duid: Vec<u8>,
    ldra: Option<(Vec<u8>, Ipv6Addr)>,
    xid: u32,
}

impl HandClient {
    /// On port 546 of the interface, with a DUID of its own.
    pub(crate) fn on(lab: &Lab, node: &str, interface: &str) -> Self {
        let hand = Hand::on(lab, node, interface, "::", 546);
        Self::with(hand, node, None)
    }

    /// The same, with an LDRA (RFC 6221) in between: relayed on port 547, from the client's own `link_local`.
    pub(crate) fn behind_ldra(lab: &Lab, node: &str, port_name: &[u8], link_local: &str) -> Self {
        let hand = Hand::on(lab, node, "eth0", "::", 547);
        Self::with(hand, node, Some((port_name.to_vec(), ip(link_local))))
    }

    fn with(hand: Hand, node: &str, ldra: Option<(Vec<u8>, Ipv6Addr)>) -> Self {
        Self {
            hand,
            duid: [&[0, 3, 0, 1, 2][..], node.as_bytes()].concat(),
            ldra,
            xid: 0x00ab_0000,
        }
    }

    /// A message of this client, with a new transaction-id.
    pub(crate) fn message(&mut self, message_type: u8) -> Message {
        self.xid += 1;
        Message::new(message_type, self.xid)
            .client_id(&self.duid)
            .option(8, &[0, 0])
            // Kea says its preference only where it is asked for.
            .option(6, &[0, 7])
    }

    /// Sends it to the relays of the link.
    pub(crate) fn say(&self, message: &[u8]) {
        match &self.ldra {
            None => self.hand.say(RELAYS, 547, message),
            Some((port_name, link_local)) => {
                let layer = Layer::new(12, 0, Ipv6Addr::UNSPECIFIED, *link_local)
                    .option(18, port_name)
                    .message(message);
                self.hand.say(RELAYS, 547, &layer.build());
            }
        }
    }

    /// The next answer to the last message, out of the LDRA's layer where there is one.
    pub(crate) fn hear(&self, patience: Duration) -> Option<Vec<u8>> {
        let until = Instant::now() + patience;
        loop {
            let left = until.saturating_duration_since(Instant::now());
            let (bytes, _) = self.hand.hear(left)?;
            let bytes = match &self.ldra {
                None => bytes,
                Some((port_name, link_local)) => {
                    let layer = Layer::read(&bytes);
                    let shape = (layer.message_type, layer.link, layer.peer, layer.find(18));
                    let expected = (13, Ipv6Addr::UNSPECIFIED, *link_local, Some(&port_name[..]));
                    assert_eq!(shape, expected, "what the LDRA gets");
                    layer.inner().to_vec()
                }
            };
            if bytes[1..4] == self.xid.to_be_bytes()[1..] {
                return Some(bytes);
            }
        }
    }

    fn ask(&self, message: &[u8], answer: u8) -> Granted {
        self.try_ask(message, answer, PATIENCE)
            .expect("a server answers")
    }

    /// Sends a message and waits for an answer of this type; of all offers, for that of s1, whose preference
    /// is the highest.
    fn try_ask(&self, message: &[u8], answer: u8, patience: Duration) -> Option<Granted> {
        self.say(message);
        let until = Instant::now() + patience;
        loop {
            let left = until.saturating_duration_since(Instant::now());
            let bytes = self.hear(left)?;
            let (granted, preference) = Granted::read(&bytes).expect("an answer has a Server-Id");
            if bytes[0] == answer && (answer != ADVERTISE || preference == Some(255)) {
                return Some(granted);
            }
        }
    }

    /// What s1 offers for an address and this many IA_PDs.
    pub(crate) fn solicit(&mut self, prefixes: u32) -> Granted {
        let solicit = self.message(SOLICIT).ia_na(1, &[]);
        let solicit = (1..=prefixes).fold(solicit, |message, iaid| message.ia_pd(iaid, &[]));
        self.ask(&solicit.build(), ADVERTISE)
    }

    /// Takes an offer.
    pub(crate) fn request(&mut self, offered: &Granted) -> Granted {
        let request = self.with_ias(REQUEST, offered);
        self.ask(&request, REPLY)
    }

    /// An address and this many prefixes, by Solicit, Advertise, Request and Reply.
    pub(crate) fn lease(&mut self, prefixes: u32) -> Granted {
        let offered = self.solicit(prefixes);
        self.request(&offered)
    }

    /// An address and a prefix, or nothing where an answer takes longer than this.
    pub(crate) fn try_lease(&mut self, patience: Duration) -> Option<Granted> {
        let solicit = self.message(SOLICIT).ia_na(1, &[]).ia_pd(1, &[]);
        let offered = self.try_ask(&solicit.build(), ADVERTISE, patience)?;
        let request = self.with_ias(REQUEST, &offered);
        self.try_ask(&request, REPLY, patience)
    }

    /// Sends a Release for all that was granted.
    pub(crate) fn release(&mut self, granted: &Granted) {
        let release = self.with_ias(RELEASE, granted);
        self.say(&release);
    }

    /// Sends a Decline for the addresses of what was granted.
    pub(crate) fn decline(&mut self, granted: &Granted) {
        let mut addresses = granted.clone();
        addresses.ias.retain(|(code, _)| *code == 3);
        let decline = self.with_ias(DECLINE, &addresses);
        self.say(&decline);
    }

    fn with_ias(&mut self, message_type: u8, granted: &Granted) -> Vec<u8> {
        let message = self.message(message_type).server_id(&granted.server_id);
        let add = |message: Message, (code, data): &(u16, Vec<u8>)| message.option(*code, data);
        granted.ias.iter().fold(message, add).build()
    }
}
