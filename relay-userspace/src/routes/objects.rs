//! Links, addresses, routes and neighbours as netlink messages (`<linux/rtnetlink.h>`,
//! `<linux/if_link.h>`, `<linux/neighbour.h>`). Decides which attributes are written and read,
//! not which objects should exist.

use std::net::Ipv6Addr;

use relay_common::net::{MacAddr, VlanTag};
use relay_core::types::{IfIndex, Prefix};

use super::message::{Attributes, Batch, Message, fixed, read_ipv6, read_u32};
use crate::interfaces::{Interface, InterfaceAddress};

const AF_INET6: u8 = 10;

const IFLA_ADDRESS: u16 = 1;
const IFLA_IFNAME: u16 = 3;
const IFLA_MTU: u16 = 4;
const IFLA_LINK: u16 = 5;
const IFLA_LINKINFO: u16 = 18;
const IFLA_EXT_MASK: u16 = 29;
const IFLA_LINK_NETNSID: u16 = 37;
const IFLA_INFO_KIND: u16 = 1;
const IFLA_INFO_DATA: u16 = 2;
const IFLA_VLAN_ID: u16 = 1;
const IFLA_VLAN_PROTOCOL: u16 = 5;
const RTEXT_FILTER_SKIP_STATS: u32 = 1 << 3;
const IFF_UP: u32 = 1;
const IFF_LOWER_UP: u32 = 0x1_0000;

const IFA_ADDRESS: u16 = 1;
const IFA_LOCAL: u16 = 2;
const IFA_FLAGS: u16 = 8;
const IFA_PROTO: u16 = 11;
const IFA_F_TEMPORARY: u32 = 0x01;
const IFA_F_DADFAILED: u32 = 0x08;
const IFA_F_DEPRECATED: u32 = 0x20;
const IFA_F_TENTATIVE: u32 = 0x40;

const RTA_DST: u16 = 1;
const RTA_OIF: u16 = 4;
const RTA_GATEWAY: u16 = 5;
const RTA_PRIORITY: u16 = 6;
const RTA_TABLE: u16 = 15;
const RTM_F_CLONED: u32 = 0x200;
const RTN_UNICAST: u8 = 1;
const RTN_UNREACHABLE: u8 = 7;
const RT_TABLE_UNSPEC: u8 = 0;

const NDA_DST: u16 = 1;
const NDA_LLADDR: u16 = 2;
const NDA_PROTOCOL: u16 = 12;
const NTF_EXT_LEARNED: u8 = 0x10;
const NUD_STALE: u16 = 0x04;
const NUD_PERMANENT: u16 = 0x80;

/// Where a route leads.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Target {
    /// To a neighbour.
    Via {
        /// Its address.
        gateway: Ipv6Addr,
        /// The interface that it is on.
        interface: IfIndex,
    },
    /// Nowhere: the sender gets ICMPv6 "no route".
    Unreachable,
    /// Anything else: several next hops, no gateway, blackholes; never ours.
    Other,
}

/// A route of the kernel.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct KernelRoute {
    /// Destination.
    pub prefix: Prefix,
    /// Table.
    pub table: u32,
    /// Who made it.
    pub protocol: u8,
    /// Metric.
    pub metric: u32,
    /// Where it leads.
    pub target: Target,
    /// Over which interface, whatever the target is.
    pub interface: Option<IfIndex>,
}

/// What names a route of ours in the kernel, for writing and deleting.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct RouteKey {
    /// Destination.
    pub prefix: Prefix,
    /// Table.
    pub table: u32,
    /// Our mark.
    pub protocol: u8,
    /// Metric.
    pub metric: u32,
}

/// Adds a message that makes a route. Never with NLM_F_REPLACE: where a route with this
/// destination and metric exists, whosever it is, the kernel answers EEXIST.
pub fn create_route(batch: &mut Batch, sequence: u32, key: &RouteKey, target: Target) {
    let flags = libc::NLM_F_REQUEST | libc::NLM_F_CREATE | libc::NLM_F_EXCL;
    let kind = match target {
        Target::Unreachable => RTN_UNREACHABLE,
        Target::Via { .. } | Target::Other => RTN_UNICAST,
    };
    begin_route(
        batch,
        libc::RTM_NEWROUTE,
        super::netlink::flag(flags),
        sequence,
        key,
        kind,
    );
    if let Target::Via { gateway, interface } = target {
        batch.attribute(RTA_GATEWAY, &gateway.octets());
        batch.attribute_u32(RTA_OIF, interface.0);
    }
}

