//! A session begins anew because its peer's clock, or who answers there, is not what it was: what was told until then
//! does not compare with what comes (ALQ-D-9).

use alloc::string::ToString;
use core::time::Duration;

use super::input::{CloseReason, ConnectionId, Remote};
use super::requestor::Requestor;
use super::skew::{Doubt, Skew};
use super::view::Role;
use super::{Context, Shared};
use crate::time::Instant;

/// A base-time went back (ALQ-D-9).
const CLOCK_SET_BACK: &str = "the peer's clock was set back";
/// A resume point is not of the clock that it would be sent to.
pub(super) const ANOTHER_RELAY: &str = "another relay answers than before";

impl Requestor {
    /// The peer's clock was set, or may have been: the answer to a new query tells what it shows.
    // req: ALQ-D-9
    pub(super) fn doubt(
        &mut self,
        shared: &mut Shared,
        cx: &mut Context<'_>,
        id: ConnectionId,
        doubt: Doubt,
    ) {
        if doubt == Doubt::WentBack {
            return self.begin_anew(shared, cx, id, CLOCK_SET_BACK);
        }
        self.ask_again(shared, cx, id);
        self.start_due(shared, cx);
    }

    /// At once, unless that happens again and again.
    fn ask_again(&mut self, shared: &mut Shared, cx: &mut Context<'_>, id: ConnectionId) {
        let (now, delay) = (cx.now(), self.ready.retry_after(&shared.config));
        let idle_timeout = shared.config.idle_timeout;
        if let Some(session) = self.session_on(id) {
            let is_again = |at: Instant| now.saturating_since(at) < idle_timeout;
            let delay = match session.begun_anew_at.replace(now) {
                Some(at) if is_again(at) => delay,
                _ => Duration::ZERO,
            };
            session.close(shared, cx, CloseReason::Local);
            session.retry_at = Some(now + delay);
        }
    }

    /// Nothing is known of the peer's time any more.
    // req: ALQ-D-9
    pub(super) fn begin_anew(
        &mut self,
        shared: &mut Shared,
        cx: &mut Context<'_>,
        id: ConnectionId,
        why: &str,
    ) {
        let peer = self.session_on(id).map(|it| it.peer);
        self.ask_again(shared, cx, id);
        if let Some((peer, session)) = peer.and_then(|it| Some((it, self.sessions.get_mut(&it)?))) {
            session.last_error = Some(why.to_string());
            session.skew = Skew::default();
            let counters = shared
                .connections
                .counters_mut(Remote::Peer(peer), Role::Requestor);
            counters.statistics.errors += 1;
            shared.remember(cx, peer, |memory| memory.resume_point = None);
        }
        self.start_due(shared, cx);
    }
}
