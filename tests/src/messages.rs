//! Builders and readers of DHCPv6 messages (RFC 8415 §8, §9, §21), independent of the core's codec.
//!
//! Decides nothing: a builder writes what it is told, wrong values included, because tests need
//! those too. A reader panics on what it cannot read: in a test that is the finding.

use std::net::Ipv6Addr;

/// Client DUID of the test vectors (DUID-LL, 02:00:00:00:00:c3).
pub const CLIENT_DUID: &[u8] = &[0, 3, 0, 1, 2, 0, 0, 0, 0, 0xc3];
/// Server DUID of the test vectors.
pub const SERVER_DUID: &[u8] = &[0, 3, 0, 1, 2, 0, 0, 0, 0, 0x53];
/// Relay DUID of the test vectors.
pub const RELAY_DUID: &[u8] = &[0, 3, 0, 1, 2, 0, 0, 0, 0, 0xa1];

/// An address out of its text.
pub fn ip(text: &str) -> Ipv6Addr {
    text.parse().expect("tests write sound addresses")
}

/// Bytes out of hexadecimal; blanks are skipped.
pub fn hex(text: &str) -> Vec<u8> {
    let digits: Vec<u8> = text
        .chars()
        .filter(|c| !c.is_whitespace())
        .map(|c| c.to_digit(16).expect("hexadecimal digit") as u8)
        .collect();
    digits.chunks(2).map(|d| d[0] << 4 | d[1]).collect()
}

/// One option: code, length, data.
pub fn option(code: u16, data: &[u8]) -> Vec<u8> {
    let len = u16::try_from(data.len()).expect("option data fits 16 bits");
    [&code.to_be_bytes()[..], &len.to_be_bytes()[..], data].concat()
}

/// Status Code (13) with this code and a text.
pub fn status(code: u16) -> Vec<u8> {
    option(13, &[&code.to_be_bytes()[..], b"status"].concat())
}

/// IA Address (5).
pub fn iaaddr(address: &str, preferred: u32, valid: u32) -> Vec<u8> {
    let mut data = ip(address).octets().to_vec();
    data.extend(preferred.to_be_bytes());
    data.extend(valid.to_be_bytes());
    option(5, &data)
}

/// IA Prefix (26) of `prefix` = `address/length`, as written: host bits are kept.
pub fn iaprefix(prefix: &str, preferred: u32, valid: u32) -> Vec<u8> {
    iaprefix_with(prefix, preferred, valid, &[])
}

/// IA Prefix (26) holding options.
pub fn iaprefix_with(prefix: &str, preferred: u32, valid: u32, options: &[u8]) -> Vec<u8> {
    let (address, bits) = prefix.split_once('/').expect("address/length");
    let mut data = preferred.to_be_bytes().to_vec();
    data.extend(valid.to_be_bytes());
    data.push(bits.parse().expect("prefix length"));
    data.extend(ip(address).octets());
    data.extend(options);
    option(26, &data)
}

/// A client or server message under construction.
#[derive(Clone, Debug)]
pub struct Message {
    bytes: Vec<u8>,
}

impl Message {
    /// Header only.
    pub fn new(message_type: u8, xid: u32) -> Self {
        let [_, a, b, c] = xid.to_be_bytes();
        Self {
            bytes: vec![message_type, a, b, c],
        }
    }

    /// Appends an option.
    pub fn option(self, code: u16, data: &[u8]) -> Self {
        self.raw(&option(code, data))
    }

    /// Appends bytes as they are.
    pub fn raw(mut self, bytes: &[u8]) -> Self {
        self.bytes.extend(bytes);
        self
    }

    /// Client Identifier (1).
    pub fn client_id(self, duid: &[u8]) -> Self {
        self.option(1, duid)
    }

    /// Server Identifier (2).
    pub fn server_id(self, duid: &[u8]) -> Self {
        self.option(2, duid)
    }

    /// Status Code at top level.
    pub fn status(self, code: u16) -> Self {
        self.raw(&status(code))
    }

    /// Rapid Commit (14).
    pub fn rapid_commit(self) -> Self {
        self.option(14, &[])
    }

    /// IA_PD (25) with T1 and T2 zero.
    pub fn ia_pd(self, iaid: u32, inside: &[Vec<u8>]) -> Self {
        self.ia_timed(25, iaid, 0, 0, inside)
    }

    /// IA_NA (3) with T1 and T2 zero.
    pub fn ia_na(self, iaid: u32, inside: &[Vec<u8>]) -> Self {
        self.ia_timed(3, iaid, 0, 0, inside)
    }

    /// IA_TA (4), which has neither T1 nor T2.
    pub fn ia_ta(self, iaid: u32, inside: &[Vec<u8>]) -> Self {
        self.option(4, &[&iaid.to_be_bytes()[..], &inside.concat()].concat())
    }

