//! A hash index from keys that stand elsewhere to numbers of slots.
//!
//! The hash is kept beside the number: growth and misses touch nothing but the index.

use core::hash::Hasher;

use hashbrown::HashTable;
use siphasher::sip::SipHasher13;

#[derive(Clone, Copy)]
struct Entry {
    hash: u32,
    at: u32,
}

/// The keyed hash of a key with a fixed and a variable part.
pub(crate) fn hash<const N: usize>(key: &[u8; 16], fixed: &[u8; N], variable: &[u8]) -> u32 {
    let mut hasher = SipHasher13::new_with_key(key);
    hasher.write(fixed);
    hasher.write(variable);
    // Any half of it is as good.
    hasher.finish() as u32
}

/// The index.
#[derive(Default)]
pub(crate) struct Index {
    entries: HashTable<Entry>,
}

/// The table looks at the uppermost and the lowest bits.
const fn spread(hash: u32) -> u64 {
    (hash as u64) << 32 | hash as u64
}

impl Index {
    /// The number with this hash for which `is_it` holds.
    pub(crate) fn find(&self, hash: u32, mut is_it: impl FnMut(u32) -> bool) -> Option<u32> {
        self.entries
            .find(spread(hash), |entry| entry.hash == hash && is_it(entry.at))
            .map(|entry| entry.at)
    }

    /// So many more are likely to come.
    pub(crate) fn expect(&mut self, count: usize) {
        self.entries.reserve(count, |entry| spread(entry.hash));
    }

    /// Adds a number; the caller knows that its key is not there.
    pub(crate) fn insert(&mut self, hash: u32, at: u32) {
        let entry = Entry { hash, at };
        self.entries
            .insert_unique(spread(hash), entry, |entry| spread(entry.hash));
    }

    /// Puts another number in the place of `old`. `false` where `old` is not there.
    pub(crate) fn replace(&mut self, hash: u32, old: u32, new: u32) -> bool {
        let found = self.entries.find_mut(spread(hash), |entry| entry.at == old);
        found.map(|entry| entry.at = new).is_some()
    }

    /// Takes a number out. `false` where it is not there.
    pub(crate) fn remove(&mut self, hash: u32, at: u32) -> bool {
        let found = self
            .entries
            .find_entry(spread(hash), |entry| entry.at == at);
        found.map(|entry| entry.remove()).is_ok()
    }

    #[cfg(test)]
    pub(crate) fn len(&self) -> usize {
        self.entries.len()
    }
}
