//! Between the core and the connections of leasequery: orders out, what happened in.
//!
//! Decides when the core is given bytes: not while what they would cause has no room on its way to the
//! store or to the route follower, so that a catch-up of a million leases goes as fast as they do. A
//! connection that waits reads nothing meanwhile, and TCP lets the other end wait.

use std::collections::{BTreeMap, VecDeque};
use std::net::Ipv6Addr;

use relay_core::alq::{
    CloseReason, ConnectionId, LeasequeryEffect, LeasequeryInput, Neighbor, Readiness, Remote, Role,
};
use relay_core::input::Input;
use relay_core::relay::Relay;
use relay_core::time::Instant;
use tokio::sync::{mpsc, watch};

use super::to_store::ToStore;
use crate::handle::{LeasequeryEnds, Surroundings};
use crate::leasequery::{Ask, Connections, Order, Target, Told, What};
use crate::routes::Pace;

/// The way to the connections.
pub(super) struct ToLeasequery {
    connections: Connections,
    ready: watch::Sender<Readiness>,
    changes: mpsc::Sender<Vec<Neighbor>>,
    open: BTreeMap<ConnectionId, End>,
    /// Bytes that the core is not given yet: at most one piece of each connection.
    waiting: VecDeque<(ConnectionId, Vec<u8>)>,
    /// Connections that could not even be tried.
    lost: Vec<ConnectionId>,
    /// Why the last connection of each session ended, in words.
    failures: BTreeMap<(Remote, Role), (CloseReason, String)>,
    ends: LeasequeryEnds,
    source: Option<Ipv6Addr>,
}

struct End {
    orders: mpsc::Sender<Order>,
    session: Option<(Remote, Role)>,
    /// The core lets this end wait: it has enough to do with what came.
    waits: bool,
    /// The core has taken what was read, and the connection has not been told yet.
    owes_leave: bool,
}

impl End {
    fn new(orders: mpsc::Sender<Order>, session: Option<(Remote, Role)>) -> Self {
        Self {
            orders,
            session,
            waits: false,
            owes_leave: false,
        }
    }
}

impl ToLeasequery {
    pub(super) fn new(
        connections: Connections,
        ready: watch::Sender<Readiness>,
        changes: mpsc::Sender<Vec<Neighbor>>,
    ) -> Self {
        Self {
            connections,
            ready,
            changes,
            open: BTreeMap::new(),
            waiting: VecDeque::new(),
            lost: Vec::new(),
            failures: BTreeMap::new(),
            ends: LeasequeryEnds::default(),
            source: None,
        }
    }

    /// Who is where, from now on.
    pub(super) fn surround(&mut self, new: &Surroundings) {
        self.ends.clone_from(&new.leasequery);
        self.source = new.source_address;
    }

    /// Carries out what the core has decided.
    pub(super) fn obey(&mut self, relay: &Relay, effect: LeasequeryEffect, store: &mut ToStore) {
        match effect {
            LeasequeryEffect::Connect { connection, to } => self.connect(connection, to),
            LeasequeryEffect::Send { connection, bytes } => {
                let bytes = relay.message(bytes).to_vec();
                self.order(connection, Order::Send(bytes));
            }
            LeasequeryEffect::Read {
                connection,
                is_wanted,
            } => {
                if let Some(end) = self.open.get_mut(&connection) {
                    end.waits = !is_wanted;
                }
                self.give_leave(connection);
            }
            LeasequeryEffect::StartTls { connection, peer } => {
                let target = self.target(Remote::Peer(peer));
                match target.and_then(|target| target.tls_name.clone()) {
                    Some(name) => self.order(connection, Order::StartTls(name)),
                    // A reload has taken the peer, or its TLS, away.
                    None => self.lose(connection),
                }
            }
            LeasequeryEffect::Close { connection, reason } => {
                tracing::debug!(?connection, reason = reason.name(), "closed here");
                self.order(
                    connection,
                    match reason {
                        CloseReason::SendTimeout => Order::Cut,
                        _ => Order::Close,
                    },
                );
                self.open.remove(&connection);
                self.waiting.retain(|(it, _)| *it != connection);
            }
            LeasequeryEffect::Remember(memory) => store.remember(memory),
            LeasequeryEffect::Changed(remote) => {
                let mut neighbors = self.neighbors(relay);
                neighbors.retain(|neighbor| neighbor.remote == remote);
                // Full: what is told is a state, and the next change tells it too.
                let _ = self.changes.try_send(neighbors);
            }
            LeasequeryEffect::Readiness => self.tell_readiness(relay),
        }
    }

    /// For the file, `twinrelay ready`, metrics and the log.
    pub(super) fn tell_readiness(&self, relay: &Relay) {
        self.ready.send_replace(relay.readiness());
    }

    fn connect(&mut self, connection: ConnectionId, to: Remote) {
        let Some(target) = self.target(to).cloned() else {
            return self.lost.push(connection);
        };
        let limits = self.ends.limits;
        let orders = self
            .connections
            .open(connection, target, self.source, limits);
        let session = Some((to, Role::Requestor));
        self.open.insert(connection, End::new(orders, session));
    }

    fn target(&self, remote: Remote) -> Option<&Target> {
        let mut remotes = self.ends.remotes.iter();
        remotes
            .find(|(it, _)| *it == remote)
            .map(|(_, target)| target)
    }

