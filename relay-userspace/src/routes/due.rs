//! When the route thread does what it does: all its delays and patience in one place. Knows no socket.

use std::time::{Duration, Instant};

/// Everything is compared with the kernel at least so often.
const COMPARE_EVERY: Duration = Duration::from_secs(60);
/// In doubt, comparisons take at most this part of the time: one in so many.
const COMPARE_SHARE: u32 = 10;
/// A comparison waits for writes that go on, but no longer than this.
const COMPARE_PATIENCE: Duration = Duration::from_secs(10);
/// What the kernel refused is tried again after this, then after twice as long, up to [`COMPARE_EVERY`].
const RETRY: Duration = Duration::from_secs(1);
/// Links and addresses are asked for this long after the first of a burst of changes.
const SETTLE: Duration = Duration::from_millis(10);
/// Routes that others remove are put back this long after, so that a quarrel with another program
/// costs little.
const REPAIR_AFTER: Duration = Duration::from_millis(20);
/// So many changes at a time are a storm: somebody flushes. Repairs wait until it is over, because
/// `ip route flush` would only find them again, and goes on as long as it finds any.
const STORM: usize = 16;
/// But no longer than this.
const STORM_MAX: Duration = Duration::from_secs(10);
/// The relay thread did not take outcomes: try again after this.
const RETRY_OUTCOMES: Duration = Duration::from_millis(5);

/// What is to be done later.
#[derive(Debug)]
pub(super) struct Due {
    pub(super) interfaces: Option<Instant>,
    pub(super) outcomes: Option<Instant>,
    pub(super) compare: Instant,
    not_before: Instant,
    /// Since when a comparison waits for writes.
    waits_since: Option<Instant>,
    /// When the comparison under way began.
    began: Instant,
    retry: Duration,
    was_refused: bool,
    quarrel: Option<Quarrel>,
}

/// Others write to our routes: repairs wait.
#[derive(Clone, Copy, Debug)]
struct Quarrel {
    since: Instant,
    until: Instant,
}

impl Due {
    pub(super) fn at_start() -> Self {
        let now = Instant::now();
        Self {
            interfaces: None,
            outcomes: None,
            compare: now,
            not_before: now,
            waits_since: None,
            began: now,
            retry: RETRY,
            was_refused: false,
            quarrel: None,
        }
    }

    /// When the thread has to look again.
    pub(super) fn next(&self, in_doubt: bool) -> Instant {
        let compare = if in_doubt {
            self.not_before.min(self.compare)
        } else {
            self.compare
        };
        let quarrel = self.quarrel.map(|quarrel| quarrel.until);
        [self.interfaces, self.outcomes, quarrel]
            .into_iter()
            .flatten()
            .fold(compare, Instant::min)
    }

    /// Links or addresses changed.
    pub(super) fn interfaces_changed(&mut self, now: Instant) {
        self.interfaces.get_or_insert(now + SETTLE);
    }

    /// Others changed so many of our routes. `was_idle`: nothing else was to be written.
    pub(super) fn others_wrote(&mut self, now: Instant, routes: usize, was_idle: bool) {
        let until = now + REPAIR_AFTER;
        match &mut self.quarrel {
            Some(quarrel) if routes >= STORM => {
                quarrel.until = until.min(quarrel.since + STORM_MAX);
            }
            Some(_) => {}
            None if was_idle || routes >= STORM => {
                self.quarrel = Some(Quarrel { since: now, until });
            }
            None => {}
        }
    }

    /// Whether repairs wait.
    pub(super) fn is_quarrel(&self) -> bool {
        self.quarrel.is_some()
    }

    /// They wait no longer than they have to.
    pub(super) fn quarrel_may_end(&mut self, now: Instant) {
        self.quarrel = self.quarrel.filter(|quarrel| quarrel.until > now);
    }

    /// They wait no longer.
    pub(super) fn make_peace(&mut self) {
        self.quarrel = None;
    }

    /// Whether a comparison begins now. `is_writing`: what is written would have to be compared again.
    pub(super) fn may_compare(&mut self, now: Instant, in_doubt: bool, is_writing: bool) -> bool {
        if self.compare > now && !(in_doubt && self.not_before <= now) {
            return false;
        }
        let since = *self.waits_since.get_or_insert(now);
        if is_writing && now < since + COMPARE_PATIENCE {
            return false;
        }
        self.waits_since = None;
        self.began = now;
        true
    }

    /// A comparison came to its end.
    pub(super) fn compared(&mut self, now: Instant) {
        let took = now - self.began;
        self.not_before = now + took * COMPARE_SHARE;
        if !std::mem::take(&mut self.was_refused) {
            self.retry = RETRY;
        }
        self.compare = now + COMPARE_EVERY.max(took * COMPARE_SHARE);
    }

    /// The kernel refused a write: what is wanted and not there is found by a comparison.
    pub(super) fn refused(&mut self, now: Instant) {
        if !std::mem::replace(&mut self.was_refused, true) {
            self.compare = self.compare.min(now + self.retry);
            self.retry = (self.retry * 2).min(COMPARE_EVERY);
        }
    }

    /// The relay thread took no outcomes.
    pub(super) fn outcomes_were_refused(&mut self, now: Instant) {
        self.outcomes = Some(now + RETRY_OUTCOMES);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    #[test]
    fn few_changes_of_others_hold_repairs_up_once_and_a_storm_as_long_as_it_lasts() {
        let mut due = Due::at_start();
        let start = Instant::now();

        due.others_wrote(start, 1, true);
        due.others_wrote(start + 19 * MS, 1, false);
        due.quarrel_may_end(start + REPAIR_AFTER);
        assert!(!due.is_quarrel());

        due.others_wrote(start, STORM, true);
        for ms in 0..2 * STORM_MAX.as_millis() as u32 {
            due.others_wrote(start + ms * MS, STORM, false);
            due.quarrel_may_end(start + ms * MS);
            let holds = due.is_quarrel();
            assert_eq!(holds, ms * MS < STORM_MAX, "after {ms} ms");
            if !holds {
                return;
            }
        }
        panic!("the storm never ended");
    }

    #[test]
    fn comparison_waits_for_writes_but_not_for_ever_and_takes_a_share_of_the_time() {
        let mut due = Due::at_start();
        let start = Instant::now();

        assert!(!due.may_compare(start, true, true));
        assert!(due.may_compare(start + COMPARE_PATIENCE, true, true));
        let end = start + COMPARE_PATIENCE + 100 * MS;
        due.compared(end);

        assert!(!due.may_compare(end + 999 * MS, true, false));
        assert!(due.may_compare(end + 1000 * MS, true, false));
        assert!(!due.may_compare(end + 1000 * MS, false, false));
        assert!(due.may_compare(end + COMPARE_EVERY, false, false));
    }

    #[test]
    fn refused_writes_are_tried_again_ever_more_seldom_until_one_succeeds() {
        let mut due = Due::at_start();
        let mut now = Instant::now();
        due.compared(now);
        for seconds in [1, 2, 4] {
            due.refused(now);
            let at = now + Duration::from_secs(seconds);
            assert!(!due.may_compare(at - MS, false, false), "{seconds} s");
            assert!(due.may_compare(at, false, false), "{seconds} s");
            due.compared(at);
            now = at;
        }
        due.compared(now);
        due.refused(now);
        assert!(due.may_compare(now + RETRY, false, false));
    }
}
