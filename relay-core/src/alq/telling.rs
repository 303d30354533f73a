//! One query being answered: what has been told, what comes next, and when that is all.
//!
//! Decides the order of answers (RFC 5460 §7.2, RFC 7653 §9.3) and how much of it is done at once, so
//! that relaying goes on meanwhile. Must not know of sockets: a buffer is filled whenever the one
//! before is gone, out of the table as it is then (ALQ-62).

use alloc::vec::Vec;
use core::ops::Bound;

use super::answer::{Scope, Sources, Teller};
use super::input::{ConnectionId, Remote};
use super::query::Asked;
use super::server::{Server, count_status, earlier};
use super::server_state::State;
use super::view::{CatchUp, Neighbor, Role, SessionState};
use super::{Context, Shared};
use crate::binding::Bindings;
use crate::binding::changes::{CursorId, Node};
use crate::config::LeasequeryConfig;
use crate::time::{Instant, LqTime, WallClock};
use crate::types::{PeerId, Xid};
use crate::wire::iana;
use crate::wire::leasequery::{Answers, RequestedOptions, Status};

/// Bytes of one buffer, but for the message that goes beyond.
const SEND_BYTES: usize = 16 << 10;
/// Nodes looked at for one buffer.
const WALK_NODES: usize = 512;
/// A start time so far ahead is of another clock than ours (RFC 8156 §7.5.1).
const AHEAD_SECS: i32 = 5;

/// The answer to one query.
#[derive(Debug)]
pub(super) struct Telling {
    asked: Asked,
    is_active: bool,
    progress: Progress,
}

#[derive(Debug)]
enum Progress {
    /// Nothing was said.
    Waiting,
    /// The list of changes is read.
    Walk {
        cursor: CursorId,
        scope: Scope,
        /// LEASEQUERY-REPLY has gone out.
        has_replied: bool,
    },
    /// These were looked up; the next is the last.
    Found {
        nodes: Vec<Node>,
        scope: Scope,
        has_replied: bool,
    },
}

/// What a filled buffer holds, and what is left.
#[derive(Default)]
struct Filled {
    leases: usize,
    /// The oldest change that was told in a later second than its own.
    late_since: Option<Instant>,
    status: Option<u16>,
    /// The catch-up ended.
    is_caught_up: bool,
    /// The query is answered for good.
    is_done: bool,
}

const LIVE: Scope = Scope {
    since: Instant::from_nanos(0),
    until: Instant::NEVER,
    is_live: true,
};

impl Telling {
    pub(super) const fn new(asked: Asked, is_active: bool) -> Self {
        Self {
            asked,
            is_active,
            progress: Progress::Waiting,
        }
    }

    /// What its connection is doing.
    pub(super) fn state(&self) -> State {
        match &self.progress {
            _ if !self.is_active => State::Bulk,
            Progress::Waiting if self.asked.start_time.is_some() => State::CatchUp,
            Progress::Walk { scope, .. } if !scope.is_live => State::CatchUp,
            _ => State::Live,
        }
    }

    /// Nothing was said yet.
    const fn is_waiting(&self) -> bool {
        matches!(self.progress, Progress::Waiting)
    }

    /// Whether there is something to say now.
    fn has_more(&self, bindings: &Bindings) -> bool {
        let is_all_told = !self.is_waiting() && self.state() == State::Live;
        !is_all_told || self.next(bindings).is_some()
    }

    const fn has_replied(&self) -> bool {
        match self.progress {
            Progress::Waiting => false,
            Progress::Walk { has_replied, .. } | Progress::Found { has_replied, .. } => has_replied,
        }
    }

    /// The next is told no more.
    pub(super) fn close(&self, bindings: &mut Bindings) {
        if let Progress::Walk { cursor, .. } = self.progress {
            bindings.changes_mut().close(cursor);
        }
    }

    /// The oldest change that the other end was not told, although messages built since may have
    /// moved its resume point past it. In a catch-up it does not move (ALQ-34).
    // req: ALQ-D-25
    pub(super) fn unsent_since(&self, bindings: &Bindings) -> Option<Instant> {
        match &self.progress {
            Progress::Walk { cursor, scope, .. } if self.is_active && scope.is_live => {
                let next = bindings.changes().next(*cursor)?;
                bindings.changes().changed_at(next)
            }
            _ => None,
        }
    }

