//! Records at small stable numbers, found by a key that stands in the record itself: a million of them cost
//! their own size and some ten bytes each, and no event costs more the more there are.
//!
//! A map of standard make would hold each key twice over in empty places (its tables are half empty on
//! average), and a tree costs a cache miss on each of its levels.

use std::hash::{BuildHasher, Hash, RandomState};

use hashbrown::HashTable;

/// Records that [`Slots::approach`] looks for at a time.
pub const AT_ONCE: usize = 16;

/// The index grows in so many steps, one after the other, so that none of them holds up its thread.
const SHARDS: usize = 64;

/// What stands at a number.
pub trait Record {
    /// Finds it; never changes.
    type Key: Copy + Eq + Hash;
    /// The key of this record.
    fn key(&self) -> Self::Key;
}

/// The records.
#[derive(Debug)]
pub struct Slots<T> {
    slots: Vec<Option<T>>,
    /// Numbers to be given out again.
    free: Vec<u32>,
    index: [HashTable<u32>; SHARDS],
    /// Keyed: clients choose their addresses.
    hasher: RandomState,
}

impl<T> Default for Slots<T> {
    fn default() -> Self {
        Self {
            slots: Vec::new(),
            free: Vec::new(),
            index: std::array::from_fn(|_| HashTable::new()),
            hasher: RandomState::new(),
        }
    }
}

/// The table looks at the uppermost and the lowest bits.
fn shard(hash: u64) -> usize {
    (hash >> 32) as usize % SHARDS
}

impl<T: Record> Slots<T> {
    /// So many more are likely to come: the index need not grow for them, which would find each again.
    pub fn expect(&mut self, count: usize) {
        self.slots.reserve(count);
        // They do not spread evenly.
        let each = count / SHARDS + count / SHARDS / 16;
        let (slots, hasher) = (&self.slots, &self.hasher);
        for table in &mut self.index {
            table.reserve(each, |at| hash_of(slots, hasher, *at));
        }
    }

    /// One more than the largest number in use.
    pub fn end(&self) -> u32 {
        u32::try_from(self.slots.len()).expect("`insert` stops before")
    }

    /// The record at a number.
    pub fn get(&self, at: u32) -> Option<&T> {
        self.slots.get(at as usize)?.as_ref()
    }

    /// The record at a number; its key must stay.
    pub fn get_mut(&mut self, at: u32) -> Option<&mut T> {
        self.slots.get_mut(at as usize)?.as_mut()
    }

    /// The number of a key.
    pub fn find(&self, key: &T::Key) -> Option<u32> {
        let hash = self.hasher.hash_one(key);
        let slots = &self.slots;
        let is_it = |at: &u32| has_key(slots, *at, key);
        self.index[shard(hash)].find(hash, is_it).copied()
    }

    /// Brings what is about to be looked for near the CPU, at most [`AT_ONCE`] of it, and tells where each
    /// probably is.
    ///
    /// With a million records nothing of an index or a record is in a cache: one look after the other waits for
    /// memory several times, many together wait for it once.
    pub fn approach(&self, keys: impl Iterator<Item = T::Key>) -> [Option<u32>; AT_ONCE] {
        let mut hashes = [None; AT_ONCE];
        for (place, key) in hashes.iter_mut().zip(keys) {
            *place = Some(self.hasher.hash_one(key));
        }
        hashes.map(|hash| {
            let hash = hash?;
            let is_there = |at: &u32| self.get(*at).is_some();
            self.index[shard(hash)].find(hash, is_there).copied()
        })
    }

    /// The number of a key, whose record is made where there is none.
    pub fn find_or_insert(&mut self, key: T::Key, make: impl FnOnce() -> T) -> u32 {
        let hash = self.hasher.hash_one(key);
        let table = &mut self.index[shard(hash)];
        let slots = &self.slots;
        if let Some(at) = table.find(hash, |at| has_key(slots, *at, &key)) {
            return *at;
        }
        let at = self.free.pop().unwrap_or_else(|| {
            self.slots.push(None);
            u32::try_from(self.slots.len() - 1).expect("memory ends before numbers do")
        });
        self.slots[at as usize] = Some(make());
        let (slots, hasher) = (&self.slots, &self.hasher);
        table.insert_unique(hash, at, |at| hash_of(slots, hasher, *at));
        at
    }

