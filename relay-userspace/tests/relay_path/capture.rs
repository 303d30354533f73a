//! How frames are captured: each way with all tags, and what happens when that changes.

use nix::mount::{MntFlags, umount2};
use relay_common::net::VlanTags;
use relay_userspace::config::{Capture, OnExit};
use relay_userspace::control::view::DataplaneView as _;
use relay_userspace::counters::Direction;
use relay_userspace::handle::Command;
use relay_userspace::net::frame;

use crate::bench::*;
use crate::client::*;
use crate::network::*;

fn exchange_both_ways(capture: Capture, expected: &str) {
    let mut bench = Bench::start(capture, OnExit::Detach);
    assert_eq!(bench.port_state().capture, expected);
    for (vlans, xid) in all_tags().into_iter().zip(1..) {
        let solicit = message(1, xid, 0);
        let advertise = message(2, xid, 0);

        bench.client.send(&request_way(vlans), &solicit);
        let forwarded = bench.forwarded();
        bench.answer(&forwarded, &advertise);
        let frame = bench.client.receive();

        assert_eq!(forwarded[0], RELAY_FORW);
        assert_eq!(option(&forwarded, 9), Some(&solicit[..]));
        assert_eq!(
            option(&forwarded, 79),
            Some(&[&[0, 1], &CLIENT_MAC.0[..]].concat()[..])
        );
        bench.assert_nothing_more_is_forwarded();
        let mut way = request_way(vlans);
        way.destination_mac = CLIENT_MAC;
        way.source_mac = ROUTER_MAC;
        (way.source, way.destination) = (ROUTER, CLIENT);
        (way.source_port, way.destination_port) = (547, 546);
        let mut wanted = Vec::new();
        frame::build(&way, &advertise, 0, |frame| {
            wanted = [frame.headers(), &advertise].concat();
        });
        assert_eq!(frame, wanted, "{vlans:?}");
    }
    let port = bench.counters.port("acc0");
    assert_eq!(port.message(Direction::FromClient, 1).get(), 3);
    assert_eq!(port.message(Direction::ToClient, 2).get(), 3);
    let kea = bench.counters.port("kea");
    assert_eq!(kea.message(Direction::ToServer, 1).get(), 3);
    assert_eq!(kea.message(Direction::FromServer, RELAY_REPL).get(), 3);
    let captured = bench
        .dataplane
        .read()
        .packets
        .iter()
        .any(|(name, action, count)| {
            (name.as_str(), action.as_str(), *count) == ("acc0", "ring", 3)
        });
    assert_eq!(captured, expected != "socket");
    let pins = bench.stop();
    assert!(!ip("-d link show acc0").contains("xdp"));
    assert!(!pins.path().join("pins").exists());
}

/// req: RLY-1 (RFC 8415 §7.1), RLY-2 (RFC 8415 §7.2), RLY-46 (RFC 6221 §6.2)
#[test]
fn rly_1_socket_capture_relays_tagged_and_untagged_clients_once_both_ways() {
    in_namespace("socket_capture", || {
        exchange_both_ways(Capture::Socket, "socket")
    });
}

#[test]
fn generic_xdp_capture_relays_tagged_and_untagged_clients_once_both_ways() {
    with_programs("generic_xdp_capture", || {
        exchange_both_ways(Capture::XdpGeneric, "xdp-generic");
    });
}

#[test]
fn native_xdp_capture_relays_tagged_and_untagged_clients_once_both_ways() {
    with_programs("native_xdp_capture", || {
        exchange_both_ways(Capture::Auto, "xdp")
    });
}

#[test]
fn interface_that_is_made_anew_is_served_again() {
    in_namespace("interface_made_anew", || {
        for capture in [Capture::Socket, Capture::Auto] {
            let mut bench = Bench::start(capture, OnExit::Detach);
            ip("link del acc0");
            let update = |acc0| {
                let new = Box::new(surroundings(capture, acc0));
                bench.relay.send(Command::Surroundings(new)).unwrap();
                bench.port_state().capture
            };
            assert_eq!(update(None), "absent");
            add_access();
            assert_ne!(update(Some(index("acc0"))), "absent");
            bench.client = Client::new();

            bench
                .client
                .send(&request_way(VlanTags::NONE), &message(1, 5, 0));

            bench.forwarded();
            bench.assert_nothing_more_is_forwarded();
            bench.stop();
        }
    });
}

#[test]
fn program_of_somebody_else_makes_auto_take_sockets_and_say_why() {
    with_programs("foreign_program", || {
        let first = Bench::start(Capture::Auto, OnExit::Keep);
        let pins = first.stop();
        // Another daemon, with other pins, knows nothing of the first one's link.
        let second = Bench::start(Capture::Auto, OnExit::Detach);

        let state = second.port_state();

        assert_eq!(state.capture, "socket");
        assert!(
            state
                .reason
                .unwrap()
                .contains("another program is attached")
        );
        second
            .client
            .send(&request_way(VlanTags::NONE), &message(1, 6, 0));
        second.forwarded();
        second.stop();
        // The folder can go only when nothing is mounted there any more.
        umount2(&pins.path().join("pins"), MntFlags::MNT_DETACH).unwrap();
    });
}

#[test]
fn next_daemon_adopts_link_and_maps_of_the_last() {
    with_programs("adoption", || {
        let first = Bench::start(Capture::Auto, OnExit::Keep);
        first
            .client
            .send(&request_way(VlanTags::NONE), &message(1, 7, 0));
        first.forwarded();
        let pins = first.stop();
        let kept = ip("-d link show acc0");
        assert!(kept.contains("xdp"), "{kept}");

        let second = Bench::resume(Capture::Auto, OnExit::Detach, pins);

        let state = second.port_state();
        assert_eq!((state.capture.as_str(), state.reason), ("xdp", None));
        second
            .client
            .send(&request_way(VlanTags::NONE), &message(1, 8, 0));
        second.forwarded();
        second.assert_nothing_more_is_forwarded();
        // The counters are those of both.
        let packets = second.dataplane.read().packets;
        let ring = packets.iter().find(|(_, action, _)| action == "ring");
        assert_eq!(ring.map(|(_, _, count)| *count), Some(2));
        let pins = second.stop();
        assert!(!ip("-d link show acc0").contains("xdp"));
        // The bpffs that the first one mounted may be anybody's by now: it stays, without our pins.
        // The kernel itself puts maps.debug and progs.debug into each.
        let mounted = pins.path().join("pins");
        let names = std::fs::read_dir(&mounted)
            .unwrap()
            .map(|entry| entry.unwrap().file_name());
        let left: Vec<_> = names
            .filter(|name| !name.to_string_lossy().ends_with(".debug"))
            .collect();
        assert!(left.is_empty(), "{left:?}");
        umount2(&mounted, MntFlags::MNT_DETACH).unwrap();
    });
}
