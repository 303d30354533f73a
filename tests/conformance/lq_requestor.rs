//! One relay that asks servers for a client that has confirmed an address which the relay does not know
//! (RFC 5007 §4.2.2, §4.3, RFC 7513 §6.4.2.1).

use std::time::Duration;

use relay_core::input::Input;
use relay_core::types::ServerId;
use relay_core::view::Origin;
use relay_tests::asked::Said;
use relay_tests::bench::{Bench, Client, MS, SECOND, Seen, server};
use relay_tests::exchanges::{na_lease, pd_lease};
use relay_tests::mesh::AHEAD_NANOS;
use relay_tests::messages::{
    Message, RELAY_DUID, SERVER_DUID, iaaddr, iaprefix, ip, option, status,
};

const CONFIRM: u8 = 4;
const ADDRESS: &str = "2001:db8:1::c3";
const HOST: &str = "2001:db8:1::c3/128";
const PREFIX: &str = "2001:db8:100::/56";
const NOT_ON_LINK: u16 = 4;
const FIRST: &str = "2001:db8:53::1";
const SECOND_SERVER: &str = "2001:db8:53::2";

fn client() -> Client {
    Client::new(0xc3, 2)
}

/// A relay with so many servers, the second at [`SECOND_SERVER`].
fn bench(servers: usize) -> Bench {
    let mut bench = Bench::with(|config| {
        config.leasequery.identity = RELAY_DUID.to_vec();
        config.servers.push(server(1, SECOND_SERVER));
        config.servers.truncate(servers);
        config.access[0].servers = config.servers.iter().map(|it| it.id).collect();
    });
    bench.input(Input::WallClock {
        ahead_nanos: AHEAD_NANOS,
    });
    bench
}

/// Messages of LEASEQUERY among these effects, with the servers they go to.
fn queries(seen: Vec<Seen>) -> Vec<(String, Vec<u8>)> {
    let mut queries = Vec::new();
    for it in seen {
        if it.line.starts_with("to-server ") && it.line.ends_with(" leasequery") {
            queries.push((it.line, it.message.expect("a message")));
        }
    }
    queries
}

/// The client asks whether it may go on with its address, and server 0 says this.
fn confirm(bench: &mut Bench, client: &Client, code: u16) -> Vec<(String, Vec<u8>)> {
    let xid = bench.ask(client, CONFIRM, &na_lease(1, ADDRESS, 0));
    bench.take();
    bench.reply(client, xid, &status(code));
    queries(bench.take())
}

/// Asks, and the query.
#[track_caller]
fn asking(servers: usize) -> (Bench, Vec<u8>) {
    let mut bench = bench(servers);
    let queries = confirm(&mut bench, &client(), 0);
    assert_eq!(queries.len(), servers);
    (bench, queries[0].1.clone())
}

/// A client that was heard `clt` seconds ago and holds address and prefix for `valid` more.
fn said(clt: u32, valid: u32) -> Said {
    let leases = [
        iaaddr(ADDRESS, valid / 2, valid),
        iaprefix(PREFIX, valid / 2, valid),
    ];
    Said {
        relay_data: None,
        ..Said::new(&client().duid, ip("2001:db8:ff::1"), clt, &leases.concat())
    }
}

/// LEASEQUERY-REPLY to this query.
fn reply(query: &[u8], inside: &[u8]) -> Vec<u8> {
    let xid = u32::from_be_bytes([0, query[1], query[2], query[3]]);
    Message::new(15, xid)
        .client_id(RELAY_DUID)
        .server_id(SERVER_DUID)
        .raw(inside)
        .build()
}

