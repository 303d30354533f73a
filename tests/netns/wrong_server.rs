//! A peer that answers r1 wrongly: each rule of the spec broken in turn. The connection is closed or the message
//! ignored, as the rule says; that is counted and shown; and nothing else suffers.
//!
//! Certificates: `twins_tls.rs`.

use std::net::TcpListener;
use std::time::{Duration, Instant};

use relay_core::wire::iana::{
    ACTIVELEASEQUERY, LEASEQUERY, LEASEQUERY_DATA, LEASEQUERY_DONE, LEASEQUERY_REPLY, REPLY,
    STARTTLS,
};
use relay_tests::alq_peer::frames::{
    Named, framed, impossible_leases, longest, no_frames, preferred_above_valid, solicit,
    unknown_status, unreadable_relay_data, unsound_answers, with_base_time, with_xid,
};
use relay_tests::alq_peer::{Peer, Received};
use relay_tests::asked::base_time;
use relay_tests::messages::{Message, iaprefix, option, read_options, status};

use crate::harness::bindings;
use crate::pair::PATIENCE;
use crate::wrong::{ODD, SHORT, THEIR_CLIENT, VEILED, World, answer, head, now};

const ROLE: &str = "requestor";
/// What the frames of `relay_tests` lend.
const THEIR_PREFIX: &str = "2001:db8:100::/56";

