//! What happens next, driven by one seed, and the checks. Decides who hears whom, who falls over and when; tells
//! relays and model of it alike.
//!
//! What one client does is at least [`SPACING`] apart: between relays whose clocks differ, the order of what is
//! nearer is not defined (ALQ-D-11), only that all of them choose the same. In one world of seven all clocks are right.

use std::collections::{BTreeMap, BTreeSet};

use relay_core::alq::{CloseReason, ConnectionId, LeasequeryEffect, LeasequeryInput, Remote};
use relay_core::input::{Clear, ClientDatagram, Input, ServerDatagram};
use relay_core::time::Instant;
use relay_core::types::IfIndex;
use relay_tests::bench::{Client, prefix};
use relay_tests::exchanges::{from_client, from_server, na, na_lease, pd, pd_lease};
use relay_tests::messages::{answer, iaaddr, iaprefix, ip, status};

use crate::model::{Key, Model};
use crate::node::{Node, Out, address};
use crate::random::Random;
use crate::wire::{End, Item, Wire};

const MS: u64 = 1_000_000;
const SECOND: u64 = 1000 * MS;
/// Clients, half of them on each of two access links.
const CLIENTS: usize = 10;
/// Between two things that one client does or suffers.
const SPACING: u64 = 8 * SECOND;
/// Lifetimes on two relays may differ by so much: whole seconds on the wire, and the way.
const TOLERANCE: u64 = 3 * SECOND;
/// Where clocks are wrong, they may: how far a clock that was set is off is known to 5 s (ALQ-D-9).
const TOLERANCE_OF_WRONG_CLOCKS: u64 = 6 * SECOND;
/// Where nothing is broken, a change is everywhere after so long.
pub const DELAY: u64 = 3 * SECOND;
/// After the last fault, sessions are up again after so long: two attempts, and time-outs before.
const CALM: u64 = 320 * SECOND;
/// Bytes on the way that make a writer wait.
const WINDOW_BYTES: usize = 1024;
/// A relay that is slow takes one piece a second.
const SLOW: u64 = SECOND;
/// Things that may happen in one wait: more means that relays talk in circles.
const MAX_EVENTS: usize = 200_000;

enum Event {
    /// A server's answer reaches a relay; what it grants, if anything.
    Answer {
        node: usize,
        datagram: Vec<u8>,
        granted: Vec<(Key, u64)>,
    },
    /// A relay that opens a connection reaches the other.
    Arrive { opener: End, to: usize },
    /// A relay is told something of a connection.
    Tell { end: End, what: Tell },
}

enum Tell {
    Closed(CloseReason),
    Writable,
}

/// All of it.
pub struct World {
    random: Random,
    seed: u64,
    now: u64,
    nodes: Vec<Node>,
    wires: Vec<Wire>,
    events: BTreeMap<(u64, u64), Event>,
    serial: u64,
    /// Pairs that cannot reach each other.
    cut: BTreeSet<(usize, usize)>,
    slow: BTreeSet<usize>,
    clients: Vec<Client>,
    free_at: Vec<u64>,
    model: Model,
    /// Since when nothing is broken.
    calm_since: u64,
    xid: u32,
    /// All clocks are right.
    is_exact: bool,
    tolerance: u64,
    /// What happened, one line each.
    pub log: Vec<String>,
}

impl World {
    /// All relays up, all tables empty.
    pub fn new(seed: u64) -> Self {
        let mut random = Random::new(seed);
        let nodes = 2 + random.below(4);
        let is_secure = random.chance(50);
        let is_exact = seed.is_multiple_of(7);
        let clients: Vec<_> = (0..CLIENTS)
            .map(|n| Client::new(n as u16 + 1, if n % 2 == 0 { 2 } else { 3 }))
            .collect();
        let mut world = Self {
            seed,
            now: 1000 * SECOND,
            nodes: (0..nodes)
                .map(|at| Node::new(at, nodes, is_secure))
                .collect(),
            wires: Vec::new(),
            events: BTreeMap::new(),
            serial: 0,
            cut: BTreeSet::new(),
            slow: BTreeSet::new(),
            free_at: vec![0; clients.len()],
            clients,
            model: Model::default(),
            calm_since: 0,
            xid: 0,
            is_exact,
            tolerance: if is_exact {
                TOLERANCE
            } else {
                TOLERANCE_OF_WRONG_CLOCKS
            },
            log: Vec::new(),
            random,
        };
        for at in 0..nodes {
            if world.random.chance(50) {
                let skew = world.any_skew();
                world.nodes[at].skew_nanos = skew;
            }
            let now = world.instant();
            world.nodes[at].start(now);
            world.carry_out(at);
        }
        world.calm_since = world.now;
        world
    }