/// A client holds address and prefix from before this relay's time; its Confirm is answered with
/// Success: the server is asked by the address alone, and what it says becomes leases and routes by way of
/// where the Confirm came from.
/// req: LQ-1, LQ-2, LQ-9, LQ-25, DP-17 (RFC 5007 §4.3)
#[test]
fn lq_1_server_is_asked_for_a_confirmed_address_that_is_unknown() {
    let (mut bench, query) = asking(1);
    let wanted = [
        &[1][..],
        &[0; 16],
        &option(5, &[&ip(ADDRESS).octets()[..], &[0; 8]].concat()),
        &option(6, &[0, 47]),
    ];
    let expected = Message::new(14, 0)
        .client_id(RELAY_DUID)
        .option(44, &wanted.concat())
        .build();
    assert_eq!((query[0], &query[4..]), (14, &expected[4..]));

    bench.server(&reply(&query, &said(100, 600).option()));

    bench.expect_effects(
        "route put 2001:db8:1::c3/128 via fe80::c3 dev 2
         route put 2001:db8:100::/56 via fe80::c3 dev 2",
    );
    for lease in [HOST, PREFIX] {
        let lease = bench.lease(lease).expect("a lease");
        assert_eq!(lease.origin, Origin::Leasequery(ServerId(0)));
    }
    bench.advance(598 * SECOND);
    assert!(bench.lease(PREFIX).is_some());
    bench.advance(3 * SECOND);
    bench.expect_leases("");
}

/// Nothing is asked for what is known, for what the server refuses, or for a client without address.
/// req: LQ-10 (RFC 5007 §5)
#[test]
fn lq_10_nothing_is_asked_without_need() {
    let client = client();
    let mut known = bench(1);
    known.bind(&client, &na_lease(1, ADDRESS, 600));
    assert_eq!(confirm(&mut known, &client, 0), []);

    assert_eq!(confirm(&mut bench(1), &client, NOT_ON_LINK), []);

    let mut empty = bench(1);
    empty.converse(&client, CONFIRM, &pd_lease(1, PREFIX, 0), &status(0));
    assert_eq!(queries(empty.take()), []);

    // A Reply that answers no Confirm of this client confirms nothing.
    let mut unasked = bench(1);
    let xid = unasked.ask(&client, CONFIRM, &na_lease(1, ADDRESS, 0));
    unasked.reply(&client, xid + 1, &status(0));
    assert_eq!(queries(unasked.take()), []);
}

/// What no server knew is not asked for again for a minute, however often the client confirms.
/// req: LQ-10, LQ-25 (RFC 5007 §4.3.3, §5)
#[test]
fn lq_10_what_no_server_knew_is_not_asked_for_again_at_once() {
    let (mut bench, query) = asking(1);
    bench.server(&reply(&query, &[]));

    bench.advance(59 * SECOND);
    assert_eq!(confirm(&mut bench, &client(), 0), []);
    bench.advance(2 * SECOND);
    assert_eq!(confirm(&mut bench, &client(), 0).len(), 1);
}

/// However many clients confirm at once, so many are asked for at one time.
/// req: LQ-10 (RFC 5007 §5)
#[test]
fn lq_10_flood_of_confirms_asks_for_a_bounded_number() {
    let mut bench = bench(1);
    let asked = (0..200)
        .map(|n| confirm(&mut bench, &Client::new(n, 2), 0).len())
        .sum::<usize>();
    assert_eq!(asked, 64);
}

/// Five transmissions, 1, 2, 4 and 8 s apart, each within a tenth; then nothing more.
/// req: LQ-7 (RFC 5007 §4.3.2)
#[test]
fn lq_7_query_is_repeated_and_given_up() {
    let (mut bench, query) = asking(1);
    let mut after = Vec::new();
    for step in 1..600u32 {
        bench.advance(100 * MS);
        for (_, again) in queries(bench.take()) {
            assert_eq!(again, query);
            after.push(100 * step);
        }
    }
    assert_eq!(after.len(), 4, "{after:?}");
    let (mut earlier, mut gap) = (0, 1000);
    for at in after {
        assert!(
            (gap * 9 / 10..=gap * 11 / 10 + 100).contains(&(at - earlier)),
            "{earlier} to {at}"
        );
        (earlier, gap) = (at, gap * 2);
    }
    bench.server(&reply(&query, &said(1, 600).option()));
    bench.expect_leases("");
}

