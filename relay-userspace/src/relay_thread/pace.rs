//! How soon the relay thread looks again: when the next message wakes it, or after a nap in which
//! messages gather.
//!
//! A message that comes alone pays for a wake-up of the thread, for its system calls and for a wake-up
//! of the processor, which together cost several times what relaying costs. Cards moderate their
//! interrupts for that reason; this does the same one level higher. Decides by the rate of messages
//! alone, and knows neither clock nor sockets.

use std::time::Duration;

use relay_core::time::Instant;

/// Up to so many messages a second, of both directions, each is handled when it comes: nobody
/// waits for company that will not come.
const AT_ONCE: u64 = 4_000;
/// So many shall come during a nap: enough to share a wake-up among, and beyond it little is won.
const COMPANY: u64 = 16;
/// A nap is never longer: what a client notices is a thousand times that.
const NAP_MAX: Duration = Duration::from_micros(500);
/// A shorter nap is not worth its own timer.
pub const NAP_MIN: Duration = Duration::from_micros(100);
/// The rate is that of the last so long, at least.
const WINDOW: Duration = Duration::from_millis(10);

/// Counts messages and paces the thread by their rate.
#[derive(Default, Debug)]
pub struct Pace {
    from: Instant,
    messages: u64,
    /// Of the window before this one, in messages a second.
    rate: u64,
}

impl Pace {
    /// A round ends `now` that took so many messages and left none. How long the next ones may gather;
    /// `None`: the first of them is waited for, and wakes the thread.
    pub fn after(&mut self, now: Instant, messages: usize) -> Option<Duration> {
        self.messages += messages as u64;
        let passed = now.saturating_since(self.from);
        if passed >= WINDOW {
            let per_second = u128::from(self.messages) * 1_000_000_000 / passed.as_nanos();
            self.rate = u64::try_from(per_second).unwrap_or(u64::MAX);
            self.from = now;
            self.messages = 0;
        }
        // After a nap in which nothing came the load is over.
        nap(self.rate).filter(|_| messages > 0)
    }
}

/// How long messages may gather at so many a second; `None`: not at all.
fn nap(rate: u64) -> Option<Duration> {
    let company = Duration::from_nanos(COMPANY * 1_000_000_000 / rate.max(1));
    (rate > AT_ONCE).then(|| company.clamp(NAP_MIN, NAP_MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Messages that come at so many a second for so long, one round for each nap or message; the
    /// naps, `None` where the thread was woken.
    fn naps(
        pace: &mut Pace,
        now: &mut Instant,
        rate: u64,
        length: Duration,
    ) -> Vec<Option<Duration>> {
        let gap = Duration::from_secs(1) / u32::try_from(rate).unwrap();
        let until = *now + length;
        let (mut naps, mut wait) = (Vec::new(), gap);
        while *now < until {
            *now = *now + wait;
            let came = wait.as_nanos() / gap.as_nanos();
            let nap = pace.after(*now, usize::try_from(came).unwrap());
            wait = nap.unwrap_or(gap).max(gap);
            naps.push(nap);
        }
        naps
    }

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn delay_is_none_at_a_low_rate_then_bounded_and_shrinks_with_the_rate() {
        let delays = [
            0,
            2_000,
            AT_ONCE,
            AT_ONCE + 1,
            10_000,
            40_000,
            100_000,
            u64::MAX,
        ]
        .map(nap);

        let us = |us| Some(Duration::from_micros(us));
        let low = [None, None, None, Some(NAP_MAX), Some(NAP_MAX)];
        let high = [us(400), us(160), Some(NAP_MIN)];
        assert_eq!(delays, [&low[..], &high[..]].concat()[..]);
    }

    #[test]
    fn messages_at_a_low_rate_are_each_handled_at_once() {
        let (mut pace, mut now) = (Pace::default(), Instant::default() + SECOND);

        let naps = naps(&mut pace, &mut now, AT_ONCE - 100, SECOND);

        assert!(naps.iter().all(Option::is_none));
    }

    #[test]
    fn messages_at_a_high_rate_share_naps_after_one_window() {
        let (mut pace, mut now) = (Pace::default(), Instant::default() + SECOND);

        let first = naps(&mut pace, &mut now, 10_000, WINDOW);
        naps(&mut pace, &mut now, 10_000, WINDOW);
        let later = naps(&mut pace, &mut now, 10_000, SECOND);

        assert!(
            first.iter().all(Option::is_none),
            "the rate is not known yet"
        );
        assert!(later.iter().all(|nap| *nap == Some(NAP_MAX)));
    }

    #[test]
    fn first_message_after_a_load_that_ended_is_handled_at_once() {
        let (mut pace, mut now) = (Pace::default(), Instant::default() + SECOND);
        naps(&mut pace, &mut now, 10_000, SECOND);

        now = now + NAP_MAX;
        assert_eq!(
            pace.after(now, 0),
            None,
            "a nap in which nothing came is the last"
        );
        now = now + SECOND;
        assert_eq!(pace.after(now, 1), None);
    }
}
