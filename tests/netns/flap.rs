//! The access link goes and comes back: no lease ends by it, and routes are there again without a word of DHCP.

use crate::harness::{CONFIGURATION, bindings, expect_reached, lab, on, prefix, route, shown};
use std::time::Duration;
use xtask::lab::{Client, Lab, Lifetimes, wait_for};

/// Messages from clients so far.
pub(crate) fn heard(lab: &Lab) -> u64 {
    let statistics = shown(lab, "statistics");
    let rows = statistics["statistics"]["messages"].as_array();
    let rows = rows.expect("a list of messages").iter();
    rows.filter(|row| row["direction"] == "from-client")
        .map(|row| row["count"].as_u64().expect("a number"))
        .sum()
}

/// Every lease: destination, state, end.
pub(crate) fn held(lab: &Lab) -> Vec<String> {
    let mut held: Vec<String> = bindings(lab)
        .iter()
        .map(|it| format!("{} {} {}", it["prefix"], it["state"], it["valid_until"]))
        .collect();
    held.sort();
    held
}

/// Both routes of the home, and its reachability, survive what `down` and `up` do.
fn routes_survive(down: impl FnOnce(&Lab), up: impl FnOnce(&Lab)) {
    let Some(mut lab) = lab(CONFIGURATION, Lifetimes::default()) else {
        return;
    };
    let (address, lan) = expect_reached(&mut lab, Client::Dhclient);
    let destinations = [format!("{address}/128"), prefix(&lan)];
    let routes = |lab: &Lab| destinations.each_ref().map(|it| route(lab, it));
    let (routes_before, before, said) = (routes(&lab), held(&lab), heard(&lab));

    down(&lab);
    std::thread::sleep(Duration::from_millis(500));
    assert_eq!(held(&lab), before, "while the link is down");
    up(&lab);

    wait_for("the routes", Duration::from_secs(10), || {
        (routes(&lab) == routes_before).then_some(())
    })
    .unwrap_or_else(|error| panic!("{error}: {:?} for {routes_before:?}", routes(&lab)));
    assert_eq!(held(&lab), before);
    for target in [&address, &lan] {
        assert_eq!(lab.lost_probes(target, 20), Ok(0), "{target}");
    }
    assert_eq!(heard(&lab), said, "DHCP was spoken");
}

/// The kernel throws all IPv6 addresses and routes of an interface away that is set down; addresses are given
/// back by who gave them. req: PDR-S-2 (RFC 8987 §4.3)
#[test]
fn pdr_s_2_interface_set_down_and_up_has_its_routes_again_without_dhcp() {
    routes_survive(
        |lab| {
            on(lab, "r1", "ip link set acc0 down");
            let left = on(lab, "r1", "ip -6 route show dev acc0");
            assert_eq!(left, "", "the kernel keeps routes: the test shows nothing");
        },
        |lab| {
            on(lab, "r1", "ip link set acc0 up");
            on(
                lab,
                "r1",
                "ip -6 addr add 2001:db8:a:1::2/64 dev acc0 nodad",
            );
        },
    );
}

/// req: PDR-S-2, DP-30 (RFC 8987 §4.3)
#[test]
fn pdr_s_2_carrier_that_goes_and_returns_ends_no_lease() {
    routes_survive(
        |lab| drop(on(lab, "access", "ip link set r1 down")),
        |lab| drop(on(lab, "access", "ip link set r1 up")),
    );
}
