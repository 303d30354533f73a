//! Replies that wait for their routes, and messages of several inputs in one batch (RFC 8987 §4.2).

use relay_core::effect::{Effect, RouteChange};
use relay_core::input::{ClientDatagram, Input, RouteOutcome, RouteRefusal};
use relay_core::types::IfIndex;
use relay_core::view::{Cursor, Filter, RouteState};
use relay_tests::bench::{Bench, Client, MS, RouteAnswer, prefix};
use relay_tests::exchanges::{from_client, pd, pd_lease};
use relay_tests::messages::{Layer, iaprefix};

const P1: &str = "2001:db8:100::/56";
const P2: &str = "2001:db8:200::/56";
const REPLY: &str = "to-client reply fe80::c3 546 dev 2 mac 02:00:00:00:00:c3";

fn client() -> Client {
    Client::new(0xc3, 2)
}

/// The Reply waits for its route. req: SNP-37 (RFC 8987 §4.2)
#[test]
fn snp_37_reply_leaves_when_its_route_is_there() {
    let mut bench = Bench::default().answering(RouteAnswer::Wait);

    bench.converse(&client(), 3, &pd_lease(1, P1, 100), &pd_lease(1, P1, 100));
    bench.expect_effects("to-server 0 request\nroute put 2001:db8:100::/56 via fe80::c3 dev 2");
    bench.advance(100 * MS);
    bench.expect_effects("");
    bench.answer_routes(Ok(()));

    bench.expect_effects("to-client reply fe80::c3 546 dev 2 mac 02:00:00:00:00:c3");
}

/// A refused route withholds no Reply. req: SNP-37 (RFC 8987 §4.1, §4.2)
#[test]
fn snp_37_reply_leaves_although_its_route_is_refused() {
    let refusal = relay_core::input::RouteRefusal::Kernel(17);
    let mut bench = Bench::default().answering(RouteAnswer::Now(Err(refusal)));

    bench.converse(&client(), 3, &pd_lease(1, P1, 100), &pd_lease(1, P1, 100));

    assert_eq!(bench.lines("to-client reply").len(), 1);
    assert_eq!(
        bench.lease(P1).expect("kept").route,
        RouteState::Failed(refusal)
    );
}

/// A Reply whose route is late leaves at the deadline, and late. req: SNP-37 (RFC 8987 §4.1)
#[test]
fn snp_37_reply_leaves_at_the_deadline_and_is_counted_late() {
    let mut bench = Bench::default().answering(RouteAnswer::Wait);
    bench.converse(&client(), 3, &pd_lease(1, P1, 100), &pd_lease(1, P1, 100));
    bench.take();

    bench.advance(199 * MS);
    bench.expect_effects("");
    bench.advance(2 * MS);
    let mut lines: Vec<_> = bench.take().into_iter().map(|seen| seen.line).collect();
    lines.sort();
    assert_eq!(
        lines,
        [
            "notice late_reply",
            "to-client reply fe80::c3 546 dev 2 mac 02:00:00:00:00:c3"
        ]
    );

    bench.answer_routes(Ok(()));
    assert_eq!(bench.lines("to-client").len(), 0);
}

/// A renewal that changes no route waits for none. req: SNP-37 (RFC 8987 §4.2)
#[test]
fn snp_37_reply_that_changes_no_route_leaves_at_once() {
    let mut bench = Bench::default();
    bench.bind(&client(), &pd_lease(1, P1, 100));
    bench.route_answer = RouteAnswer::Wait;

    bench.converse(&client(), 5, &pd_lease(1, P1, 100), &pd_lease(1, P1, 100));

    bench.expect_effects(&format!("to-server 0 renew\n{REPLY}"));
}

/// A Reply with two new leases waits for both routes. req: SNP-37 (RFC 8987 §4.2)
#[test]
fn snp_37_reply_with_two_leases_waits_for_both_routes() {
    let mut bench = Bench::default().answering(RouteAnswer::Wait);
    let both = pd(1, &[iaprefix(P1, 50, 100), iaprefix(P2, 50, 100)]);
    let xid = bench.ask(&client(), 3, &both);
    let versions = puts(&mut bench, |bench| bench.reply(&client(), xid, &both));
    assert_eq!(versions.len(), 2);
    bench.take();

    bench.input(Input::Route(versions[0]));
    bench.expect_effects("");
    bench.input(Input::Route(versions[1]));

    bench.expect_effects(REPLY);
}

/// The answer to a change that is no longer wanted says nothing of the present one.
/// req: SNP-37 (RFC 8987 §4.2)
#[test]
fn snp_37_outcome_of_an_older_version_is_ignored() {
    let mut bench = Bench::default().answering(RouteAnswer::Wait);
    let lease = pd_lease(1, P1, 100);
    let first = puts(&mut bench, |bench| {
        bench.converse(&client(), 3, &lease, &lease)
    });
    let moved = Client {
        address: "fe80::c9".parse().unwrap(),
        ..client()
    };
    let second = puts(&mut bench, |bench| {
        bench.converse(&moved, 5, &lease, &lease)
    });
    assert!(second[0].version > first[0].version, "{first:?} {second:?}");

    bench.input(Input::Route(RouteOutcome {
        result: Err(RouteRefusal::Kernel(17)),
        ..first[0]
    }));
    assert_eq!(bench.lease(P1).expect("kept").route, RouteState::Pending);
    bench.input(Input::Route(second[0]));

    assert_eq!(bench.lease(P1).expect("kept").route, RouteState::Installed);
}

