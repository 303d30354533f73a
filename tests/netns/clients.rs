//! The life of a lease with each real client: learned, reached, renewed, rebound, released, expired.

use crate::harness::{CONFIGURATION, expect_no_route, expect_reached, lab, prefix, route};
use std::time::Duration;
use xtask::lab::{Client, Lifetimes};

const SHORT: Lifetimes = Lifetimes {
    renew: 3,
    rebind: 5,
    preferred: 8,
    valid: 10,
};

fn lease_is_reached_and_release_takes_the_route_away(client: Client) {
    let Some(mut lab) = lab(CONFIGURATION, Lifetimes::default()) else {
        return;
    };

    let (address, lan) = expect_reached(&mut lab, client);
    for destination in [format!("{address}/128"), prefix(&lan)] {
        let route = route(&lab, &destination);
        assert!(
            route.contains("via fe80::")
                && route.contains("dev acc0")
                && route.contains("proto 207"),
            "{destination}: {route:?}"
        );
    }

    lab.release_client(client).expect("the client releases");
    expect_no_route(&lab, &prefix(&lan), 5);
    expect_no_route(&lab, &format!("{address}/128"), 5);
}

/// req: PDR-R-1 (RFC 8987 §4.2)
#[test]
fn pdr_r_1_dhclient_lease_is_reached_and_release_takes_the_route_away() {
    lease_is_reached_and_release_takes_the_route_away(Client::Dhclient);
}

/// req: PDR-R-1 (RFC 8987 §4.2)
#[test]
fn pdr_r_1_dhcpcd_lease_is_reached_and_release_takes_the_route_away() {
    lease_is_reached_and_release_takes_the_route_away(Client::Dhcpcd);
}

/// req: PDR-R-1 (RFC 8987 §4.2)
#[test]
fn pdr_r_1_wide_dhcp6c_lease_is_reached_and_release_takes_the_route_away() {
    lease_is_reached_and_release_takes_the_route_away(Client::WideDhcp6c);
}

#[test]
fn renew_beyond_the_first_lifetime_keeps_the_home_reached() {
    let Some(mut lab) = lab(CONFIGURATION, SHORT) else {
        return;
    };
    let (_, lan) = expect_reached(&mut lab, Client::Dhclient);

    std::thread::sleep(Duration::from_secs(12));

    assert!(
        lab.log("s1.kea-dhcp6").contains("DHCP6_PD_LEASE_RENEW"),
        "the server saw no Renew"
    );
    assert_eq!(lab.lost_probes(&lan, 20), Ok(0));
}

#[test]
fn rebind_after_the_death_of_the_server_keeps_the_home_reached() {
    let Some(mut lab) = lab(CONFIGURATION, SHORT) else {
        return;
    };
    let (_, lan) = expect_reached(&mut lab, Client::Dhclient);

    lab.stop("s1.kea-dhcp6", "KILL").expect("s1 dies");
    std::thread::sleep(Duration::from_secs(13));

    assert!(
        lab.log("cpe1.dhclient").contains("Rebind"),
        "the client did not rebind"
    );
    assert_eq!(lab.lost_probes(&lan, 20), Ok(0));
}

#[test]
fn expiry_of_a_silent_home_takes_its_routes_away() {
    let Some(mut lab) = lab(CONFIGURATION, SHORT) else {
        return;
    };
    let (address, lan) = expect_reached(&mut lab, Client::Dhclient);

    lab.stop("cpe1.dhclient", "KILL").expect("the client dies");

    expect_no_route(&lab, &prefix(&lan), 14);
    expect_no_route(&lab, &format!("{address}/128"), 2);
}
