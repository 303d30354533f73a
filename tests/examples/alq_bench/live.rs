//! From a Reply that leaves one relay to the routes of its leases in the other one's kernel.

use std::time::Duration;

use anyhow::ensure;
use xtask::bench::goals::Goal;

use crate::median;
use crate::pair::{Pair, Place, Side};
use crate::watch::Watch;

/// Clients a second that neither relay knows, with an address and a prefix each: two changes.
const RATE: u64 = 500;
const LENGTH: Duration = Duration::from_secs(10);

/// Measures.
pub fn measure(place: Place<'_>, rounds: usize) -> anyhow::Result<Vec<Goal>> {
    println!(
        "\nms from the Reply at one relay to the route at the other, {} new leases a second",
        2 * RATE
    );
    println!(
        "{:>6} {:>8} {:>8} {:>8} {:>10} {:>18} {:>11}",
        "round", "median", "99 %", "most", "routes", "before the Reply", "unanswered"
    );
    let (mut halves, mut most) = (Vec::new(), Vec::new());
    for round in 1..=rounds {
        let (delays, early, unanswered) = one(place)?;
        let at = |percent: usize| {
            let at = (delays.len() * percent / 100).min(delays.len() - 1);
            delays[at].as_secs_f64() * 1e3
        };
        println!(
            "{round:>6} {:>8.2} {:>8.2} {:>8.2} {:>10} {early:>18} {unanswered:>11}",
            at(50),
            at(99),
            at(100),
            delays.len()
        );
        halves.push(at(50));
        most.push(at(99));
    }
    Ok(vec![
        Goal::at_most(
            "from a Reply to the other relay's route, median",
            median(halves),
            10.0,
            " ms",
        ),
        Goal::at_most("the same, 99 %", median(most), 50.0, " ms"),
    ])
}

/// Delays in order; how many routes were there before the Reply had left; clients without an answer.
fn one(place: Place<'_>) -> anyhow::Result<(Vec<Duration>, usize, u64)> {
    let mut pair = Pair::new(place)?;
    for side in [Side::Twin, Side::Empty] {
        pair.start(side)?;
    }
    pair.wait_until_both_are_active()?;
    let watch = Watch::start(&pair)?;
    let clients = RATE * LENGTH.as_secs();
    let load = pair.load(clients, RATE, LENGTH)?.outcome()?;
    let (replies, routes) = watch.end()?;
    let answered = 2 * load.answered();
    ensure!(
        replies.len() as u64 * 100 >= answered * 99,
        "{} leases were seen in Replies, {answered} were answered",
        replies.len()
    );
    let mut early = 0;
    let mut delays = Vec::new();
    for (lease, left) in &replies {
        let there = routes.get(lease);
        let Some(there) = there else {
            anyhow::bail!("{lease} was in a Reply and did not become a route at the other relay");
        };
        early += usize::from(there < left);
        delays.push(there.saturating_sub(*left));
    }
    ensure!(!delays.is_empty(), "no client had an answer");
    delays.sort_unstable();
    Ok((delays, early, load.unanswered))
}
