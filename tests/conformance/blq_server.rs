//! One relay that a peer asks by Bulk Leasequery, message by message (RFC 5460 §7, RFC 5007 §4.4).

use relay_core::alq::{CloseReason, ConnectionId, LeasequeryEffect, LeasequeryInput, Role};
use relay_core::config::RemoteId;
use relay_core::input::Input;
use relay_core::types::AccessId;
use relay_tests::asking::{
    ASKER_DUID, Asking, asker, end_time, framed, lq_query, oro, start_time, texts,
};
use relay_tests::bench::{Bench, Client, MS, SECOND};
use relay_tests::exchanges::{na_lease, pd_lease};
use relay_tests::mesh::{AHEAD_NANOS, address, member};
use relay_tests::messages::{CLIENT_DUID, SERVER_DUID, hex, iaaddr, ip, option};

const P1: &str = "2001:db8:100::/56";
const P2: &str = "2001:db8:200::/56";
const P3: &str = "2001:db8:300::/56";
const IDENTITY: &[u8] = &[0, 3, 0, 1, 2, 0, 0, 0, 0, 0xa0];

fn loading() -> Bench {
    let mut bench = Bench::new(member(0, 2, false));
    bench.input(Input::WallClock {
        ahead_nanos: AHEAD_NANOS,
    });
    bench
}

/// A relay with one peer and three clients: two on ge-0, one on ge-1, a second apart.
fn bench() -> Bench {
    let mut bench = loading();
    bench.lq(LeasequeryInput::Loaded);
    bench.bind(&Client::new(0xc3, 2), &pd_lease(1, P1, 3600));
    bench.advance(SECOND);
    bench.bind(&Client::new(0xc4, 2), &pd_lease(1, P2, 3600));
    bench.advance(SECOND);
    bench.bind(&Client::new(0xc5, 3), &pd_lease(1, P3, 3600));
    bench
}

/// What one query is answered.
fn answer(bench: &mut Bench, query: &[u8]) -> Vec<String> {
    let asking = bench.connects(77);
    asking.query(bench, 9, query);
    let heard = asking.hears(bench);
    bench.lq(LeasequeryInput::Closed {
        connection: asking.0,
        reason: CloseReason::Remote,
    });
    heard
}

/// The prefixes that one query finds, in the order of its answers.
fn found(bench: &mut Bench, query: &[u8]) -> Vec<&'static str> {
    let heard = answer(bench, query).concat();
    let mut found: Vec<_> = [P1, P2, P3]
        .into_iter()
        .filter_map(|prefix| Some((heard.find(prefix)?, prefix)))
        .collect();
    found.sort_unstable();
    found.into_iter().map(|(_, prefix)| prefix).collect()
}

fn everything() -> Vec<u8> {
    lq_query(3, "::", &option(53, IDENTITY))
}

/// Octet by octet, and ten in one piece. req: BLQ-2, ALQ-3 (RFC 5460 §5.1)
#[test]
fn blq_2_messages_come_in_any_pieces() {
    let mut bench = bench();
    let query = [asker(), everything()].concat();
    let (slow, fast) = (bench.connects(1), bench.connects(2));

    for byte in framed(14, 1, &query) {
        slow.feed(&mut bench, &[byte]);
    }
    let many: Vec<u8> = (1..=10).flat_map(|xid| framed(14, xid, &query)).collect();
    fast.feed(&mut bench, &many);

    assert_eq!(slow.hears(&mut bench).len(), 4);
    let heard = fast.hears(&mut bench);
    let done: Vec<_> = heard
        .iter()
        .filter(|line| line.starts_with("done"))
        .collect();
    assert_eq!((heard.len(), done.len()), (40, 10));
}

/// Other messages than those of leasequery. req: BLQ-4 (RFC 5460 §4)
#[test]
fn blq_4_other_message_types_close() {
    for message_type in [1, 7, 12, 15, 16, 17, 99] {
        let mut bench = bench();
        let asking = bench.connects(1);

        asking.say(&mut bench, message_type, 1, &asker());

        assert_eq!(asking.closed(&mut bench), Some(CloseReason::ProtocolError));
        assert_eq!(asking.buffer(&mut bench), None);
    }
}

