//! One relay that asks a peer, message by message (RFC 7653 §8).

use std::time::Duration;

use relay_core::alq::{
    CloseReason, ConnectionId, LeasequeryEffect, LeasequeryInput, PeerMemory, Remote, Role,
    SessionState,
};
use relay_core::input::{Input, RouteRefusal};
use relay_core::types::{AccessId, PeerId};
use relay_core::view::RouteState;
use relay_tests::asked::{Asked, PEER_DUID, Said, TcpMessage, base_time};
use relay_tests::bench::{Bench, Client, MS, SECOND};
use relay_tests::exchanges::{pd, pd_lease};
use relay_tests::mesh::{AHEAD_NANOS, address, member};
use relay_tests::messages::{CLIENT_DUID, iaaddr, iaprefix, ip, option, status};

pub(crate) const P1: &str = "2001:db8:100::/56";
/// What the bench's clock shows at its start, in seconds since 2000.
pub(crate) const NOW: u32 = (AHEAD_NANOS / 1_000_000_000) as u32 + 1000 - 946_684_800;

/// A relay with one peer, that knows `resume_point` of it.
pub(crate) fn bench(is_secure: bool, resume_point: Option<u32>) -> Bench {
    let mut bench = Bench::new(member(0, 2, is_secure));
    bench.input(Input::WallClock {
        ahead_nanos: AHEAD_NANOS,
    });
    let memory = PeerMemory {
        peer: PeerId(1),
        resume_point,
        server: None,
        unsent_since: None,
    };
    bench.input(Input::Leasequery(LeasequeryInput::Restore(memory)));
    bench
}

pub(crate) fn loaded(bench: &mut Bench) {
    bench.input(Input::Leasequery(LeasequeryInput::Loaded));
}

/// A relay that holds a lease, so that it has a resume point to use, and its query.
pub(crate) fn resuming(resume_point: u32) -> (Bench, Asked, TcpMessage) {
    let mut bench = bench(false, Some(resume_point));
    bench.bind(
        &Client::new(9, 2),
        &pd_lease(1, "2001:db8:900::/56", 100_000),
    );
    loaded(&mut bench);
    let (asked, query) = bench.accepted();
    (bench, asked, query)
}

/// A relay whose session is in catch-up.
fn catching_up() -> (Bench, Asked) {
    let (mut bench, asked, _) = resuming(NOW - 500);
    asked.reply(&mut bench, &base_time(NOW));
    (bench, asked)
}

/// A relay whose session is live, with nothing to fetch.
pub(crate) fn live() -> (Bench, Asked) {
    let (mut bench, asked) = catching_up();
    asked.data(&mut bench, &[status(13), base_time(NOW)].concat());
    bench.take();
    (bench, asked)
}

pub(crate) fn client_data(clt: u32, leases: &[u8]) -> Vec<u8> {
    Said::new(CLIENT_DUID, address(1), clt, leases).option()
}

fn resume_point(bench: &mut Bench) -> Option<u32> {
    let mut last = None;
    for (effect, _) in &bench.leasequery {
        if let LeasequeryEffect::Remember(memory) = effect {
            last = memory.resume_point;
        }
    }
    bench.leasequery.clear();
    last
}

pub(crate) fn state(bench: &Bench) -> SessionState {
    let all = bench.relay.neighbors();
    let peer = Remote::Peer(PeerId(1));
    let found = all
        .iter()
        .find(|it| it.remote == peer && it.role == Role::Requestor);
    found.expect("shown").state
}

/// V4: everything is asked for without LQ_QUERY and start time, at once.
/// req: ALQ-20, ALQ-5, ALQ-4, ALQ-11, ALQ-D-5 (RFC 7653 §8.1)
#[test]
fn alq_20_insecure_session_begins_with_a_query_for_everything() {
    let mut bench = bench(false, None);
    loaded(&mut bench);

    let (_, query) = bench.accepted();

    assert_eq!((query.message_type, query.codes()), (22, vec![1, 6]));
    assert_eq!(query.find(1), Some(&bench.config.leasequery.identity[..]));
    let oro: Vec<u16> = query
        .find(6)
        .expect("ORO")
        .chunks(2)
        .map(|c| u16::from(c[0]) << 8 | u16::from(c[1]))
        .collect();
    assert_eq!(oro, [100, 47, 3, 4, 25]);
}

