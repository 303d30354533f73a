//! A restart of the real daemon with many bindings, beside what no restart can do without: reading the store,
//! having the kernel list its routes, handing it routes. `cargo xtask bench restart` builds and runs it.
//!
//! In one run: a store is made; a bare sender installs the routes that it calls for; the daemon starts where the
//! kernel has none of them; it is killed and starts again with all routes in place, beside a bare scan and a bare
//! dump. Then restarts and the end of all bindings while clients renew; memory, and the time of a whole `show`.

mod bare;
mod daemon;
mod load;
#[path = "../routes_bench/raw.rs"]
#[expect(
    dead_code,
    reason = "it is the bench of routes that deletes and tries next-hop objects"
)]
mod raw;
mod stock;
#[path = "../routes_bench/world.rs"]
#[expect(dead_code, reason = "it is the bench of routes that counts entries")]
mod world;

use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use xtask::bench::goals::{self, Goal};

use daemon::Daemon;
use load::Load;

/// Restarts with all routes in place; the median counts.
const RESTARTS: usize = 3;
const DAYS: Duration = Duration::from_secs(2 * 86_400);
/// Until all bindings end at one time: time to make the store, to read it and to install the routes.
const SOON: Duration = Duration::from_secs(40);
/// Long enough for everything that is measured under load.
const LOAD: Duration = Duration::from_secs(5);

struct Bench {
    binary: PathBuf,
    folder: PathBuf,
    clients: u64,
    goals: Vec<Goal>,
}

fn main() -> anyhow::Result<()> {
    let mut clients = 500_000;
    let mut binary = PathBuf::from("target/release/twinrelay");
    let mut words = std::env::args().skip(1);
    while let Some(word) = words.next() {
        let value = words
            .next()
            .with_context(|| format!("{word}: without a value"))?;
        match word.as_str() {
            "--clients" => clients = value.parse::<u64>()?.max(load::CLIENTS),
            "--binary" => binary = value.into(),
            _ => bail!("{word}: unknown"),
        }
    }
    let binary = binary.canonicalize().context("the daemon: --binary")?;
    let folder =
        std::env::current_dir()?.join(format!("target/restart-bench-{}", std::process::id()));
    std::fs::create_dir_all(&folder)?;
    let mut bench = Bench {
        binary,
        folder,
        clients,
        goals: Vec::new(),
    };
    let result = bench.all();
    let _ = std::fs::remove_dir_all(&bench.folder);
    result?;
    goals::print(&bench.goals);
    Ok(())
}

impl Bench {
    fn all(&mut self) -> anyhow::Result<()> {
        stock::make(&self.state(), self.clients, DAYS)?;
        let wanted = stock::routes(self.clients);
        let raw = world::in_namespace(|acc0| raw::Raw::open()?.add(&wanted, acc0))?;
        drop(wanted);
        println!(
            "a bare sender installs the routes in {:.2} s",
            raw.as_secs_f64()
        );
        std::thread::scope(|scope| {
            let bench = scope.spawn(|| {
                daemon::enter_namespace()?;
                self.routes_gone(raw)?;
                self.routes_there()?;
                self.under_load()?;
                self.expiry()
            });
            bench
                .join()
                .unwrap_or_else(|panic| std::panic::resume_unwind(panic))
        })
    }

    fn state(&self) -> PathBuf {
        self.folder.join("state")
    }

    fn bindings(&self) -> u64 {
        2 * self.clients
    }

    fn start(&self) -> anyhow::Result<(Daemon, Instant)> {
        let started = Instant::now();
        Ok((Daemon::start(&self.binary, &self.folder)?, started))
    }

