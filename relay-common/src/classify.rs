//! Frame → [`Verdict`]: which frames are DHCPv6 that the relay may want. Total, without state; the
//! same function in the kernel, in unit tests and in the fuzzer.
//!
//! Decides by headers alone: Ethernet, up to two VLAN tags, IPv6, UDP to port 547 (RFC 8415 §7.2).
//! Whatever is in doubt is the kernel's: fragments, extension headers, other tags, short frames.
//! Does not verify lengths or checksums (userspace does, before anything is believed), and does not
//! know which interface it is on: [`addressed_to`] asks the interface's entry.

use crate::abi::{INTERFACE_MACS, Interface};
use crate::frame::Frame;
use crate::net::{MacAddr, TPID_8021AD, TPID_8021Q, VlanTags};

/// Octets of an Ethernet header without tags.
pub const ETHERNET_BYTES: usize = 14;
/// Octets of a VLAN tag.
pub const TAG_BYTES: usize = 4;
/// Octets of the fixed IPv6 header (RFC 8200 §3).
pub const IPV6_BYTES: usize = 40;
/// Octets of a UDP header.
pub const UDP_BYTES: usize = 8;
/// UDP port of relay agents and servers (RFC 8415 §7.2).
pub const SERVER_PORT: u16 = 547;
/// All_DHCP_Relay_Agents_and_Servers, ff02::1:2 (RFC 8415 §7.1).
pub const ALL_RELAY_AGENTS_AND_SERVERS: [u8; 16] =
    [0xff, 0x02, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0, 2];
/// Its Ethernet address (RFC 2464 §7).
pub const ALL_RELAY_AGENTS_AND_SERVERS_MAC: [u8; 6] = [0x33, 0x33, 0, 1, 0, 2];

pub(crate) const ETHERTYPE_IPV6: u16 = 0x86dd;
const NEXT_HEADER_UDP: u8 = 17;
const RELAY_FORW: u8 = 12;

/// What a frame is to the relay. All but the last two are left to the kernel's stack.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Verdict {
    /// Ends before the headers that it announces.
    Truncated,
    /// Neither IPv6 nor IPv6 behind at most two known tags.
    NotIpv6,
    /// IPv6 whose first next header is not UDP: extension headers and fragments too.
    NotUdp,
    /// UDP to another port or to another group; and to port 547 of a unicast address, whatever is
    /// not a RELAY-FORW: a client that unicasts to its server is transit.
    NotDhcpv6,
    /// To ff02::1:2, port 547: for any relay agent on the link.
    ToRelay(Datagram),
    /// RELAY-FORW to port 547 of a unicast address: ours only where the address is our own and the
    /// interface accepts relayed messages.
    ToAddress(Datagram),
}

impl Verdict {
    /// Its name in the test corpus.
    pub const fn name(&self) -> &'static str {
        match self {
            Self::Truncated => "truncated",
            Self::NotIpv6 => "not-ipv6",
            Self::NotUdp => "not-udp",
            Self::NotDhcpv6 => "not-dhcpv6",
            Self::ToRelay(_) => "to-relay",
            Self::ToAddress(_) => "to-address",
        }
    }
}

/// Where things are in a frame that carries DHCPv6.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Datagram {
    /// Destination of the frame.
    pub destination_mac: [u8; 6],
    /// Source of the frame.
    pub source_mac: [u8; 6],
    /// 0x8100 or 0x88a8; 0 where there is no tag.
    pub outer_tpid: u16,
    /// Priority bits and VLAN identifier.
    pub outer_tci: u16,
    /// As `outer_tpid`.
    pub inner_tpid: u16,
    /// As `outer_tci`.
    pub inner_tci: u16,
    /// Where the IPv6 header starts: 14, 18 or 22.
    pub ip_offset: u16,
    /// IPv6 destination.
    pub destination: [u8; 16],
    /// First octet of the DHCPv6 message; 0, which is no type, where the message is empty.
    pub message_type: u8,
}

