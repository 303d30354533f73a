//! Next hops, each of them once: the routes of a client share one, and its neighbour entry stands beside it.
//!
//! Knows what a next hop is and who needs it; decides neither routes nor neighbour entries.

use std::hint::black_box;
use std::net::Ipv6Addr;
use std::num::NonZeroU32;

use relay_common::net::MacAddr;
use relay_core::types::IfIndex;

use super::objects::Target;
use super::slots::{Record, Slots};

/// Where a route leads, in four bytes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct HopId(NonZeroU32);

impl HopId {
    /// Of an unreachable route.
    pub const UNREACHABLE: Self = Self(NonZeroU32::MIN);
    /// Of what is never ours.
    const OTHER: Self = Self(NonZeroU32::MIN.saturating_add(1));
}

/// The first number that stands for a next hop.
const FIRST: u32 = 3;

/// Interface and address.
pub type HopKey = (IfIndex, Ipv6Addr);

/// What is known of a neighbour entry, one bit each.
pub type Flags = u8;
/// It is there and ours, as far as we know.
pub const OURS: Flags = 1;
/// In the list of those to be written.
pub const QUEUED: Flags = 2;
/// Came again since the resend began.
pub const FRESH: Flags = 4;
/// The comparison under way needs not look at it any more.
pub const SEEN: Flags = 8;

/// One next hop.
#[derive(Clone, Copy, Debug)]
pub struct Hop {
    address: Ipv6Addr,
    interface: IfIndex,
    /// Routes that lead or should lead over it.
    uses: u32,
    /// What its neighbour entry leads to, where one is wanted.
    pub mac: MacAddr,
    /// There must be a neighbour entry.
    pub wants_neighbor: bool,
    /// Of the neighbour entry.
    pub flags: Flags,
}

// 32 bytes for a client, and its place in the index.
const _: () = assert!(size_of::<Option<Hop>>() == 32);

impl Hop {
    /// Interface and address.
    pub fn key(&self) -> HopKey {
        (self.interface, self.address)
    }

    /// Whether any of the flags is set.
    pub fn has(&self, flags: Flags) -> bool {
        self.flags & flags != 0
    }

    /// Sets or clears flags.
    pub fn set(&mut self, flags: Flags, on: bool) {
        if on {
            self.flags |= flags;
        } else {
            self.flags &= !flags;
        }
    }
}

impl Record for Hop {
    type Key = HopKey;
    fn key(&self) -> HopKey {
        (self.interface, self.address)
    }
}

/// All next hops.
#[derive(Debug, Default)]
pub struct Hops {
    slots: Slots<Hop>,
}

impl Hops {
    /// The number of a target, which one more route needs.
    pub fn take(&mut self, target: Target) -> HopId {
        match target {
            Target::Unreachable => HopId::UNREACHABLE,
            Target::Other => HopId::OTHER,
            Target::Via { gateway, interface } => {
                let at = self.at((interface, gateway));
                self.get_mut(at).uses += 1;
                HopId(NonZeroU32::MIN.saturating_add(at + FIRST - 1))
            }
        }
    }

    /// One more route needs it.
    pub fn take_again(&mut self, id: HopId) {
        if let Some(at) = slot(id) {
            self.get_mut(at).uses += 1;
        }
    }

    /// A route needs it no more.
    pub fn give_back(&mut self, id: HopId) {
        if let Some(at) = slot(id) {
            self.get_mut(at).uses -= 1;
            self.forget_unused(at);
        }
    }

    /// What a number stands for.
    pub fn target(&self, id: HopId) -> Target {
        match slot(id) {
            Some(at) => {
                let hop = self.get(at).expect("somebody needs it");
                Target::Via {
                    gateway: hop.address,
                    interface: hop.interface,
                }
            }
            None if id == HopId::UNREACHABLE => Target::Unreachable,
            None => Target::Other,
        }
    }

    /// The interface that it is on.
    pub fn interface(&self, id: HopId) -> Option<IfIndex> {
        Some(self.get(slot(id)?)?.interface)
    }

    /// The slot of a next hop, made where there is none.
    pub fn at(&mut self, key: HopKey) -> u32 {
        self.slots.find_or_insert(key, || Hop {
            address: key.1,
            interface: key.0,
            uses: 0,
            mac: MacAddr([0; 6]),
            wants_neighbor: false,
            flags: 0,
        })
    }

    /// The slot of a next hop.
    pub fn find(&self, key: &HopKey) -> Option<u32> {
        self.slots.find(key)
    }

    /// See [`Slots::approach`].
    pub fn approach(&self, keys: impl Iterator<Item = HopKey>) {
        black_box(self.slots.approach(keys));
    }

    /// The next hop in a slot.
    pub fn get(&self, at: u32) -> Option<&Hop> {
        self.slots.get(at)
    }

    /// A slot that is known to be in use.
    pub fn get_mut(&mut self, at: u32) -> &mut Hop {
        self.slots.get_mut(at).expect("somebody needs it")
    }

    /// So many more are likely to come.
    pub fn expect(&mut self, count: usize) {
        self.slots.expect(count);
    }

    /// One that no route and no neighbour entry needs is forgotten.
    pub fn forget_unused(&mut self, at: u32) {
        let hop = self.slots.get(at);
        if hop.is_some_and(|hop| {
            hop.uses == 0 && !hop.wants_neighbor && hop.flags & (OURS | QUEUED) == 0
        }) {
            self.slots.remove(at);
        }
    }

    /// One more than the last slot.
    pub fn end(&self) -> u32 {
        self.slots.end()
    }

    /// All of them, with their slots.
    pub fn iter_mut(&mut self) -> impl Iterator<Item = (u32, &mut Hop)> {
        self.slots.iter_mut()
    }
}

fn slot(id: HopId) -> Option<u32> {
    id.0.get().checked_sub(FIRST)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn via(address: &str) -> Target {
        Target::Via {
            gateway: address.parse().unwrap(),
            interface: IfIndex(2),
        }
    }

    #[test]
    fn next_hop_is_shared_and_forgotten_with_its_last_route() {
        let mut hops = Hops::default();

        let (one, again, other) = (
            hops.take(via("fe80::1")),
            hops.take(via("fe80::1")),
            hops.take(via("fe80::2")),
        );

        assert_eq!(one, again);
        assert_ne!(one, other);
        assert_eq!(hops.target(one), via("fe80::1"));
        hops.give_back(one);
        assert_eq!(hops.target(again), via("fe80::1"));
        hops.give_back(again);
        assert_eq!(hops.find(&(IfIndex(2), "fe80::1".parse().unwrap())), None);
    }

    #[test]
    fn next_hop_with_a_neighbor_entry_outlives_its_routes() {
        let mut hops = Hops::default();
        let id = hops.take(via("fe80::1"));
        let at = hops
            .find(&(IfIndex(2), "fe80::1".parse().unwrap()))
            .unwrap();
        hops.get_mut(at).wants_neighbor = true;

        hops.give_back(id);
        assert!(hops.get(at).is_some());

        hops.get_mut(at).wants_neighbor = false;
        hops.forget_unused(at);
        assert!(hops.get(at).is_none());
    }

    #[test]
    fn targets_without_a_next_hop_have_numbers_of_their_own() {
        let mut hops = Hops::default();
        for target in [Target::Unreachable, Target::Other] {
            let id = hops.take(target);
            assert_eq!((hops.target(id), hops.interface(id)), (target, None));
            hops.give_back(id);
        }
    }
}
