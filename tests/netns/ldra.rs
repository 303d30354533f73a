//! A client behind a lightweight relay (RFC 6221): the exchange with the real server, and its routes.

use crate::capture::{configuration, expect_captured};
use crate::hand::HandClient;
use crate::harness::{
    expect_counted, expect_no_route, expect_reached, installed, lab, prefix, route,
};
use crate::ldra_device::Ldra;
use xtask::lab::{Client, Lifetimes};

/// What the kernel makes of the MAC of node gen.
const LINK_LOCAL: &str = "fe80::ff:fe00:9";

fn relayed(capture: &str, accept: bool) -> String {
    let text = configuration(capture, "");
    text.replace(
        "interface = \"acc0\"",
        &format!("interface = \"acc0\"\naccept_relayed = {accept}"),
    )
}

/// The device holds each answer against what an LDRA must get: RELAY-REPL, its own Interface-Id, link-address and
/// peer-address.
fn client_behind_an_ldra_is_served(client: Client, capture: &str) {
    let Some(mut lab) = lab(&relayed(capture, true), Lifetimes::default()) else {
        return;
    };
    let ldra = Ldra::before(&lab, client);

    let (address, lan) = expect_reached(&mut lab, client);

    let destinations = [format!("{address}/128"), prefix(&lan)];
    let mut shown = installed(&lab);
    shown.sort();
    assert_eq!(shown, destinations);
    let [.., last] = client.mac();
    for destination in &destinations {
        let route = route(&lab, destination);
        let via = format!("via fe80::ff:fe00:{last:x} dev acc0");
        assert!(route.contains(&via), "{destination}: {route:?}");
    }
    lab.release_client(client).expect("it releases");
    for destination in &destinations {
        expect_no_route(&lab, destination, 5);
    }
    expect_captured(&lab, capture);
    let passed = ldra.take_away();
    assert!(passed.up >= 3 && passed.down >= 3, "{passed:?}");
}

/// req: RLY-69, RLY-46, RLY-70 (RFC 6221 §5.3.2, §6.2)
#[test]
fn rly_69_dhclient_behind_an_ldra_is_served_through_native_xdp() {
    client_behind_an_ldra_is_served(Client::Dhclient, "xdp");
}

/// req: RLY-69, RLY-46, RLY-70 (RFC 6221 §5.3.2, §6.2)
#[test]
fn rly_69_dhcpcd_behind_an_ldra_is_served_through_generic_xdp() {
    client_behind_an_ldra_is_served(Client::Dhcpcd, "xdp-generic");
}

/// req: RLY-69, RLY-46, RLY-70 (RFC 6221 §5.3.2, §6.2)
#[test]
fn rly_69_wide_dhcp6c_behind_an_ldra_is_served_through_sockets() {
    client_behind_an_ldra_is_served(Client::WideDhcp6c, "socket");
}

/// req: RLY-60 (RFC 6221 §6.1.2)
#[test]
fn rly_60_relayed_message_on_an_untrusted_port_is_dropped_and_counted() {
    let Some(lab) = lab(&relayed("auto", false), Lifetimes::default()) else {
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
