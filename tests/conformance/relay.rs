//! Receiving, classifying and relaying client messages (RFC 8415 §16, §19.1, §19.1.1).

use relay_core::types::{IfIndex, ServerId};
use relay_tests::bench::{Bench, Client, server};
use relay_tests::exchanges::{from_client, pd_lease};
use relay_tests::messages::{CLIENT_DUID, Layer, Message, hex, ip, vectors};

fn client() -> Client {
    Client::new(0xc3, 2)
}

fn solicit() -> Vec<u8> {
    hex(vectors::R1)
}

/// Every type that a client may send, known or not, so relayed that the server sees `bytes`.
#[track_caller]
fn expect_relayed(bytes: &[u8]) {
    let mut bench = Bench::default();

    bench.client(&client(), bytes);

    assert!(
        bench
            .seen
            .iter()
            .all(|seen| !seen.line.starts_with("discard")),
        "{:?}",
        bench.seen
    );
    let layer = Layer::read(&bench.forwarded());
    assert_eq!((layer.message_type, layer.hop_count), (12, 0));
    assert_eq!(layer.inner(), bytes);
}

/// One discard for one of these reasons, and nothing else.
#[track_caller]
fn expect_discard(bench: &mut Bench, reason: &str) {
    bench.expect_effects(&format!("discard {reason}"));
}

/// Answers go to port 546 when the inner message is for a client. req: RLY-3 (RFC 9915 §7.2)
#[test]
fn rly_3_answer_for_a_client_goes_to_port_546() {
    let mut bench = Bench::default();

    bench.client(&client(), &solicit());
    bench.take();
    bench.answer(&Message::new(2, 0x00ab_cdef).client_id(CLIENT_DUID).build());

    bench.expect_effects("to-client advertise fe80::c3 546 dev 2 mac 02:00:00:00:00:c3");
}

/// The observed source port of a client is not the reply port. req: RLY-5 (RFC 9915 §7.2)
#[test]
fn rly_5_client_on_port_40000_is_answered_on_546() {
    let mut bench = Bench::default();
    let client = Client {
        port: 40_000,
        ..client()
    };

    bench.client(&client, &solicit());
    let forward = Layer::read(&bench.forwarded());
    bench.answer(&Message::new(2, 0x00ab_cdef).client_id(CLIENT_DUID).build());

    assert_eq!(forward.find(135), None);
    bench.expect_effects("to-client advertise fe80::c3 546 dev 2 mac 02:00:00:00:00:c3");
}

/// Unknown options do not stop a message. req: RLY-6 (RFC 8415 §16)
#[test]
fn rly_6_unknown_option_and_vendor_are_relayed_byte_for_byte() {
    let message = Message::new(1, 1)
        .option(65_000, b"?")
        .option(17, &hex("fffffffe 0003000100"))
        .client_id(CLIENT_DUID);

    expect_relayed(&message.build());
}

/// Server messages outside a RELAY-REPL are discarded. req: RLY-7 (RFC 8415 §16.3, §16.10, §16.11)
#[test]
fn rly_7_server_message_from_a_client_is_discarded() {
    for message_type in [2, 7, 10] {
        let mut bench = Bench::default();
        let bytes = from_client(
            message_type,
            1,
            &client(),
            &pd_lease(1, "2001:db8:100::/56", 600),
        );

        bench.client(&client(), &bytes);

        expect_discard(&mut bench, "server_message_from_client");
        bench.expect_leases("");
    }
}

/// LEASEQUERY-REPLY is discarded. req: RLY-8 (RFC 5007 §4.2.2)
#[test]
fn rly_8_leasequery_reply_from_a_client_is_discarded() {
    let mut bench = Bench::default();

    bench.client(&client(), &from_client(15, 1, &client(), &[]));

    expect_discard(&mut bench, "server_message_from_client");
}

/// A type that the relay does not know is relayed. req: RLY-9 (RFC 8415 §19, RFC 7283 §4.2)
#[test]
fn rly_9_unknown_message_type_is_relayed() {
    for message_type in [0, 24, 35, 38, 200, 255] {
        expect_relayed(&from_client(message_type, 1, &client(), &[]));
    }
}

