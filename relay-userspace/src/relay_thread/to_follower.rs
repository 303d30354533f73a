//! Route and neighbour changes on their way to the follower's bounded queue. What does not fit is lost, and
//! then everything wanted is told once more, in pieces that wait for room.

use std::time::Duration;

use relay_core::time::Instant;

use crate::counters::Counters;
use crate::routes::{Change, Pace, RouteQueue};

/// Between two times of telling everything: a queue that is too small does not grow by trying.
const PAUSE: Duration = Duration::from_secs(1);
/// The queue has no room for a piece: look again after this.
const LOOK_FOR_ROOM: Duration = Duration::from_millis(1);

/// The way to the follower.
pub(super) struct ToFollower {
    queue: RouteQueue,
    changes: Vec<Change>,
    telling: Telling,
    not_before: Instant,
    /// Pieces wait for room until then.
    room_at: Option<Instant>,
    /// Everything told is everything there is to be.
    is_complete: bool,
}

/// Where telling everything once more stands.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Telling {
    No,
    /// Something was lost, or somebody asked.
    Due,
    /// The core is at it. `begun`: the follower knows. `broken`: something was lost meanwhile, so that
    /// what was not told need not be unwanted, and everything is told again afterwards.
    UnderWay {
        begun: bool,
        broken: bool,
    },
}

impl ToFollower {
    /// `is_complete`: routes of ours that are not told are of no use to anybody.
    pub(super) fn new(queue: RouteQueue, is_complete: bool) -> Self {
        Self {
            queue,
            changes: Vec::new(),
            telling: Telling::No,
            not_before: Instant::default(),
            room_at: None,
            is_complete,
        }
    }

    /// One more change of this round.
    pub(super) fn push(&mut self, change: Change) {
        self.changes.push(change);
    }

    /// Whether the queue is so full that changes of whole batches should wait.
    pub(super) fn is_crowded(&self) -> bool {
        self.telling == Telling::Due || !self.queue.has_room()
    }

    /// Everything wanted is to be told once more.
    pub(super) fn ask_for_everything(&mut self) {
        self.telling = Telling::Due;
    }

    /// When [`ToFollower::begins`] or [`ToFollower::has_room`] is to be asked.
    pub(super) fn due(&self) -> Option<Instant> {
        let telling = (self.telling == Telling::Due).then_some(self.not_before);
        telling.into_iter().chain(self.room_at).min()
    }

    /// Whether the core is to tell everything from now on.
    pub(super) fn begins(&mut self, now: Instant) -> bool {
        if self.telling != Telling::Due || now < self.not_before {
            return false;
        }
        self.telling = Telling::UnderWay {
            begun: false,
            broken: false,
        };
        self.not_before = now + PAUSE;
        true
    }

    /// Whether there is room for a piece of everything; asked only while there are such pieces.
    pub(super) fn has_room(&mut self, now: Instant) -> bool {
        let has_room = self.queue.has_room();
        self.room_at = (!has_room).then(|| now + LOOK_FOR_ROOM);
        has_room
    }

    /// Hands over the changes of this round. `more`: the core has not told everything yet.
    pub(super) fn hand_over(&mut self, more: bool, pace: Pace, counters: &Counters) {
        if let Telling::UnderWay { begun, .. } = &mut self.telling
            && !std::mem::replace(begun, true)
        {
            self.queue.resend_begins();
        }
        let is_lost =
            !self.changes.is_empty() && self.queue.send(self.changes.drain(..), pace).is_err();
        if is_lost {
            counters.route_queue_overflows.inc();
            self.changes.clear();
        }
        self.telling = match self.telling {
            Telling::UnderWay { begun, broken } if more => Telling::UnderWay {
                begun,
                broken: broken || is_lost,
            },
            Telling::UnderWay { broken: false, .. } if !is_lost => {
                self.queue.resend_ends(self.is_complete);
                Telling::No
            }
            Telling::No if !is_lost => Telling::No,
            _ => Telling::Due,
        };
    }
}

#[cfg(test)]
mod tests {
    use relay_core::effect::RouteChange;
    use relay_core::types::Prefix;

