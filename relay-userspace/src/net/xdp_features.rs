//! Whether an interface can send what a program hands it (`ndo_xdp_xmit`): asked of the kernel's netlink
//! family `netdev` (Linux 6.3). What it cannot send, it drops.

use std::io;
use std::os::fd::{AsRawFd, OwnedFd};

use nix::sys::socket::{
    self, AddressFamily, MsgFlags, NetlinkAddr, SockFlag, SockProtocol, SockType,
};
use relay_core::types::IfIndex;

use crate::routes::message::{Batch, Messages, fixed, read_u32};

/// linux/genetlink.h.
const CONTROLLER: u16 = 16;
const GET_FAMILY: u8 = 3;
const FAMILY_ID: u16 = 1;
const FAMILY_NAME: u16 = 2;
/// linux/netdev.h.
const GET_DEVICE: u8 = 1;
const IFINDEX: u16 = 1;
const XDP_FEATURES: u16 = 3;
const SENDS: u64 = 1 << 2;
/// One answer.
const ANSWER_BYTES: usize = 8192;
/// `struct genlmsghdr`.
const GENERIC_HEADER_BYTES: usize = 4;

/// A way to ask.
pub struct XdpFeatures {
    socket: OwnedFd,
    family: u16,
}

impl XdpFeatures {
    /// # Errors
    /// The kernel is older than that, or refuses.
    pub fn open() -> io::Result<Self> {
        let socket = socket::socket(
            AddressFamily::Netlink,
            SockType::Raw,
            SockFlag::SOCK_CLOEXEC,
            SockProtocol::NetlinkGeneric,
        )?;
        socket::bind(socket.as_raw_fd(), &NetlinkAddr::new(0, 0))?;
        let mut asking = Self { socket, family: 0 };
        let id = asking.ask(
            CONTROLLER,
            GET_FAMILY,
            (FAMILY_NAME, b"netdev\0"),
            FAMILY_ID,
        )?;
        asking.family = u16::from_ne_bytes(fixed(&id, 0).ok_or(io::ErrorKind::InvalidData)?);
        Ok(asking)
    }

    /// Whether this interface can send frames of programs now.
    ///
    /// # Errors
    /// There is no such interface.
    pub fn can_send(&self, interface: IfIndex) -> io::Result<bool> {
        let index = interface.0.to_ne_bytes();
        let value = self.ask(self.family, GET_DEVICE, (IFINDEX, &index), XDP_FEATURES)?;
        let features = u64::from_ne_bytes(fixed(&value, 0).ok_or(io::ErrorKind::InvalidData)?);
        Ok(features & SENDS != 0)
    }

    /// One attribute of the answer to a request with one attribute.
    fn ask(
        &self,
        family: u16,
        command: u8,
        (kind, value): (u16, &[u8]),
        wanted: u16,
    ) -> io::Result<Vec<u8>> {
        let mut request = Batch::default();
        let flags = u16::try_from(libc::NLM_F_REQUEST).expect("16 bits");
        request.begin(family, flags, 1, &[command, 1, 0, 0]);
        request.attribute(kind, value);
        socket::send(self.socket.as_raw_fd(), request.bytes(), MsgFlags::empty())?;
        let mut answer = vec![0; ANSWER_BYTES];
        let len = socket::recv(self.socket.as_raw_fd(), &mut answer, MsgFlags::empty())?;
        let message = Messages(&answer[..len]).next();
        let message = message.ok_or(io::ErrorKind::InvalidData)?;
        if i32::from(message.message_type) == libc::NLMSG_ERROR {
            let errno = read_u32(message.body).unwrap_or(0).cast_signed();
            return Err(io::Error::from_raw_os_error(-errno));
        }
        let mut attributes = message.attributes(GENERIC_HEADER_BYTES);
        let found = attributes.find(|(kind, _)| *kind == wanted);
        let (_, value) = found.ok_or(io::ErrorKind::InvalidData)?;
        Ok(value.to_vec())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The loopback interface takes no frames of programs; one that does not exist is an error.
    #[test]
    fn kernel_tells_whether_an_interface_can_send() {
        let Ok(features) = XdpFeatures::open() else {
            eprintln!("skipped: this kernel has no netlink family netdev");
            return;
        };

        assert!(!features.can_send(IfIndex(1)).unwrap());
        assert!(features.can_send(IfIndex(u32::MAX >> 1)).is_err());
    }
}
