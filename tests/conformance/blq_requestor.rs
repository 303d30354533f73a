//! One relay that asks DHCP servers by Bulk Leasequery (RFC 5460 §6), answered as ISC Kea 3 does.

use relay_core::alq::{CloseReason, LeasequeryInput, Remote, SessionState};
use relay_core::input::{Input, RouteRefusal};
use relay_core::types::ServerId;
use relay_core::view::{Origin, RouteState};
use relay_tests::asked::{Asked, PEER_DUID, Said, TcpMessage, base_time};
use relay_tests::bench::{Bench, Client, SECOND};
use relay_tests::exchanges::pd_lease;
use relay_tests::mesh::{AHEAD_NANOS, member};
use relay_tests::messages::{CLIENT_DUID, iaaddr, iaprefix, ip, option, status};

const P1: &str = "2001:db8:100::/56";

/// A relay without peers that asks its server, and the first query.
fn asking() -> (Bench, Asked, TcpMessage) {
    let mut config = member(0, 1, false);
    config.leasequery.bulk_servers = vec![ServerId(0)];
    let mut bench = Bench::new(config);
    bench.input(Input::WallClock {
        ahead_nanos: AHEAD_NANOS,
    });
    bench.input(Input::Leasequery(LeasequeryInput::Loaded));
    let (asked, query) = bench.accepted();
    (bench, asked, query)
}

fn said(clt: u32, leases: &[u8]) -> Said {
    Said::new(CLIENT_DUID, ip("fe80::c3"), clt, leases)
}

/// The content of LQ_QUERY: query-type, link-address and query-options.
fn wanted(query: &TcpMessage) -> (u8, std::net::Ipv6Addr, Vec<u8>) {
    let data = query.find(44).expect("LQ_QUERY");
    let link = <[u8; 16]>::try_from(&data[1..17]).expect("16 octets");
    (data[0], link.into(), data[17..].to_vec())
}

/// By our own Relay-Id, everywhere, then by each of our links, one after the other on one connection,
/// each with a transaction-id of its own.
/// req: BLQ-10, BLQ-11, BLQ-15, BLQ-17, BLQ-18, BLQ-22, BLQ-29, LQ-38 (RFC 5460 §6)
#[test]
fn blq_10_server_is_asked_by_relay_id_and_by_each_link() {
    let (mut bench, mut asked, query) = asking();
    assert_eq!((query.message_type, query.codes()), (14, vec![1, 44, 6]));
    let relay_id = option(53, &bench.config.relay_id);
    let (query_type, link, options) = wanted(&query);
    assert_eq!((query_type, link), (3, ip("::")));
    assert!(options.starts_with(&relay_id));

    let mut seen = vec![query.xid];
    for link in ["2001:db8:1::1", "2001:db8:2::1"] {
        // Empty: no DONE follows.
        asked.reply(&mut bench, &[]);
        let query = asked.sent(&mut bench).expect("the next one");
        assert_eq!((wanted(&query).0, wanted(&query).1), (4, ip(link)));
        assert!(!seen.contains(&query.xid));
        seen.push(query.xid);
    }
    asked.reply(&mut bench, &[]);

    assert_eq!(bench.closed(&asked), Some(CloseReason::Done));
    assert!(bench.relay.readiness().is_ready);
    assert_eq!(bench.relay.readiness().reason, "in sync with {s0}");
}

/// One lease in each message, LQ_RELAY_DATA beside CLIENT_DATA or in it, DONE after the last: all
/// leases are learned, with their routes, and the client's own messages go on from there.
/// req: BLQ-27, LQ-32, LQ-33, LQ-35, BLQ-30 (ISC Kea)
#[test]
fn blq_27_answer_as_kea_gives_it_is_learned() {
    let (mut bench, mut asked, _) = asking();
    let address = said(10, &iaaddr("2001:db8:1::c3", 1000, 2000));
    asked.reply(&mut bench, &[status(0), address.option()].concat());
    asked.data(&mut bench, &[]);
    let mut prefix = said(10, &iaprefix(P1, 4000, 2000));
    let relay_data = prefix.relay_data.take().expect("there");
    let beside = option(47, &relay_data);
    asked.data(&mut bench, &[prefix.option(), beside].concat());
    asked.done(&mut bench, &[]);

    assert_eq!(asked.sent(&mut bench).map(|it| it.message_type), Some(14));
    bench.expect_leases("IA_NA 0 2001:db8:1::c3/128\nIA_PD 0 2001:db8:100::/56");
    let lease = bench.lease(P1).expect("learned");
    assert_eq!(lease.origin, Origin::BulkLeasequery(ServerId(0)));
    assert_eq!(lease.snooped_by, ip("2001:db8:53::1"));
    assert_eq!(
        (lease.server_address, &*lease.server_duid),
        (ip("2001:db8:53::1"), PEER_DUID)
    );
    assert_eq!(lease.route, RouteState::Installed);
    assert_eq!(lease.preferred_until, lease.valid_until);

    let client = Client::new(0xc3, 2);
    bench.advance(SECOND);
    bench.converse(&client, 5, &pd_lease(9, P1, 0), &pd_lease(9, P1, 500));
    bench.expect_leases("IA_NA 0 2001:db8:1::c3/128\nIA_PD 9 2001:db8:100::/56");
    assert_eq!(bench.lease(P1).expect("renewed").origin, Origin::Snooped);
    bench.ask(&client, 8, &pd_lease(9, P1, 0));
    bench.expect_leases("IA_NA 0 2001:db8:1::c3/128");
}

