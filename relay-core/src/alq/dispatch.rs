//! [`Leasequery`]: which part an input is for, and what follows from it.
//!
//! Decides only the order of things: messages of a connection one after the other, ends of
//! connections told to their owners once, changes of the table to peers after the input that made
//! them. Must not know what a message says.

use core::time::Duration;

use alloc::vec::Vec;
use core::net::Ipv6Addr;

use super::connection::{self, Connection, Connections};
use super::individual::{Heard, Individual};
use super::input::{CloseReason, ConnectionId, LeasequeryInput, Remote};
use super::requestor::Requestor;
use super::server::Server;
use super::view::{Neighbor, Readiness, Role};
use super::{Context, Shared};
use crate::binding::Bindings;
use crate::config::LeasequeryConfig;
use crate::relaying::transaction::Exchange;
use crate::time::Instant;
use crate::types::ServerId;
use crate::wire::message::Message;
use crate::wire::tcp_frame::FrameReader;

/// A clock that is set back by less is slewed: that of a message leaves as much out.
const NOTICED_SET_BACK: Duration = Duration::from_secs(1);

/// All of Leasequery.
pub(crate) struct Leasequery {
    shared: Shared,
    server: Server,
    requestor: Requestor,
    individual: Individual,
}

impl Leasequery {
    /// `key` makes what must not be guessed.
    pub(crate) fn new(config: LeasequeryConfig, key: [u8; 16]) -> Self {
        Self {
            individual: Individual::new(key),
            requestor: Requestor::default(),
            server: Server::default(),
            shared: Shared::new(config),
        }
    }

    /// New surroundings.
    pub(crate) fn configure(&mut self, cx: &mut Context<'_>, config: LeasequeryConfig) {
        if self.shared.config != config {
            let before = core::mem::replace(&mut self.shared.config, config);
            self.server.configure(&mut self.shared, cx, &before);
            self.requestor.configure(&mut self.shared, cx, &before);
            let config = &self.shared.config;
            self.shared.connections.retain(|remote| match remote {
                Remote::Peer(id) => config.peers.iter().any(|peer| peer.id == id),
                Remote::Server(id) => config.bulk_servers.contains(&id),
            });
            self.settle(cx);
        }
    }

    /// The wall clock was set.
    pub(crate) fn set_clock(&mut self, cx: &mut Context<'_>, ahead_nanos: i64) {
        let set_back = self.shared.clock.set(ahead_nanos);
        if set_back >= NOTICED_SET_BACK {
            self.server.clock_set_back(&mut self.shared, cx);
        }
    }

    /// Takes one input.
    pub(crate) fn handle_input(&mut self, cx: &mut Context<'_>, input: LeasequeryInput<'_>) {
        let shared = &mut self.shared;
        match input {
            LeasequeryInput::Accepted { connection, from } => self.accept(cx, connection, from),
            LeasequeryInput::Connected { connection } => {
                if is_ours(&shared.connections, connection) {
                    self.requestor.connected(shared, cx, connection);
                }
            }
            LeasequeryInput::Received { connection, bytes } => {
                shared.connections.received(cx.act.out, connection, bytes);
                self.read(cx, connection);
            }
            LeasequeryInput::Writable { connection } => {
                // What comes next is pumped; queries of ours are one buffer each.
                let now = cx.now();
                shared.connections.writable(now, cx.out(), connection);
            }
            LeasequeryInput::TlsUp { connection } => {
                if shared.connections.tls_up(connection) {
                    match is_ours(&shared.connections, connection) {
                        true => self.requestor.tls_up(shared, cx, connection),
                        false => self.server.tls_up(shared, cx, connection),
                    }
                    self.read(cx, connection);
                }
            }
            // req: BLQ-5
            LeasequeryInput::HalfClosed { connection }
                if shared.connections.is_within_a_message(connection) =>
            {
                shared.close(cx, connection, CloseReason::ProtocolError);
            }
            LeasequeryInput::HalfClosed { connection } => {
                match is_ours(&shared.connections, connection) {
                    true => shared.close(cx, connection, CloseReason::Remote),
                    false => self.server.half_closed(shared, cx, connection),
                }
            }
            LeasequeryInput::Closed { connection, reason } => {
                let reason = self.server.reason_of_end(connection, reason);
                shared.connections.lost(connection, reason);
            }
            LeasequeryInput::Restore(memory) => {
                shared.memories.insert(memory.peer, memory);
            }
            LeasequeryInput::Resync(peer) => self.requestor.resync(shared, cx, peer),
            LeasequeryInput::QueryServer(server) => {
                self.requestor.query_server(shared, cx, server);
            }
            LeasequeryInput::Loaded => {
                shared.is_loaded = true;
                cx.bindings.begin_history(cx.act.now);
                self.requestor.loaded(shared, cx);
            }
            LeasequeryInput::Shutdown => {
                shared.is_ending = true;
                self.server.shutdown(shared, cx);
                self.requestor.shutdown(shared, cx);
            }
        }
        self.settle(cx);
    }

    /// A message of a client is on its way to the servers.
    pub(crate) fn forwarded(&mut self, cx: &Context<'_>, heard: Heard, message: &Message<'_>) {
        self.individual.confirm(cx, heard, message);
    }

