//! Which leases become routes: policy and what must not be touched (RFC 8987 §4.2).

use relay_common::net::{VlanTag, VlanTags};
use relay_core::config::{RelayConfig, VlanDevice};
use relay_core::input::RouteRefusal;
use relay_core::types::IfIndex;
use relay_core::view::RouteState;
use relay_tests::bench::{Bench, Client, prefix};
use relay_tests::exchanges::{na_lease, pd_lease};

const P1: &str = "2001:db8:100::/56";

fn client() -> Client {
    Client::new(0xc3, 2)
}

/// The client gets `lease`; what became of its route, and the lines about routes.
fn route_of(
    client: &Client,
    lease: &str,
    change: impl FnOnce(&mut RelayConfig),
) -> (RouteState, Vec<String>) {
    let mut bench = Bench::with(change);
    let ias = if lease.ends_with("/128") {
        na_lease(1, lease.trim_end_matches("/128"), 600)
    } else {
        pd_lease(1, lease, 600)
    };
    bench.converse(client, 3, &ias, &ias);
    let lines: Vec<_> = bench.take().into_iter().map(|seen| seen.line).collect();
    assert_eq!(
        lines
            .iter()
            .filter(|line| line.starts_with("to-client reply"))
            .count(),
        1
    );
    let routes = lines
        .into_iter()
        .filter(|line| line.starts_with("route"))
        .collect();
    (bench.lease(lease).expect("the lease is kept").route, routes)
}

/// Routes switched off. req: PDR-R-1 (RFC 8987 §4.2)
#[test]
fn pdr_r_1_no_route_where_routes_are_off() {
    assert_eq!(
        route_of(&client(), P1, |config| config.routes.enabled = false),
        (RouteState::Disabled, vec![])
    );
}

/// Address and prefix routes are switched apart. req: PDR-R-1 (RFC 8987 §4.2)
#[test]
fn pdr_r_1_addresses_and_prefixes_are_switched_apart() {
    let address = "2001:db8:1::77/128";
    let off = (RouteState::Disabled, vec![]);
    assert_eq!(
        route_of(&client(), P1, |config| config.routes.prefixes = false),
        off
    );
    assert_eq!(
        route_of(&client(), address, |config| config.routes.addresses = false),
        off
    );
    assert_eq!(
        route_of(&client(), P1, |config| config.routes.addresses = false).0,
        RouteState::Installed
    );
}

/// A lease outside the allowed prefixes gets no route. req: PDR-R-1 (RFC 8987 §4.2)
#[test]
fn pdr_r_1_lease_outside_allowed_prefixes_is_refused() {
    let refused = (RouteState::Failed(RouteRefusal::NotAllowed), vec![]);
    assert_eq!(
        route_of(&client(), P1, |config| config.routes.allowed =
            vec![prefix("2001:db8:200::/40")]),
        refused
    );
    assert_eq!(
        route_of(&client(), P1, |config| config.routes.allowed =
            vec![prefix("2001:db8:100::/57")]),
        refused
    );
    assert_eq!(
        route_of(&client(), P1, |config| config.routes.allowed =
            vec![prefix("2001:db8:100::/40")])
        .0,
        RouteState::Installed
    );
}

/// A lease over, equal to or inside another interface's network gets no route. req: PDR-R-1 (RFC 8987 §4.2)
#[test]
fn pdr_r_1_lease_that_touches_a_foreign_network_is_refused() {
    for lease in [
        "2001:db8:53::/48",
        "2001:db8:53::/64",
        "2001:db8:53::/80",
        "2001:db8:2::7/128",
    ] {
        assert_eq!(
            route_of(&client(), lease, |_| {}),
            (RouteState::Failed(RouteRefusal::ForeignNetwork), vec![]),
            "{lease}"
        );
    }
}

/// An address on the client's own link gets its route. req: PDR-R-1 (RFC 8987 §4.2)
#[test]
fn pdr_r_1_address_of_the_access_network_gets_its_route() {
    assert_eq!(
        route_of(&client(), "2001:db8:1::77/128", |_| {}),
        (
            RouteState::Installed,
            vec!["route put 2001:db8:1::77/128 via fe80::c3 dev 2".to_owned()]
        )
    );
}

/// Tagged clients have routes where a VLAN interface takes their tags. req: PDR-R-1 (RFC 8987 §4.2)
#[test]
fn pdr_r_1_tagged_client_gets_a_route_where_a_vlan_interface_exists() {
    let tag = VlanTag {
        tpid: 0x8100,
        vid: 100,
    };
    let tagged = Client {
        vlans: VlanTags::single(tag),
        ..client()
    };

    assert_eq!(
        route_of(&tagged, P1, |_| {}),
        (RouteState::Failed(RouteRefusal::NoVlanInterface), vec![])
    );
    assert_eq!(
        route_of(&tagged, P1, |config| {
            config.routes.vlan_devices = vec![VlanDevice {
                parent: IfIndex(2),
                tag,
                ifindex: IfIndex(20),
            }];
        })
        .1,
        ["route put 2001:db8:100::/56 via fe80::c3 dev 20"]
    );
}

/// Next hops get neighbour entries where wanted, and lose them with the last lease.
/// req: PDR-R-1 (RFC 8987 §4.2)
#[test]
fn pdr_r_1_neighbour_of_the_next_hop_follows_the_leases() {
    let mut bench = Bench::with(|config| config.routes.neighbors = true);
    let ias = pd_lease(1, P1, 600);

    bench.converse(&client(), 3, &ias, &ias);
    assert_eq!(
        bench.lines("neighbor"),
        ["neighbor put fe80::c3 02:00:00:00:00:c3 dev 2"]
    );

    bench.ask(&client(), 8, &ias);
    assert_eq!(bench.lines("neighbor"), ["neighbor del fe80::c3 dev 2"]);
}
