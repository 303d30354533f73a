//! One relay that a peer asks, message by message, with Active Leasequery (RFC 7653 §9).

use std::time::Duration;

use relay_core::alq::{CloseReason, ConnectionId, LeasequeryInput, Remote, Role, SessionState};
use relay_core::input::{Clear, Input};
use relay_core::types::ServerId;
use relay_tests::asked::Said;
use relay_tests::asking::{Asking, asker, end_time, lq_query, oro, start_time, texts};
use relay_tests::bench::{Bench, Client, MS, SECOND};
use relay_tests::exchanges::{from_client, from_server, na_lease, pd_lease};
use relay_tests::mesh::{AHEAD_NANOS, address, member};
use relay_tests::messages::{Layer, hex, iaprefix, ip, status};

pub(crate) const P1: &str = "2001:db8:100::/56";
pub(crate) const P2: &str = "2001:db8:200::/56";
/// What is told of the client of the vectors with `P1` for an hour, at once.
pub(crate) const TOLD: &str = "000300010200000000c3 [2001:db8:100::/56 1800/3600] 0s ago \
                    via 2001:db8:1::1 fe80::c3 ge-0 mac 0200000000c3 of 2001:db8:ff::1";

/// A relay with one peer, whose store is not loaded.
pub(crate) fn loading(is_secure: bool) -> Bench {
    let mut bench = Bench::new(member(0, 2, is_secure));
    bench.input(Input::WallClock {
        ahead_nanos: AHEAD_NANOS,
    });
    bench
}

pub(crate) fn bench(is_secure: bool) -> Bench {
    let mut bench = loading(is_secure);
    bench.lq(LeasequeryInput::Loaded);
    bench
}

pub(crate) fn client() -> Client {
    Client::new(0xc3, 2)
}

pub(crate) fn bind(bench: &mut Bench, prefix: &str) {
    bench.bind(&client(), &pd_lease(1, prefix, 3600));
}

/// A relay and a live session, of which the REPLY was heard.
pub(crate) fn live() -> (Bench, Asking) {
    let mut bench = bench(false);
    let asking = bench.connects(1);
    asking.subscribe(&mut bench, 2, &[]);
    asking.expect(&mut bench, &["reply 2 +0"]);
    (bench, asking)
}

/// Off unless asked for. req: ALQ-47 (RFC 7653 §9.1)
#[test]
fn alq_47_connection_while_switched_off_is_closed_unread() {
    let mut bench = Bench::with(|config| {
        config.leasequery = member(0, 2, false).leasequery;
        config.leasequery.enabled = false;
    });

    let asking = bench.connects(1);

    assert_eq!(asking.closed(&mut bench), Some(CloseReason::NotAllowed));
}

/// STARTTLS gets a REPLY without status, then TLS. req: ALQ-51 (RFC 7653 §9.1)
#[test]
fn alq_51_starttls_of_secure_peer_is_accepted_and_queries_follow_inside() {
    let mut bench = bench(true);
    let asking = bench.connects(1);

    asking.feed(&mut bench, &hex("0004 17000001"));

    assert_eq!(asking.buffer(&mut bench), Some(hex("0004 07000001")));
    assert!(asking.starts_tls(&bench));
    asking.writable(&mut bench);
    bench.lq(LeasequeryInput::TlsUp {
        connection: asking.0,
    });
    asking.subscribe(&mut bench, 2, &[]);
    asking.expect(&mut bench, &["reply 2 +0"]);
    let neighbor = bench.relay.neighbors();
    let neighbor = neighbor.iter().find(|it| it.role == Role::Server);
    assert!(neighbor.is_some_and(|it| it.is_secure && it.state == SessionState::Active));
}

/// A query in clear text where TLS is demanded. req: ALQ-51 (RFC 7653 §9.1)
#[test]
fn alq_51_query_without_tls_of_secure_peer_is_closed_unanswered() {
    let mut bench = bench(true);
    let asking = bench.connects(1);

    asking.subscribe(&mut bench, 2, &[]);

    assert_eq!(asking.closed(&mut bench), Some(CloseReason::TlsRequired));
    assert_eq!(asking.buffer(&mut bench), None);
}

/// One policy for both kinds of query. req: ALQ-D-21 (twinrelay)
#[test]
fn alq_d_21_bulk_query_without_tls_of_secure_peer_is_closed_unanswered() {
    let mut bench = bench(true);
    let asking = bench.connects(1);

    asking.query(&mut bench, 2, &lq_query(4, "2001:db8:1::1", &[]));

    assert_eq!(asking.closed(&mut bench), Some(CloseReason::TlsRequired));
    assert_eq!(asking.buffer(&mut bench), None);
}

