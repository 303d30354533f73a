//! Names for things that must not be mixed up.

use core::fmt;
use core::net::Ipv6Addr;

use relay_common::net::VlanTags;

/// A kernel interface index; changes when an interface is deleted and made anew.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct IfIndex(pub u32);

/// A configured access interface. The shell gives each interface name one number for its whole
/// life, so that a reload or a new [`IfIndex`] does not orphan bindings.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct AccessId(pub u16);

impl AccessId {
    /// Of leases that a peer told and that no link of ours is known for (ALQ-D-4). No interface has it.
    pub const UNMAPPED: Self = Self(u16::MAX);

    /// Its place in a list by access interface, in which [`AccessId::UNMAPPED`] is the first.
    pub(crate) const fn place(self) -> usize {
        self.0.wrapping_add(1) as usize
    }

    /// Who has this place in such a list.
    pub(crate) const fn at_place(place: usize) -> Self {
        Self((place as u16).wrapping_sub(1))
    }
}

/// A configured server; like [`AccessId`], one number per name for the life of the shell.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct ServerId(pub u16);

/// A configured peer of Active Leasequery; like [`AccessId`], one number per name for the life of
/// the shell.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct PeerId(pub u16);

/// Where a client is attached: access interface and VLAN tags. What SNP-1 calls the interface.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct AccessLink {
    /// The access interface.
    pub access: AccessId,
    /// The tags of the client's frames.
    pub vlans: VlanTags,
}

/// A DHCPv6 transaction-id, 24 bits (RFC 8415 §8).
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Xid(pub u32);

/// A DUID has at most this many bytes: 2 of type and 128 (RFC 8415 §11.1).
pub const MAX_DUID_BYTES: usize = 130;

/// A DUID that can be a key: compared for equality, never looked into.
// req: SNP-2
pub fn usable_duid(duid: &[u8]) -> Option<&[u8]> {
    (1..=MAX_DUID_BYTES).contains(&duid.len()).then_some(duid)
}

/// An identity association identifier (RFC 8415 §12).
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Iaid(pub u32);

/// The type of an identity association; the IAID number spaces are separate (SNP-1).
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum IaType {
    /// Non-temporary addresses (option 3).
    Na,
    /// Temporary addresses (option 4).
    Ta,
    /// Delegated prefixes (option 25).
    Pd,
}

impl IaType {
    /// The name that `show` prints: `IA_NA`, `IA_TA`, `IA_PD`.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Na => "IA_NA",
            Self::Ta => "IA_TA",
            Self::Pd => "IA_PD",
        }
    }
}

/// An address with a prefix length; host bits are always zero.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Prefix {
    address: Ipv6Addr,
    bits: u8,
}

impl Prefix {
    /// `address` cut to `bits`. `None` where `bits` is above 128.
    pub const fn new(address: Ipv6Addr, bits: u8) -> Option<Self> {
        if bits > 128 {
            return None;
        }
        let mask = if bits == 0 {
            0
        } else {
            u128::MAX << (128 - bits)
        };
        Some(Self {
            address: Ipv6Addr::from_bits(address.to_bits() & mask),
            bits,
        })
    }

    /// One address: a /128.
    pub const fn host(address: Ipv6Addr) -> Self {
        Self { address, bits: 128 }
    }

    /// The first address.
    pub const fn address(&self) -> Ipv6Addr {
        self.address
    }

    /// The prefix length in bits, 0 to 128.
    pub const fn bits(&self) -> u8 {
        self.bits
    }

    /// Whether `other` lies inside this prefix or equals it.
    pub fn covers(&self, other: &Prefix) -> bool {
        self.bits <= other.bits
            && Self::new(other.address, self.bits).is_some_and(|cut| cut.address == self.address)
    }

    /// Whether `address` lies inside this prefix.
    pub fn contains(&self, address: Ipv6Addr) -> bool {
        self.covers(&Self::host(address))
    }
}

impl fmt::Display for Prefix {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.address, self.bits)
    }
}

impl fmt::Debug for Prefix {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}
