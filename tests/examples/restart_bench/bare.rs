//! What no restart can do without, and nothing else: the store is read, the kernel lists its routes.

use std::hint::black_box;
use std::os::fd::AsRawFd;
use std::path::Path;
use std::time::{Duration, Instant};

use nix::sys::socket::{
    AddressFamily, MsgFlags, NetlinkAddr, SockFlag, SockProtocol, SockType, bind, recv, send,
    socket,
};
use relay_userspace::store::{Clock, Opened, Options, StateDir};

/// A header, and a `rtmsg` that asks for IPv6.
const QUESTION_BYTES: usize = 28;
const AF_INET6: u8 = 10;

/// Reads every binding of the store.
pub fn scan(state: &Path) -> anyhow::Result<Duration> {
    let started = Instant::now();
    let clock = Box::new(Clock::read);
    let mut opened = Opened::open(StateDir::lock(state)?, Options::default(), clock)?;
    opened.load(|restored| {
        black_box(restored);
    })?;
    Ok(started.elapsed())
}

/// Has the kernel list its IPv6 routes: how long that takes, and how many they are.
pub fn dump() -> anyhow::Result<(Duration, u64)> {
    let fd = socket(
        AddressFamily::Netlink,
        SockType::Raw,
        SockFlag::SOCK_CLOEXEC,
        SockProtocol::NetlinkRoute,
    )?;
    bind(fd.as_raw_fd(), &NetlinkAddr::new(0, 0))?;
    let mut question = [0; QUESTION_BYTES];
    question[..4].copy_from_slice(&(QUESTION_BYTES as u32).to_ne_bytes());
    question[4..6].copy_from_slice(&libc::RTM_GETROUTE.to_ne_bytes());
    let flags = (libc::NLM_F_REQUEST | libc::NLM_F_DUMP) as u16;
    question[6..8].copy_from_slice(&flags.to_ne_bytes());
    question[16] = AF_INET6;
    let started = Instant::now();
    send(fd.as_raw_fd(), &question, MsgFlags::empty())?;
    let mut answer = vec![0; 256 << 10];
    let mut routes = 0;
    loop {
        let received = recv(fd.as_raw_fd(), &mut answer, MsgFlags::empty())?;
        let mut rest = &answer[..received];
        while let Some(header) = rest.first_chunk::<16>() {
            let length = u32::from_ne_bytes([header[0], header[1], header[2], header[3]]) as usize;
            match u16::from_ne_bytes([header[4], header[5]]) {
                libc::RTM_NEWROUTE => routes += 1,
                _ => return Ok((started.elapsed(), routes)),
            }
            rest = rest.get(length.next_multiple_of(4)..).unwrap_or_default();
        }
    }
}