/// What a rule says of a message.
#[derive(Clone, Copy, Debug)]
enum Then {
    /// The connection ends for this reason, which is an error.
    Closed(&'static str),
    /// The connection ends, and this is what is shown of the status.
    Refused(&'static str),
    /// Nothing is taken, it is counted as ignored, and the session goes on.
    Ignored,
    /// Nothing is taken or counted but the message, and the session goes on.
    Kept,
    /// The lease is taken, with these lifetimes at most, and the session goes on.
    Taken(u32),
}

type Case = (&'static str, Vec<u8>, Then);

fn all(named: Vec<Named>, then: Then) -> Vec<Case> {
    let cases = named.into_iter().map(|(what, bytes)| (what, bytes, then));
    cases.collect()
}

/// In place of LEASEQUERY-REPLY.
fn in_place_of_a_reply(asked: &Received) -> Vec<Case> {
    use Then::{Closed, Ignored, Refused};
    const ERROR: Then = Closed("protocol error");
    let good = answer(asked, LEASEQUERY_REPLY, &head(asked));
    let refusal = |code| {
        answer(
            asked,
            LEASEQUERY_REPLY,
            &[head(asked), status(code)].concat(),
        )
    };
    let without = |code: u16| {
        let options = read_options(&head(asked));
        let left = options.iter().filter(|(it, _)| *it != code);
        let left: Vec<u8> = left.flat_map(|(code, data)| option(*code, data)).collect();
        answer(asked, LEASEQUERY_REPLY, &left)
    };
    let mut cases = all(no_frames(), ERROR);
    cases.extend([
        (
            "reply with a wrong transaction-id",
            with_xid(&good, asked.xid.0 ^ 1),
            Ignored,
        ),
        ("reply without SERVERID", without(2), Ignored),
        ("reply without CLIENTID", without(1), Ignored),
        (
            "option longer than the reply",
            answer(asked, LEASEQUERY_REPLY, &[0, 2, 0, 99, 1]),
            ERROR,
        ),
        (
            "LEASEQUERY-DATA before the reply",
            answer(asked, LEASEQUERY_DATA, &[]),
            ERROR,
        ),
        (
            "LEASEQUERY-DONE before the reply",
            answer(asked, LEASEQUERY_DONE, &[]),
            ERROR,
        ),
        ("REPLY without STARTTLS", answer(asked, REPLY, &[]), ERROR),
        (
            "a query for a query",
            answer(asked, ACTIVELEASEQUERY, &head(asked)),
            ERROR,
        ),
        (
            "reply with an unknown status",
            refusal(999),
            Refused("status 999"),
        ),
        ("UnknownQueryType", refusal(7), Refused("UnknownQueryType")),
        ("MalformedQuery", refusal(8), Refused("MalformedQuery")),
        ("NotConfigured", refusal(9), Refused("NotConfigured")),
        ("NotAllowed", refusal(10), Refused("NotAllowed")),
        ("NotSupported", refusal(14), Refused("NotSupported")),
    ]);
    cases
}

/// In a session that is up.
fn in_a_session(asked: &Received) -> Vec<Case> {
    use Then::{Closed, Ignored, Kept, Refused, Taken};
    const ERROR: Then = Closed("protocol error");
    let xid = asked.xid.0;
    let data = |options: &[u8]| answer(asked, LEASEQUERY_DATA, options);
    let done = |code| {
        answer(
            asked,
            LEASEQUERY_DONE,
            &[status(code), base_time(now())].concat(),
        )
    };
    let lease = iaprefix(THEIR_PREFIX, 3600, 7200);
    let client =
        |options: &[Vec<u8>]| data(&[option(45, &options.concat()), base_time(now())].concat());
    let (duid, clt) = (option(1, THEIR_CLIENT), option(46, &[0; 4]));
    let mut cases = all(no_frames(), ERROR);
    cases.extend(all(unsound_answers(xid), ERROR));
    cases.extend(all(impossible_leases(xid, THEIR_CLIENT), Ignored));
    cases.extend([
        (
            "data with a wrong transaction-id",
            with_xid(&data(&base_time(now())), xid ^ 1),
            ERROR,
        ),
        (
            "a second LEASEQUERY-REPLY",
            answer(asked, LEASEQUERY_REPLY, &head(asked)),
            ERROR,
        ),
        (
            "DONE of a foreign transaction-id",
            with_xid(&done(0), xid ^ 1),
            ERROR,
        ),
        ("REPLY", answer(asked, REPLY, &[]), ERROR),
        ("SOLICIT", solicit(THEIR_CLIENT), ERROR),
        (
            "CatchUpComplete that nobody waits for",
            data(&[status(13), base_time(now())].concat()),
            ERROR,
        ),
        (
            "DataMissing in a live session",
            data(&[status(12), base_time(now())].concat()),
            ERROR,
        ),
        ("unknown status in DATA", unknown_status(xid), Kept),
        ("unknown status in DONE", done(999), Refused("status 999")),
        ("QueryTerminated", done(11), Refused("QueryTerminated")),
        (
            "a client without identifier",
            client(&[lease.clone(), clt.clone()]),
            Ignored,
        ),
        (
            "a client without time",
            client(&[duid.clone(), lease.clone()]),
            Ignored,
        ),
        ("65,535 octets", longest(xid), Kept),
        (
            "preferred above valid",
            preferred_above_valid(xid, THEIR_CLIENT),
            Taken(3600),
        ),
        (
            "relay data that cannot be read",
            unreadable_relay_data(xid, THEIR_CLIENT),
            Taken(7200),
        ),
    ]);
    cases
}

/// The next connection of r1 that asks.
fn asked(world: &World, listener: &TcpListener) -> (Peer, Received) {
    // Whoever connects is back, and is asked at once.
    drop(world.connect(ODD));
    loop {
        let mut peer = Peer::accept(listener, PATIENCE).expect("r1 connects");
        // An earlier attempt may have been given up meanwhile.
        if let Ok(asked) = peer.expect(ACTIVELEASEQUERY, PATIENCE) {
            return (peer, asked);
        }
    }
}

/// A session that is up.
fn session(world: &World, listener: &TcpListener) -> (Peer, Received) {
    let (mut peer, asked) = asked(world, listener);
    go_on(world, listener, &mut peer, &asked);
    (peer, asked)
}

/// The query is answered as it should be, until the session is up.
fn go_on(world: &World, listener: &TcpListener, peer: &mut Peer, asked: &Received) {
    let reply = answer(asked, LEASEQUERY_REPLY, &head(asked));
    peer.send(&reply).expect("it is taken");
    let has_start_time = read_options(&asked.options)
        .iter()
        .any(|(code, _)| *code == 101);
    if has_start_time {
        let complete = [status(13), base_time(now())].concat();
        peer.send(&answer(asked, LEASEQUERY_DATA, &complete))
            .expect("it is taken");
    } else {
        let mut bulk = Peer::accept(listener, PATIENCE).expect("r1 connects");
        let asked = bulk.expect(LEASEQUERY, PATIENCE).expect("r1 asks for all");
        bulk.send(&answer(&asked, LEASEQUERY_REPLY, &head(&asked)))
            .expect("it is taken");
    }
    world.expect("the session", |world| {
        world.row(ODD, ROLE)["state"] == "active"
    });
}

struct Counters {
    errors: u64,
    ignored: u64,
    data: u64,
}

fn counters(world: &World) -> Counters {
    let statistics = world.statistics(ODD, ROLE);
    let number = |value: &serde_json::Value| value.as_u64().expect("a number");
    let rows = statistics["messages"].as_array().expect("a list");
    let data = rows
        .iter()
        .find(|it| it["direction"] == "received" && it["name"] == "leasequery-data");
    Counters {
        errors: number(&world.row(ODD, ROLE)["errors"]),
        ignored: number(&statistics["ignored"]),
        data: data.map_or(0, |it| number(&it["count"])),
    }
}

/// The frame comes; what follows is what the rule says. Whether the connection is still there.
fn play(world: &World, peer: &mut Peer, (what, bytes, then): &Case) -> bool {
    println!("{what}: {then:?}");
    let before = counters(world);
    peer.send(&with_base_time(bytes, now()))
        .expect("it is taken");
    match then {
        Then::Closed(reason) => {
            peer.expect_closed(PATIENCE).expect(what);
            world.expect(what, |world| {
                counters(world).errors == before.errors + 1
                    && world.row(ODD, ROLE)["last_error"] == *reason
            });
            return false;
        }
        Then::Refused(shown) => {
            peer.expect_closed(PATIENCE).expect(what);
            world.expect(what, |world| says(world, shown));
            assert_eq!(counters(world).errors, before.errors, "{what}");
            return false;
        }
        Then::Ignored => {
            world.expect(what, |world| counters(world).ignored == before.ignored + 1);
        }
        Then::Kept => world.expect(what, |world| counters(world).data == before.data + 1),
        Then::Taken(most) => {
            world.expect(what, |world| is_taken(world, i64::from(*most)));
            let gone = [iaprefix(THEIR_PREFIX, 0, 0), option(46, &[0; 4])].concat();
            let gone = [option(1, THEIR_CLIENT), gone].concat();
            let xid = u32::from_be_bytes([0, bytes[3], bytes[4], bytes[5]]);
            let end = Message::new(LEASEQUERY_DATA, xid).option(45, &gone);
            peer.send(&framed(end.raw(&base_time(now()))))
                .expect("it is taken");
            world.expect("its end", |world| !is_held(world));
        }
    }
    peer.expect_silence(SHORT).expect(what);
    assert_eq!(counters(world).errors, before.errors, "{what}");
    true
}

/// What is shown of a status: the name, and the words that came with it.
fn says(world: &World, shown: &str) -> bool {
    let row = world.row(ODD, ROLE);
    let error = row["last_error"].as_str().unwrap_or_default();
    error.split(':').next() == Some(shown)
}

fn is_held(world: &World) -> bool {
    let all = bindings(&world.lab);
    all.iter()
        .any(|it| it["prefix"] == THEIR_PREFIX && it["state"] == "active")
}

/// Held, preferred no longer than valid, and that no longer than this.
fn is_taken(world: &World, most: i64) -> bool {
    let all = bindings(&world.lab);
    let found = all
        .iter()
        .find(|it| it["prefix"] == THEIR_PREFIX && it["state"] == "active");
    found.is_some_and(|it| {
        let until = |key: &str| {
            let text = it[key].as_str().expect("a text");
            text.parse::<jiff::Timestamp>().expect("RFC 3339")
        };
        let left = until("valid_until").as_second() - jiff::Timestamp::now().as_second();
        assert!(left <= most + 1 && left > most - 10, "{it:#}");
        until("preferred_until") <= until("valid_until")
    })
}

/// req: LQ-24, BLQ-5, ALQ-42, LQ-26, LQ-27, LQ-34, LQ-36
#[test]
fn alq_42_wrong_message_of_a_server_is_closed_or_ignored_as_its_rule_says() {
    let Some(mut world) = World::up() else {
        return;
    };
    let listener = world.listen(ODD);
    let held = world.digest();

    for at in 0.. {
        let (mut peer, asked) = asked(&world, &listener);
        let mut cases = in_place_of_a_reply(&asked);
        if at >= cases.len() {
            break;
        }
        let case = cases.swap_remove(at);
        if play(&world, &mut peer, &case) {
            go_on(&world, &listener, &mut peer, &asked);
        }
        world.expect_undisturbed(case.0, &held);
    }
    let (mut peer, mut asked) = session(&world, &listener);
    for at in 0.. {
        let mut cases = in_a_session(&asked);
        if at >= cases.len() {
            break;
        }
        let case = cases.swap_remove(at);
        if !play(&world, &mut peer, &case) {
            (peer, asked) = session(&world, &listener);
        }
        world.expect_undisturbed(case.0, &held);
    }

    drop(peer);
    world.expect_served();
}

/// A frame that is cut, octets that make a frame in time, octets that do not, and nothing at all.
/// req: ALQ-29 (RFC 7653 §8.4), BLQ-2
#[test]
fn alq_29_server_that_says_too_little_is_closed_after_receive_timeout() {
    let Some(mut world) = World::up() else {
        return;
    };
    let listener = world.listen(ODD);
    let held = world.digest();
    let keep_alive = |asked: &Received| answer(asked, LEASEQUERY_DATA, &base_time(now()));

    let (mut peer, asked) = session(&world, &listener);
    let errors = counters(&world).errors;
    let frame = keep_alive(&asked);
    peer.send(&frame[..frame.len() - 1]).expect("it is taken");
    peer.half_close().expect("it is open");
    world.expect("the end of a cut frame", |world| {
        let row = world.row(ODD, ROLE);
        row["errors"] == errors + 1 && row["last_error"] == "protocol error"
    });
    world.expect_undisturbed("a cut frame", &held);

    // Longer than receive_timeout, but each frame in time.
    let (mut peer, asked) = session(&world, &listener);
    let before = counters(&world);
    for _ in 0..3 {
        let frame = keep_alive(&asked);
        let pause = Duration::from_millis(100);
        peer.send_slowly(&frame, pause).expect("it is taken");
    }
    world.expect("three frames", |world| {
        counters(world).data == before.data + 3
    });
    assert_eq!(counters(&world).errors, before.errors);
    world.expect_undisturbed("octets in time", &held);

    // Octets all the time, and no frame: what counts are messages.
    let begin = Instant::now();
    let frame = longest(asked.xid.0);
    for octet in frame.chunks(1).take(100) {
        std::thread::sleep(Duration::from_millis(100));
        if peer.send(octet).is_err() || world.row(ODD, ROLE)["state"] != "active" {
            break;
        }
    }
    let took = begin.elapsed();
    println!("octets without a frame: closed after {took:?}");
    world.expect("the end of octets", |world| {
        world.row(ODD, ROLE)["last_error"] == "receive timeout"
    });
    assert!(took < Duration::from_secs(6), "{took:?}");
    world.expect_undisturbed("octets without a frame", &held);

    let (mut peer, _) = self::asked(&world, &listener);
    peer.expect_closed(PATIENCE).expect("it waits in vain");
    world.expect("the end of silence", |world| {
        world.row(ODD, ROLE)["last_error"] == "receive timeout"
    });
    world.expect_undisturbed("silence", &held);
    world.expect_served();
}

/// A million leases for one client cost no more than its limit; r1 relays while they come.
/// req: PDR-G-7 (RFC 8987 §4.1)
#[test]
fn pdr_g_7_million_leases_for_one_client_cost_what_its_limit_allows() {
    const LEASES: u32 = 1_000_000;
    const IN_A_MESSAGE: u32 = 2200;
    let Some(mut world) = World::up() else {
        return;
    };
    let listener = world.listen(ODD);
    let (mut peer, asked) = session(&world, &listener);
    let held = world.digest()["total"]["bindings"].as_u64();
    let (received, memory) = (taken(&world), world.memory_kib());
    let begin = Instant::now();

    let mut sent = 0;
    while sent < LEASES {
        let until = (sent + IN_A_MESSAGE).min(LEASES);
        let mut client = option(1, THEIR_CLIENT);
        for number in sent..until {
            let [_, high, middle, low] = number.to_be_bytes();
            let prefix = format!("2001:db8:e0{high:02x}:{middle:02x}{low:02x}::/64");
            client.extend(iaprefix(&prefix, 3600, 7200));
        }
        client.extend(option(46, &[0; 4]));
        let options = [option(45, &client), base_time(now())].concat();
        peer.send(&answer(&asked, LEASEQUERY_DATA, &options))
            .expect("r1 reads");
        sent = until;
    }
    world.expect("all of it", |world| {
        taken(world) == received + u64::from(LEASES)
    });

    let more = world.memory_kib().saturating_sub(memory);
    println!("{LEASES} leases in {:?}, {more} KiB more", begin.elapsed());
    assert!(more < 8192, "{more} KiB");
    let now = world.digest()["total"]["bindings"].as_u64();
    assert_eq!(now, held.map(|it| it + 8), "max_leases_per_client");
    assert_eq!(world.row(ODD, ROLE)["state"], "active");
    let held = world.digest();
    world.expect_undisturbed("a million leases", &held);
}

fn taken(world: &World) -> u64 {
    let row = world.row(ODD, ROLE);
    row["bindings_received"].as_u64().expect("a number")
}

/// What is said in place of a handshake to a relay that wants one. req: ALQ-22, ALQ-D-19, ALQ-D-20
#[test]
fn alq_22_server_that_does_not_begin_tls_as_agreed_is_cut_off() {
    let Some(mut world) = World::up() else {
        return;
    };
    let listener = world.listen(VEILED);
    let held = world.digest();
    type Says = fn(&Received) -> Vec<u8>;
    let cases: [(&str, Says, &str); 6] = [
        (
            "refusal",
            |asked| answer(asked, REPLY, &status(15)),
            "TLS required",
        ),
        (
            "acceptance of another transaction-id",
            |asked| with_xid(&answer(asked, REPLY, &[]), asked.xid.0 ^ 1),
            "TLS required",
        ),
        (
            "LEASEQUERY-REPLY in clear text",
            |asked| answer(asked, LEASEQUERY_REPLY, &[]),
            "TLS required",
        ),
        ("message-size 3", |_| vec![0, 3, 7, 0, 0], "protocol error"),
        (
            "clear text behind the acceptance",
            |asked| answer(asked, REPLY, &[]).repeat(2),
            "protocol error",
        ),
        (
            "garbage behind the acceptance",
            |asked| answer(asked, REPLY, &[]),
            "TLS failed: what the peer sends is no TLS",
        ),
    ];

    for (what, says, error) in cases {
        println!("{what}: {error}");
        let before = world.row(VEILED, ROLE)["errors"]
            .as_u64()
            .expect("a number");
        drop(world.connect(VEILED));
        let (mut peer, asked) = loop {
            let mut peer = Peer::accept(&listener, PATIENCE).expect("r1 connects");
            if let Ok(asked) = peer.expect(STARTTLS, PATIENCE) {
                break (peer, asked);
            }
        };
        peer.send(&says(&asked)).expect("it is taken");
        if error.starts_with("TLS failed") {
            // Behind r1's ClientHello, which is no whole frame.
            peer.expect_silence(SHORT).expect(what);
            peer.send(b"HTTP/1.1 400 Bad Request\r\n\r\n")
                .expect("it is taken");
        }
        world.expect(what, |world| {
            let row = world.row(VEILED, ROLE);
            let shown = row["last_error"].as_str().unwrap_or_default();
            row["errors"] == before + 1 && shown.starts_with(error)
        });
        drop(peer);
        world.expect_undisturbed(what, &held);
    }
    world.expect_served();
}
