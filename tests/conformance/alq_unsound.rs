//! One relay, and what the other end of a session should never send: frames that are none, options that
//! cannot be, leases that nobody can have, octets that come one by one. In both roles.

use std::time::Duration;

use relay_core::alq::{CloseReason, LeasequeryInput, Role, SessionState};
use relay_core::wire::iana::{
    STATUS_MALFORMED_QUERY, STATUS_NOT_ALLOWED, STATUS_NOT_CONFIGURED, STATUS_NOT_SUPPORTED,
    STATUS_UNKNOWN_QUERY_TYPE,
};
use relay_tests::alq_peer::frames::{
    impossible_leases, longest, no_frames, unknown_status, unsound_answers, with_base_time,
};
use relay_tests::asked::{Asked, base_time};
use relay_tests::bench::{Bench, MS};
use relay_tests::messages::{CLIENT_DUID, iaprefix, option, status};

use crate::alq_requestor::{NOW, P1, bench, client_data, live, loaded, resuming, state};
use crate::alq_server;

const MINUTE: Duration = Duration::from_secs(60);

fn shown(bench: &Bench) -> relay_core::alq::Neighbor {
    let mut all = bench.relay.neighbors().into_iter();
    let found = all.find(|it| it.role == Role::Requestor);
    found.expect("shown")
}

/// A relay that asked in clear text, and was not answered.
fn asking() -> (Bench, Asked) {
    let (bench, asked, _) = resuming(NOW - 500);
    (bench, asked)
}

/// One that was told that what it asked for comes.
fn catching_up() -> (Bench, Asked) {
    let (mut bench, asked) = asking();
    asked.reply(&mut bench, &base_time(NOW));
    (bench, asked)
}

/// One that sent STARTTLS.
fn securing() -> (Bench, Asked) {
    let mut bench = bench(true, None);
    loaded(&mut bench);
    let (asked, _) = bench.accepted();
    (bench, asked)
}

/// The bulk query of one that has nothing, and was told a first client.
fn fetching() -> (Bench, Asked) {
    let mut bench = bench(false, None);
    loaded(&mut bench);
    let (asked, _) = bench.accepted();
    asked.reply(&mut bench, &base_time(NOW));
    let (bulk, _) = bench.accepted();
    let first = client_data(9, &iaprefix("2001:db8:e00::/56", 3600, 7200));
    bulk.reply(&mut bench, &[first, base_time(NOW)].concat());
    (bench, bulk)
}

/// How a session comes to where it stands.
type Begin = fn() -> (Bench, Asked);

/// Where one can stand, with its name.
const STATES: [(&str, Begin); 5] = [
    ("TLS asked", securing),
    ("query sent", asking),
    ("catch-up", catching_up),
    ("live", live),
    ("bulk", fetching),
];

/// In each state. req: BLQ-5 (RFC 5460 §5.1)
#[test]
fn blq_5_frame_that_is_none_closes_whatever_is_waited_for() {
    for (name, begin) in STATES {
        for (what, bytes) in no_frames() {
            let (mut bench, asked) = begin();

            asked.feed(&mut bench, &bytes);

            let closed = bench.closed(&asked);
            assert_eq!(closed, Some(CloseReason::ProtocolError), "{name}: {what}");
            assert_eq!(shown(&bench).statistics.errors, 1, "{name}: {what}");
        }
    }
}

/// A frame of which no more comes is an error; an end between two frames is none of the protocol.
/// req: BLQ-5 (RFC 5460 §5.1)
#[test]
fn blq_5_end_within_a_frame_is_a_protocol_error_in_both_roles() {
    for (name, begin) in STATES {
        for octets in 0..6 {
            let (mut bench, asked) = begin();
            let connection = asked.connection;
            asked.feed(&mut bench, &longest(asked.xid)[..octets]);

            bench.lq(LeasequeryInput::HalfClosed { connection });

            let reason = match octets {
                0 => CloseReason::Remote,
                _ => CloseReason::ProtocolError,
            };
            assert_eq!(bench.closed(&asked), Some(reason), "{name}: {octets}");
        }
    }
    for is_live in [false, true] {
        let (mut bench, asker) = alq_server::live();
        let asker = match is_live {
            true => asker,
            false => bench.connects(2),
        };
        asker.feed(&mut bench, &[0]);

        bench.lq(LeasequeryInput::HalfClosed {
            connection: asker.0,
        });

        let closed = asker.closed(&mut bench);
        assert_eq!(closed, Some(CloseReason::ProtocolError), "{is_live}");
    }
}

