//! Bindings in the kernel: from what the core tells to the writes that make the maps say so.
//!
//! The maps are the state; beside them there is a bit for each slot and the lengths in use, both found again
//! from the maps by the next daemon. Decides what is written in which order, what does not fit, and which
//! entries nobody told of. Must not know how maps are written ([`Maps`]).
//!
//! Order: an entry is found only where its length is in its cell, so the cell comes first and goes last; its
//! counts are zero before it is there.

use std::collections::BTreeMap;
use std::io;

use relay_common::abi::{BINDING_ROUTED, Binding, BindingStats, PrefixLengths};
use relay_common::maps::PREFIX_LENGTHS_CAPACITY;
use relay_core::effect::{ForwardingChange, ForwardingEntry};
use relay_core::time::Instant;
use relay_core::types::Prefix;

use super::kernel_maps::plus;
use super::lengths::{Lengths, TooMany};
use super::slots::{GONE, Slots};
use crate::wall_time::boot_nanos;

/// Refused prefixes that are remembered one by one.
const REFUSED_MAX: usize = 1024;

/// The maps of bindings.
pub(super) trait Maps {
    /// Where a walk over all entries stands.
    type Place: Copy + Default;

    fn get(&mut self, prefix: Prefix) -> io::Result<Option<Binding>>;
    /// Adds or replaces; tells which could not be.
    fn put(&mut self, entries: &[(Prefix, Binding)], failed: &mut dyn FnMut(usize, io::Error));
    fn remove(&mut self, prefix: Prefix) -> io::Result<()>;
    /// Appends some entries; where the next ones begin, `None` after the last.
    fn walk(
        &mut self,
        from: Self::Place,
        found: &mut Vec<(Prefix, Binding)>,
    ) -> io::Result<Option<Self::Place>>;
    fn put_lengths(&mut self, cells: &[(u32, PrefixLengths)]) -> io::Result<()>;
    /// What was counted in a slot, on all CPUs.
    fn stats(&mut self, slot: u32) -> io::Result<BindingStats>;
    /// Zeroes the counts of slots.
    fn clear_stats(&mut self, slots: &[u32]) -> io::Result<()>;
    /// Adds to the counts of a slot.
    fn add_stats(&mut self, slot: u32, more: BindingStats) -> io::Result<()>;
}

/// Why there is no entry for a binding; the kernel's route is there all the same.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Refusal {
    /// No room in a map.
    Full,
    /// More lengths of prefixes than an address is looked up by.
    Lengths,
}

impl Refusal {
    /// The label of counters.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Full => "map_full",
            Self::Lengths => "prefix_lengths",
        }
    }
}

/// What is known beside the maps.
#[derive(Debug)]
pub(super) struct Table {
    slots: Slots,
    lengths: Lengths,
    refused: BTreeMap<Prefix, Refusal>,
    /// So far, with those not remembered.
    refusals: u64,
    /// Room for a round's work.
    puts: Vec<(Prefix, Binding)>,
    /// Of `puts`, which are new.
    is_new: Vec<bool>,
    cells: Vec<u32>,
    dirty: Vec<u32>,
    gone: Vec<u32>,
}

/// What a write has come to.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub(super) struct Written {
    /// Something could not be read or written: everything has to be told again.
    pub(super) has_failed: bool,
}

impl Table {
    /// Of maps with so many slots. `is_fresh`: there is nothing in them.
    ///
    /// # Errors
    /// What is there could not be read or put in order.
    pub(super) fn open(maps: &mut impl Maps, slots: u32, is_fresh: bool) -> io::Result<Self> {
        let mut table = Self {
            slots: Slots::new(slots, is_fresh),
            lengths: Lengths::new(),
            refused: BTreeMap::new(),
            refusals: 0,
            puts: Vec::new(),
            is_new: Vec::new(),
            cells: Vec::new(),
            dirty: Vec::new(),
            gone: Vec::new(),
        };
        if !is_fresh {
            table.adopt(maps)?;
        }
        Ok(table)
    }

