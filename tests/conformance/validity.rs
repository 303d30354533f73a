//! Which leases of a Reply are worth learning (RFC 8415 §16.10, §18.2.10, §21.4, §21.21, §21.22).

use relay_tests::bench::{Bench, Client, SECOND};
use relay_tests::exchanges::{na, na_lease, pd, pd_lease, pd_timed};
use relay_tests::messages::{
    CLIENT_DUID, Message, SERVER_DUID, iaaddr, iaprefix, iaprefix_with, option, status,
};

const P1: &str = "2001:db8:100::/56";
const LEASE_1: &str = "IA_PD 1 2001:db8:100::/56";

fn client() -> Client {
    Client::new(0xc3, 2)
}

/// The Reply is delivered and this is noticed, while no lease is learned.
#[track_caller]
fn expect_not_learned(given: &[u8], notice: Option<&str>) {
    let mut bench = Bench::default();

    bench.converse(&client(), 3, &pd(1, &[]), given);

    let lines: Vec<_> = bench.take().into_iter().map(|seen| seen.line).collect();
    assert_eq!(
        lines
            .iter()
            .filter(|line| line.starts_with("to-client reply"))
            .count(),
        1
    );
    assert!(
        !lines.iter().any(|line| line.starts_with("route")),
        "{lines:?}"
    );
    if let Some(notice) = notice {
        assert!(lines.contains(&format!("notice {notice}")), "{lines:?}");
    }
    bench.expect_leases("");
}

/// preferred above valid is no lease. req: SNP-26 (RFC 8415 §21.6, §21.22)
#[test]
fn snp_26_preferred_above_valid_is_not_learned() {
    expect_not_learned(&pd(1, &[iaprefix(P1, 101, 100)]), Some("lease_invalid"));
    expect_not_learned(
        &na(1, &[iaaddr("2001:db8:1::7", 101, 100)]),
        Some("lease_invalid"),
    );
}

/// preferred equal to valid is sound. req: SNP-26 (RFC 8415 §21.6, §21.22)
#[test]
fn snp_26_preferred_equal_to_valid_is_learned() {
    let mut bench = Bench::default();

    bench.bind(&client(), &pd(1, &[iaprefix(P1, 100, 100)]));

    bench.expect_leases(LEASE_1);
}

/// T1 above T2 makes the client skip the IA. req: SNP-27 (RFC 8415 §21.4, §21.21)
#[test]
fn snp_27_ia_with_t1_above_t2_is_not_learned() {
    expect_not_learned(
        &pd_timed(1, 200, 100, &[iaprefix(P1, 300, 600)]),
        Some("lease_invalid"),
    );
}

/// T2 zero leaves it to the client, so T1 above it is sound. req: SNP-27 (RFC 8415 §21.4, §21.21)
#[test]
fn snp_27_ia_with_t1_and_zero_t2_is_learned() {
    let mut bench = Bench::default();

    bench.bind(&client(), &pd_timed(1, 200, 0, &[iaprefix(P1, 300, 600)]));

    bench.expect_leases(LEASE_1);
}

/// T1 and T2 end nothing. req: SNP-29 (RFC 8415 §14.2, §21.4)
#[test]
fn snp_29_t1_and_t2_end_nothing() {
    for (t1, t2) in [(0, 0), (1, 2), (u32::MAX, u32::MAX)] {
        let mut bench = Bench::default();
        bench.bind(&client(), &pd_timed(1, t1, t2, &[iaprefix(P1, 50, 100)]));

        bench.advance(99 * SECOND);
        bench.expect_leases(LEASE_1);
        bench.advance(2 * SECOND);
        bench.expect_leases("");
    }
}

/// A top-level error makes IAs void. req: SNP-30 (RFC 8415 §18.2.10)
#[test]
fn snp_30_message_status_other_than_success_creates_nothing() {
    for code in [1, 2, 3, 4, 5, 6, 77] {
        expect_not_learned(&[status(code), pd_lease(1, P1, 600)].concat(), None);
        expect_not_learned(&[pd_lease(1, P1, 600), status(code)].concat(), None);
    }
}

/// Explicit Success is like none. req: SNP-30 (RFC 8415 §7.5)
#[test]
fn snp_30_message_status_success_is_learned() {
    let mut bench = Bench::default();

    bench.bind(
        &client(),
        &[status(0), pd(1, &[iaprefix(P1, 50, 100), status(0)])].concat(),
    );

    bench.expect_leases(LEASE_1);
}

