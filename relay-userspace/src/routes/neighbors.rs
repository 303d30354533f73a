//! Neighbour entries for the next hops of clients: externally learned, so that a mass restart
//! causes no storm of neighbour discovery (DP-28).
//!
//! Decides which entries are written and removed; they stand beside the next hops of `hops.rs`,
//! and `entries.rs` carries the writes out. An entry that somebody set as permanent is never
//! touched; one that the kernel learned itself is taken over.

use std::collections::{HashSet, VecDeque};

use relay_common::net::MacAddr;
use relay_core::effect::NeighborChange;
use relay_core::types::IfIndex;

use super::hops::{FRESH, HopKey, Hops, OURS, QUEUED, SEEN};
use super::objects::KernelNeighbor;
use crate::interfaces::InterfaceTable;

/// One thing to do.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Step {
    /// Which entry.
    pub key: HopKey,
    /// `Some`: it must lead there; `None`: it goes, if it is ours.
    pub mac: Option<MacAddr>,
    at: u32,
}

/// Which entries are to be looked at.
#[derive(Debug, Default)]
pub struct Neighbors {
    queue: VecDeque<u32>,
    /// Interfaces that are up and have carrier.
    usable: HashSet<IfIndex>,
    /// Entries of ours in the kernel.
    installed: usize,
    /// Everything that is wanted is known: all other entries of ours are leftovers.
    owns_all: bool,
    /// All entries were read once, nothing is written before.
    is_known: bool,
    /// Where the walk at the end of a comparison stands; `None`: none is under way.
    walked: Option<u32>,
}

impl Neighbors {
    /// A wish of the core.
    pub fn apply(&mut self, hops: &mut Hops, change: NeighborChange) {
        match change {
            NeighborChange::Put {
                interface,
                address,
                mac,
            } => {
                let at = hops.at((interface, address));
                let hop = hops.get_mut(at);
                let is_new = !hop.wants_neighbor || hop.mac != mac || !hop.has(OURS);
                hop.wants_neighbor = true;
                hop.mac = mac;
                hop.set(FRESH, true);
                if is_new {
                    self.look_at(hops, at);
                }
            }
            NeighborChange::Remove { interface, address } => {
                if let Some(at) = hops.find(&(interface, address)) {
                    self.unwant(hops, at);
                }
            }
        }
    }

    fn unwant(&mut self, hops: &mut Hops, at: u32) {
        let hop = hops.get_mut(at);
        if std::mem::take(&mut hop.wants_neighbor) || hop.has(OURS) {
            self.look_at(hops, at);
        }
    }

    fn look_at(&mut self, hops: &mut Hops, at: u32) {
        let hop = hops.get_mut(at);
        if !hop.has(QUEUED) {
            hop.set(QUEUED, true);
            self.queue.push_back(at);
        }
    }

    fn set_ours(&mut self, hops: &mut Hops, at: u32, ours: bool) {
        let hop = hops.get_mut(at);
        match (hop.has(OURS), ours) {
            (false, true) => self.installed += 1,
            (true, false) => self.installed -= 1,
            _ => {}
        }
        hop.set(OURS, ours);
        hop.set(SEEN, self.walked.is_some());
        hops.forget_unused(at);
    }

    /// The core is about to say everything again.
    pub fn resend_begins(&mut self, hops: &mut Hops) {
        hops.iter_mut().for_each(|(_, hop)| hop.set(FRESH, false));
    }

    /// The core has said everything. `is_complete`: it remembers, so the rest is leftovers.
    pub fn resend_ends(&mut self, hops: &mut Hops, is_complete: bool) {
        self.owns_all |= is_complete;
        let owns_all = self.owns_all;
        let stale: Vec<u32> = hops
            .iter_mut()
            .filter(|(_, hop)| match hop.wants_neighbor {
                true => !hop.has(FRESH),
                false => owns_all && hop.has(OURS),
            })
            .map(|(at, _)| at)
            .collect();
        stale.into_iter().for_each(|at| self.unwant(hops, at));
    }

    /// Interfaces changed. The kernel drops the entries of an interface that goes down or loses
    /// carrier; those of one that comes up are written again. `fell`: it was down meanwhile.
    pub fn interfaces_changed(
        &mut self,
        hops: &mut Hops,
        table: &InterfaceTable,
        fell: &HashSet<IfIndex>,
    ) {
        let usable: HashSet<IfIndex> = table
            .interfaces
            .iter()
            .filter(|interface| interface.up && interface.carrier)
            .map(|interface| interface.index)
            .collect();
        let before = std::mem::replace(&mut self.usable, usable);
        if before == self.usable && fell.is_empty() {
            return;
        }
        let kept = |at: &IfIndex, usable: &HashSet<IfIndex>| {
            usable.contains(at) && before.contains(at) && !fell.contains(at)
        };
        let gone: Vec<u32> = hops
            .iter_mut()
            .filter(|(_, hop)| hop.has(OURS) && !kept(&hop.key().0, &self.usable))
            .map(|(at, _)| at)
            .collect();
        gone.into_iter()
            .for_each(|at| self.set_ours(hops, at, false));
        let missing: Vec<u32> = hops
            .iter_mut()
            .filter(|(_, hop)| hop.wants_neighbor && !hop.has(OURS))
            .filter(|(_, hop)| self.usable.contains(&hop.key().0))
            .map(|(at, _)| at)
            .collect();
        missing.into_iter().for_each(|at| self.look_at(hops, at));
    }

