//! Bulk Leasequery, asked by us: of a peer on a second connection, and of DHCP servers (RFC 5460
//! §6). One query at a time, until each of them was answered.
//!
//! Decides what may come when, and when a query is over; must not know why it is asked.

use alloc::collections::VecDeque;
use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;
use core::net::Ipv6Addr;
use core::time::Duration;

use super::connection::{count, is_error};
use super::input::{CloseReason, ConnectionId, Remote};
use super::ready::{Attempts, Progress};
use super::view::{CatchUp, Role, SessionState};
use super::{Context, Shared, requestor::Numbers};
use crate::time::{Instant, LqTime};
use crate::types::{ServerId, Xid};
use crate::wire::iana;
use crate::wire::leasequery::{Answer, BulkQuery, ClientData, LqQuery, QueryBy, write_starttls};
use crate::wire::message::Message;

/// BULK_LQ_DATA_TIMEOUT (RFC 7653 §6.4).
pub(super) const DATA_TIMEOUT: Duration = Duration::from_secs(300);
/// What is asked for of each client, and of each message.
pub(super) const REQUESTED: [u16; 5] = [
    iana::OPTION_LQ_BASE_TIME,
    iana::OPTION_LQ_RELAY_DATA,
    iana::OPTION_IA_NA,
    iana::OPTION_IA_TA,
    iana::OPTION_IA_PD,
];

/// Questions that wait: links are hundreds, and Relay-Ids of peers few.
const WANTED_MAX: usize = 4096;
/// Of the text of a status that is shown.
const TEXT_CHARS_MAX: usize = 200;

/// One query.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Wanted {
    pub(crate) by: By,
    pub(crate) since: Option<LqTime>,
    pub(crate) until: Option<LqTime>,
}

/// What it looks for.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum By {
    /// All that came through the relay with this DUID.
    RelayId(Vec<u8>),
    /// All on the link of this link-address.
    Link(Ipv6Addr),
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum State {
    Waiting,
    Connecting,
    TlsAsked,
    TlsHandshake,
    QuerySent,
    Receiving,
}

/// Queries of one remote, and how far they are.
#[derive(Debug)]
pub(crate) struct Fetch {
    remote: Remote,
    wanted: VecDeque<Wanted>,
    state: State,
    connection: Option<ConnectionId>,
    xid: Xid,
    pub(crate) since: Instant,
    pub(crate) retry_at: Option<Instant>,
    /// For when an attempt was brought forward the last time.
    pub(crate) called_at: Option<Instant>,
    pub(crate) received: u64,
    pub(crate) attempts: Attempts,
    started_at: Instant,
    /// A query was not refused.
    has_answer: bool,
    /// Of the server that answers.
    pub(crate) server_duid: Vec<u8>,
    /// Why a query was refused or an attempt failed, the last time.
    pub(crate) last_error: Option<String>,
}

/// What a message was for its owner.
#[expect(
    clippy::large_enum_variant,
    reason = "it lives as long as one call, a million times in a catch-up"
)]
pub(crate) enum Heard<'a> {
    /// Nothing to take.
    Nothing,
    /// A client, and who tells of it.
    Client(ClientData<'a>, Option<LqTime>),
    /// The last query was answered.
    Complete,
}

impl Fetch {
    /// Queries that are to be asked at once.
    pub(crate) fn new(now: Instant, remote: Remote, wanted: Vec<Wanted>) -> Self {
        Self {
            remote,
            wanted: wanted.into(),
            state: State::Waiting,
            connection: None,
            xid: Xid(0),
            since: now,
            retry_at: Some(now),
            called_at: None,
            received: 0,
            attempts: Attempts::new(now),
            started_at: now,
            has_answer: false,
            server_duid: Vec::new(),
            last_error: None,
        }
    }

    pub(crate) const fn connection(&self) -> Option<ConnectionId> {
        self.connection
    }

    pub(crate) fn is_complete(&self) -> bool {
        self.wanted.is_empty()
    }

    /// For `show`.
    pub(crate) fn shown_state(&self) -> SessionState {
        match self.state {
            State::Waiting if self.is_complete() => SessionState::Idle,
            State::Waiting => SessionState::Backoff,
            State::Connecting => SessionState::Connecting,
            State::TlsAsked | State::TlsHandshake => SessionState::TlsHandshake,
            State::QuerySent => SessionState::QuerySent,
            State::Receiving => SessionState::BulkCatchUp,
        }
    }

    /// For `show`.
    pub(crate) fn catch_up(&self) -> CatchUp {
        CatchUp {
            requested_from: self.wanted.front().and_then(|it| Some(it.since?.0)),
            started_at: Some(self.started_at),
            is_complete: self.is_complete() && self.has_answer,
            completed_at: self.is_complete().then_some(self.since),
            received: self.received,
        }
    }

