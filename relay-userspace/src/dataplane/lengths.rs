//! Which lengths of prefixes are in use, by where their addresses look for them (`prefix_lengths`).
//!
//! A prefix of 48 bits and more belongs to one cell, a shorter one to each cell that it covers. Decides which
//! cells change; must not know how they are written.

use relay_common::abi::{LENGTHS_MAX, PrefixLengths};
use relay_common::maps::{PREFIX_LENGTHS_CAPACITY, lengths_place};
use relay_core::types::Prefix;

/// Bits of an address that choose its cell.
const CHOOSING_BITS: u8 = 48;
/// A prefix of so many bits and fewer covers as many values of those as there are cells, or more: it
/// belongs to all.
const EVERYWHERE_BITS: u8 = CHOOSING_BITS - PREFIX_LENGTHS_CAPACITY.ilog2() as u8;

/// How many entries of each length there are.
#[derive(Debug)]
pub(super) struct Lengths {
    /// By cell, the longest first.
    cells: Vec<Vec<(u8, u32)>>,
    /// Of all cells.
    everywhere: Vec<(u8, u32)>,
}

/// One more length does not fit into a cell.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct TooMany;

impl Lengths {
    pub(super) fn new() -> Self {
        Self {
            cells: vec![Vec::new(); PREFIX_LENGTHS_CAPACITY],
            everywhere: Vec::new(),
        }
    }

    /// One more entry. Cells that change are added to `changed`.
    pub(super) fn add(&mut self, prefix: Prefix, changed: &mut Vec<u32>) -> Result<(), TooMany> {
        let bits = prefix.bits();
        let cells = Cells::of(prefix);
        let is_new = |counts: &[(u8, u32)]| counts.iter().all(|(length, _)| *length != bits);
        if cells.clone().any(|cell| {
            is_new(&self.everywhere)
                && is_new(&self.cells[cell as usize])
                && self.lengths(cell).count() >= LENGTHS_MAX
        }) {
            return Err(TooMany);
        }
        if bits <= EVERYWHERE_BITS {
            if is_new(&self.everywhere) {
                changed.extend(cells);
            }
            count(&mut self.everywhere, bits);
            return Ok(());
        }
        for cell in cells {
            if is_new(&self.cells[cell as usize]) {
                changed.push(cell);
            }
            count(&mut self.cells[cell as usize], bits);
        }
        Ok(())
    }

    /// One entry less.
    pub(super) fn remove(&mut self, prefix: Prefix, changed: &mut Vec<u32>) {
        let bits = prefix.bits();
        if bits <= EVERYWHERE_BITS {
            if uncount(&mut self.everywhere, bits) {
                changed.extend(Cells::of(prefix));
            }
            return;
        }
        for cell in Cells::of(prefix) {
            if uncount(&mut self.cells[cell as usize], bits) {
                changed.push(cell);
            }
        }
    }

    /// What a cell is to hold.
    pub(super) fn cell(&self, cell: u32) -> PrefixLengths {
        PrefixLengths::new(self.lengths(cell))
    }

    /// Each once, the longest first.
    fn lengths(&self, cell: u32) -> impl Iterator<Item = u8> {
        let (mut own, mut all) = (&self.cells[cell as usize][..], &self.everywhere[..]);
        std::iter::from_fn(move || {
            let longest = own.first().max(all.first())?.0;
            for list in [&mut own, &mut all] {
                if list.first().is_some_and(|(length, _)| *length == longest) {
                    *list = &list[1..];
                }
            }
            Some(longest)
        })
    }
}

fn count(counts: &mut Vec<(u8, u32)>, bits: u8) {
    match counts.binary_search_by(|(length, _)| bits.cmp(length)) {
        Ok(at) => counts[at].1 += 1,
        Err(at) => counts.insert(at, (bits, 1)),
    }
}

/// Whether that was the last one of this length.
fn uncount(counts: &mut Vec<(u8, u32)>, bits: u8) -> bool {
    let Ok(at) = counts.binary_search_by(|(length, _)| bits.cmp(length)) else {
        return false;
    };
    counts[at].1 -= 1;
    let is_last = counts[at].1 == 0;
    if is_last {
        counts.remove(at);
    }
    is_last
}

/// The cells of a prefix, each once.
#[derive(Clone)]
struct Cells {
    all: std::ops::Range<u32>,
    some: std::vec::IntoIter<u32>,
}

impl Cells {
    fn of(prefix: Prefix) -> Self {
        let bits = prefix.bits();
        let first = (prefix.address().to_bits() >> 64) as u64;
        if bits <= EVERYWHERE_BITS {
            return Self {
                all: 0..PREFIX_LENGTHS_CAPACITY as u32,
                some: Vec::new().into_iter(),
            };
        }
        let values = 1u64 << CHOOSING_BITS.saturating_sub(bits);
        let step = 1u64 << (64 - CHOOSING_BITS);
        let mut some: Vec<u32> = (0..values)
            .map(|value| lengths_place(first + value * step))
            .collect();
        some.sort_unstable();
        some.dedup();
        Self {
            all: 0..0,
            some: some.into_iter(),
        }
    }
}