/// Another transaction-id, another requestor, no server: as if it had not come. What is not from a
/// server is none of it.
/// req: LQ-24 (RFC 5007 §4.2.2)
#[test]
fn lq_24_answer_that_is_not_ours_is_discarded() {
    let (mut bench, query) = asking(1);
    let good = reply(&query, &said(1, 600).option());
    let mut other_xid = good.clone();
    other_xid[3] ^= 1;
    let said = said(1, 600).option();
    let other_requestor = Message::new(15, 0)
        .client_id(SERVER_DUID)
        .server_id(SERVER_DUID);
    let no_server = Message::new(15, 0).client_id(RELAY_DUID);
    let no_requestor = Message::new(15, 0).server_id(SERVER_DUID);
    let mut wrong = vec![other_xid];
    for message in [other_requestor, no_server, no_requestor] {
        let mut message = message.raw(&said).build();
        message[1..4].copy_from_slice(&query[1..4]);
        wrong.push(message);
    }
    for message in wrong {
        bench.take();
        bench.server(&message);
        bench.expect_effects("discard not_for_relay");
    }
    bench.server_from("2001:db8:53::66", &good);
    bench.expect_effects("discard not_from_server");

    bench.server(&good);
    assert!(bench.lease(HOST).is_some());
}

/// Who repeats another's DUID in a Confirm does not get its routes: the answer is about another client,
/// or the server remembers another next hop.
/// req: SNP-23 (RFC 7513 §6.3.2)
#[test]
fn snp_23_answer_about_somebody_else_is_not_taken() {
    for wrong in [
        Said::new(
            b"another DUID",
            ip("2001:db8:ff::1"),
            5,
            &said(5, 600).leases,
        ),
        Said {
            relay_data: Some(
                [
                    &ip("2001:db8:ff::1").octets()[..],
                    &relay_tests::messages::Layer::new(12, 0, ip("2001:db8:1::1"), ip("fe80::d4"))
                        .build(),
                ]
                .concat(),
            ),
            ..said(5, 600)
        },
    ] {
        let (mut bench, query) = asking(1);
        bench.server(&reply(&query, &wrong.option()));
        bench.expect_effects("notice leasequery_mismatch");
        bench.expect_leases("");
    }
}

/// All servers of the interface are asked; whoever heard the client last is right, in whatever order.
/// req: LQ-8, LQ-28 (RFC 5007 §4.3.2, §4.3.4)
#[test]
fn lq_28_newest_of_several_answers_counts() {
    for first_is_newer in [true, false] {
        let (mut bench, query) = asking(2);
        let (newer, older) = (said(10, 600).option(), said(500, 5000).option());
        let (one, two) = match first_is_newer {
            true => (&newer, &older),
            false => (&older, &newer),
        };
        bench.server_from(FIRST, &reply(&query, one));
        bench.server_from(SECOND_SERVER, &reply(&query, two));
        let lease = bench.lease(PREFIX).expect("a lease");
        let left = lease.valid_until.saturating_since(bench.now);
        assert!(
            left.abs_diff(600 * SECOND) <= Duration::from_secs(2),
            "{left:?}"
        );
        // Both have answered: nobody is asked again.
        bench.take();
        bench.advance(30 * SECOND);
        assert_eq!(queries(bench.take()), []);
    }
}

/// A server that will not say is asked no more; the others are.
/// req: LQ-27 (RFC 5007 §4.3.3)
#[test]
fn lq_27_other_servers_are_asked_after_an_error() {
    let (mut bench, query) = asking(2);
    bench.server_from(FIRST, &reply(&query, &status(10)));

    bench.advance(1200 * MS);
    let again = queries(bench.take());
    assert_eq!(again.len(), 1);
    assert!(again[0].0.starts_with("to-server 1 "), "{:?}", again[0].0);

    bench.server_from(SECOND_SERVER, &reply(&query, &said(3, 600).option()));
    let lease = bench.lease(HOST).expect("a lease");
    assert_eq!(lease.origin, Origin::Leasequery(ServerId(1)));
}
