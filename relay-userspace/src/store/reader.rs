//! Reads a segment from its first entry to its last, through whatever is damaged between them.
//! Decides what counts as torn and what as damaged; must not know what entries mean.
//!
//! A commit is written only when the one before it is on disk. So bytes that no entry can be found
//! in are *damaged* where a later commit begins behind them, and merely *torn* in the last commit:
//! that one was being written when the power went, and nobody had been told that it is kept.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;

use super::entry::{self, Framed, HEADER_BYTES, Header};

const BUFFER_BYTES: usize = 1 << 20;
/// What is skipped where the disk cannot read: a sector of today's disks.
const UNREADABLE_BYTES: u64 = 4096;
/// After so many unreadable places of one file the rest is given up: each may take the disk seconds.
const UNREADABLE_MAX: u32 = 64;

/// Bytes of a segment that no entry could be found in.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Harm {
    /// Had been synced.
    pub damaged_bytes: u64,
    /// Of a commit that was cut short.
    pub torn_bytes: u64,
}

/// An entry and where it stands.
pub(super) struct Entry<'a> {
    pub(super) at: u64,
    pub(super) body: &'a [u8],
}

/// Goes through one segment.
pub(super) struct Reader {
    file: File,
    salt: u64,
    buffer: Vec<u8>,
    /// What of the buffer is not yet read, and where that stands in the file.
    unread: core::ops::Range<usize>,
    at: u64,
    is_at_end: bool,
    unreadable: u32,
    damaged: u64,
    /// Not yet known to be damaged: behind the begin of the last commit seen.
    open: u64,
    merged: bool,
}

impl Reader {
    /// For a file whose header was read.
    pub(super) fn new(file: File, header: &Header, merged: bool) -> Self {
        Self {
            file,
            salt: header.salt,
            buffer: vec![0; BUFFER_BYTES],
            unread: 0..0,
            at: HEADER_BYTES as u64,
            is_at_end: false,
            unreadable: 0,
            damaged: 0,
            open: 0,
            merged,
        }
    }

    /// The next entry. `None` at the end of the file.
    pub(super) fn next(&mut self) -> Option<Entry<'_>> {
        loop {
            let unread = &self.buffer[self.unread.clone()];
            match entry::frame(self.salt, unread) {
                Framed::Whole { end } => {
                    let from = self.unread.start;
                    let at = self.at;
                    self.advance(end, false);
                    let body = entry::body(&self.buffer[from..from + end], end);
                    if entry::begins_commit(body) {
                        self.damaged += core::mem::take(&mut self.open);
                    }
                    return Some(Entry { at, body });
                }
                // What remains in the buffer at the end of the file may hold another entry further on.
                Framed::Short if self.is_at_end && unread.is_empty() => return None,
                Framed::Short if !self.is_at_end => self.fill(),
                Framed::Short | Framed::None => {
                    let skip = 1 + entry::next_mark(&unread[1..]);
                    self.advance(skip, true);
                }
            }
        }
    }

    /// Where the next entry would stand.
    pub(super) const fn position(&self) -> u64 {
        self.at
    }

    /// What could not be read, after the last entry.
    pub(super) const fn harm(&self) -> Harm {
        // A merged segment got its name when all of it was on disk.
        if self.merged {
            return Harm {
                damaged_bytes: self.damaged + self.open,
                torn_bytes: 0,
            };
        }
        Harm {
            damaged_bytes: self.damaged,
            torn_bytes: self.open,
        }
    }

    const fn advance(&mut self, bytes: usize, is_lost: bool) {
        self.unread.start += bytes;
        self.at += bytes as u64;
        if is_lost {
            self.open += bytes as u64;
        }
    }

    /// Reads on, behind what is unread.
    fn fill(&mut self) {
        self.buffer.copy_within(self.unread.clone(), 0);
        self.unread = 0..self.unread.len();
        let from = self.at + self.unread.len() as u64;
        let room = &mut self.buffer[self.unread.end..];
        match self.file.read_at(room, from) {
            Ok(0) => self.is_at_end = true,
            Ok(read) => self.unread.end += read,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(_) => self.skip_unreadable(),
        }
    }

    /// Goes on as if zeros stood where the disk cannot read.
    fn skip_unreadable(&mut self) {
        self.unreadable += 1;
        if self.unreadable > UNREADABLE_MAX {
            self.is_at_end = true;
            let length = self.file.metadata().map_or(0, |it| it.len());
            self.damaged += length.saturating_sub(self.at + self.unread.len() as u64);
            return;
        }
        let from = self.at + self.unread.len() as u64;
        let skip = UNREADABLE_BYTES - from % UNREADABLE_BYTES;
        let end = (self.unread.end + skip as usize).min(self.buffer.len());
        self.buffer[self.unread.end..end].fill(0);
        self.unread.end = end;
        // No power cut makes a sector unreadable.
        self.damaged += 1;
    }
}
