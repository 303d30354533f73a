//! Both ways through the relay with the vectors of the specification (spec relay.md §16).

use alloc::borrow::ToOwned;
use alloc::format;
use alloc::string::String;
use alloc::vec;
use alloc::vec::Vec;
use core::net::Ipv6Addr;

use proptest::prelude::*;
use relay_common::net::{TPID_8021AD, TPID_8021Q, VlanTag, VlanTags};

use crate::config::RemoteId;
use crate::effect::Effect;
use crate::input::{ClientDatagram, Input};
use crate::relay::Relay;
use crate::testing::*;
use crate::wire::iana;

fn client_lines(relay: &mut Relay, datagram: ClientDatagram<'_>) -> Vec<String> {
    relay.handle_input(T0, Input::Client(datagram));
    run(relay)
}

fn server_lines(relay: &mut Relay, payload: &[u8]) -> Vec<String> {
    relay.handle_input(T0, Input::Server(from_server(payload)));
    run(relay)
}

fn plain() -> Relay {
    relay_with(|config| {
        config.relay_id.clear();
        for access in &mut config.access {
            access.client_link_layer_address = false;
        }
    })
}

#[test]
fn forward_vector_r1_becomes_r2() {
    let mut relay = relay_with(|_| {});

    let lines = client_lines(&mut relay, from_client(&hex(R1)));

    assert_eq!(lines, [format!("server 0 solicit {}", text(&hex(R2)))]);
}

#[test]
fn forward_vector_r4_of_ldra_becomes_r5() {
    let mut relay = plain();
    let message = hex(R4);
    let mut datagram = from_client(&message);
    datagram.source_port = 547;

    let lines = client_lines(&mut relay, datagram);

    let expected = [hex(R5_HEAD), hex(R4)].concat();
    assert_eq!(lines, [format!("server 0 solicit {}", text(&expected))]);
}

#[test]
fn reply_vector_r3_reaches_the_client_byte_for_byte() {
    let mut relay = relay_with(|config| config.routes.enabled = false);
    let request = hex("03abcdf0 0001000a000300010200000000c3");
    client_lines(&mut relay, from_client(&request));

    let lines = server_lines(&mut relay, &hex(R3));

    let inner = text(&hex(R3)[46..]);
    let expected = format!("client if3 [] Some(02:00:00:00:00:c3) [fe80::c3]:546 {inner}");
    assert!(lines.contains(&expected), "{lines:?}");
}

#[test]
fn forward_type_table_drops_what_clients_must_not_send() {
    let refused = [
        (2, "server_message_from_client"),
        (7, "server_message_from_client"),
        (10, "server_message_from_client"),
        (13, "not_from_server"),
        (14, "leasequery_from_client"),
        (15, "server_message_from_client"),
        (16, "tcp_only_type"),
        (17, "tcp_only_type"),
        (18, "reconfigure_request_refused"),
        (19, "not_from_client"),
        (21, "not_from_client"),
        (22, "tcp_only_type"),
        (23, "tcp_only_type"),
        (37, "not_from_client"),
    ];
    let mut relay = relay_with(|config| config.access[0].accept_reconfigure_request = false);

    for message_type in 0..=255 {
        let mut payload = vec![0; 60];
        payload[0] = message_type;
        let lines = client_lines(&mut relay, from_client(&payload));
        let reason = refused.iter().find(|(refused, _)| *refused == message_type);
        match (reason, message_type) {
            (Some((_, reason)), _) => assert_eq!(lines, [format!("discarded {reason}")]),
            (None, 12) => assert_eq!(lines, ["discarded malformed"]),
            (None, _) => assert!(
                lines[0].starts_with("server 0"),
                "{message_type}: {lines:?}"
            ),
        }
    }
}

#[test]
fn forward_unicast_and_unanswerable_sources_are_dropped() {
    let mut relay = relay_with(|_| {});
    let solicit = hex(R1);
    let unicast = ClientDatagram {
        destination: ip("2001:db8:1::1"),
        ..from_client(&solicit)
    };
    let unspecified = ClientDatagram {
        source: Ipv6Addr::UNSPECIFIED,
        ..from_client(&solicit)
    };
    let multicast = ClientDatagram {
        source: ip("ff02::1"),
        ..from_client(&solicit)
    };

    assert_eq!(
        client_lines(&mut relay, unicast),
        ["discarded unicast_from_client"]
    );
    assert_eq!(
        client_lines(&mut relay, unspecified),
        ["discarded bad_source"]
    );
    assert_eq!(
        client_lines(&mut relay, multicast),
        ["discarded bad_source"]
    );
}

