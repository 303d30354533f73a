//! What an operator sees and does (RFC 8987 §4.4), and a reload beside live leases.

use relay_core::input::{Clear, Input};
use relay_core::types::{AccessId, IfIndex};
use relay_core::view::{Cursor, Filter};
use relay_tests::bench::{Bench, Client, SECOND, prefix};
use relay_tests::exchanges::{na_lease, pd_lease};
use relay_tests::messages::{Layer, ip};

const P1: &str = "2001:db8:100::/56";

/// Three clients: two on interface 2, one of them also on 3 by the same DUID.
fn three() -> Bench {
    let mut bench = Bench::default();
    bench.bind(
        &Client::new(1, 2),
        &[pd_lease(1, P1, 600), na_lease(1, "2001:db8:1::1:1", 600)].concat(),
    );
    bench.bind(&Client::new(2, 2), &pd_lease(1, "2001:db8:200::/56", 600));
    bench.bind(&Client::new(1, 3), &pd_lease(1, "2001:db8:300::/56", 600));
    bench
}

/// All five facts of a live prefix can be listed. req: PDR-O-1 (RFC 8987 §4.4)
#[test]
fn pdr_o_1_live_prefix_is_listed_with_client_next_hop_interface_and_lifetimes() {
    let mut bench = Bench::default();
    let start = bench.now;
    bench.bind(&Client::new(1, 3), &pd_lease(7, P1, 600));

    let filter = Filter {
        prefix: Some(prefix(P1)),
        ..Filter::default()
    };
    let page = bench.relay.page(&filter, Cursor::default(), 10);

    assert_eq!((page.subscribers.len(), page.next), (1, None));
    let subscriber = &page.subscribers[0];
    assert_eq!(subscriber.duid, Client::new(1, 3).duid);
    assert_eq!(subscriber.client_address, ip("fe80::1"));
    assert_eq!(subscriber.link.access, AccessId(1));
    let lease = &subscriber.bindings[0];
    assert_eq!((lease.prefix, lease.iaid.0), (prefix(P1), 7));
    assert_eq!(lease.preferred_until, start + 300 * SECOND);
    assert_eq!(lease.valid_until, start + 600 * SECOND);
}

/// A walk in small pages meets every client once. req: PDR-O-1 (RFC 8987 §4.4)
#[test]
fn pdr_o_1_walk_in_pages_meets_every_client_once() {
    let mut bench = Bench::default();
    for n in 1..=50 {
        bench.bind(
            &Client::new(n, 2),
            &pd_lease(1, &format!("2001:db8:{n:x}00::/56"), 600),
        );
    }
    let mut seen = Vec::new();
    let mut from = Cursor::default();
    for _ in 0..200 {
        let page = bench.relay.page(&Filter::default(), from, 3);
        assert!(page.subscribers.len() <= 3);
        seen.extend(
            page.subscribers
                .into_iter()
                .map(|subscriber| subscriber.duid),
        );
        match page.next {
            Some(next) => from = next,
            None => break,
        }
    }

    seen.sort();
    let mut wanted: Vec<_> = (1..=50).map(|n| Client::new(n, 2).duid).collect();
    wanted.sort();
    assert_eq!(seen, wanted);
}

/// One lease can be cleared. req: PDR-O-2 (RFC 8987 §4.4)
#[test]
fn pdr_o_2_clear_of_a_lease_removes_it_and_its_route() {
    let mut bench = three();

    assert_eq!(bench.clear(Clear::Lease(prefix(P1))), 1);

    bench.expect_effects("route del 2001:db8:100::/56");
    bench.expect_leases(
        "IA_NA 1 2001:db8:1::1:1/128\nIA_PD 1 2001:db8:200::/56\nIA_PD 1 2001:db8:300::/56",
    );
    assert_eq!(bench.clear(Clear::Lease(prefix(P1))), 0);
    bench.expect_effects("");
}

/// One client can be cleared, on every link. req: PDR-O-2 (RFC 8987 §4.4)
#[test]
fn pdr_o_2_clear_of_a_client_removes_all_its_leases() {
    let mut bench = three();

    assert_eq!(bench.clear(Clear::Client(Client::new(1, 2).duid)), 3);

    assert_eq!(bench.lines("route del").len(), 3);
    bench.expect_leases("IA_PD 1 2001:db8:200::/56");
}