/// No query before the own store is loaded.
/// req: ALQ-D-27 (twinrelay)
#[test]
fn alq_d_27_nothing_is_asked_before_the_store_is_loaded() {
    let mut bench = bench(false, None);

    bench.advance(100 * SECOND);

    assert!(bench.connecting().is_none());
}

/// The start time is the peer's, as saved; it has no end time.
/// req: ALQ-10, ALQ-8, ALQ-36 (RFC 7653 §6.3.2)
#[test]
fn alq_10_start_time_is_the_saved_base_time_of_the_peer() {
    let (_, _, query) = resuming(NOW - 77_777);

    assert_eq!(query.codes(), [1, 6, 101]);
    assert_eq!(query.find(101), Some(&(NOW - 77_777).to_be_bytes()[..]));
}

/// Who has nothing asks for everything, whatever was saved.
/// req: ALQ-D-10 (twinrelay)
#[test]
fn alq_d_10_empty_table_asks_without_start_time_and_fetches_all() {
    let mut bench = bench(false, Some(NOW - 5));
    loaded(&mut bench);
    let (asked, query) = bench.accepted();
    assert_eq!(query.find(101), None);

    asked.reply(&mut bench, &base_time(NOW));

    assert_eq!(state(&bench), SessionState::BulkCatchUp);
    let (bulk, query) = bench.accepted();
    assert_eq!(query.message_type, 14);
    assert_ne!((bulk.connection, query.xid), (asked.connection, asked.xid));
    let mut wanted = vec![3];
    wanted.extend([0; 16]);
    wanted.extend(option(53, PEER_DUID));
    assert!(query.find(44).expect("LQ_QUERY").starts_with(&wanted));
    assert_eq!((query.find(101), query.find(102)), (None, None));
}

/// The first message is STARTTLS; whatever is not an acceptance closes the connection.
/// req: ALQ-22, ALQ-21, ALQ-23, ALQ-D-20 (RFC 7653 §8.2)
#[test]
fn alq_22_refused_tls_closes_and_nothing_is_sent_in_the_clear() {
    let refusal: [fn(&Asked, &mut Bench); 4] = [
        |asked, bench| asked.say(bench, 7, &status(15)),
        |asked, bench| asked.reply(bench, &base_time(NOW)),
        |asked, bench| asked.say(bench, 7, &[0, 13, 0, 9]),
        |asked, bench| {
            let other = Asked {
                xid: asked.xid + 1,
                ..asked.clone()
            };
            other.say(bench, 7, &[]);
        },
    ];
    for refuse in refusal {
        let mut bench = bench(true, None);
        loaded(&mut bench);
        let (mut asked, first) = bench.accepted();
        assert_eq!((first.message_type, first.codes()), (23, vec![]));

        refuse(&asked, &mut bench);

        assert_eq!(bench.closed(&asked), Some(CloseReason::TlsRequired));
        assert_eq!(asked.sent(&mut bench), None);
        assert_eq!(state(&bench), SessionState::Backoff);
    }
}

/// After REPLY TLS begins, and the query follows inside it.
/// req: ALQ-25, ALQ-23 (RFC 7653 §8.2)
#[test]
fn alq_25_query_goes_out_when_tls_is_up() {
    let mut bench = bench(true, None);
    loaded(&mut bench);
    let (mut asked, _) = bench.accepted();

    asked.say(&mut bench, 7, &[]);

    let (connection, peer) = (asked.connection, PeerId(1));
    assert!(
        bench
            .leasequery
            .iter()
            .any(|(effect, _)| *effect == LeasequeryEffect::StartTls { connection, peer })
    );
    assert_eq!(asked.sent(&mut bench), None);
    bench.input(Input::Leasequery(LeasequeryInput::TlsUp { connection }));
    assert_eq!(asked.sent(&mut bench).expect("query").message_type, 22);
}