#[test]
fn forward_hop_count_seven_passes_and_eight_does_not() {
    let mut relay = plain();
    let mut message = hex(R4);

    message[1] = 7;
    let lines = client_lines(&mut relay, from_client(&message));
    assert!(lines[0].starts_with("server 0 solicit 0c08"), "{lines:?}");

    message[1] = 8;
    assert_eq!(
        client_lines(&mut relay, from_client(&message)),
        ["discarded hop_count_limit"]
    );
}

#[test]
fn forward_from_global_relay_has_no_link_address_and_its_port() {
    let mut relay = plain();
    let message = hex(R4);
    let mut datagram = from_client(&message);
    (datagram.source, datagram.source_port) = (ip("2001:db8:9::1"), 1000);
    datagram.destination = ip("2001:db8:1::1");

    let lines = client_lines(&mut relay, datagram);

    let header = "0c01 00000000000000000000000000000000 20010db8000900000000000000000001";
    let options = "0012000467652d30 0087000203e8 00090054";
    let expected = [hex(header), hex(options), message].concat();
    assert_eq!(lines, [format!("server 0 solicit {}", text(&expected))]);
}

#[test]
fn forward_rsoo_two_levels_deep_is_found() {
    let mut relay = plain();
    let mut inner = hex(R4);
    inner.extend(option(iana::OPTION_RSOO, &[]));
    let mut outer = hex(R5_HEAD);
    let at = outer.len() - 2;
    outer[at..].copy_from_slice(&u16::try_from(inner.len()).unwrap().to_be_bytes());
    outer.extend(&inner);

    assert_eq!(
        client_lines(&mut relay, from_client(&outer)),
        ["discarded rsoo_refused"]
    );
}

#[test]
fn forward_adds_all_configured_options_at_its_own_level() {
    let mut relay = relay_with(|config| {
        let access = &mut config.access[0];
        access.remote_id = Some(RemoteId {
            enterprise: 9,
            template: "{mac}".into(),
        });
        access.subscriber_id = b"sub".to_vec();
        access.echo_request = vec![37, 38];
    });

    let lines = client_lines(&mut relay, from_client(&hex(R1)));

    for expected in [
        "0025001500000009".to_owned() + &text(b"02:00:00:00:00:c3"),
        "00260003".to_owned() + &text(b"sub"),
        "002b000400250026".into(),
    ] {
        assert!(lines[0].contains(&expected), "{expected} in {lines:?}");
    }
}

#[test]
fn reply_to_tagged_client_goes_back_with_its_exact_tags() {
    let mut relay = plain();
    let outer = VlanTag {
        tpid: TPID_8021Q,
        vid: 100,
    };
    let vlans = VlanTags::double(
        outer,
        VlanTag {
            tpid: TPID_8021Q,
            vid: 7,
        },
    );
    let solicit = hex(R1);
    let lines = client_lines(
        &mut relay,
        ClientDatagram {
            vlans,
            ..from_client(&solicit)
        },
    );
    assert!(lines[0].contains(&text(b"ge-0.100.7")), "{lines:?}");

    let advertise = hex("02abcdef");
    let id = option(iana::OPTION_INTERFACE_ID, b"ge-0.100.7");
    let known = relay_repl(ip("2001:db8:1::1"), client(), &id, &advertise);
    let stranger = relay_repl(ip("2001:db8:1::1"), ip("fe80::d4"), &id, &advertise);

    let lines = server_lines(&mut relay, &known);
    assert_eq!(
        lines,
        [format!(
            "client if3 {vlans:?} Some({MAC}) [fe80::c3]:546 02abcdef"
        )]
    );
    let guess = VlanTags::double(
        VlanTag {
            tpid: TPID_8021AD,
            vid: 100,
        },
        VlanTag {
            tpid: TPID_8021Q,
            vid: 7,
        },
    );
    let lines = server_lines(&mut relay, &stranger);
    assert_eq!(
        lines,
        [
            "noticed unknown_mac".into(),
            format!("client if3 {guess:?} None [fe80::d4]:546 02abcdef")
        ]
    );
}

