//! Times across boots. Decides how the boot clock's moments of an earlier boot are moments of this
//! one, and whether the wall clock may say so; must not know bindings.
//!
//! Each boot is an epoch. Of each, the store keeps how far the wall clock was ahead of the boot
//! clock, and the newest moment seen. Within one boot the boot clock is exact, whatever the wall
//! clock says. Across boots the wall clock tells how much time has passed, unless it is not credible:
//! then no time has passed since the newest moment that is stored, so that nothing live is dropped.

use std::collections::BTreeMap;
use std::fs;
use std::sync::LazyLock;

use nix::time::{ClockId, clock_gettime};
use relay_core::time::Instant;

use super::facts::Facts;

/// A wall clock that is behind the newest stored time by less is credible: it was slewed.
const SLACK_NANOS: i128 = 2_000_000_000;
/// Without synchronisation, a relay was not off for longer: more likely its clock is wrong. Longer
/// outages cost nothing: lifetimes are kept until the clock is synchronised.
const LEAP_NANOS: i128 = 24 * 3600 * 1_000_000_000;
const KEY: &[u8] = b"epoch/";

/// The clocks of the machine, read together.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Clock {
    /// The boot clock.
    pub boot: Instant,
    /// The wall clock, nanoseconds since 1970.
    pub wall_nanos: i128,
    /// The kernel's name for this boot.
    pub boot_id: [u8; 16],
    /// The kernel says that something keeps the wall clock right.
    pub synchronised: bool,
}

impl Clock {
    /// Reads them.
    pub fn read() -> Self {
        let boot = crate::wall_time::boot_now();
        let wall = clock_gettime(ClockId::CLOCK_REALTIME).expect("Linux has a wall clock");
        Self {
            boot,
            wall_nanos: i128::from(wall.tv_sec()) * 1_000_000_000 + i128::from(wall.tv_nsec()),
            boot_id: boot_id(),
            synchronised: is_synchronised(),
        }
    }

    fn offset(&self) -> i128 {
        self.wall_nanos - i128::from(self.boot.as_nanos())
    }
}

/// Read once: a process lives in one boot. Zeros where /proc is not there: then every boot looks like
/// the last, and lifetimes are those of the boot clock.
fn boot_id() -> [u8; 16] {
    static BOOT_ID: LazyLock<[u8; 16]> = LazyLock::new(|| {
        let text = fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default();
        let hex: String = text.trim().chars().filter(|it| *it != '-').collect();
        u128::from_str_radix(&hex, 16).unwrap_or(0).to_be_bytes()
    });
    *BOOT_ID
}

fn is_synchronised() -> bool {
    // SAFETY: all zeros are a valid `timex`; `modes` 0 only reads.
    let mut timex: libc::timex = unsafe { core::mem::zeroed() };
    // SAFETY: `timex` is valid for writes, and lives during the call.
    let state = unsafe { libc::adjtimex(&raw mut timex) };
    state >= 0 && state != libc::TIME_ERROR && timex.status & libc::STA_UNSYNC == 0
}

/// One boot, as the store knows it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Epoch {
    boot_id: [u8; 16],
    /// Wall clock minus boot clock.
    offset: i64,
    /// The offset is that of a wall clock that was credible.
    is_credible: bool,
    /// The newest moment seen, on its boot clock.
    newest: u64,
    /// What makes its moments those of another epoch, as was decided at the start in that epoch:
    /// a second start in that boot must come to the same times.
    into: Option<(u32, i64)>,
}

impl Epoch {
    const BYTES: usize = 45;

    fn encode(&self) -> [u8; Self::BYTES] {
        let mut bytes = [0; Self::BYTES];
        let (into, shift) = self.into.unwrap_or((u32::MAX, 0));
        bytes[..16].copy_from_slice(&self.boot_id);
        bytes[16..24].copy_from_slice(&self.offset.to_be_bytes());
        bytes[24..32].copy_from_slice(&self.newest.to_be_bytes());
        bytes[32] = u8::from(self.is_credible);
        bytes[33..37].copy_from_slice(&into.to_be_bytes());
        bytes[37..].copy_from_slice(&shift.to_be_bytes());
        bytes
    }

    fn decode(bytes: &[u8]) -> Option<Self> {
        let number = |from: usize| {
            Some(i64::from_be_bytes(
                bytes.get(from..from + 8)?.try_into().ok()?,
            ))
        };
        let into = u32::from_be_bytes(bytes.get(33..37)?.try_into().ok()?);
        Some(Self {
            boot_id: bytes.get(..16)?.try_into().ok()?,
            offset: number(16)?,
            newest: number(24)?.cast_unsigned(),
            is_credible: bytes[32] != 0,
            into: (into != u32::MAX).then_some((into, number(37)?)),
        })
    }

