//! Loads the embedded object: maps are adopted from pins where their layout is exactly the
//! object's, else made anew.

use std::net::Ipv6Addr;
use std::os::fd::AsFd;

use anyhow::{Context, anyhow};
use aya::maps::lpm_trie::{Key, LpmTrie};
use aya::maps::xdp::DevMapHash;
use aya::maps::{Array, HashMap, Map, MapData, MapInfo, RingBuf};
use aya::programs::Xdp;
use aya::{Ebpf, EbpfLoader};
use relay_common::{abi, maps};
use relay_core::types::{IfIndex, Prefix};

use super::handle::{CounterMaps, Objects};
use super::kernel_info::{ProgramInfo, RingFill};
use super::kernel_maps::KernelMaps;
use super::object::object;
use super::pins::Pins;
use super::{Role, Wanted};

/// Programs and maps in the kernel.
pub(super) struct Loaded {
    ebpf: Ebpf,
    interfaces: HashMap<MapData, u32, abi::Interface>,
    own_addresses: HashMap<MapData, abi::OwnAddress, u32>,
    source_allow: LpmTrie<MapData, abi::AllowedSource, u32>,
    egress: DevMapHash<MapData>,
    daemon: Array<MapData, abi::Daemon>,
    /// What `daemon` holds.
    said: abi::Daemon,
    /// Captured frames.
    pub(super) ring: RingBuf<MapData>,
    counters: Option<CounterMaps>,
    /// None of the maps is an earlier daemon's.
    pub(super) is_fresh: bool,
}

/// How large the maps of bindings are.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Sizes {
    /// Entries of each map.
    pub(super) bindings: u32,
    /// Places for counts; the first is nobody's.
    pub(super) slots: u32,
}

impl Loaded {
    /// Loads and verifies; attaches nothing.
    pub(super) fn load(pins: &mut Pins, sizes: Sizes) -> anyhow::Result<Self> {
        let object = object().ok_or_else(|| {
            anyhow!("this build has no kernel programs in it (cargo xtask build-ebpf makes them)")
        })?;
        pins.prepare();
        let is_fresh = !are_adopted(object, pins, sizes)?;
        let mut loader = loader(sizes);
        for name in maps::PINNED {
            if let Some(path) = pins.map(name) {
                loader.map_pin_path(name, path);
            }
        }
        let mut ebpf = loader.load(object).context("load the kernel programs")?;
        for name in [maps::ACCESS_INGRESS, maps::CORE_INGRESS] {
            program(&mut ebpf, name)?
                .load()
                .with_context(|| format!("the kernel refuses the program {name}"))?;
        }
        let counters = CounterMaps {
            drops: take(&mut ebpf, maps::DROP_COUNTERS)?.try_into()?,
            packets: take(&mut ebpf, maps::XDP_PACKETS)?.try_into()?,
        };
        Ok(Self {
            interfaces: take(&mut ebpf, maps::INTERFACES)?.try_into()?,
            own_addresses: take(&mut ebpf, maps::OWN_ADDRESSES)?.try_into()?,
            source_allow: take(&mut ebpf, maps::SOURCE_ALLOW)?.try_into()?,
            egress: take(&mut ebpf, maps::EGRESS)?.try_into()?,
            daemon: take(&mut ebpf, maps::DAEMON)?.try_into()?,
            said: abi::Daemon {
                layout: abi::LAYOUT,
                quiet: 0,
                heartbeat_boot_nanos: 0,
                ready: 0,
                data_path: 0,
            },
            ring: take(&mut ebpf, maps::DHCP_FRAMES)?.try_into()?,
            counters: Some(counters),
            is_fresh,
            ebpf,
        })
    }

    /// The maps of counters, once.
    pub(super) fn counters(&mut self) -> Option<CounterMaps> {
        self.counters.take()
    }

    pub(super) fn program(&mut self, role: Role) -> &mut Xdp {
        program(&mut self.ebpf, role.program()).expect("it was there when it was loaded")
    }

