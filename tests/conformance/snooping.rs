//! What a Reply does to the table (RFC 8415 §18.2.10, §18.3, RFC 7513 §6.4).

use std::time::Duration;

use relay_core::time::Instant;
use relay_core::types::IfIndex;
use relay_core::view::RouteState;
use relay_tests::bench::{Bench, Client, SECOND, server};
use relay_tests::exchanges::{from_server, na_lease, pd, pd_lease, ta};
use relay_tests::messages::{Message, SERVER_DUID, iaaddr, iaprefix, ip, option, status};

const P1: &str = "2001:db8:100::/56";
const P2: &str = "2001:db8:200::/56";
const LEASE_1: &str = "IA_PD 1 2001:db8:100::/56";
const LEASE_2: &str = "IA_PD 1 2001:db8:200::/56";
const RENEW: u8 = 5;
const REBIND: u8 = 6;

fn client() -> Client {
    Client::new(0xc3, 2)
}

/// A bench on which the client holds P1 for 100 s.
fn bound() -> Bench {
    let mut bench = Bench::default();
    bench.bind(&client(), &pd_lease(1, P1, 100));
    bench
}

/// The lease of P1 ends 100 s after it began, not later.
#[track_caller]
fn expect_old_expiry(mut bench: Bench, already: u64) {
    bench.take();
    bench.expect_leases(LEASE_1);
    bench.advance((99 - already as u32) * SECOND);
    bench.expect_leases(LEASE_1);
    bench.expect_effects("");
    bench.advance(2 * SECOND);
    bench.expect_leases("");
    bench.expect_effects("route del 2001:db8:100::/56");
}

/// IAID spaces are separate by type. req: SNP-1 (RFC 8415 §12)
#[test]
fn snp_1_same_iaid_of_three_types_is_three_associations() {
    let mut bench = Bench::default();
    let all = [
        pd_lease(1, P1, 600),
        na_lease(1, "2001:db8:1::7", 600),
        ta(1, &[iaaddr("2001:db8:1::8", 60, 600)]),
    ];
    bench.bind(&client(), &all.concat());
    bench.expect_leases(
        "IA_PD 1 2001:db8:100::/56\nIA_NA 1 2001:db8:1::7/128\nIA_TA 1 2001:db8:1::8/128",
    );

    bench.ask(&client(), 8, &pd(1, &[]));

    bench.expect_leases("IA_NA 1 2001:db8:1::7/128\nIA_TA 1 2001:db8:1::8/128");
}

/// DUIDs are opaque, of any type, up to 130 octets. req: SNP-2 (RFC 8415 §11)
#[test]
fn snp_2_duid_of_unknown_type_and_130_octets_is_learned() {
    let mut bench = Bench::default();
    let long = Client {
        duid: [&[0xff, 0xee][..], &[7; 128][..]].concat(),
        ..client()
    };
    let near = Client {
        duid: [&[0xff, 0xee][..], &[7; 127][..]].concat(),
        ..client()
    };

    bench.bind(&long, &pd_lease(1, P1, 600));
    bench.bind(&near, &pd_lease(1, P2, 600));
    bench.ask(&near, 8, &pd_lease(1, P2, 0));

    bench.expect_leases(LEASE_1);
    assert_eq!(bench.subscribers()[0].duid, long.duid);
}

/// What is stored of a lease. req: SNP-3, PDR-O-1 (RFC 8987 §4.4)
#[test]
fn snp_3_lease_is_stored_with_all_that_is_known_of_it() {
    let mut bench = Bench::with(|config| config.access[0].subscriber_id = b"s1".to_vec());
    let start = bench.now;
    bench.bind(&client(), &pd_lease(1, P1, 100));

    let lease = bench.lease(P1).expect("learned");
    assert_eq!(lease.preferred_until, start + 50 * SECOND);
    assert_eq!(lease.valid_until, start + 100 * SECOND);
    assert_eq!((lease.cltt, lease.route), (start, RouteState::Installed));
    assert_eq!(
        (&lease.server_duid[..], lease.server_address),
        (SERVER_DUID, ip("2001:db8:53::1"))
    );
    let subscriber = &bench.subscribers()[0];
    assert_eq!(subscriber.duid, client().duid);
    assert_eq!(
        (subscriber.client_address, subscriber.mac),
        (ip("fe80::c3"), client().mac)
    );
    assert_eq!(subscriber.link_address, ip("2001:db8:1::1"));
    assert_eq!(subscriber.interface_id, b"ge-0");
    assert_eq!(subscriber.subscriber_id.as_deref(), Some(&b"s1"[..]));
    assert_eq!(subscriber.remote_id, None);
}

