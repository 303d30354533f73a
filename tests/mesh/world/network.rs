//! Connections between relays: who reaches whom, and what comes out when.

use relay_core::alq::{CloseReason, ConnectionId, LeasequeryEffect, LeasequeryInput, Remote};
use relay_core::input::Input;

use super::{Event, MS, PIECE_BYTES, SECOND, SLOW, Tell, WINDOW_BYTES, World};
use crate::node::{Out, address};
use crate::wire::{End, Item, Wire};

impl World {
    pub(super) fn reaches(&self, one: usize, other: usize) -> bool {
        !self.cut.contains(&(one.min(other), one.max(other)))
    }

    pub(super) fn plan(&mut self, delay: u64, event: Event) {
        self.serial += 1;
        self.events.insert((self.now + delay, self.serial), event);
    }

    pub(super) fn tell(&mut self, delay: u64, end: End, what: Tell) {
        self.plan(delay, Event::Tell { end, what });
    }

    /// Does what a relay wants of the network.
    pub(super) fn carry_out(&mut self, at: usize) {
        for out in std::mem::take(&mut self.nodes[at].out) {
            let Out::Network(effect, bytes) = out else {
                continue;
            };
            match effect {
                LeasequeryEffect::Connect { connection, to } => {
                    let Remote::Peer(peer) = to else {
                        panic!("no server is asked here");
                    };
                    let opener = End {
                        node: at,
                        connection,
                    };
                    let to = usize::from(peer.0);
                    let delay = (1 + self.random.below(20) as u64) * MS;
                    self.plan(delay, Event::Arrive { opener, to });
                }
                LeasequeryEffect::Send { connection, .. } => self.send(
                    End {
                        node: at,
                        connection,
                    },
                    bytes,
                ),
                LeasequeryEffect::StartTls { connection, .. } => self.start_tls(End {
                    node: at,
                    connection,
                }),
                LeasequeryEffect::Close { connection, .. } => {
                    let end = End {
                        node: at,
                        connection,
                    };
                    self.push(end, Item::Close);
                }
                _ => {}
            }
        }
    }

    pub(super) fn wire_of(&self, end: End) -> Option<(usize, usize)> {
        self.wires
            .iter()
            .enumerate()
            .find_map(|(at, wire)| Some((at, wire.side(end)?)))
    }

    pub(super) fn push(&mut self, end: End, item: Item) {
        let delay = (1 + self.random.below(20) as u64) * MS;
        if let Some((at, side)) = self.wire_of(end) {
            let pipe = &mut self.wires[at].pipes[side];
            assert!(!pipe.closed, "{} {item:?} after the end", self.seed);
            pipe.closed = matches!(item, Item::Close);
            pipe.push(self.now + delay, item);
        }
    }

    pub(super) fn send(&mut self, end: End, bytes: Vec<u8>) {
        assert!(
            !bytes.is_empty() && bytes.len() <= 1 << 16,
            "{}",
            self.whence()
        );
        for piece in bytes.chunks(PIECE_BYTES) {
            self.push(end, Item::Bytes(piece.to_vec()));
        }
        match self.wire_of(end) {
            Some((at, side)) if self.wires[at].pipes[side].waiting_bytes() > WINDOW_BYTES => {
                self.wires[at].pipes[side].awaits_writable = true;
            }
            // Where nobody is any more, the kernel takes bytes for a while.
            _ => self.tell(MS / 10, end, Tell::Writable),
        }
    }

    pub(super) fn start_tls(&mut self, end: End) {
        let Some((at, side)) = self.wire_of(end) else {
            return;
        };
        self.push(end, Item::StartTls);
        self.wires[at].pipes[side].tls_begun = true;
    }

