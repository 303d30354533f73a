//! RELAY-REPL and what it holds (RFC 8415 §19.2, §19.3, RFC 8213 §3).

use relay_core::types::{IfIndex, ServerId};
use relay_tests::bench::{Bench, Client, server};
use relay_tests::exchanges::{from_client, from_server, pd, pd_lease};
use relay_tests::messages::{CLIENT_DUID, Layer, Message, RELAY_DUID, hex, ip, vectors};

/// A RELAY-REPL that names link and peer as given, around an ADVERTISE nobody asked for.
fn relay_repl(link: &str, interface_id: Option<&[u8]>) -> Vec<u8> {
    let mut layer = Layer::new(13, 0, ip(link), ip("fe80::c3"));
    if let Some(interface_id) = interface_id {
        layer = layer.option(18, interface_id);
    }
    layer.message(&[2, 0, 0, 1]).build()
}

#[track_caller]
fn expect_delivery(bench: &mut Bench, start: &str) {
    let lines = bench.lines("to-client");
    assert_eq!(lines.len(), 1, "{lines:?}");
    assert!(
        lines[0].starts_with(&format!("to-client {start}")),
        "{lines:?}"
    );
}

/// The content of RELAY_MSG goes to peer-address. req: RLY-43 (RFC 8415 §19.2)
#[test]
fn rly_43_contained_message_goes_to_the_peer_address() {
    let mut bench = Bench::default();

    bench.server(&relay_repl("2001:db8:1::1", Some(b"ge-0")));

    expect_delivery(&mut bench, "advertise fe80::c3 546 dev 2");
}

/// The contained message is not modified. req: RLY-44 (RFC 8415 §19.2, RFC 6422 §5, RFC 8987 §4.1)
#[test]
fn rly_44_contained_message_is_delivered_octet_for_octet() {
    let soundless = hex("02000001 ffff0003");
    let strange = Message::new(7, 5)
        .option(65_000, b"x")
        .option(12, &[0; 16])
        .rapid_commit()
        .build();
    for inner in [soundless, strange] {
        let mut bench = Bench::default();
        let back = Layer::new(13, 0, ip("2001:db8:1::1"), ip("fe80::c3")).option(18, b"ge-0");

        bench.server(&back.message(&inner).build());

        assert_eq!(bench.delivered(), inner);
    }
}

/// Interface-Id wins over link-address. req: RLY-45 (RFC 8415 §19.2)
#[test]
fn rly_45_interface_id_wins_over_link_address() {
    let mut bench = Bench::default();

    bench.server(&relay_repl("2001:db8:1::1", Some(b"ge-1")));

    expect_delivery(&mut bench, "advertise fe80::c3 546 dev 3");
}

/// Without Interface-Id the link-address selects, aliases included. req: RLY-45 (RFC 8415 §19.2)
#[test]
fn rly_45_link_address_selects_without_interface_id() {
    for link in ["2001:db8:2::1", "2001:db8:2::fe"] {
        let mut bench = Bench::with(|config| {
            config.access[1].link_address_aliases = vec![ip("2001:db8:2::fe")];
        });

        bench.server(&relay_repl(link, None));

        expect_delivery(&mut bench, "advertise fe80::c3 546 dev 3");
    }
}

/// Any type inside is delivered. req: RLY-47 (RFC 8415 §19.2, RFC 7283 §4.3)
#[test]
fn rly_47_any_contained_type_is_delivered() {
    for message_type in [0, 1, 2, 7, 10, 15, 19, 21, 37, 200, 255] {
        let mut bench = Bench::default();
        let inner = vec![message_type, 0, 0, 9];
        let back = Layer::new(13, 0, ip("2001:db8:1::1"), ip("fe80::c3")).option(18, b"ge-0");

        bench.server(&back.message(&inner).build());

        assert_eq!(bench.delivered(), inner);
    }
}

/// A link that is not ours is never guessed. req: RLY-48 (RFC 8415 §19.2)
#[test]
fn rly_48_answer_for_an_unknown_link_is_dropped() {
    for (link, interface_id) in [
        ("2001:db8:1::1", Some(&b"xe-9"[..])),
        ("2001:db8:9::1", None),
        ("::", None),
        ("::", Some(&b""[..])),
    ] {
        let mut bench = Bench::default();

        bench.server(&relay_repl(link, interface_id));

        bench.expect_effects("discard unknown_link");
    }
}

/// hop-count of a RELAY-REPL is not looked at. req: RLY-50 (RFC 8415 §19.2)
#[test]
fn rly_50_hop_count_8_in_relay_repl_is_accepted() {
    for hop_count in [8, 32, 255] {
        let mut bench = Bench::default();
        let back = Layer::new(13, hop_count, ip("::"), ip("fe80::c3")).option(18, b"ge-0");

        bench.server(&back.message(&[2, 0, 0, 1]).build());

        assert_eq!(bench.delivered(), [2, 0, 0, 1]);
    }
}

/// The return path needs 9 and 18 only. req: RLY-51 (RFC 8415 §21.18)
#[test]
fn rly_51_answer_with_options_9_and_18_only_is_enough() {
    let mut bench = Bench::with(|config| config.access[0].subscriber_id = b"sub-1".to_vec());
    bench.client(&Client::new(0xc3, 2), &hex(vectors::R1));
    bench.take();

    bench.server(&hex(vectors::R3));

    bench.only("to-client reply fe80::c3 546 dev 2");
}

/// Foreign sources are refused. req: RLY-61 (RFC 8213 §3)
#[test]
fn rly_61_relay_repl_from_a_foreign_source_is_dropped() {
    let mut bench = Bench::default();

    bench.server_from("2001:db8:53::66", &hex(vectors::R3));

    bench.expect_effects("discard not_from_server");
    bench.expect_leases("");
}

