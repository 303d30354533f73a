//! `bench store`: builds the program that measures the store, and runs it. Knows nothing of what it does.

use std::process::Command;

use crate::run::{Result, cargo, root, run};

/// Measures; `args` go to the program.
pub fn main(args: impl Iterator<Item = String>) -> Result<()> {
    run(cargo().args(["build", "--locked", "--release"]).args([
        "--package",
        "relay-tests",
        "--example",
        "store_bench",
    ]))?;
    let program = root().join("target/release/examples/store_bench");
    run(Command::new(program).current_dir(root()).args(args))
}
