//! `cargo xtask setup`: what a fresh Debian 12 with Rust lacks. Decides what is missing and installs only
//! that: packages without starting their services and without ever removing one, then bpf-linker and
//! cargo's tools into a cache that all clones share. Elsewhere it says what to install.

use std::env;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::run::{self, Result};
use crate::toolchain::{self, LINKER_VERSION};

/// For the eBPF object: a compiler with a BPF core, and what bpf-linker is built with.
const BUILD_PACKAGES: [&str; 6] = [
    "rustc-web",
    "libstd-rust-web-dev-bpf",
    "llvm-22-dev",
    "libzstd-dev",
    "zlib1g-dev",
    "g++",
];

/// For the lab, the tests and the benchmarks: real clients, servers, peers and what looks at the wire.
const LAB_PACKAGES: [&str; 16] = [
    "kea-dhcp6-server",
    "isc-dhcp-relay",
    "isc-dhcp-client",
    "isc-dhcp-server",
    "dhcpcd-base",
    "wide-dhcpv6-client",
    "dnsmasq-base",
    "keepalived",
    "tcpdump",
    "iproute2",
    "iputils-ping",
    "procps",
    "ethtool",
    "bpftool",
    "strace",
    "tshark",
];

/// Cargo's tools: nextest runs tests side by side, deny checks licences, bans and sources.
const CARGO_TOOLS: [(&str, &str); 2] = [("cargo-nextest", "0.9.143"), ("cargo-deny", "0.20.2")];

/// Ends what `policy-rc.d` forbids when the process that wrote it is gone, however it ended.
const POLICY: &str = "/usr/sbin/policy-rc.d";
const POLICY_MARK: &str = "# Written by `cargo xtask setup` of twinrelay";

/// How much is needed; each includes the one before.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Purpose {
    /// Build the binary with its kernel programs.
    Build,
    /// Run the lab, the demonstration and the tests.
    Lab,
    /// Everything that CI runs.
    Ci,
}

/// Installs what is missing for that purpose; says nothing when nothing is.
pub fn ensure(purpose: Purpose) -> Result<()> {
    let toolchain = toolchain::find();
    let mut wanted: Vec<&str> = Vec::new();
    if toolchain.is_err() {
        wanted.extend(BUILD_PACKAGES);
    }
    if purpose >= Purpose::Lab {
        wanted.extend(LAB_PACKAGES);
    }
    install_packages(&wanted)?;
    if toolchain.is_err() {
        ensure_linker()?;
    }
    if purpose >= Purpose::Ci {
        for (tool, version) in CARGO_TOOLS {
            ensure_cargo_tool(tool, version)?;
        }
    }
    Ok(())
}

/// Cargo with the tools of `setup` in its reach (`cargo deny`, `cargo nextest`).
pub fn cargo_with_tools() -> Command {
    let mut path: Vec<PathBuf> =
        env::split_paths(&env::var_os("PATH").unwrap_or_default()).collect();
    path.extend(CARGO_TOOLS.iter().filter_map(|(tool, _)| {
        find_cargo_tool(tool).and_then(|file| file.parent().map(Path::to_owned))
    }));
    let mut cargo = run::cargo();
    if let Ok(path) = env::join_paths(path) {
        cargo.env("PATH", path);
    }
    cargo
}

/// Where a tool of cargo is, if anywhere.
pub fn find_cargo_tool(tool: &str) -> Option<PathBuf> {
    let home = env::var_os("CARGO_HOME")
        .map(PathBuf::from)
        .or_else(|| env::var_os("HOME").map(|home| Path::new(&home).join(".cargo")));
    let ours = toolchain::tool_dirs().into_iter().filter_map(|dir| {
        let version = CARGO_TOOLS.iter().find(|(name, _)| *name == tool)?.1;
        Some(dir.join(format!("{tool}-{version}/bin")).join(tool))
    });
    run::find_program(tool).or_else(|| {
        home.map(|home| home.join("bin").join(tool))
            .into_iter()
            .chain(ours)
            .find(|file| file.is_file())
    })
}

fn ensure_cargo_tool(tool: &str, version: &str) -> Result<()> {
    if find_cargo_tool(tool).is_some() {
        return Ok(());
    }
    eprintln!("building {tool} {version}, once for all clones: this takes minutes");
    let home = toolchain::cache_dir().join(format!("{tool}-{version}"));
    run::run(
        run::cargo()
            .args(["install", "--locked", tool, "--version", version, "--root"])
            .arg(home),
    )
}

fn ensure_linker() -> Result<()> {
    for compiler in toolchain::compilers()? {
        let (llvm, release) = (compiler.llvm, compiler.describe());
        let prefix = PathBuf::from(format!("/usr/lib/llvm-{llvm}"));
        if !prefix.join("bin/llvm-config").exists() {
            // Debian's compiler moves to a newer LLVM now and then; its libraries come with it.
            if !compiler.rustc.starts_with("/usr/bin") {
                continue;
            }
            install_packages(&[&format!("llvm-{llvm}-dev")])?;
        }
        if toolchain::find().is_ok() {
            return Ok(());
        }
        eprintln!("building bpf-linker {LINKER_VERSION} for {release}, once for all clones");
        let home = toolchain::linker_home(llvm);
        return run::run(
            run::cargo()
                .args([
                    "install",
                    "bpf-linker",
                    "--version",
                    LINKER_VERSION,
                    "--locked",
                ])
                .args([
                    "--no-default-features",
                    "--features",
                    &format!("llvm-{llvm}"),
                ])
                .arg("--root")
                .arg(home)
                // Without it the build takes the first llvm-config in PATH, of any version.
                .env("LLVM_PREFIX", &prefix)
                .env(format!("LLVM_SYS_{llvm}1_PREFIX"), &prefix),
        );
    }
    toolchain::find().map(|_| ())
}

