//! `Frame` for the kernel: the only raw packet pointers.

use core::mem::MaybeUninit;

use aya_ebpf::EbpfContext;
use aya_ebpf::helpers::generated::bpf_xdp_load_bytes;
use aya_ebpf::programs::XdpContext;
use relay_common::frame::{Copy, Frame};

/// The linear part of a frame, read in place: for headers, at offsets the verifier can follow.
pub struct HeaderFrame<'a> {
    ctx: &'a XdpContext,
    data: usize,
    data_end: usize,
}

impl<'a> HeaderFrame<'a> {
    /// Of the frame at hand.
    #[inline(always)]
    pub fn new(ctx: &'a XdpContext) -> Self {
        Self {
            ctx,
            data: ctx.data(),
            // Volatile, or LLVM folds the comparisons with it into forms that the verifier does not
            // take for a bounds test. Not `black_box`: that takes it through memory, where the
            // verifier lets only a privileged program keep it.
            // SAFETY: the kernel's own context.
            data_end: unsafe { (&raw const (*ctx.ctx).data_end).read_volatile() } as usize,
        }
    }
}

impl Frame for HeaderFrame<'_> {
    #[inline(always)]
    fn load<const N: usize>(&self, at: usize) -> Option<[u8; N]> {
        let from = self.data + at;
        if from + N > self.data_end {
            return None;
        }
        // SAFETY: `from + N <= data_end` was checked above; an array of bytes has no alignment.
        Some(unsafe { *(from as *const [u8; N]) })
    }
}

/// The whole frame, fragments of a jumbo frame too, copied piece by piece by a helper: for offsets
/// that only the message itself tells.
pub struct WholeFrame<'a>(pub &'a XdpContext);

impl Frame for WholeFrame<'_> {
    #[inline(always)]
    fn load<const N: usize>(&self, at: usize) -> Option<[u8; N]> {
        let mut bytes = MaybeUninit::<[u8; N]>::uninit();
        // SAFETY: the helper writes at most `N` bytes to `bytes`, and checks the offset.
        let failed = unsafe {
            bpf_xdp_load_bytes(
                self.0.as_ptr().cast(),
                at as u32,
                bytes.as_mut_ptr().cast(),
                N as u32,
            )
        };
        if failed != 0 {
            return None;
        }
        // SAFETY: the helper returned 0, so it wrote all `N` bytes.
        Some(unsafe { bytes.assume_init() })
    }
}

impl HeaderFrame<'_> {
    /// Writes to the linear part; nothing where it is shorter.
    #[inline(always)]
    pub fn store<const N: usize>(&self, at: usize, bytes: &[u8; N]) {
        let from = self.data + at;
        if from + N > self.data_end {
            return;
        }
        let place = from as *mut u8;
        for (index, byte) in bytes.iter().enumerate() {
            // Volatile, or LLVM makes a call of memmove of it, which subtracts pointers.
            // SAFETY: as `load`.
            unsafe { place.add(index).write_volatile(*byte) };
        }
    }
}

impl Copy for HeaderFrame<'_> {
    #[inline(always)]
    fn copy(&self, at: usize, into: &mut [u8]) -> bool {
        // SAFETY: the helper writes as many octets as `into` has, and checks the offset.
        let failed = unsafe {
            bpf_xdp_load_bytes(
                self.ctx.as_ptr().cast(),
                at as u32,
                into.as_mut_ptr().cast(),
                into.len() as u32,
            )
        };
        failed == 0
    }

    #[inline(always)]
    fn copy_near<const AT: usize>(&self, into: &mut [u8]) -> bool {
        let from = self.data + AT;
        if from + into.len() > self.data_end {
            return false;
        }
        // SAFETY: inside the frame, checked above; `into` is memory of a map, which no frame lies in.
        unsafe {
            core::ptr::copy_nonoverlapping(from as *const u8, into.as_mut_ptr(), into.len());
        }
        true
    }
}
