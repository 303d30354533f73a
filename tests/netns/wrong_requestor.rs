//! A peer that asks r1 wrongly: each rule of the spec broken in turn. The connection is closed or the message
//! ignored, as the rule says; that is counted and shown; and nothing else suffers.
//!
//! Certificates and what is said in place of a handshake: `twins_tls.rs`. Ends that come after minutes only:
//! `tests/conformance/alq_server.rs`, `blq_server.rs`.

use std::time::{Duration, Instant};

use relay_core::wire::iana::{
    ACTIVELEASEQUERY, LEASEQUERY, LEASEQUERY_DATA, LEASEQUERY_DONE, LEASEQUERY_REPLY, REPLY,
    STARTTLS,
};
use relay_tests::alq_peer::Peer;
use relay_tests::alq_peer::frames::{Named, framed, no_frames, solicit, unsound_answers};
use relay_tests::asking::{lq_query, oro};
use relay_tests::messages::{Message, iaaddr, iaprefix, option};

use crate::harness::{on, scrape};
use crate::pair::{PATIENCE, R2};
use crate::wrong::{ODD, ODD_DUID, SHORT, THEIR_CLIENT, World, answer, head, now};

/// What a rule says of a message.
#[derive(Clone, Copy, Debug)]
enum Then {
    /// Nothing is said; the connection ends for this reason, which is an error.
    Closed(&'static str),
    /// LEASEQUERY-REPLY with this status, and the end.
    Refused(&'static str, u16),
    /// LEASEQUERY-DONE with this status, and the end, for this reason.
    Terminated(&'static str, u16, &'static str),
    /// Nothing is said or done, it is counted, and a good query is answered on the same connection.
    Ignored,
    /// A message of this type.
    Answered(u8),
}

/// LEASEQUERY, with CLIENTID, these LQ_QUERY or other options.
fn bulk(options: &[u8]) -> Vec<u8> {
    framed(Message::new(LEASEQUERY, 5).client_id(ODD_DUID).raw(options))
}

fn active(options: &[u8]) -> Vec<u8> {
    let message = Message::new(ACTIVELEASEQUERY, 6).client_id(ODD_DUID);
    framed(message.raw(options))
}

/// Before any query.
fn at_the_beginning() -> Vec<(&'static str, Vec<u8>, Then)> {
    use Then::{Answered, Closed, Ignored, Refused};
    const ERROR: Then = Closed("protocol error");
    const MALFORMED: Then = Refused("MalformedQuery", 8);
    let all = |named: Vec<Named>| {
        let cases = named.into_iter().map(|(what, bytes)| (what, bytes, ERROR));
        cases.collect::<Vec<_>>()
    };
    let longest = |code| option(code, &[0; 65_535 - 8 - 14]);
    let by_address = |inside: &[u8]| bulk(&lq_query(1, "::", inside));
    let mut cases = all(no_frames());
    // Nobody but a server sends these.
    cases.extend(all(unsound_answers(5)));
    cases.extend([
        ("SOLICIT", solicit(THEIR_CLIENT), ERROR),
        ("REPLY", framed(Message::new(REPLY, 1)), ERROR),
        (
            "option longer than the query",
            bulk(&[0, 44, 0, 99, 1]),
            ERROR,
        ),
        ("half an option header", active(&[0, 6, 0]), ERROR),
        (
            "query without CLIENTID",
            framed(Message::new(LEASEQUERY, 5).raw(&lq_query(4, "2001:db8:a:1::2", &[]))),
            Ignored,
        ),
        (
            "CLIENTID of no octets",
            framed(Message::new(ACTIVELEASEQUERY, 5).client_id(&[])),
            Ignored,
        ),
        (
            "query of another server",
            bulk(&[option(2, THEIR_CLIENT), lq_query(4, "2001:db8:a:1::2", &[])].concat()),
            Ignored,
        ),
        ("bulk query for everything", bulk(&[]), Ignored),
        (
            "LQ_QUERY of 16 octets",
            bulk(&option(44, &[4; 16])),
            MALFORMED,
        ),
        (
            "start time of three octets",
            active(&option(101, &[0; 3])),
            MALFORMED,
        ),
        (
            "start time of five octets",
            bulk(&[lq_query(4, "2001:db8:a:1::2", &[]), option(101, &[0; 5])].concat()),
            MALFORMED,
        ),
        (
            "end time in an active query",
            active(&option(102, &[0; 4])),
            MALFORMED,
        ),
        (
            "Option Request of three octets",
            active(&option(6, &[0; 3])),
            MALFORMED,
        ),
        (
            "address of 15 octets",
            by_address(&option(5, &[0x20; 15])),
            MALFORMED,
        ),
        (
            "prefix of length 200 in place of an address",
            by_address(&{
                let mut prefix = iaprefix("2001:db8:100::/56", 0, 0);
                prefix[12] = 200;
                prefix
            }),
            MALFORMED,
        ),
        (
            "Relay-Id of no octets",
            bulk(&lq_query(3, "::", &option(53, &[]))),
            MALFORMED,
        ),
        (
            "link-address of no link",
            bulk(&lq_query(4, "2001:db8:77::1", &[])),
            Refused("NotConfigured", 9),
        ),
        (
            "query-type 0",
            bulk(&lq_query(0, "::", &iaaddr("2001:db8:a:1::c3", 0, 0))),
            Refused("UnknownQueryType", 7),
        ),
        (
            "query-type 99",
            bulk(&lq_query(99, "::", &[])),
            Refused("UnknownQueryType", 7),
        ),
        (
            "STARTTLS where TLS is off",
            framed(Message::new(STARTTLS, 1)),
            Answered(REPLY),
        ),
        (
            "start time to come",
            active(&option(101, &(now() + 3600).to_be_bytes())),
            Answered(LEASEQUERY_REPLY),
        ),
        (
            "active query of 65,535 octets",
            active(&longest(65_000)),
            Answered(LEASEQUERY_REPLY),
        ),
    ]);
    cases
}

/// On a connection whose active query has been answered.
fn on_a_live_session() -> Vec<(&'static str, Vec<u8>, Then)> {
    const ERROR: Then = Then::Closed("protocol error");
    const TERMINATED: Then = Then::Terminated("NotAllowed", 10, "protocol error");
    let link = lq_query(4, "2001:db8:a:1::2", &[]);
    vec![
        ("message-size 0", vec![0, 0], ERROR),
        ("message-size 3", vec![0, 3, 17, 0, 0], ERROR),
        ("SOLICIT", solicit(THEIR_CLIENT), ERROR),
        ("STARTTLS", framed(Message::new(STARTTLS, 1)), ERROR),
        (
            "LEASEQUERY-DATA",
            framed(Message::new(LEASEQUERY_DATA, 2)),
            ERROR,
        ),
        ("a second active query", active(&[]), TERMINATED),
        (
            "the same query again",
            framed(Message::new(ACTIVELEASEQUERY, 2).client_id(ODD_DUID)),
            TERMINATED,
        ),
        ("a bulk query", bulk(&link), TERMINATED),
    ]
}

fn subscribe(peer: &mut Peer) {
    let query = Message::new(ACTIVELEASEQUERY, 2)
        .client_id(ODD_DUID)
        .raw(&oro(&[100, 47]));
    peer.send(&framed(query)).expect("it is taken");
    peer.expect(LEASEQUERY_REPLY, PATIENCE).expect("r1 answers");
}

/// The frame comes; what follows is what the rule says.
fn play(world: &World, what: &str, mut peer: Peer, bytes: &[u8], then: Then) {
    let role = "server";
    let before = world.row(ODD, role);
    let errors = before["errors"].as_u64().expect("a number");
    let ignored = world.statistics(ODD, role)["ignored"]
        .as_u64()
        .expect("a number");
    let sent = |name: &str| world.statuses(role, "sent", name);
    let fails = |reason: &str| {
        world.expect(what, |world| {
            let row = world.row(ODD, role);
            row["errors"] == errors + 1 && row["last_error"] == reason
        });
    };
    let has_status = |options: &[u8], code: u16| {
        let status = [0, 13, 0, 2, 0, code as u8];
        options.windows(6).any(|it| it == status)
    };
    println!("{what}: {then:?}");
    match then {
        Then::Closed(reason) => {
            peer.send(bytes).expect("it is taken");
            peer.expect_closed(PATIENCE).expect(what);
            fails(reason);
        }
        Then::Refused(name, code) => {
            let count = sent(name);
            peer.send(bytes).expect("it is taken");
            let reply = peer.expect(LEASEQUERY_REPLY, PATIENCE).expect(what);
            assert!(has_status(&reply.options, code), "{what}: {reply:02x?}");
            peer.expect_closed(PATIENCE).expect(what);
            assert_eq!(sent(name), count + 1, "{what}");
            assert_eq!(world.row(ODD, role)["errors"], errors, "{what}");
        }
        Then::Terminated(name, code, reason) => {
            let count = sent(name);
            peer.send(bytes).expect("it is taken");
            let done = peer.expect(LEASEQUERY_DONE, PATIENCE).expect(what);
            assert!(has_status(&done.options, code), "{what}: {done:02x?}");
            peer.expect_closed(PATIENCE).expect(what);
            assert_eq!(sent(name), count + 1, "{what}");
            fails(reason);
        }
        Then::Ignored => {
            peer.send(bytes).expect("it is taken");
            peer.expect_silence(SHORT).expect(what);
            let counted = world.statistics(ODD, role)["ignored"].clone();
            assert_eq!(counted, ignored + 1, "{what}");
            subscribe(&mut peer);
        }
        Then::Answered(message_type) => {
            peer.send(bytes).expect("it is taken");
            peer.expect(message_type, PATIENCE).expect(what);
            assert_eq!(world.row(ODD, role)["errors"], errors, "{what}");
        }
    }
}

/// req: BLQ-4, BLQ-5, ALQ-9, ALQ-12, LQ-11, LQ-13
#[test]
fn blq_5_wrong_message_of_a_requestor_is_closed_or_ignored_as_its_rule_says() {
    let Some(mut world) = World::up() else {
        return;
    };
    let held = world.digest();

    for (what, bytes, then) in at_the_beginning() {
        let peer = world.connect(ODD);
        play(&world, what, peer, &bytes, then);
        world.expect_undisturbed(what, &held);
    }
    for (what, bytes, then) in on_a_live_session() {
        let mut peer = world.connect(ODD);
        subscribe(&mut peer);
        play(&world, what, peer, &bytes, then);
        world.expect_undisturbed(what, &held);
    }

    world.expect_served();
}

/// A frame that is cut, one that comes octet by octet, and one of which no more comes.
/// req: BLQ-2, BLQ-5
#[test]
fn blq_5_frame_in_pieces_is_one_message_and_a_cut_one_is_none() {
    let Some(mut world) = World::up() else {
        return;
    };
    let held = world.digest();
    let query = active(&oro(&[100]));
    let errors = |world: &World| {
        world.row(ODD, "server")["errors"]
            .as_u64()
            .expect("a number")
    };

    for is_live in [false, true] {
        let before = errors(&world);
        let mut peer = world.connect(ODD);
        if is_live {
            subscribe(&mut peer);
        }
        peer.send(&query[..query.len() - 1]).expect("it is taken");
        peer.half_close().expect("it is open");
        peer.expect_closed(PATIENCE)
            .expect("a cut frame is no query");
        world.expect("the end of a cut frame", |world| {
            errors(world) == before + 1
                && world.row(ODD, "server")["last_error"] == "protocol error"
        });
        world.expect_undisturbed("a cut frame", &held);
    }

    // One octet of a frame, and nothing more: it waits, and so does nobody else.
    let mut waits = world.connect(ODD);
    waits.send(&query[..1]).expect("it is taken");
    let mut slow = world.connect(ODD);
    slow.send_slowly(&query, Duration::from_millis(20))
        .expect("it is taken");
    slow.expect(LEASEQUERY_REPLY, PATIENCE)
        .expect("octet by octet is a query");
    world.expect_undisturbed("octets", &held);
    waits.send(&query[1..]).expect("it is open still");
    waits
        .expect(LEASEQUERY_REPLY, PATIENCE)
        .expect("late is a query");

    world.expect_served();
}

/// Who never reads is closed after `send_timeout`, and costs a bounded number of bytes until then.
/// req: ALQ-63 (RFC 7653 §9.3)
#[test]
fn alq_63_requestor_that_never_reads_is_closed_and_costs_little() {
    const CLIENTS: u32 = 8000;
    let Some(mut world) = World::up() else {
        return;
    };
    on(
        &world.lab,
        "s2",
        "sysctl -qw net.ipv4.tcp_rmem=4096\t4096\t4096",
    );
    // What it is to be told comes from itself, in the other role: enough to fill all buffers in between.
    // What happened in the second in which r1 started it may have forgotten.
    std::thread::sleep(Duration::from_secs(1));
    let begin = now();
    tell_many(&world, CLIENTS);
    let held = world.digest();
    let memory = world.memory_kib();

    let mut peer = world.connect(ODD);
    let query = [oro(&[100, 47]), option(101, &begin.to_be_bytes())].concat();
    peer.send(&active(&query)).expect("it is taken");
    world.expect("changes that wait for one that never reads", |world| {
        world.row(ODD, "server")["state"] == "catch-up"
    });
    world.expect_undisturbed("a peer that never reads", &held);
    let started = Instant::now();
    world.expect("the end of one that never reads", |world| {
        world.row(ODD, "server")["last_error"] == "send timeout"
    });
    println!("closed {:?} later", started.elapsed());

    let more = world.memory_kib().saturating_sub(memory);
    println!("{more} KiB more for one that never read");
    assert!(more < 4096, "{more} KiB");
    world.expect_undisturbed("a peer that never reads", &held);
}

/// r1 asks the odd peer, which tells of so many clients that it only knows, each of a long name and on no link of r1.
fn tell_many(world: &World, clients: u32) {
    let listener = world.listen(ODD);
    let (active, bulk) = (ACTIVELEASEQUERY, LEASEQUERY);
    drop(world.connect(ODD));
    let mut session = Peer::accept(&listener, PATIENCE).expect("r1 connects");
    let asked = session.expect(active, PATIENCE).expect("r1 asks");
    session
        .send(&answer(&asked, LEASEQUERY_REPLY, &head(&asked)))
        .expect("it is taken");
    let mut fetch = Peer::accept(&listener, PATIENCE).expect("r1 connects");
    let asked = fetch.expect(bulk, PATIENCE).expect("r1 asks for all");
    let mut frames = Vec::new();
    for number in 0..clients {
        let mut duid = vec![0, 2, 0, 0, 0, 9];
        duid.extend([0x5a; 96]);
        duid.extend(number.to_be_bytes());
        let [_, _, high, low] = number.to_be_bytes();
        let lease = iaprefix(
            &format!("2001:db8:e{high:02x}:{low:02x}00::/56"),
            6000,
            7200,
        );
        let client = [option(1, &duid), lease, option(46, &[0; 4])].concat();
        let (message_type, before) = match number {
            0 => (LEASEQUERY_REPLY, head(&asked)),
            _ => (LEASEQUERY_DATA, Vec::new()),
        };
        let options = [before, option(45, &client)].concat();
        frames.extend(answer(&asked, message_type, &options));
    }
    frames.extend(answer(&asked, LEASEQUERY_DONE, &[]));
    fetch.send(&frames).expect("r1 reads");
    world.expect("all that is told", |world| {
        world.row(ODD, "requestor")["bindings_received"] == clients
    });
}

/// Connections without end, of a peer and of strangers: a bounded number is kept, and the honest peer comes back
/// all the same. req: ALQ-56, BLQ-7
#[test]
fn blq_7_flood_of_connections_takes_no_place_of_another_peer() {
    const FLOOD: usize = 200;
    let Some(mut world) = World::up() else {
        return;
    };
    let held = world.digest();
    let files = world.open_files();

    let mut flood: Vec<Peer> = (0..FLOOD).map(|_| world.connect(ODD)).collect();
    let more = world.open_files().saturating_sub(files);
    println!("{more} of {FLOOD} connections are open at r1");
    assert!(more <= 24, "{more}");
    world.expect("the rest is refused", |world| {
        refused(world, "too_many") > 0
    });
    world.expect_undisturbed("a flood", &held);
    // The honest peer has to come back in the middle of it.
    on(&world.lab, R2, "ss -K -t -6 dport = 547 or sport = 547");
    for role in ["requestor", "server"] {
        world.expect("the honest peer again", |world| {
            let row = world.row(R2, role);
            row["state"] == "active" && row["errors"].as_u64() >= Some(1)
        });
    }
    world.forget_sessions_begun();
    let is_open = |peer: &mut Peer| peer.expect_silence(Duration::from_millis(1)).is_ok();
    let open = flood
        .iter_mut()
        .filter_map(|it| is_open(it).then_some(()))
        .count();
    println!("{open} of {FLOOD} stayed open");
    assert!(open <= 4, "more than a peer's share: {open}");
    drop(flood);

    let before = refused(&world, "not_a_peer");
    for _ in 0..FLOOD {
        drop(world.connect_from("cr"));
    }
    world.expect("strangers are refused", |world| {
        refused(world, "not_a_peer") == before + FLOOD
    });
    world.expect_undisturbed("a flood of strangers", &held);
    world.expect_served();
}

/// How many connections were closed unread for this reason.
fn refused(world: &World, reason: &str) -> usize {
    let name = format!("twinrelay_leasequery_refused_total{{reason=\"{reason}\"}} ");
    let metrics = scrape(&world.lab);
    let line = metrics.lines().find_map(|it| it.strip_prefix(&name));
    line.expect("it is there").parse().expect("a number")
}