/// No message is so short, no option so long. req: BLQ-5 (RFC 5460 §5.1)
#[test]
fn blq_5_unsound_frames_close() {
    for frame in ["0000", "0003 0e0000", "000a 0e000001 0001ffff 0000"] {
        let mut bench = bench();
        let asking = bench.connects(1);

        asking.feed(&mut bench, &hex(frame));

        assert_eq!(asking.closed(&mut bench), Some(CloseReason::ProtocolError));
    }
}

/// A client on two links: all of it, in messages of their own. req: BLQ-6 (RFC 5460 §4)
#[test]
fn blq_6_client_on_two_links_is_told_and_not_referred() {
    let mut bench = bench();
    let mut elsewhere = Client::new(0xc3, 3);
    elsewhere.duid = CLIENT_DUID.to_vec();
    bench.bind(&elsewhere, &pd_lease(1, "2001:db8:400::/56", 3600));

    let heard = answer(&mut bench, &lq_query(2, "::", &option(1, CLIENT_DUID)));

    assert_eq!(heard.len(), 3, "{heard:?}");
    assert!(heard.concat().contains(P1) && heard.concat().contains("2001:db8:400::/56"));
    assert!(!heard.concat().contains("option"), "{heard:?}");
}

/// Never more connections than `max_connections`. req: BLQ-7 (RFC 5460 §7.1)
#[test]
fn blq_7_connection_beyond_the_limit_is_closed_unread() {
    let mut bench = Bench::new(member(0, 3, false));
    bench.reconfigure(|config| config.leasequery.max_connections = 3);
    let taken = [(1, 1), (2, 1), (3, 2)].map(|(n, peer)| bench.connects_from(n, address(peer)));

    let beyond = bench.connects_from(4, address(2));

    assert_eq!(beyond.closed(&mut bench), Some(CloseReason::NotAllowed));
    assert!(taken.iter().all(|it| it.closed(&mut bench).is_none()));
    bench.lq(LeasequeryInput::Closed {
        connection: taken[0].0,
        reason: CloseReason::Remote,
    });
    let next = bench.connects_from(5, address(2));
    assert_eq!(next.closed(&mut bench), None);
}

/// One peer cannot take the places of the others: of its own, the oldest makes room.
/// req: BLQ-7 (RFC 5460 §7.1)
#[test]
fn blq_7_one_peer_leaves_places_to_the_others() {
    let mut bench = Bench::new(member(0, 3, false));
    for n in 1..=10 {
        bench.connects_from(n, address(1));
    }

    let other = bench.connects_from(11, address(2));

    assert_eq!(other.closed(&mut bench), None);
    let places = (1..=10).map(|n| Asking(ConnectionId(2 * n)));
    let closed: Vec<_> = places.map(|it| it.closed(&mut bench).is_some()).collect();
    assert_eq!(closed, [[true; 5], [false; 5]].concat());
}

/// Somebody else. req: BLQ-8, LQ-14 (RFC 5460 §7.1)
#[test]
fn blq_8_connection_of_a_stranger_is_closed_unread() {
    let mut bench = bench();

    let stranger = bench.connects_from(1, ip("2001:db8:bad::1"));

    assert_eq!(stranger.closed(&mut bench), Some(CloseReason::NotAllowed));
    stranger.query(&mut bench, 1, &everything());
    assert_eq!(stranger.buffer(&mut bench), None);
}

/// Half a query, and a reader that has stopped. req: BLQ-9 (RFC 5460 §7.1, §7.2)
#[test]
fn blq_9_blocked_connections_are_closed_after_bulk_lq_data_timeout() {
    let mut bench = bench();
    let (half, stopped) = (bench.connects(1), bench.connects(2));
    half.feed(&mut bench, &[0]);
    stopped.query(&mut bench, 1, &everything());

    bench.advance(100 * SECOND);
    half.feed(&mut bench, &[99]);
    bench.advance(200 * SECOND - MS);
    assert_eq!(
        (half.closed(&mut bench), stopped.closed(&mut bench)),
        (None, None)
    );
    bench.advance(MS);

    assert_eq!(half.closed(&mut bench), Some(CloseReason::ReceiveTimeout));
    assert_eq!(stopped.closed(&mut bench), Some(CloseReason::SendTimeout));
}