    /// What `show dataplane` asks the kernel about.
    pub(super) fn objects(&mut self) -> Objects {
        let ring = RingFill::map(self.ring.as_fd(), maps::DHCP_FRAMES_BYTES as u64);
        let programs = Role::ALL.into_iter().filter_map(|role| {
            let program = program(&mut self.ebpf, role.program()).ok()?;
            let info = ProgramInfo::new(program.fd().ok()?).ok()?;
            Some((role.program(), info))
        });
        Objects {
            programs: programs.collect(),
            ring: ring.ok(),
        }
    }

    /// The maps of bindings.
    pub(super) fn kernel_maps(&self) -> anyhow::Result<KernelMaps> {
        KernelMaps::new(&self.ebpf)
    }

    /// Sources that need no binding, by interface.
    pub(super) fn write_source_allow(&mut self, wanted: &[(IfIndex, Prefix)]) {
        let key = |(interface, prefix): &(IfIndex, Prefix)| {
            let data = abi::AllowedSource {
                ifindex: interface.0,
                address_be: prefix.address().octets(),
            };
            Key::new(abi::ALLOWED_SOURCE_BITS + u32::from(prefix.bits()), data)
        };
        let is_same = |one: &Key<abi::AllowedSource>, other: &Key<abi::AllowedSource>| {
            (one.prefix_len(), one.data()) == (other.prefix_len(), other.data())
        };
        let keys: Vec<_> = wanted.iter().map(key).collect();
        let known: Vec<_> = self.source_allow.keys().flatten().collect();
        for new in &keys {
            report(maps::SOURCE_ALLOW, self.source_allow.insert(new, 1, 0));
        }
        for stale in known {
            if !keys.iter().any(|key| is_same(key, &stale)) {
                report(maps::SOURCE_ALLOW, self.source_allow.remove(&stale));
            }
        }
    }

    /// Interfaces that packets may be sent out of without the kernel.
    pub(super) fn write_egress(&mut self, wanted: &[u32]) {
        let known: Vec<u32> = self.egress.keys().flatten().collect();
        for stale in known.iter().filter(|key| !wanted.contains(key)) {
            report(maps::EGRESS, self.egress.remove(*stale));
        }
        for ifindex in wanted {
            if let Err(error) = self.egress.insert(*ifindex, *ifindex, None, 0) {
                tracing::warn!(map = maps::EGRESS, %error, "cannot write to a kernel map");
            }
        }
    }

    /// Entries of interfaces that are not wanted go, an entry that changed is replaced whole.
    /// Returns the interfaces that had none.
    pub(super) fn write_interfaces(&mut self, wanted: &[Wanted<'_>]) -> Vec<u32> {
        let known: Vec<u32> = self.interfaces.keys().flatten().collect();
        for key in &known {
            if wanted.iter().all(|port| port.ifindex.0 != *key) {
                report(maps::INTERFACES, self.interfaces.remove(key));
            }
        }
        for port in wanted {
            report(
                maps::INTERFACES,
                self.interfaces.insert(port.ifindex.0, port.entry, 0),
            );
        }
        let ports = wanted.iter().map(|port| port.ifindex.0);
        ports.filter(|ifindex| !known.contains(ifindex)).collect()
    }

    /// The same for addresses.
    pub(super) fn write_own_addresses(&mut self, own: &[(Ipv6Addr, IfIndex)]) {
        let stale: Vec<abi::OwnAddress> = self
            .own_addresses
            .keys()
            .flatten()
            .filter(|key| {
                own.iter()
                    .all(|(address, _)| address.octets() != key.address_be)
            })
            .collect();
        for key in stale {
            report(maps::OWN_ADDRESSES, self.own_addresses.remove(&key));
        }
        for (address, interface) in own {
            let key = abi::OwnAddress {
                address_be: address.octets(),
            };
            report(
                maps::OWN_ADDRESSES,
                self.own_addresses.insert(key, interface.0, 0),
            );
        }
    }

    pub(super) fn write_heartbeat(&mut self, now_nanos: u64) {
        self.said.heartbeat_boot_nanos = now_nanos;
        self.write_daemon();
    }

    pub(super) fn write_quiet(&mut self, is_quiet: bool) {
        self.said.quiet = u32::from(is_quiet);
        self.write_daemon();
    }

    pub(super) const fn is_quiet(&self) -> bool {
        self.said.quiet != 0
    }

    /// Whether the table of bindings is complete, and whether anything but DHCPv6 is looked at.
    pub(super) fn write_state(&mut self, ready: Option<bool>, data_path: Option<bool>) {
        let before = self.said;
        self.said.ready = ready.map_or(before.ready, u32::from);
        self.said.data_path = data_path.map_or(before.data_path, u32::from);
        if self.said != before {
            self.write_daemon();
        }
    }

    fn write_daemon(&mut self) {
        report(maps::DAEMON, self.daemon.set(0, self.said, 0));
    }
}

/// Maps of bindings as large as they are to be.
fn loader(sizes: Sizes) -> EbpfLoader<'static> {
    let mut loader = EbpfLoader::new();
    for map in [maps::ADDR_BINDINGS, maps::PREFIX_BINDINGS] {
        loader.map_max_entries(map, sizes.bindings);
    }
    loader.map_max_entries(maps::BINDING_STATS, sizes.slots);
    loader
}

