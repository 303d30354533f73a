//! From files to bindings, at the start. Decides what of a damaged or foreign store is used, and
//! what is told of it.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

use relay_core::record::RecordState;
use relay_core::time::Instant;

use super::entry::FORMAT;
use super::facts::Facts;
use super::files::{self, Listing, Name, OpenError, StateDir, advice};
use super::handle::{ClockReader, Event, Options, Store};
use super::log::Log;
use super::reader::Harm;
use super::record::StoredBinding;
use super::scan::{Scan, ScanError};
use super::time::{Clock, ClockBehind, Times};
use super::writer::Found;

/// A binding that was kept, with the times of this boot.
#[derive(Clone, Copy, Debug)]
pub struct Restored<'a> {
    /// What was kept.
    pub binding: StoredBinding<'a>,
    /// Its valid lifetime ran out while the relay was away.
    pub is_expired: bool,
    /// An [`Event::Correction`] is for its times, unless they have changed since.
    pub is_correctable: bool,
}

/// What was found in the store.
#[derive(Clone, Default, PartialEq, Eq, Debug)]
pub struct Report {
    /// There was none yet.
    pub is_new: bool,
    /// Bindings that were kept; those that ran out or had ended are among them.
    pub bindings: u64,
    /// Ran out while the relay was away.
    pub expired: u64,
    /// Had ended before, and are remembered for those who ask.
    pub ended: u64,
    /// Whole, and still not readable: written by another version.
    pub unreadable: u64,
    /// What could not be read.
    pub harm: Harm,
    /// Where what was no store has been moved to.
    pub set_aside: Option<PathBuf>,
    /// The system clock is not credible.
    pub clock_behind: Option<ClockBehind>,
    /// No binding had this id or a higher one.
    pub next_id: u64,
}

impl fmt::Display for Report {
    /// One line for each thing that somebody should know of.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} bindings kept, {} of them ran out meanwhile",
            self.bindings - self.ended,
            self.expired
        )?;
        if self.harm.torn_bytes > 0 {
            let bytes = self.harm.torn_bytes;
            write!(
                f,
                "\nthe last write was cut short ({bytes} bytes): nobody had been told of it"
            )?;
        }
        if self.harm.damaged_bytes > 0 {
            write!(
                f,
                "\nthe store is damaged: {} bytes cannot be read, all else is used. The damaged \
                 files are moved to store.damaged-TIME beside it, once what was read is written \
                 anew; look at the disk's health",
                self.harm.damaged_bytes
            )?;
        }
        if self.unreadable > 0 {
            write!(
                f,
                "\n{} records of another version are skipped",
                self.unreadable
            )?;
        }
        if let Some(aside) = &self.set_aside {
            write!(
                f,
                "\nwhat stood in the store's place is no store: moved to {}",
                aside.display()
            )?;
        }
        if let Some(behind) = &self.clock_behind {
            write!(f, "\n{behind}")?;
        }
        Ok(())
    }
}

/// A store that was opened and is not written to yet.
pub struct Opened {
    dir: StateDir,
    scan: Scan,
    times: Times,
    now: Clock,
    clock: ClockReader,
    options: Options,
    report: Report,
    listing: Listing,
    must_rewrite: bool,
    pruned: Vec<Vec<u8>>,
}

impl fmt::Debug for Opened {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Opened").field(&self.report).finish()
    }
}

impl Opened {
    /// Opens the store of this state directory, or begins one. Nothing is written.
    ///
    /// # Errors
    /// It cannot be read, or a later version wrote it.
    pub fn open(dir: StateDir, options: Options, clock: ClockReader) -> Result<Self, OpenError> {
        let store = dir.store();
        let failed = |verb, path: &Path, error: io::Error| OpenError::Folder {
            verb,
            path: path.display().to_string(),
            advice: advice(path, &error),
            error,
        };
        let mut report = Report::default();
        if fs::metadata(&store).is_ok_and(|it| !it.is_dir()) {
            let aside = files::aside_path(&store);
            fs::rename(&store, &aside).map_err(|error| failed("move away", &store, error))?;
            report.set_aside = Some(aside);
        }
        let listing = files::list(&store).map_err(|error| failed("read", &store, error))?;
        let must_rewrite = !sync_all(&store, &listing.segments);
        let scan = Scan::read(&store, &listing.segments).map_err(|error| match error {
            ScanError::Newer(format) => OpenError::Newer {
                path: store.display().to_string(),
                format,
                known: FORMAT,
            },
            ScanError::Io(path, error) => failed("read", &path, error),
        })?;
        let now = clock();
        let times = Times::judge(&scan.facts, &now);
        for segment in scan.segments.iter().filter(|it| it.name.last >= scan.base) {
            report.harm.damaged_bytes += segment.harm.damaged_bytes;
            report.harm.torn_bytes += segment.harm.torn_bytes;
        }
        report.is_new = listing.segments.is_empty();
        report.bindings = scan.len() as u64;
        report.unreadable = scan.unknown;
        report.clock_behind = times.clock_behind();
        report.next_id = scan.next_id.max(scan.facts.next_id());
        Ok(Self {
            // What an older version wrote is written anew: the next one need not know it.
            must_rewrite: must_rewrite || report.harm.damaged_bytes > 0 || scan.is_older,
            dir,
            scan,
            times,
            now,
            clock,
            options,
            report,
            listing,
            pruned: Vec::new(),
        })
    }

