//! The folder of the store: which files are in it, who may use it, and where damaged ones go.
//! Decides names and the lock; must not know what is inside a segment.
//!
//! ```text
//! state_dir/lock                        held while a daemon runs; its process id
//! state_dir/store/0000000000000007.log  segment 7
//! state_dir/store/0000000000000001-0000000000000006.log   segments 1 to 6, merged
//! state_dir/store/….tmp                 a merge that is not finished: of no worth
//! state_dir/store.damaged-TIME/         segments in which damage was found
//! ```

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use nix::errno::Errno;

use crate::lock::{FolderLock, Refused};

/// Why there is no store. Each says what to do; relaying goes on without.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// Two daemons must not write into one store.
    #[error(
        "{state_dir} is in use by {who}: stop that one, or give each its own [relay] state_dir"
    )]
    InUse {
        /// The state directory.
        state_dir: String,
        /// The process that holds the lock.
        who: String,
    },
    /// Written by a later version; left as it is.
    #[error(
        "{path} was written by a later version (store format {format}, this one knows up to \
         {known}): it is left untouched. Install that version again, or move the folder away to \
         start without its bindings"
    )]
    Newer {
        /// The folder of the store.
        path: String,
        /// Its format.
        format: u32,
        /// The newest that we know.
        known: u32,
    },
    /// The folder cannot be made or read.
    #[error("cannot {verb} {path}: {error}. {advice}")]
    Folder {
        /// What was tried.
        verb: &'static str,
        /// With what.
        path: String,
        /// What the kernel said.
        error: io::Error,
        /// What to do.
        advice: String,
    },
}

/// What to do about an error of the file system.
pub(super) fn advice(path: &Path, error: &io::Error) -> String {
    match error.raw_os_error().map(Errno::from_raw) {
        Some(Errno::ENOSPC | Errno::EDQUOT) => {
            "The disk is full: make room, the store goes on by itself".to_owned()
        }
        Some(Errno::EROFS) => {
            "The file system is read-only: remount it writable, the store goes on by itself"
                .to_owned()
        }
        Some(Errno::EIO) => {
            "The disk fails: look at the kernel's log; the store tries again each second".to_owned()
        }
        Some(Errno::ENOLCK | Errno::EOPNOTSUPP) => {
            "Use a file system that has locks for [relay] state_dir".to_owned()
        }
        Some(Errno::EACCES | Errno::EPERM) => {
            let owner = fs::metadata(path)
                .or_else(|_| fs::metadata(path.parent().unwrap_or(path)))
                .map_or_else(
                    |_| "somebody else".into(),
                    |it| format!("user {}", it.uid()),
                );
            let user = nix::unistd::geteuid();
            format!(
                "It belongs to {owner}, the daemon runs as user {user}: give it to the daemon \
                 with chown -R, or set [relay] state_dir or [relay] user"
            )
        }
        _ => "Check [relay] state_dir".to_owned(),
    }
}

/// The state directory, held against other daemons until it is dropped.
#[derive(Debug)]
pub struct StateDir {
    path: PathBuf,
    _lock: FolderLock,
}

impl StateDir {
    /// Makes the folder where it is missing, and locks it.
    ///
    /// # Errors
    /// Another daemon has it, or it cannot be made or used.
    pub fn lock(path: &Path) -> Result<Self, OpenError> {
        let failed = |verb, path: &Path, error: io::Error| OpenError::Folder {
            verb,
            path: path.display().to_string(),
            advice: advice(path, &error),
            error,
        };
        fs::create_dir_all(path).map_err(|error| failed("make", path, error))?;
        // Where that is not allowed, the folder was there before.
        let _ = path.parent().map(sync_folder);
        // A daemon that was killed let go of its run_dir last of all: nobody is dying here.
        let lock = FolderLock::take(path, Duration::ZERO).map_err(|refused| match refused {
            Refused::Held(pid) => OpenError::InUse {
                state_dir: path.display().to_string(),
                who: pid.map_or_else(
                    || "another daemon".into(),
                    |pid| format!("the daemon with process id {pid}"),
                ),
            },
            Refused::Failed { verb, path, error } => failed(verb, &path, error),
        })?;
        Ok(Self {
            path: path.to_owned(),
            _lock: lock,
        })
    }

    /// Where the store is.
    pub(super) fn store(&self) -> PathBuf {
        self.path.join("store")
    }

    /// Where the store is, and no more.
    pub fn path(&self) -> &Path {
        &self.path
    }
}

/// A segment by its name.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub(super) struct Name {
    pub(super) last: u64,
    pub(super) first: u64,
    pub(super) merged: bool,
}

impl Name {
    pub(super) const fn single(number: u64) -> Self {
        Self {
            last: number,
            first: number,
            merged: false,
        }
    }

    pub(super) const fn merged(first: u64, last: u64) -> Self {
        Self {
            last,
            first,
            merged: true,
        }
    }

