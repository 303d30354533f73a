//! The bytes of a segment file: its header and the entries behind it. Decides the layout; must not
//! know what entries mean for each other.
//!
//! ```text
//! header, 64 bytes, written twice, so that one damaged sector does not cost the file:
//!   "TWRSTORE" | format (4) | 0 (4) | first (8) | last (8) | salt (8) | CRC-32 of these 40 | zeros
//! entry: D6 4B | body's length (2) | CRC-32 of salt, length and body | body: kind (1) | …
//!   put     1 | binding's id (8) | record        fact  3 | key's length (1) | key | value
//!   remove  2 | binding's id (8)                 base  4 | segment (8)
//!   follows 5 | segment (8) | length (8)         end   6
//!   the highest bit of the kind: first entry of a commit
//! ```
//!
//! The magic bytes and the random salt of each file let a reader go on behind damaged bytes without
//! taking a client's DUID, which may hold anything, for an entry.

/// The version of everything below `store/`. Readers of all versions find it at the same place.
/// Format 2 differs from format 1 in the records of bindings only.
pub(super) const FORMAT: u32 = 2;
/// Both copies of the header.
pub(super) const HEADER_BYTES: usize = 128;
const MAGIC: &[u8; 8] = b"TWRSTORE";
const MARK: [u8; 2] = [0xd6, 0x4b];
/// Mark, length and checksum.
const OVERHEAD: usize = 8;
/// Everything before the entry with this bit had been synced when it was written.
const FIRST_OF_COMMIT: u8 = 0x80;
/// The largest body.
pub(super) const BODY_MAX: usize = u16::MAX as usize;

const PUT: u8 = 1;
const REMOVE: u8 = 2;
const FACT: u8 = 3;
const BASE: u8 = 4;
const FOLLOWS: u8 = 5;
const END: u8 = 6;

/// What the header of a segment says.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Header {
    pub(super) format: u32,
    /// The segments that this one stands for: one, or those that were merged into it.
    pub(super) first: u64,
    pub(super) last: u64,
    pub(super) salt: u64,
}

impl Header {
    pub(super) fn encode(&self) -> [u8; HEADER_BYTES] {
        let mut copy = [0; HEADER_BYTES / 2];
        copy[..8].copy_from_slice(MAGIC);
        copy[8..12].copy_from_slice(&self.format.to_be_bytes());
        copy[16..24].copy_from_slice(&self.first.to_be_bytes());
        copy[24..32].copy_from_slice(&self.last.to_be_bytes());
        copy[32..40].copy_from_slice(&self.salt.to_be_bytes());
        let checksum = crc32fast::hash(&copy[..40]);
        copy[40..44].copy_from_slice(&checksum.to_be_bytes());
        let mut both = [0; HEADER_BYTES];
        both[..HEADER_BYTES / 2].copy_from_slice(&copy);
        both[HEADER_BYTES / 2..].copy_from_slice(&copy);
        both
    }

    /// From whichever copy is whole.
    pub(super) fn decode(both: &[u8]) -> Option<Self> {
        both.chunks_exact(HEADER_BYTES / 2)
            .take(2)
            .find_map(|copy| {
                let checksum = u32::from_be_bytes(copy[40..44].try_into().ok()?);
                let whole = copy.starts_with(MAGIC) && crc32fast::hash(&copy[..40]) == checksum;
                let number =
                    |from: usize| Some(u64::from_be_bytes(copy[from..from + 8].try_into().ok()?));
                whole.then_some(Self {
                    format: u32::from_be_bytes(copy[8..12].try_into().ok()?),
                    first: number(16)?,
                    last: number(24)?,
                    salt: number(32)?,
                })
            })
    }
}

/// The body of an entry.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Body<'a> {
    /// This binding is so now.
    Put { id: u64, record: &'a [u8] },
    /// This binding is gone.
    Remove { id: u64 },
    /// This fact is so now; gone where the value is empty.
    Fact { key: &'a [u8], value: &'a [u8] },
    /// Segments before this one are no longer part of the store.
    Base { segment: u64 },
    /// The segment before this one had so many synced bytes.
    Follows { segment: u64, length: u64 },
    /// The last entry of a merged segment.
    End,
    /// Whole, and still not readable.
    Unknown,
}

