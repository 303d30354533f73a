//! A peer asks us: RFC 7653 §9, RFC 5460 §7.
//!
//! Decides what each accepted connection is for, which of its queries are taken, and when it ends.
//! Must not know how answers are made ([`super::telling`]); what a connection may do is a table
//! ([`super::server_state`]).

use alloc::collections::{BTreeMap, VecDeque};
use alloc::vec::Vec;
use core::time::Duration;

use super::answer::Teller;
use super::connection::{Connection, Tls, count, peer_of};
use super::input::{CloseReason, ConnectionId, Remote};
use super::query::Asked;
use super::server_state::{Event, Reaction, State, react};
use super::telling::{Telling, answers};
use super::view::{CatchUp, Role};
use super::{Context, Shared};
use crate::config::LeasequeryConfig;
use crate::time::Instant;
use crate::types::{PeerId, Xid};
use crate::wire::iana;
use crate::wire::leasequery::{Query, QueryError, RequestedOptions, Status, write_starttls_reply};
use crate::wire::message::Message;

/// RFC 5460 §5.6: who does not send a query, or does not take an answer, for so long, blocks.
const BULK_LQ_DATA_TIMEOUT: Duration = Duration::from_secs(300);
/// Bulk queries of one connection that are answered or wait for it; more are not read meanwhile.
// req: ALQ-74, BLQ-16
const QUERIES_MAX: usize = 8;

/// What a connection is for.
#[derive(Debug)]
pub(super) struct Session {
    pub(super) peer: PeerId,
    /// It demands TLS.
    is_secure: bool,
    pub(super) since: Instant,
    pub(super) catch_up: CatchUp,
    /// What is being told, and the bulk queries behind it.
    pub(super) telling: VecDeque<Telling>,
    /// The last query closes it.
    pub(super) is_last: bool,
}

/// What is known of a peer without a connection.
#[derive(Clone, Copy, Default, Debug)]
pub(super) struct Idle {
    pub(super) since: Instant,
    pub(super) catch_up: CatchUp,
}

/// All sessions of accepted connections.
#[derive(Default)]
pub(crate) struct Server {
    pub(super) sessions: BTreeMap<ConnectionId, Session>,
    pub(super) idle: BTreeMap<PeerId, Idle>,
    /// Peers that were told late, and when all of that has reached them.
    // req: ALQ-D-25
    pub(super) settling: BTreeMap<PeerId, Instant>,
    pub(super) teller: Teller,
}

impl Session {
    /// Where it stands.
    pub(super) fn state(&self, tls: Tls) -> State {
        match (self.telling.front(), tls) {
            (Some(telling), _) => telling.state(),
            (None, Tls::Off) if self.is_secure => State::Clear,
            (None, Tls::Off) => State::Open,
            (None, Tls::Handshake) => State::Handshake,
            (None, Tls::On) => State::Secured,
        }
    }
}

impl Server {
    /// New surroundings: who is not served any more, or otherwise, is told so.
    pub(crate) fn configure(
        &mut self,
        shared: &mut Shared,
        cx: &mut Context<'_>,
        before: &LeasequeryConfig,
    ) {
        let peer = |config: &LeasequeryConfig, id| {
            let peer = config.peers.iter().find(|peer| peer.id == id);
            peer.filter(|_| config.enabled)
                .map(|it| (it.address, it.is_secure, it.tls_name))
        };
        let is_as_before = |id| {
            let after = peer(&shared.config, id);
            after.is_some()
                && after == peer(before, id)
                && shared.config.identity == before.identity
        };
        let withdrawn: Vec<_> = self
            .sessions
            .iter()
            .filter(|(_, session)| !is_as_before(session.peer))
            .map(|(id, _)| *id)
            .collect();
        for id in withdrawn {
            self.happens(shared, cx, id, Event::Withdrawn, None);
        }
        let config = &shared.config;
        self.idle
            .retain(|id, _| config.peers.iter().any(|peer| peer.id == *id));
    }

    /// Start times that peers were told before may mean later moments now, also to a relay that
    /// begins anew and knows nothing of it: the next catch-up of each tells all that is known.
    // req: ALQ-D-9, ALQ-D-25
    pub(crate) fn clock_set_back(&mut self, shared: &mut Shared, cx: &mut Context<'_>) {
        let peers: Vec<PeerId> = shared.config.peers.iter().map(|peer| peer.id).collect();
        let since = cx.bindings.history_begin();
        for peer in peers {
            self.settling.remove(&peer);
            shared.remember(cx, peer, |it| {
                it.unsent_since = earlier(it.unsent_since, since);
            });
        }
    }

    /// A peer has connected.
    pub(crate) fn accepted(
        &mut self,
        shared: &mut Shared,
        cx: &mut Context<'_>,
        id: ConnectionId,
        peer: PeerId,
    ) {
        let remote = Remote::Peer(peer);
        let session = Session {
            peer,
            is_secure: peer_of(&shared.config, remote).is_none_or(|it| it.is_secure),
            since: cx.now(),
            catch_up: CatchUp::default(),
            telling: VecDeque::new(),
            is_last: false,
        };
        self.sessions.insert(id, session);
        await_query(shared, cx, id);
        cx.changed(remote);
    }

