//! What the store costs: durable changes a second beside a bare log of the same bytes, the time to
//! read a million bindings, and the memory. `cargo xtask bench store` builds and runs it.
//!
//! The bare log is what no store can beat on this disk: one append and one fdatasync for a batch,
//! its bytes made beforehand. Ours encodes, hands over to its thread, and is waited for.

mod binding;
mod delay;

use std::fs::File;
use std::hint::black_box;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::mpsc;
use std::time::{Duration, Instant};

use anyhow::{Context, anyhow, bail};
use relay_userspace::store::{Clock, Event, Opened, Options, StateDir, Store};
use xtask::bench::goals::{self, Goal};

use binding::{OVERHEAD, with_binding};

const BATCHES: [u64; 4] = [1, 10, 100, 1000];

struct Args {
    rounds: usize,
    time: Duration,
    bindings: u64,
    folder: PathBuf,
}

fn main() -> anyhow::Result<()> {
    let mut args = Args {
        rounds: 5,
        time: Duration::from_millis(500),
        bindings: 1_000_000,
        folder: std::env::current_dir()?.join("target/store-bench"),
    };
    let mut words = std::env::args().skip(1);
    while let Some(word) = words.next() {
        let value = words
            .next()
            .with_context(|| format!("{word}: without a value"))?;
        match word.as_str() {
            "--rounds" => args.rounds = value.parse::<usize>()?.max(1),
            "--milliseconds" => args.time = Duration::from_millis(value.parse()?),
            "--bindings" => args.bindings = value.parse::<u64>()?.max(1),
            "--folder" => args.folder = value.into(),
            "--scan" => return scan(Path::new(&value)),
            _ => bail!("{word}: unknown"),
        }
    }
    let result = bench(&args);
    let _ = std::fs::remove_dir_all(&args.folder);
    result
}

fn bench(args: &Args) -> anyhow::Result<()> {
    std::fs::create_dir_all(&args.folder)?;
    let mut goals = rates(args)?;
    goals.push(delay::measure(args)?);
    million(args)?;
    goals::print(&goals);
    Ok(())
}

fn rates(args: &Args) -> anyhow::Result<Vec<Goal>> {
    let mut rates = vec![(Vec::new(), Vec::new()); BATCHES.len()];
    for round in 0..args.rounds {
        for (batch, (raw, ours)) in BATCHES.into_iter().zip(&mut rates) {
            // Which one is first changes, for a disk that is slower at some times than at others.
            if round % 2 == 0 {
                raw.push(raw_rate(args, batch)?);
                ours.push(store_rate(args, batch)?);
            } else {
                ours.push(store_rate(args, batch)?);
                raw.push(raw_rate(args, batch)?);
            }
        }
    }
    println!(
        "durable changes a second, medians of {} rounds",
        args.rounds
    );
    println!(
        "{:>6} {:>12} {:>12} {:>7} {:>12}",
        "batch", "bare log", "store", "ratio", "us a commit"
    );
    let mut goals = Vec::new();
    for (batch, (raw, ours)) in BATCHES.into_iter().zip(&rates) {
        let ratio = median(raw.iter().zip(ours).map(|(raw, ours)| ours / raw).collect());
        let (raw, ours) = (median(raw.clone()), median(ours.clone()));
        let micros = batch as f64 / ours * 1e6;
        println!("{batch:>6} {raw:>12.0} {ours:>12.0} {ratio:>7.2} {micros:>12.0}");
        if batch == 10 || batch == 100 {
            goals.push(Goal::at_least(
                format!("durable changes in batches of {batch}, store / bare log"),
                ratio,
                0.4,
                "x",
            ));
        }
    }
    Ok(goals)
}

fn raw_rate(args: &Args, batch: u64) -> anyhow::Result<f64> {
    let path = args.folder.join("raw");
    let _ = std::fs::remove_file(&path);
    let mut file = File::create(&path)?;
    let mut bytes = Vec::new();
    for id in 0..batch {
        bytes.extend([0; OVERHEAD]);
        with_binding(id, |binding| binding.encode(0, &mut bytes));
    }
    let started = Instant::now();
    let mut count = 0;
    while started.elapsed() < args.time {
        file.write_all(&bytes)?;
        file.sync_data()?;
        count += batch;
    }
    Ok(count as f64 / started.elapsed().as_secs_f64())
}

