//! Ten thousand at a time. Times are printed, and only absurd ones fail.

use std::net::Ipv6Addr;
use std::time::Instant;

use relay_core::effect::{Route, RouteChange};
use relay_core::types::Prefix;
use relay_userspace::routes::Change;

use crate::harness::{
    Bench, PATIENCE, acc0, eventually, in_namespace, ip, many, ours, put, section,
};

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
        // More where the flush found again what was back already.
        let expected = 2 * (MANY as u64 - 2) + 1;
        eventually("counted", || {
            bench.counters.routes.repaired.get() >= expected
        });
        println!(
            "repaired: {} of {expected}",
            bench.counters.routes.repaired.get()
        );

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
