//! The maps of bindings as the kernel has them: addresses in one, prefixes in the other, counts beside.

use std::io;

use anyhow::Context;
use aya::Ebpf;
use aya::maps::MapData;
use relay_common::abi::{AddressKey, Binding, BindingStats, PrefixKey, PrefixLengths};
use relay_common::maps;
use relay_core::types::Prefix;

use super::bpf::{Place, RawMap};
use super::kernel_info::memory_of;
use super::load::{Sizes, data};
use super::table::Maps;

/// Entries that a walk reads at once.
const WALK: usize = 4096;
/// An element of a hash with what the kernel keeps of it: 48 bytes, key of 20 and value of 32, in a block of 128.
const ENTRY_BYTES: u64 = 128;
/// Bits of an address.
const ADDRESS_BITS: u8 = 128;

/// All of them.
pub(super) struct KernelMaps {
    addresses: RawMap<AddressKey, Binding>,
    prefixes: RawMap<PrefixKey, Binding>,
    lengths: RawMap<u32, PrefixLengths>,
    stats: RawMap<u32, BindingStats>,
    one: Vec<Binding>,
    per_cpu: Vec<BindingStats>,
}

/// Where a walk over both maps stands.
#[derive(Clone, Copy, Default)]
pub(super) struct Walk {
    is_among_prefixes: bool,
    place: Place,
}

impl KernelMaps {
    /// Those that were loaded.
    ///
    /// # Errors
    /// The object has no such maps.
    pub(super) fn new(ebpf: &Ebpf) -> anyhow::Result<Self> {
        let map = |name: &str| -> anyhow::Result<&MapData> {
            let map = ebpf.map(name).and_then(data);
            map.with_context(|| format!("the object has no map {name}"))
        };
        Ok(Self {
            addresses: RawMap::new(map(maps::ADDR_BINDINGS)?)?,
            prefixes: RawMap::new(map(maps::PREFIX_BINDINGS)?)?,
            lengths: RawMap::new(map(maps::PREFIX_LENGTHS)?)?,
            stats: RawMap::new(map(maps::BINDING_STATS)?)?,
            one: Vec::new(),
            per_cpu: Vec::new(),
        })
    }

    /// The same maps, for another thread.
    pub(super) fn try_clone(&self) -> io::Result<Self> {
        Ok(Self {
            addresses: self.addresses.try_clone()?,
            prefixes: self.prefixes.try_clone()?,
            lengths: self.lengths.try_clone()?,
            stats: self.stats.try_clone()?,
            one: Vec::new(),
            per_cpu: Vec::new(),
        })
    }

    /// Kernel memory of each map.
    pub(super) fn memory(&self) -> [(&'static str, Option<u64>); 4] {
        [
            (maps::ADDR_BINDINGS, memory_of(self.addresses.fd())),
            (maps::PREFIX_BINDINGS, memory_of(self.prefixes.fd())),
            (maps::PREFIX_LENGTHS, memory_of(self.lengths.fd())),
            (maps::BINDING_STATS, memory_of(self.stats.fd())),
        ]
    }

    /// What they take now, and what they will take when they are full.
    pub(super) fn tell_memory(&self, sizes: Sizes) {
        let now: u64 = self.memory().iter().filter_map(|(_, bytes)| *bytes).sum();
        let full = now + u64::from(sizes.bindings) * ENTRY_BYTES;
        tracing::info!(
            bindings = sizes.bindings,
            now_mib = now >> 20,
            full_mib = full >> 20,
            "maps of bindings"
        );
    }

    /// What was counted for a lease, where it has an entry.
    pub(super) fn counts(&mut self, prefix: Prefix) -> io::Result<Option<BindingStats>> {
        let binding = self.get(prefix)?;
        binding.map(|it| self.stats(it.slot)).transpose()
    }

    /// What was counted for all leases that there ever were.
    pub(super) fn total(&mut self) -> io::Result<BindingStats> {
        let (mut slots, mut place) = (Vec::new(), Place::default());
        let mut total = BindingStats::default();
        loop {
            self.per_cpu.clear();
            slots.clear();
            let is_more = self
                .stats
                .walk(&mut place, WALK, &mut slots, &mut self.per_cpu)?;
            total = self.per_cpu.iter().fold(total, plus);
            if !is_more {
                return Ok(total);
            }
        }
    }
}

impl Maps for KernelMaps {
    type Place = Walk;

    fn get(&mut self, prefix: Prefix) -> io::Result<Option<Binding>> {
        self.one.clear();
        match prefix.bits() {
            ADDRESS_BITS => self.addresses.get(&address_key(prefix), &mut self.one)?,
            _ => self.prefixes.get(&prefix_key(prefix), &mut self.one)?,
        };
        Ok(self.one.pop())
    }

