//! Forwarding without the kernel's stack: which packets may be, and how they leave.
//!
//! Decides; the programs carry out. What a router answers itself (hop limit, size, options, link-local and multicast
//! addresses) is the kernel's, and whatever is in doubt (RFC 4291 §2.5.6, RFC 8200 §3, §4.3, RFC 4443 §3).

use crate::abi::{BINDING_ROUTED, Binding, FLAG_FORWARD, INTERFACE_MACS, Interface, ROLE_ACCESS};
use crate::guard::{is_link_local, is_multicast, is_unspecified};
use crate::packet::{AddressBe, Packet, halves, is_extension};

/// Whether a packet is one that a router passes on without a word: `frame_bytes` of the whole frame, to see that
/// the packet is all there.
#[inline(always)]
// req: DP-28
pub fn is_plain(packet: &Packet, frame_bytes: u64) -> bool {
    packet.ip.hop_limit > 1
        && packet.payload_bytes() != 0
        && packet.ip_bytes() <= u16::MAX as u64
        && frame_bytes >= packet.ip_offset as u64 + packet.ip_bytes()
        && !is_extension(packet.ip.next_header)
        && is_routable(&packet.ip.source)
        && is_routable(&packet.ip.destination)
}

/// Neither link-local, multicast nor in ::/64, where `::`, `::1` and mapped addresses are.
#[inline(always)]
const fn is_routable(address: &AddressBe) -> bool {
    !is_link_local(address)
        && !is_multicast(address)
        && !is_unspecified(address)
        && halves(address).0 != 0
}

/// Whether a frame is addressed to one of the MAC addresses that an interface may receive on. A bridge floods
/// what it has not learned, and what is flooded belongs to another: of two twins both would forward it.
#[inline(always)]
// req: DP-54
pub fn is_for(interface: &Interface, packet: &Packet) -> bool {
    let mut place = 0;
    while place < INTERFACE_MACS {
        if (place as u32) < interface.mac_count && interface.macs[place] == packet.destination_mac {
            return true;
        }
        place += 1;
    }
    false
}

/// Whether a packet from a core interface may go to a subscriber out of `egress`.
#[inline(always)]
pub fn may_descend(packet: &Packet, binding: &Binding, egress: &Interface) -> bool {
    binding.flags & BINDING_ROUTED != 0
        && egress.role == ROLE_ACCESS
        && egress.flags & FLAG_FORWARD != 0
        && egress.mac_count != 0
        && packet.outer_tpid == 0
        && packet.ip_bytes() <= egress.mtu as u64
}
