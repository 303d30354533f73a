//! Records on their way to the store, and what the store says of them.
//!
//! Level-triggered like the way to the route follower: what cannot be handed over now is kept, what
//! cannot be kept is told once more with everything else. Decides when the core tells its bindings
//! anew and whether Replies wait; what is written when is the store's business.

mod memories;

use std::collections::BTreeSet;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use relay_core::alq::PeerMemory;
use relay_core::effect::BindingAction;
use relay_core::input::Input;
use relay_core::record::{Keeping, Record, RecordChange, Restored};
use relay_core::relay::Relay;
use relay_core::time::Instant;
use relay_core::types::AccessId;
use relay_core::view::Cursor;

use memories::Memories;

use crate::counters::Counters;
use crate::names::{self, Names};
use crate::state::Kept;
use crate::store::{
    Batch, Correction, Event, Opened, ResumePoint, State, Status, Store, StoredBinding,
};
use crate::surroundings::Numbers;
use crate::wall_time::boot_now;

/// A full queue is tried again after this.
const AGAIN: Duration = Duration::from_millis(1);
/// Changes that wait for a queue with room; beyond it everything is told once more.
const WAITING_MAX: usize = 65_536;
/// Counters go to the store with changes, so seldom: a crash costs them what was counted since.
const COUNTERS_EVERY: Duration = Duration::from_secs(10);
/// At the end the store has so long to take what is left.
pub(super) const LAST_WORDS: Duration = Duration::from_secs(5);

/// The way to the store, where there is one.
pub(super) struct ToStore {
    open: Option<Open>,
    status: Arc<Status>,
    kept: Kept,
    /// Those that left the configuration too.
    names: Names,
    memories: Memories,
    counters: Arc<Counters>,
    /// The store has not been told of them since.
    counted_at: Instant,
}

struct Open {
    store: Store,
    mailbox: Arc<Mailbox>,
    /// Being filled, or waiting for room.
    batch: Option<Batch>,
    /// The last change told.
    told: u64,
    rewrite: Rewrite,
    is_degraded: bool,
}

/// Where telling everything once more stands.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Rewrite {
    No,
    Due,
    /// The next slice begins here.
    UnderWay(Cursor),
    /// Everything was told, the store does not know yet that this was all.
    Ending,
    /// Everything is durable when this change is.
    Until(u64),
}

/// What the writer's thread has said and the relay thread has not heard.
#[derive(Default)]
struct News {
    durable: Option<u64>,
    rewrite: bool,
    state: Option<State>,
    correction: Option<Correction>,
}

struct Mailbox {
    news: Mutex<News>,
    is_full: AtomicBool,
    wake: Arc<OwnedFd>,
}

impl Mailbox {
    fn post(&self, event: Event) {
        let mut news = self.news.lock().unwrap_or_else(PoisonError::into_inner);
        match event {
            Event::Durable(through) => news.durable = Some(through),
            Event::Rewrite => news.rewrite = true,
            Event::State(state) => news.state = Some(state),
            Event::Correction(correction) => news.correction = Some(correction),
            Event::SetAside(path) => tracing::warn!(
                "damaged files of the store were moved to {}; nothing else uses them",
                path.display()
            ),
        }
        drop(news);
        self.is_full.store(true, Ordering::Release);
        // A full eventfd counter means that a wake-up is already due.
        let _ = nix::unistd::write(self.wake.as_fd(), &1u64.to_ne_bytes());
    }

    fn take(&self) -> Option<News> {
        self.is_full
            .swap(false, Ordering::Acquire)
            .then(|| std::mem::take(&mut *self.news.lock().unwrap_or_else(PoisonError::into_inner)))
    }
}