/// A lease whose IAID nobody told is given up by whatever IAID its client names.
/// req: LQ-32 (ISC Kea)
#[test]
fn lq_32_lease_without_iaid_is_released_by_its_client() {
    let (mut bench, asked, _) = asking();
    asked.reply(&mut bench, &said(10, &iaprefix(P1, 1000, 2000)).option());
    bench.advance(SECOND);

    bench.ask(&Client::new(0xc3, 2), 8, &pd_lease(9, P1, 0));

    bench.expect_leases("");
}

/// A link that the server does not know is no failure; why it refuses is shown.
/// req: LQ-37, LQ-27 (ISC Kea)
#[test]
fn lq_37_refused_query_is_shown_and_the_next_one_asked() {
    let (mut bench, mut asked, _) = asking();

    asked.reply(&mut bench, &option(13, b"\0\x0aextended-info is off"));
    assert!(asked.sent(&mut bench).is_some());
    asked.reply(&mut bench, &status(9));
    assert!(asked.sent(&mut bench).is_some());
    let shown = bench.relay.neighbors();
    assert_eq!(shown[0].remote, Remote::Server(ServerId(0)));
    assert_eq!(
        shown[0].last_error.as_deref(),
        Some("NotConfigured: status")
    );
    assert_eq!(shown[0].statistics.statuses_received, [(9, 1), (10, 1)]);
    asked.reply(&mut bench, &[]);

    assert!(bench.relay.readiness().is_ready);
}

/// A server that closes after an error is asked the rest on another connection.
/// req: BLQ-29, BLQ-33 (RFC 5460 §6.3.1)
#[test]
fn blq_29_connection_that_ends_early_is_opened_again_for_what_is_left() {
    let (mut bench, mut asked, _) = asking();
    asked.reply(&mut bench, &status(9));
    let next = asked.sent(&mut bench).expect("the next one");
    asked.breaks(&mut bench);
    assert_eq!(bench.relay.neighbors()[0].state, SessionState::Backoff);

    bench.advance(SECOND);

    let (_, query) = bench.accepted();
    assert_eq!(wanted(&query), wanted(&next));
}

/// A lease on a link of another relay is kept without a route.
/// req: LQ-35, ALQ-D-4 (twinrelay)
#[test]
fn lq_35_lease_of_an_unknown_link_gets_no_route() {
    let (mut bench, asked, _) = asking();
    let mut elsewhere = said(10, &iaprefix(P1, 1000, 2000));
    if let Some(data) = &mut elsewhere.relay_data {
        data[18..34].copy_from_slice(&ip("2001:db8:77::2").octets());
    }

    asked.reply(&mut bench, &elsewhere.option());

    let lease = bench.lease(P1).expect("kept");
    assert_eq!(lease.route, RouteState::Failed(RouteRefusal::NotMapped));
}

/// What a client did since is newer than what the server tells.
/// req: LQ-29, LQ-28 (RFC 5007 §4.3.4)
#[test]
fn lq_29_what_was_snooped_since_is_not_overwritten() {
    let (mut bench, asked, _) = asking();
    bench.bind(&Client::new(0xc3, 2), &pd_lease(1, P1, 5000));

    let stale = said(30, &iaprefix(P1, 100, 100)).option();
    asked.reply(&mut bench, &[stale, base_time(0)].concat());

    let lease = bench.lease(P1).expect("held");
    assert_eq!(lease.valid_until.saturating_since(bench.now), 5000 * SECOND);
    assert_eq!(lease.origin, Origin::Snooped);
}

/// An operator asks again.
#[test]
fn operator_may_ask_a_server_again() {
    let (mut bench, asked, _) = asking();

    bench.input(Input::Leasequery(LeasequeryInput::QueryServer(Some(
        ServerId(0),
    ))));

    assert_eq!(bench.closed(&asked), Some(CloseReason::Local));
    assert_eq!(wanted(&bench.accepted().1).0, 3);
}

/// A server that refuses everything has told nothing. req: LQ-37 (ISC Kea)
#[test]
fn lq_37_server_that_refuses_everything_is_not_in_sync() {
    let (mut bench, mut asked, _) = asking();
    for _ in 0..3 {
        asked.reply(&mut bench, &status(10));
        asked.sent(&mut bench);
    }

    assert_eq!(bench.closed(&asked), Some(CloseReason::Done));
    let shown = bench.relay.neighbors().remove(0);
    assert_eq!(
        (shown.state, shown.catch_up.is_complete),
        (SessionState::Idle, false)
    );
    assert!(!bench.relay.readiness().is_ready);
    bench.advance(180 * SECOND);
    assert!(bench.relay.readiness().is_by_timeout);
}

/// A peer's Relay-Id is asked for as soon as it is known. req: BLQ-18 (RFC 5460 §6.2.2)
#[test]
fn blq_18_relay_id_of_a_peer_is_asked_for_when_it_is_known() {
    let mut config = member(0, 2, false);
    config.leasequery.bulk_servers = vec![ServerId(0)];
    let mut bench = Bench::new(config);
    bench.input(Input::Leasequery(LeasequeryInput::Loaded));
    let (peer, _) = bench.accepted();
    let (mut server, _) = bench.accepted();
    assert_eq!(server.to, Remote::Server(ServerId(0)));
    for _ in 0..3 {
        server.reply(&mut bench, &[]);
        server.sent(&mut bench);
    }
    assert_eq!(bench.closed(&server), Some(CloseReason::Done));

    peer.reply(&mut bench, &[]);

    let again = loop {
        let (again, query) = bench.accepted();
        if again.to == Remote::Server(ServerId(0)) {
            break query;
        }
    };
    let (query_type, _, options) = wanted(&again);
    assert_eq!(query_type, 3);
    assert!(options.starts_with(&option(53, PEER_DUID)));
}
