//! Embeds the kernel programs that `cargo xtask build-ebpf` compiled, so that there is one file to
//! copy to a router. Decides what a missing object means: a dev build goes on without the fast path
//! (no `cfg(embedded_bpf)`) and says so, a release build fails.

use std::env;
use std::fs;
use std::path::{Path, PathBuf};

#[path = "../xtask/src/bpf_sources.rs"]
mod bpf_sources;

fn main() {
    println!("cargo::rustc-check-cfg=cfg(embedded_bpf)");
    println!("cargo::rerun-if-env-changed=RELAY_BPF_OBJECT");
    println!("cargo::rerun-if-changed=build.rs");
    println!("cargo::rerun-if-changed=../xtask/src/bpf_sources.rs");

    let package = PathBuf::from(variable("CARGO_MANIFEST_DIR"));
    let root = package.parent().expect("a package lies in its workspace");
    let given = env::var_os("RELAY_BPF_OBJECT").map(PathBuf::from);
    let ours = given.is_none();
    let object = given.unwrap_or_else(|| root.join("target/bpf/relay.o"));
    println!("cargo::rerun-if-changed={}", object.display());
    let embedded = PathBuf::from(variable("OUT_DIR")).join("relay.o");

    match fs::copy(&object, &embedded) {
        Ok(_) => {
            println!("cargo::rustc-cfg=embedded_bpf");
            if ours {
                warn_if_stale(root, &object);
            }
        }
        Err(_) if variable("PROFILE") != "release" => println!(
            "cargo::warning=no eBPF object at {}: run `cargo xtask build-ebpf`; \
             this build captures through sockets only",
            object.display()
        ),
        Err(error) => println!(
            "cargo::error=no eBPF object at {} ({error}): run `cargo xtask build-ebpf` first",
            object.display()
        ),
    }
}

fn warn_if_stale(root: &Path, object: &Path) {
    for input in bpf_sources::INPUTS {
        println!("cargo::rerun-if-changed=../{input}");
    }
    let sources = object.with_extension("sources");
    println!("cargo::rerun-if-changed={}", sources.display());
    let built_from = fs::read_to_string(&sources).unwrap_or_default();
    let present = bpf_sources::fingerprint(root).unwrap_or_default();
    if built_from.lines().next() != Some(present.as_str()) {
        println!(
            "cargo::warning=the eBPF object is older than its sources: run `cargo xtask build-ebpf`"
        );
    }
}

fn variable(name: &str) -> String {
    env::var(name).expect("cargo sets it for build scripts")
}