/// All client messages are eligible. req: RLY-10 (RFC 8415 §19.1)
#[test]
fn rly_10_every_client_message_type_is_relayed() {
    for message_type in [1, 3, 4, 5, 6, 8, 9, 11] {
        expect_relayed(&from_client(message_type, 1, &client(), &[]));
    }
}

/// Unicast from a client is not accepted. req: RLY-11 (RFC 9915 §16)
#[test]
fn rly_11_unicast_from_a_client_is_discarded() {
    let mut bench = Bench::default();

    bench.client_to(&client(), ip("2001:db8:1::1"), &solicit());

    expect_discard(&mut bench, "unicast_from_client");
}

/// LEASEQUERY stops at the perimeter. req: RLY-12 (RFC 5007 §5)
#[test]
fn rly_12_leasequery_from_a_client_is_discarded() {
    let mut bench = Bench::default();

    bench.client(&client(), &from_client(14, 1, &client(), &[]));

    expect_discard(&mut bench, "leasequery_from_client");
}

/// Types that exist on TCP only are dropped. req: RLY-13 (RFC 5460 §3, RFC 7653 §3)
#[test]
fn rly_13_tcp_only_type_is_discarded() {
    for message_type in [16, 17, 22, 23] {
        let mut bench = Bench::default();

        bench.client(&client(), &from_client(message_type, 1, &client(), &[]));

        expect_discard(&mut bench, "tcp_only_type");
    }
}

/// RECONFIGURE-REQUEST is relayed by default. req: RLY-14 (RFC 6977 §6.4)
#[test]
fn rly_14_reconfigure_request_is_relayed_by_default() {
    expect_relayed(&from_client(18, 1, &client(), &[]));
}

/// RECONFIGURE-REQUEST is dropped where refused. req: RLY-14 (RFC 6977 §6.4)
#[test]
fn rly_14_reconfigure_request_is_discarded_where_refused() {
    let mut bench = Bench::with(|config| config.access[0].accept_reconfigure_request = false);

    bench.client(&client(), &from_client(18, 1, &client(), &[]));
    expect_discard(&mut bench, "reconfigure_request_refused");

    bench.client(&Client::new(0xc3, 3), &from_client(18, 1, &client(), &[]));
    bench.expect_effects("to-server 0 reconfigure-request");
}

/// DHCPV4-QUERY is relayed. req: RLY-15 (RFC 7341 §10)
#[test]
fn rly_15_dhcpv4_query_is_relayed() {
    expect_relayed(&hex("14000000 0057 0004 01020304"));
}

/// ADDR-REG-INFORM is relayed with its global source, and answered to it. req: RLY-16 (RFC 9686)
#[test]
fn rly_16_address_registration_keeps_its_global_source() {
    let mut bench = Bench::default();
    let client = Client {
        address: ip("2001:db8:1::77"),
        ..client()
    };

    bench.client(&client, &from_client(36, 1, &client, &[]));
    let layer = Layer::read(&bench.forwarded());
    bench.answer(&from_client(37, 1, &client, &[]));

    assert_eq!(
        (layer.peer, layer.link),
        (client.address, ip("2001:db8:1::1"))
    );
    bench.expect_effects("to-client addr-reg-reply 2001:db8:1::77 546 dev 2 mac 02:00:00:00:00:c3");
}

/// A broken outer structure is dropped. req: RLY-17 (RFC 8415 §9)
#[test]
fn rly_17_broken_relay_forw_is_discarded() {
    let whole = hex(vectors::R4);
    let mut overrun = whole.clone();
    overrun[37] = 0xff;
    let empty = Layer::new(12, 0, ip("::"), ip("fe80::c3"))
        .option(18, b"p7")
        .build();
    for bytes in [&whole[..33], &whole[..35], &whole[..60], &overrun, &empty] {
        let mut bench = Bench::with(|config| config.access[0].accept_relayed = true);

        bench.client(&client(), bytes);

        expect_discard(&mut bench, "malformed");
    }
}

