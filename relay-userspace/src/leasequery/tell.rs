//! Sessions of leasequery as they change, for the log and for `monitor`. Decides what is worth a
//! line: that a session is up, that one that was up is not, and a failure that is not the last one
//! again, however often it is tried.

use std::collections::BTreeMap;
use std::sync::Arc;

use relay_core::alq::{Neighbor, Remote, Role, SessionState};
use tokio::sync::{mpsc, watch};

use crate::events::{EventKind, Events};
use crate::handle::Surroundings;
use crate::names::Names;

/// Changes that wait to be told; what does not fit is told with the next change.
pub const CHANGES_MAX: usize = 256;

/// What was told of a session.
#[derive(Clone, PartialEq, Eq, Debug)]
struct Told {
    state: SessionState,
    error: Option<String>,
    was_active: bool,
    /// Sessions that have ended by an error until then.
    errors: u64,
}

impl Default for Told {
    fn default() -> Self {
        Self {
            state: SessionState::Idle,
            error: None,
            was_active: false,
            errors: 0,
        }
    }
}

/// A line of the log.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Line {
    Up,
    /// By an error.
    Down,
    /// In order: the daemon at one end stops, or has another configuration.
    Ended,
    Failing,
    Nothing,
}

impl Told {
    /// Takes the present state. Whether that is an event, and which line of the log.
    fn look(&mut self, now: &Neighbor) -> (bool, Line) {
        let is_event = self.state != now.state;
        let is_active = now.state == SessionState::Active;
        // After a success the same failure is news again.
        let error = now.last_error.clone().filter(|_| !is_active);
        let is_broken = now.statistics.errors != self.errors;
        let is_new_error = error.is_some() && error != self.error;
        let line = match (self.was_active, is_active) {
            (false, true) => Line::Up,
            (true, false) if is_broken => Line::Down,
            (true, false) => Line::Ended,
            _ if is_new_error && has_failed(now.state) => Line::Failing,
            _ => Line::Nothing,
        };
        self.state = now.state;
        self.was_active = is_active;
        self.errors = now.statistics.errors;
        if is_active || matches!(line, Line::Down | Line::Failing) {
            self.error = error;
        }
        (is_event, line)
    }
}

/// Tells until the relay thread ends.
pub async fn tell(
    mut changes: mpsc::Receiver<Vec<Neighbor>>,
    surroundings: watch::Receiver<Arc<Surroundings>>,
    events: Events,
) {
    let mut told: BTreeMap<(Remote, Role), Told> = BTreeMap::new();
    while let Some(neighbors) = changes.recv().await {
        let surroundings = Arc::clone(&surroundings.borrow());
        for now in &neighbors {
            let told = told.entry((now.remote, now.role)).or_default();
            let (is_event, line) = told.look(now);
            say(line, now, &surroundings.names);
            if is_event {
                let reason = now.last_error.as_ref().filter(|_| has_failed(now.state));
                events.publish(EventKind::Neighbor {
                    event: now.state.name().to_owned(),
                    name: surroundings.names.remote(now.remote),
                    role: now.role.name().to_owned(),
                    reason: reason.cloned(),
                });
            }
        }
    }
}

/// Whether an error is of what was tried last, and not of what was tried before it.
const fn has_failed(state: SessionState) -> bool {
    use SessionState::{Backoff, BulkCatchUp, Idle};
    // A bulk query that fails is tried again beside a session that goes on.
    matches!(state, Backoff | Idle | BulkCatchUp)
}

fn say(line: Line, now: &Neighbor, names: &Names) {
    let (name, role) = (names.remote(now.remote), now.role.name());
    let reason = now.last_error.as_deref().unwrap_or("no reason given");
    match line {
        Line::Up => {
            let tls = now.is_secure;
            tracing::info!(name, role, tls, "the leasequery session is active");
            if let Some(error) = &now.last_error {
                tracing::warn!(name, role, "all is not well between the relays: {error}");
            }
        }
        Line::Down => tracing::warn!(name, role, "the leasequery session has ended: {reason}"),
        Line::Ended => tracing::info!(name, role, "the leasequery session has ended in order"),
        Line::Failing => tracing::warn!(name, role, "no leasequery session: {reason}"),
        Line::Nothing => {}
    }
}

#[cfg(test)]
mod tests {
    use relay_core::alq::{CatchUp, SessionStatistics};
    use relay_core::time::Instant;
    use relay_core::types::PeerId;

    use super::*;

    /// One that has failed so often.
    fn neighbor_after(errors: u64, state: SessionState, error: Option<&str>) -> Neighbor {
        let mut neighbor = neighbor(state, error);
        neighbor.statistics.errors = errors;
        neighbor
    }

    fn neighbor(state: SessionState, error: Option<&str>) -> Neighbor {
        Neighbor {
            remote: Remote::Peer(PeerId(0)),
            role: Role::Requestor,
            state,
            is_secure: true,
            since: Instant::default(),
            retry_at: None,
            catch_up: CatchUp::default(),
            last_received: None,
            last_sent: None,
            lag_nanos: None,
            statistics: SessionStatistics::default(),
            last_error: error.map(str::to_owned),
        }
    }

    #[test]
    fn failure_that_repeats_is_logged_once_and_again_after_a_success() {
        use SessionState::{Active, Backoff, Connecting};
        let mut told = Told::default();
        let mut errors = 0;
        let mut line = |state, error| {
            errors += u64::from(state == Backoff);
            told.look(&neighbor_after(errors, state, error)).1
        };

        assert_eq!(line(Connecting, None), Line::Nothing);
        assert_eq!(line(Backoff, Some("refused")), Line::Failing);
        assert_eq!(line(Connecting, Some("refused")), Line::Nothing);
        assert_eq!(line(Backoff, Some("refused")), Line::Nothing);
        assert_eq!(line(Backoff, Some("another")), Line::Failing);
        assert_eq!(line(Active, Some("another")), Line::Up);
        assert_eq!(line(Backoff, Some("closed")), Line::Down);
        assert_eq!(line(Connecting, Some("closed")), Line::Nothing);
        assert_eq!(line(Backoff, Some("closed")), Line::Nothing);
        assert_eq!(line(Backoff, Some("refused")), Line::Failing);
    }

    /// What went wrong before is not why it ended now.
    #[test]
    fn session_that_ends_in_order_is_not_told_as_a_failure() {
        use SessionState::{Active, Backoff};
        let mut told = Told::default();
        let mut line = |errors, state| {
            let neighbor = neighbor_after(errors, state, Some("refused"));
            told.look(&neighbor).1
        };

        assert_eq!(line(1, Active), Line::Up);
        assert_eq!(line(1, Backoff), Line::Ended);
        assert_eq!(line(1, Active), Line::Up);
        assert_eq!(line(2, Backoff), Line::Down);
    }

    #[test]
    fn each_state_is_one_event() {
        use SessionState::{Active, CatchUp};
        let mut told = Told::default();

        assert!(told.look(&neighbor(CatchUp, None)).0);
        assert!(!told.look(&neighbor(CatchUp, None)).0);
        assert!(told.look(&neighbor(Active, None)).0);
    }
}
