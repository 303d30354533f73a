//! A daemon that is killed and comes back: leases, lifetimes and routes are as they were, and nothing that is
//! not ours was touched.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use jiff::Timestamp;
use xtask::lab::{Client, Lab, Lifetimes, wait_for};

use crate::hand::{Granted, HandClient};
use crate::harness::{
    CONFIGURATION, ends_on, expect_no_route, expect_reached, installed, kernel_routes_on, lab, on,
    prefix, shown, unlimited,
};

/// How often the daemon is killed at a random moment.
const KILLS: u32 = 50;
/// A server that does not answer in this time will not: the daemon is dead.
const PATIENCE: Duration = Duration::from_millis(400);
/// A Reply leaves after so long, whatever it waits for.
const REPLY_DEADLINE: Duration = Duration::from_millis(200);
/// Clocks are read at slightly different moments.
const TOLERANCE_SECS: i64 = 2;

/// Ends the daemon as a crash would, and starts it again.
fn crash(lab: &mut Lab) {
    lab.stop("r1.twinrelay", "KILL").expect("the daemon dies");
    start(lab);
}

fn start(lab: &mut Lab) {
    let read =
        |name: &str| std::fs::read_to_string(lab.dir().join(name)).expect("the lab wrote it");
    let binary = read("r1/binary");
    let file = lab.dir().join("r1/twinrelay.toml").display().to_string();
    lab.start_twinrelay(&binary, &file)
        .expect("the daemon comes back");
}

fn ends(lab: &Lab) -> BTreeMap<String, Timestamp> {
    ends_on(lab, "r1")
}

fn kernel_routes(lab: &Lab) -> BTreeSet<String> {
    kernel_routes_on(lab, "r1")
}

/// Waits until the kernel has exactly the routes of the leases.
fn expect_routes_of_leases(lab: &Lab) {
    let equal = || {
        let wanted: BTreeSet<String> = installed(lab).into_iter().collect();
        let all: BTreeSet<String> = ends(lab).into_keys().collect();
        (wanted == all && kernel_routes(lab) == all).then_some(())
    };
    wait_for(
        "routes of exactly the leases",
        Duration::from_secs(10),
        equal,
    )
    .unwrap_or_else(|error| {
        panic!(
            "{error}: leases {:?}, kernel {:?}",
            ends(lab).into_keys(),
            kernel_routes(lab)
        )
    });
}

fn expect_same_end(before: Timestamp, after: Timestamp, what: &str) {
    let apart = after.duration_since(before).as_secs().abs();
    assert!(
        apart < TOLERANCE_SECS,
        "{what} ended {before}, ends {after}"
    );
}

/// A router that lost its routes with the daemon gets them back from the daemon's memory alone.
/// req: PDR-S-1, DP-20 (RFC 8987 §4.3)
#[test]
fn pdr_s_1_killed_daemon_brings_leases_and_routes_back_without_a_message() {
    let Some(mut lab) = lab(CONFIGURATION, Lifetimes::default()) else {
        return;
    };
    let (address, lan) = expect_reached(&mut lab, Client::Dhclient);
    expect_reached(&mut lab, Client::Dhcpcd);
    let before = ends(&lab);
    assert_eq!(before.len(), 4, "{before:?}");
    lab.stop("r1.twinrelay", "KILL").expect("the daemon dies");
    on(&lab, "r1", "ip -6 route flush proto 207");
    on(
        &lab,
        "r1",
        "ip -6 route add 2001:db8:dead::/56 dev acc0 proto 207 metric 2070",
    );
    on(
        &lab,
        "r1",
        "ip -6 route add 2001:db8:f::/48 dev acc0 proto static",
    );

    start(&mut lab);

    let after = ends(&lab);
    assert_eq!(
        before.keys().collect::<Vec<_>>(),
        after.keys().collect::<Vec<_>>()
    );
    for (destination, end) in &before {
        expect_same_end(*end, after[destination], destination);
    }
    // The route of an earlier life goes, that of somebody else stays.
    expect_routes_of_leases(&lab);
    assert!(on(&lab, "r1", "ip -6 route show proto static").contains("2001:db8:f::/48"));
    for target in [&address, &lan] {
        assert_eq!(lab.lost_probes(target, 20), Ok(0), "{target}");
    }
    let statistics = shown(&lab, "statistics");
    assert_eq!(
        statistics["statistics"]["store"]["state"], "ok",
        "{statistics:#}"
    );
}

