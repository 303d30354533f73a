//! Bindings as the outside sees them: owned copies for `show`, events and tests.

use alloc::vec::Vec;
use core::net::Ipv6Addr;

use relay_common::net::MacAddr;

use crate::input::RouteRefusal;
use crate::time::Instant;
use crate::types::{AccessLink, IaType, Iaid, PeerId, Prefix, ServerId};

/// One client on one access link, with its leases.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct SubscriberView {
    /// The client's DUID.
    pub duid: Vec<u8>,
    /// Where it is attached.
    pub link: AccessLink,
    /// link-address of its last message, as sent to the servers.
    pub link_address: Ipv6Addr,
    /// The client's link-local address: its innermost peer-address (SNP-4).
    pub client_address: Ipv6Addr,
    /// Source MAC of its last message.
    pub mac: Option<MacAddr>,
    /// Interface-Id as sent.
    pub interface_id: Vec<u8>,
    /// Remote-Id as sent, without the enterprise number.
    pub remote_id: Option<Vec<u8>>,
    /// Subscriber-Id as sent.
    pub subscriber_id: Option<Vec<u8>>,
    /// Its leases, ordered by type, IAID and prefix.
    pub bindings: Vec<BindingView>,
}

/// One lease.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct BindingView {
    /// Address or prefix lease.
    pub ia_type: IaType,
    /// Identity association.
    pub iaid: Iaid,
    /// The leased prefix; an address is a /128.
    pub prefix: Prefix,
    /// Active, or why no longer.
    pub state: BindingState,
    /// How we learned of it.
    pub origin: Origin,
    /// The relay that read it from a Reply: its address toward servers; `::` is this one.
    pub snooped_by: Ipv6Addr,
    /// DUID of the server that gave it.
    pub server_duid: Vec<u8>,
    /// Address of the server that gave it.
    pub server_address: Ipv6Addr,
    /// T1 in seconds as the server gave it: a hint to the client (SNP-29).
    pub t1_secs: u32,
    /// T2 in seconds, likewise.
    pub t2_secs: u32,
    /// Client's last transaction time.
    pub cltt: Instant,
    /// End of the preferred lifetime.
    pub preferred_until: Instant,
    /// End of the valid lifetime, [`Instant::NEVER`] where it is infinite.
    pub valid_until: Instant,
    /// What became of its route.
    pub route: RouteState,
}

/// The state of a binding.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum BindingState {
    /// The client may use it.
    Active,
    /// Its valid lifetime ran out.
    Expired,
    /// The client gave it up.
    Released,
    /// The client found it in use.
    Declined,
}

impl BindingState {
    /// The name that `show` prints.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Active => "active",
            Self::Expired => "expired",
            Self::Released => "released",
            Self::Declined => "declined",
        }
    }
}

/// How we learned of a binding.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Origin {
    /// Read from a Reply that we relayed.
    Snooped,
    /// Told by a peer.
    ActiveLeasequery(PeerId),
    /// Told by a server that was asked for all.
    BulkLeasequery(ServerId),
    /// Told by a server that was asked for this one (RFC 5007).
    Leasequery(ServerId),
}

/// What became of a binding's route.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum RouteState {
    /// In the kernel.
    Installed,
    /// On its way to the kernel.
    Pending,
    /// Not wanted by configuration.
    Disabled,
    /// Refused, and why.
    Failed(RouteRefusal),
}

/// Which bindings are asked for. Every field that is set must match.
#[derive(Clone, Default, Debug)]
pub struct Filter {
    /// On this access interface.
    pub access: Option<crate::types::AccessId>,
    /// Leases that cover this prefix or lie inside it.
    pub prefix: Option<Prefix>,
    /// Of this client.
    pub duid: Option<Vec<u8>>,
    /// Of this MAC.
    pub mac: Option<MacAddr>,
    /// In this state.
    pub state: Option<BindingState>,
    /// Of this origin.
    pub origin: Option<Origin>,
}

/// A page of subscribers. Pages of one walk may miss or repeat a client that changed meanwhile.
#[derive(Clone, Debug)]
pub struct Page {
    /// In the order of the table's slots.
    pub subscribers: Vec<SubscriberView>,
    /// Where the next page starts; `None` after the last.
    pub next: Option<Cursor>,
}

/// A place in the table of clients.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Cursor(pub u32);

/// Numbers of the table, for metrics and `show statistics`.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct TableSummary {
    /// Clients with at least one lease.
    pub clients: usize,
    /// Active leases by access interface, type and origin, ordered.
    pub active: Vec<(crate::types::AccessId, IaType, Origin, usize)>,
    /// Leases over a limit that are shown and have no route (SNP-40).
    pub refused: usize,
    /// Replies that wait for their routes now.
    pub held_replies: usize,
}
