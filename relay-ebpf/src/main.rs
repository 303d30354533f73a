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
mod redirect;
#[cfg(target_arch = "bpf")]
mod subscriber;
#[cfg(target_arch = "bpf")]
mod tables;
#[cfg(target_arch = "bpf")]
mod xdp_frame;

#[cfg(target_arch = "bpf")]
mod entry {
    use aya_ebpf::bindings::xdp_action::{XDP_DROP, XDP_PASS, XDP_REDIRECT};
    use aya_ebpf::macros::xdp;
    use aya_ebpf::programs::XdpContext;
    use relay_common::classify::{ALL_RELAY_AGENTS_AND_SERVERS, Datagram, Verdict, classify};

    use crate::capture::{Outcome, capture};
    use crate::xdp_frame::HeaderFrame;
    use crate::{maps, subscriber};

    /// On access interfaces: takes DHCPv6 from clients and downstream relays; checks, counts and forwards
    /// what subscribers send, where that is asked for; passes the rest.
    #[xdp(frags)]
    pub fn access_ingress(ctx: XdpContext) -> u32 {
        let outcome = match classify(&HeaderFrame::new(&ctx)) {
            Verdict::ToRelay(datagram) | Verdict::ToAddress(datagram) => dhcpv6(&ctx, &datagram),
            Verdict::Truncated | Verdict::NotIpv6 | Verdict::NotUdp | Verdict::NotDhcpv6 => {
                subscriber::from_access(&ctx)
            }
        };
        act(&ctx, outcome)
    }

    /// On core interfaces: counts and forwards what goes to subscribers, drops what goes to a binding that is
    /// over; passes the rest.
    #[xdp(frags)]
    pub fn core_ingress(ctx: XdpContext) -> u32 {
        let outcome = subscriber::from_core(&ctx);
        act(&ctx, outcome)
    }

    /// What a downstream relay sends to us need not come from a binding, clients' messages do; and a RELAY-FORW
    /// that is not for us is any subscriber's packet.
    #[inline(always)]
    // req: DP-10
    fn dhcpv6(ctx: &XdpContext, datagram: &Datagram) -> Outcome {
        let is_relayed = datagram.destination != ALL_RELAY_AGENTS_AND_SERVERS;
        if !is_relayed && subscriber::from_access(ctx) == Outcome::Dropped {
            return Outcome::Dropped;
        }
        let outcome = capture(ctx, datagram);
        if is_relayed && outcome == Outcome::Passed {
            return subscriber::from_access(ctx);
        }
        outcome
    }

    #[inline(always)]
    fn act(ctx: &XdpContext, outcome: Outcome) -> u32 {
        maps::count_packet(ctx.ingress_ifindex() as u32, outcome);
        match outcome {
            Outcome::Passed => XDP_PASS,
            Outcome::Captured | Outcome::Dropped => XDP_DROP,
            Outcome::Forwarded => XDP_REDIRECT,
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
