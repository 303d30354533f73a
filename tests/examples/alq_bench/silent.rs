//! What a peer that never reads costs the relay that has news for it.

use std::time::Duration;

use anyhow::ensure;
use xtask::bench::goals::Goal;

use crate::median;
use crate::pair::{Pair, Place, Side};

/// Clients that renew, two bindings each.
const CLIENTS: u64 = 20_000;
const RATE: u64 = 4000;
const LENGTH: Duration = Duration::from_secs(CLIENTS / RATE);
const MEBIBYTE: f64 = 1_048_576.0;

/// What became of one relay.
struct Grown {
    /// Resident memory at most, less what it was before.
    process: f64,
    /// What its sockets have not sent.
    kernel: f64,
    changed: u64,
}

/// Measures.
pub fn measure(place: Place<'_>, rounds: usize) -> anyhow::Result<Vec<Goal>> {
    println!(
        "\nMiB by which a relay grows while {CLIENTS} clients get address and prefix, and renew them, {} a second",
        RATE
    );
    println!(
        "{:>6} {:>12} {:>14} {:>18} {:>9} {:>9}",
        "round", "peer reads", "peer does not", "in the kernel", "bindings", "bytes each"
    );
    let (mut costs, mut bound) = (Vec::new(), f64::MAX);
    for round in 1..=rounds {
        let reads = one(place, true)?;
        let silent = one(place, false)?;
        let cost = silent.process + silent.kernel - reads.process - reads.kernel;
        println!(
            "{round:>6} {:>12.2} {:>14.2} {:>8.2}, {:>8.2} {:>9} {:>9.1}",
            reads.process / MEBIBYTE,
            silent.process / MEBIBYTE,
            reads.kernel / MEBIBYTE,
            silent.kernel / MEBIBYTE,
            silent.changed,
            cost / silent.changed as f64,
        );
        costs.push(cost / MEBIBYTE);
        bound = bound.min(1.0 + 64.0 * silent.changed as f64 / MEBIBYTE);
    }
    Ok(vec![Goal::at_most(
        "memory for a peer that does not read",
        median(costs),
        (bound * 100.0).floor() / 100.0,
        " MiB",
    )])
}

/// In a relay of its own, because memory that a process has once had hides what it takes again.
fn one(place: Place<'_>, reads: bool) -> anyhow::Result<Grown> {
    let mut pair = Pair::new(place)?;
    for side in [Side::Twin, Side::Empty] {
        pair.start(side)?;
    }
    pair.wait_until_both_are_active()?;
    if !reads {
        pair.halt(Side::Empty)?;
    }
    let [before, _] = pair.memory(Side::Twin)?;
    let mut changed = 0;
    for _ in 0..2 {
        let load = pair.load(CLIENTS, RATE, LENGTH)?.outcome()?;
        changed = 2 * load.answered().min(CLIENTS);
    }
    let [_, peak] = pair.memory(Side::Twin)?;
    ensure!(
        pair.sessions(Side::Twin)? == 2.0,
        "the session with the peer that does not read has ended"
    );
    Ok(Grown {
        process: peak.saturating_sub(before) as f64,
        kernel: pair.unsent_bytes(Side::Twin)? as f64,
        changed,
    })
}
