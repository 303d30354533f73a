//! The one thread that writes. Decides when something is durable and
//! what happens when it cannot be; must not know what bindings mean.
//!
//! Whatever is queued when the thread is free becomes one write and one sync: under load many
//! changes share a sync, and a single one never waits for others. After a failure nothing is
//! acknowledged until everything was offered again, because what failed is not remembered here.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender};
use std::thread::JoinHandle;
use std::time::{Duration, Instant, SystemTime};

use super::batch::{BATCH_BYTES, Batch};
use super::entry::Body;
use super::facts::Facts;
use super::files::{Name, StateDir, advice};
use super::handle::{ClockReader, Command, Event, Options};
use super::log::Log;
use super::merge::{Merged, merge};
use super::scan::ById;
use super::status::{State, Status, count};
use super::time::Times;

/// What one commit takes at most: more would make all of it wait for the last.
const COMMIT_BYTES: usize = 4 << 20;
/// Ids are reserved in blocks, so that not every new binding rewrites a fact.
const ID_BLOCK: u64 = 1 << 16;
/// After a merge failed.
const MERGE_AGAIN: Duration = Duration::from_secs(60);

/// What was found when the store was opened.
pub(super) struct Found {
    pub(super) dir: StateDir,
    pub(super) log: Log,
    pub(super) facts: Facts,
    pub(super) times: Times,
    pub(super) pruned: Vec<Vec<u8>>,
    pub(super) clock: ClockReader,
    pub(super) options: Options,
    pub(super) must_rewrite: bool,
    pub(super) damaged_bytes: u64,
}

/// The thread's state.
pub(super) struct Writer {
    /// Holds the lock.
    _dir: StateDir,
    log: Log,
    facts: Facts,
    times: Times,
    clock: ClockReader,
    options: Options,
    commands: Receiver<Command>,
    spare: SyncSender<Batch>,
    status: Arc<Status>,
    notify: Box<dyn FnMut(Event) + Send>,
    pending: Vec<Batch>,
    pending_bytes: usize,
    /// Facts to be removed with the first commit.
    pruned: Vec<Vec<u8>>,
    /// By binding: which of the pending changes is its last.
    last_of: ById<u32>,
    reserved_id: u64,
    /// Everything is to be offered again, and has not begun to be.
    wants_rewrite: bool,
    /// The last write failed.
    is_failing: bool,
    last_commit: Instant,
    last_ask: Option<Instant>,
    merging: Option<JoinHandle<io::Result<Merged>>>,
    merge_after: Instant,
    pace: Pace,
    stop: Arc<AtomicBool>,
}

/// At 3,200 changes a second, those of 1,600 Replies with an address and a prefix, each still goes at once.
const CHANGE_EVERY: Duration = Duration::from_micros(300);
/// So many may come in a row, and so many too many are remembered.
const CHANGES_IN_A_ROW: u32 = 128;

/// When changes wait for company: for [`Options::gather`], beyond a rate that no ordinary network
/// reaches. A commit costs some hundred µs of CPU (its system calls, the disk's interrupts, a wake-up
/// on either side), so thousands a second would take a CPU from the relay path.
///
/// Changes come in batches: one that is larger than what was left is owed. Forgotten instead, a batch
/// each half a millisecond would find itself alone, and ten thousand changes a second would take a
/// thousand commits.
struct Pace {
    /// When what was committed will have been earned.
    earned_at: Instant,
}

impl Pace {
    const MOST: Duration = CHANGE_EVERY.saturating_mul(CHANGES_IN_A_ROW);

    const fn new(now: Instant) -> Self {
        Self { earned_at: now }
    }

    /// Whether the next commit waits for company.
    fn waits(&self, now: Instant) -> bool {
        self.earned_at > now + Self::MOST
    }

    /// So many changes were committed.
    fn spend(&mut self, now: Instant, changes: usize) {
        let changes = u32::try_from(changes).unwrap_or(u32::MAX);
        let earned_at = self.earned_at.max(now) + CHANGE_EVERY.saturating_mul(changes);
        self.earned_at = earned_at.min(now + 2 * Self::MOST);
    }
}

impl Writer {
    /// Nothing is written yet.
    pub(super) fn new(
        found: Found,
        commands: Receiver<Command>,
        spare: SyncSender<Batch>,
        status: Arc<Status>,
        notify: Box<dyn FnMut(Event) + Send>,
    ) -> Self {
        count(&status.counters.damaged_bytes, found.damaged_bytes);
        Self {
            _dir: found.dir,
            reserved_id: found.facts.next_id(),
            log: found.log,
            facts: found.facts,
            times: found.times,
            clock: found.clock,
            options: found.options,
            commands,
            spare,
            status,
            notify,
            pending: Vec::new(),
            pending_bytes: 0,
            pruned: found.pruned,
            last_of: ById::default(),
            wants_rewrite: found.must_rewrite,
            is_failing: false,
            last_commit: Instant::now(),
            last_ask: None,
            merging: None,
            merge_after: Instant::now(),
            pace: Pace::new(Instant::now()),
            stop: Arc::new(AtomicBool::new(false)),
        }
    }

