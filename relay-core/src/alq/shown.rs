//! Our sessions with peers and servers as `show` has them. Decides nothing.

use alloc::vec::Vec;

use super::Shared;
use super::connection::Tls;
use super::input::{ConnectionId, Remote};
use super::requestor::Requestor;
use super::view::{CatchUp, Neighbor, Role, SessionState};
use crate::time::Instant;

impl Requestor {
    /// For `show`.
    pub(crate) fn neighbors(&self, shared: &Shared) -> Vec<Neighbor> {
        let sessions = self.sessions.values().map(|it| Neighbor {
            state: it.shown_state(),
            since: it.since,
            retry_at: it.retry_at(),
            catch_up: it.catch_up,
            lag_nanos: it.lag_nanos(),
            last_error: it.last_error(&shared.config.identity),
            ..bare(shared, Remote::Peer(it.peer), it.connection)
        });
        let servers = self.servers.iter().map(|(id, it)| Neighbor {
            state: it.shown_state(),
            since: it.since,
            retry_at: it.retry_at,
            catch_up: it.catch_up(),
            last_error: it.last_error.clone(),
            ..bare(shared, Remote::Server(*id), it.connection())
        });
        sessions.chain(servers).collect()
    }
}

/// A neighbour of whom nothing is known but its counters.
fn bare(shared: &Shared, remote: Remote, connection: Option<ConnectionId>) -> Neighbor {
    let counters = shared.connections.counters(remote, Role::Requestor);
    let connection = connection.and_then(|id| shared.connections.get(id));
    Neighbor {
        remote,
        role: Role::Requestor,
        state: SessionState::Idle,
        is_secure: connection.is_some_and(|it| it.tls == Tls::On),
        since: Instant::default(),
        retry_at: None,
        catch_up: CatchUp::default(),
        last_received: counters.and_then(|it| it.last_received),
        last_sent: counters.and_then(|it| it.last_sent),
        lag_nanos: None,
        statistics: counters.map(|it| it.statistics.clone()).unwrap_or_default(),
        last_error: None,
    }
}
