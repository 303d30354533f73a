//! What must hold whatever peers and servers answer: the property of the fuzz target `alq_requestor`.
//!
//! Must not know where the bytes come from.

use relay_core::alq::{CloseReason, ConnectionId, LeasequeryEffect, LeasequeryInput};
use relay_core::input::Input;
use relay_core::types::ServerId;

use crate::asked::PEER_DUID;
use crate::bench::{Bench, SECOND};
use crate::mesh::{AHEAD_NANOS, address, member};
use crate::messages::option;

/// Steps of one input.
const STEPS_MAX: usize = 64;
const BINDINGS_MAX: usize = 16;
/// Connections that may be open at one time: of two peers two each, and one of a server.
const CONNECTIONS_MAX: usize = 5;

/// The requestor role: it does not panic, holds no more bindings and connections than configured, sends
/// nothing on a connection that is closed, and one buffer at a time.
///
/// ```text
/// 0      1        3
/// | step | length | data …   length is little-endian and clamped; repeated
/// ```
/// The low three bits of `step` say what happens, the high five on which connection, modulo how many
/// there are.
pub fn check_alq_requestor(bytes: &[u8]) {
    run_alq_requestor(bytes);
}

/// [`check_alq_requestor`]; the most bindings that there were at one time.
pub fn run_alq_requestor(bytes: &[u8]) -> usize {
    let mut config = member(0, 3, false);
    config.leasequery.peers[1].is_secure = true;
    config.leasequery.bulk_servers = vec![ServerId(0)];
    config.limits.max_bindings = BINDINGS_MAX;
    let mut world = World {
        bench: Bench::new(config),
        open: Vec::new(),
        accepted: 0,
        bindings_seen: 0,
    };
    world.input(Input::WallClock {
        ahead_nanos: AHEAD_NANOS,
    });
    world.input(Input::Leasequery(LeasequeryInput::Loaded));
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
    world.bench.advance(1000 * SECOND);
    world.obey();
    world.bindings_seen
}

/// A step of [`check_alq_requestor`], for those who write its inputs.
pub fn alq_step(step: u8, data: &[u8]) -> Vec<u8> {
    let length = u16::try_from(data.len()).expect("a short step");
    [&[step][..], &length.to_le_bytes(), data].concat()
}

/// The connection is up.
pub const STEP_CONNECTED: u8 = 0;
/// Bytes come as they are.
pub const STEP_BYTES: u8 = 1;
/// One message comes: its type and options, with the transaction-id of the query.
pub const STEP_MESSAGE: u8 = 2;
/// LEASEQUERY-REPLY with the right identifiers and these options comes.
pub const STEP_REPLY: u8 = 3;
/// TLS is up.
pub const STEP_TLS_UP: u8 = 4;
/// The connection ends; or, with data, the other end stops sending.
pub const STEP_END: u8 = 5;
/// As many seconds pass as the first byte of the data says.
pub const STEP_PASS: u8 = 6;
/// A peer connects, or an operator interferes.
pub const STEP_OTHER: u8 = 7;

struct Open {
    id: ConnectionId,
    xid: [u8; 3],
    is_sending: bool,
}

struct World {
    bench: Bench,
    open: Vec<Open>,
    accepted: u32,
    bindings_seen: usize,
}

