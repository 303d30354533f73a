//! Two and three relays that keep each other's bindings (RFC 7653; spec/active-leasequery.md section 9).

use std::time::Duration;

use relay_core::alq::{Role, SessionState};
use relay_core::input::Clear;
use relay_core::types::PeerId;
use relay_core::view::Origin;
use relay_tests::bench::{Client, SECOND, prefix};
use relay_tests::exchanges::{na_lease, pd_lease};
use relay_tests::mesh::{Mesh, address};

const P1: &str = "2001:db8:100::/56";
const P2: &str = "2001:db8:200::/56";
const A1: &str = "2001:db8:1::c3/128";

fn client(n: u16) -> Client {
    Client::new(n, 2)
}

fn lease(n: u16) -> (Client, Vec<u8>) {
    let text = format!("2001:db8:{:x}::/56", 0x1000 + n);
    (client(n), pd_lease(1, &text, 3600))
}

/// What one relay snooped is on the other, with its route, and ends there when it ends here.
/// req: ALQ-D-8, ALQ-43, ALQ-60, ALQ-D-1, ALQ-D-4, PDR-S-3 (RFC 7653 §3)
#[test]
fn alq_d_8_bindings_of_one_relay_are_on_the_other_until_they_end() {
    for is_secure in [false, true] {
        let mut mesh = Mesh::new(2, is_secure);
        let both = [pd_lease(7, P1, 3600), na_lease(8, "2001:db8:1::c3", 1800)].concat();

        mesh.at(0, |bench| bench.bind(&client(0xc3), &both));

        let twin = mesh.bench(1).lease(P1).expect("told");
        assert_eq!(twin.origin, Origin::ActiveLeasequery(PeerId(0)));
        assert_eq!((twin.iaid.0, twin.snooped_by), (7, address(0)));
        let left = twin.valid_until.saturating_since(mesh.bench(1).now);
        assert!(left <= 3600 * SECOND && left >= 3599 * SECOND, "{left:?}");
        assert_eq!(mesh.digest(0).0, 2);
        assert_eq!(mesh.digest(0), mesh.digest(1));
        let mut routes = mesh.bench(1).lines("route ");
        routes.sort_unstable();
        assert_eq!(
            routes,
            [
                "route put 2001:db8:100::/56 via fe80::c3 dev 2",
                "route put 2001:db8:1::c3/128 via fe80::c3 dev 2"
            ]
        );

        mesh.advance(5 * SECOND);
        mesh.at(0, |bench| bench.ask(&client(0xc3), 8, &pd_lease(7, P1, 0)));

        assert!(mesh.bench(1).lease(P1).is_none());
        assert!(mesh.bench(1).lease(A1).is_some());
        assert_eq!(mesh.digest(0), mesh.digest(1));
        assert_eq!(
            mesh.bench(1).lines("route "),
            ["route del 2001:db8:100::/56"]
        );
    }
}

/// A relay that lost everything gets back what it had snooped itself, and is ready only then.
/// req: ALQ-D-10, ALQ-D-7, ALQ-D-12 (twinrelay)
#[test]
fn alq_d_10_relay_that_lost_everything_gets_all_back_and_is_ready_then() {
    let mut mesh = Mesh::new(2, true);
    for n in 0..300 {
        let (client, given) = lease(n);
        mesh.at(usize::from(n % 2), |bench| bench.bind(&client, &given));
    }
    let before = mesh.digest(1);
    assert_eq!((before.0, before), (300, mesh.digest(0)));

    mesh.crash(1, true);
    mesh.part(0, 1);
    mesh.advance(100 * SECOND);
    mesh.start(1);
    assert!(!mesh.bench(1).relay.readiness().is_ready);
    assert_eq!(
        mesh.bench(1).relay.readiness().reason,
        "waiting for {0}: backoff"
    );
    mesh.heal(0, 1);
    mesh.advance(2 * SECOND);

    assert_eq!(mesh.digest(1), before);
    let readiness = mesh.bench(1).relay.readiness();
    assert!(readiness.is_ready && !readiness.is_by_timeout);
    assert_eq!(readiness.reason, "in sync with {0}");
    let shown = mesh.neighbor(1, 0, Role::Requestor);
    assert_eq!(shown.state, SessionState::Active);
    assert!(shown.catch_up.is_complete);
    assert_eq!(shown.catch_up.received, 300);
}

