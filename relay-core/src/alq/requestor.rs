//! We ask other relays and servers: RFC 7653 §8, RFC 5460 §6.
//!
//! Decides when there is an attempt, what is asked for, and from where a session goes on after it
//! was lost (the resume point). What may come when stands in [`super::session`] and [`super::bulk`];
//! which record of a lease is the true one is for the table.

use alloc::collections::BTreeMap;
use alloc::vec::Vec;

use super::bulk::{By, DATA_TIMEOUT, Fetch, Heard, REQUESTED, Wanted, status_text};
use super::connection::{Connection, Tls, count, peer_of};
use super::input::{CloseReason, ConnectionId, Remote};
use super::intake::{self, Teller};
use super::peer_session::Session;
use super::ready::{Progress, Ready};
use super::session::{Event, State, Step};
use super::skew::{Doubt, Skew};
use super::view::{CatchUp, Neighbor, Readiness, Role, SessionState};
use super::{Context, Shared};
use crate::config::LeasequeryConfig;
use crate::time::{Instant, LqTime};
use crate::types::{PeerId, ServerId, Xid};
use crate::view::Origin;
use crate::wire::iana;
use crate::wire::leasequery::{ActiveQuery, Answer, ClientData, LqLease, write_starttls};
use crate::wire::message::Message;

/// After an answer that will be the same the next time, in idle times.
const LONG_RETRY_FACTOR: u32 = 10;

/// Transaction-ids, none twice in a long while.
// req: ALQ-4
#[derive(Default, Debug)]
pub(crate) struct Numbers(u32);

impl Numbers {
    pub(crate) const fn next(&mut self) -> Xid {
        self.0 = (self.0 + 1) & 0x00ff_ffff;
        Xid(self.0)
    }
}

/// All our sessions.
#[derive(Default)]
pub(crate) struct Requestor {
    sessions: BTreeMap<PeerId, Session>,
    servers: BTreeMap<ServerId, Fetch>,
    numbers: Numbers,
    ready: Ready,
    /// Of the message at hand.
    leases: Vec<LqLease>,
}

impl Requestor {
    /// New surroundings: `shared.config` is new, `before` was the old.
    pub(crate) fn configure(
        &mut self,
        shared: &mut Shared,
        cx: &mut Context<'_>,
        before: &LeasequeryConfig,
    ) {
        if !before.has_core_carrier && shared.config.has_core_carrier {
            self.ready.carrier(cx.now());
        }
        let is_same = |id: PeerId| {
            let of = |config: &LeasequeryConfig| {
                let peer = config.peers.iter().find(|peer| peer.id == id).cloned();
                peer.filter(|_| config.enabled)
                    .map(|peer| (peer.address, peer.is_secure, config.identity.clone()))
            };
            of(before) == of(&shared.config)
        };
        let changed: Vec<_> = self
            .sessions
            .keys()
            .copied()
            .filter(|id| !is_same(*id))
            .collect();
        for id in changed {
            if let Some(mut session) = self.sessions.remove(&id) {
                session.close(shared, cx, CloseReason::Local);
            }
        }
        // Interface-Ids that mean a link now are not kept: they have to be told again.
        for peer in shared.config.peers.clone() {
            let was = before.peers.iter().find(|it| it.id == peer.id);
            if was.is_some_and(|was| was.has_shared_interface_id != peer.has_shared_interface_id) {
                self.resync(shared, cx, Some(peer.id));
            }
        }
        let is_wanted = |id: &ServerId| shared.config.bulk_servers.contains(id);
        let gone: Vec<_> = self
            .servers
            .keys()
            .copied()
            .filter(|id| !is_wanted(id))
            .collect();
        for id in gone {
            if let Some(mut fetch) = self.servers.remove(&id) {
                fetch.close(shared, cx, CloseReason::Local);
            }
        }
        self.begin(shared, cx);
    }

    /// The store has handed out all; [`Shared::memory`] is complete.
    pub(crate) fn loaded(&mut self, shared: &mut Shared, cx: &mut Context<'_>) {
        if shared.config.has_core_carrier {
            self.ready.carrier(cx.now());
        }
        self.begin(shared, cx);
    }

