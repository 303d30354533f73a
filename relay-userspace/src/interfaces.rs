//! What the kernel says of this router's interfaces, as one immutable snapshot.
//!
//! `routes/monitor.rs` publishes a new [`InterfaceTable`] through a `tokio::sync::watch` channel
//! whenever rtnetlink reports a change. Nothing here decides anything.

use std::net::Ipv6Addr;

use relay_common::net::{MacAddr, VlanTag};
use relay_core::types::{IfIndex, Prefix};

/// All interfaces, ordered by index.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct InterfaceTable {
    /// Ordered by index.
    pub interfaces: Vec<Interface>,
}

/// One interface.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Interface {
    /// Kernel index.
    pub index: IfIndex,
    /// Kernel name.
    pub name: String,
    /// `None` where it has no 6-byte link-layer address.
    pub mac: Option<MacAddr>,
    /// Administratively up.
    pub up: bool,
    /// Has carrier.
    pub carrier: bool,
    /// Bytes of layer 3.
    pub mtu: u32,
    /// For a VLAN interface: what carries it, and the tag it takes off.
    pub vlan: Option<(IfIndex, VlanTag)>,
    /// For a macvlan (a VRRP child with `use_vmac`): its parent.
    pub macvlan_parent: Option<IfIndex>,
    /// In the kernel's order: Linux lists the newest global address first.
    pub addresses: Vec<InterfaceAddress>,
}

/// One IPv6 address of an interface.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct InterfaceAddress {
    /// The address.
    pub address: Ipv6Addr,
    /// Length of its on-link prefix.
    pub prefix_bits: u8,
    /// IFA_F_TEMPORARY.
    pub temporary: bool,
    /// IFA_F_TENTATIVE or IFA_F_DADFAILED.
    pub tentative: bool,
    /// IFA_F_DEPRECATED.
    pub deprecated: bool,
    /// Who added it (IFA_PROTO); keepalived is 18. 0 where the kernel does not say.
    pub protocol: u8,
}

impl InterfaceAddress {
    /// The on-link network of this address.
    pub fn network(&self) -> Option<Prefix> {
        Prefix::new(self.address, self.prefix_bits)
    }
}

impl InterfaceTable {
    /// By name.
    pub fn by_name(&self, name: &str) -> Option<&Interface> {
        self.interfaces
            .iter()
            .find(|interface| interface.name == name)
    }

    /// By index.
    pub fn by_index(&self, index: IfIndex) -> Option<&Interface> {
        self.interfaces
            .iter()
            .find(|interface| interface.index == index)
    }
}
