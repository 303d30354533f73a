//! Which compiler and which linker build for the kernel. Decides by what is there: a compiler with a
//! prebuilt BPF core (Debian's rustc-web) or with the library's sources (rustup's rust-src), and a
//! bpf-linker whose LLVM reads that compiler's bitcode. Installs nothing: see `setup`.

use std::env;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::run::{Result, find_program, output, root};

/// The target of the eBPF object: same byte order as this machine.
pub const TARGET: &str = if cfg!(target_endian = "big") {
    "bpfeb-unknown-none"
} else {
    "bpfel-unknown-none"
};

/// The bpf-linker that `setup` builds.
pub const LINKER_VERSION: &str = "0.13.0";

/// Where a compiler's core library for the kernel comes from.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Core {
    /// Compiled, in the compiler's own folder.
    Prebuilt,
    /// Built by cargo from rust-src.
    BuildStd,
}

/// A compiler that can build for the kernel.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Compiler {
    /// `rustc` itself, never a proxy that could choose another one.
    pub rustc: PathBuf,
    /// Its release, as it says itself.
    pub release: String,
    /// The major version of its LLVM.
    pub llvm: u32,
    /// Where its core comes from.
    pub core: Core,
}

/// All that is needed for the object.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Toolchain {
    /// The compiler.
    pub compiler: Compiler,
    /// The linker.
    pub linker: PathBuf,
}

impl Compiler {
    /// Whether unstable features need no permission.
    pub fn is_nightly(&self) -> bool {
        self.release.contains("nightly") || self.release.contains("dev")
    }

    /// For a person: which it is and why it serves.
    pub fn describe(&self) -> String {
        let core = match self.core {
            Core::Prebuilt => "prebuilt core",
            Core::BuildStd => "core from rust-src",
        };
        format!(
            "rustc {} ({}), LLVM {}, {core}",
            self.release,
            self.rustc.display(),
            self.llvm
        )
    }
}

/// The first compiler with a linker to match.
pub fn find() -> Result<Toolchain> {
    let compilers = compilers()?;
    for compiler in &compilers {
        if let Some(linker) = linker(compiler.llvm) {
            return Ok(Toolchain {
                compiler: compiler.clone(),
                linker,
            });
        }
    }
    let compiler = &compilers[0];
    Err(format!(
        "no bpf-linker for LLVM {} or newer, which {} needs.\n\
         Run `cargo xtask setup`, or name one in BPF_LINKER.",
        compiler.llvm,
        compiler.describe()
    ))
}

/// Every compiler here that can build for the kernel, the preferred one first; never empty.
pub fn compilers() -> Result<Vec<Compiler>> {
    if let Some(named) = env::var_os("RELAY_EBPF_RUSTC") {
        return Ok(vec![probe(Path::new(&named))?]);
    }
    let mut candidates = Vec::new();
    for toolchain in ["nightly", "stable"] {
        let which = ["which", "--toolchain", toolchain, "rustc"];
        if let Ok(rustc) = output(Command::new("rustup").args(which)) {
            candidates.push(PathBuf::from(rustc));
        }
    }
    candidates.extend(find_program("rustc"));
    candidates.push("/usr/bin/rustc".into());
    let (mut usable, mut refused) = (Vec::<Compiler>::new(), Vec::<String>::new());
    for candidate in candidates {
        match probe(&candidate) {
            Ok(compiler) if usable.iter().all(|it| it.rustc != compiler.rustc) => {
                usable.push(compiler);
            }
            Err(reason) if !refused.contains(&reason) => refused.push(reason),
            _ => {}
        }
    }
    if usable.is_empty() {
        return Err(format!(
            "no Rust compiler here can build for {TARGET}:\n  {}\n\
             Run `cargo xtask setup`, or install one of:\n  \
             rustup toolchain install nightly --component rust-src\n  \
             apt-get install rustc-web libstd-rust-web-dev-bpf",
            refused.join("\n  ")
        ));
    }
    Ok(usable)
}

fn probe(rustc: &Path) -> Result<Compiler> {
    let version = output(Command::new(rustc).arg("-vV"))?;
    let (release, llvm) = parse_version(&version)
        .ok_or_else(|| format!("{}: says no LLVM version", rustc.display()))?;
    let target = ["--print", "target-libdir", "--target", TARGET];
    let libdir = output(Command::new(rustc).args(target))?;
    let sysroot = output(Command::new(rustc).args(["--print", "sysroot"]))?;
    let library = Path::new(&sysroot).join("lib/rustlib/src/rust/library/core/Cargo.toml");
    let core = if has_prebuilt_core(Path::new(&libdir)) {
        Core::Prebuilt
    } else if library.exists() {
        Core::BuildStd
    } else {
        return Err(format!(
            "{} ({release}): neither a prebuilt core for {TARGET} nor rust-src",
            rustc.display()
        ));
    };
    Ok(Compiler {
        rustc: rustc.to_owned(),
        release,
        llvm,
        core,
    })
}

