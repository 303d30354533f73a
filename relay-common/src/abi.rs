//! Keys, values and records that the kernel programs and the daemon exchange.
//!
//! Only integers and byte arrays with names, every offset stated and no padding: the compiler cannot
//! move anything, `Pod` is true, and `bpftool map dump` reads well. Integers are in host order;
//! names that end in `_be` hold network order. Knows nothing of how the values come about.
//!
//! A change of any layout, or of what a field means, needs a new [`LAYOUT`].

use crate::net::{MacAddr, VlanTags};

/// Number of the layouts in this file; a daemon adopts only maps that bear its own number.
pub const LAYOUT: u32 = 4;

macro_rules! shared {
    ($ty:ident { $($field:ident @ $at:literal),+ } size $size:literal) => {
        const _: () = {
            assert!(size_of::<$ty>() == $size);
            $(assert!(core::mem::offset_of!($ty, $field) == $at);)+
            // The widths fill the size: no padding.
            assert!($size == 0 $(+ width(|it: &$ty| &it.$field))+);
        };
        #[cfg(feature = "user")]
        // SAFETY: `repr(C)`, integers and byte arrays only, no padding (asserted above).
        unsafe impl aya::Pod for $ty {}
    };
}

const fn width<T, F>(_: fn(&T) -> &F) -> usize {
    size_of::<F>()
}

/// [`Interface::role`]: clients are there.
pub const ROLE_ACCESS: u32 = 1;
/// [`Interface::role`]: servers and the Internet are there.
pub const ROLE_CORE: u32 = 2;
/// [`Interface::flags`]: RELAY-FORW to an own address is captured too.
pub const FLAG_ACCEPT_RELAYED: u32 = 1;
/// [`Interface::flags`]: the source guard looks at every packet; what it refuses is counted.
pub const FLAG_GUARD: u32 = 2;
/// [`Interface::flags`]: what the guard refuses is dropped too, while the relay is ready.
pub const FLAG_ENFORCE: u32 = 4;
/// [`Interface::flags`]: packets of subscribers are forwarded here without the kernel's stack.
pub const FLAG_FORWARD: u32 = 8;
/// [`Interface::flags`]: what a client sends to its own lease is dropped (RFC 8987 R-5).
pub const FLAG_ANTI_LOOP: u32 = 16;
/// Places in [`Interface::macs`].
pub const INTERFACE_MACS: usize = 4;

/// Value of `interfaces`; its key is the ifindex.
#[repr(C)]
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Interface {
    /// [`ROLE_ACCESS`] or [`ROLE_CORE`].
    pub role: u32,
    /// Some of the `FLAG_` constants.
    pub flags: u32,
    /// Messages a second from one client; 0 is no limit.
    pub client_rate: u32,
    /// Messages a second from the whole interface; 0 is no limit.
    pub interface_rate: u32,
    /// How many places of `macs` are taken.
    pub mac_count: u32,
    /// The unicast addresses it may receive on: its own, and a VRRP child's.
    pub macs: [[u8; 6]; INTERFACE_MACS],
    /// Octets of the largest IPv6 packet that it sends.
    pub mtu: u32,
}
shared!(Interface {
    role @ 0, flags @ 4, client_rate @ 8, interface_rate @ 12, mac_count @ 16, macs @ 20,
    mtu @ 44
} size 48);

/// Key of `own_addresses`; its value is the ifindex that bears the address.
#[repr(C)]
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct OwnAddress {
    /// Network order.
    pub address_be: [u8; 16],
}
shared!(OwnAddress { address_be @ 0 } size 16);

/// The one value of `daemon`.
#[repr(C)]
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Daemon {
    /// [`LAYOUT`] of the daemon that writes here; 0: none ever did.
    pub layout: u32,
    /// 1: it looks at the ring by itself, so frames wake nobody; 0: it waits to be woken.
    pub quiet: u32,
    /// When the daemon last said that it reads the ring, on `CLOCK_BOOTTIME`.
    pub heartbeat_boot_nanos: u64,
    /// 1: its table of bindings is complete, so the source guard may drop; 0: it counts only (DP-25).
    pub ready: u32,
    /// 1: some interface has a flag that concerns packets other than DHCPv6; 0: they pass unseen.
    pub data_path: u32,
}
shared!(Daemon {
    layout @ 0, quiet @ 4, heartbeat_boot_nanos @ 8, ready @ 16, data_path @ 20
} size 24);

