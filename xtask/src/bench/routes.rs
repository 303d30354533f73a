//! `bench routes`: what the follower makes of a million routes, beside a bare sender of netlink messages and beside
//! `ip -batch`. Runs the program that measures one of them at a time, in turn, and compares. Knows no netlink.

use super::goals::{self, Goal};
use super::report::median;
use crate::run::{Result, cargo, is_root, root, run};
use std::collections::BTreeMap;
use std::process::Command;

/// What is demanded within a second is demanded of so many.
const FEW: u64 = 10_000;
/// In the order of a round.
const WAYS: [&str; 5] = ["raw", "ours", "sorted", "next-hops", "ip"];

/// What the arguments ask for.
pub struct Options {
    rounds: usize,
    routes: u64,
    ways: Vec<String>,
}

impl Options {
    /// Reads the arguments.
    pub fn parse(mut args: impl Iterator<Item = String>) -> Result<Self> {
        let mut options = Self {
            rounds: 3,
            routes: 1_000_000,
            ways: vec![],
        };
        while let Some(word) = args.next() {
            let value = args.next().ok_or(format!("{word}: without a value"))?;
            let number = || {
                value
                    .parse::<u64>()
                    .map_err(|_| format!("{word} {value}: no number"))
            };
            match word.as_str() {
                "--rounds" => options.rounds = number()?.max(1) as usize,
                "--routes" => options.routes = number()?.max(FEW),
                "--way" if WAYS.contains(&value.as_str()) => options.ways.push(value),
                _ => return Err(format!("{word} {value}: unknown")),
            }
        }
        if options.ways.is_empty() {
            options.ways = WAYS.map(str::to_owned).to_vec();
        }
        Ok(options)
    }
}

/// All values of one name.
type Figures = BTreeMap<String, Vec<f64>>;

/// Measures and prints.
pub fn main(options: &Options) -> Result<()> {
    if !is_root() {
        return Err("network namespaces need root: sudo cargo xtask bench routes".into());
    }
    run(cargo().args(["build", "--locked", "--release"]).args([
        "--package",
        "relay-tests",
        "--example",
        "routes_bench",
    ]))?;
    let mut figures = Figures::new();
    for round in 1..=options.rounds {
        for way in &options.ways {
            println!("round {round} of {}: {way}", options.rounds);
            measure(&mut figures, way, way, options.routes)?;
        }
        if options.ways.iter().any(|way| way == "ours") {
            measure(&mut figures, "few", "ours", FEW)?;
        }
    }
    print(&figures, options.routes);
    goals::print(&goals(&figures, options.routes));
    Ok(())
}

/// One run of the program; what it says is added to the figures, under `name`.
fn measure(figures: &mut Figures, name: &str, way: &str, routes: u64) -> Result<()> {
    let program = root().join("target/release/examples/routes_bench");
    let output = Command::new(program)
        .args([way, &routes.to_string()])
        .output()
        .map_err(|error| format!("routes_bench: {error}"))?;
    if !output.status.success() {
        let why = String::from_utf8_lossy(&output.stderr).into_owned();
        return Err(format!(
            "routes_bench {way}: {}",
            why.lines().next().unwrap_or_default()
        ));
    }
    for line in String::from_utf8_lossy(&output.stdout).lines() {
        if let Some((key, value)) = line.split_once('=')
            && let Ok(value) = value.parse()
        {
            figures
                .entry(format!("{name} {key}"))
                .or_default()
                .push(value);
        }
    }
    Ok(())
}

fn print(figures: &Figures, routes: u64) {
    println!(
        "\n{:<28} {:>10} {:>10} {:>10} {:>12}",
        "", "median", "least", "most", "routes/s"
    );
    for (name, values) in figures {
        let count = if name.starts_with("few") { FEW } else { routes };
        let (least, most) = values
            .iter()
            .fold((f64::MAX, f64::MIN), |(least, most), value| {
                (least.min(*value), most.max(*value))
            });
        let middle = median(values.clone());
        let is_time = !["bytes", "bytes_after", "repaired"]
            .iter()
            .any(|it| name.ends_with(it));
        let rate = match name.ends_with("install") || name.ends_with(" delete") {
            true if is_time => format!("{:.0}", count as f64 / middle),
            _ => String::new(),
        };
        println!("{name:<28} {middle:>10.3} {least:>10.3} {most:>10.3} {rate:>12}");
    }
}

fn goals(figures: &Figures, routes: u64) -> Vec<Goal> {
    let ratio = |one: &str, other: &str| {
        let pairs = figures.get(one).into_iter().flatten();
        let pairs = pairs.zip(figures.get(other).into_iter().flatten());
        median(pairs.map(|(one, other)| one / other).collect())
    };
    let middle = |name: &str| median(figures.get(name).cloned().unwrap_or_default());
    let mut goals = vec![
        Goal::at_most(
            format!("{routes} routes installed, ours / raw"),
            ratio("ours install", "raw install"),
            1.25,
            "x",
        ),
        Goal::at_least(
            format!("{routes} routes installed, ip -6 -batch / ours"),
            ratio("ip install", "ours install"),
            3.0,
            "x",
        ),
    ];
    for (what, name) in [
        ("back after a link flap", "ours flap"),
        ("back after ip route flush", "ours flushed"),
        ("back after the interface was made anew", "ours recreated"),
    ] {
        let figure = ratio(name, "raw install");
        goals.push(Goal::at_most(
            format!("{routes} routes {what} / raw installation"),
            figure,
            1.5,
            "x",
        ));
    }
    for (what, name) in [
        ("back after a link flap", "few flap"),
        ("back after ip route flush", "few flushed"),
        ("back after the interface was made anew", "few recreated"),
    ] {
        goals.push(Goal::at_most(
            format!("{FEW} routes {what}"),
            middle(name),
            1.0,
            " s",
        ));
    }
    goals.push(Goal::at_most(
        "one deleted route is back",
        middle("few deleted"),
        1.0,
        " s",
    ));
    goals.push(Goal::at_most(
        format!("memory of the follower for each of {routes} routes"),
        middle("ours bytes"),
        100.0,
        " bytes",
    ));
    goals
}
