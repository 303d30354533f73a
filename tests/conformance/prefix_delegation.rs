//! The delegating relay (RFC 8987 §4.1, §4.2, §4.3).

use relay_core::types::IfIndex;
use relay_tests::bench::{Bench, Client, SECOND, is_over_a_limit, prefix};
use relay_tests::exchanges::{from_client, from_server, na_lease, pd, pd_lease};
use relay_tests::messages::{Layer, iaprefix};

const P1: &str = "2001:db8:100::/56";
const P2: &str = "2001:db8:200::/56";
const P3: &str = "2001:db8:300::/56";

fn client() -> Client {
    Client::new(0xc3, 2)
}

/// `n` IA_PDs of one prefix each.
fn many(n: u32) -> Vec<u8> {
    (1..=n)
        .flat_map(|i| pd_lease(i, &format!("2001:db8:{i}00::/56"), 3600))
        .collect()
}

/// Contents are unchanged both ways, with and without a live lease. req: PDR-G-1 (RFC 8987 §4.1)
#[test]
fn pdr_g_1_contents_are_unchanged_with_and_without_a_live_lease() {
    let mut bench = Bench::default();
    for round in 0..2 {
        for message_type in [1, 3, 4, 5, 6, 8, 9, 11] {
            let xid = bench.next_xid();
            let asked = from_client(message_type, xid, &client(), &pd_lease(1, P1, 3600));
            let given = from_server(7, xid, &client(), &pd_lease(1, P1, 3600));

            bench.client(&client(), &asked);
            let forward = Layer::read(&bench.forwarded());
            bench.answer(&given);

            assert_eq!(forward.inner(), asked, "type {message_type}, round {round}");
            assert_eq!(
                bench.delivered(),
                given,
                "type {message_type}, round {round}"
            );
        }
    }
}

/// Several prefixes of one IA_PD have lifetimes of their own. req: PDR-G-2 (RFC 8987 §4.1)
#[test]
fn pdr_g_2_prefixes_of_one_ia_pd_expire_each_at_its_time() {
    let mut bench = Bench::default();
    bench.bind(
        &client(),
        &pd(1, &[iaprefix(P1, 30, 60), iaprefix(P2, 60, 120)]),
    );
    bench.expect_leases("IA_PD 1 2001:db8:100::/56\nIA_PD 1 2001:db8:200::/56");

    bench.advance(59 * SECOND);
    bench.expect_effects("");
    bench.advance(2 * SECOND);
    bench.expect_effects("route del 2001:db8:100::/56");
    bench.advance(58 * SECOND);
    bench.expect_effects("");
    bench.advance(2 * SECOND);
    bench.expect_effects("route del 2001:db8:200::/56");
}

/// One client holds prefixes in several IA_PDs. req: PDR-G-3 (RFC 8987 §4.1)
#[test]
fn pdr_g_3_eight_ia_pds_get_eight_routes() {
    let mut bench = Bench::default();

    bench.converse(&client(), 3, &many(8), &many(8));

    assert_eq!(bench.lines("route put").len(), 8);
    assert_eq!(bench.subscribers().len(), 1);
    assert_eq!(bench.subscribers()[0].bindings.len(), 8);
}

/// The same DUID on two interfaces has two independent bindings. req: PDR-G-4 (RFC 8987 §4.1)
#[test]
fn pdr_g_4_same_duid_on_two_interfaces_is_two_clients() {
    let mut bench = Bench::default();
    let other = Client {
        interface: IfIndex(3),
        ..client()
    };
    bench.bind(&client(), &pd_lease(1, P1, 3600));
    bench.bind(&other, &pd_lease(1, P2, 3600));

    bench.ask(&other, 8, &pd_lease(1, P2, 0));

    bench.expect_effects("route del 2001:db8:200::/56\nto-server 0 release");
    bench.expect_leases("IA_PD 1 2001:db8:100::/56");
}

/// Leases of one client are limited. req: PDR-G-5, SNP-40 (RFC 8987 §4.1)
#[test]
fn pdr_g_5_lease_over_the_client_limit_is_forwarded_and_not_installed() {
    let mut bench = Bench::with(|config| config.limits.max_leases_per_client = 2);
    let xid = bench.ask(&client(), 3, &many(3));
    bench.take();

    bench.reply(&client(), xid, &many(3));

    let lines: Vec<_> = bench.take().into_iter().map(|seen| seen.line).collect();
    let count = |start: &str| lines.iter().filter(|line| line.starts_with(start)).count();
    assert_eq!(count("route put"), 2);
    assert_eq!(count("notice client_limit"), 1);
    assert_eq!(count("to-client reply"), 1);
    bench.expect_leases(
        "IA_PD 1 2001:db8:100::/56
         IA_PD 2 2001:db8:200::/56
         IA_PD 3 2001:db8:300::/56 over a limit",
    );
}

