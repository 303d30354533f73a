//! Neighbour entries of clients.

use std::net::Ipv6Addr;

use relay_core::effect::NeighborChange;
use relay_userspace::routes::Change;

use crate::harness::{Bench, acc0, eventually, in_namespace, ip, neighbor, section};

/// Externally learned entries stay out of reach of the garbage collector. req: DP-28 (RFC 4861 §7.2.2)
#[test]
fn dp_28_neighbor_of_client_is_externally_learned_and_removed_when_unwanted() {
    in_namespace("dp_28_neighbor_of_client", || {
        let bench = Bench::start(&section());

        bench.send([Change::Neighbor(neighbor("fe80::1", 1))]);
        eventually("entry", || !ip("-6 neigh show dev acc0").is_empty());
        let text = ip("-6 neigh show dev acc0");
        assert!(text.contains("fe80::1 lladdr 02:00:00:00:01:01"), "{text}");
        assert!(text.contains("extern_learn"), "{text}");

        bench.send([Change::Neighbor(neighbor("fe80::1", 2))]);
        eventually("new MAC", || {
            ip("-6 neigh show dev acc0").contains("02:00:00:00:01:02")
        });

        let (interface, address) = (acc0(), "fe80::1".parse::<Ipv6Addr>().unwrap());
        bench.send([Change::Neighbor(NeighborChange::Remove {
            interface,
            address,
        })]);
        // A deleted entry lingers as FAILED until the kernel collects it.
        eventually("gone", || !ip("-6 neigh show dev acc0").contains("lladdr"));
    });
}

#[test]
fn permanent_neighbor_is_never_touched() {
    in_namespace("permanent_neighbor_is_never_touched", || {
        ip("-6 neigh add fe80::1 lladdr 02:00:00:00:09:09 dev acc0 nud permanent");
        let bench = Bench::start(&section());

        bench.send([Change::Neighbor(neighbor("fe80::1", 1))]);
        eventually("refused", || bench.counters.routes.errors.get() == 1);
        let (interface, address) = (acc0(), "fe80::1".parse::<Ipv6Addr>().unwrap());
        bench.send([Change::Neighbor(NeighborChange::Remove {
            interface,
            address,
        })]);
        bench.routes.stop();

        let text = ip("-6 neigh show dev acc0");
        assert!(
            text.contains("02:00:00:00:09:09") && text.contains("PERMANENT"),
            "{text}"
        );
    });
}

#[test]
fn neighbor_entries_of_an_earlier_life_go_and_those_of_others_stay() {
    in_namespace("neighbor_entries_of_an_earlier_life_go", || {
        for (address, kind) in [
            ("fe80::1", "nud stale extern_learn protocol 207"),
            ("fe80::2", "nud stale extern_learn protocol 207"),
            ("fe80::3", "nud stale extern_learn protocol 200"),
            ("fe80::4", "nud permanent"),
        ] {
            ip(&format!(
                "-6 neigh add {address} lladdr 02:00:00:00:01:01 dev acc0 {kind}"
            ));
        }
        let bench = Bench::start(&section());
        eventually("found", || bench.counters.routes.neighbors.get() == 2);

        bench.routes.queue.resend_begins();
        bench.send([Change::Neighbor(neighbor("fe80::1", 1))]);
        bench.routes.queue.resend_ends(true);

        eventually("gone", || bench.counters.routes.neighbors.get() == 1);
        let text = ip("-6 neigh show dev acc0");
        let there = |address: &str| {
            let line = text.lines().find(|line| line.starts_with(address));
            line.is_some_and(|line| line.contains("lladdr"))
        };
        let expected = [
            ("fe80::1 ", true),
            ("fe80::2 ", false),
            ("fe80::3 ", true),
            ("fe80::4 ", true),
        ];
        for (address, stays) in expected {
            assert_eq!(there(address), stays, "{address}: {text}");
        }
    });
}