#[test]
fn released_lease_does_not_come_back_from_a_crash() {
    let Some(mut lab) = lab(CONFIGURATION, Lifetimes::default()) else {
        return;
    };
    let (_, lan) = expect_reached(&mut lab, Client::Dhclient);
    lab.release_client(Client::Dhclient).expect("it releases");
    expect_no_route(&lab, &prefix(&lan), 5);
    // A Release is answered at once; what it ended is on disk before a later lease is, which its Reply waits for.
    expect_reached(&mut lab, Client::Dhcpcd);

    crash(&mut lab);

    assert_eq!(ends(&lab).len(), 2);
    expect_routes_of_leases(&lab);
}

/// A lease whose Reply had left, and when it ends.
struct Told {
    destination: String,
    end: Timestamp,
    /// The Reply may have left at its deadline, before the lease was on disk.
    may_be_late: bool,
}

/// One client after the other takes an address and a prefix, until told to stop.
fn load(client: &mut HandClient, number: &mut u32, told: &Mutex<Vec<Told>>, stop: &AtomicBool) {
    while !stop.load(Ordering::Relaxed) {
        *number += 1;
        client.duid = [&[0, 3, 0, 1, 2, 0xee][..], &number.to_be_bytes()].concat();
        let asked = Instant::now();
        let Some(granted) = client.try_lease(PATIENCE) else {
            continue;
        };
        let may_be_late = asked.elapsed() >= REPLY_DEADLINE;
        let now = Timestamp::now();
        let mut told = told.lock().expect("nobody panics here");
        for (destination, valid_secs) in granted.lifetimes() {
            told.push(Told {
                destination,
                end: now + jiff::SignedDuration::from_secs(valid_secs.into()),
                may_be_late,
            });
        }
    }
}

/// The daemon dies at fifty random moments under load: whatever a client was told is known afterwards.
#[test]
fn whatever_a_client_was_told_is_known_after_each_of_fifty_crashes() {
    let Some(mut lab) = lab(&unlimited(), Lifetimes::default()) else {
        return;
    };
    on(
        &lab,
        "r1",
        "ip -6 route add 2001:db8:f::/48 dev acc0 proto static",
    );
    on(
        &lab,
        "r1",
        "ip -6 route add 2001:db8:e::/48 dev acc0 proto 99 metric 2070",
    );
    let foreign = |lab: &Lab| {
        let mut routes = on(lab, "r1", "ip -6 route show proto static");
        routes += &on(lab, "r1", "ip -6 route show proto 99");
        routes
    };
    let foreign_before = foreign(&lab);
    let mut client = HandClient::on(&lab, "gen", "eth0");
    let told = Mutex::new(Vec::new());
    // Any sequence will do, the same one each time is easier to talk about.
    let mut random = 0x9e37_79b9_7f4a_7c15_u64;
    let (mut number, mut lost_late) = (0, 0);
    for kill in 0..KILLS {
        random = random
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1);
        let alive = Duration::from_millis(20 + (random >> 33) % 200);
        let stop = AtomicBool::new(false);
        std::thread::scope(|scope| {
            let clients = scope.spawn(|| load(&mut client, &mut number, &told, &stop));
            std::thread::sleep(alive);
            lab.stop("r1.twinrelay", "KILL").expect("the daemon dies");
            stop.store(true, Ordering::Relaxed);
            clients.join().expect("the clients stop");
        });
        start(&mut lab);
        let ends = ends(&lab);
        let mut told = told.lock().expect("nobody panics here");
        // A late Reply that the crash made untrue is no lease any more.
        told.retain(|told| {
            let is_lost = told.may_be_late && !ends.contains_key(&told.destination);
            lost_late += usize::from(is_lost);
            !is_lost
        });
        for told in told.iter() {
            let end = ends.get(&told.destination);
            let end = end.unwrap_or_else(|| panic!("kill {kill} lost {}", told.destination));
            expect_same_end(told.end, *end, &told.destination);
        }
    }

    expect_routes_of_leases(&lab);
    assert_eq!(foreign(&lab), foreign_before);
    let leases = told.lock().expect("nobody panics here").len();
    assert!(
        leases > 2 * KILLS as usize,
        "only {leases} leases were told"
    );
    println!("{leases} leases were told; {lost_late} more were told late and lost");
    assert!(
        lost_late * 20 <= leases,
        "{lost_late} late Replies were lost"
    );
}

#[test]
fn orderly_stop_loses_nothing_and_says_so_to_nobody() {
    let Some(mut lab) = lab(CONFIGURATION, Lifetimes::default()) else {
        return;
    };
    let mut client = HandClient::on(&lab, "gen", "eth0");
    let granted: Granted = client.lease(2);
    let mut expected = granted.destinations();
    expected.sort();

    lab.stop("r1.twinrelay", "TERM").expect("the daemon stops");
    start(&mut lab);

    assert_eq!(ends(&lab).into_keys().collect::<Vec<_>>(), expected);
    expect_routes_of_leases(&lab);
}
