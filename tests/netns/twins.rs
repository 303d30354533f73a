//! Two relays that keep each other's bindings, with real clients and real servers.

use std::time::{Duration, Instant};

use xtask::lab::{Client, Lab, Lifetimes, wait_for};

use crate::hand::HandClient;
use crate::harness::{ends_on, expect_no_route, kernel_routes_on, on, prefix};
use crate::pair::{
    BOTH, PATIENCE, R1, R2, counted, difference, expect_active, expect_same, expect_same_within,
    logs, lose_everything, origins, pair, prepared, ready, ready_file, route_through, session,
    set_access, spawn,
};

/// dhclient and dhcpcd keep such leases; clients made by hand do not.
const SHORT: Lifetimes = Lifetimes {
    renew: 2,
    rebind: 7,
    preferred: 9,
    valid: 10,
};
/// Enough for a catch-up that takes seconds through [`slow_down`].
const CLIENTS: u16 = 150;

/// Relays that are ready try again after this, not only after a minute.
const RETRY: &str = "idle_timeout = 2\n";

/// So many clients, made by hand on node gen, get an address and a prefix each.
fn lease_many(lab: &Lab, from: u16, count: u16) {
    let mut client = HandClient::on(lab, "gen", "eth0");
    for number in from..from + count {
        let [high, low] = number.to_be_bytes();
        client.duid = vec![0, 3, 0, 1, 2, 0xcc, 0, 0, high, low];
        client.lease(1);
    }
}

/// What r1 sends on the core goes at 200 kbit/s from now on.
fn slow_down(lab: &Lab) {
    on(
        lab,
        R1,
        "tc qdisc add dev core0 root tbf rate 200kbit burst 4kb latency 60s",
    );
}

fn speed_up(lab: &Lab) {
    on(lab, R1, "tc qdisc del dev core0 root");
}

/// Breaks all connections of a router's leasequery sessions, as it sees them and not the other end.
fn cut(lab: &Lab, node: &str) {
    on(lab, node, "ss -K -t -6 dport = 547 or sport = 547");
}

/// Clients that only r1 hears are in r2's table and kernel, and r2 forwards for them.
#[test]
fn lease_that_only_one_relay_heard_is_held_and_routed_by_both_until_it_is_released() {
    let Some(mut lab) = pair(Lifetimes::default(), "") else {
        return;
    };
    set_access(&lab, R2, false);

    let mut homes = Vec::new();
    for client in Client::ALL {
        lab.start_client(client).expect("the client starts");
        homes.push(
            lab.lease(client)
                .expect("the client gets address and prefix"),
        );
    }
    let took = expect_same(&lab, 6);
    println!("r2 holds what r1 heard, {took:?} after the last client had it");
    let learned = |origin: &String| origin == "active-leasequery:r1";
    assert!(
        origins(&lab, R2).values().all(learned),
        "{:?}",
        origins(&lab, R2)
    );

    // r2 takes over: it has all that it needs to forward.
    set_access(&lab, R2, true);
    route_through(&lab, R2);
    for (address, lan) in &homes {
        for target in [address, lan] {
            assert_eq!(lab.lost_probes(target, 20), Ok(0), "{target} through r2");
        }
    }

    set_access(&lab, R2, false);
    let (address, lan) = &homes[0];
    lab.release_client(Client::ALL[0])
        .expect("the client releases");
    expect_no_route(&lab, address, 5);
    expect_no_route(&lab, &prefix(lan), 5);
    let gone = || {
        let routes = kernel_routes_on(&lab, R2);
        (routes.len() == 4 && difference(&lab).is_none()).then_some(())
    };
    wait_for(
        "r2 withdraws what was released at r1",
        Duration::from_secs(5),
        gone,
    )
    .unwrap_or_else(|error| panic!("{error}: {:?}\n{}", difference(&lab), logs(&lab)));
}

/// r2 is told of no end: nobody can tell it.
#[test]
fn lease_ends_by_itself_at_the_relay_that_was_told_of_it() {
    let Some(mut lab) = pair(SHORT, "") else {
        return;
    };
    set_access(&lab, R2, false);
    lab.start_client(Client::Dhclient)
        .expect("the client starts");
    lab.lease(Client::Dhclient)
        .expect("the client gets a lease");
    expect_same(&lab, 2);
    lab.stop("cpe1.dhclient", "KILL").expect("the client dies");
    expect_same(&lab, 2);
    let end = ends_on(&lab, R2).into_values().max().expect("two leases");
    lab.signal("r1.twinrelay", "STOP").expect("r1 stands still");

    let gone = || {
        kernel_routes_on(&lab, R2)
            .is_empty()
            .then(jiff::Timestamp::now)
    };
    let gone = wait_for("the end of the leases at r2", Duration::from_secs(15), gone)
        .unwrap_or_else(|error| panic!("{error}\n{}", logs(&lab)));

    assert!(gone >= end, "withdrawn at {gone}, before {end}");
    assert_eq!(ends_on(&lab, R2).len(), 0);
    lab.signal("r1.twinrelay", "CONT").expect("r1 goes on");
    expect_same(&lab, 0);
    assert_eq!(ends_on(&lab, R1).len(), 0);
}

