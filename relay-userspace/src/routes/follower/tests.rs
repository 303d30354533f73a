//! The rules, without a kernel.

use std::collections::HashSet;
use std::sync::Arc;

use relay_core::effect::{Route, RouteChange};
use relay_core::input::RouteRefusal;
use relay_core::types::{IfIndex, Prefix};

use super::*;
use crate::interfaces::{Interface, InterfaceTable};
use crate::routes::objects::KernelRoute;

const ACCESS: IfIndex = IfIndex(2);

fn prefix(text: &str) -> Prefix {
    Prefix::new(text.parse().unwrap(), 56).unwrap()
}

fn via(gateway: &str) -> Target {
    Target::Via {
        gateway: gateway.parse().unwrap(),
        interface: ACCESS,
    }
}

fn route(protocol: u8, metric: u32, target: Target) -> KernelRoute {
    KernelRoute {
        prefix: prefix("2001:db8::"),
        table: 254,
        protocol,
        metric,
        target,
        interface: next_hop(target).map(|(_, interface)| interface),
    }
}

/// A whole comparison with these routes, or an empty table.
fn compare(follower: &mut Follower, routes: &[KernelRoute]) {
    follower.comparison_begins();
    routes.iter().for_each(|route| follower.compare(route));
    follower.dump_ended();
    while !follower.walk(1) {}
}

fn put(gateway: &str, version: u64) -> RouteChange {
    RouteChange::Put(Route {
        prefix: prefix("2001:db8::"),
        gateway: gateway.parse().unwrap(),
        interface: ACCESS,
        version,
    })
}

fn interfaces(up: bool) -> InterfaceTable {
    InterfaceTable {
        interfaces: vec![Interface {
            index: ACCESS,
            name: "acc0".to_owned(),
            mac: None,
            up,
            carrier: up,
            mtu: 1500,
            vlan: None,
            macvlan_parent: None,
            addresses: Vec::new(),
        }],
    }
}

fn follower() -> Follower {
    let policy = Policy {
        table: 254,
        protocol: 207,
        metric: 2070,
        aggregates: Vec::new(),
    };
    let mut follower = Follower::new(policy, Arc::default());
    follower.interfaces_changed(&interfaces(true), &HashSet::new());
    compare(&mut follower, &[]);
    follower
}

/// The writes of one batch as text, all of which the kernel takes.
fn batch(follower: &mut Follower) -> Vec<String> {
    let batch = follower.next_batch(128, Pace::InTurn);
    follower.written(&batch, Some(&[]));
    batch.iter().map(text).collect()
}

fn text(write: &Write) -> String {
    let metric = write.key.metric;
    match write.target {
        None => format!("delete {metric}"),
        Some(target) => match next_hop(target) {
            Some((gateway, _)) => format!("create {metric} via {gateway}"),
            None => format!("create {metric} unreachable"),
        },
    }
}

fn results(follower: &mut Follower) -> Vec<(u64, Result<(), RouteRefusal>)> {
    let outcomes = follower.take_outcomes(100);
    outcomes.iter().map(|o| (o.version, o.result)).collect()
}

#[test]
fn older_wish_never_overrides_a_newer_one() {
    let mut follower = follower();
    follower.apply(put("fe80::2", 5), Pace::Now);
    follower.apply(put("fe80::1", 4), Pace::Now);
    follower.apply(
        RouteChange::Remove {
            prefix: prefix("2001:db8::"),
            version: 3,
        },
        Pace::Now,
    );

    assert_eq!(batch(&mut follower), ["create 2070 via fe80::2"]);
    assert_eq!(results(&mut follower), [(5, Ok(()))]);
}

#[test]
fn same_wish_again_is_answered_without_a_write() {
    let mut follower = follower();
    follower.apply(put("fe80::1", 1), Pace::Now);
    batch(&mut follower);
    follower.take_outcomes(100);

    follower.apply(put("fe80::1", 2), Pace::Now);

    assert!(batch(&mut follower).is_empty());
    assert_eq!(results(&mut follower), [(2, Ok(()))]);
}