impl Datagram {
    /// Where the DHCPv6 message starts in the frame.
    #[inline(always)]
    pub const fn message_offset(&self) -> usize {
        self.ip_offset as usize + IPV6_BYTES + UDP_BYTES
    }

    /// The client's address on the link.
    pub const fn mac(&self) -> MacAddr {
        MacAddr(self.source_mac)
    }

    /// The tags, without priority bits.
    pub const fn tags(&self) -> VlanTags {
        VlanTags::from_tci(
            self.outer_tpid,
            self.outer_tci,
            self.inner_tpid,
            self.inner_tci,
        )
    }
}

/// Classifies a frame.
#[inline(always)]
pub fn classify<F: Frame + ?Sized>(frame: &F) -> Verdict {
    read(frame).unwrap_or(Verdict::Truncated)
}

/// `None`: the frame ended too early.
#[inline(always)]
fn read<F: Frame + ?Sized>(frame: &F) -> Option<Verdict> {
    const ONE_TAG: usize = ETHERNET_BYTES + TAG_BYTES;
    const TWO_TAGS: usize = ONE_TAG + TAG_BYTES;
    let mut tags = Tags::default();
    let ethertype = frame.load_u16(12)?;
    if !is_tag(ethertype) {
        return read_ip::<ETHERNET_BYTES, F>(frame, ethertype, tags);
    }
    tags.outer_tpid = ethertype;
    tags.outer_tci = frame.load_u16(14)?;
    let ethertype = frame.load_u16(16)?;
    if !is_tag(ethertype) {
        return read_ip::<ONE_TAG, F>(frame, ethertype, tags);
    }
    tags.inner_tpid = ethertype;
    tags.inner_tci = frame.load_u16(18)?;
    let ethertype = frame.load_u16(20)?;
    read_ip::<TWO_TAGS, F>(frame, ethertype, tags)
}

#[derive(Clone, Copy, Default)]
struct Tags {
    outer_tpid: u16,
    outer_tci: u16,
    inner_tpid: u16,
    inner_tci: u16,
}

/// What follows the tags, from `IP` on. The offset is a constant, because the verifier lets no
/// unprivileged program add anything else to a packet pointer.
#[inline(always)]
fn read_ip<const IP: usize, F: Frame + ?Sized>(
    frame: &F,
    ethertype: u16,
    tags: Tags,
) -> Option<Verdict> {
    if ethertype != ETHERTYPE_IPV6 {
        return Some(Verdict::NotIpv6);
    }
    let [version] = frame.load(IP)?;
    if version >> 4 != 6 {
        return Some(Verdict::NotIpv6);
    }
    let [next_header] = frame.load(IP + 6)?;
    if next_header != NEXT_HEADER_UDP {
        return Some(Verdict::NotUdp);
    }
    let udp_offset = IP + IPV6_BYTES;
    // The whole UDP header must be there, not only its port.
    let [_, _, port_high, port_low, _, _, _, _] = frame.load::<UDP_BYTES>(udp_offset)?;
    if u16::from_be_bytes([port_high, port_low]) != SERVER_PORT {
        return Some(Verdict::NotDhcpv6);
    }
    let destination: [u8; 16] = frame.load(IP + 24)?;
    let message_type = match frame.load(udp_offset + UDP_BYTES) {
        Some([message_type]) => message_type,
        None => 0,
    };
    let datagram = Datagram {
        destination_mac: frame.load(0)?,
        source_mac: frame.load(6)?,
        outer_tpid: tags.outer_tpid,
        outer_tci: tags.outer_tci,
        inner_tpid: tags.inner_tpid,
        inner_tci: tags.inner_tci,
        ip_offset: IP as u16,
        destination,
        message_type,
    };
    Some(if destination == ALL_RELAY_AGENTS_AND_SERVERS {
        Verdict::ToRelay(datagram)
    } else if destination[0] != 0xff && message_type == RELAY_FORW {
        Verdict::ToAddress(datagram)
    } else {
        Verdict::NotDhcpv6
    })
}

