//! Messages that nobody should send, at the real daemon: each is dropped for its reason, which a counter shows; no
//! binding changes, and the next client is served.

use crate::hand::{Hand, HandClient, RELAYS};
use crate::harness::{CONFIGURATION, bindings, counted, expect_counted, lab, listed, shown};
use relay_tests::messages::{Layer, Message, ip};
use std::net::Ipv6Addr;
use xtask::lab::{Lab, Lifetimes};

/// The relay's address on the access link, and on the core.
const ROUTER: &str = "2001:db8:a:1::2";
const SOURCE: &str = "2001:db8:c::1";
/// Its link-local address on the access link.
const ALONE: &str = "fe80::ff:fe00:2";

/// All drops, whatever their reason.
fn dropped(lab: &Lab) -> u64 {
    let statistics = shown(lab, "statistics");
    let rows = statistics["statistics"]["drops"].as_array();
    let rows = rows.expect("a list of drops").iter();
    rows.map(|row| row["count"].as_u64().expect("a number"))
        .sum()
}

/// What does not change while nobody gets or gives up a lease.
fn held(lab: &Lab) -> Vec<(String, String)> {
    let text = |row: &serde_json::Value, key: &str| row[key].to_string();
    let rows = bindings(lab);
    let row = |it: &serde_json::Value| (text(it, "prefix"), text(it, "valid_until"));
    rows.iter().map(row).collect()
}

/// A client has a lease; then each message is dropped for its reason and for nothing else.
fn each_is_dropped(lab: &Lab, sender: &Hand, cases: &[(&str, &str, &str, Vec<u8>)]) {
    let mut client = HandClient::on(lab, "cpe1", "eth0");
    assert_eq!(client.lease(1).destinations().len(), 2);
    let before = held(lab);
    assert_eq!(before.len(), 2);
    let pid = lab.pid("r1.twinrelay");

    for (what, reason, destination, message) in cases {
        let (all, of_reason) = (dropped(lab), counted(lab, "drops", reason));

        sender.say(destination, 547, message);

        println!("{what}: {reason}");
        expect_counted(lab, "drops", reason, of_reason + 1);
        assert_eq!(
            dropped(lab),
            all + 1,
            "{what} was dropped for more than one reason"
        );
    }

    assert_eq!(held(lab), before, "a binding changed");
    let mut next = HandClient::on(lab, "cpe2", "eth0");
    assert_eq!(
        next.lease(1).destinations().len(),
        2,
        "the next client is served"
    );
    assert_eq!(
        (pid, pid.is_some()),
        (lab.pid("r1.twinrelay"), true),
        "another process"
    );
}

fn relay_forw(hop_count: u8, inner: &[u8]) -> Vec<u8> {
    Layer::new(12, hop_count, Ipv6Addr::UNSPECIFIED, ip("fe80::77"))
        .message(inner)
        .build()
}

