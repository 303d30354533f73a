//! `bench relay`: which loads each relay gets and what is read from them. Rounds are interleaved, for a shared
//! machine is slower at some times than at others.

use super::USAGE;
use super::goals;
use super::load::{Load, Trial};
use super::network::Network;
use super::peers::{Limits, Peer, Running};
use super::report::{self, Round, Row};
use crate::run::{Result, cargo, is_root, root, run as run_visibly};
use std::path::{Path, PathBuf};

/// The search for the lossless rate starts here, in exchanges a second.
const FIRST_RATE: f64 = 4000.0;
/// It grows by this factor until something is lost…
const GROWTH: f64 = 1.6;
/// …but not beyond this rate…
const LAST_RATE: f64 = 400_000.0;
/// …and then halves the gap so many times.
const BISECTIONS: usize = 4;
/// A common rate of exchanges at which each message comes alone.
const LOW_RATE: u64 = 5000;
/// A relay that leaves a larger share unanswered is not compared at that rate: what it drops costs less.
const EQUAL_LOSS_MAX: f64 = 0.02;
/// Exchanges a second at which latency is taken.
const LATENCY_RATE: u64 = 1000;
/// Exchanges a second at which every client is seen once before anything is measured.
const WARM_RATE: u64 = 2000;

/// The command line.
pub struct Options {
    rounds: usize,
    clients: u32,
    rates: Vec<u64>,
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
            rates: vec![],
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
                "--rate" => options.rates.push(u64::from(number()?.max(1))),
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
            vec!["twinrelay", "reflector", "floor", "dhcrelay", "dnsmasq"]
        } else {
            self.relays.iter().map(String::as_str).collect()
        };
        names
            .into_iter()
            .map(|name| match name {
                "twinrelay" => twinrelay().map(|binary| Peer::Twinrelay(binary, Limits::Off)),
                "reflector" => reflector().map(Peer::Reflector),
                "floor" => reflector().map(Peer::Floor),
                "dhcrelay" => Ok(Peer::Dhcrelay),
                "dnsmasq" => Ok(Peer::Dnsmasq),
                _ => Err(format!(
                    "--relay {name}: use twinrelay, reflector, floor, dhcrelay or dnsmasq"
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
    let rates = match options.rates.as_slice() {
        [] => common_rates(options, &peers, &generator, &network)?,
        rates => rates.to_vec(),
    };
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
            let bench = Bench::new(options, &generator, &network, &running);
            let result = bench.round(peer, &rates)?;
            println!(
                "round {round} {:<10} {}{}; XDP threads {}",
                peer.name(),
                report::line(&result, &rates),
                if result.bounded {
                    ", bounded by the generator"
                } else {
                    ""
                },
                running.napi_threads,
            );
            row.rounds.push(result);
        }
    }
    report::print(&rows, &rates);
    goals::print(&report::goals(&rows, &rates));
    Ok(())
}

/// The rates at which all are compared: a low one, and the highest that each peer relays without loss.
fn common_rates(
    options: &Options,
    peers: &[Peer],
    generator: &Path,
    network: &Network,
) -> Result<Vec<u64>> {
    let mut rates = vec![LOW_RATE];
    for peer in peers {
        if matches!(peer, Peer::Dhcrelay | Peer::Dnsmasq) {
            let running = peer.start(network)?;
            let bench = Bench::new(options, generator, network, &running);
            bench.load.warm(WARM_RATE)?;
            let (lossless, ..) = bench.lossless()?;
            println!("{} relays {lossless:.0}/s without loss", peer.name());
            rates.push(lossless as u64);
        }
    }
    Ok(rates)
}

struct Bench<'a> {
    options: &'a Options,
    load: Load<'a>,
}

impl<'a> Bench<'a> {
    fn new(
        options: &'a Options,
        generator: &'a Path,
        network: &'a Network,
        relay: &Running,
    ) -> Self {
        Self {
            options,
            load: Load {
                generator,
                network,
                relay_pid: relay.pid(),
                clients: options.clients,
            },
        }
    }

    fn round(&self, peer: &Peer, rates: &[u64]) -> Result<Round> {
        if !peer.relays() {
            return self.floor(rates);
        }
        self.load.warm(WARM_RATE)?;
        let latency = self.offer(LATENCY_RATE, 1000)?;
        let mut round = Round {
            latency: latency.get("latency_ns") / 1000.0,
            ..Round::default()
        };
        for &rate in rates {
            let trial = self.offer(rate, self.options.milliseconds * 2)?;
            round.foreign = round.foreign.max(foreign(&trial));
            round.equal_latency.push(trial.get("latency_ns") / 1000.0);
            round.equal_cpu.push(match trial.loss() <= EQUAL_LOSS_MAX {
                true => trial.cpu_per_message(),
                false => f64::NAN,
            });
        }
        if self.options.rates.is_empty() {
            self.limits(&mut round)?;
        }
        Ok(round)
    }

    /// What the arrival of the same messages costs where nothing is relayed.
    fn floor(&self, rates: &[u64]) -> Result<Round> {
        let mut round = Round::default();
        for &rate in rates {
            let milliseconds = self.options.milliseconds * 2;
            let trial = self.load.offer_both_ways(rate, milliseconds)?;
            round.foreign = round.foreign.max(foreign(&trial));
            round.equal_cpu.push(trial.cpu_per_arrival());
        }
        Ok(round)
    }

    /// What the relay can do at most, and what it does beyond.
    fn limits(&self, round: &mut Round) -> Result<()> {
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
        round.saturated_cpu = saturated.cpu_per_message();
        round.saturated_rate = saturated.messages() / saturated.get("total_us") * 1e6;
        round.lossless = lossless;
        round.overload = overload.goodput() / peak * 100.0;
        round.overload_factor = overload.offered() / lossless;
        round.renews_kept = flood.get("replies") / flood.get("renews_sent") * 100.0;
        round.bounded = bounded;
        Ok(())
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

/// User time of other programs on the relay's CPU, in percent.
fn foreign(trial: &Trial) -> f64 {
    trial.get("foreign_user_us") / trial.get("total_us") * 100.0
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
