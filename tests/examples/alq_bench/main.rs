//! A relay that comes back empty, and its twin that serves it, over TLS: `cargo xtask bench alq` builds and runs
//! it. Two daemons, each in a network namespace of its own, with a wire between them.
//!
//! For each size: how soon the empty one has all bindings in its table, on disk and as routes, beside a bare sender
//! that installs the same routes; and what serving that does to the twin's relaying. Then how soon a new lease is a
//! route at the other relay, and what a peer that does not read costs. Rounds are repeated; medians count.

mod catch_up;
mod live;
mod pair;
#[path = "../routes_bench/raw.rs"]
#[expect(
    dead_code,
    reason = "it is the bench of routes that deletes and tries next-hop objects"
)]
mod raw;
mod silent;
#[path = "../restart_bench/stock.rs"]
mod stock;
mod watch;
#[path = "../routes_bench/world.rs"]
#[expect(dead_code, reason = "it is the bench of routes that counts entries")]
mod world;

use std::path::PathBuf;

use anyhow::{Context, bail};
use xtask::bench::goals;

/// The parts, in the order in which they run.
const PARTS: [&str; 3] = ["catch-up", "live", "silent"];

/// What the arguments ask for.
struct Options {
    rounds: usize,
    bindings: Vec<u64>,
    parts: Vec<String>,
    binary: PathBuf,
}

impl Options {
    fn parse(mut words: impl Iterator<Item = String>) -> anyhow::Result<Self> {
        let mut options = Self {
            rounds: 3,
            bindings: Vec::new(),
            parts: Vec::new(),
            binary: PathBuf::from("target/release/twinrelay"),
        };
        while let Some(word) = words.next() {
            let value = words
                .next()
                .with_context(|| format!("{word}: without a value"))?;
            match word.as_str() {
                "--rounds" => options.rounds = value.parse::<usize>()?.max(1),
                "--bindings" => options
                    .bindings
                    .push(value.parse::<u64>()?.max(2 * catch_up::RENEWING)),
                "--part" if PARTS.contains(&value.as_str()) => options.parts.push(value),
                "--binary" => options.binary = value.into(),
                _ => bail!("{word} {value}: unknown"),
            }
        }
        if options.bindings.is_empty() {
            options.bindings = vec![100_000, 1_000_000];
        }
        if options.parts.is_empty() {
            options.parts = PARTS.map(str::to_owned).to_vec();
        }
        options.binary = options
            .binary
            .canonicalize()
            .context("the daemon: --binary")?;
        Ok(options)
    }
}

/// A folder that is gone in the end.
struct Folder(PathBuf);

impl Drop for Folder {
    fn drop(&mut self) {
        // Nobody is left to tell.
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

fn main() -> anyhow::Result<()> {
    let options = Options::parse(std::env::args().skip(1))?;
    let name = format!("target/alq-bench-{}", std::process::id());
    let folder = Folder(std::env::current_dir()?.join(name));
    std::fs::create_dir_all(&folder.0)?;
    let place = pair::Place {
        binary: &options.binary,
        folder: &folder.0,
    };
    let mut goals = Vec::new();
    for part in &options.parts {
        goals.extend(match part.as_str() {
            "catch-up" => catch_up::measure(place, &options.bindings, options.rounds)?,
            "live" => live::measure(place, options.rounds)?,
            _ => silent::measure(place, options.rounds)?,
        });
    }
    goals::print(&goals);
    Ok(())
}

/// The middle value; of an even number the upper of the two.
fn median(values: impl IntoIterator<Item = f64>) -> f64 {
    xtask::bench::median(values.into_iter().collect())
}
