//! One file of lines that is set aside when it is large or old enough, and found again when
//! somebody else has moved it.
//!
//! Files that were set aside bear the time: `NAME.20260101T000000Z`. None is ever deleted here:
//! how long such records must be kept is for the operator to say.

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use jiff::{SignedDuration, Timestamp};

use crate::config::BindingLogSection;

/// The log's file.
#[derive(Debug)]
pub struct LogFile {
    section: BindingLogSection,
    open: Option<Open>,
}

#[derive(Debug)]
struct Open {
    file: File,
    /// Device and inode.
    identity: (u64, u64),
    bytes: u64,
    since: Timestamp,
}

impl LogFile {
    /// Opened when the first line comes.
    pub const fn new(section: BindingLogSection) -> Self {
        Self {
            section,
            open: None,
        }
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.section.path
    }

    /// Appends whole lines, to a new file where the present one is full, too old, or gone.
    ///
    /// # Errors
    /// Nothing or only a part was written; the next call opens the file anew.
    pub fn write(&mut self, lines: &[u8], now: Timestamp) -> io::Result<()> {
        let result = self.try_write(lines, now);
        if result.is_err() {
            self.open = None;
        }
        result
    }

    fn try_write(&mut self, lines: &[u8], now: Timestamp) -> io::Result<()> {
        let moved = self
            .open
            .as_ref()
            .is_some_and(|open| identity_of(&self.section.path) != Some(open.identity));
        if moved {
            self.open = None;
        }
        if self.is_due(now) {
            self.set_aside(now)?;
        }
        let open = match &mut self.open {
            Some(open) => open,
            none => none.insert(open(&self.section.path, now)?),
        };
        open.file.write_all(lines)?;
        open.bytes += lines.len() as u64;
        Ok(())
    }

    /// An empty file is never set aside.
    fn is_due(&mut self, now: Timestamp) -> bool {
        if self.open.is_none() && self.section.path.exists() {
            self.open = open(&self.section.path, now).ok();
        }
        let Some(open) = self.open.as_ref().filter(|open| open.bytes > 0) else {
            return false;
        };
        let age = now.duration_since(open.since);
        let age_max = SignedDuration::from_secs(self.section.age_secs.cast_signed());
        (self.section.size_bytes != 0 && open.bytes >= self.section.size_bytes)
            || (self.section.age_secs != 0 && age >= age_max)
    }

    fn set_aside(&mut self, now: Timestamp) -> io::Result<()> {
        if let Some(open) = self.open.take() {
            open.file.sync_data()?;
        }
        let stamp = now.strftime("%Y%m%dT%H%M%SZ");
        let mut name = self.section.path.clone().into_os_string();
        name.push(format!(".{stamp}"));
        let mut target = PathBuf::from(&name);
        for number in 1.. {
            if !target.exists() {
                break;
            }
            let mut numbered = name.clone();
            numbered.push(format!("-{number}"));
            target = PathBuf::from(numbered);
        }
        std::fs::rename(&self.section.path, target)
    }
}

fn open(path: &Path, now: Timestamp) -> io::Result<Open> {
    // Who had which address is nobody's business but the operator's.
    let file = OpenOptions::new()
        .append(true)
        .create(true)
        .mode(0o640)
        .open(path)?;
    let metadata = file.metadata()?;
    let created = metadata.created().ok();
    let since = created.and_then(|time| Timestamp::try_from(time).ok());
    Ok(Open {
        identity: (metadata.dev(), metadata.ino()),
        bytes: metadata.len(),
        since: since.filter(|since| *since <= now).unwrap_or(now),
        file,
    })
}

fn identity_of(path: &Path) -> Option<(u64, u64)> {
    let metadata = std::fs::metadata(path).ok()?;
    Some((metadata.dev(), metadata.ino()))
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Folder {
        folder: tempfile::TempDir,
        log: LogFile,
    }

    impl Folder {
        fn new(size_bytes: u64, age_secs: u64) -> Self {
            let folder = tempfile::tempdir().unwrap();
            let log = LogFile::new(BindingLogSection {
                path: folder.path().join("leases.jsonl"),
                size_bytes,
                age_secs,
            });
            Self { folder, log }
        }

        fn write(&mut self, line: &str, after: SignedDuration) {
            let now = Timestamp::now() + after;
            self.log.write(line.as_bytes(), now).unwrap();
        }

        /// Contents of all files, sorted.
        fn contents(&self) -> Vec<String> {
            let entries = std::fs::read_dir(self.folder.path()).unwrap();
            let mut all: Vec<String> = entries
                .map(|it| std::fs::read_to_string(it.unwrap().path()).unwrap())
                .collect();
            all.sort();
            all
        }
    }

    const NOW: SignedDuration = SignedDuration::ZERO;

    #[test]
    fn full_file_is_set_aside_and_no_line_is_lost() {
        let mut folder = Folder::new(4, 0);

        for line in ["a\n", "b\n", "c\n", "d\n", "e\n"] {
            folder.write(line, NOW);
        }

        assert_eq!(folder.contents(), ["a\nb\n", "c\nd\n", "e\n"]);
    }

    #[test]
    fn old_file_is_set_aside_even_after_a_restart() {
        let mut folder = Folder::new(0, 60);
        folder.write("a\n", NOW);
        folder.log = LogFile::new(folder.log.section.clone());

        folder.write("b\n", SignedDuration::from_secs(30));
        folder.write("c\n", SignedDuration::from_secs(61));

        assert_eq!(folder.contents(), ["a\nb\n", "c\n"]);
    }

    #[test]
    fn file_moved_by_somebody_else_is_made_anew() {
        let mut folder = Folder::new(0, 0);
        folder.write("a\n", NOW);
        let moved = folder.folder.path().join("moved");
        std::fs::rename(folder.log.path(), moved).unwrap();

        folder.write("b\n", NOW);

        assert_eq!(folder.contents(), ["a\n", "b\n"]);
    }

    #[test]
    fn folder_that_comes_later_is_written_then() {
        let mut folder = Folder::new(0, 0);
        folder.log.section.path = folder.folder.path().join("below/leases.jsonl");
        assert!(folder.log.write(b"a\n", Timestamp::now()).is_err());

        std::fs::create_dir(folder.folder.path().join("below")).unwrap();
        folder.log.write(b"b\n", Timestamp::now()).unwrap();

        let text = std::fs::read_to_string(folder.log.path()).unwrap();
        assert_eq!(text, "b\n");
    }
}