/// Also what only the one had heard that lost it. It says that it is ready when it has it all, and not before.
#[test]
fn relay_that_lost_everything_has_it_back_and_is_ready_only_then() {
    let Some(mut lab) = pair(Lifetimes::default(), "") else {
        return;
    };
    set_access(&lab, R1, false);
    lab.start_client(Client::Dhclient)
        .expect("the client starts");
    lab.lease(Client::Dhclient).expect("r2 relays");
    set_access(&lab, R1, true);
    set_access(&lab, R2, false);
    lab.start_client(Client::Dhcpcd).expect("the client starts");
    lab.lease(Client::Dhcpcd).expect("r1 relays");
    set_access(&lab, R2, true);
    lease_many(&lab, 0, 20);
    expect_same(&lab, 44);
    let before = ends_on(&lab, R1);

    lose_everything(&mut lab, R2);
    assert!(kernel_routes_on(&lab, R2).is_empty());
    lab.signal("r1.twinrelay", "STOP").expect("r1 stands still");
    let begin = Instant::now();
    lab.start_twinrelay_on(R2).expect("the daemon starts");
    std::thread::sleep(Duration::from_secs(2));
    let (code, reason) = ready(&lab, R2);
    assert_eq!(
        (code, ready_file(&lab, R2).as_str()),
        (Some(1), "0\n"),
        "{reason}"
    );
    assert!(reason.contains("waiting for r1"), "{reason}");
    assert_eq!(ends_on(&lab, R2).len(), 0);

    lab.signal("r1.twinrelay", "CONT").expect("r1 goes on");
    let is_ready = || (ready_file(&lab, R2) == "1\n").then(|| kernel_routes_on(&lab, R2));
    let routes = wait_for("r2 ready", PATIENCE, is_ready)
        .unwrap_or_else(|error| panic!("{error}\n{}", logs(&lab)));
    let took = begin.elapsed();

    assert!(
        routes.iter().eq(before.keys()),
        "ready with {routes:?}, not {before:?}"
    );
    assert_eq!(difference(&lab), None);
    assert_eq!(ends_on(&lab, R1).len(), 44);
    let (code, reason) = ready(&lab, R2);
    assert_eq!(code, Some(0), "{reason}");
    let neighbor = session(&lab, R2, "requestor");
    assert_eq!(neighbor["catch_up"]["complete"], true);
    assert_eq!(
        neighbor["catch_up"]["requested_from"],
        serde_json::Value::Null
    );
    println!("ready {took:?} after its start, 2 s of which r1 stood still: {reason}");
    println!(
        "catch_up: {}\n{}",
        neighbor["catch_up"],
        lab.log("r2.twinrelay")
    );
}

#[test]
fn catch_up_that_is_cut_in_the_middle_is_made_again_and_ends_in_equal_tables() {
    let Some(mut lab) = pair(Lifetimes::default(), RETRY) else {
        return;
    };
    lease_many(&lab, 0, CLIENTS);
    let leases = usize::from(CLIENTS) * 2;
    expect_same(&lab, leases);
    lose_everything(&mut lab, R2);
    slow_down(&lab);
    lab.start_twinrelay_on(R2).expect("the daemon starts");

    for _ in 0..2 {
        let in_the_middle = || {
            let session = session(&lab, R2, "requestor");
            let received = session["catch_up"]["received"].as_u64()?;
            (session["state"] == "bulk-catch-up" && received > 0).then_some(received)
        };
        let received = wait_for("the middle of a catch-up", PATIENCE, in_the_middle)
            .unwrap_or_else(|error| panic!("{error}\n{}", logs(&lab)));
        // The next attempt may follow at once: r1's own brings it forward.
        let errors = || session(&lab, R2, "requestor")["errors"].as_u64();
        let before = errors();
        cut(&lab, R2);
        println!("cut after {received} of {leases}");
        wait_for("end of the session", PATIENCE, || {
            (errors() > before).then_some(())
        })
        .unwrap_or_else(|error| panic!("{error}\n{}", logs(&lab)));
        assert_eq!(ready(&lab, R2).0, Some(1));
    }
    speed_up(&lab);

    let took = expect_same(&lab, leases);
    expect_active(&lab);
    println!("equal {took:?} after the way was fast again");
    assert!(session(&lab, R2, "requestor")["errors"].as_u64() >= Some(2));
}

