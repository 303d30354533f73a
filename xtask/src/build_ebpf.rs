//! `cargo xtask build-ebpf`: the kernel programs, from sources to `target/bpf/*.o`. Decides when they
//! must be built again. Knows nothing of what they do; every binary of relay-ebpf becomes an object.

use std::env;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Instant;

use crate::bpf_sources;
use crate::run::{self, Result, root};
use crate::toolchain::{self, Core, TARGET, Toolchain};

/// Builds the objects unless they are fresh.
pub fn build() -> Result<()> {
    let toolchain = toolchain::find()?;
    let root = root();
    let objects = root.join("target/bpf");
    let sources = bpf_sources::fingerprint(&root)
        .map_err(|error| format!("read the sources of the eBPF object: {error}"))?;
    let stamp = format!(
        "{sources}\n{}\n{}\n{}\n",
        toolchain.compiler.describe(),
        toolchain.linker.display(),
        flags(&toolchain).join(" ")
    );
    let binaries = binaries(&root)?;
    let fresh = |name: &String| {
        objects.join(format!("{name}.o")).is_file()
            && fs::read_to_string(objects.join(format!("{name}.sources")))
                .is_ok_and(|text| text == stamp)
    };
    if binaries.iter().all(fresh) {
        eprintln!("eBPF object is fresh ({})", toolchain.compiler.describe());
        return Ok(());
    }

    let begin = Instant::now();
    eprintln!("eBPF compiler: {}", toolchain.compiler.describe());
    eprintln!("eBPF linker:   {}", toolchain.linker.display());
    let built = compile(&toolchain)?;
    for name in &binaries {
        let object = fs::read(built.join(name))
            .map_err(|error| format!("read {}: {error}", built.join(name).display()))?;
        run::write_atomically(&objects.join(format!("{name}.o")), &object)?;
        run::write_atomically(&objects.join(format!("{name}.sources")), stamp.as_bytes())?;
        eprintln!(
            "wrote target/bpf/{name}.o ({} KiB) in {:.1} s",
            object.len() / 1024,
            begin.elapsed().as_secs_f32()
        );
    }
    Ok(())
}

/// Compiles relay-ebpf for the kernel; returns the folder of the results.
fn compile(toolchain: &Toolchain) -> Result<PathBuf> {
    let compiler = &toolchain.compiler;
    let target_dir = root().join("target/bpf-build");
    let mut cargo = run::cargo();
    // `-Z build-std` wants a cargo of the compiler's own release.
    let sibling = compiler.rustc.with_file_name("cargo");
    if compiler.core == Core::BuildStd && sibling.is_file() {
        cargo = std::process::Command::new(sibling);
        cargo.current_dir(root());
    }
    cargo
        .args(["build", "--locked", "--package", "relay-ebpf", "--bins"])
        .args(["--release", "--target", TARGET, "--target-dir"])
        .arg(&target_dir)
        .env("RUSTC", &compiler.rustc)
        .env("CARGO_ENCODED_RUSTFLAGS", flags(toolchain).join("\x1f"));
    // What would change the compiler or its output behind our back.
    for variable in [
        "RUSTFLAGS",
        "RUSTC_WRAPPER",
        "RUSTC_WORKSPACE_WRAPPER",
        "CARGO_BUILD_TARGET",
        "RUSTUP_TOOLCHAIN",
    ] {
        cargo.env_remove(variable);
    }
    match compiler.core {
        Core::Prebuilt if compiler.is_nightly() => {}
        // Only that crate needs a feature gate.
        Core::Prebuilt => {
            cargo.env("RUSTC_BOOTSTRAP", "aya_ebpf");
        }
        Core::BuildStd => {
            cargo
                .args(["-Z", "build-std=core"])
                .env("RUSTC_BOOTSTRAP", "1");
        }
    }
    run::run(&mut cargo)?;
    Ok(target_dir.join(TARGET).join("release"))
}

fn flags(toolchain: &Toolchain) -> Vec<String> {
    let cargo_home = env::var("CARGO_HOME")
        .or_else(|_| env::var("HOME").map(|home| format!("{home}/.cargo")))
        .unwrap_or_default();
    let mut flags = vec![
        format!("--cfg=bpf_target_arch=\"{}\"", env::consts::ARCH),
        "-Cdebuginfo=2".into(),
        "-Clink-arg=--btf".into(),
        // Headers lie at odd addresses. Every processor that we build for reads numbers there, and the kernel
        // lets programs do it; without this they are put together from octets.
        "-Clink-arg=--cpu-features=+allows-misaligned-mem-access".into(),
        format!("-Clinker={}", toolchain.linker.display()),
        // Else the paths of this machine stay in the object, and it differs from folder to folder.
        format!("--remap-path-prefix={}=.", root().display()),
    ];
    if !cargo_home.is_empty() {
        flags.push(format!("--remap-path-prefix={cargo_home}=cargo"));
    }
    flags
}

/// The binaries of relay-ebpf.
fn binaries(root: &Path) -> Result<Vec<String>> {
    let manifest = root.join("relay-ebpf/Cargo.toml");
    let text = fs::read_to_string(&manifest)
        .map_err(|error| format!("read {}: {error}", manifest.display()))?;
    let mut names = names_of(&text, "[[bin]]");
    if let Ok(files) = run::files(&root.join("relay-ebpf/src/bin"), "rs") {
        let stems = files.iter().filter_map(|file| file.file_stem()?.to_str());
        names.extend(stems.map(str::to_owned));
    }
    names.sort();
    names.dedup();
    Ok(names)
}

/// The names in a manifest's tables under that header, `[[bin]]` or `[[test]]`.
pub(crate) fn names_of(manifest: &str, header: &str) -> Vec<String> {
    let mut names = Vec::new();
    let mut inside = false;
    for line in manifest.lines().map(str::trim) {
        if line.starts_with('[') {
            inside = line == header;
        } else if inside
            && let Some((key, value)) = line.split_once('=')
            && key.trim() == "name"
        {
            names.push(value.trim().trim_matches('"').to_owned());
        }
    }
    names
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn binaries_are_the_names_of_bin_tables_only() {
        let manifest = "[package]\nname = \"relay-ebpf\"\n[[bin]]\nname = \"relay\"\n\
                        path = \"src/main.rs\"\n[[bin]]\nname=\"bench\"\n[dependencies]\n\
                        name = \"x\"\n";

        assert_eq!(names_of(manifest, "[[bin]]"), ["relay", "bench"]);
    }

    #[test]
    fn flags_hide_the_folder_of_the_workspace() {
        let toolchain = Toolchain {
            compiler: toolchain::Compiler {
                rustc: "/usr/bin/rustc".into(),
                release: "1.96.0".into(),
                llvm: 22,
                core: Core::Prebuilt,
            },
            linker: "/usr/bin/bpf-linker".into(),
        };

        let expected = format!("--remap-path-prefix={}=.", root().display());
        assert!(flags(&toolchain).contains(&expected));
    }
}
