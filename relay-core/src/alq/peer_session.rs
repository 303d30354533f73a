//! One peer that we ask: the session on its active connection, and the bulk query beside it.
//!
//! Decides what the resume point is (RFC 7653 §8.4.1): nothing that was not taken over lies before it.

use alloc::string::String;
use alloc::vec;
use alloc::vec::Vec;

use super::bulk::{By, Fetch, Wanted};
use super::input::{CloseReason, ConnectionId, Remote};
use super::intake::{self, Teller};
use super::ready::Progress;
use super::requestor::count_taken;
use super::session::{Event, State, Step, next};
use super::skew::{Doubt, Skew};
use super::view::{CatchUp, SessionState};
use super::{Context, Shared};
use crate::time::{Instant, LqTime, WallClock};
use crate::types::{PeerId, Xid};
use crate::view::Origin;
use crate::wire::leasequery::{ClientData, LqLease};

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
    /// The peer's DUID, as its last LEASEQUERY-REPLY said.
    pub(crate) identity: Vec<u8>,
    pub(crate) skew: Skew,
    /// Of the last message on the active connection.
    pub(crate) last_base_time: Option<LqTime>,
    /// How long that was on its way by the peer's clock, in seconds.
    lag_secs: u64,
    pub(crate) catch_up: CatchUp,
    pub(crate) fetch: Option<Fetch>,
    pub(crate) last_status: Option<String>,
    progress_at: Instant,
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
            identity: Vec::new(),
            skew: Skew::default(),
            last_base_time: None,
            lag_secs: 0,
            catch_up: CatchUp::default(),
            fetch: None,
            last_status: None,
            progress_at: now,
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

    /// A client came, on either connection.
    pub(crate) fn received(
        &mut self,
        shared: &mut Shared,
        cx: &mut Context<'_>,
        leases: &mut Vec<LqLease>,
        data: &ClientData<'_>,
        base_time: Option<LqTime>,
    ) {
        let peer = shared.config.peers.iter().find(|it| it.id == self.peer);
        let Some(peer) = peer else { return };
        let teller = Teller {
            origin: Origin::ActiveLeasequery(self.peer),
            address: peer.address,
            peer: Some(peer),
            server_duid: None,
            skew: &self.skew,
        };
        let taken = intake::take(shared, cx, leases, &teller, data, base_time);
        count_taken(shared, Remote::Peer(self.peer), taken);
        if !self.is_in_sync() {
            self.catch_up.received += taken.leases;
            self.progress_at = cx.now();
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
        self.progress_at = cx.now();
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
            u64::try_from(now.secs_since(self.skew.ours(base_time))).unwrap_or(0)
        };
        shared.remember(cx, self.peer, |memory| {
            let is_later = |known: u32| base_time.is_after(LqTime(known));
            if memory.resume_point.is_none_or(is_later) {
                memory.resume_point = Some(base_time.0);
            }
        });
    }

    /// Closes both connections; nothing more is heard of them.
    pub(crate) fn close(&mut self, shared: &mut Shared, cx: &mut Context<'_>, why: CloseReason) {
        if let Some(mut fetch) = self.fetch.take() {
            fetch.close(shared, cx, CloseReason::Local);
        }
        if let Some(id) = self.connection.take() {
            shared.close(cx, id, why);
        }
        self.retry_at = None;
        if self.state != State::Idle {
            self.state = State::Idle;
            self.since = cx.now();
            cx.changed(Remote::Peer(self.peer));
        }
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
            at: self.progress_at,
        }
    }
}
