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
