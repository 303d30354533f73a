//! What the kernel tells of programs and maps: numbers for `show dataplane`, read when asked.

use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};

use super::bpf::{OBJECT_INFO, bpf};

/// Words of `struct bpf_prog_info` that are asked for; older kernels write fewer.
const PROGRAM_WORDS: usize = 28;
/// `run_time_ns` and `run_cnt`, by words.
const RUN_NANOS: usize = 24;
const RUN_COUNT: usize = 25;

/// `union bpf_attr` for the information on an object.
#[repr(C)]
struct InfoAttr {
    fd: u32,
    info_bytes: u32,
    info: u64,
}

/// A loaded program.
pub(super) struct ProgramInfo {
    fd: OwnedFd,
}

/// What the kernel says of a program.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Told {
    pub(super) id: u32,
    pub(super) tag: String,
    pub(super) run_count: u64,
    pub(super) run_nanos: u64,
}

impl ProgramInfo {
    pub(super) fn new(fd: impl AsFd) -> io::Result<Self> {
        let fd = fd.as_fd().try_clone_to_owned()?;
        Ok(Self { fd })
    }

    /// Runs are counted only while `kernel.bpf_stats_enabled` is on.
    pub(super) fn read(&self) -> io::Result<Told> {
        let mut info = [0u64; PROGRAM_WORDS];
        let mut attr = InfoAttr {
            fd: self.fd.as_raw_fd() as u32,
            info_bytes: size_of_val(&info) as u32,
            info: info.as_mut_ptr() as u64,
        };
        // SAFETY: the kernel writes at most `info_bytes`.
        unsafe { bpf(OBJECT_INFO, &raw mut attr) }?;
        let word = info[0].to_ne_bytes();
        Ok(Told {
            id: u32::from_ne_bytes([word[4], word[5], word[6], word[7]]),
            tag: info[1]
                .to_ne_bytes()
                .iter()
                .map(|byte| format!("{byte:02x}"))
                .collect(),
            run_count: info[RUN_COUNT],
            run_nanos: info[RUN_NANOS],
        })
    }
}

/// Bytes of kernel memory that a map takes, as the kernel counts them (`memlock` of its descriptor).
pub(super) fn memory_of(fd: impl AsFd) -> Option<u64> {
    let path = format!("/proc/self/fdinfo/{}", fd.as_fd().as_raw_fd());
    let text = std::fs::read_to_string(path).ok()?;
    let line = text
        .lines()
        .find_map(|line| line.strip_prefix("memlock:"))?;
    line.trim().parse().ok()
}

/// How full the ring of captured frames is.
pub(super) struct RingFill {
    /// Consumer's page, then producer's.
    pages: *const u8,
    page_bytes: usize,
    pub(super) bytes: u64,
}

// SAFETY: the pages are only read, and by atomic loads.
unsafe impl Send for RingFill {}

impl RingFill {
    /// Of a ring buffer map with so many bytes.
    pub(super) fn map(fd: impl AsFd, bytes: u64) -> io::Result<Self> {
        // SAFETY: no pointers.
        let page_bytes = unsafe { libc::sysconf(libc::_SC_PAGESIZE) };
        let page_bytes = usize::try_from(page_bytes).map_err(|_| io::Error::last_os_error())?;
        // SAFETY: a new mapping at a place that the kernel chooses.
        let pages = unsafe {
            libc::mmap(
                std::ptr::null_mut(),
                2 * page_bytes,
                libc::PROT_READ,
                libc::MAP_SHARED,
                fd.as_fd().as_raw_fd(),
                0,
            )
        };
        if pages == libc::MAP_FAILED {
            return Err(io::Error::last_os_error());
        }
        Ok(Self {
            pages: pages.cast(),
            page_bytes,
            bytes,
        })
    }

    /// Bytes that wait to be read.
    pub(super) fn used(&self) -> u64 {
        let at = |page: usize| {
            // SAFETY: both pages are mapped as long as this lives; each begins with an aligned position.
            let position = unsafe {
                &*self
                    .pages
                    .add(page * self.page_bytes)
                    .cast::<std::sync::atomic::AtomicU64>()
            };
            position.load(std::sync::atomic::Ordering::Acquire)
        };
        // In this order: the producer is never behind.
        let consumer = at(0);
        at(1).saturating_sub(consumer)
    }
}

impl Drop for RingFill {
    fn drop(&mut self) {
        // SAFETY: what `map` made, and nothing refers to it any more.
        unsafe { libc::munmap(self.pages.cast_mut().cast(), 2 * self.page_bytes) };
    }
}