    /// Until the store is closed.
    pub(super) fn run(&mut self) {
        self.log.sweep();
        self.write_facts();
        if !self.is_failing {
            (self.notify)(Event::State(State::Ok));
        }
        loop {
            self.tick();
            let first = match self.commands.recv_timeout(self.pause()) {
                Ok(command) => Some(command),
                Err(RecvTimeoutError::Timeout) => None,
                Err(RecvTimeoutError::Disconnected) => break,
            };
            if first.is_some() && self.pace.waits(Instant::now()) {
                std::thread::sleep(self.options.gather);
            }
            let mut next = first;
            while let Some(command) = next {
                match command {
                    Command::Batch(batch) => {
                        self.pending_bytes += batch.size();
                        self.pending.push(batch);
                    }
                    Command::Begin => {
                        self.flush();
                        self.begin_rewrite();
                    }
                    Command::End(sequence) => {
                        self.flush();
                        self.end_rewrite(sequence);
                    }
                    Command::Close => return self.close(),
                }
                let has_room = self.pending_bytes < COMMIT_BYTES;
                next = has_room.then(|| self.commands.try_recv().ok()).flatten();
            }
            self.flush();
            self.look_after_merge();
        }
        self.close();
    }

    /// How long to wait for the next change.
    fn pause(&self) -> Duration {
        let waits = self.is_failing || self.wants_rewrite || self.merging.is_some();
        if waits || self.times.clock_behind().is_some() {
            self.options.retry
        } else {
            self.options.tick
        }
    }

    /// What is due by time, whether or not changes come.
    fn tick(&mut self) {
        let idle = self.last_commit.elapsed();
        let is_due = if self.is_failing {
            idle >= self.options.retry
        } else {
            let looks_at_clock = self.times.clock_behind().is_some();
            idle >= self.options.tick || looks_at_clock && self.advance()
        };
        if is_due {
            self.write_facts();
        }
        let may_ask = self.wants_rewrite && !self.is_failing;
        if may_ask
            && self
                .last_ask
                .is_none_or(|it| it.elapsed() >= self.options.retry)
        {
            self.last_ask = Some(Instant::now());
            (self.notify)(Event::Rewrite);
        }
    }

    /// Notes the present moment; whether that changed how stored times are read.
    fn advance(&mut self) -> bool {
        let correction = self.times.advance(&(self.clock)());
        for (key, value) in self.times.facts() {
            self.facts.set(&key, &value);
        }
        if let Some(correction) = correction {
            (self.notify)(Event::Correction(correction));
        }
        correction.is_some()
    }

    /// A commit of no changes: the newest moment, and proof that the disk can be written.
    fn write_facts(&mut self) {
        let was_failing = self.is_failing;
        self.advance();
        let (facts, pruned) = (&self.facts, &self.pruned);
        let result = self.log.commit(facts, |commit| {
            for key in pruned {
                commit.push(&Body::Fact { key, value: &[] });
            }
            for (key, value) in facts.iter() {
                commit.push(&Body::Fact { key, value });
            }
        });
        self.last_commit = Instant::now();
        match result {
            Ok(_) => {
                self.pruned.clear();
                self.is_failing = false;
                // What failed is not remembered: all is to be offered.
                self.wants_rewrite |= was_failing;
            }
            Err(error) => self.fail(&error),
        }
    }

    /// Makes what is pending durable, or drops it where that cannot be.
    fn flush(&mut self) {
        if self.pending.is_empty() {
            return;
        }
        let is_lost = self.is_failing || (self.log.is_behind() && !self.log.is_rewriting());
        if is_lost {
            let changes: usize = self.pending.iter().map(Batch::len).sum();
            count(&self.status.counters.dropped, changes as u64);
        } else {
            self.commit();
        }
        let changes = self.pending.iter().map(Batch::len).sum();
        self.pace.spend(Instant::now(), changes);
        for batch in self.pending.drain(..) {
            let _ = self.spare.try_send(batch);
        }
        self.pending_bytes = 0;
    }

