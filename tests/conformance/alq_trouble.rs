//! One relay that asks a peer, and what goes wrong with that: failures that are shown and come to an
//! end, clocks, records and words that are not to be believed, a peer that is another one.

use relay_core::alq::{CloseReason, LeasequeryInput, PeerMemory, Role, SessionState};
use relay_core::input::Input;
use relay_core::types::PeerId;
use relay_tests::asked::{PEER_DUID, Said, base_time};
use relay_tests::asking::start_time;
use relay_tests::bench::{Bench, Client, MS, RouteAnswer, SECOND};
use relay_tests::exchanges::pd_lease;
use relay_tests::mesh::address;
use relay_tests::messages::{CLIENT_DUID, iaprefix, ip, option, status};

use crate::alq_requestor::{NOW, P1, bench, client_data, live, loaded, resuming, state};

fn shown(bench: &Bench) -> relay_core::alq::Neighbor {
    let mut all = bench.relay.neighbors().into_iter();
    let found = all.find(|it| it.role == Role::Requestor);
    found.expect("shown")
}

/// Why an attempt failed is shown until one succeeds.
#[test]
fn failed_attempt_is_shown_with_its_reason_until_a_session_is_active() {
    for (reason, name) in [
        (CloseReason::ConnectFailed, "connect failed"),
        (CloseReason::TlsCertificate, "certificate refused"),
        (CloseReason::Remote, "closed by the peer"),
    ] {
        let (mut bench, asked, _) = resuming(NOW - 500);
        let connection = asked.connection;

        bench.input(Input::Leasequery(LeasequeryInput::Closed {
            connection,
            reason,
        }));

        let failed = shown(&bench);
        assert_eq!(
            (failed.state, failed.last_error.as_deref()),
            (SessionState::Backoff, Some(name))
        );
        bench.advance(SECOND);
        let (again, _) = bench.accepted();
        again.reply(&mut bench, &base_time(NOW));
        assert_eq!(shown(&bench).last_error.as_deref(), Some(name));
        again.data(&mut bench, &[status(13), base_time(NOW)].concat());
        assert_eq!(shown(&bench).last_error, None);
    }
}

/// A query that the peer ends says why. req: ALQ-41 (RFC 7653 §8.4)
#[test]
fn alq_41_status_of_done_is_shown() {
    let (mut bench, asked) = live();

    asked.done(&mut bench, &option(13, b"\0\x0brestart"));

    assert_eq!(
        shown(&bench).last_error.as_deref(),
        Some("QueryTerminated: restart")
    );
}

/// So does the bulk query beside a session that goes on. req: BLQ-33 (RFC 5460 §5.5)
#[test]
fn blq_33_failed_bulk_query_of_a_peer_is_shown_with_its_next_attempt() {
    let mut bench = bench(false, None);
    loaded(&mut bench);
    let (asked, _) = bench.accepted();
    asked.reply(&mut bench, &base_time(NOW));
    bench.advance(SECOND);
    let (bulk, _) = bench.accepted();

    bulk.breaks(&mut bench);

    let failed = shown(&bench);
    assert_eq!(failed.state, SessionState::BulkCatchUp);
    assert_eq!(failed.last_error.as_deref(), Some("closed by the peer"));
    assert_eq!(failed.retry_at, Some(bench.now + SECOND));
    bench.advance(SECOND);
    let (bulk, _) = bench.accepted();
    bulk.reply(&mut bench, &base_time(NOW + 2));
    let done = shown(&bench);
    assert_eq!(
        (done.state, done.last_error, done.since),
        (SessionState::Active, None, bench.now)
    );
}

/// What will be another answer soon is asked for again soon. req: LQ-27 (RFC 5007 §4.3.3)
#[test]
fn lq_27_query_that_failed_for_now_is_asked_again_soon() {
    for code in [11, 1, 999] {
        let (mut bench, asked, _) = resuming(NOW - 5);

        asked.reply(&mut bench, &status(code));

        assert_eq!(bench.closed(&asked), Some(CloseReason::Done));
        bench.advance(SECOND);
        assert!(bench.connecting().is_some(), "{code}");
    }
}