impl ToStore {
    /// Takes all bindings back into the core, and begins to write.
    pub(super) fn start(
        opened: Result<Opened, String>,
        relay: &mut Relay,
        numbers: &mut Numbers,
        counters: &Arc<Counters>,
        wake: Arc<OwnedFd>,
    ) -> Self {
        let opened = opened.and_then(|opened| take_back(opened, relay, numbers));
        if let Ok(opened) = &opened {
            let kept = opened.facts().counters();
            for (action, counter) in BindingAction::ALL.iter().zip(&counters.binding_events) {
                counter.add(kept.get(action.name()).copied().unwrap_or(0));
            }
        }
        let memories = opened.as_ref().map(|it| memories(it, numbers));
        let memories = memories.unwrap_or_default();
        let mailbox = Arc::new(Mailbox {
            news: Mutex::default(),
            is_full: AtomicBool::new(false),
            wake,
        });
        let started = opened.and_then(|opened| {
            let post = Arc::clone(&mailbox);
            let store = opened.start(move |event| post.post(event));
            store.map_err(|error| format!("cannot start the thread of the store: {error}"))
        });
        let names = numbers.names();
        let (open, status) = match started {
            Ok(store) => {
                relay.set_keeping(Keeping::Awaited);
                let status = Arc::clone(store.status());
                let open = Open {
                    store,
                    mailbox,
                    batch: None,
                    told: 0,
                    rewrite: Rewrite::No,
                    is_degraded: false,
                };
                (Some(open), status)
            }
            Err(reason) => {
                relay.set_keeping(Keeping::No);
                tracing::error!("bindings are not kept over a restart: {reason}. Relaying goes on");
                (None, Arc::new(Status::off(reason)))
            }
        };
        Self {
            open,
            status,
            kept: Kept::default(),
            names,
            memories,
            counters: Arc::clone(counters),
            counted_at: boot_now(),
        }
    }

    /// For `show` and metrics.
    pub(super) fn status(&self) -> Arc<Status> {
        Arc::clone(&self.status)
    }

    /// Whether bindings of an earlier life are here, so that no route of it is wanted but theirs.
    pub(super) fn remembers(&self) -> bool {
        self.open.is_some()
    }

    /// Everything as it is numbered now.
    pub(super) fn set_names(&mut self, names: &Names) {
        self.names = names.clone();
    }

    /// What was kept of peers.
    pub(super) fn memories(&self) -> Vec<PeerMemory> {
        self.memories.all()
    }

    /// To be kept of a peer, behind all changes told until now.
    pub(super) fn remember(&mut self, memory: PeerMemory) {
        let told = self.open.as_ref().map_or(0, |open| open.told);
        self.memories.remember(memory, told);
    }

    /// Whether so much waits that changes of whole batches should wait too.
    pub(super) fn is_crowded(&self) -> bool {
        let open = self.open.as_ref().filter(|open| !open.is_degraded);
        open.is_some_and(|open| open.batch.is_some() || open.rewrite == Rewrite::Due)
    }

    /// What is kept of peers and relies on nothing any more that is not durable.
    fn keep_memories(&mut self) {
        let Some(open) = &mut self.open else { return };
        for memory in self.memories.take_due() {
            let name = self.names.peer(memory.peer);
            let point = memory.resume_point.map(|base_time_secs| ResumePoint {
                base_time_secs,
                server: memory.server,
            });
            let batch = open.batch();
            let fits = batch.resume_point(&name, point.as_ref())
                && batch.oldest_unsent(&name, memory.unsent_since);
            debug_assert!(fits, "names of peers are short");
        }
    }

    /// What was chosen once.
    pub(super) fn keep(&mut self, kept: Kept) {
        if let Some(open) = &mut self.open {
            open.batch().keep(&kept);
        }
        self.kept = kept;
    }

    /// One more change of this round.
    pub(super) fn push(&mut self, relay: &Relay, change: RecordChange, sequence: u64) {
        let Some(open) = &mut self.open else { return };
        let batch = open.batch.get_or_insert_with(|| open.store.batch());
        match change {
            RecordChange::Put(key) => {
                let record = relay.record(key);
                let name = |record: &Record<'_>| self.names.stored_access(record.link.access);
                if let Some((record, interface)) = record.and_then(|it| Some((it, name(&it)?))) {
                    batch.put(&StoredBinding {
                        interface,
                        origin: &self.names.stored_origin(record.origin),
                        record,
                    });
                }
            }
            RecordChange::Remove { id } => batch.remove(id),
        }
        batch.set_sequence(sequence);
        open.told = sequence;
        if batch.is_full() {
            open.hand_over();
        }
    }

