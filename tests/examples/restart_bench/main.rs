//! A restart of the real daemon with many bindings, beside what no restart can do without: reading the store and
//! having the kernel list its routes. `cargo xtask bench restart` builds and runs it.
//!
//! In one run: a store is made; the daemon starts where the kernel has no route of it; it is killed and starts
//! again with all routes in place; then the store is read and the routes are listed by programs that do no more.
//! Also what the daemon takes of memory, and how long a whole `show` takes.

mod bare;
mod daemon;
mod stock;

use std::path::PathBuf;
use std::time::Instant;

use anyhow::{Context, bail};
use xtask::bench::goals::{self, Goal};

use daemon::Daemon;

fn main() -> anyhow::Result<()> {
    let mut clients = 500_000;
    let mut binary = PathBuf::from("target/release/twinrelay");
    let mut words = std::env::args().skip(1);
    while let Some(word) = words.next() {
        let value = words
            .next()
            .with_context(|| format!("{word}: without a value"))?;
        match word.as_str() {
            "--clients" => clients = value.parse::<u64>()?.max(1),
            "--binary" => binary = value.into(),
            _ => bail!("{word}: unknown"),
        }
    }
    let binary = binary.canonicalize().context("the daemon: --binary")?;
    let folder =
        std::env::current_dir()?.join(format!("target/restart-bench-{}", std::process::id()));
    std::fs::create_dir_all(&folder)?;
    let result = std::thread::scope(|scope| {
        let bench = scope.spawn(|| {
            daemon::enter_namespace()?;
            bench(&binary, &folder, clients)
        });
        bench
            .join()
            .unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    });
    let _ = std::fs::remove_dir_all(&folder);
    goals::print(&result?);
    Ok(())
}

fn bench(
    binary: &std::path::Path,
    folder: &std::path::Path,
    clients: u64,
) -> anyhow::Result<Vec<Goal>> {
    let bindings = 2 * clients;
    let state = folder.join("state");
    stock::make(&state, clients)?;

    let started = Instant::now();
    let daemon = Daemon::start(binary, folder)?;
    let (known, installed) = daemon.wait_for_routes(bindings, started)?;
    let resident = daemon.resident_bytes()?;
    println!(
        "{bindings} bindings, no route in the kernel: {:.2} s until the daemon answers, {:.2} s until all routes are \
         in the kernel; resident {:.0} MiB",
        known.as_secs_f64(),
        installed.as_secs_f64(),
        resident as f64 / f64::from(1 << 20)
    );
    let shown = Instant::now();
    let rows = daemon.show(binary)?;
    println!(
        "show bindings --json: {rows} rows in {:.2} s",
        shown.elapsed().as_secs_f64()
    );
    daemon.kill()?;

    let started = Instant::now();
    let daemon = Daemon::start(binary, folder)?;
    let (known, verified) = daemon.wait_for_routes(bindings, started)?;
    println!(
        "routes still in the kernel: {:.2} s until the daemon answers, {:.2} s until every route is verified",
        known.as_secs_f64(),
        verified.as_secs_f64()
    );
    daemon.kill()?;

    let scan = bare::scan(&state)?;
    let (dump, routes) = bare::dump()?;
    println!(
        "bare scan of the store: {:.2} s; bare dump of {routes} routes: {:.2} s",
        scan.as_secs_f64(),
        dump.as_secs_f64()
    );
    Ok(vec![
        Goal::at_most(
            "restart, routes in the kernel, against bare scan and dump",
            verified.as_secs_f64() / (scan + dump).as_secs_f64(),
            2.0,
            "x",
        ),
        Goal::at_most(
            "resident memory a binding",
            resident as f64 / bindings as f64,
            400.0,
            " bytes",
        ),
    ])
}