    /// Sessions and queries that are configured and not there yet.
    fn begin(&mut self, shared: &mut Shared, cx: &mut Context<'_>) {
        if !shared.is_loaded || shared.is_ending {
            return;
        }
        let now = cx.now();
        if shared.config.enabled {
            for peer in &shared.config.peers {
                let session = self.sessions.entry(peer.id);
                session.or_insert_with(|| Session::new(now, peer.id));
            }
        }
        for server in shared.config.bulk_servers.clone() {
            if !self.servers.contains_key(&server) {
                self.ask_server(shared, cx, server);
            }
        }
        self.start_due(shared, cx);
    }

    /// A server is asked by relay-id, ours and each peer's, and by each of our links.
    // req: BLQ-17, BLQ-18, LQ-38
    fn ask_server(&mut self, shared: &Shared, cx: &mut Context<'_>, server: ServerId) {
        let links = cx.act.links;
        let mut relay_ids: Vec<Vec<u8>> = Vec::new();
        let known = self.sessions.values().map(|session| &session.identity);
        let own = [links.relay_id(), &shared.config.identity];
        for id in own.into_iter().chain(known.map(Vec::as_slice)) {
            if !id.is_empty() && !relay_ids.iter().any(|it| it == id) {
                relay_ids.push(id.to_vec());
            }
        }
        let by_relay = relay_ids.into_iter().map(By::RelayId);
        let by_link = links.link_addresses().map(By::Link);
        let wanted = by_relay.chain(by_link).map(|by| Wanted {
            by,
            since: None,
            until: None,
        });
        let fetch = Fetch::new(cx.now(), Remote::Server(server), wanted.collect());
        self.servers.insert(server, fetch);
    }

    /// Whatever is due for an attempt is tried.
    fn start_due(&mut self, shared: &mut Shared, cx: &mut Context<'_>) {
        if !shared.is_loaded || shared.is_ending {
            return;
        }
        let now = cx.now();
        for session in self.sessions.values_mut() {
            if session.retry_at.is_some_and(|at| at <= now) {
                session.retry_at = None;
                if session.go(cx, Event::Start) == Some(Step::Connect) {
                    open(shared, cx, session);
                }
            }
            if let Some(fetch) = &mut session.fetch {
                fetch.start(shared, cx);
            }
        }
        for fetch in self.servers.values_mut() {
            fetch.start(shared, cx);
        }
    }

    /// A connection of ours is open.
    pub(crate) fn connected(
        &mut self,
        shared: &mut Shared,
        cx: &mut Context<'_>,
        id: ConnectionId,
    ) {
        let Some(remote) = shared.connections.get(id).map(|it| it.remote) else {
            return;
        };
        let is_secure = peer_of(&shared.config, remote).is_some_and(|peer| peer.is_secure);
        if let Some(fetch) = self.fetch_on(id) {
            let (fetch, numbers) = fetch;
            return fetch.connected(shared, cx, numbers, is_secure);
        }
        let event = match is_secure {
            true => Event::ConnectedSecure,
            false => Event::ConnectedInsecure,
        };
        self.step(shared, cx, id, event, None);
    }

    /// The handshake on a connection of ours is done.
    pub(crate) fn tls_up(&mut self, shared: &mut Shared, cx: &mut Context<'_>, id: ConnectionId) {
        match self.fetch_on(id) {
            Some((fetch, numbers)) => fetch.tls_up(shared, cx, numbers),
            None => self.step(shared, cx, id, Event::TlsUp, None),
        }
    }

    /// A connection of ours can take another buffer: queries are one buffer each.
    pub(crate) const fn writable(
        &mut self,
        _shared: &mut Shared,
        _cx: &mut Context<'_>,
        _id: ConnectionId,
    ) {
    }

