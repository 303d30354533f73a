//! Power cuts: a store is written under strace, its system calls are replayed up to 200 points, and
//! what a disk might hold then is opened. Every acknowledged change is there, and nothing is damaged.

use std::fs::{File, OpenOptions};
use std::io::Write;
use std::path::Path;
use std::process::Command;

use relay_userspace::store::Event;

use super::harness::{Contents, Running, SMALL, contents, open, skip};
use super::replay::{Disk, Random};
use super::trace::{Call, parse};

const CUTS: usize = 200;
const BATCHES: u64 = 240;
const BINDINGS: usize = 40;
/// Every so often everything is offered again.
const REWRITE_EVERY: u64 = 70;
/// Set: this process is the one that writes.
const WRITER: &str = "TWINRELAY_STORE_WRITER";
const CALLS: &str = "trace=openat,write,pwrite64,writev,rename,renameat,renameat2,unlink,unlinkat,mkdir,\
                     mkdirat,fsync,fdatasync,ftruncate,truncate,fallocate,copy_file_range,sendfile";

/// The changes of a batch; a version is the number of the batch that gave it.
fn batch(sequence: u64) -> Vec<(u64, Option<u32>)> {
    let mut random = Random(sequence);
    (0..1 + random.below(8))
        .map(|_| {
            let id = 1 + random.below(BINDINGS) as u64;
            (id, (random.below(4) > 0).then_some(sequence as u32))
        })
        .collect()
}

fn apply(contents: &mut Contents, sequence: u64) {
    for (id, version) in batch(sequence) {
        match version {
            Some(version) => drop(contents.insert(id, version)),
            None => drop(contents.remove(&id)),
        }
    }
}

/// What is traced: a line of `acks` is written as soon as the store says that a batch is durable.
fn write_all(folder: &Path) {
    let acks = OpenOptions::new()
        .create(true)
        .append(true)
        .open(folder.join("acks"));
    let mut acks: File = acks.expect("a file for acknowledgements");
    let running = Running::start(open(&folder.join("state")).expect("opens"), move |event| {
        if let Event::Durable(sequence) = event {
            acks.write_all(format!("{sequence}\n").as_bytes())
                .expect("acknowledges");
        }
    });
    let mut model = Contents::new();
    for sequence in 1..=BATCHES {
        apply(&mut model, sequence);
        if sequence % REWRITE_EVERY == 0 {
            running.rewrite(sequence, &model);
            continue;
        }
        running.submit(sequence, batch(sequence));
        // Some batches meet others in the queue, most are alone.
        if sequence % 5 != 0 {
            running.wait(|event| *event == Event::Durable(sequence));
        }
    }
    running.store.close();
}

fn trace(folder: &Path) -> String {
    let output = folder.join("trace");
    let status = Command::new("strace")
        .args(["-f", "-y", "-xx", "-s", "10000000", "-e", CALLS, "-o"])
        .arg(&output)
        .arg(std::env::current_exe().expect("this program"))
        .args([
            "--exact",
            "power_cut::acknowledged_changes_survive_every_power_cut",
        ])
        .env(WRITER, folder)
        .env_remove("TWINRELAY_SKIPPED_FILE")
        .status()
        .expect("strace runs");
    assert!(status.success(), "the writer failed: {status}");
    std::fs::read_to_string(output).expect("a trace")
}

/// Whether what was found can be: what was acknowledged, or what came after.
fn check(found: &Contents, acknowledged: u64) {
    let mut sure = Contents::new();
    for sequence in 1..=acknowledged {
        apply(&mut sure, sequence);
    }
    for id in 1..=BINDINGS as u64 {
        let has = found.get(&id).copied();
        let later = (acknowledged + 1..=BATCHES).flat_map(batch);
        let is_later = later.into_iter().any(|change| change == (id, has));
        assert!(
            has == sure.get(&id).copied() || is_later,
            "binding {id} is {has:?}, acknowledged was {:?} (up to {acknowledged})",
            sure.get(&id)
        );
    }
}

#[test]
fn acknowledged_changes_survive_every_power_cut() {
    if let Some(folder) = std::env::var_os(WRITER) {
        return write_all(Path::new(&folder));
    }
    if Command::new("strace").arg("-V").output().is_err() {
        return skip("strace is missing: cargo xtask setup installs it");
    }
    let seed = std::env::var("TWINRELAY_SEED").map_or(1, |it| it.parse().expect("a number"));
    let folder = tempfile::tempdir().expect("a folder");
    let root = folder.path().canonicalize().expect("a path");
    let calls = parse(&trace(&root));
    let (state, acks) = (root.join("state"), root.join("acks").display().to_string());
    let state = state.display().to_string();
    assert!(
        calls.iter().any(|it| matches!(it, Call::Rename(..))),
        "nothing was merged"
    );

    let mut random = Random(seed);
    let mut cuts: Vec<usize> = (0..CUTS).map(|_| random.below(calls.len() + 1)).collect();
    cuts.sort_unstable();
    let (mut disk, mut done, mut acknowledged) = (Disk::default(), 0, 0);
    for (number, cut) in cuts.into_iter().enumerate() {
        for call in &calls[done..cut] {
            match call {
                Call::Write(path, bytes) if *path == acks => {
                    let line = String::from_utf8_lossy(bytes);
                    acknowledged = line.trim().parse().expect("a number");
                }
                call => disk.apply(call),
            }
        }
        done = cut;
        let after = tempfile::tempdir().expect("a folder");
        disk.cut(&mut random, &state, after.path());

        let mut opened = open(after.path()).expect("a store opens after a power cut");
        let (found, report) = contents(&mut opened);
        check(&found, acknowledged);
        assert_eq!(
            report.harm.damaged_bytes, 0,
            "cut {number} (seed {seed}) did damage"
        );
        assert_eq!(report.unreadable, 0);
        // And it goes on from there.
        let running = Running::start(opened, |_| {});
        running.submit(1, [(1000, Some(7))]);
        running.wait(|event| *event == Event::Durable(1));
        running.store.close();
        let (again, _) = contents(&mut open(after.path()).expect("opens again"));
        let mut expected = found;
        expected.insert(1000, 7);
        assert_eq!(again, expected, "cut {number} (seed {seed})");
    }
    assert!(acknowledged > BATCHES / 2 && SMALL.segment_bytes > 0);
}
