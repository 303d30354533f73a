//! `cargo xtask ci`: everything that must hold before a change is taken, cheapest first. Decides only the
//! order; goes on after a failure, so that one run tells all that is wrong.

use std::time::Instant;

use crate::run::{self, Result};
use crate::setup::{self, Purpose};
use crate::{build_ebpf, fuzz, test, tidy, trace};

type Step = fn() -> Result<()>;

const STEPS: [(&str, Step); 8] = [
    ("format", format),
    ("tidy", tidy::main),
    ("trace", || trace::main(&["--check".to_owned()])),
    ("clippy", clippy),
    ("deny", deny),
    ("documentation", documentation),
    ("test", || test::main(&[])),
    ("fuzz", fuzz::all),
];

/// Sets up, then runs all steps.
pub fn main() -> Result<()> {
    let begin = Instant::now();
    setup::ensure(Purpose::Ci)?;
    build_ebpf::build()?;
    eprintln!("set up in {} s", begin.elapsed().as_secs());
    let mut failed = Vec::new();
    for (name, step) in STEPS {
        eprintln!("\n==== {name}");
        let started = Instant::now();
        let outcome = step();
        let seconds = started.elapsed().as_secs();
        match outcome {
            Ok(()) => eprintln!("==== {name}: good, {seconds} s"),
            Err(error) => {
                eprintln!("{error}\n==== {name}: FAILED, {seconds} s");
                failed.push(name);
            }
        }
    }
    let seconds = begin.elapsed().as_secs();
    if failed.is_empty() {
        eprintln!("\nall good in {seconds} s");
        return Ok(());
    }
    Err(format!("failed after {seconds} s: {}", failed.join(", ")))
}

fn format() -> Result<()> {
    run::run(run::cargo().args(["fmt", "--all", "--check"]))
}

fn clippy() -> Result<()> {
    run::run(
        run::cargo()
            .args(["clippy", "--locked", "--workspace", "--all-targets", "--"])
            .args(["-D", "warnings"]),
    )
}

/// Licences, bans and sources; advisories change without us and need the network.
fn deny() -> Result<()> {
    run::run(run::cargo().args(["fetch", "--locked", "--quiet"]))?;
    run::run(setup::cargo_with_tools().args([
        "deny",
        "--offline",
        "--locked",
        "check",
        "licenses",
        "bans",
        "sources",
    ]))
}

/// Links between items that lead nowhere are errors.
fn documentation() -> Result<()> {
    let mut rustdoc = run::cargo();
    rustdoc
        .args(["doc", "--locked", "--workspace", "--no-deps", "--quiet"])
        .args(["--document-private-items", "--exclude", "relay-ebpf"])
        .env(
            "RUSTDOCFLAGS",
            "-D warnings -A rustdoc::private_intra_doc_links",
        );
    run::run(&mut rustdoc)
}