/// A relay that was away for a while asks from where it was.
/// req: ALQ-36, ALQ-7, ALQ-33 (RFC 7653 §6.2.1)
#[test]
fn alq_36_relay_that_was_cut_off_asks_from_its_resume_point() {
    let mut mesh = Mesh::new(2, false);
    for n in 0..50 {
        let (client, given) = lease(n);
        mesh.at(0, |bench| bench.bind(&client, &given));
    }
    mesh.advance(60 * SECOND);

    mesh.part(0, 1);
    mesh.at(0, |bench| bench.bind(&client(0xc3), &pd_lease(1, P1, 3600)));
    mesh.at(0, |bench| bench.ask(&client(3), 8, &lease(3).1));
    mesh.advance(30 * SECOND);
    mesh.heal(0, 1);
    mesh.advance(60 * SECOND);

    assert_eq!(mesh.digest(0), mesh.digest(1));
    assert_eq!(mesh.digest(0).0, 50);
    let shown = mesh.neighbor(1, 0, Role::Requestor);
    assert_eq!(shown.state, SessionState::Active);
    assert!(shown.catch_up.requested_from.is_some());
    assert!(shown.catch_up.received <= 3, "{:?}", shown.catch_up);
}

/// Both run their own timers.
/// req: ALQ-D-13 (twinrelay)
#[test]
fn alq_d_13_lease_expires_at_both_by_itself() {
    let mut mesh = Mesh::new(2, false);
    mesh.at(0, |bench| bench.bind(&client(0xc3), &pd_lease(1, P1, 100)));
    let sent = mesh.neighbor(0, 1, Role::Server).statistics.bindings_sent;

    mesh.advance(102 * SECOND);

    assert_eq!((mesh.digest(0).0, mesh.digest(1).0), (0, 0));
    let told = mesh.neighbor(0, 1, Role::Server).statistics.bindings_sent;
    assert_eq!(told, sent);
}

/// The relay that snooped the newer REPLY owns the record.
/// req: ALQ-D-14, ALQ-44 (RFC 5007 §4.3.4)
#[test]
fn alq_d_14_ownership_moves_with_the_newer_reply() {
    let mut mesh = Mesh::new(2, false);
    mesh.at(0, |bench| bench.bind(&client(0xc3), &pd_lease(1, P1, 100)));
    mesh.advance(30 * SECOND);

    mesh.at(1, |bench| bench.bind(&client(0xc3), &pd_lease(1, P1, 1000)));

    let here = mesh.bench(1).lease(P1).expect("renewed");
    assert_eq!(here.origin, Origin::Snooped);
    let there = mesh.bench(0).lease(P1).expect("told");
    assert_eq!(there.origin, Origin::ActiveLeasequery(PeerId(1)));
    assert_eq!(there.snooped_by, address(1));
    mesh.advance(500 * SECOND);
    assert_eq!((mesh.digest(0).0, mesh.digest(1).0), (1, 1));
    mesh.at(1, |bench| bench.clear(Clear::Lease(prefix(P1))));
    assert_eq!((mesh.digest(0).0, mesh.digest(1).0), (0, 0));
}

