//! A frame behind its header into the ring, no byte more than needed.
//!
//! Put together in per-CPU memory and copied once more: cheaper than a reservation of fixed size
//! (which spends ring space) and than a dynptr (which spends calls).

use core::ffi::c_void;

use aya_ebpf::EbpfContext;
use aya_ebpf::bindings::BPF_RB_NO_WAKEUP;
use aya_ebpf::helpers::generated::{bpf_ringbuf_output, bpf_xdp_get_buff_len, bpf_xdp_load_bytes};
use aya_ebpf::programs::XdpContext;
use relay_common::abi::{FRAME_BYTES_MAX, RECORD_HEADER_BYTES, RecordHeader};
use relay_common::classify::Datagram;
use relay_common::maps::DropReason;

use crate::maps::{DHCP_FRAMES, scratch};

/// The ring, as helpers want it.
#[inline(always)]
pub fn ring() -> *mut c_void {
    core::ptr::from_ref(&DHCP_FRAMES).cast_mut().cast()
}

/// Copies the frame; on an error the ring is as it was.
#[inline(always)]
pub fn to_relay(
    ctx: &XdpContext,
    datagram: &Datagram,
    ifindex: u32,
    now: u64,
    is_quiet: bool,
) -> Result<(), DropReason> {
    // SAFETY: reads the length of the frame at hand.
    let frame_bytes = unsafe { bpf_xdp_get_buff_len(ctx.as_ptr().cast()) };
    if frame_bytes == 0 || frame_bytes > FRAME_BYTES_MAX as u64 {
        return Err(DropReason::Oversized);
    }
    let scratch = scratch().ok_or(DropReason::RingFull)?.as_ptr();
    // SAFETY: this CPU's own value, and no other XDP program of ours runs on this CPU meanwhile;
    // the helper writes at most `frame_bytes <= FRAME_BYTES_MAX` bytes to `frame`.
    let failed = unsafe {
        (*scratch).header = RecordHeader {
            received_at_boot_nanos: now,
            ifindex,
            frame_bytes: frame_bytes as u32,
            client_mac: datagram.source_mac,
            outer_tpid: datagram.outer_tpid,
            outer_tci: datagram.outer_tci,
            inner_tpid: datagram.inner_tpid,
            inner_tci: datagram.inner_tci,
            ip_offset: datagram.ip_offset,
        };
        bpf_xdp_load_bytes(
            ctx.as_ptr().cast(),
            0,
            (&raw mut (*scratch).frame).cast(),
            frame_bytes as u32,
        )
    };
    if failed != 0 {
        return Err(DropReason::Oversized);
    }
    // SAFETY: `header | frame` lie together in the value, `RECORD_HEADER_BYTES + frame_bytes` fits.
    let failed = unsafe {
        bpf_ringbuf_output(
            ring(),
            scratch.cast(),
            RECORD_HEADER_BYTES as u64 + frame_bytes,
            is_quiet as u64 * BPF_RB_NO_WAKEUP as u64,
        )
    };
    if failed != 0 {
        return Err(DropReason::RingFull);
    }
    Ok(())
}
