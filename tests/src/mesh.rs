//! Several relays that ask each other: TCP between them in virtual time, whole and in order.
//!
//! Decides what a connection does; must not know what goes over it. Relay `n` is peer `n` of all
//! others and has the address [`address`]. TLS is up as soon as both ends have asked for it.

use std::collections::{BTreeMap, BTreeSet};
use std::net::Ipv6Addr;
use std::time::Duration;

use relay_core::alq::{
    CloseReason, ConnectionId, LeasequeryEffect, LeasequeryInput, Neighbor, PeerMemory, Remote,
    Role,
};
use relay_core::config::{LeasequeryConfig, Peer, RelayConfig};
use relay_core::input::Input;
use relay_core::time::Instant;
use relay_core::types::PeerId;

use crate::bench::{Bench, SECOND, config};

/// Unix time at the start of the bench's clock: 2025-07-08.
pub const AHEAD_NANOS: i64 = 1_751_990_000_000_000_000;
/// Effects that are carried out at one moment; more means that two relays talk without end.
const MAX_EFFECTS: usize = 10_000_000;

/// One end of a connection.
type End = (usize, ConnectionId);

/// The relays and what is between them.
pub struct Mesh {
    /// The relays. One that is down has none.
    pub benches: Vec<Option<Bench>>,
    /// Pairs between which nothing gets through, the lower number first.
    pub cut: BTreeSet<(usize, usize)>,
    /// What the disk of each holds of its peers.
    pub memories: Vec<BTreeMap<PeerId, PeerMemory>>,
    other_end: BTreeMap<End, End>,
    asked_tls: BTreeSet<End>,
    accepted: u32,
    is_secure: bool,
    now: Instant,
}

/// Where relay `n` is.
pub fn address(n: usize) -> Ipv6Addr {
    let n = u16::try_from(n).expect("a few relays");
    Ipv6Addr::new(0x2001, 0xdb8, 0xff, 0, 0, 0, 0, n + 1)
}

/// The configuration of relay `n` of `of`: that of the bench, with its own link-addresses in the same
/// networks as the others'.
pub fn member(n: usize, of: usize, is_secure: bool) -> RelayConfig {
    let mut config = config();
    let low = u16::try_from(n).expect("a few relays") + 1;
    for (at, access) in (1u16..).zip(&mut config.access) {
        access.link_address = Ipv6Addr::new(0x2001, 0xdb8, at, 0, 0, 0, 0, low);
    }
    let identity = vec![0, 3, 0, 1, 2, 0, 0, 0, 0, 0xa0 + n as u8];
    config.relay_id.clone_from(&identity);
    config.leasequery = LeasequeryConfig {
        enabled: true,
        identity,
        own_address: Some(address(n)),
        receive_timeout: 120 * SECOND,
        send_timeout: 120 * SECOND,
        idle_timeout: 60 * SECOND,
        max_connections: 10,
        history: 86_400 * SECOND,
        ready_timeout: 180 * SECOND,
        has_core_carrier: true,
        peers: (0..of)
            .filter(|peer| *peer != n)
            .map(|peer| Peer {
                id: PeerId(peer as u16),
                address: address(peer),
                is_secure,
                tls_name: 0,
                has_shared_interface_id: false,
                links: Vec::new(),
            })
            .collect(),
        bulk_servers: Vec::new(),
    };
    config
}

impl Mesh {
    /// So many relays, all up, with empty stores.
    pub fn new(of: usize, is_secure: bool) -> Self {
        let mut mesh = Self {
            benches: (0..of).map(|_| None).collect(),
            cut: BTreeSet::new(),
            memories: vec![BTreeMap::new(); of],
            other_end: BTreeMap::new(),
            asked_tls: BTreeSet::new(),
            accepted: 0,
            is_secure,
            now: Bench::default().now,
        };
        for n in 0..of {
            mesh.start(n);
        }
        mesh
    }

    /// Relay `n` starts with an empty table, and with what its disk holds of its peers.
    pub fn start(&mut self, n: usize) {
        let mut bench = Bench::new(member(n, self.benches.len(), self.is_secure));
        bench.now = self.now;
        bench.input(Input::WallClock {
            ahead_nanos: AHEAD_NANOS,
        });
        for memory in self.memories[n].values() {
            bench.input(Input::Leasequery(LeasequeryInput::Restore(*memory)));
        }
        bench.input(Input::Leasequery(LeasequeryInput::Loaded));
        self.benches[n] = Some(bench);
        self.settle();
    }

    /// Relay `n` dies with all that it had in memory; `loses_disk`: and on disk.
    pub fn crash(&mut self, n: usize, loses_disk: bool) {
        self.benches[n] = None;
        if loses_disk {
            self.memories[n].clear();
        }
        let ends: Vec<_> = self
            .other_end
            .keys()
            .filter(|end| end.0 == n)
            .copied()
            .collect();
        for end in ends {
            self.end(end, CloseReason::Remote);
        }
        self.settle();
    }

    /// Connections between two relays break, and none can be opened until [`Mesh::heal`].
    pub fn part(&mut self, a: usize, b: usize) {
        self.cut.insert((a.min(b), a.max(b)));
        let is_between = |(one, other): (&End, &End)| one.0 == a && other.0 == b;
        let ends: Vec<_> = self
            .other_end
            .iter()
            .filter(|ends| is_between(*ends))
            .map(|(end, _)| *end)
            .collect();
        for end in ends {
            self.end(end, CloseReason::Remote);
            self.tell(end, |connection| LeasequeryInput::Closed {
                connection,
                reason: CloseReason::Remote,
            });
        }
        self.settle();
    }