#[test]
fn reply_interface_id_wins_over_link_address_and_unknown_is_dropped() {
    let mut relay = plain();
    let inner = hex("0a000000");
    let id = |name: &[u8]| option(iana::OPTION_INTERFACE_ID, name);
    let link = ip("2001:db8:1::1");

    let by_id = relay_repl(link, client(), &id(b"ge-1"), &inner);
    assert!(server_lines(&mut relay, &by_id)[1].starts_with("client if4"));
    let by_address = relay_repl(link, client(), &[], &inner);
    assert!(server_lines(&mut relay, &by_address)[1].starts_with("client if3"));
    for unknown in [
        relay_repl(link, client(), &id(b"ge-2"), &inner),
        relay_repl(link, client(), &id(b"ge-0.4096"), &inner),
        relay_repl(link, client(), &id(b"ge-0.07"), &inner),
        relay_repl(ip("2001:db8:7::1"), client(), &[], &inner),
        relay_repl(Ipv6Addr::UNSPECIFIED, client(), &[], &inner),
    ] {
        assert_eq!(
            server_lines(&mut relay, &unknown),
            ["discarded unknown_link"]
        );
    }
}

#[test]
fn reply_for_downstream_relay_goes_to_its_port() {
    let mut relay = plain();
    let id = option(iana::OPTION_INTERFACE_ID, b"ge-0");
    let layer = relay_repl(Ipv6Addr::UNSPECIFIED, client(), &[], &hex("0a000000"));
    let port = |port: &str| [id.clone(), option(iana::OPTION_RELAY_PORT, &hex(port))].concat();

    for (options, expected) in [(id.clone(), 547), (port("0000"), 547), (port("03e8"), 1000)] {
        let message = relay_repl(ip("2001:db8:1::1"), client(), &options, &layer);
        let lines = server_lines(&mut relay, &message);
        let end = format!("[fe80::c3]:{expected} {}", text(&layer));
        assert!(lines[1].ends_with(&end), "{lines:?}");
    }
}

#[test]
fn reply_from_others_than_servers_is_dropped() {
    let mut relay = plain();
    let r3 = hex(R3);
    let mut foreign = from_server(&r3);
    foreign.source = ip("2001:db8:ff::12");
    let mut from_access = from_server(&r3);
    from_access.interface = ACCESS;

    for datagram in [foreign, from_access] {
        relay.handle_input(T0, Input::Server(datagram));
        assert_eq!(run(&mut relay), ["discarded not_from_server"]);
    }
    configure(&mut relay, T0, |config| {
        config.servers[0].address = iana::ALL_SERVERS
    });
    relay.handle_input(T0, Input::Server(foreign));
    assert!(!run(&mut relay).contains(&"discarded not_from_server".into()));
    relay.handle_input(T0, Input::Server(from_access));
    assert_eq!(run(&mut relay), ["discarded not_from_server"]);
}

#[test]
fn forward_larger_than_a_datagram_is_dropped() {
    let mut relay = plain();
    let mut message = vec![0; 65_500];
    message[0] = 1;

    assert_eq!(
        client_lines(&mut relay, from_client(&message)),
        ["discarded too_large"]
    );
}

proptest! {
    #[test]
    fn forward_then_reply_returns_the_inner_bytes(
        mut inner in proptest::collection::vec(any::<u8>(), 4..400),
        tags in 0usize..3,
    ) {
        inner[0] = 200;
        let tag = |vid| VlanTag { tpid: TPID_8021Q, vid };
        let vlans = [VlanTags::NONE, VlanTags::single(tag(9)), VlanTags::double(tag(9), tag(10))][tags];
        let mut relay = relay_with(|_| {});
        relay.handle_input(T0, Input::Client(ClientDatagram { vlans, ..from_client(&inner) }));
        let Some(Effect::SendToServer { message, .. }) = relay.poll_effect() else {
            panic!("not forwarded");
        };
        let mut message = relay.message(message).to_vec();
        message[0] = iana::RELAY_REPL;

        relay.handle_input(T0, Input::Server(from_server(&message)));

        let Some(Effect::SendToClient { path, message, .. }) = relay.poll_effect() else {
            panic!("not delivered");
        };
        prop_assert_eq!(relay.message(message), &inner[..]);
        prop_assert_eq!((path.vlans, path.mac, path.destination), (vlans, Some(MAC), client()));
    }

    #[test]
    fn relay_is_total_on_arbitrary_bytes(bytes in proptest::collection::vec(any::<u8>(), 0..200), first in 0u8..40) {
        let mut relay = relay_with(|_| {});
        let mut bytes = bytes;
        if let Some(byte) = bytes.first_mut() { *byte = first; }
        relay.handle_input(T0, Input::Client(from_client(&bytes)));
        relay.handle_input(T0, Input::Server(from_server(&bytes)));
        run(&mut relay);
    }
}
