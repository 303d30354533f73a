//! Choices of addresses, and what becomes of what is missing.

use super::*;
use crate::config;
use relay_common::net::VlanTag;
use relay_core::types::Prefix;

const FILE: &str = r#"
[[server]]
name = "a"
address = "2001:db8:ff::11"

[[access]]
interface = "acc0"

[[core]]
interface = "core0"
"#;

fn config(text: &str) -> Config {
    config::parse(std::path::Path::new("test.toml"), text)
        .map_err(|report| report.render(false))
        .unwrap()
        .config
}

fn address(text: &str) -> InterfaceAddress {
    let (address, bits) = text.split_once('/').unwrap();
    InterfaceAddress {
        address: address.parse().unwrap(),
        prefix_bits: bits.parse().unwrap(),
        temporary: false,
        tentative: false,
        deprecated: false,
        protocol: 0,
    }
}

fn interface(index: u32, name: &str, addresses: &[InterfaceAddress]) -> Interface {
    Interface {
        index: IfIndex(index),
        name: name.to_owned(),
        mac: None,
        up: true,
        carrier: true,
        mtu: 1500,
        vlan: None,
        macvlan_parent: None,
        addresses: addresses.to_vec(),
    }
}

fn core0() -> Interface {
    interface(
        3,
        "core0",
        &[address("2001:db8:ff::1/64"), address("fe80::3/64")],
    )
}

fn table(interfaces: Vec<Interface>) -> Arc<InterfaceTable> {
    Arc::new(InterfaceTable { interfaces })
}

fn joined(text: &str, interfaces: Vec<Interface>, kept: &Kept) -> Joined {
    join(
        &config(text),
        &table(interfaces),
        kept,
        &mut Numbers::default(),
        |_| None,
    )
}

fn link_address_of(addresses: &[InterfaceAddress], kept: &Kept) -> (Ipv6Addr, Vec<String>) {
    let joined = joined(FILE, vec![interface(2, "acc0", addresses), core0()], kept);
    (
        joined.surroundings.relay.access[0].link_address,
        joined.warnings,
    )
}

fn ip(text: &str) -> Ipv6Addr {
    text.parse().unwrap()
}

/// The oldest address that is the relay's own stands for the link. req: RLY-20 (RFC 8415 §19.1.1)
#[test]
fn rly_20_link_address_is_the_oldest_fit_global_address() {
    let unfit = |change: fn(&mut InterfaceAddress)| {
        let mut it = address("2001:db8:1::bad/64");
        change(&mut it);
        it
    };
    let addresses = [
        unfit(|it| it.protocol = KEEPALIVED),
        address("2001:db8:1::9/64"),
        address("2001:db8:1::1/64"),
        unfit(|it| it.temporary = true),
        unfit(|it| it.tentative = true),
        unfit(|it| it.deprecated = true),
        unfit(|it| it.prefix_bits = 128),
        address("fe80::1/64"),
    ];

    let (link_address, warnings) = link_address_of(&addresses, &Kept::default());

    assert_eq!(link_address, ip("2001:db8:1::1"));
    assert_eq!(warnings, [""; 0]);
}

#[test]
fn chosen_link_address_is_kept_while_it_exists() {
    let two = [address("2001:db8:1::9/64"), address("2001:db8:1::1/64")];
    let kept = Kept {
        link_addresses: BTreeMap::from([("acc0".to_owned(), ip("2001:db8:1::9"))]),
        ..Kept::default()
    };

    assert_eq!(link_address_of(&two, &kept).0, ip("2001:db8:1::9"));
    assert_eq!(link_address_of(&two[1..], &kept).0, ip("2001:db8:1::1"));
}

/// Without a global address the link-local one serves, with a warning. req: RLY-21 (RFC 8415 §19.1.1)
#[test]
fn rly_21_link_local_link_address_comes_with_a_warning() {
    let (link_address, warnings) = link_address_of(&[address("fe80::1/64")], &Kept::default());

    assert_eq!(link_address, ip("fe80::1"));
    assert!(warnings[0].contains("set link_address"), "{warnings:?}");
}

/// Without servers, All_DHCP_Servers on every core interface. req: RLY-29 (RFC 8415 §19)
#[test]
fn rly_29_no_server_configured_means_all_dhcp_servers_on_each_core_interface() {
    let text = "[[access]]\ninterface = \"acc0\"\n[[core]]\ninterface = \"core0\"\n[[core]]\ninterface = \"core1\"";
    let interfaces = vec![
        interface(2, "acc0", &[]),
        core0(),
        interface(4, "core1", &[]),
    ];

    let joined = joined(text, interfaces, &Kept::default());

    let servers = &joined.surroundings.relay.servers;
    let found: Vec<_> = servers
        .iter()
        .map(|it| (it.address, it.port, it.interface))
        .collect();
    let all = ip("ff05::1:3");
    assert_eq!(
        found,
        [(all, 547, Some(IfIndex(3))), (all, 547, Some(IfIndex(4)))]
    );
    assert_eq!(joined.surroundings.relay.access[0].servers.len(), 2);
}

