//! Many datagrams in one system call: `recvmmsg` into buffers that are made once, `sendmmsg` from
//! slices that stay where they are, and, where they are alike, as one datagram that the kernel cuts up.

use std::io;
use std::net::Ipv6Addr;
use std::os::fd::{AsFd, AsRawFd};

/// Ancillary data of one received datagram: enough for every control message that we ask for.
const CONTROL_WORDS: usize = 64;
/// Datagrams in one `sendmmsg`.
const SEND_MAX: usize = 256;
/// Joined datagrams in one that the kernel cuts up: what kernels before 6.9 take at most.
const JOINED_MAX: usize = 64;
/// Their bytes: headers and all must be less than 64 KiB.
const JOINED_BYTES: usize = 60_000;
/// What is longer is not joined: each piece must fit into the MTU, and IPv6 has 1,280 everywhere.
const PIECE_BYTES: usize = 1_280 - 40 - 8;
/// Room for the ancillary data of one datagram, and [`Segment`] behind it.
const JOINED_CONTROL_BYTES: usize = 64;
/// How long to wait for room in a socket's buffer before a datagram is given up, in milliseconds.
/// A card that takes nothing for longer must not stop the relay.
const SEND_WAIT_MILLIS: i32 = 5;

/// Buffers for [`RecvBatch::receive`].
pub struct RecvBatch {
    slots: Box<[u8]>,
    slot_bytes: usize,
    headroom: usize,
    control: Box<[[u64; CONTROL_WORDS]]>,
    names: Box<[libc::sockaddr_storage]>,
    #[expect(dead_code, reason = "the headers point into it")]
    vectors: Box<[libc::iovec]>,
    headers: Box<[libc::mmsghdr]>,
}

// SAFETY: every pointer inside points into a box that the same value owns.
unsafe impl Send for RecvBatch {}

impl RecvBatch {
    /// `count` buffers of `slot_bytes`, of which the first `headroom` stay free for the caller.
    /// Memory is taken as it is touched: a slot costs what its largest datagram was long.
    pub fn new(count: usize, slot_bytes: usize, headroom: usize) -> Self {
        let mut slots = vec![0; count * slot_bytes].into_boxed_slice();
        let mut control = vec![[0u64; CONTROL_WORDS]; count].into_boxed_slice();
        // SAFETY: all-zero is a valid value of these plain C structs.
        let empty: (libc::sockaddr_storage, libc::mmsghdr) = unsafe { std::mem::zeroed() };
        let mut names = vec![empty.0; count].into_boxed_slice();
        let mut vectors: Box<[libc::iovec]> = slots
            .chunks_exact_mut(slot_bytes)
            .map(|slot| libc::iovec {
                iov_base: slot[headroom..].as_mut_ptr().cast(),
                iov_len: slot_bytes - headroom,
            })
            .collect();
        let mut headers = vec![empty.1; count].into_boxed_slice();
        for (at, header) in headers.iter_mut().enumerate() {
            header.msg_hdr.msg_name = std::ptr::from_mut(&mut names[at]).cast();
            header.msg_hdr.msg_iov = std::ptr::from_mut(&mut vectors[at]);
            header.msg_hdr.msg_iovlen = 1;
            header.msg_hdr.msg_control = control[at].as_mut_ptr().cast();
        }
        Self {
            slots,
            slot_bytes,
            headroom,
            control,
            names,
            vectors,
            headers,
        }
    }

    /// How many datagrams one call can take.
    pub fn capacity(&self) -> usize {
        self.headers.len()
    }