/// Adds a message that deletes a route of ours. The kernel compares protocol and metric: it finds
/// nothing (ESRCH) rather than a route that is not ours.
pub fn delete_route(batch: &mut Batch, sequence: u32, key: &RouteKey) {
    let flags = super::netlink::flag(libc::NLM_F_REQUEST);
    begin_route(batch, libc::RTM_DELROUTE, flags, sequence, key, 0);
}

/// `struct rtmsg`: family | dst_len | src_len | tos | table | protocol | scope | type | 4-byte flags.
fn begin_route(
    batch: &mut Batch,
    message_type: u16,
    flags: u16,
    sequence: u32,
    key: &RouteKey,
    kind: u8,
) {
    let table = u8::try_from(key.table).unwrap_or(RT_TABLE_UNSPEC);
    let header = [
        AF_INET6,
        key.prefix.bits(),
        0,
        0,
        table,
        key.protocol,
        0,
        kind,
        0,
        0,
        0,
        0,
    ];
    batch.begin(message_type, flags, sequence, &header);
    batch.attribute(RTA_DST, &key.prefix.address().octets());
    if table == RT_TABLE_UNSPEC {
        batch.attribute_u32(RTA_TABLE, key.table);
    }
    batch.attribute_u32(RTA_PRIORITY, key.metric);
}

/// Adds a message that asks for the routes of one table.
pub fn dump_routes(batch: &mut Batch, flags: u16, sequence: u32, table: u32) {
    let header_table = u8::try_from(table).unwrap_or(RT_TABLE_UNSPEC);
    let header = [AF_INET6, 0, 0, 0, header_table, 0, 0, 0, 0, 0, 0, 0];
    batch.begin(libc::RTM_GETROUTE, flags, sequence, &header);
    batch.attribute_u32(RTA_TABLE, table);
}

/// Reads RTM_NEWROUTE and RTM_DELROUTE; `None` for what is no IPv6 route of a table.
pub fn read_route(message: &Message<'_>) -> Option<KernelRoute> {
    let [
        family,
        bits,
        source_bits,
        _tos,
        table,
        protocol,
        _scope,
        kind,
    ] = fixed(message.body, 0)?;
    let flags = u32::from_ne_bytes(fixed(message.body, 8)?);
    if family != AF_INET6 || flags & RTM_F_CLONED != 0 || source_bits != 0 {
        return None;
    }
    let mut destination = Ipv6Addr::UNSPECIFIED;
    let mut table = u32::from(table);
    let (mut metric, mut gateway, mut interface) = (0, None, None);
    for (attribute, value) in message.attributes(12) {
        match attribute {
            RTA_DST => destination = read_ipv6(value)?,
            RTA_TABLE => table = read_u32(value)?,
            RTA_PRIORITY => metric = read_u32(value)?,
            RTA_GATEWAY => gateway = read_ipv6(value),
            RTA_OIF => interface = read_u32(value).map(IfIndex),
            _ => {}
        }
    }
    let target = match (kind, gateway, interface) {
        (RTN_UNREACHABLE, _, _) => Target::Unreachable,
        (RTN_UNICAST, Some(gateway), Some(interface)) => Target::Via { gateway, interface },
        _ => Target::Other,
    };
    Some(KernelRoute {
        prefix: Prefix::new(destination, bits)?,
        table,
        protocol,
        metric,
        target,
        interface,
    })
}

/// A neighbour entry of the kernel.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct KernelNeighbor {
    /// Interface.
    pub interface: IfIndex,
    /// Address.
    pub address: Ipv6Addr,
    /// `None` while it is not resolved.
    pub mac: Option<MacAddr>,
    /// Set by a person, never to be touched.
    pub permanent: bool,
    /// NTF_EXT_LEARNED.
    pub externally_learned: bool,
    /// Who made it.
    pub protocol: u8,
}

