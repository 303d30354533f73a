//! The other end of a session that somebody opens to the relay on the bench: a requestor whose
//! messages a test writes itself, right or wrong, and the relay's answers as text.
//!
//! ```text
//! reply 2 DataMissing +80
//! data 2 DUID [2001:db8:100::/56 1800/3600] 5s ago via 2001:db8:1::1 fe80::c3 ge-0 of 2001:db8:ff::1 +10
//! done 2 QueryTerminated +90
//! tls-reply 1
//! ```
//! The last number is the base-time, in seconds since the bench's start.

use std::fmt::Write as _;
use std::net::Ipv6Addr;

use relay_core::alq::{CloseReason, ConnectionId, LeasequeryEffect, LeasequeryInput};
use relay_core::input::Input;

use crate::bench::Bench;
use crate::mesh::{AHEAD_NANOS, address};
use crate::messages::{Layer, Message, option, read_options};

/// DUID of the requestor: that of test vector V4, turned.
pub const ASKER_DUID: &[u8] = &[0, 3, 0, 1, 2, 0, 0, 0, 0, 0xb2];
/// What the bench's clock shows at its start, in seconds since 2000.
pub const NOW: u32 = (AHEAD_NANOS / 1_000_000_000) as u32 + 1000 - 946_684_800;

/// A connection to the relay.
#[derive(Clone, Copy, Debug)]
pub struct Asking(pub ConnectionId);

impl Bench {
    /// Peer 1 connects, as connection `n`.
    pub fn connects(&mut self, n: u32) -> Asking {
        self.connects_from(n, address(1))
    }

    /// Somebody connects from this address, as connection `n`.
    pub fn connects_from(&mut self, n: u32, from: Ipv6Addr) -> Asking {
        let connection = ConnectionId(2 * n);
        self.lq(LeasequeryInput::Accepted { connection, from });
        Asking(connection)
    }

    /// An input of Leasequery.
    pub fn lq(&mut self, input: LeasequeryInput<'_>) {
        self.input(Input::Leasequery(input));
    }
}

/// LQ_QUERY (44).
pub fn lq_query(query_type: u8, link_address: &str, options: &[u8]) -> Vec<u8> {
    let link: Ipv6Addr = link_address.parse().expect("an address");
    option(44, &[&[query_type][..], &link.octets(), options].concat())
}

/// An Option Request (6).
pub fn oro(codes: &[u16]) -> Vec<u8> {
    let codes: Vec<u8> = codes.iter().flat_map(|code| code.to_be_bytes()).collect();
    option(6, &codes)
}

/// The client identifier of the asker.
pub fn asker() -> Vec<u8> {
    option(1, ASKER_DUID)
}

/// LQ_START_TIME (101), so many seconds after the bench's start.
pub fn start_time(after: i32) -> Vec<u8> {
    option(101, &NOW.wrapping_add_signed(after).to_be_bytes())
}

/// LQ_END_TIME (102), likewise.
pub fn end_time(after: i32) -> Vec<u8> {
    option(102, &NOW.wrapping_add_signed(after).to_be_bytes())
}

impl Asking {
    /// A message comes, whole.
    pub fn say(self, bench: &mut Bench, message_type: u8, xid: u32, options: &[u8]) {
        let frame = framed(message_type, xid, options);
        self.feed(bench, &frame);
    }

    /// Bytes come.
    pub fn feed(self, bench: &mut Bench, bytes: &[u8]) {
        bench.lq(LeasequeryInput::Received {
            connection: self.0,
            bytes,
        });
    }

    /// ACTIVELEASEQUERY with CLIENTID, an Option Request for base time and relay data, `more`.
    pub fn subscribe(self, bench: &mut Bench, xid: u32, more: &[u8]) {
        let options = [asker(), oro(&[100, 47]), more.to_vec()].concat();
        self.say(bench, 22, xid, &options);
    }

    /// LEASEQUERY with CLIENTID, an Option Request for base time, `query`.
    pub fn query(self, bench: &mut Bench, xid: u32, query: &[u8]) {
        let options = [asker(), oro(&[100]), query.to_vec()].concat();
        self.say(bench, 14, xid, &options);
    }

    /// The next buffer that the relay sends here, which the kernel has not taken yet.
    pub fn buffer(self, bench: &mut Bench) -> Option<Vec<u8>> {
        let at = bench.leasequery.iter().position(|(effect, _)| {
            matches!(effect, LeasequeryEffect::Send { connection, .. } if *connection == self.0)
        })?;
        bench.leasequery.remove(at).map(|(_, bytes)| bytes)
    }

    /// The kernel has taken it.
    pub fn writable(self, bench: &mut Bench) {
        bench.lq(LeasequeryInput::Writable { connection: self.0 });
    }

    /// All that the relay says here, taken by the kernel at once, and what it has left to say
    /// without any time passing.
    pub fn hears(self, bench: &mut Bench) -> Vec<String> {
        let mut lines = Vec::new();
        loop {
            bench.advance(core::time::Duration::ZERO);
            let Some(bytes) = self.buffer(bench) else {
                return lines;
            };
            lines.extend(texts(&bytes));
            self.writable(bench);
        }
    }