/// A newer Reply with another peer-address moves the next hop. req: SNP-4 (RFC 8415 §19.2)
#[test]
fn snp_4_newer_reply_moves_the_next_hop() {
    let mut bench = bound();
    let moved = Client {
        address: ip("fe80::c9"),
        ..client()
    };

    bench.converse(&moved, RENEW, &pd_lease(1, P1, 100), &pd_lease(1, P1, 100));

    assert_eq!(
        bench.lines("route"),
        ["route put 2001:db8:100::/56 via fe80::c9 dev 2"]
    );
    assert_eq!(bench.subscribers()[0].client_address, ip("fe80::c9"));
}

/// A Reply that matches no request is forwarded, noticed, and learned. req: SNP-6 (RFC 7513 §6.3.2)
#[test]
fn snp_6_unmatched_reply_is_noticed_delivered_and_learned() {
    let mut bench = Bench::default();
    bench.ask(&client(), 1, &[]);
    bench.take();

    bench.reply(&client(), 0x0012_3456, &pd_lease(1, P1, 100));

    let lines: Vec<_> = bench.take().into_iter().map(|seen| seen.line).collect();
    assert_eq!(
        lines
            .iter()
            .filter(|line| *line == "notice unmatched_reply")
            .count(),
        1
    );
    assert!(lines.contains(&"route put 2001:db8:100::/56 via fe80::c3 dev 2".to_owned()));
    assert_eq!(
        lines
            .iter()
            .filter(|line| line.starts_with("to-client reply"))
            .count(),
        1
    );
    bench.expect_leases(LEASE_1);
}

/// Where servers are known by a multicast address, anybody on their side may claim to be one: such a Reply
/// counts only where it was asked for. req: SNP-6, RLY-61 (RFC 8213 §3)
#[test]
fn snp_6_unmatched_reply_of_a_claimed_server_is_delivered_and_not_learned() {
    let mut bench = Bench::with(|config| {
        config.servers = vec![server(0, "ff05::1:3")];
        config.servers[0].interface = Some(IfIndex(9));
    });
    bench.ask(&client(), 1, &[]);
    bench.take();

    bench.reply(&client(), 0x0012_3456, &pd_lease(1, P1, 100));
    bench.expect_leases("");
    let lines: Vec<_> = bench.take().into_iter().map(|seen| seen.line).collect();
    assert!(lines.iter().any(|line| line.starts_with("to-client reply")));

    bench.bind(&client(), &pd_lease(1, P1, 100));
    bench.expect_leases(LEASE_1);
}

/// A Reply to Request creates. req: SNP-7 (RFC 8415 §18.2.10.1)
#[test]
fn snp_7_reply_to_request_creates_and_refreshes() {
    let mut bench = bound();
    bench.advance(50 * SECOND);

    bench.converse(&client(), 3, &pd_lease(1, P1, 100), &pd_lease(1, P1, 100));
    bench.advance(99 * SECOND);

    bench.expect_leases(LEASE_1);
}

/// A refused IA creates nothing; the others count. req: SNP-8 (RFC 8415 §18.3.2)
#[test]
fn snp_8_refused_ia_creates_nothing_and_the_others_are_learned() {
    for code in [2, 4, 6] {
        let mut bench = Bench::default();
        let refused = pd(2, &[iaprefix(P2, 60, 600), status(code)]);

        bench.bind(&client(), &[refused, pd_lease(1, P1, 600)].concat());

        bench.expect_leases(LEASE_1);
        assert_eq!(bench.lease(P2), None);
    }
}