    /// Says that the query ends here.
    // req: ALQ-58, ALQ-71, BLQ-25
    pub(super) fn terminate(
        &self,
        shared: &mut Shared,
        cx: &mut Context<'_>,
        id: ConnectionId,
        status: u16,
    ) {
        let base_time = shared.base_time(cx.now());
        let answers = self.answers(&shared.config);
        let said = Some(Status::new(status));
        let out = &mut *cx.act.out;
        shared.connections.send(cx.act.now, out, id, |buffer| {
            // Both always fit.
            let _ = match self.has_replied() {
                true => answers.write_done(buffer, base_time, said),
                false => answers.write_reply(buffer, base_time, said, None).map(drop),
            };
        });
        count_status(shared, id, Some(status));
    }

    fn answers<'a>(&'a self, config: &'a LeasequeryConfig) -> Answers<'a> {
        let asked = &self.asked;
        answers(config, asked.xid, &asked.client_id, asked.requested)
    }

    /// Chooses what is read, and from where.
    fn begin(
        &mut self,
        now: Instant,
        clock: WallClock,
        unsent: Option<Instant>,
        bindings: &mut Bindings,
    ) {
        let asked = &self.asked;
        let from = asked.start_time.map(|start| {
            let start = clock.instant_told(now, start);
            unsent.map_or(start, |unsent| unsent.min(start)) // req: ALQ-D-25
        });
        let scope = Scope {
            since: from.unwrap_or_default(),
            until: asked.end_time.map_or(Instant::NEVER, |LqTime(end)| {
                clock.instant_of(now, LqTime(end.wrapping_add(1))) // req: BLQ-34
            }),
            is_live: false,
        };
        let found: Option<Vec<Node>> = match (asked.wanted.address(), asked.wanted.client()) {
            _ if self.is_active => None,
            _ if asked.wanted.is_nobody() => Some(Vec::new()),
            // req: BLQ-13
            (Some(address), _) => Some(bindings.of_address(address).collect()),
            (None, Some(duid)) => Some(bindings.of_duid(duid).collect()),
            (None, None) => None,
        };
        let has_replied = false;
        self.progress = match found {
            Some(nodes) => Progress::Found {
                nodes,
                scope,
                has_replied,
            },
            None if self.is_active
                && (from.is_none() || self.is_missing(now, clock, scope, bindings)) =>
            {
                Progress::Walk {
                    cursor: bindings.changes_mut().read_new(),
                    scope: LIVE,
                    has_replied,
                }
            }
            None => Progress::Walk {
                cursor: bindings.changes_mut().read_all(scope.since),
                scope,
                has_replied,
            },
        };
    }

    /// Whether changes since the start time are not known any more, or it is no time of ours.
    // req: ALQ-66, ALQ-D-9, ALQ-D-10
    fn is_missing(
        &self,
        now: Instant,
        clock: WallClock,
        scope: Scope,
        bindings: &Bindings,
    ) -> bool {
        let ahead = |start: LqTime| start.secs_since(clock.lq_time(now)) > AHEAD_SECS;
        scope.since < bindings.history_begin() || self.asked.start_time.is_some_and(ahead)
    }

    /// Writes the next messages.
    fn fill(
        &mut self,
        buffer: &mut Vec<u8>,
        teller: &mut Teller,
        shared: &FillFrom<'_>,
        bindings: &mut Bindings,
    ) -> Filled {
        let mut filled = Filled::default();
        let start = buffer.len();
        self.reply_first(buffer, shared, &mut filled);
        self.notice_missed(buffer, shared, bindings, &mut filled);
        for _ in 0..WALK_NODES {
            if buffer.len() - start >= SEND_BYTES {
                return filled;
            }
            let Some(node) = self.next(bindings) else {
                self.drained(buffer, shared, &mut filled);
                break;
            };
            self.tell(buffer, teller, &shared.sources(bindings), node, &mut filled);
            self.step(bindings);
        }
        if buffer.len() == start && shared.is_idle && self.is_active {
            // A keep-alive. req: ALQ-64
            let _ = self
                .answers(shared.config)
                .write_data(buffer, shared.base_time(), None, None);
        }
        filled
    }

    /// Active: LEASEQUERY-REPLY at once, without data. Bulk: with the first client.
    // req: ALQ-57, ALQ-D-6
    fn reply_first(&mut self, buffer: &mut Vec<u8>, shared: &FillFrom<'_>, filled: &mut Filled) {
        if !self.is_active || self.has_replied() {
            return;
        }
        let is_missing = self.asked.start_time.is_some() && self.state() == State::Live;
        let status = is_missing.then_some(iana::STATUS_DATA_MISSING);
        let answers = self.answers(shared.config);
        let _ = answers.write_reply(buffer, shared.base_time(), status.map(Status::new), None);
        filled.status = status;
        filled.is_caught_up = is_missing;
        self.set_replied();
    }

