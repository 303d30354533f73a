//! The routes of others in our table, as far as they matter to ours: one of them to a destination is enough to keep
//! ours away. Decides when the last of them is known to be gone.

use std::collections::{HashMap, HashSet};

use relay_core::types::{IfIndex, Prefix};

use crate::routes::objects::KernelRoute;

/// A route that is not ours, as far as somebody who finds it in the way wants to know.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Foreign {
    /// Who made it.
    pub protocol: u8,
    /// Of several the lowest.
    pub metric: u32,
    /// Where it leads.
    pub interface: Option<IfIndex>,
}

impl From<&KernelRoute> for Foreign {
    fn from(route: &KernelRoute) -> Self {
        Self {
            protocol: route.protocol,
            metric: route.metric,
            interface: route.interface,
        }
    }
}

/// All of them.
#[derive(Debug, Default)]
pub(super) struct ForeignRoutes {
    lowest: HashMap<Prefix, Foreign>,
    /// Destinations with several.
    several: HashSet<Prefix>,
}

impl ForeignRoutes {
    pub(super) fn get(&self, prefix: Prefix) -> Option<Foreign> {
        // Mostly there are none in the whole table.
        if self.lowest.is_empty() {
            return None;
        }
        self.lowest.get(&prefix).copied()
    }

    pub(super) fn contains(&self, prefix: Prefix) -> bool {
        self.get(prefix).is_some()
    }

    /// One is there; it may be known.
    pub(super) fn add(&mut self, route: &KernelRoute) {
        let new = Foreign::from(route);
        let known = self.lowest.entry(route.prefix).or_insert(new);
        if *known != new {
            self.several.insert(route.prefix);
        }
        if new.metric < known.metric {
            *known = new;
        }
    }

    /// One has gone. Whether it was the last to its destination; of several nobody knows which are left.
    pub(super) fn remove(&mut self, route: &KernelRoute) -> bool {
        let is_last = !self.several.contains(&route.prefix)
            && self.get(route.prefix) == Some(Foreign::from(route));
        if is_last {
            self.lowest.remove(&route.prefix);
        }
        is_last
    }

    pub(super) fn clear(&mut self) {
        *self = Self::default();
    }
}
