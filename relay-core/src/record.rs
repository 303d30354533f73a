//! Bindings as a durable store keeps them: what goes out after each change, and comes back in after
//! a restart.
//!
//! The core numbers its bindings and their changes; it must not know how, where or when they are
//! written. A change is told by number only: the shell reads the record when it writes it, so that
//! of many changes between two writes only the last costs anything.

use core::net::Ipv6Addr;

use relay_common::net::MacAddr;

use crate::binding::changes::Node;
use crate::time::Instant;
use crate::types::{AccessLink, IaType, Iaid, Prefix};
use crate::view::Origin;

/// What a durable store asks of the core.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub enum Keeping {
    /// There is no store: no changes are told.
    #[default]
    No,
    /// The store cannot write: no changes are told. A Reply that changes a lease leaves before its
    /// change is kept, and each is told of ([`crate::error::Notice::UnkeptReply`]).
    Failing,
    /// Changes are told, and no Reply waits for them; each of these is told of, too.
    Told,
    /// Changes are told, and Replies that change a lease wait for them.
    Awaited,
}

/// What the store must hold, or must not.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum RecordChange {
    /// The binding is to be written as [`crate::relay::Relay::record`] gives it.
    Put(RecordKey),
    /// The binding of this number has ended.
    Remove {
        /// Never given to another binding.
        id: u64,
    },
}

/// Where a binding is found.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct RecordKey {
    /// Its number: grows from binding to binding and stays for its life, over restarts too.
    pub id: u64,
    pub(crate) at: Node,
}

/// Everything of a binding that a restart must not lose.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Record<'a> {
    /// Number of the binding, never 0.
    pub id: u64,
    /// Where the client is attached.
    pub link: AccessLink,
    /// The client's DUID, 1 to 130 bytes.
    pub duid: &'a [u8],
    /// Innermost peer-address (SNP-4).
    pub client_address: Ipv6Addr,
    /// Source of the client's frames.
    pub mac: Option<MacAddr>,
    /// link-address as sent to the servers.
    pub link_address: Ipv6Addr,
    /// No relay but LDRAs in between (RLY-69).
    pub is_first_hop: bool,
    /// Address or prefix lease.
    pub ia_type: IaType,
    /// Identity association.
    pub iaid: Iaid,
    /// The leased prefix; an address is a /128.
    pub prefix: Prefix,
    /// DUID of the server that gave it.
    pub server_duid: &'a [u8],
    /// Address of the server that gave it.
    pub server_address: Ipv6Addr,
    /// T1 in seconds as the server gave it.
    pub t1_secs: u32,
    /// T2 in seconds, likewise.
    pub t2_secs: u32,
    /// Client's last transaction time.
    pub cltt: Instant,
    /// End of the preferred lifetime.
    pub preferred_until: Instant,
    /// End of the valid lifetime, [`Instant::NEVER`] where it is infinite.
    pub valid_until: Instant,
    /// Active, or how it ended.
    pub state: RecordState,
    /// How we learned of it.
    pub origin: Origin,
    /// The relay that read it from a Reply; `::` is this one.
    pub snooped_by: Ipv6Addr,
    /// When it last changed: whoever asks for changes since then is told of it.
    pub changed_at: Instant,
}

/// What has become of a binding.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum RecordState {
    /// The client may use it.
    Active,
    /// It has ended. Without a record of that, a twin that was away would bring it back.
    // ALQ-D-26
    Ended {
        /// How.
        how: Ending,
        /// Nobody needs to know of it any more from here on.
        forget_at: Instant,
    },
}

/// How a binding ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Ending {
    /// Its valid lifetime ran out.
    Expired,
    /// The client gave it up, or the server took it back.
    Released,
    /// The client found it in use.
    Declined,
    /// An operator removed it.
    Cleared,
}

/// A binding that comes back.
#[derive(Clone, Copy, Debug)]
pub struct Restored<'a> {
    /// As it was written.
    pub record: Record<'a>,
    /// Its times may turn out too late: nobody knows yet how long this relay was away. They are
    /// put right by [`crate::input::Input::CorrectTimes`].
    pub is_uncertain: bool,
}
