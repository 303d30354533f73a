//! What a table of bindings writes, against maps in memory that check at each step what a packet would find.

use std::collections::{BTreeMap, BTreeSet};
use std::io;

use proptest::prelude::*;
use relay_common::abi::{BINDING_ROUTED, Binding, BindingStats, PrefixLengths};
use relay_common::net::{MacAddr, TPID_8021AD, TPID_8021Q, VlanTag, VlanTags};
use relay_core::effect::{ForwardingChange, ForwardingEntry};
use relay_core::time::Instant;
use relay_core::types::{IfIndex, Prefix};

use super::kernel_maps::plus;
use super::lengths::Lengths;
use super::slots::GONE;
use super::table::{Maps, Refusal, Table, binding};
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
    let mut before = table(&mut maps, 10);
    assert!(write(&mut before, &mut maps, &[put(A, 1)]));
    let unsound = binding(&entry(B, 1), GONE);
    maps.entries.insert(prefix(B), unsound);

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
        ops in proptest::collection::vec(
            (0u8..8, 0u64..3, proptest::collection::vec((any::<bool>(), 0u32..12, 0u64..4), 0..5)),
            1..30,
        ),
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