/// Rapid Commit commits. req: SNP-9, RLY-80 (RFC 8415 §18.3.1, §21.14)
#[test]
fn snp_9_rapid_commit_reply_to_solicit_creates() {
    let mut bench = Bench::default();
    let commit = [pd_lease(1, P1, 100), option(14, &[])].concat();

    bench.converse(
        &client(),
        1,
        &[pd(1, &[]), option(14, &[])].concat(),
        &commit,
    );

    bench.expect_leases(LEASE_1);
}

/// Without Rapid Commit in it, a Reply to Solicit commits nothing that a client would use.
/// req: SNP-9, SNP-25 (RFC 8415 §18.2.10, §21.14)
#[test]
fn snp_9_reply_to_solicit_without_rapid_commit_is_not_learned() {
    let mut bench = Bench::default();

    bench.converse(
        &client(),
        1,
        &[pd(1, &[]), option(14, &[])].concat(),
        &pd_lease(1, P1, 100),
    );

    bench.expect_effects(
        "to-server 0 solicit
         to-client reply fe80::c3 546 dev 2 mac 02:00:00:00:00:c3",
    );
    bench.expect_leases("");
}

/// Commits of a second server count too, and stay until they end. req: SNP-9 (RFC 8415 §21.14)
#[test]
fn snp_9_rapid_commit_of_two_servers_creates_both() {
    let mut bench = Bench::with(|config| {
        config
            .servers
            .push(relay_tests::bench::server(1, "2001:db8:53::2"))
    });
    let xid = bench.ask(&client(), 1, &[pd(1, &[]), option(14, &[])].concat());

    bench.reply(
        &client(),
        xid,
        &[pd_lease(1, P1, 100), option(14, &[])].concat(),
    );
    let second = Message::new(7, xid)
        .client_id(&client().duid)
        .server_id(&[0, 3, 0, 1, 9])
        .rapid_commit()
        .raw(&pd_lease(1, P2, 50));
    let back = relay_tests::messages::answer(bench.last_forward(), &second.build());
    bench.server_from("2001:db8:53::2", &back);

    bench.expect_leases(&format!("{LEASE_1}\n{LEASE_2}"));
    bench.advance(51 * SECOND);
    bench.expect_leases(LEASE_1);
}

/// Renew refreshes, and creates what is new in it. req: SNP-10 (RFC 8415 §18.2.10.1)
#[test]
fn snp_10_renew_refreshes_and_creates_new_leases() {
    let mut bench = bound();
    bench.advance(50 * SECOND);

    let given = pd(1, &[iaprefix(P1, 50, 100), iaprefix(P2, 50, 100)]);
    bench.converse(&client(), RENEW, &pd_lease(1, P1, 100), &given);
    bench.expect_effects(
        "to-server 0 renew
         route put 2001:db8:200::/56 via fe80::c3 dev 2
         to-client reply fe80::c3 546 dev 2 mac 02:00:00:00:00:c3",
    );

    bench.advance(99 * SECOND);
    bench.expect_leases(&format!("{LEASE_1}\n{LEASE_2}"));
}

/// Valid lifetime zero ends a lease at once. req: SNP-11 (RFC 8415 §18.2.10.1, RFC 7513 §6.4.3.6)
#[test]
fn snp_11_zero_lifetime_removes_the_lease_at_once() {
    for message_type in [RENEW, REBIND] {
        let mut bench = bound();
        let xid = bench.ask(&client(), message_type, &pd_lease(1, P1, 100));
        bench.take();

        bench.reply(
            &client(),
            xid,
            &pd(1, &[iaprefix(P1, 0, 0), iaprefix(P2, 50, 100)]),
        );

        let mut routes = bench.lines("route");
        routes.sort();
        assert_eq!(
            routes,
            [
                "route del 2001:db8:100::/56",
                "route put 2001:db8:200::/56 via fe80::c3 dev 2"
            ]
        );
        bench.expect_leases(LEASE_2);
    }
}

/// A lease that the Reply does not name stays as it was. req: SNP-12 (RFC 8415 §18.2.10.1)
#[test]
fn snp_12_lease_absent_from_the_reply_keeps_its_expiry() {
    for message_type in [RENEW, REBIND] {
        let mut bench = bound();
        bench.advance(50 * SECOND);

        bench.converse(&client(), message_type, &pd_lease(1, P1, 100), &pd(1, &[]));

        expect_old_expiry(bench, 50);
    }
}

