//! What `monitor` shows: bindings, routes, servers and capture, as they change.
//!
//! A bounded broadcast: who publishes never waits, who reads too slowly loses events and is told
//! how many. Decides how an event is written, not when one happens.

use std::net::Ipv6Addr;
use std::sync::Arc;

use relay_core::effect::BindingEvent;
use relay_core::types::Prefix;
use serde::{Deserialize, Serialize};
use tokio::sync::broadcast;

use crate::control::json::{BindingRow, binding_row};
use crate::counters::Counters;
use crate::names::Names;
use crate::wall_time::WallTime;

/// Events that a slow reader may be behind before it loses some.
pub const EVENTS_MAX: usize = 8192;

/// One thing that happened, as a line of `/v1/events`.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct Event {
    /// When, RFC 3339 UTC.
    pub time: String,
    /// What.
    #[serde(flatten)]
    pub what: EventKind,
}

/// What happened; `kind` in JSON.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "kebab-case")]
pub enum EventKind {
    /// A binding changed.
    Binding {
        /// `created`, `renewed`, `released`, `declined`, `expired`, `cleared`, `refused`.
        event: String,
        /// The lease after the change, in the form of `show bindings`.
        binding: Box<BindingRow>,
    },
    /// A route is in the kernel, was refused by us or by it, or is back after somebody removed it.
    Route {
        /// `installed`, `failed`, `repaired`.
        event: String,
        /// Destination.
        prefix: String,
        /// Outgoing interface, where known.
        interface: Option<String>,
        /// Why it failed.
        error: Option<String>,
    },
    /// A server began or ceased to answer.
    Server {
        /// `answering`, `silent`.
        event: String,
        /// Its name.
        name: String,
        /// Its address.
        address: Ipv6Addr,
    },
    /// An interface is captured in another way than before.
    Capture {
        /// `xdp`, `xdp-generic`, `socket`, `absent`.
        event: String,
        /// Interface name.
        interface: String,
        /// Why not a better way.
        reason: Option<String>,
    },
    /// The daemon read its configuration again.
    Configuration {
        /// `reloaded`, `refused`.
        event: String,
        /// Why it was refused.
        #[serde(default)]
        reason: Option<String>,
    },
    /// A session of leasequery has come to another state.
    Neighbor {
        /// As in `show active-leasequery neighbors`.
        event: String,
        /// The peer or server.
        name: String,
        /// `requestor`, `server`.
        role: String,
        /// Why the last connection ended, where none is under way.
        reason: Option<String>,
    },
    /// This relay may attract traffic from now on, or may not.
    Readiness {
        /// `ready`, `ready-by-timeout`, `not-ready`.
        event: String,
        /// Why.
        reason: String,
    },
    /// A certificate of `[tls]` ends soon, or has ended.
    Certificate {
        /// `expires`, `expired`.
        event: String,
        /// `certificate` or `ca`.
        name: String,
        /// Its end.
        not_after: String,
    },
    /// This reader was too slow.
    Lost {
        /// Events that it did not get.
        events: u64,
    },
}

/// Where everybody publishes; cheap to clone. While nobody reads, publishing costs one check.
#[derive(Clone, Debug)]
pub struct Events {
    sender: broadcast::Sender<Arc<Event>>,
    counters: Arc<Counters>,
}

impl Events {
    /// An empty stream.
    pub fn new(counters: Arc<Counters>) -> Self {
        let (sender, _) = broadcast::channel(EVENTS_MAX);
        Self { sender, counters }
    }

    /// Whether anybody reads.
    pub fn is_watched(&self) -> bool {
        self.sender.receiver_count() > 0
    }

    /// Publishes; never waits.
    pub fn publish(&self, what: EventKind) {
        if self.is_watched() {
            self.publish_at(&WallTime::read(), what);
        }
    }

