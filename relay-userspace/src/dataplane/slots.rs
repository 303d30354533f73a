//! Places in `binding_stats`: which are taken, and which of them were confirmed since a telling began.
//!
//! Place 0 is nobody's: there the counts of bindings that are gone add up, so that totals only grow.

/// Where the counts of bindings that are gone add up.
pub(super) const GONE: u32 = 0;

/// All places.
#[derive(Debug)]
pub(super) struct Slots {
    taken: Bits,
    /// Taken ones whose bindings were told of.
    confirmed: Bits,
    next: u32,
    end: u32,
    len: usize,
    /// From here on nobody ever counted.
    clean_from: u32,
}

#[derive(Clone, Debug, Default)]
struct Bits(Vec<u64>);

impl Bits {
    fn new(end: u32) -> Self {
        Self(vec![0; (end as usize).div_ceil(64)])
    }

    fn has(&self, at: u32) -> bool {
        self.0[at as usize / 64] >> (at % 64) & 1 == 1
    }

    fn set(&mut self, at: u32, value: bool) {
        let word = &mut self.0[at as usize / 64];
        *word = *word & !(1 << (at % 64)) | u64::from(value) << (at % 64);
    }
}

impl Slots {
    /// So many places, none of them taken. `is_clean`: the counts of all are zero.
    pub(super) fn new(end: u32, is_clean: bool) -> Self {
        Self {
            taken: Bits::new(end),
            confirmed: Bits::new(end),
            next: GONE + 1,
            end,
            len: 0,
            clean_from: if is_clean { GONE + 1 } else { end },
        }
    }

    /// How many are taken.
    pub(super) const fn len(&self) -> usize {
        self.len
    }

    /// A place, and whether its counts are zero. Those freed last come last: a packet that is on its way
    /// through the program may still be counted there.
    pub(super) fn take(&mut self) -> Option<(u32, bool)> {
        if self.len as u64 + 1 >= u64::from(self.end) {
            return None;
        }
        let mut at = self.next;
        loop {
            if at >= self.end {
                at = GONE + 1;
            }
            // Whole words that are full at once.
            if at.is_multiple_of(64) && self.taken.0[at as usize / 64] == u64::MAX {
                at = at.saturating_add(64);
                continue;
            }
            if !self.taken.has(at) {
                break;
            }
            at += 1;
        }
        let is_clean = at >= self.clean_from;
        self.mark(at);
        self.next = at + 1;
        Some((at, is_clean))
    }

    /// A place that an entry of the kernel names. False: it cannot be this one's.
    pub(super) fn adopt(&mut self, at: u32) -> bool {
        let is_free = at != GONE && at < self.end && !self.taken.has(at);
        if is_free {
            self.mark(at);
        }
        is_free
    }

    fn mark(&mut self, at: u32) {
        self.taken.set(at, true);
        self.clean_from = self.clean_from.max(at + 1);
        self.len += 1;
    }

    /// Nobody's from now on.
    pub(super) fn free(&mut self, at: u32) {
        if at < self.end && self.taken.has(at) {
            self.taken.set(at, false);
            self.confirmed.set(at, false);
            self.len -= 1;
        }
    }

    /// A telling begins.
    pub(super) fn confirm_none(&mut self) {
        self.confirmed.0.fill(0);
    }

    /// Its binding was told of.
    pub(super) fn confirm(&mut self, at: u32) {
        if at < self.end {
            self.confirmed.set(at, true);
        }
    }

    /// Whether its binding was told of.
    pub(super) fn is_confirmed(&self, at: u32) -> bool {
        at < self.end && self.confirmed.has(at)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slots_are_given_out_once_and_those_never_used_are_clean() {
        let mut slots = Slots::new(4, true);

        assert_eq!(slots.take(), Some((1, true)));
        assert_eq!(slots.take(), Some((2, true)));
        slots.free(1);
        assert_eq!(
            slots.take(),
            Some((3, true)),
            "the one freed last comes last"
        );
        assert_eq!(slots.take(), Some((1, false)));
        assert_eq!(slots.take(), None);
        assert_eq!(slots.len(), 3);
    }

    #[test]
    fn adopted_slots_are_unclean_and_no_two_entries_have_one() {
        let mut slots = Slots::new(200, false);

        assert!(slots.adopt(1) && slots.adopt(130));
        assert!(!slots.adopt(1) && !slots.adopt(GONE) && !slots.adopt(200));
        assert_eq!(slots.take(), Some((2, false)));
    }

    #[test]
    fn full_words_are_passed_over() {
        let mut slots = Slots::new(300, true);
        let all: Vec<u32> = std::iter::from_fn(|| Some(slots.take()?.0)).collect();
        assert_eq!(all, (1..300).collect::<Vec<_>>());

        slots.free(299);
        assert_eq!(slots.take(), Some((299, false)));
        slots.free(7);
        assert_eq!(slots.take(), Some((7, false)));
    }

    #[test]
    fn confirmation_ends_with_the_slot_and_with_the_next_telling() {
        let mut slots = Slots::new(10, true);
        let (at, _) = slots.take().unwrap();

        assert!(!slots.is_confirmed(at));
        slots.confirm(at);
        assert!(slots.is_confirmed(at));
        slots.confirm_none();
        assert!(!slots.is_confirmed(at));
        slots.confirm(at);
        slots.free(at);
        assert!(!slots.is_confirmed(at));
    }
}
