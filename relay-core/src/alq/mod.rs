//! Leasequery: over TCP between relays and toward DHCP servers (RFC 5460, RFC 7653), over UDP toward
//! servers (RFC 5007).
//!
//! Decides what a connection may do and says on it, which bindings a peer is told, what of its
//! bindings is taken over, and when this relay is in sync. Must not know of sockets, TLS records
//! or files: bytes come in and go out in the clear, and a connection is a number.
//!
//! ```text
//! dispatch       which part an input is for, and the order of things
//! connections    who, which role, TLS or not, one buffer each way
//!   ├─ server      a peer asks us      §9, RFC 5460 §7     reads binding::changes
//!   └─ requestor   we ask a peer       §8, RFC 5460 §6     writes by binding::replica
//! individual     one client asked of servers over UDP        writes by binding::replica
//! ready          in sync with all peers, or given up waiting
//! ```

mod anew;
mod answer;
mod away;
mod bulk;
mod connection;
mod dispatch;
mod individual;
mod input;
mod intake;
mod peer_session;
mod query;
mod ready;
mod requestor;
mod server;
mod server_state;
mod session;
mod shown;
mod skew;
mod telling;
mod view;

pub(crate) use self::dispatch::Leasequery;
pub(crate) use self::individual::Heard;
pub use self::input::{
    CloseReason, ConnectionId, LeasequeryEffect, LeasequeryInput, PeerMemory, Remote,
};
pub use self::view::{CatchUp, Digest, Neighbor, Readiness, Role, SessionState, SessionStatistics};

use alloc::collections::BTreeMap;

use self::connection::Connections;
use crate::binding::{self, Bindings};
use crate::config::LeasequeryConfig;
use crate::effect::Effect;
use crate::outbox::Outbox;
use crate::time::{Instant, LqTime, WallClock};
use crate::types::PeerId;

/// What both parts act on besides the table.
pub(crate) struct Shared {
    pub(crate) config: LeasequeryConfig,
    pub(crate) clock: WallClock,
    pub(crate) connections: Connections,
    /// The store has handed out all that it holds (ALQ-D-27).
    pub(crate) is_loaded: bool,
    /// The daemon ends: nothing new begins.
    pub(crate) is_ending: bool,
    memories: BTreeMap<PeerId, PeerMemory>,
}

/// The table, and what acting on it needs.
pub(crate) struct Context<'a> {
    pub(crate) bindings: &'a mut Bindings,
    pub(crate) act: binding::Context<'a>,
}

impl Context<'_> {
    pub(crate) const fn now(&self) -> Instant {
        self.act.now
    }

    pub(crate) const fn out(&mut self) -> &mut Outbox {
        self.act.out
    }

    /// A session with this neighbour has come to another state.
    pub(crate) fn changed(&mut self, remote: Remote) {
        let changed = LeasequeryEffect::Changed(remote);
        self.act.out.push(Effect::Leasequery(changed));
    }
}

impl Shared {
    fn new(config: LeasequeryConfig) -> Self {
        Self {
            config,
            clock: WallClock::default(),
            connections: Connections::default(),
            is_loaded: false,
            is_ending: false,
            memories: BTreeMap::new(),
        }
    }

    /// The time of the messages that are built now.
    pub(crate) const fn base_time(&self, now: Instant) -> LqTime {
        self.clock.lq_time(now)
    }

    /// What survives of a peer.
    pub(crate) fn memory(&self, peer: PeerId) -> PeerMemory {
        let nothing = PeerMemory {
            peer,
            resume_point: None,
            server: None,
            unsent_since: None,
        };
        self.memories.get(&peer).copied().unwrap_or(nothing)
    }

    /// Changes it, and has it stored where it is another then.
    pub(crate) fn remember(
        &mut self,
        cx: &mut Context<'_>,
        peer: PeerId,
        change: impl FnOnce(&mut PeerMemory),
    ) {
        let before = self.memory(peer);
        let mut memory = before;
        change(&mut memory);
        if memory != before {
            self.memories.insert(peer, memory);
            let remember = LeasequeryEffect::Remember(memory);
            cx.out().push(Effect::Leasequery(remember));
        }
    }

    /// Hands `write`'s whole messages to the shell, see [`Connections::send`].
    pub(crate) fn send<T>(
        &mut self,
        cx: &mut Context<'_>,
        id: ConnectionId,
        write: impl FnOnce(&mut alloc::vec::Vec<u8>) -> T,
    ) -> Option<T> {
        self.connections.send(cx.now(), cx.out(), id, write)
    }

    /// Closes behind all that was sent. Its owner hears of it like of any other end.
    pub(crate) fn close(&mut self, cx: &mut Context<'_>, id: ConnectionId, reason: CloseReason) {
        self.connections.close(cx.out(), id, reason);
    }
}
