//! The busy time of the relay's CPU, and how much of its user time is the relay's own. Knows /proc only.

use anyhow::{Context, Result};

/// Microseconds in one tick of /proc (USER_HZ is 100 on every Linux platform that Rust's libc knows).
const TICK_US: u64 = 10_000;

/// What to read.
pub struct Watch {
    cpu: u64,
    pid: u64,
}

/// Times in microseconds since boot. The kernel samples all of them at its ticks but idle time, which it
/// measures: work that a tick never meets is still missing there.
#[derive(Clone, Copy, Default)]
pub struct Times {
    /// User and nice.
    pub user: u64,
    /// Interrupts and soft interrupts.
    pub interrupts: u64,
    /// Idle, also while something waits for a disk.
    pub idle: u64,
    /// User time of the relay's process.
    pub relay_user: u64,
    /// User and system time of the relay's process.
    pub relay: u64,
}

impl Watch {
    /// Watches one CPU and one process (all its threads).
    pub fn new(cpu: u64, pid: u64) -> Self {
        Self { cpu, pid }
    }

    /// The times now.
    pub fn read(&self) -> Result<Times> {
        let stat = std::fs::read_to_string("/proc/stat")?;
        let name = format!("cpu{}", self.cpu);
        let cpu: Vec<u64> = stat
            .lines()
            .find(|line| line.split_whitespace().next() == Some(&name))
            .with_context(|| format!("/proc/stat has no {name}"))?
            .split_whitespace()
            .skip(1)
            .filter_map(|word| word.parse().ok())
            .collect();
        let at = |i: usize| cpu.get(i).copied().unwrap_or(0) * TICK_US;
        let process = std::fs::read_to_string(format!("/proc/{}/stat", self.pid))
            .context("the relay has ended: its log tells why")?;
        // The name in parentheses may hold blanks; utime and stime are the 12th and 13th words after it.
        let words: Vec<&str> = process
            .rsplit(')')
            .next()
            .unwrap_or_default()
            .split_whitespace()
            .collect();
        let of = |i: usize| {
            words
                .get(i)
                .and_then(|word| word.parse::<u64>().ok())
                .unwrap_or(0)
                * TICK_US
        };
        Ok(Times {
            user: at(0) + at(1),
            interrupts: at(5) + at(6),
            idle: at(3) + at(4),
            relay_user: of(11),
            relay: of(11) + of(12),
        })
    }
}