    /// Forgets a record; its number may be given out again.
    pub fn remove(&mut self, at: u32) -> Option<T> {
        let record = self.slots.get_mut(at as usize)?.take()?;
        let hash = self.hasher.hash_one(record.key());
        let found = self.index[shard(hash)].find_entry(hash, |it| *it == at);
        found.expect("what is there is indexed").remove();
        self.free.push(at);
        Some(record)
    }

    /// Forgets everything.
    pub fn clear(&mut self) {
        *self = Self::default();
    }

    /// All records with their numbers.
    pub fn iter(&self) -> impl Iterator<Item = (u32, &T)> {
        (0..)
            .zip(&self.slots)
            .filter_map(|(at, slot)| Some((at, slot.as_ref()?)))
    }

    /// All records with their numbers; their keys must stay.
    pub fn iter_mut(&mut self) -> impl Iterator<Item = (u32, &mut T)> {
        (0..)
            .zip(&mut self.slots)
            .filter_map(|(at, slot)| Some((at, slot.as_mut()?)))
    }
}

fn hash_of<T: Record>(slots: &[Option<T>], hasher: &RandomState, at: u32) -> u64 {
    let record = slots[at as usize].as_ref();
    hasher.hash_one(record.expect("what is indexed is there").key())
}

fn has_key<T: Record>(slots: &[Option<T>], at: u32, key: &T::Key) -> bool {
    slots[at as usize]
        .as_ref()
        .is_some_and(|record| record.key() == *key)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use std::collections::HashMap;

    use super::*;

    struct Pair(u16, u32);

    impl Record for Pair {
        type Key = u16;
        fn key(&self) -> u16 {
            self.0
        }
    }

    proptest! {
        /// Against a map of standard make.
        #[test]
        fn slots_find_what_a_map_finds(
            steps in proptest::collection::vec((0u16..300, any::<u32>(), any::<bool>()), 0..2000),
            expected in 0usize..10_000,
        ) {
            let (mut slots, mut map) = (Slots::default(), HashMap::new());
            slots.expect(expected);
            for (key, value, add) in steps {
                if add {
                    let at = slots.find_or_insert(key, || Pair(key, value));
                    prop_assert_eq!(slots.get(at).unwrap().1, *map.entry(key).or_insert(value));
                } else {
                    let gone = slots.find(&key).and_then(|at| slots.remove(at));
                    prop_assert_eq!(gone.map(|pair| pair.1), map.remove(&key));
                }
            }
            let mut all: Vec<_> = slots.iter().map(|(at, pair)| (pair.0, pair.1, at)).collect();
            all.sort_unstable();
            prop_assert_eq!(all.len(), map.len());
            for (key, value, at) in all {
                prop_assert_eq!((map[&key], slots.find(&key)), (value, Some(at)));
            }
        }
    }

    #[test]
    fn approach_says_for_a_few_keys_where_they_are() {
        let mut slots = Slots::default();
        let numbers = [7, 5].map(|key| slots.find_or_insert(key, || Pair(key, 0)));

        let found = slots.approach([5, 7].into_iter());

        assert_eq!(found[..3], [Some(numbers[1]), Some(numbers[0]), None]);
        assert_eq!(
            slots.approach((0..1000).filter(|key| *key != 5 && *key != 7))[0],
            None
        );
    }

    #[test]
    fn number_of_a_forgotten_record_is_given_out_again() {
        let mut slots = Slots::default();
        let first = slots.find_or_insert(1, || Pair(1, 1));
        slots.remove(first);

        assert_eq!(slots.find_or_insert(2, || Pair(2, 2)), first);
        assert_eq!((slots.find(&1), slots.end()), (None, 1));
    }
}