    fn lose(&mut self, connection: ConnectionId) {
        if self.open.remove(&connection).is_some() {
            self.lost.push(connection);
        }
    }

    fn order(&mut self, connection: ConnectionId, order: Order) {
        let Some(end) = self.open.get(&connection) else {
            return;
        };
        // Full cannot be, since each order waits for an answer; a task that has ended has said so.
        if end.orders.try_send(order).is_err() {
            tracing::debug!(?connection, "the connection takes no orders any more");
        }
    }

    /// How soon routes are wanted that peers told. Before this relay is ready nothing is sent to it, and they are
    /// most of what there is: in the order of their destinations a bare sender installs a million in two thirds of the
    /// time. Those of Replies overtake them.
    pub(super) fn pace(&self) -> Pace {
        match self.ready.borrow().is_ready {
            true => Pace::Now,
            false => Pace::InTurn,
        }
    }

    /// Whether bytes wait for the core.
    pub(super) fn is_waiting(&self) -> bool {
        !self.waiting.is_empty()
    }

    /// Takes what happened. `true`: the effects are to be carried out, and then
    /// [`ToLeasequery::read_on`].
    pub(super) fn hear(
        &mut self,
        relay: &mut Relay,
        now: Instant,
        told: Told,
        is_crowded: bool,
    ) -> bool {
        let Told { connection, what } = told;
        if let What::Accepted(from, orders) = what {
            let peer = self.ends.remotes.iter().find_map(|(remote, target)| {
                let is_it = matches!(remote, Remote::Peer(_)) && *target.address.ip() == from;
                is_it.then_some((*remote, Role::Server))
            });
            let session = peer;
            self.open.insert(connection, End::new(orders, session));
            give(relay, now, LeasequeryInput::Accepted { connection, from });
            return true;
        }
        // Whatever it says, the core has closed it.
        let Some(end) = self.open.get(&connection) else {
            return false;
        };
        match what {
            What::Received(bytes) if is_crowded || self.is_waiting() => {
                self.waiting.push_back((connection, bytes));
                return false;
            }
            What::Received(bytes) => {
                let bytes = &bytes[..];
                give(relay, now, LeasequeryInput::Received { connection, bytes });
                return true;
            }
            What::Connected => {
                give(relay, now, LeasequeryInput::Connected { connection });
                return true;
            }
            What::Accepted(..) => {}
            What::Writable => give(relay, now, LeasequeryInput::Writable { connection }),
            What::TlsUp => give(relay, now, LeasequeryInput::TlsUp { connection }),
            What::HalfClosed => give(relay, now, LeasequeryInput::HalfClosed { connection }),
            What::Closed(reason, text) => {
                if let Some(session) = end.session {
                    self.failures.insert(session, (reason, text));
                }
                self.open.remove(&connection);
                give(relay, now, LeasequeryInput::Closed { connection, reason });
            }
        }
        false
    }

    /// The core has taken what was read: the connection may read on.
    pub(super) fn read_on(&mut self, connection: ConnectionId) {
        if let Some(end) = self.open.get_mut(&connection) {
            end.owes_leave = true;
        }
        self.give_leave(connection);
    }

    fn give_leave(&mut self, connection: ConnectionId) {
        let end = self.open.get_mut(&connection);
        if let Some(end) = end.filter(|end| end.owes_leave && !end.waits) {
            end.owes_leave = false;
            self.order(connection, Order::More);
        }
    }

    /// One piece that waited, now that there is room for what it causes: of which connection.
    pub(super) fn give_waiting(&mut self, relay: &mut Relay, now: Instant) -> Option<ConnectionId> {
        let (connection, bytes) = self.waiting.pop_front()?;
        let bytes = &bytes[..];
        give(relay, now, LeasequeryInput::Received { connection, bytes });
        Some(connection)
    }

    /// Connections that could not be tried have failed.
    pub(super) fn give_lost(&mut self, relay: &mut Relay, now: Instant) {
        for connection in std::mem::take(&mut self.lost) {
            let reason = CloseReason::ConnectFailed;
            give(relay, now, LeasequeryInput::Closed { connection, reason });
        }
    }

    /// Whether [`ToLeasequery::give_lost`] has something to give.
    pub(super) fn has_lost(&self) -> bool {
        !self.lost.is_empty()
    }

    /// Sessions, each with the words for how its last connection ended.
    pub(super) fn neighbors(&self, relay: &Relay) -> Vec<Neighbor> {
        let mut neighbors = relay.neighbors();
        for neighbor in &mut neighbors {
            let failure = self.failures.get(&(neighbor.remote, neighbor.role));
            if let (Some(error), Some((reason, text))) = (&mut neighbor.last_error, failure)
                && error == reason.name()
            {
                *error = format!("{error}: {text}");
            }
        }
        neighbors
    }

    /// Whether connections are open.
    pub(super) fn is_idle(&self) -> bool {
        self.open.is_empty()
    }
}

/// What an operator asks.
pub(super) fn ask(relay: &mut Relay, now: Instant, ask: Ask) {
    let input = match ask {
        Ask::Resync(peer) => LeasequeryInput::Resync(peer),
        Ask::QueryServer(server) => LeasequeryInput::QueryServer(server),
    };
    give(relay, now, input);
}

/// One input of leasequery.
pub(super) fn give(relay: &mut Relay, now: Instant, input: LeasequeryInput<'_>) {
    relay.handle_input(now, Input::Leasequery(input));
}

#[cfg(test)]
mod tests;
