//! Several prefixes of one home: each has its route and is shown, and each is reached.

use crate::hand::HandClient;
use crate::harness::{CONFIGURATION, counted, installed, lab, prefix, route};
use std::time::Duration;
use xtask::lab::{Client, Lifetimes, wait_for};

fn two_prefixes_are_routed_shown_and_reached(client: Client) {
    let Some(mut lab) = lab(CONFIGURATION, Lifetimes::default()) else {
        return;
    };
    lab.start_client_for(client, 2).expect("the client starts");

    let lans = wait_for("two prefixes", Duration::from_secs(20), || {
        Some(lab.globals(client.node(), "lan0")).filter(|all| all.len() == 2)
    })
    .unwrap_or_else(|error| {
        let label = format!("{}.{}", client.node(), client.program());
        panic!("{error}\n{}", lab.log(&label))
    });

    let shown = installed(&lab);
    for lan in &lans {
        let prefix = prefix(lan);
        assert!(shown.contains(&prefix), "{prefix} in {shown:?}");
        assert!(route(&lab, &prefix).contains("dev acc0"), "{prefix}");
        assert_eq!(lab.lost_probes(lan, 20), Ok(0), "{lan}");
    }
}

/// req: PDR-G-3 (RFC 8987 §4.1)
#[test]
fn pdr_g_3_dhclient_with_two_prefixes_has_both_routes() {
    two_prefixes_are_routed_shown_and_reached(Client::Dhclient);
}

/// req: PDR-G-3 (RFC 8987 §4.1)
#[test]
fn pdr_g_3_wide_dhcp6c_with_two_prefixes_has_both_routes() {
    two_prefixes_are_routed_shown_and_reached(Client::WideDhcp6c);
}

/// The default limit is eight leases of one client. req: PDR-G-7 (RFC 8987 §4.1)
#[test]
fn pdr_g_7_eight_leases_of_one_client_have_their_routes_and_the_ninth_none() {
    let Some(lab) = lab(CONFIGURATION, Lifetimes::default()) else {
        return;
    };
    let mut client = HandClient::on(&lab, "gen", "eth0");

    let granted = client.lease(8).destinations();

    assert_eq!(granted.len(), 9, "Kea grants an address and eight prefixes");
    let with_route: Vec<&String> = granted
        .iter()
        .filter(|it| !route(&lab, it).is_empty())
        .collect();
    assert_eq!(with_route.len(), 8, "{granted:?}");
    assert_eq!(installed(&lab).len(), 8);
    assert_eq!(counted(&lab, "notices", "client_limit"), 1);
}