impl<'a> Body<'a> {
    pub(super) fn decode(bytes: &'a [u8]) -> Self {
        let Some((kind, rest)) = bytes.split_first() else {
            return Self::Unknown;
        };
        let number = |from: usize| {
            let bytes = rest.get(from..from + 8)?;
            bytes.try_into().ok().map(u64::from_be_bytes)
        };
        let decode = || {
            Some(match kind & !FIRST_OF_COMMIT {
                PUT => Self::Put {
                    id: number(0)?,
                    record: &rest[8..],
                },
                REMOVE => Self::Remove { id: number(0)? },
                FACT => {
                    let (&len, rest) = rest.split_first()?;
                    let (key, value) = rest.split_at_checked(usize::from(len))?;
                    Self::Fact { key, value }
                }
                BASE => Self::Base {
                    segment: number(0)?,
                },
                FOLLOWS => Self::Follows {
                    segment: number(0)?,
                    length: number(8)?,
                },
                END => Self::End,
                _ => return None,
            })
        };
        decode().unwrap_or(Self::Unknown)
    }

    /// Appends the body, without what frames it.
    pub(super) fn encode(&self, to: &mut Vec<u8>) {
        match *self {
            Self::Put { id, record } => {
                to.push(PUT);
                to.extend(id.to_be_bytes());
                to.extend(record);
            }
            Self::Remove { id } => {
                to.push(REMOVE);
                to.extend(id.to_be_bytes());
            }
            Self::Fact { key, value } => {
                let key = &key[..key.len().min(255)];
                to.push(FACT);
                to.push(key.len() as u8);
                to.extend(key);
                to.extend(value);
            }
            Self::Base { segment } => {
                to.push(BASE);
                to.extend(segment.to_be_bytes());
            }
            Self::Follows { segment, length } => {
                to.push(FOLLOWS);
                to.extend(segment.to_be_bytes());
                to.extend(length.to_be_bytes());
            }
            Self::End => to.push(END),
            Self::Unknown => {}
        }
    }
}

/// Whether this body is the first of a commit.
pub(super) fn begins_commit(body: &[u8]) -> bool {
    body.first().is_some_and(|kind| kind & FIRST_OF_COMMIT != 0)
}

/// Entries on their way into a segment.
#[derive(Default)]
pub(super) struct Entries {
    pub(super) bytes: Vec<u8>,
    body: Vec<u8>,
    begins: bool,
}

impl Entries {
    /// Starts a commit: the next entry bears the mark.
    pub(super) fn begin_commit(&mut self) {
        self.bytes.clear();
        self.begins = true;
    }

    /// Adds an entry of this body.
    pub(super) fn push(&mut self, salt: u64, body: &Body<'_>) {
        let mut bytes = core::mem::take(&mut self.body);
        bytes.clear();
        body.encode(&mut bytes);
        self.push_encoded(salt, &bytes);
        self.body = bytes;
    }

    /// Adds an entry of this body, which is encoded already.
    pub(super) fn push_encoded(&mut self, salt: u64, body: &[u8]) {
        let Ok(length) = u16::try_from(body.len()) else {
            debug_assert!(false, "bodies are bounded where they are made");
            return;
        };
        let at = self.bytes.len();
        self.bytes.extend(MARK);
        self.bytes.extend(length.to_be_bytes());
        self.bytes.extend([0; 4]);
        self.bytes.extend(body);
        if core::mem::take(&mut self.begins)
            && let Some(kind) = self.bytes.get_mut(at + OVERHEAD)
        {
            *kind |= FIRST_OF_COMMIT;
        }
        let checksum = checksum(salt, length, &self.bytes[at + OVERHEAD..]);
        self.bytes[at + 4..at + 8].copy_from_slice(&checksum.to_be_bytes());
    }
}

/// What stands at the beginning of bytes.
#[derive(PartialEq, Eq, Debug)]
pub(super) enum Framed {
    /// A whole entry: its body is `bytes[8..end]`.
    Whole { end: usize },
    /// An entry may begin here, but these bytes end before it does.
    Short,
    /// No entry begins here.
    None,
}

