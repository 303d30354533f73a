//! What happens next, driven by one seed, and the checks. Decides who hears whom, who falls over and when; tells
//! relays and model of it alike.
//!
//! What one client does is at least [`SPACING`] apart: between relays whose clocks differ, the order of what is
//! nearer is not defined (ALQ-D-11), only that all of them choose the same. In one world of seven all clocks are right.

mod clients;
mod faults;
mod network;
mod scenes;

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use relay_core::alq::CloseReason;
use relay_core::time::Instant;
use relay_tests::bench::Client;

use crate::model::{Key, Model};
use crate::node::{HISTORY, Node};
use crate::random::Random;
use crate::wire::{End, Wire};

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
/// Bytes come in pieces, so that messages and catch-ups are cut anywhere.
const PIECE_BYTES: usize = 400;
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
    /// What happens is written in a test, and the server hears all.
    is_scripted: bool,
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
        let mut world = Self::down(seed, random, HISTORY, (nodes, is_secure));
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

    /// No relay is up yet.
    fn down(
        seed: u64,
        random: Random,
        history: Duration,
        (nodes, is_secure): (usize, bool),
    ) -> Self {
        let is_exact = seed.is_multiple_of(7);
        let clients: Vec<_> = (0..CLIENTS)
            .map(|n| Client::new(n as u16 + 1, if n % 2 == 0 { 2 } else { 3 }))
            .collect();
        Self {
            seed,
            now: 1000 * SECOND,
            nodes: (0..nodes)
                .map(|at| Node::new(at, nodes, is_secure, history))
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
            is_scripted: false,
            tolerance: if is_exact {
                TOLERANCE
            } else {
                TOLERANCE_OF_WRONG_CLOCKS
            },
            log: Vec::new(),
            random,
        }
    }

    /// One whole history.
    pub fn run(&mut self, steps: usize) {
        for _ in 0..steps {
            self.step();
        }
        self.end();
    }

    /// All is healed, and after a while all relays hold the same, and what the model holds.
    fn end(&mut self) {
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
