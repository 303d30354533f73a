//! We ask other relays and servers: RFC 7653 §8, RFC 5460 §6.
//!
//! Decides when there is an attempt, what is asked for, and from where a session goes on after it
//! was lost (the resume point). What may come when stands in [`super::session`] and [`super::bulk`];
//! which record of a lease is the true one is for the table.

use core::time::Duration;

use alloc::collections::BTreeMap;
use alloc::string::ToString;
use alloc::vec::Vec;

use super::anew::ANOTHER_RELAY;
use super::bulk::{By, DATA_TIMEOUT, Fetch, Heard, REQUESTED, Wanted, status_text};
use super::connection::{count, is_error, peer_of};
use super::input::{CloseReason, ConnectionId, Remote};
use super::intake::{self, Teller};
use super::peer_session::Session;
use super::ready::{Attempts, Progress, Ready};
use super::session::{Event, State, Step};
use super::skew::Skew;
use super::view::{CatchUp, Readiness, Role};
use super::{Context, Shared};
use crate::binding::digest::hash_of_duid;
use crate::config::LeasequeryConfig;
use crate::time::{Instant, LqTime};
use crate::types::{PeerId, ServerId, Xid};
use crate::view::Origin;
use crate::wire::iana;
use crate::wire::leasequery::{ActiveQuery, Answer, ClientData, LqLease, write_starttls};
use crate::wire::message::Message;

/// The least time between two attempts that the peer's own bring forward.
const BETWEEN_CALLS: Duration = Duration::from_secs(1);

