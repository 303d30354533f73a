//! Names, capacities and memory of the maps, and the reasons that `drop_counters` counts by.
//!
//! The sums are what the kernel takes for a full map; they are there to see what a capacity costs.

/// Hash: ifindex → [`crate::abi::Interface`]. Written by the daemon.
pub const INTERFACES: &str = "interfaces";
/// Hash: [`crate::abi::OwnAddress`] → ifindex. Written by the daemon.
pub const OWN_ADDRESSES: &str = "own_addresses";
/// Array of one: [`crate::abi::Daemon`]. Written by the daemon.
pub const DAEMON: &str = "daemon";
/// Per-CPU array: [`DropReason`] → [`crate::abi::Refused`].
pub const DROP_COUNTERS: &str = "drop_counters";
/// Per-CPU array: [`packets_place`] of an ifindex → [`crate::abi::XdpPackets`].
pub const XDP_PACKETS: &str = "xdp_packets";
/// LRU hash: [`crate::abi::ClientKey`] → [`crate::abi::TokenBucket`].
pub const CLIENT_RATE: &str = "client_rate";
/// Hash: ifindex → [`crate::abi::TokenBucket`].
pub const INTERFACE_RATE: &str = "interface_rate";
/// Ring buffer: [`crate::abi::RecordHeader`] and frame.
pub const DHCP_FRAMES: &str = "dhcp_frames";
/// Hash: [`crate::abi::AddressKey`] → [`crate::abi::Binding`]. Written by the daemon.
pub const ADDR_BINDINGS: &str = "addr_bindings";
/// Hash: [`crate::abi::PrefixKey`] → [`crate::abi::Binding`]. Written by the daemon.
pub const PREFIX_BINDINGS: &str = "prefix_bindings";
/// Array: [`lengths_place`] of an address → [`crate::abi::PrefixLengths`]. Written by the daemon.
pub const PREFIX_LENGTHS: &str = "prefix_lengths";
/// Per-CPU array: slot of a binding → [`crate::abi::BindingStats`].
pub const BINDING_STATS: &str = "binding_stats";
/// Trie: [`crate::abi::AllowedSource`] → 1. Written by the daemon.
pub const SOURCE_ALLOW: &str = "source_allow";
/// Hash of devices: ifindex → the same, where packets may be forwarded to. Written by the daemon.
pub const EGRESS: &str = "egress";
/// Per-CPU array of one: [`crate::packet::Work`]. Private to the programs; need not be pinned.
pub const WORK: &str = "work";
/// Per-CPU array of one: [`crate::abi::Scratch`]. Private to the program; need not be pinned.
pub const SCRATCH: &str = "scratch";

/// The maps that a new daemon adopts from the old one.
pub const PINNED: &[&str] = &[
    INTERFACES,
    OWN_ADDRESSES,
    DAEMON,
    DROP_COUNTERS,
    XDP_PACKETS,
    CLIENT_RATE,
    INTERFACE_RATE,
    DHCP_FRAMES,
    ADDR_BINDINGS,
    PREFIX_BINDINGS,
    PREFIX_LENGTHS,
    BINDING_STATS,
    SOURCE_ALLOW,
    EGRESS,
];

/// The program on access interfaces.
pub const ACCESS_INGRESS: &str = "access_ingress";
/// The program on core interfaces.
pub const CORE_INGRESS: &str = "core_ingress";

/// 4096 × (48 bucket and element + 8 key + 48 value) = 416 KiB.
pub const INTERFACES_CAPACITY: usize = 4096;
/// 4096 × (48 + 16 + 8) = 288 KiB.
pub const OWN_ADDRESSES_CAPACITY: usize = 4096;
/// 4096 × CPUs × 32: 512 KiB on 4 CPUs.
pub const XDP_PACKETS_CAPACITY: usize = 4096;
/// 65536 × (80 + 32 + 8) = 7.5 MiB. Clients beyond it push out those heard of longest ago, whose
/// bucket would be full again.
pub const CLIENT_RATE_CAPACITY: usize = 65_536;
/// 4096 × (48 + 8 + 8) = 256 KiB.
pub const INTERFACE_RATE_CAPACITY: usize = 4096;
/// The default of `max_bindings`; the daemon chooses. An entry takes memory when it comes: 182 octets measured
/// for the element and its share of the buckets with a value of 64.
pub const BINDINGS_CAPACITY: usize = 1 << 20;
/// 4096 × 24 = 96 KiB, of which a pool uses few.
pub const PREFIX_LENGTHS_CAPACITY: usize = 4096;
/// 1024 × (48 + 24 + 8) = 80 KiB.
pub const SOURCE_ALLOW_CAPACITY: usize = 1024;
/// 4096 × (64 + 8) = 288 KiB.
pub const EGRESS_CAPACITY: usize = 4096;
/// The default; the daemon may choose another power of two of at least a page. At 32 + 8 bytes
/// around each frame of some 200 bytes this is 70,000 messages.
pub const DHCP_FRAMES_BYTES: usize = 16 * 1024 * 1024;

