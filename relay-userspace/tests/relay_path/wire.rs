//! What is taken from the wire and how it leaves.

use std::net::Ipv6Addr;

use relay_common::net::VlanTags;
use relay_userspace::config::{Capture, OnExit};
use relay_userspace::counters::ShellDrop;
use relay_userspace::net::frame;

use crate::bench::*;
use crate::client::*;
use crate::network::*;

/// req: RLY-35 (RFC 8200 §4.5)
#[test]
fn rly_35_fragmented_request_is_reassembled_and_relayed_once() {
    in_namespace("fragmented_request", || {
        for capture in [Capture::Socket, Capture::Auto] {
            let bench = Bench::start(capture, OnExit::Detach);
            let solicit = message(1, 9, 3000);

            bench.client.send(&request_way(VlanTags::NONE), &solicit);

            let forwarded = bench.forwarded();
            assert_eq!(option(&forwarded, 9), Some(&solicit[..]));
            bench.assert_nothing_more_is_forwarded();
            bench.stop();
        }
    });
}

/// req: RLY-34 (RFC 8200 §8.1)
#[test]
fn rly_34_request_with_a_wrong_or_absent_checksum_is_dropped_and_counted() {
    in_namespace("wrong_checksum", || {
        for capture in [Capture::Socket, Capture::Auto] {
            let bench = Bench::start(capture, OnExit::Detach);
            let payload = message(1, 3, 0);
            let mut whole = Vec::new();
            frame::build(&request_way(VlanTags::NONE), &payload, 0, |frame| {
                whole = [frame.headers(), &payload].concat();
            });
            let mut absent = whole.clone();
            absent[60..62].fill(0);
            let mut wrong = whole.clone();
            wrong[70] ^= 1;

            bench.client.send_raw(&absent);
            bench.client.send_raw(&wrong);
            bench.client.send_raw(&whole);

            assert_eq!(option(&bench.forwarded(), 9), Some(&payload[..]));
            bench.assert_nothing_more_is_forwarded();
            let drops = &bench.counters.port("acc0").shell_drops;
            assert_eq!(drops[ShellDrop::BadChecksum as usize].get(), 2);
            bench.stop();
        }
    });
}

/// A downstream relay that unicasts to us, and a client that unicasts to a server through us.
#[test]
fn relayed_message_to_an_own_address_is_relayed_once() {
    in_namespace("relayed_to_own_address", || {
        for capture in [Capture::Socket, Capture::Auto] {
            let bench = Bench::start(capture, OnExit::Detach);
            let mut relayed = vec![RELAY_FORW, 0];
            relayed.extend([0; 16]);
            relayed.extend(CLIENT.octets());
            push_option(&mut relayed, 9, &message(1, 4, 0));
            let mut way = request_way(VlanTags::NONE);
            (way.destination_mac, way.destination, way.source_port) = (ROUTER_MAC, LINK, 547);

            bench.client.send(&way, &relayed);

            let forwarded = bench.forwarded();
            assert_eq!(option(&forwarded, 9), Some(&relayed[..]));
            assert_eq!(forwarded[1], 1);
            bench.assert_nothing_more_is_forwarded();
            bench.stop();
        }
    });
}

/// req: RLY-2 (RFC 8415 §7.2)
#[test]
fn rly_2_only_datagrams_to_port_547_are_relayed() {
    in_namespace("port_547", || {
        for capture in [Capture::Socket, Capture::Auto] {
            let bench = Bench::start(capture, OnExit::Detach);
            let mut other = request_way(VlanTags::NONE);
            other.destination_port = 546;

            bench.client.send(&other, &message(1, 1, 0));
            bench
                .client
                .send(&request_way(VlanTags::NONE), &message(1, 2, 0));

            assert_eq!(option(&bench.forwarded(), 9), Some(&message(1, 2, 0)[..]));
            bench.assert_nothing_more_is_forwarded();
            bench.stop();
        }
    });
}

/// req: RLY-4 (RFC 9915 §7.2)
#[test]
fn rly_4_both_directions_leave_from_port_547() {
    in_namespace("from_port_547", || {
        let mut bench = Bench::start(Capture::Socket, OnExit::Detach);
        bench
            .client
            .send(&request_way(VlanTags::NONE), &message(1, 1, 0));

        // `forwarded` looks at the source port of what the server gets.
        let forwarded = bench.forwarded();
        bench.answer(&forwarded, &message(2, 1, 0));
        let frame = bench.client.receive();

        assert_eq!(frame[54..56], 547u16.to_be_bytes());
        bench.stop();
    });
}

/// A client whose request was reassembled: only its IPv6 address is known. req: RLY-35, DP-66
#[test]
fn answer_to_a_client_without_known_mac_leaves_through_the_kernel() {
    in_namespace("unknown_mac", || {
        let mut bench = Bench::start(Capture::Socket, OnExit::Detach);
        ip(&format!("neigh add {CLIENT} lladdr {CLIENT_MAC} dev acc0"));
        bench
            .client
            .send(&request_way(VlanTags::NONE), &message(1, 1, 3000));
        let forwarded = bench.forwarded();
        assert_eq!(option(&forwarded, 79), None);

        bench.answer(&forwarded, &message(2, 1, 0));
        let frame = bench.client.receive();

        assert_eq!(frame[..6], CLIENT_MAC.0);
        assert_eq!(frame[22..38], ROUTER.octets());
        assert_eq!(frame[38..54], CLIENT.octets());
        assert_eq!(frame[54..56], 547u16.to_be_bytes());
        assert_eq!(&frame[62..], message(2, 1, 0));
        bench.stop();
    });
}

/// req: RLY-30 (RFC 8415 §19), RLY-31 (RFC 8415 §7.1)
#[test]
fn rly_30_request_to_a_multicast_group_leaves_with_hop_limit_8_from_the_global_source() {
    in_namespace("multicast_servers", || {
        ip("link add core0 type veth peer name srv0");
        ip("link set core0 up");
        ip("link set srv0 up");
        wait_for_multicast("core0");
        let group: Ipv6Addr = "ff05::1:3".parse().unwrap();
        let mut initial = surroundings(Capture::Socket, Some(index("acc0")));
        initial.relay.servers[0].address = group;
        initial.relay.servers[0].interface = Some(index("core0"));
        let bench = Bench::with(initial, OnExit::Detach, tempfile::tempdir().unwrap());
        let mut wire = Client::on("srv0");

        bench
            .client
            .send(&request_way(VlanTags::NONE), &message(1, 1, 0));
        let frame = wire.receive_to(547);

        assert_eq!(frame[21], 8);
        assert_eq!(frame[22..38], SOURCE.octets());
        assert_eq!(frame[38..54], group.octets());
        assert_eq!(option(&frame[62..], 9), Some(&message(1, 1, 0)[..]));
        bench.stop();
    });
}
