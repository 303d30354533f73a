//! `Frame` for the kernel: the only raw packet pointers.

use core::mem::MaybeUninit;

use aya_ebpf::EbpfContext;
use aya_ebpf::helpers::generated::bpf_xdp_load_bytes;
use aya_ebpf::programs::XdpContext;
use relay_common::frame::Frame;

/// The linear part of a frame, read in place: for headers, at offsets the verifier can follow.
pub struct HeaderFrame {
    data: usize,
    data_end: usize,
}

impl HeaderFrame {
    /// Of the frame at hand.
    #[inline(always)]
    pub fn new(ctx: &XdpContext) -> Self {
        Self {
            data: ctx.data(),
            // Volatile, or LLVM folds the comparisons with it into forms that the verifier does not
            // take for a bounds test. Not `black_box`: that takes it through memory, where the
            // verifier lets only a privileged program keep it.
            // SAFETY: the kernel's own context.
            data_end: unsafe { (&raw const (*ctx.ctx).data_end).read_volatile() } as usize,
        }
    }
}

impl Frame for HeaderFrame {
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