/// More Replies than may wait leave at once, and late. req: SNP-37 (RFC 8987 §4.1)
#[test]
fn snp_37_reply_beyond_the_ones_that_may_wait_leaves_at_once_as_late() {
    let mut bench = Bench::with(|config| config.held_replies_max = 1).answering(RouteAnswer::Wait);
    bench.converse(
        &Client::new(1, 2),
        3,
        &pd_lease(1, P1, 100),
        &pd_lease(1, P1, 100),
    );
    assert_eq!(bench.lines("to-client").len(), 0);
    assert_eq!(bench.relay.summary().held_replies, 1);

    bench.converse(
        &Client::new(2, 2),
        3,
        &pd_lease(1, P2, 100),
        &pd_lease(1, P2, 100),
    );

    let lines: Vec<_> = bench.take().into_iter().map(|seen| seen.line).collect();
    assert_eq!(
        lines
            .iter()
            .filter(|line| line.starts_with("to-client"))
            .count(),
        1,
        "{lines:?}"
    );
    assert!(lines.contains(&"notice late_reply".to_owned()), "{lines:?}");
}

/// A lease that ends while its Reply waits does not lose the Reply. req: PDR-G-1 (RFC 8987 §4.1)
#[test]
fn pdr_g_1_reply_whose_lease_is_released_meanwhile_still_leaves() {
    let mut bench = Bench::default().answering(RouteAnswer::Wait);
    bench.converse(&client(), 3, &pd_lease(1, P1, 100), &pd_lease(1, P1, 100));
    bench.take();

    bench.ask(&client(), 8, &pd_lease(1, P1, 0));
    bench.advance(relay_tests::bench::SECOND);

    let sent = bench.lines("to-client reply");
    assert_eq!(sent.len(), 1, "{sent:?}");
    bench.expect_leases("");
}

/// Messages of several inputs stay readable until their effects are taken. req: RLY-19 (RFC 8415 §19.1)
#[test]
fn rly_19_messages_of_a_batch_are_all_readable() {
    let mut bench = Bench::default();
    let clients: Vec<Client> = (1..=50).map(|n| Client::new(n, 2)).collect();
    let sent: Vec<Vec<u8>> = clients
        .iter()
        .map(|client| {
            from_client(
                1,
                u32::from(client.address.segments()[7]),
                client,
                &pd(1, &[]),
            )
        })
        .collect();

    for (client, payload) in clients.iter().zip(&sent) {
        bench.relay.handle_input(
            bench.now,
            Input::Client(ClientDatagram {
                interface: IfIndex(2),
                vlans: client.vlans,
                mac: client.mac,
                source: client.address,
                source_port: 546,
                destination: "ff02::1:2".parse().unwrap(),
                payload,
            }),
        );
    }
    let mut seen = Vec::new();
    while let Some(effect) = bench.relay.poll_effect() {
        if let Effect::SendToServer { message, .. } = effect {
            seen.push(Layer::read(bench.relay.message(message)).inner().to_vec());
        }
    }

    assert_eq!(seen, sent);
}

/// Every field of a filter that is set must match. req: PDR-O-1 (RFC 8987 §4.4)
#[test]
fn pdr_o_1_filter_selects_by_each_of_its_fields() {
    let mut bench = Bench::default();
    bench.bind(&Client::new(1, 2), &pd_lease(1, P1, 100));
    bench.bind(&Client::new(2, 3), &pd_lease(1, P2, 100));
    let second = Client::new(2, 3);
    let filters = [
        Filter {
            access: Some(relay_core::types::AccessId(1)),
            ..Filter::default()
        },
        Filter {
            duid: Some(second.duid.clone()),
            ..Filter::default()
        },
        Filter {
            mac: second.mac,
            ..Filter::default()
        },
        Filter {
            prefix: Some(prefix("2001:db8:200::/48")),
            ..Filter::default()
        },
        Filter {
            prefix: Some(prefix("2001:db8:200:5::/64")),
            ..Filter::default()
        },
    ];
    for filter in filters {
        let page = bench.relay.page(&filter, Cursor::default(), 10);
        let duids: Vec<_> = page.subscribers.into_iter().map(|s| s.duid).collect();
        assert_eq!(duids, std::slice::from_ref(&second.duid), "{filter:?}");
    }
}

/// Decline and clear are told as such. req: PDR-O-1 (RFC 8987 §4.4)
#[test]
fn pdr_o_1_decline_and_clear_are_told_as_events() {
    let mut bench = Bench::default();
    bench.relay.set_observed(true);
    let lease = relay_tests::exchanges::na_lease(1, "2001:db8:1::7", 100);
    bench.bind(&client(), &lease);

    bench.ask(&client(), 9, &lease);
    bench.expect_events("declined IA_NA 1 2001:db8:1::7/128");
    bench.bind(&client(), &lease);
    bench.clear(relay_core::input::Clear::Lease(prefix("2001:db8:1::7/128")));
    bench.expect_events("cleared IA_NA 1 2001:db8:1::7/128");
}

/// What `act` makes the relay want of routes, as outcomes that say yes.
fn puts(bench: &mut Bench, act: impl FnOnce(&mut Bench)) -> Vec<RouteOutcome> {
    bench.route_changes.clear();
    act(bench);
    let puts = bench
        .route_changes
        .iter()
        .filter_map(|change| match change {
            RouteChange::Put(route) => Some(RouteOutcome {
                prefix: route.prefix,
                version: route.version,
                result: Ok(()),
            }),
            RouteChange::Remove { .. } => None,
        });
    puts.collect()
}
