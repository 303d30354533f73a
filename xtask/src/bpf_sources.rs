//! A fingerprint of what the eBPF object is made of. xtask writes it next to the object, and
//! relay-userspace/build.rs (which includes this file) compares it, to tell an object that is older
//! than its sources. Uses only std, because a build script has nothing else.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

/// What goes into the object: two crates, and the pinned versions and profile of the workspace.
pub const INPUTS: [&str; 3] = ["relay-ebpf", "relay-common", "Cargo.toml"];

/// FNV-1a over names and contents, in hexadecimal. Not a defence against anybody: it tells "changed".
pub fn fingerprint(root: &Path) -> io::Result<String> {
    let mut files = Vec::new();
    for input in INPUTS {
        collect(&root.join(input), &mut files)?;
    }
    files.sort();
    let mut hash = 0xcbf2_9ce4_8422_2325;
    for file in files {
        let name = file.strip_prefix(root).unwrap_or(&file);
        hash = fnv(hash, name.to_string_lossy().as_bytes());
        hash = fnv(hash, &[0]);
        hash = fnv(hash, &fs::read(&file)?);
        hash = fnv(hash, &[0]);
    }
    Ok(format!("{hash:016x}"))
}

fn collect(path: &Path, files: &mut Vec<PathBuf>) -> io::Result<()> {
    if !path.is_dir() {
        files.push(path.to_owned());
        return Ok(());
    }
    for entry in fs::read_dir(path)? {
        let path = entry?.path();
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        let source = name.ends_with(".rs") || name == "Cargo.toml";
        if name != "target" && (path.is_dir() || source) {
            collect(&path, files)?;
        }
    }
    Ok(())
}

fn fnv(hash: u64, bytes: &[u8]) -> u64 {
    bytes.iter().fold(hash, |hash, byte| {
        (hash ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01b3)
    })
}