#[inline(always)]
pub(crate) const fn is_tag(ethertype: u16) -> bool {
    ethertype == TPID_8021Q || ethertype == TPID_8021AD
}

/// Whether a frame is addressed to this interface: to one of its own MAC addresses, or to the
/// group's where the IPv6 destination is the group. A bridge floods what it has not learned, so a
/// unicast frame that is another's may well arrive. A group's packet to an own MAC is allowed by
/// RFC 6085; to broadcast or to another group's MAC it is no node's regular doing, and the kernel
/// may judge it.
#[inline(always)]
pub fn addressed_to(interface: &Interface, datagram: &Datagram) -> bool {
    if datagram.destination_mac == ALL_RELAY_AGENTS_AND_SERVERS_MAC {
        return datagram.destination == ALL_RELAY_AGENTS_AND_SERVERS;
    }
    let mut place = 0;
    while place < INTERFACE_MACS {
        if (place as u32) < interface.mac_count && interface.macs[place] == datagram.destination_mac
        {
            return true;
        }
        place += 1;
    }
    false
}

#[cfg(test)]
mod tests {
    extern crate std;
    use super::*;
    use crate::abi::ROLE_ACCESS;
    use std::vec::Vec;

    const CLIENT: [u8; 6] = [2, 0, 0, 0, 0, 1];
    const ROUTER: [u8; 6] = [2, 0, 0, 0, 0, 0xfe];

    /// Ethernet with `tags`, IPv6 to `destination`, UDP to `port`, `message`.
    fn frame(
        mac: [u8; 6],
        tags: &[(u16, u16)],
        destination: [u8; 16],
        port: u16,
        message: &[u8],
    ) -> Vec<u8> {
        let mut bytes = Vec::new();
        bytes.extend(mac);
        bytes.extend(CLIENT);
        for (tpid, tci) in tags {
            bytes.extend(tpid.to_be_bytes());
            bytes.extend(tci.to_be_bytes());
        }
        bytes.extend(ETHERTYPE_IPV6.to_be_bytes());
        let udp_bytes = (UDP_BYTES + message.len()) as u16;
        bytes.extend([0x60, 0, 0, 0]);
        bytes.extend(udp_bytes.to_be_bytes());
        bytes.extend([NEXT_HEADER_UDP, 1]);
        bytes.extend([0xfe, 0x80, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xfe, 0, 0, 1]);
        bytes.extend(destination);
        bytes.extend(546u16.to_be_bytes());
        bytes.extend(port.to_be_bytes());
        bytes.extend(udp_bytes.to_be_bytes());
        bytes.extend([0, 0]);
        bytes.extend(message);
        bytes
    }

    fn solicit(tags: &[(u16, u16)]) -> Vec<u8> {
        frame(
            ALL_RELAY_AGENTS_AND_SERVERS_MAC,
            tags,
            ALL_RELAY_AGENTS_AND_SERVERS,
            SERVER_PORT,
            &[1, 0, 0, 1],
        )
    }

    fn datagram(verdict: Verdict) -> Datagram {
        match verdict {
            Verdict::ToRelay(datagram) | Verdict::ToAddress(datagram) => datagram,
            other => panic!("{other:?} carries no datagram"),
        }
    }

    const UNICAST: [u8; 16] = [0x20, 1, 0xd, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1];

    #[test]
    fn group_on_port_547_is_to_relay_with_its_offsets() {
        let found = datagram(classify(solicit(&[]).as_slice()));

        assert_eq!(found.message_offset(), 62);
        assert_eq!(found.message_type, 1);
        assert_eq!(found.mac(), MacAddr(CLIENT));
        assert!(found.tags().is_empty());
    }

