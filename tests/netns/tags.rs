//! Clients behind VLAN tags for which r1 has no interface: their DHCP goes both ways through each way into the
//! daemon, with the tags that it came with. The client is made by hand on `gen`, because no machine here need have an
//! 802.1Q module; the server is the real one.

use std::net::Ipv6Addr;
use std::time::Duration;

use relay_tests::messages::Message;
use xtask::lab::{Lab, Lifetimes, wait_for};

use crate::capture::{configuration, json};
use crate::harness::lab;
use crate::pcap::frames;
use crate::wired::{Wire, frame, sum};

const GROUP_MAC: [u8; 6] = [0x33, 0x33, 0, 1, 0, 2];
const GROUP: [u8; 16] = [0xff, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0, 2];
const CTAG: u16 = 0x8100;
const STAG: u16 = 0x88a8;

const SOLICIT: u8 = 1;
const ADVERTISE: u8 = 2;
const REQUEST: u8 = 3;
const REPLY: u8 = 7;

/// A client behind tags.
pub(crate) struct Tagged {
    number: u8,
    /// EtherType and VLAN identifier of each tag, outermost first.
    tags: &'static [(u16, u16)],
}

pub(crate) const CLIENTS: [Tagged; 2] = [
    Tagged {
        number: 0x71,
        tags: &[(CTAG, 100)],
    },
    Tagged {
        number: 0x72,
        tags: &[(STAG, 200), (CTAG, 300)],
    },
];

impl Tagged {
    pub(crate) fn mac(&self) -> [u8; 6] {
        [2, 0, 0, 0, 0, self.number]
    }

    fn address(&self) -> [u8; 16] {
        let [a, b, c, d, e, f] = self.mac();
        [
            0xfe,
            0x80,
            0,
            0,
            0,
            0,
            0,
            0,
            a ^ 2,
            b,
            c,
            0xff,
            0xfe,
            d,
            e,
            f,
        ]
    }

    fn duid(&self) -> Vec<u8> {
        [&[0, 3, 0, 1][..], &self.mac()].concat()
    }

    fn xid(&self, kind: u8) -> u32 {
        u32::from(kind) << 8 | u32::from(self.number)
    }

    fn vlans(&self) -> Vec<u16> {
        self.tags.iter().map(|(_, vid)| *vid).collect()
    }

    /// The EtherTypes and tags as they stand behind the MAC addresses.
    pub(crate) fn tagged_ipv6(&self) -> Vec<u8> {
        let tags = self.tags.iter().flat_map(|&(tpid, vid)| [tpid, vid]);
        tags.chain([0x86dd]).flat_map(u16::to_be_bytes).collect()
    }

    /// A message of this client to all relay agents, as a frame.
    fn frame(&self, message: &[u8]) -> Vec<u8> {
        let ethernet = [&GROUP_MAC[..], &self.mac(), &self.tagged_ipv6()].concat();
        let addresses = [self.address(), GROUP].map(Ipv6Addr::from);
        frame(&ethernet, addresses, [546, 547], message)
    }

    fn solicit(&self) -> Vec<u8> {
        Message::new(SOLICIT, self.xid(SOLICIT))
            .client_id(&self.duid())
            .option(8, &[0, 0])
            .ia_na(1, &[])
            .ia_pd(1, &[])
            .build()
    }

    /// Asks for what the ADVERTISE offers: both identifiers and the IAs as they came.
    fn request(&self, advertise: &[u8]) -> Vec<u8> {
        let message = Message::new(REQUEST, self.xid(REQUEST)).option(8, &[0, 0]);
        options(advertise)
            .into_iter()
            .filter(|(code, _)| [1, 2, 3, 25].contains(code))
            .fold(message, |message, (code, data)| message.option(code, data))
            .build()
    }