/// NoBinding withdraws nothing and creates nothing. req: SNP-13 (RFC 8415 §18.2.10.1)
#[test]
fn snp_13_no_binding_keeps_the_lease_and_creates_none() {
    for message_type in [RENEW, REBIND] {
        let mut bench = bound();
        bench.advance(50 * SECOND);

        let given = [
            pd(1, &[status(3)]),
            pd(2, &[status(3), iaprefix(P2, 60, 600)]),
        ]
        .concat();
        bench.converse(&client(), message_type, &pd_lease(1, P1, 100), &given);

        assert_eq!(bench.lease(P2), None);
        expect_old_expiry(bench, 50);
    }
}

/// NoPrefixAvail and NoAddrsAvail leave what runs. req: SNP-14 (RFC 8415 §18.3.4)
#[test]
fn snp_14_no_prefix_available_keeps_the_lease() {
    for code in [2, 6] {
        let mut bench = bound();
        bench.advance(50 * SECOND);

        bench.converse(
            &client(),
            RENEW,
            &pd_lease(1, P1, 100),
            &pd(1, &[status(code), iaprefix(P1, 500, 999)]),
        );

        expect_old_expiry(bench, 50);
    }
}

/// Any server may answer a Rebind. req: SNP-15 (RFC 8415 §18.3.5)
#[test]
fn snp_15_rebind_refreshes_and_records_the_new_server() {
    let mut bench = bound();
    bench.advance(50 * SECOND);
    let xid = bench.ask(&client(), REBIND, &pd_lease(1, P1, 100));

    let reply = Message::new(7, xid)
        .client_id(&client().duid)
        .server_id(&[0, 3, 0, 1, 9]);
    bench.answer(&reply.raw(&pd_lease(1, P1, 100)).build());

    assert_eq!(bench.lease(P1).expect("kept").server_duid, [0, 3, 0, 1, 9]);
    bench.advance(99 * SECOND);
    bench.expect_leases(LEASE_1);
}

/// Confirm changes no lifetime, whatever the answer. req: SNP-16, SNP-17, RLY-81 (RFC 8415 §18.3.3)
#[test]
fn snp_16_confirm_changes_nothing() {
    for code in [0, 4] {
        let mut bench = bound();
        bench.advance(50 * SECOND);

        bench.converse(
            &client(),
            4,
            &na_lease(1, "2001:db8:1::7", 0),
            &status(code),
        );

        expect_old_expiry(bench, 50);
    }
}

/// NotOnLink to Confirm ends nothing. req: SNP-17 (RFC 8415 §18.2.10.3)
#[test]
fn snp_17_not_on_link_answer_to_confirm_removes_no_route() {
    let mut bench = bound();

    bench.converse(&client(), 4, &[], &status(4));

    bench.expect_effects(
        "to-server 0 confirm
         to-client reply fe80::c3 546 dev 2 mac 02:00:00:00:00:c3",
    );
    bench.expect_leases(LEASE_1);
}

/// Information-Request changes nothing, also without Client-Id. req: SNP-20, RLY-82 (RFC 8415 §18.3.6)
#[test]
fn snp_20_information_request_changes_nothing() {
    let mut bench = bound();
    bench.advance(50 * SECOND);

    bench.client(&client(), &Message::new(11, 9).build());
    bench.answer(&Message::new(7, 9).server_id(SERVER_DUID).build());
    assert_eq!(bench.lines("to-client").len(), 1);
    bench.converse(&client(), 11, &[], &pd_lease(1, P1, 999));

    expect_old_expiry(bench, 50);
}

/// Solicit removes nothing. req: SNP-24 (RFC 8415 §18.2.10.1)
#[test]
fn snp_24_solicit_while_bound_removes_nothing() {
    let mut bench = bound();

    bench.ask(&client(), 1, &pd(1, &[]));

    bench.expect_effects("to-server 0 solicit");
    bench.expect_leases(LEASE_1);
}