    /// Finds out what an earlier daemon left. It may have ended between any two writes.
    fn adopt(&mut self, maps: &mut impl Maps) -> io::Result<()> {
        let mut next = Some(Default::default());
        let mut found = Vec::new();
        while let Some(from) = next {
            next = maps.walk(from, &mut found)?;
            for (prefix, binding) in found.drain(..) {
                let is_sound = self.slots.adopt(binding.slot);
                if !is_sound || self.lengths.add(prefix, &mut self.cells).is_err() {
                    if is_sound {
                        self.slots.free(binding.slot);
                    }
                    maps.remove(prefix)?;
                }
            }
        }
        self.cells.clear();
        self.cells.extend(0..PREFIX_LENGTHS_CAPACITY as u32);
        self.write_cells(maps)
    }

    /// How many entries there are.
    pub(super) const fn len(&self) -> usize {
        self.slots.len()
    }

    /// Prefixes that have no entry, at most [`REFUSED_MAX`] of them, and why.
    pub(super) const fn refused(&self) -> &BTreeMap<Prefix, Refusal> {
        &self.refused
    }

    /// How many were refused so far.
    pub(super) const fn refusals(&self) -> u64 {
        self.refusals
    }

    /// Everything is told from now on.
    pub(super) fn begin_telling(&mut self) {
        self.slots.confirm_none();
    }

    /// Makes the maps say what was told. Several changes of one prefix are its last one.
    // req: PDR-R-3
    pub(super) fn write(
        &mut self,
        maps: &mut impl Maps,
        changes: &mut Vec<ForwardingChange>,
    ) -> Written {
        let mut written = Written::default();
        if changes.len() > 1 {
            changes.sort_by_key(ForwardingChange::prefix);
        }
        let mut at = 0;
        while let Some(change) = changes.get(at) {
            at += 1;
            let is_last = changes
                .get(at)
                .is_none_or(|next| next.prefix() != change.prefix());
            if is_last {
                let done = match change {
                    ForwardingChange::Put(entry) => self.prepare(maps, entry),
                    ForwardingChange::Remove { prefix } => self.remove(maps, *prefix),
                };
                written.has_failed |= done.is_err();
            }
        }
        changes.clear();
        written.has_failed |= self.put(maps).is_err();
        written.has_failed |= self.retire(maps).is_err();
        written
    }

    /// Finds the entry that is there, or makes room for one.
    fn prepare(&mut self, maps: &mut impl Maps, entry: &ForwardingEntry) -> io::Result<()> {
        let prefix = entry.prefix;
        if let Some(old) = maps.get(prefix)? {
            let new = binding(entry, old.slot);
            self.slots.confirm(old.slot);
            if new != old {
                self.puts.push((prefix, new));
                self.is_new.push(false);
            }
            return Ok(());
        }
        let Some((slot, is_clean)) = self.slots.take() else {
            self.refuse(prefix, Refusal::Full);
            return Ok(());
        };
        if let Err(TooMany) = self.lengths.add(prefix, &mut self.cells) {
            self.slots.free(slot);
            self.refuse(prefix, Refusal::Lengths);
            return Ok(());
        }
        if !is_clean {
            self.dirty.push(slot);
        }
        self.slots.confirm(slot);
        self.puts.push((prefix, binding(entry, slot)));
        self.is_new.push(true);
        Ok(())
    }

    /// Writes what was prepared.
    fn put(&mut self, maps: &mut impl Maps) -> io::Result<()> {
        let mut result = self.write_cells(maps);
        if !self.dirty.is_empty() {
            result = result.and(maps.clear_stats(&self.dirty));
            self.dirty.clear();
        }
        let mut failed = Vec::new();
        maps.put(&self.puts, &mut |at, error| failed.push((at, error)));
        let mut failed = failed.into_iter().peekable();
        for at in 0..self.puts.len() {
            let (prefix, binding) = self.puts[at];
            let Some((_, error)) = failed.next_if(|(it, _)| *it == at) else {
                if !self.refused.is_empty() {
                    self.refused.remove(&prefix);
                }
                continue;
            };
            if self.is_new[at] {
                self.slots.free(binding.slot);
                self.lengths.remove(prefix, &mut self.cells);
            } else {
                // What is there says what is not true any more.
                result = result.and(self.remove(maps, prefix));
            }
            if error.raw_os_error() == Some(libc::E2BIG) {
                self.refuse(prefix, Refusal::Full);
            } else {
                tracing::warn!(%prefix, %error, "cannot write a binding to the kernel's map");
                result = Err(error);
            }
        }
        self.puts.clear();
        self.is_new.clear();
        result.and(self.write_cells(maps))
    }

