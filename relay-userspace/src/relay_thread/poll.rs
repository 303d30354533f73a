//! Waiting: which of ring, sockets and commands have something, or that the time has come.

use std::io;
use std::os::fd::AsFd;
use std::time::Duration;

use nix::sys::epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags, EpollTimeout};
use relay_core::types::IfIndex;

/// Descriptors that one wait can report; more are reported by the next.
const EVENTS_MAX: usize = 64;
/// The packet socket of an interface: this and its index.
const PACKETS: u64 = 1 << 32;

/// Something to wait for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Source {
    /// Commands.
    Wake,
    /// The UDP socket toward servers.
    Server,
    /// The UDP socket of the access side.
    Access,
    /// The UDP socket on the clients' port.
    Requestor,
    /// Captured frames.
    Ring,
    /// The packet socket of this interface.
    Packets(IfIndex),
}

impl Source {
    fn token(self) -> u64 {
        match self {
            Self::Wake => 0,
            Self::Server => 1,
            Self::Access => 2,
            Self::Ring => 3,
            Self::Requestor => 4,
            Self::Packets(ifindex) => PACKETS | u64::from(ifindex.0),
        }
    }

    fn of(token: u64) -> Option<Self> {
        Some(match token {
            0 => Self::Wake,
            1 => Self::Server,
            2 => Self::Access,
            3 => Self::Ring,
            4 => Self::Requestor,
            _ => Self::Packets(IfIndex(u32::try_from(token ^ PACKETS).ok()?)),
        })
    }
}

/// What a wait brought.
#[derive(Clone, Debug, Default)]
pub struct Ready {
    /// [`Source::Wake`].
    pub wake: bool,
    /// [`Source::Server`].
    pub server: bool,
    /// [`Source::Access`].
    pub access: bool,
    /// [`Source::Requestor`].
    pub requestor: bool,
    /// [`Source::Ring`].
    pub ring: bool,
    /// [`Source::Packets`].
    pub packets: Vec<IfIndex>,
}

/// The epoll instance. A descriptor leaves it by being closed.
pub struct Poller {
    epoll: Epoll,
    events: [EpollEvent; EVENTS_MAX],
}

impl Poller {
    /// Waits for nothing yet.
    ///
    /// # Errors
    /// What the kernel said.
    pub fn new() -> io::Result<Self> {
        Ok(Self {
            epoll: Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC)?,
            events: [EpollEvent::empty(); EVENTS_MAX],
        })
    }

    /// From now on waits for this too; being waited for already is no error.
    ///
    /// # Errors
    /// What the kernel said.
    pub fn add(&self, fd: impl AsFd, source: Source) -> io::Result<()> {
        let event = EpollEvent::new(EpollFlags::EPOLLIN, source.token());
        match self.epoll.add(fd, event) {
            Ok(()) | Err(nix::errno::Errno::EEXIST) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }

    /// Waits until something is there or `timeout` has passed; `None`: as long as it takes.
    ///
    /// # Errors
    /// What the kernel said, but for interruptions.
    pub fn wait(&mut self, timeout: Option<Duration>, ready: &mut Ready) -> io::Result<()> {
        ready.packets.clear();
        let packets = std::mem::take(&mut ready.packets);
        *ready = Ready {
            packets,
            ..Ready::default()
        };
        let count = match self.epoll.wait(&mut self.events, millis(timeout)) {
            Ok(count) => count,
            Err(nix::errno::Errno::EINTR) => 0,
            Err(error) => return Err(error.into()),
        };
        for event in &self.events[..count] {
            match Source::of(event.data()) {
                Some(Source::Wake) => ready.wake = true,
                Some(Source::Server) => ready.server = true,
                Some(Source::Access) => ready.access = true,
                Some(Source::Requestor) => ready.requestor = true,
                Some(Source::Ring) => ready.ring = true,
                Some(Source::Packets(ifindex)) => ready.packets.push(ifindex),
                None => {}
            }
        }
        Ok(())
    }
}

/// Rounded up: waking too early would mean to spin until the time has come.
fn millis(timeout: Option<Duration>) -> EpollTimeout {
    let Some(timeout) = timeout else {
        return EpollTimeout::NONE;
    };
    let millis = timeout.as_nanos().div_ceil(1_000_000);
    EpollTimeout::try_from(millis.min(60_000)).expect("a minute fits")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn token_of_every_source_reads_back() {
        let sources = [
            Source::Wake,
            Source::Server,
            Source::Access,
            Source::Requestor,
            Source::Ring,
            Source::Packets(IfIndex(0)),
            Source::Packets(IfIndex(3)),
            Source::Packets(IfIndex(u32::MAX)),
        ];
        for source in sources {
            assert_eq!(Source::of(source.token()), Some(source));
        }
    }

    #[test]
    fn timeout_is_rounded_up_to_whole_milliseconds() {
        assert_eq!(millis(Some(Duration::ZERO)), EpollTimeout::ZERO);
        assert_eq!(
            millis(Some(Duration::from_nanos(1))),
            EpollTimeout::from(1u8)
        );
        assert_eq!(millis(None), EpollTimeout::NONE);
    }
}
