//! How far a peer's clock is from ours, out of the base-times of its messages (RFC 7653 §8.5).
//!
//! A message was made before it came: our time at its arrival minus its base-time is too large by the
//! time that it travelled, and by the part of a second that base-time leaves out. So the smallest
//! of many is the best; it may only grow slowly, as clocks drift.
//!
//! A clock that is set back shows in base-times that go back, but not where it is set back by less
//! than the peer was silent before: then its messages only look as if they had travelled longer.
//! And of a clock that was set forward one does not know how far, as the message that shows it may
//! have travelled long. The answer to a query was made after we asked, which says how old it can be
//! at most. So in both cases one asks again, on a new connection, and the answer decides. Must not
//! know what messages say.

use core::time::Duration;

use crate::time::{Instant, LqTime, WallClock};

/// Clocks that differ by less are held for the same, as those of relays that follow one time
/// source are: then all relays compare the very seconds that a record was told with.
pub(crate) const SAME_SECS: i64 = 2;
/// Times that differ by less are of one clock (ALQ-D-9).
const JUMP_SECS: i32 = 5;
const JUMP_NANOS: i64 = JUMP_SECS as i64 * NANOS_PER_SEC;
/// Messages that look late for so long, one and all, may be of such a clock too.
const LATE_FOR: Duration = Duration::from_secs(60);
/// How fast clocks may drift apart: 100 parts in a million.
const DRIFT_DIVISOR: u64 = 10_000;
const NANOS_PER_SEC: i64 = 1_000_000_000;

/// What is known of one peer's clock.
#[derive(Clone, Copy, Default, Debug)]
pub(crate) struct Skew {
    best: Option<Best>,
    newest: Option<LqTime>,
    /// Since when each message looks late.
    late_since: Option<Instant>,
}

#[derive(Clone, Copy, Debug)]
struct Best {
    /// Nanoseconds that our clock is ahead of the peer's.
    ahead_nanos: i64,
    at: Instant,
    /// As our wall clock was then.
    clock: WallClock,
    /// Messages are known to travel for so long.
    way_nanos: i64,
}

/// What the peer says of before may not compare with what it says now.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Doubt {
    /// Its clock was set back.
    WentBack,
    /// Its clock was set back, or messages travel longer than they did.
    Late,
    /// Its clock was set forward.
    Leapt,
}

impl Skew {
    /// A time that the peer told in an earlier session.
    pub(crate) fn recall(&mut self, base_time: LqTime) {
        if self.newest.is_none_or(|newest| base_time.is_after(newest)) {
            self.newest = Some(base_time);
        }
    }

    /// A message came now that was made at `base_time`, and not before `asked_at`.
    ///
    /// # Errors
    /// The peer's clock was set, or may have been. What this message says is not to be taken.
    // req: ALQ-45, ALQ-D-9
    pub(crate) fn hear(
        &mut self,
        now: Instant,
        clock: WallClock,
        base_time: LqTime,
        asked_at: Option<Instant>,
    ) -> Result<(), Doubt> {
        let most = ahead_at_most(now, clock, base_time);
        let least = asked_at.map(|asked_at| {
            let way = now.saturating_since(asked_at).as_nanos();
            let way = i64::try_from(way).unwrap_or(i64::MAX);
            most.saturating_sub(way).saturating_sub(NANOS_PER_SEC)
        });
        let known = self.best.map(|best| best.now(now, clock));
        let is_before = |newest: LqTime| newest.secs_since(base_time) > JUMP_SECS;
        let is_too_old = |least: i64| {
            known.is_some_and(|known| least > known.ahead_nanos.saturating_add(JUMP_NANOS))
        };
        if self.newest.is_some_and(is_before) || least.is_some_and(is_too_old) {
            *self = Self::default();
            return Err(Doubt::WentBack);
        }
        let has_stepped_back = self.newest.is_some_and(|newest| newest.is_after(base_time));
        // It was set back by a little: what was the best before is too small now.
        let known = known.filter(|_| !has_stepped_back);
        self.recall(base_time);
        if asked_at.is_none() && known.is_some_and(|known| known.has_leapt(most)) {
            self.best = None;
            return Err(Doubt::Leapt);
        }
        let ahead_nanos = known.map_or(most, |known| known.ahead_nanos.min(most));
        let ahead_nanos = ahead_nanos.max(least.unwrap_or(i64::MIN));
        let way_nanos = most.saturating_sub(ahead_nanos);
        let usual = known.map_or(0, |known| known.way_nanos);
        let is_late = asked_at.is_none() && way_nanos > usual.saturating_add(JUMP_NANOS);
        self.best = Some(Best {
            ahead_nanos,
            at: now,
            clock,
            way_nanos: match asked_at {
                Some(_) => way_nanos,
                None => way_nanos.min(usual),
            },
        });
        self.late_since = is_late.then(|| self.late_since.unwrap_or(now));
        match self.late_since {
            Some(since) if since + LATE_FOR <= now => {
                self.late_since = None;
                Err(Doubt::Late)
            }
            _ => Ok(()),
        }
    }