    /// Hands over the changes of this round.
    pub(super) fn hand_over(&mut self) {
        let has_news = self.open.as_ref().is_some_and(|it| it.batch.is_some());
        if has_news && boot_now() >= self.counted_at + COUNTERS_EVERY {
            self.count();
        }
        if let Some(open) = &mut self.open {
            open.hand_over();
        }
    }

    fn count(&mut self) {
        let Some(open) = &mut self.open else { return };
        let batch = open.batch();
        for (action, counter) in BindingAction::ALL.iter().zip(&self.counters.binding_events) {
            // The names of actions are short.
            let _ = batch.counter(action.name(), counter.get());
        }
        self.counted_at = boot_now();
    }

    /// When [`ToStore::hear`] is to be called though nothing woke us.
    pub(super) fn due(&self) -> Option<Instant> {
        let open = self.open.as_ref()?;
        let is_idle =
            open.batch.is_none() && matches!(open.rewrite, Rewrite::No | Rewrite::Until(_));
        (!is_idle).then(|| boot_now() + AGAIN)
    }

    /// What the store has said goes to the core; a slice of everything follows where it asked.
    pub(super) fn hear(&mut self, relay: &mut Relay, now: Instant) {
        let Some(open) = &mut self.open else { return };
        if let Some(news) = open.mailbox.take() {
            if let Some(durable) = news.durable {
                self.memories.set_durable(durable);
            }
            open.obey(news, relay, now);
        }
        match open.rewrite {
            Rewrite::Due => {
                if open.store.begin_rewrite() {
                    relay.set_keeping(Keeping::Told);
                    // What waits will be told again, as it is then.
                    open.batch = None;
                    open.batch().keep(&self.kept);
                    self.memories.repeat(open.told);
                    open.rewrite = Rewrite::UnderWay(Cursor::default());
                }
            }
            Rewrite::UnderWay(from) => {
                if open.hand_over() {
                    let next = relay.record_slice(from);
                    open.rewrite = next.map_or(Rewrite::Ending, Rewrite::UnderWay);
                }
            }
            Rewrite::Ending => {
                if open.hand_over() && open.store.end_rewrite(open.told) {
                    open.rewrite = Rewrite::Until(open.told);
                    // Of nothing told the store has nothing to say.
                    if open.told == 0 {
                        open.rewrite = Rewrite::No;
                        relay.set_keeping(Keeping::Awaited);
                    }
                }
            }
            Rewrite::No | Rewrite::Until(_) => {}
        }
        self.keep_memories();
    }

    /// Whether something is not told yet that the store asked for, and may still take: at the end it
    /// is waited for, because it may be known nowhere else.
    pub(super) fn is_rewriting(&self) -> bool {
        let rewrite = self.open.as_ref().map(|open| open.rewrite);
        matches!(
            rewrite,
            Some(Rewrite::Due | Rewrite::UnderWay(_) | Rewrite::Ending)
        )
    }

    /// Has everything written that was told, waits for it, and lets the Replies go that waited.
    pub(super) fn close(&mut self, relay: &mut Relay) {
        self.count();
        // Behind the last changes, and written with them.
        self.memories.set_durable(u64::MAX);
        self.keep_memories();
        let Some(mut open) = self.open.take() else {
            return;
        };
        let until = boot_now() + LAST_WORDS;
        while !open.hand_over() && boot_now() < until {
            std::thread::sleep(AGAIN);
        }
        if open.batch.is_some() {
            tracing::error!("the store did not take the last changes");
        }
        if !open.store.close() {
            tracing::error!("the disk hangs: the last changes of bindings may not survive");
        }
        if let Some(through) = open.mailbox.take().and_then(|news| news.durable) {
            relay.handle_input(boot_now(), Input::Stored { through });
        }
    }
}

impl Open {
    fn batch(&mut self) -> &mut Batch {
        self.batch.get_or_insert_with(|| self.store.batch())
    }