    /// Connections get through again.
    pub fn heal(&mut self, a: usize, b: usize) {
        self.cut.remove(&(a.min(b), a.max(b)));
    }

    /// The bench of relay `n`, which is up.
    pub fn bench(&mut self, n: usize) -> &mut Bench {
        self.benches[n].as_mut().expect("it is up")
    }

    /// Does something at relay `n`, and everything that follows from it.
    pub fn at<T>(&mut self, n: usize, act: impl FnOnce(&mut Bench) -> T) -> T {
        let done = act(self.bench(n));
        self.settle();
        done
    }

    /// Lets virtual time pass, each relay's timeouts at their times.
    pub fn advance(&mut self, time: Duration) {
        let end = self.now + time;
        loop {
            let due = self.benches.iter().flatten();
            let due = due.filter_map(|bench| bench.relay.poll_timeout()).min();
            let at = due.filter(|due| *due <= end).unwrap_or(end).max(self.now);
            let step = at.saturating_since(self.now);
            self.now = at;
            for bench in self.benches.iter_mut().flatten() {
                bench.advance(step);
            }
            self.settle();
            if at == end {
                return;
            }
        }
    }

    /// Number and sum of what relay `n` holds.
    pub fn digest(&self, n: usize) -> (u64, u64) {
        let bench = self.benches[n].as_ref().expect("it is up");
        let digests = bench.relay.digests();
        digests.iter().fold((0, 0), |(n, sum), (_, it)| {
            (n + it.bindings, sum.wrapping_add(it.sum))
        })
    }

    /// What relay `n` shows of its session with `peer`.
    pub fn neighbor(&self, n: usize, peer: usize, role: Role) -> Neighbor {
        let bench = self.benches[n].as_ref().expect("it is up");
        let remote = Remote::Peer(PeerId(peer as u16));
        let mut all = bench.relay.neighbors().into_iter();
        all.find(|it| it.remote == remote && it.role == role)
            .expect("a configured peer is shown")
    }

    /// Carries out what relays want of connections, until they want nothing more.
    fn settle(&mut self) {
        for _ in 0..MAX_EFFECTS {
            let next = self.benches.iter_mut().enumerate().find_map(|(n, bench)| {
                let (effect, bytes) = bench.as_mut()?.leasequery.pop_front()?;
                Some((n, effect, bytes))
            });
            match next {
                Some((n, effect, bytes)) => self.carry_out(n, effect, &bytes),
                None => return,
            }
        }
        panic!("relays talk without end");
    }

    fn carry_out(&mut self, n: usize, effect: LeasequeryEffect, bytes: &[u8]) {
        match effect {
            LeasequeryEffect::Connect { connection, to } => self.connect(n, connection, to),
            LeasequeryEffect::Send { connection, .. } => {
                let end = (n, connection);
                if let Some(other) = self.other_end.get(&end).copied() {
                    self.tell(other, |connection| LeasequeryInput::Received {
                        connection,
                        bytes,
                    });
                }
                self.tell(end, |connection| LeasequeryInput::Writable { connection });
            }
            LeasequeryEffect::StartTls { connection, .. } => {
                let end = (n, connection);
                self.asked_tls.insert(end);
                let Some(other) = self.other_end.get(&end).copied() else {
                    return;
                };
                if self.asked_tls.contains(&other) {
                    for end in [end, other] {
                        self.tell(end, |connection| LeasequeryInput::TlsUp { connection });
                    }
                }
            }
            LeasequeryEffect::Close { connection, .. } => {
                self.end((n, connection), CloseReason::Remote);
            }
            LeasequeryEffect::Remember(memory) => {
                self.memories[n].insert(memory.peer, memory);
            }
            LeasequeryEffect::Read { .. }
            | LeasequeryEffect::Changed(_)
            | LeasequeryEffect::Readiness => {}
        }
    }

    fn connect(&mut self, n: usize, connection: ConnectionId, to: Remote) {
        let Remote::Peer(PeerId(peer)) = to else {
            return self.refuse((n, connection));
        };
        let peer = usize::from(peer);
        let is_cut = self.cut.contains(&(n.min(peer), n.max(peer)));
        if is_cut || self.benches.get(peer).is_none_or(Option::is_none) {
            return self.refuse((n, connection));
        }
        self.accepted += 2;
        let (end, other) = ((n, connection), (peer, ConnectionId(self.accepted)));
        self.other_end.insert(end, other);
        self.other_end.insert(other, end);
        self.tell(other, |connection| LeasequeryInput::Accepted {
            connection,
            from: address(n),
        });
        self.tell(end, |connection| LeasequeryInput::Connected { connection });
    }

    fn refuse(&mut self, end: End) {
        self.tell(end, |connection| LeasequeryInput::Closed {
            connection,
            reason: CloseReason::ConnectFailed,
        });
    }

    /// One end is gone; the other hears of it.
    fn end(&mut self, end: End, reason: CloseReason) {
        if let Some(other) = self.other_end.remove(&end) {
            self.other_end.remove(&other);
            self.asked_tls.remove(&end);
            self.asked_tls.remove(&other);
            self.tell(other, |connection| LeasequeryInput::Closed {
                connection,
                reason,
            });
        }
    }

    fn tell<'a>(&mut self, end: End, input: impl FnOnce(ConnectionId) -> LeasequeryInput<'a>) {
        if let Some(bench) = self.benches[end.0].as_mut() {
            bench.input(Input::Leasequery(input(end.1)));
        }
    }
}