/// Looks for an entry at the beginning of `bytes`.
pub(super) fn frame(salt: u64, bytes: &[u8]) -> Framed {
    if !bytes.starts_with(&MARK) {
        let partial = bytes.len() < MARK.len() && MARK.starts_with(bytes);
        return if partial { Framed::Short } else { Framed::None };
    }
    let Some((head, _)) = bytes.split_first_chunk::<OVERHEAD>() else {
        return Framed::Short;
    };
    let length = u16::from_be_bytes([head[2], head[3]]);
    let end = OVERHEAD + usize::from(length);
    let Some(body) = bytes.get(OVERHEAD..end) else {
        return Framed::Short;
    };
    let expected = u32::from_be_bytes([head[4], head[5], head[6], head[7]]);
    if checksum(salt, length, body) == expected {
        Framed::Whole { end }
    } else {
        Framed::None
    }
}

/// The next place in `bytes` where an entry may begin; its length where there is none.
pub(super) fn next_mark(bytes: &[u8]) -> usize {
    let mut from = 0;
    while let Some(found) = bytes[from..].iter().position(|byte| *byte == MARK[0]) {
        let at = from + found;
        match bytes.get(at + 1) {
            Some(byte) if *byte != MARK[1] => from = at + 1,
            _ => return at,
        }
    }
    bytes.len()
}

/// The body of an entry that [`frame`] found whole.
pub(super) fn body(bytes: &[u8], end: usize) -> &[u8] {
    &bytes[OVERHEAD..end]
}

fn checksum(salt: u64, length: u16, body: &[u8]) -> u32 {
    let mut hasher = crc32fast::Hasher::new();
    let mut head = [0; 10];
    head[..8].copy_from_slice(&salt.to_be_bytes());
    head[8..].copy_from_slice(&length.to_be_bytes());
    hasher.update(&head);
    hasher.update(body);
    hasher.finalize()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn header_survives_the_loss_of_either_copy() {
        let header = Header {
            format: 7,
            first: 3,
            last: 9,
            salt: 0x1234,
        };

        for at in 0..HEADER_BYTES {
            let mut bytes = header.encode();
            bytes[at] ^= 1;
            assert_eq!(Header::decode(&bytes), Some(header), "at {at}");
        }
        assert_eq!(Header::decode(&[0; HEADER_BYTES]), None);
        assert_eq!(Header::decode(&header.encode()[..20]), None);
    }

    proptest! {
        #[test]
        fn entry_reads_back_with_its_salt_only(
            id: u64, salt: u64, record in prop::collection::vec(any::<u8>(), 0..300),
        ) {
            let mut entries = Entries::default();
            entries.begin_commit();
            entries.push(salt, &Body::Put { id, record: &record });

            let end = entries.bytes.len();
            prop_assert_eq!(frame(salt, &entries.bytes), Framed::Whole { end });
            prop_assert_eq!(frame(salt ^ 1, &entries.bytes), Framed::None);
            prop_assert_eq!(frame(salt, &entries.bytes[..end - 1]), Framed::Short);
            let body = body(&entries.bytes, end);
            prop_assert!(begins_commit(body));
            prop_assert_eq!(Body::decode(body), Body::Put { id, record: &record });
        }

        #[test]
        fn any_body_is_read(bytes in prop::collection::vec(any::<u8>(), 0..40)) {
            let _ = Body::decode(&bytes);
            let _ = frame(0, &bytes);
            prop_assert!(next_mark(&bytes) <= bytes.len());
        }
    }

    #[test]
    fn all_kinds_read_back() {
        let bodies = [
            Body::Remove { id: 5 },
            Body::Fact {
                key: b"k",
                value: b"v",
            },
            Body::Base { segment: 8 },
            Body::Follows {
                segment: 7,
                length: 99,
            },
            Body::End,
        ];
        for body in bodies {
            let mut bytes = Vec::new();
            body.encode(&mut bytes);
            assert_eq!(Body::decode(&bytes), body);
        }
        assert_eq!(Body::decode(&[99]), Body::Unknown);
    }
}