/// A heartbeat older than this means that nobody reads the ring.
pub const HEARTBEAT_AGE_MAX_NANOS: u64 = 1_000_000_000;

/// Value of `xdp_packets`, per CPU; its key is [`crate::maps::packets_place`] of the ifindex.
#[repr(C)]
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct XdpPackets {
    /// Left to the kernel's stack.
    pub passed: u64,
    /// Written to the ring; the kernel's stack does not see them.
    pub captured: u64,
    /// Dropped; `drop_counters` says why.
    pub dropped: u64,
    /// Sent out of another interface; the kernel's stack does not see them.
    pub forwarded: u64,
}
shared!(XdpPackets { passed @ 0, captured @ 8, dropped @ 16, forwarded @ 24 } size 32);

/// Value of `drop_counters`, per CPU: what became of the packets that met a reason.
#[repr(C)]
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct Refused {
    /// Nobody has them.
    pub dropped: u64,
    /// The kernel's stack has them: the reason says only why nothing else was done.
    pub passed: u64,
}
shared!(Refused { dropped @ 0, passed @ 8 } size 16);

/// Key of `addr_bindings`.
#[repr(C)]
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub struct AddressKey {
    /// Network order.
    pub address_be: [u8; 16],
}
shared!(AddressKey { address_be @ 0 } size 16);

/// Key of `prefix_bindings`: a prefix of exactly this length.
#[repr(C)]
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub struct PrefixKey {
    /// Network order; the bits behind the prefix are zero.
    pub address_be: [u8; 16],
    /// 1 to 127; an address of 128 bits is in `addr_bindings`.
    pub bits: u32,
}
shared!(PrefixKey { address_be @ 0, bits @ 16 } size 20);

/// [`Binding::flags`]: the relay wants a route to it, so packets to it may be forwarded.
pub const BINDING_ROUTED: u16 = 1;

/// Value of `addr_bindings` and `prefix_bindings`: everything that checking, counting and forwarding
/// a subscriber's packet takes.
#[repr(C)]
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Binding {
    /// End of the valid lifetime on `CLOCK_BOOTTIME`; the largest number is never. From then on nothing is
    /// forwarded, whether a daemon lives or not.
    pub valid_until_boot_nanos: u64,
    /// The access interface where the client is; for a tagged client the one that carries its tags.
    pub ifindex: u32,
    /// Place in `binding_stats`.
    pub slot: u32,
    /// The client's MAC address.
    pub client_mac: [u8; 6],
    /// 0x8100 or 0x88a8; 0 where the client is untagged.
    pub outer_tpid: u16,
    /// VLAN identifier, without priority bits.
    pub outer_vid: u16,
    /// As `outer_tpid`; 0 wherever that is 0.
    pub inner_tpid: u16,
    /// As `outer_vid`.
    pub inner_vid: u16,
    /// [`BINDING_ROUTED`] or none.
    pub flags: u16,
}
shared!(Binding {
    valid_until_boot_nanos @ 0, ifindex @ 8, slot @ 12, client_mac @ 16, outer_tpid @ 22,
    outer_vid @ 24, inner_tpid @ 26, inner_vid @ 28, flags @ 30
} size 32);

/// Value of `binding_stats`, per CPU. Octets are those of IPv6 packets, headers included.
#[repr(C)]
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct BindingStats {
    /// Packets from the subscriber.
    pub rx_packets: u64,
    /// Octets from the subscriber.
    pub rx_bytes: u64,
    /// Packets to the subscriber.
    pub tx_packets: u64,
    /// Octets to the subscriber.
    pub tx_bytes: u64,
}
shared!(BindingStats { rx_packets @ 0, rx_bytes @ 8, tx_packets @ 16, tx_bytes @ 24 } size 32);

