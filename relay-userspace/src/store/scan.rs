//! What segments say when read together: which record of each binding is the newest, which facts
//! hold, and what was damaged. Must not know times or what a record says.
//!
//! Two passes over the files: the first finds out which record of each binding is the newest, the
//! second hands these out. No record is held in memory, and the second pass looks nothing up: a look
//! into a table of a million, once for each record, took it half of its time.

use std::collections::HashMap;
use std::fs::File;
use std::hash::{BuildHasherDefault, Hasher};
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use super::entry::{Body, FORMAT, HEADER_BYTES, Header};
use super::facts::Facts;
use super::files::Name;
use super::reader::{Harm, Reader};

/// Ids are given out by the relay one after the other: no stranger chooses them, so spreading them
/// over the table is enough.
#[derive(Default)]
pub(super) struct IdHasher(u64);

impl Hasher for IdHasher {
    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.write_u64(u64::from(*byte));
        }
    }

    fn write_u64(&mut self, number: u64) {
        self.0 = (self.0 ^ number).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    }

    fn finish(&self) -> u64 {
        self.0 ^ self.0 >> 32
    }
}

/// A map by binding id.
pub(super) type ById<T> = HashMap<u64, T, BuildHasherDefault<IdHasher>>;

/// A segment that was read.
#[derive(Debug)]
pub(super) struct Scanned {
    pub(super) name: Name,
    path: PathBuf,
    header: Option<Header>,
    pub(super) bytes: u64,
    pub(super) harm: Harm,
    newest: Places,
}

/// Places in a segment, one bit for each eight bytes: no two entries begin in the same.
#[derive(Debug, Default)]
struct Places(Vec<u64>);

impl Places {
    fn set(&mut self, at: u64, on: bool) {
        let (word, bit) = Self::bit(at);
        if self.0.len() <= word {
            self.0.resize(word + 1, 0);
        }
        match on {
            true => self.0[word] |= bit,
            false => self.0[word] &= !bit,
        }
    }

    fn has(&self, at: u64) -> bool {
        let (word, bit) = Self::bit(at);
        self.0.get(word).is_some_and(|it| it & bit != 0)
    }

    const fn bit(at: u64) -> (usize, u64) {
        ((at / 512) as usize, 1 << (at / 8 % 64))
    }
}

/// Where the newest record of each binding stands, while segments are read.
#[derive(Default)]
struct Newest {
    /// Which segment (24 bits) and where in it (40 bits).
    places: ById<u64>,
    /// Read and not looked at yet: binding and place, or [`REMOVED`].
    read: Vec<(u64, u64)>,
}

/// In the place of a place.
const REMOVED: u64 = u64::MAX;
/// So many are looked at in one go: their ways through the table, most of it far from the CPU, overlap.
const READ_AHEAD: usize = 256;
/// Room is made for at most so many beforehand: what a file says of itself may be wrong.
const LIKELY_MAX: usize = 1 << 21;
/// What a record takes at least, on the whole.
const RECORD_BYTES: u64 = 180;

impl Newest {
    fn add(&mut self, segments: &mut [Scanned], id: u64, place: u64) {
        self.read.push((id, place));
        if self.read.len() >= READ_AHEAD {
            self.look(segments);
        }
    }

    /// Marks what was read as the newest of its binding, in the place of what was before.
    fn look(&mut self, segments: &mut [Scanned]) {
        let mut mark = |place: u64, on| {
            let (segment, at) = ((place >> AT_BITS) as usize, place & ((1 << AT_BITS) - 1));
            segments[segment].newest.set(at, on);
        };
        for (id, place) in self.read.drain(..) {
            let old = match place {
                REMOVED => self.places.remove(&id),
                place => {
                    mark(place, true);
                    self.places.insert(id, place)
                }
            };
            if let Some(old) = old {
                mark(old, false);
            }
        }
    }

    /// How many bindings have their newest record in these segments.
    fn count(&self, is_meant: impl Fn(usize) -> bool) -> usize {
        let segments = self.places.values().map(|place| place >> AT_BITS);
        segments.filter(|it| is_meant(*it as usize)).count()
    }
}

/// What the first pass found.
#[derive(Debug, Default)]
pub(super) struct Scan {
    pub(super) segments: Vec<Scanned>,
    bindings: usize,
    pub(super) facts: Facts,
    /// Segments before it are no longer part of the store.
    pub(super) base: u64,
    /// No binding had this id or a higher one.
    pub(super) next_id: u64,
    /// Whole entries of a kind that is not known.
    pub(super) unknown: u64,
    /// An older version wrote some of it.
    pub(super) is_older: bool,
}

/// Why segments cannot be read together.
#[derive(Debug)]
pub(super) enum ScanError {
    Newer(u32),
    Io(PathBuf, io::Error),
}

const AT_BITS: u32 = 40;