    /// Takes what is there without waiting; how many datagrams that were.
    ///
    /// # Errors
    /// What the kernel said; nothing there is `Ok(0)`.
    pub fn receive(&mut self, socket: impl AsFd) -> io::Result<usize> {
        for header in &mut self.headers {
            header.msg_hdr.msg_namelen = size_of::<libc::sockaddr_storage>() as libc::socklen_t;
            header.msg_hdr.msg_controllen = CONTROL_WORDS * size_of::<u64>();
            header.msg_hdr.msg_flags = 0;
        }
        let count = libc::c_uint::try_from(self.headers.len()).expect("a batch is small");
        // SAFETY: the headers point at name, buffer and control space of their own, all alive.
        let received = unsafe {
            libc::recvmmsg(
                socket.as_fd().as_raw_fd(),
                self.headers.as_mut_ptr(),
                count,
                libc::MSG_DONTWAIT as _,
                std::ptr::null_mut(),
            )
        };
        match usize::try_from(received) {
            Ok(received) => Ok(received),
            Err(_) => match io::Error::last_os_error() {
                error if error.kind() == io::ErrorKind::WouldBlock => Ok(0),
                error => Err(error),
            },
        }
    }

    /// A datagram of the last [`RecvBatch::receive`].
    pub fn bytes(&self, at: usize) -> &[u8] {
        let from = at * self.slot_bytes + self.headroom;
        &self.slots[from..from + self.len(at)]
    }

    /// The same with its headroom in front.
    pub fn slot(&mut self, at: usize) -> &mut [u8] {
        let from = at * self.slot_bytes;
        let len = self.headroom + self.len(at);
        &mut self.slots[from..from + len]
    }

    fn len(&self, at: usize) -> usize {
        usize::try_from(self.headers[at].msg_len)
            .expect("usize has 32 bits at least")
            .min(self.slot_bytes - self.headroom)
    }

    /// Whether the datagram was longer than its buffer.
    pub fn is_truncated(&self, at: usize) -> bool {
        self.headers[at].msg_hdr.msg_flags & libc::MSG_TRUNC != 0
    }

    /// Who sent the datagram, where the socket is one of UDP over IPv6.
    pub fn sender(&self, at: usize) -> (Ipv6Addr, u16) {
        // SAFETY: `sockaddr_storage` is larger than `sockaddr_in6`, aligned for it, and every bit
        // pattern is a value of it.
        let name = unsafe { &*std::ptr::from_ref(&self.names[at]).cast::<libc::sockaddr_in6>() };
        (
            Ipv6Addr::from(name.sin6_addr.s6_addr),
            u16::from_be(name.sin6_port),
        )
    }

    /// The control messages: level, type, bytes.
    pub fn control(&self, at: usize) -> Control<'_> {
        let bytes = size_of_val(&self.control[at]).min(self.headers[at].msg_hdr.msg_controllen);
        // SAFETY: the first `bytes` bytes of the words; any byte may be read as a byte.
        let rest =
            unsafe { std::slice::from_raw_parts(self.control[at].as_ptr().cast::<u8>(), bytes) };
        Control { rest }
    }
}

/// Walks control messages: `cmsghdr | data`, each padded to the size of a word.
pub struct Control<'a> {
    rest: &'a [u8],
}

impl<'a> Iterator for Control<'a> {
    type Item = (i32, i32, &'a [u8]);

    fn next(&mut self) -> Option<Self::Item> {
        const HEADER: usize = size_of::<libc::cmsghdr>();
        let header = self.rest.get(..HEADER)?;
        let word = |at: usize| i32::from_ne_bytes([0, 1, 2, 3].map(|i| header[at + i]));
        let len = usize::from_ne_bytes(
            header[..size_of::<usize>()]
                .try_into()
                .expect("a header starts with its length"),
        );
        let level = word(std::mem::offset_of!(libc::cmsghdr, cmsg_level));
        let kind = word(std::mem::offset_of!(libc::cmsghdr, cmsg_type));
        let data = self.rest.get(HEADER..len)?;
        let next = len.next_multiple_of(size_of::<usize>());
        self.rest = self.rest.get(next..).unwrap_or(&[]);
        Some((level, kind, data))
    }
}

/// A datagram to send.
#[derive(Clone, Copy)]
pub struct Outgoing<'a> {
    /// First part; may be empty.
    pub head: &'a [u8],
    /// What follows it.
    pub body: &'a [u8],
    /// Destination, as the socket's family has it.
    pub address: &'a [u8],
    /// Control messages.
    pub control: &'a [u8],
}

