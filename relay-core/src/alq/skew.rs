//! How far a peer's clock is from ours, out of the base-times of its messages (RFC 7653 §8.5).
//!
//! A message was made before it came: our time at its arrival minus its base-time is too large by the
//! time that it travelled, and by the part of a second that base-time leaves out. So the smallest
//! of many is the best; it may only grow slowly, as clocks drift. Must not know what messages say.

use crate::time::{Instant, LqTime, WallClock};

/// Clocks that differ by less are held for the same, as those of relays that follow one time
/// source are: then all relays compare the very seconds that a record was told with.
pub(crate) const SAME_SECS: i64 = 2;
/// A base-time so much before an earlier one is of a clock that was set back (ALQ-D-9).
const JUMP_BACK_SECS: i32 = 5;
/// How fast clocks may drift apart: 100 parts in a million.
const DRIFT_DIVISOR: u64 = 10_000;
const NANOS_PER_SEC: i64 = 1_000_000_000;

/// What is known of one peer's clock.
#[derive(Clone, Copy, Default, Debug)]
pub(crate) struct Skew {
    best: Option<Best>,
    newest: Option<LqTime>,
}

#[derive(Clone, Copy, Debug)]
struct Best {
    /// Nanoseconds that our clock is ahead of the peer's.
    ahead_nanos: i64,
    at: Instant,
    /// As our wall clock was then.
    clock: WallClock,
}

/// The peer's clock went back: what it says of before is not to be compared with what it says now.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct WentBack;

impl Skew {
    /// A time that the peer told in an earlier session.
    pub(crate) fn recall(&mut self, base_time: LqTime) {
        if self.newest.is_none_or(|newest| base_time.is_after(newest)) {
            self.newest = Some(base_time);
        }
    }

    /// A message came now that was made at `base_time`.
    ///
    /// # Errors
    /// The peer's clock was set back. The next call begins anew.
    // req: ALQ-45, ALQ-D-9
    pub(crate) fn hear(
        &mut self,
        now: Instant,
        clock: WallClock,
        base_time: LqTime,
    ) -> Result<(), WentBack> {
        if self
            .newest
            .is_some_and(|newest| newest.secs_since(base_time) > JUMP_BACK_SECS)
        {
            *self = Self::default();
            return Err(WentBack);
        }
        if self.newest.is_some_and(|newest| newest.is_after(base_time)) {
            // It was set back by a little: what was the best before is too small now.
            self.best = None;
        }
        self.recall(base_time);
        let secs = i64::from(clock.lq_time(now).secs_since(base_time));
        let ahead_nanos = secs * NANOS_PER_SEC + clock.nanos_of_second(now);
        let known = self.best.map(|best| {
            let drift = now.saturating_since(best.at).as_nanos() as u64 / DRIFT_DIVISOR;
            let step = clock.ahead_nanos.saturating_sub(best.clock.ahead_nanos);
            best.ahead_nanos
                .saturating_add(step)
                .saturating_add_unsigned(drift)
        });
        let ahead_nanos = known.map_or(ahead_nanos, |known| known.min(ahead_nanos));
        self.best = Some(Best {
            ahead_nanos,
            at: now,
            clock,
        });
        Ok(())
    }

    /// Whole seconds that our clock is ahead.
    pub(crate) fn secs(&self) -> i64 {
        let nanos = self.best.map_or(0, |best| best.ahead_nanos);
        let secs = (nanos + NANOS_PER_SEC / 2).div_euclid(NANOS_PER_SEC);
        if nanos.abs() < SAME_SECS * NANOS_PER_SEC {
            0
        } else {
            secs
        }
    }

    /// A time of ours on the peer's clock.
    pub(crate) fn theirs(&self, ours: LqTime) -> LqTime {
        LqTime(ours.0.wrapping_sub(self.secs() as u32))
    }

    /// A time of the peer's on our clock.
    pub(crate) fn ours(&self, theirs: LqTime) -> LqTime {
        LqTime(theirs.0.wrapping_add(self.secs() as u32))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn clock(unix_secs: i64) -> WallClock {
        WallClock {
            ahead_nanos: unix_secs * NANOS_PER_SEC,
            set_back_nanos: 0,
        }
    }

    fn at(nanos: u64) -> Instant {
        Instant::from_nanos(nanos)
    }

    const HALF: u64 = 500_000_000;

    #[test]
    fn alq_45_skew_is_that_of_the_fastest_message() {
        let (mut skew, clock) = (Skew::default(), clock(946_684_800 + 1000));
        // Ours shows 1010.5 while the peer's shows 905.
        skew.hear(at(10_000_000_000 + HALF), clock, LqTime(905))
            .unwrap();
        skew.hear(at(14_000_000_000), clock, LqTime(907)).unwrap();
        assert_eq!(skew.secs(), 106);

        skew.hear(at(15_000_000_000), clock, LqTime(910)).unwrap();

        assert_eq!(skew.secs(), 105);
        assert_eq!(skew.ours(LqTime(910)), LqTime(1015));
    }

    #[test]
    fn alq_45_clocks_that_differ_by_delay_alone_are_the_same() {
        let (mut skew, clock) = (Skew::default(), clock(946_684_800));

        skew.hear(at(11_900_000_000), clock, LqTime(10)).unwrap();

        assert_eq!(skew.ours(LqTime(10)), LqTime(10));
    }

    #[test]
    fn alq_d_9_base_time_that_jumps_back_is_noticed_once() {
        let (mut skew, clock) = (Skew::default(), clock(946_684_800));
        skew.hear(at(10 * 1_000_000_000), clock, LqTime(10))
            .unwrap();
        skew.hear(at(10 * 1_000_000_000), clock, LqTime(5)).unwrap();

        assert_eq!(
            skew.hear(at(11 * 1_000_000_000), clock, LqTime(4)),
            Err(WentBack)
        );
        assert_eq!(skew.hear(at(11 * 1_000_000_000), clock, LqTime(4)), Ok(()));
        assert_eq!(skew.secs(), 7);
    }

    /// A clock that was set forward by 3 s and back again is where it was.
    #[test]
    fn alq_45_small_step_back_is_followed() {
        let (mut skew, clock) = (Skew::default(), clock(946_684_800));
        for (now, told) in [(10, 10), (11, 14), (12, 12)] {
            skew.hear(at(now * 1_000_000_000), clock, LqTime(told))
                .unwrap();
        }

        assert_eq!(skew.secs(), 0);
    }

    #[test]
    fn alq_45_step_of_our_own_clock_is_no_skew() {
        let mut skew = Skew::default();
        skew.hear(at(10 * 1_000_000_000), clock(946_684_800), LqTime(10))
            .unwrap();

        skew.hear(
            at(11 * 1_000_000_000),
            clock(946_684_800 + 3600),
            LqTime(11),
        )
        .unwrap();

        assert_eq!(skew.secs(), 3600);
    }
}