/// Adds a message that makes a neighbour entry, or with `replace` changes the one that is there.
///
/// NUD_STALE: usable at once, and probed by unicast when first used, since hearing a client's
/// request does not prove that it hears us (RFC 4861 §7.3.1). NTF_EXT_LEARNED keeps the entry from
/// the garbage collector (DP-28). req: DP-28
pub fn put_neighbor(
    batch: &mut Batch,
    sequence: u32,
    (interface, address): (IfIndex, Ipv6Addr),
    mac: MacAddr,
    protocol: u8,
    replace: bool,
) {
    let condition = if replace {
        libc::NLM_F_REPLACE
    } else {
        libc::NLM_F_EXCL
    };
    let flags = super::netlink::flag(libc::NLM_F_REQUEST | libc::NLM_F_CREATE | condition);
    let header = neighbor_header(interface, NUD_STALE, NTF_EXT_LEARNED);
    batch.begin(libc::RTM_NEWNEIGH, flags, sequence, &header);
    batch.attribute(NDA_DST, &address.octets());
    batch.attribute(NDA_LLADDR, &mac.0);
    batch.attribute(NDA_PROTOCOL, &[protocol]);
}

/// Adds a message that deletes a neighbour entry.
pub fn delete_neighbor(
    batch: &mut Batch,
    sequence: u32,
    (interface, address): (IfIndex, Ipv6Addr),
) {
    let flags = super::netlink::flag(libc::NLM_F_REQUEST);
    batch.begin(
        libc::RTM_DELNEIGH,
        flags,
        sequence,
        &neighbor_header(interface, 0, 0),
    );
    batch.attribute(NDA_DST, &address.octets());
}

/// Adds a message that asks for one neighbour entry.
pub fn get_neighbor(
    batch: &mut Batch,
    flags: u16,
    sequence: u32,
    (interface, address): (IfIndex, Ipv6Addr),
) {
    batch.begin(
        libc::RTM_GETNEIGH,
        flags,
        sequence,
        &neighbor_header(interface, 0, 0),
    );
    batch.attribute(NDA_DST, &address.octets());
}

/// Adds a message that asks for all IPv6 neighbour entries.
pub fn dump_neighbors(batch: &mut Batch, flags: u16, sequence: u32) {
    let header = neighbor_header(IfIndex(0), 0, 0);
    batch.begin(libc::RTM_GETNEIGH, flags, sequence, &header);
}

/// `struct ndmsg`: family | 3 bytes padding | 4-byte ifindex | 2-byte state | flags | type.
fn neighbor_header(interface: IfIndex, state: u16, flags: u8) -> [u8; 12] {
    let [i0, i1, i2, i3] = interface.0.to_ne_bytes();
    let [s0, s1] = state.to_ne_bytes();
    [AF_INET6, 0, 0, 0, i0, i1, i2, i3, s0, s1, flags, 0]
}

/// Reads RTM_NEWNEIGH.
pub fn read_neighbor(message: &Message<'_>) -> Option<KernelNeighbor> {
    let [family] = fixed(message.body, 0)?;
    let interface = IfIndex(u32::from_ne_bytes(fixed(message.body, 4)?));
    let state = u16::from_ne_bytes(fixed(message.body, 8)?);
    let [flags] = fixed(message.body, 10)?;
    if family != AF_INET6 {
        return None;
    }
    let (mut address, mut mac, mut protocol) = (None, None, 0);
    for (attribute, value) in message.attributes(12) {
        match attribute {
            NDA_DST => address = read_ipv6(value),
            NDA_LLADDR => mac = value.try_into().ok().map(MacAddr),
            NDA_PROTOCOL => protocol = *value.first()?,
            _ => {}
        }
    }
    Some(KernelNeighbor {
        interface,
        address: address?,
        mac,
        permanent: state & NUD_PERMANENT != 0,
        externally_learned: flags & NTF_EXT_LEARNED != 0,
        protocol,
    })
}

/// Adds a message that asks for all links.
pub fn dump_links(batch: &mut Batch, flags: u16, sequence: u32) {
    batch.begin(libc::RTM_GETLINK, flags, sequence, &[0; 16]);
    batch.attribute_u32(IFLA_EXT_MASK, RTEXT_FILTER_SKIP_STATS);
}