/// A peer with two clocks is not asked for everything without a pause. req: ALQ-D-9 (twinrelay)
#[test]
fn alq_d_9_base_time_that_jumps_again_and_again_is_waited_for() {
    let (mut bench, asked) = live();
    asked.data(&mut bench, &base_time(NOW - 1000));
    let (again, _) = bench.accepted();
    again.reply(&mut bench, &base_time(NOW));
    bench.accepted();

    again.data(&mut bench, &base_time(NOW - 1000));

    assert_eq!(bench.closed(&again), Some(CloseReason::Local));
    assert!(bench.connecting().is_none());
    let failed = shown(&bench);
    assert_eq!(
        failed.last_error.as_deref(),
        Some("the peer's clock was set back")
    );
    assert_eq!(
        (failed.state, failed.statistics.errors),
        (SessionState::Backoff, 2)
    );
    bench.advance(60 * SECOND);
    assert!(bench.connecting().is_some());
}

/// A bulk query that always ends at the same binding is no progress.
#[test]
fn readiness_is_not_put_off_by_attempts_that_come_no_further() {
    let mut bench = bench(false, None);
    loaded(&mut bench);
    let (asked, _) = bench.accepted();
    asked.reply(&mut bench, &base_time(NOW));
    for second in 0..179 {
        let (bulk, _) = bench.accepted();
        bulk.reply(&mut bench, &client_data(9, &iaprefix(P1, 36_000, 72_000)));
        bulk.data(&mut bench, &[0, 100, 0, 9, 1]);
        if second % 60 == 0 {
            asked.data(&mut bench, &base_time(NOW + second));
        }
        assert!(!bench.relay.readiness().is_ready, "{second}");
        bench.advance(SECOND);
    }

    bench.advance(SECOND);

    assert!(bench.relay.readiness().is_by_timeout);
}

/// Nor by a peer that answers, closes, and has told nothing.
#[test]
fn readiness_is_not_put_off_by_sessions_that_end_at_once() {
    let mut bench = bench(false, None);
    loaded(&mut bench);
    for _ in 0..180 {
        let (asked, _) = bench.accepted();
        asked.reply(&mut bench, &base_time(NOW));
        asked.breaks(&mut bench);
        bench.leasequery.clear();
        assert!(!bench.relay.readiness().is_ready);
        bench.advance(SECOND);
    }

    assert!(bench.relay.readiness().is_by_timeout);
}

/// Once all are given up, only routes are waited for: nothing is due meanwhile.
#[test]
fn readiness_that_waits_for_routes_alone_wakes_nobody() {
    let mut bench = bench(false, None).answering(RouteAnswer::Wait);
    bench.bind(
        &Client::new(9, 2),
        &pd_lease(1, "2001:db8:900::/56", 100_000),
    );
    loaded(&mut bench);
    bench.advance(180 * SECOND);

    assert_eq!(bench.relay.readiness().reason, "1 routes to write");
    assert!(bench.relay.poll_timeout().is_some_and(|at| at > bench.now));
}

/// What a reload makes come anew does not take readiness back.
#[test]
fn readiness_stays_when_a_reload_makes_everything_come_anew() {
    let (mut bench, asked) = live();

    bench.reconfigure(|config| config.leasequery.peers[0].has_shared_interface_id = true);

    assert_eq!(bench.closed(&asked), Some(CloseReason::Local));
    assert!(bench.relay.readiness().is_ready);
    let (_, query) = bench.accepted();
    assert_eq!(query.find(101), None);
}

/// Nothing is taken to be of a time to come: all that the client does until then would be older.
/// req: ALQ-D-11, ALQ-15 (twinrelay)
#[test]
fn alq_d_11_record_of_a_time_to_come_does_not_outlive_what_follows() {
    for (clt, made_at) in [
        (u32::MAX, NOW),
        (0x8000_0001, NOW),
        (0x7fff_ffff, NOW),
        (0, NOW + 5),
    ] {
        let mut bench = bench(false, None);
        loaded(&mut bench);
        let (asked, _) = bench.accepted();
        asked.reply(&mut bench, &base_time(NOW));
        let (bulk, _) = bench.accepted();
        let lease = client_data(clt, &iaprefix(P1, u32::MAX, u32::MAX));
        bulk.reply(&mut bench, &[lease, base_time(made_at)].concat());
        assert!(bench.lease(P1).is_some());
        bench.advance(3 * SECOND);

        let released = client_data(0, &iaprefix(P1, 0, 0));
        asked.data(&mut bench, &[released, base_time(NOW + 3)].concat());

        assert!(bench.lease(P1).is_none(), "{clt:#x} {made_at}");
    }
}

