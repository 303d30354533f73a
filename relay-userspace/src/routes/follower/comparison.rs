//! The whole table of the kernel beside ours, over the union of both, in pieces: routes as a dump brings
//! them, then a walk over all entries for what the dump did not bring.
//!
//! Whatever is written or heard while it goes on is newer than the dump: those entries are left out.

use super::entry::{REMOVE, SEEN};
use super::foreign::ForeignRoutes;
use super::{Follower, Pace};
use crate::routes::objects::KernelRoute;
use crate::routes::slots::AT_ONCE;

/// One that is under way.
#[derive(Debug, Default)]
pub(super) struct Comparison {
    /// Found so far.
    pub(super) foreign: ForeignRoutes,
    /// The next slot of the walk at its end.
    walked: u32,
}

impl Follower {
    /// The kernel is about to be asked for all routes of our table. What was found out before that
    /// and is not finished counts no more.
    pub fn comparison_begins(&mut self) {
        if self.comparison.is_some() {
            for (_, entry) in self.routes.iter_mut() {
                entry.take(SEEN);
            }
        }
        self.doubt = false;
        self.comparison = Some(Comparison::default());
    }

    /// Routes of our table, as the kernel had them when it was asked.
    pub fn compare(&mut self, routes: &[KernelRoute]) {
        for some in routes.chunks(AT_ONCE) {
            self.approach(some.iter().map(|it| ((it.prefix, it.metric), it.target)));
            some.iter().for_each(|route| self.compare_one(route));
        }
    }

    fn compare_one(&mut self, route: &KernelRoute) {
        if route.table != self.policy.table {
            return;
        }
        if route.protocol != self.policy.protocol {
            let is_new = !self.foreign.contains(route.prefix);
            self.add_foreign(route);
            if is_new {
                self.look_at_wanted(route.prefix);
            }
            return;
        }
        let known = self.routes.find(&(route.prefix, route.metric));
        if known.is_some_and(|at| self.entry(at).has(SEEN)) {
            return;
        }
        self.found(route);
    }

    /// The kernel has told all routes.
    pub fn dump_ended(&mut self) {
        if let Some(comparison) = &mut self.comparison {
            self.foreign = std::mem::take(&mut comparison.foreign);
            comparison.walked = 0;
        }
    }

    /// Looks at some more entries after [`Follower::dump_ended`]. `true`: that was the last piece.
    pub fn walk(&mut self, slots: u32) -> bool {
        let Some(comparison) = &mut self.comparison else {
            return true;
        };
        let from = comparison.walked;
        let end = from.saturating_add(slots).min(self.routes.end());
        comparison.walked = end;
        for at in from..end {
            let Some(entry) = self.routes.get_mut(at) else {
                continue;
            };
            let was_there = entry.present.is_some();
            if !entry.take(SEEN) && was_there {
                self.lose(at);
                self.entry(at).take(SEEN);
                continue;
            }
            let entry = self.entry(at);
            let (prefix, copy) = (entry.prefix(), *entry);
            let is_leftover = self.is_leftover(&copy);
            if is_leftover {
                self.entry(at).set(REMOVE);
            }
            if is_leftover || copy.needs_look(self.is_foreign(prefix)) {
                self.look_at(at, Pace::InTurn);
            }
        }
        if end < self.routes.end() {
            return false;
        }
        self.comparison = None;
        self.is_known = true;
        true
    }
}
