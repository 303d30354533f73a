//! What becomes of a frame that carries DHCPv6: into the ring, to the kernel, or dropped.

use aya_ebpf::helpers::generated::bpf_ktime_get_boot_ns;
use aya_ebpf::programs::XdpContext;
use relay_common::abi::{
    Daemon, FLAG_ACCEPT_RELAYED, HEARTBEAT_AGE_MAX_NANOS, LAYOUT, OwnAddress, ROLE_ACCESS,
};
use relay_common::classify::{ALL_RELAY_AGENTS_AND_SERVERS, Datagram, addressed_to};
use relay_common::maps::DropReason;

use crate::maps::{INTERFACES, OWN_ADDRESSES, count_reason, daemon};
use crate::{emit, limit};

/// What became of a frame.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// The kernel's stack has it.
    Passed,
    /// The ring has it.
    Captured,
    /// Nobody has it.
    Dropped,
    /// Another interface sends it.
    Forwarded,
}

/// Every frame that leaves this function otherwise than into the ring, although it was for us, is
/// counted under its reason.
#[inline(always)]
pub fn capture(ctx: &XdpContext, datagram: &Datagram) -> Outcome {
    let ifindex = ctx.ingress_ifindex() as u32;
    // SAFETY: the daemon replaces entries whole; nothing here removes one while it is read.
    let Some(interface) = (unsafe { INTERFACES.get(ifindex) }) else {
        return Outcome::Passed;
    };
    if interface.role != ROLE_ACCESS || !addressed_to(interface, datagram) {
        return Outcome::Passed;
    }
    if datagram.destination != ALL_RELAY_AGENTS_AND_SERVERS {
        let accepts = interface.flags & FLAG_ACCEPT_RELAYED != 0;
        if !accepts || !is_own(datagram.destination) {
            return Outcome::Passed;
        }
    }
    // SAFETY: reads a clock.
    let now = unsafe { bpf_ktime_get_boot_ns() };
    let Some(daemon) = daemon_that_reads(now) else {
        count_reason(DropReason::NoHeartbeat, false);
        return Outcome::Passed;
    };
    if let Err(reason) = limit::admit(ctx, datagram, ifindex, interface, now) {
        count_reason(reason, true);
        return Outcome::Dropped;
    }
    match emit::to_relay(ctx, datagram, ifindex, now, daemon.quiet != 0) {
        Ok(()) => Outcome::Captured,
        Err(reason) => {
            count_reason(reason, false);
            Outcome::Passed
        }
    }
}

#[inline(always)]
fn is_own(destination: [u8; 16]) -> bool {
    let key = OwnAddress {
        address_be: destination,
    };
    // SAFETY: only whether there is a value is asked, never what it is.
    unsafe { OWN_ADDRESSES.get(key) }.is_some()
}

/// A daemon with our layouts that said within the last second that it reads the ring.
#[inline(always)]
pub fn daemon_that_reads(now: u64) -> Option<&'static Daemon> {
    daemon().filter(|daemon| {
        daemon.layout == LAYOUT
            && now.saturating_sub(daemon.heartbeat_boot_nanos) <= HEARTBEAT_AGE_MAX_NANOS
    })
}