    /// One whole history.
    pub fn run(&mut self, steps: usize) {
        for _ in 0..steps {
            self.step();
        }
        self.heal();
        self.advance(CALM);
        // Not where a lease ends on one relay before it ends on another.
        while self
            .model
            .ends_between(self.now - self.tolerance, self.now + self.tolerance)
        {
            self.advance(self.tolerance);
        }
        self.assert_in_sync();
        self.check(0);
        let digests: BTreeSet<_> = self.nodes.iter().map(Node::digests).collect();
        assert_eq!(digests.len(), 1, "{} digests: {digests:?}", self.whence());
    }

    fn step(&mut self) {
        match self.random.below(100) {
            0..48 => self.client_acts(),
            48..62 => {
                let seconds = 1 + self.random.below(60) as u64;
                self.wait(seconds);
            }
            62..68 => {
                let seconds = 1 + self.random.below(700) as u64;
                self.wait(seconds);
            }
            68..72 => self.operator_clears(),
            72..79 => self.crash_or_return(),
            79..83 => self.wipe(),
            83..90 => self.cut_or_heal(),
            90..95 => self.change_speed(),
            _ => self.set_clock(),
        }
        let pause = self.random.below(1500) as u64 * MS;
        self.advance(pause);
        if self.is_calm() {
            self.assert_in_sync();
            self.check(DELAY);
        }
    }

    // Clients and the server.

    fn lease_names(&self, n: usize) -> [String; 2] {
        [
            format!("2001:db8:{}::{:x}", n % 2 + 1, n + 0x100),
            format!("2001:db8:{:x}00::/56", n + 0x10),
        ]
    }

    fn keys(&self, n: usize) -> [Key; 2] {
        let [address, prefix] = self.lease_names(n);
        [(n, format!("{address}/128")), (n, prefix)]
    }

    fn client_acts(&mut self) {
        let n = self.random.below(CLIENTS);
        if self.free_at[n] > self.now {
            return;
        }
        self.free_at[n] = self.now + SPACING;
        let kind = match self.random.below(100) {
            0..65 => "grant",
            65..93 => "release",
            _ => "decline",
        };
        let hearers: Vec<usize> = (0..self.nodes.len())
            .filter(|at| self.nodes[*at].relay.is_some())
            .filter(|_| self.random.chance(75))
            .collect();
        let up = self
            .nodes
            .iter()
            .filter(|node| node.relay.is_some())
            .count();
        if hearers.len() < up {
            self.note(format!("deaf: client {n} is heard by {hearers:?} of {up}"));
        }
        let valid = 30 + self.random.below(900) as u32;
        self.note(format!("{kind} client {n} for {valid} s at {hearers:?}"));
        let [address, delegated] = self.lease_names(n);
        let (message_type, asked) = match kind {
            "grant" => (
                3,
                [na_lease(1, &address, 0), pd_lease(1, &delegated, 0)].concat(),
            ),
            "release" => (
                8,
                [
                    na(1, &[iaaddr(&address, 0, 0)]),
                    pd(1, &[iaprefix(&delegated, 0, 0)]),
                ]
                .concat(),
            ),
            _ => (9, na(1, &[iaaddr(&address, 0, 0)])),
        };
        let given = match kind {
            "grant" => [na_lease(1, &address, valid), pd_lease(1, &delegated, valid)].concat(),
            _ => status(0),
        };
        self.xid += 1;
        let client = self.clients[n].clone();
        let request = from_client(message_type, self.xid, &client, &asked);
        let reply = from_server(7, self.xid, &client, &given);
        let ends: &[Key] = match kind {
            "grant" => &[],
            "release" => &self.keys(n),
            _ => &self.keys(n)[..1],
        };
        for at in hearers {
            let held = self.nodes[at].leases();
            for key in ends {
                let holds = |(duid, lease, _): &(Vec<u8>, String, u64)| {
                    *duid == client.duid && *lease == key.1
                };
                // Who does not hold it cannot know that it was this client's to give up (SNP-23).
                if held.iter().any(holds) {
                    self.model.ended(self.now, key.clone());
                }
            }
            self.client_message(at, &client, &request);
            for out in std::mem::take(&mut self.nodes[at].out) {
                match out {
                    Out::ToServer(forward) if !self.random.chance(10) => {
                        let granted = match kind {
                            "grant" => self.keys(n).map(|key| (key, u64::from(valid))).to_vec(),
                            _ => Vec::new(),
                        };
                        let datagram = answer(&forward, &reply);
                        let delay = (1 + self.random.below(50) as u64) * MS;
                        self.plan(
                            delay,
                            Event::Answer {
                                node: at,
                                datagram,
                                granted,
                            },
                        );
                    }
                    Out::ToServer(_) => self.note("lost on the way to the server".to_owned()),
                    other => self.nodes[at].out.push(other),
                }
            }
            self.carry_out(at);
        }
    }

