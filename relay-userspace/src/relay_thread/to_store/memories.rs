//! What is kept of peers of leasequery: it relies on changes of bindings, and must not be on disk before
//! they are. Decides when it may be; must not know how.

use std::collections::BTreeMap;

use relay_core::alq::PeerMemory;
use relay_core::types::PeerId;

/// What is kept of each peer.
// req: ALQ-D-25
#[derive(Default)]
pub(super) struct Memories {
    /// As the core has it.
    known: BTreeMap<PeerId, PeerMemory>,
    waiting: BTreeMap<PeerId, Waiting>,
    /// The last change that is durable.
    durable: u64,
}

/// Waits until a change is durable.
#[derive(Clone, Copy)]
struct Due {
    memory: PeerMemory,
    relies_on: u64,
}

/// Of one peer. What comes while something waits does not put that off: under changes that never
/// pause the newest relies on one that is not durable yet, always.
struct Waiting {
    first: Due,
    newest: Option<Due>,
}

impl Memories {
    /// What an earlier life has kept.
    pub(super) fn new(known: BTreeMap<PeerId, PeerMemory>) -> Self {
        Self {
            known,
            ..Self::default()
        }
    }

    pub(super) fn all(&self) -> Vec<PeerMemory> {
        self.known.values().copied().collect()
    }

    /// To be kept once this change is durable.
    pub(super) fn remember(&mut self, memory: PeerMemory, relies_on: u64) {
        self.known.insert(memory.peer, memory);
        let due = Due { memory, relies_on };
        let waiting = self.waiting.entry(memory.peer);
        let and_then = |waiting: &mut Waiting| waiting.newest = Some(due);
        waiting.and_modify(and_then).or_insert(Waiting {
            first: due,
            newest: None,
        });
    }

    /// All are to be kept again: everything is told anew, up to this change.
    pub(super) fn repeat(&mut self, told: u64) {
        for memory in self.all() {
            if !self.waiting.contains_key(&memory.peer) {
                self.remember(memory, told);
            }
        }
    }

    /// All changes up to this one are durable.
    pub(super) const fn set_durable(&mut self, change: u64) {
        self.durable = change;
    }

    /// Those that may be kept now.
    pub(super) fn take_due(&mut self) -> Vec<PeerMemory> {
        let durable = self.durable;
        let mut due = Vec::new();
        self.waiting.retain(|_, waiting| {
            let both = [Some(waiting.first), waiting.newest];
            let is_due = |it: &Due| it.relies_on <= durable;
            let last = both.into_iter().flatten().rfind(is_due);
            due.extend(last.map(|it| it.memory));
            let left = waiting.newest.filter(|it| !is_due(it));
            match (last, left) {
                (Some(_), Some(left)) => {
                    let newest = None;
                    *waiting = Waiting {
                        first: left,
                        newest,
                    };
                    true
                }
                (Some(_), None) => false,
                (None, _) => true,
            }
        });
        due
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn memory(peer: u16, resume_point: u32) -> PeerMemory {
        PeerMemory {
            peer: PeerId(peer),
            resume_point: Some(resume_point),
            server: None,
            unsent_since: None,
        }
    }

    /// What is not on disk may be lost: who resumes behind it never hears of it again. req: ALQ-D-25
    #[test]
    fn alq_d_25_memory_waits_for_the_changes_that_it_relies_on() {
        let mut memories = Memories::default();
        memories.remember(memory(1, 100), 7);
        memories.remember(memory(2, 200), 9);

        memories.set_durable(6);
        assert_eq!(memories.take_due(), []);
        memories.set_durable(8);
        assert_eq!(memories.take_due(), [memory(1, 100)]);
        memories.set_durable(9);
        assert_eq!(memories.take_due(), [memory(2, 200)]);
        assert_eq!(memories.take_due(), [], "kept once");
        assert_eq!(memories.all(), [memory(1, 100), memory(2, 200)]);
    }

    #[test]
    fn memory_is_kept_though_newer_ones_never_cease_to_come() {
        let mut memories = Memories::default();
        let mut kept = Vec::new();
        for change in 1..100 {
            memories.remember(memory(1, u32::try_from(change).unwrap()), change);
            // The disk is five changes behind.
            memories.set_durable(change.saturating_sub(5));
            kept.extend(memories.take_due());
        }

        assert!(kept.len() > 10, "{kept:?}");
        assert!(kept.is_sorted_by_key(|it| it.resume_point), "{kept:?}");
        memories.set_durable(100);
        assert_eq!(memories.take_due(), [memory(1, 99)]);
    }

    #[test]
    fn everything_is_kept_again_behind_what_is_told_anew() {
        let mut memories = Memories::new([(PeerId(1), memory(1, 100))].into());
        memories.set_durable(5);
        assert_eq!(memories.take_due(), [], "the store has it");

        memories.repeat(9);
        assert_eq!(memories.take_due(), []);
        memories.set_durable(9);
        assert_eq!(memories.take_due(), [memory(1, 100)]);
    }
}