/// Insecure mode refuses STARTTLS, and the connection stays. req: ALQ-50 (RFC 7653 §9.1)
#[test]
fn alq_50_starttls_of_insecure_peer_is_refused_and_the_query_may_follow() {
    let mut bench = bench(false);
    let asking = bench.connects(1);

    asking.feed(&mut bench, &hex("0004 17000001"));

    asking.expect(&mut bench, &["tls-reply 1 TLSConnectionRefused"]);
    assert_eq!(asking.closed(&mut bench), None);
    asking.subscribe(&mut bench, 2, &[]);
    asking.expect(&mut bench, &["reply 2 +0"]);
}

/// Options in STARTTLS mean nothing. req: ALQ-54 (RFC 7653 §6.2.2)
#[test]
fn alq_54_starttls_with_options_gets_the_same_answer() {
    let mut bench = bench(true);
    let asking = bench.connects(1);

    asking.say(&mut bench, 23, 1, &[asker(), status(3)].concat());

    assert_eq!(asking.buffer(&mut bench), Some(hex("0004 07000001")));
    assert!(asking.starts_tls(&bench));
}

/// Bytes behind STARTTLS are not what TLS protects. req: ALQ-D-19 (twinrelay)
#[test]
fn alq_d_19_bytes_behind_starttls_close_unanswered() {
    let mut bench = bench(true);
    let asking = bench.connects(1);

    asking.feed(&mut bench, &hex("0004 17000001 00"));

    assert_eq!(asking.closed(&mut bench), Some(CloseReason::ProtocolError));
    assert_eq!(asking.buffer(&mut bench), None);
    assert!(!asking.starts_tls(&bench));
}

/// Nor are those that come before the handshake is done. req: ALQ-D-19 (twinrelay)
#[test]
fn alq_d_19_bytes_before_the_handshake_is_done_close() {
    let mut bench = bench(true);
    let asking = bench.connects(1);
    asking.feed(&mut bench, &hex("0004 17000001"));

    asking.subscribe(&mut bench, 2, &[]);

    assert_eq!(asking.closed(&mut bench), Some(CloseReason::ProtocolError));
}

/// The answer repeats the transaction-id of STARTTLS. req: ALQ-D-20 (twinrelay)
#[test]
fn alq_d_20_reply_to_starttls_echoes_its_transaction_id() {
    let mut bench = bench(true);
    let asking = bench.connects(1);

    asking.feed(&mut bench, &hex("0004 17abcdef"));

    assert_eq!(asking.buffer(&mut bench), Some(hex("0004 07abcdef")));
}

/// Places on the server are limited, and a peer that is silent loses its own.
/// req: ALQ-56 (RFC 7653 §9.5, §10)
#[test]
fn alq_56_connection_without_query_is_closed_and_a_live_one_is_not() {
    let (mut bench, live) = live();
    let silent = bench.connects(2);

    for _ in 0..5 {
        bench.advance(60 * SECOND);
        live.hears(&mut bench);
    }

    assert_eq!(silent.closed(&mut bench), Some(CloseReason::ReceiveTimeout));
    assert_eq!(live.closed(&mut bench), None);
}

/// One REPLY, first; the rest in DATA. req: ALQ-57 (RFC 7653 §6.2.3)
#[test]
fn alq_57_success_is_one_reply_and_data_behind_it() {
    let mut bench = bench(false);
    bench.advance(SECOND);
    bind(&mut bench, P1);
    let asking = bench.connects(1);

    asking.subscribe(&mut bench, 2, &start_time(1));
    let mut heard = asking.hears(&mut bench);
    bind(&mut bench, P2);
    heard.extend(asking.hears(&mut bench));

    let kinds: Vec<_> = heard
        .iter()
        .map(|line| line.split_once(' ').map(|it| it.0))
        .collect();
    assert_eq!(
        kinds,
        [Some("reply"), Some("data"), Some("data"), Some("data")]
    );
}

/// An error is one REPLY without data, and the end. req: ALQ-58 (RFC 7653 §9.3)
#[test]
fn alq_58_error_at_the_start_is_one_reply_with_status() {
    let mut bench = bench(false);
    let asking = bench.connects(1);

    asking.subscribe(&mut bench, 2, &lq_query(99, "::", &[]));

    asking.expect(&mut bench, &["reply 2 UnknownQueryType +0"]);
    assert_eq!(asking.closed(&mut bench), Some(CloseReason::Done));
}

/// The REPLY does not wait for a change. req: ALQ-D-6 (twinrelay)
#[test]
fn alq_d_6_reply_comes_at_once_without_client_data() {
    let mut bench = bench(false);
    bind(&mut bench, P1);
    let asking = bench.connects(1);

    asking.subscribe(&mut bench, 2, &[]);

    asking.expect(&mut bench, &["reply 2 +0"]);
}