/// The longest frame there is, is one. req: BLQ-2 (RFC 5460 §5.1)
#[test]
fn blq_2_frame_of_65535_octets_is_a_message_in_any_two_pieces() {
    for cut in [1, 2, 3, 6, 40_000, 65_536] {
        let (mut bench, asked) = live();
        let frame = longest(asked.xid);
        let received = |bench: &Bench| shown(bench).statistics.messages_received.clone();
        let before = received(&bench);

        asked.feed(&mut bench, &frame[..cut]);
        assert_eq!(received(&bench), before, "{cut}");
        asked.feed(&mut bench, &frame[cut..]);

        assert_eq!(bench.closed(&asked), None, "{cut}");
        let count = |all: &[(u8, u64)]| all.iter().find(|it| it.0 == 17).map(|it| it.1);
        let (now, before) = (count(&received(&bench)), count(&before));
        assert_eq!(now, before.map(|it| it + 1), "{cut}");
    }
}

/// What is around a lease has to be sound: where it is not, nobody knows what else is wrong.
/// req: BLQ-5 (RFC 5460 §5.1)
#[test]
fn blq_5_options_of_impossible_length_close_on_both_connections() {
    for begin in [live, fetching, catching_up] {
        let names = unsound_answers(0);
        for at in 0..names.len() {
            let (mut bench, asked) = begin();
            let (what, frame) = unsound_answers(asked.xid).swap_remove(at);

            asked.feed(&mut bench, &frame);

            let closed = bench.closed(&asked);
            assert_eq!(closed, Some(CloseReason::ProtocolError), "{what}");
        }
    }
}

/// A lease that nobody can have is left out, and nothing else: a prefix of no length or of 200, an address
/// that is cut, one that its server denies. req: LQ-26 (RFC 5007 §4.3.3), BLQ-5
#[test]
fn lq_26_impossible_lease_is_left_out_and_counted_and_the_session_goes_on() {
    for begin in [live, fetching, catching_up] {
        let names = impossible_leases(0, CLIENT_DUID);
        for at in 0..names.len() {
            let (mut bench, asked) = begin();
            let held = bench.relay.digests();
            let (what, frame) = impossible_leases(asked.xid, CLIENT_DUID).swap_remove(at);

            asked.feed(&mut bench, &with_base_time(&frame, NOW));

            assert_eq!(bench.closed(&asked), None, "{what}");
            assert_eq!(shown(&bench).statistics.ignored, 1, "{what}");
            assert_eq!(bench.relay.digests(), held, "{what}");
            // What comes behind it is taken.
            let next = client_data(0, &iaprefix(P1, 3600, 7200));
            asked.data(&mut bench, &[next, base_time(NOW)].concat());
            assert!(bench.lease(P1).is_some(), "{what}");
        }
    }
}

/// A status that nobody knows: in DATA it says nothing; in DONE the query is over, and why is shown.
/// req: ALQ-30, ALQ-41 (RFC 7653 §8.4)
#[test]
fn alq_41_unknown_status_ends_a_session_in_done_and_not_in_data() {
    for begin in [live, catching_up] {
        let (mut bench, asked) = begin();
        let before = state(&bench);

        asked.feed(&mut bench, &with_base_time(&unknown_status(asked.xid), NOW));
        let lease = client_data(0, &iaprefix(P1, 3600, 7200));
        asked.data(&mut bench, &[status(999), lease, base_time(NOW)].concat());

        assert_eq!((bench.closed(&asked), state(&bench)), (None, before));
        assert!(bench.lease(P1).is_some(), "it is told all the same");
        let statuses = shown(&bench).statistics.statuses_received;
        assert!(statuses.contains(&(999, 2)), "{statuses:?}");

        asked.done(&mut bench, &option(13, &999_u16.to_be_bytes()));

        assert_eq!(bench.closed(&asked), Some(CloseReason::Done));
        let shown = shown(&bench);
        assert_eq!(shown.last_error.as_deref(), Some("status 999"));
        assert_eq!(shown.state, SessionState::Backoff);
    }
}

/// What will be the same the next time is asked for after a long while, each status that says so.
/// req: LQ-27 (RFC 5007 §4.3.3)
#[test]
fn lq_27_each_refusal_that_stays_one_is_waited_out_for_long() {
    for code in [
        STATUS_UNKNOWN_QUERY_TYPE,
        STATUS_MALFORMED_QUERY,
        STATUS_NOT_CONFIGURED,
        STATUS_NOT_ALLOWED,
        STATUS_NOT_SUPPORTED,
    ] {
        let (mut bench, asked) = asking();

        asked.reply(&mut bench, &status(code));

        assert_eq!(bench.closed(&asked), Some(CloseReason::Done), "{code}");
        assert_eq!(shown(&bench).retry_at, Some(bench.now + 10 * MINUTE));
        bench.advance(10 * MINUTE - MS);
        assert!(bench.connecting().is_none(), "{code}");
        bench.advance(MS);
        assert!(bench.connecting().is_some(), "{code}");
    }
}