/// A client at its limit still renews what it has. req: PDR-G-5 (RFC 8987 §4.1)
#[test]
fn pdr_g_5_client_at_its_limit_renews_and_others_are_not_touched() {
    let mut bench = Bench::with(|config| config.limits.max_leases_per_client = 1);
    bench.bind(&client(), &pd_lease(1, P1, 100));
    bench.advance(50 * SECOND);

    bench.converse(&client(), 5, &pd_lease(1, P1, 100), &pd_lease(1, P1, 100));
    assert_eq!(bench.lines("notice").len(), 0);
    bench.bind(&Client::new(0xc4, 2), &pd_lease(1, P2, 100));
    bench.advance(60 * SECOND);

    bench.expect_leases("IA_PD 1 2001:db8:100::/56\nIA_PD 1 2001:db8:200::/56");
}

/// Leases of one interface are limited, over all clients. req: PDR-G-6 (RFC 8987 §4.1)
#[test]
fn pdr_g_6_lease_over_the_interface_limit_is_forwarded_and_not_installed() {
    let mut bench = Bench::with(|config| config.limits.max_leases_per_interface = 2);
    bench.bind(&Client::new(1, 2), &pd_lease(1, P1, 3600));
    bench.bind(&Client::new(2, 2), &pd_lease(1, P2, 3600));
    let third = Client::new(3, 2);
    let xid = bench.ask(&third, 3, &pd_lease(1, P3, 3600));
    bench.take();

    bench.reply(&third, xid, &pd_lease(1, P3, 3600));
    bench.expect_effects(
        "notice interface_limit
         to-client reply fe80::3 546 dev 2 mac 02:00:00:00:00:03",
    );
    assert_eq!(bench.lease(P3), None);

    bench.converse(
        &Client::new(4, 3),
        3,
        &pd_lease(1, P3, 3600),
        &pd_lease(1, P3, 3600),
    );
    assert_eq!(
        bench.lines("route put"),
        ["route put 2001:db8:300::/56 via fe80::4 dev 3"]
    );
}

/// A released lease gives its place back. req: PDR-G-6 (RFC 8987 §4.1)
#[test]
fn pdr_g_6_released_and_expired_leases_do_not_count() {
    let mut bench = Bench::with(|config| config.limits.max_leases_per_interface = 1);
    bench.bind(&Client::new(1, 2), &pd_lease(1, P1, 3600));
    bench.ask(&Client::new(1, 2), 8, &pd_lease(1, P1, 0));
    bench.bind(&Client::new(2, 2), &pd_lease(1, P2, 10));
    bench.expect_leases("IA_PD 1 2001:db8:200::/56");

    bench.advance(11 * SECOND);
    bench.bind(&Client::new(3, 2), &pd_lease(1, P3, 3600));

    bench.expect_leases("IA_PD 1 2001:db8:300::/56");
}

/// Eight leases fit into the default limit. req: PDR-G-7 (RFC 8987 §4.1)
#[test]
fn pdr_g_7_default_limit_is_eight_leases_per_client() {
    let mut bench = Bench::default();
    bench.bind(&client(), &many(9));

    let subscribers = bench.subscribers();
    let bindings = subscribers[0].bindings.iter();
    assert_eq!(bindings.filter(|it| !is_over_a_limit(it)).count(), 8);
}

/// Only the valid lifetime ends a prefix. req: PDR-G-8 (RFC 8987 §4.1)
#[test]
fn pdr_g_8_preferred_lifetime_and_missed_renewals_end_nothing() {
    let mut bench = Bench::default();
    bench.bind(&client(), &pd(1, &[iaprefix(P1, 10, 1000)]));

    for _ in 0..9 {
        bench.advance(100 * SECOND);
        bench.ask(&client(), 5, &pd_lease(1, P1, 1000));
        assert_eq!(bench.lines("route").len(), 0);
    }
    bench.advance(99 * SECOND);
    bench.expect_leases("IA_PD 1 2001:db8:100::/56");
    bench.advance(2 * SECOND);

    bench.expect_effects("route del 2001:db8:100::/56");
    bench.expect_leases("");
}

/// Lifetimes follow each Reply. req: PDR-G-8 (RFC 8987 §4.1)
#[test]
fn pdr_g_8_renewal_extends_and_shortens_as_the_reply_says() {
    let mut bench = Bench::default();
    bench.bind(&client(), &pd_lease(1, P1, 100));
    bench.advance(50 * SECOND);
    bench.converse(&client(), 5, &pd_lease(1, P1, 100), &pd_lease(1, P1, 200));
    bench.advance(199 * SECOND);
    bench.expect_leases("IA_PD 1 2001:db8:100::/56");

    bench.bind(&client(), &pd_lease(1, P2, 1000));
    bench.converse(&client(), 5, &pd_lease(1, P2, 10), &pd_lease(1, P2, 10));
    bench.advance(11 * SECOND);

    bench.expect_leases("");
}

