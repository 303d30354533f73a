//! Changes that a peer told others and not us: while it is away, and once more when it is back, the
//! others are asked for them.
//!
//! Live, a relay tells what it knows of itself (ALQ-D-12), so each relay has to hear each other. One
//! that some relays cannot reach, and that is gone for good then, would leave them unequal.

use alloc::vec::Vec;

use super::peer_session::Session;
use super::requestor::{LONG_RETRY_FACTOR, Requestor};
use super::{Context, Shared};
use crate::time::{Instant, LqTime};

/// For the times of a message that was on its way, and what is left out of them.
pub(super) const MARGIN_SECS: u64 = 5;

/// A peer that is not in sync any more.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Away {
    /// From here on, by our clock, the others may know alone what it changed.
    pub(crate) since: LqTime,
    /// When they are asked for that.
    pub(crate) ask_at: Instant,
}

impl Requestor {
    /// What a peer that is away has told others, they do not tell us, and it may be gone for good:
    /// they are asked after a while, again and again, and once more when it is back.
    // req: ALQ-D-12
    pub(super) fn ask_others(&mut self, shared: &mut Shared, cx: &mut Context<'_>) {
        let now = cx.now();
        let due = |it: &Session| {
            let away = it.away.filter(|away| away.ask_at <= now)?;
            Some((it.peer, it.is_in_sync(), away.since))
        };
        let due: Vec<_> = self.sessions.values().filter_map(due).collect();
        for (peer, is_back, since) in due {
            for other in self.sessions.values_mut().filter(|it| it.peer != peer) {
                let is_before = |known: LqTime| known.is_after(since);
                if other.ask_since.is_none_or(is_before) {
                    other.ask_since = Some(since);
                }
            }
            let again = Away {
                since: shared.base_time(now).minus_secs(MARGIN_SECS as u32),
                ask_at: now + shared.config.idle_timeout * LONG_RETRY_FACTOR,
            };
            if let Some(session) = self.sessions.get_mut(&peer) {
                session.away = (!is_back).then_some(again);
            }
        }
        // One that is not in sync is asked when it is.
        for session in self.sessions.values_mut() {
            if session.is_asked_too()
                && let Some(since) = session.ask_since.take()
            {
                session.fetch_again(shared, cx, since);
            }
        }
    }
}