/// REPLY as in vector V6, octet by octet; both identifiers are those of the roles.
/// req: ALQ-D-22 (twinrelay)
#[test]
fn alq_d_22_reply_bears_the_leasequery_identity_of_this_relay() {
    let mut bench = bench(false);
    let asking = bench.connects(1);

    asking.subscribe(&mut bench, 2, &[]);

    let reply = "0028 0f000002 0002000a000300010200000000a0 0001000a000300010200000000b2 00640004";
    let sent = asking.buffer(&mut bench).expect("a reply");
    assert_eq!(sent[..hex(reply).len()], hex(reply));
}

/// All answers bear the base-time, if asked for. req: ALQ-14 (RFC 7653 §9.3)
#[test]
fn alq_14_base_time_is_in_each_answer_and_only_if_asked_for() {
    let (mut bench, asked) = live();
    let unasked = bench.connects(2);
    unasked.say(&mut bench, 22, 7, &asker());
    bench.advance(5 * SECOND);

    bind(&mut bench, P1);
    bench.advance(60 * SECOND);
    bench.lq(LeasequeryInput::Shutdown);

    let heard = asked.hears(&mut bench);
    let times: Vec<_> = heard.iter().map(|line| line.rsplit_once('+')).collect();
    let times: Vec<_> = times
        .into_iter()
        .map(|it| it.map(|(_, secs)| secs))
        .collect();
    assert_eq!(times, [Some("5"), Some("65")], "{heard:?}");
    let heard = unasked.hears(&mut bench);
    assert!(
        heard.len() == 2 && !heard.concat().contains('+'),
        "{heard:?}"
    );
}

/// LQ_END_TIME has no place there. req: ALQ-9 (RFC 7653 §9.3)
#[test]
fn alq_9_end_time_in_active_query_is_malformed() {
    let mut bench = bench(false);
    let asking = bench.connects(1);

    asking.subscribe(&mut bench, 2, &[start_time(0), end_time(9)].concat());

    asking.expect(&mut bench, &["reply 2 MalformedQuery +0"]);
    assert_eq!(asking.closed(&mut bench), Some(CloseReason::Done));
}

/// A second query ends the first. req: ALQ-12 (RFC 7653 §9.4)
#[test]
fn alq_12_second_query_on_an_active_connection_ends_it() {
    let (mut bench, asking) = live();

    asking.subscribe(&mut bench, 3, &[]);

    asking.expect(&mut bench, &["done 2 NotAllowed +0"]);
    assert_eq!(asking.closed(&mut bench), Some(CloseReason::ProtocolError));
}

/// Bulk has its own connection. req: ALQ-13 (RFC 7653 §9.4)
#[test]
fn alq_13_active_query_while_bulk_is_answered_is_refused() {
    let mut bench = loading(false);
    let asking = bench.connects(1);
    asking.query(&mut bench, 1, &lq_query(4, "2001:db8:1::1", &[]));

    asking.subscribe(&mut bench, 2, &[]);

    asking.expect(&mut bench, &["reply 2 NotAllowed"]);
    assert_eq!(asking.closed(&mut bench), Some(CloseReason::Done));
}

/// Who answers active queries answers bulk ones. req: ALQ-1 (RFC 7653 §3, §9)
#[test]
fn alq_1_bulk_beside_an_active_query_is_answered() {
    let (mut bench, active) = live();
    bind(&mut bench, P1);
    active.hears(&mut bench);
    let bulk = bench.connects(2);

    bulk.query(&mut bench, 9, &lq_query(4, "2001:db8:1::1", &start_time(0)));

    let heard = bulk.hears(&mut bench);
    assert_eq!(heard.len(), 2, "{heard:?}");
    assert!(heard[0].starts_with("reply 9 ") && heard[1] == "done 9 +0");
}

/// Part of the updates, of any query type. req: ALQ-6 (RFC 7653 §6.2.1)
#[test]
fn alq_6_active_query_by_link_hears_of_that_link_only() {
    let mut bench = bench(false);
    let asking = bench.connects(1);
    asking.subscribe(&mut bench, 2, &lq_query(4, "2001:db8:2::1", &[]));
    asking.expect(&mut bench, &["reply 2 +0"]);

    bind(&mut bench, P1);
    asking.expect(&mut bench, &[]);
    bench.bind(&Client::new(9, 3), &pd_lease(1, P2, 3600));

    let heard = asking.hears(&mut bench);
    assert!(heard.len() == 1 && heard[0].contains(P2), "{heard:?}");
}

/// What is asked for is there: identifiers, leases, CLT_TIME, relay data.
/// req: ALQ-59 (RFC 7653 §9.3)
#[test]
fn alq_59_change_is_told_with_all_that_bulk_would_tell() {
    let (mut bench, asking) = live();

    bind(&mut bench, P1);

    asking.expect(&mut bench, &[&format!("data 2 {TOLD} +0")]);
}