    fn client_message(&mut self, at: usize, client: &Client, payload: &[u8]) {
        let now = self.instant();
        let datagram = ClientDatagram {
            interface: client.interface,
            vlans: client.vlans,
            mac: client.mac,
            source: client.address,
            source_port: client.port,
            destination: ip("ff02::1:2"),
            payload,
        };
        self.nodes[at].input(now, Input::Client(datagram));
    }

    fn server_answers(&mut self, at: usize, datagram: &[u8], granted: Vec<(Key, u64)>) {
        let now = self.instant();
        let datagram = ServerDatagram {
            interface: IfIndex(9),
            source: ip("2001:db8:53::1"),
            source_port: 547,
            payload: datagram,
        };
        self.nodes[at].input(now, Input::Server(datagram));
        let is_delivered = |out: &Out| matches!(out, Out::ToClient);
        if self.nodes[at].out.iter().any(is_delivered) {
            for (key, valid) in granted {
                self.model.granted(self.now, key, self.now + valid * SECOND);
            }
        }
        self.carry_out(at);
    }

    fn operator_clears(&mut self) {
        let at = self.random.below(self.nodes.len());
        let held = self.nodes[at].leases();
        if held.is_empty() {
            return;
        }
        let (duid, lease, _) = held[self.random.below(held.len())].clone();
        let client = self.clients.iter().position(|client| client.duid == duid);
        let n = client.expect("no client but ours");
        if self.free_at[n] > self.now {
            return;
        }
        self.free_at[n] = self.now + SPACING;
        self.note(format!("clear {lease} at {at}"));
        let now = self.instant();
        self.nodes[at].input(now, Input::Clear(Clear::Lease(prefix(&lease))));
        self.model.ended(self.now, (n, lease));
        self.carry_out(at);
    }

    // Faults.

    fn crash_or_return(&mut self) {
        let at = self.random.below(self.nodes.len());
        match self.nodes[at].relay {
            Some(_) => {
                self.note(format!("crash {at}"));
                self.stop(at);
            }
            None => self.start(at),
        }
    }

    /// Only where the others know all that it knows: what nobody else knew is lost with the disk.
    fn wipe(&mut self) {
        let is_known = self.is_calm()
            && self
                .free_at
                .iter()
                .all(|free| *free < self.now + SPACING - DELAY);
        if !is_known {
            return;
        }
        let at = self.random.below(self.nodes.len());
        self.note(format!("wipe {at}"));
        self.stop(at);
        self.nodes[at].disk = crate::disk::Disk::default();
    }

    fn stop(&mut self, at: usize) {
        self.fault();
        self.nodes[at].relay = None;
        self.nodes[at].out.clear();
        let mut broken = Vec::new();
        self.wires.retain(|wire| {
            let far = wire.ends.iter().position(|end| end.node == at);
            if let Some(side) = far {
                broken.push(wire.ends[1 - side]);
            }
            far.is_none()
        });
        for end in broken {
            // A process that died says so at once, a router without power never: its peer's kernel gives up what
            // nobody acknowledges (TCP_USER_TIMEOUT, of ACTIVE_LQ_SEND_TIMEOUT).
            let delay = if self.random.chance(60) {
                MS
            } else {
                120 * SECOND
            };
            self.tell(delay, end, Tell::Closed(CloseReason::Remote));
        }
    }

    fn start(&mut self, at: usize) {
        self.fault();
        self.note(format!("back {at}"));
        let now = self.instant();
        self.nodes[at].start(now);
        self.carry_out(at);
    }