    /// A message came on a connection of ours; timers and counters know of it.
    pub(crate) fn message(
        &mut self,
        shared: &mut Shared,
        cx: &mut Context<'_>,
        id: ConnectionId,
        message: &Message<'_>,
    ) {
        if let Some((fetch, numbers)) = self.fetch_on(id) {
            match fetch.message(shared, cx, numbers, message) {
                Heard::Nothing => {}
                Heard::Client(data, base_time) => {
                    self.take_bulk(shared, cx, id, &data, base_time);
                }
                Heard::Complete => self.complete(shared, cx, id),
            }
            return;
        }
        let Some(session) = self.session_on(id) else {
            return;
        };
        let (state, own_xid) = (session.state, session.xid);
        let Ok(answer) = Answer::read(message) else {
            let event = match state {
                State::TlsAsked => Event::TlsRefused,
                _ => return shared.close(cx, id, CloseReason::ProtocolError),
            };
            return self.step(shared, cx, id, event, None);
        };
        if let Some(status) = answer.status {
            let remote = Remote::Peer(session.peer);
            let counters = shared.connections.counters_mut(remote, Role::Requestor);
            count(&mut counters.statistics.statuses_received, status.code);
        }
        let is_ours = message.xid == own_xid;
        let event = match (state, message.message_type) {
            // req: ALQ-D-20
            (State::TlsAsked, iana::REPLY) if is_ours && answer.status.is_none() => {
                Event::TlsAccepted
            }
            (State::TlsAsked, _) => Event::TlsRefused,
            (State::QuerySent, iana::LEASEQUERY_REPLY)
                if !is_ours || !answer.is_reply_to(&shared.config.identity) =>
            {
                return; // req: LQ-24, ALQ-28
            }
            (State::QuerySent, iana::LEASEQUERY_REPLY) => {
                session.identity = answer.server_id.unwrap_or_default().to_vec();
                match (answer.status_code(), session.start_time) {
                    (iana::STATUS_SUCCESS, None) => Event::Success,
                    (iana::STATUS_SUCCESS, Some(_)) => Event::SuccessSince,
                    (iana::STATUS_DATA_MISSING, _) => Event::DataMissing,
                    (code, _) => {
                        let text = answer.status.map_or("", |status| status.text);
                        session.last_status = Some(status_text(code, text));
                        Event::Refused
                    }
                }
            }
            // req: ALQ-30, ALQ-32
            (State::CatchUp | State::Live, iana::LEASEQUERY_DATA) if is_ours => {
                match answer.status_code() {
                    iana::STATUS_CATCH_UP_COMPLETE => Event::CatchUpComplete,
                    iana::STATUS_DATA_MISSING => Event::DataMissing,
                    _ => Event::Data,
                }
            }
            (State::CatchUp | State::Live, iana::LEASEQUERY_DONE) if is_ours => Event::Done,
            // A second LEASEQUERY-REPLY, a foreign transaction-id, what has no place here.
            // req: ALQ-42
            _ => return shared.close(cx, id, CloseReason::ProtocolError),
        };
        if let Some(base_time) = answer.base_time {
            session.last_base_time = Some(base_time);
            let asked_at = (state == State::QuerySent).then_some(session.asked_at);
            let heard = session.hear(cx.now(), shared.clock, base_time, asked_at);
            if let Err(doubt) = heard {
                let peer = session.peer;
                return self.ask_again(shared, cx, peer, doubt);
            }
        }
        self.step(shared, cx, id, event, Some(&answer));
    }

    /// The peer's clock was set, or may have been: the answer to a new query tells what it shows.
    /// Where it was set back, nothing is known of its time any more.
    // req: ALQ-D-9
    fn ask_again(&mut self, shared: &mut Shared, cx: &mut Context<'_>, peer: PeerId, doubt: Doubt) {
        if let Some(session) = self.sessions.get_mut(&peer) {
            session.close(shared, cx, CloseReason::Local);
            session.retry_at = Some(cx.now());
            if doubt == Doubt::WentBack {
                shared.remember(cx, peer, |memory| memory.resume_point = None);
            }
        }
        self.start_due(shared, cx);
    }

