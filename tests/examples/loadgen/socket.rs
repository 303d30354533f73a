//! A packet socket on one interface of one network namespace: frames out and in, many per system call.
//! Knows nothing of what is in them.

use crate::frames::MAX_FRAME;
use anyhow::{Context, Result, bail};
use std::ffi::CString;
use std::fs::File;
use std::io::Error;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::path::Path;
use std::time::Duration;

/// Frames per system call.
pub const BATCH: usize = 64;
/// Room for frames that wait for this program, in bytes.
const RECEIVE_BUFFER: libc::c_int = 32 << 20;

/// The socket, and the buffers of its receiving side.
pub struct Packet {
    socket: OwnedFd,
    buffers: Vec<[u8; MAX_FRAME]>,
}

impl Packet {
    /// Opens a socket on `interface` in the namespace that `ip netns` calls `netns`, or whose file that is.
    pub fn open(netns: &str, interface: &str) -> Result<Self> {
        let own = File::open("/proc/self/ns/net")?;
        let other = File::open(Path::new("/run/netns").join(netns))
            .with_context(|| format!("no network namespace {netns}"))?;
        enter(&other)?;
        let socket = Self::open_here(interface).with_context(|| format!("socket on {interface}"));
        enter(&own)?;
        Ok(Self {
            socket: socket?,
            buffers: vec![[0; MAX_FRAME]; BATCH],
        })
    }

    fn open_here(interface: &str) -> Result<OwnedFd> {
        let name = CString::new(interface)?;
        // SAFETY: `name` is a C string that lives through the call.
        let index = unsafe { libc::if_nametoindex(name.as_ptr()) };
        if index == 0 {
            bail!("there is no such interface");
        }
        let protocol = (libc::ETH_P_IPV6 as u16).to_be();
        // SAFETY: no pointers; a protocol of 0 receives nothing until the filter is set and bind names it.
        let fd = unsafe { libc::socket(libc::AF_PACKET, libc::SOCK_RAW | libc::SOCK_CLOEXEC, 0) };
        if fd < 0 {
            return Err(Error::last_os_error()).context("packet socket (are you root?)");
        }
        // SAFETY: `fd` was just opened and has no other owner.
        let socket = unsafe { OwnedFd::from_raw_fd(fd) };
        set(
            &socket,
            libc::SOL_SOCKET,
            libc::SO_RCVBUFFORCE,
            &RECEIVE_BUFFER,
        )?;
        set(
            &socket,
            libc::SOL_SOCKET,
            libc::SO_SNDBUFFORCE,
            &RECEIVE_BUFFER,
        )?;
        set(&socket, libc::SOL_PACKET, libc::PACKET_QDISC_BYPASS, &1)?;
        set(&socket, libc::SOL_PACKET, libc::PACKET_IGNORE_OUTGOING, &1)?;
        attach_filter(&socket)?;
        // SAFETY: sockaddr_ll is plain integers, for which zero is a value.
        let mut address: libc::sockaddr_ll = unsafe { std::mem::zeroed() };
        address.sll_family = libc::AF_PACKET as u16;
        address.sll_protocol = protocol;
        address.sll_ifindex = index as i32;
        // SAFETY: the pointer and the length describe `address`.
        let bound = unsafe {
            libc::bind(
                socket.as_raw_fd(),
                (&raw const address).cast(),
                size_of::<libc::sockaddr_ll>() as u32,
            )
        };
        if bound != 0 {
            return Err(Error::last_os_error()).context("bind");
        }
        Ok(socket)
    }

    /// Sends frames; returns how many the kernel took.
    pub fn send(&self, frames: &[&[u8]]) -> usize {
        let mut vectors: [libc::iovec; BATCH] = std::array::from_fn(|i| {
            let frame = frames.get(i).copied().unwrap_or_default();
            libc::iovec {
                iov_base: frame.as_ptr().cast_mut().cast(),
                iov_len: frame.len(),
            }
        });
        let mut headers = headers(&mut vectors);
        let count = frames.len().min(BATCH);
        // SAFETY: `count` headers point at vectors that point at `frames`, all alive; sending only reads.
        let sent = unsafe {
            libc::sendmmsg(
                self.socket.as_raw_fd(),
                headers.as_mut_ptr(),
                count as u32,
                libc::MSG_DONTWAIT,
            )
        };
        usize::try_from(sent).unwrap_or(0)
    }

