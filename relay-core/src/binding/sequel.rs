//! What this relay sees of a lease comes after what it knows of it, for all relays.
//!
//! Relays compare whole seconds ([`super::replica`]). What is seen in the second of what was known
//! before would lose against that elsewhere, and has happened here; so it bears the next second. A
//! message cannot say a time that is yet to come: it says the present one, which is enough where
//! nobody else knows better, and the change is told once more when its second has come. Must not
//! know who is told.

use alloc::boxed::Box;
use alloc::collections::BTreeSet;
use core::time::Duration;

use super::changes::Node;
use super::{Bindings, Context};
use crate::time::Instant;
use crate::types::Prefix;

const SECOND: Duration = Duration::from_secs(1);
/// No clock that is right is further ahead than this: what claims a later time is not waited for.
const AHEAD_MAX: Duration = Duration::from_secs(5);
/// Changes that wait for their second. Without its turn one is only told as of the second before.
const WAITING_MAX: usize = 4096;

/// One change that is to be told again.
#[derive(PartialEq, Eq, PartialOrd, Ord)]
struct Waiting {
    at: Instant,
    prefix: Prefix,
    duid: Box<[u8]>,
}

/// All of them, in the order of their times.
#[derive(Default)]
pub(crate) struct Sequels {
    waiting: BTreeSet<Waiting>,
}

impl Sequels {
    pub(crate) fn next_time(&self) -> Option<Instant> {
        self.waiting.first().map(|it| it.at)
    }
}

impl Bindings {
    /// The time of what is seen now of a lease of which something of the time `known` was known.
    // req: ALQ-D-11
    pub(super) fn time_after(
        &mut self,
        cx: &Context<'_>,
        prefix: Prefix,
        duid: &[u8],
        known: Option<Instant>,
    ) -> Instant {
        let latest = cx.now + AHEAD_MAX;
        let next = known.map_or(cx.now, |known| known.min(latest) + SECOND);
        if next > cx.now && self.history.is_some() && self.sequels.waiting.len() < WAITING_MAX {
            self.sequels.waiting.insert(Waiting {
                at: next,
                prefix,
                duid: duid.into(),
            });
            return next;
        }
        cx.now
    }

    /// Has those told again whose second has come.
    pub(super) fn tell_sequels(&mut self, cx: &Context<'_>) {
        while self.sequels.next_time().is_some_and(|at| at <= cx.now) {
            let Some(it) = self.sequels.waiting.pop_first() else {
                return;
            };
            let binding = self.table.find_of_duid(it.prefix, &it.duid);
            let ended = self.endings.find(it.prefix, &it.duid);
            let node = binding.map(Node::binding).or(ended.map(Node::ended));
            if let Some(node) = node {
                self.table.changes_mut().touch(node, cx.now);
            }
        }
    }
}
