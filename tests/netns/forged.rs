//! Release and Decline that somebody else sends: relayed like any message, without effect here (SNP-23).

use crate::hand::{Granted, HandClient};
use crate::harness::{
    CONFIGURATION, bindings, expect_counted, expect_logged, expect_no_route, installed, lab, on,
    route, second_access,
};
use xtask::lab::{Lab, Lifetimes};

/// What a client holds, as the kernel and the daemon have it.
fn holdings(lab: &Lab, granted: &Granted) -> (Vec<String>, Vec<String>) {
    let routes = granted
        .destinations()
        .iter()
        .map(|it| route(lab, it))
        .collect();
    let mut shown = installed(lab);
    shown.sort();
    (routes, shown)
}

/// A victim on cpe1 has a lease; `forger` makes somebody who sends a Release and a Decline for it.
fn forgery_has_no_effect(configuration: &str, forger: impl FnOnce(&Lab, &[u8]) -> HandClient) {
    let Some(lab) = lab(configuration, Lifetimes::default()) else {
        return;
    };
    second_access(&lab);
    let mut victim = HandClient::on(&lab, "cpe1", "eth0");
    let granted = victim.lease(1);
    let before = holdings(&lab, &granted);
    assert_eq!(before.1.len(), 2, "{:?}", bindings(&lab));
    let mut forger = forger(&lab, &victim.duid);

    forger.decline(&granted);
    expect_counted(&lab, "notices", "foreign_release", 1);
    forger.release(&granted);
    expect_counted(&lab, "notices", "foreign_release", 2);

    // The server saw them: nothing is withheld.
    expect_logged(&lab, "s1.kea-dhcp6", "DECLINE", 1);
    expect_logged(&lab, "s1.kea-dhcp6", "RELEASE", 1);
    assert_eq!(holdings(&lab, &granted), before);
    victim.release(&granted);
    for destination in granted
        .destinations()
        .iter()
        .filter(|it| it.ends_with("/56"))
    {
        expect_no_route(&lab, destination, 5);
    }
}

/// The forger has the victim's DUID and link-local address, and its own MAC. req: SNP-23, DP-15 (RFC 7513 §6.3.2)
#[test]
fn snp_23_release_and_decline_from_another_mac_have_no_effect() {
    forgery_has_no_effect(CONFIGURATION, |lab, duid| {
        on(lab, "gen", "ip -6 addr flush dev eth0 scope link");
        on(
            lab,
            "gen",
            "ip -6 addr add fe80::ff:fe00:11/64 dev eth0 nodad",
        );
        let mut forger = HandClient::on(lab, "gen", "eth0");
        forger.duid = duid.to_vec();
        forger
    });
}

/// The forger has the victim's MAC and link-local address, and its own DUID. req: SNP-23 (RFC 7513 §6.3.2)
#[test]
fn snp_23_release_and_decline_with_another_duid_have_no_effect() {
    forgery_has_no_effect(CONFIGURATION, |lab, _| {
        on(lab, "gen", "ip link set eth0 down");
        on(lab, "gen", "ip link set eth0 address 02:00:00:00:00:11");
        on(lab, "gen", "ip link set eth0 up");
        HandClient::on(lab, "gen", "eth0")
    });
}

/// The forger has all of the victim, on another access interface. req: SNP-23 (RFC 7513 §6.3.2)
#[test]
fn snp_23_release_and_decline_on_another_interface_have_no_effect() {
    let configuration =
        CONFIGURATION.replace("[[core]]", "[[access]]\ninterface = \"acc1\"\n\n[[core]]");
    forgery_has_no_effect(&configuration, |lab, duid| {
        on(lab, "gen", "ip link set cli1 down");
        on(lab, "gen", "ip link set cli1 address 02:00:00:00:00:11");
        on(lab, "gen", "ip link set cli1 up");
        let mut forger = HandClient::on(lab, "gen", "cli1");
        forger.duid = duid.to_vec();
        forger
    });
}
