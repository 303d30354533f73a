//! Token buckets with a reserved share, as one time stamp each (the generic cell rate algorithm).
//!
//! A bucket holds one second's messages, at least [`BURST_MIN`]. It is kept as the time when it will
//! be full again: each message moves that time away by 1/rate. Messages that give way may move it
//! only half as far, so the other half of the bucket, and with it the whole rate, stays for those
//! that keep the reserved share. Knows neither clock nor map.

use crate::abi::TokenBucket;
use crate::priority::Priority;

/// Messages that a bucket holds at least, however low the rate.
pub const BURST_MIN: u64 = 4;

const SECOND_NANOS: u64 = 1_000_000_000;

/// The bucket after one message, or `None` where the message must be dropped. `per_second` of 0
/// is no limit.
#[inline(always)]
pub fn take(
    bucket: TokenBucket,
    now_boot_nanos: u64,
    per_second: u32,
    priority: Priority,
) -> Option<TokenBucket> {
    if per_second == 0 {
        return Some(bucket);
    }
    let cost = SECOND_NANOS / per_second as u64;
    let burst = if cost * BURST_MIN > SECOND_NANOS {
        cost * BURST_MIN
    } else {
        SECOND_NANOS
    };
    let may_use = match priority {
        Priority::Reserved => burst,
        Priority::GivesWay => burst / 2,
    };
    let full_at = if bucket.full_at_boot_nanos > now_boot_nanos {
        bucket.full_at_boot_nanos + cost
    } else {
        now_boot_nanos + cost
    };
    if full_at - now_boot_nanos > may_use {
        return None;
    }
    Some(TokenBucket {
        full_at_boot_nanos: full_at,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use Priority::{GivesWay, Reserved};

    /// How many of `offered` messages, evenly spread over one second from `start`, get through.
    fn offer(
        bucket: &mut TokenBucket,
        start: u64,
        rate: u32,
        priority: Priority,
        offered: u64,
    ) -> u64 {
        (0..offered)
            .filter(|i| {
                let now = start + i * SECOND_NANOS / offered;
                take(*bucket, now, rate, priority).is_some_and(|after| {
                    *bucket = after;
                    true
                })
            })
            .count() as u64
    }

    #[test]
    fn a_burst_takes_the_whole_bucket_when_reserved_and_half_when_not() {
        let burst = |priority| {
            let mut bucket = TokenBucket::default();
            (0..100)
                .filter(|_| {
                    take(bucket, SECOND_NANOS, 10, priority).is_some_and(|after| {
                        bucket = after;
                        true
                    })
                })
                .count()
        };

        assert_eq!(burst(Reserved), 10);
        assert_eq!(burst(GivesWay), 5);
    }

    #[test]
    fn the_lowest_rate_lets_both_kinds_through() {
        let bucket = TokenBucket::default();

        let after = take(bucket, 5 * SECOND_NANOS, 1, GivesWay).expect("room");
        let after = take(after, 5 * SECOND_NANOS, 1, GivesWay).expect("room");
        assert_eq!(take(after, 5 * SECOND_NANOS, 1, GivesWay), None);
        assert!(take(after, 5 * SECOND_NANOS, 1, Reserved).is_some());
    }

    #[test]
    fn rate_zero_is_no_limit_and_leaves_the_bucket() {
        let bucket = TokenBucket {
            full_at_boot_nanos: u64::MAX,
        };

        assert_eq!(take(bucket, 1, 0, GivesWay), Some(bucket));
    }

    #[test]
    fn sustained_offer_gets_the_rate() {
        let mut bucket = TokenBucket::default();
        offer(&mut bucket, 0, 100, Reserved, 1000);

        let admitted = offer(&mut bucket, SECOND_NANOS, 100, Reserved, 1000);

        assert!((99..=101).contains(&admitted), "{admitted}");
    }

    #[test]
    fn a_flood_that_gives_way_takes_nothing_from_what_is_reserved() {
        let mut bucket = TokenBucket::default();
        offer(&mut bucket, 0, 1000, GivesWay, 100_000);
        let (mut renews, mut solicits) = (0, 0);
        for i in 0..100_000u64 {
            let now = SECOND_NANOS + i * 10_000;
            // 900 RENEWs among 100,000 SOLICITs, below the rate of 1000.
            let priority = if i % 111 == 0 { Reserved } else { GivesWay };
            if let Some(after) = take(bucket, now, 1000, priority) {
                bucket = after;
                match priority {
                    Reserved => renews += 1,
                    GivesWay => solicits += 1,
                }
            }
        }

        assert_eq!(renews, 901);
        assert!((90..=110).contains(&solicits), "{solicits}");
    }
}
