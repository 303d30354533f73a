//! `cargo xtask`: the verbs that people, the README and CI run. Decides only which module a verb goes to.

use std::process::ExitCode;

use xtask::run::{self, Result};
use xtask::setup::{self, Purpose};
use xtask::{bench, build_ebpf, ci, fuzz, lab, test, tidy, trace};

const HELP: &str = "\
usage: cargo xtask VERB

  setup          install what is missing: Debian packages, bpf-linker, cargo's tools
  build-ebpf     the kernel programs: target/bpf/*.o
  build          target/release/twinrelay with the kernel programs inside
  demo           a pair of routers, one of which loses everything, beside dhcrelay; --single: one router
  lab            up [--twins] | status | exec | traffic | power | cable | daemon | down: the same by hand
  test           [unit | conformance | sim | kernel | netns | all]
  fuzz           [TARGET [SECONDS]]: the fuzz targets, each for a bounded time
  bench          relay: against ISC dhcrelay and dnsmasq; own: what it costs alone; `bench help`
  trace          [ID... | --check]: requirements, their code and their tests
  tidy           what rustfmt and clippy do not look at
  ci             all of it, as before every merge
";

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let verb = args.first().map_or("help", String::as_str);
    let rest = args.get(1..).unwrap_or_default();
    match dispatch(verb, rest) {
        Ok(code) => code,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}

fn dispatch(verb: &str, rest: &[String]) -> Result<ExitCode> {
    match verb {
        "setup" => {
            setup::ensure(Purpose::Ci)?;
            build_ebpf::build()?;
            eprintln!("ready");
        }
        "build-ebpf" => build_ebpf::build()?,
        "build" => build()?,
        "demo" => {
            setup::ensure(Purpose::Lab)?;
            build_ebpf::build()?;
            run::run(run::cargo().args(["build", "--locked", "--workspace", "--bins"]))?;
            return Ok(lab::demo(rest));
        }
        "lab" => return Ok(lab::main(rest)),
        "test" => test::main(rest)?,
        "fuzz" => fuzz::main(rest)?,
        "trace" => trace::main(rest)?,
        "tidy" => tidy::main()?,
        "ci" => ci::main()?,
        "bench" => return Ok(bench::main(rest)),
        "help" | "--help" | "-h" => print!("{HELP}"),
        other => return Err(format!("no verb {other:?}\n\n{HELP}")),
    }
    Ok(ExitCode::SUCCESS)
}

/// The release binary with fresh kernel programs inside.
fn build() -> Result<()> {
    setup::ensure(Purpose::Build)?;
    build_ebpf::build()?;
    run::run(run::cargo().args([
        "build",
        "--release",
        "--locked",
        "--package",
        "relay-userspace",
    ]))
}
