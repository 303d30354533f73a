//! The client's end of the wire, and the messages that go over it.

use std::os::fd::AsRawFd;
use std::time::{Duration, Instant};

use relay_common::net::{TPID_8021AD, TPID_8021Q, VlanTag, VlanTags};
use relay_userspace::net::batch::{Outgoing, RecvBatch, SendBatch, bytes_of};
use relay_userspace::net::frame::{self, Way};
use relay_userspace::net::packet;
use socket2::Socket;

use crate::network::*;

/// The value of an option of a relay message.
pub(crate) fn option(relayed: &[u8], code: u16) -> Option<&[u8]> {
    let mut rest = relayed.get(34..)?;
    while let Some((head, more)) = rest.split_first_chunk::<4>() {
        let len = usize::from(u16::from_be_bytes([head[2], head[3]]));
        let value = more.get(..len)?;
        if u16::from_be_bytes([head[0], head[1]]) == code {
            return Some(value);
        }
        rest = &more[len..];
    }
    None
}

pub(crate) fn push_option(message: &mut Vec<u8>, code: u16, value: &[u8]) {
    message.extend(code.to_be_bytes());
    message.extend(u16::try_from(value.len()).unwrap().to_be_bytes());
    message.extend(value);
}

/// A message with a Client Identifier and, to make it long, an unknown option of `padding` bytes.
pub(crate) fn message(message_type: u8, xid: u8, padding: usize) -> Vec<u8> {
    let mut message = vec![message_type, 0, 0, xid];
    push_option(&mut message, 1, &[0, 3, 0, 1, 2, 0, 0, 0, 0, 1]);
    if padding > 0 {
        push_option(&mut message, 4242, &vec![0xa5; padding]);
    }
    message
}

pub(crate) fn request_way(vlans: VlanTags) -> Way {
    Way {
        source_mac: CLIENT_MAC,
        destination_mac: GROUP_MAC,
        vlans,
        source: CLIENT,
        destination: GROUP,
        source_port: 546,
        destination_port: 547,
        mtu: 1500,
    }
}

/// The client's end of the wire.
pub(crate) struct Client {
    pub(crate) socket: Socket,
    received: RecvBatch,
}

impl Client {
    pub(crate) fn new() -> Self {
        Self::on("cli0")
    }

    pub(crate) fn on(interface: &str) -> Self {
        let socket = packet::send_socket().unwrap();
        let set = |name| {
            let on = 1i32;
            relay_userspace::net::sockopt::set(&socket, libc::SOL_PACKET, name, &on).unwrap();
        };
        set(libc::PACKET_AUXDATA);
        set(libc::PACKET_IGNORE_OUTGOING);
        let all = u16::try_from(libc::ETH_P_ALL).unwrap();
        let address = packet::link_layer_address(index(interface), all);
        let bytes = bytes_of(&address);
        // SAFETY: pointer and length describe `address`, which outlives the call.
        let bound = unsafe {
            libc::bind(
                socket.as_raw_fd(),
                bytes.as_ptr().cast(),
                bytes.len() as libc::socklen_t,
            )
        };
        assert_eq!(bound, 0);
        Self {
            socket,
            received: RecvBatch::new(1, 4096, packet::TAG_BYTES),
        }
    }

    pub(crate) fn send(&self, way: &Way, payload: &[u8]) {
        assert!(frame::build(way, payload, 99, |frame| {
            self.send_raw(&[frame.headers(), &payload[frame.payload.clone()]].concat());
        }));
    }

    pub(crate) fn send_raw(&self, bytes: &[u8]) {
        let address = packet::link_layer_address(index("cli0"), 0x86dd);
        let datagram = Outgoing {
            head: bytes,
            body: &[],
            address: bytes_of(&address),
            control: &[],
        };
        let once = std::iter::once(datagram);
        SendBatch::default().send(&self.socket, once, |_, result| result.unwrap());
    }

    /// The next frame to a client, its tags put back.
    pub(crate) fn receive(&mut self) -> Vec<u8> {
        self.receive_to(546)
    }

    pub(crate) fn receive_to(&mut self, port: u16) -> Vec<u8> {
        let until = Instant::now() + PATIENCE;
        while Instant::now() < until {
            if self.received.receive(&self.socket).unwrap() == 0 {
                std::thread::sleep(Duration::from_millis(1));
                continue;
            }
            let tag = packet::taken_tag(self.received.control(0));
            let bytes = packet::restore_tag(self.received.slot(0), tag).to_vec();
            let ip = 12 + 4 * tags_in(&bytes) + 2;
            if bytes.get(ip + 6) == Some(&17) && bytes[ip + 42..ip + 44] == port.to_be_bytes() {
                return bytes;
            }
        }
        panic!("nothing came to port {port}");
    }
}

pub(crate) fn tags_in(frame: &[u8]) -> usize {
    let is_tag = |at: usize| matches!(frame.get(at..at + 2), Some([0x81, 0] | [0x88, 0xa8]));
    usize::from(is_tag(12)) + usize::from(is_tag(12) && is_tag(16))
}

pub(crate) fn all_tags() -> [VlanTags; 3] {
    let customer = VlanTag {
        tpid: TPID_8021Q,
        vid: 100,
    };
    let service = VlanTag {
        tpid: TPID_8021AD,
        vid: 7,
    };
    [
        VlanTags::NONE,
        VlanTags::single(customer),
        VlanTags::double(service, customer),
    ]
}
