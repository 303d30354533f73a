//! The memory of recent client messages: to whom an answer goes (MAC and tags), and what it
//! answers (SNP-6).
//!
//! Slots in sets of [`WAYS`]; a new message takes the place of the oldest of its set. Where that one
//! may still be answered the memory doubles first, up to [`SETS_MAX`]: an idle relay is small, a
//! busy one bounded. Nothing is cleaned up. Must not know of bindings or options.
//!
//! Whoever sees a client's message can repeat its addresses and transaction-id from a MAC of its own;
//! who has not seen it would have to guess 24 bits. So the first MAC of an exchange stays while it is
//! remembered, and a message from another changes nothing here. A relay in front of the client is
//! trusted, and one of two may take the other's addresses over: there the newest MAC counts.

use alloc::boxed::Box;
use alloc::vec;
use core::hash::Hasher;
use core::net::Ipv6Addr;
use core::time::Duration;

use relay_common::net::{MacAddr, VlanTags};
use siphasher::sip::SipHasher13;

use super::link::NamedTags;
use crate::time::Instant;
use crate::types::{AccessId, Xid};

/// Sets at the start, with [`WAYS`] slots of 32 bytes each: 8 KiB.
const SETS_MIN: usize = 1 << 6;
/// Sets at most: 4 MiB in all.
const SETS_MAX: usize = 1 << 15;
/// Slots in a set.
const WAYS: usize = 4;
/// An answer later than this is unmatched: REQ_TIMEOUT to MRT of every exchange (RFC 8415 §7.6)
/// retransmits long before with the same transaction-id, which renews the memory.
const LIFE: Duration = Duration::from_secs(120);

const HAS_MAC: u8 = 1;
const ANSWERED: u8 = 2;
const IN_USE: u8 = 4;

/// Which exchange: where, between whom, and its transaction-id.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Exchange {
    pub(crate) access: AccessId,
    /// The other end of our envelope: IPv6 source of the request, peer-address of the answer.
    pub(crate) peer_address: Ipv6Addr,
    /// The client, under all envelopes.
    pub(crate) client_address: Ipv6Addr,
    pub(crate) xid: Xid,
}

/// What is remembered of a request.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Request {
    /// The client's message, under all envelopes.
    pub(crate) message_type: u8,
    pub(crate) mac: Option<MacAddr>,
    pub(crate) vlans: VlanTags,
    duid_hash: u32,
}

#[derive(Clone, Copy)]
struct Slot {
    key: u64,
    duid_hash: u32,
    /// Milliseconds of the boot clock, wrapping.
    at_ms: u32,
    vlans: VlanTags,
    mac: MacAddr,
    message_type: u8,
    flags: u8,
}

const EMPTY: Slot = Slot {
    key: 0,
    duid_hash: 0,
    at_ms: 0,
    vlans: VlanTags::NONE,
    mac: MacAddr([0; 6]),
    message_type: 0,
    flags: 0,
};

const _: () = assert!(size_of::<Slot>() == 32);

/// Two cache lines, and never three.
#[derive(Clone, Copy)]
#[repr(align(128))]
struct Set([Slot; WAYS]);

impl Exchange {
    /// Whether nobody relays for the client.
    fn is_direct(&self) -> bool {
        self.peer_address == self.client_address
    }
}

/// What became of what was remembered before.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Remembered {
    /// Nothing that mattered had to go.
    Fine,
    /// An unanswered request had to be forgotten for this one.
    Evicting,
    /// The exchange is another MAC's: its request stays, this one is not remembered.
    Conflict,
}

impl Set {
    /// The slot of this key and these tags, else the one to give up: free, or the oldest.
    fn place(&mut self, slot: &Slot) -> Option<&mut Slot> {
        let set = &mut self.0;
        match set.iter().position(|old| old.is_same(slot)) {
            Some(at) => set.get_mut(at),
            None => set.iter_mut().max_by_key(|old| old.age_ms(slot.at_ms)),
        }
    }
}

