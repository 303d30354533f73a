//! Sending a packet out of another interface: tags and MAC addresses rewritten, hop limit decremented.
//!
//! The device is asked for first and the frame touched last: until then the kernel may still have it whole.

use aya_ebpf::EbpfContext;
use aya_ebpf::bindings::bpf_fib_lookup as FibLookup;
use aya_ebpf::bindings::xdp_action::XDP_REDIRECT;
use aya_ebpf::helpers::generated::{bpf_fib_lookup, bpf_redirect_map, bpf_xdp_adjust_head};
use aya_ebpf::programs::XdpContext;
use relay_common::abi::{Binding, FLAG_FORWARD, Interface, ROLE_CORE};
use relay_common::classify::{ETHERNET_BYTES, TAG_BYTES};
use relay_common::packet::Packet;

use crate::maps::EGRESS;
use crate::tables::Tables;
use crate::xdp_frame::HeaderFrame;

const AF_INET6: u8 = 10;
const ETHERTYPE_IPV6: [u8; 2] = [0x86, 0xdd];
/// `BPF_FIB_LKUP_RET_NO_NEIGH`.
const NO_NEIGHBOR: i64 = 7;
/// Of the IPv6 header in an untagged frame.
const HOP_LIMIT: usize = ETHERNET_BYTES + 7;

/// By the kernel's routes; `false`: the kernel has to forward it, or to answer.
#[inline(always)]
pub fn to_core(ctx: &XdpContext, packet: &Packet, tables: &Tables, ifindex: u32) -> bool {
    // SAFETY: this CPU's own memory, as large as the structure and aligned as it is.
    let fib = unsafe { &raw mut (*tables.0.as_ptr()).fib };
    // SAFETY: as above; unions of integers, any bytes of which are values.
    let found = unsafe {
        // Each by itself: zeroing the whole becomes a loop, which needs CAP_PERFMON. No ports: nobody
        // routes subscribers by them, and what does not lie in the header costs another look at the packet.
        let fib = fib.cast::<FibLookup>();
        (*fib).sport = 0;
        (*fib).dport = 0;
        (*fib).__bindgen_anon_2.flowinfo = packet.ip.first_be & 0x0fff_ffff_u32.to_be();
        (*fib).family = AF_INET6;
        (*fib).l4_protocol = packet.ip.next_header;
        (*fib).__bindgen_anon_1.tot_len = packet.ip_bytes() as u16;
        (*fib).ifindex = ifindex;
        (*fib).__bindgen_anon_3.ipv6_src = words(&packet.ip.source);
        (*fib).__bindgen_anon_4.ipv6_dst = words(&packet.ip.destination);
        bpf_fib_lookup(ctx.as_ptr().cast(), fib, size_of::<FibLookup>() as i32, 0)
    };
    if found != 0 && found != NO_NEIGHBOR {
        return false;
    }
    // SAFETY: the helper has written it.
    let fib = unsafe { &*fib.cast::<FibLookup>() };
    let Some(egress) = tables.interface(fib.ifindex) else {
        return false;
    };
    if egress.role != ROLE_CORE || egress.flags & FLAG_FORWARD == 0 || fib.ifindex == ifindex {
        return false;
    }
    if found != 0 {
        hand_over(ctx, packet);
        return false;
    }
    if !goes_to(fib.ifindex) || !shift(ctx, (packet.tags() * TAG_BYTES) as i32) {
        return false;
    }
    let frame = HeaderFrame::new(ctx);
    frame.store(0, &fib.dmac);
    frame.store(6, &fib.smac);
    frame.store(12, &ETHERTYPE_IPV6);
    frame.store(HOP_LIMIT, &[packet.ip.hop_limit - 1]);
    true
}

/// Takes the tags off a packet whose next hop the kernel has to find first: with them it would be nobody's, where
/// there is no VLAN interface, and the next hop would never be found.
#[inline(always)]
// req: DP-28
fn hand_over(ctx: &XdpContext, packet: &Packet) {
    if packet.tags() != 0 && shift(ctx, (packet.tags() * TAG_BYTES) as i32) {
        let frame = HeaderFrame::new(ctx);
        frame.store(0, &packet.destination_mac);
        frame.store(6, &packet.source_mac);
        frame.store(12, &ETHERTYPE_IPV6);
    }
}

/// To the client of a binding, with its tags; `false`: the kernel has the packet, untouched.
#[inline(always)]
pub fn to_subscriber(
    ctx: &XdpContext,
    packet: &Packet,
    binding: &Binding,
    egress: &Interface,
) -> bool {
    let tags = (binding.outer_tpid != 0) as i32 + (binding.inner_tpid != 0) as i32;
    if !goes_to(binding.ifindex) || !shift(ctx, -tags * TAG_BYTES as i32) {
        return false;
    }
    let frame = HeaderFrame::new(ctx);
    frame.store(0, &binding.client_mac);
    frame.store(6, &egress.macs[0]);
    let hop_limit = [packet.ip.hop_limit - 1];
    if tags == 0 {
        frame.store(12, &ETHERTYPE_IPV6);
        frame.store(HOP_LIMIT, &hop_limit);
        return true;
    }
    frame.store(12, &binding.outer_tpid.to_be_bytes());
    frame.store(14, &binding.outer_vid.to_be_bytes());
    if tags == 1 {
        frame.store(16, &ETHERTYPE_IPV6);
        frame.store(HOP_LIMIT + TAG_BYTES, &hop_limit);
        return true;
    }
    frame.store(16, &binding.inner_tpid.to_be_bytes());
    frame.store(18, &binding.inner_vid.to_be_bytes());
    frame.store(20, &ETHERTYPE_IPV6);
    frame.store(HOP_LIMIT + 2 * TAG_BYTES, &hop_limit);
    true
}

/// Whether the kernel will send the frame out of this device, if the program ends with that action.
#[inline(always)]
fn goes_to(ifindex: u32) -> bool {
    let map = core::ptr::from_ref(&EGRESS).cast_mut().cast();
    // SAFETY: a map of devices.
    let action = unsafe { bpf_redirect_map(map, ifindex as u64, 0) };
    action == XDP_REDIRECT as i64
}

/// Takes octets off the front of the frame, or puts some there; `false`: there is no room.
#[inline(always)]
fn shift(ctx: &XdpContext, octets: i32) -> bool {
    // SAFETY: all pointers into the frame are taken anew afterwards.
    octets == 0 || unsafe { bpf_xdp_adjust_head(ctx.ctx, octets) } == 0
}

#[inline(always)]
const fn words(address: &[u64; 2]) -> [u32; 4] {
    [
        address[0] as u32,
        (address[0] >> 32) as u32,
        address[1] as u32,
        (address[1] >> 32) as u32,
    ]
}
