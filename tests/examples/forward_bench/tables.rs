//! The maps of twinrelay's own programs, filled as the daemon would.

use std::collections::BTreeMap;
use std::net::Ipv6Addr;
use std::time::{Duration, Instant};

use anyhow::Context;
use aya::Ebpf;
use aya::maps::xdp::DevMapHash;
use aya::maps::{Array, HashMap, MapData};
use relay_common::abi::{
    AddressKey, BINDING_ROUTED, Binding, FLAG_FORWARD, INTERFACE_MACS, Interface, PrefixKey,
    PrefixLengths, ROLE_ACCESS, ROLE_CORE,
};
use relay_common::maps::{self, lengths_place};

use crate::network::Network;

/// Address and prefix of a client.
pub fn leases(client: u64) -> (Ipv6Addr, Ipv6Addr) {
    let client = u128::from(client);
    (
        Ipv6Addr::from_bits((0x2001_0db8_000a_0001_8000 << 48) | client),
        Ipv6Addr::from_bits((0x2001_0db8_d000 << 80) + (client << 72)),
    )
}

/// The object with room for so many bindings.
pub fn load(bindings: u64) -> anyhow::Result<Ebpf> {
    let room = u32::try_from(bindings)?.max(1024);
    super::load("relay", |loader| {
        loader
            .map_max_entries(maps::ADDR_BINDINGS, room)
            .map_max_entries(maps::PREFIX_BINDINGS, room)
            .map_max_entries(maps::BINDING_STATS, room)
    })
}

/// Fills the maps; how long that took for the bindings.
pub fn fill(ebpf: &mut Ebpf, network: &Network, bindings: u64) -> anyhow::Result<Duration> {
    let mut interfaces: HashMap<_, u32, Interface> = take(ebpf, maps::INTERFACES)?;
    for (ifindex, role, last) in [
        (network.core, ROLE_CORE, [0xc0, 0xfe]),
        (network.access, ROLE_ACCESS, [0, 0xfe]),
    ] {
        let mut macs = [[0; 6]; INTERFACE_MACS];
        macs[0] = [2, 0, 0, 0, last[0], last[1]];
        let entry = Interface {
            role,
            flags: FLAG_FORWARD,
            client_rate: 0,
            interface_rate: 0,
            mac_count: 1,
            macs,
            mtu: 1500,
        };
        interfaces.insert(ifindex, entry, 0)?;
    }
    let mut egress: DevMapHash<MapData> =
        ebpf.take_map(maps::EGRESS).context("egress")?.try_into()?;
    egress.insert(network.access, network.access, None, 0)?;
    let mut addresses: HashMap<_, AddressKey, Binding> = take(ebpf, maps::ADDR_BINDINGS)?;
    let mut prefixes: HashMap<_, PrefixKey, Binding> = take(ebpf, maps::PREFIX_BINDINGS)?;
    let mut places: BTreeMap<u32, Vec<u8>> = BTreeMap::new();
    let begin = Instant::now();
    for client in 0..bindings / 2 {
        let (address, prefix) = leases(client);
        let slot = u32::try_from(client * 2)?;
        for (lease, bits) in [(address, 128), (prefix, 56)] {
            let first = (lease.to_bits() >> 64) as u64;
            let lengths = places.entry(lengths_place(first)).or_default();
            if !lengths.contains(&bits) {
                lengths.push(bits);
            }
        }
        let address_be = address.octets();
        addresses.insert(AddressKey { address_be }, binding(network, slot), 0)?;
        let address_be = prefix.octets();
        let key = PrefixKey {
            address_be,
            bits: 56,
        };
        prefixes.insert(key, binding(network, slot + 1), 0)?;
    }
    let elapsed = begin.elapsed();
    let lengths = ebpf.take_map(maps::PREFIX_LENGTHS).context("lengths")?;
    let mut lengths: Array<_, PrefixLengths> = lengths.try_into()?;
    for (place, mut of) in places {
        of.sort_unstable_by(|a, b| b.cmp(a));
        lengths.set(place, PrefixLengths::new(of), 0)?;
    }
    Ok(elapsed)
}

fn binding(network: &Network, slot: u32) -> Binding {
    Binding {
        valid_until_boot_nanos: u64::MAX,
        ifindex: network.access,
        slot,
        client_mac: [2, 0, 0, 0, 0, 1],
        outer_tpid: 0,
        outer_vid: 0,
        inner_tpid: 0,
        inner_vid: 0,
        flags: BINDING_ROUTED,
    }
}

fn take<K: aya::Pod, V: aya::Pod>(
    ebpf: &mut Ebpf,
    name: &str,
) -> anyhow::Result<HashMap<MapData, K, V>> {
    Ok(ebpf.take_map(name).context("map")?.try_into()?)
}