/// How long the pieces of a joined datagram are, as ancillary data.
#[repr(C)]
#[derive(Clone, Copy)]
struct Segment {
    header: libc::cmsghdr,
    bytes: u16,
    padding: [u8; 6],
}

/// Ancillary data of a joined datagram; the kernel wants it aligned.
#[repr(align(8))]
struct JoinedControl([u8; JOINED_CONTROL_BYTES]);

/// Datagrams that leave as one.
#[derive(Clone, Copy)]
struct Run {
    first: usize,
    count: usize,
    /// Of each.
    bytes: usize,
}

/// Room for the system's structs, kept between calls so that sending does not allocate.
#[derive(Default)]
pub struct SendBatch {
    headers: Vec<libc::mmsghdr>,
    vectors: Vec<[libc::iovec; 2]>,
    /// What each header stands for.
    runs: Vec<Run>,
    /// Ancillary data of those that stand for several.
    controls: Vec<JoinedControl>,
    /// The kernel takes no joined datagrams here.
    cannot_join: bool,
}

// SAFETY: the pointers inside are used only while `send` runs, which borrows what they point at.
unsafe impl Send for SendBatch {}

impl SendBatch {
    /// Sends all, in order. `outcome` hears the number of each datagram and what became of it; a
    /// datagram that the kernel refuses does not stop those behind it.
    pub fn send<'a>(
        &mut self,
        socket: impl AsFd,
        datagrams: impl Iterator<Item = Outgoing<'a>>,
        outcome: impl FnMut(usize, io::Result<()>),
    ) {
        self.send_all(socket.as_fd().as_raw_fd(), datagrams, false, outcome);
    }

    /// The same through a UDP socket, where most have their destination and their length in common with
    /// the next. Such go through the kernel as one, and the card or the driver's queue cuts it up: the way
    /// through the kernel, which costs several times what deciding on a message does, is paid once.
    pub fn send_joined<'a>(
        &mut self,
        socket: impl AsFd,
        datagrams: impl Iterator<Item = Outgoing<'a>>,
        outcome: impl FnMut(usize, io::Result<()>),
    ) {
        self.send_all(socket.as_fd().as_raw_fd(), datagrams, true, outcome);
    }

    fn send_all<'a>(
        &mut self,
        fd: i32,
        mut datagrams: impl Iterator<Item = Outgoing<'a>>,
        joined: bool,
        mut outcome: impl FnMut(usize, io::Result<()>),
    ) {
        let mut done = 0;
        loop {
            let some = datagrams.by_ref().take(SEND_MAX);
            self.fill(some, joined && !self.cannot_join);
            if self.headers.is_empty() {
                return;
            }
            self.send_filled(fd, |at, result| outcome(done + at, result));
            done += self.vectors.len();
        }
    }

    fn fill<'a>(&mut self, datagrams: impl Iterator<Item = Outgoing<'a>>, joined: bool) {
        self.headers.clear();
        self.vectors.clear();
        self.runs.clear();
        self.controls.clear();
        // The headers point into both: those must not move once the first is made.
        self.vectors.reserve(SEND_MAX);
        self.controls.reserve(SEND_MAX);
        let mut last: Option<Outgoing<'a>> = None;
        for (at, datagram) in datagrams.enumerate() {
            let vector = |bytes: &[u8]| libc::iovec {
                iov_base: bytes.as_ptr().cast_mut().cast(),
                iov_len: bytes.len(),
            };
            self.vectors
                .push([vector(datagram.head), vector(datagram.body)]);
            let is_alike = joined && last.is_some_and(|last| last.is_like(&datagram));
            last = Some(datagram);
            if let Some(run) = self.runs.last_mut()
                && is_alike
                && run.count < JOINED_MAX
                && (run.count + 1) * run.bytes <= JOINED_BYTES
            {
                run.count += 1;
                if run.count == 2 {
                    self.controls.push(joined_control(&datagram));
                    let message = &mut self.headers.last_mut().expect("as many as runs").msg_hdr;
                    let control = self.controls.last_mut().expect("just made");
                    message.msg_control = control.0.as_mut_ptr().cast();
                    message.msg_controllen = datagram.control.len() + size_of::<Segment>();
                }
                continue;
            }
            self.runs.push(Run {
                first: at,
                count: 1,
                bytes: datagram.len(),
            });
            self.headers.push(header_of(&datagram));
        }
        for (header, run) in self.headers.iter_mut().zip(&self.runs) {
            header.msg_hdr.msg_iov = self.vectors[run.first..].as_mut_ptr().cast();
            header.msg_hdr.msg_iovlen = 2 * run.count;
        }
    }

    fn send_filled(&mut self, fd: i32, mut outcome: impl FnMut(usize, io::Result<()>)) {
        let mut at = 0;
        let mut waited = false;
        // Bounded: every round sends or gives up at least one datagram, or is the one wait.
        while at < self.headers.len() {
            let rest = &mut self.headers[at..];
            let count = libc::c_uint::try_from(rest.len()).expect("at most SEND_MAX");
            // SAFETY: the headers point at vectors, addresses and bytes that `send` still borrows.
            let sent =
                unsafe { libc::sendmmsg(fd, rest.as_mut_ptr(), count, libc::MSG_DONTWAIT as _) };
            if let Ok(sent) = usize::try_from(sent) {
                for run in &self.runs[at..at + sent] {
                    (run.first..run.first + run.count).for_each(|index| outcome(index, Ok(())));
                }
                at += sent;
                continue;
            }
            let error = io::Error::last_os_error();
            let full = matches!(error.raw_os_error(), Some(libc::EAGAIN | libc::ENOBUFS));
            if full && !waited {
                waited = true;
                wait_writable(fd);
                continue;
            }
            if error.kind() == io::ErrorKind::Interrupted {
                continue;
            }
            match self.runs[at] {
                Run {
                    first, count: 1, ..
                } => outcome(first, Err(error)),
                run => self.send_apart(fd, at, run, &mut outcome),
            }
            at += 1;
        }
    }

    /// Datagrams that were refused together, one by one. Some ways out of the kernel take none that are
    /// joined (IPsec): where it takes the first alone, none is joined any more.
    fn send_apart(
        &mut self,
        fd: i32,
        at: usize,
        run: Run,
        outcome: &mut impl FnMut(usize, io::Result<()>),
    ) {
        for index in run.first..run.first + run.count {
            let mut message = self.headers[at].msg_hdr;
            message.msg_iov = self.vectors[index].as_mut_ptr();
            message.msg_iovlen = 2;
            message.msg_controllen -= size_of::<Segment>();
            // SAFETY: as in `send_filled`; the ancillary data of one datagram comes first.
            let sent = unsafe { libc::sendmsg(fd, &raw const message, libc::MSG_DONTWAIT) };
            let result = match sent {
                0.. => Ok(()),
                _ => Err(io::Error::last_os_error()),
            };
            self.cannot_join |= index == run.first && result.is_ok();
            outcome(index, result);
        }
    }
}

