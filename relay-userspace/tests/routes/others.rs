//! What others do: routes of theirs that stand in the way, routes of ours that they remove, interfaces that fall.

use std::net::Ipv6Addr;

use relay_core::input::RouteRefusal;
use relay_userspace::events::EventKind;
use relay_userspace::routes::Change;

use crate::harness::{Bench, eventually, in_namespace, ip, neighbor, ours, put, remove, section};

#[test]
fn foreign_route_of_any_metric_is_left_alone_until_it_goes() {
    in_namespace(
        "foreign_route_of_any_metric_is_left_alone_until_it_goes",
        || {
            for (version, metric) in [(1, 10), (2, 2070), (3, 9999)] {
                let foreign =
                    format!("2001:db8:1::/56 via fe80::9 dev acc0 proto static metric {metric}");
                ip(&format!("-6 route add {foreign}"));
                let bench = Bench::start(&section());

                bench.send([put("2001:db8:1::/56", "fe80::1", version)]);
                bench.expect("2001:db8:1::/56", version, Err(RouteRefusal::ForeignRoute));
                assert!(ours().is_empty());
                assert_eq!(bench.counters.routes.failed.get(), 1);

                ip(&format!("-6 route del {foreign}"));
                bench.expect("2001:db8:1::/56", version, Ok(()));
                assert!(ours().contains("2001:db8:1::/56"));
                bench.send([remove("2001:db8:1::/56", 10)]);
                bench.routes.stop();
                assert!(ours().is_empty());
            }
        },
    );
}

#[test]
fn foreign_route_that_appears_later_makes_ours_give_way() {
    in_namespace(
        "foreign_route_that_appears_later_makes_ours_give_way",
        || {
            let bench = Bench::start(&section());
            bench.send([put("2001:db8:1::/56", "fe80::1", 1)]);
            bench.expect("2001:db8:1::/56", 1, Ok(()));

            ip("-6 route add 2001:db8:1::/56 via fe80::9 dev acc0 proto static metric 100");

            bench.expect("2001:db8:1::/56", 1, Err(RouteRefusal::ForeignRoute));
            eventually("ours gone", || ours().is_empty());
            assert!(ip("-6 route show proto static").contains("2001:db8:1::/56"));
        },
    );
}

#[test]
fn route_overwritten_by_another_program_is_not_taken_back() {
    in_namespace(
        "route_overwritten_by_another_program_is_not_taken_back",
        || {
            let bench = Bench::start(&section());
            bench.send([put("2001:db8:1::/56", "fe80::1", 1)]);
            bench.expect("2001:db8:1::/56", 1, Ok(()));

            ip("-6 route replace 2001:db8:1::/56 via fe80::9 dev acc0 proto static metric 2070");

            bench.expect("2001:db8:1::/56", 1, Err(RouteRefusal::ForeignRoute));
            bench.send([remove("2001:db8:1::/56", 2)]);
            bench.routes.stop();
            assert!(ip("-6 route show proto static").contains("via fe80::9"));
        },
    );
}

#[test]
fn route_removed_by_another_program_is_put_back() {
    in_namespace("route_removed_by_another_program_is_put_back", || {
        let bench = Bench::start(&section());
        bench.send([put("2001:db8:1::/56", "fe80::1", 1)]);
        bench.expect("2001:db8:1::/56", 1, Ok(()));

        ip("-6 route del 2001:db8:1::/56 proto 207");

        eventually("put back", || ours().contains("2001:db8:1::/56"));
        eventually("counted", || bench.counters.routes.repaired.get() == 1);
        let repaired = EventKind::Route {
            event: "repaired".to_owned(),
            prefix: "2001:db8:1::/56".to_owned(),
            interface: Some("acc0".to_owned()),
            error: None,
        };
        assert_eq!(bench.event(), repaired);
    });
}

#[test]
fn interface_flap_brings_routes_and_neighbors_back() {
    in_namespace("interface_flap_brings_routes_and_neighbors_back", || {
        let bench = Bench::start(&section());
        bench.send([
            put("2001:db8:1::/56", "fe80::1", 1),
            Change::Neighbor(neighbor("fe80::1", 1)),
        ]);
        bench.expect("2001:db8:1::/56", 1, Ok(()));
        eventually("neighbour", || {
            ip("-6 neigh show dev acc0").contains("fe80::1 ")
        });

        ip("link set acc0 down");
        bench.expect("2001:db8:1::/56", 1, Err(RouteRefusal::Kernel(100)));
        assert!(ours().is_empty());
        ip("link set acc0 up");

        bench.expect("2001:db8:1::/56", 1, Ok(()));
        assert!(ours().contains("2001:db8:1::/56"));
        eventually("neighbour again", || {
            ip("-6 neigh show dev acc0").contains("fe80::1 ")
        });
        assert_eq!(bench.counters.routes.repaired.get(), 1);
    });
}

#[test]
fn interface_table_follows_the_kernel() {
    in_namespace("interface_table_follows_the_kernel", || {
        let bench = Bench::start(&section());
        let table = || bench.routes.interfaces.borrow().clone();
        assert!(
            table()
                .by_name("acc0")
                .is_some_and(|acc0| acc0.up && acc0.carrier)
        );

        ip("-6 addr add 2001:db8::1/64 dev acc0 nodad");
        ip("-6 addr add 2001:db8::2/64 dev acc0 nodad preferred_lft 0");
        eventually("addresses", || {
            let table = table();
            let acc0 = table.by_name("acc0").unwrap();
            let of = |text: &str| {
                let address: Ipv6Addr = text.parse().unwrap();
                acc0.addresses
                    .iter()
                    .find(|a| a.address == address)
                    .copied()
            };
            of("2001:db8::1").is_some_and(|a| a.prefix_bits == 64 && !a.deprecated)
                && of("2001:db8::2").is_some_and(|a| a.deprecated)
        });
        ip("link add link acc0 name mac0 type macvlan mode private");
        ip("link del acc0");
        eventually("gone", || table().by_name("acc0").is_none());
    });
}