    fn newest_wall(&self) -> i128 {
        i128::from(self.newest) + i128::from(self.offset)
    }
}

/// The wall clock was not credible at the start: lifetimes are kept.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct ClockBehind {
    /// What it said, nanoseconds since 1970.
    pub wall_nanos: i128,
    /// The newest time that is stored.
    pub newest_nanos: i128,
}

impl std::fmt::Display for ClockBehind {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let seconds = (self.wall_nanos - self.newest_nanos) / 1_000_000_000;
        if seconds < 0 {
            write!(
                f,
                "the system clock is {} s behind the newest stored time",
                -seconds
            )?;
        } else {
            write!(
                f,
                "the system clock is {seconds} s ahead of the newest stored time and the kernel says that \
                 nothing synchronises it"
            )?;
        }
        write!(
            f,
            ": lifetimes are kept as if no time had passed until it is credible. Set the clock, or \
             start NTP"
        )
    }
}

/// Restored times were kept too long.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Correction {
    /// So much time passed while the relay was off: what was restored as correctable, and did not
    /// change since, ends earlier by this. Negative: later.
    pub earlier_nanos: i128,
}

impl Correction {
    /// The corrected time.
    pub fn apply(&self, at: Instant) -> Instant {
        shift(at, -self.earlier_nanos)
    }
}

/// All epochs, and how their moments become those of this boot.
#[derive(Clone, Debug)]
pub(super) struct Times {
    epochs: BTreeMap<u32, Epoch>,
    present: u32,
    /// The wall clock is not credible, and since when.
    behind: Option<ClockBehind>,
}

/// How a record's times become those of this boot.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Translation {
    shift: i64,
    /// A [`Correction`] may follow.
    pub(super) is_correctable: bool,
}

impl Translation {
    pub(super) fn apply(&self, at: Instant) -> Instant {
        shift(at, i128::from(self.shift))
    }
}

fn shift(at: Instant, by: i128) -> Instant {
    if at == Instant::NEVER {
        return at;
    }
    let nanos = i128::from(at.as_nanos()) + by;
    // Infinity is one special value: a finite time never becomes it.
    Instant::from_nanos(nanos.clamp(0, i128::from(u64::MAX - 1)) as u64)
}

fn narrow(nanos: i128) -> i64 {
    nanos.clamp(i128::from(i64::MIN), i128::from(i64::MAX)) as i64
}

impl Times {
    /// Judges the clock by what is stored.
    pub(super) fn judge(facts: &Facts, clock: &Clock) -> Self {
        let mut epochs = BTreeMap::new();
        for (key, value) in facts.starting_with(KEY) {
            let number = key.try_into().map(u32::from_be_bytes);
            if let (Ok(number), Some(epoch)) = (number, Epoch::decode(value)) {
                epochs.insert(number, epoch);
            }
        }
        let same = epochs.iter().find(|(_, it)| it.boot_id == clock.boot_id);
        let present = same.map_or_else(
            || {
                epochs
                    .last_key_value()
                    .map_or(0, |(number, _)| number.saturating_add(1))
            },
            |(number, _)| *number,
        );
        let mut times = Self {
            epochs,
            present,
            behind: None,
        };
        times.enter(clock);
        times
    }

    /// Makes the present epoch, and decides about the others once for the whole boot.
    fn enter(&mut self, clock: &Clock) {
        let newest = self.newest_wall_of_others();
        let behind = newest.and_then(|newest| is_behind(newest, clock));
        let pretended = newest.unwrap_or(0) - i128::from(clock.boot.as_nanos());
        let known = self.epochs.get(&self.present).copied();
        // The second start in a boot goes on with what the first decided, for times to stay.
        let is_credible = behind.is_none() || known.is_some_and(|it| it.is_credible);
        let offset = match known {
            Some(known) if behind.is_some() => i128::from(known.offset),
            _ if behind.is_some() => pretended,
            _ => clock.offset(),
        };
        self.behind = behind.filter(|_| !is_credible);
        self.epochs.insert(
            self.present,
            Epoch {
                boot_id: clock.boot_id,
                offset: narrow(offset),
                is_credible,
                newest: clock.boot.as_nanos().max(known.map_or(0, |it| it.newest)),
                into: None,
            },
        );
        if behind.is_none() && known.is_some_and(|it| !it.is_credible) {
            // It became credible between two starts in this boot.
            self.restore_pretence(known, clock);
            self.advance(clock);
        }
        let present = self.present;
        for (number, epoch) in &mut self.epochs {
            if *number == present || epoch.into.is_some_and(|(into, _)| into == present) {
                continue;
            }
            let by = if epoch.is_credible {
                i128::from(epoch.offset) - offset
            } else {
                // Nobody knows how long ago that boot was: as if it ended now.
                i128::from(clock.boot.as_nanos()) - i128::from(epoch.newest)
            };
            epoch.into = Some((present, narrow(by)));
        }
    }