/// A Reply without Server-Id or with another's Client-Id teaches nothing. req: SNP-31 (RFC 8415 §16.10)
#[test]
fn snp_31_reply_without_server_id_or_for_another_client_is_not_learned() {
    let ias = pd_lease(1, P1, 600);
    let nameless = |xid| {
        Message::new(7, xid)
            .client_id(CLIENT_DUID)
            .raw(&ias)
            .build()
    };
    let foreign = |xid| {
        let message = Message::new(7, xid).client_id(b"\0\x03\0\x01other!");
        message.server_id(SERVER_DUID).raw(&ias).build()
    };
    let clientless = |xid| {
        Message::new(7, xid)
            .server_id(SERVER_DUID)
            .raw(&ias)
            .build()
    };
    for reply in [&nameless as &dyn Fn(u32) -> Vec<u8>, &foreign, &clientless] {
        let mut bench = Bench::default();
        let xid = bench.ask(&client(), 3, &ias);
        bench.take();

        bench.answer(&reply(xid));

        let seen = bench.take();
        assert!(
            seen.iter()
                .any(|seen| seen.line.starts_with("to-client reply")),
            "{seen:?}"
        );
        assert!(
            seen.iter().any(|seen| seen.line.starts_with("notice ")),
            "{seen:?}"
        );
        assert!(
            !seen.iter().any(|seen| seen.line.starts_with("route")),
            "{seen:?}"
        );
        bench.expect_leases("");
    }
}

/// A repeated Reply changes nothing but time. req: SNP-32 (RFC 8415 §18.3.2)
#[test]
fn snp_32_repeated_reply_is_idempotent() {
    let mut bench = Bench::default();
    let xid = bench.ask(&client(), 3, &pd_lease(1, P1, 100));
    bench.reply(&client(), xid, &pd_lease(1, P1, 100));
    bench.take();
    bench.advance(10 * SECOND);

    bench.reply(&client(), xid, &pd_lease(1, P1, 100));

    assert_eq!(bench.lines("route").len(), 0);
    bench.expect_leases(LEASE_1);
    bench.advance(99 * SECOND);
    bench.expect_leases(LEASE_1);
    bench.advance(2 * SECOND);
    bench.expect_leases("");
}

/// Prefixes that no route may have. req: SNP-33 (RFC 8415 §21.22)
#[test]
fn snp_33_impossible_prefix_is_not_learned() {
    for text in [
        "::/0",
        "2001:db8::/0",
        "2001:db8:100::/129",
        "2001:db8::/255",
        "ff05::/16",
        "fe80::/64",
        "fe80:1::/32",
        "::/56",
        "::/128",
    ] {
        expect_not_learned(&pd_lease(1, text, 600), Some("lease_invalid"));
    }
    for text in ["::", "ff02::1", "fe80::7"] {
        expect_not_learned(&na_lease(1, text, 600), Some("lease_invalid"));
    }
}

/// Host bits are cut off. req: SNP-33 (RFC 8415 §21.22)
#[test]
fn snp_33_host_bits_of_a_prefix_are_masked() {
    let mut bench = Bench::default();

    bench.bind(&client(), &pd_lease(1, "2001:db8:100:12::9/56", 600));

    bench.expect_leases(LEASE_1);
}

/// An excluded sub-prefix changes nothing of the route. req: SNP-34 (RFC 6603 §4.1, §4.2)
#[test]
fn snp_34_route_stays_the_delegated_prefix_with_pd_exclude() {
    let mut bench = Bench::default();
    let given = pd(1, &[iaprefix_with(P1, 50, 100, &option(67, &[64, 0x0f]))]);

    bench.converse(&client(), 3, &pd(1, &[]), &given);

    assert_eq!(
        bench.lines("route"),
        ["route put 2001:db8:100::/56 via fe80::c3 dev 2"]
    );
}

/// No grace: the route ends with the valid lifetime. req: SNP-36 (RFC 8987 §4.2)
#[test]
fn snp_36_route_ends_with_the_valid_lifetime() {
    let mut bench = Bench::default();
    bench.bind(&client(), &pd_lease(1, P1, 100));

    bench.advance(99 * SECOND);
    bench.expect_effects("");
    bench.advance(2 * SECOND);

    bench.expect_effects("route del 2001:db8:100::/56");
}

/// A Reply that cannot be read is delivered and teaches nothing, whatever it broke off in.
/// req: RLY-17, PDR-G-1 (RFC 8987 §4.1)
#[test]
fn rly_17_truncated_reply_is_delivered_and_never_panics() {
    let whole = pd(1, &[iaprefix(P1, 50, 100), status(0)]);
    for cut in 0..whole.len() {
        let mut bench = Bench::default();
        let xid = bench.ask(&client(), 3, &pd(1, &[]));
        bench.take();

        bench.reply(&client(), xid, &whole[..cut]);

        assert_eq!(bench.lines("to-client reply").len(), 1, "cut at {cut}");
    }
}

/// A lease whose option lies about its length teaches nothing. req: SNP-33 (RFC 8415 §21.22)
#[test]
fn snp_33_short_lease_options_are_not_learned() {
    for inside in [option(26, &[0; 24]), option(26, &[]), option(5, &[0; 24])] {
        expect_not_learned(&pd(1, &[inside]), None);
    }
    expect_not_learned(&na(1, &[option(5, &[0x20; 23])]), None);
}
