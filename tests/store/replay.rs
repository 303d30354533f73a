//! A disk that loses power: system calls go in, and what is found after a cut comes out. Decides what
//! a disk may do with what was not synced; knows nothing of the store.
//!
//! Harsher than a journaling file system: each change of a folder that was not synced lasts or is
//! lost by itself, and of a file's unsynced bytes any sector may be missing.

use std::collections::{BTreeMap, HashMap};
use std::path::Path;

use super::trace::Call;

const SECTOR: usize = 512;

/// Numbers from a seed (splitmix64).
pub struct Random(pub u64);

impl Random {
    pub fn below(&mut self, end: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ mixed >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ mixed >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((mixed ^ mixed >> 31) % end.max(1) as u64) as usize
    }
}

#[derive(Clone, Default)]
struct Inode {
    bytes: Vec<u8>,
    synced: usize,
}

#[derive(Clone)]
enum Change {
    Link(String, usize),
    Unlink(String),
    Rename(String, String),
}

/// Files and folders, and which of their changes would last.
#[derive(Clone, Default)]
pub struct Disk {
    inodes: Vec<Inode>,
    now: BTreeMap<String, usize>,
    lasting: BTreeMap<String, usize>,
    folders: BTreeMap<String, bool>,
    /// Not synced, by folder, in order.
    pending: Vec<(String, Change)>,
    /// What was written when a sync began: lengths of all files, and how many changes were pending.
    syncs: HashMap<u64, (Vec<usize>, usize)>,
    dropped: usize,
}

impl Disk {
    /// Carries out a call.
    pub fn apply(&mut self, call: &Call) {
        match call {
            Call::Create(path) => {
                if !self.now.contains_key(path) {
                    self.inodes.push(Inode::default());
                    let inode = self.inodes.len() - 1;
                    self.now.insert(path.clone(), inode);
                    self.change(path, Change::Link(path.clone(), inode));
                }
            }
            Call::Write(path, bytes) => {
                if let Some(inode) = self.now.get(path) {
                    self.inodes[*inode].bytes.extend(bytes);
                }
            }
            Call::Rename(from, to) => {
                if let Some(inode) = self.now.remove(from) {
                    self.now.insert(to.clone(), inode);
                    self.change(to, Change::Rename(from.clone(), to.clone()));
                }
            }
            Call::Unlink(path) => {
                self.now.remove(path);
                self.change(path, Change::Unlink(path.clone()));
            }
            Call::Mkdir(path) => {
                self.folders.insert(path.clone(), false);
            }
            Call::SyncBegins(number) => {
                let lengths = self.inodes.iter().map(|it| it.bytes.len()).collect();
                let pending = self.dropped + self.pending.len();
                self.syncs.insert(*number, (lengths, pending));
            }
            Call::Sync(number, path) => self.sync(*number, path),
        }
    }

    fn change(&mut self, path: &str, change: Change) {
        let folder = path.rsplit_once('/').map_or("", |(folder, _)| folder);
        self.pending.push((folder.to_owned(), change));
    }

    fn sync(&mut self, number: u64, path: &str) {
        let (lengths, pending) = self.syncs.remove(&number).unwrap_or_default();
        if let Some(inode) = self.now.get(path) {
            let length = lengths.get(*inode).copied().unwrap_or(0);
            let inode = &mut self.inodes[*inode];
            inode.synced = inode.synced.max(length);
            return;
        }
        for (folder, is_lasting) in &mut self.folders {
            *is_lasting |= folder
                .rsplit_once('/')
                .is_some_and(|(parent, _)| parent == path);
        }
        let covered = pending.saturating_sub(self.dropped);
        let mut kept = Vec::new();
        for (index, (folder, change)) in std::mem::take(&mut self.pending).into_iter().enumerate() {
            if folder == path && index < covered {
                last(&mut self.lasting, &change);
                self.dropped += 1;
            } else {
                kept.push((folder, change));
            }
        }
        self.pending = kept;
    }

    /// What is on the disk after the power went now: below `from`, written below `to`.
    pub fn cut(&self, random: &mut Random, from: &str, to: &Path) {
        let mut files = self.lasting.clone();
        for (_, change) in &self.pending {
            if random.below(2) == 0 {
                last(&mut files, change);
            }
        }
        for (folder, is_lasting) in &self.folders {
            if let Some(below) = folder.strip_prefix(from)
                && (*is_lasting || random.below(2) == 0)
            {
                let _ = std::fs::create_dir_all(to.join(below.trim_start_matches('/')));
            }
        }
        for (path, inode) in files {
            if let Some(below) = path.strip_prefix(from) {
                let path = to.join(below.trim_start_matches('/'));
                // A folder that did not last took its files with it.
                let _ = std::fs::write(path, self.inodes[inode].after_cut(random));
            }
        }
    }
}

impl Inode {
    fn after_cut(&self, random: &mut Random) -> Vec<u8> {
        let unsynced = self.bytes.len() - self.synced;
        let mut bytes = match random.below(3) {
            0 => self.bytes[..self.synced].to_vec(),
            1 => self.bytes.clone(),
            _ => self.bytes[..self.synced + random.below(unsynced + 1)].to_vec(),
        };
        if random.below(2) == 0 {
            // The file has got its length, and some sectors were not written.
            let first = self.synced.div_ceil(SECTOR);
            for sector in bytes.chunks_mut(SECTOR).skip(first) {
                if random.below(2) == 0 {
                    sector.fill(0);
                }
            }
            let partial = self.synced..bytes.len().min(first * SECTOR);
            if random.below(2) == 0 && !partial.is_empty() {
                bytes[partial].fill(0);
            }
        }
        bytes
    }
}

fn last(files: &mut BTreeMap<String, usize>, change: &Change) {
    match change {
        Change::Link(path, inode) => drop(files.insert(path.clone(), *inode)),
        Change::Unlink(path) => drop(files.remove(path)),
        Change::Rename(from, to) => {
            if let Some(inode) = files.remove(from) {
                files.insert(to.clone(), inode);
            }
        }
    }
}

#[test]
fn only_what_was_synced_is_sure_to_last() {
    let path = || "/s/a".to_owned();
    let mut disk = Disk::default();
    for call in [
        Call::Mkdir("/s".into()),
        Call::Create(path()),
        Call::Write(path(), vec![1; 700]),
        Call::SyncBegins(1),
        Call::Write(path(), vec![2; 700]),
        Call::Sync(1, path()),
    ] {
        disk.apply(&call);
    }
    let lengths = |disk: &Disk| {
        let mut lengths = std::collections::BTreeSet::new();
        for seed in 0..60 {
            let folder = tempfile::tempdir().unwrap();
            disk.cut(&mut Random(seed), "/s", folder.path());
            let bytes = std::fs::read(folder.path().join("a")).ok();
            assert!(bytes.as_ref().is_none_or(|it| it.starts_with(&[1; 700])));
            lengths.insert(bytes.map(|it| it.len()));
        }
        lengths
    };

    let found = lengths(&disk);
    assert!(found.contains(&None) && found.contains(&Some(700)) && found.contains(&Some(1400)));

    for call in [Call::SyncBegins(2), Call::Sync(2, "/s".into())] {
        disk.apply(&call);
    }
    assert!(!lengths(&disk).contains(&None));
}
