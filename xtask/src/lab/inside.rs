//! Work in the network namespace of a node without a process there: a thread goes in and opens what it needs.
//! Without a crate for it, because xtask has no dependencies.

use super::Lab;
use super::command::Result;
use std::fs::File;
use std::os::fd::AsRawFd;

unsafe extern "C" {
    fn setns(fd: i32, kind: i32) -> i32;
}

const CLONE_NEWNET: i32 = 0x4000_0000;

impl Lab {
    /// Runs `work` on a thread of its own in the network namespace of a node; what it opens stays there.
    pub fn inside<T: Send>(&self, node: &str, work: impl FnOnce() -> T + Send) -> Result<T> {
        let namespace = self.open_namespace(node)?;
        std::thread::scope(|scope| {
            let inside = scope.spawn(move || enter(&namespace).map(|()| work()));
            inside
                .join()
                .unwrap_or_else(|panic| std::panic::resume_unwind(panic))
        })
    }

    /// The network namespace of a node, for [`enter`].
    pub(super) fn open_namespace(&self, node: &str) -> Result<File> {
        let path = format!("/run/netns/{}", self.namespace(node));
        File::open(&path).map_err(|error| format!("{path}: {error}"))
    }
}

/// Moves this thread, and nothing else of the process, into a network namespace.
pub(super) fn enter(namespace: &File) -> Result<()> {
    // SAFETY: setns takes two numbers, and the descriptor is open as long as the borrow lasts.
    match unsafe { setns(namespace.as_raw_fd(), CLONE_NEWNET) } {
        0 => Ok(()),
        _ => Err(format!(
            "cannot enter a network namespace: {}",
            std::io::Error::last_os_error()
        )),
    }
}
