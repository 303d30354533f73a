//! RELAY-FORW from LDRAs and cascaded relays (RFC 8415 §19.1.2, RFC 6221, RFC 8357).

use relay_core::types::IfIndex;
use relay_tests::bench::{Bench, Client};
use relay_tests::exchanges::{from_client, from_server, pd, pd_lease};
use relay_tests::messages::{Layer, answer, hex, ip, vectors};

/// A bench whose interface 2 accepts relayed messages.
fn bench() -> Bench {
    Bench::with(|config| config.access[0].accept_relayed = true)
}

/// What sends from `address`, on interface 2.
fn downstream(address: &str) -> Client {
    Client {
        address: ip(address),
        port: 547,
        ..Client::new(0xc3, 2)
    }
}

/// A RELAY-FORW with this hop-count from an LDRA-like relay.
fn relay_forw(hop_count: u8) -> Vec<u8> {
    Layer::new(12, hop_count, ip("::"), ip("fe80::c3"))
        .option(18, b"p7")
        .message(&hex(vectors::R1))
        .build()
}

/// hop-count 8 is at the limit. req: RLY-36 (RFC 8415 §19.1.2)
#[test]
fn rly_36_received_hop_count_8_is_dropped() {
    for hop_count in [8, 9, 255] {
        let mut bench = bench();

        bench.client(&downstream("fe80::c3"), &relay_forw(hop_count));

        bench.expect_effects("discard hop_count_limit");
    }
}

/// Up to 7 passes, plus one. req: RLY-36, RLY-37 (RFC 8415 §19.1.2)
#[test]
fn rly_37_received_hop_count_is_incremented() {
    for hop_count in 0..8 {
        let mut bench = bench();

        bench.client(&downstream("fe80::c3"), &relay_forw(hop_count));

        assert_eq!(Layer::read(&bench.forwarded()).hop_count, hop_count + 1);
    }
}

/// peer-address is the sender, not the inner peer. req: RLY-38 (RFC 8415 §19.1.2)
#[test]
fn rly_38_peer_address_is_the_source_of_the_downstream_relay() {
    let mut bench = bench();

    bench.client(&downstream("fe80::aa"), &relay_forw(0));

    assert_eq!(Layer::read(&bench.forwarded()).peer, ip("fe80::aa"));
}

/// A downstream relay with a global source gets a zero link-address. req: RLY-39 (RFC 8415 §19.1.2)
#[test]
fn rly_39_global_source_gets_zero_link_address() {
    for source in ["2001:db8:1::aa", "fd00::aa"] {
        let mut bench = bench();

        bench.client(&downstream(source), &relay_forw(0));

        let layer = Layer::read(&bench.forwarded());
        assert_eq!((layer.link, layer.peer), (ip("::"), ip(source)));
    }
}

/// A link-local source gets the interface's link-address. req: RLY-40 (RFC 8415 §19.1.2)
#[test]
fn rly_40_link_local_source_gets_the_link_address() {
    let mut bench = bench();

    bench.client(&downstream("fe80::aa"), &relay_forw(0));

    let layer = Layer::read(&bench.forwarded());
    assert_eq!(
        (layer.link, layer.find(18)),
        (ip("2001:db8:1::1"), Some(&b"ge-0"[..]))
    );
}

/// What is inside stays untouched. req: RLY-41 (RFC 8415 §19.4)
#[test]
fn rly_41_inner_relay_forw_is_octet_identical() {
    let mut bench = bench();
    let inner = hex(vectors::R4);

    bench.client(&downstream("fe80::c3"), &inner);

    assert_eq!(Layer::read(&bench.forwarded()).inner(), inner);
}

/// An LDRA is answered at its client's address on 547. req: RLY-46 (RFC 6221 §6.2, §7.2)
#[test]
fn rly_46_answer_to_an_ldra_goes_link_local_to_port_547() {
    let mut bench = bench();
    bench.client(&downstream("fe80::c3"), &hex(vectors::R4));
    bench.take();

    bench.answer(&from_server(2, 0x00ab_cdef, &Client::new(0xc3, 2), &[]));

    bench.expect_effects("to-client relay-repl fe80::c3 547 dev 2 mac 02:00:00:00:00:c3");
}

