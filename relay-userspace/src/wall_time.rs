//! From the boot clock to the calendar: the core counts nanoseconds since boot, people read
//! RFC 3339 UTC. The offset is read anew for each answer, so that a stepped system clock shows in
//! the next answer and never changes a lease.

use std::time::Duration;

use jiff::Timestamp;
use nix::time::{ClockId, clock_gettime};
use relay_core::time::Instant;

/// Both clocks, read together.
#[derive(Clone, Copy, Debug)]
pub struct WallTime {
    /// The boot clock.
    pub now: Instant,
    /// The system clock at the same moment.
    pub now_utc: Timestamp,
}

/// The instant of the boot, 36 years: what a store remembers from before the boot is a positive
/// number of nanoseconds too.
const BOOT_NANOS: u64 = 1 << 60;

/// The boot clock now.
pub fn boot_now() -> Instant {
    let time = clock_gettime(ClockId::CLOCK_BOOTTIME).expect("Linux has a boot clock");
    let seconds = u64::try_from(time.tv_sec()).unwrap_or(0);
    let nanos = u64::try_from(time.tv_nsec()).unwrap_or(0);
    at_boot_nanos(seconds * 1_000_000_000 + nanos)
}

/// The instant of a time that the kernel gave: nanoseconds of `CLOCK_BOOTTIME`.
pub const fn at_boot_nanos(nanos: u64) -> Instant {
    Instant::from_nanos(nanos.saturating_add(BOOT_NANOS))
}

/// A time for the kernel: nanoseconds of `CLOCK_BOOTTIME`.
pub const fn boot_nanos(at: Instant) -> u64 {
    at.as_nanos().saturating_sub(BOOT_NANOS)
}

impl WallTime {
    /// Reads both clocks.
    pub fn read() -> Self {
        Self {
            now: boot_now(),
            now_utc: Timestamp::now(),
        }
    }

    /// Nanoseconds since 1970 of the system clock minus those of the boot clock: what changes when
    /// somebody sets it.
    pub fn ahead_nanos(&self) -> i64 {
        let ahead = self.now_utc.as_nanosecond() - i128::from(self.now.as_nanos());
        i64::try_from(ahead).unwrap_or(i64::MIN)
    }

    /// The calendar time of an instant, cut to milliseconds; `None` for [`Instant::NEVER`] and for
    /// what the calendar cannot hold.
    pub fn timestamp(&self, at: Instant) -> Option<Timestamp> {
        if at == Instant::NEVER {
            return None;
        }
        let delta = i128::from(at.as_nanos()) - i128::from(self.now.as_nanos());
        let nanos = self.now_utc.as_nanosecond() + delta;
        let millis = i64::try_from(nanos.div_euclid(1_000_000)).ok()?;
        Timestamp::from_millisecond(millis).ok()
    }

    /// As RFC 3339 text.
    pub fn rfc3339(&self, at: Instant) -> Option<String> {
        self.timestamp(at).map(|timestamp| timestamp.to_string())
    }

    /// Time until `at`, zero where it is past.
    pub fn until(&self, at: Instant) -> Duration {
        at.saturating_since(self.now)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn wall_time_of_an_instant_is_offset_from_now() {
        let clock = WallTime {
            now: Instant::from_nanos(10_000_000_000),
            now_utc: "2026-01-01T00:00:00Z".parse().unwrap(),
        };

        let later = clock.rfc3339(Instant::from_nanos(11_500_000_000));
        let earlier = clock.rfc3339(Instant::from_nanos(0));

        assert_eq!(later.as_deref(), Some("2026-01-01T00:00:01.5Z"));
        assert_eq!(earlier.as_deref(), Some("2025-12-31T23:59:50Z"));
        assert_eq!(clock.rfc3339(Instant::NEVER), None);
    }
}