fn program<'a>(ebpf: &'a mut Ebpf, name: &str) -> anyhow::Result<&'a mut Xdp> {
    let program = ebpf
        .program_mut(name)
        .with_context(|| format!("the object has no program {name}"))?;
    Ok(program.try_into()?)
}

fn take(ebpf: &mut Ebpf, name: &str) -> anyhow::Result<Map> {
    ebpf.take_map(name)
        .with_context(|| format!("the object has no map {name}"))
}

/// A map that cannot be written leaves the kernel with less than it should know: frames then pass
/// to the stack, where sockets have them.
fn report(map: &str, result: Result<(), aya::maps::MapError>) {
    if let Err(error) = result {
        tracing::warn!(map, error = %error, "cannot write to a kernel map");
    }
}

/// aya adopts a pinned map without looking at it: a daemon with other structs would make the
/// kernel read past the end of ours. Pins whose layout is not exactly the object's are taken away.
fn are_adopted(object: &[u8], pins: &Pins, sizes: Sizes) -> anyhow::Result<bool> {
    let pinned: Vec<_> = maps::PINNED
        .iter()
        .filter_map(|name| Some((name, pins.map(name).filter(|path| path.exists())?)))
        .collect();
    if pinned.is_empty() {
        return Ok(false);
    }
    // What the object makes in a kernel that holds nothing of ours is what must be there.
    let fresh = loader(sizes)
        .load(object)
        .context("load the kernel programs")?;
    let fits = pinned.iter().all(|(name, path)| {
        let theirs = MapInfo::from_pin(path).ok();
        let ours = fresh
            .map(name)
            .and_then(data)
            .and_then(|map| map.info().ok());
        theirs
            .zip(ours)
            .is_some_and(|(theirs, ours)| shape(&theirs) == shape(&ours))
    });
    if fits && pinned.len() == maps::PINNED.len() && layout(pins).is_ok_and(is_ours) {
        tracing::info!("adopted the maps of an earlier daemon");
        return Ok(true);
    }
    tracing::info!("the pinned maps are of another version or size: starting afresh");
    pins.remove_maps();
    Ok(false)
}

/// Zero: no daemon ever wrote there.
const fn is_ours(layout: u32) -> bool {
    layout == 0 || layout == abi::LAYOUT
}

fn layout(pins: &Pins) -> anyhow::Result<u32> {
    let path = pins.map(maps::DAEMON).context("nothing is pinned")?;
    let map = Map::from_map_data(MapData::from_pin(path)?)?;
    let daemon: Array<MapData, abi::Daemon> = map.try_into()?;
    Ok(daemon.get(&0, 0)?.layout)
}

fn shape(info: &MapInfo) -> (Option<aya::maps::MapType>, u32, u32, u32, u32) {
    (
        info.map_type().ok(),
        info.key_size(),
        info.value_size(),
        info.max_entries(),
        info.map_flags(),
    )
}

/// The kinds of maps that the object has.
pub(super) const fn data(map: &Map) -> Option<&MapData> {
    match map {
        Map::Array(data)
        | Map::HashMap(data)
        | Map::LruHashMap(data)
        | Map::PerCpuArray(data)
        | Map::PerCpuHashMap(data)
        | Map::LpmTrie(data)
        | Map::DevMapHash(data)
        | Map::RingBuf(data) => Some(data),
        _ => None,
    }
}
