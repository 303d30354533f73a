//! Children of kept inputs: small damage, chosen by a seeded generator. Knows no format, except
//! that lengths tend to be 16-bit numbers.

/// No child is longer.
const CHILD_BYTES_MAX: usize = 4096;
/// Damages of one child at most.
const DAMAGES_MAX: u64 = 4;

/// A source of children.
pub struct Mutator {
    state: u64,
}

impl Mutator {
    /// The same seed gives the same children.
    pub fn new(seed: u64) -> Self {
        Self { state: seed | 1 }
    }

    /// SplitMix64.
    fn next(&mut self) -> u64 {
        self.state = self.state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.state;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn below(&mut self, bound: usize) -> usize {
        (self.next() % bound.max(1) as u64) as usize
    }

    /// One kept input, damaged.
    pub fn child(&mut self, kept: &[Vec<u8>]) -> Vec<u8> {
        let mut child = kept[self.below(kept.len())].clone();
        for _ in 0..=self.next() % DAMAGES_MAX {
            self.damage(&mut child, kept);
        }
        child.truncate(CHILD_BYTES_MAX);
        child
    }

    fn damage(&mut self, child: &mut Vec<u8>, kept: &[Vec<u8>]) {
        let at = self.below(child.len());
        match self.below(7) {
            _ if child.is_empty() => child.push(self.next() as u8),
            0 => child[at] ^= 1 << self.below(8),
            1 => child[at] = [0, 1, 12, 13, 0x7f, 0xff][self.below(6)],
            2 => child.truncate(at),
            3 => child.insert(at, self.next() as u8),
            4 => drop(child.remove(at)),
            5 if at + 1 < child.len() => {
                let number = [0u16, 1, 4, 0x7fff, 0xffff, child.len() as u16][self.below(6)];
                child[at..at + 2].copy_from_slice(&number.to_be_bytes());
            }
            _ => {
                let other = &kept[self.below(kept.len())];
                let from = self.below(other.len());
                let piece = other[from..].iter().take(self.below(200)).copied();
                let piece: Vec<u8> = piece.collect();
                child.splice(at..at, piece);
            }
        }
    }
}
