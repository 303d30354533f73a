//! One run of the load generator against one relay: what is asked of it, and what it counted. Decides no rates.

use super::network::{LOAD_CPU, Network, RELAY_CPU, run};
use crate::run::Result;
use std::collections::HashMap;
use std::path::Path;

/// Up to this share of exchanges may be missing in a run that counts as lossless.
const LOSSLESS: f64 = 0.001;
/// So much of what is offered must be answered while it is offered, not from buffers afterwards.
const KEPT_UP: f64 = 0.98;
/// A run that offered less than this share of what was asked is bounded by the generator.
const OFFERED: f64 = 0.97;

/// Clients and server around a running relay.
pub struct Load<'a> {
    /// The generator with its stub server.
    pub generator: &'a Path,
    /// Where it sends.
    pub network: &'a Network,
    /// The relay's process.
    pub relay_pid: u32,
    /// Simulated clients.
    pub clients: u32,
}

/// What the generator counted in one run.
pub struct Trial {
    asked: f64,
    words: HashMap<String, f64>,
}

impl Load<'_> {
    /// Offers so many RENEWs and SOLICITs a second for so long.
    pub fn offer(&self, renews: u64, solicits: u64, milliseconds: u64) -> Result<Trial> {
        self.run(renews, solicits, 0, milliseconds)
    }

    /// Offers RENEWs to something that forwards nothing, and as many answers that nobody asked for.
    pub fn offer_both_ways(&self, renews: u64, milliseconds: u64) -> Result<Trial> {
        self.run(renews, 0, renews, milliseconds)
    }

    fn run(&self, renews: u64, solicits: u64, unasked: u64, milliseconds: u64) -> Result<Trial> {
        let network = self.network;
        let words = [
            format!("access_netns={}", network.namespace("clients")),
            format!("access_interface={}", network.clients()),
            format!("core_netns={}", network.namespace("server")),
            format!("core_interface={}", network.server()),
            format!("clients={}", self.clients),
            format!("renews={renews}"),
            format!("solicits={solicits}"),
            format!("unasked={unasked}"),
            format!("relay_mac={}", network.core_mac()?),
            format!("milliseconds={milliseconds}"),
            format!("relay_cpu={RELAY_CPU}"),
            format!("relay_pid={}", self.relay_pid),
        ];
        let (cpu, generator) = (LOAD_CPU.to_string(), self.generator.to_string_lossy());
        let mut args = vec!["-c", &cpu, &generator];
        args.extend(words.iter().map(String::as_str));
        let line = run("taskset", &args)?;
        let words = line
            .split_whitespace()
            .filter_map(|word| {
                let (key, value) = word.split_once('=')?;
                Some((key.to_owned(), value.parse().ok()?))
            })
            .collect();
        Ok(Trial {
            asked: (renews + solicits) as f64 * milliseconds as f64 / 1000.0,
            words,
        })
    }

    /// Lets every client renew once, at about so many a second, and fails where nothing comes back.
    pub fn warm(&self, rate: u64) -> Result<Trial> {
        let trial = self.offer(rate, 0, u64::from(self.clients) * 1000 / rate + 300)?;
        if trial.get("answered") == 0.0 {
            return Err(format!(
                "nothing came back: sent {}, at the server {}",
                trial.get("sent"),
                trial.get("forwarded")
            ));
        }
        Ok(trial)
    }
}

impl Trial {
    /// One of the generator's numbers; not a number where it did not print that.
    pub fn get(&self, key: &str) -> f64 {
        self.words.get(key).copied().unwrap_or(f64::NAN)
    }

    /// Share of exchanges without an answer.
    pub fn loss(&self) -> f64 {
        1.0 - self.get("answered") / self.get("sent")
    }

    /// The relay kept up: buffers of many megabytes would else let a short run at any rate look lossless.
    pub fn kept_up(&self) -> bool {
        self.loss() <= LOSSLESS && self.goodput() >= self.offered() * KEPT_UP
    }

    /// The generator could not offer what was asked of it.
    pub fn bounded(&self) -> bool {
        self.get("sent") < self.asked * OFFERED
    }

    /// Exchanges offered a second.
    pub fn offered(&self) -> f64 {
        self.get("sent") / self.get("window_us") * 1e6
    }

    /// Answers a second while the load was on.
    pub fn goodput(&self) -> f64 {
        self.get("window_answered") / self.get("window_us") * 1e6
    }

    /// Messages relayed: to the server and to the clients.
    pub fn messages(&self) -> f64 {
        self.get("forwarded") + self.get("answered")
    }

    /// The whole busy time of the relay's CPU per message that it received, µs: where nothing is relayed.
    pub fn cpu_per_arrival(&self) -> f64 {
        self.get("busy_us") / (self.get("sent") + self.get("unasked_sent"))
    }

    /// The whole busy time of the relay's CPU per message relayed, µs.
    pub fn cpu_per_message(&self) -> f64 {
        self.get("busy_us") / self.messages()
    }
}