/// Places in [`PrefixLengths`].
pub const LENGTHS_MAX: usize = 8;

/// Value of `prefix_lengths`: the lengths of the bindings that an address may belong to.
#[repr(C)]
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct PrefixLengths {
    /// Each once, the longest first, zeros behind; 128 stands for `addr_bindings`.
    pub lengths: [u8; LENGTHS_MAX],
    /// For each length how many bits of the first half of an address do not count: 0 to 63.
    pub first_shifts: [u8; LENGTHS_MAX],
    /// For each length one less than how many bits of the second half do not count: 0 to 63.
    pub second_shifts: [u8; LENGTHS_MAX],
}
shared!(PrefixLengths { lengths @ 0, first_shifts @ 8, second_shifts @ 16 } size 24);

impl PrefixLengths {
    /// Of these lengths, 1 to 128, the longest first. Shifts are worked out here because a choice between
    /// cases costs the verifier more than all else: for each length it goes every way.
    pub fn new(lengths: impl IntoIterator<Item = u8>) -> Self {
        let mut new = Self::default();
        for (place, length) in lengths.into_iter().take(LENGTHS_MAX).enumerate() {
            new.lengths[place] = length;
            new.first_shifts[place] = 64 - length.min(64);
            new.second_shifts[place] = 127u8.saturating_sub(length.max(64));
        }
        new
    }
}

/// Data of the keys of `source_allow`, a trie for the longest match: the interface is part of each prefix.
#[repr(C)]
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct AllowedSource {
    /// The access interface.
    pub ifindex: u32,
    /// Network order.
    pub address_be: [u8; 16],
}
shared!(AllowedSource { ifindex @ 0, address_be @ 4 } size 20);
/// Bits of a key of `source_allow` before those of the prefix.
pub const ALLOWED_SOURCE_BITS: u32 = 32;

/// [`ClientKey::kind`]: `client` holds a MAC address and ten zeros.
pub const CLIENT_BY_MAC: u32 = 0;
/// [`ClientKey::kind`]: `client` holds the peer-address of the innermost RELAY-FORW.
pub const CLIENT_BY_PEER_ADDRESS: u32 = 1;

/// Key of `client_rate`: whose messages share one bucket.
#[repr(C)]
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct ClientKey {
    /// Where the client is.
    pub ifindex: u32,
    /// VLAN identifier of the outer tag; 0 where there is none.
    pub outer_vid: u16,
    /// VLAN identifier of the inner tag; 0 where there is none.
    pub inner_vid: u16,
    /// [`CLIENT_BY_MAC`] or [`CLIENT_BY_PEER_ADDRESS`].
    pub kind: u32,
    /// See `kind`.
    pub client: [u8; 16],
}
shared!(ClientKey {
    ifindex @ 0, outer_vid @ 4, inner_vid @ 6, kind @ 8, client @ 12
} size 28);

/// Value of `client_rate` and `interface_rate`: a token bucket as the time when it is full again.
#[repr(C)]
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct TokenBucket {
    /// On `CLOCK_BOOTTIME`; in the past means full. See [`crate::rate`].
    pub full_at_boot_nanos: u64,
}
shared!(TokenBucket { full_at_boot_nanos @ 0 } size 8);

/// What stands before each frame in `dhcp_frames`: 32 bytes, then `frame_bytes` bytes as received.
#[repr(C)]
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct RecordHeader {
    /// On `CLOCK_BOOTTIME`.
    pub received_at_boot_nanos: u64,
    /// Where it came in.
    pub ifindex: u32,
    /// Length of the frame behind this header.
    pub frame_bytes: u32,
    /// Source address of the frame.
    pub client_mac: [u8; 6],
    /// 0x8100 or 0x88a8; 0 where there is no tag.
    pub outer_tpid: u16,
    /// Priority bits and VLAN identifier.
    pub outer_tci: u16,
    /// As `outer_tpid`; 0 wherever that is 0.
    pub inner_tpid: u16,
    /// As `outer_tci`.
    pub inner_tci: u16,
    /// Where the IPv6 header starts in the frame: 14, 18 or 22. UDP follows 40 bytes later.
    pub ip_offset: u16,
}
shared!(RecordHeader {
    received_at_boot_nanos @ 0, ifindex @ 8, frame_bytes @ 12, client_mac @ 16, outer_tpid @ 22,
    outer_tci @ 24, inner_tpid @ 26, inner_tci @ 28, ip_offset @ 30
} size 32);

