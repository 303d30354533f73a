//! What a message on its way says about leases (spec SNP-*): read whole before anything is
//! changed, so that a message that breaks off in the middle changes nothing.
//!
//! Decides what the client may use (RFC 8415 §18.2.10.1) and what it gave up (§18.2.7, §18.2.8).
//! Must not know of the table. What cannot be read is relayed all the same.

mod judge;
mod release;
mod reply;

pub(crate) use release::{GivenUp, Item};
pub(crate) use reply::{Leases, Reply, Verdict};

use crate::types::{IaType, Iaid, Prefix};

/// A DUID has at most this many bytes: 2 of type and 128 (RFC 8415 §11.1).
pub(crate) const MAX_DUID_BYTES: usize = 130;

/// A lease that a Reply states and a client may take as it is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Lease {
    pub(crate) ia_type: IaType,
    pub(crate) iaid: Iaid,
    pub(crate) t1_secs: u32,
    pub(crate) t2_secs: u32,
    pub(crate) prefix: Prefix,
    pub(crate) preferred_secs: u32,
    /// 0: the client has to stop using it.
    pub(crate) valid_secs: u32,
}

/// A DUID that can be a key: compared for equality, never looked into.
// req: SNP-2
fn usable_duid(duid: &[u8]) -> Option<&[u8]> {
    (1..=MAX_DUID_BYTES).contains(&duid.len()).then_some(duid)
}