    /// IA_NA (3) or IA_PD (25) with T1 and T2.
    pub fn ia_timed(self, code: u16, iaid: u32, t1: u32, t2: u32, inside: &[Vec<u8>]) -> Self {
        let mut data = iaid.to_be_bytes().to_vec();
        data.extend(t1.to_be_bytes());
        data.extend(t2.to_be_bytes());
        data.extend(inside.concat());
        self.option(code, &data)
    }

    /// The message.
    pub fn build(self) -> Vec<u8> {
        self.bytes
    }
}

/// A RELAY-FORW (12) or RELAY-REPL (13), written or read.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Layer {
    /// 12 or 13.
    pub message_type: u8,
    /// hop-count.
    pub hop_count: u8,
    /// link-address.
    pub link: Ipv6Addr,
    /// peer-address.
    pub peer: Ipv6Addr,
    /// Options in wire order, Relay Message included.
    pub options: Vec<(u16, Vec<u8>)>,
}

impl Layer {
    /// A layer without options.
    pub fn new(message_type: u8, hop_count: u8, link: Ipv6Addr, peer: Ipv6Addr) -> Self {
        Self {
            message_type,
            hop_count,
            link,
            peer,
            options: Vec::new(),
        }
    }

    /// Appends an option.
    pub fn option(mut self, code: u16, data: &[u8]) -> Self {
        self.options.push((code, data.to_vec()));
        self
    }

    /// Appends the Relay Message option (9).
    pub fn message(self, inner: &[u8]) -> Self {
        self.option(9, inner)
    }

    /// Its bytes.
    pub fn build(&self) -> Vec<u8> {
        let mut bytes = vec![self.message_type, self.hop_count];
        bytes.extend(self.link.octets());
        bytes.extend(self.peer.octets());
        for (code, data) in &self.options {
            bytes.extend(option(*code, data));
        }
        bytes
    }

    /// Reads one layer; panics where `bytes` is none.
    pub fn read(bytes: &[u8]) -> Self {
        assert!(
            bytes.len() >= 34,
            "a relay message has 34 octets: {bytes:02x?}"
        );
        assert!(
            matches!(bytes[0], 12 | 13),
            "type {} is no relay message",
            bytes[0]
        );
        let address = |at: usize| {
            Ipv6Addr::from(<[u8; 16]>::try_from(&bytes[at..at + 16]).expect("16 octets"))
        };
        Self {
            message_type: bytes[0],
            hop_count: bytes[1],
            link: address(2),
            peer: address(18),
            options: read_options(&bytes[34..]),
        }
    }

    /// The data of the only option of this code.
    pub fn find(&self, code: u16) -> Option<&[u8]> {
        let mut found = self.options.iter().filter(|(c, _)| *c == code);
        let first = found.next();
        assert!(found.next().is_none(), "option {code} twice: {self:?}");
        first.map(|(_, data)| data.as_slice())
    }

    /// What the Relay Message option holds.
    pub fn inner(&self) -> &[u8] {
        self.find(9).expect("a relay message holds option 9")
    }

    /// The option codes, sorted.
    pub fn codes(&self) -> Vec<u16> {
        let mut codes: Vec<u16> = self.options.iter().map(|(code, _)| *code).collect();
        codes.sort_unstable();
        codes
    }
}

/// The options in wire order; panics where they do not fill `bytes` exactly.
pub fn read_options(mut bytes: &[u8]) -> Vec<(u16, Vec<u8>)> {
    let mut options = Vec::new();
    while !bytes.is_empty() {
        assert!(bytes.len() >= 4, "half an option at the end: {bytes:02x?}");
        let len = usize::from(u16::from_be_bytes([bytes[2], bytes[3]]));
        let code = u16::from_be_bytes([bytes[0], bytes[1]]);
        assert!(
            bytes.len() >= 4 + len,
            "option {code} runs beyond its container"
        );
        options.push((code, bytes[4..4 + len].to_vec()));
        bytes = &bytes[4 + len..];
    }
    options
}

/// What a server answers to `forward` (RFC 8415 §18.4, §19.3): the same layers as RELAY-REPL with
/// Interface-Id (RLY-51) and Relay Source Port (RLY-76) copied, around `inner`.
pub fn answer(forward: &[u8], inner: &[u8]) -> Vec<u8> {
    let layer = Layer::read(forward);
    let mut back = Layer::new(13, layer.hop_count, layer.link, layer.peer);
    for (code, data) in &layer.options {
        if matches!(code, 18 | 135) {
            back = back.option(*code, data);
        }
    }
    if layer.inner().first() == Some(&12) {
        back.message(&answer(layer.inner(), inner)).build()
    } else {
        back.message(inner).build()
    }
}