impl Iterator for Cells {
    type Item = u32;

    fn next(&mut self) -> Option<u32> {
        self.all.next().or_else(|| self.some.next())
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::net::Ipv6Addr;

    use proptest::prelude::*;

    use super::*;

    fn prefix(text: &str) -> Prefix {
        let (address, bits) = text.split_once('/').unwrap();
        Prefix::new(address.parse().unwrap(), bits.parse().unwrap()).unwrap()
    }

    fn cell_of(address: Ipv6Addr) -> u32 {
        lengths_place((address.to_bits() >> 64) as u64)
    }

    fn lengths_at(lengths: &Lengths, address: Ipv6Addr) -> Vec<u8> {
        let cell = lengths.cell(cell_of(address)).lengths;
        cell.into_iter().take_while(|length| *length > 0).collect()
    }

    #[test]
    fn cell_changes_with_its_first_and_its_last_entry_of_a_length() {
        let mut lengths = Lengths::new();
        let (one, other) = (prefix("2001:db8:1:100::/56"), prefix("2001:db8:1:200::/56"));
        let cell = cell_of(one.address());
        let mut changed = Vec::new();

        lengths.add(one, &mut changed).unwrap();
        assert_eq!(std::mem::take(&mut changed), [cell]);
        lengths.add(other, &mut changed).unwrap();
        lengths.remove(one, &mut changed);
        assert!(changed.is_empty());
        assert_eq!(lengths_at(&lengths, other.address()), [56]);
        lengths.remove(other, &mut changed);
        assert_eq!(changed, [cell]);
        assert!(lengths_at(&lengths, other.address()).is_empty());
    }

    #[test]
    fn more_lengths_than_a_cell_holds_are_refused_and_leave_nothing_behind() {
        let mut lengths = Lengths::new();
        let mut changed = Vec::new();
        for bits in 60..68 {
            let prefix = Prefix::new("2001:db8::".parse().unwrap(), bits).unwrap();
            lengths.add(prefix, &mut changed).unwrap();
        }
        changed.clear();
        // It would have to be in a full cell and in many that are not.
        for refused in ["2001:db8::/40", "2001:db8::/20", "2001:db8::1/128"] {
            assert_eq!(lengths.add(prefix(refused), &mut changed), Err(TooMany));
        }
        assert!(changed.is_empty());
        assert_eq!(
            lengths_at(&lengths, "2001:db8::".parse().unwrap()),
            [67, 66, 65, 64, 63, 62, 61, 60]
        );
        let other = "2001:db8:1::".parse().unwrap();
        assert!(lengths_at(&lengths, other).is_empty());
    }

    proptest! {
        /// Every address finds exactly the lengths of the prefixes around it, or more, the longest first.
        #[test]
        fn addresses_find_the_lengths_of_their_prefixes(
            ops in proptest::collection::vec((any::<bool>(), 0u128..64, 1u8..=128), 0..40),
            tails in proptest::collection::vec(any::<u128>(), 8),
        ) {
            let mut lengths = Lengths::new();
            let mut model: BTreeMap<Prefix, u32> = BTreeMap::new();
            let mut written: BTreeMap<u32, PrefixLengths> = BTreeMap::new();
            for (adds, n, bits) in ops {
                let address = Ipv6Addr::from_bits(0x2001_0db8_u128 << 96 | n << 77);
                let prefix = Prefix::new(address, bits).unwrap();
                let mut changed = Vec::new();
                if adds {
                    if lengths.add(prefix, &mut changed).is_ok() {
                        *model.entry(prefix).or_default() += 1;
                    }
                } else if let Some(count) = model.get_mut(&prefix).filter(|count| **count > 0) {
                    *count -= 1;
                    lengths.remove(prefix, &mut changed);
                }
                for cell in changed {
                    written.insert(cell, lengths.cell(cell));
                }
            }
            for (prefix, _) in model.iter().filter(|(_, count)| **count > 0) {
                let tails = tails.iter().map(|tail| {
                    let mask = u128::MAX.checked_shr(prefix.bits().into()).unwrap_or(0);
                    Ipv6Addr::from_bits(prefix.address().to_bits() | tail & mask)
                });
                for address in tails {
                    let cell = written[&cell_of(address)];
                    prop_assert!(cell.lengths.contains(&prefix.bits()), "{prefix} at {address}");
                    prop_assert!(cell.lengths.windows(2).all(|it| it[0] > it[1] || it[1] == 0));
                }
            }
            // Nothing stays of what is gone.
            for prefix in model.iter().flat_map(|(prefix, count)| (0..*count).map(move |_| *prefix)) {
                lengths.remove(prefix, &mut Vec::new());
            }
            for cell in 0..PREFIX_LENGTHS_CAPACITY as u32 {
                prop_assert_eq!(lengths.cell(cell), PrefixLengths::default());
            }
        }
    }
}
