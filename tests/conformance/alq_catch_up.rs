//! One relay that a peer asks from a start time on: what it is told of the past, and what is
//! remembered for that (RFC 7653 §8.4.1, §9.3).

use relay_core::alq::{
    CloseReason, LeasequeryEffect, LeasequeryInput, PeerMemory, Role, SessionState,
};
use relay_core::input::{Clear, Input};
use relay_core::time::Instant;
use relay_core::types::PeerId;
use relay_tests::asked::{Said, base_time};
use relay_tests::asking::{NOW, start_time, texts};
use relay_tests::bench::{Bench, Client, MS, SECOND};
use relay_tests::exchanges::pd_lease;
use relay_tests::mesh::{AHEAD_NANOS, address};
use relay_tests::messages::{CLIENT_DUID, iaprefix};

use super::alq_server::{P1, P2, TOLD, bench, bind, client, live, loading, prefix_of};

fn memory(bench: &Bench) -> Option<Option<Instant>> {
    let mut effects = bench.leasequery.iter().rev();
    effects.find_map(|(effect, _)| match effect {
        LeasequeryEffect::Remember(PeerMemory { unsent_since, .. }) => Some(*unsent_since),
        _ => None,
    })
}

/// Removals are kept for `history`; who asks for older ones is told that they are missing.
/// req: ALQ-65 (RFC 7653 §9.3)
#[test]
fn alq_65_history_is_limited_and_configurable() {
    let mut bench = bench(false);
    bench.reconfigure(|config| config.leasequery.history = 100 * SECOND);
    bench.advance(10 * SECOND);
    bench.bind(&client(), &pd_lease(1, P1, 50));
    bench.advance(SECOND);
    bench.clear(Clear::Client(CLIENT_DUID.to_vec()));
    bench.advance(100 * SECOND - MS);
    let known = bench.connects(1);
    known.subscribe(&mut bench, 2, &start_time(10));
    let heard = known.hears(&mut bench);
    assert!(heard[1].contains("0/0"), "{heard:?}");

    bench.advance(MS);
    let forgotten = bench.connects(2);
    forgotten.subscribe(&mut bench, 3, &start_time(10));

    forgotten.expect(&mut bench, &["reply 3 DataMissing +111"]);
}

/// At once, and the connection goes on. req: ALQ-66 (RFC 7653 §8.4.1, §8.6.2)
#[test]
fn alq_66_start_time_before_history_is_data_missing_and_live() {
    let mut bench = bench(false);
    bind(&mut bench, P1);
    let asking = bench.connects(1);

    asking.subscribe(&mut bench, 3, &start_time(-1));

    asking.expect(&mut bench, &["reply 3 DataMissing +0"]);
    bind(&mut bench, P2);
    assert_eq!(asking.hears(&mut bench).len(), 1);
}

/// What is forgotten while it waits to be told ends the catch-up.
/// req: ALQ-67 (RFC 7653 §8.4.1)
#[test]
fn alq_67_removal_forgotten_in_catch_up_is_data_missing_midway() {
    let mut bench = bench(false);
    bench.reconfigure(|config| config.leasequery.history = 100 * SECOND);
    bench.advance(SECOND);
    for n in 1..400 {
        bench.bind(&Client::new(n, 2), &pd_lease(1, &prefix_of(n), 90));
    }
    bench.advance(SECOND);
    let last = Client::new(399, 2);
    bench.clear(Clear::Client(last.duid));
    let asking = bench.connects(1);
    asking.subscribe(&mut bench, 2, &start_time(1));
    assert!(asking.buffer(&mut bench).is_some(), "the first of several");

    bench.advance(100 * SECOND);
    asking.writable(&mut bench);

    let heard = asking.hears(&mut bench);
    assert_eq!(heard[0], "data 2 DataMissing +102", "{heard:?}");
    let server = bench.relay.neighbors();
    let server = server.iter().find(|it| it.role == Role::Server);
    assert!(server.is_some_and(|it| it.state == SessionState::Active && !it.catch_up.is_complete));
}

