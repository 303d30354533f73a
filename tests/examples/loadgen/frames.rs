//! The bytes on the wire: client messages as whole Ethernet frames, and the checksums of UDP over IPv6.
//! Knows no sockets and no time. RFC 8415 §7 and §21, RFC 8200 §8.1.

use std::net::Ipv6Addr;

/// More clients than addresses in the plan below are not simulated.
pub const MAX_CLIENTS: u32 = 65_536;
/// The most bytes of a frame here; everything offered and answered is far below the MTU.
pub const MAX_FRAME: usize = 1514;
/// Ethernet, IPv6 and UDP headers.
pub const HEADERS: usize = 14 + 40 + 8;
/// First bytes of every simulated client's MAC address.
const CLIENT_MAC: [u8; 2] = [0x02, 0xbe];
/// Where clients send to: All_DHCP_Relay_Agents_and_Servers.
const GROUP: Ipv6Addr = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 1, 2);
/// The stub server, and the relay's addresses toward it and toward clients: those of the bench's network.
const SERVER: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 0xc, 0, 0, 0, 0, 0x11);
const RELAY: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 0xc, 0, 0, 0, 0, 1);
const LINK_ADDRESS: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 0xa, 1, 0, 0, 0, 2);
/// The stub server's MAC address.
const SERVER_MAC: [u8; 6] = [0x02, 0xbe, 0xff, 0, 0, 0x11];
/// DUID of the stub server (DUID-LL).
const SERVER_DUID: [u8; 10] = [0, 3, 0, 1, 0x02, 0xbe, 0xff, 0, 0, 0x11];

/// DHCPv6 message types used here.
pub mod message {
    /// SOLICIT.
    pub const SOLICIT: u8 = 1;
    /// ADVERTISE.
    pub const ADVERTISE: u8 = 2;
    /// RENEW.
    pub const RENEW: u8 = 5;
    /// REPLY.
    pub const REPLY: u8 = 7;
    /// RELAY-FORW.
    pub const RELAY_FORW: u8 = 12;
    /// RELAY-REPL.
    pub const RELAY_REPL: u8 = 13;
}

/// DHCPv6 option codes used here.
pub mod option {
    /// Client Identifier.
    pub const CLIENT_ID: u16 = 1;
    /// Server Identifier.
    pub const SERVER_ID: u16 = 2;
    /// IA_NA.
    pub const IA_NA: u16 = 3;
    /// IA Address.
    pub const IA_ADDRESS: u16 = 5;
    /// Option Request.
    pub const OPTION_REQUEST: u16 = 6;
    /// Elapsed Time.
    pub const ELAPSED_TIME: u16 = 8;
    /// Relay Message.
    pub const RELAY_MESSAGE: u16 = 9;
    /// Interface-Id.
    pub const INTERFACE_ID: u16 = 18;
    /// IA_PD.
    pub const IA_PD: u16 = 25;
    /// IA Prefix.
    pub const IA_PREFIX: u16 = 26;
}

/// Appends one option.
pub fn put(out: &mut Vec<u8>, code: u16, data: &[u8]) {
    out.extend(code.to_be_bytes());
    out.extend((data.len() as u16).to_be_bytes());
    out.extend(data);
}

/// The MAC address of a client.
fn mac(client: u32) -> [u8; 6] {
    let [a, b, c, d] = client.to_be_bytes();
    [CLIENT_MAC[0], CLIENT_MAC[1], a, b, c, d]
}

/// The client whose DUID (DUID-LL of its MAC) this is.
pub fn client_of_duid(duid: &[u8]) -> Option<u32> {
    let number = duid.strip_prefix(&[0, 3, 0, 1, CLIENT_MAC[0], CLIENT_MAC[1]])?;
    number.try_into().ok().map(u32::from_be_bytes)
}

/// IA_NA and IA_PD of a client; with its lease in them where `lifetime` is given.
fn put_associations(out: &mut Vec<u8>, client: u32, lifetime: Option<u32>) {
    for (code, inner) in [
        (option::IA_NA, option::IA_ADDRESS),
        (option::IA_PD, option::IA_PREFIX),
    ] {
        let mut body = client.to_be_bytes().to_vec();
        body.extend([0; 8]);
        if let Some(lifetime) = lifetime {
            let mut lease = Vec::with_capacity(32);
            if inner == option::IA_ADDRESS {
                lease.extend(
                    (0x2001_0db8_000a_0001_8000_0000_0000_0000 | u128::from(client)).to_be_bytes(),
                );
            }
            lease.extend([lifetime.to_be_bytes(), lifetime.to_be_bytes()].concat());
            if inner == option::IA_PREFIX {
                lease.push(56);
                lease.extend(
                    ((0x2001_0db8_d000_0000 | u128::from(client) << 8) << 64).to_be_bytes(),
                );
            }
            put(&mut body, inner, &lease);
        }
        put(out, code, &body);
    }
}