    fn restore_pretence(&mut self, known: Option<Epoch>, clock: &Clock) {
        if let (Some(known), Some(epoch)) = (known, self.epochs.get_mut(&self.present)) {
            epoch.offset = known.offset;
            epoch.is_credible = false;
            self.behind = Some(ClockBehind {
                wall_nanos: clock.wall_nanos,
                newest_nanos: clock.wall_nanos,
            });
        }
    }

    fn newest_wall_of_others(&self) -> Option<i128> {
        self.epochs
            .iter()
            .filter(|(number, epoch)| **number != self.present && epoch.is_credible)
            .map(|(_, epoch)| epoch.newest_wall())
            .max()
    }

    /// The epoch of this boot.
    pub(super) const fn present(&self) -> u32 {
        self.present
    }

    /// Whether, and by how much, the clock was not credible.
    pub(super) const fn clock_behind(&self) -> Option<ClockBehind> {
        self.behind
    }

    /// For a record of this epoch whose client was last heard at `cltt`.
    pub(super) fn translation(&self, epoch: u32, cltt: Instant, now: &Clock) -> Translation {
        if epoch == self.present {
            return Translation {
                shift: 0,
                is_correctable: false,
            };
        }
        let known = self.epochs.get(&epoch);
        let into = known.and_then(|it| it.into.filter(|(into, _)| *into == self.present));
        // Where the epoch's fact was lost: as if no time had passed since the client was heard.
        let elapsed = || i128::from(now.boot.as_nanos()) - i128::from(cltt.as_nanos());
        Translation {
            shift: into.map_or_else(|| narrow(elapsed()), |(_, shift)| shift),
            is_correctable: known.is_some_and(|it| it.is_credible) && self.behind.is_some(),
        }
    }

    /// Forgets epochs that no record refers to; the keys of their facts.
    pub(super) fn prune(&mut self, is_used: impl Fn(u32) -> bool) -> Vec<Vec<u8>> {
        let present = self.present;
        let unused: Vec<u32> = (self.epochs.keys().copied())
            .filter(|number| *number != present && !is_used(*number))
            .collect();
        unused
            .into_iter()
            .map(|number| {
                self.epochs.remove(&number);
                key(number)
            })
            .collect()
    }

    /// Notes the present moment. Where the clock has become credible, by how much restored times
    /// are too late: once.
    pub(super) fn advance(&mut self, clock: &Clock) -> Option<Correction> {
        let newest = self.newest_wall_of_others();
        let epoch = self.epochs.get_mut(&self.present)?;
        epoch.newest = epoch.newest.max(clock.boot.as_nanos());
        if self.behind.is_some() {
            if newest.is_some_and(|newest| is_behind(newest, clock).is_some()) {
                return None;
            }
            let earlier_nanos = clock.offset() - i128::from(epoch.offset);
            epoch.offset = narrow(clock.offset());
            epoch.is_credible = true;
            self.behind = None;
            for other in self.epochs.values_mut().filter(|it| it.is_credible) {
                if let Some((into, shift)) = &mut other.into
                    && *into == self.present
                {
                    *shift = narrow(i128::from(*shift) - earlier_nanos);
                }
            }
            return Some(Correction { earlier_nanos });
        }
        // A step of an unsynchronised clock is not believed when it is large or backward.
        let step = clock.offset() - i128::from(epoch.offset);
        if clock.synchronised || (-SLACK_NANOS..LEAP_NANOS).contains(&step) {
            epoch.offset = narrow(clock.offset());
        }
        None
    }

    /// The fact of the present epoch.
    pub(super) fn present_fact(&self) -> (Vec<u8>, Vec<u8>) {
        let value = self.epochs.get(&self.present).map(Epoch::encode);
        (key(self.present), value.map_or_else(Vec::new, Vec::from))
    }

    /// The facts of all epochs.
    pub(super) fn facts(&self) -> impl Iterator<Item = (Vec<u8>, Vec<u8>)> {
        let all = self.epochs.iter();
        all.map(|(number, epoch)| (key(*number), epoch.encode().to_vec()))
    }
}

fn is_behind(newest_nanos: i128, clock: &Clock) -> Option<ClockBehind> {
    let ahead = clock.wall_nanos - newest_nanos;
    let is_credible = ahead >= -SLACK_NANOS && (clock.synchronised || ahead <= LEAP_NANOS);
    (!is_credible).then_some(ClockBehind {
        wall_nanos: clock.wall_nanos,
        newest_nanos,
    })
}

fn key(number: u32) -> Vec<u8> {
    [KEY, &number.to_be_bytes()].concat()
}

#[cfg(test)]
mod tests;