/// After an answer that will be the same the next time, in idle times.
pub(super) const LONG_RETRY_FACTOR: u32 = 10;

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
    pub(super) sessions: BTreeMap<PeerId, Session>,
    pub(super) servers: BTreeMap<ServerId, Fetch>,
    numbers: Numbers,
    pub(super) ready: Ready,
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
                let peer = config.peers.iter().find(|peer| peer.id == id);
                let peer = peer.filter(|_| config.enabled)?;
                let certificate = (peer.is_secure, peer.tls_name);
                Some((peer.address, certificate, config.identity.clone()))
            };
            of(before) == of(&shared.config)
        };
        let address = |config: &LeasequeryConfig, id| {
            let peer = config.peers.iter().find(|peer| peer.id == id);
            peer.map(|peer| peer.address)
        };
        // Another relay by the same name has another clock. req: ALQ-36
        let is_elsewhere = {
            let after = shared.config.clone();
            move |id| address(before, id) != address(&after, id)
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
                if is_elsewhere(id) {
                    shared.remember(cx, id, |memory| memory.resume_point = None);
                }
            }
        }
        // Interface-Ids that mean a link now are not kept: they have to be told again.
        for peer in shared.config.peers.clone() {
            let was = before.peers.iter().find(|it| it.id == peer.id);
            if was.is_some_and(|was| was.has_shared_interface_id != peer.has_shared_interface_id) {
                self.forget_progress(shared, cx, Some(peer.id));
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
    // req: BLQ-17, LQ-38
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
    pub(super) fn start_due(&mut self, shared: &mut Shared, cx: &mut Context<'_>) {
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
            session.start_fetch(shared, cx);
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
        // Servers have no TLS. req: LQ-38
        let is_server = matches!(remote, Remote::Server(_));
        let is_secure =
            !is_server && peer_of(&shared.config, remote).is_none_or(|peer| peer.is_secure);
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
        let mut sessions = self.sessions.values_mut();
        let Some(session) = sessions.find(|it| it.connection == Some(id)) else {
            return;
        };
        let (peer, state, own_xid) = (session.peer, session.state, session.xid);
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
                // req: LQ-24, ALQ-28
                let remote = Remote::Peer(session.peer);
                let counters = shared.connections.counters_mut(remote, Role::Requestor);
                counters.statistics.ignored += 1;
                return;
            }
            (State::QuerySent, iana::LEASEQUERY_REPLY) => {
                let identity = answer.server_id.unwrap_or_default();
                let server = hash_of_duid(identity);
                let is_new = session.identity != identity;
                session.identity = identity.to_vec();
                // req: BLQ-18
                if is_new && identity != shared.config.identity {
                    let by = By::RelayId(identity.to_vec());
                    for fetch in self.servers.values_mut() {
                        fetch.ask_too(cx.now(), &by);
                    }
                }
                let memory = shared.memory(peer);
                let is_other = memory.server.is_some_and(|known| known != server);
                // A time of another clock says nothing, and what that relay held was not asked for.
                // req: ALQ-10, ALQ-36
                if is_other && memory.resume_point.is_some() {
                    return self.begin_anew(shared, cx, id, ANOTHER_RELAY);
                }
                match (answer.status_code(), session.start_time) {
                    (iana::STATUS_SUCCESS, None) => Event::Success,
                    (iana::STATUS_SUCCESS, Some(_)) => Event::SuccessSince,
                    (iana::STATUS_DATA_MISSING, _) => Event::DataMissing,
                    // req: LQ-27
                    (
                        iana::STATUS_UNKNOWN_QUERY_TYPE
                        | iana::STATUS_MALFORMED_QUERY
                        | iana::STATUS_NOT_CONFIGURED
                        | iana::STATUS_NOT_ALLOWED
                        | iana::STATUS_NOT_SUPPORTED,
                        _,
                    ) => Event::Refused,
                    _ => Event::Failed,
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
        if let (Some(status), Event::Refused | Event::Failed | Event::Done) = (answer.status, event)
        {
            session.last_error = Some(status_text(status.code, status.text));
        }
        if let Some(base_time) = answer.base_time {
            session.last_base_time = Some(base_time);
            let asked_at = (state == State::QuerySent).then_some(session.asked_at);
            if let Err(doubt) = session.hear(cx.now(), shared.clock, base_time, asked_at) {
                return self.doubt(shared, cx, id, doubt);
            }
        }
        self.step(shared, cx, id, event, Some(&answer));
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
            let is_due = session.state == State::CatchUp;
            let told = (&data, answer.and_then(|it| it.base_time));
            session.received(shared, cx, &mut self.leases, told, is_due);
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
            Step::Complete => session.completed(shared, cx, base_time),
            Step::TakeAndResume => session.resume_at(shared, cx, base_time),
            Step::BackOff => {
                let delay = shared.config.idle_timeout * LONG_RETRY_FACTOR;
                session.close(shared, cx, CloseReason::Done);
                session.retry_at = Some(cx.now() + delay);
            }
            Step::CloseInsecure => {
                session.close(shared, cx, CloseReason::TlsRequired);
                session.last_error = Some(CloseReason::TlsRequired.name().to_string());
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
                if let (Some(active), Some(base_time)) = (session.connection, base_time)
                    && let Err(doubt) = session.skew.hear_aside(cx.now(), shared.clock, base_time)
                {
                    return self.doubt(shared, cx, active, doubt);
                }
                let told = (data, base_time);
                session.received(shared, cx, &mut self.leases, told, true);
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
                    heard: None,
                };
                // A server's clock is nobody's business: what it tells is as old as it says, now.
                let taken = intake::take(shared, cx, &mut self.leases, &teller, data, None);
                fetch.received += taken.leases;
                fetch.attempts.came(cx.now(), taken.leases);
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
            session.completed(shared, cx, session.last_base_time);
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
        reason: CloseReason,
    ) {
        let delay = self.ready.retry_after(&shared.config);
        if let Some((fetch, _)) = self.fetch_on(id) {
            return fetch.lost(cx, delay, reason);
        }
        if let Some(session) = self.session_on(id)
            && session.go(cx, Event::Lost) == Some(Step::Retry)
        {
            let now = cx.now();
            let delay = if session.is_doubted {
                Duration::ZERO
            } else {
                delay
            };
            // What a bulk query fetches begins anew with the next session.
            session.close(shared, cx, CloseReason::Local);
            session.retry_at = Some(now + delay);
            if is_error(reason) {
                session.last_error = Some(reason.name().to_string());
            }
        }
    }

    /// A peer has connected to us: it is back. One attempt for each time: now, or when the session ends that we still
    /// have, for a peer that lost its power ended it without a word. A second passes between two of these: relays
    /// that refuse each other would otherwise call each other back without end.
    // req: ALQ-D-18
    pub(crate) fn peer_connected(
        &mut self,
        shared: &mut Shared,
        cx: &mut Context<'_>,
        peer: PeerId,
    ) {
        let now = cx.now();
        if let Some(session) = self.sessions.get_mut(&peer) {
            bring_forward(&mut session.retry_at, &mut session.called_at, now);
            session.is_doubted = matches!(session.state, State::CatchUp | State::Live);
            if let Some(fetch) = &mut session.fetch {
                bring_forward(&mut fetch.retry_at, &mut fetch.called_at, now);
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
        if peer.is_none_or(|peer| self.sessions.contains_key(&peer)) {
            self.ready.begin_anew(cx.now());
        }
        self.forget_progress(shared, cx, peer);
    }

    /// All of a peer, or of all, is to come anew.
    fn forget_progress(&mut self, shared: &mut Shared, cx: &mut Context<'_>, peer: Option<PeerId>) {
        let now = cx.now();
        for session in self.sessions.values_mut() {
            if peer.is_none_or(|peer| peer == session.peer) {
                session.close(shared, cx, CloseReason::Local);
                session.retry_at = Some(now);
                session.attempts = Attempts::new(now);
                let memory = session.peer;
                shared.remember(cx, memory, |memory| memory.resume_point = None);
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
        self.ask_others(shared, cx);
        self.start_due(shared, cx);
    }

    /// When something will be due, besides the deadlines of connections.
    pub(crate) fn next_time(&self, shared: &Shared, now: Instant) -> Option<Instant> {
        if !shared.is_loaded || shared.is_ending {
            return None;
        }
        let sessions = self.sessions.values().flat_map(|it| {
            let fetch = it.fetch.as_ref().and_then(|it| it.retry_at);
            let ask_at = it.is_asked_too().then_some(now);
            [it.retry_at, fetch, ask_at, it.away.map(|away| away.ask_at)]
        });
        let fetches = self.servers.values().map(|it| it.retry_at);
        let retries = sessions.chain(fetches).flatten().min();
        let given_up = self.ready.next_time(now, &shared.config, self.progress());
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

    pub(super) fn session_on(&mut self, id: ConnectionId) -> Option<&mut Session> {
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

/// Makes an attempt that waits due now, or as soon as the last one that was brought forward is long enough ago.
fn bring_forward(retry_at: &mut Option<Instant>, called_at: &mut Option<Instant>, now: Instant) {
    let earliest = called_at.map_or(now, |it| now.max(it + BETWEEN_CALLS));
    if let Some(at) = retry_at.as_mut().filter(|at| **at > earliest) {
        *at = earliest;
        *called_at = Some(earliest);
    }
}

pub(super) fn count_taken(shared: &mut Shared, remote: Remote, taken: intake::Taken) {
    let counters = shared.connections.counters_mut(remote, Role::Requestor);
    counters.statistics.bindings_received += taken.leases;
    counters.statistics.stale_ignored += taken.stale;
    counters.statistics.ignored += taken.ignored;
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
// req: ALQ-5, ALQ-7, ALQ-8, ALQ-10, ALQ-11, ALQ-36, PDR-S-3
fn query(shared: &mut Shared, cx: &mut Context<'_>, session: &mut Session, id: ConnectionId) {
    // Who has nothing has missed everything. req: ALQ-D-10
    let resume_point = shared.memory(session.peer).resume_point;
    if let Some(resume_point) = resume_point {
        session.skew.recall(LqTime(resume_point));
    }
    session.attempts.begin();
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