    /// What was forgotten before it was told ends the catch-up.
    // req: ALQ-67
    fn notice_missed(
        &mut self,
        buffer: &mut Vec<u8>,
        shared: &FillFrom<'_>,
        bindings: &mut Bindings,
        filled: &mut Filled,
    ) {
        if let Progress::Walk { cursor, scope, .. } = &mut self.progress
            && self.is_active
            && !scope.is_live
            && bindings.changes().has_missed(*cursor)
        {
            *scope = LIVE;
            bindings.changes_mut().skip_all(*cursor);
            let status = iana::STATUS_DATA_MISSING;
            let said = Some(Status::new(status));
            let _ = self
                .answers(shared.config)
                .write_data(buffer, shared.base_time(), said, None);
            filled.status = Some(status);
            filled.is_caught_up = true;
        }
    }

    fn next(&self, bindings: &Bindings) -> Option<Node> {
        match &self.progress {
            Progress::Waiting => None,
            Progress::Walk { cursor, .. } => bindings.changes().next(*cursor),
            Progress::Found { nodes, .. } => nodes.last().copied(),
        }
    }

    fn step(&mut self, bindings: &mut Bindings) {
        match &mut self.progress {
            Progress::Waiting => {}
            Progress::Walk { cursor, .. } => bindings.changes_mut().step(*cursor),
            Progress::Found { nodes, .. } => drop(nodes.pop()),
        }
    }

    /// All is read: catch-up becomes live, a bulk query is answered.
    // req: ALQ-68, ALQ-70, BLQ-22, BLQ-23, BLQ-24
    fn drained(&mut self, buffer: &mut Vec<u8>, shared: &FillFrom<'_>, filled: &mut Filled) {
        let base_time = shared.base_time();
        let has_replied = self.has_replied();
        match &mut self.progress {
            Progress::Walk { scope, .. } if self.is_active => {
                if !scope.is_live {
                    *scope = LIVE;
                    let status = iana::STATUS_CATCH_UP_COMPLETE;
                    let said = Some(Status::new(status));
                    let _ = self
                        .answers(shared.config)
                        .write_data(buffer, base_time, said, None);
                    filled.status = Some(status);
                    filled.is_caught_up = true;
                }
            }
            _ => {
                let answers = self.answers(shared.config);
                let _ = match has_replied {
                    true => answers.write_done(buffer, base_time, None),
                    false => answers.write_reply(buffer, base_time, None, None).map(drop),
                };
                filled.is_done = true;
            }
        }
    }

    /// Tells of a node, where it is to be told. What changes meanwhile comes later in the same order.
    // req: ALQ-69, BLQ-20, BLQ-21
    fn tell(
        &mut self,
        buffer: &mut Vec<u8>,
        teller: &mut Teller,
        from: &Sources<'_>,
        node: Node,
        filled: &mut Filled,
    ) {
        let (scope, is_walk) = match &self.progress {
            Progress::Waiting => return,
            Progress::Walk { scope, .. } => (*scope, true),
            Progress::Found { scope, .. } => (*scope, false),
        };
        let is_told = match is_walk {
            true => {
                teller.is_told(from, &self.asked, scope, node)
                    && !teller.is_told_later(from, &self.asked, scope, node)
            }
            false => teller.is_any_told(from, &self.asked, scope, node),
        };
        if !is_told {
            return;
        }
        let base_time = from.clock.lq_time(from.now);
        let mut has_replied = self.has_replied();
        let answers = self.answers(from.config);
        filled.leases += teller.tell(from, scope, node, |client| {
            // One lease always fits; more are split.
            let _ = match core::mem::replace(&mut has_replied, true) {
                true => answers.write_data(buffer, base_time, None, Some(client)),
                false => answers.write_reply(buffer, base_time, None, Some(client)), // req: BLQ-19
            };
        });
        if has_replied {
            self.set_replied();
        }
        let changed_at = from.bindings.changes().changed_at(node);
        if let Some(changed_at) = changed_at.filter(|_| scope.is_live)
            && from.clock.lq_time(changed_at) != base_time
        {
            filled.late_since = earlier(filled.late_since, changed_at);
        }
    }

    const fn set_replied(&mut self) {
        match &mut self.progress {
            Progress::Waiting => {}
            Progress::Walk { has_replied, .. } | Progress::Found { has_replied, .. } => {
                *has_replied = true;
            }
        }
    }
}