/// At once: with no time passing. req: ALQ-60 (RFC 7653 §8.3)
#[test]
fn alq_60_change_is_sent_before_any_time_passes() {
    let (mut bench, asking) = live();
    let before = bench.now;

    bind(&mut bench, P1);

    assert!(asking.buffer(&mut bench).is_some());
    assert_eq!(bench.now, before);
}

/// A blocked peer gets the last state only. req: ALQ-61 (RFC 7653 §2, §7)
#[test]
fn alq_61_changes_while_blocked_collapse_into_the_last() {
    let (mut bench, asking) = live();
    bind(&mut bench, P2);
    assert!(asking.buffer(&mut bench).is_some(), "now it blocks");

    for valid in [1000, 2000, 3000] {
        bench.bind(&client(), &pd_lease(1, P1, valid));
    }

    assert_eq!(asking.buffer(&mut bench), None);
    asking.writable(&mut bench);
    let heard = asking.hears(&mut bench);
    assert_eq!(heard.len(), 1, "{heard:?}");
    assert!(
        heard[0].contains("[2001:db8:100::/56 1500/3000]"),
        "{heard:?}"
    );
}

/// What waited is told as it is when it leaves. req: ALQ-62 (RFC 7653 §7)
#[test]
fn alq_62_message_is_built_when_the_connection_is_writable() {
    let (mut bench, asking) = live();
    bench.bind(&Client::new(9, 2), &pd_lease(1, P2, 3600));
    assert!(asking.buffer(&mut bench).is_some(), "now it blocks");
    bind(&mut bench, P1);

    bench.advance(100 * SECOND);
    asking.writable(&mut bench);

    let heard = asking.hears(&mut bench);
    assert_eq!(heard.len(), 1, "{heard:?}");
    assert!(heard[0].contains("1700/3500] 100s ago"), "{heard:?}");
    assert!(heard[0].ends_with("+100"), "{heard:?}");
}

/// Times are relative to the base-time, whatever the fraction of a second.
/// req: ALQ-15 (RFC 7653 §6.3.1)
#[test]
fn alq_15_base_time_and_relative_times_make_the_same_moment() {
    let mut bench = bench(false);
    bench.advance(700 * MS);
    bind(&mut bench, P1);
    let mut ends = Vec::new();
    for n in 1..5 {
        bench.advance(900 * MS);
        let asking = bench.connects(n);
        asking.query(&mut bench, n, &lq_query(4, "2001:db8:1::1", &[]));

        let line = asking.hears(&mut bench).remove(0);

        let after = |text: &str| -> u32 {
            let (_, rest) = line.split_once(text).expect("there");
            let digits = rest.split(|it: char| !it.is_ascii_digit()).next();
            digits.and_then(|it| it.parse().ok()).expect("a number")
        };
        let (base, valid, ago) = (after(" +"), after("/56 "), after("] "));
        ends.push((base + valid, base - ago));
        asking.hears(&mut bench);
    }
    assert!(ends.windows(2).all(|pair| pair[0] == pair[1]), "{ends:?}");
}

/// A reader that has stopped loses its connection, and nobody else does.
/// req: ALQ-63 (RFC 7653 §9.3)
#[test]
fn alq_63_peer_that_does_not_read_is_closed_after_send_timeout() {
    let (mut bench, stopped) = live();
    let other = bench.connects(2);
    other.subscribe(&mut bench, 5, &[]);
    other.hears(&mut bench);
    bind(&mut bench, P1);
    other.hears(&mut bench);

    bench.advance(120 * SECOND - MS);
    assert_eq!(stopped.closed(&mut bench), None);
    other.hears(&mut bench);
    bench.advance(MS);

    assert_eq!(stopped.closed(&mut bench), Some(CloseReason::SendTimeout));
    assert_eq!(other.closed(&mut bench), None);
}

/// Nothing for a minute: a message without data. req: ALQ-64 (RFC 7653 §8.4)
#[test]
fn alq_64_idle_connection_gets_a_keep_alive_a_minute_after_the_last_message() {
    let (mut bench, asking) = live();
    bench.advance(30 * SECOND);
    bind(&mut bench, P1);
    assert_eq!(asking.hears(&mut bench).len(), 1);

    bench.advance(60 * SECOND - MS);
    asking.expect(&mut bench, &[]);
    bench.advance(MS);

    asking.expect(&mut bench, &["data 2 +90"]);
    bench.advance(60 * SECOND);
    asking.expect(&mut bench, &["data 2 +150"]);
}

pub(crate) fn prefix_of(n: u16) -> String {
    format!("2001:db8:{n:x}:100::/56")
}

