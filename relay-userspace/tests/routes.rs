//! The route follower against the real kernel, each test in a network namespace of its own that
//! ends with its thread. Needs root; skipped and counted otherwise.

#![allow(
    clippy::unwrap_used,
    reason = "helpers of tests are not recognised as tests"
)]

use std::io::Write as _;
use std::net::Ipv6Addr;
use std::process::Command;
use std::sync::mpsc::{Receiver, channel};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use relay_common::net::MacAddr;
use relay_core::effect::{NeighborChange, Route, RouteChange};
use relay_core::input::{RouteOutcome, RouteRefusal};
use relay_core::types::{IfIndex, Prefix};
use relay_userspace::config::RoutesSection;
use relay_userspace::counters::Counters;
use relay_userspace::events::{EventKind, EventReader, Events};
use relay_userspace::routes::{Change, Pace, Routes, prepare};

const PATIENCE: Duration = Duration::from_secs(5);

/// Runs `test` in a new network namespace with `acc0` (a veth, its peer `cli0`), or says why not.
fn in_namespace(name: &str, test: impl FnOnce() + Send + 'static) {
    if !nix::unistd::geteuid().is_root() {
        return skip(name, "not root");
    }
    let thread = std::thread::spawn(move || {
        if let Err(error) = nix::sched::unshare(nix::sched::CloneFlags::CLONE_NEWNET) {
            return Some(format!("no network namespaces: {error}"));
        }
        ip("link set lo up");
        ip("link add acc0 address 02:00:00:00:00:01 type veth peer name cli0");
        ip("link set cli0 up");
        ip("link set acc0 up");
        test();
        None
    });
    match thread.join() {
        Ok(None) => {}
        Ok(Some(reason)) => skip(name, &reason),
        Err(panic) => std::panic::resume_unwind(panic),
    }
}

fn skip(name: &str, reason: &str) {
    println!("SKIPPED: {name}: {reason}");
    if let Ok(path) = std::env::var("TWINRELAY_SKIPPED_FILE") {
        let file = std::fs::OpenOptions::new()
            .create(true)
            .append(true)
            .open(path);
        writeln!(file.unwrap(), "routes::{name}: {reason}").unwrap();
    }
}

/// `ip ARGUMENTS` in the namespace of this thread.
fn ip(arguments: &str) -> String {
    let output = Command::new("ip")
        .args(arguments.split(' '))
        .output()
        .unwrap();
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "ip {arguments}: {error}");
    String::from_utf8(output.stdout).unwrap()
}

fn acc0() -> IfIndex {
    let text = ip("-o link show acc0");
    IfIndex(text.split(':').next().unwrap().trim().parse().unwrap())
}

fn section() -> RoutesSection {
    RoutesSection {
        enabled: true,
        table: 254,
        protocol: 207,
        metric: 2070,
        allowed: Vec::new(),
        aggregates: Vec::new(),
        addresses: true,
        prefixes: true,
        neighbors: true,
    }
}

fn prefix(text: &str) -> Prefix {
    let (address, bits) = text.split_once('/').unwrap();
    Prefix::new(address.parse().unwrap(), bits.parse().unwrap()).unwrap()
}

fn put(text: &str, gateway: &str, version: u64) -> Change {
    Change::Route(RouteChange::Put(Route {
        prefix: prefix(text),
        gateway: gateway.parse().unwrap(),
        interface: acc0(),
        version,
    }))
}

fn remove(text: &str, version: u64) -> Change {
    Change::Route(RouteChange::Remove {
        prefix: prefix(text),
        version,
    })
}

/// A running follower and what it reports.
struct Bench {
    routes: Routes,
    counters: Arc<Counters>,
    outcomes: Mutex<Receiver<RouteOutcome>>,
    events: Mutex<EventReader>,
}

impl Bench {
    /// The next event that a monitor would show.
    fn event(&self) -> EventKind {
        let runtime = tokio::runtime::Builder::new_current_thread().build();
        let mut reader = self.events.lock().unwrap();
        let event = runtime.unwrap().block_on(reader.next());
        event.expect("the stream is open").what.clone()
    }

    fn start(section: &RoutesSection) -> Self {
        let counters = Arc::new(Counters::default());
        let events = Events::new(Arc::clone(&counters));
        let reader = events.subscribe();
        let prepared = prepare(section, Arc::clone(&counters), events).unwrap();
        let (sender, outcomes) = channel();
        let routes = prepared
            .start(Box::new(move |batch| {
                batch.iter().all(|outcome| sender.send(*outcome).is_ok())
            }))
            .unwrap();
        Self {
            routes,
            counters,
            outcomes: Mutex::new(outcomes),
            events: Mutex::new(reader),
        }
    }

    fn send(&self, changes: impl IntoIterator<Item = Change>) {
        self.routes.queue.send(changes, Pace::Now).unwrap();
    }

    fn outcome(&self) -> RouteOutcome {
        let outcomes = self.outcomes.lock().unwrap();
        outcomes.recv_timeout(PATIENCE).expect("an outcome in time")
    }

    fn expect(&self, text: &str, version: u64, result: Result<(), RouteRefusal>) {
        let expected = RouteOutcome {
            prefix: prefix(text),
            version,
            result,
        };
        assert_eq!(self.outcome(), expected);
    }
}