/// A broken RELAY-REPL is dropped. req: RLY-17 (RFC 8415 §9)
#[test]
fn rly_17_broken_relay_repl_is_discarded() {
    let whole = hex(vectors::R3);
    let mut overrun = whole.clone();
    overrun[37] = 0xff;
    let empty = Layer::new(13, 0, ip("2001:db8:1::1"), ip("fe80::c3"))
        .option(18, b"ge-0")
        .build();
    for bytes in [&whole[..33], &whole[..35], &whole[..60], &overrun, &empty] {
        let mut bench = Bench::default();

        bench.server(bytes);

        expect_discard(&mut bench, "malformed");
        bench.expect_leases("");
    }
}

/// The inside of a client message is not validated. req: RLY-17 (RFC 8415 §16)
#[test]
fn rly_17_client_message_with_broken_options_is_relayed() {
    expect_relayed(&hex("01abcdef 0001ffff 00"));
    expect_relayed(&hex("05abcdef 0019000c 0000"));
    expect_relayed(&hex("08abcdef 00010000 001900010000"));
}

/// No datagram is too short to be looked at. req: RLY-17 (RFC 8415 §8)
#[test]
fn rly_17_empty_datagram_is_discarded() {
    let mut bench = Bench::default();

    bench.client(&client(), &[]);
    expect_discard(&mut bench, "malformed");

    bench.server(&[]);
    assert_eq!(bench.lines("discard").len(), 1);
}

/// peer-address is the source of the datagram. req: RLY-18 (RFC 8415 §19.1)
#[test]
fn rly_18_peer_address_is_the_source_of_the_client() {
    let mut bench = Bench::default();

    bench.client(&client(), &solicit());

    assert_eq!(Layer::read(&bench.forwarded()).peer, ip("fe80::c3"));
}

/// The message is unchanged inside. req: RLY-19 (RFC 8415 §19.1, §21.10)
#[test]
fn rly_19_client_message_is_carried_unchanged() {
    // Options in descending order, one twice, one empty, one unknown.
    let message =
        hex("03000001 ea600000 00190000 00080002000a 00080002000b 0001000a000300010200000000c3");

    expect_relayed(&message);
}

/// link-address belongs to the client's link. req: RLY-20 (RFC 8415 §19.1.1)
#[test]
fn rly_20_link_address_is_the_one_of_the_receiving_interface() {
    let mut bench = Bench::default();

    bench.client(&client(), &solicit());
    assert_eq!(Layer::read(&bench.forwarded()).link, ip("2001:db8:1::1"));

    bench.client(&Client::new(0xc3, 3), &solicit());
    assert_eq!(Layer::read(&bench.forwarded()).link, ip("2001:db8:2::1"));
}

/// A link-local link-address may stand in. req: RLY-21 (RFC 8415 §19.1.1)
#[test]
fn rly_21_link_local_link_address_is_used_with_interface_id() {
    let mut bench = Bench::with(|config| config.access[0].link_address = ip("fe80::1"));

    bench.client(&client(), &solicit());

    let layer = Layer::read(&bench.forwarded());
    assert_eq!(
        (layer.link, layer.find(18)),
        (ip("fe80::1"), Some(&b"ge-0"[..]))
    );
}

/// hop-count starts at zero. req: RLY-22 (RFC 8415 §19.1.1)
#[test]
fn rly_22_first_hop_count_is_zero() {
    let mut bench = Bench::default();

    bench.client(&client(), &solicit());

    assert_eq!(Layer::read(&bench.forwarded()).hop_count, 0);
}

/// Two links that share a link-address are told apart. req: RLY-23 (RFC 8415 §19.1.1)
#[test]
fn rly_23_interface_id_tells_interfaces_of_one_prefix_apart() {
    let mut bench = Bench::with(|config| config.access[1].link_address = ip("2001:db8:1::1"));
    let second = Client::new(0xc4, 3);

    bench.client(&client(), &solicit());
    bench.take();
    let xid = bench.ask(&second, 1, &[]);
    assert_eq!(Layer::read(&bench.forwarded()).find(18), Some(&b"ge-1"[..]));
    bench.answer(&Message::new(2, xid).client_id(&second.duid).build());

    bench.expect_effects("to-client advertise fe80::c4 546 dev 3 mac 02:00:00:00:00:c4");
}

