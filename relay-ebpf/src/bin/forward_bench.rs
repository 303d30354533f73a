//! Programs of `cargo xtask bench forward`, no part of twinrelay: what sends, what swallows, and the two that ours is
//! compared with. Built with the same compiler and over the same helpers.
#![cfg_attr(target_arch = "bpf", no_std, no_main)]

#[cfg(target_arch = "bpf")]
mod programs {
    use aya_ebpf::EbpfContext;
    use aya_ebpf::bindings::bpf_fib_lookup as FibLookup;
    use aya_ebpf::bindings::xdp_action::{XDP_DROP, XDP_PASS, XDP_TX};
    use aya_ebpf::btf_maps::{Array, DevMapHash, PerCpuArray};
    use aya_ebpf::helpers::generated::{bpf_fib_lookup, bpf_get_prandom_u32};
    use aya_ebpf::macros::{btf_map, xdp};
    use aya_ebpf::programs::XdpContext;

    /// What the bench says: number of clients, and the device that packets leave by.
    #[btf_map(name = "plan")]
    static PLAN: Array<[u64; 2], 1> = Array::new();

    /// Packets that arrived.
    #[btf_map(name = "swallowed")]
    static SWALLOWED: PerCpuArray<u64, 1> = PerCpuArray::new();

    #[btf_map(name = "bench_egress")]
    static EGRESS: DevMapHash<16> = DevMapHash::new();

    const AF_INET6: u8 = 10;
    const DESTINATION: usize = 14 + 24;
    const HOP_LIMIT: usize = 14 + 7;
    const CORE_MAC: [u8; 6] = [2, 0, 0, 0, 0xc0, 0xfe];
    const GENERATOR_MAC: [u8; 6] = [2, 0, 0, 0, 0xc0, 1];
    const CLIENT_MAC: [u8; 6] = [2, 0, 0, 0, 0, 1];
    const ROUTER_MAC: [u8; 6] = [2, 0, 0, 0, 0, 0xfe];

    /// Each frame to another client's address or prefix, chosen at random, and out of the interface that it is
    /// said to have come from.
    #[xdp]
    pub fn generate(ctx: XdpContext) -> u32 {
        let Some([clients, _]) = PLAN.get(0) else {
            return XDP_DROP;
        };
        // SAFETY: numbers.
        let (random, more) = unsafe { (bpf_get_prandom_u32(), bpf_get_prandom_u32()) };
        // Checked: what would panic does not load.
        let Some(client) = u64::from(random).checked_rem(*clients) else {
            return XDP_DROP;
        };
        let (first, second) = match more & 1 {
            0 => (0x2001_0db8_000a_0001, 0x8000 << 48 | client),
            _ => (
                0x2001_0db8_d000_0000 + (client << 8),
                u64::from(more) << 16 | 1,
            ),
        };
        // Frames come back as the forwarder left them.
        put(&ctx, 0, CORE_MAC);
        put(&ctx, 6, GENERATOR_MAC);
        put(&ctx, HOP_LIMIT, [64]);
        put(&ctx, DESTINATION, u64::to_be_bytes(first));
        put(&ctx, DESTINATION + 8, u64::to_be_bytes(second));
        XDP_TX
    }

    /// The end of all packets.
    #[xdp]
    pub fn swallow(_: XdpContext) -> u32 {
        if let Some(count) = SWALLOWED.get_ptr_mut(0) {
            // SAFETY: this CPU's own value.
            unsafe { *count += 1 };
        }
        XDP_DROP
    }

    /// The least that a forwarder does: addresses rewritten, and out.
    #[xdp]
    pub fn bare(ctx: XdpContext) -> u32 {
        let Some([_, egress]) = PLAN.get(0) else {
            return XDP_DROP;
        };
        put(&ctx, 0, CLIENT_MAC);
        put(&ctx, 6, ROUTER_MAC);
        put(&ctx, HOP_LIMIT, [63]);
        EGRESS.redirect(*egress as u32, 0).unwrap_or(XDP_DROP)
    }

    /// The same by the kernel's routes.
    #[xdp]
    pub fn by_fib(ctx: XdpContext) -> u32 {
        let (Some(source), Some(destination)) =
            (get(&ctx, DESTINATION - 16), get(&ctx, DESTINATION))
        else {
            return XDP_PASS;
        };
        // SAFETY: integers, all of which may be zero; the helper reads and writes the structure.
        let (found, fib) = unsafe {
            let mut fib: FibLookup = core::mem::zeroed();
            fib.family = AF_INET6;
            fib.l4_protocol = 17;
            fib.ifindex = ctx.ingress_ifindex() as u32;
            fib.__bindgen_anon_3.ipv6_src = source;
            fib.__bindgen_anon_4.ipv6_dst = destination;
            let size = size_of::<FibLookup>() as i32;
            let found = bpf_fib_lookup(ctx.as_ptr().cast(), &raw mut fib, size, 0);
            (found, fib)
        };
        if found != 0 {
            return XDP_PASS;
        }
        put(&ctx, 0, fib.dmac);
        put(&ctx, 6, fib.smac);
        put(&ctx, HOP_LIMIT, [63]);
        EGRESS.redirect(fib.ifindex, 0).unwrap_or(XDP_DROP)
    }

    #[inline(always)]
    fn put<const N: usize>(ctx: &XdpContext, at: usize, bytes: [u8; N]) {
        let from = ctx.data() + at;
        if from + N <= ctx.data_end() {
            // SAFETY: inside the frame.
            unsafe { *(from as *mut [u8; N]) = bytes };
        }
    }

    #[inline(always)]
    fn get(ctx: &XdpContext, at: usize) -> Option<[u32; 4]> {
        let from = ctx.data() + at;
        if from + 16 > ctx.data_end() {
            return None;
        }
        // SAFETY: inside the frame; read octet for octet.
        Some(unsafe { (from as *const [u32; 4]).read_unaligned() })
    }
}

/// The helpers that the programs call are for GPL-compatible programs only.
#[cfg(target_arch = "bpf")]
#[unsafe(link_section = "license")]
#[unsafe(no_mangle)]
static LICENSE: [u8; 13] = *b"Dual MIT/GPL\0";

#[cfg(target_arch = "bpf")]
#[panic_handler]
fn panic(_: &core::panic::PanicInfo) -> ! {
    loop {}
}

#[cfg(not(target_arch = "bpf"))]
fn main() {}
