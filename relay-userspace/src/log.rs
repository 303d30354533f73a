//! The log on standard error: text for people and the journal, or one JSON object a line.

use std::io::IsTerminal;

use tracing_subscriber::prelude::*;
use tracing_subscriber::{EnvFilter, Registry, fmt, reload};

use crate::config::LogSection;

/// Changes the level of a running daemon.
#[derive(Clone, Debug)]
pub struct LogHandle {
    filter: reload::Handle<EnvFilter, Registry>,
}

/// Starts the log of this process; once.
///
/// # Errors
/// The level is no `tracing` filter, or a log was started before.
pub fn start(section: &LogSection) -> anyhow::Result<LogHandle> {
    let (filter, handle) = reload::Layer::new(filter(section)?);
    let registry = tracing_subscriber::registry().with(filter);
    let layer = fmt::layer()
        .with_writer(std::io::stderr)
        .with_ansi(std::io::stderr().is_terminal())
        .with_target(false);
    if section.json {
        registry
            .with(layer.json().flatten_event(true).with_target(true))
            .try_init()?;
    } else if stderr_is_journal() {
        // The journal stamps each line itself.
        registry.with(layer.without_time()).try_init()?;
    } else {
        registry.with(layer).try_init()?;
    }
    Ok(LogHandle { filter: handle })
}

impl LogHandle {
    /// Takes the level of a reloaded configuration; its format stays as it was at the start.
    ///
    /// # Errors
    /// The level is no `tracing` filter.
    pub fn reload(&self, section: &LogSection) -> anyhow::Result<()> {
        Ok(self.filter.reload(filter(section)?)?)
    }
}

fn filter(section: &LogSection) -> anyhow::Result<EnvFilter> {
    EnvFilter::builder()
        .parse(&section.level)
        .map_err(|error| anyhow::anyhow!("[log] level = \"{}\": {error}", section.level))
}

/// systemd tells device and inode of the stream it connected to the journal.
fn stderr_is_journal() -> bool {
    let Ok(stream) = std::env::var("JOURNAL_STREAM") else {
        return false;
    };
    nix::sys::stat::fstat(std::io::stderr())
        .is_ok_and(|stat| stream == format!("{}:{}", stat.st_dev, stat.st_ino))
}
