//! The digests of what is leased: equal on relays that hold the same bindings, whatever they know
//! of them besides. Kept with every change, so that asking costs nothing. Must not know of peers.

use alloc::vec::Vec;
use core::hash::Hasher;

use siphasher::sip::SipHasher24;

use crate::alq::Digest;
use crate::types::{AccessId, Prefix};

/// The same on all relays, of all releases.
const KEY: &[u8; 16] = b"twinrelay digest";

/// By access interface.
#[derive(Default)]
pub(crate) struct Digests {
    by_access: Vec<Digest>,
}

impl Digests {
    /// One binding more.
    pub(crate) fn add(&mut self, access: AccessId, duid: &[u8], prefix: Prefix) {
        let at = access.place();
        if self.by_access.len() <= at {
            self.by_access.resize(at + 1, Digest::default());
        }
        if let Some(digest) = self.by_access.get_mut(at) {
            digest.bindings += 1;
            digest.sum = digest.sum.wrapping_add(hash(duid, prefix));
        }
    }

    /// One less.
    pub(crate) fn take(&mut self, access: AccessId, duid: &[u8], prefix: Prefix) {
        if let Some(digest) = self.by_access.get_mut(access.place()) {
            digest.bindings -= 1;
            digest.sum = digest.sum.wrapping_sub(hash(duid, prefix));
        }
    }

    /// Of the interfaces that have bindings, ordered; [`AccessId::UNMAPPED`] last.
    pub(crate) fn list(&self) -> Vec<(AccessId, Digest)> {
        let all = self.by_access.iter().enumerate();
        let mut list: Vec<_> = all
            .filter(|(_, digest)| digest.bindings > 0)
            .map(|(at, digest)| (AccessId::at_place(at), *digest))
            .collect();
        list.sort_unstable_by_key(|(access, _)| *access);
        list
    }
}

/// Stands for a DUID where one has to be known again.
pub(crate) fn hash_of_duid(duid: &[u8]) -> u64 {
    let mut hasher = SipHasher24::new_with_key(KEY);
    hasher.write(duid);
    hasher.finish()
}

/// `DUID length (1) | DUID | address (16) | prefix length (1)`
fn hash(duid: &[u8], prefix: Prefix) -> u64 {
    let mut hasher = SipHasher24::new_with_key(KEY);
    // No DUID is longer than 130 bytes.
    hasher.write(&[duid.len() as u8]);
    hasher.write(duid);
    hasher.write(&prefix.address().octets());
    hasher.write(&[prefix.bits()]);
    hasher.finish()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::prefix;

    /// Relays of different releases are compared by it.
    #[test]
    fn digest_of_a_binding_is_the_same_for_ever() {
        assert_eq!(
            hash(&[0, 3, 0, 1, 2, 0, 0, 0, 0, 1], prefix("2001:db8:100::/56")),
            2_933_268_027_094_852_026
        );
    }

    #[test]
    fn digests_follow_the_bindings_and_forget_the_order() {
        let (one, other) = (prefix("2001:db8:100::/56"), prefix("2001:db8:100::/57"));
        let (mut a, mut b) = (Digests::default(), Digests::default());
        a.add(AccessId(4), b"x", one);
        a.add(AccessId(4), b"x", other);
        a.add(AccessId::UNMAPPED, b"y", one);
        a.take(AccessId(4), b"x", one);
        b.add(AccessId(0), b"y", one);
        b.add(AccessId(0), b"x", one);
        b.add(AccessId(0), b"x", other);
        b.take(AccessId(0), b"x", one);

        let list = a.list();

        let accesses: Vec<_> = list.iter().map(|(access, _)| *access).collect();
        assert_eq!(accesses, [AccessId(4), AccessId::UNMAPPED]);
        let total = |list: Vec<(AccessId, Digest)>| {
            list.iter().fold((0, 0u64), |(n, sum), (_, it)| {
                (n + it.bindings, sum.wrapping_add(it.sum))
            })
        };
        assert_eq!(total(list), total(b.list()));
        assert_ne!(hash(b"x", one), hash(b"x", other));
        assert_ne!(hash(b"x", one), hash(b"y", one));
    }
}