#[test]
fn unexpected_route_in_the_place_is_looked_at_before_anything_is_written() {
    let mut follower = follower();
    follower.apply(put("fe80::1", 1), Pace::Now);
    let writes = follower.next_batch(128, Pace::InTurn);
    follower.written(&writes, Some(&[(0, libc::EEXIST)]));
    assert!(follower.in_doubt());
    assert!(batch(&mut follower).is_empty());
    assert!(follower.take_outcomes(100).is_empty());

    compare(&mut follower, &[route(207, 2070, via("fe80::7"))]);

    assert_eq!(
        batch(&mut follower),
        ["delete 2070", "create 2070 via fe80::1"]
    );
    assert_eq!(results(&mut follower), [(1, Ok(()))]);
}

#[test]
fn lost_answers_lead_to_a_comparison_and_only_differences_are_written() {
    let mut follower = follower();
    follower.apply(put("fe80::1", 1), Pace::Now);
    let writes = follower.next_batch(128, Pace::InTurn);
    follower.written(&writes, None);
    assert!(follower.in_doubt());

    compare(&mut follower, &[route(207, 2070, via("fe80::1"))]);

    assert!(batch(&mut follower).is_empty());
    assert_eq!(results(&mut follower), [(1, Ok(()))]);
}

#[test]
fn foreign_route_found_by_comparison_makes_ours_give_way() {
    let mut follower = follower();
    follower.apply(put("fe80::1", 1), Pace::Now);
    batch(&mut follower);
    follower.take_outcomes(100);

    let both = [route(207, 2070, via("fe80::1")), route(4, 9, Target::Other)];
    compare(&mut follower, &both);

    assert_eq!(batch(&mut follower), ["delete 2070"]);
    let refused = Err(RouteRefusal::ForeignRoute);
    assert_eq!(results(&mut follower), [(1, refused)]);
}

#[test]
fn foreign_routes_of_other_tables_do_not_matter() {
    let mut follower = follower();
    let mut foreign = route(4, 100, via("fe80::9"));
    foreign.table = 1000;
    follower.kernel_changed(&foreign, true);

    follower.apply(put("fe80::1", 1), Pace::Now);

    assert_eq!(batch(&mut follower), ["create 2070 via fe80::1"]);
}

#[test]
fn kernel_error_is_reported_and_tried_again_at_the_next_comparison() {
    let mut follower = follower();
    follower.apply(put("fe80::1", 1), Pace::Now);
    let writes = follower.next_batch(128, Pace::InTurn);
    follower.written(&writes, Some(&[(0, libc::ENOMEM)]));
    let refused = Err(RouteRefusal::Kernel(libc::ENOMEM));
    assert_eq!(results(&mut follower), [(1, refused)]);

    compare(&mut follower, &[]);

    assert_eq!(batch(&mut follower), ["create 2070 via fe80::1"]);
    assert_eq!(results(&mut follower), [(1, Ok(()))]);
}

#[test]
fn nothing_is_written_to_an_interface_that_is_down() {
    let mut follower = follower();
    follower.interfaces_changed(&interfaces(false), &HashSet::new());
    follower.apply(put("fe80::1", 1), Pace::Now);
    assert!(batch(&mut follower).is_empty());
    let refused = Err(RouteRefusal::Kernel(libc::ENETDOWN));
    assert_eq!(results(&mut follower), [(1, refused)]);

    follower.interfaces_changed(&interfaces(true), &HashSet::new());

    assert_eq!(batch(&mut follower), ["create 2070 via fe80::1"]);
}

#[test]
fn route_of_ours_that_nobody_wants_stays_until_it_is_removed() {
    let mut follower = follower();
    compare(&mut follower, &[route(207, 2070, via("fe80::1"))]);
    assert!(batch(&mut follower).is_empty());

    follower.apply(
        RouteChange::Remove {
            prefix: prefix("2001:db8::"),
            version: 1,
        },
        Pace::Now,
    );

    assert_eq!(batch(&mut follower), ["delete 2070"]);
    assert_eq!(follower.routes.iter().count(), 0);
    assert_eq!(follower.hops.iter_mut().count(), 0);
}

#[test]
fn gauges_add_up_to_the_wanted_routes() {
    let mut follower = follower();
    follower.apply(put("fe80::1", 1), Pace::Now);
    follower.apply(put("fe80::2", 2), Pace::Now);
    assert_eq!(follower.counts, [1, 0, 0]);
    batch(&mut follower);
    assert_eq!(follower.counts, [0, 1, 0]);

    let foreign = route(4, 100, via("fe80::9"));
    follower.kernel_changed(&foreign, true);
    batch(&mut follower);
    assert_eq!(follower.counts, [0, 0, 1]);
    follower.apply(
        RouteChange::Remove {
            prefix: prefix("2001:db8::"),
            version: 3,
        },
        Pace::Now,
    );

    assert_eq!(follower.counts, [0, 0, 0]);
}