    /// Takes an entry away; its counts go when all are away.
    fn remove(&mut self, maps: &mut impl Maps, prefix: Prefix) -> io::Result<()> {
        self.refused.remove(&prefix);
        let Some(old) = maps.get(prefix)? else {
            return Ok(());
        };
        maps.remove(prefix)?;
        self.lengths.remove(prefix, &mut self.cells);
        self.gone.push(old.slot);
        Ok(())
    }

    /// Cells and counts of entries that are gone. What was counted is kept in the sum of all.
    fn retire(&mut self, maps: &mut impl Maps) -> io::Result<()> {
        let mut result = self.write_cells(maps);
        if self.gone.is_empty() {
            return result;
        }
        let mut sum = BindingStats::default();
        for slot in &self.gone {
            match maps.stats(*slot) {
                Ok(stats) => sum = plus(sum, &stats),
                Err(error) => result = Err(error),
            }
            self.slots.free(*slot);
        }
        if sum != BindingStats::default() {
            result = result.and(maps.clear_stats(&self.gone));
            result = result.and(maps.add_stats(GONE, sum));
        }
        self.gone.clear();
        result
    }

    fn write_cells(&mut self, maps: &mut impl Maps) -> io::Result<()> {
        if self.cells.is_empty() {
            return Ok(());
        }
        self.cells.sort_unstable();
        self.cells.dedup();
        let lengths = &self.lengths;
        let cells: Vec<_> = self
            .cells
            .drain(..)
            .map(|at| (at, lengths.cell(at)))
            .collect();
        maps.put_lengths(&cells)
    }

    /// Removes some entries that nobody told of since the telling began: where the next ones begin. `all`: else
    /// only those that are over at `now`.
    pub(super) fn remove_orphans<M: Maps>(
        &mut self,
        maps: &mut M,
        from: M::Place,
        all: bool,
        now: Instant,
    ) -> io::Result<Option<M::Place>> {
        let mut found = Vec::new();
        let next = maps.walk(from, &mut found)?;
        for (prefix, binding) in found {
            let is_meant = all || binding.valid_until_boot_nanos <= boot_nanos(now);
            if is_meant && !self.slots.is_confirmed(binding.slot) {
                self.remove(maps, prefix)?;
            }
        }
        self.retire(maps)?;
        Ok(next)
    }

    fn refuse(&mut self, prefix: Prefix, why: Refusal) {
        self.refusals += 1;
        let is_known = self.refused.contains_key(&prefix);
        if !is_known && self.refused.len() < REFUSED_MAX {
            self.refused.insert(prefix, why);
            tracing::warn!(
                %prefix, reason = why.name(),
                "a binding has no entry in the kernel's maps: its route is there, but the source guard does not know it"
            );
        }
    }
}