    /// A message came on another connection, where what was made later may have come already: it says nothing new
    /// of the clock, but whether it was set forward.
    pub(crate) fn hear_aside(
        &mut self,
        now: Instant,
        clock: WallClock,
        base_time: LqTime,
    ) -> Result<(), Doubt> {
        let most = ahead_at_most(now, clock, base_time);
        let known = self.best.map(|best| best.now(now, clock));
        if known.is_some_and(|known| known.has_leapt(most)) {
            self.best = None;
            return Err(Doubt::Leapt);
        }
        Ok(())
    }

    /// Whether what comes may be taken for older than it is.
    pub(crate) const fn is_late(&self) -> bool {
        self.late_since.is_some()
    }

    /// Whole seconds that our clock, which may have been set since a message came, is ahead.
    pub(crate) fn secs(&self, clock: WallClock) -> i64 {
        let nanos = self.best.map_or(0, |best| best.ahead_of(clock));
        let secs = (nanos + NANOS_PER_SEC / 2).div_euclid(NANOS_PER_SEC);
        if nanos.abs() < SAME_SECS * NANOS_PER_SEC {
            0
        } else {
            secs
        }
    }

    /// A time of ours on the peer's clock.
    pub(crate) fn theirs(&self, clock: WallClock, ours: LqTime) -> LqTime {
        LqTime(ours.0.wrapping_sub(self.secs(clock) as u32))
    }

    /// A time of the peer's on our clock.
    pub(crate) fn ours(&self, clock: WallClock, theirs: LqTime) -> LqTime {
        LqTime(theirs.0.wrapping_add(self.secs(clock) as u32))
    }
}

impl Best {
    /// By a clock of ours that may have been set since.
    fn ahead_of(&self, clock: WallClock) -> i64 {
        let step = clock.ahead_nanos.saturating_sub(self.clock.ahead_nanos);
        self.ahead_nanos.saturating_add(step)
    }

    /// Whether the peer's clock was set forward, where ours is ahead by so much at most.
    fn has_leapt(&self, most: i64) -> bool {
        most < self.ahead_nanos.saturating_sub(JUMP_NANOS)
    }

    /// As it is now.
    fn now(self, now: Instant, clock: WallClock) -> Self {
        let drift = now.saturating_since(self.at).as_nanos() as u64 / DRIFT_DIVISOR;
        Self {
            ahead_nanos: self.ahead_of(clock).saturating_add_unsigned(drift),
            ..self
        }
    }
}

