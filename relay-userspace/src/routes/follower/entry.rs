//! One destination with one metric, in 40 bytes.

use std::net::Ipv6Addr;

use relay_core::input::RouteRefusal;
use relay_core::types::Prefix;

use crate::routes::hops::HopId;
use crate::routes::slots::Record;

/// Destination and metric: one route in the kernel.
pub type Key = (Prefix, u32);

/// What became of a wanted route.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum State {
    /// To be written.
    Pending,
    /// In the kernel.
    Installed,
    /// Not in the kernel.
    Refused(RouteRefusal),
}

/// [`State`] without its errno.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Standing {
    Pending,
    Installed,
    Foreign,
    Kernel,
}

/// What is known of a route, one bit each.
pub(super) type Flags = u8;
/// Nobody wants it, and it is to go.
pub(super) const REMOVE: Flags = 1;
/// It was there and somebody else took it away.
pub(super) const LOST: Flags = 2;
/// To be looked at.
pub(super) const QUEUED: Flags = 4;
/// To be looked at before all that can wait.
pub(super) const HURRIED: Flags = 8;
/// Came again since the resend began.
pub(super) const FRESH: Flags = 16;
/// The comparison under way needs not look at it any more.
pub(super) const SEEN: Flags = 32;
/// Who wants it is to hear what became of it.
pub(super) const UNTOLD: Flags = 64;

/// One destination with one metric.
#[derive(Clone, Copy, Debug)]
pub struct Entry {
    /// Of the newest wish.
    pub(super) version: u64,
    address: Ipv6Addr,
    metric: u32,
    /// What must be. `None`: nothing must be.
    pub wanted: Option<HopId>,
    /// What is there, as far as we know.
    pub present: Option<HopId>,
    bits: u8,
    errno: u8,
    standing: Standing,
    pub(super) flags: Flags,
}

// A million of them are 40 MB, and their index 10.
const _: () = assert!(size_of::<Option<Entry>>() == 40);

impl Record for Entry {
    type Key = Key;
    fn key(&self) -> Key {
        let prefix = Prefix::new(self.address, self.bits);
        (prefix.expect("it was made of one"), self.metric)
    }
}

impl Entry {
    pub(super) fn new((prefix, metric): Key) -> Self {
        Self {
            version: 0,
            address: prefix.address(),
            metric,
            wanted: None,
            present: None,
            bits: prefix.bits(),
            errno: 0,
            standing: Standing::Pending,
            flags: 0,
        }
    }

    /// Destination.
    pub fn prefix(&self) -> Prefix {
        self.key().0
    }

    /// Metric.
    pub fn metric(&self) -> u32 {
        self.metric
    }

    /// Of what is wanted.
    pub fn state(&self) -> State {
        match self.standing {
            Standing::Pending => State::Pending,
            Standing::Installed => State::Installed,
            Standing::Foreign => State::Refused(RouteRefusal::ForeignRoute),
            Standing::Kernel => State::Refused(RouteRefusal::Kernel(self.errno.into())),
        }
    }

    pub(super) fn set_state(&mut self, state: State) {
        self.standing = match state {
            State::Pending => Standing::Pending,
            State::Installed => Standing::Installed,
            State::Refused(RouteRefusal::Kernel(errno)) => {
                // Linux has none above 133.
                self.errno = u8::try_from(errno).unwrap_or(u8::MAX);
                Standing::Kernel
            }
            State::Refused(_) => Standing::Foreign,
        };
    }

    pub(super) fn has(&self, flags: Flags) -> bool {
        self.flags & flags != 0
    }

    pub(super) fn set(&mut self, flags: Flags) {
        self.flags |= flags;
    }

    /// Clears them; whether one of them was set.
    pub(super) fn take(&mut self, flags: Flags) -> bool {
        let was_set = self.has(flags);
        self.flags &= !flags;
        was_set
    }

    /// Whether a look would find something to do. `foreign`: another's route has this destination.
    pub(super) fn needs_look(&self, foreign: bool) -> bool {
        match self.wanted {
            None => self.present.is_none() || self.has(REMOVE),
            Some(_) => {
                foreign || self.present != self.wanted || self.standing != Standing::Installed
            }
        }
    }
}