/// Advertise and Reconfigure never change bindings. req: SNP-25 (RFC 8415 §18.2.1)
#[test]
fn snp_25_advertise_and_reconfigure_change_nothing() {
    for message_type in [2, 10] {
        let mut bench = bound();
        bench.advance(50 * SECOND);
        let xid = bench.ask(&client(), 1, &pd(1, &[]));

        let ias = [pd_lease(1, P1, 999), pd_lease(2, P2, 999)].concat();
        bench.answer(&from_server(message_type, xid, &client(), &ias));

        assert_eq!(bench.lease(P2), None);
        expect_old_expiry(bench, 50);
    }
}

/// The newer Reply owns the route of a prefix leased twice. req: SNP-35 (RFC 8987 §4.2)
#[test]
fn snp_35_newer_lease_of_the_same_prefix_owns_the_route() {
    let mut bench = bound();
    let newer = Client::new(0xc4, 2);
    let xid = bench.ask(&newer, 3, &pd_lease(1, P1, 100));
    bench.take();

    bench.reply(&newer, xid, &pd_lease(1, P1, 100));

    let lines: Vec<_> = bench.take().into_iter().map(|seen| seen.line).collect();
    assert_eq!(
        lines
            .iter()
            .filter(|line| *line == "notice lease_conflict")
            .count(),
        1
    );
    assert_eq!(
        lines
            .iter()
            .rfind(|line| line.starts_with("route"))
            .map(String::as_str),
        Some("route put 2001:db8:100::/56 via fe80::c4 dev 2")
    );
    bench.expect_leases(&format!("{LEASE_1}\n{LEASE_1}"));
}

/// The end of the older lease leaves the newer one's route. req: SNP-35 (RFC 8987 §4.2)
#[test]
fn snp_35_release_of_the_older_lease_leaves_the_route_of_the_newer() {
    let mut bench = bound();
    bench.bind(&Client::new(0xc4, 2), &pd_lease(1, P1, 100));

    bench.ask(&client(), 8, &pd_lease(1, P1, 0));

    bench.expect_effects("to-server 0 release");
    bench.expect_leases(LEASE_1);
}

/// A lease that ends while its interface is away does not come back with it. req: SNP-39 (RFC 8987 §4.3)
#[test]
fn snp_39_lease_that_expires_while_the_interface_is_down_stays_gone() {
    let mut bench = bound();
    bench.reconfigure(|config| config.access[0].ifindex = None);
    bench.expect_leases(LEASE_1);

    bench.advance(101 * SECOND);
    bench.take();
    bench.reconfigure(|config| config.access[0].ifindex = Some(IfIndex(2)));

    assert_eq!(bench.lines("route put").len(), 0);
    bench.expect_leases("");
}

/// The table of leases is bounded as a whole. req: SNP-40 (RFC 8987 §4.1)
#[test]
fn snp_40_lease_beyond_the_whole_table_is_forwarded_and_not_installed() {
    let mut bench = Bench::with(|config| config.limits.max_bindings = 1);
    bench.bind(&client(), &pd_lease(1, P1, 600));

    bench.converse(
        &Client::new(0xc4, 2),
        3,
        &pd_lease(1, P2, 600),
        &pd_lease(1, P2, 600),
    );

    let lines: Vec<_> = bench.take().into_iter().map(|seen| seen.line).collect();
    assert!(lines.contains(&"notice table_full".to_owned()), "{lines:?}");
    assert!(
        lines.iter().any(|line| line.starts_with("to-client reply")),
        "{lines:?}"
    );
    assert!(
        !lines.iter().any(|line| line.starts_with("route put")),
        "{lines:?}"
    );
    bench.expect_leases("IA_PD 1 2001:db8:100::/56\nIA_PD 1 2001:db8:200::/56 over a limit");
}

/// Infinity is never reached. req: SNP-28 (RFC 8415 §7.7)
#[test]
fn snp_28_infinite_lifetime_never_counts_down() {
    let mut bench = Bench::default();
    bench.bind(&client(), &pd(1, &[iaprefix(P1, u32::MAX, u32::MAX)]));
    assert_eq!(
        bench.lease(P1).expect("learned").valid_until,
        Instant::NEVER
    );

    bench.advance(Duration::from_secs(200 * 365 * 86_400));

    bench.expect_leases(LEASE_1);
    bench.expect_effects("");
}