    fn cut_or_heal(&mut self) {
        let (one, other) = self.any_pair();
        self.fault();
        if self.cut.remove(&(one, other)) {
            return self.note(format!("healed {one} {other}"));
        }
        self.note(format!("cut {one} {other}"));
        self.cut.insert((one, other));
        if self.random.chance(50) {
            return;
        }
        // The ends notice, each in its time; else what is on its way goes on after the cut.
        let mut broken = Vec::new();
        self.wires.retain(|wire| {
            if wire.is_between(one, other) {
                broken.extend(wire.ends);
            }
            !wire.is_between(one, other)
        });
        for end in broken {
            let delay = self.random.below(30_000) as u64 * MS;
            self.tell(delay, end, Tell::Closed(CloseReason::Remote));
        }
    }

    fn change_speed(&mut self) {
        let at = self.random.below(self.nodes.len());
        self.fault();
        if self.slow.remove(&at) {
            self.note(format!("fast {at}"));
        } else {
            self.note(format!("slow {at}"));
            self.slow.insert(at);
        }
    }

    fn set_clock(&mut self) {
        let at = self.random.below(self.nodes.len());
        let mut skew = self.any_skew();
        if self.nodes[at].relay.is_none() {
            // Set back between two lives: nobody knows who did not live through it (docs/testing.md).
            skew = skew.max(self.nodes[at].skew_nanos);
        }
        self.fault();
        self.note(format!(
            "clock of {at} is wrong by {} s",
            skew / SECOND as i64
        ));
        let now = self.instant();
        self.nodes[at].set_clock(now, skew);
        self.carry_out(at);
    }

    fn any_skew(&mut self) -> i64 {
        if self.is_exact {
            return 0;
        }
        let most = [3, 60, 3600][self.random.below(3)];
        (self.random.below(2 * most * 1000) as i64 - most as i64 * 1000) * MS as i64
    }

    fn any_pair(&mut self) -> (usize, usize) {
        let one = self.random.below(self.nodes.len());
        let other = (one + 1 + self.random.below(self.nodes.len() - 1)) % self.nodes.len();
        (one.min(other), one.max(other))
    }

    fn heal(&mut self) {
        self.note("healed all".to_owned());
        self.cut.clear();
        self.slow.clear();
        self.fault();
        for at in 0..self.nodes.len() {
            if self.nodes[at].relay.is_none() {
                self.start(at);
            }
        }
    }

    fn fault(&mut self) {
        self.calm_since = self.now;
    }

    fn is_calm(&self) -> bool {
        self.cut.is_empty()
            && self.slow.is_empty()
            && self.nodes.iter().all(|node| node.relay.is_some())
            && self.now >= self.calm_since + CALM
    }

    // The network.

    fn reaches(&self, one: usize, other: usize) -> bool {
        !self.cut.contains(&(one.min(other), one.max(other)))
    }

    fn plan(&mut self, delay: u64, event: Event) {
        self.serial += 1;
        self.events.insert((self.now + delay, self.serial), event);
    }

    fn tell(&mut self, delay: u64, end: End, what: Tell) {
        self.plan(delay, Event::Tell { end, what });
    }

