//! `cargo xtask tidy`: what neither rustfmt nor clippy looks at. Decides what a tidy file is; every
//! complaint names file, line and the cure.

use std::fs;
use std::path::Path;

use crate::run::{self, Result, root};

/// rustfmt breaks code at 100; this is for what it leaves alone: comments and the insides of macros.
/// Text in quotes and addresses may be longer.
const LINE_CHARS: usize = 120;

/// Such a file usually holds two subjects: reported, not refused.
const LONG_FILE_LINES: usize = 700;

/// Paths of one machine. Written in pieces, or this file would not be tidy.
const MACHINE_PATHS: [&str; 3] = [
    concat!("/wo", "rk/"),
    concat!("/ro", "ot/"),
    concat!("/tm", "p/w"),
];

/// What must not be left in code.
const LEFTOVERS: [&str; 3] = [
    concat!("to", "do!("),
    concat!("unimple", "mented!("),
    concat!("db", "g!("),
];

/// Where the labels of counters are declared, each as `Name => "label",`.
const COUNTERS: [&str; 3] = [
    "relay-core/src/error.rs",
    "relay-userspace/src/counters.rs",
    "relay-common/src/maps.rs",
];

/// Fails with all complaints.
pub fn main() -> Result<()> {
    let root = root();
    let mut complaints = Vec::new();
    for extension in ["rs", "toml", "md", "sh"] {
        for file in run::files(&root, extension)? {
            let text = read(&root.join(&file))?;
            let name = file.display().to_string();
            complaints.extend(of_any_file(&name, &text));
            if extension == "rs" {
                complaints.extend(of_rust(&name, &text));
                let lines = text.lines().count();
                if lines > LONG_FILE_LINES {
                    eprintln!("tidy: {name} has {lines} lines: does it hold two subjects?");
                }
            }
        }
    }
    let operations = root.join("docs/operations.md");
    if operations.exists() {
        let documented = read(&operations)?;
        for file in COUNTERS {
            complaints.extend(undocumented(&read(&root.join(file))?, &documented));
        }
    }
    if complaints.is_empty() {
        return Ok(());
    }
    Err(format!(
        "tidy: {}\n  {}",
        complaints.len(),
        complaints.join("\n  ")
    ))
}

fn read(path: &Path) -> Result<String> {
    fs::read_to_string(path).map_err(|error| format!("read {}: {error}", path.display()))
}

fn of_any_file(name: &str, text: &str) -> Vec<String> {
    let mut complaints = Vec::new();
    for (number, line) in (1..).zip(text.lines()) {
        if line.ends_with([' ', '\t']) {
            complaints.push(format!("{name}:{number}: blanks at the end of the line"));
        }
        if let Some(path) = MACHINE_PATHS.iter().find(|path| line.contains(**path)) {
            complaints.push(format!("{name}:{number}: {path} is a path of one machine"));
        }
    }
    if !text.is_empty() && (!text.ends_with('\n') || text.ends_with("\n\n")) {
        complaints.push(format!("{name}: ends without exactly one line break"));
    }
    complaints
}

fn of_rust(name: &str, text: &str) -> Vec<String> {
    let mut complaints = Vec::new();
    if !text.starts_with("//!") {
        complaints.push(format!(
            "{name}: begin with `//!`: what it decides, what it must not know"
        ));
    }
    for (number, line) in (1..).zip(text.lines()) {
        let code = line.trim_start();
        if line.chars().count() > LINE_CHARS && !line.contains('"') && !line.contains("://") {
            complaints.push(format!("{name}:{number}: over {LINE_CHARS} characters"));
        }
        if code.starts_with("//") {
            continue;
        }
        if let Some(left) = LEFTOVERS.iter().find(|left| code.contains(**left)) {
            complaints.push(format!("{name}:{number}: {left}…) is not for what is kept"));
        }
    }
    complaints
}

/// Labels of counters that the document does not name.
fn undocumented(source: &str, document: &str) -> Vec<String> {
    labels(source)
        .into_iter()
        .filter(|label| !document.contains(&format!("`{label}`")))
        .map(|label| format!("docs/operations.md: does not explain the counter `{label}`"))
        .collect()
}

/// The labels of lines like `RingFull => "ring_full", …`; arms of ordinary matches begin otherwise.
fn labels(source: &str) -> Vec<&str> {
    source
        .lines()
        .filter_map(|line| {
            let (variant, rest) = line.trim_start().split_once(" => \"")?;
            let name = |it: char| it.is_ascii_alphanumeric();
            let declared = variant.starts_with(|it: char| it.is_ascii_uppercase());
            (declared && variant.chars().all(name)).then(|| rest.split('"').next())?
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blanks_and_machine_paths_are_found_with_their_line() {
        let text = format!("good\nbad \nsee {}x\n", MACHINE_PATHS[0]);

        let complaints = of_any_file("a.md", &text);

        assert_eq!(complaints.len(), 2);
        assert!(complaints[0].starts_with("a.md:2:"));
        assert!(complaints[1].starts_with("a.md:3:"));
    }

    #[test]
    fn file_without_header_or_with_leftovers_is_refused() {
        let text = format!("fn a() {{ {}) }}\n", LEFTOVERS[0]);

        assert_eq!(of_rust("a.rs", &text).len(), 2);
        assert!(of_rust("a.rs", "//! Decides nothing.\nfn a() {}\n").is_empty());
    }

    #[test]
    fn long_line_is_refused_unless_it_holds_text_or_an_address() {
        let long = "x".repeat(LINE_CHARS + 1);

        assert_eq!(of_rust("a.rs", &format!("//! A.\n{long}\n")).len(), 1);
        assert!(of_rust("a.rs", &format!("//! A.\n\"{long}\"\n")).is_empty());
        assert!(of_rust("a.rs", &format!("//! A.\n// https://{long}\n")).is_empty());
    }

    #[test]
    fn labels_are_those_of_declarations() {
        let source = "    RingFull => \"ring_full\", dropped: false;\n\
                      \x20   Self::ToServer => \"to-server\",\n    Stale => \"stale\",\n";

        assert_eq!(labels(source), ["ring_full", "stale"]);
        assert_eq!(undocumented(source, "| `stale` | … |").len(), 1);
    }
}
