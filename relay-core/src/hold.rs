//! Replies that wait for their routes (SNP-37) and for the store: bounded in number and time.
//!
//! A Reply is keyed by the changes that it waits for. An answer to a later change of the
//! same prefix counts too, because a shell may skip what was overtaken. Must not know why a route
//! is wanted.

use alloc::collections::{BTreeSet, VecDeque};
use alloc::vec::Vec;
use core::mem;

use super::binding::slab::Slab;
use crate::effect::{ClientPath, Effect};
use crate::error::Notice;
use crate::outbox::Outbox;
use crate::time::Instant;
use crate::types::Prefix;

/// Buffers kept for the next Replies.
const SPARE_MAX: usize = 256;
/// Buffers larger than this are not kept.
const SPARE_BYTES_MAX: usize = 4096;

struct Held {
    serial: u64,
    path: ClientPath,
    message_type: u8,
    buffers: Buffers,
    /// How many of the changes that it waits for have no answer yet.
    left: usize,
}

#[derive(Default)]
struct Buffers {
    message: Vec<u8>,
    waits: Vec<(Prefix, u64)>,
}

/// What a Reply waits for.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Waits<'a> {
    /// Route changes: prefix and version.
    pub(crate) routes: &'a [(Prefix, u64)],
    /// The last of its records, by sequence.
    pub(crate) record: Option<u64>,
}

/// The Replies that wait.
pub(crate) struct Hold {
    held: Slab<Held>,
    /// In order of arrival, and so of deadline. Entries of Replies that left early stay until they
    /// come to the front, at most until their deadline.
    queue: VecDeque<(Instant, u32, u64)>,
    waits: BTreeSet<(Prefix, u64, u32)>,
    /// Sequence of the record, slot, serial: in order of all three, because records are numbered
    /// as they arise.
    records: VecDeque<(u64, u32, u64)>,
    spare: Vec<Buffers>,
    serial: u64,
}

impl Hold {
    pub(crate) const fn new() -> Self {
        Self {
            held: Slab::new(),
            queue: VecDeque::new(),
            waits: BTreeSet::new(),
            records: VecDeque::new(),
            spare: Vec::new(),
            serial: 0,
        }
    }

    /// How many wait.
    pub(crate) const fn len(&self) -> usize {
        self.held.len()
    }

    /// When the first of them has waited enough.
    pub(crate) fn next_deadline(&self) -> Option<Instant> {
        self.queue.front().map(|(deadline, ..)| *deadline)
    }

    /// Whether a Reply waits for the route of this prefix.
    pub(crate) fn awaits(&self, prefix: Prefix) -> bool {
        let all = (prefix, 0, 0)..=(prefix, u64::MAX, u32::MAX);
        !self.waits.is_empty() && self.waits.range(all).next().is_some()
    }

    /// Keeps a Reply until all `waits` are answered, or until `deadline`. `false`: there is no room.
    pub(crate) fn keep(
        &mut self,
        deadline: Instant,
        path: ClientPath,
        message: &[u8],
        waits: &Waits<'_>,
    ) -> bool {
        let mut buffers = self.spare.pop().unwrap_or_default();
        buffers.message.extend_from_slice(message);
        buffers.waits.extend_from_slice(waits.routes);
        self.serial += 1;
        let slot = self.held.insert(Held {
            serial: self.serial,
            path,
            message_type: message.first().copied().unwrap_or_default(),
            buffers,
            left: 0,
        });
        let Some(slot) = slot else { return false };
        let mut left = 0;
        for (prefix, version) in waits.routes {
            left += usize::from(self.waits.insert((*prefix, *version, slot)));
        }
        if let Some(sequence) = waits.record {
            self.records.push_back((sequence, slot, self.serial));
            left += 1;
        }
        if let Some(held) = self.held.get_mut(slot) {
            held.left = left;
        }
        // A deadline shortened by a new configuration does not overtake the ones before it.
        let last = self.queue.back().map(|(deadline, ..)| *deadline);
        let deadline = last.map_or(deadline, |last| last.max(deadline));
        self.queue.push_back((deadline, slot, self.serial));
        true
    }

    /// The route change `version` of this prefix, or one after it, was answered: lets go what
    /// waited for nothing else.
    pub(crate) fn settle(&mut self, prefix: Prefix, version: u64, out: &mut Outbox) {
        while let Some(wait) = self
            .waits
            .range((prefix, 0, 0)..=(prefix, version, u32::MAX))
            .next()
            .copied()
        {
            self.waits.remove(&wait);
            let (_, _, slot) = wait;
            self.answer(slot, out);
        }
        self.forget_front();
    }

    /// The store holds all records up to this one.
    pub(crate) fn settle_record(&mut self, through: u64, out: &mut Outbox) {
        while let Some((_, slot, serial)) = self
            .records
            .pop_front_if(|(sequence, ..)| *sequence <= through)
        {
            if self.held.get(slot).is_some_and(|it| it.serial == serial) {
                self.answer(slot, out);
            }
        }
        self.forget_front();
    }

    /// The store will not say what it holds: nothing waits for it any more.
    pub(crate) fn give_up_records(&mut self, out: &mut Outbox) {
        for (_, slot, serial) in mem::take(&mut self.records) {
            if let Some(held) = self.held.get(slot).filter(|it| it.serial == serial) {
                out.notice(Some(held.path.access), Notice::UnkeptReply);
                self.answer(slot, out);
            }
        }
        self.forget_front();
    }

    /// One of the changes that a Reply waits for has its answer.
    fn answer(&mut self, slot: u32, out: &mut Outbox) {
        let Some(held) = self.held.get_mut(slot) else {
            return;
        };
        held.left -= 1;
        if held.left == 0 {
            self.release(slot, out);
        }
    }

    /// Lets go what has waited until its deadline, in order of arrival.
    pub(crate) fn let_go_late(&mut self, now: Instant, out: &mut Outbox) {
        while let Some((_, slot, serial)) =
            self.queue.pop_front_if(|(deadline, ..)| *deadline <= now)
        {
            let Some(held) = self.held.get(slot).filter(|held| held.serial == serial) else {
                continue;
            };
            for (prefix, version) in &held.buffers.waits {
                self.waits.remove(&(*prefix, *version, slot));
            }
            out.notice(Some(held.path.access), Notice::LateReply);
            self.release(slot, out);
        }
        self.forget_front();
    }

    fn release(&mut self, slot: u32, out: &mut Outbox) {
        let Some(mut held) = self.held.remove(slot) else {
            return;
        };
        let message = out.copy(&held.buffers.message);
        out.push(Effect::SendToClient {
            path: held.path,
            message_type: held.message_type,
            message,
        });
        if self.spare.len() < SPARE_MAX && held.buffers.message.capacity() <= SPARE_BYTES_MAX {
            held.buffers.message.clear();
            held.buffers.waits.clear();
            self.spare.push(mem::take(&mut held.buffers));
        }
    }

    /// Drops the entries at the front whose Replies have left.
    fn forget_front(&mut self) {
        let held = &self.held;
        let has_left =
            |slot: u32, serial: u64| held.get(slot).is_none_or(|held| held.serial != serial);
        while self
            .queue
            .pop_front_if(|(_, slot, serial)| has_left(*slot, *serial))
            .is_some()
        {}
        while self
            .records
            .pop_front_if(|(_, slot, serial)| has_left(*slot, *serial))
            .is_some()
        {}
    }
}