fn source_of(core: Vec<InterfaceAddress>, kept: &Kept, toward: Option<&str>) -> Joined {
    let interfaces = vec![interface(2, "acc0", &[]), interface(3, "core0", &core)];
    let toward = toward.map(ip);
    join(
        &config(FILE),
        &table(interfaces),
        kept,
        &mut Numbers::default(),
        |_| toward,
    )
}

/// The source toward servers has a scope that they can answer to. req: RLY-31 (RFC 8415 §7.1)
#[test]
fn rly_31_source_is_never_link_local() {
    let joined = source_of(
        vec![address("fe80::3/64")],
        &Kept::default(),
        Some("fe80::3"),
    );

    assert_eq!(joined.surroundings.source_address, None);
    assert!(
        joined
            .warnings
            .iter()
            .any(|it| it.contains("[relay] source_address"))
    );
}

/// The source is the relay's own and stable, never a VRRP address. req: RLY-32 (RFC 8415 §18.3.10)
#[test]
fn rly_32_source_is_the_kernels_choice_if_fit_else_the_oldest_and_is_kept() {
    let vip = InterfaceAddress {
        protocol: KEEPALIVED,
        ..address("2001:db8:ff::100/64")
    };
    let core = vec![
        vip,
        address("2001:db8:ff::2/64"),
        address("2001:db8:ff::1/64"),
    ];
    let source = |kept: &Kept, toward| {
        source_of(core.clone(), kept, toward)
            .surroundings
            .source_address
    };

    assert_eq!(
        source(&Kept::default(), Some("2001:db8:ff::2")),
        Some(ip("2001:db8:ff::2"))
    );
    assert_eq!(
        source(&Kept::default(), Some("2001:db8:ff::100")),
        Some(ip("2001:db8:ff::1"))
    );
    let kept = source_of(core.clone(), &Kept::default(), Some("2001:db8:ff::2")).kept;
    assert_eq!(
        source(&kept, Some("2001:db8:ff::1")),
        Some(ip("2001:db8:ff::2"))
    );
}

#[test]
fn missing_interfaces_are_waited_for_and_keep_their_numbers() {
    let config = config(&format!("{FILE}[[access]]\ninterface = \"acc1\"\n"));
    let mut numbers = Numbers::default();
    let kept = Kept::default();
    let all = vec![
        interface(2, "acc0", &[]),
        core0(),
        interface(5, "acc1", &[]),
    ];
    let before = join(&config, &table(all), &kept, &mut numbers, |_| None)
        .surroundings
        .relay
        .access;

    let joined = join(&config, &table(vec![core0()]), &kept, &mut numbers, |_| {
        None
    });

    let after = joined.surroundings.relay.access;
    assert_eq!(before[1].ifindex, Some(IfIndex(5)));
    assert_eq!((after[1].ifindex, after[1].id), (None, before[1].id));
    assert!(
        joined
            .warnings
            .iter()
            .any(|it| it.contains("acc1 does not exist"))
    );
}

#[test]
fn vrrp_macvlan_is_the_same_link_as_its_parent() {
    let mut vrrp = interface(9, "vrrp.1", &[address("2001:db8:1::100/64")]);
    vrrp.macvlan_parent = Some(IfIndex(2));
    let acc0 = interface(
        2,
        "acc0",
        &[address("2001:db8:1::1/64"), address("fe80::1/64")],
    );

    let joined = joined(FILE, vec![acc0, vrrp], &Kept::default());

    let network = Prefix::new(ip("2001:db8:1::"), 64).unwrap();
    assert_eq!(
        joined.surroundings.relay.routes.networks,
        [(IfIndex(2), network)]
    );
}

#[test]
fn vlan_interfaces_are_known_by_parent_and_tag() {
    let tag = VlanTag {
        tpid: relay_common::net::TPID_8021Q,
        vid: 100,
    };
    let mut vlan = interface(9, "acc0.100", &[]);
    vlan.vlan = Some((IfIndex(2), tag));

    let joined = joined(
        FILE,
        vec![interface(2, "acc0", &[]), vlan],
        &Kept::default(),
    );

    let device = joined.surroundings.relay.routes.vlan_devices[0];
    assert_eq!(
        (device.parent, device.tag, device.ifindex),
        (IfIndex(2), tag, IfIndex(9))
    );
}

/// Each peer has room for its two connections, however many they are. req: BLQ-7 (RFC 5460 §7.1)
#[test]
fn blq_7_connections_are_enough_for_all_peers() {
    let accepted = |peers: u16| {
        let peer = |n: u16| {
            format!("[[active_leasequery.peer]]\nname = \"p{n}\"\naddress = \"2001:db8:fe::{n}\"\n")
        };
        let text: String = (1..=peers).map(peer).collect();
        let joined = joined(&format!("{FILE}{text}"), vec![core0()], &Kept::default());
        joined.surroundings.relay.leasequery.max_connections
    };

    assert_eq!([1, 5, 6].map(accepted), [10, 15, 18]);
}
