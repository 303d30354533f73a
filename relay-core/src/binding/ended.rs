//! Leases that ended before their time: remembered so that other relays learn of it, and so that a
//! relay that was away does not bring them back (ALQ-D-26).
//!
//! Decides how long; must not know whom it is told. A lease that runs out by itself is not
//! remembered: every relay sees that by its own clock (ALQ-D-13).

use core::net::Ipv6Addr;
use core::time::Duration;

use super::client::{Duid, Place};
use super::index::{Index, hash, words};
use super::slab::Slab;
use super::timers::Timers;
use crate::record::Ending;
use crate::time::Instant;
use crate::types::{AccessLink, IaType, Iaid, Prefix};
use crate::view::Origin;

/// One of them.
pub(crate) struct Ended {
    pub(crate) duid: Duid,
    pub(crate) link: AccessLink,
    pub(crate) place: Place,
    pub(crate) ia_type: IaType,
    pub(crate) iaid: Iaid,
    pub(crate) prefix: Prefix,
    pub(crate) how: Ending,
    /// The client's last transaction: this end.
    pub(crate) ended_at: Instant,
    pub(crate) forget_at: Instant,
    pub(crate) origin: Origin,
    /// The relay that saw it end; `::` is this one.
    pub(crate) snooped_by: Ipv6Addr,
    /// Its times may be too late ([`crate::record::Restored`]).
    pub(crate) is_uncertain: bool,
    /// Of its record: that of the binding.
    pub(crate) id: u64,
}

/// Who saw one end, and when.
#[derive(Clone, Copy, Debug)]
pub(crate) struct End {
    pub(crate) at: Instant,
    pub(crate) origin: Origin,
    pub(crate) snooped_by: Ipv6Addr,
}

/// When nobody needs to know any more: a relay that was away for less than `history` is told, and
/// one that was away longer has seen the lease run out.
// req: ALQ-D-26
pub(crate) fn forget_at(ended_at: Instant, valid_until: Instant, history: Duration) -> Instant {
    let kept = ended_at + history;
    match valid_until {
        Instant::NEVER => kept,
        valid_until => kept.max(valid_until),
    }
}

/// All of them, one for each DUID and prefix.
pub(crate) struct Endings {
    key: [u8; 16],
    slab: Slab<Ended>,
    by_lease: Index,
    timers: Timers,
}

impl Endings {
    pub(crate) fn new(key: [u8; 16]) -> Self {
        Self {
            key,
            slab: Slab::new(),
            by_lease: Index::default(),
            timers: Timers::default(),
        }
    }

    pub(crate) const fn len(&self) -> usize {
        self.slab.len()
    }

    /// One more than the last slot.
    pub(crate) fn end(&self) -> u32 {
        self.slab.end()
    }

    pub(crate) fn get(&self, at: u32) -> Option<&Ended> {
        self.slab.get(at)
    }

    /// Sets the times of one anew, earlier than they were.
    pub(crate) fn set_times(&mut self, at: u32, ended_at: Instant, forget_at: Instant) {
        if let Some(ended) = self.slab.get_mut(at) {
            ended.ended_at = ended_at;
            ended.forget_at = forget_at;
            ended.is_uncertain = false;
            self.timers.disarm(at);
            self.timers.arm(at, forget_at);
        }
    }

    /// The end of the lease of this prefix that a client with this DUID had.
    pub(crate) fn find(&self, prefix: Prefix, duid: &[u8]) -> Option<u32> {
        // Asked for each lease that comes back or is told, and mostly none has ended.
        if self.by_lease.is_empty() {
            return None;
        }
        self.by_lease.find(self.hash(prefix, duid), |at| {
            let ended = self.slab.get(at);
            ended.is_some_and(|it| it.prefix == prefix && *it.duid == *duid)
        })
    }

    /// One more. There is none of this lease yet.
    pub(crate) fn insert(&mut self, ended: Ended) -> Option<u32> {
        let (hash, forget_at) = (self.hash(ended.prefix, &ended.duid), ended.forget_at);
        let at = self.slab.insert(ended)?;
        self.by_lease.insert(hash, at);
        self.timers.arm(at, forget_at);
        Some(at)
    }

    pub(crate) fn remove(&mut self, at: u32) -> Option<Ended> {
        self.timers.disarm(at);
        let ended = self.slab.remove(at)?;
        let hash = self.hash(ended.prefix, &ended.duid);
        self.by_lease.remove(hash, at);
        Some(ended)
    }

    /// When the next one is to be forgotten.
    pub(crate) fn next_time(&self) -> Option<Instant> {
        self.timers.next()
    }

    /// One whose time has come by `now`, for the caller to remove.
    pub(crate) fn pop_due(&mut self, now: Instant) -> Option<u32> {
        self.timers.pop_due(now)
    }

    fn hash(&self, prefix: Prefix, duid: &[u8]) -> u32 {
        let [high, low] = words(prefix.address());
        hash(&self.key, [high, low, prefix.bits().into()], duid)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// req: ALQ-D-26 (twinrelay)
    #[test]
    fn alq_d_26_removal_is_remembered_for_history_and_the_lifetime_cut_short() {
        let at = |secs: u64| Instant::from_nanos(secs * 1_000_000_000);
        let history = Duration::from_secs(100);

        assert_eq!(forget_at(at(50), at(60), history), at(150));
        assert_eq!(forget_at(at(50), at(7000), history), at(7000));
        assert_eq!(forget_at(at(50), Instant::NEVER, history), at(150));
    }
}
