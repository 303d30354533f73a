//! Ethernet frames with VLAN tags, IPv6 and UDP: reading those that were captured, building those
//! that go to clients, in fragments where the link needs them (RFC 8200 §4.5).
//!
//! Decides what is a whole datagram. Must not know what DHCPv6 is.

use std::net::Ipv6Addr;
use std::ops::Range;

use relay_common::net::{MacAddr, VlanTags};

use super::checksum;

/// Bytes of an IPv6 header.
pub const IPV6_BYTES: usize = 40;
/// Bytes of a UDP header.
pub const UDP_BYTES: usize = 8;
/// Ethernet, two tags, IPv6, fragment header, UDP.
pub const HEADERS_MAX: usize = 14 + 8 + IPV6_BYTES + FRAGMENT_BYTES + UDP_BYTES;
/// The least MTU of an IPv6 link (RFC 8200 §5).
const MTU_MIN: usize = 1280;
/// Linux's own default; answers to clients go over one link, and one routed hop more than that
/// behind a cascaded relay does no harm. 255 would claim what RFC 4861 uses it for.
const HOP_LIMIT: u8 = 64;
const FRAGMENT_BYTES: usize = 8;
const FRAGMENT: u8 = 44;
const ETHERTYPE_IPV6: u16 = 0x86dd;

/// A whole UDP datagram.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Datagram<'a> {
    /// IPv6 source.
    pub source: Ipv6Addr,
    /// IPv6 destination.
    pub destination: Ipv6Addr,
    /// UDP source port.
    pub source_port: u16,
    /// UDP destination port.
    pub destination_port: u16,
    /// What UDP carries.
    pub payload: &'a [u8],
}

/// Why a captured packet is no whole datagram.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Broken {
    /// The lengths of frame, IPv6 and UDP do not agree.
    Length,
    /// The UDP checksum is wrong or absent.
    Checksum,
}

/// Reads a packet that starts with an IPv6 header, followed at once by UDP.
///
/// # Errors
/// [`Broken`]; nothing behind the end of the IPv6 packet (Ethernet padding) is looked at.
pub fn read_datagram(packet: &[u8]) -> Result<Datagram<'_>, Broken> {
    let (header, rest) = packet
        .split_first_chunk::<IPV6_BYTES>()
        .ok_or(Broken::Length)?;
    if header[0] >> 4 != 6 || header[6] != checksum::UDP {
        return Err(Broken::Length);
    }
    let payload_bytes = usize::from(u16::from_be_bytes([header[4], header[5]]));
    let payload = rest.get(..payload_bytes).ok_or(Broken::Length)?;
    let udp_header = payload.first_chunk::<UDP_BYTES>().ok_or(Broken::Length)?;
    let udp_bytes = usize::from(u16::from_be_bytes([udp_header[4], udp_header[5]]));
    // Like the kernel: a datagram may end before its packet does, not after.
    let udp = payload
        .get(..udp_bytes)
        .filter(|udp| udp.len() >= UDP_BYTES)
        .ok_or(Broken::Length)?;
    let source = address(header, 8);
    let destination = address(header, 24);
    if checksum::verify(source, destination, udp) == checksum::Verdict::Bad {
        return Err(Broken::Checksum);
    }
    Ok(Datagram {
        source,
        destination,
        source_port: u16::from_be_bytes([udp_header[0], udp_header[1]]),
        destination_port: u16::from_be_bytes([udp_header[2], udp_header[3]]),
        payload: &udp[UDP_BYTES..],
    })
}

fn address(header: &[u8; IPV6_BYTES], at: usize) -> Ipv6Addr {
    let mut octets = [0; 16];
    octets.copy_from_slice(&header[at..at + 16]);
    Ipv6Addr::from(octets)
}

/// Where a datagram goes, and as what.
#[derive(Clone, Copy, Debug)]
pub struct Way {
    /// The interface's own address.
    pub source_mac: MacAddr,
    /// The receiver.
    pub destination_mac: MacAddr,
    /// Tags of the frame.
    pub vlans: VlanTags,
    /// IPv6 source.
    pub source: Ipv6Addr,
    /// IPv6 destination.
    pub destination: Ipv6Addr,
    /// UDP source port.
    pub source_port: u16,
    /// UDP destination port.
    pub destination_port: u16,
    /// Bytes that the interface carries in a frame behind its Ethernet header.
    pub mtu: usize,
}

