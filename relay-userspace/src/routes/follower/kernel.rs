//! What others do in the kernel, as it tells: single changes, interfaces that rise and fall.

use std::collections::HashSet;

use relay_core::types::{IfIndex, Prefix};

use super::entry::REMOVE;
use super::{Entry, Follower, Pace};
use crate::interfaces::InterfaceTable;
use crate::routes::hops::HopId;
use crate::routes::objects::KernelRoute;

impl Follower {
    /// Somebody else made (`there`) or removed a route.
    pub fn kernel_changed(&mut self, route: &KernelRoute, there: bool) {
        if route.table != self.policy.table {
            return;
        }
        if route.protocol != self.policy.protocol {
            return self.foreign_changed(route, there);
        }
        let key = (route.prefix, route.metric);
        if there {
            let at = self.found(route);
            let owns_all = self.owns_all;
            let entry = self.entry(at);
            // With our number in our table, and not of us: nobody wants it.
            if owns_all && entry.wanted.is_none() {
                entry.set(REMOVE);
            }
            self.look_at(at, Pace::InTurn);
        } else if let Some(at) = self.routes.find(&key) {
            self.lose(at);
        }
    }

    /// A route of ours is there.
    pub(super) fn found(&mut self, route: &KernelRoute) -> u32 {
        if route.metric != self.policy.metric {
            self.strays.insert(route.metric);
        }
        let at = self.at((route.prefix, route.metric));
        let hop = self.take_hop(at, route.target);
        self.set_present(at, Some(hop));
        at
    }

    fn foreign_changed(&mut self, route: &KernelRoute, there: bool) {
        let prefix = route.prefix;
        if there {
            self.add_foreign(route);
            self.look_at_wanted(prefix);
            return;
        }
        let was_there = self.foreign.contains(prefix);
        let was_last = self.foreign.remove(route);
        if let Some(comparison) = &mut self.comparison {
            comparison.foreign.remove(route);
        }
        if was_last {
            self.look_at_wanted(prefix);
        }
        // Another foreign route to it may still be there, or the dump under way may still bring this one: the
        // kernel is asked, now or when somebody wants it.
        if was_there && (!was_last || self.comparison.is_some()) {
            let is_wanted = self.wanted_at(prefix).next().is_some();
            self.doubt |= is_wanted;
        }
    }

    pub(super) fn add_foreign(&mut self, route: &KernelRoute) {
        self.foreign.add(route);
        if let Some(comparison) = &mut self.comparison {
            comparison.foreign.add(route);
        }
    }

    /// Interfaces changed: routes of those that went down are gone, those of the others can be
    /// written again. `fell`: what was down for a moment, whatever the table says of it now.
    pub fn interfaces_changed(&mut self, table: &InterfaceTable, fell: &HashSet<IfIndex>) {
        let up: HashSet<IfIndex> = table
            .interfaces
            .iter()
            .filter(|interface| interface.up)
            .map(|interface| interface.index)
            .collect();
        let was_down = |at: &IfIndex| fell.contains(at) || !self.up.contains(at);
        let risen: HashSet<IfIndex> = up.iter().filter(|at| was_down(at)).copied().collect();
        let fallen: HashSet<IfIndex> = self.up.difference(&up).chain(fell).copied().collect();
        self.up = up;
        if risen.is_empty() && fallen.is_empty() {
            return;
        }
        let is_in = |set: &HashSet<IfIndex>, hop: Option<HopId>| {
            let interface = hop.and_then(|hop| self.hops.interface(hop));
            interface.is_some_and(|interface| set.contains(&interface))
        };
        let (mut gone, mut touched) = (Vec::new(), Vec::new());
        for (at, entry) in self.routes.iter() {
            if is_in(&fallen, entry.present) {
                // The kernel flushes an interface's routes with it, with or without telling.
                gone.push(at);
            } else if is_in(&fallen, entry.wanted) || is_in(&risen, entry.wanted) {
                touched.push(at);
            }
        }
        gone.into_iter().for_each(|at| self.lose(at));
        touched
            .into_iter()
            .for_each(|at| self.look_at(at, Pace::InTurn));
    }

    /// Nobody wants it, and it is known that nobody will. Aggregates are all in the configuration;
    /// leases are, once everything that is wanted was told.
    pub(super) fn is_leftover(&self, entry: &Entry) -> bool {
        let Some(present) = entry.present else {
            return false;
        };
        entry.wanted.is_none() && (self.owns_all || present == HopId::UNREACHABLE)
    }

    /// Whether a route of somebody else has this destination.
    pub(super) fn is_foreign(&self, prefix: Prefix) -> bool {
        self.foreign.contains(prefix)
    }
}
