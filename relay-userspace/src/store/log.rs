//! The segment that is being written. Decides when a new one begins and which old ones are no longer
//! needed; must not know why a commit is made.
//!
//! A file that a write or a sync failed on is never written again: after a failed sync the kernel
//! may hold as written what never reached the disk. A new one begins, and everything is offered
//! again.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use super::entry::{Body, Entries, FORMAT, Header};
use super::facts::Facts;
use super::files::{self, Name};

/// A segment that is not written any more.
#[derive(Clone, Copy, Debug)]
pub(super) struct Sealed {
    pub(super) name: Name,
    pub(super) bytes: u64,
    /// Is moved aside instead of deleted.
    pub(super) is_damaged: bool,
    /// Holds only what nobody was told to be kept.
    is_unfinished: bool,
}

struct Current {
    file: File,
    number: u64,
    salt: u64,
    bytes: u64,
    /// A commit in it succeeded.
    is_acknowledged: bool,
}

/// What will be durable next: entries that are framed for the current segment.
pub(super) struct Commit<'a> {
    salt: u64,
    entries: &'a mut Entries,
}

impl Commit<'_> {
    pub(super) fn push(&mut self, body: &Body<'_>) {
        self.entries.push(self.salt, body);
    }

    pub(super) fn push_encoded(&mut self, body: &[u8]) {
        self.entries.push_encoded(self.salt, body);
    }
}

/// The files of the store, from the writer's side.
pub(super) struct Log {
    store: PathBuf,
    segment_bytes: u64,
    current: Option<Current>,
    pub(super) sealed: Vec<Sealed>,
    next: u64,
    entries: Entries,
    /// The first segment of the rewrite that is going on.
    rewrite: Option<u64>,
    /// Nothing written now is acknowledged before the rewrite's end.
    is_behind: bool,
    pub(super) garbage: Vec<PathBuf>,
}

impl Log {
    pub(super) fn new(
        store: PathBuf,
        segment_bytes: u64,
        sealed: Vec<(Name, u64, bool)>,
        garbage: Vec<PathBuf>,
    ) -> Self {
        let sealed: Vec<Sealed> = sealed
            .into_iter()
            .map(|(name, bytes, is_damaged)| Sealed {
                name,
                bytes,
                is_damaged,
                is_unfinished: false,
            })
            .collect();
        Self {
            store,
            segment_bytes,
            current: None,
            next: sealed.iter().map(|it| it.name.last + 1).max().unwrap_or(1),
            sealed,
            entries: Entries::default(),
            rewrite: None,
            is_behind: false,
            garbage,
        }
    }

    pub(super) fn store(&self) -> &Path {
        &self.store
    }

    /// Whether nothing that is written now may be acknowledged.
    pub(super) const fn is_behind(&self) -> bool {
        self.is_behind
    }

    /// Whether a rewrite is going on.
    pub(super) const fn is_rewriting(&self) -> bool {
        self.rewrite.is_some()
    }

