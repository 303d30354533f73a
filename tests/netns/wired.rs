//! Frames by hand: UDP over IPv6 with a sound checksum, behind whatever Ethernet header a test writes; and a packet
//! socket on a node's interface. Knows nothing of DHCPv6.

use crate::hand::on_node;
use nix::sys::socket::{
    AddressFamily, LinkAddr, MsgFlags, SockFlag, SockProtocol, SockType, bind, recv, sendto, socket,
};
use std::net::Ipv6Addr;
use std::os::fd::{AsRawFd, OwnedFd};
use xtask::lab::Lab;

/// A frame of these parts; `ethernet` is everything in front of IPv6.
pub(crate) fn frame(
    ethernet: &[u8],
    [source, destination]: [Ipv6Addr; 2],
    [source_port, destination_port]: [u16; 2],
    payload: &[u8],
) -> Vec<u8> {
    let udp_bytes = u16::try_from(8 + payload.len()).expect("a short message");
    let mut ip = vec![0x60, 0, 0, 0];
    ip.extend(udp_bytes.to_be_bytes());
    ip.extend([17, 1]);
    ip.extend(source.octets());
    ip.extend(destination.octets());
    let ports = [source_port, destination_port, udp_bytes, 0];
    let mut udp = ports.map(u16::to_be_bytes).concat();
    udp.extend(payload);
    let checksum = !sum(&[&ip[8..], &[0, 17], &udp_bytes.to_be_bytes(), &udp]);
    udp[6..8].copy_from_slice(&checksum.to_be_bytes());
    [ethernet, &ip, &udp].concat()
}

/// The one's complement sum of parts of even length, but the last.
pub(crate) fn sum(parts: &[&[u8]]) -> u16 {
    let bytes = parts.concat();
    let mut sum: u32 = bytes
        .chunks(2)
        .map(|pair| u32::from(pair[0]) << 8 | u32::from(pair.get(1).copied().unwrap_or(0)))
        .sum();
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    u16::try_from(sum).expect("folded until it fits")
}

/// A packet socket.
pub(crate) struct Wire {
    socket: OwnedFd,
    interface: LinkAddr,
}

impl Wire {
    /// Sends only, where `hears` is false.
    pub(crate) fn open(lab: &Lab, node: &str, interface: &str, hears: bool) -> Self {
        let protocol = hears.then_some(SockProtocol::EthAll);
        on_node(lab, node, || {
            let address = nix::ifaddrs::getifaddrs()
                .expect("interfaces are listed")
                .filter(|it| it.interface_name == interface)
                .find_map(|it| it.address?.as_link_addr().copied())
                .expect("the interface is there");
            let flags = SockFlag::SOCK_CLOEXEC;
            let socket = socket(AddressFamily::Packet, SockType::Raw, flags, protocol)
                .expect("a packet socket");
            if hears {
                let ours = [(libc::SOL_PACKET, libc::PACKET_IGNORE_OUTGOING, 1)];
                for (level, name, value) in ours {
                    relay_userspace::net::sockopt::set_int(&socket, level, name, value)
                        .expect("what we send is not heard");
                }
                bind(socket.as_raw_fd(), &address).expect("it is bound");
            }
            Self {
                socket,
                interface: address,
            }
        })
    }

    pub(crate) fn send(&self, frame: &[u8]) {
        let fd = self.socket.as_raw_fd();
        let sent =
            sendto(fd, frame, &self.interface, MsgFlags::empty()).expect("the interface is up");
        assert_eq!(sent, frame.len());
    }

    /// The next frame; `None` where there is none now.
    pub(crate) fn hear(&self) -> Option<Vec<u8>> {
        let mut frame = vec![0; 2048];
        let fd = self.socket.as_raw_fd();
        let len = recv(fd, &mut frame, MsgFlags::MSG_DONTWAIT).ok()?;
        frame.truncate(len);
        Some(frame)
    }
}