    /// Hands out all bindings, in no order that means anything.
    ///
    /// # Errors
    /// A file cannot be opened any more.
    pub fn load(&mut self, mut each: impl FnMut(&Restored<'_>)) -> Result<&Report, OpenError> {
        let Self {
            scan,
            times,
            now,
            report,
            ..
        } = self;
        let mut used = BTreeSet::new();
        let mut last_used = None;
        let (mut expired, mut ended, mut unreadable) = (0, 0, scan.unknown);
        let result = scan.records(|id, record| {
            let Ok((epoch, mut binding)) = StoredBinding::decode(id, record) else {
                unreadable += 1;
                return;
            };
            if last_used != Some(epoch) {
                last_used = Some(epoch);
                used.insert(epoch);
            }
            let translation = times.translation(epoch, binding.record.cltt, now);
            binding.shift(|time| translation.apply(time));
            let is_active = binding.record.state == RecordState::Active;
            let is_expired = is_active && binding.record.valid_until <= now.boot;
            expired += u64::from(is_expired);
            ended += u64::from(!is_active);
            each(&Restored {
                binding,
                is_expired,
                is_correctable: translation.is_correctable,
            });
        });
        result.map_err(|error| OpenError::Folder {
            verb: "read",
            path: self.dir.store().display().to_string(),
            advice: advice(&self.dir.store(), &error),
            error,
        })?;
        report.expired = expired;
        report.ended = ended;
        report.unreadable = unreadable;
        used.extend(scan.facts.oldest_unsent().values().map(|(epoch, _)| epoch));
        self.pruned = times.prune(|epoch| used.contains(&epoch));
        Ok(&self.report)
    }

    /// What was found.
    pub const fn report(&self) -> &Report {
        &self.report
    }

    /// What is kept beside the bindings.
    pub const fn facts(&self) -> &Facts {
        &self.scan.facts
    }

    /// By the name of the requestor: the oldest change that it was not sent, in moments of this boot.
    /// As uncertain as the times of bindings are.
    pub fn oldest_unsent(&self) -> BTreeMap<String, Instant> {
        let unsent = self.scan.facts.oldest_unsent().into_iter();
        unsent
            .map(|(name, (epoch, at))| {
                let translation = self.times.translation(epoch, at, &self.now);
                (name, translation.apply(at))
            })
            .collect()
    }

    /// Begins to write. `notify` is called from the writer's thread and must not block.
    ///
    /// # Errors
    /// No thread can be started.
    pub fn start(self, notify: impl FnMut(Event) + Send + 'static) -> io::Result<Store> {
        let sealed = self.scan.segments.iter();
        let sealed = sealed
            .map(|it| (it.name, it.bytes, it.harm.damaged_bytes > 0))
            .collect();
        let log = Log::new(
            self.dir.store(),
            self.options.segment_bytes,
            sealed,
            self.listing.garbage,
        );
        let mut facts = self.scan.facts;
        for key in &self.pruned {
            facts.set(key, &[]);
        }
        for (key, value) in self.times.facts() {
            facts.set(&key, &value);
        }
        let (key, value) = Facts::next_id_fact(self.report.next_id);
        facts.set(key, &value);
        let found = Found {
            dir: self.dir,
            log,
            facts,
            times: self.times,
            pruned: self.pruned,
            clock: self.clock,
            options: self.options,
            must_rewrite: self.must_rewrite,
            damaged_bytes: self.report.harm.damaged_bytes,
        };
        Store::start(found, Box::new(notify))
    }
}

/// What a killed daemon had written may not be on disk yet, and is about to be relied on.
fn sync_all(store: &Path, names: &[Name]) -> bool {
    names.iter().filter(|it| !it.merged).all(|name| {
        let synced = File::open(store.join(name.file())).and_then(|file| file.sync_data());
        synced.is_ok()
    })
}
