//! Which servers answer: told from what was counted, once a second. A server is silent when it
//! was sent messages for [`SILENT_AFTER`] and none came back; the first answer ends that.

use std::collections::BTreeMap;
use std::sync::{Arc, RwLock};
use std::time::Duration;

use tokio::time::{Instant, MissedTickBehavior};
use tokio_util::sync::CancellationToken;

use super::ControlContext;
use super::alarms::Alarms;
use crate::counters::{Direction, PortCounters};
use crate::events::EventKind;

/// Longer than the first retransmissions of a client (RFC 8415 §15): somebody asked twice.
pub const SILENT_AFTER: Duration = Duration::from_secs(10);
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// Whether a server answers.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(super) enum Health {
    /// Nothing was asked yet.
    #[default]
    Unknown,
    /// Its last answer came after the last question, or soon will have to.
    Answering,
    /// Asked, and not heard of since.
    Silent,
}

impl Health {
    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::Unknown => "unknown",
            Self::Answering => "answering",
            Self::Silent => "silent",
        }
    }
}

/// What was seen of one server.
#[derive(Clone, Copy, Debug, Default)]
struct Seen {
    health: Health,
    sent: u64,
    received: u64,
    /// The first message since the last answer.
    asked_since: Option<Instant>,
}

impl Seen {
    /// Takes new totals; the new health where it changed.
    fn look(&mut self, now: Instant, sent: u64, received: u64) -> Option<Health> {
        // Totals that fell were zeroed by an operator.
        let (was_sent, was_received) = (self.sent.min(sent), self.received.min(received));
        (self.sent, self.received) = (sent, received);
        if received > was_received {
            self.asked_since = None;
            return self.become_health(Health::Answering);
        }
        if sent > was_sent {
            self.asked_since.get_or_insert(now);
        }
        let asked_since = self.asked_since?;
        if now - asked_since < SILENT_AFTER {
            return None;
        }
        self.become_health(Health::Silent)
    }

    fn become_health(&mut self, health: Health) -> Option<Health> {
        (std::mem::replace(&mut self.health, health) != health).then_some(health)
    }
}

/// What is known of all servers, by name.
#[derive(Debug, Default)]
pub(super) struct ServerHealth(RwLock<BTreeMap<String, Seen>>);

impl ServerHealth {
    /// Whether the server of this name answers.
    pub(super) fn of(&self, name: &str) -> Health {
        let seen = self.0.read().expect("no holder of this lock panics");
        seen.get(name).map_or(Health::Unknown, |seen| seen.health)
    }
}

/// Messages to and from a server.
pub(super) fn totals(port: &PortCounters) -> (u64, u64) {
    let sum = |direction: Direction| {
        let row = &port.messages[direction as usize];
        row.iter().map(crate::counters::Counter::get).sum()
    };
    (sum(Direction::ToServer), sum(Direction::FromServer))
}

/// Looks until `stop` is cancelled; at what the operator has to know of too.
pub(super) async fn watch(
    context: ControlContext,
    health: Arc<ServerHealth>,
    stop: CancellationToken,
) {
    let mut clock = tokio::time::interval(LOOK_EVERY);
    clock.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut alarms = Alarms::default();
    loop {
        tokio::select! {
            now = clock.tick() => {
                look(&context, &health, now);
                alarms.look(&context.counters, now);
            }
            () = stop.cancelled() => return,
        }
    }
}

fn look(context: &ControlContext, health: &ServerHealth, now: Instant) {
    let surroundings = Arc::clone(&context.surroundings.borrow());
    let mut all = health.0.write().expect("no holder of this lock panics");
    all.retain(|name, _| surroundings.server_names.contains(name));
    let servers = surroundings
        .server_names
        .iter()
        .zip(&surroundings.relay.servers);
    for (name, server) in servers {
        let (sent, received) = totals(&context.counters.port(name));
        let seen = all.entry(name.clone()).or_default();
        let Some(health) = seen.look(now, sent, received) else {
            continue;
        };
        match health {
            Health::Silent => {
                tracing::warn!(server = name, address = %server.address, "the server does not answer")
            }
            _ => tracing::info!(server = name, address = %server.address, "the server answers"),
        }
        context.events.publish(EventKind::Server {
            event: health.name().to_owned(),
            name: name.clone(),
            address: server.address,
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn server_is_silent_only_after_it_was_asked_long_enough() {
        let start = Instant::now();
        let at = |secs: u64| start + Duration::from_secs(secs);
        let mut seen = Seen::default();

        assert_eq!(seen.look(at(0), 0, 0), None);
        assert_eq!(seen.look(at(100), 0, 0), None, "nobody asked");
        assert_eq!(seen.look(at(101), 1, 0), None, "just asked");
        assert_eq!(seen.look(at(110), 5, 0), None);
        assert_eq!(seen.look(at(111), 5, 0), Some(Health::Silent));
        assert_eq!(seen.look(at(112), 6, 0), None, "told once");
        assert_eq!(seen.look(at(113), 6, 1), Some(Health::Answering));
        assert_eq!(seen.look(at(300), 6, 1), None, "nobody asked since");
    }

    #[tokio::test]
    async fn zeroed_counters_are_no_answer() {
        let start = Instant::now();
        let mut seen = Seen::default();
        seen.look(start, 10, 10);

        assert_eq!(seen.look(start, 0, 0), None);
        assert_eq!(seen.look(start, 0, 1), None, "still answering");
        assert_eq!(seen.health, Health::Answering);
    }
}
