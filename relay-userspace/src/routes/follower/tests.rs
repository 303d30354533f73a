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
    }
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
    follower.interfaces_changed(&interfaces(true));
    follower.compare(&[], HashSet::new());
    follower
}

/// The writes of one batch as text, all of which the kernel takes.
fn batch(follower: &mut Follower) -> Vec<String> {
    let batch = follower.next_batch(128);
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
    let outcomes = follower.take_outcomes();
    outcomes.iter().map(|o| (o.version, o.result)).collect()
}

#[test]
fn older_wish_never_overrides_a_newer_one() {
    let mut follower = follower();
    follower.apply(put("fe80::2", 5));
    follower.apply(put("fe80::1", 4));
    follower.apply(RouteChange::Remove {
        prefix: prefix("2001:db8::"),
        version: 3,
    });

    assert_eq!(batch(&mut follower), ["create 2070 via fe80::2"]);
    assert_eq!(results(&mut follower), [(5, Ok(()))]);
}

#[test]
fn same_wish_again_is_answered_without_a_write() {
    let mut follower = follower();
    follower.apply(put("fe80::1", 1));
    batch(&mut follower);
    follower.take_outcomes();

    follower.apply(put("fe80::1", 2));

    assert!(batch(&mut follower).is_empty());
    assert_eq!(results(&mut follower), [(2, Ok(()))]);
}

#[test]
fn unexpected_route_in_the_place_is_looked_at_before_anything_is_written() {
    let mut follower = follower();
    follower.apply(put("fe80::1", 1));
    let writes = follower.next_batch(128);
    follower.written(&writes, Some(&[(0, libc::EEXIST)]));
    assert!(follower.in_doubt());
    assert!(batch(&mut follower).is_empty());
    assert!(follower.take_outcomes().is_empty());

    follower.compare(&[route(207, 2070, via("fe80::7"))], HashSet::new());

    assert_eq!(
        batch(&mut follower),
        ["delete 2070", "create 2070 via fe80::1"]
    );
    assert_eq!(results(&mut follower), [(1, Ok(()))]);
}

#[test]
fn lost_answers_lead_to_a_comparison_and_only_differences_are_written() {
    let mut follower = follower();
    follower.apply(put("fe80::1", 1));
    let writes = follower.next_batch(128);
    follower.written(&writes, None);
    assert!(follower.in_doubt());

    follower.compare(&[route(207, 2070, via("fe80::1"))], HashSet::new());

    assert!(batch(&mut follower).is_empty());
    assert_eq!(results(&mut follower), [(1, Ok(()))]);
}

#[test]
fn foreign_route_found_by_comparison_makes_ours_give_way() {
    let mut follower = follower();
    follower.apply(put("fe80::1", 1));
    batch(&mut follower);
    follower.take_outcomes();

    let ours = [route(207, 2070, via("fe80::1"))];
    follower.compare(&ours, HashSet::from([prefix("2001:db8::")]));

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

    follower.apply(put("fe80::1", 1));

    assert_eq!(batch(&mut follower), ["create 2070 via fe80::1"]);
}

#[test]
fn kernel_error_is_reported_and_tried_again_at_the_next_comparison() {
    let mut follower = follower();
    follower.apply(put("fe80::1", 1));
    let writes = follower.next_batch(128);
    follower.written(&writes, Some(&[(0, libc::ENOMEM)]));
    let refused = Err(RouteRefusal::Kernel(libc::ENOMEM));
    assert_eq!(results(&mut follower), [(1, refused)]);

    follower.compare(&[], HashSet::new());

    assert_eq!(batch(&mut follower), ["create 2070 via fe80::1"]);
    assert_eq!(results(&mut follower), [(1, Ok(()))]);
}

#[test]
fn nothing_is_written_to_an_interface_that_is_down() {
    let mut follower = follower();
    follower.interfaces_changed(&interfaces(false));
    follower.apply(put("fe80::1", 1));
    assert!(batch(&mut follower).is_empty());
    let refused = Err(RouteRefusal::Kernel(libc::ENETDOWN));
    assert_eq!(results(&mut follower), [(1, refused)]);

    follower.interfaces_changed(&interfaces(true));

    assert_eq!(batch(&mut follower), ["create 2070 via fe80::1"]);
}

#[test]
fn route_of_ours_that_nobody_wants_stays_until_it_is_removed() {
    let mut follower = follower();
    follower.compare(&[route(207, 2070, via("fe80::1"))], HashSet::new());
    assert!(batch(&mut follower).is_empty());

    follower.apply(RouteChange::Remove {
        prefix: prefix("2001:db8::"),
        version: 1,
    });

    assert_eq!(batch(&mut follower), ["delete 2070"]);
    assert_eq!(follower.entries_after(None).count(), 0);
}

#[test]
fn gauges_add_up_to_the_wanted_routes() {
    let mut follower = follower();
    follower.apply(put("fe80::1", 1));
    follower.apply(put("fe80::2", 2));
    assert_eq!(follower.counts, [1, 0, 0]);
    batch(&mut follower);
    assert_eq!(follower.counts, [0, 1, 0]);

    let foreign = route(4, 100, via("fe80::9"));
    follower.kernel_changed(&foreign, true);
    batch(&mut follower);
    assert_eq!(follower.counts, [0, 0, 1]);
    follower.apply(RouteChange::Remove {
        prefix: prefix("2001:db8::"),
        version: 3,
    });

    assert_eq!(follower.counts, [0, 0, 0]);
}
