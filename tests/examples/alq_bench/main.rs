//! A relay that comes back empty, and its twin that serves it, over TLS: `cargo xtask bench alq` builds and runs
//! it. Two daemons, each in a network namespace of its own, with a wire between them.
//!
//! For each size: a bare sender installs the routes; the twin starts from a store that holds the bindings; the other
//! one starts empty, and is timed until it has all of them in its table, on disk and as routes. Then what serving
//! does to the twin's relaying, how soon one new lease is a route at the other relay, and what a peer that does not
//! read costs.

mod live;
mod pair;
#[path = "../routes_bench/raw.rs"]
#[expect(
    dead_code,
    reason = "it is the bench of routes that deletes and tries next-hop objects"
)]
mod raw;
#[path = "../restart_bench/stock.rs"]
mod stock;
#[path = "../routes_bench/world.rs"]
#[expect(dead_code, reason = "it is the bench of routes that counts entries")]
mod world;

use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use xtask::bench::goals::{self, Goal};

use pair::{Pair, Side};

const DAYS: Duration = Duration::from_secs(2 * 86_400);
/// Messages a second of the load beside a catch-up, and of new leases.
const RATE: u64 = 1000;
/// How long clients ask, where it is for a median.
const LOAD: Duration = Duration::from_secs(5);
/// Clients that are new to both relays, two leases each.
const NEW_CLIENTS: u64 = 500;
/// Clients that renew while a peer does not read.
const RENEWING: u64 = 20_000;

struct Bench {
    binary: PathBuf,
    folder: PathBuf,
    goals: Vec<Goal>,
}

fn main() -> anyhow::Result<()> {
    let mut sizes = Vec::new();
    let mut binary = PathBuf::from("target/release/twinrelay");
    let mut words = std::env::args().skip(1);
    while let Some(word) = words.next() {
        let value = words
            .next()
            .with_context(|| format!("{word}: without a value"))?;
        match word.as_str() {
            "--clients" => sizes.push(value.parse::<u64>()?),
            "--binary" => binary = value.into(),
            _ => bail!("{word}: unknown"),
        }
    }
    if sizes.is_empty() {
        sizes = vec![50_000, 500_000];
    }
    let binary = binary.canonicalize().context("the daemon: --binary")?;
    let folder =
        std::env::current_dir()?.join(format!("target/alq-bench-{}", std::process::id()));
    std::fs::create_dir_all(&folder)?;
    let mut bench = Bench {
        binary,
        folder,
        goals: Vec::new(),
    };
    let result = bench.all(&sizes);
    let _ = std::fs::remove_dir_all(&bench.folder);
    result?;
    goals::print(&bench.goals);
    Ok(())
}

impl Bench {
    fn all(&mut self, sizes: &[u64]) -> anyhow::Result<()> {
        for clients in sizes {
            self.catch_up(*clients)?;
        }
        self.live()?;
        self.silent()
    }

