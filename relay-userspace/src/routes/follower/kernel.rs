//! What exists, as the kernel tells it: single changes, a whole table, interfaces that rise and fall.

use std::collections::HashSet;

use relay_core::types::{IfIndex, Prefix};

use super::{Entry, Follower, Key, State, wanted_interface};
use crate::interfaces::InterfaceTable;
use crate::routes::objects::{KernelRoute, Target};

impl Follower {
    /// Somebody else made (`there`) or removed a route.
    pub fn kernel_changed(&mut self, route: &KernelRoute, there: bool) {
        if route.table != self.policy.table {
            return;
        }
        let prefix = route.prefix;
        if route.protocol != self.policy.protocol {
            if there {
                self.foreign.insert(prefix);
                self.look_at_wanted(prefix);
            } else if self.foreign.contains(&prefix) {
                // Another foreign route to it may still be there: it stays in the set until the
                // kernel was asked, now or when somebody wants it.
                self.doubt |= self.is_wanted(prefix);
            }
            return;
        }
        let key = (prefix, route.metric);
        if there {
            let owns_all = self.owns_all;
            let entry = self.entry(key);
            entry.present = Some(route.target);
            // With our number in our table, and not of us: nobody wants it.
            entry.remove |= owns_all && entry.wanted.is_none();
            self.look_at(key);
        } else if let Some(entry) = self.entries.get_mut(&key) {
            entry.lost |= entry.present.take().is_some() && entry.wanted.is_some();
            self.look_at(key);
        }
    }

    /// All routes of our table, as the kernel has them now.
    pub fn compare(&mut self, ours: &[KernelRoute], foreign: HashSet<Prefix>) {
        self.doubt = false;
        self.foreign = foreign;
        let mut missing: HashSet<Key> = self
            .entries
            .iter()
            .filter(|(_, entry)| entry.present.is_some())
            .map(|(key, _)| *key)
            .collect();
        for route in ours {
            let key = (route.prefix, route.metric);
            missing.remove(&key);
            self.entry(key).present = Some(route.target);
        }
        for key in missing {
            let entry = self.entry(key);
            entry.present = None;
            entry.lost = entry.wanted.is_some();
        }
        let all: Vec<Key> = self
            .entries
            .iter()
            .filter(|((prefix, _), entry)| needs_look(entry, self.foreign.contains(prefix)))
            .map(|(key, _)| *key)
            .collect();
        all.into_iter().for_each(|key| self.look_at(key));
        self.forget_leftovers();
    }

    /// Aggregates are all in the configuration: others of an earlier one go. So do leases, once
    /// everything that is wanted is known.
    pub(super) fn forget_leftovers(&mut self) {
        let owns_all = self.owns_all;
        let old: Vec<Key> = self
            .entries
            .iter()
            .filter(|(_, entry)| {
                let is_old = entry.present == Some(Target::Unreachable);
                entry.wanted.is_none() && entry.present.is_some() && (owns_all || is_old)
            })
            .map(|(key, _)| *key)
            .collect();
        for key in old {
            self.entry(key).remove = true;
            self.look_at(key);
        }
    }

    /// Interfaces changed: routes of those that went down are gone, those of the others can be
    /// written again.
    pub fn interfaces_changed(&mut self, table: &InterfaceTable) {
        let up: HashSet<IfIndex> = table
            .interfaces
            .iter()
            .filter(|interface| interface.up)
            .map(|interface| interface.index)
            .collect();
        let risen: HashSet<IfIndex> = up.difference(&self.up).copied().collect();
        let fallen: HashSet<IfIndex> = self.up.difference(&up).copied().collect();
        self.up = up;
        if risen.is_empty() && fallen.is_empty() {
            return;
        }
        let mut touched = Vec::new();
        for (key, entry) in &mut self.entries {
            let Some(interface) = wanted_interface(entry) else {
                continue;
            };
            if fallen.contains(&interface) {
                // The kernel flushes an interface's routes with it, with or without telling.
                entry.lost |= entry.present.take().is_some();
                touched.push(*key);
            } else if risen.contains(&interface) {
                touched.push(*key);
            }
        }
        touched.into_iter().for_each(|key| self.look_at(key));
    }
}

/// Whether a comparison left something to do: routes that are as they should be are not looked at.
fn needs_look(entry: &Entry, foreign: bool) -> bool {
    match entry.wanted {
        None => entry.present.is_none() || entry.remove,
        Some((target, _)) => {
            foreign || entry.present != Some(target) || entry.state != State::Installed
        }
    }
}
