//! More that can happen to a pair of routers, where XDP forwards and the source guard drops: the mode that `matrix.rs`
//! leaves out.

use std::net::{Ipv6Addr, UdpSocket};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use xtask::lab::{Disk, Lab, Lifetimes, Probes, ROUTERS, wait_for};

use crate::hand::{HandClient, on_node};
use crate::harness::{ends_on, on, shown_on};
use crate::matrix::{
    DETECTION, Mode, Pair, expect_owner, expect_sound, restart_active, restart_standby,
};
use crate::pair::{difference, expect_active, expect_same, logs, session};

/// Homes keep up with these, and both routers have their leases again soon after they lost them.
const SHORT: Lifetimes = Lifetimes {
    renew: 3,
    rebind: 6,
    preferred: 30,
    valid: 40,
};
/// More than renewals that were under way when a server died can have added to a lease's end.
const SHORT_RENEWAL: jiff::SignedDuration = jiff::SignedDuration::from_secs(3);
const PATIENCE: Duration = Duration::from_secs(30);
const INTERNET: &str = "2001:db8:1::99";
const SPOOFED_PORT: u16 = 7790;

/// While `happens`, a rogue home sends from another home's prefix, every 4 ms: how many left, how many
/// arrived, at least (a socket's buffer takes some 200).
fn spoof_while(pair: &mut Pair, happens: impl FnOnce(&mut Pair)) -> (usize, usize) {
    let victim = &pair.homes[0].lan;
    let source = victim.replace("::1", "::bad");
    assert_ne!(&source, victim);
    let rogue = pair.homes[1].client.node();
    on(
        &pair.lab,
        rogue,
        &format!("ip -6 addr add {source}/128 dev lan0 nodad"),
    );
    let bind = |node: &str, address: Ipv6Addr, port| {
        on_node(&pair.lab, node, || {
            UdpSocket::bind((address, port)).expect("the address is there")
        })
    };
    let sender = bind(rogue, source.parse().expect("an address"), 0);
    let receiver = bind("inet", Ipv6Addr::UNSPECIFIED, SPOOFED_PORT);
    receiver
        .set_nonblocking(true)
        .expect("a socket may not wait");
    let goes_on = AtomicBool::new(true);
    std::thread::scope(|scope| {
        let sent = scope.spawn(|| {
            let mut sent = 0;
            while goes_on.load(Ordering::Relaxed) {
                sent += usize::from(sender.send_to(b"rogue", (INTERNET, SPOOFED_PORT)).is_ok());
                std::thread::sleep(Duration::from_millis(4));
            }
            sent
        });
        happens(pair);
        goes_on.store(false, Ordering::Relaxed);
        let sent = sent.join().expect("the sender ends");
        std::thread::sleep(Duration::from_millis(300));
        let arrived = std::iter::from_fn(|| receiver.recv(&mut [0; 16]).ok()).count();
        (sent, arrived)
    })
}

/// What the guard of a router dropped because it is another home's.
fn foreign(lab: &Lab, router: &str) -> u64 {
    let statistics = &shown_on(lab, router, "dataplane")["dataplane"];
    let rows = statistics["reasons"].as_array().expect("a list");
    let row = rows.iter().find(|row| row["reason"] == "source_foreign");
    row.and_then(|row| row["dropped"].as_u64())
        .expect("a number")
}

#[test]
fn guarded_pair_that_forwards_by_xdp_returns_without_loss_and_never_forwards_a_rogue() {
    let Some(mut pair) = Pair::up("mx", Mode::XdpGuarded, Lifetimes::default()) else {
        return;
    };
    let mut dropped = [0, 0];
    let (sent, arrived) = spoof_while(&mut pair, |pair| {
        pair.expect_lost(DETECTION, "XDP: power loss of the active", |lab| {
            lab.power_off("r1").expect("it has a switch");
            expect_owner(lab, "r2");
        });
        // For longer than VRRP takes to elect it, it cannot ask its twin: without readiness it would have the gateway
        // and no lease.
        pair.expect_lost(0, "XDP: its return, disk wiped, twin out of reach", |lab| {
            dropped[1] = foreign(lab, "r2");
            on(lab, "r2", "ip -6 route add blackhole 2001:db8:c::1");
            lab.power_on("r1", Disk::Wiped).expect("it has a switch");
            std::thread::sleep(Duration::from_secs(4));
            assert_eq!(lab.owner(), Some("r2"), "before r1 could ask its twin");
            on(lab, "r2", "ip -6 route del blackhole 2001:db8:c::1");
            expect_owner(lab, "r1");
        });
        dropped[0] = foreign(&pair.lab, "r1");
    });
    println!("a rogue sent {sent}, {arrived} arrived; dropped by r1 and r2: {dropped:?}");
    assert_eq!(arrived, 0, "of {sent} from another home's prefix");
    assert!(dropped.iter().all(|it| *it > 50), "{dropped:?} of {sent}");

    pair.expect_lost(0, "XDP: active: SIGKILL and start", |lab| {
        restart_active(lab, "KILL");
    });
    pair.expect_lost(0, "XDP: standby: SIGKILL and start", |lab| {
        restart_standby(lab, "KILL");
    });
}

/// The leasequery sessions alone are cut: neither router reaches the other's own address.
fn cut_sessions(lab: &Lab) {
    for (router, twin) in [("r1", "2001:db8:c::2"), ("r2", "2001:db8:c::1")] {
        on(lab, router, &format!("ip -6 route add blackhole {twin}"));
        on(lab, router, "ss -K -t -6 dport = 547 or sport = 547");
    }
}

