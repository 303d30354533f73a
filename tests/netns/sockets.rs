//! What the sockets do that the kernel program does elsewhere: limits, counted overflows, and an end that leaves
//! nothing unread.

use crate::capture::configuration;
use crate::hand::{Hand, RELAYS};
use crate::harness::{counted, expect_counted, lab, shown, unlimited};
use relay_tests::messages::Message;
use std::time::Duration;
use xtask::lab::{Lab, Lifetimes, wait_for};

/// A type that no server answers, and every relay forwards (RFC 7283 §4).
const UNKNOWN: u8 = 200;

fn by_sockets(configuration: &str) -> String {
    let section = "interface = \"acc0\"";
    configuration.replace(section, &format!("{section}\ncapture = \"socket\""))
}

/// How many messages of clients went into the relay.
fn from_clients(lab: &Lab) -> u64 {
    let statistics = shown(lab, "statistics");
    let rows = statistics["statistics"]["messages"].as_array();
    let rows = rows.expect("a list of messages").iter();
    rows.filter(|row| row["direction"] == "from-client")
        .map(|row| row["count"].as_u64().expect("a number"))
        .sum()
}

/// The default is ten messages a second, half of them for those who ask for something new. req: RLY-71 (RFC 6221 §9)
#[test]
fn rly_71_client_that_floods_the_sockets_keeps_its_share_for_renewals() {
    let Some(lab) = lab(&configuration("socket", ""), Lifetimes::default()) else {
        return;
    };
    let hand = Hand::on(&lab, "gen", "eth0", "::", 546);
    let duid = [0, 3, 0, 1, 2, 0, 0, 0, 0, 9];
    let message = |kind, xid| Message::new(kind, xid).client_id(&duid).build();

    for xid in 0..100 {
        hand.say(RELAYS, 547, &message(1, xid));
    }
    let all = |lab: &Lab| from_clients(lab) + counted(lab, "drops", "client_rate");
    wait_for("a hundred", Duration::from_secs(5), || {
        (all(&lab) == 100).then_some(())
    })
    .expect("each message is relayed or counted");
    let relayed = from_clients(&lab);
    assert!((5..=10).contains(&relayed), "{relayed} of 100 were relayed");

    let dropped = counted(&lab, "drops", "client_rate");
    for xid in 100..103 {
        hand.say(RELAYS, 547, &message(5, xid));
    }
    wait_for("the renewals", Duration::from_secs(5), || {
        (from_clients(&lab) == relayed + 3).then_some(())
    })
    .expect("they are relayed");
    expect_counted(&lab, "drops", "client_rate", dropped);
}

#[test]
fn messages_that_found_the_socket_full_are_counted() {
    const SAID: u64 = 30_000;
    let Some(lab) = lab(&by_sockets(&unlimited()), Lifetimes::default()) else {
        return;
    };
    let hand = Hand::on(&lab, "gen", "eth0", "::", 546);
    let message = Message::new(UNKNOWN, 7).option(65_000, &[0; 1300]).build();

    lab.signal("r1.twinrelay", "STOP").expect("it stands still");
    for _ in 0..SAID {
        hand.say(RELAYS, 547, &message);
    }
    lab.signal("r1.twinrelay", "CONT").expect("it goes on");

    let full = |lab: &Lab| {
        let statistics = shown(lab, "statistics");
        let drops = statistics["statistics"]["drops"].as_array();
        let drops = drops.expect("a list of drops").iter();
        drops
            .filter(|row| row["interface"] == "acc0" && row["name"] == "queue_full")
            .map(|row| row["count"].as_u64().expect("a number"))
            .sum::<u64>()
    };
    wait_for("all of them", Duration::from_secs(20), || {
        (from_clients(&lab) + full(&lab) == SAID).then_some(())
    })
    .unwrap_or_else(|error| panic!("{error}: {} and {}", from_clients(&lab), full(&lab)));
    assert!(full(&lab) > 0, "the queue took all of them");
}

#[test]
fn stop_relays_what_is_in_the_sockets() {
    const SAID: usize = 3000;
    let Some(mut lab) = lab(&by_sockets(&unlimited()), Lifetimes::default()) else {
        return;
    };
    // Without a server there the kernel of s1 counts what comes: no capture keeps up with a burst.
    lab.stop("s1.kea-dhcp6", "TERM").expect("Kea ends");
    let before = datagrams(&lab);
    let hand = Hand::on(&lab, "gen", "eth0", "::", 546);
    let message = Message::new(UNKNOWN, 7).build();

    lab.signal("r1.twinrelay", "STOP").expect("it stands still");
    for _ in 0..SAID {
        hand.say(RELAYS, 547, &message);
    }
    lab.signal("r1.twinrelay", "TERM").expect("it shall end");
    lab.signal("r1.twinrelay", "CONT").expect("it goes on");

    wait_for("all of them", Duration::from_secs(10), || {
        (datagrams(&lab) == before + SAID).then_some(())
    })
    .unwrap_or_else(|error| panic!("{error}: {} of {SAID}", datagrams(&lab) - before));
    wait_for("the end", Duration::from_secs(5), || {
        lab.pid("r1.twinrelay").is_none().then_some(())
    })
    .expect("it ends");
}

/// What came to ports of s1 that nobody listens on.
fn datagrams(lab: &Lab) -> usize {
    let text = lab
        .exec("s1", &["cat", "/proc/net/snmp6"])
        .expect("it is there");
    let count = |line: &str| line.strip_prefix("Udp6NoPorts")?.trim().parse().ok();
    text.lines()
        .find_map(count)
        .expect("the kernel counts them")
}