/// By our relay-id: all that there is, or all of a link. req: BLQ-10 (RFC 5460 §5.3.1)
#[test]
fn blq_10_query_by_relay_id_finds_all_or_those_of_a_link() {
    let mut bench = bench();
    let by = |link: &str, duid: &[u8]| lq_query(3, link, &option(53, duid));

    assert_eq!(found(&mut bench, &by("::", IDENTITY)), [P1, P2, P3]);
    assert_eq!(found(&mut bench, &by("2001:db8:2::1", IDENTITY)), [P3]);
    assert_eq!(answer(&mut bench, &by("::", SERVER_DUID)), ["reply 9 +2"]);
}

/// By any address of the link. req: BLQ-11 (RFC 5460 §5.3.2)
#[test]
fn blq_11_query_by_link_address_finds_those_of_the_link() {
    let mut bench = bench();

    assert_eq!(
        found(&mut bench, &lq_query(4, "2001:db8:1::1", &[])),
        [P1, P2]
    );
    // The twin's link-address lies in the same network.
    assert_eq!(found(&mut bench, &lq_query(4, "2001:db8:2::77", &[])), [P3]);
}

/// By the whole Remote-Id that we send. req: BLQ-12 (RFC 5460 §5.3.3)
#[test]
fn blq_12_query_by_remote_id_finds_its_client() {
    let mut bench = bench();
    bench.reconfigure(|config| {
        config.access[0].remote_id = Some(RemoteId {
            enterprise: 9,
            template: "{mac}".into(),
        });
    });
    let by = |enterprise: u32| {
        let data = [&enterprise.to_be_bytes()[..], b"02:00:00:00:00:c4"].concat();
        lq_query(5, "::", &option(37, &data))
    };

    assert_eq!(found(&mut bench, &by(9)), [P2]);
    assert_eq!(found(&mut bench, &by(8)), [""; 0]);
}

/// Types 1 and 2 over TCP. req: BLQ-13, LQ-4, LQ-5 (RFC 5460 §4)
#[test]
fn blq_13_query_by_address_and_by_client_id_are_answered_over_tcp() {
    let mut bench = bench();
    let by = |address: &str| lq_query(1, "::", &iaaddr(address, 0, 0));

    assert_eq!(found(&mut bench, &by("2001:db8:100:42::7")), [P1]);
    assert_eq!(found(&mut bench, &by("2001:db8:101::")), [""; 0]);
    let client = Client::new(0xc4, 2);
    assert_eq!(
        found(&mut bench, &lq_query(2, "::", &option(1, &client.duid))),
        [P2]
    );
    let other_link = lq_query(2, "2001:db8:2::1", &option(1, &client.duid));
    assert_eq!(found(&mut bench, &other_link), [""; 0]);
}

/// Several queries at once: each is answered with its transaction-id. req: BLQ-15 (RFC 5460 §6.5)
#[test]
fn blq_15_queries_of_one_connection_are_answered_one_after_the_other() {
    let mut bench = bench();
    let asking = bench.connects(1);
    let query = [asker(), lq_query(4, "2001:db8:1::1", &[])].concat();

    asking.feed(
        &mut bench,
        &[framed(14, 1, &query), framed(14, 2, &query)].concat(),
    );

    let heard = asking.hears(&mut bench);
    let starts: Vec<_> = heard
        .iter()
        .map(|line| line.splitn(3, ' ').take(2).collect())
        .collect();
    let starts: Vec<Vec<&str>> = starts;
    let (reply, data, done) = ("reply", "data", "done");
    let expected = [
        [reply, "1"],
        [data, "1"],
        [done, "1"],
        [reply, "2"],
        [data, "2"],
        [done, "2"],
    ];
    assert_eq!(starts, expected);
}

