//! Which binding an address belongs to: exact prefix lengths in hash maps, the lengths that come into question first.
//!
//! Decides like a routing table: the longest length first. Must not know where the maps are: the kernel
//! asks its own, tests a table of theirs. One probe decides where a pool has one length, because
//! [`crate::maps::lengths_place`] gives each pool its own lengths; a trie for the longest match
//! takes several times as long with a million entries.

use core::mem::offset_of;

use crate::abi::{Binding, LENGTHS_MAX, PrefixLengths};
use crate::maps::lengths_place;
use crate::packet::{AddressBe, Key, Packet, halves};

/// Length of an address in `prefix_lengths`.
pub const ADDRESS_BITS: u8 = 128;

/// The maps of bindings.
pub trait Bindings {
    /// The lengths of this place.
    fn lengths(&self, place: u32) -> Option<&PrefixLengths>;

    /// The binding of exactly the address in `key`.
    fn by_address(&self, key: &Key) -> Option<&Binding>;

    /// The binding of exactly the prefix in `key`.
    fn by_prefix(&self, key: &Key) -> Option<&Binding>;

    /// Whether an address may be a source on an interface without a binding.
    fn is_allowed(&self, ifindex: u32, address: &AddressBe) -> bool;
}

/// The binding that an address is bound by or in. `key` is where keys are built.
#[inline(always)]
pub fn find<'a, B: Bindings>(
    bindings: &'a B,
    address: &AddressBe,
    key: &mut Key,
) -> Option<&'a Binding> {
    let (first, second) = halves(address);
    let cell = bindings.lengths(lengths_place(first))?;
    let mut lengths = u64::from_le_bytes(cell.lengths);
    let mut first_shifts = u64::from_le_bytes(cell.first_shifts);
    let mut second_shifts = u64::from_le_bytes(cell.second_shifts);
    for _ in 0..LENGTHS_MAX {
        let bits = lengths as u8;
        if bits == 0 {
            return None;
        }
        key.bits = bits as u32;
        let first_mask = u64::MAX << (first_shifts & 63);
        let second_mask = u64::MAX << 1 << (second_shifts & 63);
        let found = if bits >= ADDRESS_BITS {
            key.address = *address;
            bindings.by_address(key)
        } else {
            key.address = [(first & first_mask).to_be(), (second & second_mask).to_be()];
            bindings.by_prefix(key)
        };
        if found.is_some() {
            return found;
        }
        lengths >>= 8;
        first_shifts >>= 8;
        second_shifts >>= 8;
    }
    None
}

/// Whether the valid lifetime of a binding is over.
#[inline(always)]
// req: DP-43
pub const fn is_over(binding: &Binding, now: u64) -> bool {
    binding.valid_until_boot_nanos <= now
}

/// Whether a packet came from the client of a binding: the same interface, VLANs and MAC address. TPIDs do not count:
/// that of a lease which a peer told is a guess, and of one VLAN there is only one.
#[inline(always)]
// req: DP-4
pub fn is_from(binding: &Binding, packet: &Packet, ifindex: u32) -> bool {
    const FIRST: usize = offset_of!(Binding, client_mac);
    const SECOND: usize = offset_of!(Binding, outer_vid);
    // Two comparisons of numbers, not of six fields, octet by octet: MAC address and first TPID, then the first VID,
    // the second TPID and VID, and flags.
    const MAC: u64 = u64::from_ne_bytes([255, 255, 255, 255, 255, 255, 0, 0]);
    const VIDS: u64 = u64::from_ne_bytes([255, 255, 0, 0, 255, 255, 0, 0]);
    let (first, second) = packet.sender();
    // SAFETY: both lie inside the binding (its layout is asserted), at multiples of eight.
    let (bound_first, bound_second) = unsafe {
        let at = core::ptr::from_ref(binding).cast::<u8>();
        (
            at.add(FIRST).cast::<u64>().read(),
            at.add(SECOND).cast::<u64>().read(),
        )
    };
    binding.ifindex == ifindex
        && ((bound_first ^ first) & MAC) | ((bound_second ^ second) & VIDS) == 0
}
