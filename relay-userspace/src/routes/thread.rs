//! The route thread: waits for wishes and for the kernel, writes, compares, reports.
//!
//! One thread with blocking sockets, because a Reply waits for its route: from the relay thread's
//! wish to the outcome is one wake-up and one system call each way. Decides when things happen;
//! `follower` and `neighbors.rs` decide what. Whatever takes long is done in pieces of some
//! milliseconds, and a wish that a Reply waits for goes in between.

use std::collections::HashSet;
use std::io;
use std::os::fd::AsFd;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, Instant};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use relay_core::effect::RouteChange;
use relay_core::input::RouteOutcome;
use relay_core::types::IfIndex;
use tokio::sync::watch;

use super::compare::{Progress, Reader};
use super::due::Due;
use super::entries;
use super::follower::{Follower, Pace, Policy, Write, next_hop};
use super::message::Batch;
use super::monitor::{self, Monitor};
use super::neighbors::Neighbors;
use super::netlink::{BATCH_MAX, Requests};
use super::objects;
use super::queue::{Change, Control, RouteQueue, Told};
use super::slots::AT_ONCE;
use crate::counters::Counters;
use crate::events::Events;
use crate::interfaces::InterfaceTable;

/// Outcomes that the relay thread is told at a time.
const OUTCOMES_MAX: usize = 1024;
/// Wishes at a time that are part of telling everything: what can wait lets them pass.
const MANY_TOLD: usize = 1024;
/// Batches of events read before what they are about is acted upon: more than the socket's buffer holds.
const HEARINGS_MAX: usize = 16;

/// Where outcomes go; answers `false` where they could not be taken now.
pub type OutcomeSink = Box<dyn FnMut(&[RouteOutcome]) -> bool + Send>;

