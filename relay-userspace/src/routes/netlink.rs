//! Netlink sockets: one to ask and write, one to listen. Knows sequence numbers, acknowledgements
//! and dumps, not what is in them.
//!
//! The rtnetlink crate awaits one answer per message; an own sender of many messages per `send`
//! with one acknowledgement at the end is about twice as fast and answers from the calling thread.

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::time::Duration;

use nix::errno::Errno;
use nix::sys::socket::{
    self, AddressFamily, MsgFlags, NetlinkAddr, SockFlag, SockProtocol, SockType, sockopt,
};
use nix::sys::time::TimeVal;

use super::message::{Batch, HEADER_LEN, Message, Messages};

/// Messages in one batch. More are not faster, and a route that a Reply waits for would wait for more
/// others; errors of a whole batch fit the receive buffer many times over.
pub const BATCH_MAX: usize = 256;

/// Bytes of receive buffer: room for the answers of a batch, and for a burst of events.
const RECEIVE_BUFFER: usize = 8 << 20;
/// The kernel fills dumps in pieces of at most 32 KiB.
const READ_BUFFER: usize = 64 << 10;
/// The kernel answers at once; later than this something is broken.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(5);
/// A dump that other writers keep interrupting is taken as it is after so many tries.
const DUMP_TRIES: usize = 3;

const SOL_NETLINK: i32 = libc::SOL_NETLINK;

/// What became of a batch.
pub type BatchResult = io::Result<Vec<(usize, i32)>>;

/// Some answers to a dump.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Piece {
    /// There are more.
    More {
        /// Other writers changed the table under it.
        was_interrupted: bool,
    },
    /// These were the last.
    Last {
        /// Likewise.
        was_interrupted: bool,
    },
}

/// A socket to ask and to write.
#[derive(Debug)]
pub struct Requests {
    fd: OwnedFd,
    sequence: u32,
    buffer: Vec<u8>,
}

impl Requests {
    /// In the network namespace of the calling thread.
    ///
    /// # Errors
    /// What the kernel said.
    pub fn open() -> io::Result<Self> {
        let fd = open_socket(0)?;
        set_option(&fd, SOL_NETLINK, libc::NETLINK_CAP_ACK, &1i32)?;
        // Without strict checking the kernel ignores the filter of a dump.
        set_option(&fd, SOL_NETLINK, libc::NETLINK_GET_STRICT_CHK, &1i32)?;
        let timeout = TimeVal::new(
            i64::try_from(ANSWER_TIMEOUT.as_secs()).expect("a few seconds"),
            0,
        );
        socket::setsockopt(&fd, sockopt::ReceiveTimeout, &timeout)?;
        Ok(Self {
            fd,
            sequence: 1,
            buffer: vec![0; READ_BUFFER],
        })
    }

    /// The port number that marks what the kernel reports of our own writes.
    ///
    /// # Errors
    /// What the kernel said.
    pub fn port(&self) -> io::Result<u32> {
        let address: NetlinkAddr = socket::getsockname(self.fd.as_raw_fd())?;
        Ok(address.pid())
    }

    /// Sends `count` messages that `write` adds to the batch under the sequence number it is
    /// given, and waits until the kernel has done all of them. Answers the errors: index in the
    /// batch and errno. An `Err` means that nobody knows what was done.
    ///
    /// # Errors
    /// The socket failed, or answers were lost.
    pub fn write_batch(
        &mut self,
        batch: &mut Batch,
        count: usize,
        mut write: impl FnMut(&mut Batch, usize, u32),
    ) -> BatchResult {
        if count == 0 {
            return Ok(Vec::new());
        }
        let first = self.next_sequences(count);
        batch.clear();
        for index in 0..count {
            write(batch, index, first.wrapping_add(index_u32(index)));
        }
        batch.add_flags(flag(libc::NLM_F_ACK));
        self.send(batch.bytes())?;
        let mut errors = Vec::new();
        loop {
            let len = self.receive()?;
            for message in Messages(&self.buffer[..len]) {
                let index = message.sequence.wrapping_sub(first) as usize;
                let Some(errno) = message.errno().filter(|_| index < count) else {
                    continue;
                };
                if errno != 0 {
                    errors.push((index, errno));
                }
                if index == count - 1 {
                    return Ok(errors);
                }
            }
        }
    }

