//! What no follower can beat: one thread that does nothing but write messages and send them, 500 at a time, with
//! one acknowledgement for all of them. Shares no code with the follower.

use std::net::Ipv6Addr;
use std::os::fd::{AsRawFd, OwnedFd};
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use nix::sys::socket::{
    AddressFamily, MsgFlags, NetlinkAddr, SockFlag, SockProtocol, SockType, bind, recv, send,
    socket,
};
use relay_core::types::{IfIndex, Prefix};

use crate::world::{METRIC, PROTOCOL, Wanted};

const BATCH: usize = 500;
const AF_INET6: u8 = 10;
const RT_TABLE_MAIN: u8 = 254;
const RTN_UNICAST: u8 = 1;
const RTA_DST: u16 = 1;
const RTA_OIF: u16 = 4;
const RTA_GATEWAY: u16 = 5;
const RTA_PRIORITY: u16 = 6;
const RTA_NH_ID: u16 = 30;
const RTM_NEWNEXTHOP: u16 = 104;
const NHA_ID: u16 = 1;
const NHA_OIF: u16 = 5;
const NHA_GATEWAY: u16 = 6;
const REQUEST: u16 = libc::NLM_F_REQUEST as u16;
const ACK: u16 = libc::NLM_F_ACK as u16;
const CREATE: u16 = (libc::NLM_F_CREATE | libc::NLM_F_EXCL) as u16 | REQUEST;

/// The socket and the messages that wait.
pub struct Raw {
    fd: OwnedFd,
    bytes: Vec<u8>,
    last: usize,
    waiting: usize,
}

impl Raw {
    pub fn open() -> anyhow::Result<Self> {
        let fd = socket(
            AddressFamily::Netlink,
            SockType::Raw,
            SockFlag::SOCK_CLOEXEC,
            SockProtocol::NetlinkRoute,
        )?;
        bind(fd.as_raw_fd(), &NetlinkAddr::new(0, 0))?;
        Ok(Self {
            fd,
            bytes: Vec::new(),
            last: 0,
            waiting: 0,
        })
    }

    /// Installs all of them.
    pub fn add(&mut self, routes: &[Wanted], interface: IfIndex) -> anyhow::Result<Duration> {
        self.each(routes, |raw, route| {
            raw.begin(
                libc::RTM_NEWROUTE,
                CREATE,
                &rtmsg(route.prefix, RTN_UNICAST),
            );
            raw.attribute(RTA_DST, &route.prefix.address().octets());
            raw.attribute(RTA_PRIORITY, &METRIC.to_ne_bytes());
            raw.attribute(RTA_GATEWAY, &route.gateway.octets());
            raw.attribute(RTA_OIF, &interface.0.to_ne_bytes());
        })
    }

    /// The same by a next-hop object for each gateway, which are made first.
    pub fn add_by_objects(
        &mut self,
        routes: &[Wanted],
        interface: IfIndex,
    ) -> anyhow::Result<(Duration, Duration)> {
        let mut gateways: Vec<Ipv6Addr> = routes.iter().map(|route| route.gateway).collect();
        gateways.sort_unstable();
        gateways.dedup();
        let number = |gateway: Ipv6Addr| gateway.to_bits() as u32 & 0x00ff_ffff | 1 << 30;
        let objects = self.each(&gateways, |raw, gateway| {
            let header = [AF_INET6, 0, PROTOCOL, 0, 0, 0, 0, 0];
            raw.begin(RTM_NEWNEXTHOP, CREATE, &header);
            raw.attribute(NHA_ID, &number(*gateway).to_ne_bytes());
            raw.attribute(NHA_GATEWAY, &gateway.octets());
            raw.attribute(NHA_OIF, &interface.0.to_ne_bytes());
        })?;
        let routes = self.each(routes, |raw, route| {
            raw.begin(
                libc::RTM_NEWROUTE,
                CREATE,
                &rtmsg(route.prefix, RTN_UNICAST),
            );
            raw.attribute(RTA_DST, &route.prefix.address().octets());
            raw.attribute(RTA_PRIORITY, &METRIC.to_ne_bytes());
            raw.attribute(RTA_NH_ID, &number(route.gateway).to_ne_bytes());
        })?;
        Ok((objects, routes))
    }

    /// Deletes all of them.
    pub fn delete(&mut self, routes: &[Wanted]) -> anyhow::Result<Duration> {
        self.each(routes, |raw, route| {
            raw.begin(libc::RTM_DELROUTE, REQUEST, &rtmsg(route.prefix, 0));
            raw.attribute(RTA_DST, &route.prefix.address().octets());
            raw.attribute(RTA_PRIORITY, &METRIC.to_ne_bytes());
        })
    }

    fn each<T>(
        &mut self,
        items: &[T],
        mut write: impl FnMut(&mut Self, &T),
    ) -> anyhow::Result<Duration> {
        let started = Instant::now();
        for item in items {
            write(self, item);
            self.waiting += 1;
            if self.waiting == BATCH {
                self.flush()?;
            }
        }
        self.flush()?;
        Ok(started.elapsed())
    }

    fn begin(&mut self, kind: u16, flags: u16, fixed: &[u8]) {
        self.last = self.bytes.len();
        self.bytes.extend_from_slice(&[0; 4]);
        self.bytes.extend_from_slice(&kind.to_ne_bytes());
        self.bytes.extend_from_slice(&flags.to_ne_bytes());
        self.bytes.extend_from_slice(&[0; 8]);
        self.bytes.extend_from_slice(fixed);
        self.close();
    }

    /// All values are of 4 or 16 bytes: nothing needs padding.
    fn attribute(&mut self, kind: u16, value: &[u8]) {
        self.bytes
            .extend_from_slice(&(4 + value.len() as u16).to_ne_bytes());
        self.bytes.extend_from_slice(&kind.to_ne_bytes());
        self.bytes.extend_from_slice(value);
        self.close();
    }

    fn close(&mut self) {
        let length = (self.bytes.len() - self.last) as u32;
        self.bytes[self.last..self.last + 4].copy_from_slice(&length.to_ne_bytes());
    }

    fn flush(&mut self) -> anyhow::Result<()> {
        if std::mem::take(&mut self.waiting) == 0 {
            return Ok(());
        }
        let flags = &mut self.bytes[self.last + 6..self.last + 8];
        let with_ack = u16::from_ne_bytes([flags[0], flags[1]]) | ACK;
        flags.copy_from_slice(&with_ack.to_ne_bytes());
        send(self.fd.as_raw_fd(), &self.bytes, MsgFlags::empty())?;
        self.bytes.clear();
        let mut answer = [0; 8192];
        recv(self.fd.as_raw_fd(), &mut answer, MsgFlags::empty())?;
        let errno = answer[16..20].try_into().context("four bytes")?;
        match i32::from_ne_bytes(errno) {
            0 => Ok(()),
            error => bail!("the kernel refused: {error}"),
        }
    }
}

fn rtmsg(prefix: Prefix, kind: u8) -> [u8; 12] {
    [
        AF_INET6,
        prefix.bits(),
        0,
        0,
        RT_TABLE_MAIN,
        PROTOCOL,
        0,
        kind,
        0,
        0,
        0,
        0,
    ]
}