/// Bytes of [`RecordHeader`].
pub const RECORD_HEADER_BYTES: usize = size_of::<RecordHeader>();
/// The largest frame that goes into the ring: a 9000-byte MTU, two tags and some room.
pub const FRAME_BYTES_MAX: usize = 9216;

/// Per-CPU space where a record is put together: `header | frame`.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct Scratch {
    /// Header of the record.
    pub header: RecordHeader,
    /// The frame.
    pub frame: [u8; FRAME_BYTES_MAX],
}
shared!(Scratch { header @ 0, frame @ 32 } size 9248);

impl RecordHeader {
    /// Splits a record of the ring; `None` where it is no record of ours (cannot happen while
    /// program and daemon share one layout).
    pub fn split(record: &[u8]) -> Option<(Self, &[u8])> {
        let (header, frame) = record.split_first_chunk::<RECORD_HEADER_BYTES>()?;
        let u16_at = |at: usize| u16::from_ne_bytes([header[at], header[at + 1]]);
        let u32_at = |at: usize| {
            u32::from_ne_bytes([header[at], header[at + 1], header[at + 2], header[at + 3]])
        };
        let mut nanos = [0; 8];
        nanos.copy_from_slice(&header[..8]);
        let mut client_mac = [0; 6];
        client_mac.copy_from_slice(&header[16..22]);
        let header = Self {
            received_at_boot_nanos: u64::from_ne_bytes(nanos),
            ifindex: u32_at(8),
            frame_bytes: u32_at(12),
            client_mac,
            outer_tpid: u16_at(22),
            outer_tci: u16_at(24),
            inner_tpid: u16_at(26),
            inner_tci: u16_at(28),
            ip_offset: u16_at(30),
        };
        let frame = frame.get(..header.frame_bytes as usize)?;
        Some((header, frame))
    }

    /// The client's address on the link.
    pub const fn mac(&self) -> MacAddr {
        MacAddr(self.client_mac)
    }

    /// The frame's tags, without priority bits.
    pub const fn tags(&self) -> VlanTags {
        VlanTags::from_tci(
            self.outer_tpid,
            self.outer_tci,
            self.inner_tpid,
            self.inner_tci,
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn record_split_returns_the_header_and_exactly_the_frame() {
        let mut record = [0u8; RECORD_HEADER_BYTES + 8];
        record[0..8].copy_from_slice(&7u64.to_ne_bytes());
        record[8..12].copy_from_slice(&3u32.to_ne_bytes());
        record[12..16].copy_from_slice(&5u32.to_ne_bytes());
        record[22..24].copy_from_slice(&0x8100u16.to_ne_bytes());
        record[24..26].copy_from_slice(&0xe064u16.to_ne_bytes());

        let (header, frame) = RecordHeader::split(&record).expect("long enough");

        assert_eq!((header.received_at_boot_nanos, header.ifindex), (7, 3));
        assert_eq!(frame.len(), 5);
        assert_eq!(header.tags().outer().map(|tag| tag.vid), Some(0x64));
    }

    #[test]
    fn record_split_of_a_record_shorter_than_it_says_is_none() {
        let mut record = [0u8; RECORD_HEADER_BYTES];
        record[12..16].copy_from_slice(&1u32.to_ne_bytes());

        assert!(RecordHeader::split(&record).is_none());
        assert!(RecordHeader::split(&record[1..]).is_none());
    }
}