/// r2 reads nothing while leases come and go at r1, all buffers in between fill, and the connection breaks before it
/// reads again: what r1 had not even handed to its kernel is told in the next catch-up. req: ALQ-D-25 (twinrelay)
#[test]
fn alq_d_25_changes_that_wait_behind_a_slow_reader_are_told_after_a_cut() {
    let Some(mut lab) = prepared(Lifetimes::default(), RETRY) else {
        return;
    };
    on(&lab, R2, "sysctl -qw net.ipv4.tcp_rmem=4096\t4096\t4096");
    for node in BOTH {
        lab.start_twinrelay_on(node).expect("the daemon starts");
    }
    expect_active(&lab);
    let mut client = HandClient::on(&lab, "gen", "eth0");
    let granted = client.lease(1);
    let own = client.duid.clone();
    client.duid[7] ^= 2;
    let busy = client.solicit(7);
    client.request(&busy);
    expect_same(&lab, 10);
    set_access(&lab, R2, false);
    lab.signal("r2.twinrelay", "STOP").expect("r2 stands still");

    // Renewals of eight leases, each of which is a change, until r1 tells of none any more.
    let told = || session(&lab, R1, "server")["bindings_sent"].as_u64();
    let (mut renewals, mut before) = (0, None);
    while told() != before {
        assert!(renewals < 10_000, "nothing waits: {}", logs(&lab));
        before = told();
        for _ in 0..200 {
            client.request(&busy);
        }
        renewals += 200;
    }
    client.duid = own;
    client.release(&granted);
    expect_no_route(&lab, &granted.destinations()[0], 5);
    client.duid[7] ^= 1;
    client.lease(2);
    let row = session(&lab, R1, "server");
    assert_eq!(told(), before, "r1 could tell of it: {row:#}");
    assert!(row["lag"].as_f64() > Some(0.0), "nothing waits: {row:#}");
    println!("after {renewals} renewals changes wait: lag {}", row["lag"]);
    cut(&lab, R1);
    lab.signal("r2.twinrelay", "CONT").expect("r2 goes on");

    expect_same(&lab, 11);
    assert_eq!(ends_on(&lab, R2).len(), 11);
    expect_active(&lab);
}

/// Nothing says to either that the way is gone, except that nothing is acknowledged.
#[test]
fn partition_ends_sessions_by_send_timeout_and_heals_in_equal_tables() {
    let timeouts = "send_timeout = 2\nreceive_timeout = 6\nidle_timeout = 2\n";
    let Some(lab) = pair(Lifetimes::default(), timeouts) else {
        return;
    };
    let mut client = HandClient::on(&lab, "gen", "eth0");
    let granted = client.lease(1);
    expect_same(&lab, 2);
    on(&lab, "core", "ip link set r2 down");
    let begin = Instant::now();

    client.release(&granted);
    client.duid[7] ^= 1;
    client.lease(2);
    let ended = || (session(&lab, R1, "server")["state"] != "active").then(|| begin.elapsed());
    let ended = wait_for("r1 gives the session up", PATIENCE, ended)
        .unwrap_or_else(|error| panic!("{error}\n{}", logs(&lab)));
    println!("r1 gave up after {ended:?}");
    assert!(ended < Duration::from_secs(15), "{ended:?}");

    on(&lab, "core", "ip link set r2 up");
    // Also the connection on which r2 sends nothing.
    let took = expect_same_within(&lab, 3, Duration::from_secs(40));
    println!("equal {took:?} after the way was there again");
    expect_active(&lab);
}

/// With what each had on its disk, and with nothing.
#[test]
fn relays_that_start_at_once_are_in_sync_and_ready() {
    let Some(mut lab) = pair(Lifetimes::default(), "") else {
        return;
    };
    lease_many(&lab, 0, 5);
    expect_same(&lab, 10);
    for node in BOTH {
        lab.stop(&format!("{node}.twinrelay"), "KILL")
            .expect("the daemon dies");
    }
    for node in BOTH {
        spawn(&mut lab, node);
    }
    expect_ready(&lab);
    expect_same(&lab, 10);

    for node in BOTH {
        lose_everything(&mut lab, node);
    }
    let begin = Instant::now();
    for node in BOTH {
        spawn(&mut lab, node);
    }
    expect_ready(&lab);
    println!(
        "two empty relays are ready {:?} after their start",
        begin.elapsed()
    );
    assert_eq!(difference(&lab), None);
}

fn expect_ready(lab: &Lab) {
    for node in BOTH {
        // The file of a daemon that was killed says what was then.
        let is_ready = || (ready(lab, node).0 == Some(0)).then_some(());
        wait_for(&format!("{node} ready"), PATIENCE, is_ready)
            .unwrap_or_else(|error| panic!("{error}\n{}", logs(lab)));
        assert_eq!(ready_file(lab, node), "1\n");
    }
}

/// r1 cannot tell what changed before it lost everything: it says that data is missing, and a bulk query fetches it.
#[test]
fn what_a_peer_without_a_memory_of_it_cannot_tell_is_fetched_in_bulk() {
    let Some(mut lab) = pair(Lifetimes::default(), "") else {
        return;
    };
    lease_many(&lab, 0, 5);
    expect_same(&lab, 10);
    lab.stop("r2.twinrelay", "TERM").expect("r2 ends");
    lose_everything(&mut lab, R1);
    lab.start_twinrelay_on(R1).expect("r1 comes back");
    lease_many(&lab, 5, 5);
    lab.start_twinrelay_on(R2).expect("r2 comes back");

    expect_active(&lab);
    expect_same(&lab, 20);
    let missing = counted(&lab, R2, "requestor", "received", "DataMissing");
    assert_eq!(missing, 1, "{}", logs(&lab));
    assert!(counted(&lab, R2, "requestor", "sent", "leasequery") >= 1);
    expect_ready(&lab);
}