    /// A change that the core reported. Does nothing while nobody reads, or where the core gave no
    /// view.
    pub fn publish_binding(&self, event: &BindingEvent, names: &Names) {
        let Some(subscriber) = event.subscriber.as_deref().filter(|_| self.is_watched()) else {
            return;
        };
        let clock = WallTime::read();
        for binding in &subscriber.bindings {
            let what = EventKind::Binding {
                event: event.action.name().to_owned(),
                binding: Box::new(binding_row(&clock, names, subscriber, binding)),
            };
            self.publish_at(&clock, what);
        }
    }

    /// A lease's route is in the kernel, or was refused for this reason.
    pub fn publish_route(&self, prefix: Prefix, error: Option<&str>) {
        let event = if error.is_some() {
            "failed"
        } else {
            "installed"
        };
        self.publish(EventKind::Route {
            event: event.to_owned(),
            prefix: prefix.to_string(),
            interface: None,
            error: error.map(str::to_owned),
        });
    }

    /// A route that somebody else removed is back.
    pub fn publish_route_repaired(&self, prefix: Prefix, interface: Option<&str>) {
        self.publish(EventKind::Route {
            event: "repaired".to_owned(),
            prefix: prefix.to_string(),
            interface: interface.map(str::to_owned),
            error: None,
        });
    }

    /// The configuration was read again: taken, or refused for this reason.
    pub fn publish_reload(&self, refused: Option<&str>) {
        let (event, counter) = match refused {
            None => ("reloaded", &self.counters.reloads),
            Some(_) => ("refused", &self.counters.reloads_refused),
        };
        counter.inc();
        self.publish(EventKind::Configuration {
            event: event.to_owned(),
            reason: refused.map(str::to_owned),
        });
    }

    /// A new reader.
    pub fn subscribe(&self) -> EventReader {
        EventReader {
            receiver: self.sender.subscribe(),
            counters: Arc::clone(&self.counters),
        }
    }

    fn publish_at(&self, clock: &WallTime, what: EventKind) {
        let time = clock.rfc3339(clock.now).unwrap_or_default();
        // Fails only where the last reader has just left.
        let _ = self.sender.send(Arc::new(Event { time, what }));
    }
}

/// One reader of the stream.
#[derive(Debug)]
pub struct EventReader {
    receiver: broadcast::Receiver<Arc<Event>>,
    counters: Arc<Counters>,
}

impl EventReader {
    /// The next event; [`EventKind::Lost`] where some were missed; `None` when the daemon ends.
    pub async fn next(&mut self) -> Option<Arc<Event>> {
        match self.receiver.recv().await {
            Ok(event) => Some(event),
            Err(broadcast::error::RecvError::Closed) => None,
            Err(broadcast::error::RecvError::Lagged(events)) => Some(self.lost(events)),
        }
    }

    /// The next event that is there already.
    pub fn try_next(&mut self) -> Option<Arc<Event>> {
        match self.receiver.try_recv() {
            Ok(event) => Some(event),
            Err(broadcast::error::TryRecvError::Lagged(events)) => Some(self.lost(events)),
            Err(_) => None,
        }
    }

    fn lost(&self, events: u64) -> Arc<Event> {
        self.counters.events_lost.add(events);
        let clock = WallTime::read();
        Arc::new(Event {
            time: clock.rfc3339(clock.now).unwrap_or_default(),
            what: EventKind::Lost { events },
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn slow_reader_is_told_how_many_events_it_lost() {
        let counters = Arc::new(Counters::default());
        let events = Events::new(Arc::clone(&counters));
        let mut reader = events.subscribe();

        for _ in 0..EVENTS_MAX + 5 {
            events.publish(EventKind::Lost { events: 0 });
        }

        let first = reader.next().await.expect("the stream is open");
        assert_eq!(first.what, EventKind::Lost { events: 5 });
        assert_eq!(counters.events_lost.get(), 5);
    }

    #[tokio::test]
    async fn stream_ends_when_the_last_publisher_leaves() {
        let events = Events::new(Arc::default());
        let mut reader = events.subscribe();
        drop(events);

        assert!(reader.next().await.is_none());
    }
}