/// What messages are filled from, besides the table.
struct FillFrom<'a> {
    now: Instant,
    clock: WallClock,
    config: &'a LeasequeryConfig,
    links: &'a crate::relaying::link::Links,
    /// Nothing was sent for ACTIVE_LQ_IDLE_TIMEOUT.
    is_idle: bool,
}

impl<'a> FillFrom<'a> {
    const fn base_time(&self) -> LqTime {
        self.clock.lq_time(self.now)
    }

    const fn sources(&self, bindings: &'a Bindings) -> Sources<'a> {
        Sources {
            now: self.now,
            clock: self.clock,
            config: self.config,
            links: self.links,
            bindings,
        }
    }
}

impl Server {
    /// Fills a buffer on each connection that can take one and has something to say.
    // req: ALQ-60, ALQ-62
    pub(crate) fn pump(&mut self, shared: &mut Shared, cx: &mut Context<'_>) {
        // Answers out of half a table would be wrong. req: ALQ-D-27
        if !shared.is_loaded {
            return;
        }
        let mut from = Bound::Unbounded;
        while let Some((id, _)) = self.sessions.range((from, Bound::Unbounded)).next() {
            let id = *id;
            from = Bound::Excluded(id);
            self.pump_one(shared, cx, id);
        }
    }

    fn pump_one(&mut self, shared: &mut Shared, cx: &mut Context<'_>, id: ConnectionId) {
        let now = cx.now();
        let (Some(session), Some(connection)) =
            (self.sessions.get_mut(&id), shared.connections.get(id))
        else {
            return;
        };
        let Some(telling) = session
            .telling
            .front_mut()
            .filter(|_| connection.is_writable())
        else {
            return;
        };
        let peer = session.peer;
        let is_idle = connection.last_sent + shared.config.idle_timeout <= now;
        let memory = shared.memory(peer);
        if telling.is_waiting() {
            telling.begin(now, shared.clock, memory.unsent_since, cx.bindings);
            session.catch_up = CatchUp {
                requested_from: telling.asked.start_time.map(|LqTime(secs)| secs),
                started_at: Some(now),
                ..CatchUp::default()
            };
        } else if !is_idle && !telling.has_more(cx.bindings) {
            if memory.unsent_since.is_some() {
                let settled = now + shared.config.send_timeout;
                self.settling.entry(peer).or_insert(settled);
            }
            return;
        }
        let fill_from = FillFrom {
            now,
            clock: shared.clock,
            config: &shared.config,
            links: cx.act.links,
            is_idle,
        };
        let (teller, bindings) = (&mut self.teller, &mut *cx.bindings);
        let filled = shared.connections.send(now, cx.act.out, id, |buffer| {
            telling.fill(buffer, teller, &fill_from, bindings)
        });
        if let Some(filled) = filled {
            self.filled(shared, cx, id, &filled);
        }
    }

    /// What follows from a filled buffer.
    fn filled(
        &mut self,
        shared: &mut Shared,
        cx: &mut Context<'_>,
        id: ConnectionId,
        filled: &Filled,
    ) {
        let Some(session) = self.sessions.get_mut(&id) else {
            return;
        };
        let (peer, remote) = (session.peer, Remote::Peer(session.peer));
        let is_live = session
            .telling
            .front()
            .is_some_and(|it| it.state() == State::Live);
        if !is_live || filled.is_caught_up {
            session.catch_up.received += filled.leases as u64;
        }
        if filled.is_caught_up || filled.is_done {
            session.catch_up.is_complete = filled.status != Some(iana::STATUS_DATA_MISSING);
            session.catch_up.completed_at = Some(cx.now());
            session.since = cx.now();
            cx.changed(remote);
        }
        count_status(shared, id, filled.status);
        let counters = shared.connections.counters_mut(remote, Role::Server);
        counters.statistics.bindings_sent += filled.leases as u64;
        if is_live {
            counters.last_error = None;
        }
        if let Some(late_since) = filled.late_since {
            // It is not there yet, and its base-time is.
            // req: ALQ-D-25
            self.settling.remove(&peer);
            shared.remember(cx, peer, |it| {
                it.unsent_since = earlier(it.unsent_since, late_since)
            });
        }
        if filled.is_done {
            self.finished(shared, cx, id);
        }
    }

    /// Does what has become due: what was told late has arrived.
    pub(crate) fn handle_timeout(&mut self, shared: &mut Shared, cx: &mut Context<'_>) {
        let now = cx.now();
        let settled = |settling: &mut alloc::collections::BTreeMap<PeerId, Instant>| {
            settling.extract_if(.., |_, at| *at <= now).next()
        };
        while let Some((peer, _)) = settled(&mut self.settling) {
            // Whoever did not take it by now was closed by ACTIVE_LQ_SEND_TIMEOUT.
            shared.remember(cx, peer, |it| it.unsent_since = None);
        }
    }

