//! One relay with its shell: routes go in at once, the disk is at hand, clocks are wrong. Decides how a relay
//! of these histories is configured; passes on what it cannot do itself.

use std::net::Ipv6Addr;
use std::time::Duration;

use relay_core::alq::{LeasequeryEffect, LeasequeryInput, Neighbor, Remote, Role, SessionState};
use relay_core::config::{LeasequeryConfig, Peer, RelayConfig};
use relay_core::effect::{Effect, RouteChange};
use relay_core::input::{Input, RouteOutcome};
use relay_core::record::{Keeping, RecordChange};
use relay_core::relay::Relay;
use relay_core::time::Instant;
use relay_core::types::{AccessId, PeerId};
use relay_core::view::{BindingState, Cursor, Filter};
use relay_tests::bench;
use relay_tests::messages::ip;

use crate::disk::Disk;

/// 2026-01-01 00:00 UTC on a right clock at the begin of all histories, in nanoseconds of Unix time.
const WALL_AT_BEGIN: i64 = 1_767_225_600_000_000_000;
/// Ended bindings are remembered for so long at least; in seeded worlds no relay is away for longer.
pub const HISTORY: Duration = Duration::from_secs(4000);

/// What a relay cannot do itself.
#[derive(Debug)]
pub enum Out {
    /// A RELAY-FORW for the server.
    ToServer(Vec<u8>),
    /// A client got an answer.
    ToClient,
    /// Something for the network.
    Network(LeasequeryEffect, Vec<u8>),
}

/// One relay.
pub struct Node {
    /// Its number.
    pub at: usize,
    /// `None` while it is down.
    pub relay: Option<Relay>,
    /// What it keeps.
    pub disk: Disk,
    config: RelayConfig,
    /// Its wall clock less the right one.
    pub skew_nanos: i64,
    /// Of the connections that it accepted.
    pub accepted: u32,
    seed: u8,
    /// What it wants done.
    pub out: Vec<Out>,
}

/// The address of a relay.
pub fn address(at: usize) -> Ipv6Addr {
    ip(&format!("2001:db8:53::{:x}", at + 0xa0))
}

impl Node {
    /// Down, with an empty disk.
    pub fn new(at: usize, nodes: usize, is_secure: bool, history: Duration) -> Self {
        let mut config = bench::config();
        config.relay_id = [&[0, 3, 0, 1, 2, 0, 0, 0, 1][..], &[at as u8]].concat();
        for (n, access) in config.access.iter_mut().enumerate() {
            access.link_address = ip(&format!("2001:db8:{}::{:x}", n + 1, at + 1));
        }
        let peers = (0..nodes).filter(|peer| *peer != at).map(|peer| Peer {
            id: PeerId(peer as u16),
            address: address(peer),
            is_secure,
            tls_name: 0,
            has_shared_interface_id: false,
            // One of the links is named by the configuration, the other is found by its network.
            links: vec![(ip(&format!("2001:db8:1::{:x}", peer + 1)), AccessId(0))],
        });
        config.leasequery = LeasequeryConfig {
            enabled: true,
            identity: config.relay_id.clone(),
            own_address: Some(address(at)),
            receive_timeout: Duration::from_secs(120),
            send_timeout: Duration::from_secs(120),
            idle_timeout: Duration::from_secs(60),
            max_connections: 10,
            history,
            ready_timeout: Duration::from_secs(180),
            has_core_carrier: true,
            peers: peers.collect(),
            bulk_servers: Vec::new(),
        };
        Self {
            at,
            relay: None,
            disk: Disk::default(),
            config,
            skew_nanos: 0,
            accepted: 0,
            seed: at as u8,
            out: Vec::new(),
        }
    }

    /// Starts with what is on its disk.
    pub fn start(&mut self, now: Instant) {
        self.seed = self.seed.wrapping_add(16);
        let mut relay = Relay::new(self.config.clone(), [self.seed; 16]);
        self.tell_clock(&mut relay, now);
        self.disk.restore(&mut relay, now);
        relay.set_keeping(Keeping::Awaited);
        relay.resend_routes();
        relay.handle_input(now, Input::Leasequery(LeasequeryInput::Loaded));
        self.relay = Some(relay);
        self.follow(now);
    }

