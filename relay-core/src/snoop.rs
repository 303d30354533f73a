//! What a message on its way says about leases (spec SNP-*): read whole before anything is
//! changed, so that a message that breaks off in the middle changes nothing.
//!
//! Decides what the client may use (RFC 8415 §18.2.10.1) and what it gave up (§18.2.7, §18.2.8).
//! Must not know of the table. What cannot be read is relayed all the same.

mod judge;
mod release;
mod reply;

pub(crate) use judge::routable;
pub(crate) use release::{GivenUp, Item};
pub(crate) use reply::{Leases, Reply, Verdict};

use crate::types::{IaType, Iaid, Prefix};

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
