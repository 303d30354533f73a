//! Names, capacities and memory of the maps, and the reasons that `drop_counters` counts by.
//!
//! The sums are what the kernel takes for a full map; they are there to see what a capacity costs.

/// Hash: ifindex → [`crate::abi::Interface`]. Written by the daemon.
pub const INTERFACES: &str = "interfaces";
/// Hash: [`crate::abi::OwnAddress`] → ifindex. Written by the daemon.
pub const OWN_ADDRESSES: &str = "own_addresses";
/// Array of one: [`crate::abi::Daemon`]. Written by the daemon.
pub const DAEMON: &str = "daemon";
/// Per-CPU array: [`DropReason`] → packets.
pub const DROP_COUNTERS: &str = "drop_counters";
/// Per-CPU array: [`packets_place`] of an ifindex → [`crate::abi::XdpPackets`].
pub const XDP_PACKETS: &str = "xdp_packets";
/// LRU hash: [`crate::abi::ClientKey`] → [`crate::abi::TokenBucket`].
pub const CLIENT_RATE: &str = "client_rate";
/// Hash: ifindex → [`crate::abi::TokenBucket`].
pub const INTERFACE_RATE: &str = "interface_rate";
/// Ring buffer: [`crate::abi::RecordHeader`] and frame.
pub const DHCP_FRAMES: &str = "dhcp_frames";
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
];

/// The program on access interfaces.
pub const ACCESS_INGRESS: &str = "access_ingress";

/// 4096 × (48 bucket and element + 8 key + 48 value) = 416 KiB.
pub const INTERFACES_CAPACITY: usize = 4096;
/// 4096 × (48 + 16 + 8) = 288 KiB.
pub const OWN_ADDRESSES_CAPACITY: usize = 4096;
/// 4096 × CPUs × 24: 384 KiB on 4 CPUs.
pub const XDP_PACKETS_CAPACITY: usize = 4096;
/// 65536 × (80 + 32 + 8) = 7.5 MiB. Clients beyond it push out those heard of longest ago, whose
/// bucket would be full again.
pub const CLIENT_RATE_CAPACITY: usize = 65_536;
/// 4096 × (48 + 8 + 8) = 256 KiB.
pub const INTERFACE_RATE_CAPACITY: usize = 4096;
/// The default; the daemon may choose another power of two of at least a page. At 32 + 8 bytes
/// around each frame of some 200 bytes this is 70,000 messages.
pub const DHCP_FRAMES_BYTES: usize = 16 * 1024 * 1024;

/// Where in `xdp_packets` an interface counts. Two interfaces share a place where their indices differ
/// by a multiple of the capacity; a hash would tell them apart, at ten times the cost for every frame.
#[inline(always)]
pub const fn packets_place(ifindex: u32) -> u32 {
    ifindex % XDP_PACKETS_CAPACITY as u32
}

macro_rules! drop_reasons {
    ($($(#[$doc:meta])* $variant:ident => $label:literal, dropped: $dropped:literal;)+) => {
        /// Why a DHCPv6 frame did not reach the ring: index into `drop_counters`.
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

            /// Whether the frame ended here; if not, the kernel's stack had it.
            pub const fn is_dropped(self) -> bool {
                match self { $(Self::$variant => $dropped,)+ }
            }
        }
    };
}

drop_reasons! {
    /// More messages from this client than `per_client` allows.
    ClientRate => "client_rate", dropped: true;
    /// More messages from this interface than `per_interface` allows.
    InterfaceRate => "interface_rate", dropped: true;
    /// The ring is more than three quarters full, and the message was one that may wait.
    Overload => "overload", dropped: true;
    /// The ring had no room; the kernel's stack has the frame.
    RingFull => "ring_full", dropped: false;
    /// No daemon reads the ring; the kernel's stack has the frame.
    NoHeartbeat => "no_heartbeat", dropped: false;
    /// The frame is larger than a record may be; the kernel's stack has it.
    Oversized => "oversized", dropped: false;
}

/// Number of places in `drop_counters`.
pub const DROP_REASONS: usize = DropReason::ALL.len();

#[cfg(test)]
mod tests {
    use super::*;

    /// The kernel keeps 15 characters of a map's or program's name.
    #[test]
    fn every_name_fits_the_kernel() {
        for name in PINNED.iter().chain([&SCRATCH, &ACCESS_INGRESS]) {
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
