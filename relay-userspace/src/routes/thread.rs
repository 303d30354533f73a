//! The route thread: waits for wishes and for the kernel, writes, compares, reports.
//!
//! One thread with blocking sockets, because a Reply waits for its route: from the relay thread's
//! wish to the outcome is one wake-up and one system call each way. Decides when things happen;
//! `follower.rs` and `neighbors.rs` decide what.

use std::collections::HashSet;
use std::io;
use std::os::fd::AsFd;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, Instant};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use relay_core::effect::RouteChange;
use relay_core::input::RouteOutcome;
use tokio::sync::watch;

use super::follower::{Follower, Policy, Write, next_hop};
use super::message::Batch;
use super::monitor::{self, Monitor};
use super::neighbors::Neighbors;
use super::netlink::{BATCH_MAX, Requests};
use super::objects;
use super::queue::{Control, RouteQueue, Waiting};
use crate::counters::Counters;
use crate::events::Events;
use crate::interfaces::InterfaceTable;

/// Everything is compared with the kernel at least so often.
const COMPARE_EVERY: Duration = Duration::from_secs(60);
/// In doubt, comparisons take at most this part of the time: one in so many.
const COMPARE_SHARE: u32 = 10;
/// Links and addresses are asked for this long after the first of a burst of changes.
const SETTLE: Duration = Duration::from_millis(10);
/// Routes that others remove are put back this long after, so that a quarrel with another program
/// costs little.
const REPAIR_AFTER: Duration = Duration::from_millis(20);
/// The relay thread did not take outcomes: try again after this.
const RETRY_OUTCOMES: Duration = Duration::from_millis(5);

/// Where outcomes go; answers `false` where they could not be taken now.
pub type OutcomeSink = Box<dyn FnMut(Vec<RouteOutcome>) -> bool + Send>;

/// What the thread works with.
pub(super) struct RouteThread {
    pub(super) follower: Arc<Mutex<Follower>>,
    pub(super) counters: Arc<Counters>,
    pub(super) events: Events,
    pub(super) requests: Requests,
    pub(super) monitor: Monitor,
    pub(super) queue: RouteQueue,
    pub(super) interfaces: watch::Sender<Arc<InterfaceTable>>,
    pub(super) outcomes: OutcomeSink,
    pub(super) neighbors: Neighbors,
    pub(super) due: Due,
    /// Told to stop; what waits is still written.
    pub(super) stopping: bool,
}

/// What is to be done later.
#[derive(Debug)]
pub(super) struct Due {
    interfaces: Option<Instant>,
    repair: Option<Instant>,
    outcomes: Option<Instant>,
    compare: Instant,
    not_before: Instant,
}

impl Due {
    pub(super) fn at_start() -> Self {
        let now = Instant::now();
        Self {
            interfaces: None,
            repair: None,
            outcomes: None,
            compare: now,
            not_before: now,
        }
    }

    fn next(&self, in_doubt: bool) -> Instant {
        let compare = if in_doubt {
            self.not_before.min(self.compare)
        } else {
            self.compare
        };
        [self.interfaces, self.repair, self.outcomes]
            .into_iter()
            .flatten()
            .fold(compare, Instant::min)
    }
}

impl RouteThread {
    /// Until it is told to stop.
    pub(super) fn run(mut self) {
        loop {
            self.wait();
            let stop = match self.turn() {
                Ok(stop) => stop,
                Err(error) => {
                    tracing::warn!(%error, "netlink failed; routes are compared again");
                    self.follower().doubt();
                    if self.stopping {
                        tracing::error!("not all routes were written before the end");
                        return;
                    }
                    // Not in a tight loop on a broken socket.
                    std::thread::sleep(Duration::from_millis(100));
                    false
                }
            };
            if stop {
                self.report();
                return;
            }
        }
    }

