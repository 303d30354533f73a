//! Which leases live, by the plainest means there are: the newest thing that a relay saw of each counts
//! (ALQ-D-11). Must not look at the core.

use std::collections::BTreeMap;

/// A lease: client number, and address or prefix as text.
pub type Key = (usize, String);

/// What is known of one lease.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Lease {
    /// When it was last granted or ended, in nanoseconds of virtual time.
    pub changed_at: u64,
    /// Its end; `None`: it was given up.
    pub valid_until: Option<u64>,
}

/// All leases that ever were.
#[derive(Default)]
pub struct Model {
    leases: BTreeMap<Key, Lease>,
}

impl Model {
    /// A relay passed on a Reply that grants it.
    pub fn granted(&mut self, now: u64, key: Key, valid_until: u64) {
        let lease = Lease {
            changed_at: now,
            valid_until: Some(valid_until),
        };
        self.leases.insert(key, lease);
    }

    /// A relay that held it saw its end.
    pub fn ended(&mut self, now: u64, key: Key) {
        let lease = Lease {
            changed_at: now,
            valid_until: None,
        };
        self.leases.insert(key, lease);
    }

    /// Those that live at `now`, with their ends.
    pub fn live(&self, now: u64) -> BTreeMap<Key, u64> {
        let live = self.leases.iter().filter_map(|(key, lease)| {
            let end = lease.valid_until.filter(|end| *end > now)?;
            Some((key.clone(), end))
        });
        live.collect()
    }

    /// Whether one was granted, given up or ran out between `from` and `to`.
    pub fn changed_between(&self, key: &Key, from: u64, to: u64) -> bool {
        let within = |at: u64| from <= at && at <= to;
        self.leases
            .get(key)
            .is_some_and(|lease| within(lease.changed_at) || lease.valid_until.is_some_and(within))
    }

    /// Whether any runs out between `from` and `to`.
    pub fn ends_between(&self, from: u64, to: u64) -> bool {
        let mut ends = self.leases.values().filter_map(|lease| lease.valid_until);
        ends.any(|end| from <= end && end <= to)
    }
}
