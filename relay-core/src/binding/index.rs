//! A hash index from keys that stand elsewhere to numbers of slots.
//!
//! The hash is kept beside the number: growth and misses touch nothing but the index.

use core::hash::Hasher;
use core::net::Ipv6Addr;

use hashbrown::HashTable;
use siphasher::sip::SipHasher13;

#[derive(Clone, Copy)]
struct Entry {
    hash: u32,
    at: u32,
}

/// The keyed hash of a key with a fixed and a variable part. The fixed part comes in whole words: so nothing
/// of it is left over when the other begins, which nearly halves the time of a hash.
pub(crate) fn hash<const N: usize>(key: &[u8; 16], fixed: [u64; N], variable: &[u8]) -> u32 {
    let mut hasher = SipHasher13::new_with_key(key);
    fixed.into_iter().for_each(|word| hasher.write_u64(word));
    // Any half of it is as good.
    hasher.hash(variable) as u32
}

/// An address as a fixed part.
pub(crate) const fn words(address: Ipv6Addr) -> [u64; 2] {
    let bits = address.to_bits();
    [(bits >> 64) as u64, bits as u64]
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

    /// Whether nothing is in it.
    pub(crate) fn is_empty(&self) -> bool {
        self.entries.is_empty()
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
