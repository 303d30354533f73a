//! What routes must exist, what routes do exist, and the writes between.
//!
//! Decides every write to the routing table; knows no socket and no clock, so that its rules can
//! be tested without a kernel. `thread.rs` carries its batches to the kernel and its answers back.
//!
//! Rules: a route that is not ours is never replaced, and never stands beside one of ours with the
//! same destination. Ours are those with our protocol number in our table. Routes of ours that
//! nobody wants (an earlier run left them) stay until somebody wants or removes their destination.

use std::collections::{BTreeMap, HashMap, HashSet, VecDeque};
use std::net::Ipv6Addr;
use std::sync::Arc;

use relay_core::effect::{Route, RouteChange};
use relay_core::input::{RouteOutcome, RouteRefusal};
use relay_core::types::{IfIndex, Prefix};

use super::objects::{KernelRoute, RouteKey, Target};
use crate::config::RoutesSection;
use crate::counters::Counters;
use crate::interfaces::InterfaceTable;

/// The metric that the kernel gives to routes that ask for none.
const KERNEL_DEFAULT_METRIC: u32 = 1024;

/// The part of `[routes]` that decides how routes look in the kernel.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Policy {
    /// Table.
    pub table: u32,
    /// Our mark.
    pub protocol: u8,
    /// Metric of leases.
    pub metric: u32,
    /// Unreachable routes.
    pub aggregates: Vec<Prefix>,
}

impl Policy {
    /// From the configuration; without `enabled` there are no aggregates.
    pub fn new(section: &RoutesSection) -> Self {
        Self {
            table: section.table,
            protocol: section.protocol,
            metric: match section.metric {
                0 => KERNEL_DEFAULT_METRIC,
                metric => metric,
            },
            aggregates: match section.enabled {
                true => section.aggregates.clone(),
                false => Vec::new(),
            },
        }
    }

    /// Aggregates are one worse than leases: where a whole aggregate is delegated to one client,
    /// its route wins, and the two do not collide in the kernel.
    pub fn aggregate_metric(&self) -> u32 {
        self.metric.saturating_add(1)
    }

    /// Whether both name the same routes.
    pub fn same_place(&self, other: &Self) -> bool {
        (self.table, self.protocol, self.metric) == (other.table, other.protocol, other.metric)
    }
}

/// One message to the kernel.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Write {
    /// Which route.
    pub key: RouteKey,
    /// `Some`: create it, where nothing is; `None`: delete it.
    pub target: Option<Target>,
}

/// What became of a wanted route.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum State {
    /// To be written.
    Pending,
    /// In the kernel.
    Installed,
    /// Not in the kernel.
    Refused(RouteRefusal),
}

/// One destination with one metric.
#[derive(Clone, Debug)]
pub struct Entry {
    /// What must be, and the version of that wish. `None`: nothing must be.
    pub wanted: Option<(Target, u64)>,
    /// What is there, as far as we know.
    pub present: Option<Target>,
    /// Of what is wanted.
    pub state: State,
    /// Nobody wants it, and it is to go.
    remove: bool,
    /// It was there and somebody else took it away.
    lost: bool,
    /// In the list of those to look at.
    queued: bool,
    /// Came again since the resend began.
    fresh: bool,
}

impl Entry {
    fn new() -> Self {
        Self {
            wanted: None,
            present: None,
            state: State::Pending,
            remove: false,
            lost: false,
            queued: false,
            fresh: true,
        }
    }
}

/// Destination and metric: one route in the kernel.
type Key = (Prefix, u32);

/// See the file's header.
#[derive(Debug)]
pub struct Follower {
    policy: Policy,
    entries: BTreeMap<Key, Entry>,
    /// Destinations of routes in our table that are not ours.
    foreign: HashSet<Prefix>,
    up: HashSet<IfIndex>,
    queue: VecDeque<Key>,
    /// By destination: bounded by the number of routes, however slow the reader.
    outcomes: HashMap<Prefix, RouteOutcome>,
    /// Pending, installed, refused.
    counts: [u64; 3],
    /// What we believe may be wrong: compare with the kernel.
    doubt: bool,
    counters: Arc<Counters>,
}

