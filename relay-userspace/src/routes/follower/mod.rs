//! What routes must exist, what routes do exist, and the writes between.
//!
//! Decides every write to the routing table; knows no socket and no clock, so that its rules can
//! be tested without a kernel. `thread.rs` carries its batches to the kernel and its answers back.
//! `wishes.rs`, `kernel.rs` and `comparison.rs` bring the two sides up to date, `writes.rs` closes
//! the gap; `entry.rs` is how a route is remembered.
//!
//! Rules: a route that is not ours is never replaced, and never stands beside one of ours with the
//! same destination. Ours are those with our protocol number in our table. Routes of ours that
//! nobody wants (an earlier run left them) go once a relay that remembers its bindings has told all
//! of them; without a store they stay until somebody wants or removes their destination. Nothing is
//! written before the table was read once.

mod comparison;
mod entry;
mod foreign;
mod in_turn;
mod kernel;
mod policy;
mod wishes;
mod writes;

#[cfg(test)]
mod tests;

use std::collections::{BTreeSet, HashSet, VecDeque};
use std::hint::black_box;
use std::net::Ipv6Addr;
use std::sync::Arc;

use relay_core::input::RouteOutcome;
use relay_core::types::{IfIndex, Prefix};

use super::hops::{HopId, Hops};
use super::objects::{RouteKey, Target};
use super::slots::Slots;
use crate::counters::Counters;
use comparison::Comparison;
use entry::{HURRIED, LOST, QUEUED, SEEN, UNTOLD};
use foreign::ForeignRoutes;
use in_turn::InTurn;

pub use entry::{Entry, Key, State};
pub use foreign::Foreign;
pub use policy::Policy;

/// One message to the kernel.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Write {
    /// Which route.
    pub key: RouteKey,
    /// `Some`: create it, where nothing is; `None`: delete it.
    pub target: Option<Target>,
    at: u32,
    hop: Option<HopId>,
}

/// How soon something is looked at.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Pace {
    /// A Reply may wait for it.
    Now,
    /// One of many.
    InTurn,
}

/// Repaired routes that are told one by one between two looks; all of them are counted. An interface
/// that comes back brings all its routes with it.
const REPAIRED_MAX: usize = 256;

/// See the file's header.
#[derive(Debug)]
pub struct Follower {
    policy: Policy,
    /// Where routes lead; neighbour entries stand there too.
    pub hops: Hops,
    routes: Slots<Entry>,
    /// Metrics other than that of leases that routes of ours had.
    strays: BTreeSet<u32>,
    /// Routes in our table that are not ours.
    foreign: ForeignRoutes,
    up: HashSet<IfIndex>,
    hurried: VecDeque<u32>,
    queue: InTurn,
    untold: VecDeque<u32>,
    /// Put back since the last look, at most [`REPAIRED_MAX`].
    repaired: Vec<(Prefix, Target)>,
    /// Pending, installed, refused.
    counts: [u64; 3],
    /// What we believe may be wrong: compare with the kernel.
    doubt: bool,
    /// The table was read once, nothing is written before.
    is_known: bool,
    /// The kernel refused a write since the last look.
    was_refused: bool,
    /// Everything that is wanted is known: all other routes of ours are leftovers.
    owns_all: bool,
    comparison: Option<Comparison>,
    counters: Arc<Counters>,
}

impl Follower {
    /// With no wish and an unknown kernel; a comparison says what there is.
    pub fn new(policy: Policy, counters: Arc<Counters>) -> Self {
        let mut follower = Self {
            policy,
            hops: Hops::default(),
            routes: Slots::default(),
            strays: BTreeSet::new(),
            foreign: ForeignRoutes::default(),
            up: HashSet::new(),
            hurried: VecDeque::new(),
            queue: InTurn::default(),
            untold: VecDeque::new(),
            repaired: Vec::new(),
            counts: [0; 3],
            doubt: true,
            is_known: false,
            was_refused: false,
            owns_all: false,
            comparison: None,
            counters,
        };
        follower.want_aggregates();
        follower
    }

    /// So many routes are likely to come, two for each client.
    pub fn expect(&mut self, routes: usize) {
        self.routes.expect(routes);
        self.hops.expect(routes / 2);
    }

    /// The policy in force.
    pub fn policy(&self) -> &Policy {
        &self.policy
    }

    /// The entries of some slots from one on, for `show routes`; where to go on.
    pub fn page(&self, from: u32, slots: u32) -> (impl Iterator<Item = &Entry>, Option<u32>) {
        let end = from.saturating_add(slots).min(self.routes.end());
        let entries = (from..end).filter_map(|at| self.routes.get(at));
        (entries, (end < self.routes.end()).then_some(end))
    }

    /// The route of somebody else to this destination.
    pub fn foreign(&self, prefix: Prefix) -> Option<Foreign> {
        self.foreign.get(prefix)
    }

    /// Whether the kernel should be asked for all routes.
    pub fn in_doubt(&self) -> bool {
        self.doubt
    }

    /// What we believe may be wrong.
    pub fn doubt(&mut self) {
        self.doubt = true;
    }

    /// Whether the table was read once.
    pub fn is_known(&self) -> bool {
        self.is_known
    }

    /// Whether somebody may wait for a write.
    pub fn has_hurried_work(&self) -> bool {
        self.is_known && !self.hurried.is_empty()
    }

    /// Whether something is to be written or settled.
    pub fn has_work(&self) -> bool {
        self.is_known && !(self.hurried.is_empty() && self.queue.is_empty())
    }

    /// Whether the kernel refused a write since the last call.
    pub fn take_refused(&mut self) -> bool {
        std::mem::take(&mut self.was_refused)
    }

