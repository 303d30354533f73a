//! A program that passes every frame and does nothing else: what calling any program costs. aya loads
//! only objects, and two instructions are not worth one, so this is `bpf(2)` itself.

use std::io::Error;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::time::Duration;

use nix::libc;

use crate::harness::XDP_PASS;

const BPF_PROG_LOAD: libc::c_int = 5;
const BPF_PROG_TEST_RUN: libc::c_int = 10;
const BPF_PROG_TYPE_XDP: u32 = 6;

/// The beginning of `union bpf_attr` for `BPF_PROG_LOAD`.
#[repr(C)]
#[derive(Default)]
struct Load {
    prog_type: u32,
    insn_cnt: u32,
    insns: u64,
    license: u64,
}

/// The beginning of `union bpf_attr` for `BPF_PROG_TEST_RUN`.
#[repr(C)]
#[derive(Default)]
struct TestRun {
    prog_fd: u32,
    retval: u32,
    data_size_in: u32,
    data_size_out: u32,
    data_in: u64,
    data_out: u64,
    repeat: u32,
    duration: u32,
}

/// The loaded program.
pub struct Empty(OwnedFd);

impl Empty {
    /// Loads it.
    pub fn load() -> Self {
        // r0 = XDP_PASS; exit
        let insns = [0xb7 | u64::from(XDP_PASS) << 32, 0x95].map(u64::to_le_bytes);
        let mut attributes = Load {
            prog_type: BPF_PROG_TYPE_XDP,
            insn_cnt: 2,
            insns: insns.as_ptr().addr() as u64,
            license: c"GPL".as_ptr().addr() as u64,
        };
        let fd = bpf(BPF_PROG_LOAD, &mut attributes).expect("two instructions load");
        // SAFETY: the kernel just made this descriptor, and nobody else knows it.
        Self(unsafe { OwnedFd::from_raw_fd(fd) })
    }

    /// Mean time of one run.
    pub fn run_repeatedly(&self, frame: &[u8], repeat: u32) -> Duration {
        let mut attributes = TestRun {
            prog_fd: self.0.as_raw_fd().cast_unsigned(),
            data_size_in: u32::try_from(frame.len()).expect("a frame"),
            data_in: frame.as_ptr().addr() as u64,
            repeat,
            ..TestRun::default()
        };
        bpf(BPF_PROG_TEST_RUN, &mut attributes).expect("the kernel runs the program");
        assert_eq!(attributes.retval, XDP_PASS);
        Duration::from_nanos(attributes.duration.into())
    }
}

fn bpf<T>(command: libc::c_int, attributes: &mut T) -> Result<i32, Error> {
    // SAFETY: `attributes` begins as the kernel's structure for `command` does, whose rest counts as
    // zero; what it points to lives in the callers' frames.
    let result = unsafe {
        libc::syscall(
            libc::SYS_bpf,
            command,
            std::ptr::from_mut(attributes),
            size_of::<T>(),
        )
    };
    i32::try_from(result)
        .ok()
        .filter(|it| *it >= 0)
        .ok_or_else(Error::last_os_error)
}