    /// For readiness.
    pub(crate) fn progress(&self, server: ServerId) -> Progress {
        Progress {
            remote: Remote::Server(server),
            state: self.shown_state(),
            is_in_sync: self.is_complete() && self.has_answer,
            at: self.attempts.progress_at(),
        }
    }

    /// Something more is to be asked, as soon as the rest is answered.
    pub(crate) fn ask_too(&mut self, now: Instant, by: &By) {
        let is_wanted = self.wanted.iter().any(|it| it.by == *by);
        if is_wanted || self.wanted.len() >= WANTED_MAX {
            return;
        }
        if self.is_complete() {
            self.retry_at = Some(now);
        }
        self.wanted.push_back(Wanted {
            by: by.clone(),
            since: None,
            until: None,
        });
    }

    /// Opens a connection where it is time for that. Whether it was.
    pub(crate) fn start(&mut self, shared: &mut Shared, cx: &mut Context<'_>) -> bool {
        let is_due = self.retry_at.is_some_and(|at| at <= cx.now());
        if self.state != State::Waiting || !is_due || self.is_complete() {
            return false;
        }
        let now = cx.now();
        let id = shared.connections.open(now, cx.out(), self.remote);
        let receive = shared.config.receive_timeout;
        shared
            .connections
            .set_timeouts(now, id, Some(receive), DATA_TIMEOUT);
        self.connection = Some(id);
        self.retry_at = None;
        self.attempts.begin();
        self.go(cx, State::Connecting);
        true
    }

    /// TCP is up.
    pub(crate) fn connected(
        &mut self,
        shared: &mut Shared,
        cx: &mut Context<'_>,
        numbers: &mut Numbers,
        is_secure: bool,
    ) {
        let Some(id) = self.connection.filter(|_| self.state == State::Connecting) else {
            return;
        };
        if is_secure {
            // One policy for both kinds of query. req: ALQ-D-21
            self.xid = numbers.next();
            let xid = self.xid;
            shared.send(cx, id, |buffer| write_starttls(buffer, xid));
            self.go(cx, State::TlsAsked);
        } else {
            self.ask(shared, cx, numbers);
        }
    }

    /// TLS is up.
    pub(crate) fn tls_up(
        &mut self,
        shared: &mut Shared,
        cx: &mut Context<'_>,
        numbers: &mut Numbers,
    ) {
        if self.state == State::TlsHandshake {
            self.ask(shared, cx, numbers);
        }
    }

    /// Sends the next query, with a transaction-id of its own.
    // req: BLQ-10, BLQ-11, BLQ-15
    fn ask(&mut self, shared: &mut Shared, cx: &mut Context<'_>, numbers: &mut Numbers) {
        let (Some(id), Some(wanted)) = (self.connection, self.wanted.front()) else {
            return;
        };
        self.xid = numbers.next();
        let (link_address, by) = match &wanted.by {
            By::RelayId(duid) => (Ipv6Addr::UNSPECIFIED, QueryBy::RelayId(duid)),
            By::Link(address) => (*address, QueryBy::LinkAddress),
        };
        let identity = shared.config.identity.clone();
        let query = BulkQuery {
            client_id: &identity,
            server_id: None,
            lq_query: LqQuery { link_address, by },
            requested: &REQUESTED,
            start_time: wanted.since,
            end_time: wanted.until,
        };
        let xid = self.xid;
        let sent = shared.send(cx, id, |buffer| query.write(buffer, xid));
        debug_assert!(sent.is_none_or(|it| it.is_ok()), "two DUIDs fit");
        let (now, receive) = (cx.now(), DATA_TIMEOUT);
        shared
            .connections
            .set_timeouts(now, id, Some(receive), DATA_TIMEOUT);
        self.go(cx, State::QuerySent);
    }