    #[test]
    fn one_and_two_tags_of_both_kinds_are_seen_through() {
        let one = datagram(classify(solicit(&[(TPID_8021Q, 0xe064)]).as_slice()));
        let two = datagram(classify(
            solicit(&[(TPID_8021AD, 7), (TPID_8021Q, 100)]).as_slice(),
        ));

        assert_eq!((one.ip_offset, one.outer_tci), (18, 0xe064));
        assert_eq!(one.tags().outer().map(|tag| tag.vid), Some(100));
        assert_eq!((two.ip_offset, two.inner_tci), (22, 100));
        assert_eq!(two.tags().len(), 2);
    }

    #[test]
    fn three_tags_or_an_unknown_tag_are_not_ours() {
        let three = solicit(&[(TPID_8021AD, 1), (TPID_8021Q, 2), (TPID_8021Q, 3)]);
        let unknown = solicit(&[(0x9100, 1)]);

        assert_eq!(classify(three.as_slice()), Verdict::NotIpv6);
        assert_eq!(classify(unknown.as_slice()), Verdict::NotIpv6);
    }

    #[test]
    fn every_frame_cut_before_the_end_of_udp_is_truncated() {
        for tags in [
            &[][..],
            &[(TPID_8021Q, 1)],
            &[(TPID_8021AD, 1), (TPID_8021Q, 2)],
        ] {
            let whole = solicit(tags);
            let headers = whole.len() - 4;
            for end in 0..headers {
                assert_eq!(classify(&whole[..end]), Verdict::Truncated, "{end}");
            }
            assert_eq!(classify(&whole[..headers]).name(), "to-relay");
        }
    }

    #[test]
    fn only_relay_forw_to_unicast_is_a_candidate() {
        let relayed = frame(ROUTER, &[], UNICAST, SERVER_PORT, &[RELAY_FORW]);
        let renew = frame(ROUTER, &[], UNICAST, SERVER_PORT, &[5]);
        let servers = frame(
            ROUTER,
            &[],
            {
                let mut group = ALL_RELAY_AGENTS_AND_SERVERS;
                group[1] = 5;
                group
            },
            SERVER_PORT,
            &[RELAY_FORW],
        );

        assert_eq!(classify(relayed.as_slice()).name(), "to-address");
        assert_eq!(classify(renew.as_slice()), Verdict::NotDhcpv6);
        assert_eq!(classify(servers.as_slice()), Verdict::NotDhcpv6);
    }

    #[test]
    fn other_ports_headers_and_versions_are_not_ours() {
        let port = frame(ROUTER, &[], ALL_RELAY_AGENTS_AND_SERVERS, 546, &[1]);
        let mut fragment = solicit(&[]);
        fragment[20] = 44;
        let mut version = solicit(&[]);
        version[14] = 0x45;

        assert_eq!(classify(port.as_slice()), Verdict::NotDhcpv6);
        assert_eq!(classify(fragment.as_slice()), Verdict::NotUdp);
        assert_eq!(classify(version.as_slice()), Verdict::NotIpv6);
    }

    #[test]
    fn addressed_to_own_macs_and_the_group_only() {
        let mut interface = Interface {
            role: ROLE_ACCESS,
            flags: 0,
            client_rate: 0,
            interface_rate: 0,
            mac_count: 1,
            macs: [[0; 6]; INTERFACE_MACS],
            mtu: 0,
        };
        interface.macs[0] = ROUTER;
        let to = |mac, destination| {
            let bytes = frame(mac, &[], destination, SERVER_PORT, &[RELAY_FORW]);
            addressed_to(&interface, &datagram(classify(bytes.as_slice())))
        };

        let group = ALL_RELAY_AGENTS_AND_SERVERS;
        assert!(to(ALL_RELAY_AGENTS_AND_SERVERS_MAC, group));
        assert!(to(ROUTER, group));
        assert!(to(ROUTER, UNICAST));
        assert!(!to(ALL_RELAY_AGENTS_AND_SERVERS_MAC, UNICAST));
        assert!(!to([0xff; 6], group));
        assert!(!to(CLIENT, UNICAST));
        // A place beyond the count is no address, not even the one of zeros.
        assert!(!to([0; 6], UNICAST));
    }
}