impl World {
    fn step(&mut self, step: u8, data: &[u8]) {
        let at = usize::from(step >> 3).checked_rem(self.open.len());
        let chosen = at.and_then(|at| self.open.get(at));
        let chosen = chosen.map(|it| (it.id, it.xid));
        let framed = |message: &[u8]| {
            let size = u16::try_from(message.len()).expect("steps are short");
            [&size.to_be_bytes()[..], message].concat()
        };
        match (step & 7, chosen) {
            (STEP_PASS, _) => {
                let secs = data.first().copied().unwrap_or(1);
                self.bench.advance(u32::from(secs) * SECOND);
                self.obey();
            }
            (STEP_OTHER, _) => self.other(data),
            (_, None) => {}
            (STEP_CONNECTED, Some((connection, _))) => {
                self.leasequery(LeasequeryInput::Connected { connection });
            }
            (STEP_BYTES, Some((connection, _))) => self.receive(connection, data),
            (STEP_MESSAGE, Some((connection, xid))) => {
                if let Some((message_type, options)) = data.split_first() {
                    let message = [&[*message_type][..], &xid, options].concat();
                    self.receive(connection, &framed(&message));
                }
            }
            (STEP_REPLY, Some((connection, xid))) => {
                let identity = self.bench.config.leasequery.identity.clone();
                let identifiers = [option(2, PEER_DUID), option(1, &identity)].concat();
                let message = [&[15][..], &xid, &identifiers, data].concat();
                self.receive(connection, &framed(&message));
            }
            (STEP_TLS_UP, Some((connection, _))) => {
                self.leasequery(LeasequeryInput::TlsUp { connection });
            }
            (_, Some((connection, _))) if data.is_empty() => {
                self.open.retain(|it| it.id != connection);
                let reason = CloseReason::Remote;
                self.leasequery(LeasequeryInput::Closed { connection, reason });
            }
            (_, Some((connection, _))) => {
                self.leasequery(LeasequeryInput::HalfClosed { connection });
            }
        }
    }

    fn other(&mut self, data: &[u8]) {
        match data.first() {
            Some(0) => self.leasequery(LeasequeryInput::Resync(None)),
            Some(1) => self.leasequery(LeasequeryInput::QueryServer(None)),
            Some(2) => {
                self.bench
                    .reconfigure(|config| config.leasequery.peers.rotate_left(1));
                self.obey();
            }
            _ => {
                self.accepted += 2;
                let connection = ConnectionId(self.accepted);
                let from = address(1);
                self.leasequery(LeasequeryInput::Accepted { connection, from });
                let reason = CloseReason::Remote;
                self.leasequery(LeasequeryInput::Closed { connection, reason });
            }
        }
    }

    fn receive(&mut self, connection: ConnectionId, bytes: &[u8]) {
        self.leasequery(LeasequeryInput::Received { connection, bytes });
    }

    fn leasequery(&mut self, input: LeasequeryInput<'_>) {
        self.input(Input::Leasequery(input));
    }

    fn input(&mut self, input: Input<'_>) {
        self.bench.input(input);
        self.obey();
    }

    /// Does what the relay wants of connections, and looks whether it may want that.
    fn obey(&mut self) {
        while let Some((effect, bytes)) = self.bench.leasequery.pop_front() {
            match effect {
                LeasequeryEffect::Connect { connection, .. } => {
                    assert!(self.open.iter().all(|it| it.id != connection));
                    self.open.push(Open {
                        id: connection,
                        xid: [0; 3],
                        is_sending: false,
                    });
                    assert!(self.open.len() <= CONNECTIONS_MAX);
                }
                LeasequeryEffect::Send { connection, .. } => {
                    let Some(open) = self.open.iter_mut().find(|it| it.id == connection) else {
                        assert!(connection.0 % 2 == 0, "sent on a connection that is closed");
                        continue;
                    };
                    assert!(!open.is_sending, "two buffers at a time");
                    open.xid.copy_from_slice(&bytes[3..6]);
                    open.is_sending = true;
                    self.bench
                        .input(Input::Leasequery(LeasequeryInput::Writable { connection }));
                    if let Some(open) = self.open.iter_mut().find(|it| it.id == connection) {
                        open.is_sending = false;
                    }
                }
                LeasequeryEffect::Close { connection, .. } => {
                    self.open.retain(|it| it.id != connection);
                }
                LeasequeryEffect::StartTls { .. }
                | LeasequeryEffect::Read { .. }
                | LeasequeryEffect::Remember(_)
                | LeasequeryEffect::Changed(_)
                | LeasequeryEffect::Readiness => {}
            }
        }
        let summary = self.bench.relay.summary();
        let bindings: usize = summary.active.iter().map(|(.., count)| count).sum();
        assert!(bindings <= BINDINGS_MAX);
        self.bindings_seen = self.bindings_seen.max(bindings);
        let digests = self.bench.relay.digests();
        let digested: u64 = digests.iter().map(|(_, it)| it.bindings).sum();
        assert_eq!(digested, bindings as u64);
        self.bench.take();
    }
}
