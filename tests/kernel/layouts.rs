//! What a person sees of the kernel objects, and what must match relay-common: field names in BTF,
//! sizes and capacities of maps, licence, and the verifier's work.

use std::process::Command;

use aya::maps::{Map, MapInfo};
use relay_common::abi;
use relay_common::maps::{self, DROP_REASONS};

use crate::harness::{Kernel, object_path, skip};

/// The verifier's limit is a million; this is where to look why it grew.
const VERIFIED_INSTRUCTIONS_MAX: u32 = 100_000;

#[test]
fn object_names_every_field_and_map_in_btf() {
    let path = object_path();
    if !path.exists() {
        skip("no kernel object; run `cargo xtask build-ebpf`");
        return;
    }
    let Ok(output) = Command::new("bpftool")
        .args(["btf", "dump", "file"])
        .arg(&path)
        .output()
    else {
        skip("bpftool is not installed");
        return;
    };
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{output:?}");

    for field in [
        "role",
        "flags",
        "client_rate",
        "interface_rate",
        "mac_count",
        "macs",
        "address_be",
        "layout",
        "heartbeat_boot_nanos",
        "passed",
        "forwarded",
        "valid_until_boot_nanos",
        "slot",
        "lengths",
        "rx_packets",
        "tx_bytes",
        "captured",
        "dropped",
        "outer_vid",
        "inner_vid",
        "kind",
        "client",
        "full_at_boot_nanos",
        "received_at_boot_nanos",
        "ifindex",
        "frame_bytes",
        "client_mac",
        "outer_tpid",
        "outer_tci",
        "inner_tpid",
        "inner_tci",
        "ip_offset",
    ] {
        assert!(text.contains(&format!("'{field}' type_id")), "{field}");
    }
    assert!(text.contains("DATASEC '.maps'"));
    for map in maps::PINNED {
        assert!(text.contains(&format!("VAR '{map}'")), "{map}");
    }
}

#[test]
fn maps_have_the_sizes_that_both_sides_expect() {
    let Some(kernel) = Kernel::load(1 << 16) else {
        return;
    };

    let expected = [
        (
            maps::INTERFACES,
            4,
            size_of::<abi::Interface>(),
            maps::INTERFACES_CAPACITY,
        ),
        (maps::OWN_ADDRESSES, 16, 4, maps::OWN_ADDRESSES_CAPACITY),
        (maps::DAEMON, 4, size_of::<abi::Daemon>(), 1),
        (maps::DROP_COUNTERS, 4, 16, DROP_REASONS),
        (
            maps::XDP_PACKETS,
            4,
            size_of::<abi::XdpPackets>(),
            maps::XDP_PACKETS_CAPACITY,
        ),
        (
            maps::CLIENT_RATE,
            size_of::<abi::ClientKey>(),
            8,
            maps::CLIENT_RATE_CAPACITY,
        ),
        (maps::INTERFACE_RATE, 4, 8, maps::INTERFACE_RATE_CAPACITY),
        (maps::SCRATCH, 4, size_of::<abi::Scratch>(), 1),
        (maps::WORK, 4, size_of::<relay_common::packet::Work>(), 1),
        (maps::ADDR_BINDINGS, 16, size_of::<abi::Binding>(), 4096),
        (
            maps::PREFIX_BINDINGS,
            size_of::<abi::PrefixKey>(),
            size_of::<abi::Binding>(),
            4096,
        ),
        (maps::BINDING_STATS, 4, size_of::<abi::BindingStats>(), 4096),
        (
            maps::PREFIX_LENGTHS,
            4,
            size_of::<abi::PrefixLengths>(),
            maps::PREFIX_LENGTHS_CAPACITY,
        ),
        (maps::SOURCE_ALLOW, 24, 4, maps::SOURCE_ALLOW_CAPACITY),
        (maps::EGRESS, 4, 8, maps::EGRESS_CAPACITY),
    ];
    for (name, key, value, capacity) in expected {
        let info = info(kernel.map(name));
        assert_eq!(info.name_as_str(), Some(name));
        assert_eq!(
            (info.key_size(), info.value_size(), info.max_entries()),
            (key as u32, value as u32, capacity as u32),
            "{name}"
        );
    }
}

#[test]
fn bpftool_prints_maps_with_field_names() {
    let Some(mut kernel) = Kernel::ready() else {
        return;
    };
    kernel.run(&crate::corpus::frame("arp"));
    for (name, field) in [
        (maps::INTERFACES, "client_rate"),
        (maps::OWN_ADDRESSES, "address_be"),
        (maps::DAEMON, "heartbeat_boot_nanos"),
        (maps::XDP_PACKETS, "captured"),
    ] {
        let id = info(kernel.map(name)).id().to_string();
        let Ok(output) = Command::new("bpftool")
            .args(["map", "dump", "id", &id])
            .output()
        else {
            skip("bpftool is not installed");
            return;
        };
        let text = String::from_utf8_lossy(&output.stdout);
        assert!(text.contains(&format!("\"{field}\"")), "{name}: {text}");
    }
}

#[test]
fn programs_are_gpl_compatible_and_cost_the_verifier_little() {
    let Some(kernel) = Kernel::load(1 << 16) else {
        return;
    };
    for name in [maps::ACCESS_INGRESS, maps::CORE_INGRESS] {
        let program = kernel.program_named(name);
        let info = program.info().expect("the kernel knows its program");

        assert_eq!(info.gpl_compatible(), Some(true));
        assert_eq!(info.name_as_str(), Some(name));
        let verified = info.verified_instruction_count().expect("a recent kernel");
        println!(
            "{name}: {verified} instructions verified, {} octets translated, {} compiled",
            info.size_translated().unwrap_or(0),
            info.size_jitted()
        );
        assert!(verified < VERIFIED_INSTRUCTIONS_MAX, "{name}: {verified}");
    }
}

fn info(map: &Map) -> MapInfo {
    let data = match map {
        Map::HashMap(data)
        | Map::Array(data)
        | Map::PerCpuArray(data)
        | Map::PerCpuHashMap(data)
        | Map::LpmTrie(data)
        | Map::DevMapHash(data)
        | Map::LruHashMap(data) => data,
        other => panic!("{other:?} is not a kind that we use"),
    };
    data.info().expect("the kernel knows its map")
}