/// A query that goes on has no DONE. req: ALQ-70 (RFC 7653 §9.3)
#[test]
fn alq_70_no_done_while_all_is_well() {
    let (mut bench, asking) = live();
    bind(&mut bench, P1);
    let mut heard = asking.hears(&mut bench);
    for _ in 0..100 {
        bench.advance(60 * SECOND);
        heard.extend(asking.hears(&mut bench));
    }

    assert!(heard.len() > 60 && heard.iter().all(|line| line.starts_with("data ")));
}

/// The daemon ends: the last message says so. req: ALQ-71 (RFC 7653 §8.4, §9.5)
#[test]
fn alq_71_shutdown_is_query_terminated_and_the_end() {
    let (mut bench, asking) = live();
    bench.advance(30 * SECOND);

    bench.lq(LeasequeryInput::Shutdown);

    asking.expect(&mut bench, &["done 2 QueryTerminated +30"]);
    assert_eq!(asking.closed(&mut bench), Some(CloseReason::Local));
}

/// A peer that is not configured any more is told so. req: ALQ-71 (RFC 7653 §9.5)
#[test]
fn alq_71_reconfiguration_without_the_peer_is_query_terminated() {
    let (mut bench, asking) = live();

    bench.reconfigure(|config| config.leasequery.peers.clear());

    asking.expect(&mut bench, &["done 2 QueryTerminated +0"]);
    assert_eq!(asking.closed(&mut bench), Some(CloseReason::Local));
}

/// Also where the last buffer still waits. req: ALQ-71 (RFC 7653 §9.5)
#[test]
fn alq_71_shutdown_of_a_blocked_connection_still_says_so() {
    let (mut bench, asking) = live();
    bind(&mut bench, P1);
    assert!(asking.buffer(&mut bench).is_some(), "now it blocks");

    bench.lq(LeasequeryInput::Shutdown);

    let last = asking.buffer(&mut bench).expect("a farewell");
    assert_eq!(texts(&last), ["done 2 QueryTerminated +0"]);
    assert_eq!(asking.closed(&mut bench), Some(CloseReason::Local));
}

/// The other end has closed: so do we. req: ALQ-72 (RFC 7653 §9.5)
#[test]
fn alq_72_half_closed_active_connection_is_closed() {
    let (mut bench, asking) = live();

    bench.lq(LeasequeryInput::HalfClosed {
        connection: asking.0,
    });

    assert_eq!(asking.closed(&mut bench), Some(CloseReason::Remote));
}

/// At any time, and nothing is left of it. req: ALQ-75 (RFC 7653 §8.7)
#[test]
fn alq_75_peer_that_goes_costs_nothing_more() {
    let (mut bench, asking) = live();

    bench.lq(LeasequeryInput::Closed {
        connection: asking.0,
        reason: CloseReason::Remote,
    });
    bind(&mut bench, P1);
    bench.advance(600 * SECOND);

    assert_eq!(asking.hears(&mut bench), [""; 0]);
    let server = bench.relay.neighbors();
    let server = server.iter().find(|it| it.role == Role::Server);
    assert!(server.is_some_and(|it| it.state == SessionState::Idle && it.lag_nanos.is_none()));
}

/// A lease given back is told with zero lifetimes and the time of the end.
/// req: ALQ-D-1 (twinrelay)
#[test]
fn alq_d_1_release_is_told_with_zero_lifetimes() {
    let (mut bench, asking) = live();
    bind(&mut bench, P1);
    asking.hears(&mut bench);
    bench.advance(30 * SECOND);

    bench.ask(&client(), 8, &pd_lease(1, P1, 0));

    let heard = asking.hears(&mut bench);
    assert_eq!(heard.len(), 1, "{heard:?}");
    assert!(
        heard[0].contains("[2001:db8:100::/56 0/0] 0s ago"),
        "{heard:?}"
    );
}

/// All leases of a client on its link, in one message. req: ALQ-D-2 (twinrelay)
#[test]
fn alq_d_2_change_of_one_lease_is_told_with_all_of_the_client() {
    let (mut bench, asking) = live();
    bind(&mut bench, P1);
    asking.hears(&mut bench);

    let both = [na_lease(2, "2001:db8:1::c3", 3600), pd_lease(1, P1, 3600)].concat();
    bench.bind(&client(), &both);

    let heard = asking.hears(&mut bench);
    assert_eq!(heard.len(), 1, "{heard:?}");
    assert!(
        heard[0].contains("[2001:db8:1::c3 1800/3600] [2001:db8:100::/56 1800/3600] 0s ago"),
        "{heard:?}"
    );
}