impl Follower {
    /// With no wish and an empty kernel; [`Follower::compare`] says what there is.
    pub fn new(policy: Policy, counters: Arc<Counters>) -> Self {
        let mut follower = Self {
            policy,
            entries: BTreeMap::new(),
            foreign: HashSet::new(),
            up: HashSet::new(),
            queue: VecDeque::new(),
            outcomes: HashMap::new(),
            counts: [0; 3],
            doubt: true,
            counters,
        };
        follower.want_aggregates();
        follower
    }

    /// The policy in force.
    pub fn policy(&self) -> &Policy {
        &self.policy
    }

    /// All entries from a destination on, for `show routes`.
    pub fn entries_after(&self, after: Option<Key>) -> impl Iterator<Item = (&Key, &Entry)> {
        let start = after.map_or(std::ops::Bound::Unbounded, std::ops::Bound::Excluded);
        self.entries.range((start, std::ops::Bound::Unbounded))
    }

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

    fn want_aggregates(&mut self) {
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

    /// The core has said everything: leases that it did not name again go.
    pub fn resend_ends(&mut self) {
        let stale: Vec<Key> = self
            .entries
            .iter()
            .filter(|(_, entry)| !entry.fresh && entry.wanted.is_some() && !is_aggregate(entry))
            .map(|(key, _)| *key)
            .collect();
        stale.into_iter().for_each(|key| self.unwant(key));
    }

    /// Somebody else made (`there`) or removed a route.
    pub fn kernel_changed(&mut self, route: &KernelRoute, there: bool) {
        if route.table != self.policy.table {
            return;
        }
        let prefix = route.prefix;
        if route.protocol != self.policy.protocol {
            if there {
                self.foreign.insert(prefix);
                self.look_at_wanted(prefix);
            } else if self.foreign.remove(&prefix) && self.is_wanted(prefix) {
                // Another foreign route may still be there: ask before writing.
                self.doubt = true;
            }
            return;
        }
        let key = (prefix, route.metric);
        if there {
            self.entry(key).present = Some(route.target);
            self.look_at(key);
        } else if let Some(entry) = self.entries.get_mut(&key) {
            entry.lost |= entry.present.take().is_some() && entry.wanted.is_some();
            self.look_at(key);
        }
    }

    /// All routes of our table, as the kernel has them now.
    pub fn compare(&mut self, ours: &[KernelRoute], foreign: HashSet<Prefix>) {
        self.doubt = false;
        self.foreign = foreign;
        let mut missing: HashSet<Key> = self
            .entries
            .iter()
            .filter(|(_, entry)| entry.present.is_some())
            .map(|(key, _)| *key)
            .collect();
        for route in ours {
            let key = (route.prefix, route.metric);
            missing.remove(&key);
            self.entry(key).present = Some(route.target);
        }
        for key in missing {
            let entry = self.entry(key);
            entry.present = None;
            entry.lost = entry.wanted.is_some();
        }
        let all: Vec<Key> = self
            .entries
            .iter()
            .filter(|((prefix, _), entry)| needs_look(entry, self.foreign.contains(prefix)))
            .map(|(key, _)| *key)
            .collect();
        all.into_iter().for_each(|key| self.look_at(key));
        self.forget_old_aggregates();
    }

    /// Aggregates are all in the configuration: others of an earlier one go.
    fn forget_old_aggregates(&mut self) {
        let old: Vec<Key> = self
            .entries
            .iter()
            .filter(|(_, entry)| {
                entry.wanted.is_none() && entry.present == Some(Target::Unreachable)
            })
            .map(|(key, _)| *key)
            .collect();
        for key in old {
            self.entry(key).remove = true;
            self.look_at(key);
        }
    }

    /// Interfaces changed: routes of those that went down are gone, those of the others can be
    /// written again.
    pub fn interfaces_changed(&mut self, table: &InterfaceTable) {
        let up: HashSet<IfIndex> = table
            .interfaces
            .iter()
            .filter(|interface| interface.up)
            .map(|interface| interface.index)
            .collect();
        let risen: HashSet<IfIndex> = up.difference(&self.up).copied().collect();
        let fallen: HashSet<IfIndex> = self.up.difference(&up).copied().collect();
        self.up = up;
        if risen.is_empty() && fallen.is_empty() {
            return;
        }
        let mut touched = Vec::new();
        for (key, entry) in &mut self.entries {
            let Some(interface) = wanted_interface(entry) else {
                continue;
            };
            if fallen.contains(&interface) {
                // The kernel flushes an interface's routes with it, with or without telling.
                entry.lost |= entry.present.take().is_some();
                touched.push(*key);
            } else if risen.contains(&interface) {
                touched.push(*key);
            }
        }
        touched.into_iter().for_each(|key| self.look_at(key));
    }

    /// Whether the kernel should be asked for all routes.
    pub fn in_doubt(&self) -> bool {
        self.doubt
    }

    /// What we believe may be wrong.
    pub fn doubt(&mut self) {
        self.doubt = true;
    }

    /// Whether something is to be written or settled.
    pub fn has_work(&self) -> bool {
        !self.queue.is_empty()
    }

    /// The next writes, at most `max`, in the order in which they must be done. Every batch is
    /// answered by [`Follower::written`].
    pub fn next_batch(&mut self, max: usize) -> Vec<Write> {
        let mut batch = Vec::with_capacity(max.min(self.queue.len() * 2));
        // A change of next hop takes two writes.
        while batch.len() + 2 <= max {
            let Some(key) = self.queue.pop_front() else {
                break;
            };
            self.plan(key, &mut batch);
        }
        batch
    }

    fn plan(&mut self, key: Key, batch: &mut Vec<Write>) {
        let foreign = self.foreign.contains(&key.0);
        let Some(entry) = self.entries.get_mut(&key) else {
            return;
        };
        entry.queued = false;
        let route = RouteKey {
            prefix: key.0,
            table: self.policy.table,
            protocol: self.policy.protocol,
            metric: key.1,
        };
        let delete = Write {
            key: route,
            target: None,
        };
        let Some((target, _)) = entry.wanted else {
            match entry.present {
                Some(_) if entry.remove => batch.push(delete),
                Some(_) => {}
                None => drop(self.entries.remove(&key)),
            }
            return;
        };
        if entry.present.is_some() && (foreign || entry.present != Some(target)) {
            batch.push(delete);
        }
        if foreign {
            self.settle(key, State::Refused(RouteRefusal::ForeignRoute));
        } else if entry.present == Some(target) {
            entry.lost = false;
            self.settle(key, State::Installed);
        } else if wanted_interface(entry).is_some_and(|interface| !self.up.contains(&interface)) {
            self.settle(key, State::Refused(RouteRefusal::Kernel(libc::ENETDOWN)));
        } else {
            batch.push(Write {
                key: route,
                target: Some(target),
            });
        }
    }

    /// What the kernel made of a batch: index and errno of each write that it refused. `None`:
    /// nobody knows.
    pub fn written(&mut self, batch: &[Write], errors: Option<&[(usize, i32)]>) {
        let Some(errors) = errors else {
            self.doubt = true;
            return;
        };
        let errors: HashMap<usize, i32> = errors.iter().copied().collect();
        for (index, write) in batch.iter().enumerate() {
            let errno = errors.get(&index).copied().unwrap_or(0);
            match write.target {
                Some(target) => self.created((write.key.prefix, write.key.metric), target, errno),
                None => self.deleted((write.key.prefix, write.key.metric), errno),
            }
        }
        self.publish_counts();
    }

    fn created(&mut self, key: Key, target: Target, errno: i32) {
        let Some(entry) = self.entries.get_mut(&key) else {
            return;
        };
        match errno {
            0 => {
                entry.present = Some(target);
                if std::mem::take(&mut entry.lost) {
                    self.counters.routes.repaired.inc();
                }
                self.settle(key, State::Installed);
            }
            // Something is there that we do not know of: find out whose it is.
            libc::EEXIST => self.doubt = true,
            errno => {
                self.counters.routes.errors.inc();
                self.settle(key, State::Refused(RouteRefusal::Kernel(errno)));
            }
        }
    }

    fn deleted(&mut self, key: Key, errno: i32) {
        let Some(entry) = self.entries.get_mut(&key) else {
            return;
        };
        match errno {
            0 | libc::ESRCH | libc::ENOENT | libc::ENODEV => {
                entry.present = None;
                if entry.wanted.is_none() {
                    self.entries.remove(&key);
                }
            }
            _ => {
                self.counters.routes.errors.inc();
                self.doubt = true;
            }
        }
    }

    /// What became of routes since the last call.
    pub fn take_outcomes(&mut self) -> Vec<RouteOutcome> {
        self.outcomes.drain().map(|(_, outcome)| outcome).collect()
    }

    /// Outcomes that could not be handed on; newer ones win.
    pub fn give_back(&mut self, outcomes: Vec<RouteOutcome>) {
        for outcome in outcomes {
            self.outcomes.entry(outcome.prefix).or_insert(outcome);
        }
    }

    fn settle(&mut self, key: Key, state: State) {
        let entry = &self.entries[&key];
        let Some((target, version)) = entry.wanted else {
            return;
        };
        let (prefix, changed) = (key.0, entry.state != state);
        let result = match state {
            State::Pending => return,
            State::Installed => Ok(()),
            State::Refused(refusal) => Err(refusal),
        };
        self.set_state(key, state);
        // Aggregates are nobody's lease.
        if changed && target != Target::Unreachable {
            let outcome = RouteOutcome {
                prefix,
                version,
                result,
            };
            self.outcomes.insert(prefix, outcome);
        }
    }

    fn set_state(&mut self, key: Key, state: State) {
        let entry = self.entries.get_mut(&key).expect("the caller has it");
        let old = std::mem::replace(&mut entry.state, state);
        self.counts[state_slot(old)] -= 1;
        self.counts[state_slot(state)] += 1;
    }

    /// Shows the gauges.
    pub fn publish_counts(&self) {
        let [pending, installed, failed] = self.counts;
        let routes = &self.counters.routes;
        routes.pending.set(pending);
        routes.installed.set(installed);
        routes.failed.set(failed);
    }

    fn entry(&mut self, key: Key) -> &mut Entry {
        self.entries.entry(key).or_insert_with(Entry::new)
    }

    fn look_at(&mut self, key: Key) {
        let Some(entry) = self.entries.get_mut(&key) else {
            return;
        };
        if !std::mem::replace(&mut entry.queued, true) {
            self.queue.push_back(key);
        }
    }

    fn look_at_wanted(&mut self, prefix: Prefix) {
        let keys: Vec<Key> = self
            .entries
            .range((prefix, 0)..=(prefix, u32::MAX))
            .filter(|(_, entry)| entry.wanted.is_some())
            .map(|(key, _)| *key)
            .collect();
        keys.into_iter().for_each(|key| self.look_at(key));
    }

    fn is_wanted(&self, prefix: Prefix) -> bool {
        self.entries
            .range((prefix, 0)..=(prefix, u32::MAX))
            .any(|(_, entry)| entry.wanted.is_some())
    }
}

fn state_slot(state: State) -> usize {
    match state {
        State::Pending => 0,
        State::Installed => 1,
        State::Refused(_) => 2,
    }
}

fn is_aggregate(entry: &Entry) -> bool {
    entry
        .wanted
        .is_some_and(|(target, _)| target == Target::Unreachable)
}

fn wanted_interface(entry: &Entry) -> Option<IfIndex> {
    match entry.wanted?.0 {
        Target::Via { interface, .. } => Some(interface),
        Target::Unreachable | Target::Other => None,
    }
}

/// Whether a comparison left something to do: routes that are as they should be are not looked at.
fn needs_look(entry: &Entry, foreign: bool) -> bool {
    match entry.wanted {
        None => entry.present.is_none() || entry.remove,
        Some((target, _)) => {
            foreign || entry.present != Some(target) || entry.state != State::Installed
        }
    }
}

/// The gateway and interface of a target, for display.
pub fn next_hop(target: Target) -> Option<(Ipv6Addr, IfIndex)> {
    match target {
        Target::Via { gateway, interface } => Some((gateway, interface)),
        Target::Unreachable | Target::Other => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::interfaces::Interface;

    const ACCESS: IfIndex = IfIndex(2);

    fn prefix(text: &str) -> Prefix {
        Prefix::new(text.parse().unwrap(), 56).unwrap()
    }

    fn via(gateway: &str) -> Target {
        Target::Via {
            gateway: gateway.parse().unwrap(),
            interface: ACCESS,
        }
    }

    fn route(protocol: u8, metric: u32, target: Target) -> KernelRoute {
        KernelRoute {
            prefix: prefix("2001:db8::"),
            table: 254,
            protocol,
            metric,
            target,
        }
    }

    fn put(gateway: &str, version: u64) -> RouteChange {
        RouteChange::Put(Route {
            prefix: prefix("2001:db8::"),
            gateway: gateway.parse().unwrap(),
            interface: ACCESS,
            version,
        })
    }

    fn interfaces(up: bool) -> InterfaceTable {
        InterfaceTable {
            interfaces: vec![Interface {
                index: ACCESS,
                name: "acc0".to_owned(),
                mac: None,
                up,
                carrier: up,
                mtu: 1500,
                vlan: None,
                macvlan_parent: None,
                addresses: Vec::new(),
            }],
        }
    }

    fn follower() -> Follower {
        let policy = Policy {
            table: 254,
            protocol: 207,
            metric: 2070,
            aggregates: Vec::new(),
        };
        let mut follower = Follower::new(policy, Arc::default());
        follower.interfaces_changed(&interfaces(true));
        follower.compare(&[], HashSet::new());
        follower
    }

    /// The writes of one batch as text, all of which the kernel takes.
    fn batch(follower: &mut Follower) -> Vec<String> {
        let batch = follower.next_batch(128);
        follower.written(&batch, Some(&[]));
        batch.iter().map(text).collect()
    }

    fn text(write: &Write) -> String {
        let metric = write.key.metric;
        match write.target {
            None => format!("delete {metric}"),
            Some(target) => match next_hop(target) {
                Some((gateway, _)) => format!("create {metric} via {gateway}"),
                None => format!("create {metric} unreachable"),
            },
        }
    }

    fn results(follower: &mut Follower) -> Vec<(u64, Result<(), RouteRefusal>)> {
        let outcomes = follower.take_outcomes();
        outcomes.iter().map(|o| (o.version, o.result)).collect()
    }

    #[test]
    fn older_wish_never_overrides_a_newer_one() {
        let mut follower = follower();
        follower.apply(put("fe80::2", 5));
        follower.apply(put("fe80::1", 4));
        follower.apply(RouteChange::Remove {
            prefix: prefix("2001:db8::"),
            version: 3,
        });

        assert_eq!(batch(&mut follower), ["create 2070 via fe80::2"]);
        assert_eq!(results(&mut follower), [(5, Ok(()))]);
    }

    #[test]
    fn same_wish_again_is_answered_without_a_write() {
        let mut follower = follower();
        follower.apply(put("fe80::1", 1));
        batch(&mut follower);
        follower.take_outcomes();

        follower.apply(put("fe80::1", 2));

        assert!(batch(&mut follower).is_empty());
        assert_eq!(results(&mut follower), [(2, Ok(()))]);
    }

    #[test]
    fn unexpected_route_in_the_place_is_looked_at_before_anything_is_written() {
        let mut follower = follower();
        follower.apply(put("fe80::1", 1));
        let writes = follower.next_batch(128);
        follower.written(&writes, Some(&[(0, libc::EEXIST)]));
        assert!(follower.in_doubt());
        assert!(batch(&mut follower).is_empty());
        assert!(follower.take_outcomes().is_empty());

        follower.compare(&[route(207, 2070, via("fe80::7"))], HashSet::new());

        assert_eq!(
            batch(&mut follower),
            ["delete 2070", "create 2070 via fe80::1"]
        );
        assert_eq!(results(&mut follower), [(1, Ok(()))]);
    }

    #[test]
    fn lost_answers_lead_to_a_comparison_and_only_differences_are_written() {
        let mut follower = follower();
        follower.apply(put("fe80::1", 1));
        let writes = follower.next_batch(128);
        follower.written(&writes, None);
        assert!(follower.in_doubt());

        follower.compare(&[route(207, 2070, via("fe80::1"))], HashSet::new());

        assert!(batch(&mut follower).is_empty());
        assert_eq!(results(&mut follower), [(1, Ok(()))]);
    }

    #[test]
    fn foreign_route_found_by_comparison_makes_ours_give_way() {
        let mut follower = follower();
        follower.apply(put("fe80::1", 1));
        batch(&mut follower);
        follower.take_outcomes();

        let ours = [route(207, 2070, via("fe80::1"))];
        follower.compare(&ours, HashSet::from([prefix("2001:db8::")]));

        assert_eq!(batch(&mut follower), ["delete 2070"]);
        let refused = Err(RouteRefusal::ForeignRoute);
        assert_eq!(results(&mut follower), [(1, refused)]);
    }

    #[test]
    fn foreign_routes_of_other_tables_do_not_matter() {
        let mut follower = follower();
        let mut foreign = route(4, 100, via("fe80::9"));
        foreign.table = 1000;
        follower.kernel_changed(&foreign, true);

        follower.apply(put("fe80::1", 1));

        assert_eq!(batch(&mut follower), ["create 2070 via fe80::1"]);
    }

    #[test]
    fn kernel_error_is_reported_and_tried_again_at_the_next_comparison() {
        let mut follower = follower();
        follower.apply(put("fe80::1", 1));
        let writes = follower.next_batch(128);
        follower.written(&writes, Some(&[(0, libc::ENOMEM)]));
        let refused = Err(RouteRefusal::Kernel(libc::ENOMEM));
        assert_eq!(results(&mut follower), [(1, refused)]);

        follower.compare(&[], HashSet::new());

        assert_eq!(batch(&mut follower), ["create 2070 via fe80::1"]);
        assert_eq!(results(&mut follower), [(1, Ok(()))]);
    }

    #[test]
    fn nothing_is_written_to_an_interface_that_is_down() {
        let mut follower = follower();
        follower.interfaces_changed(&interfaces(false));
        follower.apply(put("fe80::1", 1));
        assert!(batch(&mut follower).is_empty());
        let refused = Err(RouteRefusal::Kernel(libc::ENETDOWN));
        assert_eq!(results(&mut follower), [(1, refused)]);

        follower.interfaces_changed(&interfaces(true));

        assert_eq!(batch(&mut follower), ["create 2070 via fe80::1"]);
    }

    #[test]
    fn route_of_ours_that_nobody_wants_stays_until_it_is_removed() {
        let mut follower = follower();
        follower.compare(&[route(207, 2070, via("fe80::1"))], HashSet::new());
        assert!(batch(&mut follower).is_empty());

        follower.apply(RouteChange::Remove {
            prefix: prefix("2001:db8::"),
            version: 1,
        });

        assert_eq!(batch(&mut follower), ["delete 2070"]);
        assert_eq!(follower.entries_after(None).count(), 0);
    }

    #[test]
    fn gauges_add_up_to_the_wanted_routes() {
        let mut follower = follower();
        follower.apply(put("fe80::1", 1));
        follower.apply(put("fe80::2", 2));
        assert_eq!(follower.counts, [1, 0, 0]);
        batch(&mut follower);
        assert_eq!(follower.counts, [0, 1, 0]);

        let foreign = route(4, 100, via("fe80::9"));
        follower.kernel_changed(&foreign, true);
        batch(&mut follower);
        assert_eq!(follower.counts, [0, 0, 1]);
        follower.apply(RouteChange::Remove {
            prefix: prefix("2001:db8::"),
            version: 3,
        });

        assert_eq!(follower.counts, [0, 0, 0]);
    }
}
