//! Measures one way of installing routes in a network namespace of its own, as `NAME=VALUE` lines; times are in
//! seconds. `cargo xtask bench routes` builds it, runs its ways in turn and compares them.

mod follow;
mod raw;
mod world;

use std::fmt::Write as _;
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context, bail, ensure};
use relay_core::types::IfIndex;

use follow::Follower;
use raw::Raw;
use world::{METRIC, PROTOCOL, Wanted, entries, in_namespace, ip, wait_for_entries, wanted};

fn main() -> anyhow::Result<()> {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let [way, routes] = &words[..] else {
        bail!("expected a way and a number of routes");
    };
    let routes = wanted(routes.parse()?);
    match way.as_str() {
        "raw" => in_namespace(|acc0| {
            let mut raw = Raw::open()?;
            tell("install", raw.add(&routes, acc0)?);
            expect(&routes)?;
            tell("delete", raw.delete(&routes)?);
            Ok(())
        }),
        "sorted" => in_namespace(|acc0| {
            let mut routes = routes;
            routes.sort_by_key(|route| route.prefix);
            tell("install", Raw::open()?.add(&routes, acc0)?);
            expect(&routes)
        }),
        "next-hops" => in_namespace(|acc0| {
            let (objects, by_objects) = Raw::open()?.add_by_objects(&routes, acc0)?;
            tell("objects", objects);
            tell("install", objects + by_objects);
            expect(&routes)
        }),
        "ip" => in_namespace(|_| {
            tell("install", ip_batch(&routes)?);
            expect(&routes)
        }),
        "ours" => in_namespace(|acc0| ours(&routes, acc0)),
        other => bail!("{other}: no such way"),
    }
}

fn tell(name: &str, time: Duration) {
    println!("{name}={:.6}", time.as_secs_f64());
}

/// At least these are there; a handful of others are the kernel's own.
fn expect(routes: &[Wanted]) -> anyhow::Result<()> {
    let found = entries()?;
    ensure!(
        found >= routes.len() as u64,
        "{found} of {} routes are there",
        routes.len()
    );
    Ok(())
}

fn ours(routes: &[Wanted], acc0: IfIndex) -> anyhow::Result<()> {
    let before = resident()?;
    let mut follower = Follower::start()?;
    tell("install", follower.add(routes, acc0)?);
    expect(routes)?;
    println!("bytes={:.1}", (resident()? - before) / routes.len() as f64);
    tell("renew", follower.add(routes, acc0)?);
    let full = entries()?;

    let started = Instant::now();
    ip("link set acc0 down")?;
    tell("down", started.elapsed());
    ip("link set acc0 up")?;
    tell("flap", wait_for_entries(full, Instant::now())?);

    let started = Instant::now();
    ip("-6 route flush proto 207")?;
    tell("flush", started.elapsed());
    tell("flushed", wait_for_entries(full, Instant::now())?);

    let one = routes.first().context("no routes")?;
    let (repaired, started) = (follower.repaired(), Instant::now());
    ip(&format!("-6 route del {} proto 207", one.prefix))?;
    while follower.repaired() == repaired {
        ensure!(started.elapsed() < world::PATIENCE, "it does not come back");
        std::thread::sleep(Duration::from_micros(500));
    }
    tell("deleted", started.elapsed());

    ip("link del acc0")?;
    let acc0 = world::make_interface()?;
    tell("recreated", follower.add(routes, acc0)?);
    expect(routes)?;
    println!("repaired={}", follower.repaired());
    println!(
        "bytes_after={:.1}",
        (resident()? - before) / routes.len() as f64
    );
    tell("delete", follower.delete(routes)?);
    Ok(())
}

fn ip_batch(routes: &[Wanted]) -> anyhow::Result<Duration> {
    let mut text = String::new();
    for route in routes {
        let (prefix, gateway) = (route.prefix, route.gateway);
        writeln!(
            text,
            "route add {prefix} via {gateway} dev acc0 proto {PROTOCOL} metric {METRIC}"
        )?;
    }
    let file = tempfile::NamedTempFile::new()?;
    std::fs::write(file.path(), text)?;
    let started = Instant::now();
    let status = Command::new("ip")
        .args(["-6", "-batch"])
        .arg(file.path())
        .status()
        .context("run ip")?;
    ensure!(status.success(), "ip -batch: {status}");
    Ok(started.elapsed())
}

/// Bytes of memory that are this process's own.
fn resident() -> anyhow::Result<f64> {
    let status = std::fs::read_to_string("/proc/self/status")?;
    let line = status.lines().find_map(|it| it.strip_prefix("RssAnon:"));
    let kilobytes = line.and_then(|it| it.split_whitespace().next());
    Ok(kilobytes.context("no RssAnon")?.parse::<f64>()? * 1024.0)
}
