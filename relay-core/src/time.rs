//! Time as the core knows it: nanoseconds of the boot clock, handed in by the shell.

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
