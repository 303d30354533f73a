//! `bench forward`: packets a second that one CPU forwards to subscribers, by the kernel's routes, by an XDP program
//! that asks them, by ours, and by one that asks nothing. Runs the program that measures one of them at a time, in
//! turn, and compares. Knows no XDP.

use super::goals::{self, Goal};
use super::report::median;
use crate::run::{Result, cargo, is_root, root, run};
use std::collections::BTreeMap;
use std::process::Command;

/// In the order of a round.
const WAYS: [&str; 4] = ["kernel", "fib", "ours", "bare"];
/// What is in use at a time, and all there is.
const SIZES: [u64; 2] = [10_000, 1_000_000];

/// What the arguments ask for.
pub struct Options {
    rounds: usize,
    milliseconds: u64,
    sizes: Vec<u64>,
}

impl Options {
    /// Reads the arguments.
    pub fn parse(mut args: impl Iterator<Item = String>) -> Result<Self> {
        let mut options = Self {
            rounds: 3,
            milliseconds: 1500,
            sizes: vec![],
        };
        while let Some(word) = args.next() {
            let value = args.next().ok_or(format!("{word}: without a value"))?;
            let number = value
                .parse::<u64>()
                .map_err(|_| format!("{word} {value}: no number"))?;
            match word.as_str() {
                "--rounds" => options.rounds = number.max(1) as usize,
                "--milliseconds" => options.milliseconds = number.max(100),
                "--bindings" => options.sizes.push(number.max(2)),
                _ => return Err(format!("{word} {value}: unknown")),
            }
        }
        if options.sizes.is_empty() {
            options.sizes = SIZES.to_vec();
        }
        Ok(options)
    }
}

/// Nanoseconds of the router's thread for a packet that it received, of each round, by way and size.
type Figures = BTreeMap<(u64, &'static str), Vec<f64>>;

/// Measures and prints.
pub fn main(options: &Options) -> Result<()> {
    if !is_root() {
        return Err("network namespaces need root: sudo cargo xtask bench forward".into());
    }
    crate::build_ebpf::build()?;
    run(cargo().args(["build", "--locked"]).args([
        "--package",
        "relay-tests",
        "--example",
        "forward_bench",
    ]))?;
    let mut figures = Figures::new();
    let mut fills = BTreeMap::<u64, Vec<f64>>::new();
    for round in 1..=options.rounds {
        for &size in &options.sizes {
            for way in WAYS {
                println!(
                    "round {round} of {}: {way}, {size} bindings",
                    options.rounds
                );
                let said = measure(way, size, options.milliseconds)?;
                let figure = |name: &str| {
                    let found = said.get(name).copied();
                    found.ok_or(format!("{way}: no figure {name}"))
                };
                let nanos = 1e9 * figure("core")? / figure("received")?;
                println!(
                    "  {nanos:.0} ns a packet, {:.0} with the sink's thread; CPU idle {:.0} %, lost behind the router {:.0} %",
                    1e9 * (figure("core")? + figure("sink")?) / figure("received")?,
                    100.0 * figure("idle")? / figure("elapsed")?,
                    100.0 * (1.0 - figure("packets")? / figure("received")?),
                );
                figures.entry((size, way)).or_default().push(nanos);
                fills.entry(size).or_default().extend(said.get("fill"));
            }
        }
    }
    println!(
        "\n{:<10} {:<8} {:>12} {:>10} {:>10} {:>12}",
        "bindings", "way", "ns a packet", "least", "most", "/s of CPU"
    );
    for ((size, way), nanos) in &figures {
        let fold = |pick: fn(f64, f64) -> f64, from| nanos.iter().copied().fold(from, pick);
        let middle = median(nanos.clone());
        println!(
            "{size:<10} {way:<8} {middle:>12.0} {:>10.0} {:>10.0} {:>12.0}",
            fold(f64::min, f64::MAX),
            fold(f64::max, 0.0),
            1e9 / middle
        );
    }
    for (size, seconds) in fills {
        println!(
            "{size} entries written, one system call each: {:.2} s",
            median(seconds)
        );
    }
    goals::print(&goals(&figures, &options.sizes));
    Ok(())
}

/// One run of the program.
fn measure(way: &str, bindings: u64, milliseconds: u64) -> Result<BTreeMap<String, f64>> {
    let output = Command::new(root().join("target/debug/examples/forward_bench"))
        .args([way, &bindings.to_string(), &milliseconds.to_string()])
        .output()
        .map_err(|error| format!("forward_bench: {error}"))?;
    if !output.status.success() {
        let why = String::from_utf8_lossy(&output.stderr).into_owned();
        return Err(format!("forward_bench {way}: {}", why.trim()));
    }
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let pairs = text.lines().filter_map(|line| line.split_once('='));
    Ok(pairs
        .filter_map(|(key, value)| Some((key.to_owned(), value.parse().ok()?)))
        .collect())
}

fn goals(figures: &Figures, sizes: &[u64]) -> Vec<Goal> {
    let pairs = |size: u64, other: &'static str, of: fn(f64, f64) -> f64| {
        let ours = figures.get(&(size, "ours")).into_iter().flatten();
        let others = figures.get(&(size, other)).into_iter().flatten();
        median(
            others
                .zip(ours)
                .map(|(other, ours)| of(*other, *ours))
                .collect(),
        )
    };
    let ratio = |other: f64, ours: f64| other / ours;
    let added = |other: f64, ours: f64| ours - other;
    let mut goals = Vec::new();
    for &size in sizes {
        let is_large = size >= 1_000_000;
        goals.push(Goal::at_least(
            format!("packets a second, ours / kernel routing, {size} bindings"),
            pairs(size, "kernel", ratio),
            if is_large { 4.0 } else { 2.5 },
            "x",
        ));
        if is_large {
            goals.push(Goal::at_least(
                format!("packets a second, ours / bpf_fib_lookup, {size} bindings"),
                pairs(size, "fib", ratio),
                2.5,
                "x",
            ));
        }
        goals.push(Goal::at_most(
            format!("added to a bare redirect, {size} bindings"),
            pairs(size, "bare", added),
            if is_large { 700.0 } else { 300.0 },
            " ns",
        ));
    }
    goals
}
