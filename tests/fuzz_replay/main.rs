//! The fuzz corpora without a fuzzer: each kept input, and a bounded number of seeded mutations of
//! it, through the same properties as the fuzz targets. The same inputs on every machine.

mod alq;
mod alq_server;
mod alq_stream;
mod mutate;

use std::path::{Path, PathBuf};

use relay_tests::bench::{Bench, Client};
use relay_tests::exchanges::{from_client, from_server, na_lease, pd_lease};
use relay_tests::fuzzing::{
    STEP_ANSWER, STEP_CLEAR, STEP_CLIENT, STEP_RELAY, STEP_ROUTES, STEP_SERVER, STEP_TIME,
    check_classify, check_options, check_relay_message, relay_message_step, run_relay_message,
};
use relay_tests::messages::{Layer, ip};

use mutate::Mutator;

fn corpus(target: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../fuzz/corpus")
        .join(target)
}

/// The kept inputs of a target, by name.
fn kept(target: &str) -> Vec<Vec<u8>> {
    let mut paths: Vec<PathBuf> = std::fs::read_dir(corpus(target))
        .expect("each target keeps a corpus")
        .map(|entry| entry.expect("readable").path())
        .collect();
    paths.sort();
    assert!(!paths.is_empty(), "{target} keeps a corpus");
    paths
        .iter()
        .map(|path| std::fs::read(path).expect("readable"))
        .collect()
}

/// Replays the corpus, then `mutations` children of it. A failure prints its input.
fn replay(target: &str, mutations: usize, check: fn(&[u8])) {
    let kept = kept(target);
    for input in &kept {
        check(input);
    }
    let mut mutator = Mutator::new(0x7477_696e_7265_6c61);
    for _ in 0..mutations {
        let input = mutator.child(&kept);
        let survived = std::panic::catch_unwind(|| check(&input)).is_ok();
        assert!(survived, "{target} fails on {}", hex(&input));
    }
}

/// The corpus of a target holds `input` under this name.
fn keep(target: &str, name: &str, input: &[u8]) {
    let path = corpus(target).join(name);
    if std::env::var_os("TWINRELAY_WRITE_CORPUS").is_some() {
        std::fs::write(&path, input).expect("the corpus takes a file");
    }
    let stored = std::fs::read(&path).unwrap_or_default();
    assert!(
        stored == input,
        "{name} is not what this test writes; run it with TWINRELAY_WRITE_CORPUS=1"
    );
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[test]
fn classify_of_the_corpus_and_its_mutations_holds_its_properties() {
    replay("classify", 60_000, check_classify);
}

#[test]
fn options_of_the_corpus_and_their_mutations_hold_their_properties() {
    replay("options", 60_000, check_options);
}

#[test]
fn relay_of_the_corpus_and_its_mutations_holds_its_properties() {
    replay("relay_message", 20_000, check_relay_message);
}

/// Seeds that reach every part of the core: without them a fuzzer has to guess transaction-ids.
#[test]
fn relay_message_corpus_holds_the_exchanges_written_here() {
    for (name, input) in exchanges() {
        keep("relay_message", name, &input);
    }
}

/// A corpus whose exchanges no longer lease anything would fuzz nothing but the first checks.
#[test]
fn relay_message_corpus_leases_what_its_exchanges_lease() {
    for (name, input) in exchanges() {
        let expected = match name {
            // An unmatched Reply may create a lease (SNP-6).
            "unasked" | "relayed" => 1,
            _ => 2,
        };
        assert_eq!(run_relay_message(&input), expected, "{name}");
    }
}

/// Client 1 on interface 2, as `fuzzing` numbers it.
const XID: u32 = 0x0012_3456;

fn exchanges() -> Vec<(&'static str, Vec<u8>)> {
    let client = Client::new(1, 2);
    let prefix = pd_lease(1, "2001:db8:8000:100::/56", 3600);
    let address = na_lease(1, "2001:db8:1::c3", 3600);
    let both = [&prefix[..], &address].concat();
    let ask = |message_type, inside: &[u8]| {
        relay_message_step(
            STEP_CLIENT,
            &from_client(message_type, XID, &client, inside),
        )
    };
    let answer = |message_type, inside: &[u8]| {
        relay_message_step(
            STEP_ANSWER,
            &from_server(message_type, XID, &client, inside),
        )
    };
    let lease = [ask(3, &both), answer(7, &both)].concat();
    let hour = relay_message_step(STEP_TIME, &3700u16.to_le_bytes());
    let request = from_client(3, XID, &client, &prefix);
    let relayed = Layer::new(12, 0, ip("2001:db8:7::1"), client.address)
        .option(18, b"port")
        .message(&request)
        .build();
    let relayed_answer = Layer::new(13, 0, ip("2001:db8:7::1"), client.address)
        .option(18, b"port")
        .message(&from_server(7, XID, &client, &prefix))
        .build();
    vec![
        (
            "lease",
            [ask(1, &both), answer(2, &both), lease.clone()].concat(),
        ),
        (
            "release",
            [lease.clone(), ask(8, &prefix), answer(7, &[])].concat(),
        ),
        (
            "decline",
            [lease.clone(), ask(9, &address), answer(7, &[])].concat(),
        ),
        (
            "renew-expire",
            [lease.clone(), ask(5, &both), answer(7, &both), hour.clone()].concat(),
        ),
        (
            "rebind-zero",
            [
                lease.clone(),
                ask(6, &prefix),
                answer(7, &pd_lease(1, "2001:db8:8000:100::/56", 0)),
            ]
            .concat(),
        ),
        (
            "clear",
            [
                lease.clone(),
                relay_message_step(STEP_CLEAR, &client.duid),
                lease.clone(),
                relay_message_step(STEP_CLEAR, &[]),
            ]
            .concat(),
        ),
        (
            "held",
            [
                relay_message_step(STEP_ROUTES, &[]),
                lease.clone(),
                relay_message_step(STEP_ROUTES, &[1]),
                lease.clone(),
            ]
            .concat(),
        ),
        (
            "relayed",
            [
                relay_message_step(STEP_RELAY, &relayed),
                relay_message_step(STEP_ANSWER, &relayed_answer),
            ]
            .concat(),
        ),
        (
            "unasked",
            relay_message_step(STEP_SERVER, &unasked(&client, &prefix)),
        ),
    ]
}

/// A RELAY-REPL for a client that asked nothing.
fn unasked(client: &Client, prefix: &[u8]) -> Vec<u8> {
    let mut bench = Bench::default();
    let xid = bench.ask(client, 3, prefix);
    relay_tests::messages::answer(bench.last_forward(), &from_server(7, xid, client, prefix))
}
