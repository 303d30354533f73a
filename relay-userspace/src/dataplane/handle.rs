//! The programs' counters, for metrics and `show dataplane`: read from the maps when asked.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, Instant};

use aya::maps::{MapData, PerCpuArray, PerCpuValues};
use relay_common::abi::{BindingStats, Refused, XdpPackets};
use relay_common::maps::{DropReason, packets_place};
use relay_core::types::Prefix;

use super::Role;
use super::bindings::Numbers;
use super::kernel_info::{ProgramInfo, RingFill};
use super::kernel_maps::KernelMaps;
use crate::control::dataplane::{
    BindingEntries, DataplaneState, MapRow, MountedRow, ProgramRow, RefusedRow, RingRow, Traffic,
};
use crate::control::view::{DataplaneCounters, DataplaneView};

/// How old the sum over all bindings may be.
const TOTAL_AGE: Duration = Duration::from_secs(5);

/// Reads the kernel programs' counters from any thread; cheap to clone.
#[derive(Clone, Default)]
pub struct DataplaneHandle(Arc<Mutex<Shared>>);

#[derive(Default)]
struct Shared {
    maps: Option<CounterMaps>,
    names: HashMap<u32, String>,
    bindings: Option<(KernelMaps, Arc<Numbers>)>,
    /// Interfaces that packets are sent out of without the kernel's stack.
    egress: Vec<u32>,
    objects: Objects,
    mounted: Vec<Mounted>,
    total: Option<(Instant, Traffic)>,
}

/// What the kernel is asked about when somebody wants to see it.
#[derive(Default)]
pub(super) struct Objects {
    pub(super) programs: Vec<(&'static str, ProgramInfo)>,
    pub(super) ring: Option<RingFill>,
}

/// A program on an interface.
#[derive(Clone, Copy)]
pub(super) struct Mounted {
    pub(super) role: Role,
    pub(super) ifindex: u32,
    pub(super) mode: &'static str,
}

/// The maps that the programs write.
pub(super) struct CounterMaps {
    pub(super) drops: PerCpuArray<MapData, Refused>,
    pub(super) packets: PerCpuArray<MapData, XdpPackets>,
}

impl DataplaneHandle {
    pub(super) fn set_maps(&self, maps: Option<CounterMaps>) {
        self.lock().maps = maps;
    }

    pub(super) fn set_names(&self, names: HashMap<u32, String>) {
        self.lock().names = names;
    }

    pub(super) fn set_bindings(&self, bindings: Option<(KernelMaps, Arc<Numbers>)>) {
        self.lock().bindings = bindings;
    }

    pub(super) fn set_objects(&self, objects: Objects) {
        self.lock().objects = objects;
    }

    pub(super) fn set_mounted(&self, mounted: Vec<Mounted>) {
        self.lock().mounted = mounted;
    }

    pub(super) fn set_egress(&self, egress: Vec<u32>) {
        self.lock().egress = egress;
    }

    /// Zeroes what an interface that is gone left where this one will count.
    pub(super) fn start_counting(&self, ifindex: u32) {
        let zeros = aya::util::nr_cpus()
            .ok()
            .and_then(|cpus| PerCpuValues::try_from(vec![XdpPackets::default(); cpus]).ok());
        if let (Some(maps), Some(zeros)) = (&mut self.lock().maps, zeros)
            && let Err(error) = maps.packets.set(packets_place(ifindex), zeros, 0)
        {
            tracing::warn!(%error, "the counters of an interface do not start at zero");
        }
    }

    pub(super) fn clear(&self) {
        *self.lock() = Shared::default();
    }

    fn lock(&self) -> MutexGuard<'_, Shared> {
        self.0.lock().expect("no holder of this lock panics")
    }
}

impl DataplaneView for DataplaneHandle {
    fn read(&self) -> DataplaneCounters {
        let mut shared = self.lock();
        let mut counters = DataplaneCounters {
            traffic: shared.total(),
            entries: shared.entries(),
            ..DataplaneCounters::default()
        };
        let Some(maps) = &shared.maps else {
            return counters;
        };
        for &reason in DropReason::ALL {
            let (dropped, passed) = maps.reason(reason);
            if reason == DropReason::RingFull {
                counters.ring_lost = passed;
                continue;
            }
            let row = |count| (reason.name().to_owned(), count);
            // These are left to the kernel's stack, always.
            if !matches!(reason, DropReason::NoHeartbeat | DropReason::Oversized) {
                counters.drops.push(row(dropped));
            }
            counters.passes.push(row(passed));
        }
        for (ifindex, name) in &shared.names {
            let packets = maps.packets_of(*ifindex);
            for (action, count) in [
                ("pass", packets.passed),
                ("ring", packets.captured),
                ("drop", packets.dropped),
                ("redirect", packets.forwarded),
            ] {
                counters
                    .packets
                    .push((name.clone(), action.to_owned(), count));
            }
        }
        counters.packets.sort();
        counters
    }