/// What happens to one lease at both relays while they cannot talk ends the same on both, in
/// whichever order they hear of it.
/// req: ALQ-D-11 (twinrelay)
#[test]
fn alq_d_11_release_and_request_at_different_relays_end_in_equal_tables() {
    for (gap, expected) in [(0u64, 1), (700, 1), (2000, 1)] {
        let mut mesh = Mesh::new(2, false);
        mesh.at(0, |bench| bench.bind(&client(0xc3), &pd_lease(1, P2, 3600)));
        mesh.advance(10 * SECOND);
        mesh.part(0, 1);
        mesh.at(0, |bench| bench.ask(&client(0xc3), 8, &pd_lease(1, P2, 0)));
        mesh.advance(Duration::from_millis(gap));
        mesh.at(1, |bench| bench.bind(&client(0xc3), &pd_lease(1, P2, 3600)));
        mesh.advance(10 * SECOND);
        mesh.heal(0, 1);
        mesh.advance(65 * SECOND);

        assert_eq!(mesh.digest(0), mesh.digest(1), "gap of {gap} ms");
        assert_eq!(mesh.digest(0).0, expected, "gap of {gap} ms");
    }
}

/// A removal is remembered by a relay that was told of it, and does not come back from one that was
/// away.
/// req: ALQ-D-26 (twinrelay)
#[test]
fn alq_d_26_lease_that_ended_does_not_come_back_with_a_relay_that_was_away() {
    let mut mesh = Mesh::new(3, false);
    mesh.at(0, |bench| bench.bind(&client(0xc3), &pd_lease(1, P1, 7200)));
    assert_eq!(mesh.digest(2).0, 1);
    mesh.part(0, 2);
    mesh.part(1, 2);
    mesh.advance(10 * SECOND);
    mesh.at(0, |bench| bench.ask(&client(0xc3), 8, &pd_lease(1, P1, 0)));
    assert_eq!((mesh.digest(1).0, mesh.digest(2).0), (0, 1));
    mesh.crash(0, true);

    mesh.heal(1, 2);
    mesh.advance(65 * SECOND);

    assert_eq!((mesh.digest(1).0, mesh.digest(2).0), (0, 0));
}

/// Two empty relays that start at once are ready at once.
/// req: ALQ-D-8 (twinrelay)
#[test]
fn alq_d_8_two_empty_relays_are_ready_at_once() {
    let mut mesh = Mesh::new(2, true);

    mesh.advance(2 * SECOND);

    for n in 0..2 {
        let readiness = mesh.bench(n).relay.readiness();
        assert!(
            readiness.is_ready && !readiness.is_by_timeout,
            "{readiness:?}"
        );
    }
}

/// What a relay has told one peer alone, and is gone for good, the others hear from that one.
/// req: ALQ-D-12 (twinrelay)
#[test]
fn alq_d_12_change_that_one_peer_alone_was_told_comes_to_the_others() {
    for loses_disk in [true, false] {
        let mut mesh = Mesh::new(3, false);
        mesh.advance(2 * SECOND);
        mesh.part(1, 2);
        let (client, lease) = lease(1);
        mesh.at(2, |bench| bench.bind(&client, &lease));
        mesh.advance(30 * SECOND);
        assert_eq!((mesh.digest(0).0, mesh.digest(1).0), (1, 0));

        mesh.crash(2, loses_disk);
        mesh.advance(40 * SECOND);

        assert_eq!(mesh.digest(0), mesh.digest(1), "{loses_disk}");
        assert_eq!(mesh.digest(1).0, 1);
    }
}

/// However long it could be told to that one alone. req: ALQ-D-12 (twinrelay)
#[test]
fn alq_d_12_others_are_asked_again_while_a_peer_is_away() {
    let mut mesh = Mesh::new(3, false);
    mesh.advance(2 * SECOND);
    mesh.part(1, 2);
    mesh.advance(1000 * SECOND);
    let (client, lease) = lease(1);
    mesh.at(2, |bench| bench.bind(&client, &lease));
    mesh.advance(SECOND);
    mesh.crash(2, true);
    mesh.advance(600 * SECOND);

    assert_eq!(mesh.digest(0), mesh.digest(1));
    assert_eq!(mesh.digest(1).0, 1);
}