impl Outgoing<'_> {
    fn len(&self) -> usize {
        self.head.len() + self.body.len()
    }

    /// Whether both can leave as one.
    fn is_like(&self, other: &Self) -> bool {
        let room = JOINED_CONTROL_BYTES - size_of::<Segment>();
        self.len() == other.len()
            && (1..=PIECE_BYTES).contains(&self.len())
            && self.address == other.address
            && self.control == other.control
            && self.control.len() <= room
    }
}

fn header_of(datagram: &Outgoing<'_>) -> libc::mmsghdr {
    // SAFETY: all-zero is a valid value of this plain C struct.
    let mut header: libc::mmsghdr = unsafe { std::mem::zeroed() };
    let message = &mut header.msg_hdr;
    message.msg_name = datagram.address.as_ptr().cast_mut().cast();
    message.msg_namelen =
        libc::socklen_t::try_from(datagram.address.len()).expect("socket addresses are short");
    if !datagram.control.is_empty() {
        message.msg_control = datagram.control.as_ptr().cast_mut().cast();
        message.msg_controllen = datagram.control.len();
    }
    header
}

/// The ancillary data of each, and how long each is.
fn joined_control(datagram: &Outgoing<'_>) -> JoinedControl {
    // SAFETY: all-zero is a valid value of this plain C struct.
    let mut segment: Segment = unsafe { std::mem::zeroed() };
    segment.header.cmsg_len = std::mem::offset_of!(Segment, padding);
    segment.header.cmsg_level = libc::SOL_UDP;
    segment.header.cmsg_type = libc::UDP_SEGMENT;
    segment.bytes = u16::try_from(datagram.len()).expect("at most PIECE_BYTES");
    let own = datagram.control.len();
    let mut control = [0; JOINED_CONTROL_BYTES];
    control[..own].copy_from_slice(datagram.control);
    control[own..own + size_of::<Segment>()].copy_from_slice(bytes_of(&segment));
    JoinedControl(control)
}