    /// The handshake is done.
    pub(crate) fn tls_up(&mut self, shared: &mut Shared, cx: &mut Context<'_>, id: ConnectionId) {
        let now = cx.now();
        if let Some(session) = self.sessions.get_mut(&id) {
            session.since = now;
            let newest = (id, session.peer);
            shared
                .connections
                .make_room_beside(cx.out(), &shared.config, newest);
            cx.changed(Remote::Peer(session.peer));
        }
    }

    /// The other end will send no more.
    pub(crate) fn half_closed(
        &mut self,
        shared: &mut Shared,
        cx: &mut Context<'_>,
        id: ConnectionId,
    ) {
        self.happens(shared, cx, id, Event::HalfClosed, None);
    }

    /// A message came.
    pub(crate) fn message(
        &mut self,
        shared: &mut Shared,
        cx: &mut Context<'_>,
        id: ConnectionId,
        message: &Message<'_>,
    ) {
        let event = match message.message_type {
            iana::STARTTLS => Event::StartTls,
            iana::ACTIVELEASEQUERY => Event::ActiveQuery,
            iana::LEASEQUERY => Event::BulkQuery,
            _ => Event::OtherMessage,
        };
        self.happens(shared, cx, id, event, Some(message));
    }

    /// The daemon ends.
    pub(crate) fn shutdown(&mut self, shared: &mut Shared, cx: &mut Context<'_>) {
        let ids: Vec<_> = self.sessions.keys().copied().collect();
        for id in ids {
            self.happens(shared, cx, id, Event::Withdrawn, None);
        }
    }

    /// A connection has ended, whoever ended it.
    pub(crate) fn ended(
        &mut self,
        shared: &mut Shared,
        cx: &mut Context<'_>,
        id: ConnectionId,
        connection: &Connection,
    ) {
        if let Some(session) = self.sessions.remove(&id) {
            let peer = session.peer;
            for telling in &session.telling {
                if let Some(since) = telling.unsent_since(cx.bindings) {
                    shared.remember(cx, peer, |it| {
                        it.unsent_since = earlier(it.unsent_since, since)
                    });
                }
                telling.close(cx.bindings);
            }
            // What is on its way may never arrive.
            self.settling.remove(&peer);
            let (since, catch_up) = (cx.now(), session.catch_up);
            self.idle.insert(peer, Idle { since, catch_up });
        }
        cx.changed(connection.remote);
    }

    /// Why a connection ended that the shell says is gone: a peer that has its answers may go.
    pub(crate) fn reason_of_end(&self, id: ConnectionId, reason: CloseReason) -> CloseReason {
        let session = self.sessions.get(&id);
        match reason {
            CloseReason::Remote if session.is_some_and(|it| it.telling.is_empty()) => {
                CloseReason::Done
            }
            reason => reason,
        }
    }

    fn happens(
        &mut self,
        shared: &mut Shared,
        cx: &mut Context<'_>,
        id: ConnectionId,
        event: Event,
        message: Option<&Message<'_>>,
    ) {
        let (Some(session), Some(connection)) =
            (self.sessions.get_mut(&id), shared.connections.get(id))
        else {
            return;
        };
        let xid = message.map_or(Xid(0), |message| message.xid);
        match react(session.state(connection.tls), event) {
            Reaction::AcceptTls if connection.has_more => {
                shared.close(cx, id, CloseReason::ProtocolError); // req: ALQ-D-19
            }
            Reaction::AcceptTls => {
                answer_starttls(shared, cx, id, xid, None);
                shared.connections.start_tls(cx.out(), id, session.peer);
                session.since = cx.now();
                cx.changed(Remote::Peer(session.peer));
            }
            // Who asks again before it has read the answer never reads. req: BLQ-16
            Reaction::RefuseTls if !connection.is_writable() => {
                shared.close(cx, id, CloseReason::ProtocolError);
            }
            Reaction::RefuseTls => {
                answer_starttls(
                    shared,
                    cx,
                    id,
                    xid,
                    Some(iana::STATUS_TLS_CONNECTION_REFUSED),
                );
            }
            Reaction::Take => {
                if let Some(message) = message {
                    self.take(shared, cx, id, message);
                }
            }
            Reaction::Refuse(status) => {
                let asker = message.and_then(Message::client_id).unwrap_or_default();
                refuse(
                    shared,
                    cx,
                    id,
                    (xid, asker, RequestedOptions::default()),
                    status,
                );
            }
            Reaction::Terminate(status, reason) => {
                if let Some(telling) = session.telling.front() {
                    telling.terminate(shared, cx, id, status);
                }
                shared.close(cx, id, reason);
            }
            Reaction::Finish => session.is_last = true,
            Reaction::Close(reason) => shared.close(cx, id, reason),
        }
    }

