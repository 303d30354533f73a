//! Leases over a limit: not installed, and shown all the same, because their clients believe to have
//! them (SNP-40; RFC 8987 §4.1).

use relay_core::input::{Clear, RouteRefusal};
use relay_core::types::AccessId;
use relay_core::view::{Cursor, Filter, RouteState};
use relay_tests::bench::{Bench, Client, SECOND, prefix};
use relay_tests::exchanges::pd_lease;

const P1: &str = "2001:db8:100::/56";
const P2: &str = "2001:db8:200::/56";
const P3: &str = "2001:db8:300::/56";
const RENEW: u8 = 5;
const RELEASE: u8 = 8;

fn client() -> Client {
    Client::new(0xc3, 2)
}

/// One lease a client; it has P1 for 1000 s and was given P2 for 100 s.
fn over_the_client_limit() -> Bench {
    let mut bench = Bench::with(|config| config.limits.max_leases_per_client = 1);
    bench.bind(&client(), &pd_lease(1, P1, 1000));
    let lease = pd_lease(2, P2, 100);
    bench.converse(&client(), 3, &lease, &lease);
    bench
}

/// It is told once, counted each time and shown with the reason. req: SNP-40, DP-14 (RFC 8987 §4.1)
#[test]
fn snp_40_lease_over_the_limit_is_told_once_and_shown_with_its_reason() {
    let mut bench = over_the_client_limit();
    bench.expect_events("refused IA_PD 2 2001:db8:200::/56 over a limit");

    let lease = pd_lease(2, P2, 100);
    bench.converse(&client(), RENEW, &lease, &lease);

    assert_eq!(bench.lines("event refused").len(), 0);
    let shown = bench.subscribers();
    assert_eq!(shown.len(), 1, "one block for the client");
    let refused = &shown[0].bindings[1];
    assert_eq!(refused.prefix, prefix(P2));
    assert_eq!(refused.route, RouteState::Failed(RouteRefusal::ClientLimit));
    assert_eq!(bench.relay.summary().refused, 1);
}

/// A client that has nothing but such leases is shown too. req: SNP-40 (RFC 8987 §4.1)
#[test]
fn snp_40_client_without_any_installed_lease_is_shown() {
    let mut bench = Bench::with(|config| config.limits.max_leases_per_interface = 1);
    bench.bind(&Client::new(1, 2), &pd_lease(1, P1, 1000));
    bench.bind(&Client::new(2, 2), &pd_lease(1, P2, 1000));
    bench.bind(&Client::new(3, 2), &pd_lease(1, P3, 1000));

    bench.expect_leases(
        "IA_PD 1 2001:db8:100::/56
         IA_PD 1 2001:db8:200::/56 over a limit
         IA_PD 1 2001:db8:300::/56 over a limit",
    );
    let one = Filter {
        duid: Some(Client::new(3, 2).duid),
        ..Filter::default()
    };
    let mut found = Vec::new();
    let mut from = Some(Cursor::default());
    while let Some(at) = from {
        let page = bench.relay.page(&one, at, 1);
        found.extend(page.subscribers);
        from = page.next;
    }
    assert_eq!(found.len(), 1);
    assert_eq!(found[0].bindings[0].prefix, prefix(P3));
}

/// It ends as the client's leases do. req: SNP-40 (RFC 8987 §4.1)
#[test]
fn snp_40_refused_lease_ends_by_time_release_zero_lifetime_and_operator() {
    let only_p1 = "IA_PD 1 2001:db8:100::/56";
    let ends: [fn(&mut Bench); 4] = [
        |bench| bench.advance(101 * SECOND),
        |bench| {
            bench.ask(&client(), RELEASE, &pd_lease(2, P2, 0));
        },
        |bench| {
            let zero = pd_lease(2, P2, 0);
            bench.converse(&client(), RENEW, &zero, &zero);
        },
        |bench| assert_eq!(bench.clear(Clear::Lease(prefix(P2))), 1),
    ];
    for end in ends {
        let mut bench = over_the_client_limit();

        end(&mut bench);

        bench.expect_leases(only_p1);
        assert_eq!(bench.lines("route del").len(), 0);
    }
}

/// Nobody else's RELEASE ends it. req: SNP-40, SNP-23 (RFC 7513 §6.3.2)
#[test]
fn snp_40_foreign_release_leaves_the_refused_lease_shown() {
    let mut bench = over_the_client_limit();
    let mut other = client();
    other.mac = Client::new(1, 2).mac;

    bench.ask(&other, RELEASE, &pd_lease(2, P2, 0));

    bench.expect_leases("IA_PD 1 2001:db8:100::/56\nIA_PD 2 2001:db8:200::/56 over a limit");
}

/// Where there is room again, the next Renew installs it. req: SNP-40 (RFC 8987 §4.1)
#[test]
fn snp_40_lease_is_installed_once_there_is_room() {
    let mut bench = over_the_client_limit();
    bench.ask(&client(), RELEASE, &pd_lease(1, P1, 0));
    bench.take();

    let lease = pd_lease(2, P2, 100);
    bench.converse(&client(), RENEW, &lease, &lease);

    assert_eq!(bench.lines("route put").len(), 1);
    bench.expect_leases("IA_PD 2 2001:db8:200::/56");
}

/// However many come, few are kept. req: SNP-40 (RFC 8987 §4.1)
#[test]
fn snp_40_flood_of_refused_leases_is_bounded() {
    let mut bench = Bench::with(|config| config.limits.max_leases_per_interface = 1);
    for n in 1..=3000u16 {
        let lease = pd_lease(1, &format!("2001:db8:{n:x}::/56"), 1000);
        bench.bind(&Client::new(n, 2), &lease);
    }

    assert_eq!(bench.relay.summary().refused, 1024);
    assert_eq!(bench.subscribers().len(), 1025);
    assert_eq!(bench.clear(Clear::Interface(AccessId(0))), 1025);
}
