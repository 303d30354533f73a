//! Frames of subscribers and of the Internet, put together by hand.

use relay_common::net::{TPID_8021AD, TPID_8021Q};
use relay_tests::messages::ip;

/// The client whose bindings are in the maps.
pub const CLIENT_MAC: [u8; 6] = [2, 0, 0, 0, 0, 1];
/// Another client on the same link.
pub const OTHER_MAC: [u8; 6] = [2, 0, 0, 0, 0, 2];
/// The router's MAC on the access side.
pub const ACCESS_MAC: [u8; 6] = [2, 0, 0, 0, 0, 0xfe];
/// The router's MAC on the core side.
pub const CORE_MAC: [u8; 6] = [2, 0, 0, 0, 0xc0, 0xfe];
/// The next router's MAC on the core side.
pub const UPSTREAM_MAC: [u8; 6] = [2, 0, 0, 0, 0xc0, 1];

/// A packet in a frame; the fields that a case changes.
#[derive(Clone)]
pub struct Sent {
    pub destination_mac: [u8; 6],
    pub source_mac: [u8; 6],
    pub tags: Vec<(u16, u16)>,
    pub source: &'static str,
    pub destination: &'static str,
    pub next_header: u8,
    pub hop_limit: u8,
    pub payload: Vec<u8>,
}

impl Sent {
    /// UDP of a subscriber to the Internet.
    pub fn up(source: &'static str) -> Self {
        Self {
            destination_mac: ACCESS_MAC,
            source_mac: CLIENT_MAC,
            tags: Vec::new(),
            source,
            destination: "2001:db8:f::1",
            next_header: 17,
            hop_limit: 64,
            payload: udp(5000, 443, 32),
        }
    }

    /// UDP of the Internet to a subscriber.
    pub fn down(destination: &'static str) -> Self {
        Self {
            destination_mac: CORE_MAC,
            source_mac: UPSTREAM_MAC,
            source: "2001:db8:f::1",
            destination,
            ..Self::up("::")
        }
    }

    /// A neighbour advertisement for `target`.
    pub fn advertisement(source: &'static str, target: &str) -> Self {
        let mut payload = vec![136, 0, 0, 0, 0x60, 0, 0, 0];
        payload.extend(ip(target).octets());
        Self {
            next_header: 58,
            hop_limit: 255,
            destination: "ff02::1",
            destination_mac: [0x33, 0x33, 0, 0, 0, 1],
            payload,
            ..Self::up(source)
        }
    }

    /// The same behind a single tag.
    pub fn tagged(mut self, vid: u16) -> Self {
        self.tags = vec![(TPID_8021Q, vid)];
        self
    }

    /// The same behind two tags.
    pub fn double_tagged(mut self, outer: u16, inner: u16) -> Self {
        self.tags = vec![(TPID_8021AD, outer), (TPID_8021Q, inner)];
        self
    }

    /// The same behind so many extension headers of a kind.
    pub fn behind(mut self, kind: u8, count: usize) -> Self {
        let inside = self.next_header;
        for index in 0..count {
            let next = if index == 0 { inside } else { kind };
            let mut header = vec![next, 0, 1, 4, 0, 0, 0, 0];
            header.append(&mut self.payload);
            self.payload = header;
        }
        self.next_header = kind;
        self
    }

    /// As bytes.
    pub fn frame(&self) -> Vec<u8> {
        let mut frame = Vec::new();
        frame.extend(self.destination_mac);
        frame.extend(self.source_mac);
        for (tpid, tci) in &self.tags {
            frame.extend(tpid.to_be_bytes());
            frame.extend(tci.to_be_bytes());
        }
        frame.extend([0x86, 0xdd, 0x60, 0, 0, 0]);
        let length = u16::try_from(self.payload.len()).expect("a packet");
        frame.extend(length.to_be_bytes());
        frame.extend([self.next_header, self.hop_limit]);
        frame.extend(ip(self.source).octets());
        frame.extend(ip(self.destination).octets());
        frame.extend(&self.payload);
        frame
    }
}

/// UDP with a payload of zeros.
pub fn udp(source: u16, destination: u16, octets: u16) -> Vec<u8> {
    let length = octets + 8;
    let mut datagram = Vec::new();
    for number in [source, destination, length, 0] {
        datagram.extend(number.to_be_bytes());
    }
    datagram.resize(usize::from(length), 0);
    datagram
}
