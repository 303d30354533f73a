//! The source guard: whether a packet from an access interface comes from whom it says (RFC 8987 R-3, RFC 7513 §8).
//!
//! Decides by the packet and the maps of bindings. Must not know whether what it refuses is dropped: that
//! is the interface's mode, and whether the relay is ready.

use crate::abi::Binding;
use crate::bindings::{Bindings, find, is_from, is_over};
use crate::maps::DropReason;
use crate::packet::{AddressBe, Key, Packet, Upper, halves};

/// What the guard says of a packet.
pub enum Judgement<'a> {
    /// From a subscriber: the binding of its source.
    Bound(&'a Binding),
    /// Good without a binding.
    Free,
    /// Not good, and why.
    Refused(DropReason),
}

/// Judges a packet that came in on an access interface.
#[inline(always)]
// req: DP-1, DP-8, DP-9, DP-12, DP-22, DP-38, PDR-R-3
pub fn judge<'a, B: Bindings>(
    bindings: &'a B,
    packet: &Packet,
    upper: Upper,
    ifindex: u32,
    now: u64,
    key: &mut Key,
) -> Judgement<'a> {
    match upper {
        // req: DP-13
        Upper::DhcpToClient => return Judgement::Refused(DropReason::ServerMessage),
        Upper::Unclear => return Judgement::Refused(DropReason::HeaderChain),
        // req: DP-11
        Upper::NeighborAdvertisement(target) => {
            if let Judgement::Refused(_) = owner(bindings, packet, &target, ifindex, now, key) {
                return Judgement::Refused(DropReason::NeighborTarget);
            }
        }
        Upper::Ordinary => {}
    }
    owner(bindings, packet, &packet.ip.source, ifindex, now, key)
}

/// Whether an address is the packet's sender's own.
#[inline(always)]
fn owner<'a, B: Bindings>(
    bindings: &'a B,
    packet: &Packet,
    address: &AddressBe,
    ifindex: u32,
    now: u64,
    key: &mut Key,
) -> Judgement<'a> {
    if is_link_local(address) || is_unspecified(address) {
        return Judgement::Free;
    }
    let reason = match find(bindings, address, key) {
        Some(binding) if !is_from(binding, packet, ifindex) => DropReason::SourceForeign,
        Some(binding) if is_over(binding, now) => DropReason::SourceExpired,
        Some(binding) => return Judgement::Bound(binding),
        None => DropReason::SourceUnbound,
    };
    if bindings.is_allowed(ifindex, address) {
        return Judgement::Free;
    }
    Judgement::Refused(reason)
}

/// fe80::/10 (RFC 4291 §2.5.6).
#[inline(always)]
pub const fn is_link_local(address: &AddressBe) -> bool {
    halves(address).0 >> 54 == 0xfe80 >> 6
}

/// `::`.
#[inline(always)]
pub const fn is_unspecified(address: &AddressBe) -> bool {
    address[0] == 0 && address[1] == 0
}

/// ff00::/8.
#[inline(always)]
pub const fn is_multicast(address: &AddressBe) -> bool {
    halves(address).0 >> 56 == 0xff
}
