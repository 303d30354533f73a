//! What the core and the configuration want to exist, now and after a resend.

use std::collections::HashSet;

use relay_core::effect::{Route, RouteChange};
use relay_core::types::Prefix;

use super::entry::{FRESH, LOST, REMOVE, UNTOLD};
use super::{Follower, Pace, Policy, State, state_slot};
use crate::routes::hops::HopId;
use crate::routes::objects::Target;

impl Follower {
    /// Wishes that [`Follower::apply`] is about to hear, at most [`AT_ONCE`].
    ///
    /// [`AT_ONCE`]: crate::routes::slots::AT_ONCE
    pub fn expect_changes(&self, changes: impl Iterator<Item = RouteChange> + Clone) {
        self.approach(changes.filter_map(|change| match change {
            RouteChange::Put(Route {
                prefix,
                gateway,
                interface,
                ..
            }) => Some((
                (prefix, self.policy.metric),
                Target::Via { gateway, interface },
            )),
            RouteChange::Remove { .. } => None,
        }));
    }

    /// A wish of the core.
    pub fn apply(&mut self, change: RouteChange, pace: Pace) {
        match change {
            RouteChange::Put(route) => self.put(route, pace),
            RouteChange::Remove { prefix, version } => self.remove(prefix, version, pace),
        }
    }

    fn put(&mut self, route: Route, pace: Pace) {
        let at = self.at((route.prefix, self.policy.metric));
        let entry = self.entry(at);
        if entry.wanted.is_some() && entry.version > route.version {
            return;
        }
        entry.version = route.version;
        let target = Target::Via {
            gateway: route.gateway,
            interface: route.interface,
        };
        self.want(at, route.prefix, target, pace);
        self.clear_leftovers(route.prefix);
    }

    fn want(&mut self, at: u32, prefix: Prefix, target: Target, pace: Pace) {
        let hop = self.take_hop(at, target);
        let entry = self.entry(at);
        entry.take(REMOVE);
        entry.set(FRESH);
        let old = entry.wanted.replace(hop);
        if let Some(old) = old {
            self.hops.give_back(old);
            self.set_state(at, State::Pending);
        } else {
            entry.set_state(State::Pending);
            self.counts[state_slot(State::Pending)] += 1;
        }
        // It may have gone since; a comparison says.
        let is_foreign = self.is_foreign(prefix);
        self.doubt |= is_foreign;
        let entry = self.entry(at);
        if entry.present == entry.wanted && !is_foreign {
            // Renewed, or resent: it is answered and nothing is written.
            entry.take(LOST);
            self.settle(at, State::Installed);
        } else {
            self.look_at(at, pace);
        }
    }

    fn remove(&mut self, prefix: Prefix, version: u64, pace: Pace) {
        if let Some(at) = self.routes.find(&(prefix, self.policy.metric)) {
            let entry = self.entry(at);
            if entry.wanted.is_some() && entry.version > version {
                return;
            }
            self.unwant(at, pace);
        }
        self.clear_leftovers(prefix);
    }

    fn unwant(&mut self, at: u32, pace: Pace) {
        let entry = self.entry(at);
        entry.set(REMOVE);
        entry.take(UNTOLD | LOST);
        let state = entry.state();
        if let Some(old) = entry.wanted.take() {
            self.counts[state_slot(state)] -= 1;
            self.hops.give_back(old);
        }
        self.look_at(at, pace);
    }

    /// Routes of ours with another metric, from a run with another configuration, go when their
    /// destination is heard of again.
    fn clear_leftovers(&mut self, prefix: Prefix) {
        if self.strays.is_empty() {
            return;
        }
        let strays = self.strays.iter().map(|metric| (prefix, *metric));
        let found: Vec<u32> = strays.filter_map(|key| self.routes.find(&key)).collect();
        for at in found {
            let entry = self.entry(at);
            if entry.wanted.is_none() && entry.present.is_some() {
                entry.set(REMOVE);
                self.look_at(at, Pace::InTurn);
            }
        }
    }

    pub(super) fn want_aggregates(&mut self) {
        let metric = self.policy.aggregate_metric();
        let wanted: HashSet<Prefix> = self.policy.aggregates.iter().copied().collect();
        self.unwant_where(|entry_prefix, hop| {
            hop == HopId::UNREACHABLE && !wanted.contains(&entry_prefix)
        });
        for prefix in wanted {
            let at = self.at((prefix, metric));
            if self.entry(at).wanted.is_none() {
                self.want(at, prefix, Target::Unreachable, Pace::InTurn);
            }
        }
    }

    fn unwant_where(&mut self, mut is_meant: impl FnMut(Prefix, HopId) -> bool) {
        let meant: Vec<u32> = self
            .routes
            .iter()
            .filter(|(_, entry)| {
                entry
                    .wanted
                    .is_some_and(|hop| is_meant(entry.prefix(), hop))
            })
            .map(|(at, _)| at)
            .collect();
        meant
            .into_iter()
            .for_each(|at| self.unwant(at, Pace::InTurn));
    }

    /// Takes over a new policy. Where routes move to another table, protocol or metric, the caller
    /// has first called [`Follower::withdraw_all`] and carried out what it led to.
    pub fn set_policy(&mut self, policy: Policy) {
        if !policy.same_place(&self.policy) {
            self.unwant_where(|_, _| true);
            let all: Vec<u32> = self.routes.iter().map(|(at, _)| at).collect();
            all.into_iter().for_each(|at| self.forget(at));
            self.hurried.clear();
            self.queue.clear();
            self.untold.clear();
            self.strays.clear();
            self.foreign.clear();
            self.comparison = None;
            self.is_known = false;
            self.doubt = true;
        }
        self.policy = policy;
        self.want_aggregates();
        self.publish_counts();
    }

    /// Wants nothing any more; answers the leases that were wanted, to be wanted again under
    /// another policy.
    pub fn withdraw_all(&mut self) -> Vec<Route> {
        let leases = self
            .routes
            .iter()
            .filter_map(|(_, entry)| match self.hops.target(entry.wanted?) {
                Target::Via { gateway, interface } => Some(Route {
                    prefix: entry.prefix(),
                    gateway,
                    interface,
                    version: entry.version,
                }),
                Target::Unreachable | Target::Other => None,
            })
            .collect();
        self.unwant_where(|_, _| true);
        leases
    }

    /// The core is about to say everything again.
    pub fn resend_begins(&mut self) {
        for (_, entry) in self.routes.iter_mut() {
            entry.take(FRESH);
        }
    }

    /// The core has said everything: leases that it did not name again go. `is_complete`: it
    /// remembers all of them, so routes that nobody wants are leftovers and go too, now and later.
    pub fn resend_ends(&mut self, is_complete: bool) {
        let stale: Vec<u32> = self
            .routes
            .iter()
            .filter(|(_, entry)| {
                let lease = entry.wanted.filter(|hop| *hop != HopId::UNREACHABLE);
                lease.is_some() && !entry.has(FRESH)
            })
            .map(|(at, _)| at)
            .collect();
        stale
            .into_iter()
            .for_each(|at| self.unwant(at, Pace::InTurn));
        self.owns_all |= is_complete;
        let leftovers: Vec<u32> = self
            .routes
            .iter()
            .filter(|(_, entry)| self.is_leftover(entry))
            .map(|(at, _)| at)
            .collect();
        for at in leftovers {
            self.entry(at).set(REMOVE);
            self.look_at(at, Pace::InTurn);
        }
    }
}
