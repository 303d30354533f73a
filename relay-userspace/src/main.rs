//! `twinrelay`: daemon and command line in one file. Decides which part of the library a verb
//! goes to and what the exit code is, nothing else.

use std::io::{IsTerminal, Write};
use std::path::Path;
use std::process::ExitCode;

use clap::{CommandFactory, Parser};
use relay_userspace::cli::{Cli, Tls, Verb};
use relay_userspace::leasequery::init;
use relay_userspace::{client, config};

/// Usage or configuration.
const EXIT_CONFIGURATION: u8 = 2;

fn main() -> ExitCode {
    let cli = Cli::parse();
    let file = cli.place.config.as_deref();
    let file = file.unwrap_or_else(|| Path::new(config::DEFAULT_PATH));
    match cli.verb {
        Verb::Run => run(file),
        Verb::Check => check(file),
        Verb::Completions { shell } => {
            let mut command = Cli::command();
            clap_complete::generate(shell, &mut command, "twinrelay", &mut std::io::stdout());
            ExitCode::SUCCESS
        }
        Verb::Man { dir } => match clap_mangen::generate_to(Cli::command(), &dir) {
            Ok(()) => ExitCode::SUCCESS,
            Err(error) => {
                let dir = dir.display();
                let message = format!("cannot write to {dir}: {error}; name an existing folder");
                fail(EXIT_CONFIGURATION, &message)
            }
        },
        Verb::Tls {
            what: Tls::Init { name, peer, dir },
        } => match init::init([&name, &peer], &dir) {
            Ok(lines) => {
                // A closed standard output takes the lines; the files are there.
                let _ = write!(std::io::stdout(), "{lines}");
                ExitCode::SUCCESS
            }
            Err(error) => fail(EXIT_CONFIGURATION, &format!("{error:#}")),
        },
        verb => match client::run(&cli.place, verb) {
            Ok(()) | Err(client::Failure::OutputClosed) => ExitCode::SUCCESS,
            Err(failure) => fail(failure.exit_code(), &failure.to_string()),
        },
    }
}

/// The daemon ended by a fault of its own.
const EXIT_FAILED: u8 = 1;

fn run(file: &Path) -> ExitCode {
    let loaded = match config::load(file) {
        Ok(loaded) => loaded,
        Err(report) => {
            eprintln!("{}", report.render(std::io::stderr().is_terminal()));
            return ExitCode::from(EXIT_CONFIGURATION);
        }
    };
    match relay_userspace::daemon::run(file, loaded) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => fail(EXIT_FAILED, &format!("{error:#}")),
    }
}

fn check(file: &Path) -> ExitCode {
    let colour = std::io::stderr().is_terminal();
    match config::load(file) {
        Ok(loaded) => {
            if !loaded.report.diagnostics().is_empty() {
                eprintln!("{}", loaded.report.render(colour));
            }
            // A closed standard output takes nothing from the answer: it is the exit code.
            let _ = writeln!(std::io::stdout(), "{} is fine", file.display());
            ExitCode::SUCCESS
        }
        Err(report) => {
            eprintln!("{}", report.render(colour));
            ExitCode::from(EXIT_CONFIGURATION)
        }
    }
}

fn fail(code: u8, message: &str) -> ExitCode {
    eprintln!("twinrelay: {message}");
    ExitCode::from(code)
}
