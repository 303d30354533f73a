//! `bench relay`: which loads each relay gets and what is read from them. Rounds are interleaved, for a shared
//! machine is slower at some times than at others.

use super::USAGE;
use super::goals;
use super::load::{Load, Trial};
use super::network::Network;
use super::peers::{Limits, Peer};
use super::report::{self, Round, Row};
use crate::run::{Result, cargo, is_root, root, run as run_visibly};
use std::path::PathBuf;

/// The search for the lossless rate starts here, in exchanges a second.
const FIRST_RATE: f64 = 4000.0;
/// It grows by this factor until something is lost…
const GROWTH: f64 = 1.6;
/// …but not beyond this rate…
const LAST_RATE: f64 = 400_000.0;
/// …and then halves the gap so many times.
const BISECTIONS: usize = 4;
/// Exchanges a second at which latency is taken.
const LATENCY_RATE: u64 = 1000;
/// Exchanges a second at which every client is seen once before anything is measured.
const WARM_RATE: u64 = 2000;

/// The command line.
pub struct Options {
    rounds: usize,
    clients: u32,
    rate: u64,
    mix: u64,
    milliseconds: u64,
    relays: Vec<String>,
}

impl Options {
    /// Reads the arguments after `bench relay`.
    pub fn parse(mut args: impl Iterator<Item = String>) -> Result<Self> {
        let mut options = Self {
            rounds: 5,
            clients: 500,
            rate: 5000,
            mix: 0,
            milliseconds: 1500,
            relays: vec![],
        };
        while let Some(name) = args.next() {
            let value = args
                .next()
                .ok_or_else(|| format!("{name}: unknown or without a value\n{USAGE}"))?;
            let number = || {
                value
                    .parse::<u32>()
                    .map_err(|_| format!("{name} {value}: not a number"))
            };
            match name.as_str() {
                "--rounds" => options.rounds = number()?.max(1) as usize,
                "--clients" => options.clients = number()?.max(1),
                "--rate" => options.rate = u64::from(number()?.max(1)),
                "--mix" => options.mix = u64::from(number()?.min(100)),
                "--milliseconds" => options.milliseconds = u64::from(number()?.max(100)),
                "--relay" => options.relays.push(value),
                _ => return Err(format!("{name}: unknown\n{USAGE}")),
            }
        }
        Ok(options)
    }

    fn peers(&self) -> Result<Vec<Peer>> {
        let names: Vec<&str> = if self.relays.is_empty() {
            vec!["twinrelay", "reflector", "dhcrelay", "dnsmasq"]
        } else {
            self.relays.iter().map(String::as_str).collect()
        };
        names
            .into_iter()
            .map(|name| match name {
                "twinrelay" => twinrelay().map(|binary| Peer::Twinrelay(binary, Limits::Off)),
                "reflector" => reflector().map(Peer::Reflector),
                "dhcrelay" => Ok(Peer::Dhcrelay),
                "dnsmasq" => Ok(Peer::Dnsmasq),
                _ => Err(format!(
                    "--relay {name}: use twinrelay, reflector, dhcrelay or dnsmasq"
                )),
            })
            .collect()
    }
}

/// Measures and prints the table.
pub fn run(options: &Options) -> Result<()> {
    if !is_root() {
        return Err("network namespaces need root: sudo cargo xtask bench relay".into());
    }
    let peers = options.peers()?;
    let generator = generator()?;
    let network = Network::build(options.clients)?;
    let mut rows: Vec<Row> = peers
        .iter()
        .map(|peer| Row {
            name: peer.name(),
            rounds: vec![],
        })
        .collect();
    for round in 1..=options.rounds {
        for (peer, row) in peers.iter().zip(&mut rows) {
            let running = peer.start(&network)?;
            let bench = Bench {
                options,
                load: Load {
                    generator: &generator,
                    network: &network,
                    relay_pid: running.pid(),
                    clients: options.clients,
                },
            };
            let result = bench.round()?;
            println!(
                "round {round} {:<10} {:6.2} us/msg at {}/s, {:6.2} saturated at {:.0} msgs/s, lossless {:.0}/s, \
                 at {:.1}x {:.1} % of peak, RENEWs kept in a flood {:.1} %, latency {:.1} us, \
                 others {:.1} %, XDP threads {}{}",
                peer.name(),
                result.equal_cpu,
                options.rate,
                result.saturated_cpu,
                result.saturated_rate,
                result.lossless,
                result.overload_factor,
                result.overload,
                result.renews_kept,
                result.latency,
                result.foreign,
                running.napi_threads,
                if result.bounded {
                    ", bounded by the generator"
                } else {
                    ""
                },
            );
            row.rounds.push(result);
        }
    }
    report::print(&rows, options.rate);
    goals::print(&report::goals(&rows, options.rate));
    Ok(())
}