/// RELAY-REPL from an access interface is refused. req: RLY-61 (RFC 8213 §3)
#[test]
fn rly_61_relay_repl_from_a_client_is_dropped() {
    let mut bench = Bench::default();

    bench.client(&Client::new(0xc3, 2), &hex(vectors::R3));

    let lines: Vec<_> = bench.take().into_iter().map(|seen| seen.line).collect();
    assert_eq!(lines.len(), 1, "{lines:?}");
    assert!(lines[0].starts_with("discard "), "{lines:?}");
    bench.expect_leases("");
}

/// A multicast server answers from any address, yet only by core interfaces. req: RLY-61 (RFC 8213 §3)
#[test]
fn rly_61_answer_of_a_multicast_server_is_accepted_from_core_only() {
    let mut bench = Bench::with(|config| {
        config.servers = vec![server(0, "ff05::1:3")];
        config.servers[0].interface = Some(IfIndex(9));
    });

    bench.server_from("2001:db8:77::5", &relay_repl("::", Some(b"ge-0")));
    expect_delivery(&mut bench, "advertise fe80::c3 546 dev 2");

    bench.input(relay_core::input::Input::Server(
        relay_core::input::ServerDatagram {
            interface: IfIndex(2),
            source: ip("2001:db8:77::5"),
            source_port: 547,
            payload: &relay_repl("::", Some(b"ge-0")),
        },
    ));
    bench.expect_effects("discard not_from_server");
}

/// What is no RELAY-REPL is not for us. req: RLY-7 (RFC 8415 §16.10)
#[test]
fn rly_7_bare_reply_from_a_server_is_dropped() {
    for message_type in [2, 7, 10, 12, 15] {
        let mut bench = Bench::default();
        let message = from_server(
            message_type,
            1,
            &Client::new(0xc3, 2),
            &pd_lease(1, "2001:db8:100::/56", 3600),
        );

        bench.server(&message);

        let lines: Vec<_> = bench.take().into_iter().map(|seen| seen.line).collect();
        assert_eq!(lines.len(), 1, "{lines:?}");
        assert!(lines[0].starts_with("discard "), "{lines:?}");
        bench.expect_leases("");
    }
}

/// An answer goes back by the tags that the request bore. req: RLY-43 (RFC 8415 §19.2)
#[test]
fn rly_43_answer_to_a_tagged_client_bears_its_tags() {
    use relay_common::net::{VlanTag, VlanTags};
    let outer = VlanTag {
        tpid: 0x88a8,
        vid: 100,
    };
    let inner = VlanTag {
        tpid: 0x8100,
        vid: 200,
    };
    for (vlans, id, line) in [
        (VlanTags::single(inner), "ge-0.200", " vlan 8100:200"),
        (
            VlanTags::double(outer, inner),
            "ge-0.100.200",
            " vlan 88a8:100 vlan 8100:200",
        ),
    ] {
        let mut bench = Bench::default();
        let client = Client {
            vlans,
            ..Client::new(0xc3, 2)
        };

        bench.client(&client, &hex(vectors::R1));
        assert_eq!(
            Layer::read(&bench.forwarded()).find(18),
            Some(id.as_bytes())
        );
        bench.answer(&Message::new(2, 0x00ab_cdef).client_id(CLIENT_DUID).build());

        bench.expect_effects(&format!(
            "to-client advertise fe80::c3 546 dev 2 mac 02:00:00:00:00:c3{line}"
        ));
    }
}

/// The same circuit looks the same from both relays of a pair. req: RLY-67 (RFC 8415 §21.18)
#[test]
fn rly_67_both_relays_of_a_pair_send_the_same_circuit_options() {
    let circuit = |relay_id: &[u8], ifindex: u32| {
        let mut bench = Bench::with(|config| {
            config.relay_id = relay_id.to_vec();
            config.access[0].ifindex = Some(IfIndex(ifindex));
            config.access[0].subscriber_id = b"sub".to_vec();
            config.access[0].servers = vec![ServerId(0)];
            config.access[0].remote_id = Some(relay_core::config::RemoteId {
                enterprise: 32_473,
                template: "{interface}:{mac}".to_owned(),
            });
        });
        bench.client(&Client::new(0xc3, ifindex), &hex(vectors::R1));
        let layer = Layer::read(&bench.forwarded());
        [18, 37, 38].map(|code| layer.find(code).expect("sent").to_vec())
    };

    assert_eq!(
        circuit(RELAY_DUID, 2),
        circuit(&[0, 3, 0, 1, 9, 9, 9, 9, 9, 9], 22)
    );
}

/// A neighbour repeats a client's message from its own MAC: it is relayed, and neither the answer nor the routes go
/// to the neighbour. req: RLY-43 (RFC 8415 §19.2)
#[test]
fn rly_43_answer_goes_to_the_mac_that_began_the_exchange() {
    let mut bench = Bench::default();
    let client = Client::new(0xc3, 2);
    let neighbour = Client {
        mac: Client::new(0xee, 2).mac,
        ..client.clone()
    };
    let lease = pd_lease(1, "2001:db8:100::/56", 3600);
    let xid = bench.ask(&client, 3, &pd(1, &[]));
    let request = from_client(3, xid, &client, &pd(1, &[]));

    bench.take();
    bench.client(&neighbour, &request);
    bench.expect_effects("notice transaction_conflict\nto-server 0 request");
    bench.reply(&client, xid, &lease);

    bench.expect_effects(
        "route put 2001:db8:100::/56 via fe80::c3 dev 2
         to-client reply fe80::c3 546 dev 2 mac 02:00:00:00:00:c3",
    );
}
