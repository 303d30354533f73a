//! `cargo xtask test`: the layers of tests, cheapest first, and one line at the end that counts them.
//! Decides what belongs to a layer and how a test that could not run is told from one that passed:
//! a test skips by appending a line to the file that `TWINRELAY_SKIPPED_FILE` names (and by printing
//! `SKIPPED: reason` for those who run it alone), and returning.

use std::env;
use std::fmt;
use std::fs;
use std::io::{BufRead, BufReader};
use std::ops::AddAssign;
use std::path::Path;
use std::process::{Command, Stdio};

use crate::build_ebpf;
use crate::run::{self, Result, root};
use crate::setup::{self, Purpose};

/// Where a test that skips says so.
const SKIPPED_FILE: &str = "TWINRELAY_SKIPPED_FILE";

/// A kind of test, cheapest first.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Layer {
    /// Functions and modules, in their own crates; and the replay of the fuzzers' corpus.
    Unit,
    /// One relay in virtual time, requirement by requirement.
    Conformance,
    /// Many relays in seeded worlds; the store on disks that fail.
    Sim,
    /// The kernel programs on bytes. Needs root.
    Kernel,
    /// The real daemon in network namespaces. Needs root.
    Netns,
}

impl Layer {
    const ALL: [Self; 5] = [
        Self::Unit,
        Self::Conformance,
        Self::Sim,
        Self::Kernel,
        Self::Netns,
    ];

    /// The word of the command line.
    const fn name(self) -> &'static str {
        match self {
            Self::Unit => "unit",
            Self::Conformance => "conformance",
            Self::Sim => "sim",
            Self::Kernel => "kernel",
            Self::Netns => "netns",
        }
    }

    /// The test targets of tests/Cargo.toml that are this layer; the unit layer has all others.
    const fn targets(self) -> &'static [&'static str] {
        match self {
            Self::Unit => &[],
            Self::Conformance => &["conformance"],
            Self::Sim => &["simulation", "mesh", "store"],
            Self::Kernel => &["kernel"],
            Self::Netns => &["netns"],
        }
    }

    /// How many tests run side by side, where not as many as there are cores: labs mostly wait, for clients
    /// have timers; more than two of them at once starve each other on a small machine.
    const fn side_by_side(self) -> Option<&'static str> {
        match self {
            Self::Netns => Some("2"),
            _ => None,
        }
    }
}

/// How many tests ended how.
#[derive(Clone, Copy, Default, PartialEq, Eq, Debug)]
pub struct Counts {
    passed: usize,
    failed: usize,
    skipped: usize,
}

impl AddAssign for Counts {
    fn add_assign(&mut self, other: Self) {
        self.passed += other.passed;
        self.failed += other.failed;
        self.skipped += other.skipped;
    }
}

impl fmt::Display for Counts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            passed,
            failed,
            skipped,
        } = self;
        write!(f, "{passed} passed, {failed} failed, {skipped} skipped")
    }
}

/// `test [LAYER…|all]`.
pub fn main(args: &[String]) -> Result<()> {
    let layers = layers(args)?;
    prepare(&layers)?;
    let root = root();
    let targets = targets(&root)?;
    let skipped_file = root.join(format!("target/skipped-tests-{}", std::process::id()));
    run::write_atomically(&skipped_file, b"")?;

    let mut counts = Counts::default();
    let mut broken = Vec::new();
    for group in groups(&layers) {
        let Some(selection) = selection(&group, &targets) else {
            continue;
        };
        let names: Vec<&str> = group.iter().map(|layer| layer.name()).collect();
        eprintln!("\n== tests: {}", names.join(", "));
        let side_by_side = group.iter().find_map(|layer| layer.side_by_side());
        match run_group(&selection, side_by_side, &skipped_file)? {
            (counted, true) => counts += counted,
            // Tests that never ran are no green ones.
            (counted, false) => {
                counts += counted;
                broken.push(names.join(", "));
            }
        }
    }

    let skipped = fs::read_to_string(&skipped_file).unwrap_or_default();
    let _ = fs::remove_file(&skipped_file);
    let self_skipped = skipped.lines().count();
    counts.passed = counts.passed.saturating_sub(self_skipped);
    counts.skipped += self_skipped;
    for line in skipped.lines() {
        eprintln!("skipped {line}");
    }
    println!("\n{counts}");
    if broken.is_empty() && counts.failed == 0 {
        return Ok(());
    }
    Err(format!("tests failed: {}", broken.join("; ")))
}

fn layers(args: &[String]) -> Result<Vec<Layer>> {
    let mut layers = Vec::new();
    for arg in args.iter().filter(|arg| *arg != "all") {
        let layer = Layer::ALL.into_iter().find(|layer| layer.name() == arg);
        layers.push(layer.ok_or_else(|| {
            format!("no layer {arg:?}: test [unit|conformance|sim|kernel|netns|all]")
        })?);
    }
    if layers.is_empty() || args.iter().any(|arg| arg == "all") {
        layers = Layer::ALL.to_vec();
    }
    Ok(layers)
}