    /// Asks for all objects; `request` adds the one message, `each` sees every answer.
    ///
    /// # Errors
    /// The kernel refused, or answers were lost.
    pub fn dump(
        &mut self,
        request: impl Fn(&mut Batch, u16, u32),
        mut restart: impl FnMut(),
        mut each: impl FnMut(Message<'_>),
    ) -> io::Result<()> {
        for _ in 0..DUMP_TRIES {
            restart();
            let sequence = self.begin_dump(&request)?;
            let mut interrupted = false;
            let is_over = loop {
                match self.read_dump(sequence, &mut each)? {
                    Piece::More { was_interrupted } => interrupted |= was_interrupted,
                    Piece::Last { was_interrupted } => break !(interrupted | was_interrupted),
                }
            };
            if is_over {
                break;
            }
        }
        Ok(())
    }

    /// Asks for all objects; [`Requests::read_dump`] reads the answers under the sequence number
    /// that this returns.
    ///
    /// # Errors
    /// The socket failed.
    pub fn begin_dump(&mut self, request: impl Fn(&mut Batch, u16, u32)) -> io::Result<u32> {
        let sequence = self.next_sequences(1);
        let mut batch = Batch::default();
        request(
            &mut batch,
            flag(libc::NLM_F_REQUEST | libc::NLM_F_DUMP),
            sequence,
        );
        self.send(batch.bytes())?;
        Ok(sequence)
    }

    /// Reads some answers to a dump: those of one datagram, which the kernel makes when it is asked
    /// for.
    ///
    /// # Errors
    /// The kernel refused, or answers were lost.
    pub fn read_dump(
        &mut self,
        sequence: u32,
        each: &mut impl FnMut(Message<'_>),
    ) -> io::Result<Piece> {
        let len = self.receive()?;
        let mut was_interrupted = false;
        for message in Messages(&self.buffer[..len]) {
            if message.sequence != sequence {
                continue;
            }
            was_interrupted |= message.flags & flag(libc::NLM_F_DUMP_INTR) != 0;
            if let Some(errno) = message.errno() {
                return Err(io::Error::from_raw_os_error(errno));
            }
            if i32::from(message.message_type) == libc::NLMSG_DONE {
                // NLMSG_DONE carries the dump's own result.
                return match super::message::fixed(message.body, 0).map(i32::from_ne_bytes) {
                    Some(result) if result < 0 => Err(io::Error::from_raw_os_error(-result)),
                    _ => Ok(Piece::Last { was_interrupted }),
                };
            }
            each(message);
        }
        Ok(Piece::More { was_interrupted })
    }

    /// Asks for `count` objects, each by the message that `request` adds; `None` for those that do
    /// not exist.
    ///
    /// # Errors
    /// The socket failed, or answers were lost.
    pub fn get_batch<T: Clone>(
        &mut self,
        count: usize,
        mut request: impl FnMut(&mut Batch, usize, u16, u32),
        read: impl Fn(Message<'_>) -> Option<T>,
    ) -> io::Result<Vec<Option<T>>> {
        let mut found = vec![None; count];
        if count == 0 {
            return Ok(found);
        }
        let first = self.next_sequences(count);
        let mut batch = Batch::default();
        for index in 0..count {
            let sequence = first.wrapping_add(index_u32(index));
            request(&mut batch, index, flag(libc::NLM_F_REQUEST), sequence);
        }
        self.send(batch.bytes())?;
        let mut left = count;
        while left > 0 {
            let len = self.receive()?;
            for message in Messages(&self.buffer[..len]) {
                let index = message.sequence.wrapping_sub(first) as usize;
                let Some(place) = found.get_mut(index) else {
                    continue;
                };
                // An error is an answer too: nothing there, or no interface any more.
                left -= 1;
                if message.errno().is_none() {
                    *place = read(message);
                }
            }
        }
        Ok(found)
    }

    fn next_sequences(&mut self, count: usize) -> u32 {
        let first = self.sequence;
        self.sequence = first.wrapping_add(index_u32(count)).max(1);
        first
    }

    fn send(&self, bytes: &[u8]) -> io::Result<()> {
        loop {
            match socket::send(self.fd.as_raw_fd(), bytes, MsgFlags::empty()) {
                Err(Errno::EINTR) => {}
                result => return Ok(result.map(|_| ())?),
            }
        }
    }

    fn receive(&mut self) -> io::Result<usize> {
        receive(&self.fd, &mut self.buffer, MsgFlags::empty())
    }
}

/// A socket that hears of changes.
#[derive(Debug)]
pub struct Events {
    fd: OwnedFd,
    buffer: Vec<u8>,
}

/// One reading of [`Events`].
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Read {
    /// Messages were read.
    Some,
    /// Nothing is there now.
    Nothing,
    /// Events were lost: everything must be asked again.
    Overrun,
}

impl Events {
    /// Listens to `groups` (RTNLGRP_*, each below 32), but not to what the socket with port
    /// `own_port` did to routes: a million own writes would drown the few events that matter.
    ///
    /// # Errors
    /// What the kernel said.
    pub fn open(groups: &[u32], own_port: u32) -> io::Result<Self> {
        let mask = groups
            .iter()
            .fold(0, |mask, group| mask | (1 << (group - 1)));
        let fd = open_socket(mask)?;
        let program = own_routes_filter(own_port);
        let filter = libc::sock_fprog {
            len: u16::try_from(program.len()).expect("a handful"),
            filter: program.as_ptr().cast_mut(),
        };
        set_option(&fd, libc::SOL_SOCKET, libc::SO_ATTACH_FILTER, &filter)?;
        Ok(Self {
            fd,
            buffer: vec![0; READ_BUFFER],
        })
    }

    /// Reads what is there, without waiting.
    ///
    /// # Errors
    /// The socket failed.
    pub fn read(&mut self, mut each: impl FnMut(Message<'_>)) -> io::Result<Read> {
        match receive(&self.fd, &mut self.buffer, MsgFlags::MSG_DONTWAIT) {
            Ok(len) => {
                Messages(&self.buffer[..len]).for_each(&mut each);
                Ok(Read::Some)
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(Read::Nothing),
            Err(error) if error.raw_os_error() == Some(libc::ENOBUFS) => Ok(Read::Overrun),
            Err(error) => Err(error),
        }
    }
}

impl AsFd for Events {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

/// `NLM_F_*` as the 16 bits of the header.
pub fn flag(flags: i32) -> u16 {
    u16::try_from(flags).expect("NLM_F_* are 16 bits")
}

fn index_u32(index: usize) -> u32 {
    u32::try_from(index).expect("a batch is short")
}

fn open_socket(groups: u32) -> io::Result<OwnedFd> {
    let fd = socket::socket(
        AddressFamily::Netlink,
        SockType::Raw,
        SockFlag::SOCK_CLOEXEC,
        SockProtocol::NetlinkRoute,
    )?;
    // RcvBufForce needs CAP_NET_ADMIN; without it nothing here could write anyway.
    if socket::setsockopt(&fd, sockopt::RcvBufForce, &RECEIVE_BUFFER).is_err() {
        socket::setsockopt(&fd, sockopt::RcvBuf, &RECEIVE_BUFFER)?;
    }
    socket::bind(fd.as_raw_fd(), &NetlinkAddr::new(0, groups))?;
    Ok(fd)
}

fn receive(fd: &OwnedFd, buffer: &mut [u8], flags: MsgFlags) -> io::Result<usize> {
    loop {
        match socket::recv(fd.as_raw_fd(), buffer, flags | MsgFlags::MSG_TRUNC) {
            Err(Errno::EINTR) => {}
            Ok(len) if len > buffer.len() => {
                return Err(io::Error::from_raw_os_error(libc::ENOBUFS));
            }
            Ok(len) if len < HEADER_LEN => return Err(io::ErrorKind::UnexpectedEof.into()),
            result => return Ok(result?),
        }
    }
}

fn set_option<T>(fd: &OwnedFd, level: i32, name: i32, value: &T) -> io::Result<()> {
    let len = libc::socklen_t::try_from(size_of::<T>()).expect("options are small");
    // SAFETY: `value` is valid for reads of `len` bytes for the whole call; the kernel copies what
    // it keeps, a filter's instructions included.
    let result = unsafe {
        libc::setsockopt(
            fd.as_raw_fd(),
            level,
            name,
            std::ptr::from_ref(value).cast(),
            len,
        )
    };
    Errno::result(result)?;
    Ok(())
}

/// Classic BPF on the netlink header (loads are big-endian, the header is in host order): RTM_NEWROUTE
/// and RTM_DELROUTE that `own_port` caused are dropped, everything else passes.
fn own_routes_filter(own_port: u32) -> [libc::sock_filter; 7] {
    let as_loaded_u16 = |value: u16| u32::from(u16::from_be_bytes(value.to_ne_bytes()));
    let as_loaded_u32 = |value: u32| u32::from_be_bytes(value.to_ne_bytes());
    let op = |code: u32, jt, jf, k| libc::sock_filter {
        code: u16::try_from(code).expect("BPF codes are 16 bits"),
        jt,
        jf,
        k,
    };
    let load_u16 = libc::BPF_LD | libc::BPF_H | libc::BPF_ABS;
    let load_u32 = libc::BPF_LD | libc::BPF_W | libc::BPF_ABS;
    let equal = libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K;
    let answer = libc::BPF_RET | libc::BPF_K;
    [
        op(load_u16, 0, 0, 4),
        op(equal, 1, 0, as_loaded_u16(libc::RTM_NEWROUTE)),
        op(equal, 0, 2, as_loaded_u16(libc::RTM_DELROUTE)),
        op(load_u32, 0, 0, 12),
        op(equal, 1, 0, as_loaded_u32(own_port)),
        op(answer, 0, 0, u32::MAX),
        op(answer, 0, 0, 0),
    ]
}