    /// Whether some peer was not told of all changes, or is not there to be told.
    pub(crate) fn is_anybody_behind(&self, shared: &Shared, bindings: &Bindings) -> bool {
        let is_up_to_date = |telling: &Telling| telling.is_active && !telling.has_more(bindings);
        let knows_all = |peer| {
            let mut sessions = self.sessions.values().filter(|it| it.peer == peer);
            sessions.any(|it| it.telling.front().is_some_and(is_up_to_date))
        };
        shared.config.peers.iter().any(|peer| !knows_all(peer.id))
    }

    /// When something will be due.
    pub(crate) fn next_time(
        &self,
        shared: &Shared,
        bindings: &Bindings,
        now: Instant,
    ) -> Option<Instant> {
        let of_session = |(id, session): (&ConnectionId, &super::server::Session)| {
            let connection = shared.connections.get(*id).filter(|it| it.is_writable())?;
            let telling = session.telling.front().filter(|_| shared.is_loaded)?;
            if telling.has_more(bindings) {
                return Some(now);
            }
            Some(connection.last_sent + shared.config.idle_timeout)
        };
        let sessions = self.sessions.iter().filter_map(of_session);
        sessions.chain(self.settling.values().copied()).min()
    }

    /// What each peer is told.
    pub(crate) fn neighbors(
        &self,
        shared: &Shared,
        bindings: &Bindings,
        now: Instant,
    ) -> Vec<Neighbor> {
        let peers = shared.config.peers.iter().map(|peer| peer.id);
        peers
            .map(|peer| self.neighbor(shared, bindings, now, peer))
            .collect()
    }

    fn neighbor(
        &self,
        shared: &Shared,
        bindings: &Bindings,
        now: Instant,
        peer: PeerId,
    ) -> Neighbor {
        let remote = Remote::Peer(peer);
        // Of several connections, the one with the active query says most.
        let of_peer = self.sessions.iter().filter(|(_, it)| it.peer == peer);
        let best = of_peer.max_by_key(|(id, it)| {
            let telling = it.telling.front();
            (
                telling.map(|telling| telling.is_active),
                core::cmp::Reverse(**id),
            )
        });
        let best = best.and_then(|(id, it)| Some((shared.connections.get(*id)?, it)));
        let idle = self.idle.get(&peer).copied().unwrap_or_default();
        let counters = shared.connections.counters(remote, Role::Server);
        let counters = counters.cloned().unwrap_or_default();
        let lag = best.and_then(|(_, session)| {
            let since = session.telling.front()?.unsent_since(bindings);
            let lag = since.map_or(0, |since| now.saturating_since(since).as_nanos());
            session
                .telling
                .front()?
                .is_active
                .then_some(u64::try_from(lag).unwrap_or(u64::MAX))
        });
        Neighbor {
            remote,
            role: Role::Server,
            state: best.map_or(SessionState::Idle, |(connection, session)| {
                session_state(session.state(connection.tls), session)
            }),
            is_secure: best.is_some_and(|(it, _)| it.tls == super::connection::Tls::On),
            since: best.map_or(idle.since, |(_, session)| session.since),
            retry_at: None,
            catch_up: best.map_or(idle.catch_up, |(_, session)| session.catch_up),
            last_received: counters.last_received,
            last_sent: counters.last_sent,
            lag_nanos: lag,
            statistics: counters.statistics,
            last_error: counters.last_error.map(|reason| reason.name().into()),
        }
    }
}

fn session_state(state: State, session: &super::server::Session) -> SessionState {
    let is_waiting = session.telling.front().is_some_and(Telling::is_waiting);
    match state {
        State::Clear | State::Handshake => SessionState::TlsHandshake,
        State::Open | State::Secured => SessionState::QuerySent,
        _ if is_waiting => SessionState::QuerySent,
        State::Bulk => SessionState::BulkCatchUp,
        State::CatchUp => SessionState::CatchUp,
        State::Live => SessionState::Active,
    }
}

/// What all answers to one query have in common.
pub(super) const fn answers<'a>(
    config: &'a LeasequeryConfig,
    xid: Xid,
    client_id: &'a [u8],
    requested: RequestedOptions,
) -> Answers<'a> {
    Answers {
        xid,
        server_id: config.identity.as_slice(), // req: ALQ-D-22
        client_id,
        requested,
    }
}
