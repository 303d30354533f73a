//! What must hold whatever peers ask: the property of the fuzz target `alq_server`.
//!
//! Must not know where the bytes come from.

use relay_core::alq::{CloseReason, ConnectionId, LeasequeryEffect, LeasequeryInput, Role};
use relay_core::input::{Clear, Input};
use relay_core::types::AccessId;

use crate::asking::asker;
use crate::bench::{Bench, Client, SECOND};
use crate::exchanges::pd_lease;
use crate::mesh::{AHEAD_NANOS, address, member};
use crate::messages::ip;

/// Steps of one input.
const STEPS_MAX: usize = 64;
/// One more clients than leases that the table takes.
const CLIENTS: u8 = 9;
const BINDINGS_MAX: usize = 8;
const CONNECTIONS_MAX: usize = 4;

/// The server role: it does not panic, accepts no more connections than configured, sends whole
/// answers, one buffer at a time and nothing on a connection that has ended, at most one
/// LEASEQUERY-REPLY per query, and no query changes the table (LQ-12).
///
/// ```text
/// 0      1        3
/// | step | length | data …   length is little-endian and clamped; repeated
/// ```
/// The low four bits of `step` say what happens, the high four on which connection, modulo how many
/// there are.
pub fn check_alq_server(bytes: &[u8]) {
    run_alq_server(bytes);
}

/// [`check_alq_server`]; how many answers there were.
pub fn run_alq_server(bytes: &[u8]) -> usize {
    let mut config = member(0, 3, false);
    config.leasequery.peers[1].is_secure = true;
    config.leasequery.max_connections = CONNECTIONS_MAX;
    config.leasequery.history = 100 * SECOND;
    config.limits.max_bindings = BINDINGS_MAX;
    let mut world = World {
        bench: Bench::new(config),
        open: Vec::new(),
        accepted: 0,
        answers: 0,
        is_loaded: false,
    };
    world.bench.input(Input::WallClock {
        ahead_nanos: AHEAD_NANOS,
    });
    let mut rest = bytes;
    for _ in 0..STEPS_MAX {
        let Some(([step, low, high], data)) = rest.split_first_chunk() else {
            break;
        };
        let length = usize::from(u16::from_le_bytes([*low, *high])).min(data.len());
        let (data, behind) = data.split_at(length);
        rest = behind;
        world.step(*step, data);
    }
    if !world.is_loaded {
        world.bench.lq(LeasequeryInput::Loaded);
    }
    world.bench.advance(1000 * SECOND);
    world.obey();
    assert!(world.open.is_empty(), "nobody reads: all have blocked");
    world.answers
}

/// Somebody connects: peer 1 in clear text, peer 2 by TLS, a stranger, as the first byte says.
pub const STEP_ACCEPT: u8 = 0;
/// Bytes come as they are.
pub const STEP_BYTES: u8 = 1;
/// One message comes: type, transaction-id, options.
pub const STEP_MESSAGE: u8 = 2;
/// One query comes: type, low byte of the transaction-id, options besides CLIENTID.
pub const STEP_QUERY: u8 = 3;
/// TLS is up.
pub const STEP_TLS_UP: u8 = 4;
/// The connection ends; or, with data, the other end stops sending.
pub const STEP_END: u8 = 5;
/// As many seconds pass as the first byte of the data says.
pub const STEP_PASS: u8 = 6;
/// The kernel takes a buffer; with data, as many as there are until nothing is left to say.
pub const STEP_WRITABLE: u8 = 7;
/// A client gets a lease for as many seconds as the second byte says; which, says the first.
pub const STEP_LEASE: u8 = 8;
/// A client gives it up.
pub const STEP_RELEASE: u8 = 9;
/// An operator clears an interface.
pub const STEP_CLEAR: u8 = 10;
/// All is loaded.
pub const STEP_LOADED: u8 = 11;
/// The peers are others; or, with data, the daemon ends.
pub const STEP_CONFIGURE: u8 = 12;

struct Open {
    id: ConnectionId,
    is_sending: bool,
    /// Complete queries that came, at most.
    queries: usize,
    replies: usize,
}

struct World {
    bench: Bench,
    open: Vec<Open>,
    accepted: u32,
    answers: usize,
    is_loaded: bool,
}

impl World {
    fn step(&mut self, step: u8, data: &[u8]) {
        let at = usize::from(step >> 4).checked_rem(self.open.len());
        let first = data.first().copied().unwrap_or(0);
        match (step & 15, at) {
            (STEP_ACCEPT, _) => self.accept(first),
            (STEP_PASS, _) => self.bench.advance(u32::from(first) * SECOND),
            (STEP_LEASE, _) => {
                let secs = data.get(1).copied().unwrap_or(200);
                let client = client(first);
                self.bench
                    .bind(&client, &pd_lease(1, &prefix(first), u32::from(secs)));
            }
            (STEP_RELEASE, _) => {
                self.bench
                    .ask(&client(first), 8, &pd_lease(1, &prefix(first), 0));
            }
            (STEP_CLEAR, _) => {
                self.bench
                    .clear(Clear::Interface(AccessId(u16::from(first & 1))));
            }
            (STEP_LOADED, _) => {
                // Once, as of a store.
                if !core::mem::replace(&mut self.is_loaded, true) {
                    self.bench.lq(LeasequeryInput::Loaded);
                }
            }
            (STEP_CONFIGURE, _) if data.is_empty() => {
                self.bench
                    .reconfigure(|config| config.leasequery.peers.rotate_left(1));
                let peers = &mut self.bench.config.leasequery.peers;
                assert!(peers.len() == 2);
            }
            (STEP_CONFIGURE, _) => self.bench.lq(LeasequeryInput::Shutdown),
            (_, None) => {}
            (step, Some(at)) => self.on(step, at, data),
        }
        self.obey();
    }