/// An answer that is not for this query is no answer.
/// req: LQ-24, ALQ-28 (RFC 5007 §4.2.2)
#[test]
fn lq_24_reply_with_wrong_identifiers_is_ignored() {
    let (mut bench, asked, _) = resuming(NOW - 500);
    let own = bench.config.leasequery.identity.clone();

    asked.say(&mut bench, 15, &option(1, &own));
    asked.say(&mut bench, 15, &option(2, PEER_DUID));
    asked.say(
        &mut bench,
        15,
        &[option(2, PEER_DUID), option(1, PEER_DUID)].concat(),
    );
    let other = Asked {
        xid: asked.xid ^ 1,
        ..asked.clone()
    };
    other.reply(&mut bench, &[]);

    assert_eq!(state(&bench), SessionState::QuerySent);
    assert_eq!(bench.closed(&asked), None);
    asked.reply(&mut bench, &[]);
    assert_eq!(state(&bench), SessionState::CatchUp);
}

/// Silence ends the session; any message starts the time anew.
/// req: ALQ-29, ALQ-32 (RFC 7653 §8.4)
#[test]
fn alq_29_silent_peer_is_closed_after_receive_timeout() {
    let (mut bench, asked) = live();
    bench.advance(119 * SECOND);
    asked.data(&mut bench, &base_time(NOW + 119));
    bench.advance(120 * SECOND - MS);
    assert_eq!(bench.closed(&asked), None);

    bench.advance(MS);

    assert_eq!(bench.closed(&asked), Some(CloseReason::ReceiveTimeout));
}

/// During catch-up base-times are no resume points; what was cut is asked for again.
/// req: ALQ-34, ALQ-35, ALQ-40 (twinrelay)
#[test]
fn alq_34_session_cut_in_catch_up_asks_from_the_same_time_again() {
    let (mut bench, asked) = catching_up();
    let lease = client_data(5, &iaprefix(P1, 3600, 7200));
    asked.data(&mut bench, &[lease, base_time(NOW)].concat());
    assert!(bench.lease(P1).is_some());

    asked.breaks(&mut bench);
    assert_eq!(resume_point(&mut bench), None);
    bench.advance(61 * SECOND);
    let (_, query) = bench.accepted();

    assert_eq!(query.find(101), Some(&(NOW - 500).to_be_bytes()[..]));
}

/// CatchUpComplete, and each message after it, is a new resume point.
/// req: ALQ-33, ALQ-39, ALQ-30, ALQ-31 (RFC 7653 §8.4)
#[test]
fn alq_33_base_time_outside_catch_up_is_the_resume_point() {
    let (mut bench, asked) = catching_up();
    bench.leasequery.clear();

    asked.data(&mut bench, &[status(13), base_time(NOW + 1)].concat());
    assert_eq!(resume_point(&mut bench), Some(NOW + 1));
    for secs in [3, 7, 6] {
        asked.data(&mut bench, &base_time(NOW + secs));
    }

    assert_eq!(resume_point(&mut bench), Some(NOW + 7));
    assert_eq!(state(&bench), SessionState::Active);
}

/// What a resume point covers is told to the store before it.
/// req: ALQ-D-25 (twinrelay)
#[test]
fn alq_d_25_resume_point_follows_the_bindings_that_it_covers() {
    let (mut bench, asked) = live();
    bench.relay.set_keeping(relay_core::record::Keeping::Told);

    let lease = client_data(0, &iaprefix(P1, 3600, 7200));
    asked.data(&mut bench, &[lease, base_time(NOW + 5)].concat());

    let lines: Vec<String> = bench.take().into_iter().map(|seen| seen.line).collect();
    let record = lines.iter().position(|line| line.starts_with("record "));
    let remember = lines.iter().position(|line| line.contains("Remember"));
    assert!(
        record.expect("stored") < remember.expect("remembered"),
        "{lines:#?}"
    );
}