    use super::*;
    use crate::routes::queue::{Control, Told, WAITING_MAX};

    fn changes(count: usize) -> impl Iterator<Item = Change> {
        let change = Change::Route(RouteChange::Remove {
            prefix: Prefix::host("2001:db8::1".parse().unwrap()),
            version: 1,
        });
        std::iter::repeat_n(change, count)
    }

    fn telling() -> (RouteQueue, ToFollower, Counters) {
        let queue = RouteQueue::new().unwrap();
        let to = ToFollower::new(queue.clone(), true);
        (queue, to, Counters::default())
    }

    /// What the follower is told, a letter each: change, begin, end.
    fn told(queue: &RouteQueue) -> String {
        let mut told = Vec::new();
        queue.take(&mut told);
        told.iter()
            .map(|told| match told {
                Told::Change(..) => 'c',
                Told::Control(Control::ResendBegins) => 'b',
                Told::Control(Control::ResendEnds { is_complete: true }) => 'e',
                Told::Control(_) => '?',
            })
            .collect()
    }

    #[test]
    fn round_without_changes_hands_nothing_over() {
        let (queue, mut to, counters) = telling();

        to.hand_over(false, Pace::Now, &counters);

        assert_eq!(told(&queue), "");
    }

    #[test]
    fn everything_is_told_in_pieces_between_a_begin_and_an_end() {
        let (queue, mut to, counters) = telling();

        to.ask_for_everything();
        assert!(to.begins(Instant::default()));
        for more in [true, true, false, false] {
            changes(1).for_each(|change| to.push(change));
            to.hand_over(more, Pace::InTurn, &counters);
        }

        assert_eq!(told(&queue), "bcccec");
    }

    #[test]
    fn nothing_at_all_is_told_too() {
        let (queue, mut to, counters) = telling();

        to.ask_for_everything();
        assert!(to.begins(Instant::default()));
        to.hand_over(false, Pace::Now, &counters);

        assert_eq!(told(&queue), "be");
    }

    #[test]
    fn overflow_is_counted_and_everything_is_told_again_after_a_pause() {
        let (queue, mut to, counters) = telling();
        queue.send(changes(WAITING_MAX), Pace::Now).unwrap();

        changes(1).for_each(|change| to.push(change));
        to.hand_over(false, Pace::Now, &counters);

        assert_eq!(counters.route_queue_overflows.get(), 1);
        assert_eq!(to.due(), Some(Instant::default()));
        assert!(to.begins(Instant::default()));
        to.ask_for_everything();
        assert!(!to.begins(Instant::default()));
        assert!(to.begins(Instant::default() + PAUSE));
    }

    /// A lost change may be of a lease that was told before: it must not be taken for unwanted.
    #[test]
    fn what_is_lost_while_everything_is_told_lets_nothing_go_until_all_was_told_again() {
        let (queue, mut to, counters) = telling();
        to.ask_for_everything();
        assert!(to.begins(Instant::default()));
        queue.send(changes(WAITING_MAX), Pace::Now).unwrap();
        changes(1).for_each(|change| to.push(change));
        to.hand_over(true, Pace::Now, &counters);
        told(&queue);

        changes(1).for_each(|change| to.push(change));
        to.hand_over(true, Pace::InTurn, &counters);
        to.hand_over(false, Pace::InTurn, &counters);

        assert_eq!(told(&queue), "c");
        assert!(to.begins(Instant::default() + PAUSE));
        to.hand_over(false, Pace::InTurn, &counters);
        assert_eq!(told(&queue), "be");
    }

    #[test]
    fn pieces_wait_for_room_and_look_for_it_again_soon() {
        let (queue, mut to, _) = telling();
        let now = Instant::default();
        queue.send(changes(WAITING_MAX), Pace::Now).unwrap();

        assert!(!to.has_room(now));
        assert_eq!(to.due(), Some(now + LOOK_FOR_ROOM));
        told(&queue);

        assert!(to.has_room(now));
        assert_eq!(to.due(), None);
    }
}
