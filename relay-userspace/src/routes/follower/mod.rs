//! What routes must exist, what routes do exist, and the writes between.
//!
//! Decides every write to the routing table; knows no socket and no clock, so that its rules can
//! be tested without a kernel. `thread.rs` carries its batches to the kernel and its answers back.
//! `wishes.rs` and `kernel.rs` bring the two sides up to date, `writes.rs` closes the gap.
//!
//! Rules: a route that is not ours is never replaced, and never stands beside one of ours with the
//! same destination. Ours are those with our protocol number in our table. Routes of ours that
//! nobody wants (an earlier run left them) go once a relay that remembers its bindings has told all
//! of them; without a store they stay until somebody wants or removes their destination.

mod kernel;
mod policy;
mod wishes;
mod writes;

#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, HashMap, HashSet, VecDeque};
use std::net::Ipv6Addr;
use std::sync::Arc;

use relay_core::input::{RouteOutcome, RouteRefusal};
use relay_core::types::{IfIndex, Prefix};

use super::objects::{RouteKey, Target};
use crate::counters::Counters;

pub use policy::Policy;

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

/// Repaired routes that are told one by one between two looks; all of them are counted. An interface
/// that comes back brings all its routes with it.
const REPAIRED_MAX: usize = 256;

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
    /// Put back since the last look, at most [`REPAIRED_MAX`].
    repaired: Vec<(Prefix, Target)>,
    /// Pending, installed, refused.
    counts: [u64; 3],
    /// What we believe may be wrong: compare with the kernel.
    doubt: bool,
    /// Everything that is wanted is known: all other routes of ours are leftovers.
    owns_all: bool,
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
            repaired: Vec::new(),
            counts: [0; 3],
            doubt: true,
            owns_all: false,
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

    /// What became of routes since the last call.
    pub fn take_outcomes(&mut self) -> Vec<RouteOutcome> {
        self.outcomes.drain().map(|(_, outcome)| outcome).collect()
    }

    /// Routes that were put back since the last call.
    pub fn take_repaired(&mut self) -> Vec<(Prefix, Target)> {
        std::mem::take(&mut self.repaired)
    }

    /// Outcomes that could not be handed on; newer ones win.
    pub fn give_back(&mut self, outcomes: Vec<RouteOutcome>) {
        for outcome in outcomes {
            self.outcomes.entry(outcome.prefix).or_insert(outcome);
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

/// The gateway and interface of a target, for display.
pub fn next_hop(target: Target) -> Option<(Ipv6Addr, IfIndex)> {
    match target {
        Target::Via { gateway, interface } => Some((gateway, interface)),
        Target::Unreachable | Target::Other => None,
    }
}