/// V10: DataMissing ends catch-up, and a bulk query fetches the gap; until that is done the resume
/// point stays.
/// req: ALQ-38, ALQ-37, ALQ-13 (RFC 7653 §8.4.1)
#[test]
fn alq_38_data_missing_keeps_the_session_and_fetches_the_gap() {
    for is_in_reply in [true, false] {
        let (mut bench, asked, _) = resuming(NOW - 500);
        let missing = [status(12), base_time(NOW)].concat();
        if is_in_reply {
            asked.reply(&mut bench, &missing);
        } else {
            asked.reply(&mut bench, &[]);
            asked.data(&mut bench, &missing);
        }

        let (bulk, query) = bench.accepted();
        assert_eq!(query.codes(), [1, 44, 6, 101, 102]);
        assert_eq!(query.find(101), Some(&(NOW - 500).to_be_bytes()[..]));
        assert_eq!(query.find(102), Some(&NOW.to_be_bytes()[..]));
        let lease = client_data(0, &iaprefix(P1, 3600, 7200));
        asked.data(&mut bench, &[lease, base_time(NOW + 2)].concat());
        assert!(bench.lease(P1).is_some(), "the session goes on");
        assert_eq!(resume_point(&mut bench), None);
        let other = client_data(9, &iaprefix("2001:db8:700::/56", 3600, 7200));
        bulk.reply(&mut bench, &[other, base_time(NOW)].concat());
        bulk.done(&mut bench, &base_time(NOW));

        assert_eq!(resume_point(&mut bench), Some(NOW + 2));
        assert_eq!(state(&bench), SessionState::Active);
        assert!(bench.lease("2001:db8:700::/56").is_some());
    }
}

/// A bulk query that failed is asked again.
/// req: BLQ-33 (RFC 5460 §5.5)
#[test]
fn blq_33_terminated_bulk_query_is_asked_again() {
    let mut bench = bench(false, None);
    loaded(&mut bench);
    let (asked, _) = bench.accepted();
    asked.reply(&mut bench, &base_time(NOW));
    let (bulk, _) = bench.accepted();

    bulk.reply(&mut bench, &client_data(9, &iaprefix(P1, 3600, 7200)));
    bulk.done(&mut bench, &status(11));
    assert_eq!(bench.closed(&bulk), Some(CloseReason::Done));
    assert_eq!(resume_point(&mut bench), None);
    bench.advance(SECOND);

    let (again, query) = bench.accepted();
    assert_eq!(query.message_type, 14);
    again.reply(&mut bench, &base_time(NOW + 1));
    assert_eq!(resume_point(&mut bench), Some(NOW));
}

/// What may not come now closes the connection.
/// req: ALQ-42, BLQ-4, BLQ-28 (RFC 5460 §6.3)
#[test]
fn alq_42_message_out_of_place_closes() {
    let wrong: [fn(&Asked, &mut Bench); 4] = [
        |asked, bench| asked.reply(bench, &[]),
        |asked, bench| {
            Asked {
                xid: asked.xid ^ 1,
                ..asked.clone()
            }
            .done(bench, &[])
        },
        |asked, bench| asked.say(bench, 1, &[]),
        |asked, bench| asked.data(bench, &[0, 100, 0, 9, 1]),
    ];
    for wrong in wrong {
        let (mut bench, asked) = live();

        wrong(&asked, &mut bench);

        assert_eq!(bench.closed(&asked), Some(CloseReason::ProtocolError));
    }
}

/// DONE ends the session; in LIVE its base-time is the resume point.
/// req: ALQ-41, ALQ-17, ALQ-35 (RFC 7653 §8.4)
#[test]
fn alq_41_query_terminated_ends_the_session_for_now() {
    let (mut bench, asked) = live();
    bench.leasequery.clear();

    asked.done(&mut bench, &[status(11), base_time(NOW + 3)].concat());

    assert_eq!(bench.closed(&asked), Some(CloseReason::Done));
    assert_eq!(resume_point(&mut bench), Some(NOW + 3));
    assert_eq!(state(&bench), SessionState::Backoff);
}

/// Once ready, attempts are a minute apart; before, a second.
/// req: ALQ-18, ALQ-D-18 (RFC 7653 §8.1)
#[test]
fn alq_18_attempts_are_a_minute_apart_once_ready() {
    let mut unready = bench(false, None);
    loaded(&mut unready);
    let first = unready.connecting().expect("at once");
    first.breaks(&mut unready);
    unready.advance(SECOND - MS);
    assert!(unready.connecting().is_none());
    unready.advance(MS);
    assert!(unready.connecting().is_some());

    let (mut bench, asked) = live();
    assert!(bench.relay.readiness().is_ready);
    asked.breaks(&mut bench);
    bench.advance(60 * SECOND - MS);
    assert!(bench.connecting().is_none());
    bench.advance(MS);
    assert!(bench.connecting().is_some());
}

