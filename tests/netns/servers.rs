//! Servers that do not behave: one that is silent, one that answers twice, one that answers for an interface that
//! is gone, one whose answer is larger than the link's packets. A socket on s1 in place of its Kea plays them.

use crate::hand::{Hand, HandClient};
use crate::harness::{CONFIGURATION, counted, installed, lab, listed, on, second_access};
use crate::pcap::{frames, inner, start_capture_of};
use relay_tests::messages::{Message, answer, iaprefix};
use std::time::Duration;
use xtask::lab::{Lab, Lifetimes, wait_for};

const SERVER_DUID: [u8; 10] = [0, 3, 0, 1, 2, 0, 0, 0, 0, 0x53];
const PATIENCE: Duration = Duration::from_secs(5);
/// Long enough for what must not come.
const SILENCE: Duration = Duration::from_millis(300);

/// The lab with a server by hand at the address of s1, the only one that is configured.
fn with_server_by_hand(access: &str) -> Option<(Lab, Hand)> {
    let begin = CONFIGURATION
        .find("[[server]]\nname = \"s2\"")
        .expect("s2 is there");
    let end = CONFIGURATION
        .find("[[access]]")
        .expect("an access is there");
    let rest = &CONFIGURATION[end..];
    let text = format!("{}{access}{rest}", &CONFIGURATION[..begin]);
    let mut lab = lab(&text, Lifetimes::default())?;
    lab.stop("s1.kea-dhcp6", "KILL").expect("Kea ends");
    let server = Hand::on(&lab, "s1", "eth0", "2001:db8:c::11", 547);
    Some((lab, server))
}

/// What the server is asked next.
fn asked(server: &Hand) -> Vec<u8> {
    server.hear(PATIENCE).expect("the relay asks").0
}

/// A Reply to the last message of this client that lends one prefix, with a filler of this many octets.
fn reply_to(request: &[u8], client: &HandClient, filler: usize) -> Vec<u8> {
    let xid = u32::from_be_bytes([0, request[1], request[2], request[3]]);
    Message::new(7, xid)
        .client_id(&client.duid)
        .server_id(&SERVER_DUID)
        .ia_pd(1, &[iaprefix("2001:db8:d111::/56", 600, 600)])
        .option(65_000, &vec![0xa5; filler])
        .build()
}

fn say_back(server: &Hand, forwarded: &[u8], message: &[u8]) {
    server.say("2001:db8:c::1", 547, &answer(forwarded, message));
}

/// Waits until the capture of fragments on a side has this many, which is all of them.
fn expect_fragments(lab: &Lab, node: &str, count: usize) {
    let seen = || (frames(lab, node).len() >= count).then_some(());
    wait_for("the fragments", PATIENCE, seen)
        .unwrap_or_else(|error| panic!("{error}: {} of {count}", frames(lab, node).len()));
    assert_eq!(
        frames(lab, node).len(),
        count,
        "fragments on the {node} side"
    );
}

#[test]
fn server_that_never_answers_is_counted_and_shown_as_silent() {
    let Some((lab, server)) = with_server_by_hand("") else {
        return;
    };
    let mut client = HandClient::on(&lab, "gen", "eth0");
    for _ in 0..2 {
        let solicit = client.message(1).ia_pd(1, &[]).build();
        client.say(&solicit);
        asked(&server);
    }

    let state = || Some(listed(&lab, "servers")[0].clone()).filter(|it| it["state"] == "silent");
    let silent = wait_for(
        "the server to be called silent",
        Duration::from_secs(20),
        state,
    )
    .unwrap_or_else(|error| panic!("{error}: {:?}", listed(&lab, "servers")));

    assert_eq!(silent["messages_sent"], 2);
    assert_eq!(silent["messages_received"], 0);
    assert_eq!(installed(&lab), Vec::<String>::new());
}