    fn traffic(&self, prefixes: &mut dyn Iterator<Item = Prefix>) -> Vec<Traffic> {
        let mut shared = self.lock();
        let Some((maps, _)) = &mut shared.bindings else {
            return prefixes.map(|_| Traffic::default()).collect();
        };
        prefixes
            .map(|prefix| match maps.counts(prefix) {
                Ok(Some(stats)) => traffic(stats),
                Ok(None) | Err(_) => Traffic::default(),
            })
            .collect()
    }

    fn describe(&self) -> DataplaneState {
        let shared = self.lock();
        let programs = shared.objects.programs.iter();
        let programs = programs.filter_map(|(name, info)| {
            let told = info.read().ok()?;
            Some(ProgramRow {
                name: (*name).to_owned(),
                id: told.id,
                tag: told.tag,
                run_count: told.run_count,
                run_nanoseconds: told.run_nanos,
            })
        });
        let mounted = shared.mounted.iter().map(|it| MountedRow {
            interface: shared.names.get(&it.ifindex).cloned().unwrap_or_default(),
            role: it.role.name().to_owned(),
            index: it.ifindex,
            mode: it.mode.to_owned(),
            sends: shared.egress.contains(&it.ifindex),
        });
        let ring = shared.objects.ring.as_ref();
        DataplaneState {
            programs: programs.collect(),
            interfaces: mounted.collect(),
            maps: shared.bindings.as_ref().map_or(Vec::new(), |(maps, _)| {
                let rows = maps.memory().into_iter();
                let rows = rows.map(|(name, memory)| MapRow {
                    name: name.to_owned(),
                    memory,
                });
                rows.collect()
            }),
            bindings: shared.bindings.as_ref().map(|(_, numbers)| {
                let refused = numbers
                    .refused
                    .lock()
                    .expect("no holder of this lock panics");
                let refused = refused.iter().map(|(prefix, why)| RefusedRow {
                    prefix: prefix.to_string(),
                    reason: why.name().to_owned(),
                });
                BindingEntries {
                    entries: numbers.entries.load(Ordering::Relaxed),
                    limit: numbers.limit.load(Ordering::Relaxed),
                    refused_total: numbers.refusals.load(Ordering::Relaxed),
                    write_failures: numbers.failures.load(Ordering::Relaxed),
                    refused: refused.collect(),
                }
            }),
            ring: ring.map(|ring| RingRow {
                bytes: ring.bytes,
                used: ring.used(),
            }),
        }
    }
}

impl Shared {
    /// Of all leases that there ever were, as it was some seconds ago at most: a walk over a million takes a tenth
    /// of a second.
    fn total(&mut self) -> Option<Traffic> {
        let (maps, _) = self.bindings.as_mut()?;
        if let Some((at, total)) = self.total
            && at.elapsed() < TOTAL_AGE
        {
            return Some(total);
        }
        let total = traffic(maps.total().ok()?);
        self.total = Some((Instant::now(), total));
        Some(total)
    }

    fn entries(&self) -> Option<(u64, u64, u64)> {
        let (_, numbers) = self.bindings.as_ref()?;
        let read = |number: &AtomicU64| number.load(Ordering::Relaxed);
        Some((
            read(&numbers.entries),
            read(&numbers.limit),
            read(&numbers.refusals),
        ))
    }
}

impl CounterMaps {
    /// Packets that met a reason: dropped, passed.
    fn reason(&self, reason: DropReason) -> (u64, u64) {
        let Ok(values) = self.drops.get(&(reason as u32), 0) else {
            return (0, 0);
        };
        values.iter().fold((0, 0), |(dropped, passed), cpu| {
            (dropped + cpu.dropped, passed + cpu.passed)
        })
    }

    fn packets_of(&self, ifindex: u32) -> XdpPackets {
        self.packets
            .get(&packets_place(ifindex), 0)
            .map_or_else(|_| XdpPackets::default(), sum)
    }
}

const fn traffic(stats: BindingStats) -> Traffic {
    Traffic {
        rx_packets: stats.rx_packets,
        rx_bytes: stats.rx_bytes,
        tx_packets: stats.tx_packets,
        tx_bytes: stats.tx_bytes,
    }
}

fn sum(values: PerCpuValues<XdpPackets>) -> XdpPackets {
    values
        .iter()
        .fold(XdpPackets::default(), |sum, cpu| XdpPackets {
            passed: sum.passed + cpu.passed,
            captured: sum.captured + cpu.captured,
            dropped: sum.dropped + cpu.dropped,
            forwarded: sum.forwarded + cpu.forwarded,
        })
}
