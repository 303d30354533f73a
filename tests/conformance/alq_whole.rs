//! What holds over whole sessions of one relay, in whichever role: what a requestor may rely on, what it waits for,
//! what becomes of what it was told, and what no message holds (RFC 7653, RFC 5460).

use relay_core::alq::{CloseReason, LeasequeryEffect, LeasequeryInput};
use relay_core::record::Keeping;
use relay_tests::asked::{Said, base_time};
use relay_tests::bench::{Bench, Client, MS, SECOND};
use relay_tests::exchanges::pd_lease;
use relay_tests::mesh::address;
use relay_tests::messages::{iaprefix, option, read_options};

use crate::alq_requestor::{NOW, P1, bench, client_data, live, loaded};

const P2: &str = "2001:db8:200::/56";

/// A query that the kernel does not take for five minutes ends the connection, on both kinds of them. By default
/// ACTIVE_LQ_RCV_TIMEOUT does so before. req: ALQ-27 (RFC 7653 §8.3)
#[test]
fn alq_27_query_that_cannot_be_sent_closes_after_bulk_lq_data_timeout() {
    for is_bulk in [false, true] {
        let mut bench = bench(false, None);
        bench.reconfigure(|config| config.leasequery.receive_timeout = 1000 * SECOND);
        loaded(&mut bench);
        if is_bulk {
            let (asked, _) = bench.accepted();
            asked.reply(&mut bench, &base_time(NOW));
        }
        let asked = bench.connecting().expect("a connection is opened");
        let connection = asked.connection;
        bench.lq(LeasequeryInput::Connected { connection });
        bench.advance(300 * SECOND - MS);
        assert_eq!(bench.closed(&asked), None, "{is_bulk}");

        bench.advance(MS);

        let reason = bench.closed(&asked);
        assert_eq!(reason, Some(CloseReason::SendTimeout), "{is_bulk}");
    }
}

/// Only the last state of what changed is told; what lay between is not missed.
/// req: ALQ-31 (RFC 7653 §7, §8.4.1)
#[test]
fn alq_31_last_state_alone_is_enough() {
    let (mut bench, asked) = live();
    let tell = |bench: &mut Bench, at: u32, leases: &[u8]| {
        let told = client_data(0, leases);
        asked.data(bench, &[told, base_time(NOW + at)].concat());
    };

    // It was given, and is over already.
    tell(&mut bench, 1, &iaprefix(P1, 0, 0));
    assert!(bench.lease(P1).is_none());
    // It was given again, and another with it.
    let both = [iaprefix(P1, 50, 100), iaprefix(P2, 50, 100)].concat();
    bench.advance(10 * SECOND);
    tell(&mut bench, 10, &both);
    assert!(bench.lease(P1).is_some() && bench.lease(P2).is_some());
    // It was released and given anew, for longer, as the only one.
    bench.advance(20 * SECOND);
    tell(
        &mut bench,
        30,
        &[iaprefix(P1, 500, 1000), iaprefix(P2, 0, 0)].concat(),
    );

    assert!(bench.lease(P2).is_none());
    let left = bench.lease(P1).expect("told").valid_until;
    assert_eq!(left.saturating_since(bench.now).as_secs().div_ceil(10), 100);
}

/// Ten thousand messages are one answer. req: BLQ-30 (RFC 5460 §6.3)
#[test]
fn blq_30_any_number_of_data_messages_is_taken() {
    let mut bench = bench(false, None);
    loaded(&mut bench);
    let (asked, _) = bench.accepted();
    asked.reply(&mut bench, &base_time(NOW));
    let (bulk, _) = bench.accepted();
    let said = |n: u16| {
        let client = Client::new(n, 2);
        let lease = iaprefix(&format!("2001:db8:{n:x}::/56"), 3600, 7200);
        [
            Said::new(&client.duid, address(1), 9, &lease).option(),
            base_time(NOW),
        ]
        .concat()
    };

    bulk.reply(&mut bench, &said(0x1000));
    for n in 1..10_000 {
        bulk.data(&mut bench, &said(0x1000 + n));
    }
    bulk.done(&mut bench, &base_time(NOW));

    let held: u64 = bench
        .relay
        .digests()
        .iter()
        .map(|(_, it)| it.bindings)
        .sum();
    assert_eq!(held, 10_000);
    assert_eq!(bench.closed(&bulk), Some(CloseReason::Done));
}

/// No message of either role holds option 11, and one that comes proves nothing and changes nothing.
/// req: ALQ-16 (RFC 7653 §10)
#[test]
fn alq_16_authentication_option_is_neither_sent_nor_believed() {
    let authentication = option(11, &[3, 1, 0, 0, 0, 0, 0, 0, 0, 0, 1, 1, 2, 3]);
    let (mut bench, asked) = live();
    let peer = bench.connects(1);
    peer.subscribe(&mut bench, 2, &authentication);
    let told = client_data(0, &iaprefix(P1, 3600, 7200));
    asked.data(
        &mut bench,
        &[authentication.clone(), told, base_time(NOW)].concat(),
    );
    assert!(bench.lease(P1).is_some());
    bench.bind(&Client::new(7, 2), &pd_lease(1, P2, 3600));
    bench.lq(LeasequeryInput::Shutdown);

    let mut frames = 0;
    for (effect, bytes) in &bench.leasequery {
        if !matches!(effect, LeasequeryEffect::Send { .. }) {
            continue;
        }
        let mut rest = bytes.as_slice();
        while let Some((size, behind)) = rest.split_first_chunk::<2>() {
            let (message, behind) = behind.split_at(u16::from_be_bytes(*size).into());
            let options = read_options(&message[4..]);
            assert!(options.iter().all(|(code, _)| *code != 11), "{options:?}");
            (frames, rest) = (frames + 1, behind);
        }
    }
    assert!(frames >= 2, "{frames}");
}

/// What a peer told is kept as what this relay saw, and goes from table and disk when nobody needs it any more: a
/// lease when it runs out, its removal when nobody can bring it back. req: ALQ-46 (RFC 7653 §10)
#[test]
fn alq_46_what_a_peer_told_is_deleted_when_its_time_has_passed() {
    let (mut bench, asked) = live();
    bench.reconfigure(|config| config.leasequery.history = 200 * SECOND);
    bench.relay.set_keeping(Keeping::Told);
    let both = [iaprefix(P1, 50, 100), iaprefix(P2, 50, 1000)].concat();
    asked.data(
        &mut bench,
        &[client_data(0, &both), base_time(NOW)].concat(),
    );
    assert_eq!(bench.stored.len(), 2);

    let gone = client_data(0, &iaprefix(P2, 0, 0));
    asked.data(&mut bench, &[gone, base_time(NOW + 1)].concat());
    bench.advance(10 * SECOND);
    assert_eq!(bench.stored.len(), 2, "the removal is remembered");
    bench.advance(100 * SECOND);

    assert!(bench.lease(P1).is_none());
    assert_eq!(bench.stored.len(), 1, "one has run out");
    bench.advance(1000 * SECOND);
    assert_eq!(bench.stored.len(), 0);
}