    /// Takes a query, if it is one: of either kind.
    // req: ALQ-1
    fn take(
        &mut self,
        shared: &mut Shared,
        cx: &mut Context<'_>,
        id: ConnectionId,
        message: &Message<'_>,
    ) {
        let Some(session) = self.sessions.get_mut(&id) else {
            return;
        };
        let remote = Remote::Peer(session.peer);
        let query = match Query::read(message, &shared.config.identity) {
            Ok(query) => query,
            // req: BLQ-5
            Err(QueryError::Unsound(_)) => return shared.close(cx, id, CloseReason::ProtocolError),
            // req: LQ-11
            Err(QueryError::Discard) => {
                let counters = shared.connections.counters_mut(remote, Role::Server);
                counters.statistics.ignored += 1;
                return;
            }
            // req: LQ-13, ALQ-9, ALQ-58, BLQ-25
            Err(QueryError::Refused {
                status,
                client_id,
                requested,
            }) => return refuse(shared, cx, id, (message.xid, client_id, requested), status),
        };
        let asked = Asked::new(message.xid, &query, &shared.config, cx.act.links, remote);
        let asked = match asked {
            Ok(asked) => asked,
            Err(status) => {
                let to = (message.xid, query.client_id, query.requested);
                return refuse(shared, cx, id, to, status);
            }
        };
        let is_active = message.message_type == iana::ACTIVELEASEQUERY;
        let is_first = session.telling.is_empty();
        session.telling.push_back(Telling::new(asked, is_active));
        if session.telling.len() >= QUERIES_MAX {
            shared.connections.pause(cx.out(), id);
        }
        if is_first {
            let now = cx.now();
            session.since = now;
            let send_timeout = match is_active {
                true => shared.config.send_timeout,
                false => BULK_LQ_DATA_TIMEOUT,
            };
            // A requestor with a query running has nothing to say. req: ALQ-56
            shared.connections.set_timeouts(now, id, None, send_timeout);
            cx.changed(remote);
        }
    }

    /// The first query of a connection is answered for good.
    pub(super) fn finished(&mut self, shared: &mut Shared, cx: &mut Context<'_>, id: ConnectionId) {
        let Some(session) = self.sessions.get_mut(&id) else {
            return;
        };
        if let Some(telling) = session.telling.pop_front() {
            telling.close(cx.bindings);
        }
        if session.telling.is_empty() {
            if session.is_last {
                return shared.close(cx, id, CloseReason::Done); // req: BLQ-31
            }
            session.since = cx.now();
            await_query(shared, cx, id);
            cx.changed(Remote::Peer(session.peer));
        }
        shared.connections.resume(cx.out(), id);
    }
}

/// A query has to come in time.
// req: ALQ-56, BLQ-9
fn await_query(shared: &mut Shared, cx: &Context<'_>, id: ConnectionId) {
    let timeout = BULK_LQ_DATA_TIMEOUT;
    let connections = &mut shared.connections;
    connections.set_timeouts(cx.now(), id, Some(timeout), timeout);
}

/// REPLY to STARTTLS, whatever options that had.
// req: ALQ-54, ALQ-D-20
fn answer_starttls(
    shared: &mut Shared,
    cx: &mut Context<'_>,
    id: ConnectionId,
    xid: Xid,
    status: Option<u16>,
) {
    shared.send(cx, id, |buffer| {
        // It always fits.
        let _ = write_starttls_reply(buffer, xid, status.map(Status::new));
    });
    count_status(shared, id, status);
}

/// LEASEQUERY-REPLY with an error, and the end.
// req: ALQ-57, ALQ-58, BLQ-25
fn refuse(
    shared: &mut Shared,
    cx: &mut Context<'_>,
    id: ConnectionId,
    (xid, client_id, requested): (Xid, &[u8], RequestedOptions),
    status: u16,
) {
    let now = shared.base_time(cx.now());
    let answers = answers(&shared.config, xid, client_id, requested);
    let out = &mut *cx.act.out;
    shared.connections.send(cx.act.now, out, id, |buffer| {
        // It always fits.
        let _ = answers.write_reply(buffer, now, Some(Status::new(status)), None);
    });
    count_status(shared, id, Some(status));
    shared.close(cx, id, CloseReason::Done);
}

/// Counts a status that was sent.
pub(super) fn count_status(shared: &mut Shared, id: ConnectionId, status: Option<u16>) {
    let remote = shared.connections.get(id).map(|it| it.remote);
    if let (Some(remote), Some(status)) = (remote, status) {
        let counters = shared.connections.counters_mut(remote, Role::Server);
        count(&mut counters.statistics.statuses_sent, status);
    }
}

/// The earlier of two, where there are two.
pub(super) fn earlier(one: Option<Instant>, other: Instant) -> Option<Instant> {
    Some(one.map_or(other, |one| one.min(other)))
}