/// The end of a catch-up is said, also of an empty one; without start time it is not.
/// req: ALQ-68 (RFC 7653 §9.3)
#[test]
fn alq_68_catch_up_ends_with_catch_up_complete() {
    let mut bench = bench(false);
    bench.advance(10 * SECOND);
    bind(&mut bench, P1);
    let asking = bench.connects(1);
    let empty = bench.connects(2);

    asking.subscribe(&mut bench, 2, &start_time(10));
    bench.advance(SECOND);
    empty.subscribe(&mut bench, 3, &start_time(11));

    asking.expect(
        &mut bench,
        &[
            "reply 2 +10",
            &format!("data 2 {TOLD} +10"),
            "data 2 CatchUpComplete +10",
        ],
    );
    empty.expect(&mut bench, &["reply 3 +11", "data 3 CatchUpComplete +11"]);
}

/// What was changed on or after the start time, and nothing else. req: ALQ-7 (RFC 7653 §6.3.2)
#[test]
fn alq_7_catch_up_tells_what_changed_since_the_second_of_the_start_time() {
    let mut bench = bench(false);
    bench.advance(10 * SECOND + 900 * MS);
    bind(&mut bench, P1);
    bench.advance(SECOND);
    bench.bind(&Client::new(9, 2), &pd_lease(1, P2, 3600));

    let told = |bench: &mut Bench, n: u32, from: i32| {
        let asking = bench.connects(n);
        asking.subscribe(bench, n, &start_time(from));
        let heard = asking.hears(bench);
        heard.iter().filter(|line| line.contains("via")).count()
    };

    assert_eq!(told(&mut bench, 1, 10), 2);
    assert_eq!(told(&mut bench, 2, 11), 1);
    assert_eq!(told(&mut bench, 3, 12), 0);
}

/// A change while the catch-up goes on is told among the rest. req: ALQ-69 (RFC 7653 §9.3)
#[test]
fn alq_69_change_during_catch_up_is_told_before_it_is_complete() {
    let mut bench = bench(false);
    bench.advance(SECOND);
    for n in 1..400 {
        bench.bind(&Client::new(n, 2), &pd_lease(1, &prefix_of(n), 3600));
    }
    let asking = bench.connects(1);
    asking.subscribe(&mut bench, 2, &start_time(1));
    let first = texts(&asking.buffer(&mut bench).expect("the first of several"));

    bench.bind(&Client::new(1, 2), &pd_lease(1, &prefix_of(1), 7200));
    asking.writable(&mut bench);

    let heard = [first, asking.hears(&mut bench)].concat();
    let end = heard
        .iter()
        .position(|line| line.contains("CatchUpComplete"));
    let told = |text: &str| heard.iter().position(|line| line.contains(text));
    assert_eq!(end, Some(heard.len() - 1));
    assert!(told("[2001:db8:1:100::/56 3600/7200]").is_some());
    assert_eq!(
        heard.len(),
        400 + 2,
        "each once, the changed one twice, the reply and the end"
    );
}

/// A start time of another clock. req: ALQ-D-9 (twinrelay)
#[test]
fn alq_d_9_start_time_more_than_five_seconds_ahead_is_data_missing() {
    let mut bench = bench(false);
    let (near, far) = (bench.connects(1), bench.connects(2));

    near.subscribe(&mut bench, 2, &start_time(5));
    far.subscribe(&mut bench, 3, &start_time(6));

    near.expect(&mut bench, &["reply 2 +0", "data 2 CatchUpComplete +0"]);
    far.expect(&mut bench, &["reply 3 DataMissing +0"]);
}

/// A relay without memory knows nothing of before its start. req: ALQ-D-10 (twinrelay)
#[test]
fn alq_d_10_empty_relay_has_no_history_of_before_its_start() {
    let mut bench = loading(false);
    bench.advance(20 * SECOND);
    bench.lq(LeasequeryInput::Loaded);
    let (before, after) = (bench.connects(1), bench.connects(2));

    before.subscribe(&mut bench, 2, &start_time(19));
    after.subscribe(&mut bench, 3, &start_time(20));

    before.expect(&mut bench, &["reply 2 DataMissing +20"]);
    after.expect(&mut bench, &["reply 3 +20", "data 3 CatchUpComplete +20"]);
}

