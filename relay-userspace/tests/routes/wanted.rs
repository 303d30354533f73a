//! What is wanted is there, what is not wanted any more is not, and what an earlier life left is adopted.

use std::collections::BTreeSet;

use relay_core::types::Prefix;
use relay_userspace::config::RoutesSection;
use relay_userspace::routes::monitor::{Heard, Monitor};

use crate::harness::{
    Bench, eventually, in_namespace, ip, many, ours, prefix, put, remove, section,
};

#[test]
fn wanted_route_is_installed_and_removed() {
    in_namespace("wanted_route_is_installed_and_removed", || {
        let bench = Bench::start(&section());

        bench.send([put("2001:db8:8000:100::/56", "fe80::1", 1)]);
        bench.expect("2001:db8:8000:100::/56", 1, Ok(()));
        let text = ours();
        assert!(
            text.contains("2001:db8:8000:100::/56 via fe80::1 dev acc0 metric 2070"),
            "{text}"
        );
        assert_eq!(bench.counters.routes.installed.get(), 1);

        bench.send([remove("2001:db8:8000:100::/56", 2)]);
        eventually("removed", || ours().is_empty());
        eventually("counted", || bench.counters.routes.installed.get() == 0);
    });
}

#[test]
fn another_next_hop_replaces_our_own_route() {
    in_namespace("another_next_hop_replaces_our_own_route", || {
        let bench = Bench::start(&section());
        bench.send([put("2001:db8::5/128", "fe80::1", 1)]);
        bench.expect("2001:db8::5/128", 1, Ok(()));

        bench.send([put("2001:db8::5/128", "fe80::2", 2)]);

        bench.expect("2001:db8::5/128", 2, Ok(()));
        let text = ours();
        assert_eq!(text.lines().count(), 1, "{text}");
        assert!(text.contains("via fe80::2"), "{text}");
    });
}

/// Without a covering reject route a missing delegation loops. req: DP-37 (RFC 4443 §3.1)
#[test]
fn dp_37_aggregates_are_unreachable_and_yield_to_an_equal_lease() {
    in_namespace("dp_37_aggregates", || {
        let aggregates = vec![prefix("2001:db8:8000::/40"), prefix("2001:db8:1::/56")];
        let bench = Bench::start(&RoutesSection {
            aggregates,
            ..section()
        });
        eventually("both", || ours().matches("unreachable").count() == 2);

        bench.send([put("2001:db8:1::/56", "fe80::1", 1)]);
        bench.expect("2001:db8:1::/56", 1, Ok(()));
        let text = ip("-6 route get 2001:db8:1::5");
        assert!(text.contains("via fe80::1"), "{text}");

        bench.routes.queue.configure(section());
        eventually("gone", || !ours().contains("unreachable"));
        assert!(ours().contains("via fe80::1"));
    });
}

#[test]
fn routes_of_an_earlier_run_are_adopted_or_left() {
    in_namespace("routes_of_an_earlier_run_are_adopted_or_left", || {
        ip("-6 route add 2001:db8:1::/56 via fe80::1 dev acc0 proto 207 metric 2070");
        ip("-6 route add 2001:db8:2::/56 via fe80::2 dev acc0 proto 207 metric 2070");
        ip("-6 route add 2001:db8:3::/56 via fe80::3 dev acc0 proto 207 metric 500");
        let bench = Bench::start(&section());

        bench.send([
            put("2001:db8:1::/56", "fe80::1", 1),
            put("2001:db8:3::/56", "fe80::3", 2),
        ]);
        let both = [bench.outcome(), bench.outcome()];

        assert!(
            both.iter().all(|outcome| outcome.result.is_ok()),
            "{both:?}"
        );
        let text = ours();
        assert!(text.contains("2001:db8:2::/56 via fe80::2"), "{text}");
        eventually("old metric gone", || !ours().contains("metric 500"));
        assert!(ours().contains("2001:db8:3::/56 via fe80::3 dev acc0 metric 2070"));
        assert_eq!(bench.counters.routes.repaired.get(), 0);
    });
}

