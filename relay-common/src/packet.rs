//! Frame → [`Packet`]: the headers of an IPv6 packet that checking and forwarding go by. Total, without state;
//! the same function in the kernel, in unit tests and in the fuzzer.
//!
//! Decides where headers are; must not know what is allowed. What it cannot read it says so, and the
//! kernel's stack has the packet.

use core::mem::offset_of;

use crate::abi::PrefixKey;
use crate::classify::{ETHERNET_BYTES, ETHERTYPE_IPV6, IPV6_BYTES, TAG_BYTES, is_tag};
use crate::frame::{self, Frame};

/// Extension headers that are looked behind, at most.
pub const EXTENSIONS_MAX: usize = 4;

/// Where the IPv6 header starts.
const UNTAGGED: usize = ETHERNET_BYTES;
const ONE_TAG: usize = UNTAGGED + TAG_BYTES;
const TWO_TAGS: usize = ONE_TAG + TAG_BYTES;
/// Where what follows its fixed part starts.
const BEHIND_UNTAGGED: usize = UNTAGGED + IPV6_BYTES;
const BEHIND_ONE_TAG: usize = ONE_TAG + IPV6_BYTES;
const BEHIND_TWO_TAGS: usize = TWO_TAGS + IPV6_BYTES;

const HOP_BY_HOP: u8 = 0;
const UDP: u8 = 17;
const ROUTING: u8 = 43;
const FRAGMENT: u8 = 44;
const AUTHENTICATION: u8 = 51;
const ICMPV6: u8 = 58;
const DESTINATION_OPTIONS: u8 = 60;
const MOBILITY: u8 = 135;
const HOST_IDENTITY: u8 = 139;
const SHIM6: u8 = 140;

const NEIGHBOR_ADVERTISEMENT: u8 = 136;
/// UDP port of clients (RFC 8415 §7.2).
const CLIENT_PORT: u16 = 546;

/// An IPv6 address as two numbers in network order: aligned, so that no program puts it together from octets.
pub type AddressBe = [u64; 2];

/// First and second half as numbers that can be masked and compared.
#[inline(always)]
pub const fn halves(address: &AddressBe) -> (u64, u64) {
    (u64::from_be(address[0]), u64::from_be(address[1]))
}

/// What of a packet's upper layer the guard wants to know.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Upper {
    /// Nothing special.
    Ordinary,
    /// ICMPv6 neighbour advertisement for this address (RFC 4861 §4.4).
    NeighborAdvertisement(AddressBe),
    /// UDP to port 546: what only servers and relay agents send.
    DhcpToClient,
    /// More extension headers than are looked behind.
    Unclear,
}

/// The fixed IPv6 header as received (RFC 8200 §3).
#[repr(C)]
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct Ipv6Header {
    /// Version, traffic class, flow label; network order.
    pub first_be: u32,
    /// Octets behind this header; network order.
    pub payload_be: u16,
    /// Of what follows.
    pub next_header: u8,
    /// As received.
    pub hop_limit: u8,
    /// Network order.
    pub source: AddressBe,
    /// Network order.
    pub destination: AddressBe,
}

const _: () = assert!(size_of::<Ipv6Header>() == IPV6_BYTES);

/// Where a packet comes from, where it goes, and what it may still live.
///
/// In the kernel it lies in a map, where a helper copies the headers: aligned, so that nothing is put together
/// from octets, and not on the stack, where without CAP_PERFMON each new place costs a barrier.
#[repr(C)]
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct Packet {
    /// The fixed header.
    pub ip: Ipv6Header,
    /// Beginning of the upper layer, where [`upper`] looks.
    pub upper: [u64; 3],
    /// Source of the frame.
    pub source_mac: [u8; 6],
    /// 0x8100 or 0x88a8; 0 where there is no tag.
    pub outer_tpid: u16,
    /// VLAN identifier, without priority bits.
    pub outer_vid: u16,
    /// As `outer_tpid`.
    pub inner_tpid: u16,
    /// As `outer_vid`.
    pub inner_vid: u16,
    /// Zero.
    pub reserved: u16,
    /// Destination of the frame.
    pub destination_mac: [u8; 6],
    /// Where the IPv6 header starts: 14, 18 or 22.
    pub ip_offset: u16,
}

