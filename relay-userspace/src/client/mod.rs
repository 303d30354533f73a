//! The command line as a client of the control socket, and of nothing else. Decides what a verb
//! asks for, how an answer reads and which exit code it is.

mod dataplane;
mod http;
mod leasequery;
mod monitor;
mod show;
mod statistics;
mod table;
mod top;

use std::io::{self, Write};
use std::path::{Path, PathBuf};

use serde::Deserialize;

use crate::cli::{Clear, ClearBinding, Place, Verb};
use crate::config;

/// Why a verb failed: one exit code each.
#[derive(Debug, thiserror::Error)]
pub enum Failure {
    /// The answer is no: exit code 1.
    #[error("{0}")]
    No(String),
    /// Usage or configuration: exit code 2.
    #[error("{0}")]
    Usage(String),
    /// The daemon cannot be reached: exit code 3.
    #[error("{0}")]
    Unreachable(String),
    /// It refused: exit code 4.
    #[error("{0}")]
    Refused(String),
    /// Whoever read our output left: no message, exit code 0.
    #[error("standard output was closed")]
    OutputClosed,
}

impl Failure {
    /// The exit code.
    pub fn exit_code(&self) -> u8 {
        match self {
            Self::OutputClosed => 0,
            Self::No(_) => 1,
            Self::Usage(_) => 2,
            Self::Unreachable(_) => 3,
            Self::Refused(_) => 4,
        }
    }
}

impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Self {
        if error.kind() == io::ErrorKind::BrokenPipe {
            return Self::OutputClosed;
        }
        Self::Refused(format!("cannot write the answer: {error}"))
    }
}

/// Carries out a verb that talks to the daemon.
///
/// # Errors
/// [`Failure`], with one line that says what to do.
pub fn run(place: &Place, verb: Verb) -> Result<(), Failure> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| Failure::Unreachable(format!("no tokio runtime: {error}")))?;
    let daemon = http::Daemon::at(socket_path(place)?);
    runtime.block_on(async {
        match verb {
            Verb::Show(show) => show::run(&daemon, show).await,
            Verb::Monitor { json } => monitor::run(&daemon, json).await,
            Verb::Top => top::run(&daemon).await,
            Verb::Clear { json, what } => clear(&daemon, json, what).await,
            Verb::Request { json, what } => leasequery::request(&daemon, json, what).await,
            Verb::Ready { json } => leasequery::ready(&daemon, json).await,
            Verb::Run
            | Verb::Check
            | Verb::Tls { .. }
            | Verb::Completions { .. }
            | Verb::Man { .. } => Err(Failure::Usage(
                "this verb does not ask the daemon".to_owned(),
            )),
        }
    })
}

/// `--socket`, else in the `run_dir` of the file that `-c` names, else of the default file where
/// there is one, else the default.
fn socket_path(place: &Place) -> Result<PathBuf, Failure> {
    if let Some(socket) = &place.socket {
        return Ok(socket.clone());
    }
    let default = Path::new(config::DEFAULT_PATH);
    let file = match &place.config {
        Some(file) => file,
        None if default.exists() => default,
        None => return Ok(PathBuf::from("/run/twinrelay/control.sock")),
    };
    let loaded = config::load(file).map_err(|report| {
        let summary = report.summary();
        Failure::Usage(format!("{summary}; name the daemon's socket with --socket"))
    })?;
    Ok(loaded.config.relay.run_dir.join("control.sock"))
}

#[derive(Deserialize)]
struct Cleared {
    cleared: usize,
}

async fn clear(daemon: &http::Daemon, json: bool, what: Clear) -> Result<(), Failure> {
    let Clear::Binding(ClearBinding {
        lease,
        duid,
        interface,
    }) = what
    else {
        let answer = daemon.post("/v1/clear/statistics", &[]).await?;
        match json {
            true => io::stdout().write_all(&answer)?,
            false => writeln!(io::stdout(), "counters are zero")?,
        }
        return Ok(());
    };
    let words: Vec<(&str, String)> = [
        ("prefix", lease.map(|lease| lease.to_string())),
        ("duid", duid),
        ("interface", interface),
    ]
    .into_iter()
    .filter_map(|(key, value)| Some((key, value?)))
    .collect();
    let answer = daemon.post("/v1/clear/binding", &words).await?;
    let Cleared { cleared } = http::parse(&answer)?;
    if json {
        io::stdout().write_all(&answer)?;
    }
    let what: Vec<&str> = words.iter().map(|(_, value)| value.as_str()).collect();
    if cleared == 0 {
        let what = what.concat();
        return Err(Failure::No(format!(
            "no binding of {what}; see `twinrelay show bindings`"
        )));
    }
    if !json {
        let plural = if cleared == 1 { "" } else { "s" };
        writeln!(io::stdout(), "{cleared} binding{plural} removed")?;
    }
    Ok(())
}

#[cfg(test)]
mod tests;