    fn follower(&self) -> MutexGuard<'_, Follower> {
        lock(&self.follower)
    }

    fn wait(&self) {
        let (in_doubt, busy) = {
            let follower = self.follower();
            (
                follower.in_doubt(),
                follower.has_work() && self.due.repair.is_none(),
            )
        };
        let mut timeout = PollTimeout::ZERO;
        if !busy && !self.neighbors.has_work() {
            let wait = self
                .due
                .next(in_doubt)
                .saturating_duration_since(Instant::now());
            // Up to the next whole millisecond: not a loop of zero timeouts.
            let millis = wait.as_micros().div_ceil(1000);
            timeout = PollTimeout::try_from(millis).unwrap_or(PollTimeout::MAX);
        }
        let mut fds = [
            PollFd::new(self.queue.as_fd(), PollFlags::POLLIN),
            PollFd::new(self.monitor.as_fd(), PollFlags::POLLIN),
        ];
        // EINTR: the turn finds nothing to do.
        let _ = poll(&mut fds, timeout);
    }

    /// Everything that can be done now; `true` at the end.
    fn turn(&mut self) -> io::Result<bool> {
        self.hear_kernel()?;
        let stop = self.obey()?;
        let now = Instant::now();
        if self.due.interfaces.is_some_and(|at| at <= now) {
            self.ask_interfaces()?;
            self.due.interfaces = None;
        }
        let in_doubt = self.follower().in_doubt();
        if self.due.compare <= now || (in_doubt && self.due.not_before <= now) {
            self.compare()?;
        }
        if stop {
            self.due.repair = None;
            self.write_all()?;
            return Ok(true);
        }
        if self.due.repair.is_some_and(|at| at <= now) {
            self.due.repair = None;
        }
        if self.due.repair.is_none() {
            self.write()?;
        }
        self.report();
        Ok(false)
    }

    fn hear_kernel(&mut self) -> io::Result<()> {
        let changes = self.monitor.changes()?;
        let now = Instant::now();
        if changes.interfaces || changes.lost {
            self.due.interfaces.get_or_insert(now + SETTLE);
        }
        let mut follower = lock(&self.follower);
        if changes.lost {
            tracing::info!("netlink events were lost; routes are compared again");
            follower.doubt();
        }
        let idle = !follower.has_work();
        for (route, there) in &changes.routes {
            follower.kernel_changed(route, *there);
        }
        if idle && follower.has_work() {
            self.due.repair.get_or_insert(now + REPAIR_AFTER);
        }
        Ok(())
    }

    /// Takes what the relay thread and the daemon want. A fault of the kernel must not lose any
    /// of it: the first one is reported at the end.
    fn obey(&mut self) -> io::Result<bool> {
        let Waiting {
            before,
            routes,
            neighbors,
            after,
        } = self.queue.take();
        let mut result = Ok(());
        for control in before {
            result = result.and(self.control(control));
        }
        if !routes.is_empty() {
            // A Reply waits: what can wait does not hold it up.
            self.due.repair = None;
            let mut follower = lock(&self.follower);
            routes
                .into_values()
                .for_each(|change| follower.apply(change));
        }
        for change in neighbors.into_values() {
            self.neighbors.apply(change);
        }
        for control in after {
            result = result.and(self.control(control));
        }
        result.map(|()| self.stopping)
    }

    fn control(&mut self, control: Control) -> io::Result<()> {
        match control {
            Control::Configure(section) => return self.configure(Policy::new(&section)),
            Control::ResendBegins => {
                self.follower().resend_begins();
                self.neighbors.resend_begins();
            }
            Control::ResendEnds { is_complete } => {
                self.follower().resend_ends(is_complete);
                self.neighbors.resend_ends();
            }
            Control::Stop => self.stopping = true,
        }
        Ok(())
    }

    /// Routes that move to another table, protocol or metric are taken away there first.
    fn configure(&mut self, policy: Policy) -> io::Result<()> {
        if policy.same_place(self.follower().policy()) {
            self.follower().set_policy(policy);
            return Ok(());
        }
        let leases = self.follower().withdraw_all();
        let withdrawn = self.write_all();
        // Nothing is written before it is known what the other table holds.
        self.due.compare = Instant::now();
        let mut follower = lock(&self.follower);
        follower.set_policy(policy);
        for route in leases {
            follower.apply(RouteChange::Put(route));
        }
        withdrawn
    }

    fn write_all(&mut self) -> io::Result<()> {
        while self.follower().has_work() || self.neighbors.has_work() {
            self.write()?;
        }
        Ok(())
    }

    fn ask_interfaces(&mut self) -> io::Result<()> {
        let table = monitor::interface_table(&mut self.requests)?;
        self.follower().interfaces_changed(&table);
        self.neighbors.interfaces_changed(&table);
        let changed = self.interfaces.send_if_modified(|current| {
            let changed = **current != table;
            if changed {
                *current = Arc::new(table);
            }
            changed
        });
        if changed {
            // A flap quicker than our look, or with notifications off, took routes with it.
            self.follower().doubt();
        }
        Ok(())
    }

    fn compare(&mut self) -> io::Result<()> {
        let started = Instant::now();
        let (table, protocol) = {
            let follower = self.follower();
            (follower.policy().table, follower.policy().protocol)
        };
        let (ours, foreign) = dump_table(&mut self.requests, table, protocol)?;
        lock(&self.follower).compare(&ours, foreign);
        self.neighbors.compare(&mut self.requests, protocol)?;
        // What happened during the dump.
        self.hear_kernel()?;
        let ended = Instant::now();
        self.due.compare = ended + COMPARE_EVERY;
        self.due.not_before = ended + (ended - started) * COMPARE_SHARE;
        Ok(())
    }

    /// One batch of routes, one of neighbours.
    fn write(&mut self) -> io::Result<()> {
        let batch = self.follower().next_batch(BATCH_MAX);
        if !batch.is_empty() {
            let result = write_routes(&mut self.requests, &batch);
            let mut follower = lock(&self.follower);
            match result {
                Ok(errors) => follower.written(&batch, Some(&errors)),
                Err(error) => {
                    follower.written(&batch, None);
                    return Err(error);
                }
            }
        }
        self.follower().publish_counts();
        self.report();
        if self.neighbors.has_work() {
            let protocol = self.follower().policy().protocol;
            let refused = self.neighbors.write(&mut self.requests, protocol)?;
            self.counters.routes.errors.add(refused);
            let installed = self.neighbors.installed();
            self.counters
                .routes
                .neighbors
                .set(u64::try_from(installed).expect("fits"));
        }
        Ok(())
    }

    fn report(&mut self) {
        let (outcomes, repaired) = {
            let mut follower = self.follower();
            (follower.take_outcomes(), follower.take_repaired())
        };
        for (prefix, target) in repaired {
            let table = self.interfaces.borrow();
            let interface = next_hop(target).and_then(|(_, index)| table.by_index(index));
            let interface = interface.map(|interface| interface.name.as_str());
            self.events.publish_route_repaired(prefix, interface);
        }
        self.due.outcomes = None;
        if !outcomes.is_empty() && !(self.outcomes)(outcomes.clone()) {
            self.follower().give_back(outcomes);
            self.due.outcomes = Some(Instant::now() + RETRY_OUTCOMES);
        }
    }
}

