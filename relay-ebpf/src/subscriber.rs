//! What becomes of the packets of subscribers: checked, counted, dropped, forwarded, or left to the kernel.

use aya_ebpf::EbpfContext;
use aya_ebpf::helpers::generated::bpf_xdp_get_buff_len;
use aya_ebpf::programs::XdpContext;
use relay_common::abi::{
    BINDING_ROUTED, Binding, BindingStats, FLAG_ANTI_LOOP, FLAG_ENFORCE, FLAG_FORWARD, FLAG_GUARD,
    ROLE_ACCESS, ROLE_CORE,
};
use relay_common::bindings::{find, is_from, is_over};
use relay_common::forward::{is_for, is_plain, may_descend};
use relay_common::guard::{Judgement, judge};
use relay_common::maps::DropReason;
use relay_common::packet::{read, upper};

use crate::capture::{Outcome, daemon_that_reads};
use crate::maps::{BINDING_STATS, count_reason, daemon, value, work};
use crate::redirect;
use crate::tables::Tables;
use crate::xdp_frame::HeaderFrame;

/// A packet that came in on an access interface.
#[inline(always)]
pub fn from_access(ctx: &XdpContext) -> Outcome {
    // Most of what an interface receives is none of ours where neither guard nor forwarding is on.
    if daemon().is_none_or(|daemon| daemon.data_path == 0) {
        return Outcome::Passed;
    }
    look_at(ctx)
}

/// A function of its own in the kernel too: it is called from two places.
#[inline(never)]
fn look_at(ctx: &XdpContext) -> Outcome {
    let Some(work) = work() else {
        return Outcome::Passed;
    };
    // SAFETY: this CPU's own memory, and no other program of ours runs on this CPU meanwhile.
    let (packet, key) = unsafe {
        let work = work.as_ptr();
        (&mut (*work).packet, &mut (*work).key)
    };
    let tables = Tables(work);
    let ifindex = ctx.ingress_ifindex() as u32;
    let Some(interface) = tables.interface(ifindex) else {
        return Outcome::Passed;
    };
    let flags = interface.flags;
    if interface.role != ROLE_ACCESS || flags & (FLAG_GUARD | FLAG_FORWARD | FLAG_ANTI_LOOP) == 0 {
        return Outcome::Passed;
    }
    let headers = HeaderFrame::new(ctx);
    if !read(&headers, packet) {
        return Outcome::Passed;
    }
    let now = tables.now();
    if flags & FLAG_GUARD != 0 {
        let upper = upper(&headers, packet);
        match judge(&tables, packet, upper, ifindex, now, key) {
            Judgement::Bound(binding) => {
                count(binding, |stats| {
                    stats.rx_packets += 1;
                    stats.rx_bytes += packet.ip_bytes();
                });
            }
            Judgement::Free => {}
            Judgement::Refused(reason) => {
                // Nobody learns of new leases without a daemon: then nothing is dropped. req: DP-25
                let is_dropped = flags & FLAG_ENFORCE != 0
                    && daemon_that_reads(now).is_some_and(|daemon| daemon.ready != 0);
                count_reason(reason, is_dropped);
                if is_dropped {
                    return Outcome::Dropped;
                }
            }
        }
    } else if let Some(binding) = find(&tables, &packet.ip.source, key)
        && is_from(binding, packet, ifindex)
    {
        count(binding, |stats| {
            stats.rx_packets += 1;
            stats.rx_bytes += packet.ip_bytes();
        });
    }
    if !is_for(interface, packet) {
        return Outcome::Passed;
    }
    // req: PDR-R-5
    if flags & FLAG_ANTI_LOOP != 0
        && let Some(binding) = find(&tables, &packet.ip.destination, key)
        && binding.flags & BINDING_ROUTED != 0
        && is_from(binding, packet, ifindex)
    {
        count_reason(DropReason::Loop, true);
        return Outcome::Dropped;
    }
    if flags & FLAG_FORWARD != 0
        && is_plain(packet, frame_bytes(ctx))
        && redirect::to_core(ctx, packet, &tables, ifindex)
    {
        return Outcome::Forwarded;
    }
    Outcome::Passed
}

/// A packet that came in on a core interface.
#[inline(always)]
pub fn from_core(ctx: &XdpContext) -> Outcome {
    let Some(work) = work() else {
        return Outcome::Passed;
    };
    // SAFETY: as above.
    let (packet, key) = unsafe {
        let work = work.as_ptr();
        (&mut (*work).packet, &mut (*work).key)
    };
    let tables = Tables(work);
    // What has tags is for an interface of its own.
    if !read(&HeaderFrame::new(ctx), packet) || packet.outer_tpid != 0 {
        return Outcome::Passed;
    }
    let Some(binding) = find(&tables, &packet.ip.destination, key) else {
        return Outcome::Passed;
    };
    let Some(interface) = tables.interface(ctx.ingress_ifindex() as u32) else {
        return Outcome::Passed;
    };
    if interface.role != ROLE_CORE || !is_for(interface, packet) {
        return Outcome::Passed;
    }
    let now = tables.now();
    // req: DP-37
    if is_over(binding, now) {
        count_reason(DropReason::Expired, true);
        return Outcome::Dropped;
    }
    count(binding, |stats| {
        stats.tx_packets += 1;
        stats.tx_bytes += packet.ip_bytes();
    });
    if interface.flags & FLAG_FORWARD != 0
        && is_plain(packet, frame_bytes(ctx))
        && let Some(egress) = tables.interface(binding.ifindex)
        && may_descend(packet, binding, egress)
        && redirect::to_subscriber(ctx, packet, binding, egress)
    {
        return Outcome::Forwarded;
    }
    Outcome::Passed
}

#[inline(always)]
fn count(binding: &Binding, add: impl FnOnce(&mut BindingStats)) {
    // SAFETY: this CPU's own value, as the map has it; nothing else on this CPU runs meanwhile.
    unsafe {
        if let Some(mut stats) = value(&BINDING_STATS, &raw const binding.slot) {
            add(stats.as_mut());
        }
    }
}

#[inline(always)]
fn frame_bytes(ctx: &XdpContext) -> u64 {
    // SAFETY: reads the length of the frame at hand.
    unsafe { bpf_xdp_get_buff_len(ctx.as_ptr().cast()) }
}
