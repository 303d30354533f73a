//! Who is dropped when the token buckets bind, and under which reason.
//!
//! Tests that fill a bucket do so within milliseconds and with rates so low that no token comes
//! back meanwhile; what trickles in over time is tested on `relay_common::rate` itself.

use aya::maps::HashMap;
use relay_common::abi::TokenBucket;
use relay_common::maps;
use relay_tests::messages::{ip, option};

use crate::corpus::frame;
use crate::harness::{IFINDEX, Kernel, XDP_DROP, interface};

/// A token comes back only after a second; `rate::BURST_MIN` fit the bucket.
const RATE: u32 = 1;
/// What a full bucket gives to messages that keep the reserved share, and to those that give way.
const FULL: usize = relay_common::rate::BURST_MIN as usize;
const HALF: usize = FULL / 2;

fn limited(client_rate: u32, interface_rate: u32) -> Option<Kernel> {
    let mut kernel = Kernel::ready()?;
    let mut entry = interface();
    entry.client_rate = client_rate;
    entry.interface_rate = interface_rate;
    kernel.set_interface(entry);
    Some(kernel)
}

/// Runs a frame so often; how many times it reached the ring.
fn burst(kernel: &mut Kernel, frame: &[u8], times: usize) -> usize {
    for _ in 0..times {
        assert_eq!(
            kernel.run(frame),
            XDP_DROP,
            "a limit never passes a frame on"
        );
    }
    kernel.drain()
}

/// The frame, from another client.
fn from_mac(frame: &[u8], last: u8) -> Vec<u8> {
    let mut frame = frame.to_vec();
    frame[11] = last;
    frame
}

/// Ethernet, IPv6 and UDP of the LDRA's frame around another message.
fn relayed(peer: &str, inside: &[u8]) -> Vec<u8> {
    let mut bytes = frame("relay-forw-ldra")[..62].to_vec();
    bytes.extend([12, 0]);
    bytes.extend([0; 16]);
    bytes.extend(ip(peer).octets());
    bytes.extend(option(18, b"port"));
    bytes.extend(option(9, inside));
    bytes
}

/// req: RLY-71 (RFC 6221 §9)
#[test]
fn rly_71_client_bucket_holds_its_rate_and_solicit_only_half() {
    let Some(mut kernel) = limited(RATE, 0) else {
        return;
    };

    assert_eq!(burst(&mut kernel, &from_mac(&frame("renew"), 1), 40), FULL);
    assert_eq!(kernel.reasons(), [("client_rate", 36)]);
    assert_eq!(
        burst(&mut kernel, &from_mac(&frame("solicit"), 2), 40),
        HALF
    );
    assert_eq!(kernel.reasons(), [("client_rate", 74)]);
    let packets = kernel.packets();
    assert_eq!(
        (packets.captured, packets.dropped, packets.passed),
        (6, 74, 0)
    );
}

#[test]
fn each_type_with_a_lease_at_stake_keeps_its_share_after_a_flood() {
    for name in [
        "request", "confirm", "renew", "rebind", "release", "decline",
    ] {
        let Some(mut kernel) = limited(RATE, 0) else {
            return;
        };
        burst(&mut kernel, &frame("solicit"), 100);
        assert_eq!(burst(&mut kernel, &frame(name), 100), HALF, "{name}");
    }
    for name in [
        "solicit",
        "information-request",
        "unknown-type",
        "empty-message",
    ] {
        let Some(mut kernel) = limited(RATE, 0) else {
            return;
        };
        burst(&mut kernel, &frame("solicit"), 100);
        assert_eq!(burst(&mut kernel, &frame(name), 100), 0, "{name}");
    }
}

#[test]
fn clients_differ_by_mac_and_by_tags() {
    let Some(mut kernel) = limited(RATE, 0) else {
        return;
    };
    burst(&mut kernel, &frame("solicit"), 100);

    let other = from_mac(&frame("solicit"), 2);
    assert_eq!(burst(&mut kernel, &other, 100), HALF, "another MAC");
    assert_eq!(
        burst(&mut kernel, &frame("solicit-8021q"), 100),
        HALF,
        "one tag"
    );
    assert_eq!(
        burst(&mut kernel, &frame("solicit-qinq"), 100),
        HALF,
        "two tags"
    );
}

#[test]
fn relayed_clients_differ_by_peer_address_and_count_by_what_is_inside() {
    let Some(mut kernel) = limited(RATE, 0) else {
        return;
    };
    let inner = |message: u8| [message, 0, 0, 1];

    assert_eq!(
        burst(&mut kernel, &relayed("fe80::1", &inner(1)), 100),
        HALF
    );
    assert_eq!(
        burst(&mut kernel, &relayed("fe80::1", &inner(5)), 100),
        HALF
    );
    assert_eq!(
        burst(&mut kernel, &relayed("fe80::2", &inner(5)), 100),
        FULL
    );
    let nested = &relayed("fe80::3", &inner(1))[62..];
    assert_eq!(burst(&mut kernel, &relayed("fe80::ff", nested), 100), HALF);
    let nested = &relayed("fe80::4", &inner(1))[62..];
    assert_eq!(
        burst(&mut kernel, &relayed("fe80::ff", nested), 100),
        HALF,
        "the innermost peer-address is the client's"
    );
}

#[test]
fn interface_bucket_binds_all_clients_and_keeps_a_share() {
    let Some(mut kernel) = limited(0, RATE) else {
        return;
    };
    let mut solicits = 0;
    for client in 0..100 {
        solicits += burst(&mut kernel, &from_mac(&frame("solicit"), client), 1);
    }
    let mut renews = 0;
    for client in 0..100 {
        renews += burst(&mut kernel, &from_mac(&frame("renew"), client), 1);
    }

    assert_eq!((solicits, renews), (HALF, FULL - HALF));
    assert_eq!(kernel.reasons(), [("interface_rate", 196)]);
}

#[test]
fn message_refused_by_one_bucket_takes_nothing_from_the_other() {
    let Some(mut kernel) = limited(RATE, 1000) else {
        return;
    };
    burst(&mut kernel, &frame("renew"), 10);
    let before = interface_bucket(&kernel);
    burst(&mut kernel, &frame("renew"), 10);
    assert_eq!(kernel.reasons(), [("client_rate", 16)]);
    assert_eq!(interface_bucket(&kernel), before);

    let Some(mut kernel) = limited(1000, RATE) else {
        return;
    };
    burst(&mut kernel, &frame("renew"), 10);
    let clients = client_count(&kernel);
    for client in 2..100 {
        burst(&mut kernel, &from_mac(&frame("renew"), client), 1);
    }
    assert_eq!(kernel.reasons(), [("interface_rate", 104)]);
    assert_eq!(
        client_count(&kernel),
        clients,
        "made-up clients leave no trace"
    );
}

fn interface_bucket(kernel: &Kernel) -> TokenBucket {
    let map: HashMap<_, u32, TokenBucket> = kernel
        .map(maps::INTERFACE_RATE)
        .try_into()
        .expect("a hash of buckets");
    map.get(&IFINDEX, 0).expect("the program made it")
}

fn client_count(kernel: &Kernel) -> usize {
    let map: HashMap<_, relay_common::abi::ClientKey, TokenBucket> = kernel
        .map(maps::CLIENT_RATE)
        .try_into()
        .expect("a hash of buckets");
    map.keys().count()
}
