//! A peer asks us: RFC 7653 §9, RFC 5460 §7.

use alloc::collections::BTreeMap;
use alloc::vec::Vec;

use super::connection::{Connection, Tls, peer_of};
use super::input::{CloseReason, ConnectionId, Remote};
use super::view::Neighbor;
use super::{Context, Shared};
use crate::config::LeasequeryConfig;
use crate::time::Instant;
use crate::types::PeerId;
use crate::wire::iana;
use crate::wire::leasequery::{Status, write_starttls_reply};
use crate::wire::message::Message;

/// What a connection is for.
struct Session {
    peer: PeerId,
}

/// All sessions of accepted connections.
#[derive(Default)]
pub(crate) struct Server {
    sessions: BTreeMap<ConnectionId, Session>,
}

impl Server {
    pub(crate) fn configure(
        &mut self,
        _shared: &mut Shared,
        _cx: &mut Context<'_>,
        _before: &LeasequeryConfig,
    ) {
    }

    pub(crate) fn accepted(
        &mut self,
        shared: &mut Shared,
        cx: &mut Context<'_>,
        id: ConnectionId,
        peer: PeerId,
    ) {
        let (now, timeout) = (cx.now(), BULK_LQ_DATA_TIMEOUT);
        shared
            .connections
            .set_timeouts(now, id, Some(timeout), timeout);
        self.sessions.insert(id, Session { peer });
        cx.changed(Remote::Peer(peer));
    }

    pub(crate) fn tls_up(&mut self, _shared: &mut Shared, cx: &mut Context<'_>, id: ConnectionId) {
        if let Some(session) = self.sessions.get(&id) {
            cx.changed(Remote::Peer(session.peer));
        }
    }

    pub(crate) fn half_closed(
        &mut self,
        shared: &mut Shared,
        cx: &mut Context<'_>,
        id: ConnectionId,
    ) {
        shared.close(cx, id, CloseReason::Remote);
    }

    pub(crate) fn message(
        &mut self,
        shared: &mut Shared,
        cx: &mut Context<'_>,
        id: ConnectionId,
        message: &Message<'_>,
    ) {
        let Some(session) = self.sessions.get(&id) else {
            return;
        };
        match message.message_type {
            iana::STARTTLS => start_tls(shared, cx, id, session.peer, message),
            _ => shared.close(cx, id, CloseReason::ProtocolError),
        }
    }

    pub(crate) fn ended(
        &mut self,
        _shared: &mut Shared,
        cx: &mut Context<'_>,
        id: ConnectionId,
        connection: &Connection,
    ) {
        self.sessions.remove(&id);
        cx.changed(connection.remote);
    }

    pub(crate) fn shutdown(&mut self, shared: &mut Shared, cx: &mut Context<'_>) {
        for id in self.sessions.keys() {
            shared.close(cx, *id, CloseReason::Local);
        }
    }

    pub(crate) fn handle_timeout(&mut self, _shared: &mut Shared, _cx: &mut Context<'_>) {}

    pub(crate) fn pump(&mut self, _shared: &mut Shared, _cx: &mut Context<'_>) {}

    pub(crate) const fn next_time(&self, _shared: &Shared, _now: Instant) -> Option<Instant> {
        None
    }

    pub(crate) fn neighbors(&self, _shared: &Shared) -> Vec<Neighbor> {
        Vec::new()
    }
}

const BULK_LQ_DATA_TIMEOUT: core::time::Duration = core::time::Duration::from_secs(300);

/// STARTTLS: the connection goes on in TLS, or stays as it is.
// req: ALQ-50, ALQ-51, ALQ-54, ALQ-D-20
fn start_tls(
    shared: &mut Shared,
    cx: &mut Context<'_>,
    id: ConnectionId,
    peer: PeerId,
    message: &Message<'_>,
) {
    let Some(connection) = shared.connections.get(id) else {
        return;
    };
    let is_secure = peer_of(&shared.config, connection.remote).is_some_and(|it| it.is_secure);
    let (tls, has_more) = (connection.tls, connection.has_more);
    if tls != Tls::Off || is_secure && has_more {
        return shared.close(cx, id, CloseReason::ProtocolError);
    }
    let refused = Status::new(iana::STATUS_TLS_CONNECTION_REFUSED);
    let status = (!is_secure).then_some(refused);
    let _ = shared.send(cx, id, |buffer| {
        write_starttls_reply(buffer, message.xid, status)
    });
    if is_secure {
        shared.connections.start_tls(cx.out(), id, peer);
    }
}
