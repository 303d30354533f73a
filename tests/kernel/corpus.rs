//! The frames of `tests/corpus/*.hex`, each with what it must be and what must become of it.
//!
//! ```text
//! # VERDICT OUTCOME: what it is
//! hexadecimal digits
//! ```
//!
//! The outcome is that of [`crate::harness::Kernel::ready`]: one router, its MAC, its own address,
//! relayed messages accepted.

use std::path::Path;

use relay_tests::messages::hex;

/// One frame.
pub struct Case {
    /// The file's name without `.hex`.
    pub name: String,
    /// `Verdict::name`.
    pub verdict: String,
    /// Into the ring; otherwise to the kernel's stack.
    pub captured: bool,
    /// The frame.
    pub frame: Vec<u8>,
}

/// All of them, by name.
pub fn cases() -> Vec<Case> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus");
    let mut cases: Vec<Case> = std::fs::read_dir(&folder)
        .expect("tests/corpus is there")
        .map(|entry| entry.expect("readable").path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "hex"))
        .map(|path| read(&path))
        .collect();
    cases.sort_by(|a, b| a.name.cmp(&b.name));
    cases
}

/// The frame of one file.
pub fn frame(name: &str) -> Vec<u8> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("corpus/{name}.hex"));
    read(&path).frame
}

fn read(path: &Path) -> Case {
    let text = std::fs::read_to_string(path).expect("a corpus file is text");
    let (head, digits) = text.split_once('\n').expect("comment line, then digits");
    let (expected, _) = head.split_once(':').expect("`# VERDICT OUTCOME: text`");
    let mut words = expected.trim_start_matches('#').split_whitespace();
    let verdict = words.next().expect("a verdict").to_owned();
    let captured = match words.next() {
        Some("captured") => true,
        Some("passed") => false,
        other => panic!("{}: outcome {other:?}", path.display()),
    };
    Case {
        name: path
            .file_stem()
            .expect("a file has a name")
            .to_string_lossy()
            .into_owned(),
        verdict,
        captured,
        frame: hex(digits),
    }
}
