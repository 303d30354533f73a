//! [`Frame`]: reads that cannot leave the packet, so that one classifier runs on a slice, on packet
//! memory in the kernel, and on a fuzzer's bytes.

/// A received frame, from the first byte of its Ethernet header on.
pub trait Frame {
    /// The `N` bytes from `at` on; `None` where the frame is shorter. `at` is below 65,536.
    fn load<const N: usize>(&self, at: usize) -> Option<[u8; N]>;

    /// The 16-bit number in network order at `at`.
    #[inline(always)]
    fn load_u16(&self, at: usize) -> Option<u16> {
        self.load(at).map(u16::from_be_bytes)
    }
}

/// A frame that can be read where only the frame itself says: for the kernel another way than [`Frame::load`].
pub trait Copy: Frame {
    /// Copies `into.len()` octets from `at` on; `false` where the frame is shorter, whatever `into` holds then.
    fn copy(&self, at: usize, into: &mut [u8]) -> bool;

    /// The same from `AT` on, which the program knows: the kernel reads where the frame lies, but no more than
    /// the linear part of it.
    fn copy_near<const AT: usize>(&self, into: &mut [u8]) -> bool;
}

impl Frame for [u8] {
    #[inline(always)]
    fn load<const N: usize>(&self, at: usize) -> Option<[u8; N]> {
        self.get(at..)?.first_chunk().copied()
    }
}

impl Copy for [u8] {
    fn copy(&self, at: usize, into: &mut [u8]) -> bool {
        let from = self.get(at..).and_then(|rest| rest.get(..into.len()));
        from.map(|from| into.copy_from_slice(from)).is_some()
    }

    fn copy_near<const AT: usize>(&self, into: &mut [u8]) -> bool {
        self.copy(AT, into)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn load_at_the_end_of_a_slice_stops_there() {
        let frame: &[u8] = &[1, 2, 3];

        assert_eq!(frame.load::<2>(1), Some([2, 3]));
        assert_eq!(frame.load::<2>(2), None);
        assert_eq!(frame.load::<1>(4), None);
        assert_eq!(frame.load_u16(0), Some(0x0102));
    }
}
