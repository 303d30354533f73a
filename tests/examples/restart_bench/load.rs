//! Clients that renew, and their server, beside the daemon: `loadgen`, run and read.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use anyhow::{Context, ensure};

/// RENEWs a second.
const RATE: u64 = 1000;
/// Each renews about once a second, so that all stay.
pub const CLIENTS: u64 = 1000;

/// A load that is under way.
pub struct Load(Child);

/// What it came to.
pub struct Outcome {
    /// Times from a client's message to the Reply that is back: half of them were below, 99 % were, all were.
    pub micros: [f64; 3],
    pub sent: u64,
    pub unanswered: u64,
}

impl Load {
    /// For so long, in the network namespace of the calling thread; `daemon` is the process to be watched.
    pub fn start(daemon: u32, length: Duration) -> anyhow::Result<Self> {
        let namespace = format!("/proc/{}/ns/net", nix::unistd::gettid());
        let child = Command::new(program()?)
            .args([
                format!("access_netns={namespace}"),
                "access_interface=cli0".to_owned(),
                format!("core_netns={namespace}"),
                "core_interface=srv0".to_owned(),
                format!("clients={CLIENTS}"),
                format!("renews={RATE}"),
                "solicits=0".to_owned(),
                "unasked=0".to_owned(),
                "relay_mac=02:00:00:00:00:02".to_owned(),
                format!("milliseconds={}", length.as_millis()),
                "relay_cpu=0".to_owned(),
                format!("relay_pid={daemon}"),
            ])
            .stdout(Stdio::piped())
            .spawn()
            .context("start loadgen")?;
        Ok(Self(child))
    }

    /// Waits for its end.
    pub fn outcome(self) -> anyhow::Result<Outcome> {
        let output = self.0.wait_with_output()?;
        ensure!(output.status.success(), "loadgen: {}", output.status);
        let text = String::from_utf8_lossy(&output.stdout);
        let number = |key: &str| {
            let mut words = text.split_whitespace();
            let value = words.find_map(|word| word.strip_prefix(key)?.strip_prefix('='));
            value
                .and_then(|value| value.parse::<u64>().ok())
                .with_context(|| format!("loadgen: no {key}"))
        };
        let micros = |key| anyhow::Ok(number(key)? as f64 / 1e3);
        let sent = number("sent")?;
        Ok(Outcome {
            micros: [
                micros("round_trip_ns")?,
                micros("round_trip_99_ns")?,
                micros("round_trip_most_ns")?,
            ],
            sent,
            unanswered: sent.saturating_sub(number("answered")?),
        })
    }
}

impl Outcome {
    /// One line of the table.
    pub fn print(&self, what: &str) {
        let [half, most, all] = self.micros;
        println!(
            "{what:<44} {half:>10.0} {most:>10.0} {all:>10.0} {:>6} of {}",
            self.unanswered, self.sent
        );
    }
}

/// It stands beside this program.
fn program() -> anyhow::Result<PathBuf> {
    let own = std::env::current_exe()?;
    Ok(own.parent().unwrap_or(Path::new(".")).join("loadgen"))
}