/// Messages are what counts, not octets: one a minute keeps nothing up. req: ALQ-29 (RFC 7653 §8.4), BLQ-9
#[test]
fn alq_29_octets_that_make_no_message_keep_no_session_up() {
    for (name, begin) in STATES.into_iter().take(4) {
        let (mut bench, asked) = begin();
        let frame = longest(asked.xid);
        for octet in frame.chunks(1).take(2) {
            asked.feed(&mut bench, octet);
            bench.advance(MINUTE - MS);
            assert_eq!(bench.closed(&asked), None, "{name}");
            bench.advance(MS);
        }

        let closed = bench.closed(&asked);
        assert_eq!(closed, Some(CloseReason::ReceiveTimeout), "{name}");
    }

    // A bulk query may take longer, while its session goes on.
    let mut bench = bench(false, None);
    loaded(&mut bench);
    let (asked, _) = bench.accepted();
    asked.reply(&mut bench, &base_time(NOW));
    let (bulk, _) = bench.accepted();
    let frame = longest(bulk.xid);
    for (octet, minute) in frame.chunks(1).zip(1..=5) {
        assert_eq!(bench.closed(&bulk), None);
        bulk.feed(&mut bench, octet);
        bench.advance(MINUTE);
        asked.data(&mut bench, &base_time(NOW + 60 * minute));
    }
    assert_eq!(bench.closed(&bulk), Some(CloseReason::ReceiveTimeout));
    assert_eq!(bench.closed(&asked), None);
}

/// Neither does the beginning of a query keep a place at the server for more than its time; whoever is
/// told what changes has nothing to say, in no time. req: ALQ-56 (RFC 7653 §9.5), BLQ-9
#[test]
fn alq_56_octets_that_make_no_query_end_in_their_time_and_a_live_session_goes_on() {
    let (mut bench, live) = alq_server::live();
    let slow = bench.connects(2);
    let frame = longest(2);
    for octet in frame.chunks(1).take(5) {
        assert_eq!(slow.closed(&mut bench), None);
        slow.feed(&mut bench, octet);
        live.feed(&mut bench, octet);
        bench.advance(MINUTE);
        live.hears(&mut bench);
    }

    let closed = slow.closed(&mut bench);
    assert_eq!(closed, Some(CloseReason::ReceiveTimeout));
    assert_eq!(live.closed(&mut bench), None);
    alq_server::bind(&mut bench, alq_server::P1);
    let heard = live.hears(&mut bench);
    assert!(
        heard.iter().any(|it| it.contains(alq_server::P1)),
        "{heard:?}"
    );
}

/// Of a million leases for one client as many are kept as it may have, and as many shown as refused as the
/// list holds. req: PDR-G-7 (RFC 8987 §4.1)
#[test]
fn pdr_g_7_million_leases_for_one_client_are_kept_up_to_its_limit() {
    const LEASES: u32 = 1_000_000;
    const IN_A_MESSAGE: u32 = 2000;
    let (mut bench, asked) = live();
    let most = bench.config.limits.max_leases_per_client;
    let held = |bench: &Bench| -> u64 {
        let digests = bench.relay.digests();
        digests.iter().map(|(_, it)| it.bindings).sum()
    };
    let before = held(&bench);

    for from in (0..LEASES).step_by(IN_A_MESSAGE as usize) {
        let mut leases = Vec::new();
        for number in from..from + IN_A_MESSAGE {
            let [_, high, middle, low] = number.to_be_bytes();
            let prefix = format!("2001:db8:e0{high:02x}:{middle:02x}{low:02x}::/64");
            leases.extend(iaprefix(&prefix, 3600, 7200));
        }
        asked.data(
            &mut bench,
            &[client_data(0, &leases), base_time(NOW)].concat(),
        );
        bench.take();
    }

    assert_eq!(bench.closed(&asked), None);
    assert_eq!(
        shown(&bench).statistics.bindings_received,
        u64::from(LEASES)
    );
    assert_eq!(held(&bench), before + most as u64);
    assert_eq!(bench.relay.summary().refused, 1024);
}