/// A peer that connects to us is back: one attempt at once.
/// req: ALQ-D-18 (twinrelay)
#[test]
fn alq_d_18_incoming_connection_of_the_peer_is_answered_by_an_attempt() {
    let (mut bench, asked) = live();
    asked.breaks(&mut bench);
    bench.leasequery.clear();

    for number in [2, 4] {
        bench.input(Input::Leasequery(LeasequeryInput::Accepted {
            connection: ConnectionId(number),
            from: address(1),
        }));
        // The second comes while the attempt is under way.
        assert_eq!(bench.connecting().is_some(), number == 2);
    }
}

/// Two relays that refuse each other do not call each other back without end.
/// req: ALQ-D-18, ALQ-18 (twinrelay)
#[test]
fn alq_d_18_peer_that_connects_again_and_again_brings_one_attempt_a_second() {
    let (mut bench, asked) = live();
    bench.advance(SECOND);
    asked.breaks(&mut bench);
    bench.leasequery.clear();
    let mut attempts = 0;

    for number in 0..40 {
        bench.input(Input::Leasequery(LeasequeryInput::Accepted {
            connection: ConnectionId(100 + number),
            from: address(1),
        }));
        for _ in 0..100 {
            if let Some(attempt) = bench.connecting() {
                attempts += 1;
                bench.leasequery.clear();
                attempt.breaks(&mut bench);
            }
            bench.advance(MS);
        }
    }

    assert_eq!(attempts, 4, "in four seconds");
}

/// A peer that lost its power may be back before our old connection is seen to be dead: one attempt at once when it is.
/// req: ALQ-D-18 (twinrelay)
#[test]
fn alq_d_18_peer_that_connected_during_a_session_is_asked_at_once_when_that_ends() {
    let (mut bench, asked) = live();
    bench.input(Input::Leasequery(LeasequeryInput::Accepted {
        connection: ConnectionId(2),
        from: address(1),
    }));
    assert!(bench.connecting().is_none(), "the session is up");
    bench.leasequery.clear();

    asked.breaks(&mut bench);

    bench.advance(MS);
    let again = bench.connecting().expect("at once");
    bench.leasequery.clear();
    again.breaks(&mut bench);
    bench.advance(60 * SECOND - MS);
    assert!(bench.connecting().is_none(), "one attempt for each time");
}

/// An error that stays one is not asked for every minute.
/// req: LQ-27 (RFC 5007 §4.3.3)
#[test]
fn lq_27_refused_query_is_asked_again_after_long() {
    let (mut bench, asked, _) = resuming(NOW - 5);

    asked.reply(&mut bench, &option(13, b"\0\x0anot you"));

    assert_eq!(bench.closed(&asked), Some(CloseReason::Done));
    let shown = bench.relay.neighbors();
    let shown = shown
        .iter()
        .find(|it| it.role == Role::Requestor)
        .expect("shown");
    assert_eq!(shown.last_error.as_deref(), Some("NotAllowed: not you"));
    bench.advance(599 * SECOND);
    assert!(bench.connecting().is_none());
    bench.advance(SECOND);
    assert!(bench.connecting().is_some());
}

/// A peer whose clock was set back is asked for everything.
/// req: ALQ-D-9 (twinrelay)
#[test]
fn alq_d_9_base_time_that_jumps_back_begins_anew() {
    let (mut bench, asked) = live();
    bench.leasequery.clear();

    asked.data(&mut bench, &base_time(NOW - 6));

    assert_eq!(bench.closed(&asked), Some(CloseReason::Local));
    let (again, query) = bench.accepted();
    assert_eq!(query.find(101), None);
    again.reply(&mut bench, &base_time(NOW - 6));
    assert_eq!(state(&bench), SessionState::BulkCatchUp);
}

/// So is a peer that is behind what it said in an earlier session.
/// req: ALQ-D-9 (twinrelay)
#[test]
fn alq_d_9_resume_point_ahead_of_the_peer_begins_anew() {
    let (mut bench, asked, query) = resuming(NOW + 10);
    assert_eq!(query.find(101), Some(&(NOW + 10).to_be_bytes()[..]));

    asked.reply(&mut bench, &[status(12), base_time(NOW)].concat());

    assert_eq!(bench.closed(&asked), Some(CloseReason::Local));
    let (_, query) = bench.accepted();
    assert_eq!(query.find(101), None);
}