/// More queries than are worked on stay where they are. req: BLQ-16, ALQ-74
#[test]
fn blq_16_queries_beyond_the_limit_are_not_read_until_there_is_room() {
    let mut bench = bench();
    let asking = bench.connects(1);
    let query = [asker(), everything()].concat();
    let many: Vec<u8> = (1..=30).flat_map(|xid| framed(14, xid, &query)).collect();

    asking.feed(&mut bench, &many);

    let server = bench.relay.neighbors();
    let server = server
        .iter()
        .find(|it| it.role == Role::Server)
        .expect("shown");
    let read: u64 = server
        .statistics
        .messages_received
        .iter()
        .map(|(_, n)| n)
        .sum();
    assert!(read < 12, "{read} read");
    let is_paused = bench.leasequery.iter().any(|(effect, _)| {
        matches!(
            effect,
            LeasequeryEffect::Read {
                is_wanted: false,
                ..
            }
        )
    });
    assert!(is_paused);
    let heard = asking.hears(&mut bench);
    assert_eq!(
        heard.iter().filter(|line| line.starts_with("done")).count(),
        30
    );
    let last = bench
        .leasequery
        .iter()
        .rev()
        .find_map(|(effect, _)| match effect {
            LeasequeryEffect::Read { is_wanted, .. } => Some(*is_wanted),
            _ => None,
        });
    assert_eq!(last, Some(true));
}

/// One REPLY with both identifiers and the first client, then DATA without them, then DONE with
/// nothing. req: BLQ-19, BLQ-20, BLQ-21, BLQ-22, BLQ-23 (RFC 5460 §5.2)
#[test]
fn blq_19_answer_is_one_reply_with_the_first_client_then_data_then_done() {
    let mut bench = bench();
    let asking = bench.connects(1);
    let query = [asker(), lq_query(4, "2001:db8:1::1", &[])].concat();

    asking.say(&mut bench, 14, 9, &query);

    let sent = asking.buffer(&mut bench).expect("an answer");
    let client = |duid: &str, prefix: &str, ago: &str| {
        format!("{duid} [{prefix} 1800/3600] {ago}s ago").replace(
            "1800/3600",
            if ago == "2" { "1798/3598" } else { "1799/3599" },
        )
    };
    assert_eq!(
        texts(&sent),
        [
            format!("reply 9 {}", client("000300010200000000c3", P1, "2")),
            format!("data 9 {}", client("000300010200000000c4", P2, "1")),
            "done 9".to_owned(),
        ]
    );
    let identifiers = [option(2, IDENTITY), option(1, ASKER_DUID)].concat();
    assert_eq!(sent[6..6 + identifiers.len()], identifiers);
    let again = sent[6 + identifiers.len()..]
        .windows(10)
        .filter(|it| *it == ASKER_DUID);
    assert_eq!(again.count(), 0, "only the REPLY names the requestor");
}

/// Nothing found: a REPLY alone. req: BLQ-24, BLQ-22 (RFC 5460 §7.2)
#[test]
fn blq_24_nothing_found_is_a_reply_without_status_and_no_done() {
    let mut bench = bench();
    let asking = bench.connects(1);

    asking.query(&mut bench, 9, &lq_query(2, "::", &option(1, SERVER_DUID)));

    asking.expect(&mut bench, &["reply 9 +2"]);
    assert_eq!(asking.closed(&mut bench), None, "more queries may come");
}

/// An error before the first answer. req: BLQ-25 (RFC 5460 §7.2)
#[test]
fn blq_25_error_is_a_reply_with_status_and_the_end() {
    let mut bench = bench();
    let asking = bench.connects(1);

    asking.query(&mut bench, 9, &lq_query(3, "::", &[]));

    asking.expect(&mut bench, &["reply 9 MalformedQuery +2"]);
    assert_eq!(asking.closed(&mut bench), Some(CloseReason::Done));
}

/// A link that is none of ours. req: BLQ-26, LQ-15 (RFC 5460 §7.2)
#[test]
fn blq_26_link_address_of_no_link_is_not_configured() {
    for (query_type, options) in [
        (1, iaaddr("2001:db8:100::1", 0, 0)),
        (2, option(1, CLIENT_DUID)),
        (3, option(53, IDENTITY)),
        (4, Vec::new()),
        (5, option(37, &[0, 0, 0, 9, 1])),
    ] {
        let query = lq_query(query_type, "2001:db8:77::1", &options);

        assert_eq!(answer(&mut bench(), &query), ["reply 9 NotConfigured +2"]);
    }
}