fn binding(entry: &ForwardingEntry, slot: u32) -> Binding {
    let (outer, inner) = (entry.vlans.outer(), entry.vlans.inner());
    Binding {
        valid_until_boot_nanos: match entry.valid_until {
            Instant::NEVER => u64::MAX,
            until => boot_nanos(until),
        },
        ifindex: entry.interface.0,
        slot,
        client_mac: entry.mac.0,
        outer_tpid: outer.map_or(0, |tag| tag.tpid),
        outer_vid: outer.map_or(0, |tag| tag.vid),
        inner_tpid: inner.map_or(0, |tag| tag.tpid),
        inner_vid: inner.map_or(0, |tag| tag.vid),
        flags: if entry.is_routed { BINDING_ROUTED } else { 0 },
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;
    use relay_common::net::{MacAddr, TPID_8021AD, TPID_8021Q, VlanTag, VlanTags};
    use relay_core::types::IfIndex;

    use super::*;
    use crate::wall_time::at_boot_nanos;

    /// Maps in memory. Checks at each step what a packet would find.
    #[derive(Default)]
    struct Memory {
        entries: BTreeMap<Prefix, Binding>,
        cells: BTreeMap<u32, PrefixLengths>,
        stats: BTreeMap<u32, BindingStats>,
        room: usize,
        /// What the next writes of entries fail with.
        broken: bool,
        written: usize,
    }

    impl Memory {
        fn new(room: usize) -> Self {
            Self {
                room,
                ..Self::default()
            }
        }

        /// Every entry can be found, by a length in its cell, and has counts of its own.
        fn check(&self) {
            let mut slots = BTreeSet::new();
            for (prefix, binding) in &self.entries {
                assert!(slots.insert(binding.slot), "two entries have one slot");
                assert_ne!(binding.slot, GONE);
                let mut lengths = Lengths::new();
                let mut cells = Vec::new();
                lengths.add(*prefix, &mut cells).unwrap();
                for cell in cells {
                    let found = self
                        .cells
                        .get(&cell)
                        .is_some_and(|it| it.lengths.contains(&prefix.bits()));
                    assert!(found, "{prefix} is not found in cell {cell}");
                }
            }
        }

        fn slot(&self, text: &str) -> u32 {
            self.entries[&prefix(text)].slot
        }

        fn count(&mut self, text: &str, packets: u64) {
            let slot = self.slot(text);
            self.stats.entry(slot).or_default().rx_packets += packets;
        }
    }

    impl Maps for Memory {
        type Place = usize;

        fn get(&mut self, prefix: Prefix) -> io::Result<Option<Binding>> {
            Ok(self.entries.get(&prefix).copied())
        }

        fn put(&mut self, entries: &[(Prefix, Binding)], failed: &mut dyn FnMut(usize, io::Error)) {
            for (at, (prefix, binding)) in entries.iter().enumerate() {
                if self.broken {
                    failed(at, io::Error::from_raw_os_error(libc::ENOMEM));
                    continue;
                }
                if self.entries.len() >= self.room && !self.entries.contains_key(prefix) {
                    failed(at, io::Error::from_raw_os_error(libc::E2BIG));
                    continue;
                }
                let is_new = self.entries.insert(*prefix, *binding).is_none();
                let counted = self.stats.get(&binding.slot).copied().unwrap_or_default();
                assert!(
                    !is_new || counted == BindingStats::default(),
                    "counts of another"
                );
                self.written += 1;
                self.check();
            }
        }

        fn remove(&mut self, prefix: Prefix) -> io::Result<()> {
            self.entries.remove(&prefix);
            self.check();
            Ok(())
        }

        fn walk(
            &mut self,
            from: usize,
            found: &mut Vec<(Prefix, Binding)>,
        ) -> io::Result<Option<usize>> {
            let all = self.entries.iter().skip(from).take(2);
            found.extend(all.map(|(prefix, binding)| (*prefix, *binding)));
            Ok((from + 2 < self.entries.len()).then_some(from + 2))
        }

        fn put_lengths(&mut self, cells: &[(u32, PrefixLengths)]) -> io::Result<()> {
            self.cells.extend(cells.iter().copied());
            self.check();
            Ok(())
        }

        fn stats(&mut self, slot: u32) -> io::Result<BindingStats> {
            Ok(self.stats.get(&slot).copied().unwrap_or_default())
        }

        fn clear_stats(&mut self, slots: &[u32]) -> io::Result<()> {
            for slot in slots {
                self.stats.remove(slot);
            }
            Ok(())
        }

        fn add_stats(&mut self, slot: u32, more: BindingStats) -> io::Result<()> {
            let stats = self.stats.entry(slot).or_default();
            *stats = plus(*stats, &more);
            Ok(())
        }
    }

    fn prefix(text: &str) -> Prefix {
        let (address, bits) = text.split_once('/').unwrap();
        Prefix::new(address.parse().unwrap(), bits.parse().unwrap()).unwrap()
    }

    fn entry(text: &str, until: u64) -> ForwardingEntry {
        ForwardingEntry {
            prefix: prefix(text),
            interface: IfIndex(3),
            vlans: VlanTags::NONE,
            mac: MacAddr([2, 0, 0, 0, 0, 1]),
            valid_until: at_boot_nanos(until),
            is_routed: true,
        }
    }

    fn put(text: &str, until: u64) -> ForwardingChange {
        ForwardingChange::Put(entry(text, until))
    }

    fn remove(text: &str) -> ForwardingChange {
        ForwardingChange::Remove {
            prefix: prefix(text),
        }
    }

    fn write(table: &mut Table, maps: &mut Memory, changes: &[ForwardingChange]) -> bool {
        let written = table.write(maps, &mut changes.to_vec());
        maps.check();
        assert_eq!(table.len(), maps.entries.len());
        !written.has_failed
    }

    fn table(maps: &mut Memory, slots: u32) -> Table {
        Table::open(maps, slots, true).unwrap()
    }

    const A: &str = "2001:db8:1:100::/56";
    const B: &str = "2001:db8:1:200::/56";
    const C: &str = "2001:db8::7/128";

    #[test]
    fn entry_says_what_was_told() {
        let tag = |tpid, vid| VlanTag { tpid, vid };
        let entry = ForwardingEntry {
            vlans: VlanTags::double(tag(TPID_8021AD, 7), tag(TPID_8021Q, 9)),
            valid_until: Instant::NEVER,
            ..entry(A, 0)
        };

        let binding = binding(&entry, 5);

        assert_eq!(
            binding,
            Binding {
                valid_until_boot_nanos: u64::MAX,
                ifindex: 3,
                slot: 5,
                client_mac: [2, 0, 0, 0, 0, 1],
                outer_tpid: TPID_8021AD,
                outer_vid: 7,
                inner_tpid: TPID_8021Q,
                inner_vid: 9,
                flags: BINDING_ROUTED,
            }
        );
    }

    #[test]
    fn renewed_entry_keeps_its_slot_and_its_counts() {
        let mut maps = Memory::new(10);
        let mut table = table(&mut maps, 10);
        assert!(write(&mut table, &mut maps, &[put(A, 1), put(C, 1)]));
        maps.count(A, 7);
        let slot = maps.slot(A);

        assert!(write(&mut table, &mut maps, &[put(A, 2)]));

        assert_eq!(maps.slot(A), slot);
        assert_eq!(maps.entries[&prefix(A)].valid_until_boot_nanos, 2);
        assert_eq!(maps.stats[&slot].rx_packets, 7);
        let written = maps.written;
        assert!(write(&mut table, &mut maps, &[put(A, 2)]));
        assert_eq!(
            maps.written, written,
            "what is there already is not written"
        );
    }

    #[test]
    fn several_changes_of_one_prefix_are_its_last_one() {
        let mut maps = Memory::new(10);
        let mut table = table(&mut maps, 10);

        write(
            &mut table,
            &mut maps,
            &[put(A, 1), remove(A), put(B, 1), put(A, 3), remove(B)],
        );

        assert_eq!(
            maps.entries.keys().copied().collect::<Vec<_>>(),
            [prefix(A)]
        );
        assert_eq!(maps.entries[&prefix(A)].valid_until_boot_nanos, 3);
    }

    #[test]
    fn counts_of_an_entry_that_goes_stay_in_the_sum_and_its_slot_starts_at_zero() {
        let mut maps = Memory::new(10);
        let mut table = table(&mut maps, 2);
        write(&mut table, &mut maps, &[put(A, 1)]);
        maps.count(A, 7);

        write(&mut table, &mut maps, &[remove(A)]);
        assert!(write(&mut table, &mut maps, &[put(B, 1)]));
        maps.count(B, 1);
        write(&mut table, &mut maps, &[remove(B)]);

        assert_eq!(maps.stats[&GONE].rx_packets, 8);
        assert!(
            maps.cells
                .values()
                .all(|it| *it == PrefixLengths::default())
        );
    }

    #[test]
    fn full_map_refuses_the_new_entry_and_takes_it_when_there_is_room() {
        let mut maps = Memory::new(1);
        let mut table = table(&mut maps, 10);
        write(&mut table, &mut maps, &[put(A, 1)]);

        assert!(
            write(&mut table, &mut maps, &[put(B, 1)]),
            "that is no failure"
        );
        assert_eq!(table.refused().get(&prefix(B)), Some(&Refusal::Full));
        assert_eq!(table.refusals(), 1);
        assert!(write(&mut table, &mut maps, &[put(A, 2), remove(A)]));
        assert!(write(&mut table, &mut maps, &[put(B, 1)]));

        assert!(table.refused().is_empty());
        assert_eq!(maps.entries.len(), 1);
    }

    #[test]
    fn no_slot_is_a_full_map_too() {
        let mut maps = Memory::new(10);
        let mut table = table(&mut maps, 2);

        write(&mut table, &mut maps, &[put(A, 1), put(B, 1)]);

        assert_eq!(maps.entries.len(), 1);
        assert_eq!(
            table.refused().values().copied().collect::<Vec<_>>(),
            [Refusal::Full]
        );
    }

    #[test]
    fn failed_write_is_told_and_leaves_no_trace() {
        let mut maps = Memory::new(10);
        let mut table = table(&mut maps, 10);
        write(&mut table, &mut maps, &[put(A, 1)]);
        maps.broken = true;

        assert!(!write(&mut table, &mut maps, &[put(A, 2), put(B, 1)]));

        // What said something else is gone: the kernel's route still leads there.
        assert!(maps.entries.is_empty());
        maps.broken = false;
        assert!(write(&mut table, &mut maps, &[put(A, 2), put(B, 1)]));
        assert_eq!(maps.entries.len(), 2);
    }

    #[test]
    fn entries_nobody_tells_of_go_after_everything_was_told() {
        let mut maps = Memory::new(10);
        let mut before = table(&mut maps, 10);
        write(&mut before, &mut maps, &[put(A, 5), put(B, 50), put(C, 5)]);
        maps.count(A, 3);

        let mut table = Table::open(&mut maps, 10, false).unwrap();
        table.begin_telling();
        write(&mut table, &mut maps, &[put(A, 5)]);
        let tidy = |table: &mut Table, maps: &mut Memory, all| {
            let mut from = Some(0);
            while let Some(at) = from {
                from = table
                    .remove_orphans(maps, at, all, at_boot_nanos(10))
                    .unwrap();
            }
            maps.check();
        };

        // Without a memory of its own a relay takes only what is over.
        tidy(&mut table, &mut maps, false);
        let left: Vec<_> = maps.entries.keys().copied().collect();
        assert_eq!(left, [prefix(A), prefix(B)]);
        assert_eq!(maps.stats[&maps.slot(A)].rx_packets, 3, "carried over");
        tidy(&mut table, &mut maps, true);
        assert_eq!(maps.entries.len(), 1);
    }

    #[test]
    fn adopted_entries_that_cannot_be_sound_go() {
        let mut maps = Memory::new(10);
        let (one, other) = (binding(&entry(A, 1), 1), binding(&entry(B, 1), GONE));
        maps.entries.insert(prefix(A), one);
        maps.entries.insert(prefix(B), other);

        let table = Table::open(&mut maps, 10, false).unwrap();

        assert_eq!(table.len(), 1);
        assert_eq!(
            maps.entries.keys().copied().collect::<Vec<_>>(),
            [prefix(A)]
        );
        maps.check();
    }

    proptest! {
        /// Whatever is told, with daemons that begin anew in between: the maps say the last of it, each entry can be
        /// found, and nothing that was counted is lost.
        #[test]
        fn maps_say_what_was_told(
            ops in proptest::collection::vec((0u8..8, 0u64..3, proptest::collection::vec((any::<bool>(), 0u32..12, 0u64..4), 0..5)), 1..30),
        ) {
            let lengths = [56, 64, 48, 40, 30, 128];
            let of = |n: u32| {
                let bits = lengths[n as usize % lengths.len()];
                let address = 0x2001_0db8_u128 << 96 | u128::from(n) << 90 | 1;
                Prefix::new(std::net::Ipv6Addr::from_bits(address), bits).unwrap()
            };
            let mut maps = Memory::new(20);
            let mut table = table(&mut maps, 20);
            let mut model: BTreeMap<Prefix, u64> = BTreeMap::new();
            let mut counted = 0;
            for (restart, packets, changes) in ops {
                if restart == 0 {
                    table = Table::open(&mut maps, 20, false).unwrap();
                }
                let changes: Vec<_> = changes.into_iter().map(|(is_put, n, until)| {
                    let prefix = of(n);
                    if is_put {
                        model.insert(prefix, until);
                        ForwardingChange::Put(ForwardingEntry { prefix, ..entry(A, until) })
                    } else {
                        model.remove(&prefix);
                        ForwardingChange::Remove { prefix }
                    }
                }).collect();
                prop_assert!(write(&mut table, &mut maps, &changes));
                let there: BTreeMap<_, _> = maps.entries.iter()
                    .map(|(prefix, binding)| (*prefix, binding.valid_until_boot_nanos)).collect();
                prop_assert_eq!(&there, &model);
                for binding in maps.entries.values() {
                    maps.stats.entry(binding.slot).or_default().tx_packets += packets;
                    counted += packets;
                }
                let sum: u64 = maps.stats.values().map(|it| it.tx_packets).sum();
                prop_assert_eq!(sum, counted);
            }
        }
    }
}