#[test]
fn reload_with_another_table_and_metric_moves_the_routes() {
    in_namespace(
        "reload_with_another_table_and_metric_moves_the_routes",
        || {
            let bench = Bench::start(&section());
            bench.send([put("2001:db8:1::/56", "fe80::1", 1)]);
            bench.expect("2001:db8:1::/56", 1, Ok(()));

            bench.routes.queue.configure(RoutesSection {
                table: 1000,
                metric: 77,
                ..section()
            });

            eventually("moved", || {
                ip("-6 route show table all proto 207").contains("table 1000 metric 77")
            });
            assert!(ours().is_empty());
        },
    );
}

#[test]
fn resend_removes_what_is_not_named_again() {
    in_namespace("resend_removes_what_is_not_named_again", || {
        let bench = Bench::start(&section());
        bench.send([
            put("2001:db8:1::/56", "fe80::1", 1),
            put("2001:db8:2::/56", "fe80::2", 2),
        ]);
        let _ = (bench.outcome(), bench.outcome());

        bench.routes.queue.resend_begins();
        bench.send([put("2001:db8:2::/56", "fe80::2", 3)]);
        bench.routes.queue.resend_ends(false);

        eventually("one left", || ours().lines().count() == 1);
        assert!(ours().contains("2001:db8:2::/56"));
    });
}

/// A renewal that changes only lifetimes, or a resend of everything.
#[test]
fn same_wishes_again_cost_no_write() {
    in_namespace("same_wishes_again_cost_no_write", || {
        let bench = Bench::start(&section());
        bench.send(many(1000, 1));
        eventually("installed", || {
            bench.counters.routes.installed.get() == 1000
        });
        // Port 0 is nobody's: it hears everybody.
        let mut monitor = Monitor::open(0).unwrap();
        while bench.outcomes.lock().unwrap().try_recv().is_ok() {}

        bench.routes.queue.resend_begins();
        bench.send(many(1000, 5000));
        bench.routes.queue.resend_ends(true);
        for _ in 0..1000 {
            let outcome = bench.outcome();
            assert!(
                outcome.version >= 5000 && outcome.result.is_ok(),
                "{outcome:?}"
            );
        }

        let mut heard = 0;
        monitor.hear(|_| heard += 1).unwrap();
        assert_eq!(heard, 0);
        ip("-6 route add 2001:db8:f::/48 dev acc0");
        monitor.hear(|_| heard += 1).unwrap();
        assert_eq!(heard, 1, "the test hears nothing");
    });
}

/// A routing daemon that announces kernel routes takes back what it announced when the kernel tells of the end.
/// req: PDR-R-4 (RFC 8987 §4.2)
#[test]
fn pdr_r_4_route_and_its_end_are_told_to_whoever_announces_kernel_routes() {
    in_namespace("pdr_r_4_route_and_its_end_are_told", || {
        let bench = Bench::start(&section());
        // Port 0 is nobody's: it hears everybody.
        let mut daemon = Monitor::open(0).unwrap();
        let mut announced = BTreeSet::new();
        let mut follow = |announced: &mut BTreeSet<Prefix>| {
            let heard = daemon.hear(|what| match what {
                Heard::Route(route, there) if route.protocol == 207 => match there {
                    true => drop(announced.insert(route.prefix)),
                    false => drop(announced.remove(&route.prefix)),
                },
                _ => {}
            });
            assert!(!heard.unwrap().lost);
        };

        bench.send([put("2001:db8:1::/56", "fe80::1", 1)]);
        bench.expect("2001:db8:1::/56", 1, Ok(()));
        follow(&mut announced);
        assert_eq!(announced, BTreeSet::from([prefix("2001:db8:1::/56")]));

        bench.send([remove("2001:db8:1::/56", 2)]);
        eventually("removed", || ours().is_empty());
        follow(&mut announced);
        assert_eq!(announced, BTreeSet::new());
    });
}
