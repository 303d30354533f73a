//! What a Release or Decline does to the table, and its answer does not (RFC 8415 §18.2.7, §18.2.8,
//! RFC 8987 §4.1, RFC 7513 §6.3.2).

use relay_common::net::MacAddr;
use relay_core::types::IfIndex;
use relay_tests::bench::{Bench, Client};
use relay_tests::exchanges::{from_client, na, na_lease, pd, pd_lease, ta};
use relay_tests::messages::{iaaddr, iaprefix, status};

const P1: &str = "2001:db8:100::/56";
const P2: &str = "2001:db8:200::/56";
const LEASE_1: &str = "IA_PD 1 2001:db8:100::/56";
const LEASE_2: &str = "IA_PD 1 2001:db8:200::/56";

fn client() -> Client {
    Client::new(0xc3, 2)
}

/// A bench on which the client holds P1 for 100 s.
fn bound() -> Bench {
    let mut bench = Bench::default();
    bench.bind(&client(), &pd_lease(1, P1, 100));
    bench
}

/// The answer to a Release does nothing more. req: SNP-18, RLY-83 (RFC 8415 §18.2.10.2)
#[test]
fn snp_18_answer_to_release_neither_ends_nor_creates() {
    let mut bench = Bench::default();
    bench.bind(
        &client(),
        &[pd_lease(1, P1, 100), pd_lease(2, P2, 100)].concat(),
    );

    let xid = bench.ask(&client(), 8, &pd_lease(1, P1, 0));
    bench.take();
    bench.reply(
        &client(),
        xid,
        &[status(0), pd(1, &[status(3)]), pd_lease(2, P2, 0)].concat(),
    );

    bench.expect_effects("to-client reply fe80::c3 546 dev 2 mac 02:00:00:00:00:c3");
    bench.expect_leases("IA_PD 2 2001:db8:200::/56");
}

/// The answer to a Decline does nothing more. req: SNP-19, RLY-83 (RFC 8415 §18.2.10.2)
#[test]
fn snp_19_answer_to_decline_creates_nothing() {
    let mut bench = Bench::default();
    let lease = na_lease(1, "2001:db8:1::7", 100);
    bench.bind(&client(), &lease);

    let xid = bench.ask(&client(), 9, &lease);
    bench.expect_effects("route del 2001:db8:1::7/128\nto-server 0 decline");
    bench.reply(&client(), xid, &[status(0), lease].concat());

    bench.expect_effects("to-client reply fe80::c3 546 dev 2 mac 02:00:00:00:00:c3");
    bench.expect_leases("");
}

/// Release ends what it lists and nothing else. req: SNP-21 (RFC 8415 §18.2.7, RFC 8987 §4.1)
#[test]
fn snp_21_release_of_one_of_two_prefixes_leaves_the_other() {
    let mut bench = Bench::default();
    bench.bind(
        &client(),
        &pd(1, &[iaprefix(P1, 60, 600), iaprefix(P2, 60, 600)]),
    );

    bench.ask(&client(), 8, &pd_lease(1, P1, 0));

    bench.expect_effects("route del 2001:db8:100::/56\nto-server 0 release");
    bench.expect_leases(LEASE_2);
}

/// Decline ends listed addresses; prefixes in it are ignored. req: SNP-22, RLY-84 (RFC 8415 §18.2.8)
#[test]
fn snp_22_decline_ends_addresses_and_leaves_prefixes() {
    let mut bench = Bench::default();
    let all = [
        na(
            1,
            &[
                iaaddr("2001:db8:1::7", 60, 600),
                iaaddr("2001:db8:1::8", 60, 600),
            ],
        ),
        ta(1, &[iaaddr("2001:db8:1::9", 60, 600)]),
        pd_lease(1, P1, 600),
    ];
    bench.bind(&client(), &all.concat());

    let declined = [
        na_lease(1, "2001:db8:1::7", 0),
        ta(1, &[iaaddr("2001:db8:1::9", 0, 0)]),
        pd_lease(1, P1, 0),
    ];
    bench.ask(&client(), 9, &declined.concat());

    bench.expect_leases("IA_NA 1 2001:db8:1::8/128\nIA_PD 1 2001:db8:100::/56");
}

/// A Decline may hold no IA_PD, so one in it has no effect. req: RLY-84 (RFC 8415 §18.2.8)
#[test]
fn rly_84_ia_pd_in_decline_is_ignored() {
    let mut bench = bound();

    bench.ask(&client(), 9, &[pd_lease(1, P1, 0), pd(1, &[])].concat());

    bench.expect_effects("to-server 0 decline");
    bench.expect_leases(LEASE_1);
}

/// Release from elsewhere has no effect, yet is forwarded. req: SNP-23 (RFC 7513 §6.3.2)
#[test]
fn snp_23_forged_release_is_forwarded_without_effect() {
    let forgers = [
        Client {
            interface: IfIndex(3),
            ..client()
        },
        Client {
            duid: vec![0, 3, 0, 1, 6, 6, 6, 6, 6, 6],
            ..client()
        },
        Client {
            mac: Some(MacAddr([6; 6])),
            ..client()
        },
        // In fragments or behind extension headers: only a UDP socket sees it, without its MAC.
        Client {
            mac: None,
            ..client()
        },
    ];
    for forger in forgers {
        for message_type in [8, 9] {
            let mut bench = Bench::default();
            let ias = [pd_lease(1, P1, 600), na_lease(1, "2001:db8:1::7", 600)].concat();
            bench.bind(&client(), &ias);

            bench.ask(&forger, message_type, &ias);

            let lines: Vec<_> = bench.take().into_iter().map(|seen| seen.line).collect();
            assert_eq!(
                lines
                    .iter()
                    .filter(|line| line.starts_with("to-server"))
                    .count(),
                1
            );
            assert!(
                !lines.iter().any(|line| line.starts_with("route")),
                "{forger:?} {lines:?}"
            );
            bench.expect_leases("IA_PD 1 2001:db8:100::/56\nIA_NA 1 2001:db8:1::7/128");
        }
    }
}

/// A repeated Release is forwarded and finds nothing. req: SNP-38 (RFC 8415 §18.2.7)
#[test]
fn snp_38_repeated_release_is_forwarded() {
    let mut bench = bound();
    let release = from_client(8, 77, &client(), &pd_lease(1, P1, 0));
    bench.client(&client(), &release);
    bench.expect_effects("route del 2001:db8:100::/56\nto-server 0 release");

    bench.client(&client(), &release);

    let lines: Vec<_> = bench.take().into_iter().map(|seen| seen.line).collect();
    assert!(
        lines.contains(&"to-server 0 release".to_owned()),
        "{lines:?}"
    );
    assert!(
        !lines.iter().any(|line| line.starts_with("route")),
        "{lines:?}"
    );
}