/// Infinity is never counted down. req: ALQ-D-15 (twinrelay)
#[test]
fn alq_d_15_infinite_lifetime_stays_infinite() {
    let mut bench = bench(false);
    bench.advance(SECOND);
    bench.bind(&client(), &pd_lease(1, P1, u32::MAX));
    bench.advance(1000 * SECOND);
    let asking = bench.connects(1);

    asking.subscribe(&mut bench, 2, &start_time(1));

    let heard = asking.hears(&mut bench);
    assert!(heard[1].contains("/4294967295]"), "{heard:?}");
}

/// Cut while changes wait: the peer is caught up from the oldest of them, whatever it asks.
/// req: ALQ-D-25 (twinrelay)
#[test]
fn alq_d_25_changes_unsent_when_cut_come_with_the_next_catch_up() {
    let (mut bench, asking) = live();
    bench.advance(10 * SECOND);
    bench.bind(&Client::new(9, 2), &pd_lease(1, P2, 3600));
    assert!(asking.buffer(&mut bench).is_some(), "now it blocks");
    bench.advance(SECOND);
    bind(&mut bench, P1);
    bench.advance(20 * SECOND);
    let unsent = bench.now - 20 * SECOND;

    bench.lq(LeasequeryInput::Closed {
        connection: asking.0,
        reason: CloseReason::Remote,
    });

    assert_eq!(memory(&bench), Some(Some(unsent)));
    let again = bench.connects(2);
    again.subscribe(&mut bench, 3, &start_time(31));
    let heard = again.hears(&mut bench);
    assert!(heard.len() == 3 && heard[1].contains(P1), "{heard:?}");
    assert!(!heard.concat().contains(P2), "that one was sent in time");
}

/// A change told late: its base-time moves the resume point past what may be lost behind it. It is
/// remembered until that can be lost no more. req: ALQ-D-25 (twinrelay)
#[test]
fn alq_d_25_changes_told_late_are_remembered_until_they_have_arrived() {
    let (mut bench, asking) = live();
    bench.bind(&Client::new(9, 2), &pd_lease(1, P2, 3600));
    assert!(asking.buffer(&mut bench).is_some(), "now it blocks");
    let changed = bench.now;
    bind(&mut bench, P1);
    bench.advance(20 * SECOND);

    asking.writable(&mut bench);
    asking.hears(&mut bench);

    assert_eq!(memory(&bench), Some(Some(changed)));
    bench.advance(119 * SECOND);
    asking.hears(&mut bench);
    assert_eq!(memory(&bench), Some(Some(changed)));
    bench.advance(2 * SECOND);
    assert_eq!(memory(&bench), Some(None));
}

/// What the store remembers counts after a restart too. req: ALQ-D-25 (twinrelay)
#[test]
fn alq_d_25_restored_memory_moves_the_start_time() {
    let mut bench = loading(false);
    let unsent_since = Some(bench.now);
    bench.lq(LeasequeryInput::Restore(PeerMemory {
        peer: PeerId(1),
        resume_point: None,
        server: None,
        unsent_since,
    }));
    bench.lq(LeasequeryInput::Loaded);
    bind(&mut bench, P1);
    bench.advance(100 * SECOND);
    let asking = bench.connects(1);

    asking.subscribe(&mut bench, 2, &start_time(50));

    let heard = asking.hears(&mut bench);
    assert!(heard.len() == 3 && heard[1].contains(P1), "{heard:?}");
}

/// A start time that a peer was told before our clock was set back may mean a later moment, and after a restart nobody
/// knows of that: it is kept that the next catch-up tells all. A clock that is slewed is not set.
/// req: ALQ-D-9, ALQ-D-25 (twinrelay)
#[test]
fn alq_d_9_clock_set_back_is_kept_for_the_next_catch_up() {
    for (back, is_kept) in [(30 * SECOND, true), (SECOND - MS, false)] {
        let (mut bench, asking) = live();
        let begin = bench.now;
        bench.advance(50 * SECOND);
        bind(&mut bench, P1);
        asking.hears(&mut bench);
        bench.leasequery.clear();

        bench.input(Input::WallClock {
            ahead_nanos: AHEAD_NANOS - back.as_nanos() as i64,
        });

        let kept = memory(&bench).flatten();
        assert_eq!(
            kept.is_some_and(|since| since <= begin),
            is_kept,
            "{kept:?}"
        );
    }
}