/// One frame: headers of its own, then a piece of the payload.
#[derive(Clone, Debug)]
pub struct Frame {
    headers: [u8; HEADERS_MAX],
    header_bytes: usize,
    /// The piece of the payload that follows the headers.
    pub payload: Range<usize>,
}

impl Frame {
    /// Everything before the payload.
    pub fn headers(&self) -> &[u8] {
        &self.headers[..self.header_bytes]
    }

    fn push(&mut self, bytes: &[u8]) {
        self.headers[self.header_bytes..][..bytes.len()].copy_from_slice(bytes);
        self.header_bytes += bytes.len();
    }
}

/// The frames that carry `payload`, one or several fragments, handed to `each` in order. False
/// where the payload does not fit into a UDP datagram. `identification` is that of the fragments.
// req: RLY-34, RLY-35
pub fn build(way: &Way, payload: &[u8], identification: u32, mut each: impl FnMut(Frame)) -> bool {
    let Ok(udp_bytes) = u16::try_from(UDP_BYTES + payload.len()) else {
        return false;
    };
    let mut udp = [0; UDP_BYTES];
    udp[0..2].copy_from_slice(&way.source_port.to_be_bytes());
    udp[2..4].copy_from_slice(&way.destination_port.to_be_bytes());
    udp[4..6].copy_from_slice(&udp_bytes.to_be_bytes());
    let sum = checksum::udp(way.source, way.destination, &udp, payload);
    udp[6..8].copy_from_slice(&sum);

    // The kernel allows for one tag beyond the MTU; a second one is at the expense of the packet.
    let packet_max = way.mtu.max(MTU_MIN) - 4 * way.vlans.len().saturating_sub(1);
    if IPV6_BYTES + usize::from(udp_bytes) <= packet_max {
        let mut frame = start(way, udp_bytes, checksum::UDP);
        frame.push(&udp);
        frame.payload = 0..payload.len();
        each(frame);
        return true;
    }

    let piece_max = (packet_max - IPV6_BYTES - FRAGMENT_BYTES) & !7;
    let whole = usize::from(udp_bytes);
    // Bounded: at most 65535 / 1224 pieces.
    for from in (0..whole).step_by(piece_max) {
        let to = whole.min(from + piece_max);
        let more = u16::from(to < whole);
        let offset = u16::try_from(from).expect("within a UDP datagram") | more;
        let bytes = u16::try_from(FRAGMENT_BYTES + to - from).expect("within an MTU of 65535");
        let mut frame = start(way, bytes, FRAGMENT);
        frame.push(&[checksum::UDP, 0]);
        frame.push(&offset.to_be_bytes());
        frame.push(&identification.to_be_bytes());
        if from == 0 {
            frame.push(&udp);
        }
        frame.payload = from.saturating_sub(UDP_BYTES)..to - UDP_BYTES;
        each(frame);
    }
    true
}

fn start(way: &Way, payload_bytes: u16, next_header: u8) -> Frame {
    let mut frame = Frame {
        headers: [0; HEADERS_MAX],
        header_bytes: 0,
        payload: 0..0,
    };
    frame.push(&way.destination_mac.0);
    frame.push(&way.source_mac.0);
    for tag in way.vlans.iter() {
        frame.push(&tag.tpid.to_be_bytes());
        frame.push(&tag.vid.to_be_bytes());
    }
    frame.push(&ETHERTYPE_IPV6.to_be_bytes());
    frame.push(&[0x60, 0, 0, 0]);
    frame.push(&payload_bytes.to_be_bytes());
    frame.push(&[next_header, HOP_LIMIT]);
    frame.push(&way.source.octets());
    frame.push(&way.destination.octets());
    frame
}

#[cfg(test)]
mod tests {
    use relay_common::net::{TPID_8021AD, TPID_8021Q, VlanTag};

    use super::*;

    fn way() -> Way {
        Way {
            source_mac: MacAddr([2, 0, 0, 0, 0, 1]),
            destination_mac: MacAddr([2, 0, 0, 0, 0, 2]),
            vlans: VlanTags::NONE,
            source: "fe80::1".parse().unwrap(),
            destination: "fe80::2".parse().unwrap(),
            source_port: 547,
            destination_port: 546,
            mtu: 1500,
        }
    }