    /// One event of the session on this connection.
    fn step(
        &mut self,
        shared: &mut Shared,
        cx: &mut Context<'_>,
        id: ConnectionId,
        event: Event,
        answer: Option<&Answer<'_>>,
    ) {
        let Some(session) = self
            .sessions
            .values_mut()
            .find(|it| it.connection == Some(id))
        else {
            return;
        };
        let Some(step) = session.go(cx, event) else {
            return shared.close(cx, id, CloseReason::ProtocolError);
        };
        if let Some(data) = answer.and_then(|it| it.client_data)
            && !matches!(step, Step::BackOff)
        {
            session.received(
                shared,
                cx,
                &mut self.leases,
                &data,
                answer.and_then(|it| it.base_time),
            );
        }
        let base_time = answer.and_then(|it| it.base_time);
        match step {
            Step::Connect | Step::Take | Step::Retry => {}
            Step::AskTls => {
                session.xid = self.numbers.next();
                let xid = session.xid;
                shared.send(cx, id, |buffer| write_starttls(buffer, xid));
            }
            Step::ShakeHands => {
                shared.connections.start_tls(cx.act.out, id, session.peer);
            }
            Step::Query => {
                session.xid = self.numbers.next();
                query(shared, cx, session, id);
            }
            Step::FetchAll => session.fetch(shared, cx, None, None),
            Step::FetchGap => session.fetch(shared, cx, session.start_time, base_time),
            Step::Complete => {
                session.catch_up.is_complete = true;
                session.catch_up.completed_at = Some(cx.now());
                session.resume_at(shared, cx, base_time);
            }
            Step::TakeAndResume => session.resume_at(shared, cx, base_time),
            Step::BackOff => {
                let delay = shared.config.idle_timeout * LONG_RETRY_FACTOR;
                session.close(shared, cx, CloseReason::Done);
                session.retry_at = Some(cx.now() + delay);
            }
            Step::CloseInsecure => {
                session.close(shared, cx, CloseReason::TlsRequired);
                session.retry_at = Some(cx.now() + self.ready.retry_after(&shared.config));
            }
            Step::Close | Step::ResumeAndClose => {
                if step == Step::ResumeAndClose {
                    session.resume_at(shared, cx, base_time);
                }
                session.close(shared, cx, CloseReason::Done);
                session.retry_at = Some(cx.now() + self.ready.retry_after(&shared.config));
            }
        }
        self.start_due(shared, cx);
    }

    /// A client in the answer to a bulk query.
    fn take_bulk(
        &mut self,
        shared: &mut Shared,
        cx: &mut Context<'_>,
        id: ConnectionId,
        data: &ClientData<'_>,
        base_time: Option<LqTime>,
    ) {
        let remote = shared.connections.get(id).map(|it| it.remote);
        match remote {
            Some(Remote::Peer(peer)) => {
                let Some(session) = self.sessions.get_mut(&peer) else {
                    return;
                };
                if let Some(base_time) = base_time
                    && let Err(doubt) = session.hear(cx.now(), shared.clock, base_time, None)
                {
                    return self.ask_again(shared, cx, peer, doubt);
                }
                session.received(shared, cx, &mut self.leases, data, base_time);
            }
            Some(Remote::Server(server)) => {
                let Some(fetch) = self.servers.get_mut(&server) else {
                    return;
                };
                let Some(address) = cx.act.links.server_address(server) else {
                    return;
                };
                let teller = Teller {
                    origin: Origin::BulkLeasequery(server),
                    address,
                    peer: None,
                    server_duid: Some(&fetch.server_duid),
                    skew: &Skew::default(),
                };
                // A server's clock is nobody's business: what it tells is as old as it says, now.
                let taken = intake::take(shared, cx, &mut self.leases, &teller, data, None);
                fetch.received += taken.leases;
                fetch.progress_at = cx.now();
                count_taken(shared, Remote::Server(server), taken);
            }
            None => {}
        }
    }

    /// The last bulk query on this connection was answered.
    fn complete(&mut self, shared: &mut Shared, cx: &mut Context<'_>, id: ConnectionId) {
        let is_it = |session: &&mut Session| {
            session
                .fetch
                .as_ref()
                .is_some_and(|it| it.connection() == Some(id))
        };
        if let Some(session) = self.sessions.values_mut().find(is_it) {
            if let Some(mut fetch) = session.fetch.take() {
                fetch.close(shared, cx, CloseReason::Done);
            }
            session.catch_up.is_complete = true;
            session.catch_up.completed_at = Some(cx.now());
            let base_time = session.last_base_time;
            session.resume_at(shared, cx, base_time);
            cx.changed(Remote::Peer(session.peer));
            return;
        }
        let is_it = |fetch: &&mut Fetch| fetch.connection() == Some(id);
        if let Some(fetch) = self.servers.values_mut().find(is_it) {
            fetch.close(shared, cx, CloseReason::Done);
        }
    }