    fn put(&mut self, entries: &[(Prefix, Binding)], failed: &mut dyn FnMut(usize, io::Error)) {
        // One of these is the rule: a Reply brings an address, a prefix, or one of each.
        let of = |is_address: bool| {
            let places = entries.iter().enumerate();
            let places = places
                .filter(move |(_, (prefix, _))| (prefix.bits() == ADDRESS_BITS) == is_address);
            places.map(|(at, (prefix, binding))| (at, *prefix, *binding))
        };
        let mut errors = Vec::new();
        let (keys, values): (Vec<_>, Vec<_>) = of(true)
            .map(|(_, prefix, binding)| (address_key(prefix), binding))
            .unzip();
        let places: Vec<_> = of(true).map(|(at, ..)| at).collect();
        let failed_at = |at: usize, error| errors.push((places[at], error));
        self.addresses.put_many(&keys, &values, failed_at);
        let (keys, values): (Vec<_>, Vec<_>) = of(false)
            .map(|(_, prefix, binding)| (prefix_key(prefix), binding))
            .unzip();
        let places: Vec<_> = of(false).map(|(at, ..)| at).collect();
        let failed_at = |at: usize, error| errors.push((places[at], error));
        self.prefixes.put_many(&keys, &values, failed_at);
        errors.sort_by_key(|(at, _)| *at);
        for (at, error) in errors {
            failed(at, error);
        }
    }

    fn remove(&mut self, prefix: Prefix) -> io::Result<()> {
        match prefix.bits() {
            ADDRESS_BITS => self.addresses.remove(&address_key(prefix)),
            _ => self.prefixes.remove(&prefix_key(prefix)),
        }?;
        Ok(())
    }

    fn walk(
        &mut self,
        mut from: Walk,
        found: &mut Vec<(Prefix, Binding)>,
    ) -> io::Result<Option<Walk>> {
        let mut values = Vec::new();
        if from.is_among_prefixes {
            let mut keys: Vec<PrefixKey> = Vec::new();
            let place = &mut from.place;
            let is_more = self.prefixes.walk(place, WALK, &mut keys, &mut values)?;
            let prefixes = keys.iter().map(|key| {
                let bits = u8::try_from(key.bits).ok();
                let prefix = bits.and_then(|bits| Prefix::new(key.address_be.into(), bits));
                // No daemon writes such a key; nobody finds it either.
                prefix.unwrap_or(Prefix::host(key.address_be.into()))
            });
            found.extend(prefixes.zip(values));
            return Ok(is_more.then_some(from));
        }
        let mut keys: Vec<AddressKey> = Vec::new();
        let place = &mut from.place;
        let is_more = self.addresses.walk(place, WALK, &mut keys, &mut values)?;
        let prefixes = keys.iter().map(|key| Prefix::host(key.address_be.into()));
        found.extend(prefixes.zip(values));
        Ok(Some(match is_more {
            true => from,
            false => Walk {
                is_among_prefixes: true,
                place: Place::default(),
            },
        }))
    }

    fn put_lengths(&mut self, cells: &[(u32, PrefixLengths)]) -> io::Result<()> {
        let (keys, values): (Vec<_>, Vec<_>) = cells.iter().copied().unzip();
        let mut result = Ok(());
        self.lengths
            .put_many(&keys, &values, |_, error| result = Err(error));
        result
    }

    fn stats(&mut self, slot: u32) -> io::Result<BindingStats> {
        self.per_cpu.clear();
        self.stats.get(&slot, &mut self.per_cpu)?;
        Ok(self.per_cpu.iter().fold(BindingStats::default(), plus))
    }

    fn clear_stats(&mut self, slots: &[u32]) -> io::Result<()> {
        let zeros = vec![BindingStats::default(); slots.len() * self.stats.per_key()];
        let mut result = Ok(());
        self.stats
            .put_many(slots, &zeros, |_, error| result = Err(error));
        result
    }

    fn add_stats(&mut self, slot: u32, more: BindingStats) -> io::Result<()> {
        self.per_cpu.clear();
        self.stats.get(&slot, &mut self.per_cpu)?;
        if let Some(first) = self.per_cpu.first_mut() {
            *first = plus(*first, &more);
        }
        self.stats.put(&slot, &self.per_cpu)
    }
}

/// The counts of both.
pub(super) fn plus(one: BindingStats, other: &BindingStats) -> BindingStats {
    BindingStats {
        rx_packets: one.rx_packets + other.rx_packets,
        rx_bytes: one.rx_bytes + other.rx_bytes,
        tx_packets: one.tx_packets + other.tx_packets,
        tx_bytes: one.tx_bytes + other.tx_bytes,
    }
}

fn address_key(prefix: Prefix) -> AddressKey {
    AddressKey {
        address_be: prefix.address().octets(),
    }
}

fn prefix_key(prefix: Prefix) -> PrefixKey {
    PrefixKey {
        address_be: prefix.address().octets(),
        bits: prefix.bits().into(),
    }
}
