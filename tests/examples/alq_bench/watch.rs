//! When a Reply leaves one relay, and when the other one's kernel has the routes of its leases: a packet socket on
//! the clients' side, whose times are the kernel's, and the kernel's news of routes, on one clock. News are noted
//! when they are read, so that whatever keeps this program waiting makes a delay longer, never shorter.

use std::collections::HashMap;
use std::io::IoSliceMut;
use std::net::Ipv6Addr;
use std::os::fd::{AsRawFd, OwnedFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use anyhow::Context;
use nix::sys::socket::{
    AddressFamily, ControlMessageOwned, MsgFlags, NetlinkAddr, SockFlag, SockProtocol, SockType,
    bind, recvmsg, setsockopt, socket, sockopt,
};
use nix::sys::time::{TimeSpec, TimeVal};
use nix::time::{ClockId, clock_gettime};

use crate::pair::{Pair, Side};

/// When each lease was seen first, by the wall clock.
pub type Seen = HashMap<Ipv6Addr, Duration>;

/// RTMGRP_IPV6_ROUTE of linux/rtnetlink.h.
const ROUTES: u32 = 0x400;
/// Bytes of Ethernet, IPv6 and UDP before a message.
const HEADERS: usize = 62;
const REPLY: u8 = 7;
const BUFFER: usize = 8 << 20;
/// News that have not come by then do not come.
const LAST: Duration = Duration::from_secs(2);

/// Both sockets, read by a thread each.
pub struct Watch {
    replies: JoinHandle<Seen>,
    routes: JoinHandle<Seen>,
    stop: Arc<AtomicBool>,
}

impl Watch {
    /// From now on.
    pub fn start(pair: &Pair) -> anyhow::Result<Self> {
        let stop = Arc::new(AtomicBool::new(false));
        let frames = pair.within(Side::Twin, packets)?;
        let news = pair.within(Side::Empty, routes)?;
        let spawn = |fd: OwnedFd, read: fn(&[u8], Duration, &mut Seen)| {
            let stop = Arc::clone(&stop);
            std::thread::spawn(move || collect(&fd, &stop, read))
        };
        Ok(Self {
            replies: spawn(frames, read_reply),
            routes: spawn(news, read_routes),
            stop,
        })
    }

    /// Of Replies, and of routes.
    pub fn end(self) -> anyhow::Result<(Seen, Seen)> {
        std::thread::sleep(LAST);
        self.stop.store(true, Ordering::Relaxed);
        let end = |thread: JoinHandle<Seen>| thread.join().ok().context("a reader panicked");
        Ok((end(self.replies)?, end(self.routes)?))
    }
}

fn collect(fd: &OwnedFd, stop: &AtomicBool, read: fn(&[u8], Duration, &mut Seen)) -> Seen {
    let (mut seen, mut bytes) = (Seen::new(), vec![0; 64 << 10]);
    while !stop.load(Ordering::Relaxed) {
        // Nothing for a while is no failure.
        if let Ok((length, at)) = receive(fd, &mut bytes) {
            read(&bytes[..length], at, &mut seen);
        }
    }
    seen
}

/// How much came, and when.
fn receive(fd: &OwnedFd, bytes: &mut [u8]) -> nix::Result<(usize, Duration)> {
    let mut control = nix::cmsg_space!(TimeSpec);
    let mut parts = [IoSliceMut::new(bytes)];
    let flags = MsgFlags::empty();
    let message = recvmsg::<()>(fd.as_raw_fd(), &mut parts, Some(&mut control), flags)?;
    let stamped = message.cmsgs()?.find_map(|it| match it {
        ControlMessageOwned::ScmTimestampns(at) => Some(at),
        _ => None,
    });
    let at = match stamped {
        Some(at) => at,
        None => clock_gettime(ClockId::CLOCK_REALTIME)?,
    };
    Ok((message.bytes, at.into()))
}

fn prepare(fd: &OwnedFd) -> anyhow::Result<()> {
    setsockopt(fd, sockopt::ReceiveTimeout, &TimeVal::new(0, 100_000))?;
    Ok(setsockopt(fd, sockopt::RcvBufForce, &BUFFER)?)
}

/// All IPv6 frames of `cli0`.
fn packets() -> anyhow::Result<OwnedFd> {
    let fd = socket(
        AddressFamily::Packet,
        SockType::Raw,
        SockFlag::SOCK_CLOEXEC,
        None,
    )?;
    prepare(&fd)?;
    setsockopt(&fd, sockopt::ReceiveTimestampns, &true)?;
    let index = nix::net::if_::if_nametoindex("cli0")?;
    let ethertype = (libc::ETH_P_IPV6 as u16).to_be();
    let address = libc::sockaddr_ll {
        sll_family: libc::AF_PACKET as u16,
        sll_protocol: ethertype,
        sll_ifindex: i32::try_from(index)?,
        sll_hatype: 0,
        sll_pkttype: 0,
        sll_halen: 0,
        sll_addr: [0; 8],
    };
    // SAFETY: the address is a whole sockaddr_ll, and lives as long as the call.
    let result = unsafe {
        libc::bind(
            fd.as_raw_fd(),
            (&raw const address).cast(),
            size_of::<libc::sockaddr_ll>() as u32,
        )
    };
    nix::errno::Errno::result(result)?;
    Ok(fd)
}

fn routes() -> anyhow::Result<OwnedFd> {
    let fd = socket(
        AddressFamily::Netlink,
        SockType::Raw,
        SockFlag::SOCK_CLOEXEC,
        SockProtocol::NetlinkRoute,
    )?;
    prepare(&fd)?;
    bind(fd.as_raw_fd(), &NetlinkAddr::new(0, ROUTES))?;
    Ok(fd)
}

/// Addresses and prefixes of a Reply to a client.
fn read_reply(frame: &[u8], at: Duration, seen: &mut Seen) {
    let is_to_client = frame.get(56..58) == Some(&546u16.to_be_bytes());
    if let Some([REPLY, _, _, _, options @ ..]) = frame.get(HEADERS..)
        && is_to_client
    {
        read_options(options, at, seen);
    }
}

fn read_options(mut options: &[u8], at: Duration, seen: &mut Seen) {
    while let Some((&[code_0, code_1, length_0, length_1], rest)) = options.split_first_chunk() {
        let length = usize::from(u16::from_be_bytes([length_0, length_1]));
        let Some((data, next)) = rest.split_at_checked(length) else {
            return;
        };
        match u16::from_be_bytes([code_0, code_1]) {
            // IA_NA, IA_PD: what they hold begins behind IAID, T1 and T2.
            3 | 25 => read_options(data.get(12..).unwrap_or_default(), at, seen),
            5 => note(data.get(..16), at, seen),
            26 => note(data.get(9..25), at, seen),
            _ => {}
        }
        options = next;
    }
}

/// Destinations of new routes.
fn read_routes(mut news: &[u8], at: Duration, seen: &mut Seen) {
    while let Some(header) = news.first_chunk::<16>() {
        let length = u32::from_ne_bytes([header[0], header[1], header[2], header[3]]) as usize;
        let Some(message) = news.get(16..length) else {
            return;
        };
        if u16::from_ne_bytes([header[4], header[5]]) == libc::RTM_NEWROUTE {
            read_attributes(message.get(12..).unwrap_or_default(), at, seen);
        }
        news = news.get(length.next_multiple_of(4)..).unwrap_or_default();
    }
}

fn read_attributes(mut attributes: &[u8], at: Duration, seen: &mut Seen) {
    while let Some(&[length_0, length_1, kind_0, kind_1]) = attributes.first_chunk::<4>() {
        let length = usize::from(u16::from_ne_bytes([length_0, length_1]));
        if u16::from_ne_bytes([kind_0, kind_1]) == libc::RTA_DST {
            return note(attributes.get(4..20), at, seen);
        }
        attributes = attributes
            .get(length.next_multiple_of(4)..)
            .unwrap_or_default();
    }
}

fn note(bytes: Option<&[u8]>, at: Duration, seen: &mut Seen) {
    if let Some(Ok(octets)) = bytes.map(<[u8; 16]>::try_from) {
        seen.entry(Ipv6Addr::from(octets)).or_insert(at);
    }
}