    /// Makes what `fill` adds durable; its bytes. After an error nothing of it counts.
    pub(super) fn commit(
        &mut self,
        facts: &Facts,
        fill: impl FnOnce(&mut Commit<'_>),
    ) -> io::Result<u64> {
        let result = self.try_commit(facts, fill);
        if result.is_err() {
            self.abandon();
        }
        result
    }

    fn try_commit(&mut self, facts: &Facts, fill: impl FnOnce(&mut Commit<'_>)) -> io::Result<u64> {
        if self
            .current
            .as_ref()
            .is_some_and(|it| it.bytes >= self.segment_bytes)
        {
            self.seal();
        }
        if self.current.is_none() {
            self.create(facts)?;
        }
        let Some(current) = &mut self.current else {
            return Err(io::Error::other("no segment to write to"));
        };
        self.entries.begin_commit();
        fill(&mut Commit {
            salt: current.salt,
            entries: &mut self.entries,
        });
        let bytes = self.entries.bytes.len() as u64;
        if bytes > 0 {
            current.file.write_all(&self.entries.bytes)?;
            current.bytes += bytes;
            current.file.sync_data()?;
        }
        current.is_acknowledged = true;
        // A large commit, as in a rewrite, must not keep its memory for ever.
        self.entries.bytes.clear();
        self.entries.bytes.shrink_to(1 << 20);
        Ok(bytes)
    }

    /// Begins a segment. It gets its name when its header and the facts are on disk, so that a file
    /// whose header cannot be read is damaged and never just cut short.
    fn create(&mut self, facts: &Facts) -> io::Result<()> {
        fs::create_dir_all(&self.store)?;
        // Always: who made the folder may have been killed before this.
        files::sync_folder(self.store.parent().unwrap_or(&self.store))?;
        let number = self.next;
        let salt = u64::from_ne_bytes(crate::state::random()?);
        let header = Header {
            format: FORMAT,
            first: number,
            last: number,
            salt,
        };
        let path = self.store.join(Name::single(number).file());
        if path.exists() {
            self.next += 1;
            return Err(io::ErrorKind::AlreadyExists.into());
        }
        self.entries.begin_commit();
        if let Some(before) = self.sealed.last().filter(|it| !it.name.merged) {
            let (segment, length) = (before.name.last, before.bytes);
            self.entries.push(salt, &Body::Follows { segment, length });
        }
        for (key, value) in facts.iter() {
            self.entries.push(salt, &Body::Fact { key, value });
        }
        let bytes = [&header.encode()[..], &self.entries.bytes].concat();
        let temporary = path.with_extension("tmp");
        let _ = fs::remove_file(&temporary);
        let file = create_whole(&temporary, &bytes).inspect_err(|_| {
            let _ = fs::remove_file(&temporary);
        })?;
        fs::rename(&temporary, &path)?;
        self.next = number + 1;
        self.current = Some(Current {
            file,
            number,
            salt,
            bytes: bytes.len() as u64,
            is_acknowledged: false,
        });
        files::sync_folder(&self.store)
    }

    /// The next commit begins a new segment.
    pub(super) fn seal(&mut self) {
        if let Some(current) = self.current.take() {
            self.sealed.push(Sealed {
                name: Name::single(current.number),
                bytes: current.bytes,
                is_damaged: false,
                is_unfinished: self.rewrite.is_some(),
            });
        }
    }

    /// Something failed: what was synced stays, and is read again after a crash.
    fn abandon(&mut self) {
        self.is_behind = true;
        match &mut self.current {
            // How much of it is there is not known, so no segment may say that it follows it.
            Some(current) if current.is_acknowledged => {
                current.bytes = 0;
                self.seal();
            }
            Some(current) => {
                self.garbage
                    .push(self.store.join(Name::single(current.number).file()));
                self.current = None;
                self.sweep();
            }
            None => {}
        }
        self.rewrite = None;
    }

    /// Everything that is to stay will be offered. What a rewrite left that failed is deleted: it
    /// only takes room.
    pub(super) fn begin_rewrite(&mut self) {
        let has_failed = self.rewrite.is_none();
        self.seal();
        let is_left = |it: &mut Sealed| has_failed && it.is_unfinished;
        let unfinished: Vec<Sealed> = self.sealed.extract_if(.., is_left).collect();
        for sealed in unfinished {
            self.drop_segment(&sealed);
        }
        self.sweep();
        self.is_behind = true;
        self.rewrite = Some(self.next);
    }

    /// What was not offered is gone; so are the segments before. Those in which damage had been
    /// found are moved aside: that folder.
    pub(super) fn end_rewrite(&mut self, facts: &Facts) -> io::Result<Option<PathBuf>> {
        let Some(base) = self.rewrite else {
            return Ok(None);
        };
        self.commit(facts, |commit| commit.push(&Body::Base { segment: base }))?;
        self.rewrite = None;
        self.is_behind = false;
        let (old, kept) = self.sealed.drain(..).partition(|it| it.name.last < base);
        self.sealed = kept;
        for sealed in &mut self.sealed {
            sealed.is_unfinished = false;
        }
        let aside = self.retire(old);
        Ok(aside)
    }

    /// Takes segments out of the store: damaged ones are moved aside, others deleted.
    pub(super) fn retire(&mut self, old: Vec<Sealed>) -> Option<PathBuf> {
        let (damaged, old): (Vec<Sealed>, Vec<Sealed>) =
            old.into_iter().partition(|it| it.is_damaged);
        let names: Vec<String> = damaged.iter().map(|it| it.name.file()).collect();
        let aside = (!names.is_empty())
            .then(|| files::set_aside(&self.store, &names).ok())
            .flatten();
        for sealed in old {
            self.drop_segment(&sealed);
        }
        self.sweep();
        aside
    }

    fn drop_segment(&mut self, sealed: &Sealed) {
        self.garbage.push(self.store.join(sealed.name.file()));
    }

    /// Deletes what is not needed; what cannot be deleted is tried again next time.
    pub(super) fn sweep(&mut self) {
        if self.garbage.is_empty() {
            return;
        }
        self.garbage.retain(|path| {
            fs::remove_file(path).is_err_and(|error| error.kind() != io::ErrorKind::NotFound)
        });
        // Deleted files must not come back after a power cut, once what replaced them is merged.
        let _ = files::sync_folder(&self.store);
    }

    /// Bytes that a merge would read, and of those how many were merged before.
    pub(super) fn mergeable(&self) -> (u64, u64) {
        let of = |merged: bool| {
            let some = self.sealed.iter().filter(|it| it.name.merged == merged);
            some.map(|it| it.bytes).sum::<u64>()
        };
        (of(false), of(true))
    }

    /// A merged segment takes the place of those that went into it.
    pub(super) fn replace(
        &mut self,
        temporary: &Path,
        name: Name,
        bytes: u64,
    ) -> io::Result<Option<PathBuf>> {
        fs::rename(temporary, self.store.join(name.file()))?;
        files::sync_folder(&self.store)?;
        let covers = |it: &Sealed| {
            name.first <= it.name.first && it.name.last <= name.last && it.name != name
        };
        let (old, kept): (Vec<Sealed>, Vec<Sealed>) = self.sealed.drain(..).partition(covers);
        self.sealed = kept;
        self.sealed.insert(
            0,
            Sealed {
                name,
                bytes,
                is_damaged: false,
                is_unfinished: false,
            },
        );
        Ok(self.retire(old))
    }
}

fn create_whole(path: &Path, bytes: &[u8]) -> io::Result<File> {
    let mut file = create_file(path)?;
    file.write_all(bytes)?;
    file.sync_data()?;
    Ok(file)
}

/// A file that only the daemon can read: bindings are personal data.
pub(super) fn create_file(path: &Path) -> io::Result<File> {
    OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(path)
}