    /// The message in a frame to this client, port 546, which must bear its tags and a sound checksum.
    fn read<'a>(&self, frame: &'a [u8]) -> Option<&'a [u8]> {
        let tagged = self.tagged_ipv6();
        let behind = frame.get(12..)?.strip_prefix(tagged.as_slice())?;
        let (ip, udp) = behind.split_at_checked(40)?;
        if frame[..6] != self.mac() || udp.get(2..4)? != 546u16.to_be_bytes() {
            return None;
        }
        assert_eq!(ip[24..], self.address(), "to the client's address");
        let udp_bytes = u16::try_from(udp.len()).expect("a frame").to_be_bytes();
        assert_eq!(sum(&[&ip[8..], &[0, 17], &udp_bytes, udp]), 0xffff);
        udp.get(8..)
    }

    /// Takes a lease of an address and a prefix; returns the prefix's first address.
    pub(crate) fn lease_prefix(&self, lab: &Lab, wire: &Wire) -> Ipv6Addr {
        let advertise = self.exchange(lab, wire, &self.solicit(), ADVERTISE);
        let reply = self.exchange(lab, wire, &self.request(&advertise), REPLY);
        let options = options(&reply);
        let (_, delegation) = options.iter().find(|it| it.0 == 25).expect("an IA_PD");
        let prefix = &delegation[12 + 4 + 9..][..16];
        Ipv6Addr::from(<[u8; 16]>::try_from(prefix).expect("16 octets"))
    }

    /// Sends, and waits for the answer of this type to it.
    fn exchange(&self, lab: &Lab, wire: &Wire, message: &[u8], answer: u8) -> Vec<u8> {
        wire.send(&self.frame(message));
        let what = format!("answer {answer} behind tags {:?}", self.vlans());
        wait_for(&what, Duration::from_secs(5), || {
            let frames = frames(lab, "gen");
            let mut messages = frames.iter().filter_map(|frame| self.read(frame));
            let found =
                messages.find(|it| it.first() == Some(&answer) && it[1..4] == message[1..4]);
            found.map(<[u8]>::to_vec)
        })
        .unwrap_or_else(|error| panic!("{error}\n{}", lab.log("r1.twinrelay")))
    }
}

/// The options of a client's or server's message.
fn options(message: &[u8]) -> Vec<(u16, &[u8])> {
    let mut options = Vec::new();
    let mut rest = &message[4..];
    while let Some((head, behind)) = rest.split_at_checked(4) {
        let len = usize::from(u16::from_be_bytes([head[2], head[3]]));
        let (data, next) = behind.split_at_checked(len).expect("a whole option");
        options.push((u16::from_be_bytes([head[0], head[1]]), data));
        rest = next;
    }
    options
}

/// Frames to `gen` by tcpdump, which shows tags where they were.
pub(crate) fn start_capture(lab: &mut Lab) {
    let file = lab.dir().join("gen/wire.pcap").display().to_string();
    let words = "tcpdump -Z root -U --immediate-mode -i eth0 -Q in -s 0 -w";
    let mut words: Vec<&str> = words.split(' ').collect();
    words.push(&file);
    lab.spawn("gen", &words).expect("tcpdump starts");
    wait_for("tcpdump", Duration::from_secs(5), || {
        lab.log("gen.tcpdump").contains("listening").then_some(())
    })
    .expect("tcpdump listens");
}

fn tagged_clients_are_served(capture: &str) {
    let Some(mut lab) = lab(&configuration(capture, ""), Lifetimes::default()) else {
        return;
    };
    start_capture(&mut lab);
    let wire = Wire::open(&lab, "gen", "eth0", false);

    for client in &CLIENTS {
        let advertise = client.exchange(&lab, &wire, &client.solicit(), ADVERTISE);
        let request = client.request(&advertise);
        let reply = client.exchange(&lab, &wire, &request, REPLY);

        let (asked, given) = (options(&request), options(&reply));
        for code in [1, 2, 3, 25] {
            let of =
                |list: &[(u16, &[u8])]| list.iter().find(|it| it.0 == code).map(|it| it.1.to_vec());
            let option = of(&given);
            assert!(option.is_some(), "option {code}");
            assert_eq!(
                option,
                of(&asked),
                "option {code}: the lease that was offered"
            );
        }
        expect_shown(&lab, client);
    }
}

/// Both leases, with their tags, and why there is no route.
fn expect_shown(lab: &Lab, client: &Tagged) {
    let bindings = json(lab, &["bindings"]);
    let duid = client
        .duid()
        .iter()
        .map(|it| format!("{it:02x}"))
        .collect::<Vec<_>>();
    let duid = duid.join(":");
    let rows: Vec<_> = bindings["bindings"]
        .as_array()
        .expect("a list")
        .iter()
        .filter(|row| row["duid"] == duid.as_str())
        .collect();
    assert_eq!(rows.len(), 2, "IA_NA and IA_PD: {bindings}");
    for row in rows {
        assert_eq!(row["vlans"], serde_json::json!(client.vlans()), "{row}");
        assert_eq!(row["state"], "active", "{row}");
        assert_eq!(row["route"], "failed", "{row}");
        assert_eq!(row["route_error"], "no interface for VLAN", "{row}");
    }
}

#[test]
fn tagged_clients_are_served_through_native_xdp() {
    tagged_clients_are_served("xdp");
}

#[test]
fn tagged_clients_are_served_through_generic_xdp() {
    tagged_clients_are_served("xdp-generic");
}

#[test]
fn tagged_clients_are_served_through_sockets() {
    tagged_clients_are_served("socket");
}