pub(super) fn lock(follower: &Mutex<Follower>) -> MutexGuard<'_, Follower> {
    follower.lock().expect("no holder of this lock panics")
}

/// Carries a batch to the kernel.
fn write_routes(requests: &mut Requests, batch: &[Write]) -> io::Result<Vec<(usize, i32)>> {
    let mut bytes = Batch::default();
    requests.write_batch(&mut bytes, batch.len(), |bytes, index, sequence| {
        let write = &batch[index];
        match write.target {
            Some(target) => objects::create_route(bytes, sequence, &write.key, target),
            None => objects::delete_route(bytes, sequence, &write.key),
        }
    })
}

type Dump = (
    Vec<objects::KernelRoute>,
    HashSet<relay_core::types::Prefix>,
);

/// Our routes, and the destinations of all others.
fn dump_table(requests: &mut Requests, table: u32, protocol: u8) -> io::Result<Dump> {
    let found = std::cell::RefCell::new(Dump::default());
    let result = requests.dump(
        |batch, flags, sequence| objects::dump_routes(batch, flags, sequence, table),
        || *found.borrow_mut() = Dump::default(),
        |message| {
            let Some(route) = objects::read_route(&message).filter(|route| route.table == table)
            else {
                return;
            };
            let (ours, foreign) = &mut *found.borrow_mut();
            if route.protocol == protocol {
                ours.push(route);
            } else {
                foreign.insert(route.prefix);
            }
        },
    );
    match result {
        // A table that holds nothing yet does not exist.
        Err(error) if error.raw_os_error() == Some(libc::ENOENT) => Ok(Dump::default()),
        result => result.map(|()| found.into_inner()),
    }
}
