//! Decline: a client finds that another host has its address; lease and route go, and the server hears of it.

use crate::hand::HandClient;
use crate::harness::{
    CONFIGURATION, expect_logged, expect_no_route, installed, lab, on, prefix, route, shown,
};
use xtask::lab::{Client, Lab, Lifetimes};

/// The first address that Kea lends.
const FIRST: &str = "2001:db8:a:1:8000::";

/// A host of the access network holds the first address of the pool; dhclient's script looks before it takes it.
/// req: SNP-22 (RFC 8415 §18.2.8)
#[test]
fn snp_22_dhclient_declines_a_duplicate_address_and_lease_and_route_go() {
    let Some(mut lab) = lab(CONFIGURATION, Lifetimes::default()) else {
        return;
    };
    on(
        &lab,
        "gen",
        &format!("ip -6 addr add {FIRST}/64 dev eth0 nodad"),
    );
    on(
        &lab,
        "cpe1",
        "sysctl -qw net.ipv6.conf.eth0.accept_dad=1 net.ipv6.conf.all.accept_dad=1",
    );

    lab.start_client(Client::Dhclient)
        .expect("the client starts");
    let (address, lan) = lab
        .lease(Client::Dhclient)
        .expect("the client gets another address");

    let declined = format!("sent DECLINE for address {FIRST}");
    expect_logged(&lab, "s1.kea-dhcp6", &declined, 1);
    assert_ne!(address, FIRST);
    expect_no_route(&lab, &format!("{FIRST}/128"), 5);
    let mut shown = installed(&lab);
    shown.sort();
    assert_eq!(shown, [format!("{address}/128"), prefix(&lan)]);
    let events = shown_events(&lab);
    assert!(events.contains(&"declined".to_owned()), "{events:?}");
    for target in [&address, &lan] {
        assert_eq!(lab.lost_probes(target, 20), Ok(0), "{target}");
    }
}

/// req: SNP-22 (RFC 8415 §18.2.8)
#[test]
fn snp_22_decline_takes_the_address_away_and_leaves_the_prefix() {
    let Some(lab) = lab(CONFIGURATION, Lifetimes::default()) else {
        return;
    };
    let mut client = HandClient::on(&lab, "gen", "eth0");
    let granted = client.lease(1);
    let [address, prefix] = granted.destinations().try_into().expect("one of each");
    assert!(!route(&lab, &address).is_empty(), "no route to {address}");

    client.decline(&granted);

    expect_no_route(&lab, &address, 5);
    expect_logged(&lab, "s1.kea-dhcp6", "DECLINE", 1);
    assert_eq!(installed(&lab), [prefix]);
}

/// The kinds of binding events that the daemon has counted.
fn shown_events(lab: &Lab) -> Vec<String> {
    let statistics = shown(lab, "statistics");
    let events = statistics["statistics"]["binding_events"].as_array();
    let events = events.expect("a list of events").iter();
    events
        .map(|it| it["name"].as_str().expect("a text").to_owned())
        .collect()
}
