//! A client behind a lightweight relay (RFC 6221): the exchange with the real server, and its route.

use crate::hand::HandClient;
use crate::harness::{CONFIGURATION, expect_counted, expect_no_route, installed, lab, on, route};
use xtask::lab::Lifetimes;

/// What the kernel makes of the MAC of node gen.
const LINK_LOCAL: &str = "fe80::ff:fe00:9";

fn relayed(accept: bool) -> String {
    CONFIGURATION.replace(
        "interface = \"acc0\"",
        &format!("interface = \"acc0\"\naccept_relayed = {accept}"),
    )
}

/// The client helper holds each answer against what an LDRA must get: RELAY-REPL, its own Interface-Id,
/// link-address and peer-address. req: RLY-69, RLY-46, RLY-70 (RFC 6221 §5.3.2, §6.2)
#[test]
fn rly_69_client_behind_an_ldra_is_served_routed_and_reached() {
    let Some(lab) = lab(&relayed(true), Lifetimes::default()) else {
        return;
    };
    let mut client = HandClient::behind_ldra(&lab, "gen", b"port 7", LINK_LOCAL);

    let granted = client.lease(1);

    let destinations = granted.destinations();
    assert_eq!(destinations.len(), 2, "{destinations:?}");
    for destination in &destinations {
        let route = route(&lab, destination);
        let via = format!("via {LINK_LOCAL} dev acc0");
        assert!(route.contains(&via), "{destination}: {route:?}");
    }
    let mut shown = installed(&lab);
    shown.sort();
    let mut expected = destinations.clone();
    expected.sort();
    assert_eq!(shown, expected);
    let inside = destinations[1].replace("/56", "1");
    on(
        &lab,
        "gen",
        &format!("ip -6 addr add {} dev eth0 nodad", destinations[0]),
    );
    on(
        &lab,
        "gen",
        &format!("ip -6 addr add {inside} dev lo nodad"),
    );
    on(
        &lab,
        "gen",
        "ip -6 route add default via fe80::ff:fe00:2 dev eth0",
    );
    for target in [destinations[0].trim_end_matches("/128"), &inside] {
        assert_eq!(lab.lost_probes(target, 20), Ok(0), "{target}");
    }

    client.release(&granted);
    for destination in &destinations {
        expect_no_route(&lab, destination, 5);
    }
}

/// req: RLY-60 (RFC 6221 §6.1.2)
#[test]
fn rly_60_relayed_message_on_an_untrusted_port_is_dropped_and_counted() {
    let Some(lab) = lab(&relayed(false), Lifetimes::default()) else {
        return;
    };
    let mut client = HandClient::behind_ldra(&lab, "gen", b"port 7", LINK_LOCAL);

    let solicit = client.message(1).ia_na(1, &[]).build();
    client.say(&solicit);

    expect_counted(&lab, "drops", "relayed_not_accepted", 1);
    assert_eq!(installed(&lab), Vec::<String>::new());
    // What is not relayed does not disturb what is.
    let mut direct = HandClient::on(&lab, "gen", "eth0");
    assert_eq!(direct.lease(1).destinations().len(), 2);
}