/// The times of a peer whose clock differs are converted.
/// req: ALQ-45, LQ-29, ALQ-15 (RFC 7653 §8.5)
#[test]
fn alq_45_times_of_a_peer_with_another_clock_are_converted() {
    let (mut bench, asked, _) = resuming(NOW - 2000);
    asked.reply(&mut bench, &base_time(NOW - 1000));

    let lease = client_data(30, &iaprefix(P1, 3600, 7200));
    asked.data(&mut bench, &[lease, base_time(NOW - 1000)].concat());

    let lease = bench.lease(P1).expect("taken");
    let age = bench.now.saturating_since(lease.cltt);
    assert!(age > 28 * SECOND && age <= 30 * SECOND, "{age:?}");
    assert_eq!(lease.valid_until.saturating_since(bench.now), 7200 * SECOND);
}

/// Without CLT_TIME nobody can say which record is newer.
/// req: LQ-26 (RFC 5007 §4.3.3)
#[test]
fn lq_26_client_data_without_clt_time_is_dropped() {
    let (mut bench, asked) = live();
    let mut said = Said::new(CLIENT_DUID, address(1), 0, &iaprefix(P1, 3600, 7200));
    said.clt = None;

    asked.data(&mut bench, &said.option());

    assert!(bench.lease(P1).is_none());
}

/// Preferred above valid is cut, not refused.
/// req: LQ-34, ALQ-D-15 (ISC Kea)
#[test]
fn lq_34_preferred_above_valid_is_cut_to_it() {
    let (mut bench, asked) = live();

    asked.data(&mut bench, &client_data(0, &iaprefix(P1, 7200, 100)));

    let lease = bench.lease(P1).expect("taken");
    assert_eq!(lease.preferred_until, lease.valid_until);
}

/// LQ_RELAY_DATA that cannot be read costs the place, not the lease.
/// req: LQ-36, ALQ-D-4 (ISC Kea)
#[test]
fn lq_36_broken_relay_data_loses_the_place_alone() {
    let (mut bench, asked) = live();
    let mut said = Said::new(CLIENT_DUID, address(1), 0, &iaprefix(P1, 3600, 7200));
    said.relay_data = said.relay_data.map(|data| data[..40].to_vec());

    asked.data(&mut bench, &said.option());

    let lease = bench.lease(P1).expect("taken");
    assert_eq!(lease.route, RouteState::Failed(RouteRefusal::NotMapped));
    bench.expect_events("created IA_PD 0 2001:db8:100::/56");
}

/// What one CLIENT_DATA leaves out goes on. Zero ends.
/// req: ALQ-D-2, LQ-32, ALQ-D-1, ALQ-D-23 (twinrelay)
#[test]
fn alq_d_2_absent_lease_goes_on_and_zero_ends_it() {
    let (mut bench, asked) = live();
    let both = [
        iaprefix(P1, 3600, 7200),
        iaaddr("2001:db8:1::c3", 3600, 7200),
    ]
    .concat();
    asked.data(
        &mut bench,
        &[client_data(60, &both), base_time(NOW)].concat(),
    );

    asked.data(
        &mut bench,
        &[client_data(30, &iaprefix(P1, 3600, 7200)), base_time(NOW)].concat(),
    );
    assert!(bench.lease("2001:db8:1::c3/128").is_some());
    for _ in 0..2 {
        asked.data(
            &mut bench,
            &[client_data(10, &iaprefix(P1, 0, 0)), base_time(NOW)].concat(),
        );
    }

    assert!(bench.lease(P1).is_none());
    assert!(bench.lease("2001:db8:1::c3/128").is_some());
}

/// Bare leases and leases inside an IA are one.
/// req: ALQ-D-3 (twinrelay)
#[test]
fn alq_d_3_ia_of_a_lease_is_taken_from_the_ia_options() {
    let (mut bench, asked) = live();
    let both = [
        iaprefix(P1, 3600, 7200),
        pd(77, &[iaprefix(P1, 3600, 7200)]),
    ]
    .concat();

    asked.data(&mut bench, &client_data(0, &both));

    bench.expect_leases("IA_PD 77 2001:db8:100::/56\nIA_PD 1 2001:db8:900::/56");
}

