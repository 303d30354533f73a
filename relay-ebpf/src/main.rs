//! XDP entry points: classify, decide by the interface's entry, count, act.
//!
//! Decides nothing that a userspace test could not have decided: what a frame is, whom it is
//! addressed to and who gives way are functions of relay-common. In doubt the kernel's stack keeps
//! the frame.
#![cfg_attr(target_arch = "bpf", no_std, no_main)]

#[cfg(target_arch = "bpf")]
mod capture;
#[cfg(target_arch = "bpf")]
mod emit;
#[cfg(target_arch = "bpf")]
mod limit;
#[cfg(target_arch = "bpf")]
mod maps;
#[cfg(target_arch = "bpf")]
mod xdp_frame;

#[cfg(target_arch = "bpf")]
mod entry {
    use aya_ebpf::bindings::xdp_action::{XDP_DROP, XDP_PASS};
    use aya_ebpf::macros::xdp;
    use aya_ebpf::programs::XdpContext;
    use relay_common::classify::{Verdict, classify};

    use crate::capture::{Outcome, capture};
    use crate::maps;
    use crate::xdp_frame::HeaderFrame;

    /// On access interfaces: takes DHCPv6 from clients and downstream relays, passes the rest.
    #[xdp(frags)]
    pub fn access_ingress(ctx: XdpContext) -> u32 {
        let outcome = match classify(&HeaderFrame::new(&ctx)) {
            Verdict::ToRelay(datagram) | Verdict::ToAddress(datagram) => capture(&ctx, &datagram),
            Verdict::Truncated | Verdict::NotIpv6 | Verdict::NotUdp | Verdict::NotDhcpv6 => {
                Outcome::Passed
            }
        };
        maps::count_packet(ctx.ingress_ifindex() as u32, outcome);
        match outcome {
            Outcome::Passed => XDP_PASS,
            Outcome::Captured | Outcome::Dropped => XDP_DROP,
        }
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
