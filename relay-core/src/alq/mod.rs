//! Leasequery over TCP between relays, and toward DHCP servers: RFC 5460, RFC 7653.
//!
//! Decides what a connection may do and says on it, which bindings a peer is told, what of its
//! bindings is taken over, and when this relay is in sync. Must not know of sockets, TLS records
//! or files: bytes come in and go out in the clear, and a connection is a number.
//!
//! ```text
//! connections (who, which role, TLS or not, one buffer each way)
//!   ├─ server      a peer asks us      §9, RFC 5460 §7     reads binding::changes
//!   └─ requestor   we ask a peer       §8, RFC 5460 §6     writes by binding::replica
//! ready            in sync with all peers, or given up waiting
//! ```

mod input;
mod view;

pub use self::input::{
    CloseReason, ConnectionId, LeasequeryEffect, LeasequeryInput, PeerMemory, Remote,
};
pub use self::view::{CatchUp, Digest, Neighbor, Readiness, Role, SessionState, SessionStatistics};