/// Release acts at once, without the server. req: PDR-G-9, SNP-38 (RFC 8987 §4.1)
#[test]
fn pdr_g_9_release_takes_the_route_before_it_is_forwarded() {
    let mut bench = Bench::default();
    bench.bind(&client(), &pd_lease(1, P1, 3600));

    bench.ask(&client(), 8, &pd_lease(1, P1, 0));

    bench.expect_effects("route del 2001:db8:100::/56\nto-server 0 release");
    bench.expect_leases("");
}

/// Release of an IA_PD that lists nothing ends all of that IA_PD. req: PDR-G-9, SNP-21 (RFC 8987 §4.1)
#[test]
fn pdr_g_9_release_of_an_empty_ia_pd_ends_all_of_it_and_no_other() {
    let mut bench = Bench::default();
    let both = pd(1, &[iaprefix(P1, 60, 600), iaprefix(P2, 60, 600)]);
    bench.bind(
        &client(),
        &[
            both,
            pd_lease(2, P3, 600),
            na_lease(1, "2001:db8:1::7", 600),
        ]
        .concat(),
    );

    bench.ask(&client(), 8, &pd(1, &[]));

    bench.expect_leases("IA_PD 2 2001:db8:300::/56\nIA_NA 1 2001:db8:1::7/128");
}

/// The table follows leases and next hops. req: PDR-R-1 (RFC 8987 §4.2)
#[test]
fn pdr_r_1_route_comes_with_the_reply_and_goes_with_the_lease() {
    let mut bench = Bench::default();

    let xid = bench.ask(&client(), 3, &pd_lease(1, P1, 60));
    bench.expect_effects("to-server 0 request");
    bench.reply(&client(), xid, &pd_lease(1, P1, 60));
    bench.expect_effects(
        "route put 2001:db8:100::/56 via fe80::c3 dev 2
         to-client reply fe80::c3 546 dev 2 mac 02:00:00:00:00:c3",
    );

    bench.advance(61 * SECOND);
    bench.expect_effects("route del 2001:db8:100::/56");
}

/// Addresses get a /128. req: PDR-R-1 (RFC 8987 §4.2)
#[test]
fn pdr_r_1_address_lease_gets_a_host_route() {
    let mut bench = Bench::default();
    let ias = na_lease(1, "2001:db8:1::77", 60);

    bench.converse(&client(), 3, &ias, &ias);

    assert_eq!(
        bench.lines("route"),
        ["route put 2001:db8:1::77/128 via fe80::c3 dev 2"]
    );
}

/// The route has exactly the delegated length. req: PDR-R-2 (RFC 8987 §4.2)
#[test]
fn pdr_r_2_route_has_exactly_the_delegated_length() {
    for text in [
        "2001:db8:1000::/36",
        "2001:db8:100::/48",
        P1,
        "2001:db8:1ab:cd0::/60",
        "2001:db8:5:6::/64",
        "2001:db8:5:6:7::/80",
        "2001:db8:5::9/128",
    ] {
        let mut bench = Bench::default();
        let ias = pd_lease(1, text, 60);

        bench.converse(&client(), 3, &ias, &ias);

        assert_eq!(
            bench.lines("route"),
            [format!("route put {text} via fe80::c3 dev 2")]
        );
        assert_eq!(
            bench.lease(text).map(|lease| lease.prefix),
            Some(prefix(text))
        );
    }
}

/// Adjacent prefixes are not joined. req: PDR-R-2 (RFC 8987 §4.2)
#[test]
fn pdr_r_2_adjacent_prefixes_are_not_aggregated() {
    let mut bench = Bench::default();
    let ias = pd(
        1,
        &[
            iaprefix("2001:db8:100::/57", 6, 60),
            iaprefix("2001:db8:100:80::/57", 6, 60),
        ],
    );

    bench.converse(&client(), 3, &ias, &ias);

    let mut lines = bench.lines("route");
    lines.sort();
    assert_eq!(
        lines,
        [
            "route put 2001:db8:100:80::/57 via fe80::c3 dev 2",
            "route put 2001:db8:100::/57 via fe80::c3 dev 2"
        ]
    );
}

/// An interface that goes takes no lease with it, and the route comes back. req: PDR-S-2 (RFC 8987 §4.3)
#[test]
fn pdr_s_2_interface_that_returns_has_its_route_again_without_dhcp() {
    let mut bench = Bench::default();
    bench.bind(&client(), &pd_lease(1, P1, 3600));

    bench.reconfigure(|config| config.access[0].ifindex = None);
    bench.advance(60 * SECOND);
    bench.expect_leases("IA_PD 1 2001:db8:100::/56");
    bench.take();
    bench.reconfigure(|config| config.access[0].ifindex = Some(IfIndex(12)));

    assert_eq!(
        bench.lines("route put"),
        ["route put 2001:db8:100::/56 via fe80::c3 dev 12"]
    );
}