/// Leases renewed at different times come apart: CLT_TIME is one for all of a message, and says
/// which record is the newer one. req: ALQ-D-2 (twinrelay)
#[test]
fn alq_d_2_leases_of_different_age_are_told_apart() {
    let (mut bench, asking) = live();
    bind(&mut bench, P1);
    asking.hears(&mut bench);
    bench.advance(100 * SECOND);
    asking.hears(&mut bench);

    bench.bind(&client(), &na_lease(2, "2001:db8:1::c3", 3600));

    let heard = asking.hears(&mut bench).concat();
    assert!(
        heard.contains("[2001:db8:1::c3 1800/3600] 0s ago"),
        "{heard}"
    );
    assert!(
        heard.contains("[2001:db8:100::/56 1700/3500] 100s ago"),
        "{heard}"
    );
}

/// A peer that lists IA options gets them besides. req: ALQ-D-3 (twinrelay)
#[test]
fn alq_d_3_ia_options_come_to_those_who_list_them() {
    let mut bench = bench(false);
    let asking = bench.connects(1);
    let options = [asker(), oro(&[100, 25])].concat();
    asking.say(&mut bench, 22, 2, &options);
    asking.hears(&mut bench);

    bind(&mut bench, P1);

    let lease = "[2001:db8:100::/56 1800/3600]";
    let line = format!("data 2 000300010200000000c3 {lease} IA_PD 1 {lease} 0s ago +0");
    asking.expect(&mut bench, &[&line]);
}

/// Relay data are those of our own RELAY-FORW, and only for those who ask.
/// req: ALQ-D-4 (twinrelay)
#[test]
fn alq_d_4_relay_data_state_how_we_relayed_the_client() {
    let mut bench = bench(false);
    let (with, without) = (bench.connects(1), bench.connects(2));
    with.subscribe(&mut bench, 2, &[]);
    without.say(&mut bench, 22, 3, &asker());
    with.hears(&mut bench);
    without.hears(&mut bench);

    bind(&mut bench, P1);

    with.expect(&mut bench, &[&format!("data 2 {TOLD} +0")]);
    let bare = "data 3 000300010200000000c3 [2001:db8:100::/56 1800/3600] 0s ago";
    without.expect(&mut bench, &[bare]);
}

/// Codes wanted stand inside LQ_QUERY or beside it. req: ALQ-D-5 (twinrelay)
#[test]
fn alq_d_5_option_request_counts_wherever_it_stands() {
    let mut bench = bench(false);
    let asking = bench.connects(1);
    let query = lq_query(4, "2001:db8:1::1", &oro(&[47]));
    asking.say(&mut bench, 22, 2, &[asker(), oro(&[100]), query].concat());
    asking.hears(&mut bench);

    bind(&mut bench, P1);

    asking.expect(&mut bench, &[&format!("data 2 {TOLD} +0")]);
}

/// A lease that runs out is nobody's news. req: ALQ-D-13 (twinrelay)
#[test]
fn alq_d_13_expiry_is_not_told_and_a_cleared_lease_is() {
    let (mut bench, asking) = live();
    bench.bind(&client(), &pd_lease(1, P1, 30));
    bench.bind(&Client::new(9, 2), &pd_lease(1, P2, 3600));
    asking.hears(&mut bench);

    bench.advance(31 * SECOND);
    asking.expect(&mut bench, &[]);
    bench.clear(Clear::Client(Client::new(9, 2).duid));

    let heard = asking.hears(&mut bench);
    assert!(
        heard.len() == 1 && heard[0].contains("[2001:db8:200::/56 0/0]"),
        "{heard:?}"
    );
}

/// While the store loads, queries wait. req: ALQ-D-27 (twinrelay)
#[test]
fn alq_d_27_queries_are_taken_at_once_and_answered_when_all_is_loaded() {
    let mut bench = loading(false);
    let (active, bulk) = (bench.connects(1), bench.connects(2));
    active.subscribe(&mut bench, 2, &[]);
    bulk.query(&mut bench, 3, &lq_query(4, "2001:db8:1::1", &[]));
    bench.advance(Duration::from_secs(400));
    active.expect(&mut bench, &[]);
    bulk.expect(&mut bench, &[]);

    bench.lq(LeasequeryInput::Loaded);

    active.expect(&mut bench, &["reply 2 +400"]);
    bulk.expect(&mut bench, &["reply 3 +400"]);
}

/// A client that does not fit is told in parts. req: ALQ-D-16 (twinrelay)
#[test]
fn alq_d_16_client_with_very_many_leases_is_split_over_messages() {
    let mut bench = loading(false);
    bench.reconfigure(|config| config.limits.max_leases_per_client = 5000);
    bench.lq(LeasequeryInput::Loaded);
    bench.advance(SECOND);
    let leases: Vec<u16> = (0..3000).collect();
    for some in leases.chunks(500) {
        let given: Vec<u8> = some
            .iter()
            .flat_map(|n| pd_lease(u32::from(*n), &prefix_of(*n + 1), 3600))
            .collect();
        bench.bind(&client(), &given);
    }
    let asking = bench.connects(1);

    asking.subscribe(&mut bench, 2, &start_time(1));

    let heard = asking.hears(&mut bench);
    let leases: usize = heard
        .iter()
        .map(|line| line.matches("1800/3600").count())
        .sum();
    assert_eq!(
        (leases, heard.len()),
        (3000, 4),
        "two parts, the reply, the end"
    );
}