/// The record order: newer wins; in one second the later of one relay, of several the higher
/// address, whether the lease goes on or has ended.
/// req: ALQ-D-11, LQ-28, ALQ-44 (RFC 5007 §4.3.4)
#[test]
fn alq_d_11_newer_transaction_wins_in_whatever_order_it_comes() {
    let active = |snooper, clt, secs| {
        let lease = iaprefix(P1, secs, secs);
        Said::new(CLIENT_DUID, snooper, clt, &lease).option()
    };
    let (low, high) = (ip("2001:db8:ff::5"), ip("2001:db8:ff::6"));
    for (first, second, valid) in [
        ((low, 10, 100), (high, 9, 200), Some(200)),
        ((low, 9, 100), (high, 10, 200), Some(100)),
        ((low, 10, 100), (high, 10, 200), Some(200)),
        ((high, 10, 100), (low, 10, 200), Some(100)),
        ((high, 10, 0), (low, 10, 200), None),
        ((low, 10, 200), (high, 10, 0), None),
        ((high, 10, 200), (low, 10, 0), Some(200)),
        ((low, 10, 0), (high, 10, 200), Some(200)),
        ((low, 10, 200), (low, 10, 0), None),
        ((low, 10, 200), (high, 9, 0), None),
        ((high, 9, 0), (low, 10, 200), None),
    ] {
        let (mut bench, asked) = live();
        for (snooper, clt, secs) in [first, second] {
            let said = active(snooper, clt, secs);
            asked.data(&mut bench, &[said, base_time(NOW)].concat());
        }

        let left = bench
            .lease(P1)
            .map(|it| it.valid_until.saturating_since(bench.now).as_secs());
        assert_eq!(left, valid, "{first:?} {second:?}");
    }
}

/// Where the client is: the link-address on one of our networks, the peer's links, a shared
/// Interface-Id; else the lease is kept without a route until a configuration names its link.
/// req: ALQ-D-4, PDR-G-1 (twinrelay)
#[test]
fn alq_d_4_lease_on_no_link_of_ours_is_kept_and_mapped_later() {
    let (mut bench, asked) = live();
    let mut said = Said::new(CLIENT_DUID, address(1), 0, &iaprefix(P1, 3600, 7200));
    if let Some(data) = &mut said.relay_data {
        data[16 + 2..16 + 18].copy_from_slice(&ip("2001:db8:77::2").octets());
    }

    asked.data(&mut bench, &said.option());

    let lease = bench.lease(P1).expect("kept");
    assert_eq!(lease.route, RouteState::Failed(RouteRefusal::NotMapped));
    let digests = bench.relay.digests();
    assert_eq!(
        digests.last().map(|(access, it)| (*access, it.bindings)),
        Some((AccessId::UNMAPPED, 1))
    );
    assert_eq!(bench.lines("notice "), ["notice lease_unmapped"]);

    bench.reconfigure(|config| {
        config.leasequery.peers[0].links = vec![(ip("2001:db8:77::2"), AccessId(1))];
    });

    assert_eq!(
        bench.lines("route "),
        ["route put 2001:db8:100::/56 via fe80::c3 dev 3"]
    );
    assert_eq!(
        bench.lease(P1).expect("mapped").route,
        RouteState::Installed
    );
    assert!(
        bench
            .relay
            .digests()
            .iter()
            .all(|(access, _)| *access != AccessId::UNMAPPED)
    );
}