/// From the clients' side. req: RLY-17 (RFC 8415 §16), RLY-36 (RFC 8415 §19.1.2), RLY-7, RLY-12, RLY-13
#[test]
fn rly_17_malformed_looping_and_misdirected_messages_of_clients_are_dropped_and_counted() {
    let limits = "accept_relayed = true\nrate_limit = { per_client = 0, per_interface = 0 }";
    let configuration = CONFIGURATION.replace(
        "interface = \"acc0\"",
        &format!("interface = \"acc0\"\n{limits}"),
    );
    let Some(lab) = lab(&configuration, Lifetimes::default()) else {
        return;
    };
    let solicit = Message::new(1, 7)
        .client_id(&[0, 3, 0, 1, 2, 0, 0, 0, 0, 9])
        .build();
    let relayed = relay_forw(0, &solicit);
    let overrun = [&relayed[..34], &[0, 9, 0xff, 0xff, 1, 0, 0, 7][..]].concat();
    let deep = (0..40).fold(solicit.clone(), |inner, _| relay_forw(0, &inner));
    let of_type = |message_type| Message::new(message_type, 7).build();
    let huge = Message::new(1, 7).option(65_000, &[0; 65_500]).build();

    let cases = [
        ("an empty datagram", "malformed", RELAYS, Vec::new()),
        ("half a header", "malformed", RELAYS, solicit[..3].to_vec()),
        (
            "half a relay header",
            "malformed",
            RELAYS,
            relayed[..33].to_vec(),
        ),
        ("an option beyond the end", "malformed", RELAYS, overrun),
        (
            "a relay message around nothing",
            "malformed",
            RELAYS,
            relayed[..34].to_vec(),
        ),
        ("forty layers", "malformed", RELAYS, deep),
        ("a loop", "hop_count_limit", RELAYS, relay_forw(8, &solicit)),
        ("a Reply", "server_message_from_client", RELAYS, of_type(7)),
        (
            "a LEASEQUERY-REPLY",
            "server_message_from_client",
            RELAYS,
            of_type(15),
        ),
        (
            "a LEASEQUERY",
            "leasequery_from_client",
            RELAYS,
            of_type(14),
        ),
        ("an ACTIVELEASEQUERY", "tcp_only_type", RELAYS, of_type(22)),
        ("a DHCPV4-RESPONSE", "not_from_client", RELAYS, of_type(21)),
        ("a RELAY-REPL", "not_from_server", RELAYS, {
            let mut layer = relayed.clone();
            layer[0] = 13;
            layer
        }),
        (
            "a Solicit to the relay alone",
            "unicast_from_client",
            ALONE,
            solicit.clone(),
        ),
        ("more than a datagram can hold", "too_large", RELAYS, huge),
    ];

    let sender = Hand::on(&lab, "gen", "eth0", "::", 40_000);
    each_is_dropped(&lab, &sender, &cases);
}

/// From the servers' side, all of it from the address of s1. req: RLY-17, RLY-48 (RFC 8415 §19.2)
#[test]
fn rly_48_broken_and_misdirected_answers_are_dropped_and_counted() {
    let Some(lab) = lab(CONFIGURATION, Lifetimes::default()) else {
        return;
    };
    let reply = Message::new(7, 7).build();
    let answer = |link: &str, peer: &str, interface_id: &[u8]| {
        Layer::new(13, 0, ip(link), ip(peer))
            .option(18, interface_id)
            .message(&reply)
            .build()
    };
    let good = answer(ROUTER, "fe80::77", b"acc0");

    let cases = [
        (
            "half a relay header",
            "malformed",
            SOURCE,
            good[..33].to_vec(),
        ),
        (
            "an answer around nothing",
            "malformed",
            SOURCE,
            good[..34].to_vec(),
        ),
        (
            "an answer to a group",
            "malformed",
            SOURCE,
            answer(ROUTER, "ff02::1", b"acc0"),
        ),
        (
            "an unknown link",
            "unknown_link",
            SOURCE,
            answer("2001:db8:9::9", "fe80::77", b"nowhere"),
        ),
        (
            "a Reply without a layer",
            "not_for_relay",
            SOURCE,
            reply.clone(),
        ),
    ];

    let sender = Hand::on(&lab, "s1", "eth0", "2001:db8:c::11", 40_000);
    each_is_dropped(&lab, &sender, &cases);
}

/// Only configured servers are believed. req: RLY-61 (RFC 8213 §3)
#[test]
fn rly_61_answer_of_a_foreign_host_is_dropped_and_counted() {
    let Some(lab) = lab(CONFIGURATION, Lifetimes::default()) else {
        return;
    };
    let mut victim = HandClient::on(&lab, "gen", "eth0");
    let request = victim.message(3).ia_pd(1, &[]).build();
    let forged = Message::new(
        7,
        u32::from_be_bytes([0, request[1], request[2], request[3]]),
    )
    .client_id(&victim.duid)
    .server_id(&[0, 3, 0, 1, 2, 0, 0, 0, 0, 0x66])
    .ia_pd(
        1,
        &[relay_tests::messages::iaprefix(
            "2001:db8:d666::/56",
            600,
            600,
        )],
    )
    .build();
    let answer = Layer::new(13, 0, ip(ROUTER), ip("fe80::ff:fe00:9"))
        .option(18, b"acc0")
        .message(&forged)
        .build();
    victim.say(&request);

    Hand::on(&lab, "cr", "core0", "2001:db8:c::fe", 547).say(SOURCE, 547, &answer);

    expect_counted(&lab, "drops", "not_from_server", 1);
    assert_eq!(listed(&lab, "bindings").len(), 0);
}