impl Slot {
    const fn is_in_use(&self) -> bool {
        self.flags & IN_USE != 0
    }

    fn is_same(&self, other: &Self) -> bool {
        self.is_in_use() && self.key == other.key && self.vlans == other.vlans
    }

    fn has_same_mac(&self, other: &Self) -> bool {
        (self.flags ^ other.flags) & HAS_MAC == 0 && self.mac == other.mac
    }

    const fn age_ms(&self, now_ms: u32) -> u32 {
        if self.is_in_use() {
            now_ms.wrapping_sub(self.at_ms)
        } else {
            u32::MAX
        }
    }

    const fn is_alive(&self, now_ms: u32) -> bool {
        self.age_ms(now_ms) < LIFE.as_millis() as u32
    }
}

/// The memory itself.
pub(crate) struct Transactions {
    key: [u8; 16],
    /// A power of two of them.
    sets: Box<[Set]>,
}

impl Transactions {
    pub(crate) fn new(key: [u8; 16]) -> Self {
        Self {
            key,
            sets: empty(SETS_MIN),
        }
    }

    /// Remembers a request, unless it stands in another's name.
    pub(crate) fn remember(
        &mut self,
        now: Instant,
        exchange: &Exchange,
        message_type: u8,
        duid: Option<&[u8]>,
        mac: Option<MacAddr>,
        vlans: VlanTags,
    ) -> Remembered {
        let key = self.hash(exchange);
        let slot = Slot {
            key,
            duid_hash: self.duid_hash(duid),
            at_ms: millis(now),
            vlans,
            mac: mac.unwrap_or_default(),
            message_type,
            flags: IN_USE | if mac.is_some() { HAS_MAC } else { 0 },
        };
        while self.sets.len() < SETS_MAX && self.is_set_full(&slot) {
            self.grow();
        }
        let at = self.set_of(key);
        let Some(place) = self.sets.get_mut(at).and_then(|set| set.place(&slot)) else {
            return Remembered::Fine;
        };
        let (is_same, is_alive) = (place.is_same(&slot), place.is_alive(slot.at_ms));
        if is_same && is_alive && exchange.is_direct() && !place.has_same_mac(&slot) {
            return Remembered::Conflict;
        }
        let evicts = !is_same && is_alive && place.flags & ANSWERED == 0;
        *place = slot;
        if evicts {
            Remembered::Evicting
        } else {
            Remembered::Fine
        }
    }

    /// The request that this is an answer to.
    pub(crate) fn recall(
        &mut self,
        now: Instant,
        exchange: &Exchange,
        tags: NamedTags,
    ) -> Option<Request> {
        let key = self.hash(exchange);
        let now_ms = millis(now);
        let at = self.set_of(key);
        let slot = self
            .sets
            .get_mut(at)?
            .0
            .iter_mut()
            .find(|slot| slot.key == key && tags.admit(slot.vlans) && slot.is_alive(now_ms))?;
        slot.flags |= ANSWERED;
        Some(Request {
            message_type: slot.message_type,
            mac: (slot.flags & HAS_MAC != 0).then_some(slot.mac),
            vlans: slot.vlans,
            duid_hash: slot.duid_hash,
        })
    }

    /// Whether `request` bore this Client Identifier.
    pub(crate) fn is_from(&self, request: &Request, duid: Option<&[u8]>) -> bool {
        request.duid_hash == self.duid_hash(duid)
    }

    /// The set of a key: some of its bits, as the slot compares all of them.
    const fn set_of(&self, key: u64) -> usize {
        (key >> 32) as usize & (self.sets.len() - 1)
    }

    /// Whether a slot would take the place of one that is alive.
    fn is_set_full(&self, slot: &Slot) -> bool {
        let set = self.sets.get(self.set_of(slot.key));
        set.is_some_and(|Set(set)| {
            set.iter()
                .all(|old| !old.is_same(slot) && old.is_alive(slot.at_ms))
        })
    }

