//! The writes between what is wanted and what exists, and what the kernel makes of them.

use std::collections::HashMap;

use relay_core::input::{RouteOutcome, RouteRefusal};

use super::{Follower, Key, REPAIRED_MAX, State, Write, wanted_interface};
use crate::routes::objects::{RouteKey, Target};

impl Follower {
    /// The next writes, at most `max`, in the order in which they must be done. Every batch is
    /// answered by [`Follower::written`].
    pub fn next_batch(&mut self, max: usize) -> Vec<Write> {
        let mut batch = Vec::with_capacity(max.min(self.queue.len() * 2));
        // A change of next hop takes two writes.
        while batch.len() + 2 <= max {
            let Some(key) = self.queue.pop_front() else {
                break;
            };
            self.plan(key, &mut batch);
        }
        batch
    }

    fn plan(&mut self, key: Key, batch: &mut Vec<Write>) {
        let foreign = self.foreign.contains(&key.0);
        let Some(entry) = self.entries.get_mut(&key) else {
            return;
        };
        entry.queued = false;
        let route = RouteKey {
            prefix: key.0,
            table: self.policy.table,
            protocol: self.policy.protocol,
            metric: key.1,
        };
        let delete = Write {
            key: route,
            target: None,
        };
        let Some((target, _)) = entry.wanted else {
            match entry.present {
                Some(_) if entry.remove => batch.push(delete),
                Some(_) => {}
                None => drop(self.entries.remove(&key)),
            }
            return;
        };
        if entry.present.is_some() && (foreign || entry.present != Some(target)) {
            batch.push(delete);
        }
        if foreign {
            self.settle(key, State::Refused(RouteRefusal::ForeignRoute));
        } else if entry.present == Some(target) {
            entry.lost = false;
            self.settle(key, State::Installed);
        } else if wanted_interface(entry).is_some_and(|interface| !self.up.contains(&interface)) {
            self.settle(key, State::Refused(RouteRefusal::Kernel(libc::ENETDOWN)));
        } else {
            batch.push(Write {
                key: route,
                target: Some(target),
            });
        }
    }

    /// What the kernel made of a batch: index and errno of each write that it refused. `None`:
    /// nobody knows.
    pub fn written(&mut self, batch: &[Write], errors: Option<&[(usize, i32)]>) {
        let Some(errors) = errors else {
            self.doubt = true;
            return;
        };
        let errors: HashMap<usize, i32> = errors.iter().copied().collect();
        for (index, write) in batch.iter().enumerate() {
            let errno = errors.get(&index).copied().unwrap_or(0);
            match write.target {
                Some(target) => self.created((write.key.prefix, write.key.metric), target, errno),
                None => self.deleted((write.key.prefix, write.key.metric), errno),
            }
        }
        self.publish_counts();
    }

    fn created(&mut self, key: Key, target: Target, errno: i32) {
        let Some(entry) = self.entries.get_mut(&key) else {
            return;
        };
        match errno {
            0 => {
                entry.present = Some(target);
                if std::mem::take(&mut entry.lost) {
                    self.counters.routes.repaired.inc();
                    if self.repaired.len() < REPAIRED_MAX {
                        self.repaired.push((key.0, target));
                    }
                }
                self.settle(key, State::Installed);
            }
            // Something is there that we do not know of: find out whose it is.
            libc::EEXIST => self.doubt = true,
            errno => {
                self.counters.routes.errors.inc();
                self.settle(key, State::Refused(RouteRefusal::Kernel(errno)));
            }
        }
    }

    fn deleted(&mut self, key: Key, errno: i32) {
        let Some(entry) = self.entries.get_mut(&key) else {
            return;
        };
        match errno {
            0 | libc::ESRCH | libc::ENOENT | libc::ENODEV => {
                entry.present = None;
                if entry.wanted.is_none() {
                    self.entries.remove(&key);
                }
            }
            _ => {
                self.counters.routes.errors.inc();
                self.doubt = true;
            }
        }
    }

    fn settle(&mut self, key: Key, state: State) {
        let entry = &self.entries[&key];
        let Some((target, version)) = entry.wanted else {
            return;
        };
        let (prefix, changed) = (key.0, entry.state != state);
        let result = match state {
            State::Pending => return,
            State::Installed => Ok(()),
            State::Refused(refusal) => Err(refusal),
        };
        self.set_state(key, state);
        // Aggregates are nobody's lease.
        if changed && target != Target::Unreachable {
            let outcome = RouteOutcome {
                prefix,
                version,
                result,
            };
            self.outcomes.insert(prefix, outcome);
        }
    }
}