fn eventually(what: &str, condition: impl Fn() -> bool) {
    let start = Instant::now();
    while !condition() {
        assert!(
            start.elapsed() < PATIENCE,
            "{what}: not within {PATIENCE:?}"
        );
        std::thread::sleep(Duration::from_millis(5));
    }
}

fn ours() -> String {
    ip("-6 route show proto 207")
}

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

fn neighbor(address: &str, mac: u8) -> NeighborChange {
    NeighborChange::Put {
        interface: acc0(),
        address: address.parse().unwrap(),
        mac: MacAddr([2, 0, 0, 0, 1, mac]),
    }
}

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

/// How long a Reply would wait, and how long a mass restart takes. Numbers, not limits: they are
/// printed, and only absurd ones fail.
#[test]
fn ten_thousand_routes_are_written_in_time() {
    in_namespace("ten_thousand_routes_are_written_in_time", || {
        let bench = Bench::start(&section());
        let mut single = Vec::new();
        for version in 0..200 {
            let change = put(
                "2001:db8:ffff::/56",
                &format!("fe80::{version:x}"),
                version + 1,
            );
            let start = Instant::now();
            bench.send([change]);
            bench.outcome();
            single.push(start.elapsed());
        }
        single.sort();
        println!(
            "one route: median {:?}, 99 % {:?}",
            single[100], single[198]
        );
        let interface = acc0();
        let gateway: Ipv6Addr = "fe80::1".parse().unwrap();
        let base = u128::from("2001:db8:8000::".parse::<Ipv6Addr>().unwrap());
        let many: Vec<Change> = (0..10_000u64)
            .map(|n| {
                let address = Ipv6Addr::from(base + (u128::from(n) << 72));
                Change::Route(RouteChange::Put(Route {
                    prefix: Prefix::new(address, 56).unwrap(),
                    gateway,
                    interface,
                    version: 1000 + n,
                }))
            })
            .collect();

        let start = Instant::now();
        bench.send(many);
        for _ in 0..10_000 {
            assert!(bench.outcome().result.is_ok());
        }
        let took = start.elapsed();

        println!("10,000 routes: {took:?}");
        assert_eq!(ours().lines().count(), 10_001);
        assert!(took < PATIENCE);
        let start = Instant::now();
        ip("link set acc0 down");
        ip("link set acc0 up");
        eventually("all back", || ours().lines().count() == 10_001);
        println!("10,001 routes after a flap: {:?}", start.elapsed());
    });
}

/// `count` wishes over `acc0` as it is now, versions from `version` on.
fn many(count: u64, version: u64) -> Vec<Change> {
    let interface = acc0();
    let base = u128::from("2001:db8:8000::".parse::<Ipv6Addr>().unwrap());
    let wish = |n: u64| {
        let address = Ipv6Addr::from(base + (u128::from(n) << 72));
        Change::Route(RouteChange::Put(Route {
            prefix: Prefix::new(address, 56).unwrap(),
            gateway: Ipv6Addr::from((0xfe80 << 112) + u128::from(n / 2 + 1)),
            interface,
            version: version + n,
        }))
    };
    (0..count).map(wish).collect()
}

/// Whatever happens to them: times are printed, and only absurd ones fail.
#[test]
fn ten_thousand_routes_come_back_whatever_others_do_and_foreign_ones_stay() {
    in_namespace("ten_thousand_routes_come_back", || {
        const MANY: usize = 10_000;
        ip("link add core0 type veth peer name cli1");
        ip("link set core0 up");
        ip("-6 route add 2001:db8:8000::/56 dev core0 proto static metric 10");
        ip("-6 route add 2001:db8:8000:100::/56 dev core0 proto ra metric 9999");
        ip("-6 route add 2001:db8:8000::/40 dev core0 proto bird");
        let foreign = || ip("-6 route show dev core0").replace(" linkdown", "");
        let before = foreign();
        let bench = Bench::start(&section());
        let back = |what: &str, since: Instant| {
            eventually(what, || ours().lines().count() == MANY - 2);
            println!("{what}: {:?}", since.elapsed());
            assert_eq!(foreign(), before, "{what}");
        };

        let start = Instant::now();
        bench.send(many(MANY as u64, 1));
        back("installed", start);
        eventually("refused", || bench.counters.routes.failed.get() == 2);

        ip("link set acc0 down");
        ip("link set acc0 up");
        back("a flap", Instant::now());

        ip("-6 route flush proto 207");
        back("a flush", Instant::now());

        let start = Instant::now();
        ip("-6 route del 2001:db8:8000:500::/56 proto 207");
        back("a deletion", start);
        eventually("counted", || {
            bench.counters.routes.repaired.get() == 2 * (MANY as u64 - 2) + 1
        });

        ip("link del acc0");
        eventually("gone", || bench.counters.routes.installed.get() == 0);
        ip("link add acc0 address 02:00:00:00:00:01 type veth peer name cli0");
        ip("link set cli0 up");
        ip("link set acc0 up");
        let start = Instant::now();
        bench.send(many(MANY as u64, 100_000));
        back("an interface made anew", start);
        eventually("refused", || bench.counters.routes.failed.get() == 2);
        assert_eq!(bench.counters.routes.installed.get(), MANY as u64 - 2);
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
        let mut monitor = relay_userspace::routes::monitor::Monitor::open(0).unwrap();
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