/// Interface-Id leaves link-address alone. req: RLY-24 (RFC 8415 §19.1.1)
#[test]
fn rly_24_interface_id_and_link_address_are_both_sent() {
    let mut bench = Bench::default();

    bench.client(&client(), &solicit());

    let layer = Layer::read(&bench.forwarded());
    assert_eq!(
        (layer.link, layer.find(18)),
        (ip("2001:db8:1::1"), Some(&b"ge-0"[..]))
    );
}

/// The whole of a relayed Solicit, octet for octet but for the order of options.
/// req: RLY-19 (RFC 8415 §19.1.1)
#[test]
fn rly_19_relayed_solicit_equals_vector_r2() {
    let mut bench = Bench::default();

    bench.client(&client(), &solicit());

    let mut sent = Layer::read(&bench.forwarded());
    let mut vector = Layer::read(&hex(vectors::R2));
    sent.options.sort();
    vector.options.sort();
    assert_eq!(sent, vector);
}

/// Interface-Id does not depend on the run of the relay. req: RLY-26 (RFC 8415 §21.18)
#[test]
fn rly_26_interface_id_is_the_same_after_a_restart() {
    let mut first = Bench::default();
    let mut second = Bench::default();
    second.relay = relay_core::relay::Relay::new(second.config.clone(), [99; 16]);

    first.client(&client(), &solicit());
    second.client(&Client::new(0xc4, 2), &solicit());
    second.take();
    second.reconfigure(|config| config.access[0].ifindex = Some(IfIndex(12)));
    second.client(
        &Client {
            interface: IfIndex(12),
            ..client()
        },
        &solicit(),
    );

    assert_eq!(first.forwarded(), second.forwarded());
}

/// Each destination gets the same copy. req: RLY-33 (RFC 8415 §19)
#[test]
fn rly_33_each_server_gets_the_same_copy() {
    let mut bench = Bench::with(|config| {
        config.servers.push(server(1, "2001:db8:53::2"));
        config.servers.push(server(2, "2001:db8:53::3"));
        config.access[0].servers = vec![ServerId(0), ServerId(2)];
    });

    bench.client(&client(), &solicit());

    let mut copies = bench.take();
    copies.sort_by(|a, b| a.line.cmp(&b.line));
    let lines: Vec<_> = copies.iter().map(|seen| seen.line.as_str()).collect();
    assert_eq!(lines, ["to-server 0 solicit", "to-server 2 solicit"]);
    assert_eq!(copies[0].message, copies[1].message);
}

/// Every server's answer is passed back. req: RLY-33 (RFC 8415 §19)
#[test]
fn rly_33_answers_of_both_servers_are_delivered() {
    let mut bench = Bench::with(|config| {
        config.servers.push(server(1, "2001:db8:53::2"));
        config.access[0].servers = vec![ServerId(0), ServerId(1)];
    });

    bench.client(&client(), &solicit());
    bench.take();
    for (source, preference) in [("2001:db8:53::1", 1), ("2001:db8:53::2", 2)] {
        let advertise = Message::new(2, 0x00ab_cdef)
            .option(7, &[preference])
            .build();
        let answer = relay_tests::messages::answer(bench.last_forward(), &advertise);
        bench.server_from(source, &answer);
        assert_eq!(bench.delivered(), advertise);
    }
}

/// The same link-address in every message. req: RLY-98 (RFC 6977 §5)
#[test]
fn rly_98_link_address_is_the_same_in_every_message() {
    let mut bench = Bench::with(|config| {
        config.access[0].link_address_aliases = vec![ip("2001:db8:1::2"), ip("2001:db8:1::3")];
    });

    for message_type in [1, 3, 4, 5, 6, 8, 9, 11] {
        bench.ask(&client(), message_type, &[]);
        assert_eq!(Layer::read(&bench.forwarded()).link, ip("2001:db8:1::1"));
    }
}

/// Types that reach clients only inside an answer. req: RLY-10 (RFC 8415 §19.1)
#[test]
fn rly_10_types_that_no_client_sends_are_discarded() {
    for message_type in [19, 21, 37] {
        let mut bench = Bench::default();

        bench.client(&client(), &from_client(message_type, 1, &client(), &[]));

        expect_discard(&mut bench, "not_from_client");
    }
}