/// Reads RTM_NEWLINK: `struct ifinfomsg` is family | pad | 2-byte type | 4-byte index | 4-byte flags
/// | 4-byte change mask. The interface has no addresses yet.
pub fn read_link(message: &Message<'_>) -> Option<Interface> {
    let index = IfIndex(u32::from_ne_bytes(fixed(message.body, 4)?));
    let flags = u32::from_ne_bytes(fixed(message.body, 8)?);
    let mut interface = Interface {
        index,
        name: String::new(),
        mac: None,
        up: flags & IFF_UP != 0,
        carrier: flags & IFF_LOWER_UP != 0,
        mtu: 0,
        vlan: None,
        macvlan_parent: None,
        addresses: Vec::new(),
    };
    let (mut link, mut elsewhere, mut kind, mut data) = (None, false, &[][..], &[][..]);
    for (attribute, value) in message.attributes(16) {
        match attribute {
            IFLA_IFNAME => interface.name = read_name(value),
            IFLA_ADDRESS => interface.mac = value.try_into().ok().map(MacAddr),
            IFLA_MTU => interface.mtu = read_u32(value)?,
            IFLA_LINK => link = read_u32(value).map(IfIndex),
            // The index in IFLA_LINK is one of another network namespace.
            IFLA_LINK_NETNSID => elsewhere = true,
            IFLA_LINKINFO => {
                for (attribute, value) in Attributes(value) {
                    match attribute {
                        IFLA_INFO_KIND => kind = value.strip_suffix(&[0]).unwrap_or(value),
                        IFLA_INFO_DATA => data = value,
                        _ => {}
                    }
                }
            }
            _ => {}
        }
    }
    if let Some(parent) = link.filter(|_| !elsewhere) {
        match kind {
            b"vlan" => interface.vlan = read_vlan(data).map(|tag| (parent, tag)),
            b"macvlan" => interface.macvlan_parent = Some(parent),
            _ => {}
        }
    }
    Some(interface)
}

fn read_name(value: &[u8]) -> String {
    String::from_utf8_lossy(value.strip_suffix(&[0]).unwrap_or(value)).into_owned()
}

fn read_vlan(data: &[u8]) -> Option<VlanTag> {
    let (mut vid, mut tpid) = (None, relay_common::net::TPID_8021Q);
    for (attribute, value) in Attributes(data) {
        match attribute {
            IFLA_VLAN_ID => vid = Some(u16::from_ne_bytes(fixed(value, 0)?)),
            IFLA_VLAN_PROTOCOL => tpid = u16::from_be_bytes(fixed(value, 0)?),
            _ => {}
        }
    }
    Some(VlanTag { tpid, vid: vid? })
}

/// Adds a message that asks for all IPv6 addresses.
pub fn dump_addresses(batch: &mut Batch, flags: u16, sequence: u32) {
    let header = [AF_INET6, 0, 0, 0, 0, 0, 0, 0];
    batch.begin(libc::RTM_GETADDR, flags, sequence, &header);
}

/// Reads RTM_NEWADDR: `struct ifaddrmsg` is family | prefix length | flags | scope | 4-byte index.
pub fn read_address(message: &Message<'_>) -> Option<(IfIndex, InterfaceAddress)> {
    let [family, prefix_bits, flags, _scope] = fixed(message.body, 0)?;
    let index = IfIndex(u32::from_ne_bytes(fixed(message.body, 4)?));
    if family != AF_INET6 {
        return None;
    }
    let (mut local, mut other, mut flags, mut protocol) = (None, None, u32::from(flags), 0);
    for (attribute, value) in message.attributes(8) {
        match attribute {
            IFA_LOCAL => local = read_ipv6(value),
            IFA_ADDRESS => other = read_ipv6(value),
            IFA_FLAGS => flags = read_u32(value)?,
            IFA_PROTO => protocol = *value.first()?,
            _ => {}
        }
    }
    let address = InterfaceAddress {
        // With a peer address IFA_ADDRESS is the peer's.
        address: local.or(other)?,
        prefix_bits,
        temporary: flags & IFA_F_TEMPORARY != 0,
        tentative: flags & (IFA_F_TENTATIVE | IFA_F_DADFAILED) != 0,
        deprecated: flags & IFA_F_DEPRECATED != 0,
        protocol,
    };
    Some((index, address))
}