/// Where in `xdp_packets` an interface counts. Two interfaces share a place where their indices differ
/// by a multiple of the capacity; a hash would tell them apart, at ten times the cost for every frame.
#[inline(always)]
pub const fn packets_place(ifindex: u32) -> u32 {
    ifindex % XDP_PACKETS_CAPACITY as u32
}

/// Where in `prefix_lengths` an address finds the lengths of the bindings that it may belong to: by its first
/// 48 bits, because addresses and delegated prefixes, and pools of different lengths, mostly differ there.
/// Two places in one are no harm: there both find the lengths of both.
#[inline(always)]
pub const fn lengths_place(first_half: u64) -> u32 {
    ((first_half >> 16).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 52) as u32
}

macro_rules! drop_reasons {
    ($($(#[$doc:meta])* $variant:ident => $label:literal;)+) => {
        /// Why a DHCPv6 frame did not reach the ring, or a packet the other side: index into
        /// `drop_counters`.
        #[repr(u32)]
        #[derive(Clone, Copy, PartialEq, Eq, Debug)]
        pub enum DropReason { $($(#[$doc])* $variant,)+ }

        impl DropReason {
            /// All, in the order of their discriminants.
            pub const ALL: &'static [Self] = &[$(Self::$variant),+];

            /// The label of the counter.
            pub const fn name(self) -> &'static str {
                match self { $(Self::$variant => $label,)+ }
            }
        }
    };
}

drop_reasons! {
    /// More messages from this client than `per_client` allows.
    ClientRate => "client_rate";
    /// More messages from this interface than `per_interface` allows.
    InterfaceRate => "interface_rate";
    /// The ring is more than three quarters full, and the message was one that may wait.
    Overload => "overload";
    /// The ring had no room; the kernel's stack has the frame.
    RingFull => "ring_full";
    /// No daemon reads the ring; the kernel's stack has the frame.
    NoHeartbeat => "no_heartbeat";
    /// The frame is larger than a record may be; the kernel's stack has it.
    Oversized => "oversized";
    /// No binding holds the source address (RFC 7513 §8.1).
    SourceUnbound => "source_unbound";
    /// The source address is bound, but to another client, interface or VLAN.
    SourceForeign => "source_foreign";
    /// The source address was bound, and its valid lifetime is over.
    SourceExpired => "source_expired";
    /// A neighbour advertisement for an address that is not the client's (RFC 7513 §8.2).
    NeighborTarget => "neighbor_target";
    /// A DHCPv6 message to a client, from a client (RFC 7513 §8.2).
    ServerMessage => "server_message";
    /// More extension headers than the guard reads.
    HeaderChain => "header_chain";
    /// To a lease of the client that sent it (RFC 8987 R-5).
    Loop => "loop";
    /// To a binding whose valid lifetime is over.
    Expired => "expired";
}

/// Number of places in `drop_counters`.
pub const DROP_REASONS: usize = DropReason::ALL.len();

#[cfg(test)]
mod tests {
    use super::*;

    /// The kernel keeps 15 characters of a map's or program's name.
    #[test]
    fn every_name_fits_the_kernel() {
        for name in PINNED
            .iter()
            .chain([&SCRATCH, &WORK, &ACCESS_INGRESS, &CORE_INGRESS])
        {
            assert!(name.len() <= 15, "{name}");
        }
    }

    #[test]
    fn discriminants_of_reasons_are_their_places() {
        for (place, &reason) in DropReason::ALL.iter().enumerate() {
            assert_eq!(reason as usize, place);
        }
    }
}
