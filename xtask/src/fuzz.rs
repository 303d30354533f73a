//! `cargo xtask fuzz`: each fuzz target for a bounded time, starting from the kept corpus. Decides how they
//! are built: with LLVM's coverage as cargo-fuzz asks for it, but without a sanitizer, which would take a
//! nightly compiler. What an input must not do is written in the targets.

use std::env;
use std::fs;
use std::process::{Command, Stdio};

use crate::build_ebpf::names_of;
use crate::run::{self, Result, root};

/// How long each target runs in CI.
const SECONDS: u32 = 20;

/// What cargo-fuzz passes, less the sanitizer.
const FLAGS: [&str; 8] = [
    "-Cpasses=sancov-module",
    "-Cllvm-args=-sanitizer-coverage-level=4",
    "-Cllvm-args=-sanitizer-coverage-inline-8bit-counters",
    "-Cllvm-args=-sanitizer-coverage-pc-table",
    "-Cllvm-args=-sanitizer-coverage-trace-compares",
    "-Ccodegen-units=1",
    "-Cdebug-assertions",
    "--cfg=fuzzing",
];

/// All targets, as long as in CI.
pub fn all() -> Result<()> {
    main(&[])
}

/// `fuzz [TARGET [SECONDS]]`.
pub fn main(args: &[String]) -> Result<()> {
    let manifest = root().join("fuzz/Cargo.toml");
    let text = fs::read_to_string(&manifest)
        .map_err(|error| format!("read {}: {error}", manifest.display()))?;
    let targets = names_of(&text, "[[bin]]");
    let (chosen, seconds) = match args {
        [] => (targets.as_slice(), SECONDS),
        [target, rest @ ..] if targets.contains(target) && rest.len() < 2 => {
            let seconds = rest.first().map_or(Ok(SECONDS), |it| it.parse());
            let seconds = seconds.map_err(|_| format!("{:?} is no number of seconds", rest[0]))?;
            (std::slice::from_ref(target), seconds)
        }
        _ => {
            return Err(format!(
                "usage: fuzz [TARGET [SECONDS]]; targets: {}",
                targets.join(", ")
            ));
        }
    };
    build()?;
    let mut failed = Vec::new();
    for target in chosen {
        if let Err(error) = fuzz(target, seconds) {
            eprintln!("{error}");
            failed.push(target.as_str());
        }
    }
    if failed.is_empty() {
        return Ok(());
    }
    Err(format!(
        "inputs in fuzz/artifacts break {}: keep them in fuzz/corpus, with the fix",
        failed.join(", ")
    ))
}

/// The platform is named so that the flags do not reach build scripts and macros.
fn build() -> Result<()> {
    let mut cargo = run::cargo();
    cargo
        .args([
            "build",
            "--release",
            "--locked",
            "--manifest-path",
            "fuzz/Cargo.toml",
        ])
        .args(["--target", &platform()?, "--target-dir", "fuzz/target"])
        .env("CARGO_ENCODED_RUSTFLAGS", FLAGS.join("\x1f"))
        .env_remove("RUSTFLAGS");
    run::run(&mut cargo)
}

fn fuzz(target: &str, seconds: u32) -> Result<()> {
    let root = root();
    let found = format!("fuzz/target/found/{target}");
    for dir in [found.as_str(), "fuzz/artifacts"] {
        fs::create_dir_all(root.join(dir)).map_err(|error| format!("create {dir}: {error}"))?;
    }
    let program = format!("fuzz/target/{}/release/{target}", platform()?);
    let mut command = Command::new(root.join(program));
    command
        .current_dir(&root)
        .arg(format!("-max_total_time={seconds}"))
        .args([
            "-timeout=5",
            "-rss_limit_mb=1024",
            "-print_final_stats=1",
            "-verbosity=0",
        ])
        .arg(format!("-artifact_prefix=fuzz/artifacts/{target}-"))
        // New inputs go to the first folder; the kept corpus is only read.
        .args([found, format!("fuzz/corpus/{target}")])
        .stdin(Stdio::null());
    let output = command
        .output()
        .map_err(|error| format!("cannot start the fuzz target {target}: {error}"))?;
    let told = String::from_utf8_lossy(&output.stderr);
    if !output.status.success() {
        return Err(format!("{told}\n{target}: {}", output.status));
    }
    let runs = statistic(&told, "number_of_executed_units").unwrap_or("?");
    let new = statistic(&told, "new_units_added").unwrap_or("?");
    eprintln!("{target}: {runs} inputs in {seconds} s, {new} of them reached something new");
    Ok(())
}

/// A value of libFuzzer's final statistics: `stat::NAME:   VALUE`.
fn statistic<'a>(told: &'a str, name: &str) -> Option<&'a str> {
    told.lines().find_map(|line| {
        let (key, value) = line.strip_prefix("stat::")?.split_once(':')?;
        (key == name).then(|| value.trim())
    })
}

fn platform() -> Result<String> {
    let rustc = env::var_os("RUSTC").unwrap_or_else(|| "rustc".into());
    let version = run::output(Command::new(rustc).arg("-vV"))?;
    let host = version.lines().find_map(|line| line.strip_prefix("host: "));
    host.map(str::to_owned)
        .ok_or_else(|| "rustc says no host platform".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn statistics_are_read_by_their_name() {
        let told = "###### End of recommended dictionary. ######\n\
                    stat::number_of_executed_units: 1655484\nstat::new_units_added:          367\n";

        assert_eq!(statistic(told, "new_units_added"), Some("367"));
        assert_eq!(statistic(told, "peak_rss_mb"), None);
    }
}