/// Every answer passes, the second one creates nothing new. req: RLY-33, SNP-32 (RFC 8415 §18.3.2)
#[test]
fn rly_33_server_that_answers_twice_is_heard_twice_and_learned_once() {
    let Some((lab, server)) = with_server_by_hand("") else {
        return;
    };
    let mut client = HandClient::on(&lab, "gen", "eth0");
    let request = client.message(3).ia_pd(1, &[]).build();
    client.say(&request);
    let forwarded = asked(&server);
    let reply = reply_to(&request, &client, 0);

    say_back(&server, &forwarded, &reply);
    say_back(&server, &forwarded, &reply);

    for _ in 0..2 {
        assert_eq!(client.hear(PATIENCE), Some(reply.clone()));
    }
    assert_eq!(client.hear(SILENCE), None, "a third answer");
    assert_eq!(installed(&lab), ["2001:db8:d111::/56"]);
    assert_eq!(listed(&lab, "servers")[0]["messages_received"], 2);
}

#[test]
fn answer_for_an_interface_that_is_gone_is_dropped_and_counted() {
    let access = "[[access]]\ninterface = \"acc1\"\n\n";
    let Some((lab, server)) = with_server_by_hand(access) else {
        return;
    };
    second_access(&lab);
    let mut client = HandClient::on(&lab, "gen", "cli1");
    let request = client.message(3).ia_pd(1, &[]).build();
    let forwarded = wait_for("the relay to serve acc1", PATIENCE, || {
        client.say(&request);
        server.hear(Duration::from_millis(200))
    })
    .expect("acc1 is served")
    .0;

    on(&lab, "r1", "ip link del acc1");
    wait_for("acc1 to be gone", PATIENCE, || {
        let rows = listed(&lab, "interfaces");
        let row = rows.into_iter().find(|it| it["interface"] == "acc1")?;
        row["index"].is_null().then_some(())
    })
    .expect("the daemon notices");
    say_back(&server, &forwarded, &reply_to(&request, &client, 0));

    let dropped =
        || counted(&lab, "drops", "unknown_interface") + counted(&lab, "drops", "unknown_link");
    wait_for("a drop", PATIENCE, || (dropped() == 1).then_some(())).expect("it is counted");
    assert_eq!(installed(&lab), Vec::<String>::new());
}

/// Both ways: the server's fragments are put together, ours by the client's kernel. req: RLY-35 (RFC 8200 §4.5)
#[test]
fn rly_35_answer_larger_than_the_mtu_reaches_the_client_in_fragments() {
    let Some((mut lab, server)) = with_server_by_hand("") else {
        return;
    };
    start_capture_of(&mut lab, "access", "ip6[6] = 44");
    let mut client = HandClient::on(&lab, "gen", "eth0");
    let request = client.message(3).ia_pd(1, &[]).build();
    client.say(&request);
    let forwarded = asked(&server);
    let reply = reply_to(&request, &client, 3000);

    say_back(&server, &forwarded, &reply);

    assert_eq!(client.hear(PATIENCE), Some(reply));
    expect_fragments(&lab, "access", 3);
    assert_eq!(installed(&lab), ["2001:db8:d111::/56"]);
}

/// A request that no longer fits once it is wrapped. req: RLY-35 (RFC 8200 §4.5)
#[test]
fn rly_35_request_larger_than_the_mtu_reaches_the_server_in_fragments() {
    let Some((mut lab, server)) = with_server_by_hand("") else {
        return;
    };
    start_capture_of(&mut lab, "core", "ip6[6] = 44");
    let mut client = HandClient::on(&lab, "gen", "eth0");
    let filler = client.message(1).option(65_000, &[0x5a; 1400]).build();
    assert!(filler.len() < 1452, "the client's own packet is not cut");

    client.say(&filler);

    let forwarded = asked(&server);
    assert_eq!(inner(&forwarded), Some(&filler[..]));
    expect_fragments(&lab, "core", 2);
}
