//! A relay starts empty: until it has everything, beside a bare sender that installs the same routes; and how long
//! clients wait at the twin that serves it meanwhile.

use std::time::{Duration, Instant};

use xtask::bench::goals::Goal;

use crate::pair::{Figures, Outcome, Pair, Place, Side};
use crate::{median, raw, stock, world};

/// Clients that renew meanwhile, each about once a second.
pub const RENEWING: u64 = 1000;
const RATE: u64 = 1000;
/// How long they do where nothing else is going on.
const IDLE: Duration = Duration::from_secs(3);
/// Of the time that the first catch-up took to reach the table: what they do is over before the next one is.
const PART_OF_CATCH_UP: u32 = 3;
/// Bindings last for so long.
const DAYS: Duration = Duration::from_secs(2 * 86_400);

/// Of one size.
struct Round {
    bare: Duration,
    back: Figures,
    idle: Outcome,
    /// `None`: it was over too soon.
    serving: Option<Outcome>,
}

impl Round {
    /// Everything is back when all is on disk and all are routes.
    fn ratio(&self) -> f64 {
        let back = self.back.disk.max(self.back.routes);
        back.as_secs_f64() / self.bare.as_secs_f64()
    }

    fn added(&self, of: impl Fn(&Outcome) -> f64) -> f64 {
        self.serving
            .as_ref()
            .map_or(f64::NAN, |serving| of(serving) / of(&self.idle))
    }
}

/// Measures all sizes.
pub fn measure(place: Place<'_>, sizes: &[u64], rounds: usize) -> anyhow::Result<Vec<Goal>> {
    println!("seconds until a relay that starts empty has all bindings of its twin, over TLS");
    println!(
        "{:>9} {:>6} {:>8} {:>8} {:>8} {:>8} {:>8} {:>7}",
        "bindings", "round", "bare", "table", "disk", "routes", "ready", "ratio"
    );
    let mut all = Vec::new();
    for bindings in sizes {
        let mut of_size = Vec::new();
        for round in 1..=rounds {
            let measured = one(place, *bindings / 2)?;
            let Figures {
                table,
                disk,
                routes,
                ready,
            } = measured.back;
            let [bare, table, disk, routes, ready] =
                [measured.bare, table, disk, routes, ready].map(|it| it.as_secs_f64());
            println!(
                "{bindings:>9} {round:>6} {bare:>8.2} {table:>8.2} {disk:>8.2} {routes:>8.2} {ready:>8.2} {:>6.2}x",
                measured.ratio()
            );
            of_size.push(measured);
        }
        all.push((*bindings, of_size));
    }
    println!("\nus at the twin, {RATE} RENEWs a second, medians");
    println!(
        "{:>9} {:>6} {:>12} {:>12} {:>12} {:>12} {:>11}",
        "bindings", "round", "relay, idle", "serving", "Reply, idle", "serving", "unanswered"
    );
    let mut goals = Vec::new();
    for (bindings, rounds) in &all {
        for (number, round) in (1..).zip(rounds) {
            print_latency(*bindings, number, round);
        }
        let middle = |of: &dyn Fn(&Round) -> f64| median(rounds.iter().map(of));
        goals.push(Goal::at_most(
            format!("{bindings} bindings back / bare installation"),
            middle(&Round::ratio),
            2.0,
            "x",
        ));
        goals.push(Goal::at_most(
            format!("relay latency of the twin while it serves {bindings} / idle"),
            middle(&|round| round.added(|it| it.relay_micros)),
            2.0,
            "x",
        ));
    }
    Ok(goals)
}

fn print_latency(bindings: u64, number: usize, round: &Round) {
    let idle = &round.idle;
    print!("{bindings:>9} {number:>6} {:>12.0} ", idle.relay_micros);
    match &round.serving {
        Some(serving) => println!(
            "{:>12.0} {:>12.0} {:>12.0} {:>4} of {}",
            serving.relay_micros,
            idle.reply_micros,
            serving.reply_micros,
            serving.unanswered,
            serving.sent
        ),
        None => println!(
            "{:>12} {:>12.0} the catch-up ended before the load",
            "", idle.reply_micros
        ),
    }
}

fn one(place: Place<'_>, clients: u64) -> anyhow::Result<Round> {
    let bindings = 2 * clients;
    let mut pair = Pair::new(place)?;
    stock::make(&pair.state(Side::Twin)?, clients, DAYS)?;
    pair.start(Side::Twin)?;
    pair.wait_for_everything(Side::Twin, bindings, Instant::now())?;
    let wanted = stock::routes(clients);
    let bare = || world::in_namespace(|acc0| raw::Raw::open()?.add(&wanted, acc0));
    // Whoever comes first pays for memory that the kernel of a virtual machine has never touched, up to a third of
    // its time. That is neither the relay nor the sender that counts.
    bare()?;
    let bare = bare()?;
    drop(wanted);

    let started = Instant::now();
    pair.start(Side::Empty)?;
    let back = pair.wait_for_everything(Side::Empty, bindings, started)?;
    pair.expect_equal()?;

    // The other relay is another machine: what it does is to take nothing from the twin.
    pair.stop_and_forget(Side::Empty)?;
    pair.separate()?;
    let idle = pair.load(RENEWING, RATE, IDLE)?.outcome()?;
    pair.start(Side::Empty)?;
    pair.wait_for_bindings(Side::Empty, 1)?;
    let load = pair.load(RENEWING, RATE, back.table / PART_OF_CATCH_UP)?;
    let serving = load.outcome()?;
    let is_serving = pair.bindings(Side::Empty)? < bindings as f64;
    Ok(Round {
        bare,
        back,
        idle,
        serving: is_serving.then_some(serving),
    })
}