    /// Its clock was set.
    pub fn set_clock(&mut self, now: Instant, skew_nanos: i64) {
        self.skew_nanos = skew_nanos;
        if let Some(mut relay) = self.relay.take() {
            self.tell_clock(&mut relay, now);
            self.relay = Some(relay);
            self.follow(now);
        }
    }

    fn tell_clock(&self, relay: &mut Relay, now: Instant) {
        let ahead_nanos = WALL_AT_BEGIN + self.skew_nanos;
        relay.handle_input(now, Input::WallClock { ahead_nanos });
    }

    /// One input, if it is up.
    pub fn input(&mut self, now: Instant, input: Input<'_>) {
        if let Some(relay) = &mut self.relay {
            relay.handle_input(now, input);
            self.follow(now);
        }
    }

    /// When it wants to be called.
    pub fn due(&self) -> Option<Instant> {
        self.relay.as_ref()?.poll_timeout()
    }

    /// Calls it.
    pub fn timeout(&mut self, now: Instant) {
        if let Some(relay) = &mut self.relay {
            relay.handle_timeout(now);
            self.follow(now);
        }
    }

    /// Does what it wants done.
    fn follow(&mut self, now: Instant) {
        let Some(relay) = &mut self.relay else { return };
        while let Some(effect) = relay.poll_effect() {
            match effect {
                Effect::SendToServer { message, .. } => {
                    let message = relay.message(message).to_vec();
                    self.out.push(Out::ToServer(message));
                }
                Effect::SendToClient { .. } => self.out.push(Out::ToClient),
                Effect::Route(RouteChange::Put(route)) => {
                    let outcome = RouteOutcome {
                        prefix: route.prefix,
                        version: route.version,
                        result: Ok(()),
                    };
                    relay.handle_input(now, Input::Route(outcome));
                }
                Effect::Record { change, sequence } => {
                    match change {
                        RecordChange::Put(key) => {
                            if let Some(record) = relay.record(key) {
                                self.disk.put(record);
                            }
                        }
                        RecordChange::Remove { id } => self.disk.remove(id),
                    }
                    relay.handle_input(now, Input::Stored { through: sequence });
                }
                Effect::Leasequery(LeasequeryEffect::Remember(memory)) => {
                    self.disk.remember(memory);
                }
                Effect::Leasequery(effect) => {
                    let bytes = match effect {
                        LeasequeryEffect::Send { bytes, .. } => relay.message(bytes).to_vec(),
                        _ => Vec::new(),
                    };
                    self.out.push(Out::Network(effect, bytes));
                }
                _ => {}
            }
        }
    }

    /// Its active leases: DUID, lease, end in nanoseconds.
    pub fn leases(&self) -> Vec<(Vec<u8>, String, u64)> {
        let mut all = Vec::new();
        let Some(relay) = &self.relay else { return all };
        let mut from = Cursor::default();
        loop {
            let page = relay.page(&Filter::default(), from, 64);
            for subscriber in page.subscribers {
                for lease in subscriber.bindings {
                    if lease.state == BindingState::Active {
                        let end = lease.valid_until.as_nanos();
                        all.push((subscriber.duid.clone(), lease.prefix.to_string(), end));
                    }
                }
            }
            match page.next {
                Some(next) => from = next,
                None => return all,
            }
        }
    }

    /// Its digest over all links, which it numbers as all others do here.
    pub fn digests(&self) -> Vec<(u16, u64, u64)> {
        let relay = self.relay.as_ref();
        let digests = relay.map(Relay::digests).unwrap_or_default();
        let digests = digests
            .into_iter()
            .filter(|(_, digest)| digest.bindings > 0);
        let mut digests: Vec<_> = digests
            .map(|(access, digest)| (access.0, digest.bindings, digest.sum))
            .collect();
        digests.sort_unstable();
        digests
    }

    /// What it shows of its session toward a peer.
    pub fn asking(&self, peer: usize) -> Option<Neighbor> {
        let remote = Remote::Peer(PeerId(peer as u16));
        let all = self.relay.as_ref()?.neighbors();
        let mut all = all.into_iter();
        all.find(|it| it.remote == remote && it.role == Role::Requestor)
    }

    /// Whether it asks each of these peers and is told live changes.
    pub fn is_in_sync_with(&self, peers: usize) -> bool {
        let Some(relay) = &self.relay else {
            return false;
        };
        let active = relay
            .neighbors()
            .iter()
            .filter(|it| it.role == Role::Requestor && it.state == SessionState::Active)
            .count();
        active == peers
    }
}