fn store_rate(args: &Args, batch: u64) -> anyhow::Result<f64> {
    let folder = args.folder.join("rate");
    let _ = std::fs::remove_dir_all(&folder);
    let (store, durable) = start(&folder, at_once())?;
    let (mut sequence, mut next) = (0, 1);
    let mut commit = || {
        let mut changes = store.batch();
        for id in next..next + batch {
            with_binding(id, |binding| changes.put(binding));
        }
        next += batch;
        sequence += 1;
        changes.set_sequence(sequence);
        store.submit(changes).map_err(|_| anyhow!("refused"))?;
        while durable.recv()? < sequence {}
        anyhow::Ok(())
    };
    // The first commit makes the file.
    commit()?;
    let started = Instant::now();
    let mut count = 0;
    while started.elapsed() < args.time {
        commit()?;
        count += batch;
    }
    let rate = count as f64 / started.elapsed().as_secs_f64();
    store.close();
    Ok(rate)
}

/// Writes them all, renews them all, and has them read by processes of their own.
fn million(args: &Args) -> anyhow::Result<()> {
    let folder = args.folder.join("million");
    for what in ["written", "renewed"] {
        let started = Instant::now();
        let (store, durable) = start(&folder, at_once())?;
        let mut sequence = 0;
        for from in (1..=args.bindings).step_by(1000) {
            let mut changes = store.batch();
            for id in from..(from + 1000).min(args.bindings + 1) {
                with_binding(id, |binding| changes.put(binding));
            }
            sequence += 1;
            changes.set_sequence(sequence);
            while let Err(back) = store.submit(changes) {
                changes = back;
                std::thread::sleep(Duration::from_millis(1));
            }
        }
        while durable.recv()? < sequence {}
        let seconds = started.elapsed().as_secs_f64();
        store.close();
        let bytes = size(&folder.join("store"))?;
        println!(
            "\n{} bindings {what} in {seconds:.2} s, {:.0} bytes on disk for each",
            args.bindings,
            bytes as f64 / args.bindings as f64
        );
        let exe = std::env::current_exe()?;
        for _ in 0..args.rounds.min(3) {
            let status = Command::new(&exe).arg("--scan").arg(&folder).status()?;
            if !status.success() {
                bail!("the scan failed");
            }
        }
    }
    Ok(())
}

/// Opens, reads everything, begins to write; tells time and memory.
fn scan(folder: &Path) -> anyhow::Result<()> {
    let before = memory("RssAnon")?;
    let started = Instant::now();
    let mut opened = Opened::open(
        StateDir::lock(folder)?,
        Options::default(),
        Box::new(Clock::read),
    )?;
    let first = started.elapsed();
    let report = opened.load(|restored| {
        black_box(restored);
    })?;
    let (count, harm) = (report.bindings, report.harm);
    let all = started.elapsed();
    let (tell, told) = mpsc::channel();
    let store = opened.start(move |event| drop(tell.send(event)))?;
    told.recv()?;
    let after = memory("RssAnon")?;
    let peak = memory("VmHWM")?;
    let each = |bytes: u64| bytes as f64 / count as f64;
    println!(
        "scan of {count}: {:.3} s ({:.3} s of them the first pass), resident memory that stays {:.1} bytes a \
         binding, at its peak {:.1}; {} bytes unreadable",
        all.as_secs_f64(),
        first.as_secs_f64(),
        each(after.saturating_sub(before)),
        each(peak.saturating_sub(before)),
        harm.damaged_bytes,
    );
    store.close();
    Ok(())
}

/// Each batch is waited for: none will keep it company.
fn at_once() -> Options {
    Options {
        gather: Duration::ZERO,
        ..Options::default()
    }
}

fn start(folder: &Path, options: Options) -> anyhow::Result<(Store, mpsc::Receiver<u64>)> {
    let opened = Opened::open(StateDir::lock(folder)?, options, Box::new(Clock::read))?;
    let (tell, durable) = mpsc::channel();
    let store = opened.start(move |event| {
        if let Event::Durable(sequence) = event {
            let _ = tell.send(sequence);
        }
    })?;
    Ok((store, durable))
}

fn memory(line: &str) -> anyhow::Result<u64> {
    let status = std::fs::read_to_string("/proc/self/status")?;
    let found = status.lines().find_map(|it| it.strip_prefix(line));
    let kilobytes = found.and_then(|it| it.split_whitespace().nth(1));
    Ok(kilobytes.context("no such line")?.parse::<u64>()? * 1024)
}

fn size(folder: &Path) -> anyhow::Result<u64> {
    let mut bytes = 0;
    for entry in std::fs::read_dir(folder)? {
        bytes += entry?.metadata()?.len();
    }
    Ok(bytes)
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(f64::NAN)
}
