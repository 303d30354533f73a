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

/// What a map holds for a binding.
pub(super) fn binding(entry: &ForwardingEntry, slot: u32) -> Binding {
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