    fn accept(&mut self, who: u8) {
        self.accepted += 2;
        let connection = ConnectionId(self.accepted);
        let from = match who % 3 {
            0 => address(1),
            1 => address(2),
            _ => ip("2001:db8:bad::1"),
        };
        self.open.push(Open {
            id: connection,
            is_sending: false,
            queries: 0,
            replies: 0,
        });
        self.bench
            .lq(LeasequeryInput::Accepted { connection, from });
    }

    /// A step on a connection: the table stays as it is.
    fn on(&mut self, step: u8, at: usize, data: &[u8]) {
        let before = self.bench.relay.digests();
        let connection = self.open[at].id;
        match step {
            STEP_BYTES => self.receive(at, data),
            STEP_MESSAGE if data.len() >= 4 => self.receive(at, &framed(data)),
            STEP_QUERY if data.len() >= 2 => {
                let (head, options) = data.split_at(2);
                let head = [head[0], 0, 0, head[1]];
                self.receive(at, &framed(&[&head[..], &asker(), options].concat()));
            }
            STEP_TLS_UP => self.bench.lq(LeasequeryInput::TlsUp { connection }),
            STEP_END if data.is_empty() => {
                self.open.remove(at);
                let reason = CloseReason::Remote;
                self.bench
                    .lq(LeasequeryInput::Closed { connection, reason });
            }
            STEP_END => self.bench.lq(LeasequeryInput::HalfClosed { connection }),
            STEP_WRITABLE => {
                while let Some(open) = self.open.iter_mut().find(|it| it.id == connection)
                    && core::mem::take(&mut open.is_sending)
                {
                    self.bench.lq(LeasequeryInput::Writable { connection });
                    self.bench.advance(core::time::Duration::ZERO);
                    self.obey();
                    if data.is_empty() {
                        break;
                    }
                }
            }
            _ => {}
        }
        assert_eq!(self.bench.relay.digests(), before, "LQ-12");
    }

    fn receive(&mut self, at: usize, bytes: &[u8]) {
        let open = &mut self.open[at];
        // A query has six bytes at least.
        open.queries += bytes.len() / 6 + 1;
        let connection = open.id;
        self.bench
            .lq(LeasequeryInput::Received { connection, bytes });
    }

    /// Does what the relay wants of connections, and looks whether it may want that.
    fn obey(&mut self) {
        while let Some((effect, bytes)) = self.bench.leasequery.pop_front() {
            match effect {
                LeasequeryEffect::Send { connection, .. } if connection.0 % 2 == 0 => {
                    let is_last = self.bench.leasequery.front().is_some_and(|(next, _)| {
                        matches!(next, LeasequeryEffect::Close { connection: it, .. } if *it == connection)
                    });
                    let open = self.open.iter_mut().find(|it| it.id == connection);
                    let open = open.expect("the connection has not ended");
                    assert!(is_last || !open.is_sending, "two buffers at a time");
                    open.is_sending = true;
                    let kinds = kinds(&bytes);
                    self.answers += kinds.len();
                    open.replies += kinds.iter().filter(|kind| **kind == 15).count();
                    assert!(open.replies <= open.queries, "each query has one reply");
                }
                LeasequeryEffect::Close { connection, .. } => {
                    self.open.retain(|it| it.id != connection);
                }
                LeasequeryEffect::Connect { connection, .. } => {
                    // Nobody is at home.
                    let reason = CloseReason::ConnectFailed;
                    self.bench
                        .lq(LeasequeryInput::Closed { connection, reason });
                }
                _ => {}
            }
        }
        assert!(self.open.len() <= CONNECTIONS_MAX);
        let neighbors = self.bench.relay.neighbors();
        let servers = neighbors.iter().filter(|it| it.role == Role::Server);
        assert_eq!(servers.count(), 2);
        self.bench.take();
    }
}

/// The types of whole messages, all of them answers.
fn kinds(mut bytes: &[u8]) -> Vec<u8> {
    assert!(!bytes.is_empty() && bytes.len() <= 1 << 16);
    let mut kinds = Vec::new();
    while !bytes.is_empty() {
        let size = usize::from(u16::from_be_bytes([bytes[0], bytes[1]]));
        assert!(matches!(bytes[2], 7 | 15 | 16 | 17));
        kinds.push(bytes[2]);
        bytes = &bytes[2 + size..];
    }
    kinds
}

fn framed(message: &[u8]) -> Vec<u8> {
    let size = u16::try_from(message.len()).unwrap_or(u16::MAX);
    [&size.to_be_bytes()[..], &message[..usize::from(size)]].concat()
}

fn client(n: u8) -> Client {
    let n = n % CLIENTS;
    Client::new(u16::from(n) + 1, u32::from(n & 1) + 2)
}

fn prefix(n: u8) -> String {
    format!("2001:db8:{:x}00::/56", n % CLIENTS + 1)
}
