//! `bench own`: what is demanded of twinrelay alone. RENEWs in a flood of SOLICITs, clients never seen before,
//! system calls, memory, and a long answer of the control socket while it relays.

use super::goals::{self, Goal};
use super::load::{Load, Trial};
use super::network::{LOAD_CPU, Network, path};
use super::peers::{Limits, Peer, Running};
use super::relay::{generator, twinrelay};
use crate::run::{Result, is_root};
use std::process::{Child, Command, Stdio};
use std::thread::{scope, sleep};
use std::time::{Duration, Instant};

/// Clients that no neighbour table knows.
const CLIENTS: u32 = 20_000;
/// Clients with two leases each.
const MEMORY_CLIENTS: u32 = 50_000;
/// Exchanges a second while clients are seen for the first time: within the default limits.
const FIRST_RATE: u64 = 10_000;
/// RENEWs a second in the flood: each of the clients renews every 5 s.
const RENEWS: u64 = 4_000;
/// SOLICITs a second in the flood: twice what the default limits let through of everything.
const SOLICITS: u64 = 40_000;
/// Exchanges a second while system calls are counted, and whether that is the load of which few are demanded:
/// a relay with time to spare wakes up for each message.
const CALL_RATES: [(u64, bool); 3] = [(5_000, false), (20_000, true), (40_000, true)];
/// Exchanges a second while a long answer is made.
const SHOW_RATE: u64 = 5_000;
/// Length of one measurement, in milliseconds.
const MILLISECONDS: u64 = 4_000;
/// Routes of new leases are installed after the answers are out.
const SETTLE: Duration = Duration::from_secs(3);

/// Measures and prints.
pub fn run() -> Result<()> {
    if !is_root() {
        return Err("network namespaces need root: sudo cargo xtask bench own".into());
    }
    let binary = twinrelay()?;
    let generator = generator()?;
    // No neighbour entries: nobody has seen these clients before.
    let network = Network::build(0)?;
    let peer = |limits| Peer::Twinrelay(binary.clone(), limits);
    let mut goals = vec![];
    {
        let running = peer(Limits::Default).start(&network)?;
        println!(
            "{} XDP threads of the kernel serve twinrelay",
            running.napi_threads
        );
        let load = load(&generator, &network, &running, CLIENTS);
        unknown_clients(&load, &mut goals)?;
        flood(&load, &mut goals)?;
    }
    {
        let running = peer(Limits::Off).start(&network)?;
        let load = load(&generator, &network, &running, 500);
        load.warm(2000)?;
        for (rate, demanded) in CALL_RATES {
            let goal = calls(&load, rate)?;
            if demanded {
                goals.push(goal);
            }
        }
    }
    {
        let running = peer(Limits::Off).start(&network)?;
        let load = load(&generator, &network, &running, MEMORY_CLIENTS);
        memory(&load, &mut goals)?;
        show(&load, &binary.to_string_lossy(), &mut goals)?;
    }
    goals::print(&goals);
    Ok(())
}

fn load<'a>(
    generator: &'a std::path::Path,
    network: &'a Network,
    relay: &Running,
    clients: u32,
) -> Load<'a> {
    Load {
        generator,
        network,
        relay_pid: relay.pid(),
        clients,
    }
}

fn unknown_clients(load: &Load<'_>, goals: &mut Vec<Goal>) -> Result<()> {
    let first = load.warm(FIRST_RATE)?;
    println!(
        "{CLIENTS} clients never seen before at {FIRST_RATE}/s: {:.2} % answered, {} neighbour solicitations",
        (1.0 - first.loss()) * 100.0,
        first.get("solicitations"),
    );
    goals.push(Goal::at_most(
        format!("neighbour solicitations for {CLIENTS} unknown clients"),
        first.get("solicitations"),
        0.0,
        "",
    ));
    goals.push(Goal::at_most(
        format!("unanswered of {CLIENTS} unknown clients"),
        first.get("sent") - first.get("answered"),
        0.0,
        "",
    ));
    Ok(())
}

fn flood(load: &Load<'_>, goals: &mut Vec<Goal>) -> Result<()> {
    let trial = load.offer(RENEWS, SOLICITS, MILLISECONDS)?;
    println!(
        "default limits: {} RENEWs, {} answered; {} SOLICITs, {} answered{}",
        trial.get("renews_sent"),
        trial.get("replies"),
        trial.get("sent") - trial.get("renews_sent"),
        trial.get("advertises"),
        bound_note(&trial),
    );
    goals.push(
        Goal::at_most(
            format!(
                "RENEWs lost of {} while SOLICITs flood",
                trial.get("renews_sent")
            ),
            trial.get("renews_sent") - trial.get("replies"),
            0.0,
            "",
        )
        .noting(&format!("{SOLICITS} SOLICITs a second")),
    );
    Ok(())
}

fn bound_note(trial: &Trial) -> &'static str {
    if trial.bounded() {
        " (bounded by the generator)"
    } else {
        ""
    }
}