    /// Whether something is to be written.
    pub fn has_work(&self) -> bool {
        self.is_known && !self.queue.is_empty()
    }

    /// How many entries of ours the kernel has.
    pub fn installed(&self) -> usize {
        self.installed
    }

    /// The next steps, at most `max`; each is answered by [`Neighbors::done`].
    pub fn next_steps(&mut self, hops: &mut Hops, max: usize) -> Vec<Step> {
        let mut steps = Vec::new();
        while steps.len() < max
            && let Some(at) = self.queue.pop_front()
        {
            // Its number may be another's by now.
            if !hops.get(at).is_some_and(|hop| hop.has(QUEUED)) {
                continue;
            }
            let hop = hops.get_mut(at);
            hop.set(QUEUED, false);
            let (key, mac) = (hop.key(), hop.wants_neighbor.then_some(hop.mac));
            if mac.is_none() || self.usable.contains(&key.0) {
                steps.push(Step { key, mac, at });
            }
        }
        steps
    }

    /// What became of a step: whether an entry of ours is there as it was wanted.
    pub fn done(&mut self, hops: &mut Hops, step: &Step, is_there: bool) {
        self.set_ours(hops, step.at, is_there);
    }

    /// The kernel is about to be asked for all entries.
    pub fn comparison_begins(&mut self, hops: &mut Hops) {
        hops.iter_mut().for_each(|(_, hop)| hop.set(SEEN, false));
        self.walked = Some(0);
    }

    /// An entry of ours, as the kernel had it when it was asked.
    pub fn compare(&mut self, hops: &mut Hops, entry: &KernelNeighbor) {
        let at = hops.at((entry.interface, entry.address));
        let hop = hops.get_mut(at);
        if hop.has(SEEN) {
            return;
        }
        let wanted = hop.wants_neighbor.then_some(hop.mac);
        // Without a MAC the kernel gave up on it: it asks the link itself, we need not.
        let is_right = wanted.is_none() || entry.mac.is_none() || entry.mac == wanted;
        if !is_right || (wanted.is_none() && self.owns_all) {
            self.look_at(hops, at);
        }
        if is_right && wanted.is_some() {
            // Nothing is to be written that was wanted before this was known.
            hops.get_mut(at).set(QUEUED, false);
        }
        self.set_ours(hops, at, is_right);
        if let Some(at) = hops.find(&(entry.interface, entry.address)) {
            hops.get_mut(at).set(SEEN, true);
        }
    }

    /// Looks at some more entries after all were told. `true`: that was the last piece.
    pub fn walk(&mut self, hops: &mut Hops, slots: u32) -> bool {
        let Some(from) = self.walked else {
            return true;
        };
        let end = from.saturating_add(slots).min(hops.end());
        for at in from..end {
            let Some(hop) = hops.get(at).copied() else {
                continue;
            };
            if !hop.has(SEEN) {
                if hop.wants_neighbor {
                    self.look_at(hops, at);
                }
                self.set_ours(hops, at, false);
            }
        }
        self.walked = (end < hops.end()).then_some(end);
        self.is_known |= self.walked.is_none();
        self.walked.is_none()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::interfaces::Interface;

    const ACCESS: IfIndex = IfIndex(2);
    const MAC: MacAddr = MacAddr([2, 0, 0, 0, 0, 1]);

    fn client() -> std::net::Ipv6Addr {
        "fe80::1".parse().unwrap()
    }

    /// One entry is wanted, and nobody knows what the kernel has.
    fn wanting() -> (Neighbors, Hops) {
        let (mut neighbors, mut hops) = (Neighbors::default(), Hops::default());
        let access = Interface {
            index: ACCESS,
            name: "acc0".to_owned(),
            mac: None,
            up: true,
            carrier: true,
            mtu: 1500,
            vlan: None,
            macvlan_parent: None,
            addresses: Vec::new(),
        };
        let table = InterfaceTable {
            interfaces: vec![access],
        };
        neighbors.interfaces_changed(&mut hops, &table, &HashSet::new());
        let put = NeighborChange::Put {
            interface: ACCESS,
            address: client(),
            mac: MAC,
        };
        neighbors.apply(&mut hops, put);
        (neighbors, hops)
    }

    /// What is to be written after a comparison with these.
    fn steps_after(entries: &[KernelNeighbor]) -> Vec<Option<MacAddr>> {
        let (mut neighbors, mut hops) = wanting();
        assert!(!neighbors.has_work(), "nothing is known yet");
        neighbors.comparison_begins(&mut hops);
        for entry in entries {
            neighbors.compare(&mut hops, entry);
        }
        while !neighbors.walk(&mut hops, 1) {}
        let steps = neighbors.next_steps(&mut hops, 10);
        steps.iter().map(|step| step.mac).collect()
    }

    fn entry(mac: MacAddr) -> KernelNeighbor {
        KernelNeighbor {
            interface: ACCESS,
            address: client(),
            mac: Some(mac),
            permanent: false,
            externally_learned: true,
            protocol: 207,
        }
    }

    #[test]
    fn entry_that_is_there_is_not_written_though_it_was_wanted_before_that_was_known() {
        assert_eq!(steps_after(&[entry(MAC)]), []);
    }

    #[test]
    fn entry_that_is_missing_or_wrong_is_written_once_everything_is_known() {
        assert_eq!(steps_after(&[]), [Some(MAC)]);
        let other = MacAddr([2, 0, 0, 0, 0, 2]);
        assert_eq!(steps_after(&[entry(other)]), [Some(MAC)]);
    }
}