const _: () = assert!(
    offset_of!(Packet, source_mac) == 64
        && offset_of!(Packet, outer_vid) == 72
        && offset_of!(Packet, destination_mac) == 80
        && size_of::<Packet>() == 88
);

impl Packet {
    /// MAC address and tags of who sent it, as two numbers.
    #[inline(always)]
    pub(crate) const fn sender(&self) -> (u64, u64) {
        // SAFETY: both lie inside the packet (asserted above), at multiples of eight.
        unsafe {
            let at = core::ptr::from_ref(self).cast::<u64>();
            (at.add(8).read(), at.add(9).read())
        }
    }

    /// Octets of the payload behind the fixed header.
    #[inline(always)]
    pub const fn payload_bytes(&self) -> u16 {
        u16::from_be(self.ip.payload_be)
    }

    /// Octets of the packet by its own header; a jumbogram, whose header says 0, is not forwarded here.
    #[inline(always)]
    pub const fn ip_bytes(&self) -> u64 {
        IPV6_BYTES as u64 + self.payload_bytes() as u64
    }

    /// Number of tags.
    #[inline(always)]
    pub const fn tags(&self) -> usize {
        (self.outer_tpid != 0) as usize + (self.inner_tpid != 0) as usize
    }
}

/// Per-CPU memory of the programs that look at packets.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct Work {
    /// The packet at hand.
    pub packet: Packet,
    /// Key of the lookup at hand.
    pub key: Key,
    /// Parameters of the kernel's route lookup: `struct bpf_fib_lookup`.
    pub fib: [u64; 8],
    /// Key of `source_allow`: its length, the interface, the address.
    pub allowed: [u32; 6],
    /// Key of `prefix_lengths`.
    pub place: u32,
    /// Key of maps of interfaces.
    pub ifindex: u32,
    /// The kernel's tick in which the clock was read last.
    pub tick: u64,
    /// What it said, on `CLOCK_BOOTTIME`.
    pub now: u64,
}

/// [`PrefixKey`] with its address as numbers.
#[repr(C)]
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct Key {
    /// As `PrefixKey::address_be`.
    pub address: AddressBe,
    /// As `PrefixKey::bits`.
    pub bits: u32,
    /// No part of any key.
    pub reserved: u32,
}

impl Key {
    /// As the map has it.
    pub const fn prefix(&self) -> PrefixKey {
        let (first, second) = (self.address[0].to_ne_bytes(), self.address[1].to_ne_bytes());
        let mut address_be = [0; 16];
        let mut at = 0;
        while at < 8 {
            address_be[at] = first[at];
            address_be[at + 8] = second[at];
            at += 1;
        }
        PrefixKey {
            address_be,
            bits: self.bits,
        }
    }
}

/// Reads the headers of an IPv6 packet behind at most two tags; `false`: it is none, or too short for its headers.
#[inline(always)]
pub fn read<F: frame::Copy + ?Sized>(frame: &F, packet: &mut Packet) -> bool {
    read_link(frame, packet).is_some_and(|ethertype| {
        ethertype == ETHERTYPE_IPV6
            // Each at an offset that the program knows, which costs a tenth of one that it does not.
            && match packet.tags() {
                0 => read_ip::<UNTAGGED, F>(frame, packet),
                1 => read_ip::<ONE_TAG, F>(frame, packet),
                _ => read_ip::<TWO_TAGS, F>(frame, packet),
            }
    })
}

#[inline(always)]
fn read_ip<const AT: usize, F: frame::Copy + ?Sized>(frame: &F, packet: &mut Packet) -> bool {
    packet.ip_offset = AT as u16;
    let header = octets_of(&mut packet.ip);
    (frame.copy_near::<AT>(header) || frame.copy(AT, header))
        && u32::from_be(packet.ip.first_be) >> 28 == 6
}