/// System calls per message, as `strace -c` counts them. It slows the relay down, which makes its batches
/// larger: the figure of a low rate stands beside it.
fn calls(load: &Load<'_>, rate: u64) -> Result<Goal> {
    let what = format!("system calls a message at {rate}/s");
    let summary = load.network.dir.join("strace");
    let Ok(tracer) = Command::new("strace")
        .args(["-c", "-f", "-p", &load.relay_pid.to_string(), "-o"])
        .arg(&summary)
        .env("PATH", path())
        .stdin(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
    else {
        return Ok(Goal::unmeasured(what, "strace is not installed"));
    };
    sleep(Duration::from_millis(500));
    let trial = load.offer(rate, 0, MILLISECONDS);
    interrupt(tracer)?;
    let trial = trial?;
    let text = std::fs::read_to_string(&summary).map_err(|error| format!("strace: {error}"))?;
    println!(
        "strace -c at {rate}/s, {} messages:\n{text}",
        trial.messages()
    );
    let total = text
        .lines()
        .find(|line| line.trim_end().ends_with("total"))
        .and_then(|line| line.split_whitespace().nth(3)?.parse::<f64>().ok())
        .unwrap_or(f64::NAN);
    println!("{what}: {:.2}", total / trial.messages());
    Ok(Goal::at_most(what, total / trial.messages(), 1.0, "")
        .noting(&format!("{:.1} % lost under strace", trial.loss() * 100.0)))
}

fn interrupt(mut tracer: Child) -> Result<()> {
    super::network::run("kill", &["-INT", &tracer.id().to_string()])?;
    tracer
        .wait()
        .map(drop)
        .map_err(|error| format!("strace: {error}"))
}

fn memory(load: &Load<'_>, goals: &mut Vec<Goal>) -> Result<()> {
    let idle = resident_kib(load.relay_pid)?;
    let first = load.warm(FIRST_RATE)?;
    sleep(SETTLE);
    let full = resident_kib(load.relay_pid)?;
    // Some clients renewed twice.
    let bindings = 2.0 * first.get("answered").min(f64::from(MEMORY_CLIENTS));
    println!("resident: {idle} KiB idle, {full} KiB with {bindings} bindings");
    goals.push(Goal::at_most(
        format!("memory for {bindings} bindings"),
        (full - idle) / 1024.0,
        60.0,
        " MiB",
    ));
    Ok(())
}

fn resident_kib(pid: u32) -> Result<f64> {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status"))
        .map_err(|error| format!("the relay has ended: {error}"))?;
    status
        .lines()
        .find_map(|line| line.strip_prefix("VmRSS:"))
        .and_then(|rest| rest.split_whitespace().next()?.parse().ok())
        .ok_or_else(|| "no VmRSS in /proc".into())
}

fn show(load: &Load<'_>, binary: &str, goals: &mut Vec<Goal>) -> Result<()> {
    let socket = load.network.dir.join("run/control.sock");
    let ask = || -> Result<(usize, f64)> {
        let start = Instant::now();
        let output = Command::new("taskset")
            .args(["-c", &LOAD_CPU.to_string(), binary, "--socket"])
            .arg(&socket)
            .args(["show", "bindings", "--json"])
            .stdin(Stdio::null())
            .output()
            .map_err(|error| format!("cannot start {binary}: {error}"))?;
        let seconds = start.elapsed().as_secs_f64();
        if !output.status.success() {
            return Err(String::from_utf8_lossy(&output.stderr).into_owned());
        }
        let rows = output.stdout.iter().filter(|byte| **byte == b'\n').count() - 1;
        Ok((rows, seconds))
    };
    let (rows, quiet) = ask()?;
    let before = load.offer(SHOW_RATE, 0, MILLISECONDS)?;
    let (asked, during) = scope(|scope| {
        let asking = scope.spawn(|| {
            sleep(Duration::from_millis(500));
            ask()
        });
        let during = load.offer(SHOW_RATE, 0, MILLISECONDS);
        (asking.join(), during)
    });
    let during = during?;
    let (_, relaying) = asked.map_err(|_| "the thread that asks panicked")??;
    println!(
        "show bindings --json: {rows} rows in {quiet:.2} s, in {relaying:.2} s while relaying {SHOW_RATE}/s; \
         unanswered {:.0} without it and {:.0} with it, median latency {:.0} and {:.0} us{}",
        before.get("sent") - before.get("answered"),
        during.get("sent") - during.get("answered"),
        before.get("latency_ns") / 1000.0,
        during.get("latency_ns") / 1000.0,
        bound_note(&during),
    );
    goals.push(Goal::at_most(
        format!("show bindings --json of {rows}, while relaying {SHOW_RATE}/s"),
        relaying,
        2.0,
        " s",
    ));
    goals.push(Goal::at_most(
        "exchanges lost meanwhile",
        during.get("sent") - during.get("answered"),
        0.0,
        "",
    ));
    Ok(())
}
