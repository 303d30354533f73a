//! The store as its users see it: what it is told, what it tells, how it is set. Nothing here blocks
//! but the end; what is done is the writer's business.

use std::fmt;
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, SyncSender, TrySendError};
use std::time::{Duration, Instant};

use super::batch::Batch;
use super::status::{State, Status, count};
use super::time::{Clock, Correction};
use super::writer::{Found, Writer};

/// Batches that wait for the writer; a further one is refused. With [`BATCH_BYTES`] it bounds what
/// a slow disk can make us hold.
///
/// [`BATCH_BYTES`]: super::BATCH_BYTES
const QUEUE_MAX: usize = 64;
/// A full queue is tried again after this, at the end.
const AGAIN: Duration = Duration::from_millis(1);
/// Buffers that are kept for reuse; those of a burst beyond are freed.
const SPARE_MAX: usize = 4;

/// How to read the clocks; tests have their own.
pub type ClockReader = Box<dyn Fn() -> Clock + Send>;

/// What the store does when; tests have smaller numbers.
#[derive(Clone, Copy, Debug)]
pub struct Options {
    /// A segment that has so many bytes is not written further.
    pub segment_bytes: u64,
    /// Old segments of so many bytes, and at least as many as were merged before, are merged: the
    /// store takes at most about twice what its bindings need, and this.
    pub merge_bytes: u64,
    /// The newest moment is noted at least so often.
    pub tick: Duration,
    /// Pause between attempts to write after a failure.
    pub retry: Duration,
    /// At the end a disk has so long for the last writes; one that takes longer hangs.
    pub patience: Duration,
    /// So long changes wait for others to share a commit with, where more than 3,200 come a second.
    pub gather: Duration,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            segment_bytes: 32 << 20,
            merge_bytes: 64 << 20,
            tick: Duration::from_secs(10),
            retry: Duration::from_secs(1),
            patience: Duration::from_secs(20),
            gather: Duration::from_millis(10),
        }
    }
}

/// What the writer tells.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Event {
    /// Everything up to this sequence number is durable.
    Durable(u64),
    /// Offer everything: [`Store::begin_rewrite`], all bindings, [`Store::end_rewrite`]. Told again
    /// until it begins.
    Rewrite,
    /// How the store is now.
    State(State),
    /// The wall clock has become credible.
    Correction(Correction),
    /// Damaged segments were moved here.
    SetAside(PathBuf),
}

/// What the writer is told.
pub(super) enum Command {
    Batch(Batch),
    Begin,
    End(u64),
    Close,
}

/// The store, for the thread that owns the bindings. Nothing here blocks.
pub struct Store {
    queue: SyncSender<Command>,
    spare: Receiver<Batch>,
    epoch: u32,
    status: Arc<Status>,
    patience: Duration,
    /// `None` once it was waited for. Its sender goes with the thread.
    ended: Option<Receiver<()>>,
}

impl fmt::Debug for Store {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Store")
            .field("status", &self.status)
            .finish_non_exhaustive()
    }
}

impl Store {
    /// Starts the thread.
    pub(super) fn start(found: Found, notify: Box<dyn FnMut(Event) + Send>) -> io::Result<Self> {
        let (queue, commands) = mpsc::sync_channel(QUEUE_MAX);
        let (spare_in, spare) = mpsc::sync_channel(SPARE_MAX);
        let status = Arc::new(Status::new(State::Ok));
        let epoch = found.times.present();
        let patience = found.options.patience;
        let mut writer = Writer::new(found, commands, spare_in, Arc::clone(&status), notify);
        let (alive, ended) = mpsc::channel();
        std::thread::Builder::new()
            .name("store".to_owned())
            .spawn(move || {
                if catch_unwind(AssertUnwindSafe(|| writer.run())).is_err() {
                    writer.has_panicked();
                }
                // With it goes the lock: whoever was told that this has ended may open the store.
                drop(writer);
                drop(alive);
            })?;
        Ok(Self {
            queue,
            spare,
            epoch,
            status,
            patience,
            ended: Some(ended),
        })
    }

    /// An empty batch; its buffer was used before where possible.
    pub fn batch(&self) -> Batch {
        self.spare.try_recv().unwrap_or_default().reset(self.epoch)
    }

    /// Hands changes over.
    ///
    /// # Errors
    /// The queue is full: the batch comes back. Keep it and try again, or drop it and
    /// [`Store::begin_rewrite`]: a change that is neither handed over nor rewritten is lost.
    pub fn submit(&self, batch: Batch) -> Result<(), Batch> {
        match self.queue.try_send(Command::Batch(batch)) {
            Err(
                TrySendError::Full(Command::Batch(batch))
                | TrySendError::Disconnected(Command::Batch(batch)),
            ) => {
                count(&self.status.counters.refused, 1);
                Err(batch)
            }
            _ => Ok(()),
        }
    }

    /// All present bindings and facts follow, with changes between them; what does not is removed
    /// at the end. Until then nothing is reported durable. `false`: the queue is full, try again.
    #[must_use]
    pub fn begin_rewrite(&self) -> bool {
        self.queue.try_send(Command::Begin).is_ok()
    }

    /// All present bindings were handed over; the last change before was this one. `false`: the
    /// queue is full, try again.
    #[must_use]
    pub fn end_rewrite(&self, sequence: u64) -> bool {
        self.queue.try_send(Command::End(sequence)).is_ok()
    }

    /// For metrics and `show`.
    pub fn status(&self) -> &Arc<Status> {
        &self.status
    }

    /// Writes what was handed over, and ends. `false`: the disk did not take it in time
    /// ([`Options::patience`]), and what was not acknowledged may be lost.
    pub fn close(mut self) -> bool {
        self.finish()
    }

    fn finish(&mut self) -> bool {
        let Some(ended) = self.ended.take() else {
            return true;
        };
        let until = Instant::now() + self.patience;
        while let Err(TrySendError::Full(_)) = self.queue.try_send(Command::Close) {
            if Instant::now() >= until {
                return false;
            }
            std::thread::sleep(AGAIN);
        }
        let left = until.saturating_duration_since(Instant::now());
        // Nothing is ever sent: the sender goes with the thread.
        ended.recv_timeout(left) != Err(RecvTimeoutError::Timeout)
    }
}

impl Drop for Store {
    fn drop(&mut self) {
        self.finish();
    }
}