/// The frames of `tests/vectors/leasequery.hex` with their names, in order.
pub fn leasequery_vectors() -> Vec<(&'static str, Vec<u8>)> {
    let lines = include_str!("../vectors/leasequery.hex").lines();
    let vectors = lines.filter(|line| line.starts_with('V'));
    vectors
        .filter_map(|line| line.split_once(' '))
        .map(|(name, digits)| (name, hex(digits)))
        .collect()
}

/// Test vectors of DHCPv6 relaying, decoded without complaint by Wireshark.
pub mod vectors {
    /// SOLICIT xid abcdef, one empty IA_PD.
    pub const R1: &str = "01abcdef 0001000a000300010200000000c3 000800020000 \
        0019000c000000010000000000000000";
    /// R1 relayed, with options 18, 79, 53.
    pub const R2: &str = "0c00 20010db8000100000000000000000001 \
        fe8000000000000000000000000000c3 0012000467652d30 004f000800010200000000c3 \
        0035000a000300010200000000a1 00090028 01abcdef0001000a000300010200000000c3\
        0008000200000019000c000000010000000000000000";
    /// RELAY-REPL with REPLY xid abcdf0: IA_PD, 2001:db8:100::/56, 3600/7200 s.
    pub const R3: &str = "0d00 20010db8000100000000000000000001 \
        fe8000000000000000000000000000c3 0012000467652d30 0009004d 07abcdf0 \
        0001000a000300010200000000c3 0002000a00030001020000000053 0019002900000001 00000708 \
        00000b40 001a0019 00000e10 00001c20 38 20010db8010000000000000000000000";
    /// R1 as an LDRA sends it (Interface-Id "p7").
    pub const R4: &str = "0c00 00000000000000000000000000000000 \
        fe8000000000000000000000000000c3 001200027037 00090028 \
        01abcdef0001000a000300010200000000c30008000200000019000c000000010000000000000000";
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn message_builder_writes_vector_r1() {
        let solicit = Message::new(1, 0x00ab_cdef)
            .client_id(CLIENT_DUID)
            .option(8, &[0, 0])
            .ia_pd(1, &[]);

        assert_eq!(solicit.build(), hex(vectors::R1));
    }

    #[test]
    fn layer_builder_writes_vector_r2_and_reads_it_back() {
        let layer = Layer::new(12, 0, ip("2001:db8:1::1"), ip("fe80::c3"))
            .option(18, b"ge-0")
            .option(79, &hex("0001 0200000000c3"))
            .option(53, RELAY_DUID)
            .message(&hex(vectors::R1));

        assert_eq!(layer.build(), hex(vectors::R2));
        assert_eq!(Layer::read(&hex(vectors::R2)), layer);
    }

    #[test]
    fn answer_to_vector_r2_is_vector_r3() {
        let reply = Message::new(7, 0x00ab_cdf0)
            .client_id(CLIENT_DUID)
            .server_id(SERVER_DUID)
            .ia_timed(
                25,
                1,
                1800,
                2880,
                &[iaprefix("2001:db8:100::/56", 3600, 7200)],
            )
            .build();

        assert_eq!(answer(&hex(vectors::R2), &reply), hex(vectors::R3));
    }

    #[test]
    fn answer_to_nested_layers_mirrors_each_of_them() {
        let outer = Layer::new(12, 1, ip("2001:db8:1::1"), ip("fe80::c3"))
            .option(18, b"ge-0")
            .message(&hex(vectors::R4));

        let back = Layer::read(&answer(&outer.build(), &[7, 0, 0, 1]));
        let inner = Layer::read(back.inner());

        assert_eq!((back.message_type, back.hop_count), (13, 1));
        assert_eq!((inner.message_type, inner.find(18)), (13, Some(&b"p7"[..])));
        assert_eq!(inner.inner(), [7, 0, 0, 1]);
    }

    /// The inner messages that tests feed are sound to a codec that is not ours.
    #[test]
    fn message_builder_writes_what_dhcproto_reads() {
        use dhcproto::{Decodable, Decoder, Encodable};
        let bytes = Message::new(7, 0x0001_0203)
            .client_id(CLIENT_DUID)
            .server_id(SERVER_DUID)
            .ia_na(1, &[iaaddr("2001:db8:1::77", 60, 120)])
            .ia_pd(2, &[iaprefix("2001:db8:100::/56", 60, 120)])
            .build();

        let read = dhcproto::v6::Message::decode(&mut Decoder::new(&bytes)).unwrap();

        assert_eq!(read.to_vec().unwrap(), bytes);
    }
}