fn wait_writable(fd: i32) {
    let mut poll = libc::pollfd {
        fd,
        events: libc::POLLOUT,
        revents: 0,
    };
    // SAFETY: one pollfd, which outlives the call. The outcome does not matter: sending tells.
    unsafe { libc::poll(&mut poll, 1, SEND_WAIT_MILLIS) };
}

/// Bytes of a plain C struct, as [`Outgoing`] takes them.
pub fn bytes_of<T: Copy>(value: &T) -> &[u8] {
    // SAFETY: the structs used here (socket addresses, control messages) hold integers and byte
    // arrays only and are made by zeroing first, so no byte is uninitialised.
    unsafe { std::slice::from_raw_parts(std::ptr::from_ref(value).cast(), size_of::<T>()) }
}

#[cfg(test)]
mod tests {
    use std::net::{SocketAddr, UdpSocket};

    use relay_core::types::IfIndex;

    use super::*;
    use crate::net::udp::socket_address;

    fn pair() -> (UdpSocket, UdpSocket, Ipv6Addr, u16) {
        let to = UdpSocket::bind("[::1]:0").unwrap();
        let from = UdpSocket::bind("[::1]:0").unwrap();
        let SocketAddr::V6(address) = to.local_addr().unwrap() else {
            unreachable!("bound to IPv6");
        };
        (from, to, *address.ip(), address.port())
    }

    #[test]
    fn batch_sent_arrives_in_order_with_both_parts_joined() {
        let (from, to, address, port) = pair();
        let target = socket_address(address, port, 0);
        let bodies: Vec<Vec<u8>> = (0..40u8).map(|i| vec![i; 3]).collect();
        let datagrams = bodies.iter().map(|body| Outgoing {
            head: b"h",
            body,
            address: bytes_of(&target),
            control: &[],
        });
        let mut fine = 0;
        SendBatch::default().send(&from, datagrams, |_, result| {
            result.unwrap();
            fine += 1;
        });
        let mut batch = RecvBatch::new(64, 2048, 4);

        let received = batch.receive(&to).unwrap();

        assert_eq!((fine, received), (40, 40));
        assert_eq!(batch.bytes(7), b"h\x07\x07\x07");
        assert_eq!(batch.slot(7).len(), 8);
        assert_eq!(
            batch.sender(7),
            (address, from.local_addr().unwrap().port())
        );
    }

    #[test]
    fn datagram_that_is_refused_does_not_stop_the_next() {
        let (from, to, address, port) = pair();
        let target = socket_address(address, port, 0);
        let large = vec![0; 70_000];
        let datagrams = [&b"a"[..], &large, b"b"].map(|body| Outgoing {
            head: &[],
            body,
            address: bytes_of(&target),
            control: &[],
        });
        let mut refused = Vec::new();
        SendBatch::default().send(&from, datagrams.into_iter(), |at, result| {
            if result.is_err() {
                refused.push(at);
            }
        });
        let mut batch = RecvBatch::new(4, 2048, 0);

        assert_eq!(refused, [1]);
        assert_eq!(batch.receive(&to).unwrap(), 2);
        assert_eq!(batch.bytes(1), b"b");
    }

