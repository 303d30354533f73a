//! What only the wire shows: equal inner bytes on both sides, ports, hop limits, checksums, transit, memberships.

use crate::capture::configuration;
use crate::hand::{Hand, HandClient};
use crate::harness::{CONFIGURATION, lab, shown};
use crate::pcap::{
    checksum_holds, expect_equal_on_both_sides, frames, inner, payload, start_capture,
};
use relay_tests::messages::{Layer, Message, ip};
use std::time::Duration;
use xtask::lab::{Client, Lab, Lifetimes, wait_for};

/// req: RLY-44 (RFC 8415 §19.2), RLY-34 (RFC 8200 §8.1)
#[test]
fn rly_44_inner_bytes_are_equal_on_both_sides_in_both_directions() {
    let Some(mut lab) = lab(CONFIGURATION, Lifetimes::default()) else {
        return;
    };
    start_capture(&mut lab, "access");
    start_capture(&mut lab, "core");

    for client in Client::ALL {
        lab.start_client(client).expect("the client starts");
        lab.lease(client)
            .expect("the client gets address and prefix");
    }

    expect_equal_on_both_sides(&lab);
}

fn transit_passes_untouched(capture: &str) {
    let Some(mut lab) = lab(&configuration(capture, ""), Lifetimes::default()) else {
        return;
    };
    start_capture(&mut lab, "core");
    lab.exec(
        "cpe1",
        &[
            "ip",
            "-6",
            "addr",
            "add",
            "2001:db8:a:1::77/64",
            "dev",
            "eth0",
            "nodad",
        ],
    )
    .expect("cpe1 takes an address");

    lab.exec(
        "cpe1",
        &[
            "bash",
            "-c",
            "printf '\\x0b\\x01\\x02\\x03transit' >/dev/udp/2001:db8:c::11/547",
        ],
    )
    .expect("cpe1 sends");

    let seen = wait_for(
        "the datagram on the core side",
        Duration::from_secs(3),
        || {
            frames(&lab, "core")
                .into_iter()
                .find(|frame| payload(frame) == b"\x0b\x01\x02\x03transit")
        },
    )
    .expect("transit passes");
    assert_eq!(
        seen[22..38],
        "2001:db8:a:1::77"
            .parse::<std::net::Ipv6Addr>()
            .expect("an address")
            .octets(),
        "source"
    );
    assert_eq!(seen[21], 63, "hop limit: forwarded once");
    assert!(checksum_holds(&seen));
    let from_clients = &shown(&lab, "statistics")["statistics"]["messages"];
    assert_eq!(
        from_clients.as_array().map(Vec::len),
        Some(0),
        "it was relayed too"
    );
}

#[test]
fn transit_to_port_547_of_a_server_passes_untouched_by_native_xdp() {
    transit_passes_untouched("xdp");
}

#[test]
fn transit_to_port_547_of_a_server_passes_untouched_by_generic_xdp() {
    transit_passes_untouched("xdp-generic");
}

#[test]
fn transit_to_port_547_of_a_server_passes_untouched_by_sockets() {
    transit_passes_untouched("socket");
}

/// req: RLY-1 (RFC 8415 §7.1)
#[test]
fn rly_1_access_interface_has_joined_all_dhcp_relay_agents_and_servers() {
    let Some(lab) = lab(CONFIGURATION, Lifetimes::default()) else {
        return;
    };

    let joined = lab
        .exec("r1", &["cat", "/proc/net/igmp6"])
        .expect("the list is readable");

    assert!(
        joined
            .lines()
            .any(|line| line.contains("acc0") && line.contains("ff020000000000000000000000010002")),
        "{joined}"
    );
}

/// The RELAY-FORW frames of a capture, once there are this many.
fn forwarded(lab: &Lab, count: usize) -> Vec<Vec<u8>> {
    let forwarded = || {
        let all = frames(lab, "core").into_iter();
        let forwarded: Vec<_> = all.filter(|it| payload(it).first() == Some(&12)).collect();
        (forwarded.len() >= count).then_some(forwarded)
    };
    wait_for("RELAY-FORW", Duration::from_secs(5), forwarded).expect("it is on the core side")
}