/// An inner RELAY-REPL leaves towards port 547. req: RLY-3 (RFC 9915 §7.2)
#[test]
fn rly_3_answer_for_a_relay_goes_to_port_547() {
    let mut bench = bench();
    let relay = Client {
        port: 40_547,
        ..downstream("2001:db8:1::aa")
    };
    bench.client(&relay, &relay_forw(0));
    let forward = bench.forwarded();

    // A server without RFC 8357 does not return option 135.
    let mut back = Layer::read(&answer(&forward, &from_server(2, 1, &relay, &[])));
    back.options.retain(|(code, _)| *code != 135);
    bench.server(&back.build());

    let lines = bench.lines("to-client");
    assert_eq!(lines.len(), 1);
    assert!(
        lines[0].starts_with("to-client relay-repl 2001:db8:1::aa 547 dev 2"),
        "{lines:?}"
    );
}

/// The port of a relay that is gone from view is still 547, without state. req: RLY-49 (RFC 8415 §19.2)
#[test]
fn rly_49_inner_relay_repl_to_a_link_local_peer_leaves_on_the_named_interface() {
    let mut bench = bench();
    let inner = Layer::new(13, 0, ip("::"), ip("fe80::c3"))
        .option(18, b"p7")
        .message(&[2, 0, 0, 1]);
    let outer = Layer::new(13, 1, ip("::"), ip("fe80::aa")).option(18, b"ge-1");

    bench.server(&outer.message(&inner.build()).build());

    let lines = bench.lines("to-client");
    assert_eq!(lines.len(), 1);
    assert!(
        lines[0].starts_with("to-client relay-repl fe80::aa 547 dev 3"),
        "{lines:?}"
    );
}

/// No Client Link-Layer Address for what a relay sent. req: RLY-56 (RFC 6939 §5)
#[test]
fn rly_56_link_layer_address_is_absent_when_relaying_relay_forw() {
    let mut bench = bench();

    bench.client(&downstream("fe80::c3"), &hex(vectors::R4));

    assert_eq!(Layer::read(&bench.forwarded()).find(79), None);
}

/// RSOO is searched at every level. req: RLY-59 (RFC 6422 §5)
#[test]
fn rly_59_rsoo_at_any_level_is_dropped_where_refused() {
    let rsoo = hex("0041 0003 016100");
    let plain = Layer::new(12, 0, ip("::"), ip("fe80::c3")).message(&hex(vectors::R1));
    let with = plain.clone().option(66, &rsoo);
    let one_deeper = Layer::new(12, 1, ip("::"), ip("fe80::c4")).message(&with.build());
    let two_deeper = Layer::new(12, 2, ip("::"), ip("fe80::c5")).message(&one_deeper.build());
    for message in [&with, &one_deeper, &two_deeper] {
        let mut refusing = Bench::with(|config| {
            config.access[0].accept_relayed = true;
            config.access[0].accept_rsoo = false;
        });

        refusing.client(&downstream("fe80::c3"), &message.build());
        refusing.expect_effects("discard rsoo_refused");
        refusing.client(&downstream("fe80::c3"), &plain.build());
        refusing.expect_effects("to-server 0 solicit");

        let mut accepting = bench();
        accepting.client(&downstream("fe80::c3"), &message.build());
        accepting.expect_effects("to-server 0 solicit");
    }
}

/// An untrusted port takes no RELAY-FORW. req: RLY-60 (RFC 6221 §6.1.2)
#[test]
fn rly_60_relay_forw_from_a_subscriber_is_dropped() {
    let mut bench = bench();

    bench.client(&Client::new(0xc3, 3), &relay_forw(0));

    bench.expect_effects("discard relayed_not_accepted");
}

/// An LDRA's message gets a layer with hop-count 1. req: RLY-68 (RFC 6221 §7.2)
#[test]
fn rly_68_message_of_an_ldra_gets_a_second_layer() {
    let mut bench = bench();

    bench.client(&downstream("fe80::c3"), &hex(vectors::R4));

    let layer = Layer::read(&bench.forwarded());
    assert_eq!(layer.hop_count, 1);
    assert_eq!(
        (layer.link, layer.peer),
        (ip("2001:db8:1::1"), ip("fe80::c3"))
    );
    assert_eq!(Layer::read(layer.inner()).find(18), Some(&b"p7"[..]));
}

/// The RELAY-REPL for an LDRA names the same peer inside. req: RLY-70 (RFC 6221 §5.3.2, §6.2)
#[test]
fn rly_70_destination_equals_the_inner_peer_address() {
    let mut bench = bench();
    bench.client(&downstream("fe80::c3"), &hex(vectors::R4));
    bench.take();

    bench.answer(&from_server(2, 0x00ab_cdef, &Client::new(0xc3, 2), &[]));

    let inner = Layer::read(&bench.only("to-client relay-repl fe80::c3 547"));
    assert_eq!((inner.message_type, inner.peer), (13, ip("fe80::c3")));
}

