//! One peer that we ask: the session on its active connection, and the bulk query beside it.
//!
//! Decides what the resume point is (RFC 7653 §8.4.1): nothing that was not taken over lies before it.

use alloc::string::{String, ToString};
use alloc::vec;
use alloc::vec::Vec;

use super::away::{Away, MARGIN_SECS};
use super::bulk::{By, Fetch, Wanted};
use super::input::{CloseReason, ConnectionId, Remote};
use super::intake::{self, Teller};
use super::ready::{Attempts, Progress};
use super::requestor::count_taken;
use super::session::{Event, State, Step, next};
use super::skew::{Doubt, Skew};
use super::view::{CatchUp, SessionState};
use super::{Context, Shared};
use crate::binding::digest::hash_of_duid;
use crate::time::{Instant, LqTime, WallClock};
use crate::types::{PeerId, Xid};
use crate::view::Origin;
use crate::wire::leasequery::{ClientData, LqLease};

/// Servers take both for one relay, and so do those who ask by Relay-Id.
const DOUBLE: &str = "the peer has the relay_id of this relay: set another in [relay]";

/// One peer.
pub(crate) struct Session {
    pub(crate) peer: PeerId,
    pub(crate) state: State,
    pub(crate) since: Instant,
    pub(crate) connection: Option<ConnectionId>,
    pub(crate) xid: Xid,
    /// When ACTIVELEASEQUERY was sent.
    pub(crate) asked_at: Instant,
    /// As it was asked for.
    pub(crate) start_time: Option<LqTime>,
    pub(crate) retry_at: Option<Instant>,
    /// For when an attempt was brought forward the last time.
    pub(crate) called_at: Option<Instant>,
    /// The peer has connected to us during this session: where it was restarted, only we still see this connection.
    pub(crate) is_doubted: bool,
    /// The peer's DUID, as its last LEASEQUERY-REPLY said.
    pub(crate) identity: Vec<u8>,
    pub(crate) skew: Skew,
    /// Of the last message on the active connection.
    pub(crate) last_base_time: Option<LqTime>,
    /// How long that was on its way by the peer's clock, in seconds.
    lag_secs: u64,
    pub(crate) catch_up: CatchUp,
    pub(crate) fetch: Option<Fetch>,
    /// Why the last attempt failed; `None` since one succeeded.
    pub(crate) last_error: Option<String>,
    /// When the peer's clock was last seen to be set back.
    pub(crate) begun_anew_at: Option<Instant>,
    pub(crate) attempts: Attempts,
    has_synced: bool,
    pub(crate) away: Option<Away>,
    /// What changed from here on, by our clock, is to be asked for once more, for another peer's sake.
    pub(crate) ask_since: Option<LqTime>,
}

impl Session {
    /// A session that begins at once.
    pub(crate) fn new(now: Instant, peer: PeerId) -> Self {
        Self {
            peer,
            state: State::Idle,
            since: now,
            connection: None,
            xid: Xid(0),
            asked_at: now,
            start_time: None,
            retry_at: Some(now),
            called_at: None,
            is_doubted: false,
            identity: Vec::new(),
            skew: Skew::default(),
            last_base_time: None,
            lag_secs: 0,
            catch_up: CatchUp::default(),
            fetch: None,
            last_error: None,
            begun_anew_at: None,
            attempts: Attempts::new(now),
            has_synced: false,
            away: None,
            ask_since: None,
        }
    }

    /// The step that follows from an event; `None` where it may not come now.
    pub(crate) fn go(&mut self, cx: &mut Context<'_>, event: Event) -> Option<Step> {
        let (state, step) = next(self.state, event)?;
        if state != self.state {
            self.state = state;
            self.since = cx.now();
            cx.changed(Remote::Peer(self.peer));
        }
        Some(step)
    }