/// FIN behind the query: the whole answer, then the end. req: BLQ-31 (RFC 5460 §6.6, §7.4)
#[test]
fn blq_31_half_closed_connection_is_answered_in_full_and_closed() {
    let mut bench = bench();
    let asking = bench.connects(1);
    let query = [asker(), everything()].concat();
    asking.feed(
        &mut bench,
        &[framed(14, 1, &query), framed(14, 2, &query)].concat(),
    );

    bench.lq(LeasequeryInput::HalfClosed {
        connection: asking.0,
    });

    let heard = asking.hears(&mut bench);
    assert_eq!(heard.len(), 8, "{heard:?}");
    assert_eq!(asking.closed(&mut bench), Some(CloseReason::Done));
}

/// An aborted query is announced. req: BLQ-32 (RFC 5460 §7.4)
#[test]
fn blq_32_shutdown_within_an_answer_is_query_terminated() {
    let mut bench = loading();
    bench.lq(LeasequeryInput::Loaded);
    for n in 1..400 {
        bench.bind(
            &Client::new(n, 2),
            &pd_lease(1, &format!("2001:db8:{n:x}:100::/56"), 3600),
        );
    }
    let asking = bench.connects(1);
    asking.query(&mut bench, 9, &everything());
    assert!(asking.buffer(&mut bench).is_some(), "the first of several");

    bench.lq(LeasequeryInput::Shutdown);

    let last = asking.buffer(&mut bench).expect("a farewell");
    assert_eq!(texts(&last), ["done 9 QueryTerminated +0"]);
    assert_eq!(asking.closed(&mut bench), Some(CloseReason::Local));
}

/// On or after, on or before, by the second. req: BLQ-34 (RFC 7653 §6.3.2, §6.3.3)
#[test]
fn blq_34_start_and_end_time_choose_by_the_second_of_the_last_change() {
    let mut bench = bench();
    let between = |from, to| [everything(), start_time(from), end_time(to)].concat();

    assert_eq!(found(&mut bench, &between(0, 2)), [P1, P2, P3]);
    assert_eq!(found(&mut bench, &between(1, 1)), [P2]);
    assert_eq!(found(&mut bench, &between(0, 1)), [P1, P2]);
    assert_eq!(
        found(&mut bench, &[everything(), start_time(2)].concat()),
        [P3]
    );
    assert_eq!(
        found(&mut bench, &[everything(), end_time(0)].concat()),
        [P1]
    );
    assert_eq!(found(&mut bench, &between(3, 9)), [""; 0]);
}

/// In every answer, if asked for. req: BLQ-35 (RFC 7653 §9.3)
#[test]
fn blq_35_base_time_is_in_every_answer() {
    let heard = answer(&mut bench(), &everything());

    assert_eq!(heard.len(), 4);
    assert!(heard.iter().all(|line| line.ends_with("+2")), "{heard:?}");
}

/// A query that is none gets no answer. req: LQ-11 (RFC 5007 §4.2.1)
#[test]
fn lq_11_incomplete_and_foreign_queries_are_discarded() {
    let mut bench = bench();
    let asking = bench.connects(1);

    asking.say(&mut bench, 14, 1, &everything());
    asking.say(&mut bench, 14, 2, &asker());
    asking.query(
        &mut bench,
        3,
        &[everything(), option(2, SERVER_DUID)].concat(),
    );

    asking.expect(&mut bench, &[]);
    assert_eq!(asking.closed(&mut bench), None);
    asking.query(&mut bench, 4, &[everything(), option(2, IDENTITY)].concat());
    assert_eq!(asking.hears(&mut bench).len(), 4);
}