/// A client behind another relay is not to be taken for a neighbour. req: ALQ-D-4 (twinrelay)
#[test]
fn alq_d_4_client_behind_another_relay_is_told_as_one() {
    let mut bench = bench(false);
    bench.reconfigure(|config| config.access[0].accept_relayed = true);
    let asking = bench.connects(1);
    asking.subscribe(&mut bench, 2, &[]);
    asking.hears(&mut bench);
    let mut relay = Client::new(0x99, 2);
    relay.port = 547;
    let lease = pd_lease(1, P1, 3600);
    let request = from_client(3, 77, &client(), &lease);
    let layer = Layer::new(12, 0, ip("2001:db8:9::1"), client().address).message(&request);

    bench.client(&relay, &layer.build());
    bench.answer(&from_server(7, 77, &client(), &lease));

    let heard = asking.hears(&mut bench);
    assert_eq!(heard.len(), 1, "{heard:?}");
    let via = "via 2001:db8:1::1 :: behind fe80::c3 ge-0";
    let parts = ["via 2001:db8:1::1 ::", "behind fe80::c3", "ge-0"];
    assert!(
        parts.iter().all(|part| heard[0].contains(part)),
        "{via}: {heard:?}"
    );
}

/// A lease in its last second goes on: zero would be its end. req: ALQ-D-1 (twinrelay)
#[test]
fn alq_d_1_lease_in_its_last_second_is_not_told_as_ended() {
    let mut bench = bench(false);
    bench.advance(500 * MS);
    bench.bind(&client(), &pd_lease(1, P1, 10));
    bench.advance(9800 * MS);
    let asking = bench.connects(1);

    asking.query(&mut bench, 2, &lq_query(4, "2001:db8:1::1", &[]));

    let heard = asking.hears(&mut bench);
    assert!(heard[0].contains("[2001:db8:100::/56 0/1]"), "{heard:?}");
}

/// Another policy for a peer ends what it has under the old one. req: ALQ-71 (RFC 7653 §9.5)
#[test]
fn alq_71_reconfiguration_to_tls_ends_what_runs_in_clear_text() {
    let (mut bench, asking) = live();

    bench.reconfigure(|config| config.leasequery.peers[0].is_secure = true);

    asking.expect(&mut bench, &["done 2 QueryTerminated +0"]);
    assert_eq!(asking.closed(&mut bench), Some(CloseReason::Local));
}

/// A second STARTTLS before the answer to the first was read: answers would pile up.
/// req: ALQ-50, BLQ-16 (RFC 7653 §9.1)
#[test]
fn alq_50_starttls_of_a_peer_that_does_not_read_closes() {
    let mut bench = bench(false);
    let asking = bench.connects(1);
    asking.feed(&mut bench, &hex("0004 17000001"));

    asking.feed(&mut bench, &hex("0004 17000002"));

    assert_eq!(asking.closed(&mut bench), Some(CloseReason::ProtocolError));
    let mut lines = Vec::new();
    while let Some(bytes) = asking.buffer(&mut bench) {
        lines.extend(texts(&bytes));
    }
    assert_eq!(lines, ["tls-reply 1 TLSConnectionRefused"]);
}

/// Only a query ends the wait for one. req: ALQ-56 (RFC 7653 §9.1)
#[test]
fn alq_56_other_messages_do_not_put_off_the_end_of_a_connection_without_query() {
    let mut bench = bench(false);
    let asking = bench.connects(1);
    bench.advance(299 * SECOND);
    asking.feed(&mut bench, &hex("0004 17000001"));
    asking.hears(&mut bench);
    // Without a client identifier it is no query.
    asking.say(&mut bench, 14, 2, &lq_query(4, "2001:db8:1::1", &[]));
    assert_eq!(asking.closed(&mut bench), None);

    bench.advance(SECOND);

    assert_eq!(asking.closed(&mut bench), Some(CloseReason::ReceiveTimeout));
    let all = bench.relay.neighbors();
    let server = all.iter().find(|it| it.role == Role::Server);
    assert_eq!(server.map(|it| it.statistics.ignored), Some(1));
}

