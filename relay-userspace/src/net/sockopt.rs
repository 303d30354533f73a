//! Socket options that the crates for sockets do not name.

use std::io;
use std::os::fd::{AsFd, AsRawFd};

/// Sets an option to a value that the kernel reads as bytes.
pub fn set<T: Copy>(fd: impl AsFd, level: i32, name: i32, value: &T) -> io::Result<()> {
    let bytes = libc::socklen_t::try_from(size_of::<T>()).expect("options are small");
    // SAFETY: the pointer and length describe `value`, which outlives the call.
    let result = unsafe {
        libc::setsockopt(
            fd.as_fd().as_raw_fd(),
            level,
            name,
            std::ptr::from_ref(value).cast(),
            bytes,
        )
    };
    if result == 0 {
        Ok(())
    } else {
        Err(io::Error::last_os_error())
    }
}

/// Sets an option to an integer.
pub fn set_int(fd: impl AsFd, level: i32, name: i32, value: i32) -> io::Result<()> {
    set(fd, level, name, &value)
}

/// Place of the number of drops in what `SO_MEMINFO` tells (linux/sock_diag.h; not in libc).
const SK_MEMINFO_DROPS: usize = 8;

/// How many packets the kernel has dropped at this socket so far, because its queue was full; wraps.
pub fn drops(fd: impl AsFd) -> io::Result<u32> {
    let mut told = [0u32; SK_MEMINFO_DROPS + 1];
    let mut bytes = libc::socklen_t::try_from(size_of_val(&told)).expect("options are small");
    // SAFETY: the pointer and length describe `told`, which outlives the call.
    let result = unsafe {
        libc::getsockopt(
            fd.as_fd().as_raw_fd(),
            libc::SOL_SOCKET,
            libc::SO_MEMINFO,
            told.as_mut_ptr().cast(),
            &raw mut bytes,
        )
    };
    if result == 0 {
        Ok(told[SK_MEMINFO_DROPS])
    } else {
        Err(io::Error::last_os_error())
    }
}

/// As large a receive buffer as asked for, where the process may exceed the system's limit; else
/// as large as that limit allows.
pub fn receive_buffer(fd: impl AsFd, bytes: i32) -> io::Result<()> {
    set_int(&fd, libc::SOL_SOCKET, libc::SO_RCVBUFFORCE, bytes)
        .or_else(|_| set_int(&fd, libc::SOL_SOCKET, libc::SO_RCVBUF, bytes))
}

/// As [`receive_buffer`], for sending.
pub fn send_buffer(fd: impl AsFd, bytes: i32) -> io::Result<()> {
    set_int(&fd, libc::SOL_SOCKET, libc::SO_SNDBUFFORCE, bytes)
        .or_else(|_| set_int(&fd, libc::SOL_SOCKET, libc::SO_SNDBUF, bytes))
}

#[cfg(test)]
mod tests {
    use std::net::UdpSocket;

    use super::*;

    #[test]
    fn datagrams_that_find_no_room_are_drops() {
        let to = UdpSocket::bind("[::1]:0").unwrap();
        let from = UdpSocket::bind("[::1]:0").unwrap();
        set_int(&to, libc::SOL_SOCKET, libc::SO_RCVBUF, 1).unwrap();
        assert_eq!(drops(&to).unwrap(), 0);

        for _ in 0..100 {
            from.send_to(&[0; 1000], to.local_addr().unwrap()).unwrap();
        }

        to.set_nonblocking(true).unwrap();
        let heard = std::iter::from_fn(|| to.recv(&mut [0; 2000]).ok()).count();
        assert!(heard < 100, "the queue took all of them");
        assert_eq!(drops(&to).unwrap() as usize, 100 - heard);
    }
}