    /// A message came that was made at `base_time`, and not before `asked_at`.
    ///
    /// # Errors
    /// The peer's clock was set, or may have been. What a catch-up tells is late because it is much.
    pub(crate) fn hear(
        &mut self,
        now: Instant,
        clock: WallClock,
        base_time: LqTime,
        asked_at: Option<Instant>,
    ) -> Result<(), Doubt> {
        match self.skew.hear(now, clock, base_time, asked_at) {
            Err(Doubt::Late) if !self.is_in_sync() => Ok(()),
            heard => heard,
        }
    }

    /// A client came, on either connection; `is_due`: as part of what was asked for, not as news.
    pub(crate) fn received(
        &mut self,
        shared: &mut Shared,
        cx: &mut Context<'_>,
        leases: &mut Vec<LqLease>,
        (data, base_time): (&ClientData<'_>, Option<LqTime>),
        is_due: bool,
    ) {
        let peer = shared.config.peers.iter().find(|it| it.id == self.peer);
        let Some(peer) = peer else { return };
        let teller = Teller {
            origin: Origin::ActiveLeasequery(self.peer),
            address: peer.address,
            peer: Some(peer),
            server_duid: None,
            skew: &self.skew,
            heard: None,
        };
        let taken = intake::take(shared, cx, leases, &teller, data, base_time);
        count_taken(shared, Remote::Peer(self.peer), taken);
        if is_due {
            self.catch_up.received += taken.leases;
            self.attempts.came(cx.now(), taken.leases);
        }
    }

    /// Fetches all, or what changed between two times of the peer's clock.
    // req: ALQ-38, ALQ-43, ALQ-D-7, ALQ-D-8
    pub(crate) fn fetch(
        &mut self,
        shared: &mut Shared,
        cx: &mut Context<'_>,
        since: Option<LqTime>,
        until: Option<LqTime>,
    ) {
        if since.is_none() {
            // Nothing is known until all of it has come.
            shared.remember(cx, self.peer, |memory| memory.resume_point = None);
        }
        let wanted = Wanted {
            by: By::RelayId(self.identity.clone()),
            since,
            until,
        };
        let remote = Remote::Peer(self.peer);
        self.catch_up.requested_from = since.map(|it| it.0);
        self.fetch = Some(Fetch::new(cx.now(), remote, vec![wanted]));
        self.since = cx.now();
    }

    /// Opens a connection for the bulk query, where one is due.
    pub(crate) fn start_fetch(&mut self, shared: &mut Shared, cx: &mut Context<'_>) {
        let fetch = self.fetch.as_mut();
        if fetch.is_some_and(|fetch| fetch.start(shared, cx)) {
            self.attempts.begin();
            self.catch_up.received = 0;
        }
    }

    /// All that was asked for has come.
    pub(crate) fn completed(
        &mut self,
        shared: &mut Shared,
        cx: &mut Context<'_>,
        base_time: Option<LqTime>,
    ) {
        self.since = cx.now();
        self.catch_up.is_complete = true;
        self.catch_up.completed_at = Some(cx.now());
        self.last_error = None;
        self.has_synced = true;
        if let Some(away) = &mut self.away {
            away.ask_at = cx.now();
        }
        self.resume_at(shared, cx, base_time);
    }

    /// Fetches what changed from then on, by our clock, once more: another peer may have told it of
    /// changes that did not come to us.
    pub(crate) fn fetch_again(&mut self, shared: &mut Shared, cx: &mut Context<'_>, since: LqTime) {
        let since = self.skew.theirs(shared.clock, since);
        shared.remember(cx, self.peer, |memory| {
            let is_before = |known: &u32| LqTime(*known).is_after(since);
            if memory.resume_point.as_ref().is_some_and(is_before) {
                memory.resume_point = Some(since.0);
            }
        });
        self.fetch(shared, cx, Some(since), None);
    }

    /// All that the peer told until then was taken over, unless a bulk query is pending, or what it
    /// tells may have been taken for too old: then the resume point stays. Never earlier than it was.
    // req: ALQ-33, ALQ-D-25
    pub(crate) fn resume_at(
        &mut self,
        shared: &mut Shared,
        cx: &mut Context<'_>,
        base_time: Option<LqTime>,
    ) {
        let is_certain = self.fetch.is_none() && !self.skew.is_late();
        let Some(base_time) = base_time.filter(|_| is_certain) else {
            return;
        };
        self.lag_secs = {
            let now = shared.base_time(cx.now());
            u64::try_from(now.secs_since(self.skew.ours(shared.clock, base_time))).unwrap_or(0)
        };
        let server = hash_of_duid(&self.identity);
        shared.remember(cx, self.peer, |memory| {
            let is_later = |known: u32| base_time.is_after(LqTime(known));
            if memory.resume_point.is_none_or(is_later) {
                memory.resume_point = Some(base_time.0);
                memory.server = Some(server);
            }
        });
    }

    /// Closes both connections; nothing more is heard of them.
    pub(crate) fn close(&mut self, shared: &mut Shared, cx: &mut Context<'_>, why: CloseReason) {
        if core::mem::take(&mut self.has_synced) {
            let now = cx.now();
            let unheard = shared.config.receive_timeout.as_secs() + MARGIN_SECS;
            self.away.get_or_insert(Away {
                since: shared.base_time(now).minus_secs(unheard as u32),
                ask_at: now + shared.config.idle_timeout,
            });
        }
        if let Some(mut fetch) = self.fetch.take() {
            fetch.close(shared, cx, CloseReason::Local);
        }
        if let Some(id) = self.connection.take() {
            shared.close(cx, id, why);
        }
        self.retry_at = None;
        self.is_doubted = false;
        if self.state != State::Idle {
            self.state = State::Idle;
            self.since = cx.now();
            cx.changed(Remote::Peer(self.peer));
        }
    }

    /// Whether it is time to ask for what another peer may have told it alone.
    pub(crate) fn is_asked_too(&self) -> bool {
        self.ask_since.is_some() && self.is_in_sync()
    }

    /// LIVE, with no bulk query pending.
    pub(crate) fn is_in_sync(&self) -> bool {
        self.state == State::Live && self.fetch.is_none()
    }

    /// For `show`.
    pub(crate) fn shown_state(&self) -> SessionState {
        match self.state {
            State::Idle if self.retry_at.is_some() => SessionState::Backoff,
            State::Idle => SessionState::Idle,
            State::Connecting => SessionState::Connecting,
            State::TlsAsked | State::TlsHandshake => SessionState::TlsHandshake,
            State::QuerySent => SessionState::QuerySent,
            State::CatchUp => SessionState::CatchUp,
            State::Live if self.fetch.is_some() => SessionState::BulkCatchUp,
            State::Live => SessionState::Active,
        }
    }

    /// For `show`.
    pub(crate) fn retry_at(&self) -> Option<Instant> {
        let of_fetch = self.fetch.as_ref().and_then(|it| it.retry_at);
        self.retry_at.or(of_fetch)
    }

    /// For `show`.
    pub(crate) fn last_error(&self, own_identity: &[u8]) -> Option<String> {
        let of_fetch = self.fetch.as_ref().and_then(|it| it.last_error.clone());
        let is_double = self.identity == own_identity;
        let double = is_double.then(|| DOUBLE.to_string());
        of_fetch.or_else(|| self.last_error.clone()).or(double)
    }

    /// For `show`.
    pub(crate) const fn lag_nanos(&self) -> Option<u64> {
        match self.last_base_time {
            Some(_) => Some(self.lag_secs * 1_000_000_000),
            None => None,
        }
    }

    /// For readiness.
    pub(crate) fn progress(&self) -> Progress {
        Progress {
            remote: Remote::Peer(self.peer),
            state: self.shown_state(),
            is_in_sync: self.is_in_sync(),
            at: self.attempts.progress_at(),
        }
    }
}