fn remove(version: u64) -> RouteChange {
    RouteChange::Remove {
        prefix: prefix("2001:db8::"),
        version,
    }
}

/// A follower whose one route is in the kernel.
fn installed() -> Follower {
    let mut follower = follower();
    follower.apply(put("fe80::1", 1), Pace::Now);
    batch(&mut follower);
    follower.take_outcomes(100);
    follower
}

#[test]
fn nothing_is_written_before_the_table_was_read() {
    let mut follower = Follower::new(follower().policy, Arc::default());
    follower.interfaces_changed(&interfaces(true), &HashSet::new());
    follower.apply(put("fe80::1", 1), Pace::Now);
    assert!(!follower.has_work() && batch(&mut follower).is_empty());

    compare(&mut follower, &[route(207, 2070, via("fe80::1"))]);

    assert!(batch(&mut follower).is_empty());
    assert_eq!(results(&mut follower), [(1, Ok(()))]);
}

#[test]
fn wish_that_somebody_waits_for_overtakes_the_many() {
    let mut follower = follower();
    let other = Route {
        prefix: prefix("2001:db8:1::"),
        gateway: "fe80::2".parse().unwrap(),
        interface: ACCESS,
        version: 1,
    };
    follower.apply(RouteChange::Put(other), Pace::InTurn);
    follower.apply(put("fe80::1", 2), Pace::Now);

    let first = follower.next_batch(128, Pace::Now);

    assert_eq!(first.len(), 1);
    assert_eq!(first[0].key.prefix, prefix("2001:db8::"));
    follower.written(&first, Some(&[]));
    assert!(!follower.has_hurried_work());
    assert_eq!(batch(&mut follower), ["create 2070 via fe80::2"]);
}

#[test]
fn route_that_a_comparison_misses_is_put_back_and_counted() {
    let mut follower = installed();

    compare(&mut follower, &[]);

    assert_eq!(follower.counts, [1, 0, 0]);
    assert_eq!(batch(&mut follower), ["create 2070 via fe80::1"]);
    assert_eq!(follower.counters.routes.repaired.get(), 1);
    assert_eq!(results(&mut follower), [(1, Ok(()))]);
}

/// The dump was made before, and is read after the write.
#[test]
fn what_is_written_during_a_comparison_is_newer_than_its_dump() {
    let mut follower = installed();
    follower.comparison_begins();
    follower.apply(remove(2), Pace::Now);
    assert_eq!(batch(&mut follower), ["delete 2070"]);

    follower.compare(&[route(207, 2070, via("fe80::1"))]);
    follower.apply(put("fe80::1", 3), Pace::Now);

    assert_eq!(batch(&mut follower), ["create 2070 via fe80::1"]);
    follower.dump_ended();
    while !follower.walk(1) {}
    assert!(batch(&mut follower).is_empty());
    assert_eq!(follower.counts, [0, 1, 0]);
}

#[test]
fn what_is_heard_during_a_comparison_is_newer_than_its_dump() {
    let mut follower = installed();
    let there = route(207, 2070, via("fe80::1"));
    follower.comparison_begins();
    follower.kernel_changed(&there, false);

    follower.compare(&[there]);
    follower.dump_ended();
    while !follower.walk(1) {}

    assert_eq!(batch(&mut follower), ["create 2070 via fe80::1"]);
}

#[test]
fn foreign_route_that_a_comparison_does_not_find_any_more_is_in_nobodys_way() {
    let mut follower = installed();
    follower.kernel_changed(&route(4, 100, Target::Other), true);
    assert_eq!(batch(&mut follower), ["delete 2070"]);
    let refused = Err(RouteRefusal::ForeignRoute);
    assert_eq!(results(&mut follower), [(1, refused)]);

    compare(&mut follower, &[]);

    assert_eq!(batch(&mut follower), ["create 2070 via fe80::1"]);
    assert_eq!(results(&mut follower), [(1, Ok(()))]);
}