fn heal_sessions(lab: &Lab) {
    for (router, twin) in [("r1", "2001:db8:c::2"), ("r2", "2001:db8:c::1")] {
        on(lab, router, &format!("ip -6 route del blackhole {twin}"));
    }
}

/// A router hears no multicast of the access network, for less than VRRP takes to miss the other.
fn while_deaf(lab: &Lab, router: &str, work: impl FnOnce()) {
    let flood = |state: &str| {
        let words = format!("bridge link set dev {router} mcast_flood {state}");
        on(lab, "access", &words);
    };
    flood("off");
    work();
    flood("on");
}

/// Leases and releases that one router alone hears, and both, while the two cannot tell each other.
fn part_and_heal(lab: &Lab) {
    let mut client = HandClient::on(lab, "gen", "eth0");
    let mut lease = |number: u8| {
        client.duid = vec![0, 3, 0, 1, 2, 0xed, 0, 0, 0, number];
        client.lease(1)
    };
    let granted = lease(1);
    expect_same(lab, 8);

    cut_sessions(lab);
    while_deaf(lab, "r2", || drop(lease(2)));
    while_deaf(lab, "r1", || drop(lease(3)));
    client.duid[9] = 1;
    while_deaf(lab, "r2", || client.release(&granted));
    std::thread::sleep(Duration::from_secs(1));
    assert!(difference(lab).is_some(), "nothing was parted");
    assert_ne!(session(lab, "r1", "requestor")["state"], "active");
    heal_sessions(lab);
    let took = expect_same(lab, 10);
    expect_active(lab);
    assert_eq!(ends_on(lab, "r1").len(), 10, "{}", logs(lab));
    println!("sessions cut and healed: equal {took:?} after the way was there again");
}

#[test]
fn pair_goes_on_when_daemons_sessions_servers_or_both_routers_are_lost() {
    let Some(mut pair) = Pair::up("me", Mode::XdpGuarded, SHORT) else {
        return;
    };
    pair.expect_lost(0, "both daemons SIGKILL and start at once", |lab| {
        for router in ROUTERS {
            lab.stop(&format!("{router}.twinrelay"), "KILL")
                .expect("the daemon ends");
        }
        for router in ROUTERS {
            lab.spawn_twinrelay(router).expect("the daemon starts");
        }
        // The files of daemons that were killed say what was then.
        std::thread::sleep(Duration::from_secs(1));
        for router in ROUTERS {
            wait_for("both in sync", PATIENCE, || {
                lab.is_ready(router).then_some(())
            })
            .unwrap_or_else(|error| panic!("{error}\n{}", logs(lab)));
        }
        expect_owner(lab, "r1");
        expect_active(lab);
    });
    pair.expect_lost(
        0,
        "planned switchover: keepalived stopped and started",
        |lab| {
            lab.stop("r1.keepalived", "TERM").expect("keepalived ends");
            expect_owner(lab, "r2");
            lab.start_keepalived("r1").expect("keepalived starts");
            expect_owner(lab, "r1");
        },
    );
    pair.expect_lost(0, "sessions cut, leases and releases, healed", |lab| {
        part_and_heal(lab);
    });
    lose_both(&mut pair);
    pair.expect_lost(0, "primary Kea killed", |lab| {
        let before = ends_on(lab, "r1");
        lab.stop("s1.kea-dhcp6", "KILL").expect("Kea dies");
        let begin = Instant::now();
        wait_for("renewals by the other server", PATIENCE, || {
            // Past what s1 can have given at its end.
            let least = before.values().max()?.saturating_add(SHORT_RENEWAL).ok()?;
            let renewed = |router: &&str| {
                let ends = ends_on(lab, router);
                ends.len() == before.len() && ends.values().all(|end| *end > least)
            };
            ROUTERS.iter().all(renewed).then_some(())
        })
        .unwrap_or_else(|error| panic!("{error}\n{}", logs(lab)));
        println!(
            "primary Kea killed: all renewed by s2 after {:?}",
            begin.elapsed()
        );
    });
}

/// Both routers lose power and disk: nobody knows any lease but servers and homes. Homes are reached as they renew.
fn lose_both(pair: &mut Pair) {
    let probes = Probes::start(&pair.lab, &pair.homes).expect("probes are sent");
    std::thread::sleep(Duration::from_millis(500));
    for router in ROUTERS {
        pair.lab.power_off(router).expect("it has a switch");
    }
    let on_at = probes.now();
    for router in ROUTERS {
        pair.lab
            .power_on(router, Disk::Wiped)
            .expect("it has a switch");
    }
    let homes = 2 * pair.homes.len();
    wait_for("homes that renew", PATIENCE, || {
        // The daemons are still starting.
        let answers = |router: &str| pair.lab.twinrelay_on(router, &["show", "version"]).is_ok();
        let have = |router: &&str| answers(router) && ends_on(&pair.lab, router).len() == homes;
        let up = pair.lab.owner() == Some("r1");
        (up && ROUTERS.iter().all(have)).then_some(())
    })
    .unwrap_or_else(|error| panic!("{error}\n{}", logs(&pair.lab)));
    let whole = probes.now();
    std::thread::sleep(Duration::from_secs(2));
    let record = probes.finish();

    println!(
        "both routers lost, empty disks: all {homes} leases of homes again {:?} after the power was back\n{}",
        whole - on_at,
        record.table()
    );
    let (_, after) = record.lost(whole + Duration::from_millis(500), Duration::MAX);
    assert_eq!(after, 0, "lost after all had renewed:\n{}", record.table());
    expect_sound(&record, "both routers lost");
    expect_same(&pair.lab, homes);
}
