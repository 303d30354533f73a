//! The reference model: which leases live, until when, and which routes they want, by the plainest
//! means there are. Written from SNP-7 to SNP-24 and PDR-G-8, PDR-G-9; must not look at the core.

use std::collections::BTreeMap;
use std::net::Ipv6Addr;

/// A lease: client number, 3 or 25, IAID, prefix as text.
pub type Key = (usize, u16, u32, String);

/// What the model knows of one lease.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Lease {
    /// Its end, in seconds of virtual time.
    pub valid_until: u64,
    /// The next hop.
    pub next_hop: Ipv6Addr,
}

/// One IA of a message, one lease in it, with its valid lifetime.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Offered {
    /// 3 or 25.
    pub code: u16,
    /// IAID.
    pub iaid: u32,
    /// `address/length`.
    pub prefix: String,
    /// Seconds; zero takes it away.
    pub valid: u32,
}

/// All leases.
#[derive(Default)]
pub struct Model {
    /// Live leases; those whose time is over are dropped by [`Model::at`].
    pub leases: BTreeMap<Key, Lease>,
}

impl Model {
    /// It is now this late.
    pub fn at(&mut self, now: u64) {
        self.leases.retain(|_, lease| lease.valid_until > now);
    }

    /// A Reply that grants passed on its way to the client (SNP-7, SNP-9 to SNP-12).
    pub fn granted(&mut self, now: u64, client: usize, next_hop: Ipv6Addr, ias: &[Offered]) {
        for ia in ias {
            let key = (client, ia.code, ia.iaid, ia.prefix.clone());
            if ia.valid == 0 {
                self.leases.remove(&key);
            } else {
                let valid_until = now + u64::from(ia.valid);
                self.leases.insert(
                    key,
                    Lease {
                        valid_until,
                        next_hop,
                    },
                );
            }
        }
    }

    /// The client listed these in a Release (SNP-21) or, addresses only, in a Decline (SNP-22).
    pub fn given_up(&mut self, client: usize, ias: &[Offered], decline: bool) {
        for ia in ias {
            if !(decline && ia.code == 25) {
                self.leases
                    .remove(&(client, ia.code, ia.iaid, ia.prefix.clone()));
            }
        }
    }

    /// An operator cleared this prefix.
    pub fn cleared(&mut self, prefix: &str) {
        self.leases.retain(|(_, _, _, held), _| held != prefix);
    }
}