    pub(super) fn file(&self) -> String {
        let Self {
            first,
            last,
            merged,
        } = self;
        if *merged {
            format!("{first:016x}-{last:016x}.log")
        } else {
            format!("{first:016x}.log")
        }
    }

    pub(super) fn parse(file: &str) -> Option<Self> {
        let number = |text: &str| {
            let plain = text.len() == 16 && text.bytes().all(|it| it.is_ascii_hexdigit());
            plain.then(|| u64::from_str_radix(text, 16).ok())?
        };
        let stem = file.strip_suffix(".log")?;
        match stem.split_once('-') {
            Some((first, last)) => {
                let (first, last) = (number(first)?, number(last)?);
                (first <= last).then_some(Self::merged(first, last))
            }
            None => number(stem).map(Self::single),
        }
    }

    /// Whether the merged segment `other` stands for this one.
    fn is_covered_by(&self, other: &Self) -> bool {
        other.merged && other != self && other.first <= self.first && self.last <= other.last
    }
}

/// What is in the folder.
#[derive(Default, Debug)]
pub(super) struct Listing {
    /// In order.
    pub(super) segments: Vec<Name>,
    /// Merged into others, or never finished: to be deleted.
    pub(super) garbage: Vec<PathBuf>,
}

/// Lists the folder; empty where there is none.
pub(super) fn list(store: &Path) -> io::Result<Listing> {
    let mut listing = Listing::default();
    let entries = match fs::read_dir(store) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(listing),
        entries => entries?,
    };
    for entry in entries {
        let path = entry?.path();
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        if name.ends_with(".tmp") {
            listing.garbage.push(path);
        } else if let Some(name) = Name::parse(&name) {
            listing.segments.push(name);
        }
    }
    listing.segments.sort_unstable();
    let all = listing.segments.clone();
    listing.segments.retain(|name| {
        let covered = all.iter().any(|other| name.is_covered_by(other));
        if covered {
            listing.garbage.push(store.join(name.file()));
        }
        !covered
    });
    Ok(listing)
}

/// Makes what was done in a folder last.
pub(super) fn sync_folder(folder: &Path) -> io::Result<()> {
    File::open(folder)?.sync_all()
}

/// Moves files of the store into a folder of their own, named by the time; that folder.
pub(super) fn set_aside(store: &Path, names: &[String]) -> io::Result<PathBuf> {
    let aside = aside_path(store);
    fs::create_dir_all(&aside)?;
    for name in names {
        match fs::rename(store.join(name), aside.join(name)) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            result => result?,
        }
    }
    sync_folder(&aside)?;
    sync_folder(store)?;
    sync_folder(store.parent().unwrap_or(store))?;
    Ok(aside)
}

/// A name for what is set aside that nothing has yet.
pub(super) fn aside_path(store: &Path) -> PathBuf {
    let seconds = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0, |it| it.as_secs());
    let name = |number: u64| store.with_file_name(format!("store.damaged-{number}"));
    (seconds..)
        .map(name)
        .find(|path| !path.exists())
        .unwrap_or_else(|| name(seconds))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_read_back_and_strangers_are_left_alone() {
        for name in [Name::single(7), Name::merged(1, 0xff)] {
            assert_eq!(Name::parse(&name.file()), Some(name));
        }
        for stranger in [
            "7.log",
            "lock",
            "000000000000000g.log",
            "0000000000000002-0000000000000001.log",
        ] {
            assert_eq!(Name::parse(stranger), None);
        }
    }

    #[test]
    fn merged_segment_replaces_those_that_went_into_it() {
        let folder = tempfile::tempdir().unwrap();
        let names = [
            Name::single(1),
            Name::single(2),
            Name::merged(1, 2),
            Name::merged(1, 1),
            Name::single(3),
        ];
        for name in names {
            fs::write(folder.path().join(name.file()), "").unwrap();
        }
        fs::write(
            folder.path().join("0000000000000001-0000000000000003.tmp"),
            "",
        )
        .unwrap();

        let listing = list(folder.path()).unwrap();

        assert_eq!(listing.segments, [Name::merged(1, 2), Name::single(3)]);
        assert_eq!(listing.garbage.len(), 4);
    }

    #[test]
    fn second_daemon_is_told_who_has_the_folder() {
        let folder = tempfile::tempdir().unwrap();
        let first = StateDir::lock(folder.path()).unwrap();

        let error = StateDir::lock(folder.path()).unwrap_err().to_string();

        assert!(
            error.contains(&format!("process id {}", std::process::id())),
            "{error}"
        );
        drop(first);
        StateDir::lock(folder.path()).unwrap();
    }

    #[test]
    fn state_dir_that_is_a_file_says_what_to_check() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("file");
        fs::write(&path, "").unwrap();

        let error = StateDir::lock(&path).unwrap_err().to_string();

        assert!(error.contains("[relay] state_dir"), "{error}");
    }
}