/// Removals outlive `history` where the lease would have. req: ALQ-D-26 (twinrelay)
#[test]
fn alq_d_26_removal_is_told_until_the_lifetime_cut_short_has_passed() {
    let mut bench = bench(false);
    bench.reconfigure(|config| config.leasequery.history = 100 * SECOND);
    bench.advance(10 * SECOND);
    bench.bind(&client(), &pd_lease(1, P1, 3600));
    bench.advance(SECOND);
    bench.ask(&client(), 8, &pd_lease(1, P1, 0));
    let told = |bench: &mut Bench, n: u32| {
        let asking = bench.connects(n);
        asking.subscribe(bench, n, &start_time(10));
        asking.hears(bench).concat()
    };

    bench.advance(3599 * SECOND - MS);
    assert!(told(&mut bench, 1).contains("[2001:db8:100::/56 0/0] 3598s ago"));
    bench.advance(MS);
    assert!(told(&mut bench, 2).contains("DataMissing"));
}

/// A new lease ends the memory of the old one's end. req: ALQ-D-26 (twinrelay)
#[test]
fn alq_d_26_lease_given_again_is_told_instead_of_its_removal() {
    let mut bench = bench(false);
    bench.advance(SECOND);
    bind(&mut bench, P1);
    bench.ask(&client(), 8, &pd_lease(1, P1, 0));
    bind(&mut bench, P1);
    let asking = bench.connects(1);

    asking.subscribe(&mut bench, 2, &start_time(1));

    let heard = asking.hears(&mut bench);
    assert_eq!(heard.len(), 3, "{heard:?}");
    assert!(heard[1].contains("1800/3600"), "{heard:?}");
}

/// What a peer told us is not news of ours; whoever catches up gets it. req: ALQ-D-12 (twinrelay)
#[test]
fn alq_d_12_leases_of_other_relays_are_told_in_catch_up_only() {
    let mut bench = bench(false);
    bench.advance(SECOND);
    let (live, later) = (bench.connects(1), 2);
    live.subscribe(&mut bench, 2, &[]);
    live.hears(&mut bench);
    let (asked, _) = bench.accepted();
    asked.reply(&mut bench, &[]);

    let told = Said::new(CLIENT_DUID, address(1), 5, &iaprefix(P1, 1800, 3600));
    asked.data(&mut bench, &[told.option(), base_time(NOW + 1)].concat());

    assert!(bench.lease(P1).is_some());
    live.expect(&mut bench, &[]);
    let later = bench.connects(later);
    later.subscribe(&mut bench, 3, &start_time(1));
    let heard = later.hears(&mut bench).concat();
    assert!(heard.contains(P1), "{heard}");
    assert!(
        heard.contains("5s ago via 2001:db8:1::1 fe80::c3 ge-0"),
        "{heard}"
    );
    assert!(
        heard.contains("of 2001:db8:ff::2"),
        "the relay that heard it: {heard}"
    );
}

/// What is told late again, or cut while it may still be lost, is remembered on.
/// req: ALQ-D-25 (twinrelay)
#[test]
fn alq_d_25_memory_is_kept_while_what_was_told_late_may_be_lost() {
    let (mut bench, asking) = live();
    let changed = bench.now;
    let tell_late = |bench: &mut Bench| {
        bench.bind(&Client::new(9, 2), &pd_lease(1, P2, 3600));
        assert!(asking.buffer(bench).is_some(), "now it blocks");
        bind(bench, P1);
        bench.advance(2 * SECOND);
        asking.writable(bench);
        asking.hears(bench);
    };

    tell_late(&mut bench);
    bench.advance(100 * SECOND);
    asking.hears(&mut bench);
    tell_late(&mut bench);
    bench.advance(100 * SECOND);
    asking.hears(&mut bench);
    assert_eq!(memory(&bench), Some(Some(changed)));
    bench.lq(LeasequeryInput::Closed {
        connection: asking.0,
        reason: CloseReason::Remote,
    });
    bench.advance(100 * SECOND);

    assert_eq!(memory(&bench), Some(Some(changed)));
}
