//! A folder that one daemon at a time may use. Decides what is locked and how long a dying daemon is
//! waited for; what a refusal means is the caller's business.
//!
//! The file `lock` in the folder is locked as long as the process lives; what it says, a process
//! id, is for people only. On a read-only file system it is locked as it is, or the folder itself
//! where there is none.

use std::fs::{File, OpenOptions};
use std::io::{self, Read, Seek, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::fcntl::{Flock, FlockArg};

/// A killed daemon holds its locks until the kernel has taken its programs off the interfaces: its
/// successor waits so long for that.
pub const DYING: Duration = Duration::from_secs(2);
const AGAIN: Duration = Duration::from_millis(20);

/// Why a folder cannot be had.
#[derive(Debug)]
pub enum Refused {
    /// Another process has it: its id, where it is known.
    Held(Option<u32>),
    /// The file cannot be opened or locked.
    Failed {
        /// What was tried: `open` or `lock`.
        verb: &'static str,
        /// With what.
        path: PathBuf,
        /// What the kernel said.
        error: io::Error,
    },
}

/// Held until it is dropped.
#[derive(Debug)]
pub struct FolderLock {
    _file: Flock<File>,
}

impl FolderLock {
    /// Locks a folder that is there; whoever has it may take `patience` to end.
    ///
    /// # Errors
    /// Somebody else has it, or it cannot be locked.
    pub fn take(folder: &Path, patience: Duration) -> Result<Self, Refused> {
        let path = folder.join("lock");
        let mut file = open(folder, &path).map_err(|error| Refused::Failed {
            verb: "open",
            path: path.clone(),
            error,
        })?;
        let until = Instant::now() + patience;
        loop {
            match Flock::lock(file, FlockArg::LockExclusiveNonblock) {
                Ok(mut lock) => {
                    // Without it the lock works all the same.
                    let _ = lock
                        .set_len(0)
                        .and_then(|()| lock.rewind())
                        .and_then(|()| writeln!(lock, "{}", std::process::id()));
                    return Ok(Self { _file: lock });
                }
                Err((back, Errno::EAGAIN)) if Instant::now() < until => file = back,
                Err((mut file, Errno::EAGAIN)) => {
                    let mut text = String::new();
                    let _ = file.read_to_string(&mut text);
                    return Err(Refused::Held(text.trim().parse().ok()));
                }
                Err((_, errno)) => {
                    return Err(Refused::Failed {
                        verb: "lock",
                        path,
                        error: errno.into(),
                    });
                }
            }
            std::thread::sleep(AGAIN);
        }
    }
}

fn open(folder: &Path, path: &Path) -> io::Result<File> {
    let opened = OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o644)
        .open(path);
    match opened {
        Err(error) if error.kind() == io::ErrorKind::ReadOnlyFilesystem => {
            File::open(path).or_else(|_| File::open(folder))
        }
        opened => opened,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn folder_is_had_by_one_at_a_time_and_others_learn_by_whom() {
        let folder = tempfile::tempdir().unwrap();
        let first = FolderLock::take(folder.path(), Duration::ZERO).unwrap();

        let second = FolderLock::take(folder.path(), Duration::ZERO);

        let own = std::process::id();
        assert!(matches!(second, Err(Refused::Held(Some(pid))) if pid == own));
        drop(first);
        FolderLock::take(folder.path(), Duration::ZERO).unwrap();
    }

    #[test]
    fn one_that_ends_in_time_is_waited_for() {
        let folder = tempfile::tempdir().unwrap();
        let first = FolderLock::take(folder.path(), Duration::ZERO).unwrap();
        std::thread::spawn(move || {
            std::thread::sleep(Duration::from_millis(100));
            drop(first);
        });

        FolderLock::take(folder.path(), Duration::from_secs(30)).unwrap();
    }
}