/// A connection of peer `peer` on which TLS is up.
fn secured(bench: &mut Bench, n: u32, peer: usize) -> Asking {
    let asking = bench.connects_from(n, address(peer));
    asking.feed(bench, &hex("0004 17000001"));
    asking.buffer(bench);
    asking.writable(bench);
    let connection = asking.0;
    bench.lq(LeasequeryInput::TlsUp { connection });
    asking
}

/// Whoever can connect from the address of a peer has not shown its certificate by that.
/// req: BLQ-7, ALQ-52 (RFC 5460 §7.1)
#[test]
fn blq_7_connections_without_certificate_do_not_end_a_session() {
    let mut bench = bench(true);
    let live = secured(&mut bench, 1, 1);
    live.subscribe(&mut bench, 2, &[]);
    live.expect(&mut bench, &["reply 2 +0"]);
    let idle = secured(&mut bench, 2, 1);

    for n in 3..100 {
        bench.connects(n);
    }

    assert_eq!(live.closed(&mut bench), None);
    assert_eq!(idle.closed(&mut bench), None);
    let closed = (3..100).filter(|n| {
        let asking = Asking(ConnectionId(2 * n));
        asking.closed(&mut bench) == Some(CloseReason::Local)
    });
    assert_eq!(closed.count(), 97 - 8);
}

/// A peer that returns takes the places of its own connections that broke without a word.
/// req: BLQ-7 (RFC 5460 §7.1)
#[test]
fn blq_7_returning_peer_replaces_what_it_left() {
    // Five peers have two places each.
    let mut bench = Bench::new(member(0, 6, true));
    bench.lq(LeasequeryInput::Loaded);
    let left = secured(&mut bench, 1, 1);
    left.subscribe(&mut bench, 2, &[]);
    let active = secured(&mut bench, 2, 1);
    active.subscribe(&mut bench, 2, &[]);
    assert_eq!(left.closed(&mut bench), None);

    let bulk = secured(&mut bench, 3, 1);

    assert_eq!(left.closed(&mut bench), Some(CloseReason::Local));
    assert_eq!(active.closed(&mut bench), None);
    assert_eq!(bulk.closed(&mut bench), None);
}

/// While switched off no removal is remembered: what was before is not known.
/// req: ALQ-66 (RFC 7653 §9.2)
#[test]
fn alq_66_history_begins_anew_when_switched_on_again() {
    let mut bench = bench(false);
    bind(&mut bench, P1);
    bench.advance(10 * SECOND);
    bench.reconfigure(|config| config.leasequery.enabled = false);
    bench.ask(&client(), 8, &pd_lease(1, P1, 0));
    bench.advance(10 * SECOND);
    bench.reconfigure(|config| config.leasequery.enabled = true);

    let asking = bench.connects(1);
    asking.subscribe(&mut bench, 2, &start_time(5));

    asking.expect(&mut bench, &["reply 2 DataMissing +20"]);
}

/// What a server told is news for the other relays, whoever asked it. req: ALQ-60 (RFC 7653 §8.3)
#[test]
fn alq_60_lease_recovered_from_a_server_is_told() {
    let mut config = member(0, 2, false);
    config.leasequery.bulk_servers = vec![ServerId(0)];
    let mut bench = Bench::new(config);
    bench.input(Input::WallClock {
        ahead_nanos: AHEAD_NANOS,
    });
    bench.lq(LeasequeryInput::Loaded);
    let server = loop {
        let asked = bench.connecting().expect("the server is asked");
        if asked.to == Remote::Server(ServerId(0)) {
            break asked;
        }
    };
    let connection = server.connection;
    bench.lq(LeasequeryInput::Connected { connection });
    let mut server = server;
    server.sent(&mut bench);
    let asking = bench.connects(1);
    asking.subscribe(&mut bench, 2, &[]);
    asking.expect(&mut bench, &["reply 2 +0"]);

    let lease = iaprefix(P1, 1800, 3600);
    let said = Said::new(&client().duid, ip("fe80::c3"), 5, &lease);
    server.reply(&mut bench, &said.option());

    let heard = asking.hears(&mut bench);
    assert!(heard.len() == 1 && heard[0].contains(P1), "{heard:#?}");
}

/// A session is with a certificate of one name: another name is another peer.
/// req: ALQ-52, ALQ-71 (RFC 7653 §9.1)
#[test]
fn alq_52_session_ends_when_its_peer_has_to_bear_another_name() {
    let mut bench = bench(true);
    let asking = secured(&mut bench, 1, 1);
    asking.subscribe(&mut bench, 2, &[]);
    asking.expect(&mut bench, &["reply 2 +0"]);

    bench.reconfigure(|config| config.leasequery.peers[0].tls_name = 1);

    asking.expect(&mut bench, &["done 2 QueryTerminated +0"]);
    assert_eq!(asking.closed(&mut bench), Some(CloseReason::Local));
}