/// The EtherType behind the tags.
#[inline(always)]
fn read_link<F: Frame + ?Sized>(frame: &F, packet: &mut Packet) -> Option<u16> {
    packet.outer_tpid = 0;
    packet.outer_vid = 0;
    packet.inner_tpid = 0;
    packet.inner_vid = 0;
    packet.destination_mac = frame.load(0)?;
    packet.source_mac = frame.load(6)?;
    let ethertype = frame.load_u16(12)?;
    if !is_tag(ethertype) {
        return Some(ethertype);
    }
    packet.outer_tpid = ethertype;
    packet.outer_vid = frame.load_u16(14)? & 0x0fff;
    let ethertype = frame.load_u16(16)?;
    if !is_tag(ethertype) {
        return Some(ethertype);
    }
    packet.inner_tpid = ethertype;
    packet.inner_vid = frame.load_u16(18)? & 0x0fff;
    frame.load_u16(20)
}

/// The memory of a value, to copy into.
#[inline(always)]
fn octets_of<T: Plain>(value: &mut T) -> &mut [u8] {
    let octets = core::ptr::from_mut(value).cast::<u8>();
    // SAFETY: `Plain` types take any octets and have no padding.
    unsafe { core::slice::from_raw_parts_mut(octets, size_of::<T>()) }
}

/// Any octets are a value, and all octets belong to it.
trait Plain {}
impl Plain for Ipv6Header {}
impl Plain for [u64; 3] {}
impl Plain for u64 {}

/// Whether a header is one that stands before the upper layer (RFC 8200 §4, RFC 6275, 7401, 5533).
#[inline(always)]
pub const fn is_extension(next_header: u8) -> bool {
    matches!(
        next_header,
        HOP_BY_HOP
            | ROUTING
            | FRAGMENT
            | AUTHENTICATION
            | DESTINATION_OPTIONS
            | MOBILITY
            | HOST_IDENTITY
            | SHIM6
    )
}

/// Looks at the upper layer of a packet that was [`read`], behind extension headers too: else a
/// neighbour advertisement would pass behind any of them. Fragments are not looked into: no node
/// takes neighbour discovery out of fragments (RFC 6980 §5).
#[inline(always)]
pub fn upper<F: frame::Copy + ?Sized>(frame: &F, packet: &mut Packet) -> Upper {
    let mut at = packet.ip_offset as usize + IPV6_BYTES;
    let mut next_header = packet.ip.next_header;
    // A header that is cut off has nothing behind it that anybody would act upon.
    for _ in 0..EXTENSIONS_MAX {
        if !is_passed_over(next_header) {
            break;
        }
        if !frame.copy(at, octets_of(&mut packet.upper[0])) {
            return Upper::Ordinary;
        }
        let [next, length, ..] = packet.upper[0].to_ne_bytes();
        next_header = next;
        at += (length as usize + 1) * 8;
    }
    if is_passed_over(next_header) {
        return Upper::Unclear;
    }
    if !matches!(next_header, UDP | ICMPV6) || !read_upper(frame, packet, at) {
        return Upper::Ordinary;
    }
    let [kind, _, high, low, ..] = packet.upper[0].to_ne_bytes();
    if next_header == UDP && u16::from_be_bytes([high, low]) == CLIENT_PORT {
        return Upper::DhcpToClient;
    }
    let is_advertisement = next_header == ICMPV6 && kind == NEIGHBOR_ADVERTISEMENT;
    if is_advertisement && frame.copy(at, octets_of(&mut packet.upper)) {
        return Upper::NeighborAdvertisement([packet.upper[1], packet.upper[2]]);
    }
    Upper::Ordinary
}

/// The first octets of the upper layer, which mostly follows the fixed header at once.
#[inline(always)]
fn read_upper<F: frame::Copy + ?Sized>(frame: &F, packet: &mut Packet, at: usize) -> bool {
    let octets = octets_of(&mut packet.upper[0]);
    let is_read = match at {
        BEHIND_UNTAGGED => frame.copy_near::<BEHIND_UNTAGGED>(octets),
        BEHIND_ONE_TAG => frame.copy_near::<BEHIND_ONE_TAG>(octets),
        BEHIND_TWO_TAGS => frame.copy_near::<BEHIND_TWO_TAGS>(octets),
        _ => false,
    };
    is_read || frame.copy(at, octets)
}

const fn is_passed_over(next_header: u8) -> bool {
    matches!(next_header, HOP_BY_HOP | ROUTING | DESTINATION_OPTIONS)
}