    /// Until a frame waits at one of both, or so long.
    pub fn wait(both: [&Self; 2], time: Duration) {
        let mut fds = both.map(|it| libc::pollfd {
            fd: it.socket.as_raw_fd(),
            events: libc::POLLIN,
            revents: 0,
        });
        let time = libc::timespec {
            tv_sec: 0,
            tv_nsec: i64::from(time.subsec_nanos()),
        };
        // SAFETY: the pointers and the length describe `fds` and `time`; no signal mask is given.
        unsafe { libc::ppoll(fds.as_mut_ptr(), 2, &raw const time, std::ptr::null()) };
    }

    /// Gives every frame that waits, up to one batch, to `each`; returns how many there were.
    pub fn receive(&mut self, mut each: impl FnMut(&[u8])) -> usize {
        let mut vectors: [libc::iovec; BATCH] = std::array::from_fn(|i| libc::iovec {
            iov_base: self.buffers[i].as_mut_ptr().cast(),
            iov_len: MAX_FRAME,
        });
        let mut headers = headers(&mut vectors);
        // SAFETY: BATCH headers point at vectors that point at own buffers of the stated length.
        let count = unsafe {
            libc::recvmmsg(
                self.socket.as_raw_fd(),
                headers.as_mut_ptr(),
                BATCH as u32,
                libc::MSG_DONTWAIT,
                std::ptr::null_mut(),
            )
        };
        let count = usize::try_from(count).unwrap_or(0);
        for (buffer, header) in self.buffers.iter().zip(&headers).take(count) {
            each(&buffer[..header.msg_len as usize]);
        }
        count
    }
}

/// One message header for each vector.
fn headers(vectors: &mut [libc::iovec; BATCH]) -> [libc::mmsghdr; BATCH] {
    std::array::from_fn(|i| {
        // SAFETY: mmsghdr is integers and pointers, for which zero is a value.
        let mut header: libc::mmsghdr = unsafe { std::mem::zeroed() };
        header.msg_hdr.msg_iov = &raw mut vectors[i];
        header.msg_hdr.msg_iovlen = 1;
        header
    })
}

/// Moves this thread into a network namespace.
fn enter(namespace: &File) -> Result<()> {
    // SAFETY: no pointers; the descriptor is open.
    if unsafe { libc::setns(namespace.as_raw_fd(), libc::CLONE_NEWNET) } != 0 {
        return Err(Error::last_os_error()).context("setns (are you root?)");
    }
    Ok(())
}

/// Only UDP and neighbour solicitations are of interest.
fn attach_filter(socket: &OwnedFd) -> Result<()> {
    let load_byte = (libc::BPF_LD | libc::BPF_B | libc::BPF_ABS) as u16;
    let equal = (libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K) as u16;
    let end = (libc::BPF_RET | libc::BPF_K) as u16;
    let code = |code, k, jt, jf| libc::sock_filter { code, jt, jf, k };
    let mut program = [
        code(load_byte, 20, 0, 0),
        code(equal, 17, 3, 0),
        code(equal, 58, 0, 3),
        code(load_byte, 54, 0, 0),
        code(equal, 135, 0, 1),
        code(end, MAX_FRAME as u32, 0, 0),
        code(end, 0, 0, 0),
    ];
    let filter = libc::sock_fprog {
        len: program.len() as u16,
        filter: program.as_mut_ptr(),
    };
    set(socket, libc::SOL_SOCKET, libc::SO_ATTACH_FILTER, &filter)
}

/// Sets one socket option.
fn set<T>(socket: &OwnedFd, level: i32, name: i32, value: &T) -> Result<()> {
    // SAFETY: the pointer and the length describe `value`.
    let result = unsafe {
        libc::setsockopt(
            socket.as_raw_fd(),
            level,
            name,
            std::ptr::from_ref(value).cast(),
            size_of::<T>() as u32,
        )
    };
    if result != 0 {
        return Err(Error::last_os_error())
            .with_context(|| format!("socket option {level}/{name}"));
    }
    Ok(())
}
