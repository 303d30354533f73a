//! The writes between what is wanted and what exists, and what the kernel makes of them.

use relay_core::input::RouteRefusal;

use super::entry::{Entry, HURRIED, LOST, QUEUED, REMOVE, UNTOLD};
use super::{Follower, Pace, REPAIRED_MAX, State, Write};
use crate::routes::hops::HopId;
use crate::routes::objects::RouteKey;
use crate::routes::slots::Record;

/// Entries looked at for each write that a batch may hold: most of a million may need none.
const LOOKS_PER_WRITE: usize = 16;

impl Follower {
    /// The next writes, at most `max`, in the order in which they must be done; with
    /// [`Pace::Now`] only those that cannot wait. Every batch is answered by
    /// [`Follower::written`].
    pub fn next_batch(&mut self, max: usize, pace: Pace) -> Vec<Write> {
        let mut batch = Vec::new();
        if !self.is_known {
            return batch;
        }
        if pace == Pace::InTurn {
            self.queue.sort(|at| self.routes.get(at).map(Record::key));
        }
        let mut looks = max * LOOKS_PER_WRITE;
        // A change of next hop takes two writes.
        while batch.len() + 2 <= max && looks > 0 {
            looks -= 1;
            let (at, flags) = if let Some(at) = self.hurried.pop_front() {
                (at, HURRIED)
            } else if pace == Pace::InTurn
                && let Some(at) = self.queue.pop()
            {
                (at, QUEUED)
            } else {
                break;
            };
            // Its number may be another's by now.
            let entry = self.routes.get_mut(at).filter(|entry| entry.has(flags));
            if let Some(entry) = entry {
                entry.take(HURRIED | QUEUED);
                let entry = *entry;
                self.plan(at, &entry, &mut batch);
            }
        }
        batch
    }

    fn plan(&mut self, at: u32, entry: &Entry, batch: &mut Vec<Write>) {
        let (prefix, metric) = entry.key();
        let write = |hop: Option<HopId>, target| Write {
            key: RouteKey {
                prefix,
                table: self.policy.table,
                protocol: self.policy.protocol,
                metric,
            },
            target,
            at,
            hop,
        };
        let Some(wanted) = entry.wanted else {
            match entry.present {
                // A routing daemon that announces it hears of its end from the kernel.
                // req: PDR-R-4
                Some(_) if entry.has(REMOVE) => batch.push(write(None, None)),
                Some(_) => {}
                None => self.forget_gone(at),
            }
            return;
        };
        let is_foreign = self.is_foreign(prefix);
        if entry.present.is_some() && (is_foreign || entry.present != entry.wanted) {
            batch.push(write(None, None));
        }
        let interface = self.hops.interface(wanted);
        if is_foreign {
            self.settle(at, State::Refused(RouteRefusal::ForeignRoute));
        } else if entry.present == entry.wanted {
            self.entry(at).take(LOST);
            self.settle(at, State::Installed);
        } else if interface.is_some_and(|interface| !self.up.contains(&interface)) {
            self.settle(at, State::Refused(RouteRefusal::Kernel(libc::ENETDOWN)));
        } else {
            batch.push(write(Some(wanted), Some(self.hops.target(wanted))));
        }
    }

    /// What the kernel made of a batch: index and errno of each write that it refused, in order.
    /// `None`: nobody knows.
    pub fn written(&mut self, batch: &[Write], errors: Option<&[(usize, i32)]>) {
        let Some(errors) = errors else {
            self.doubt = true;
            return;
        };
        let mut errors = errors.iter().peekable();
        for (index, write) in batch.iter().enumerate() {
            let errno = errors.next_if(|(at, _)| *at == index).map_or(0, |it| it.1);
            match write.hop {
                Some(hop) => self.created(write.at, hop, errno),
                None => self.deleted(write.at, errno),
            }
        }
        self.publish_counts();
    }

    fn created(&mut self, at: u32, hop: HopId, errno: i32) {
        match errno {
            0 => {
                self.hops.take_again(hop);
                self.set_present(at, Some(hop));
                let entry = self.entry(at);
                if entry.take(LOST) {
                    let prefix = entry.prefix();
                    self.counters.routes.repaired.inc();
                    if self.repaired.len() < REPAIRED_MAX {
                        self.repaired.push((prefix, self.hops.target(hop)));
                    }
                }
                self.settle(at, State::Installed);
            }
            // Something is there that we do not know of: find out whose it is.
            libc::EEXIST => self.doubt = true,
            errno => {
                self.counters.routes.errors.inc();
                self.was_refused = true;
                self.settle(at, State::Refused(RouteRefusal::Kernel(errno)));
            }
        }
    }

    fn deleted(&mut self, at: u32, errno: i32) {
        match errno {
            0 | libc::ESRCH | libc::ENOENT | libc::ENODEV => {
                self.set_present(at, None);
                if self.entry(at).wanted.is_none() {
                    self.forget_gone(at);
                }
            }
            _ => {
                self.counters.routes.errors.inc();
                self.was_refused = true;
                self.doubt = true;
            }
        }
    }

    /// Nobody wants it and it is not there. A dump that was begun before may still bring it: then
    /// it is remembered until that ends.
    fn forget_gone(&mut self, at: u32) {
        if self.comparison.is_none() {
            self.forget(at);
        }
    }

    pub(super) fn settle(&mut self, at: u32, state: State) {
        let entry = self.entry(at);
        let Some(wanted) = entry.wanted.filter(|_| entry.state() != state) else {
            return;
        };
        self.set_state(at, state);
        // Aggregates are nobody's lease.
        if wanted != HopId::UNREACHABLE {
            let entry = self.entry(at);
            if !entry.has(UNTOLD) {
                entry.set(UNTOLD);
                self.untold.push_back(at);
            }
        }
    }
}
