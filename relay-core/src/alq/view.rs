//! Sessions and readiness as the outside sees them.

use alloc::string::String;
use alloc::vec::Vec;

use super::input::Remote;
use crate::time::Instant;

/// Which end of a session this relay is.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Role {
    /// We ask.
    Requestor,
    /// We are asked.
    Server,
}

impl Role {
    /// The name that `show` prints.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Requestor => "requestor",
            Self::Server => "server",
        }
    }
}

/// Where a session stands; `Active` is LIVE with no bulk query pending.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum SessionState {
    /// Nothing is under way.
    Idle,
    /// TCP is being opened.
    Connecting,
    /// STARTTLS was sent or answered, or the handshake is under way.
    TlsHandshake,
    /// The query was sent (requestor), or is awaited (server).
    QuerySent,
    /// A bulk query fills or repairs the table.
    BulkCatchUp,
    /// Changes since the start time come.
    CatchUp,
    /// Only new changes come.
    Active,
    /// After a failure, until the next attempt.
    Backoff,
}

impl SessionState {
    /// All, in the order of their discriminants.
    pub const ALL: [Self; 8] = [
        Self::Idle,
        Self::Connecting,
        Self::TlsHandshake,
        Self::QuerySent,
        Self::BulkCatchUp,
        Self::CatchUp,
        Self::Active,
        Self::Backoff,
    ];

    /// The name that `show` prints.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Idle => "idle",
            Self::Connecting => "connecting",
            Self::TlsHandshake => "tls-handshake",
            Self::QuerySent => "query-sent",
            Self::BulkCatchUp => "bulk-catch-up",
            Self::CatchUp => "catch-up",
            Self::Active => "active",
            Self::Backoff => "backoff",
        }
    }
}

/// One direction of a peer.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Neighbor {
    /// Who.
    pub remote: Remote,
    /// Which end we are.
    pub role: Role,
    /// Where the session stands.
    pub state: SessionState,
    /// Whether TLS is up.
    pub is_secure: bool,
    /// Since when it is in this state.
    pub since: Instant,
    /// When the next attempt is due.
    pub retry_at: Option<Instant>,
    /// Of the last catch-up, bulk or by start time.
    pub catch_up: CatchUp,
    /// Last message heard.
    pub last_received: Option<Instant>,
    /// Last message sent.
    pub last_sent: Option<Instant>,
    /// Age of the oldest change not yet sent (server), or how long ago the newest message was built
    /// by the peer's clock (requestor), in nanoseconds.
    pub lag_nanos: Option<u64>,
    /// Numbers since the start of the daemon.
    pub statistics: SessionStatistics,
    /// What went wrong last, for people.
    pub last_error: Option<String>,
}

/// Progress of a catch-up.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct CatchUp {
    /// The start time asked for: seconds since 2000 of the server's clock.
    pub requested_from: Option<u32>,
    /// When the query was sent, or received.
    pub started_at: Option<Instant>,
    /// Whether all of it has come.
    pub is_complete: bool,
    /// When.
    pub completed_at: Option<Instant>,
    /// Bindings in it so far.
    pub received: u64,
}

/// Counters of one direction of a peer.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub struct SessionStatistics {
    /// Leases taken from messages.
    pub bindings_received: u64,
    /// Leases put into messages.
    pub bindings_sent: u64,
    /// Leases received that were older than what we had (ALQ-D-11).
    pub stale_ignored: u64,
    /// What could not be taken for what it claims to be, and cost nobody the connection: broken
    /// leases, clients without identifier or time, queries and replies for somebody else.
    pub ignored: u64,
    /// Sessions that ended by an error.
    pub errors: u64,
    /// Messages received by type: type, number.
    pub messages_received: Vec<(u8, u64)>,
    /// Messages sent by type.
    pub messages_sent: Vec<(u8, u64)>,
    /// Status codes received: code, number.
    pub statuses_received: Vec<(u16, u64)>,
    /// Status codes sent.
    pub statuses_sent: Vec<(u16, u64)>,
}

/// Active bindings as a number that is equal on relays that hold the same.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct Digest {
    /// How many.
    pub bindings: u64,
    /// Wrapping sum of a keyed hash over DUID, address or prefix, and length, with a key that is the
    /// same on all relays.
    pub sum: u64,
}

/// Whether this relay may attract traffic, and why.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Readiness {
    /// It may.
    pub is_ready: bool,
    /// Ready without having been in sync: an alarm.
    pub is_by_timeout: bool,
    /// For people: `in sync with r2`, `waiting for r2: connecting`, `312 routes to write`.
    /// Names are put in by the shell where `{N}` stands for peer N, and `{sN}` for server N.
    pub reason: String,
}