/// An Interface-Id means a link of ours only where the operator says so.
/// req: ALQ-D-4 (twinrelay)
#[test]
fn alq_d_4_interface_id_counts_only_where_it_is_shared() {
    for is_shared in [false, true] {
        let (mut bench, asked) = live();
        bench.reconfigure(|config| {
            config.leasequery.peers[0].has_shared_interface_id = is_shared;
        });
        let asked = match bench.connecting() {
            Some(again) => {
                let connection = again.connection;
                bench.input(Input::Leasequery(LeasequeryInput::Connected { connection }));
                let mut again = again;
                again.sent(&mut bench);
                again.reply(&mut bench, &[]);
                again
            }
            None => asked,
        };
        let mut said = Said::new(CLIENT_DUID, address(1), 0, &iaprefix(P1, 3600, 7200));
        if let Some(data) = &mut said.relay_data {
            data[16 + 2..16 + 18].copy_from_slice(&ip("2001:db8:77::2").octets());
            let name = data.len() - 12 - 4;
            data[name..name + 4].copy_from_slice(b"ge-1");
        }

        asked.data(&mut bench, &said.option());

        let routes = bench.lines("route ");
        assert_eq!(routes.len(), usize::from(is_shared), "{routes:?}");
    }
}

/// Limits hold for what a peer tells, too.
/// req: PDR-G-5, PDR-G-7 (RFC 8987 §4.1)
#[test]
fn pdr_g_5_peer_cannot_give_one_client_more_leases_than_the_limit() {
    let (mut bench, asked) = live();

    for block in 0..100u32 {
        let leases: Vec<u8> = (0..1000u32)
            .flat_map(|at| {
                let text = format!("2001:db8:{:x}:{:x}::/64", 0x2000 + block, at);
                iaprefix(&text, 3600, 7200)
            })
            .collect();
        asked.data(&mut bench, &client_data(0, &leases));
        bench.take();
    }

    let of_client: usize = bench.relay.summary().active.iter().map(|(.., n)| n).sum();
    assert_eq!(of_client, 8 + 1);
    assert_eq!(bench.relay.summary().refused, 1024);
}

/// A resync drops the session and asks for everything; until it has come this relay is not ready.
#[test]
fn resync_asks_for_everything_and_is_not_ready_meanwhile() {
    let (mut bench, asked) = live();
    assert!(bench.relay.readiness().is_ready);

    bench.input(Input::Leasequery(LeasequeryInput::Resync(None)));

    assert_eq!(bench.closed(&asked), Some(CloseReason::Local));
    assert!(!bench.relay.readiness().is_ready);
    let (again, query) = bench.accepted();
    assert_eq!(query.find(101), None);
    again.reply(&mut bench, &base_time(NOW));
    let (bulk, _) = bench.accepted();
    bulk.reply(&mut bench, &base_time(NOW));
    assert!(bench.relay.readiness().is_ready);
}

/// A peer that is down is waited for until `ready_timeout` has passed without progress; each
/// binding is progress.
#[test]
fn readiness_by_timeout_is_an_alarm_and_progress_puts_it_off() {
    let mut bench = bench(false, None);
    loaded(&mut bench);
    let (asked, _) = bench.accepted();
    asked.reply(&mut bench, &base_time(NOW));
    let (bulk, _) = bench.accepted();
    bulk.reply(&mut bench, &client_data(9, &iaprefix(P1, 36_000, 72_000)));
    bench.advance(100 * SECOND);
    asked.data(&mut bench, &base_time(NOW + 100));
    bulk.data(
        &mut bench,
        &client_data(9, &iaprefix("2001:db8:700::/56", 36_000, 72_000)),
    );
    bench.advance(100 * SECOND);
    asked.data(&mut bench, &base_time(NOW + 200));

    bench.advance(80 * SECOND - MS);
    let readiness = bench.relay.readiness();
    assert_eq!(
        (readiness.is_ready, &*readiness.reason),
        (false, "waiting for {1}: bulk-catch-up")
    );
    bench.advance(MS);

    let readiness = bench.relay.readiness();
    assert!(
        readiness.is_ready && readiness.is_by_timeout,
        "{readiness:?}"
    );
}

/// Without carrier on the core side nobody is given up.
#[test]
fn readiness_waits_for_carrier_before_time_counts() {
    let mut config = member(0, 2, false);
    config.leasequery.has_core_carrier = false;
    let mut bench = Bench::new(config);
    loaded(&mut bench);
    bench.advance(1000 * SECOND);
    assert!(!bench.relay.readiness().is_ready);

    bench.reconfigure(|config| config.leasequery.has_core_carrier = true);
    bench.advance(Duration::from_secs(179));
    assert!(!bench.relay.readiness().is_ready);
    bench.advance(SECOND);

    assert!(bench.relay.readiness().is_by_timeout);
}
