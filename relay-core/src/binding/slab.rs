//! Values at stable small numbers; a freed number is given out again.

use alloc::vec::Vec;
use core::mem;

/// No number: the end of a list.
pub(crate) const NONE: u32 = u32::MAX;

enum Slot<T> {
    Used(T),
    /// The next free slot.
    Free(u32),
}

/// The values.
pub(crate) struct Slab<T> {
    slots: Vec<Slot<T>>,
    free: u32,
    used: usize,
}

impl<T> Slab<T> {
    pub(crate) const fn new() -> Self {
        Self {
            slots: Vec::new(),
            free: NONE,
            used: 0,
        }
    }

    /// So many more are likely to come.
    pub(crate) fn expect(&mut self, count: usize) {
        self.slots.reserve(count);
    }

    /// How many values there are.
    pub(crate) const fn len(&self) -> usize {
        self.used
    }

    /// One more than the largest number ever given out.
    pub(crate) fn end(&self) -> u32 {
        // `insert` stops before this could be cut.
        self.slots.len() as u32
    }

    pub(crate) fn get(&self, at: u32) -> Option<&T> {
        match self.slots.get(at as usize) {
            Some(Slot::Used(value)) => Some(value),
            _ => None,
        }
    }

    pub(crate) fn get_mut(&mut self, at: u32) -> Option<&mut T> {
        match self.slots.get_mut(at as usize) {
            Some(Slot::Used(value)) => Some(value),
            _ => None,
        }
    }

    /// `None` only where all 2^32 - 1 numbers are taken.
    pub(crate) fn insert(&mut self, value: T) -> Option<u32> {
        let end = self.slots.len();
        let at = if let Some(slot) = self.slots.get_mut(self.free as usize) {
            let at = self.free;
            if let Slot::Free(next) = mem::replace(slot, Slot::Used(value)) {
                self.free = next;
            }
            at
        } else if end < NONE as usize {
            self.slots.push(Slot::Used(value));
            end as u32
        } else {
            return None;
        };
        self.used += 1;
        Some(at)
    }

    pub(crate) fn remove(&mut self, at: u32) -> Option<T> {
        let slot = self.slots.get_mut(at as usize)?;
        if matches!(slot, Slot::Free(_)) {
            return None;
        }
        let Slot::Used(value) = mem::replace(slot, Slot::Free(self.free)) else {
            return None;
        };
        self.free = at;
        self.used -= 1;
        Some(value)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slab_gives_freed_numbers_out_again() {
        let mut slab = Slab::new();
        let (a, b) = (slab.insert('a').unwrap(), slab.insert('b').unwrap());

        assert_eq!(slab.remove(a), Some('a'));
        assert_eq!(slab.remove(a), None);
        assert_eq!(slab.insert('c'), Some(a));

        assert_eq!((slab.get(a), slab.get(b)), (Some(&'c'), Some(&'b')));
        assert_eq!((slab.len(), slab.end()), (2, 2));
    }
}
