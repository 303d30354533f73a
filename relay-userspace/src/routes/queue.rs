//! From the relay thread to the follower: changes in order, no more than fit.
//!
//! The follower is level-triggered and takes everything out whenever it looks, so the queue is
//! short unless the kernel holds it up. Who tells it a whole table looks for [`RouteQueue::has_room`]
//! before each piece and so never fills it; a change that finds it full is refused, and its sender
//! tells the whole table in pieces then.

use std::os::fd::{AsFd, BorrowedFd};
use std::sync::{Arc, Mutex, MutexGuard};

use nix::sys::eventfd::{EfdFlags, EventFd};
use relay_core::effect::{NeighborChange, RouteChange};

use super::follower::Pace;
use crate::config::RoutesSection;

/// Changes that may wait, 4 MiB of them; a batch that begins below may end above.
pub const WAITING_MAX: usize = 1 << 16;
/// Pieces of a whole table leave the rest to changes that somebody waits for.
const ROOM: usize = WAITING_MAX / 4;

/// One change.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Change {
    /// Of a route.
    Route(RouteChange),
    /// Of a neighbour entry.
    Neighbor(NeighborChange),
}

/// [`WAITING_MAX`] changes wait; these are lost.
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

/// What the follower is told.
#[derive(Debug)]
pub enum Told {
    /// A change.
    Change(Change, Pace),
    /// Something else.
    Control(Control),
}

#[derive(Debug)]
struct Shared {
    waiting: Mutex<Vec<Told>>,
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
    /// [`QueueFull`]: all of them are lost and [`RouteQueue::resend_begins`] is due.
    pub fn send(
        &self,
        changes: impl IntoIterator<Item = Change>,
        pace: Pace,
    ) -> Result<(), QueueFull> {
        let mut waiting = self.lock();
        if waiting.len() >= WAITING_MAX {
            return Err(QueueFull);
        }
        waiting.extend(changes.into_iter().map(|change| Told::Change(change, pace)));
        drop(waiting);
        self.wake();
        Ok(())
    }

    /// Whether there is room for a piece of a whole table.
    pub fn has_room(&self) -> bool {
        self.lock().len() < ROOM
    }

    /// Everything wanted follows, by [`RouteQueue::send`].
    pub fn resend_begins(&self) {
        self.tell(Control::ResendBegins);
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
        self.lock().push(Told::Control(control));
        self.wake();
    }

    /// Everything that waits, in place of what `told` held.
    pub fn take(&self, told: &mut Vec<Told>) {
        // EAGAIN: nobody woke us, which is fine.
        let _ = self.0.wake.read();
        told.clear();
        std::mem::swap(told, &mut *self.lock());
    }

    fn wake(&self) {
        // A full counter means that a wake-up is already due.
        let _ = self.0.wake.write(1);
    }

    fn lock(&self) -> MutexGuard<'_, Vec<Told>> {
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
    use relay_core::types::Prefix;

    fn changes(count: usize) -> impl Iterator<Item = Change> {
        (0..count).map(|version| {
            Change::Route(RouteChange::Remove {
                prefix: Prefix::host("2001:db8::1".parse().unwrap()),
                version: version as u64,
            })
        })
    }

    fn told(queue: &RouteQueue) -> Vec<Told> {
        let mut told = Vec::new();
        queue.take(&mut told);
        told
    }

    #[test]
    fn everything_is_told_in_the_order_in_which_it_was_sent() {
        let queue = RouteQueue::new().unwrap();

        queue.send(changes(1), Pace::Now).unwrap();
        queue.resend_begins();
        queue.send(changes(1), Pace::InTurn).unwrap();
        queue.resend_ends(true);

        let told = told(&queue);
        assert!(
            matches!(
                told[..],
                [
                    Told::Change(_, Pace::Now),
                    Told::Control(Control::ResendBegins),
                    Told::Change(_, Pace::InTurn),
                    Told::Control(Control::ResendEnds { is_complete: true }),
                ]
            ),
            "{told:?}"
        );
    }

    #[test]
    fn full_queue_refuses_a_batch_as_a_whole_and_has_room_for_pieces_long_before() {
        let queue = RouteQueue::new().unwrap();
        queue.send(changes(ROOM - 1), Pace::InTurn).unwrap();
        assert!(queue.has_room());
        queue.send(changes(1), Pace::InTurn).unwrap();
        assert!(!queue.has_room());

        queue
            .send(changes(WAITING_MAX - ROOM - 1), Pace::Now)
            .unwrap();
        queue.send(changes(5), Pace::Now).unwrap();
        assert_eq!(queue.send(changes(5), Pace::Now), Err(QueueFull));

        assert_eq!(told(&queue).len(), WAITING_MAX + 4);
        assert_eq!((told(&queue).len(), queue.has_room()), (0, true));
    }
}