    /// What it hears must be this.
    #[track_caller]
    pub fn expect(self, bench: &mut Bench, lines: &[&str]) {
        assert_eq!(self.hears(bench), lines);
    }

    /// Why the relay closed the connection, where it has.
    pub fn closed(self, bench: &mut Bench) -> Option<CloseReason> {
        let mut effects = bench.leasequery.iter();
        effects.find_map(|(effect, _)| match effect {
            LeasequeryEffect::Close { connection, reason } if *connection == self.0 => {
                Some(*reason)
            }
            _ => None,
        })
    }

    /// Whether the relay wants TLS to begin.
    pub fn starts_tls(self, bench: &Bench) -> bool {
        let mut effects = bench.leasequery.iter();
        effects.any(|(effect, _)| {
            matches!(effect, LeasequeryEffect::StartTls { connection, .. } if *connection == self.0)
        })
    }
}

/// A message behind its size.
pub fn framed(message_type: u8, xid: u32, options: &[u8]) -> Vec<u8> {
    let message = Message::new(message_type, xid).raw(options).build();
    let size = u16::try_from(message.len()).expect("a message on TCP");
    [&size.to_be_bytes()[..], &message].concat()
}

/// Whole frames as text.
pub fn texts(mut bytes: &[u8]) -> Vec<String> {
    let mut lines = Vec::new();
    while !bytes.is_empty() {
        let (size, rest) = bytes.split_at(2);
        let (message, rest) = rest.split_at(usize::from(u16::from_be_bytes([size[0], size[1]])));
        lines.push(text(message));
        bytes = rest;
    }
    lines
}

fn text(message: &[u8]) -> String {
    let name = match message[0] {
        7 => "tls-reply",
        15 => "reply",
        16 => "done",
        17 => "data",
        _ => "?",
    };
    let xid = u32::from_be_bytes([0, message[1], message[2], message[3]]);
    let mut line = format!("{name} {xid}");
    for (code, data) in read_options(&message[4..]) {
        match code {
            1 | 2 => {}
            13 => line += &format!(" {}", status_text(&data)),
            45 => line += &client_text(&data),
            100 => write!(line, " +{}", number(&data).wrapping_sub(NOW)).expect("text"),
            code => write!(line, " option {code}").expect("text"),
        }
    }
    line
}

fn client_text(data: &[u8]) -> String {
    let mut line = String::new();
    for (code, data) in read_options(data) {
        let more = match code {
            1 => format!(" {}", hex(&data)),
            3 | 25 => {
                let (head, inside) = data.split_at(12);
                let name = if code == 3 { "IA_NA" } else { "IA_PD" };
                format!(" {name} {}{}", number(&head[..4]), client_text(inside))
            }
            5 => {
                let address: [u8; 16] = data[..16].try_into().expect("an address");
                let (preferred, valid) = (number(&data[16..20]), number(&data[20..24]));
                format!(" [{} {preferred}/{valid}]", Ipv6Addr::from(address))
            }
            26 => {
                let prefix: [u8; 16] = data[9..25].try_into().expect("a prefix");
                let (preferred, valid) = (number(&data[..4]), number(&data[4..8]));
                let (prefix, bits) = (Ipv6Addr::from(prefix), data[8]);
                format!(" [{prefix}/{bits} {preferred}/{valid}]")
            }
            46 => format!(" {}s ago", number(&data)),
            47 => relay_text(&data),
            code => format!(" option {code}"),
        };
        line += &more;
    }
    line
}

fn relay_text(data: &[u8]) -> String {
    let (peer, forward) = data.split_at(16);
    let peer: [u8; 16] = peer.try_into().expect("an address");
    let layer = Layer::read(forward);
    let mut line = format!(" via {} {}", layer.link, layer.peer);
    for (code, data) in &layer.options {
        match code {
            9 => line += &format!(" behind {}", Layer::read(data).peer),
            18 => line += &format!(" {}", String::from_utf8_lossy(data)),
            79 => line += &format!(" mac {}", hex(&data[2..])),
            code => write!(line, " {code}={}", hex(data)).expect("text"),
        }
    }
    line + &format!(" of {}", Ipv6Addr::from(peer))
}

fn status_text(data: &[u8]) -> &'static str {
    match u16::from_be_bytes([data[0], data[1]]) {
        7 => "UnknownQueryType",
        8 => "MalformedQuery",
        9 => "NotConfigured",
        10 => "NotAllowed",
        11 => "QueryTerminated",
        12 => "DataMissing",
        13 => "CatchUpComplete",
        14 => "NotSupported",
        15 => "TLSConnectionRefused",
        _ => "?",
    }
}

fn number(data: &[u8]) -> u32 {
    u32::from_be_bytes(data.try_into().expect("four octets"))
}

fn hex(data: &[u8]) -> String {
    data.iter().map(|byte| format!("{byte:02x}")).collect()
}