/// A message of a client with transaction id 0, without the headers below DHCPv6.
fn client_message(kind: u8, client: u32) -> Vec<u8> {
    let mut out = vec![kind, 0, 0, 0];
    put(
        &mut out,
        option::CLIENT_ID,
        &[&[0, 3, 0, 1][..], &mac(client)].concat(),
    );
    if kind == message::RENEW {
        put(&mut out, option::SERVER_ID, &SERVER_DUID);
    }
    put(&mut out, option::ELAPSED_TIME, &[0, 0]);
    put(&mut out, option::OPTION_REQUEST, &[0, 23, 0, 24]);
    put_associations(&mut out, client, (kind == message::RENEW).then_some(3600));
    out
}

/// What the stub server answers to that message, with transaction id 0.
pub fn server_answer(kind: u8, client: u32) -> Vec<u8> {
    let answer = if kind == message::SOLICIT {
        message::ADVERTISE
    } else {
        message::REPLY
    };
    let mut out = vec![answer, 0, 0, 0];
    put(
        &mut out,
        option::CLIENT_ID,
        &[&[0, 3, 0, 1][..], &mac(client)].concat(),
    );
    put(&mut out, option::SERVER_ID, &SERVER_DUID);
    put_associations(&mut out, client, Some(7200));
    out
}

/// A client's message as a frame to ff02::1:2 with transaction id 0.
pub fn client_frame(kind: u8, client: u32) -> Vec<u8> {
    let way = Way {
        macs: [[0x33, 0x33, 0, 1, 0, 2], mac(client)],
        addresses: [link_local(client), GROUP],
        ports: [546, 547],
    };
    way.frame(&client_message(kind, client))
}

/// A RELAY-REPL with the Reply for a client, as a frame to the relay, which has not asked.
pub fn unasked_frame(relay_mac: [u8; 6], client: u32) -> Vec<u8> {
    let mut payload = vec![message::RELAY_REPL, 0];
    payload.extend(LINK_ADDRESS.octets());
    payload.extend(link_local(client).octets());
    let answer = server_answer(message::RENEW, client);
    put(&mut payload, option::RELAY_MESSAGE, &answer);
    let way = Way {
        macs: [relay_mac, SERVER_MAC],
        addresses: [SERVER, RELAY],
        ports: [547, 547],
    };
    way.frame(&payload)
}

/// The address that a client sends from.
fn link_local(client: u32) -> Ipv6Addr {
    Ipv6Addr::from(0xfe80_0000_0000_0000_0000_00be_0000_0000 | u128::from(client))
}

/// The headers of a UDP datagram.
struct Way {
    /// Destination and source.
    macs: [[u8; 6]; 2],
    /// Source and destination.
    addresses: [Ipv6Addr; 2],
    /// Source and destination.
    ports: [u16; 2],
}

impl Way {
    fn frame(&self, payload: &[u8]) -> Vec<u8> {
        let udp_bytes = ((payload.len() + 8) as u16).to_be_bytes();
        let mut frame = Vec::with_capacity(HEADERS + payload.len());
        frame.extend(self.macs.concat());
        frame.extend([0x86, 0xdd, 0x60, 0, 0, 0]);
        frame.extend(udp_bytes);
        frame.extend([17, 64]);
        frame.extend(self.addresses.map(|address| address.octets()).concat());
        frame.extend(self.ports.map(u16::to_be_bytes).concat());
        frame.extend(udp_bytes);
        frame.extend([0, 0]);
        frame.extend(payload);
        put_checksum(&mut frame);
        frame
    }
}

/// Writes a transaction id over the one that is there and corrects the checksum (RFC 1624).
pub fn set_transaction(frame: &mut [u8], transaction: u32) {
    let at = HEADERS;
    let word = |frame: &[u8], at: usize| u64::from(u16::from_be_bytes([frame[at], frame[at + 1]]));
    let before = word(frame, at) + word(frame, at + 2);
    frame[at + 1..at + 4].copy_from_slice(&transaction.to_be_bytes()[1..]);
    let after = word(frame, at) + word(frame, at + 2);
    let sum = u64::from(!(word(frame, 60) as u16)) + after + 2 * 0xffff - before;
    put_folded(frame, sum);
}

/// Computes the UDP checksum of a whole frame.
pub fn put_checksum(frame: &mut [u8]) {
    frame[60..62].fill(0);
    let udp = frame.len() - 54;
    let mut sum = 17 + udp as u64;
    let mut words = frame[22..].chunks_exact(2);
    sum += words
        .by_ref()
        .map(|word| u64::from(u16::from_be_bytes([word[0], word[1]])))
        .sum::<u64>();
    sum += words
        .remainder()
        .first()
        .map_or(0, |last| u64::from(*last) << 8);
    put_folded(frame, sum);
}

/// Stores a ones' complement sum as the UDP checksum, which is never 0.
fn put_folded(frame: &mut [u8], mut sum: u64) {
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    let checksum = match !(sum as u16) {
        0 => 0xffff,
        other => other,
    };
    frame[60..62].copy_from_slice(&checksum.to_be_bytes());
}
