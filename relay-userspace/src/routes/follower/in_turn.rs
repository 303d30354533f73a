//! Which entry is looked at next, of the many that nobody waits for: in the order of their destinations, because
//! the kernel finds the place of a route sooner near the one before it.
//!
//! What came is sorted in pieces, and the pieces are merged while they are taken: neither takes long at a time,
//! and an entry costs four bytes while it waits. An entry whose key changed meanwhile comes out of order, no more.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::vec;

use super::Key;

/// Entries sorted at a time: 2 ms.
const PIECE: usize = 16_384;

/// The entries that wait.
#[derive(Debug, Default)]
pub(super) struct InTurn {
    /// As they came.
    fresh: Vec<u32>,
    /// Sorted pieces.
    pieces: Vec<vec::IntoIter<u32>>,
    /// Of each piece the first entry that is not taken, and the number of the piece.
    heads: BinaryHeap<Reverse<(Key, u32, usize)>>,
}

impl InTurn {
    pub(super) fn is_empty(&self) -> bool {
        self.fresh.is_empty() && self.heads.is_empty()
    }

    pub(super) fn push(&mut self, at: u32) {
        self.fresh.push(at);
    }

    pub(super) fn clear(&mut self) {
        *self = Self::default();
    }

    /// Sorts a piece of what came, where there is a whole one or nothing else. To be called before entries are
    /// taken; `key` finds the key of an entry.
    pub(super) fn sort(&mut self, key: impl Fn(u32) -> Option<Key>) {
        let is_last = self.heads.is_empty();
        if self.fresh.is_empty() || (self.fresh.len() < PIECE && !is_last) {
            return;
        }
        if is_last {
            self.pieces.clear();
        }
        let rest = self.fresh.len().saturating_sub(PIECE);
        let mut piece = self.fresh.split_off(rest);
        if rest == 0 {
            self.fresh = Vec::new();
        }
        // What was forgotten meanwhile goes first.
        piece.retain(|at| key(*at).is_some());
        piece.sort_by_cached_key(|at| key(*at));
        let mut piece = piece.into_iter();
        if let Some(at) = piece.next() {
            let head = (key(at).expect("it was retained"), at, self.pieces.len());
            self.heads.push(Reverse(head));
            self.pieces.push(piece);
        }
    }

    /// Takes the next of what is sorted.
    pub(super) fn pop(&mut self, key: impl Fn(u32) -> Option<Key>) -> Option<u32> {
        let Reverse((_, at, piece)) = self.heads.pop()?;
        let rest = self.pieces[piece].by_ref();
        if let Some((key, next)) = rest.find_map(|next| Some((key(next)?, next))) {
            self.heads.push(Reverse((key, next, piece)));
        }
        Some(at)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use relay_core::types::Prefix;

    fn key(at: u32) -> Option<Key> {
        let address = std::net::Ipv6Addr::from_bits(u128::from(at.reverse_bits()));
        Some((Prefix::host(address), 1))
    }

    fn taken(queue: &mut InTurn, key: impl Fn(u32) -> Option<Key>) -> Vec<u32> {
        let mut taken = Vec::new();
        while !queue.is_empty() {
            queue.sort(&key);
            while let Some(at) = queue.pop(&key) {
                taken.push(at);
                queue.sort(&key);
            }
        }
        taken
    }

    #[test]
    fn many_come_out_once_each_and_in_order_as_far_as_they_were_sorted_together() {
        let mut queue = InTurn::default();
        let count = 3 * PIECE as u32 + 5;
        (0..count).for_each(|at| queue.push(at));

        let taken = taken(&mut queue, key);

        let mut sorted: Vec<u32> = (0..count).collect();
        sorted.sort_by_key(|at| key(*at));
        let steps = taken.windows(2).filter(|two| key(two[0]) > key(two[1]));
        assert!(steps.count() <= 4, "a piece or two come too late");
        let mut all = taken.clone();
        all.sort_by_key(|at| key(*at));
        assert_eq!(all, sorted);
    }

    #[test]
    fn what_comes_later_and_is_forgotten_meanwhile_holds_nothing_up() {
        let mut queue = InTurn::default();
        [4, 2, 6].into_iter().for_each(|at| queue.push(at));
        queue.sort(key);
        queue.push(1);
        let only = |at: u32| key(at).filter(|_| at != 6);

        assert_eq!(queue.pop(only), Some(4));
        let rest = taken(&mut queue, only);

        assert_eq!(rest, [2, 1]);
    }
}