impl Scan {
    /// Reads these segments, which are in order.
    pub(super) fn read(store: &Path, names: &[Name]) -> Result<Self, ScanError> {
        let mut scan = Self {
            next_id: 1,
            ..Self::default()
        };
        // A later version's files are not touched at all, so all headers come first.
        for name in names {
            let path = store.join(name.file());
            let failed = |error| ScanError::Io(path.clone(), error);
            let (header, bytes) = header(&path).map_err(failed)?;
            if let Some(newer) = header.filter(|it| it.format > FORMAT) {
                return Err(ScanError::Newer(newer.format));
            }
            scan.is_older |= header.is_some_and(|it| it.format < FORMAT);
            scan.segments.push(Scanned {
                name: *name,
                path,
                header: header.filter(|it| (it.first, it.last) == (name.first, name.last)),
                bytes,
                harm: Harm::default(),
                newest: Places::default(),
            });
        }
        let mut newest = Newest::default();
        let bytes: u64 = scan.segments.iter().map(|it| it.bytes).sum();
        let likely = usize::try_from(bytes / RECORD_BYTES).unwrap_or(0);
        newest.places.reserve(likely.min(LIKELY_MAX));
        let mut lengths = HashMap::new();
        let mut follows = Vec::new();
        for index in 0..scan.segments.len() {
            let end = scan.read_segment(index, &mut newest, &mut follows)?;
            lengths.insert(scan.segments[index].name, (index, end));
        }
        for (segment, length) in follows {
            // What was synced and is not there any more: the file was cut.
            if let Some((index, end)) = lengths.get(&Name::single(segment)) {
                let harm = &mut scan.segments[*index].harm;
                let missing = length.saturating_sub(*end);
                let torn = missing.min(harm.torn_bytes);
                harm.torn_bytes -= torn;
                harm.damaged_bytes += missing;
            }
        }
        newest.look(&mut scan.segments);
        let (segments, base) = (&scan.segments, scan.base);
        scan.bindings = newest.count(|segment| segments[segment].name.last >= base);
        Ok(scan)
    }

    /// Bindings that there are.
    pub(super) const fn len(&self) -> usize {
        self.bindings
    }

    /// Hands out the newest record of each binding, in the order of the files.
    pub(super) fn records(&self, mut each: impl FnMut(u64, &[u8])) -> io::Result<()> {
        for segment in &self.segments {
            if segment.name.last < self.base {
                continue;
            }
            let Some(mut reader) = segment.reader()? else {
                continue;
            };
            while let Some(entry) = reader.next() {
                if segment.newest.has(entry.at)
                    && let Body::Put { id, record } = Body::decode(entry.body)
                {
                    each(id, record);
                }
            }
        }
        Ok(())
    }

    fn read_segment(
        &mut self,
        index: usize,
        newest: &mut Newest,
        follows: &mut Vec<(u64, u64)>,
    ) -> Result<u64, ScanError> {
        let segment = &mut self.segments[index];
        let opened = segment.reader();
        let opened = opened.map_err(|error| ScanError::Io(segment.path.clone(), error))?;
        let Some(mut reader) = opened else {
            // It had a header before it had its name. Without, nothing can be told from noise.
            segment.harm.damaged_bytes = segment.bytes.max(1);
            return Ok(0);
        };
        let mut is_ended = !segment.name.merged;
        while let Some(entry) = reader.next() {
            match Body::decode(entry.body) {
                Body::Put { id, .. } => {
                    newest.add(&mut self.segments, id, place(index, entry.at));
                    self.next_id = self.next_id.max(id.saturating_add(1));
                }
                Body::Remove { id } => {
                    newest.add(&mut self.segments, id, REMOVED);
                    self.next_id = self.next_id.max(id.saturating_add(1));
                }
                Body::Fact { key, value } => self.facts.set(key, value),
                Body::Base { segment } => self.base = self.base.max(segment),
                Body::Follows { segment, length } => follows.push((segment, length)),
                Body::End => is_ended = true,
                Body::Unknown => self.unknown += 1,
            }
        }
        let segment = &mut self.segments[index];
        segment.harm = reader.harm();
        if !is_ended {
            segment.harm.damaged_bytes = segment.harm.damaged_bytes.max(1);
        }
        Ok(reader.position())
    }
}

impl Scanned {
    /// `None` where its header cannot be read.
    fn reader(&self) -> io::Result<Option<Reader>> {
        let Some(header) = &self.header else {
            return Ok(None);
        };
        let file = File::open(&self.path)?;
        Ok(Some(Reader::new(file, header, self.name.merged)))
    }
}

fn header(path: &Path) -> io::Result<(Option<Header>, u64)> {
    let file = File::open(path)?;
    let bytes = file.metadata()?.len();
    let mut both = [0; HEADER_BYTES];
    let mut read = 0;
    while read < both.len() {
        match file.read_at(&mut both[read..], read as u64) {
            Ok(0) => break,
            Ok(more) => read += more,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            // A sector that cannot be read is damage like any other.
            Err(_) => break,
        }
    }
    Ok((Header::decode(&both), bytes))
}

const fn place(index: usize, at: u64) -> u64 {
    (index as u64) << AT_BITS | at
}