/// Everything that the layers need; where that takes root and we are not, their tests skip themselves.
fn prepare(layers: &[Layer]) -> Result<()> {
    let needs_root = |layer: &Layer| matches!(layer, Layer::Kernel | Layer::Netns);
    let purpose = if layers.iter().any(needs_root) && run::is_root() {
        Purpose::Lab
    } else {
        Purpose::Build
    };
    setup::ensure(purpose)?;
    build_ebpf::build()?;
    if layers.contains(&Layer::Netns) {
        run::run(run::cargo().args(["build", "--locked", "--workspace", "--bins"]))?;
    }
    Ok(())
}

/// What runs side by side: all that needs no root, then kernel, then netns.
fn groups(layers: &[Layer]) -> Vec<Vec<Layer>> {
    let wanted = |layer: &Layer| layers.contains(layer);
    let plain = [Layer::Unit, Layer::Conformance, Layer::Sim];
    [plain.as_slice(), &[Layer::Kernel], &[Layer::Netns]]
        .into_iter()
        .map(|group| group.iter().copied().filter(wanted).collect::<Vec<_>>())
        .filter(|group| !group.is_empty())
        .collect()
}

/// The arguments that select a group's targets; `None` where there are none yet. Always of the whole
/// workspace: another choice of packages would mean other features, and compiling all again.
fn selection(group: &[Layer], targets: &[String]) -> Option<Vec<String>> {
    let mut selection = Vec::new();
    for layer in group {
        let is_own = |target: &&String| match layer {
            Layer::Unit => !Layer::ALL
                .iter()
                .any(|it| it.targets().contains(&target.as_str())),
            layer => layer.targets().contains(&target.as_str()),
        };
        if *layer == Layer::Unit {
            selection.extend(["--lib".to_owned(), "--bins".to_owned()]);
        }
        for target in targets.iter().filter(is_own) {
            selection.extend(["--test".to_owned(), target.clone()]);
        }
    }
    (!selection.is_empty()).then_some(selection)
}

/// The test targets of the workspace: those that tests/Cargo.toml names, and other packages' tests/*.rs.
fn targets(root: &Path) -> Result<Vec<String>> {
    let manifest = root.join("tests/Cargo.toml");
    let text = fs::read_to_string(&manifest)
        .map_err(|error| format!("read {}: {error}", manifest.display()))?;
    let mut targets = build_ebpf::names_of(&text, "[[test]]");
    for package in ["relay-common", "relay-core", "relay-userspace", "xtask"] {
        let Ok(entries) = fs::read_dir(root.join(package).join("tests")) else {
            continue;
        };
        for path in entries.flatten().map(|entry| entry.path()) {
            if path.extension().is_some_and(|it| it == "rs")
                && let Some(stem) = path.file_stem()
            {
                targets.push(stem.to_string_lossy().into_owned());
            }
        }
    }
    targets.sort();
    Ok(targets)
}

/// Runs the tests; also says whether all of them could be built and passed.
fn run_group(
    selection: &[String],
    side_by_side: Option<&str>,
    skipped_file: &Path,
) -> Result<(Counts, bool)> {
    let nextest = setup::find_cargo_tool("cargo-nextest").is_some();
    let mut cargo = setup::cargo_with_tools();
    if nextest {
        cargo.args(["nextest", "run", "--no-fail-fast", "--status-level", "slow"]);
    } else {
        cargo.args(["test", "--no-fail-fast"]);
    }
    cargo
        .args(["--locked", "--workspace"])
        .args(selection)
        .env(SKIPPED_FILE, skipped_file);
    // A layer may be there without a test in it.
    if nextest {
        cargo.args(["--no-tests", "pass"]);
    }
    if let Some(threads) = side_by_side {
        cargo.args(if nextest { &[][..] } else { &["--"] });
        cargo.args(["--test-threads", threads]);
    }
    let mut counts = Counts::default();
    let good = each_line(&mut cargo, nextest, |line| {
        if let Some(counted) = nextest_summary(line).or_else(|| libtest_result(line)) {
            counts += counted;
        }
    })?;
    Ok((counts, good))
}

