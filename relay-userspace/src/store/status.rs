//! How the store is: what `show`, metrics and the log tell of it. Decides nothing.

use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime};

/// Upper bounds of the buckets of `store_commit_seconds`, in microseconds; one more is unbounded.
pub const COMMIT_BUCKETS_MICROS: [u64; 12] = [
    50, 100, 200, 500, 1_000, 2_000, 5_000, 10_000, 20_000, 50_000, 200_000, 1_000_000,
];

/// How the store is.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum State {
    /// Changes become durable.
    Ok,
    /// Changes do not become durable; it goes on by itself when the cause is gone.
    Degraded {
        /// What happened, and what to do.
        reason: String,
        /// Since when.
        since: SystemTime,
    },
    /// There is none, or no longer: why.
    Off(String),
}

/// Counters of the writer. All only grow.
#[derive(Debug, Default)]
pub struct Counters {
    /// Writes that became durable.
    pub commits: AtomicU64,
    /// Entries in them.
    pub records: AtomicU64,
    /// Bytes in them.
    pub bytes: AtomicU64,
    /// Commits that failed.
    pub failures: AtomicU64,
    /// Batches for which the queue had no room.
    pub refused: AtomicU64,
    /// Changes that were thrown away while degraded; a rewrite brings them back.
    pub dropped: AtomicU64,
    /// Times that everything was written again.
    pub rewrites: AtomicU64,
    /// Merges of old segments.
    pub merges: AtomicU64,
    /// Damaged bytes found, at the start and in merges.
    pub damaged_bytes: AtomicU64,
}

/// A histogram of commit times.
#[derive(Debug, Default)]
pub struct CommitTimes {
    buckets: [AtomicU64; COMMIT_BUCKETS_MICROS.len() + 1],
    sum_nanos: AtomicU64,
}

impl CommitTimes {
    pub(super) fn add(&self, time: Duration) {
        let micros = u64::try_from(time.as_micros()).unwrap_or(u64::MAX);
        let at = COMMIT_BUCKETS_MICROS.partition_point(|bound| *bound < micros);
        self.buckets[at].fetch_add(1, Ordering::Relaxed);
        let nanos = u64::try_from(time.as_nanos()).unwrap_or(u64::MAX);
        self.sum_nanos.fetch_add(nanos, Ordering::Relaxed);
    }

    /// Commits in each bucket (not cumulated), and the sum of their times.
    pub fn read(&self) -> ([u64; COMMIT_BUCKETS_MICROS.len() + 1], Duration) {
        let sum = Duration::from_nanos(self.sum_nanos.load(Ordering::Relaxed));
        let buckets = core::array::from_fn(|at| self.buckets[at].load(Ordering::Relaxed));
        (buckets, sum)
    }
}

/// What other threads may look at.
#[derive(Debug)]
pub struct Status {
    state: Mutex<State>,
    /// What was counted.
    pub counters: Counters,
    /// How long commits took.
    pub commit_times: CommitTimes,
}

impl Status {
    pub(super) fn new(state: State) -> Self {
        Self {
            state: Mutex::new(state),
            counters: Counters::default(),
            commit_times: CommitTimes::default(),
        }
    }

    /// Of a daemon without a store.
    pub fn off(reason: String) -> Self {
        Self::new(State::Off(reason))
    }

    /// How it is now.
    pub fn state(&self) -> State {
        self.state.lock().map_or(State::Ok, |it| it.clone())
    }

    pub(super) fn set(&self, state: State) {
        if let Ok(mut it) = self.state.lock() {
            *it = state;
        }
    }
}

pub(super) fn count(counter: &AtomicU64, by: u64) {
    counter.fetch_add(by, Ordering::Relaxed);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn commit_time_falls_into_the_bucket_that_bounds_it() {
        let times = CommitTimes::default();

        for micros in [50, 51, 5_000_000] {
            times.add(Duration::from_micros(micros));
        }

        let (buckets, sum) = times.read();
        assert_eq!((buckets[0], buckets[1], buckets[12]), (1, 1, 1));
        assert_eq!(sum, Duration::from_micros(5_000_101));
    }
}