    /// Bodies of 30, 30, …, 7, 30, 30, …, 9, 1,400, 1,400 bytes, each with its number in front.
    fn bodies() -> Vec<Vec<u8>> {
        let lengths = [&[30; 70][..], &[7], &[30; 20], &[9, 1400, 1400, 8, 8]].concat();
        let bodies = (0u8..).zip(lengths);
        bodies.map(|(at, length)| vec![at; length]).collect()
    }

    /// Sends those as datagrams that may be joined, with ancillary data; how many are meant to leave, and what came.
    fn send_joined(batch: &mut SendBatch, from: &UdpSocket) -> (usize, Vec<Vec<u8>>) {
        let to = UdpSocket::bind("[::1]:0").unwrap();
        // One of the tests sends without checksums.
        crate::net::sockopt::set_int(&to, libc::SOL_UDP, libc::UDP_NO_CHECK6_RX, 1).unwrap();
        let SocketAddr::V6(address) = to.local_addr().unwrap() else {
            unreachable!("bound to IPv6");
        };
        let target = socket_address(*address.ip(), address.port(), 0);
        let source = crate::net::udp::PacketInfo::new(*address.ip(), IfIndex(0));
        let bodies = bodies();
        let datagrams = bodies.iter().map(|body| Outgoing {
            head: &body[..1],
            body: &body[1..],
            address: bytes_of(&target),
            control: bytes_of(&source),
        });
        batch.fill(datagrams.clone(), !batch.cannot_join);
        let headers = batch.headers.len();
        let mut told = Vec::new();
        batch.send_joined(from, datagrams, |at, result| {
            result.unwrap();
            told.push(at);
        });
        assert_eq!(told, (0..bodies.len()).collect::<Vec<_>>());
        let mut received = RecvBatch::new(128, 2048, 0);
        let count = received.receive(&to).unwrap();
        let came = (0..count).map(|at| received.bytes(at).to_vec()).collect();
        (headers, came)
    }

    #[test]
    fn datagrams_that_are_alike_leave_as_one_and_arrive_as_they_were() {
        let from = UdpSocket::bind("[::1]:0").unwrap();

        let (headers, came) = send_joined(&mut SendBatch::default(), &from);

        // 64 and 6 of 30 bytes, the one of 7, 20 of 30, three that have nothing like them or are too long, and a pair.
        assert_eq!((headers, came), (8, bodies()));
    }

    #[test]
    fn where_the_kernel_takes_none_that_are_joined_they_leave_one_by_one() {
        let from = UdpSocket::bind("[::1]:0").unwrap();
        // Without checksums the kernel cuts nothing up.
        crate::net::sockopt::set_int(&from, libc::SOL_UDP, libc::UDP_NO_CHECK6_TX, 1).unwrap();
        let mut batch = SendBatch::default();

        let first = send_joined(&mut batch, &from);
        let second = send_joined(&mut batch, &from);

        assert_eq!(first, (8, bodies()));
        assert_eq!(second, (bodies().len(), bodies()), "it was not tried again");
    }

    #[test]
    fn datagram_longer_than_its_buffer_is_marked() {
        let (from, to, address, port) = pair();
        from.send_to(&[0; 100], (address, port)).unwrap();
        let mut batch = RecvBatch::new(1, 64, 0);

        assert_eq!(batch.receive(&to).unwrap(), 1);
        assert!(batch.is_truncated(0));
        assert_eq!(batch.bytes(0).len(), 64);
    }

    #[test]
    fn nothing_to_receive_is_not_an_error() {
        let (_from, to, ..) = pair();

        assert_eq!(RecvBatch::new(1, 64, 0).receive(&to).unwrap(), 0);
    }
}