/// Runs a command, shows what it prints and hands over the lines of one of its outputs: nextest
/// reports to standard error, libtest to standard output.
fn each_line(command: &mut Command, of_stderr: bool, mut each: impl FnMut(&str)) -> Result<bool> {
    command.stdin(Stdio::null());
    if of_stderr {
        command.stderr(Stdio::piped());
    } else {
        command.stdout(Stdio::piped());
    }
    if env::var_os("NO_COLOR").is_none() {
        command.env("CARGO_TERM_COLOR", "never");
    }
    let mut child = command
        .spawn()
        .map_err(|error| format!("cannot start cargo: {error}"))?;
    if let Some(stderr) = child.stderr.take() {
        for line in BufReader::new(stderr).lines().map_while(|line| line.ok()) {
            each(&line);
            eprintln!("{line}");
        }
    }
    if let Some(stdout) = child.stdout.take() {
        for line in BufReader::new(stdout).lines().map_while(|line| line.ok()) {
            each(&line);
            println!("{line}");
        }
    }
    let status = child
        .wait()
        .map_err(|error| format!("wait for cargo: {error}"))?;
    Ok(status.success())
}

/// `Summary [ 0.010s] 7 tests run: 6 passed (1 slow), 1 timed out, 2 skipped`.
fn nextest_summary(line: &str) -> Option<Counts> {
    let (before, counted) = line.split_once(" run: ")?;
    if !before.trim_start().starts_with("Summary") {
        return None;
    }
    let mut counts = Counts::default();
    // Passed tests may be qualified: `6 passed (1 slow, 1 leaky)`.
    let mut qualified = false;
    let unqualified = |it: &char| {
        qualified = (qualified || *it == '(') && *it != ')';
        !qualified && *it != ')'
    };
    let counted: String = counted.chars().filter(unqualified).collect();
    for part in counted.split(',') {
        let Some((number, kind)) = part.trim().split_once(' ') else {
            continue;
        };
        let number: usize = number.parse().ok()?;
        match kind.trim() {
            "passed" => counts.passed += number,
            "skipped" => counts.skipped += number,
            // failed, exec failed, timed out, aborted.
            _ => counts.failed += number,
        }
    }
    Some(counts)
}

/// `test result: ok. 5 passed; 0 failed; 1 ignored; 0 measured; 0 filtered out; finished in 0.02s`.
fn libtest_result(line: &str) -> Option<Counts> {
    let counted = line.strip_prefix("test result: ")?;
    let of = |kind: &str| -> Option<usize> {
        let before = counted
            .split(kind)
            .next()
            .filter(|it| it.len() < counted.len())?;
        before.trim().rsplit([' ', ';']).next()?.parse().ok()
    };
    Some(Counts {
        passed: of("passed")?,
        failed: of("failed;")?,
        skipped: of("ignored")?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn counts(passed: usize, failed: usize, skipped: usize) -> Counts {
        Counts {
            passed,
            failed,
            skipped,
        }
    }

    #[test]
    fn summary_of_nextest_is_counted_with_all_its_failures() {
        let line = "     Summary [   0.010s] 9/10 tests run: 6 passed (1 slow, 1 leaky), \
                    2 failed, 1 timed out, 3 skipped";

        assert_eq!(nextest_summary(line), Some(counts(6, 3, 3)));
        assert_eq!(
            nextest_summary("     Summary [   0.010s] 1 test run: 1 passed, 0 skipped"),
            Some(counts(1, 0, 0))
        );
        assert_eq!(
            nextest_summary("        PASS [ 0.1s] a run: 3 passed"),
            None
        );
    }

    #[test]
    fn result_of_libtest_is_counted() {
        let good = "test result: ok. 5 passed; 0 failed; 1 ignored; 0 measured; 0 filtered out";
        let bad = "test result: FAILED. 4 passed; 2 failed; 0 ignored; 0 measured; 0 filtered out";

        assert_eq!(libtest_result(good), Some(counts(5, 0, 1)));
        assert_eq!(libtest_result(bad), Some(counts(4, 2, 0)));
        assert_eq!(libtest_result("running 5 tests"), None);
    }

    #[test]
    fn counts_are_shown_as_one_line() {
        assert_eq!(counts(3, 0, 1).to_string(), "3 passed, 0 failed, 1 skipped");
    }

    #[test]
    fn no_layer_means_all_and_an_unknown_one_is_refused() {
        assert_eq!(layers(&[]), Ok(Layer::ALL.to_vec()));
        assert_eq!(layers(&["netns".into()]), Ok(vec![Layer::Netns]));
        assert!(layers(&["nets".into()]).is_err());
    }

    #[test]
    fn targets_without_a_layer_of_their_own_are_unit_tests() {
        let targets = ["fuzz_replay", "kernel", "netns"].map(str::to_owned);

        let unit = selection(&[Layer::Unit, Layer::Sim], &targets).unwrap();

        assert_eq!(unit, ["--lib", "--bins", "--test", "fuzz_replay"]);
        assert_eq!(selection(&[Layer::Sim], &targets), None);
    }

    #[test]
    fn layers_that_need_root_run_on_their_own() {
        assert_eq!(groups(&Layer::ALL).len(), 3);
        assert_eq!(groups(&[Layer::Netns]), [[Layer::Netns]]);
    }
}