    /// A connection of ours has ended, whoever ended it.
    pub(crate) fn ended(
        &mut self,
        shared: &mut Shared,
        cx: &mut Context<'_>,
        id: ConnectionId,
        _connection: &Connection,
        _reason: CloseReason,
    ) {
        let delay = self.ready.retry_after(&shared.config);
        if let Some((fetch, _)) = self.fetch_on(id) {
            return fetch.lost(cx, delay);
        }
        if let Some(session) = self.session_on(id)
            && session.go(cx, Event::Lost) == Some(Step::Retry)
        {
            // What a bulk query fetches begins anew with the next session.
            session.close(shared, cx, CloseReason::Local);
            session.retry_at = Some(cx.now() + delay);
        }
    }

    /// A peer has connected to us: it is back. One attempt for each time.
    // req: ALQ-D-18
    pub(crate) fn peer_connected(
        &mut self,
        shared: &mut Shared,
        cx: &mut Context<'_>,
        peer: PeerId,
    ) {
        let now = cx.now();
        if let Some(session) = self.sessions.get_mut(&peer) {
            if let Some(at) = &mut session.retry_at {
                *at = now;
            }
            let waiting = session.fetch.as_mut().and_then(|it| it.retry_at.as_mut());
            if let Some(at) = waiting {
                *at = now;
            }
        }
        self.start_due(shared, cx);
    }

    /// An operator wants all of a peer, or of all, anew.
    pub(crate) fn resync(
        &mut self,
        shared: &mut Shared,
        cx: &mut Context<'_>,
        peer: Option<PeerId>,
    ) {
        let now = cx.now();
        for session in self.sessions.values_mut() {
            if peer.is_none_or(|peer| peer == session.peer) {
                session.close(shared, cx, CloseReason::Local);
                session.retry_at = Some(now);
                let memory = session.peer;
                shared.remember(cx, memory, |memory| memory.resume_point = None);
                self.ready.begin_anew(now);
            }
        }
        self.start_due(shared, cx);
    }

    /// An operator wants a server asked, or all.
    pub(crate) fn query_server(
        &mut self,
        shared: &mut Shared,
        cx: &mut Context<'_>,
        server: Option<ServerId>,
    ) {
        for id in shared.config.bulk_servers.clone() {
            if server.is_none_or(|server| server == id) && shared.is_loaded {
                if let Some(mut fetch) = self.servers.remove(&id) {
                    fetch.close(shared, cx, CloseReason::Local);
                }
                self.ask_server(shared, cx, id);
            }
        }
        self.start_due(shared, cx);
    }

    /// The daemon ends.
    pub(crate) fn shutdown(&mut self, shared: &mut Shared, cx: &mut Context<'_>) {
        for session in self.sessions.values_mut() {
            session.close(shared, cx, CloseReason::Local);
        }
        for fetch in self.servers.values_mut() {
            fetch.close(shared, cx, CloseReason::Local);
        }
    }

    /// Does what has become due.
    pub(crate) fn handle_timeout(&mut self, shared: &mut Shared, cx: &mut Context<'_>) {
        self.start_due(shared, cx);
    }

    /// When something will be due, besides the deadlines of connections.
    pub(crate) fn next_time(&self, shared: &Shared, _now: Instant) -> Option<Instant> {
        if !shared.is_loaded || shared.is_ending {
            return None;
        }
        let sessions = self.sessions.values().flat_map(|it| {
            let fetch = it.fetch.as_ref().and_then(|it| it.retry_at);
            [it.retry_at, fetch]
        });
        let fetches = self.servers.values().map(|it| it.retry_at);
        let retries = sessions.chain(fetches).flatten().min();
        let given_up = self.ready.next_time(&shared.config, self.progress());
        retries.into_iter().chain(given_up).min()
    }

    /// Looks whether this relay is in sync by now. After every input.
    pub(crate) fn look(&mut self, shared: &Shared, cx: &mut Context<'_>) {
        let pending = cx.bindings.routes_to_come();
        let progress = self.sessions.values().map(Session::progress);
        let servers = self.servers.iter().map(|(id, it)| it.progress(*id));
        self.ready
            .look(shared, cx, progress.chain(servers), pending);
    }

    /// Whether this relay may attract traffic.
    pub(crate) const fn readiness(&self) -> &Readiness {
        self.ready.shown()
    }

    fn progress(&self) -> impl Iterator<Item = Progress> {
        let sessions = self.sessions.values().map(Session::progress);
        sessions.chain(self.servers.iter().map(|(id, it)| it.progress(*id)))
    }

