//! From the relay thread to the follower: changes, merged by destination.
//!
//! The follower is level-triggered: of several changes to one destination only the newest matters.
//! Merging them here bounds the queue by the number of destinations instead of by time, and the
//! lock is held for no longer than it takes to merge a batch or to take everything out.

use std::collections::{HashMap, VecDeque};
use std::net::Ipv6Addr;
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::{Arc, Mutex, MutexGuard};

use nix::sys::eventfd::{EfdFlags, EventFd};
use relay_core::effect::{NeighborChange, RouteChange};
use relay_core::types::{IfIndex, Prefix};

use crate::config::RoutesSection;

/// Destinations (routes and neighbours each) that may wait for the follower: twice the default
/// bound of the binding table.
pub const WAITING_MAX: usize = 2 << 20;

/// One change.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Change {
    /// Of a route.
    Route(RouteChange),
    /// Of a neighbour entry.
    Neighbor(NeighborChange),
}

/// The queue holds [`WAITING_MAX`] destinations; the change is lost.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[error("the queue to the route follower is full")]
pub struct QueueFull;

/// What else the follower is told.
#[derive(Debug)]
pub enum Control {
    /// New `[routes]`.
    Configure(Box<RoutesSection>),
    /// Everything wanted follows; what is wanted now and does not come again is to be removed.
    ResendBegins,
    /// All of it has been sent.
    ResendEnds {
        /// By a relay that remembers: what nobody wants is of no use.
        is_complete: bool,
    },
    /// Write what waits, then end.
    Stop,
}

/// What waits for the follower.
#[derive(Debug, Default)]
pub struct Waiting {
    /// To be obeyed before the changes.
    pub before: VecDeque<Control>,
    /// By destination.
    pub routes: HashMap<Prefix, RouteChange>,
    /// By address.
    pub neighbors: HashMap<(IfIndex, Ipv6Addr), NeighborChange>,
    /// To be obeyed after the changes.
    pub after: VecDeque<Control>,
}

impl Waiting {
    fn merge(&mut self, change: Change) -> Result<(), QueueFull> {
        match change {
            Change::Route(change) => {
                let (prefix, version) = destination(&change);
                let full = self.routes.len() >= WAITING_MAX;
                match self.routes.get_mut(&prefix) {
                    Some(waiting) if destination(waiting).1 > version => {}
                    Some(waiting) => *waiting = change,
                    None if full => return Err(QueueFull),
                    None => {
                        self.routes.insert(prefix, change);
                    }
                }
            }
            Change::Neighbor(change) => {
                let key = match change {
                    NeighborChange::Put {
                        interface, address, ..
                    }
                    | NeighborChange::Remove { interface, address } => (interface, address),
                };
                if self.neighbors.len() >= WAITING_MAX && !self.neighbors.contains_key(&key) {
                    return Err(QueueFull);
                }
                self.neighbors.insert(key, change);
            }
        }
        Ok(())
    }
}

/// Destination and version of a change.
pub fn destination(change: &RouteChange) -> (Prefix, u64) {
    match change {
        RouteChange::Put(route) => (route.prefix, route.version),
        RouteChange::Remove { prefix, version } => (*prefix, *version),
    }
}

#[derive(Debug)]
struct Shared {
    waiting: Mutex<Waiting>,
    wake: EventFd,
}

/// Both ends of the queue; cheap to clone.
#[derive(Clone, Debug)]
pub struct RouteQueue(Arc<Shared>);

impl RouteQueue {
    /// An empty queue.
    ///
    /// # Errors
    /// The kernel gives no eventfd.
    pub fn new() -> std::io::Result<Self> {
        let wake = EventFd::from_flags(EfdFlags::EFD_NONBLOCK | EfdFlags::EFD_CLOEXEC)?;
        Ok(Self(Arc::new(Shared {
            waiting: Mutex::default(),
            wake,
        })))
    }

    /// Hands over changes, in order, and wakes the follower. Never waits for the kernel.
    ///
    /// # Errors
    /// [`QueueFull`]: at least one change was lost and [`RouteQueue::resend_begins`] is due.
    pub fn send(&self, changes: impl IntoIterator<Item = Change>) -> Result<(), QueueFull> {
        let mut result = Ok(());
        let mut waiting = self.lock();
        for change in changes {
            result = result.and(waiting.merge(change));
        }
        drop(waiting);
        self.wake();
        result
    }

    /// Everything wanted follows, by [`RouteQueue::send`]; what waits now is forgotten.
    pub fn resend_begins(&self) {
        let mut waiting = self.lock();
        waiting.routes.clear();
        waiting.neighbors.clear();
        waiting
            .after
            .retain(|control| !matches!(control, Control::ResendEnds { .. }));
        waiting.before.push_back(Control::ResendBegins);
        drop(waiting);
        self.wake();
    }

    /// Everything wanted has been sent: what did not come again goes. `is_complete`: leftovers of
    /// an earlier life, too.
    pub fn resend_ends(&self, is_complete: bool) {
        self.tell(Control::ResendEnds { is_complete });
    }

    /// Applies a new `[routes]` section.
    pub fn configure(&self, section: RoutesSection) {
        self.tell(Control::Configure(Box::new(section)));
    }

    /// Lets the follower write what waits, then ends it.
    pub fn stop(&self) {
        self.tell(Control::Stop);
    }

    fn tell(&self, control: Control) {
        self.lock().after.push_back(control);
        self.wake();
    }

    /// Everything that waits.
    pub(super) fn take(&self) -> Waiting {
        // EAGAIN: nobody woke us, which is fine.
        let _ = self.0.wake.read();
        std::mem::take(&mut *self.lock())
    }

    fn wake(&self) {
        // A full counter means that a wake-up is already due.
        let _ = self.0.wake.write(1);
    }

    fn lock(&self) -> MutexGuard<'_, Waiting> {
        self.0
            .waiting
            .lock()
            .expect("no holder of this lock panics")
    }
}

impl AsFd for RouteQueue {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.wake.as_fd()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use relay_core::effect::Route;

    fn put(prefix: &str, version: u64) -> Change {
        Change::Route(RouteChange::Put(Route {
            prefix: Prefix::new(prefix.parse().unwrap(), 56).unwrap(),
            gateway: "fe80::1".parse().unwrap(),
            interface: IfIndex(2),
            version,
        }))
    }

    #[test]
    fn changes_of_one_destination_are_merged_and_the_newest_wins() {
        let queue = RouteQueue::new().unwrap();

        queue
            .send([put("2001:db8::", 3), put("2001:db8::", 2)])
            .unwrap();
        queue.send([put("2001:db8:1::", 4)]).unwrap();

        let waiting = queue.take();
        assert_eq!(waiting.routes.len(), 2);
        assert!(
            waiting
                .routes
                .values()
                .all(|change| destination(change).1 > 2)
        );
        assert!(queue.take().routes.is_empty());
    }

    #[test]
    fn resend_forgets_what_waits_and_is_obeyed_before_what_follows() {
        let queue = RouteQueue::new().unwrap();
        queue.send([put("2001:db8::", 3)]).unwrap();

        queue.resend_begins();
        queue.send([put("2001:db8:1::", 4)]).unwrap();
        queue.resend_ends(true);

        let waiting = queue.take();
        assert_eq!(waiting.routes.len(), 1);
        assert_eq!((waiting.before.len(), waiting.after.len()), (1, 1));
    }
}