struct Bench<'a> {
    options: &'a Options,
    load: Load<'a>,
}

impl Bench<'_> {
    fn round(&self) -> Result<Round> {
        self.load.warm(WARM_RATE)?;
        let latency = self.offer(LATENCY_RATE, 1000)?;
        let equal = self.offer(self.options.rate, self.options.milliseconds * 2)?;
        let (lossless, mut peak, mut bounded) = self.lossless()?;
        let mut at = |factor: f64| {
            let trial = self.offer((lossless * factor) as u64, self.options.milliseconds)?;
            peak = peak.max(trial.goodput());
            bounded |= trial.bounded();
            Ok::<_, String>(trial)
        };
        let saturated = at(1.5)?;
        let overload = at(2.0)?;
        let flood = self.load.offer(
            (lossless / 4.0) as u64,
            (lossless * 2.0) as u64,
            self.options.milliseconds,
        )?;
        Ok(Round {
            equal_cpu: equal.cpu_per_message(),
            saturated_cpu: saturated.cpu_per_message(),
            saturated_rate: saturated.messages() / saturated.get("total_us") * 1e6,
            lossless,
            overload: overload.goodput() / peak * 100.0,
            overload_factor: overload.offered() / lossless,
            latency: latency.get("latency_ns") / 1000.0,
            renews_kept: flood.get("replies") / flood.get("renews_sent") * 100.0,
            foreign: equal.get("foreign_user_us") / equal.get("total_us") * 100.0,
            bounded,
        })
    }

    /// The highest rate found without loss, the best goodput seen on the way, and whether the generator
    /// was the limit.
    fn lossless(&self) -> Result<(f64, f64, bool)> {
        let (mut good, mut bad, mut peak) = (FIRST_RATE / GROWTH, None, 0.0_f64);
        let mut rate = FIRST_RATE;
        for _ in 0..64 {
            let mut trial = self.offer(rate as u64, self.options.milliseconds / 2)?;
            if !trial.kept_up() {
                // Once more: a short disturbance of the machine is not the relay's limit.
                trial = self.offer(rate as u64, self.options.milliseconds / 2)?;
            }
            peak = peak.max(trial.goodput());
            if trial.bounded() && trial.kept_up() {
                return Ok((trial.offered(), peak, true));
            }
            if trial.kept_up() {
                good = rate;
            } else {
                bad = Some(rate);
            }
            match bad {
                None if rate * GROWTH > LAST_RATE => break,
                None => rate *= GROWTH,
                Some(bad) if bad / good < GROWTH.powf(0.5_f64.powi(BISECTIONS as i32)) => break,
                Some(bad) => rate = (good * bad).sqrt(),
            }
        }
        Ok((good, peak, false))
    }

    /// Offers `rate` exchanges a second in the chosen mix.
    fn offer(&self, rate: u64, milliseconds: u64) -> Result<Trial> {
        let solicits = rate * self.options.mix / 100;
        self.load.offer(rate - solicits, solicits, milliseconds)
    }
}

/// Builds with `--release` and returns the program.
fn build(args: &[&str], program: &str) -> Result<PathBuf> {
    run_visibly(cargo().args(["build", "--release", "--quiet"]).args(args))?;
    let target =
        std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| root().join("target"), PathBuf::from);
    Ok(target.join("release").join(program))
}

/// The relay under development.
pub fn twinrelay() -> Result<PathBuf> {
    match std::env::var_os("TWINRELAY_BINARY") {
        Some(binary) => Ok(binary.into()),
        None => build(&["-p", "relay-userspace"], "twinrelay"),
    }
}

/// The load generator with its stub server; `TWINRELAY_LOADGEN` names one that is already built.
pub fn generator() -> Result<PathBuf> {
    match std::env::var_os("TWINRELAY_LOADGEN") {
        Some(binary) => Ok(binary.into()),
        None => build(
            &["-p", "relay-tests", "--example", "loadgen"],
            "examples/loadgen",
        ),
    }
}

/// The bare reflector; `TWINRELAY_REFLECTOR` names one that is already built.
fn reflector() -> Result<PathBuf> {
    match std::env::var_os("TWINRELAY_REFLECTOR") {
        Some(binary) => Ok(binary.into()),
        None => build(
            &["-p", "relay-tests", "--example", "reflector"],
            "examples/reflector",
        ),
    }
}