    /// A server says that a client's addresses are good where it is now.
    pub(crate) fn confirmed(
        &mut self,
        cx: &mut Context<'_>,
        exchange: &Exchange,
        servers: &[ServerId],
    ) {
        self.individual
            .confirmed(&self.shared, cx, exchange, servers);
    }

    /// A LEASEQUERY-REPLY came over UDP. `false` where nothing asked for it.
    pub(crate) fn answered(
        &mut self,
        cx: &mut Context<'_>,
        from: Ipv6Addr,
        message: &Message<'_>,
    ) -> bool {
        self.individual.answer(&self.shared, cx, from, message)
    }

    /// Does what has become due.
    pub(crate) fn handle_timeout(&mut self, cx: &mut Context<'_>) {
        self.shared.connections.close_late(cx.act.now, cx.act.out);
        self.server.handle_timeout(&mut self.shared, cx);
        self.requestor.handle_timeout(&mut self.shared, cx);
        self.individual.handle_timeout(&self.shared, cx);
        self.settle(cx);
    }

    /// Tells peers what has changed, on connections that can take it. After every input.
    pub(crate) fn pump(&mut self, cx: &mut Context<'_>) {
        self.server.pump(&mut self.shared, cx);
        self.settle(cx);
        self.requestor.look(&self.shared, cx);
    }

    /// Whether some peer was not told of all changes, or is not there to be told.
    pub(crate) fn is_anybody_behind(&self, bindings: &Bindings) -> bool {
        self.server.is_anybody_behind(&self.shared, bindings)
    }

    /// Whether this relay may attract traffic.
    pub(crate) const fn readiness(&self) -> &Readiness {
        self.requestor.readiness()
    }

    /// When [`Leasequery::handle_timeout`] is due.
    pub(crate) fn next_time(&self, bindings: &Bindings, now: Instant) -> Option<Instant> {
        let times = [
            self.shared.connections.next_deadline(),
            self.server.next_time(&self.shared, bindings, now),
            self.requestor.next_time(&self.shared, now),
            self.individual.next_time(),
        ];
        times.into_iter().flatten().min()
    }

    /// Each peer and direction, and each server.
    pub(crate) fn neighbors(&self, bindings: &Bindings, now: Instant) -> Vec<Neighbor> {
        let mut all = self.server.neighbors(&self.shared, bindings, now);
        all.extend(self.requestor.neighbors(&self.shared));
        all.sort_by_key(|it| (it.remote, it.role));
        all
    }

    fn accept(&mut self, cx: &mut Context<'_>, id: ConnectionId, from: Ipv6Addr) {
        let shared = &mut self.shared;
        if shared.is_ending {
            return connection::refuse(cx.out(), id, CloseReason::Local);
        }
        if shared.connections.contains(id) {
            return;
        }
        let (now, out) = (cx.act.now, &mut *cx.act.out);
        let peer = shared
            .connections
            .accept(now, out, &shared.config, id, from);
        if let Some(peer) = peer {
            self.server.accepted(shared, cx, id, peer);
            self.requestor.peer_connected(shared, cx, peer);
        }
    }

    /// Handles the messages that have come, as long as more are wanted.
    fn read(&mut self, cx: &mut Context<'_>, id: ConnectionId) {
        while let Some(mut reader) = self.shared.connections.take_reader(id) {
            let is_handled = self.read_one(cx, id, &mut reader);
            if !self.shared.connections.put_reader(id, reader) || !is_handled {
                return;
            }
        }
    }

    fn read_one(
        &mut self,
        cx: &mut Context<'_>,
        id: ConnectionId,
        reader: &mut FrameReader,
    ) -> bool {
        let shared = &mut self.shared;
        let has_more = reader.has_more();
        let Some(message) = reader.next_message() else {
            return false;
        };
        let Ok(message) = message else {
            // req: BLQ-5
            shared.close(cx, id, CloseReason::ProtocolError);
            return false;
        };
        let now = cx.now();
        shared
            .connections
            .heard(now, id, message.message_type, has_more);
        match is_ours(&shared.connections, id) {
            true => self.requestor.message(shared, cx, id, &message),
            false => self.server.message(shared, cx, id, &message),
        }
        true
    }

    /// What follows from what was done: ends are told, and whoever reads again reads.
    fn settle(&mut self, cx: &mut Context<'_>) {
        loop {
            if let Some((id, connection, reason)) = self.shared.connections.pop_ended() {
                self.ended(cx, id, &connection, reason);
            } else if let Some(id) = self.shared.connections.pop_resumed() {
                self.read(cx, id);
            } else {
                return;
            }
        }
    }

    fn ended(
        &mut self,
        cx: &mut Context<'_>,
        id: ConnectionId,
        connection: &Connection,
        reason: CloseReason,
    ) {
        match connection.role {
            Role::Requestor => self.requestor.ended(&mut self.shared, cx, id, reason),
            Role::Server => self.server.ended(&mut self.shared, cx, id, connection),
        }
    }
}

/// Whether we opened it.
fn is_ours(connections: &Connections, id: ConnectionId) -> bool {
    connections
        .get(id)
        .is_some_and(|it| it.role == Role::Requestor)
}