/// What the thread works with.
pub(super) struct RouteThread {
    pub(super) follower: Arc<Mutex<Follower>>,
    pub(super) counters: Arc<Counters>,
    pub(super) events: Events,
    pub(super) requests: Requests,
    pub(super) reader: Reader,
    pub(super) monitor: Monitor,
    pub(super) queue: RouteQueue,
    pub(super) interfaces: watch::Sender<Arc<InterfaceTable>>,
    pub(super) outcomes: OutcomeSink,
    pub(super) neighbors: Neighbors,
    pub(super) due: Due,
    /// Interfaces that were down for a moment.
    pub(super) fell: HashSet<IfIndex>,
    /// Taken out of the queue.
    pub(super) told: Vec<Told>,
    /// The last time there were many.
    pub(super) is_told_much: bool,
    /// What the sink did not take.
    pub(super) unsent: Vec<RouteOutcome>,
    /// Told to stop; what waits is still written.
    pub(super) stopping: bool,
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
        let timeout = if self.is_busy() {
            PollTimeout::ZERO
        } else {
            let next = self.due.next(self.follower().in_doubt());
            let wait = next.saturating_duration_since(Instant::now());
            // Up to the next whole millisecond: not a loop of zero timeouts.
            let millis = wait.as_micros().div_ceil(1000);
            PollTimeout::try_from(millis).unwrap_or(PollTimeout::MAX)
        };
        let mut fds = [
            PollFd::new(self.queue.as_fd(), PollFlags::POLLIN),
            PollFd::new(self.monitor.as_fd(), PollFlags::POLLIN),
        ];
        // EINTR: the turn finds nothing to do.
        let _ = poll(&mut fds, timeout);
    }

    fn is_busy(&self) -> bool {
        let follower = self.follower();
        let has_outcomes = follower.has_outcomes() && self.unsent.is_empty();
        !self.reader.is_idle()
            || has_outcomes
            || follower.has_hurried_work()
            || (follower.has_work() && !self.due.is_quarrel())
            || (follower.is_known() && self.neighbors.has_work())
    }

    /// Everything that can be done now; `true` at the end.
    fn turn(&mut self) -> io::Result<bool> {
        self.hear_kernel()?;
        let stop = self.obey()?;
        let now = Instant::now();
        if self.due.interfaces.is_some_and(|at| at <= now) {
            self.due.interfaces = None;
            self.ask_interfaces()?;
        }
        if stop {
            self.due.make_peace();
            self.write_all()?;
            return Ok(true);
        }
        self.due.quarrel_may_end(now);
        self.compare(now)?;
        let bulk = !self.due.is_quarrel() && self.reader.is_idle();
        let pace = if bulk { Pace::InTurn } else { Pace::Now };
        self.write(pace)?;
        self.report();
        Ok(false)
    }

    /// Reads what others did. Whether there may be more.
    fn hear_kernel(&mut self) -> io::Result<bool> {
        let mut follower = lock(&self.follower);
        let was_idle = !follower.has_work();
        let fell = &mut self.fell;
        let mut routes = 0;
        let heard = self.monitor.hear(|what| match what {
            monitor::Heard::Route(route, there) => {
                routes += 1;
                follower.kernel_changed(&route, there);
            }
            monitor::Heard::Fell(interface) => drop(fell.insert(interface)),
        })?;
        let now = Instant::now();
        if heard.interfaces || heard.lost {
            self.due.interfaces_changed(now);
        }
        if heard.lost {
            tracing::info!("netlink events were lost; routes are compared again");
            follower.doubt();
        }
        if routes > 0 && follower.has_work() {
            self.due.others_wrote(now, routes, was_idle);
        }
        Ok(heard.is_more)
    }

    /// Takes what the relay thread and the daemon want. A fault of the kernel must not lose any
    /// of it: the first one is reported at the end.
    fn obey(&mut self) -> io::Result<bool> {
        let mut told = std::mem::take(&mut self.told);
        self.queue.take(&mut told);
        self.is_told_much = told.len() >= MANY_TOLD;
        let mut result = Ok(());
        let mut told_now = told.drain(..);
        while !told_now.as_slice().is_empty() {
            if let Some(many) = told_now.as_slice().first_chunk::<AT_ONCE>() {
                self.approach(many);
            }
            let mut some = told_now.by_ref().take(AT_ONCE).peekable();
            while let Some(first) = some.next() {
                let (change, pace) = match first {
                    Told::Change(change, pace) => (change, pace),
                    Told::Control(control) => {
                        result = result.and(self.control(control));
                        continue;
                    }
                };
                // One lock for all that follow.
                let mut follower = lock(&self.follower);
                self.neighbors.apply_or(&mut follower, change, pace);
                while let Some(Told::Change(change, pace)) =
                    some.next_if(|it| matches!(it, Told::Change(..)))
                {
                    self.neighbors.apply_or(&mut follower, change, pace);
                }
            }
        }
        drop(told_now);
        self.told = told;
        result.map(|()| self.stopping)
    }

    fn approach(&self, told: &[Told]) {
        let changes = told.iter().filter_map(|it| match it {
            Told::Change(Change::Route(change), _) => Some(*change),
            _ => None,
        });
        self.follower().expect_changes(changes);
    }

    fn control(&mut self, control: Control) -> io::Result<()> {
        match control {
            Control::Configure(section) => return self.configure(Policy::new(&section)),
            Control::ResendBegins => {
                let mut follower = lock(&self.follower);
                follower.resend_begins();
                self.neighbors.resend_begins(&mut follower.hops);
            }
            Control::ResendEnds { is_complete } => {
                let mut follower = lock(&self.follower);
                follower.resend_ends(is_complete);
                self.neighbors.resend_ends(&mut follower.hops, is_complete);
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
        self.reader.stop()?;
        let leases = self.follower().withdraw_all();
        let withdrawn = self.write_all();
        // Nothing is written before it is known what the other table holds.
        self.due.compare = Instant::now();
        let mut follower = lock(&self.follower);
        follower.set_policy(policy);
        for route in leases {
            follower.apply(RouteChange::Put(route), Pace::InTurn);
        }
        withdrawn
    }

    /// What was asked for before the end is written, however long it takes.
    fn write_all(&mut self) -> io::Result<()> {
        if !self.follower().is_known() {
            self.reader.begin(&self.follower)?;
            while !self.reader.is_idle() {
                self.read_piece()?;
            }
        }
        while self.follower().has_work() || self.neighbors.has_work() {
            self.write(Pace::InTurn)?;
        }
        Ok(())
    }

    fn ask_interfaces(&mut self) -> io::Result<()> {
        let table = monitor::interface_table(&mut self.requests)?;
        // What went with an interface went before this answer, and must not be heard of when its
        // routes are there again.
        self.hear_all()?;
        let fell = std::mem::take(&mut self.fell);
        {
            let mut follower = lock(&self.follower);
            follower.interfaces_changed(&table, &fell);
            self.neighbors
                .interfaces_changed(&mut follower.hops, &table, &fell);
        }
        let changed = self.interfaces.send_if_modified(|current| {
            let changed = **current != table;
            if changed {
                *current = Arc::new(table);
            }
            changed
        });
        if changed {
            // With notifications off, more may have gone than we heard of.
            self.follower().doubt();
        }
        Ok(())
    }

    fn hear_all(&mut self) -> io::Result<()> {
        for _ in 0..HEARINGS_MAX {
            if !self.hear_kernel()? {
                break;
            }
        }
        Ok(())
    }

    /// Begins a comparison where one is due, or does a piece of it.
    fn compare(&mut self, now: Instant) -> io::Result<()> {
        if self.reader.is_idle() {
            let (in_doubt, is_writing) = {
                let follower = self.follower();
                (follower.in_doubt(), follower.has_work())
            };
            if !self.due.may_compare(now, in_doubt, is_writing) {
                return Ok(());
            }
            self.reader.begin(&self.follower)?;
        }
        // First it is known of all routes whether they are there.
        if self.reader.is_at_neighbors() && self.is_told_much {
            return Ok(());
        }
        self.read_piece()
    }

    fn read_piece(&mut self) -> io::Result<()> {
        match self.reader.step(&self.follower, &mut self.neighbors)? {
            Progress::More => {}
            Progress::RoutesTold => self.hear_all()?,
            Progress::Done => {
                self.due.compared(Instant::now());
                self.counters.routes.compared();
            }
        }
        Ok(())
    }

    /// One batch of routes; of neighbour entries where no route is left.
    fn write(&mut self, pace: Pace) -> io::Result<()> {
        let batch = self.follower().next_batch(BATCH_MAX, pace);
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
            if follower.take_refused() {
                self.due.refused(Instant::now());
            }
        }
        let mut follower = lock(&self.follower);
        follower.publish_counts();
        if follower.is_known() && self.neighbors.has_work() && !follower.has_work() {
            let protocol = follower.policy().protocol;
            let steps = self.neighbors.next_steps(&mut follower.hops, BATCH_MAX);
            drop(follower);
            let done = entries::carry_out(&mut self.requests, protocol, &steps)?;
            self.counters.routes.errors.add(done.refused);
            let mut follower = lock(&self.follower);
            for (step, is_there) in steps.iter().zip(done.is_there) {
                self.neighbors.done(&mut follower.hops, step, is_there);
            }
        }
        let installed = u64::try_from(self.neighbors.installed()).expect("fits");
        self.counters.routes.neighbors.set(installed);
        Ok(())
    }

    fn report(&mut self) {
        let repaired = self.follower().take_repaired();
        for (prefix, target) in repaired {
            let table = self.interfaces.borrow();
            let interface = next_hop(target).and_then(|(_, index)| table.by_index(index));
            let interface = interface.map(|interface| interface.name.as_str());
            self.events.publish_route_repaired(prefix, interface);
        }
        if self.unsent.is_empty() {
            let outcomes = self.follower().take_outcomes(OUTCOMES_MAX);
            self.unsent = outcomes;
        }
        self.due.outcomes = None;
        if !self.unsent.is_empty() && (self.outcomes)(&self.unsent) {
            self.unsent.clear();
        } else if !self.unsent.is_empty() {
            self.due.outcomes_were_refused(Instant::now());
        }
    }
}

impl Neighbors {
    /// A wish of the core, of whichever kind.
    fn apply_or(&mut self, follower: &mut Follower, change: Change, pace: Pace) {
        match change {
            Change::Route(change) => follower.apply(change, pace),
            Change::Neighbor(change) => self.apply(&mut follower.hops, change),
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
