//! Route and neighbour changes on their way to the follower: a bounded queue of batches. One that
//! does not fit is lost, and then everything wanted is told once more.

use std::time::Duration;

use relay_core::time::Instant;
use tokio::sync::mpsc::Sender;

use super::{FollowerChange, RouteBatch, RouteBatchKind};
use crate::counters::Counters;

/// Between two times of telling everything: a queue that is too small does not grow by trying.
const PAUSE: Duration = Duration::from_secs(1);

/// The way to the follower.
pub(super) struct ToFollower {
    queue: Sender<RouteBatch>,
    changes: Vec<FollowerChange>,
    telling: Telling,
    not_before: Instant,
    /// Everything told is everything there is to be.
    is_complete: bool,
}

/// Where telling everything once more stands.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Telling {
    No,
    /// Something was lost, or somebody asked.
    Due,
    /// The core is at it. `begun`: the first piece was handed over.
    UnderWay {
        begun: bool,
    },
}

impl ToFollower {
    /// `is_complete`: routes of ours that are not told are of no use to anybody.
    pub(super) fn new(queue: Sender<RouteBatch>, is_complete: bool) -> Self {
        Self {
            queue,
            changes: Vec::new(),
            telling: Telling::No,
            not_before: Instant::default(),
            is_complete,
        }
    }

    /// One more change of this round.
    pub(super) fn push(&mut self, change: FollowerChange) {
        self.changes.push(change);
    }

    /// Whether the queue is so full that changes of whole batches should wait.
    pub(super) fn is_crowded(&self) -> bool {
        self.telling == Telling::Due || self.queue.capacity() < self.queue.max_capacity() / 2
    }

    /// Everything wanted is to be told once more.
    pub(super) fn ask_for_everything(&mut self) {
        self.telling = Telling::Due;
    }

    /// When [`ToFollower::begins`] is to be asked.
    pub(super) fn due(&self) -> Option<Instant> {
        (self.telling == Telling::Due).then_some(self.not_before)
    }

    /// Whether the core is to tell everything from now on.
    pub(super) fn begins(&mut self, now: Instant) -> bool {
        if self.telling != Telling::Due || now < self.not_before {
            return false;
        }
        self.telling = Telling::UnderWay { begun: false };
        self.not_before = now + PAUSE;
        true
    }

    /// Hands over the changes of this round. `more`: the core has not told everything yet.
    pub(super) fn hand_over(&mut self, more: bool, counters: &Counters) {
        let kind = match self.telling {
            Telling::UnderWay { begun } => RouteBatchKind::Resend {
                first: !begun,
                last: !more,
                is_complete: self.is_complete,
            },
            Telling::No | Telling::Due => RouteBatchKind::Changes,
        };
        if self.changes.is_empty() && (kind == RouteBatchKind::Changes || more) {
            return;
        }
        let changes = std::mem::take(&mut self.changes);
        if self.queue.try_send(RouteBatch { changes, kind }).is_err() {
            counters.route_queue_overflows.inc();
            self.telling = Telling::Due;
        } else if kind != RouteBatchKind::Changes {
            self.telling = if more {
                Telling::UnderWay { begun: true }
            } else {
                Telling::No
            };
        }
    }
}

#[cfg(test)]
mod tests {
    use relay_core::effect::RouteChange;
    use relay_core::types::Prefix;
    use tokio::sync::mpsc::{Receiver, channel};

    use super::*;

    fn change() -> FollowerChange {
        FollowerChange::Route(RouteChange::Remove {
            prefix: Prefix::host("2001:db8::1".parse().unwrap()),
            version: 1,
        })
    }

    fn kinds(queue: &mut Receiver<RouteBatch>) -> Vec<(RouteBatchKind, usize)> {
        let mut kinds = Vec::new();
        while let Ok(batch) = queue.try_recv() {
            kinds.push((batch.kind, batch.changes.len()));
        }
        kinds
    }

    #[test]
    fn round_without_changes_hands_nothing_over() {
        let (sender, mut queue) = channel(4);
        let mut to = ToFollower::new(sender, true);

        to.hand_over(false, &Counters::default());

        assert_eq!(kinds(&mut queue), []);
    }

    #[test]
    fn everything_is_told_in_pieces_with_a_first_and_a_last() {
        let (sender, mut queue) = channel(8);
        let mut to = ToFollower::new(sender, true);
        let counters = Counters::default();

        to.ask_for_everything();
        assert!(to.begins(Instant::default()));
        to.push(change());
        to.hand_over(true, &counters);
        to.hand_over(true, &counters);
        to.push(change());
        to.hand_over(true, &counters);
        to.hand_over(false, &counters);
        to.push(change());
        to.hand_over(false, &counters);

        let piece = |first, last| RouteBatchKind::Resend {
            first,
            last,
            is_complete: true,
        };
        assert_eq!(
            kinds(&mut queue),
            [
                (piece(true, false), 1),
                (piece(false, false), 1),
                (piece(false, true), 0),
                (RouteBatchKind::Changes, 1)
            ]
        );
    }

    #[test]
    fn overflow_is_counted_and_everything_is_told_again_after_a_pause() {
        let (sender, mut queue) = channel(1);
        let mut to = ToFollower::new(sender, true);
        let counters = Counters::default();

        for _ in 0..2 {
            to.push(change());
            to.hand_over(false, &counters);
        }

        assert_eq!(counters.route_queue_overflows.get(), 1);
        assert_eq!(to.due(), Some(Instant::default()));
        assert!(to.begins(Instant::default()));
        kinds(&mut queue);
        to.ask_for_everything();
        assert!(!to.begins(Instant::default()));
        assert!(to.begins(Instant::default() + PAUSE));
    }
}
