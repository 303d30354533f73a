//! The corpus of the target `alq_requestor`: sessions that get as far as they can, written here and kept.

use relay_tests::asked::{Said, base_time};
use relay_tests::fuzzing_alq::{
    STEP_CONNECTED, STEP_END, STEP_MESSAGE, STEP_OTHER, STEP_PASS, STEP_REPLY, STEP_TLS_UP,
    alq_step, check_alq_requestor, run_alq_requestor,
};
use relay_tests::mesh::{AHEAD_NANOS, address};
use relay_tests::messages::{CLIENT_DUID, iaaddr, iaprefix, status};

use super::{keep, replay};

const NOW: u32 = (AHEAD_NANOS / 1_000_000_000) as u32 + 1000 - 946_684_800;

/// What was begun on the first, second, … connection.
fn on(connection: u8, step: u8, data: &[u8]) -> Vec<u8> {
    alq_step(step | connection << 3, data)
}

fn sessions() -> Vec<(&'static str, Vec<u8>)> {
    let leases = [
        iaprefix("2001:db8:100::/56", 3600, 7200),
        iaaddr("2001:db8:1::c3", 3600, 7200),
    ]
    .concat();
    let client = Said::new(CLIENT_DUID, address(1), 5, &leases).option();
    let gone = Said::new(
        CLIENT_DUID,
        address(1),
        1,
        &iaprefix("2001:db8:100::/56", 0, 0),
    )
    .option();
    let timed = |data: &[u8], secs: u32| [data, &base_time(NOW + secs)].concat();
    let data = |connection: u8, options: &[u8]| {
        on(connection, STEP_MESSAGE, &[&[17][..], options].concat())
    };
    // Connections 0 and 1 are of the peers, 2 of the server; 1 shakes hands first.
    let insecure = [
        on(0, STEP_CONNECTED, &[]),
        on(0, STEP_REPLY, &timed(&[], 0)),
    ]
    .concat();
    let bulk = [
        on(3, STEP_CONNECTED, &[]),
        on(3, STEP_REPLY, &timed(&client, 0)),
        data(3, &timed(&client, 0)),
        on(3, STEP_MESSAGE, &[&[16][..], &base_time(NOW)].concat()),
    ]
    .concat();
    let live = [
        insecure,
        bulk,
        data(0, &timed(&client, 1)),
        data(0, &timed(&gone, 2)),
    ]
    .concat();
    let secure = [
        on(1, STEP_CONNECTED, &[]),
        on(1, STEP_MESSAGE, &[7]),
        on(1, STEP_TLS_UP, &[]),
        on(1, STEP_REPLY, &timed(&client, 0)),
    ]
    .concat();
    let server = [
        on(2, STEP_CONNECTED, &[]),
        on(2, STEP_REPLY, &client),
        on(2, STEP_MESSAGE, &[16]),
        on(2, STEP_REPLY, &status(9)),
        on(2, STEP_REPLY, &[]),
    ]
    .concat();
    let again = [
        live.clone(),
        on(0, STEP_END, &[]),
        alq_step(STEP_PASS, &[61]),
        on(2, STEP_CONNECTED, &[]),
        on(2, STEP_REPLY, &timed(&status(12), 61)),
        alq_step(STEP_PASS, &[130]),
    ]
    .concat();
    vec![
        ("live", live.clone()),
        ("secure", secure),
        ("server", server),
        ("again", again),
        (
            "back",
            [live.clone(), data(0, &base_time(NOW - 100))].concat(),
        ),
        (
            "resync",
            [live.clone(), alq_step(STEP_OTHER, &[0])].concat(),
        ),
        ("incoming", [live, alq_step(STEP_OTHER, &[9])].concat()),
    ]
}

#[test]
fn alq_requestor_corpus_holds_the_sessions_written_here() {
    for (name, input) in sessions() {
        keep("alq_requestor", name, &input);
    }
}

/// A corpus whose sessions no longer bring anything would fuzz nothing but the first checks.
#[test]
fn alq_requestor_corpus_brings_what_its_sessions_bring() {
    for (name, input) in sessions() {
        assert_eq!(run_alq_requestor(&input), 2, "{name}");
    }
}

#[test]
fn alq_requestor_of_the_corpus_and_its_mutations_holds_its_property() {
    replay("alq_requestor", 20_000, check_alq_requestor);
}