/// Nor is anything taken from a clock that was set forward, on whichever connection that shows: how long the message
/// was on its way is not known. The answer to a new query tells what the clock shows.
/// req: ALQ-D-9, ALQ-D-11 (twinrelay)
#[test]
fn alq_d_9_clock_set_forward_is_asked_again_before_anything_is_taken() {
    for is_bulk in [true, false] {
        let mut bench = bench(false, None);
        loaded(&mut bench);
        let (asked, _) = bench.accepted();
        asked.reply(&mut bench, &base_time(NOW));
        let (bulk, _) = bench.accepted();
        let lease = client_data(0, &iaprefix(P1, 3600, 7200));
        let told = [lease.clone(), base_time(NOW + 3600)].concat();

        match is_bulk {
            true => bulk.reply(&mut bench, &told),
            false => asked.data(&mut bench, &told),
        }

        assert!(bench.lease(P1).is_none(), "{is_bulk}");
        assert_eq!(bench.closed(&asked), Some(CloseReason::Local));
        let (again, query) = bench.accepted();
        assert_eq!(query.message_type, 22);
        again.reply(&mut bench, &base_time(NOW + 3600));
        again.data(&mut bench, &[lease, base_time(NOW + 3600)].concat());
        let left = bench.lease(P1).expect("told").valid_until;
        assert_eq!(left.saturating_since(bench.now).as_secs(), 7200);
    }
}

/// What is seen here in the second of what was told bears the next second, and is told again when that
/// has come, whatever else waits longer. req: ALQ-D-11 (twinrelay)
#[test]
fn alq_d_11_sequel_is_told_in_its_second_whatever_waits_longer() {
    let (mut bench, asked) = live();
    let peer = bench.connects(1);
    peer.subscribe(&mut bench, 2, &[]);
    peer.hears(&mut bench);
    let (late, early) = (Client::new(0xc1, 2), Client::new(0xc2, 2));
    for (client, prefix, clt) in [(&late, "2001:db8:700::/56", 0), (&early, P1, 1)] {
        let said = Said::new(&client.duid, address(1), clt, &iaprefix(prefix, 3600, 7200));
        asked.data(&mut bench, &[said.option(), base_time(NOW + 1)].concat());
    }
    bench.bind(&late, &pd_lease(1, "2001:db8:700::/56", 3600));
    bench.bind(&early, &pd_lease(1, P1, 3600));
    peer.hears(&mut bench);

    bench.advance(1600 * MS);

    let heard = peer.hears(&mut bench);
    assert!(heard.len() == 1 && heard[0].contains(P1), "{heard:#?}");
}

/// The end of a lease that was never here is kept like one that ends now: whoever is behind may still
/// tell of the lease, and nobody's history begins anew. req: ALQ-D-26, ALQ-65 (twinrelay)
#[test]
fn alq_d_26_old_removal_of_an_unknown_lease_is_kept_for_history() {
    let (mut bench, asked) = live();
    bench.reconfigure(|config| config.leasequery.history = 100 * SECOND);
    let removal = client_data(500, &iaprefix(P1, 0, 0));
    asked.data(&mut bench, &[removal, base_time(NOW)].concat());
    bench.advance(10 * SECOND);

    let behind = client_data(600, &iaprefix(P1, 72_000, 72_000));
    asked.data(&mut bench, &[behind, base_time(NOW + 10)].concat());

    assert!(bench.lease(P1).is_none());
    let peer = bench.connects(1);
    peer.subscribe(&mut bench, 2, &start_time(-10));
    let heard = peer.hears(&mut bench);
    assert!(!heard[0].contains("DataMissing"), "{heard:#?}");
}

/// So is the early end of an infinite one. req: ALQ-D-26 (twinrelay)
#[test]
fn alq_d_26_old_removal_of_an_infinite_lease_is_kept_for_history() {
    let (mut bench, asked) = live();
    bench.reconfigure(|config| config.leasequery.history = 100 * SECOND);
    for (clt, secs) in [(600, u32::MAX), (500, 0)] {
        let said = client_data(clt, &iaprefix(P1, secs, secs));
        asked.data(&mut bench, &[said, base_time(NOW)].concat());
    }
    bench.advance(10 * SECOND);

    let behind = client_data(610, &iaprefix(P1, u32::MAX, u32::MAX));
    asked.data(&mut bench, &[behind, base_time(NOW + 10)].concat());

    assert!(bench.lease(P1).is_none());
}