/// Release and LLVM major version out of `rustc -vV`.
fn parse_version(text: &str) -> Option<(String, u32)> {
    let field = |name: &str| text.lines().find_map(|line| line.strip_prefix(name));
    let llvm = field("LLVM version:")?.trim().split('.').next()?;
    Some((field("release:")?.trim().to_owned(), llvm.parse().ok()?))
}

fn has_prebuilt_core(libdir: &Path) -> bool {
    fs::read_dir(libdir).is_ok_and(|entries| {
        entries.flatten().any(|entry| {
            let name = entry.file_name();
            let name = name.to_string_lossy();
            name.starts_with("libcore-") && name.ends_with(".rlib")
        })
    })
}

/// A bpf-linker for bitcode of that LLVM: `BPF_LINKER`, ours, then one from `PATH`, of which we
/// cannot know the LLVM and trust the person who put it there.
fn linker(llvm: u32) -> Option<PathBuf> {
    if let Some(named) = env::var_os("BPF_LINKER") {
        return Some(named.into());
    }
    tool_dirs()
        .iter()
        .filter_map(|dir| own_linker(dir, llvm))
        .next()
        .or_else(|| find_program("bpf-linker"))
}

/// The oldest of our linkers in `dir` that is new enough.
fn own_linker(dir: &Path, llvm: u32) -> Option<PathBuf> {
    let mut fitting: Vec<(u32, PathBuf)> = fs::read_dir(dir)
        .ok()?
        .flatten()
        .filter_map(|entry| {
            let name = entry.file_name().into_string().ok()?;
            let has = name.strip_prefix(&linker_dir_prefix())?.parse().ok()?;
            let file = entry.path().join("bin/bpf-linker");
            (has >= llvm && file.is_file()).then_some((has, file))
        })
        .collect();
    fitting.sort();
    fitting.into_iter().next().map(|(_, file)| file)
}

fn linker_dir_prefix() -> String {
    format!("bpf-linker-{LINKER_VERSION}-llvm")
}

/// Where `setup` puts the linker for that LLVM.
pub fn linker_home(llvm: u32) -> PathBuf {
    cache_dir().join(format!("{}{llvm}", linker_dir_prefix()))
}

/// Where built tools may lie: in this tree, and in the cache that all clones of a user share.
pub fn tool_dirs() -> [PathBuf; 2] {
    [root().join("target/tools"), cache_dir()]
}

/// The cache of built tools, so that a second clone does not build them again.
pub fn cache_dir() -> PathBuf {
    let set = |name| env::var_os(name).filter(|value| !value.is_empty());
    let cache = set("XDG_CACHE_HOME")
        .map(PathBuf::from)
        .or_else(|| set("HOME").map(|home| Path::new(&home).join(".cache")));
    match cache {
        Some(cache) => cache.join("twinrelay/tools"),
        None => root().join("target/tools"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn version_of_rustc_gives_release_and_llvm() {
        let text = "rustc 1.96.0 (ac68faa20 2026-05-25)\nbinary: rustc\nrelease: 1.96.0\n\
                    LLVM version: 22.1.8";

        assert_eq!(parse_version(text), Some(("1.96.0".into(), 22)));
    }

    #[test]
    fn version_without_llvm_is_refused() {
        assert_eq!(parse_version("rustc 1.96.0\nrelease: 1.96.0"), None);
    }

    #[test]
    fn linker_of_older_llvm_is_not_taken() {
        let dir = env::temp_dir().join(format!("twinrelay-linkers-{}", std::process::id()));
        for llvm in [21, 23, 24] {
            let bin = dir.join(format!("{}{llvm}/bin", linker_dir_prefix()));
            fs::create_dir_all(&bin).unwrap();
            fs::write(bin.join("bpf-linker"), "").unwrap();
        }

        let found = own_linker(&dir, 22);
        let none = own_linker(&dir, 25);
        fs::remove_dir_all(&dir).unwrap();

        assert!(found.unwrap().to_string_lossy().contains("llvm23"));
        assert_eq!(none, None);
    }
}
