//! When bindings expire: a heap of (time, slot) in which each slot stands at most once.
//!
//! A longer lifetime costs nothing: the entry stays at its old time, and whoever takes it out
//! then arms it again. Ended bindings are taken out at once, so nothing stale is ever kept.

use alloc::vec::Vec;

use super::slab::NONE;
use crate::time::Instant;

/// The heap.
#[derive(Default)]
pub(crate) struct Timers {
    heap: Vec<(Instant, u32)>,
    /// By slot: its place in the heap, or [`NONE`].
    places: Vec<u32>,
}

impl Timers {
    /// So many more are likely to come.
    pub(crate) fn expect(&mut self, count: usize) {
        self.heap.reserve(count);
        self.places.reserve(count);
    }

    /// The earliest time armed.
    pub(crate) fn next(&self) -> Option<Instant> {
        self.heap.first().map(|(at, _)| *at)
    }

    /// Sees to it that `slot` comes out at `at` or earlier.
    pub(crate) fn arm(&mut self, slot: u32, at: Instant) {
        if at == Instant::NEVER {
            return;
        }
        if let Some(place) = self.place(slot) {
            if let Some(entry) = self.heap.get_mut(place)
                && at < entry.0
            {
                entry.0 = at;
                self.sift_up(place);
            }
            return;
        }
        let needed = slot as usize + 1;
        if self.places.len() < needed {
            self.places.resize(needed, NONE);
        }
        let place = self.heap.len();
        self.heap.push((at, slot));
        self.set_place(slot, place);
        self.sift_up(place);
    }

    /// Takes `slot` out.
    pub(crate) fn disarm(&mut self, slot: u32) {
        if let Some(place) = self.place(slot) {
            self.remove_at(place);
        }
    }

    /// Takes out the earliest slot whose time has come.
    pub(crate) fn pop_due(&mut self, now: Instant) -> Option<u32> {
        let (_, slot) = self.heap.first().copied().filter(|(at, _)| *at <= now)?;
        self.remove_at(0);
        Some(slot)
    }

    fn place(&self, slot: u32) -> Option<usize> {
        let place = *self.places.get(slot as usize)?;
        (place != NONE).then_some(place as usize)
    }

    fn set_place(&mut self, slot: u32, place: usize) {
        if let Some(at) = self.places.get_mut(slot as usize) {
            *at = place as u32;
        }
    }

    fn remove_at(&mut self, place: usize) {
        if place >= self.heap.len() {
            return;
        }
        let (_, slot) = self.heap.swap_remove(place);
        if let Some(at) = self.places.get_mut(slot as usize) {
            *at = NONE;
        }
        if let Some((_, moved)) = self.heap.get(place).copied() {
            self.set_place(moved, place);
            self.sift_down(place);
            self.sift_up(place);
        }
    }

    fn sift_up(&mut self, mut place: usize) {
        while place > 0 {
            let parent = (place - 1) / 2;
            if !self.is_before(place, parent) {
                return;
            }
            self.swap(place, parent);
            place = parent;
        }
    }

    fn sift_down(&mut self, mut place: usize) {
        loop {
            let (left, right) = (2 * place + 1, 2 * place + 2);
            let child = if self.is_before(right, left) {
                right
            } else {
                left
            };
            if !self.is_before(child, place) {
                return;
            }
            self.swap(place, child);
            place = child;
        }
    }

    /// A place beyond the end is before nothing.
    fn is_before(&self, one: usize, other: usize) -> bool {
        match (self.heap.get(one), self.heap.get(other)) {
            (Some(one), Some(other)) => one < other,
            _ => false,
        }
    }

    fn swap(&mut self, one: usize, other: usize) {
        self.heap.swap(one, other);
        for place in [one, other] {
            if let Some((_, slot)) = self.heap.get(place).copied() {
                self.set_place(slot, place);
            }
        }
    }

    #[cfg(test)]
    pub(crate) fn len(&self) -> usize {
        self.heap.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::collections::BTreeMap;
    use proptest::prelude::*;

    fn at(time: u64) -> Instant {
        Instant::from_nanos(time)
    }

    proptest! {
        /// Against a map that knows all: each slot comes out once, in order of its armed time.
        #[test]
        fn timers_agree_with_a_plain_map(ops in proptest::collection::vec((0u8..3, 0u32..20, 0u64..100), 0..200)) {
            let mut timers = Timers::default();
            let mut model = BTreeMap::new();
            for (op, slot, time) in ops {
                match op {
                    0 => {
                        timers.arm(slot, at(time));
                        let armed = model.entry(slot).or_insert(time);
                        *armed = (*armed).min(time);
                    }
                    1 => {
                        timers.disarm(slot);
                        model.remove(&slot);
                    }
                    _ => {
                        let due = timers.pop_due(at(time));
                        let expected = model.iter().map(|(slot, at)| (*at, *slot)).min();
                        let expected = expected.filter(|(at, _)| *at <= time).map(|(_, slot)| slot);
                        prop_assert_eq!(due, expected);
                        due.map(|slot| model.remove(&slot));
                    }
                }
                prop_assert_eq!(timers.len(), model.len());
                prop_assert_eq!(timers.next(), model.values().min().map(|time| at(*time)));
            }
        }
    }
}