/// Port 547 on both sides needs no option 135. req: RLY-72 (RFC 8357 §4.2, §5.2)
#[test]
fn rly_72_relay_port_is_absent_for_a_downstream_relay_on_547() {
    let mut bench = bench();

    bench.client(&downstream("fe80::c3"), &relay_forw(0));

    assert_eq!(Layer::read(&bench.forwarded()).find(135), None);
}

/// The downstream source port is sent along. req: RLY-72, RLY-73 (RFC 8357 §5.2)
#[test]
fn rly_73_relay_port_holds_the_downstream_source_port() {
    let mut bench = bench();
    let relay = Client {
        port: 1000,
        ..downstream("fe80::aa")
    };

    bench.client(&relay, &relay_forw(0));

    assert_eq!(
        Layer::read(&bench.forwarded()).find(135),
        Some(&hex("03e8")[..])
    );
}

/// The answer goes to the port in option 135. req: RLY-74 (RFC 8357 §5.2)
#[test]
fn rly_74_answer_goes_to_the_port_of_the_downstream_relay() {
    let mut bench = bench();
    let relay = Client {
        port: 1000,
        ..downstream("fe80::aa")
    };
    bench.client(&relay, &relay_forw(0));
    bench.take();

    bench.answer(&from_server(2, 0x00ab_cdef, &relay, &[]));

    bench.expect_effects("to-client relay-repl fe80::aa 1000 dev 2 mac 02:00:00:00:00:c3");
}

/// Value 0 means the normal ports. req: RLY-75 (RFC 8357 §6)
#[test]
fn rly_75_relay_port_zero_means_the_normal_port() {
    for (inner, port) in [(vec![2, 0, 0, 1], 546), (relay_repl_inside(), 547)] {
        let mut bench = bench();
        let back = Layer::new(13, 0, ip("::"), ip("fe80::aa"))
            .option(18, b"ge-0")
            .option(135, &[0, 0])
            .message(&inner);

        bench.server(&back.build());

        let lines = bench.lines("to-client");
        assert!(
            lines[0].contains(&format!(" fe80::aa {port} dev 2")),
            "{lines:?}"
        );
    }
}

fn relay_repl_inside() -> Vec<u8> {
    Layer::new(13, 0, ip("::"), ip("fe80::c3"))
        .option(18, b"p7")
        .message(&[2, 0, 0, 1])
        .build()
}

/// Option 135 stays in the relay layer. req: RLY-77 (RFC 8357 §5.2)
#[test]
fn rly_77_relay_port_is_not_delivered() {
    let mut bench = bench();
    let relay = Client {
        port: 1000,
        ..downstream("fe80::aa")
    };
    bench.client(&relay, &relay_forw(0));
    bench.take();

    bench.answer(&[2, 0xab, 0xcd, 0xef]);

    let inner = Layer::read(&bench.delivered());
    assert_eq!(
        (inner.find(135), inner.inner()),
        (None, &[2, 0xab, 0xcd, 0xef][..])
    );
}

/// A cascaded relay with a global address is no first hop: no route of ours leads to its clients.
/// req: RLY-69 (RFC 8987 §1)
#[test]
fn rly_69_client_behind_a_cascaded_relay_gets_no_route() {
    let mut bench = bench();
    let relay = downstream("2001:db8:1::aa");
    let ias = pd_lease(1, "2001:db8:100::/56", 3600);
    let request = Layer::new(12, 0, ip("2001:db8:aaaa::1"), ip("fe80::c3")).message(&from_client(
        3,
        7,
        &Client::new(0xc3, 2),
        &ias,
    ));

    bench.client(&relay, &request.build());
    bench.take();
    bench.answer(&from_server(7, 7, &Client::new(0xc3, 2), &ias));

    assert!(
        bench
            .seen
            .iter()
            .all(|seen| !seen.line.starts_with("route put")),
        "{:?}",
        bench.seen
    );
    bench.only("to-client relay-repl 2001:db8:1::aa 547 dev 2");
}

/// Eight layers are read, more are not followed, and nothing panics. req: RLY-17 (RFC 8415 §9)
#[test]
fn rly_17_deep_nesting_neither_panics_nor_binds() {
    let client = Client::new(0xc3, 2);
    let mut message = from_client(3, 7, &client, &pd(1, &[]));
    for depth in 0..200 {
        let mut bench = bench();
        bench.client(
            &Client {
                interface: IfIndex(2),
                ..client.clone()
            },
            &message,
        );
        assert_eq!(
            bench
                .take()
                .iter()
                .filter(|s| s.line.starts_with("route"))
                .count(),
            0
        );
        message = Layer::new(12, depth.min(7), ip("::"), ip("fe80::c3"))
            .message(&message)
            .build();
    }
}
