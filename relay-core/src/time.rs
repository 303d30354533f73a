//! Time as the core knows it: nanoseconds of the boot clock, handed in by the shell; and time as
//! leasequery messages state it (RFC 7653 §2, §6.3).

use core::ops::{Add, Sub};
use core::time::Duration;

/// A point on the boot clock, in nanoseconds. [`Instant::NEVER`] stands for infinity.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
pub struct Instant(u64);

impl Instant {
    /// Later than every other instant: an infinite lifetime (RFC 8415 §7.7) ends here.
    pub const NEVER: Self = Self(u64::MAX);

    /// From nanoseconds of the boot clock.
    pub const fn from_nanos(nanos: u64) -> Self {
        Self(nanos)
    }

    /// Nanoseconds of the boot clock.
    pub const fn as_nanos(self) -> u64 {
        self.0
    }

    /// Time since `earlier`, zero where `earlier` is later.
    pub const fn saturating_since(self, earlier: Self) -> Duration {
        Duration::from_nanos(self.0.saturating_sub(earlier.0))
    }

    /// The end of a DHCPv6 lifetime that starts now: `0xffffffff` is infinity (RFC 8415 §7.7).
    pub const fn plus_lifetime(self, lifetime_secs: u32) -> Self {
        if lifetime_secs == u32::MAX {
            Self::NEVER
        } else {
            Self(self.0.saturating_add(lifetime_secs as u64 * 1_000_000_000))
        }
    }
}

impl Add<Duration> for Instant {
    type Output = Self;

    fn add(self, duration: Duration) -> Self {
        let nanos = u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX);
        Self(self.0.saturating_add(nanos))
    }
}

impl Sub<Duration> for Instant {
    type Output = Self;

    fn sub(self, duration: Duration) -> Self {
        let nanos = u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX);
        Self(self.0.saturating_sub(nanos))
    }
}

/// Seconds since 2000-01-01 00:00 UTC, modulo 2^32 (RFC 7653 §2), on the clock of whoever sent it.
///
/// It wraps, so there is no order over all of them: two are compared by their difference, which
/// is right while they are less than 68 years apart.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct LqTime(pub u32);

impl LqTime {
    /// 2000-01-01 00:00 UTC in seconds of Unix time.
    const EPOCH_UNIX_SECS: u64 = 946_684_800;

    /// From seconds of Unix time.
    pub const fn from_unix_secs(unix_secs: u64) -> Self {
        Self(unix_secs.wrapping_sub(Self::EPOCH_UNIX_SECS) as u32)
    }

    /// Seconds from `earlier` to this time; negative where `earlier` is the later one.
    pub const fn secs_since(self, earlier: Self) -> i32 {
        self.0.wrapping_sub(earlier.0) as i32
    }

    /// Whether this time comes after `other`.
    pub const fn is_after(self, other: Self) -> bool {
        self.secs_since(other) > 0
    }

    /// The time `secs` earlier.
    pub const fn minus_secs(self, secs: u32) -> Self {
        Self(self.0.wrapping_sub(secs))
    }
}

/// The wall clock: how far it is ahead of the boot clock, as the shell last said.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub(crate) struct WallClock {
    /// Nanoseconds of Unix time minus those of the boot clock.
    pub(crate) ahead_nanos: i64,
    /// By how much it was set back so far.
    pub(crate) set_back_nanos: u64,
}

const NANOS_PER_SEC: u64 = 1_000_000_000;

impl WallClock {
    /// It was set: back by how much.
    pub(crate) const fn set(&mut self, ahead_nanos: i64) -> Duration {
        // Before the first time it showed nothing that anybody was told.
        let back = if ahead_nanos < self.ahead_nanos {
            self.ahead_nanos.abs_diff(ahead_nanos)
        } else {
            0
        };
        self.set_back_nanos = self.set_back_nanos.saturating_add(back);
        self.ahead_nanos = ahead_nanos;
        Duration::from_nanos(back)
    }

    /// Not after the moment that somebody means who was told this time, whatever it showed then.
    pub(crate) const fn instant_told(self, now: Instant, time: LqTime) -> Instant {
        let at = self.instant_of(now, time);
        Instant(at.0.saturating_sub(self.set_back_nanos))
    }

    /// Nanoseconds of Unix time.
    const fn unix_nanos(self, now: Instant) -> u64 {
        now.0.saturating_add_signed(self.ahead_nanos)
    }

    /// What it shows behind the whole second.
    pub(crate) const fn nanos_of_second(self, now: Instant) -> i64 {
        (self.unix_nanos(now) % NANOS_PER_SEC) as i64
    }

    /// What it shows.
    pub(crate) const fn lq_time(self, now: Instant) -> LqTime {
        LqTime::from_unix_secs(self.unix_nanos(now) / NANOS_PER_SEC)
    }

    /// Whole seconds that it moves on from one moment to a later one. However often it is asked
    /// meanwhile, `now` and the answer make the same second (ALQ-15).
    pub(crate) const fn secs_between(self, from: Instant, to: Instant) -> u32 {
        let [from, to] = [self.unix_nanos(from), self.unix_nanos(to)];
        let secs = (to / NANOS_PER_SEC).saturating_sub(from / NANOS_PER_SEC);
        if secs > u32::MAX as u64 {
            u32::MAX
        } else {
            secs as u32
        }
    }

    /// When that second begins on the boot clock; its start where that is earlier.
    pub(crate) const fn instant_of(self, now: Instant, time: LqTime) -> Instant {
        let this_second = now.0.saturating_sub(self.unix_nanos(now) % NANOS_PER_SEC);
        let nanos = time.secs_since(self.lq_time(now)) as i64 * NANOS_PER_SEC as i64;
        Instant(this_second.saturating_add_signed(nanos))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lq_time_of_the_vectors_is_their_date() {
        // 2025-07-08 16:12:48 UTC.
        assert_eq!(LqTime::from_unix_secs(1_751_991_168), LqTime(0x3000_0000));
    }

    #[test]
    fn lq_time_compares_across_the_wrap() {
        let (before, after) = (LqTime(u32::MAX - 1), LqTime(3));

        assert_eq!(after.secs_since(before), 5);
        assert_eq!(before.secs_since(after), -5);
        assert!(after.is_after(before) && !before.is_after(after) && !after.is_after(after));
        assert_eq!(after.minus_secs(5), before);
    }

    #[test]
    fn wall_clock_tells_the_second_and_finds_its_begin() {
        let clock = WallClock {
            ahead_nanos: 1_751_991_000_000_000_000,
            set_back_nanos: 0,
        };
        let now = Instant::from_nanos(168_700_000_000);

        assert_eq!(clock.lq_time(now), LqTime(0x3000_0000));
        let begin = |secs: u32| clock.instant_of(now, LqTime(secs)).as_nanos();
        assert_eq!(begin(0x3000_0000), 168_000_000_000);
        assert_eq!(begin(0x3000_0002), 170_000_000_000);
        assert_eq!(begin(0x3000_0000 - 168), 0);
        assert_eq!(begin(0x3000_0000 - 169), 0, "before the boot");
    }
}
