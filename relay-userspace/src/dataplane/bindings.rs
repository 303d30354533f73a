//! The follower of bindings in the kernel: what the core tells is written before the answers of its round
//! leave. Level-triggered like that of routes: everything is told at start, after a write that failed and on
//! a timer, and what nobody told of is then removed.
//!
//! Decides when everything is told; must not know what an entry holds.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use relay_core::effect::ForwardingChange;
use relay_core::time::Instant;
use relay_core::types::Prefix;

use super::kernel_maps::{KernelMaps, Walk};
use super::load::Sizes;
use super::table::{Refusal, Table};
use crate::wall_time::boot_now;

/// Between two times of telling everything after failures.
const PAUSE: Duration = Duration::from_secs(1);
/// Between two comparisons with the kernel.
const COMPARE: Duration = Duration::from_secs(300);

/// The maps of bindings, and what stands to be done about them.
pub(super) struct Bindings {
    maps: KernelMaps,
    table: Table,
    telling: Telling,
    /// Everything is told at this time.
    tell_at: Instant,
    /// What was told is everything there is to be.
    is_complete: bool,
    /// Everything has been told, and is there.
    is_settled: bool,
    numbers: Arc<Numbers>,
}

/// Where telling everything stands.
#[derive(Clone, Copy)]
enum Telling {
    No,
    /// The core is at it. Broken: something failed meanwhile.
    UnderWay {
        broken: bool,
    },
    /// It was told; what was not is being looked for.
    Tidying(Walk),
}

/// For other threads.
#[derive(Debug, Default)]
pub(super) struct Numbers {
    /// Entries now.
    pub(super) entries: AtomicU64,
    /// As many as there may be.
    pub(super) limit: AtomicU64,
    /// Refused so far.
    pub(super) refusals: AtomicU64,
    /// Writes that failed for other reasons.
    pub(super) failures: AtomicU64,
    /// Refused now, the first of them.
    pub(super) refused: Mutex<Vec<(Prefix, Refusal)>>,
}

impl Bindings {
    /// `is_fresh`: the maps are new. `is_complete`: no entry that is not told of is
    /// of use to anybody.
    pub(super) fn open(
        mut maps: KernelMaps,
        sizes: Sizes,
        is_fresh: bool,
        is_complete: bool,
    ) -> anyhow::Result<Self> {
        let table = Table::open(&mut maps, sizes.slots, is_fresh)?;
        let numbers = Arc::<Numbers>::default();
        numbers
            .limit
            .store(sizes.bindings.into(), Ordering::Relaxed);
        let bindings = Self {
            maps,
            table,
            telling: Telling::No,
            tell_at: Instant::default(),
            is_complete,
            is_settled: false,
            numbers,
        };
        bindings.publish();
        bindings.maps.tell_memory(sizes);
        Ok(bindings)
    }

    /// The same maps and their numbers, for other threads.
    pub(super) fn shared(&self) -> std::io::Result<(KernelMaps, Arc<Numbers>)> {
        Ok((self.maps.try_clone()?, Arc::clone(&self.numbers)))
    }

    /// Whether the core is to tell everything from now on.
    pub(super) fn begins(&mut self, now: Instant) -> bool {
        if now < self.tell_at || matches!(self.telling, Telling::UnderWay { .. }) {
            return false;
        }
        self.table.begin_telling();
        self.telling = Telling::UnderWay { broken: false };
        self.tell_at = now + COMPARE;
        true
    }

    /// When there is something to do.
    pub(super) fn due(&self) -> Option<Instant> {
        match self.telling {
            Telling::No => Some(self.tell_at),
            // The core says when.
            Telling::UnderWay { .. } => None,
            Telling::Tidying(_) => Some(Instant::default()),
        }
    }

    /// Whether the kernel has all that it is to have. Where it lacks something the guard would drop a rightful client.
    // req: DP-25
    pub(super) fn is_settled(&self) -> bool {
        self.is_settled && self.table.refused().is_empty()
    }

    /// Makes the maps say what was told. `more`: the core has not told everything yet.
    pub(super) fn write(&mut self, changes: &mut Vec<ForwardingChange>, more: bool) {
        let has_failed = !changes.is_empty() && {
            let written = self.table.write(&mut self.maps, changes);
            self.publish();
            written.has_failed
        };
        if has_failed {
            self.fail();
        }
        match self.telling {
            Telling::UnderWay { broken } if more => {
                self.telling = Telling::UnderWay {
                    broken: broken || has_failed,
                };
            }
            Telling::UnderWay { broken } if broken || has_failed => self.telling = Telling::No,
            Telling::UnderWay { .. } => {
                self.is_settled = true;
                self.telling = Telling::Tidying(Walk::default());
            }
            Telling::Tidying(_) | Telling::No => {}
        }
    }

    /// Removes a slice of what nobody told of, after everything was told.
    pub(super) fn tidy(&mut self) {
        let Telling::Tidying(from) = self.telling else {
            return;
        };
        let (maps, all) = (&mut self.maps, self.is_complete);
        self.telling = match self.table.remove_orphans(maps, from, all, boot_now()) {
            Ok(Some(next)) => Telling::Tidying(next),
            Ok(None) => Telling::No,
            Err(error) => {
                tracing::warn!(%error, "cannot read the kernel's maps of bindings");
                self.fail();
                Telling::No
            }
        };
        self.publish();
    }

    fn fail(&mut self) {
        self.is_settled = false;
        self.numbers.failures.fetch_add(1, Ordering::Relaxed);
        self.tell_at = self.tell_at.min(boot_now() + PAUSE);
    }

    fn publish(&self) {
        let Numbers {
            entries,
            refusals,
            refused,
            ..
        } = &*self.numbers;
        entries.store(self.table.len() as u64, Ordering::Relaxed);
        let before = refusals.swap(self.table.refusals(), Ordering::Relaxed);
        let mut list = refused.lock().expect("no holder of this lock panics");
        if before != self.table.refusals() || list.len() != self.table.refused().len() {
            list.clear();
            list.extend(
                self.table
                    .refused()
                    .iter()
                    .map(|(prefix, why)| (*prefix, *why)),
            );
        }
    }
}
