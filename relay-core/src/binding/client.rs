//! One client on one access link, and the DUIDs of servers, kept once each.

use alloc::boxed::Box;
use core::net::Ipv6Addr;
use core::ops::Deref;

use relay_common::net::MacAddr;

use super::index::{Index, hash, words};
use super::slab::{NONE, Slab};
use crate::types::{AccessLink, IfIndex};

/// A client with at least one lease: a DUID on an access link (PDR-G-3, PDR-G-4).
pub(crate) struct Client {
    pub(crate) duid: Duid,
    pub(crate) link: AccessLink,
    pub(crate) place: Place,
    /// The neighbour entry that the shell was asked for.
    pub(crate) neighbor: Option<IfIndex>,
    /// Its leases: a doubly linked list through the bindings.
    pub(crate) first: u32,
    pub(crate) leases: u32,
    /// Its neighbours in the lists of those that have something in common, by [`Common`].
    pub(crate) next: [u32; 2],
    pub(crate) previous: [u32; 2],
}

/// What the clients of a list have in common.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Common {
    /// One DUID, on several links.
    Duid,
    /// The access interface.
    Access,
}

/// Bytes of a DUID that need no memory of their own: all of RFC 8415 §11 but long DUID-EN.
const INLINE_DUID_BYTES: usize = 22;

/// A client's DUID, beside the client where it is short: finding a client reads one place.
pub(crate) enum Duid {
    Inline(u8, [u8; INLINE_DUID_BYTES]),
    Heap(Box<[u8]>),
}

impl Duid {
    pub(crate) fn new(duid: &[u8]) -> Self {
        let mut bytes = [0; INLINE_DUID_BYTES];
        match (bytes.get_mut(..duid.len()), u8::try_from(duid.len())) {
            (Some(place), Ok(len)) => {
                place.copy_from_slice(duid);
                Self::Inline(len, bytes)
            }
            _ => Self::Heap(duid.into()),
        }
    }
}

impl Deref for Duid {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        match self {
            Self::Inline(len, bytes) => bytes.get(..usize::from(*len)).unwrap_or_default(),
            Self::Heap(duid) => duid,
        }
    }
}

/// Where a client was last seen behind its link. Only a Reply that was learned moves it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Place {
    /// Innermost peer-address: the next hop (SNP-4).
    pub(crate) address: Ipv6Addr,
    /// Source of its frames.
    pub(crate) mac: Option<MacAddr>,
    /// link-address as sent to the servers.
    pub(crate) link_address: Ipv6Addr,
    /// No relay but LDRAs in between (RLY-69).
    pub(crate) is_first_hop: bool,
}

impl Client {
    pub(crate) fn new(duid: &[u8], link: AccessLink, place: Place) -> Self {
        Self {
            duid: Duid::new(duid),
            link,
            place,
            neighbor: None,
            first: NONE,
            leases: 0,
            next: [NONE; 2],
            previous: [NONE; 2],
        }
    }

    /// Whether a frame from `mac` may be its own. Behind another relay the MAC is that relay's.
    pub(crate) fn may_be(&self, mac: Option<MacAddr>) -> bool {
        self.place.may_be(mac)
    }
}

impl Place {
    /// Whether a frame from `mac` may come from here. Of a client on the link the MAC is known;
    /// a message that came without one (in fragments, behind extension headers) proves nothing.
    pub(crate) fn may_be(&self, mac: Option<MacAddr>) -> bool {
        match (self.mac, mac) {
            (Some(known), mac) if self.is_first_hop => mac == Some(known),
            _ => true,
        }
    }
}

/// A server as Replies name it.
struct Server {
    duid: Box<[u8]>,
    address: Ipv6Addr,
    bindings: u32,
}

/// The servers that gave the present leases. A network has a handful of them.
pub(crate) struct Servers {
    slab: Slab<Server>,
    index: Index,
    key: [u8; 16],
}

impl Servers {
    pub(crate) fn new(key: [u8; 16]) -> Self {
        Self {
            slab: Slab::new(),
            index: Index::default(),
            key,
        }
    }

    /// DUID and address.
    pub(crate) fn get(&self, at: u32) -> Option<(&[u8], Ipv6Addr)> {
        let server = self.slab.get(at)?;
        Some((&server.duid, server.address))
    }

    /// Whether this is the number of that server.
    pub(crate) fn is(&self, at: u32, duid: &[u8], address: Ipv6Addr) -> bool {
        self.get(at) == Some((duid, address))
    }

    fn hash(&self, duid: &[u8], address: Ipv6Addr) -> u32 {
        hash(&self.key, words(address), duid)
    }

    /// The number of a server, one binding more.
    pub(crate) fn take(&mut self, duid: &[u8], address: Ipv6Addr) -> u32 {
        let hash = self.hash(duid, address);
        let known = self.index.find(hash, |at| self.is(at, duid, address));
        let at = known.or_else(|| {
            let at = self.slab.insert(Server {
                duid: duid.into(),
                address,
                bindings: 0,
            })?;
            self.index.insert(hash, at);
            Some(at)
        });
        let at = at.unwrap_or(NONE);
        if let Some(server) = self.slab.get_mut(at) {
            server.bindings += 1;
        }
        at
    }

    /// One binding less; forgotten with its last.
    pub(crate) fn give_back(&mut self, at: u32) {
        if let Some(server) = self.slab.get_mut(at) {
            server.bindings = server.bindings.saturating_sub(1);
            if server.bindings == 0 {
                let hash = hash(&self.key, words(server.address), &server.duid);
                self.index.remove(hash, at);
                self.slab.remove(at);
            }
        }
    }

    #[cfg(test)]
    pub(crate) fn len(&self) -> usize {
        self.slab.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::server;

    #[test]
    fn duid_of_every_length_reads_back() {
        for len in 0..=130u8 {
            let bytes: alloc::vec::Vec<u8> = (0..len).collect();

            assert_eq!(*Duid::new(&bytes), *bytes);
        }
    }

    #[test]
    fn servers_are_kept_once_and_forgotten_with_their_last_binding() {
        let mut servers = Servers::new([1; 16]);
        let one = servers.take(b"one", server());

        assert_eq!(servers.take(b"one", server()), one);
        assert_ne!(servers.take(b"two", server()), one);
        servers.give_back(one);
        assert_eq!(servers.len(), 2);
        servers.give_back(one);
        assert_eq!(servers.len(), 1);
    }
}