    fn commit(&mut self) {
        let started = Instant::now();
        let is_reserving = self.find_last_changes();
        self.advance();
        let present = self.times.present_fact();
        let (pending, last_of) = (&self.pending, &self.last_of);
        let next_id = Facts::next_id_fact(self.reserved_id);
        let mut changes = 0;
        let result = self.log.commit(&self.facts, |commit| {
            let bodies = pending.iter().flat_map(Batch::bodies);
            for (index, body) in (0_u32..).zip(bodies) {
                let id = id_of(body);
                let is_last = |id| last_of.get(&id).is_none_or(|last| *last == index);
                if id.is_none_or(is_last) {
                    commit.push_encoded(body);
                    changes += u64::from(id.is_some());
                }
            }
            let (key, value) = (&*present.0, &*present.1);
            commit.push(&Body::Fact { key, value });
            if is_reserving {
                let (key, value) = (next_id.0, &next_id.1);
                commit.push(&Body::Fact { key, value });
            }
        });
        match result {
            Ok(bytes) => self.committed(started, changes, bytes),
            Err(error) => self.fail(&error),
        }
    }

    fn committed(&mut self, started: Instant, changes: u64, bytes: u64) {
        let counters = &self.status.counters;
        count(&counters.commits, 1);
        count(&counters.records, changes);
        count(&counters.bytes, bytes);
        self.status.commit_times.add(started.elapsed());
        self.last_commit = Instant::now();
        let sequence = self.pending.iter().map(Batch::sequence).max();
        if let Some(sequence) = sequence.filter(|it| *it > 0 && !self.log.is_behind()) {
            (self.notify)(Event::Durable(sequence));
        }
    }

    /// Of several changes of one binding only the last is written. Whether ids were reserved.
    fn find_last_changes(&mut self) -> bool {
        let mut is_reserving = false;
        self.last_of.clear();
        let is_single = self.pending.len() == 1 && self.pending[0].len() == 1;
        for (index, body) in (0_u32..).zip(self.pending.iter().flat_map(Batch::bodies)) {
            match Body::decode(body) {
                Body::Put { id, .. } | Body::Remove { id } => {
                    if id >= self.reserved_id {
                        self.reserved_id = id.saturating_add(ID_BLOCK);
                        let (key, value) = Facts::next_id_fact(self.reserved_id);
                        self.facts.set(key, &value);
                        is_reserving = true;
                    }
                    if !is_single {
                        self.last_of.insert(id, index);
                    }
                }
                Body::Fact { key, value } => self.facts.set(key, value),
                _ => {}
            }
        }
        is_reserving
    }

    fn fail(&mut self, error: &io::Error) {
        count(&self.status.counters.failures, 1);
        self.is_failing = true;
        self.wants_rewrite = false;
        self.last_commit = Instant::now();
        let reason = format!(
            "cannot write {}: {error}. {}. Until then nothing new survives a restart",
            self.log.store().display(),
            advice(self.log.store(), error)
        );
        let since = match self.status.state() {
            State::Degraded { since, .. } => since,
            _ => SystemTime::now(),
        };
        self.set_state(State::Degraded { reason, since });
    }

    /// A fault of ours ended the thread: nothing is kept from here on.
    pub(super) fn has_panicked(&mut self) {
        let reason =
            "its thread has ended by a fault of twinrelay: nothing new survives a restart. \
                      Restart the daemon, and report what the log says"
                .to_owned();
        self.set_state(State::Off(reason));
    }

    fn set_state(&mut self, state: State) {
        let is_news = match (&state, self.status.state()) {
            (State::Degraded { reason, .. }, State::Degraded { reason: old, .. }) => *reason != old,
            (new, old) => *new != old,
        };
        self.status.set(state.clone());
        if is_news {
            (self.notify)(Event::State(state));
        }
    }

    fn begin_rewrite(&mut self) {
        if self.is_failing {
            // It would fail as well; when the disk works again, it is asked for again.
            return;
        }
        self.wants_rewrite = false;
        self.log.begin_rewrite();
    }

    fn end_rewrite(&mut self, sequence: u64) {
        if self.is_failing || !self.log.is_rewriting() {
            return;
        }
        match self.log.end_rewrite(&self.facts) {
            Ok(aside) => {
                count(&self.status.counters.rewrites, 1);
                self.set_state(State::Ok);
                if sequence > 0 {
                    (self.notify)(Event::Durable(sequence));
                }
                if let Some(aside) = aside {
                    (self.notify)(Event::SetAside(aside));
                }
            }
            Err(error) => self.fail(&error),
        }
    }