/// Down and up again before anybody looked: its routes went all the same.
#[test]
fn interface_that_fell_for_a_moment_lost_its_routes() {
    let mut follower = installed();

    follower.interfaces_changed(&interfaces(true), &HashSet::from([ACCESS]));

    assert_eq!(batch(&mut follower), ["create 2070 via fe80::1"]);
    assert_eq!(follower.counters.routes.repaired.get(), 1);
}

#[test]
fn leftover_of_an_earlier_life_goes_when_everything_wanted_is_known() {
    let mut follower = follower();
    compare(&mut follower, &[route(207, 2070, via("fe80::1"))]);

    follower.resend_begins();
    follower.resend_ends(false);
    assert!(batch(&mut follower).is_empty());
    follower.resend_begins();
    follower.resend_ends(true);

    assert_eq!(batch(&mut follower), ["delete 2070"]);
    assert_eq!(follower.routes.iter().count(), 0);
}

#[test]
fn outcomes_are_taken_in_pieces_and_each_once() {
    let mut follower = installed();
    for version in 2..5 {
        follower.apply(put("fe80::1", version), Pace::InTurn);
    }
    let another = KernelRoute {
        prefix: prefix("2001:db8:1::"),
        ..route(207, 2070, via("fe80::1"))
    };
    follower.kernel_changed(&another, true);
    follower.apply(
        RouteChange::Put(Route {
            prefix: another.prefix,
            gateway: "fe80::1".parse().unwrap(),
            interface: ACCESS,
            version: 9,
        }),
        Pace::InTurn,
    );

    assert_eq!(follower.take_outcomes(1).len(), 1);
    assert_eq!(follower.take_outcomes(1).len(), 1);
    assert!(follower.take_outcomes(100).is_empty() && !follower.has_outcomes());
}

/// The kernel is quicker so.
#[test]
fn the_many_are_written_in_the_order_of_their_destinations() {
    let mut follower = follower();
    for (version, network) in (1..).zip(["2001:db8:3::", "2001:db8:1::", "2001:db8:2::"]) {
        let route = Route {
            prefix: prefix(network),
            gateway: "fe80::1".parse().unwrap(),
            interface: ACCESS,
            version,
        };
        follower.apply(RouteChange::Put(route), Pace::InTurn);
    }

    let writes = follower.next_batch(128, Pace::InTurn);

    let written: Vec<Prefix> = writes.iter().map(|write| write.key.prefix).collect();
    assert_eq!(
        written,
        ["2001:db8:1::", "2001:db8:2::", "2001:db8:3::"].map(prefix)
    );
}

#[test]
fn place_of_the_last_foreign_route_is_taken_without_a_comparison() {
    let mut follower = installed();
    let foreign = route(4, 100, via("fe80::9"));
    follower.kernel_changed(&foreign, true);
    assert_eq!(batch(&mut follower), ["delete 2070"]);

    follower.kernel_changed(&foreign, false);

    assert!(!follower.in_doubt());
    assert_eq!(batch(&mut follower), ["create 2070 via fe80::1"]);
}

#[test]
fn of_several_foreign_routes_one_that_goes_leaves_ours_away_until_the_kernel_was_asked() {
    let mut follower = installed();
    let (one, other) = (route(4, 100, via("fe80::9")), route(9, 200, via("fe80::8")));
    follower.kernel_changed(&one, true);
    follower.kernel_changed(&other, true);
    batch(&mut follower);

    follower.kernel_changed(&one, false);

    assert!(follower.in_doubt() && batch(&mut follower).is_empty());
    compare(&mut follower, &[other]);
    assert!(batch(&mut follower).is_empty());
    follower.kernel_changed(&other, false);
    assert_eq!(batch(&mut follower), ["create 2070 via fe80::1"]);
}

/// What the dump brings may be older than what was heard.
#[test]
fn foreign_route_that_goes_during_a_comparison_is_looked_for_again() {
    let mut follower = installed();
    let foreign = route(4, 100, via("fe80::9"));
    follower.kernel_changed(&foreign, true);
    batch(&mut follower);
    follower.comparison_begins();

    follower.kernel_changed(&foreign, false);
    follower.compare(&[foreign]);
    follower.dump_ended();
    while !follower.walk(1) {}

    assert!(follower.in_doubt());
}