fn install_packages(wanted: &[&str]) -> Result<()> {
    if wanted.is_empty() {
        return Ok(());
    }
    if !is_debian_12() {
        return elsewhere(wanted);
    }
    let missing = missing_packages(wanted)?;
    if missing.is_empty() {
        return Ok(());
    }
    if !run::is_root() {
        return Err(format!(
            "these Debian packages are missing, and installing them takes root:\n  \
             apt-get install --no-install-recommends {}",
            missing.join(" ")
        ));
    }
    eprintln!(
        "installing {} Debian packages: {}",
        missing.len(),
        missing.join(" ")
    );
    let _policy = NoServices::begin()?;
    run::run(apt_get().arg("update"))?;
    run::run(
        apt_get()
            .args(["install", "--yes", "--no-install-recommends", "--no-remove"])
            .args(&missing),
    )
}

fn apt_get() -> Command {
    let mut command = Command::new("apt-get");
    command
        .args(["--quiet", "-o", "DPkg::Lock::Timeout=300"])
        .args([
            "-o",
            "Dpkg::Options::=--force-confold",
            "-o",
            "Dpkg::Use-Pty=0",
        ])
        .env("DEBIAN_FRONTEND", "noninteractive");
    command
}

/// Elsewhere nothing is installed: what counts is whether the programs are there.
fn elsewhere(wanted: &[&str]) -> Result<()> {
    let build = wanted.contains(&BUILD_PACKAGES[0]);
    let missing = crate::lab::missing(&crate::lab::PROGRAMS);
    if !build && missing.is_empty() {
        return Ok(());
    }
    let mut text = String::from("this is not Debian 12, so `setup` installs nothing. Missing:\n");
    if build {
        text += &format!(
            "  to build for the kernel: rustup toolchain install nightly --component rust-src, and\n    \
             cargo install bpf-linker --version {LINKER_VERSION} (its LLVM at least that of the nightly)\n"
        );
    }
    if !missing.is_empty() {
        text += &format!("  for the lab and the tests: {}\n", missing.join(", "));
    }
    text += &format!("On Debian 12 it would be: {}", wanted.join(" "));
    Err(text)
}

fn is_debian_12() -> bool {
    fs::read_to_string("/etc/os-release").is_ok_and(|text| names_debian_12(&text))
}

fn names_debian_12(os_release: &str) -> bool {
    let has = |key: &str, value: &str| {
        os_release.lines().any(|line| {
            line.split_once('=')
                .is_some_and(|(name, it)| name == key && it.trim_matches('"') == value)
        })
    };
    has("ID", "debian") && has("VERSION_ID", "12")
}

fn missing_packages(wanted: &[&str]) -> Result<Vec<String>> {
    // It fails for names that it does not know, and still lists the others.
    let known = Command::new("dpkg-query")
        .args(["--show", "--showformat", "${Package} ${db:Status-Status}\n"])
        .args(wanted)
        .output()
        .map_err(|error| format!("cannot start dpkg-query: {error}"))?;
    let known = String::from_utf8_lossy(&known.stdout);
    Ok(missing_of(wanted, &known))
}

/// Of `wanted`, what the lines `package status` do not call installed.
fn missing_of(wanted: &[&str], known: &str) -> Vec<String> {
    let installed = |package: &&str| {
        known
            .lines()
            .any(|line| line.split_once(' ') == Some((package, "installed")))
    };
    wanted
        .iter()
        .filter(|package| !installed(package))
        .map(|package| (*package).to_owned())
        .collect()
}

/// While this lives, installing a package starts no service.
struct NoServices {
    ours: bool,
}

impl NoServices {
    fn begin() -> Result<Self> {
        let left_behind = fs::read_to_string(POLICY).is_ok_and(|text| text.contains(POLICY_MARK));
        if Path::new(POLICY).exists() && !left_behind {
            return Ok(Self { ours: false });
        }
        let text = format!(
            "#!/bin/sh\n{POLICY_MARK}: no service starts while it installs.\n\
             [ -e /proc/{} ] || exit 0\nexit 101\n",
            std::process::id()
        );
        run::write_atomically(Path::new(POLICY), text.as_bytes())?;
        fs::set_permissions(POLICY, fs::Permissions::from_mode(0o755))
            .map_err(|error| format!("make {POLICY} executable: {error}"))?;
        Ok(Self { ours: true })
    }
}

impl Drop for NoServices {
    fn drop(&mut self) {
        if self.ours
            && let Err(error) = fs::remove_file(POLICY)
        {
            eprintln!(
                "remove {POLICY}: {error}; please remove it, it keeps services from starting"
            );
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn package_removed_with_its_configuration_left_counts_as_missing() {
        let known = "tcpdump installed\nstrace config-files\n";

        let missing = missing_of(&["tcpdump", "strace", "ethtool"], known);

        assert_eq!(missing, ["strace", "ethtool"]);
    }

    #[test]
    fn debian_is_recognised_by_id_and_version() {
        assert!(names_debian_12(
            "NAME=\"Debian\"\nVERSION_ID=\"12\"\nID=debian\n"
        ));
        assert!(!names_debian_12("VERSION_ID=\"13\"\nID=debian\n"));
        assert!(!names_debian_12(
            "VERSION_ID=\"12\"\nID=other\nID_LIKE=debian\n"
        ));
    }
}