    /// Begins a merge when it pays, and takes over one that is done.
    fn look_after_merge(&mut self) {
        if let Some(merging) = self.merging.take_if(|it| it.is_finished()) {
            match merging.join() {
                Ok(Ok(merged)) => self.take_over(merged),
                // Out of room, most often; commits will tell if it is worse.
                _ => self.merge_after = Instant::now() + MERGE_AGAIN,
            }
        }
        let (fresh, merged) = self.log.mergeable();
        let pays = fresh >= self.options.merge_bytes.max(merged);
        let is_quiet = !self.is_failing && !self.log.is_behind() && self.merging.is_none();
        if !pays || !is_quiet || Instant::now() < self.merge_after {
            return;
        }
        let inputs = self.log.sealed.iter().map(|it| it.name).collect();
        let (store, stop) = (self.log.store().to_owned(), Arc::clone(&self.stop));
        let thread = std::thread::Builder::new().name("store-merge".to_owned());
        match thread.spawn(move || merge(&store, inputs, &stop)) {
            Ok(merging) => self.merging = Some(merging),
            Err(_) => self.merge_after = Instant::now() + MERGE_AGAIN,
        }
    }

    fn take_over(&mut self, merged: Merged) {
        let is_there = |name: &Name| self.log.sealed.iter().any(|it| it.name == *name);
        if !merged.inputs.iter().all(is_there) {
            // A rewrite has replaced them meanwhile.
            self.log.garbage.push(merged.temporary);
            self.log.sweep();
            return;
        }
        for sealed in &mut self.log.sealed {
            sealed.is_damaged |= merged.damaged.contains(&sealed.name);
        }
        count(&self.status.counters.damaged_bytes, merged.damaged_bytes);
        match self
            .log
            .replace(&merged.temporary, merged.name, merged.bytes)
        {
            Ok(aside) => {
                count(&self.status.counters.merges, 1);
                if let Some(aside) = aside {
                    (self.notify)(Event::SetAside(aside));
                }
            }
            Err(_) => self.merge_after = Instant::now() + MERGE_AGAIN,
        }
    }

    fn close(&mut self) {
        self.flush();
        if !self.is_failing {
            self.write_facts();
        }
        self.stop.store(true, Ordering::Relaxed);
        if let Some(merging) = self.merging.take() {
            let _ = merging.join();
        }
    }
}

/// The binding that a body is about.
fn id_of(body: &[u8]) -> Option<u64> {
    match Body::decode(body) {
        Body::Put { id, .. } | Body::Remove { id } => Some(id),
        _ => None,
    }
}

const _: () = assert!(BATCH_BYTES < COMMIT_BYTES);

#[cfg(test)]
mod tests {
    use super::*;

    const GATHER: Duration = Duration::from_millis(10);

    /// Commits so many changes, which come together, so many times a second; which of them waited.
    fn commits(pace: &mut Pace, now: &mut Instant, changes: u32, rate: u32) -> Vec<bool> {
        let mut commit = || {
            *now += Duration::from_secs(1) / rate;
            let waits = pace.waits(*now);
            let mut changes = changes as usize;
            if waits {
                *now += GATHER;
                changes += (GATHER.as_secs_f64() * f64::from(rate)) as usize * changes;
            }
            pace.spend(*now, changes);
            waits
        };
        (0..1000).map(|_| commit()).collect()
    }

    #[test]
    fn changes_gather_only_where_many_came_in_a_row() {
        let mut now = Instant::now();
        let mut pace = Pace::new(now);

        // Three thousand a second never wait; of ten thousand all do, once the row is used up.
        assert!(commits(&mut pace, &mut now, 1, 3000).iter().all(|it| !it));
        let waits = commits(&mut pace, &mut now, 1, 10_000);

        let in_a_row = CHANGES_IN_A_ROW as usize;
        assert!(waits[..in_a_row].iter().all(|waits| !waits));
        assert!(waits[2 * in_a_row..].iter().all(|waits| *waits));
    }

    /// The relay thread naps under load, so that its changes come in batches.
    #[test]
    fn changes_that_come_in_batches_gather_at_the_same_rate() {
        let mut now = Instant::now();
        let mut pace = Pace::new(now);

        // Both times a batch each two milliseconds.
        assert!(commits(&mut pace, &mut now, 6, 500).iter().all(|it| !it));
        let waits = commits(&mut pace, &mut now, 20, 500);

        assert!(
            waits[CHANGES_IN_A_ROW as usize..]
                .iter()
                .all(|waits| *waits)
        );
    }

    #[test]
    fn single_change_goes_at_once_soon_after_any_flood() {
        let mut now = Instant::now();
        let mut pace = Pace::new(now);

        pace.spend(now, 1_000_000);
        assert!(pace.waits(now));
        now += Duration::from_millis(40);

        assert!(!pace.waits(now));
    }
}