    fn bytes(way: &Way, payload: &[u8]) -> Vec<Vec<u8>> {
        let mut frames = Vec::new();
        assert!(build(way, payload, 7, |frame| {
            frames.push([frame.headers(), &payload[frame.payload.clone()]].concat());
        }));
        frames
    }

    #[test]
    fn built_datagram_reads_back() {
        let frames = bytes(&way(), b"reply");

        assert_eq!(frames.len(), 1);
        assert_eq!(
            &frames[0][..14],
            b"\x02\0\0\0\0\x02\x02\0\0\0\0\x01\x86\xdd"
        );
        let datagram = read_datagram(&frames[0][14..]).unwrap();
        assert_eq!(datagram.payload, b"reply");
        assert_eq!(
            (datagram.source_port, datagram.destination_port),
            (547, 546)
        );
        assert_eq!(datagram.source, way().source);
        assert_eq!(datagram.destination, way().destination);
    }

    #[test]
    fn tags_stand_outermost_first() {
        let mut way = way();
        let outer = VlanTag {
            tpid: TPID_8021AD,
            vid: 100,
        };
        let inner = VlanTag {
            tpid: TPID_8021Q,
            vid: 200,
        };
        way.vlans = VlanTags::double(outer, inner);

        let frames = bytes(&way, b"x");

        assert_eq!(&frames[0][12..22], b"\x88\xa8\0\x64\x81\0\0\xc8\x86\xdd");
    }

    /// req: RLY-35 (RFC 8200 §4.5)
    #[test]
    fn rly_35_answer_larger_than_the_mtu_leaves_in_fragments_that_reassemble() {
        let way = Way { mtu: 1280, ..way() };
        let payload: Vec<u8> = (0..4000u32).map(|i| i.to_be_bytes()[3]).collect();

        let frames = bytes(&way, &payload);

        let mut whole = Vec::new();
        for (at, frame) in frames.iter().enumerate() {
            assert!(frame.len() <= 14 + 1280);
            let packet = &frame[14..];
            assert_eq!(packet[6], 44);
            let field = u16::from_be_bytes([packet[42], packet[43]]);
            assert_eq!(usize::from(field & !7), whole.len());
            assert_eq!(field & 1 == 1, at + 1 < frames.len());
            assert_eq!(&packet[44..48], &[0, 0, 0, 7]);
            let len = u16::from_be_bytes([packet[4], packet[5]]);
            assert_eq!(usize::from(len), packet.len() - 40);
            whole.extend_from_slice(&packet[48..]);
        }
        let mut packet = frames[0][14..54].to_vec();
        packet[4..6].copy_from_slice(&u16::try_from(whole.len()).unwrap().to_be_bytes());
        packet[6] = 17;
        packet.extend_from_slice(&whole);
        assert_eq!(read_datagram(&packet).unwrap().payload, payload);
    }

    #[test]
    fn payload_that_fits_exactly_is_not_fragmented() {
        assert_eq!(bytes(&way(), &[1; 1452]).len(), 1);
        assert_eq!(bytes(&way(), &[1; 1453]).len(), 2);
    }

    #[test]
    fn payload_too_large_for_udp_is_refused() {
        assert!(!build(&way(), &[0; 65_528], 0, |_| {}));
    }

    #[test]
    fn padding_behind_the_packet_is_ignored() {
        let mut packet = bytes(&way(), b"x")[0][14..].to_vec();
        packet.extend_from_slice(&[0xee; 9]);

        assert_eq!(read_datagram(&packet).unwrap().payload, b"x");
    }

    #[test]
    fn lengths_that_disagree_are_refused() {
        let packet = bytes(&way(), b"solicit")[0][14..].to_vec();

        for cut in 0..packet.len() {
            assert_eq!(read_datagram(&packet[..cut]), Err(Broken::Length), "{cut}");
        }
        let mut udp_longer = packet.clone();
        udp_longer[45] += 1;
        assert_eq!(read_datagram(&udp_longer), Err(Broken::Length));
        let mut udp_short = packet;
        udp_short[45] = 7;
        assert_eq!(read_datagram(&udp_short), Err(Broken::Length));
    }

    #[test]
    fn wrong_checksum_is_refused() {
        let mut packet = bytes(&way(), b"solicit")[0][14..].to_vec();
        packet[50] ^= 1;

        assert_eq!(read_datagram(&packet), Err(Broken::Checksum));
    }
}
