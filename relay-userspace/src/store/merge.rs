//! Writes old segments anew, without what is no longer true. Decides nothing: it is told which ones;
//! the writer goes on meanwhile, for nobody writes to old segments.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use super::entry::{Body, Entries, FORMAT, Header};
use super::files::Name;
use super::log::create_file;
use super::scan::{Scan, ScanError};

/// After so many bytes they are synced, and the disk is left to the commits for a while.
const SLICE_BYTES: usize = 1 << 20;
/// So long: a merge takes at most a small part of what any disk of today writes.
const PAUSE: Duration = Duration::from_millis(10);

/// A merged segment that has not got its name yet.
#[derive(Debug)]
pub(super) struct Merged {
    pub(super) temporary: PathBuf,
    pub(super) name: Name,
    pub(super) bytes: u64,
    pub(super) inputs: Vec<Name>,
    /// Those in which damage was found, and how much.
    pub(super) damaged: Vec<Name>,
    pub(super) damaged_bytes: u64,
}

/// Merges these segments, which are in order and the oldest there are.
pub(super) fn merge(store: &Path, inputs: Vec<Name>, stop: &Arc<AtomicBool>) -> io::Result<Merged> {
    let (Some(first), Some(last)) = (inputs.first(), inputs.last()) else {
        return Err(io::Error::other("nothing to merge"));
    };
    let name = Name::merged(first.first, last.last);
    let temporary = store.join(name.file()).with_extension("tmp");
    let scan = Scan::read(store, &inputs).map_err(|error| match error {
        ScanError::Newer(_) => io::Error::other("a segment of a later version"),
        ScanError::Io(_, error) => error,
    })?;
    let written = write(&scan, name, &temporary, stop);
    let bytes = written.inspect_err(|_| {
        let _ = fs::remove_file(&temporary);
    })?;
    let damaged = scan.segments.iter().filter(|it| it.harm.damaged_bytes > 0);
    Ok(Merged {
        temporary,
        name,
        bytes,
        inputs,
        damaged: damaged.clone().map(|it| it.name).collect(),
        damaged_bytes: damaged.map(|it| it.harm.damaged_bytes).sum(),
    })
}

fn write(scan: &Scan, name: Name, temporary: &Path, stop: &AtomicBool) -> io::Result<u64> {
    let _ = fs::remove_file(temporary);
    let header = Header {
        format: FORMAT,
        first: name.first,
        last: name.last,
        salt: u64::from_ne_bytes(crate::state::random()?),
    };
    let mut out = Out {
        file: create_file(temporary)?,
        salt: header.salt,
        entries: Entries::default(),
        bytes: 0,
    };
    out.file.write_all(&header.encode())?;
    out.bytes += header.encode().len() as u64;
    out.entries.begin_commit();
    for (key, value) in scan.facts.iter() {
        out.push(&Body::Fact { key, value })?;
    }
    let mut result = Ok(());
    scan.records(|id, record| {
        if result.is_ok() && !stop.load(Ordering::Relaxed) {
            result = out.push(&Body::Put { id, record });
        }
    })?;
    result?;
    if stop.load(Ordering::Relaxed) {
        return Err(io::ErrorKind::Interrupted.into());
    }
    out.push(&Body::End)?;
    out.flush()?;
    out.file.sync_all()?;
    Ok(out.bytes)
}

struct Out {
    file: File,
    salt: u64,
    entries: Entries,
    bytes: u64,
}

impl Out {
    fn push(&mut self, body: &Body<'_>) -> io::Result<()> {
        self.entries.push(self.salt, body);
        if self.entries.bytes.len() >= SLICE_BYTES {
            self.flush()?;
            self.file.sync_data()?;
            std::thread::sleep(PAUSE);
        }
        Ok(())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.write_all(&self.entries.bytes)?;
        self.bytes += self.entries.bytes.len() as u64;
        self.entries.begin_commit();
        Ok(())
    }
}