    /// Doubles: what was in one set is in one of two now, and has room there.
    fn grow(&mut self) {
        let doubled = empty(2 * self.sets.len());
        let old = core::mem::replace(&mut self.sets, doubled);
        for slot in old.iter().flat_map(|Set(set)| set) {
            let at = self.set_of(slot.key);
            let free = self.sets.get_mut(at);
            let free = free.and_then(|Set(set)| set.iter_mut().find(|slot| !slot.is_in_use()));
            if let (Some(free), true) = (free, slot.is_in_use()) {
                *free = *slot;
            }
        }
    }

    fn hash(&self, exchange: &Exchange) -> u64 {
        let mut bytes = [0; 40];
        let (peer, rest) = bytes.split_at_mut(16);
        peer.copy_from_slice(&exchange.peer_address.octets());
        let (client, rest) = rest.split_at_mut(16);
        client.copy_from_slice(&exchange.client_address.octets());
        let (xid, access) = rest.split_at_mut(4);
        xid.copy_from_slice(&exchange.xid.0.to_ne_bytes());
        access.copy_from_slice(&u32::from(exchange.access.0).to_ne_bytes());
        let mut hasher = SipHasher13::new_with_key(&self.key);
        hasher.write(&bytes);
        hasher.finish()
    }

    fn duid_hash(&self, duid: Option<&[u8]>) -> u32 {
        let Some(duid) = duid else { return 0 };
        let mut hasher = SipHasher13::new_with_key(&self.key);
        hasher.write(duid);
        // The lower half is as good as any.
        hasher.finish() as u32 | 1
    }
}

fn empty(sets: usize) -> Box<[Set]> {
    vec![Set([EMPTY; WAYS]); sets].into_boxed_slice()
}

/// Wraps after 49 days; ages are differences.
const fn millis(now: Instant) -> u32 {
    (now.as_nanos() / 1_000_000) as u32
}

#[cfg(test)]
mod tests {
    use super::*;

    fn exchange(xid: u32) -> Exchange {
        Exchange {
            access: AccessId(1),
            peer_address: "fe80::c3".parse().unwrap(),
            client_address: "fe80::c3".parse().unwrap(),
            xid: Xid(xid),
        }
    }

    const T0: Instant = Instant::from_nanos(7_000_000_000);
    const MAC: Option<MacAddr> = Some(MacAddr([2, 0, 0, 0, 0, 0xc3]));

    #[test]
    fn transaction_is_recalled_with_mac_and_duid() {
        let mut memory = Transactions::new([1; 16]);
        memory.remember(T0, &exchange(5), 3, Some(b"duid"), MAC, VlanTags::NONE);

        let request = memory.recall(T0, &exchange(5), NamedTags::Unsaid).unwrap();

        assert_eq!((request.message_type, request.mac), (3, MAC));
        assert!(memory.is_from(&request, Some(b"duid")));
        assert!(!memory.is_from(&request, Some(b"other")));
        assert!(!memory.is_from(&request, None));
        assert_eq!(memory.recall(T0, &exchange(6), NamedTags::Unsaid), None);
    }

    #[test]
    fn transaction_older_than_its_life_is_forgotten() {
        let mut memory = Transactions::new([1; 16]);
        memory.remember(T0, &exchange(5), 3, None, MAC, VlanTags::NONE);

        assert_eq!(
            memory.recall(T0 + LIFE, &exchange(5), NamedTags::Unsaid),
            None
        );
    }

