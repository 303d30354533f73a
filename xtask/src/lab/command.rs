//! Running programs: decides how a failure is told to a person. Knows nothing of namespaces.

use std::process::{Command, Output, Stdio};

/// What the lab returns: errors are one readable line.
pub type Result<T> = std::result::Result<T, String>;

/// Runs a command to its end; an exit code other than 0 is an error that carries its words.
pub fn run(command: &mut Command) -> Result<String> {
    let output = output(command)?;
    if output.status.success() {
        return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
    }
    Err(format!(
        "{command:?}: {}: {}{}",
        output.status,
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr).trim()
    ))
}

/// Runs a command to its end and returns what it said, whatever its exit code.
pub fn output(command: &mut Command) -> Result<Output> {
    command
        .stdin(Stdio::null())
        .output()
        .map_err(|error| format!("cannot start {command:?}: {error}"))
}

/// Runs a shell script that stops at its first failure.
pub fn shell(script: &str) -> Result<String> {
    run(Command::new("sh").args(["-euc", script]))
}

/// The programs of `names` that are nowhere in PATH or the sbin folders.
pub fn missing(names: &[&str]) -> Vec<String> {
    let path = std::env::var("PATH").unwrap_or_default() + ":/usr/sbin:/sbin";
    let found = |name: &str| {
        path.split(':')
            .any(|dir| std::path::Path::new(dir).join(name).exists())
    };
    names
        .iter()
        .filter(|name| !found(name))
        .map(|name| (*name).to_string())
        .collect()
}