    /// Alone first, then while clients of the twin renew.
    fn catch_up(&mut self, clients: u64) -> anyhow::Result<()> {
        let bindings = 2 * clients;
        let wanted = stock::routes(clients);
        let raw = world::in_namespace(|acc0| raw::Raw::open()?.add(&wanted, acc0))?;
        drop(wanted);
        let mut pair = Pair::new(&self.binary, &self.folder)?;
        stock::make(&pair.state(Side::Twin)?, clients, DAYS)?;
        let started = Instant::now();
        pair.start(Side::Twin)?;
        pair.wait_for_routes(Side::Twin, bindings, started)?;
        let idle = pair.load(1000, RATE, LOAD)?.outcome()?;

        let started = Instant::now();
        pair.start(Side::Empty)?;
        let table = pair.wait_for_bindings(bindings, started)?;
        let disk = pair.wait_for_records(bindings, started)?;
        let routes = pair.wait_for_routes(Side::Empty, bindings, started)?;
        let ready = pair.wait_until_ready(started)?;
        pair.expect_equal()?;
        let total = disk.max(routes);
        println!(
            "{bindings} bindings over TLS: {:.2} s until they are in the table, {:.2} s on disk, {:.2} s as routes, \
             {:.2} s until ready; a bare sender installs the routes in {:.2} s",
            table.as_secs_f64(),
            disk.as_secs_f64(),
            routes.as_secs_f64(),
            ready.as_secs_f64(),
            raw.as_secs_f64(),
        );
        self.goals.push(Goal::at_most(
            format!("{bindings} bindings back / bare installation"),
            total.as_secs_f64() / raw.as_secs_f64(),
            2.0,
            "x",
        ));

        pair.begin_anew()?;
        let started = Instant::now();
        pair.start(Side::Empty)?;
        let load = pair.load(1000, RATE, pair::at_least(total, LOAD))?;
        let serving = load.outcome()?;
        pair.wait_for_routes(Side::Empty, bindings, started)?;
        println!(
            "RENEW to Reply at the twin, {RATE} a second: median {:.0} us idle, {:.0} us while it serves; {} of {} \
             unanswered",
            idle.micros, serving.micros, serving.unanswered, serving.sent
        );
        self.goals.push(Goal::at_most(
            format!("median latency while serving {bindings} / idle"),
            serving.micros / idle.micros,
            2.0,
            "x",
        ));
        Ok(())
    }

    /// From a Reply that leaves one relay to the route in the other one's kernel.
    fn live(&mut self) -> anyhow::Result<()> {
        let mut pair = Pair::new(&self.binary, &self.folder)?;
        for side in [Side::Twin, Side::Empty] {
            pair.start(side)?;
        }
        pair.wait_until_both_are_active()?;
        let length = LOAD;
        let clients = NEW_CLIENTS * length.as_secs();
        let watch = live::Watch::start(&pair)?;
        // Two leases each: so many changes a second.
        let load = pair.load(clients, NEW_CLIENTS, length)?.outcome()?;
        let delays = watch.end(2 * clients as usize)?;
        let at = |part: f64| {
            let last = delays.len().saturating_sub(1);
            delays
                .get((part * last as f64) as usize)
                .map_or(f64::NAN, |it| it.as_secs_f64() * 1e3)
        };
        println!(
            "{} new leases a second: from the Reply of one relay to the route at the other: median {:.2} ms, 99 % \
             {:.2} ms, most {:.2} ms ({} routes, {} of {} clients unanswered)",
            2 * NEW_CLIENTS,
            at(0.5),
            at(0.99),
            at(1.0),
            delays.len(),
            load.unanswered,
            load.sent,
        );
        let goals = [
            ("median from Reply to the twin's route", at(0.5), 10.0),
            ("99 % from Reply to the twin's route", at(0.99), 50.0),
        ];
        for (what, figure, bound) in goals {
            self.goals.push(Goal::at_most(what, figure, bound, " ms"));
        }
        Ok(())
    }

    /// The same renewals twice: once a peer reads, once it does not.
    fn silent(&mut self) -> anyhow::Result<()> {
        let mut pair = Pair::new(&self.binary, &self.folder)?;
        for side in [Side::Twin, Side::Empty] {
            pair.start(side)?;
        }
        pair.wait_until_both_are_active()?;
        let rate = RENEWING / LOAD.as_secs();
        for _ in 0..2 {
            pair.load(RENEWING, rate, LOAD)?.outcome()?;
        }
        let before = pair.memory(Side::Twin)?;
        pair.halt(Side::Empty)?;
        let load = pair.load(RENEWING, rate, LOAD)?.outcome()?;
        let after = pair.memory(Side::Twin)?;
        let changed = 2 * (load.sent - load.unanswered).min(RENEWING);
        let cost = after.saturating_sub(before);
        println!(
            "a peer that does not read while {changed} bindings change costs {:.2} MiB",
            cost as f64 / f64::from(1 << 20)
        );
        self.goals.push(Goal::at_most(
            format!("memory for a peer that does not read, {changed} changes"),
            cost as f64 / f64::from(1 << 20),
            1.0 + 64.0 * changed as f64 / f64::from(1 << 20),
            " MiB",
        ));
        Ok(())
    }
}