    /// Does what a relay wants of the network.
    fn carry_out(&mut self, at: usize) {
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

    fn wire_of(&self, end: End) -> Option<(usize, usize)> {
        self.wires
            .iter()
            .enumerate()
            .find_map(|(at, wire)| Some((at, wire.side(end)?)))
    }

    fn push(&mut self, end: End, item: Item) {
        let delay = (1 + self.random.below(20) as u64) * MS;
        if let Some((at, side)) = self.wire_of(end) {
            let pipe = &mut self.wires[at].pipes[side];
            assert!(!pipe.closed, "{} {item:?} after the end", self.seed);
            pipe.closed = matches!(item, Item::Close);
            pipe.push(self.now + delay, item);
        }
    }

    fn send(&mut self, end: End, bytes: Vec<u8>) {
        assert!(
            !bytes.is_empty() && bytes.len() <= 1 << 16,
            "{}",
            self.whence()
        );
        self.push(end, Item::Bytes(bytes));
        match self.wire_of(end) {
            Some((at, side)) if self.wires[at].pipes[side].waiting_bytes() > WINDOW_BYTES => {
                self.wires[at].pipes[side].awaits_writable = true;
            }
            // Where nobody is any more, the kernel takes bytes for a while.
            _ => self.tell(MS / 10, end, Tell::Writable),
        }
    }

    fn start_tls(&mut self, end: End) {
        let Some((at, side)) = self.wire_of(end) else {
            return;
        };
        self.push(end, Item::StartTls);
        self.wires[at].pipes[side].tls_begun = true;
    }

    fn handle(&mut self, event: Event) {
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

    fn give(&mut self, at: usize, input: LeasequeryInput<'_>) {
        let now = self.instant();
        self.nodes[at].input(now, Input::Leasequery(input));
        self.carry_out(at);
    }

    fn arrive(&mut self, opener: End, to: usize) {
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
    fn next_item(&self) -> Option<(u64, usize, usize)> {
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

    fn take_item(&mut self, at: usize, side: usize) {
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
    fn shake_hands(&mut self, from: End, to: End) {
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

    // Time.

    fn instant(&self) -> Instant {
        Instant::from_nanos(self.now)
    }

    fn wait(&mut self, seconds: u64) {
        self.note(format!("wait {seconds} s"));
        self.advance(seconds * SECOND);
    }

    fn advance(&mut self, by: u64) {
        let end = self.now + by;
        for _ in 0..MAX_EVENTS {
            let event = self.events.keys().next().copied();
            let item = self.next_item();
            let due = (0..self.nodes.len())
                .filter_map(|at| Some((self.nodes[at].due()?.as_nanos().max(self.now), at)))
                .min();
            let next = [
                event.map(|(at, _)| at),
                item.map(|it| it.0),
                due.map(|it| it.0),
            ];
            let Some(next) = next.into_iter().flatten().min().filter(|next| *next <= end) else {
                self.now = end;
                return;
            };
            self.now = self.now.max(next);
            if let Some(key) = event.filter(|(at, _)| *at <= self.now) {
                let event = self.events.remove(&key).expect("it was the first");
                self.handle(event);
            } else if let Some((_, at, side)) = item.filter(|it| it.0 <= self.now) {
                self.take_item(at, side);
            } else if let Some((_, at)) = due {
                let now = self.instant();
                self.nodes[at].timeout(now);
                self.carry_out(at);
            }
        }
        panic!("{}: relays talk in circles", self.whence());
    }

    // Checks.

    fn assert_in_sync(&self) {
        for node in &self.nodes {
            let state = || node.relay.as_ref().map(|relay| relay.neighbors());
            assert!(
                node.is_in_sync_with(self.nodes.len() - 1),
                "{}: {} is not in sync: {:#?}",
                self.whence(),
                node.at,
                state()
            );
        }
    }

    /// Every relay holds what the model holds, but for what changed less than `delay` ago.
    fn check(&self, delay: u64) {
        let wanted = self.model.live(self.now);
        let is_settled = |key: &Key| {
            let from = self.now - delay.max(self.tolerance);
            !self
                .model
                .changed_between(key, from, self.now + self.tolerance)
        };
        for node in &self.nodes {
            let mut held = BTreeMap::new();
            for (duid, lease, end) in node.leases() {
                let client = self.clients.iter().position(|client| client.duid == duid);
                let key = (client.expect("no client but ours"), lease);
                assert!(held.insert(key, end).is_none(), "{} twice", self.whence());
            }
            for key in wanted
                .keys()
                .chain(held.keys())
                .filter(|key| is_settled(key))
            {
                let (wanted, held) = (wanted.get(key), held.get(key));
                let is_equal = match (wanted, held) {
                    (Some(wanted), Some(held)) => wanted.abs_diff(*held) <= self.tolerance,
                    (None, None) => true,
                    _ => false,
                };
                assert!(
                    is_equal,
                    "{}: {key:?} ends at {held:?} on {}, wanted {wanted:?}, now {}; {:#?}",
                    self.whence(),
                    node.at,
                    self.now,
                    self.tail(key.0)
                );
            }
        }
    }

    fn whence(&self) -> String {
        format!(
            "seed {}, {} relays, {} s",
            self.seed,
            self.nodes.len(),
            self.now / SECOND
        )
    }

    /// The last lines that matter for a client.
    fn tail(&self, client: usize) -> Vec<&String> {
        let name = format!("client {client} ");
        let [address, prefix] = self.lease_names(client);
        let matters = |line: &&String| {
            let of_another = line.contains("client ") && !line.contains(&name);
            let cleared =
                line.contains("clear ") && !line.contains(&address) && !line.contains(&prefix);
            !of_another && !cleared
        };
        let lines: Vec<_> = self.log.iter().filter(matters).collect();
        lines[lines.len().saturating_sub(30)..].to_vec()
    }

    fn note(&mut self, line: String) {
        self.log.push(line);
        let time = self.now / MS;
        if let Some(last) = self.log.last_mut() {
            last.push_str(&format!(" ({}.{:03})", time / 1000, time % 1000));
        }
    }
}
