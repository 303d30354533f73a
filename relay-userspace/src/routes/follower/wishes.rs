//! What the core and the configuration want to exist, now and after a resend.

use std::collections::HashSet;

use relay_core::effect::{Route, RouteChange};
use relay_core::types::Prefix;

use super::{Follower, Key, Policy, State, is_aggregate, state_slot};
use crate::routes::objects::Target;

impl Follower {
    /// A wish of the core.
    pub fn apply(&mut self, change: RouteChange) {
        match change {
            RouteChange::Put(route) => self.put(route),
            RouteChange::Remove { prefix, version } => self.remove(prefix, version),
        }
    }

    fn put(&mut self, route: Route) {
        let key = (route.prefix, self.policy.metric);
        let target = Target::Via {
            gateway: route.gateway,
            interface: route.interface,
        };
        let newer = self
            .entry(key)
            .wanted
            .is_none_or(|(_, v)| v <= route.version);
        if newer {
            self.want(key, target, route.version);
            self.clear_leftovers(route.prefix);
        }
    }

    fn want(&mut self, key: Key, target: Target, version: u64) {
        // It may have gone since; a comparison says.
        self.doubt |= self.foreign.contains(&key.0);
        let entry = self.entry(key);
        entry.remove = false;
        entry.fresh = true;
        let first = entry.wanted.is_none();
        entry.wanted = Some((target, version));
        if first {
            self.counts[0] += 1;
            self.entry(key).state = State::Pending;
        } else {
            self.set_state(key, State::Pending);
        }
        self.look_at(key);
    }

    fn remove(&mut self, prefix: Prefix, version: u64) {
        let key = (prefix, self.policy.metric);
        let Some(entry) = self.entries.get(&key) else {
            return self.clear_leftovers(prefix);
        };
        if entry.wanted.is_some_and(|(_, wanted)| wanted > version) {
            return;
        }
        self.unwant(key);
        self.clear_leftovers(prefix);
    }

    fn unwant(&mut self, key: Key) {
        let entry = self.entries.get_mut(&key).expect("the caller saw it");
        entry.remove = true;
        if entry.wanted.take().is_some() {
            let slot = state_slot(entry.state);
            self.counts[slot] -= 1;
            self.outcomes.remove(&key.0);
        }
        self.look_at(key);
    }

    /// Routes of ours with another metric, from a run with another configuration, go when their
    /// destination is heard of again.
    fn clear_leftovers(&mut self, prefix: Prefix) {
        let range = (prefix, 0)..=(prefix, u32::MAX);
        let leftovers: Vec<Key> = self
            .entries
            .range(range)
            .filter(|(_, entry)| entry.wanted.is_none() && entry.present.is_some())
            .map(|(key, _)| *key)
            .collect();
        for key in leftovers {
            self.entry(key).remove = true;
            self.look_at(key);
        }
    }

    pub(super) fn want_aggregates(&mut self) {
        let metric = self.policy.aggregate_metric();
        let wanted: HashSet<Prefix> = self.policy.aggregates.iter().copied().collect();
        let gone: Vec<Key> = self
            .entries
            .iter()
            .filter(|((prefix, at), entry)| {
                *at == metric && is_aggregate(entry) && !wanted.contains(prefix)
            })
            .map(|(key, _)| *key)
            .collect();
        gone.into_iter().for_each(|key| self.unwant(key));
        for prefix in wanted {
            let key = (prefix, metric);
            if self.entry(key).wanted.is_none() {
                self.want(key, Target::Unreachable, 0);
            }
        }
    }

    /// Takes over a new policy. Where routes move to another table, protocol or metric, the caller
    /// has first called [`Follower::withdraw_all`] and carried out what it led to.
    pub fn set_policy(&mut self, policy: Policy) {
        if !policy.same_place(&self.policy) {
            self.entries.clear();
            self.queue.clear();
            self.counts = [0; 3];
            self.doubt = true;
        }
        self.policy = policy;
        self.want_aggregates();
        self.publish_counts();
    }

    /// Wants nothing any more; answers the leases that were wanted, to be wanted again under
    /// another policy.
    pub fn withdraw_all(&mut self) -> Vec<Route> {
        let wanted: Vec<(Key, Target, u64)> = self
            .entries
            .iter()
            .filter_map(|(key, entry)| {
                let (target, version) = entry.wanted?;
                Some((*key, target, version))
            })
            .collect();
        for (key, ..) in &wanted {
            self.unwant(*key);
        }
        wanted
            .into_iter()
            .filter_map(|((prefix, _), target, version)| match target {
                Target::Via { gateway, interface } => Some(Route {
                    prefix,
                    gateway,
                    interface,
                    version,
                }),
                Target::Unreachable | Target::Other => None,
            })
            .collect()
    }

    /// The core is about to say everything again.
    pub fn resend_begins(&mut self) {
        for entry in self.entries.values_mut() {
            entry.fresh = false;
        }
    }

    /// The core has said everything: leases that it did not name again go. `is_complete`: it
    /// remembers all of them, so routes that nobody wants are leftovers and go too, now and later.
    pub fn resend_ends(&mut self, is_complete: bool) {
        let stale: Vec<Key> = self
            .entries
            .iter()
            .filter(|(_, entry)| !entry.fresh && entry.wanted.is_some() && !is_aggregate(entry))
            .map(|(key, _)| *key)
            .collect();
        stale.into_iter().for_each(|key| self.unwant(key));
        self.owns_all |= is_complete;
        self.forget_leftovers();
    }
}
