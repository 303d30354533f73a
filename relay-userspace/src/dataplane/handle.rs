//! The programs' counters, for metrics and `show dataplane`: read from the maps when asked.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard};

use aya::maps::{MapData, PerCpuArray, PerCpuValues};
use relay_common::abi::{Refused, XdpPackets};
use relay_common::maps::{DropReason, packets_place};

use crate::control::view::{DataplaneCounters, DataplaneView};

/// Reads the kernel programs' counters from any thread; cheap to clone.
#[derive(Clone, Default)]
pub struct DataplaneHandle(Arc<Mutex<Shared>>);

#[derive(Default)]
struct Shared {
    maps: Option<CounterMaps>,
    names: HashMap<u32, String>,
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
        let shared = self.lock();
        let Some(maps) = &shared.maps else {
            return DataplaneCounters::default();
        };
        let mut counters = DataplaneCounters::default();
        for &reason in DropReason::ALL {
            let (mut dropped, mut passed) = (0, 0);
            if let Ok(values) = maps.drops.get(&(reason as u32), 0) {
                for cpu in values.iter() {
                    dropped += cpu.dropped;
                    passed += cpu.passed;
                }
            }
            match reason {
                DropReason::RingFull => counters.ring_lost = passed,
                // These are left to the kernel's stack, always.
                DropReason::NoHeartbeat | DropReason::Oversized => {}
                _ => counters.drops.push((reason.name().to_owned(), dropped)),
            }
        }
        for (ifindex, name) in &shared.names {
            let packets = maps
                .packets
                .get(&packets_place(*ifindex), 0)
                .map_or_else(|_| XdpPackets::default(), sum);
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
