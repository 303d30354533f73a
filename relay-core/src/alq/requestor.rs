//! We ask other relays and servers: RFC 7653 §8, RFC 5460 §6.

use alloc::vec::Vec;

use super::connection::Connection;
use super::input::{CloseReason, ConnectionId};
use super::view::Neighbor;
use super::{Context, Shared};
use crate::config::LeasequeryConfig;
use crate::time::Instant;
use crate::types::{PeerId, ServerId};
use crate::wire::message::Message;

/// All our sessions.
pub(crate) struct Requestor;

impl Requestor {
    pub(crate) const fn new(_config: &LeasequeryConfig) -> Self {
        Self
    }

    /// New surroundings: `shared.config` is new, `before` was the old.
    pub(crate) fn configure(
        &mut self,
        _shared: &mut Shared,
        _cx: &mut Context<'_>,
        _before: &LeasequeryConfig,
    ) {
    }

    /// The store has handed out all; [`Shared::memory`] is complete.
    pub(crate) fn loaded(&mut self, _shared: &mut Shared, _cx: &mut Context<'_>) {}

    /// A connection of ours is open.
    pub(crate) fn connected(
        &mut self,
        _shared: &mut Shared,
        _cx: &mut Context<'_>,
        _id: ConnectionId,
    ) {
    }

    /// The handshake on a connection of ours is done.
    pub(crate) fn tls_up(
        &mut self,
        _shared: &mut Shared,
        _cx: &mut Context<'_>,
        _id: ConnectionId,
    ) {
    }

    /// A connection of ours can take another buffer.
    pub(crate) fn writable(
        &mut self,
        _shared: &mut Shared,
        _cx: &mut Context<'_>,
        _id: ConnectionId,
    ) {
    }

    /// A message came on a connection of ours; timers and counters know of it.
    pub(crate) fn message(
        &mut self,
        _shared: &mut Shared,
        _cx: &mut Context<'_>,
        _id: ConnectionId,
        _message: &Message<'_>,
    ) {
    }

    /// A connection of ours has ended, whoever ended it.
    pub(crate) fn ended(
        &mut self,
        _shared: &mut Shared,
        _cx: &mut Context<'_>,
        _id: ConnectionId,
        _connection: &Connection,
        _reason: CloseReason,
    ) {
    }

    /// A peer has connected to us: it is back (ALQ-D-18).
    pub(crate) fn peer_connected(
        &mut self,
        _shared: &mut Shared,
        _cx: &mut Context<'_>,
        _peer: PeerId,
    ) {
    }

    /// An operator wants all of a peer, or of all, anew.
    pub(crate) fn resync(
        &mut self,
        _shared: &mut Shared,
        _cx: &mut Context<'_>,
        _peer: Option<PeerId>,
    ) {
    }

    /// An operator wants a server asked, or all.
    pub(crate) fn query_server(
        &mut self,
        _shared: &mut Shared,
        _cx: &mut Context<'_>,
        _server: Option<ServerId>,
    ) {
    }

    /// The daemon ends.
    pub(crate) fn shutdown(&mut self, _shared: &mut Shared, _cx: &mut Context<'_>) {}

    /// Does what has become due.
    pub(crate) fn handle_timeout(&mut self, _shared: &mut Shared, _cx: &mut Context<'_>) {}

    /// When something will be due, besides the deadlines of connections.
    pub(crate) const fn next_time(&self, _shared: &Shared, _now: Instant) -> Option<Instant> {
        None
    }

    /// For `show`.
    pub(crate) fn neighbors(&self, _shared: &Shared) -> Vec<Neighbor> {
        Vec::new()
    }
}