    /// What became of at most `max` routes since the last call.
    pub fn take_outcomes(&mut self, max: usize) -> Vec<RouteOutcome> {
        let mut outcomes = Vec::with_capacity(max.min(self.untold.len()));
        while outcomes.len() < max
            && let Some(at) = self.untold.pop_front()
        {
            let Some(entry) = self.routes.get_mut(at).filter(|entry| entry.has(UNTOLD)) else {
                continue;
            };
            entry.take(UNTOLD);
            let result = match entry.state() {
                State::Pending => continue,
                State::Installed => Ok(()),
                State::Refused(why) => Err(why),
            };
            outcomes.push(RouteOutcome {
                prefix: entry.prefix(),
                version: entry.version,
                result,
            });
        }
        outcomes
    }

    /// Whether [`Follower::take_outcomes`] has more.
    pub fn has_outcomes(&self) -> bool {
        !self.untold.is_empty()
    }

    /// Routes that were put back since the last call.
    pub fn take_repaired(&mut self) -> Vec<(Prefix, Target)> {
        std::mem::take(&mut self.repaired)
    }

    /// Shows the gauges.
    pub fn publish_counts(&self) {
        let [pending, installed, failed] = self.counts;
        let routes = &self.counters.routes;
        routes.pending.set(pending);
        routes.installed.set(installed);
        routes.failed.set(failed);
    }

    fn set_state(&mut self, at: u32, state: State) {
        let entry = self.entry(at);
        let old = entry.state();
        entry.set_state(state);
        self.counts[state_slot(old)] -= 1;
        self.counts[state_slot(state)] += 1;
    }

    /// Routes that are about to be looked for, and where they lead; see [`Slots::approach`].
    fn approach(&self, routes: impl Iterator<Item = (Key, Target)> + Clone) {
        let found = self.routes.approach(routes.clone().map(|it| it.0));
        let unknown = routes.zip(found).filter(|(_, found)| found.is_none());
        self.hops.approach(unknown.filter_map(|((_, target), _)| {
            let (address, interface) = next_hop(target)?;
            Some((interface, address))
        }));
        for at in found.into_iter().flatten() {
            let entry = self.routes.get(at);
            let hop = entry.and_then(|entry| entry.present.or(entry.wanted));
            black_box(hop.and_then(|hop| self.hops.interface(hop)));
        }
    }

    /// The entry of a key, made where there is none.
    fn at(&mut self, key: Key) -> u32 {
        self.routes.find_or_insert(key, || Entry::new(key))
    }

    /// An entry that is known to be there.
    fn entry(&mut self, at: u32) -> &mut Entry {
        self.routes.get_mut(at).expect("the caller has it")
    }

    /// The number of a target, which one more route needs: mostly it leads there already, or was to.
    fn take_hop(&mut self, at: u32, target: Target) -> HopId {
        let entry = self.entry(at);
        let mut known = [entry.present, entry.wanted].into_iter().flatten();
        match known.find(|hop| self.hops.target(*hop) == target) {
            Some(hop) => {
                self.hops.take_again(hop);
                hop
            }
            None => self.hops.take(target),
        }
    }

    fn set_present(&mut self, at: u32, hop: Option<HopId>) {
        let is_comparing = self.comparison.is_some();
        let entry = self.entry(at);
        let old = std::mem::replace(&mut entry.present, hop);
        // Newer than what the dump under way may still say of it.
        if is_comparing {
            entry.set(SEEN);
        }
        if let Some(old) = old {
            self.hops.give_back(old);
        }
    }

    /// It is not there any more, by whoever's hand but ours.
    fn lose(&mut self, at: u32) {
        let entry = self.entry(at);
        if entry.present.is_some() && entry.wanted.is_some() {
            entry.set(LOST);
            self.set_state(at, State::Pending);
        }
        self.set_present(at, None);
        self.look_at(at, Pace::InTurn);
    }

    fn look_at(&mut self, at: u32, pace: Pace) {
        let Some(entry) = self.routes.get_mut(at) else {
            return;
        };
        let flag = match pace {
            Pace::Now => HURRIED,
            Pace::InTurn => QUEUED,
        };
        if entry.has(flag) {
            return;
        }
        entry.set(flag);
        match pace {
            Pace::Now => self.hurried.push_back(at),
            Pace::InTurn => self.queue.push(at),
        }
    }

    /// The wanted routes to a destination: a lease, an aggregate, or both.
    fn wanted_at(&self, prefix: Prefix) -> impl Iterator<Item = u32> {
        let metrics = [self.policy.metric, self.policy.aggregate_metric()];
        metrics.into_iter().filter_map(move |metric| {
            let at = self.routes.find(&(prefix, metric))?;
            self.routes.get(at)?.wanted.map(|_| at)
        })
    }

    fn look_at_wanted(&mut self, prefix: Prefix) {
        let wanted: Vec<u32> = self.wanted_at(prefix).collect();
        wanted
            .into_iter()
            .for_each(|at| self.look_at(at, Pace::InTurn));
    }

    fn forget(&mut self, at: u32) {
        if let Some(entry) = self.routes.remove(at) {
            debug_assert!(entry.wanted.is_none(), "somebody wants it");
            if let Some(present) = entry.present {
                self.hops.give_back(present);
            }
        }
    }
}

fn state_slot(state: State) -> usize {
    match state {
        State::Pending => 0,
        State::Installed => 1,
        State::Refused(_) => 2,
    }
}

/// The gateway and interface of a target, for display.
pub fn next_hop(target: Target) -> Option<(Ipv6Addr, IfIndex)> {
    match target {
        Target::Via { gateway, interface } => Some((gateway, interface)),
        Target::Unreachable | Target::Other => None,
    }
}
