//! How many leases one client may have.

use crate::hand::HandClient;
use crate::harness::{CONFIGURATION, counted, installed, lab, route};
use xtask::lab::Lifetimes;

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