    /// For `show`.
    pub(crate) fn neighbors(&self, shared: &Shared) -> Vec<Neighbor> {
        let sessions = self.sessions.values().map(|it| {
            let fetching = it.fetch.as_ref().filter(|_| it.state == State::Live);
            Neighbor {
                state: fetching.map_or(it.shown_state(), |_| SessionState::BulkCatchUp),
                since: it.since,
                retry_at: it.retry_at,
                catch_up: it.catch_up,
                lag_nanos: it.lag_nanos(),
                last_error: it.last_status.clone(),
                ..bare(shared, Remote::Peer(it.peer), it.connection)
            }
        });
        let servers = self.servers.iter().map(|(id, it)| Neighbor {
            state: it.shown_state(),
            since: it.since,
            retry_at: it.retry_at,
            catch_up: it.catch_up(),
            last_error: it.last_status.clone(),
            ..bare(shared, Remote::Server(*id), it.connection())
        });
        sessions.chain(servers).collect()
    }

    fn session_on(&mut self, id: ConnectionId) -> Option<&mut Session> {
        self.sessions
            .values_mut()
            .find(|it| it.connection == Some(id))
    }

    fn fetch_on(&mut self, id: ConnectionId) -> Option<(&mut Fetch, &mut Numbers)> {
        let of_peers = self
            .sessions
            .values_mut()
            .filter_map(|it| it.fetch.as_mut());
        let mut all = of_peers.chain(self.servers.values_mut());
        let fetch = all.find(|it| it.connection() == Some(id))?;
        Some((fetch, &mut self.numbers))
    }
}

/// A neighbour of whom nothing is known but its counters.
fn bare(shared: &Shared, remote: Remote, connection: Option<ConnectionId>) -> Neighbor {
    let counters = shared.connections.counters(remote, Role::Requestor);
    let connection = connection.and_then(|id| shared.connections.get(id));
    Neighbor {
        remote,
        role: Role::Requestor,
        state: SessionState::Idle,
        is_secure: connection.is_some_and(|it| it.tls == Tls::On),
        since: Instant::default(),
        retry_at: None,
        catch_up: CatchUp::default(),
        last_received: counters.and_then(|it| it.last_received),
        last_sent: counters.and_then(|it| it.last_sent),
        lag_nanos: None,
        statistics: counters.map(|it| it.statistics.clone()).unwrap_or_default(),
        last_error: None,
    }
}

pub(super) fn count_taken(shared: &mut Shared, remote: Remote, taken: intake::Taken) {
    let counters = shared.connections.counters_mut(remote, Role::Requestor);
    counters.statistics.bindings_received += taken.leases;
    counters.statistics.stale_ignored += taken.stale;
}

fn open(shared: &mut Shared, cx: &mut Context<'_>, session: &mut Session) {
    let (now, remote) = (cx.now(), Remote::Peer(session.peer));
    let id = shared.connections.open(now, cx.out(), remote);
    let receive = shared.config.receive_timeout;
    // req: ALQ-27, ALQ-29
    shared
        .connections
        .set_timeouts(now, id, Some(receive), DATA_TIMEOUT);
    session.connection = Some(id);
}

/// Asks for everything that changes from now on, and for what changed since the resume point.
// req: ALQ-5, ALQ-7, ALQ-8, ALQ-10, ALQ-11, ALQ-36
fn query(shared: &mut Shared, cx: &mut Context<'_>, session: &mut Session, id: ConnectionId) {
    // Who has nothing has missed everything. req: ALQ-D-10
    let resume_point = shared.memory(session.peer).resume_point;
    if let Some(resume_point) = resume_point {
        session.skew.recall(LqTime(resume_point));
    }
    session.start_time = resume_point.filter(|_| cx.bindings.len() > 0).map(LqTime);
    session.catch_up = CatchUp {
        requested_from: session.start_time.map(|it| it.0),
        started_at: Some(cx.now()),
        ..CatchUp::default()
    };
    let identity = shared.config.identity.clone();
    let query = ActiveQuery {
        client_id: &identity,
        server_id: None,
        lq_query: None,
        requested: &REQUESTED,
        start_time: session.start_time,
    };
    let xid = session.xid;
    session.asked_at = cx.now();
    let sent = shared.send(cx, id, |buffer| query.write(buffer, xid));
    debug_assert!(sent.is_none_or(|it| it.is_ok()), "a DUID fits");
}