    #[test]
    fn transaction_flood_evicts_the_oldest_and_says_so() {
        let mut memory = Transactions::new([1; 16]);
        let n = (SETS_MAX * WAYS * 2) as u32;

        let evicted = (0..n)
            .filter(|xid| {
                let told = memory.remember(T0, &exchange(*xid), 1, None, None, VlanTags::NONE);
                told == Remembered::Evicting
            })
            .count();

        let kept = (0..n)
            .filter(|xid| {
                memory
                    .recall(T0, &exchange(*xid), NamedTags::Unsaid)
                    .is_some()
            })
            .count();
        assert_eq!(kept + evicted, n as usize);
        assert!(kept > SETS_MAX * WAYS * 9 / 10);
        assert!(
            memory
                .recall(T0, &exchange(n - 1), NamedTags::Unsaid)
                .is_some()
        );
    }

    #[test]
    fn transactions_grow_with_what_is_unanswered_and_forget_none() {
        let mut memory = Transactions::new([1; 16]);
        let n = (SETS_MAX * WAYS / 64) as u32;

        let evicted = (0..n)
            .filter(|xid| {
                let told = memory.remember(T0, &exchange(*xid), 1, None, MAC, VlanTags::NONE);
                told != Remembered::Fine
            })
            .count();

        assert_eq!(evicted, 0);
        assert!((SETS_MIN + 1..=SETS_MAX).contains(&memory.sets.len()));
        for xid in 0..n {
            let request = memory.recall(T0, &exchange(xid), NamedTags::Unsaid);
            assert_eq!(request.map(|request| request.mac), Some(MAC));
        }
    }

    #[test]
    fn transactions_that_ran_out_make_room_without_growth() {
        let mut memory = Transactions::new([1; 16]);

        for xid in 0..(SETS_MIN * WAYS * 4) as u32 {
            let now = T0 + LIFE * xid;
            memory.remember(now, &exchange(xid), 1, None, MAC, VlanTags::NONE);
        }

        assert_eq!(memory.sets.len(), SETS_MIN);
    }

    #[test]
    fn transaction_repeated_takes_one_slot_and_evicts_nothing() {
        let mut memory = Transactions::new([1; 16]);

        for _ in 0..2 * WAYS {
            let told = memory.remember(T0, &exchange(5), 3, None, MAC, VlanTags::NONE);
            assert_eq!(told, Remembered::Fine);
        }
    }

    const OTHER_MAC: Option<MacAddr> = Some(MacAddr([2, 0, 0, 0, 0, 0xee]));

    #[test]
    fn transaction_repeated_from_another_mac_stays_the_first_ones_until_its_life_ends() {
        let mut memory = Transactions::new([1; 16]);
        memory.remember(T0, &exchange(5), 3, Some(b"duid"), MAC, VlanTags::NONE);
        let late = T0 + LIFE;

        for other in [OTHER_MAC, None] {
            let told = memory.remember(T0, &exchange(5), 8, None, other, VlanTags::NONE);
            assert_eq!(told, Remembered::Conflict, "{other:?}");
        }
        let request = memory.recall(T0, &exchange(5), NamedTags::Unsaid);
        assert_eq!(request.map(|it| (it.message_type, it.mac)), Some((3, MAC)));

        let told = memory.remember(late, &exchange(5), 3, None, OTHER_MAC, VlanTags::NONE);
        assert_eq!(told, Remembered::Fine);
        let request = memory.recall(late, &exchange(5), NamedTags::Unsaid);
        assert_eq!(request.map(|it| it.mac), Some(OTHER_MAC));
    }

    #[test]
    fn transaction_of_a_relay_follows_the_newest_mac() {
        let mut memory = Transactions::new([1; 16]);
        let relayed = Exchange {
            peer_address: "2001:db8::7".parse().unwrap(),
            ..exchange(5)
        };
        memory.remember(T0, &relayed, 3, None, MAC, VlanTags::NONE);

        let told = memory.remember(T0, &relayed, 3, None, OTHER_MAC, VlanTags::NONE);

        assert_eq!(told, Remembered::Fine);
        let request = memory.recall(T0, &relayed, NamedTags::Unsaid);
        assert_eq!(request.map(|it| it.mac), Some(OTHER_MAC));
    }
}