/// Both configured unicast servers get their copy, from the relay's own address and port 547; what comes to
/// port 546 is nothing to relay. req: RLY-28 (RFC 8415 §19), RLY-2, RLY-4 (RFC 9915 §7.2)
#[test]
fn rly_28_each_configured_server_gets_a_unicast_copy_from_port_547() {
    let Some(mut lab) = lab(CONFIGURATION, Lifetimes::default()) else {
        return;
    };
    start_capture(&mut lab, "core");
    let mut client = HandClient::on(&lab, "gen", "eth0");
    let to_client_port = client.message(1).ia_na(7, &[]).build();
    Hand::on(&lab, "gen", "eth0", "::", 40_000).say("ff02::1:2", 546, &to_client_port);

    let solicit = client.message(1).ia_na(1, &[]).build();
    client.say(&solicit);

    let seen = forwarded(&lab, 2);
    let mut copies: Vec<_> = seen
        .iter()
        .map(|it| (it[38..54].to_vec(), &it[54..58]))
        .collect();
    copies.sort();
    let server = |address: &str| ip(address).octets().to_vec();
    let ports: &[u8] = &[2, 0x23, 2, 0x23];
    let expected = ["2001:db8:c::11", "2001:db8:c::12"].map(|it| (server(it), ports));
    assert_eq!(copies, expected, "destination, source and destination port");
    for frame in &seen {
        assert_eq!(frame[22..38], ip("2001:db8:c::1").octets(), "source");
        assert_eq!(inner(payload(frame)), Some(&solicit[..]));
        assert!(checksum_holds(frame), "{frame:02x?}");
    }
}

/// req: RLY-30 (RFC 8415 §19), RLY-31 (RFC 8415 §7.1)
#[test]
fn rly_30_copy_to_all_dhcp_servers_has_hop_limit_8_and_a_global_source() {
    let group = "[[server]]\naddress = \"ff05::1:3\"\ninterface = \"core0\"\n";
    let (_, rest) = CONFIGURATION.split_once("[[access]]").expect("an access");
    let Some(mut lab) = lab(&format!("{group}[[access]]{rest}"), Lifetimes::default()) else {
        return;
    };
    start_capture(&mut lab, "core");
    let mut client = HandClient::on(&lab, "gen", "eth0");

    let solicit = client.message(1).ia_na(1, &[]).build();
    client.say(&solicit);

    let seen = forwarded(&lab, 1);
    assert_eq!(seen[0][38..54], ip("ff05::1:3").octets(), "destination");
    assert_eq!(seen[0][22..38], ip("2001:db8:c::1").octets(), "source");
    assert_eq!(seen[0][21], 8, "hop limit");
}

/// Nothing of the envelope depends on what a client asks for. req: RLY-78 (RFC 8415 §19.1.3)
#[test]
fn rly_78_prefixes_are_asked_for_in_the_same_envelope_as_addresses() {
    let Some(mut lab) = lab(CONFIGURATION, Lifetimes::default()) else {
        return;
    };
    start_capture(&mut lab, "core");
    let mut client = HandClient::on(&lab, "gen", "eth0");
    let address: Message = client.message(1).ia_na(1, &[]);
    let prefix: Message = client.message(1).ia_pd(1, &[]);
    let asked = [address.build(), prefix.build()];

    asked.iter().for_each(|it| client.say(it));

    let seen = forwarded(&lab, 4);
    let envelope = |frame: &Vec<u8>| {
        let mut layer = Layer::read(payload(frame));
        layer.options.retain(|(code, _)| *code != 9);
        layer
    };
    let first = envelope(&seen[0]);
    assert!(seen.iter().all(|it| envelope(it) == first), "{first:?}");
    for message in &asked {
        let copies = seen.iter().filter(|it| inner(payload(it)) == Some(message));
        assert_eq!(copies.count(), 2, "one copy for each server");
    }
}