/// Nanoseconds that our clock is ahead of one that showed `base_time`, had the message come in no time.
fn ahead_at_most(now: Instant, clock: WallClock, base_time: LqTime) -> i64 {
    i64::from(clock.lq_time(now).secs_since(base_time)) * NANOS_PER_SEC + clock.nanos_of_second(now)
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
        skew.hear(at(10_000_000_000 + HALF), clock, LqTime(905), None)
            .unwrap();
        skew.hear(at(14_000_000_000), clock, LqTime(907), None)
            .unwrap();
        assert_eq!(skew.secs(clock), 106);

        skew.hear(at(15_000_000_000), clock, LqTime(910), None)
            .unwrap();

        assert_eq!(skew.secs(clock), 105);
        assert_eq!(skew.ours(clock, LqTime(910)), LqTime(1015));
    }

    #[test]
    fn alq_45_clocks_that_differ_by_delay_alone_are_the_same() {
        let (mut skew, clock) = (Skew::default(), clock(946_684_800));

        skew.hear(at(11_900_000_000), clock, LqTime(10), None)
            .unwrap();

        assert_eq!(skew.ours(clock, LqTime(10)), LqTime(10));
    }

    #[test]
    fn alq_d_9_base_time_that_jumps_back_is_noticed_once() {
        let (mut skew, clock) = (Skew::default(), clock(946_684_800));
        skew.hear(at(10 * 1_000_000_000), clock, LqTime(10), None)
            .unwrap();
        skew.hear(at(10 * 1_000_000_000), clock, LqTime(5), None)
            .unwrap();

        assert_eq!(
            skew.hear(at(11 * 1_000_000_000), clock, LqTime(4), None),
            Err(Doubt::WentBack)
        );
        assert_eq!(
            skew.hear(at(11 * 1_000_000_000), clock, LqTime(4), None),
            Ok(())
        );
        assert_eq!(skew.secs(clock), 7);
    }

    /// A clock that was set forward by 3 s and back again is where it was.
    #[test]
    fn alq_45_small_step_back_is_followed() {
        let (mut skew, clock) = (Skew::default(), clock(946_684_800));
        for (now, told) in [(10, 10), (11, 14), (12, 12)] {
            skew.hear(at(now * 1_000_000_000), clock, LqTime(told), None)
                .unwrap();
        }

        assert_eq!(skew.secs(clock), 0);
    }

    #[test]
    fn alq_45_step_of_our_own_clock_is_no_skew() {
        let mut skew = Skew::default();
        skew.hear(at(10 * 1_000_000_000), clock(946_684_800), LqTime(10), None)
            .unwrap();

        skew.hear(
            at(11 * 1_000_000_000),
            clock(946_684_800 + 3600),
            LqTime(11),
            None,
        )
        .unwrap();

        assert_eq!(skew.secs(clock(946_684_800 + 3600)), 3600);
    }

    /// What comes on another connection is converted by our clock as it is now. req: ALQ-45
    #[test]
    fn alq_45_step_of_our_own_clock_counts_before_the_next_message() {
        let mut skew = Skew::default();
        skew.hear(second(10), clock(946_684_800), LqTime(10), None)
            .unwrap();

        let set = clock(946_684_800 + 3600);

        assert_eq!(skew.secs(set), 3600);
        assert_eq!(skew.ours(set, LqTime(12)), LqTime(3612));
        assert_eq!(skew.theirs(set, LqTime(3612)), LqTime(12));
        assert_eq!(skew.hear_aside(second(12), set, LqTime(12)), Ok(()));
    }

    fn second(secs: u64) -> Instant {
        at(secs * 1_000_000_000)
    }

    #[test]
    fn alq_d_9_clock_set_back_by_less_than_the_silence_is_found_by_asking_again() {
        let (mut skew, clock) = (Skew::default(), clock(946_684_800));
        skew.hear(second(100), clock, LqTime(100), None).unwrap();

        // Set back by 30 s: each message looks late by as much.
        assert_eq!(skew.hear(second(150), clock, LqTime(120), None), Ok(()));
        let late = skew.hear(second(210), clock, LqTime(180), None);
        assert_eq!(late, Err(Doubt::Late));
        let answer = skew.hear(second(212), clock, LqTime(181), Some(second(211)));
        assert_eq!(answer, Err(Doubt::WentBack));

        let answer = skew.hear(second(214), clock, LqTime(183), Some(second(213)));
        assert_eq!((answer, skew.secs(clock)), (Ok(()), 31));
    }

    #[test]
    fn alq_d_9_messages_that_travel_longer_are_no_clock_set_back() {
        let (mut skew, clock) = (Skew::default(), clock(946_684_800));
        skew.hear(second(100), clock, LqTime(100), None).unwrap();
        skew.hear(second(150), clock, LqTime(120), None).unwrap();
        let late = skew.hear(second(210), clock, LqTime(180), None);
        assert_eq!(late, Err(Doubt::Late));

        let answer = skew.hear(second(270), clock, LqTime(241), Some(second(240)));
        assert_eq!(answer, Ok(()));

        for secs in [300, 360, 420] {
            let late = skew.hear(second(secs), clock, LqTime(secs as u32 - 30), None);
            assert_eq!(
                (late, skew.secs(clock)),
                (Ok(()), 0),
                "the way is known to be long"
            );
        }
        skew.hear(second(430), clock, LqTime(430), None).unwrap();
        skew.hear(second(450), clock, LqTime(435), None).unwrap();
        let late = skew.hear(second(510), clock, LqTime(495), None);
        assert_eq!(late, Err(Doubt::Late), "it was short again");
    }

    #[test]
    fn alq_d_9_clock_set_forward_is_asked_again() {
        let (mut skew, clock) = (Skew::default(), clock(946_684_800));
        skew.hear(second(100), clock, LqTime(100), None).unwrap();

        // Set forward by 60 s, told 20 s late.
        let leap = skew.hear(second(150), clock, LqTime(190), None);
        assert_eq!(leap, Err(Doubt::Leapt));

        let answer = skew.hear(second(152), clock, LqTime(211), Some(second(151)));
        assert_eq!((answer, skew.secs(clock)), (Ok(()), -59));
    }
}