/// Whatever is asked, nothing changes. req: LQ-12 (RFC 5007 §4.4.1)
#[test]
fn lq_12_queries_leave_bindings_as_they_are() {
    let mut bench = bench();
    let before = bench.subscribers();
    bench.take();

    answer(&mut bench, &everything());
    answer(
        &mut bench,
        &lq_query(1, "::", &iaaddr("2001:db8:100::1", 0, 0)),
    );

    assert_eq!(bench.subscribers(), before);
    assert!(bench.lines("event ").is_empty());
}

/// A type that nobody knows. req: LQ-13 (RFC 5007 §4.1.2.1, §4.4.1)
#[test]
fn lq_13_unknown_type_and_missing_option_get_their_status() {
    let mut bench = bench();

    let unknown = answer(&mut bench, &lq_query(99, "::", &[]));
    let without = answer(&mut bench, &lq_query(1, "::", &[]));

    assert_eq!(unknown, ["reply 9 UnknownQueryType +2"]);
    assert_eq!(without, ["reply 9 MalformedQuery +2"]);
}

/// Address and prefixes of one client in one message. req: LQ-18, LQ-17
#[test]
fn lq_18_client_data_holds_all_leases_of_the_client_on_the_link() {
    let mut bench = loading();
    bench.lq(LeasequeryInput::Loaded);
    let all = [
        na_lease(1, "2001:db8:1::c3", 3600),
        pd_lease(2, P1, 3600),
        pd_lease(3, P2, 3600),
    ];
    bench.bind(&Client::new(0xc3, 2), &all.concat());

    let heard = answer(
        &mut bench,
        &lq_query(1, "::", &iaaddr("2001:db8:100::9", 0, 0)),
    );

    let leases =
        "[2001:db8:1::c3 1800/3600] [2001:db8:100::/56 1800/3600] [2001:db8:200::/56 1800/3600]";
    assert_eq!(
        heard[0],
        format!("reply 9 000300010200000000c3 {leases} 0s ago +0")
    );
}

/// Relay data for those who ask for it, inside LQ_QUERY. req: LQ-20, LQ-21, LQ-6, LQ-19
#[test]
fn lq_20_relay_data_come_on_request_only() {
    let mut bench = bench();
    let asking = bench.connects(1);
    let inside = [option(1, CLIENT_DUID), oro(&[47])].concat();

    let without = answer(&mut bench, &lq_query(2, "::", &option(1, CLIENT_DUID)));
    asking.query(&mut bench, 1, &lq_query(2, "::", &inside));

    assert!(!without[0].contains("via"), "{without:?}");
    let via = "via 2001:db8:1::1 fe80::c3 ge-0 mac 0200000000c3 of 2001:db8:ff::1";
    assert!(asking.hears(&mut bench)[0].contains(via));
}

/// Ten seconds later, ten seconds less. req: LQ-22 (RFC 8415 §21.6, §21.22)
#[test]
fn lq_22_lifetimes_are_seconds_remaining() {
    let mut bench = bench();
    let by_client = lq_query(2, "::", &option(1, CLIENT_DUID));

    let before = answer(&mut bench, &by_client);
    bench.advance(10 * SECOND);
    let after = answer(&mut bench, &by_client);

    assert!(before[0].contains("1798/3598] 2s ago"), "{before:?}");
    assert!(after[0].contains("1788/3588] 12s ago"), "{after:?}");
}

/// A relay that lost everything gets back what it once told us. req: ALQ-D-7 (twinrelay)
#[test]
fn alq_d_7_removals_are_part_of_everything() {
    let mut bench = bench();
    bench.ask(&Client::new(0xc4, 2), 8, &pd_lease(1, P2, 0));

    let heard = answer(&mut bench, &everything()).concat();

    assert!(heard.contains("[2001:db8:200::/56 0/0]"), "{heard}");
}

/// What the configuration says of a peer's links is what that peer means. req: BLQ-11
#[test]
fn blq_11_link_address_of_the_peer_means_the_link_configured_for_it() {
    let mut bench = bench();
    bench.reconfigure(|config| {
        config.leasequery.peers[0].links = vec![(ip("2001:db8:99::1"), AccessId(1))];
    });

    assert_eq!(found(&mut bench, &lq_query(4, "2001:db8:99::1", &[])), [P3]);
}
