//! The corpus of the target `alq_server`: queries of all kinds that get their answers, written here
//! and kept.

use relay_tests::asking::{end_time, lq_query, oro, start_time};
use relay_tests::fuzzing_alq::alq_step;
use relay_tests::fuzzing_alq_server::{
    STEP_ACCEPT, STEP_CLEAR, STEP_CONFIGURE, STEP_END, STEP_LEASE, STEP_LOADED, STEP_MESSAGE,
    STEP_PASS, STEP_QUERY, STEP_RELEASE, STEP_TLS_UP, STEP_WRITABLE, check_alq_server,
    run_alq_server,
};
use relay_tests::messages::{iaaddr, option};

use super::{keep, replay};

/// A query on the first connection, and all of its answer taken.
fn asked(message_type: u8, xid: u8, options: &[u8]) -> Vec<u8> {
    let options = [&[message_type, xid][..], &oro(&[100, 47, 25]), options].concat();
    [
        alq_step(STEP_QUERY, &options),
        alq_step(STEP_WRITABLE, &[1]),
    ]
    .concat()
}

/// Each input, and how many messages are answered.
fn inputs() -> Vec<(&'static str, Vec<u8>, usize)> {
    let leases: Vec<u8> = (0..4)
        .flat_map(|n| alq_step(STEP_LEASE, &[n, 200]))
        .collect();
    let open = alq_step(STEP_ACCEPT, &[0]);
    let loaded = [alq_step(STEP_LOADED, &[]), leases, open].concat();
    let identity = [0, 3, 0, 1, 2, 0, 0, 0, 0, 0xa0];
    let everything = lq_query(3, "::", &option(53, &identity));
    let live = [loaded.clone(), asked(22, 1, &[])].concat();
    let changes = [
        live.clone(),
        alq_step(STEP_PASS, &[1]),
        alq_step(STEP_RELEASE, &[0]),
        alq_step(STEP_LEASE, &[1, 100]),
        alq_step(STEP_WRITABLE, &[1]),
        alq_step(STEP_CLEAR, &[1]),
        alq_step(STEP_WRITABLE, &[1]),
    ]
    .concat();
    let types = [
        everything.clone(),
        lq_query(1, "::", &iaaddr("2001:db8:100::1", 0, 0)),
        lq_query(2, "::", &option(1, &[0, 3, 0, 1, 2, 0, 0, 0, 0, 1])),
        lq_query(4, "2001:db8:2::1", &[]),
        lq_query(5, "::", &option(37, &[0, 0, 0, 9, 1])),
        [everything.clone(), start_time(0), end_time(9)].concat(),
    ];
    let bulk: Vec<u8> = types.iter().flat_map(|query| asked(14, 7, query)).collect();
    let tls = [
        alq_step(STEP_LOADED, &[]),
        alq_step(STEP_ACCEPT, &[1]),
        alq_step(STEP_MESSAGE, &[23, 0, 0, 1]),
        alq_step(STEP_WRITABLE, &[]),
        alq_step(STEP_TLS_UP, &[]),
        asked(14, 2, &everything),
        alq_step(STEP_END, &[1]),
    ]
    .concat();
    let refused = [
        loaded.clone(),
        alq_step(STEP_MESSAGE, &[23, 0, 0, 1]),
        alq_step(STEP_WRITABLE, &[]),
        asked(14, 2, &lq_query(99, "::", &[])),
    ]
    .concat();
    let end = [live.clone(), alq_step(STEP_CONFIGURE, &[1])].concat();
    vec![
        ("live", live, 1),
        ("changes", changes, 1 + 2 + 1),
        (
            "bulk",
            [loaded.clone(), bulk].concat(),
            5 + 2 + 2 + 3 + 1 + 5,
        ),
        ("tls", tls, 2),
        ("refused", refused, 2),
        ("end", end, 2),
        (
            "catch-up",
            [loaded, asked(22, 1, &start_time(0))].concat(),
            1,
        ),
    ]
}

#[test]
fn alq_server_corpus_holds_the_queries_written_here() {
    for (name, input, _) in inputs() {
        keep("alq_server", name, &input);
    }
}

/// A corpus whose queries get no answers any more would fuzz nothing but the first checks.
#[test]
fn alq_server_corpus_gets_the_answers_of_its_queries() {
    for (name, input, answers) in inputs() {
        assert!(run_alq_server(&input) >= answers, "{name}");
    }
}

#[test]
fn alq_server_of_the_corpus_and_its_mutations_holds_its_property() {
    replay("alq_server", 20_000, check_alq_server);
}
