//! `bench alq`: builds daemon and bench, and runs it. Knows nothing of what it does.

use std::process::Command;

use super::relay::twinrelay;
use crate::run::{Result, cargo, root, run};

/// Measures; `args` go to the program.
pub fn main(args: impl Iterator<Item = String>) -> Result<()> {
    let binary = twinrelay()?;
    run(cargo().args(["build", "--locked", "--release"]).args([
        "--package",
        "relay-tests",
        "--example",
        "alq_bench",
        "--example",
        "loadgen",
    ]))?;
    let program = root().join("target/release/examples/alq_bench");
    run(Command::new(program)
        .current_dir(root())
        .arg("--binary")
        .arg(binary)
        .args(args))
}