    /// `true` where nothing is left.
    fn hand_over(&mut self) -> bool {
        if self.rewrite == Rewrite::Due {
            // It will be told again. On disk before what was dropped it would free Replies that
            // wait for that.
            self.batch = None;
            return true;
        }
        let Some(batch) = self.batch.take() else {
            return true;
        };
        let Err(batch) = self.store.submit(batch) else {
            return true;
        };
        if batch.len() < WAITING_MAX {
            self.batch = Some(batch);
        } else {
            self.rewrite = Rewrite::Due;
        }
        false
    }

    fn obey(&mut self, news: News, relay: &mut Relay, now: Instant) {
        if let Some(through) = news.durable {
            relay.handle_input(now, Input::Stored { through });
            if matches!(self.rewrite, Rewrite::Until(last) if last <= through) {
                self.rewrite = Rewrite::No;
                relay.set_keeping(Keeping::Awaited);
            }
        }
        match news.state {
            Some(State::Degraded { reason, .. } | State::Off(reason)) => {
                if !self.is_degraded {
                    tracing::error!("changes of bindings are not kept: {reason}");
                }
                self.is_degraded = true;
                // Whatever is told now is lost; everything is told when the store asks for it.
                relay.set_keeping(Keeping::Failing);
                self.batch = None;
                self.rewrite = Rewrite::No;
            }
            Some(State::Ok) if self.is_degraded => {
                tracing::info!("the store can be written again");
                self.is_degraded = false;
            }
            _ => {}
        }
        if news.rewrite {
            self.rewrite = Rewrite::Due;
        }
        if let Some(correction) = news.correction {
            let earlier_nanos = i64::try_from(correction.earlier_nanos).unwrap_or(i64::MAX);
            tracing::warn!(
                seconds = earlier_nanos / 1_000_000_000,
                "the system clock is credible now: lifetimes that were kept meanwhile are put right"
            );
            relay.handle_input(now, Input::CorrectTimes { earlier_nanos });
        }
    }
}

/// What is kept of peers, by their numbers of this run.
fn memories(opened: &Opened, numbers: &mut Numbers) -> Memories {
    let points = opened.facts().resume_points();
    let unsent = opened.oldest_unsent();
    let names: BTreeSet<&String> = points.keys().chain(unsent.keys()).collect();
    let known = names.into_iter().map(|name| {
        let peer = numbers.peer(name);
        let point = points.get(name);
        let memory = PeerMemory {
            peer,
            resume_point: point.map(|point| point.base_time_secs),
            server: point.and_then(|point| point.server),
            unsent_since: unsent.get(name).copied(),
        };
        (peer, memory)
    });
    Memories::new(known.collect())
}

// req: PDR-S-1, DP-20
fn take_back(
    mut opened: Opened,
    relay: &mut Relay,
    numbers: &mut Numbers,
) -> Result<Opened, String> {
    // Of two records of one lease the older is removed from the store.
    relay.set_keeping(Keeping::Told);
    let now = boot_now();
    let bindings = opened.report().bindings;
    relay.expect(usize::try_from(bindings).unwrap_or(0));
    let loaded = opened.load(|restored| {
        let mut record = restored.binding.record;
        record.link.access = match restored.binding.interface {
            names::NO_INTERFACE => AccessId::UNMAPPED,
            name => numbers.access(name),
        };
        record.origin = numbers.origin(restored.binding.origin);
        let is_uncertain = restored.is_correctable;
        let restored = Restored {
            record,
            is_uncertain,
        };
        relay.handle_input(now, Input::Restore(restored));
    });
    let report = loaded.map_err(|error| error.to_string())?;
    relay.number_from(report.next_id);
    if !report.is_new {
        let is_harmed = report.clock_behind.is_some()
            || report.unreadable > 0
            || report.harm.damaged_bytes > 0
            || report.set_aside.is_some();
        for line in report.to_string().lines() {
            match is_harmed {
                true => tracing::warn!("{line}"),
                false => tracing::info!("{line}"),
            }
        }
    }
    Ok(opened)
}

#[cfg(test)]
mod tests;