    fn routes_gone(&mut self, raw: Duration) -> anyhow::Result<()> {
        let bindings = self.bindings();
        let (daemon, started) = self.start()?;
        let answered = daemon.wait_until_it_answers(started)?;
        let installed = daemon.wait_for_routes(bindings, started)?;
        let [resident, peak] = daemon.memory()?;
        println!(
            "{bindings} bindings, no route in the kernel: {:.2} s until the daemon answers, {:.2} s until all \
             routes are in the kernel; resident {:.0} MiB, at most {:.0} MiB",
            answered.as_secs_f64(),
            installed.as_secs_f64(),
            mebibytes(resident),
            mebibytes(peak),
        );
        let shown = Instant::now();
        let rows = daemon.show(&self.binary)?;
        println!(
            "show bindings --json: {rows} rows in {:.2} s",
            shown.elapsed().as_secs_f64()
        );
        daemon.kill()?;
        self.goals.push(Goal::at_most(
            "restart, routes gone / bare installation",
            installed.as_secs_f64() / raw.as_secs_f64(),
            1.5,
            "x",
        ));
        self.goals.push(Goal::at_most(
            "resident memory a binding",
            resident as f64 / bindings as f64,
            400.0,
            " bytes",
        ));
        Ok(())
    }

    fn routes_there(&mut self) -> anyhow::Result<()> {
        let mut ratios = Vec::new();
        for _ in 0..RESTARTS {
            let (daemon, started) = self.start()?;
            let answered = daemon.wait_until_it_answers(started)?;
            let verified = daemon.wait_for_routes(self.bindings(), started)?;
            let [resident, _] = daemon.memory()?;
            daemon.kill()?;
            let scan = bare::scan(&self.state())?;
            let (dump, routes) = bare::dump()?;
            println!(
                "routes in the kernel: {:.2} s until the daemon answers, {:.2} s until every route is verified, \
                 resident {:.0} MiB; bare scan of the store {:.2} s, bare dump of {routes} routes {:.2} s",
                answered.as_secs_f64(),
                verified.as_secs_f64(),
                mebibytes(resident),
                scan.as_secs_f64(),
                dump.as_secs_f64()
            );
            ratios.push(verified.as_secs_f64() / (scan + dump).as_secs_f64());
        }
        ratios.sort_by(f64::total_cmp);
        self.goals.push(Goal::at_most(
            "restart, routes in the kernel / bare scan and dump",
            ratios[RESTARTS / 2],
            2.0,
            "x",
        ));
        Ok(())
    }

    /// Clients renew from the moment on when the daemon answers.
    fn under_load(&self) -> anyhow::Result<()> {
        println!(
            "\n{:<44} {:>10} {:>10} {:>10} unanswered",
            "RENEW to Reply, us", "median", "99 %", "most"
        );
        let (daemon, started) = self.start()?;
        daemon.wait_until_it_answers(started)?;
        let load = Load::start(daemon.id(), LOAD)?;
        load.outcome()?.print("routes are verified");
        daemon.wait_for_routes(self.bindings(), started)?;
        Load::start(daemon.id(), LOAD)?
            .outcome()?
            .print("nothing else to do");
        daemon.kill()?;

        daemon::renew_access_interface()?;
        let (daemon, started) = self.start()?;
        daemon.wait_until_it_answers(started)?;
        let load = Load::start(daemon.id(), LOAD)?;
        load.outcome()?.print("routes are installed");
        daemon.wait_for_routes(self.bindings(), started)?;
        daemon.kill()
    }

    /// All bindings but those of the clients that renew end at one time.
    fn expiry(&mut self) -> anyhow::Result<()> {
        std::fs::remove_dir_all(self.state())?;
        let ends = Instant::now() + SOON;
        stock::make(&self.state(), self.clients, SOON)?;
        let (daemon, started) = self.start()?;
        daemon.wait_for_routes(self.bindings(), started)?;
        // Their leases are renewed before the end.
        Load::start(daemon.id(), LOAD)?.outcome()?;
        let begins = ends - Duration::from_secs(1);
        std::thread::sleep(begins.saturating_duration_since(Instant::now()));
        let load = Load::start(daemon.id(), LOAD * 2)?;
        std::thread::sleep(ends.saturating_duration_since(Instant::now()));
        let gone = daemon.wait_for_routes(2 * load::CLIENTS, ends)?;
        load.outcome()?.print("bindings end");
        println!(
            "\n{} bindings end at one time: their routes are gone {:.2} s later",
            self.bindings() - 2 * load::CLIENTS,
            gone.as_secs_f64()
        );
        daemon.kill()
    }
}

fn mebibytes(bytes: u64) -> f64 {
    bytes as f64 / f64::from(1 << 20)
}