/// One interface can be cleared. req: PDR-O-2 (RFC 8987 §4.4)
#[test]
fn pdr_o_2_clear_of_an_interface_removes_all_its_leases() {
    let mut bench = three();

    assert_eq!(bench.clear(Clear::Interface(AccessId(0))), 3);

    assert_eq!(bench.lines("route del").len(), 3);
    bench.expect_leases("IA_PD 1 2001:db8:300::/56");
}

/// A large clear is done in parts, so that relaying goes on in between.
/// req: PDR-O-2 (RFC 8987 §4.4)
#[test]
fn pdr_o_2_clear_of_thousands_is_done_in_parts_and_touches_nobody_else() {
    let mut bench = Bench::default();
    for n in 1..=2500u16 {
        let lease = pd_lease(1, &format!("2001:db8:{n:x}::/56"), 1000);
        bench.bind(&Client::new(n, if n % 5 == 0 { 3 } else { 2 }), &lease);
    }
    let all = Clear::Interface(AccessId(0));

    bench.input(Input::Clear(all.clone()));
    assert_eq!(bench.relay.take_cleared(), 1024);
    assert!(bench.relay.has(&all));

    assert_eq!(bench.clear(all), 2000 - 1024);
    assert_eq!(bench.subscribers().len(), 500);
    assert_eq!(bench.clear(Clear::Client(Client::new(5, 3).duid)), 1);
    assert_eq!(bench.subscribers().len(), 499);
}

/// Every change of a binding is told, with what it is about.
/// req: PDR-O-1 (RFC 8987 §4.4)
#[test]
fn pdr_o_1_life_of_a_binding_is_told_as_events() {
    let mut bench = Bench::default();
    bench.relay.set_observed(true);
    let client = Client::new(1, 2);
    let lease = pd_lease(1, P1, 60);

    bench.converse(&client, 3, &lease, &lease);
    bench.expect_events("created IA_PD 1 2001:db8:100::/56");
    bench.converse(&client, 5, &lease, &lease);
    bench.expect_events("renewed IA_PD 1 2001:db8:100::/56");
    bench.ask(&client, 8, &lease);
    bench.expect_events("released IA_PD 1 2001:db8:100::/56");
    bench.converse(&client, 3, &lease, &lease);
    bench.expect_events("created IA_PD 1 2001:db8:100::/56");
    bench.advance(61 * SECOND);
    bench.expect_events("expired IA_PD 1 2001:db8:100::/56");
}

/// The summary counts clients and active leases. req: PDR-O-1 (RFC 8987 §4.4)
#[test]
fn pdr_o_1_summary_counts_clients_and_active_leases() {
    let mut bench = three();

    let summary = bench.relay.summary();
    assert_eq!(summary.clients, 3);
    assert_eq!(
        summary.active.iter().map(|(_, _, _, n)| n).sum::<usize>(),
        4
    );

    bench.advance(601 * SECOND);
    let summary = bench.relay.summary();
    assert_eq!(
        summary.active.iter().map(|(_, _, _, n)| n).sum::<usize>(),
        0
    );
}

/// A reload that adds a server sends there from then on, and keeps leases.
#[test]
fn reload_keeps_leases_and_takes_new_values() {
    let mut bench = three();

    bench.reconfigure(|config| config.access[0].link_address = ip("2001:db8:1::9"));

    assert_eq!(bench.lines("route del").len(), 0);
    bench.ask(&Client::new(1, 2), 1, &[]);
    assert_eq!(Layer::read(&bench.forwarded()).link, ip("2001:db8:1::9"));
    assert_eq!(bench.subscribers().len(), 3);
}

/// An interface under a new index keeps its clients, and their routes move to it.
#[test]
fn interface_with_a_new_index_keeps_its_clients() {
    let mut bench = three();

    bench.reconfigure(|config| config.access[1].ifindex = Some(IfIndex(13)));

    assert_eq!(
        bench.lines("route put"),
        ["route put 2001:db8:300::/56 via fe80::1 dev 13"]
    );
}
