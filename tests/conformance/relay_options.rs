//! Options of the relay's own layer (RFC 4649, 4580, 4994, 5460 §5.4.1, 6939).

use relay_common::net::{VlanTag, VlanTags};
use relay_core::config::{RelayConfig, RemoteId};
use relay_tests::bench::{Bench, Client};
use relay_tests::messages::{CLIENT_DUID, Layer, Message, RELAY_DUID, hex, vectors};

/// The layer that a Solicit of the client of the vectors gets.
fn layer(client: &Client, change: impl FnOnce(&mut RelayConfig)) -> Layer {
    let mut bench = Bench::with(change);
    bench.client(client, &hex(vectors::R1));
    Layer::read(&bench.forwarded())
}

/// Client Link-Layer Address holds type 1 and the MAC. req: RLY-25 (RFC 9915 §19.1.1, RFC 6939 §4)
#[test]
fn rly_25_client_link_layer_address_holds_the_source_mac() {
    let layer = layer(&Client::new(0xc3, 2), |_| {});

    assert_eq!(layer.find(79), Some(&hex("0001 0200000000c3")[..]));
}

/// Not sent where switched off, nor where the MAC is unknown. req: RLY-25 (RFC 6939 §5)
#[test]
fn rly_25_client_link_layer_address_is_absent_where_off_or_unknown() {
    let off = layer(&Client::new(0xc3, 2), |config| {
        config.access[0].client_link_layer_address = false;
    });
    let unknown = layer(
        &Client {
            mac: None,
            ..Client::new(0xc3, 2)
        },
        |_| {},
    );

    assert_eq!((off.find(79), unknown.find(79)), (None, None));
}

/// Interface-Id is not delivered to the client. req: RLY-27 (RFC 8415 §21.18)
#[test]
fn rly_27_interface_id_is_outside_the_client_message() {
    let mut bench = Bench::default();
    bench.client(&Client::new(0xc3, 2), &hex(vectors::R1));
    let inner = Layer::read(&bench.forwarded()).inner().to_vec();
    let advertise = Message::new(2, 0x00ab_cdef).client_id(CLIENT_DUID).build();

    bench.answer(&advertise);

    assert_eq!(inner, hex(vectors::R1));
    assert_eq!(bench.delivered(), advertise);
}

/// Remote-Id is enterprise number and text. req: RLY-52 (RFC 4649 §3)
#[test]
fn rly_52_remote_id_is_enterprise_number_and_expanded_text() {
    let client = Client {
        vlans: VlanTags::double(
            VlanTag {
                tpid: 0x88a8,
                vid: 100,
            },
            VlanTag {
                tpid: 0x8100,
                vid: 7,
            },
        ),
        ..Client::new(0xc3, 2)
    };

    let layer = layer(&client, |config| {
        config.access[0].remote_id = Some(RemoteId {
            enterprise: 32_473,
            template: "{interface}/{svlan}/{cvlan}/x".to_owned(),
        });
    });

    assert_eq!(
        layer.find(37),
        Some(&[&hex("00007ed9")[..], b"ge-0/100/7/x"].concat()[..])
    );
}

/// Remote-Id is absent by default. req: RLY-52 (RFC 4649 §3)
#[test]
fn rly_52_remote_id_is_absent_by_default() {
    assert_eq!(
        layer(&Client::new(0xc3, 2), |_| {}).codes(),
        [9, 18, 53, 79]
    );
}

/// Subscriber-Id is the configured value. req: RLY-53 (RFC 4580 §3)
#[test]
fn rly_53_subscriber_id_is_the_configured_value() {
    let layer = layer(&Client::new(0xc3, 2), |config| {
        config.access[0].subscriber_id = b"s1".to_vec()
    });

    assert_eq!(layer.find(38), Some(&b"s1"[..]));
}

/// Subscriber-Id is never empty. req: RLY-53 (RFC 4580 §2)
#[test]
fn rly_53_empty_subscriber_id_is_not_sent() {
    assert_eq!(layer(&Client::new(0xc3, 2), |_| {}).find(38), None);
}

/// Relay-Id is the relay's DUID. req: RLY-54 (RFC 5460 §5.4.1)
#[test]
fn rly_54_relay_id_is_the_configured_duid() {
    assert_eq!(
        layer(&Client::new(0xc3, 2), |_| {}).find(53),
        Some(RELAY_DUID)
    );
}

/// Without a DUID no Relay-Id is sent. req: RLY-54 (RFC 5460 §5.4.1)
#[test]
fn rly_54_relay_id_is_absent_without_duid() {
    assert_eq!(
        layer(&Client::new(0xc3, 2), |config| config.relay_id.clear()).find(53),
        None
    );
}

/// Echo Request lists the configured codes. req: RLY-58 (RFC 4994 §4)
#[test]
fn rly_58_echo_request_lists_the_configured_codes() {
    let on = layer(&Client::new(0xc3, 2), |config| {
        config.access[0].echo_request = vec![37, 38]
    });
    let off = layer(&Client::new(0xc3, 2), |_| {});

    assert_eq!(
        (on.find(43), off.find(43)),
        (Some(&hex("0025 0026")[..]), None)
    );
}