    pub(super) fn handle(&mut self, event: Event) {
        match event {
            Event::Answer {
                node,
                datagram,
                granted,
            } => {
                if self.nodes[node].relay.is_some() {
                    self.server_answers(node, &datagram, granted);
                }
            }
            Event::Arrive { opener, to } => self.arrive(opener, to),
            Event::Tell { end, what } => {
                let connection = end.connection;
                let input = match what {
                    Tell::Closed(reason) => LeasequeryInput::Closed { connection, reason },
                    Tell::Writable => LeasequeryInput::Writable { connection },
                };
                self.give(end.node, input);
            }
        }
    }

    pub(super) fn give(&mut self, at: usize, input: LeasequeryInput<'_>) {
        let now = self.instant();
        self.nodes[at].input(now, Input::Leasequery(input));
        self.carry_out(at);
    }

    pub(super) fn arrive(&mut self, opener: End, to: usize) {
        let is_up = self.nodes[to].relay.is_some();
        if !self.reaches(opener.node, to) || !is_up {
            let delay = if is_up { 10 * SECOND } else { MS };
            return self.tell(delay, opener, Tell::Closed(CloseReason::ConnectFailed));
        }
        if self.nodes[opener.node].relay.is_none() {
            return;
        }
        self.nodes[to].accepted += 2;
        let connection = ConnectionId(self.nodes[to].accepted);
        let acceptor = End {
            node: to,
            connection,
        };
        self.wires.push(Wire::new(opener, acceptor));
        let from = address(opener.node);
        self.give(to, LeasequeryInput::Accepted { connection, from });
        let connection = opener.connection;
        self.give(opener.node, LeasequeryInput::Connected { connection });
    }

    /// When the next thing comes out of a pipe, and of which.
    pub(super) fn next_item(&self) -> Option<(u64, usize, usize)> {
        let mut next = None;
        for (at, wire) in self.wires.iter().enumerate() {
            let [one, other] = wire.ends.map(|end| end.node);
            if !self.reaches(one, other) {
                continue;
            }
            for side in 0..2 {
                if let Some((due, _)) = wire.pipes[side].items.front() {
                    let due = ((*due).max(self.now), at, side);
                    next = next.map_or(Some(due), |next: (u64, usize, usize)| Some(next.min(due)));
                }
            }
        }
        next
    }

    pub(super) fn take_item(&mut self, at: usize, side: usize) {
        let wire = &mut self.wires[at];
        let (from, to) = (wire.ends[side], wire.ends[1 - side]);
        let Some((_, item)) = wire.pipes[side].items.pop_front() else {
            return;
        };
        if self.slow.contains(&to.node)
            && let Some((due, _)) = wire.pipes[side].items.front_mut()
        {
            *due = (*due).max(self.now + SLOW);
        }
        let is_free = wire.pipes[side].waiting_bytes() <= WINDOW_BYTES;
        if is_free && std::mem::take(&mut wire.pipes[side].awaits_writable) {
            self.tell(MS / 10, from, Tell::Writable);
        }
        match item {
            Item::Bytes(bytes) => {
                let connection = to.connection;
                self.give(
                    to.node,
                    LeasequeryInput::Received {
                        connection,
                        bytes: &bytes,
                    },
                );
            }
            Item::StartTls => self.shake_hands(from, to),
            Item::Close => {
                let connection = to.connection;
                let wire = self.wires.remove(at);
                if !wire.pipes[1 - side].closed {
                    let reason = CloseReason::Remote;
                    self.give(to.node, LeasequeryInput::Closed { connection, reason });
                }
            }
        }
    }

    /// TLS is up at both ends once both have begun and all before it has arrived.
    pub(super) fn shake_hands(&mut self, from: End, to: End) {
        let Some((at, _)) = self.wire_of(from) else {
            return;
        };
        let wire = &mut self.wires[at];
        if !wire
            .pipes
            .iter()
            .all(|pipe| pipe.tls_begun && pipe.items.is_empty())
            || wire.is_secure
        {
            return;
        }
        wire.is_secure = true;
        for end in [from, to] {
            let connection = end.connection;
            self.give(end.node, LeasequeryInput::TlsUp { connection });
        }
    }
}