    /// A message came.
    pub(crate) fn message<'m>(
        &mut self,
        shared: &mut Shared,
        cx: &mut Context<'_>,
        numbers: &mut Numbers,
        message: &Message<'m>,
    ) -> Heard<'m> {
        let Some(id) = self.connection else {
            return Heard::Nothing;
        };
        let Ok(answer) = Answer::read(message) else {
            shared.close(cx, id, CloseReason::ProtocolError);
            return Heard::Nothing;
        };
        if let Some(status) = answer.status {
            let counters = shared
                .connections
                .counters_mut(self.remote, Role::Requestor);
            count(&mut counters.statistics.statuses_received, status.code);
            if status.code != iana::STATUS_SUCCESS {
                self.last_error = Some(status_text(status.code, status.text));
            }
        }
        let is_ours = message.xid == self.xid;
        match (self.state, message.message_type) {
            (State::TlsAsked, iana::REPLY) if is_ours && answer.status.is_none() => {
                if let Remote::Peer(peer) = self.remote {
                    self.go(cx, State::TlsHandshake);
                    shared.connections.start_tls(cx.act.out, id, peer);
                }
                Heard::Nothing
            }
            (State::TlsAsked, _) => {
                shared.close(cx, id, CloseReason::TlsRequired);
                Heard::Nothing
            }
            // req: LQ-24
            (State::QuerySent, iana::LEASEQUERY_REPLY)
                if !is_ours || !answer.is_reply_to(&shared.config.identity) =>
            {
                let counters = shared
                    .connections
                    .counters_mut(self.remote, Role::Requestor);
                counters.statistics.ignored += 1;
                Heard::Nothing
            }
            (State::QuerySent, iana::LEASEQUERY_REPLY) => {
                self.reply(shared, cx, numbers, id, &answer)
            }
            (State::Receiving, iana::LEASEQUERY_DATA) if is_ours => {
                // req: BLQ-27, BLQ-30
                match answer.client_data {
                    Some(data) => Heard::Client(data, answer.base_time),
                    None => Heard::Nothing,
                }
            }
            (State::Receiving, iana::LEASEQUERY_DONE) if is_ours => {
                match answer.status_code() {
                    iana::STATUS_SUCCESS => self.answered(shared, cx, numbers),
                    _ => {
                        // req: BLQ-33
                        shared.close(cx, id, CloseReason::Done);
                        Heard::Nothing
                    }
                }
            }
            // req: BLQ-28, ALQ-42
            _ => {
                shared.close(cx, id, CloseReason::ProtocolError);
                Heard::Nothing
            }
        }
    }

    fn reply<'m>(
        &mut self,
        shared: &mut Shared,
        cx: &mut Context<'_>,
        numbers: &mut Numbers,
        id: ConnectionId,
        answer: &Answer<'m>,
    ) -> Heard<'m> {
        self.server_duid = answer.server_id.unwrap_or_default().to_vec();
        self.has_answer |= answer.status_code() == iana::STATUS_SUCCESS;
        match (answer.status_code(), answer.client_data) {
            (iana::STATUS_SUCCESS, Some(data)) => {
                self.go(cx, State::Receiving);
                Heard::Client(data, answer.base_time)
            }
            // Nothing more comes. req: BLQ-22, BLQ-29
            (iana::STATUS_SUCCESS, None) => self.answered(shared, cx, numbers),
            // A server has nothing to say of this, or will not: the next question. req: LQ-27
            (
                iana::STATUS_NOT_CONFIGURED
                | iana::STATUS_NOT_ALLOWED
                | iana::STATUS_MALFORMED_QUERY
                | iana::STATUS_UNKNOWN_QUERY_TYPE,
                _,
            ) if matches!(self.remote, Remote::Server(_)) => self.answered(shared, cx, numbers),
            _ => {
                shared.close(cx, id, CloseReason::Done);
                Heard::Nothing
            }
        }
    }

    /// A query is over: the next one, or the end.
    fn answered(
        &mut self,
        shared: &mut Shared,
        cx: &mut Context<'_>,
        numbers: &mut Numbers,
    ) -> Heard<'static> {
        self.wanted.pop_front();
        // Each is answered once.
        self.attempts = Attempts::new(cx.now());
        if !self.is_complete() {
            self.ask(shared, cx, numbers);
            return Heard::Nothing;
        }
        Heard::Complete
    }

    /// Closes its connection; nothing more is heard of it.
    pub(crate) fn close(&mut self, shared: &mut Shared, cx: &mut Context<'_>, why: CloseReason) {
        if let Some(id) = self.connection.take() {
            shared.close(cx, id, why);
        }
        self.go(cx, State::Waiting);
    }

    /// Its connection is gone.
    pub(crate) fn lost(&mut self, cx: &mut Context<'_>, delay: Duration, reason: CloseReason) {
        if is_error(reason) {
            self.last_error = Some(reason.name().to_string());
        }
        self.connection = None;
        self.retry_at = Some(cx.now() + delay);
        self.go(cx, State::Waiting);
    }

    fn go(&mut self, cx: &mut Context<'_>, state: State) {
        if self.state != state {
            self.state = state;
            self.since = cx.now();
            cx.changed(self.remote);
        }
    }
}

/// A status for people. The other end wrote the text: it is cut, and does nothing to a terminal.
// req: LQ-37
pub(crate) fn status_text(code: u16, text: &str) -> String {
    let mut said = match iana::status_name(code) {
        "unknown" => format!("status {code}"),
        name => name.to_string(),
    };
    if !text.is_empty() {
        said.push_str(": ");
        let shown = text.chars().take(TEXT_CHARS_MAX);
        said.extend(shown.flat_map(char::escape_debug));
    }
    said
}