/// What cannot be taken is counted. req: LQ-24, LQ-26 (RFC 5007 §4.3.3)
#[test]
fn lq_26_what_is_ignored_is_counted() {
    let (mut bench, asked, _) = resuming(NOW - 500);
    asked.say(&mut bench, 15, &option(2, PEER_DUID));
    asked.reply(&mut bench, &base_time(NOW));
    let mut prefix = iaprefix(P1, 3600, 7200);
    prefix[12] = 200;
    asked.data(&mut bench, &client_data(0, &prefix));
    let mut said = Said::new(CLIENT_DUID, address(1), 0, &iaprefix(P1, 3600, 7200));
    said.clt = None;
    asked.data(&mut bench, &said.option());

    assert_eq!(shown(&bench).statistics.ignored, 3);
}

/// What the other end writes does nothing to a terminal, and has an end. req: LQ-37 (ISC Kea)
#[test]
fn lq_37_text_of_a_status_is_shown_as_text() {
    let (mut bench, asked, _) = resuming(NOW - 5);
    let text = ["\0\x0a\x1b[2J".to_owned(), "x".repeat(60_000)].concat();

    asked.reply(&mut bench, &option(13, text.as_bytes()));

    let shown = shown(&bench).last_error.expect("refused");
    assert!(shown.starts_with("NotAllowed: \\u{1b}[2Jxx"), "{shown}");
    assert!(shown.len() < 300);
}

/// So does a session of ours. req: ALQ-24 (RFC 7653 §8.2)
#[test]
fn alq_24_session_begins_anew_when_its_peer_has_to_bear_another_name() {
    let (mut bench, asked) = live();

    bench.reconfigure(|config| config.leasequery.peers[0].tls_name = 1);

    assert_eq!(bench.closed(&asked), Some(CloseReason::Local));
    assert!(bench.connecting().is_some());
}

/// A resume point is a time of one relay's clock: another by the same name is asked for everything.
/// req: ALQ-36, ALQ-10 (RFC 7653 §8.3)
#[test]
fn alq_36_resume_point_does_not_go_to_another_address() {
    let (mut bench, _) = live();

    bench.reconfigure(|config| config.leasequery.peers[0].address = ip("2001:db8:ff::77"));

    let (_, query) = bench.accepted();
    assert_eq!(query.find(101), None);
}

/// Nor to another relay at the same address, whenever that was changed. req: ALQ-36 (RFC 7653 §8.3)
#[test]
fn alq_36_resume_point_of_another_relay_is_not_used() {
    let mut bench = bench(false, None);
    bench.bind(
        &Client::new(9, 2),
        &pd_lease(1, "2001:db8:900::/56", 100_000),
    );
    bench.input(Input::Leasequery(LeasequeryInput::Restore(PeerMemory {
        peer: PeerId(1),
        resume_point: Some(NOW - 500),
        server: Some(1),
        unsent_since: None,
    })));
    loaded(&mut bench);
    let (asked, query) = bench.accepted();
    assert!(query.find(101).is_some());

    asked.reply(&mut bench, &base_time(NOW));

    assert_eq!(bench.closed(&asked), Some(CloseReason::Local));
    let (asked, query) = bench.accepted();
    assert_eq!(query.find(101), None);
    asked.reply(&mut bench, &base_time(NOW));
    let (bulk, _) = bench.accepted();
    bulk.reply(&mut bench, &base_time(NOW));
    assert_eq!(state(&bench), SessionState::Active);
    asked.breaks(&mut bench);
    bench.advance(60 * SECOND);
    let (asked, query) = bench.accepted();
    assert!(query.find(101).is_some());
    asked.reply(&mut bench, &base_time(NOW + 60));
    assert_eq!(state(&bench), SessionState::CatchUp);
}

/// Two relays with one relay-id are one for those who ask by it.
#[test]
fn relay_id_of_a_peer_that_is_ours_is_shown() {
    let (mut bench, asked, _) = resuming(NOW - 500);
    let own = asked.identity.clone();

    let identifiers = [option(2, &own), option(1, &own)].concat();
    asked.say(&mut bench, 15, &identifiers);
    asked.data(&mut bench, &[status(13), base_time(NOW)].concat());

    let shown = shown(&bench);
    assert_eq!(shown.state, SessionState::Active);
    assert!(shown.last_error.expect("shown").contains("relay_id"));
}
