//! TCP connections as the core knows them: who may open one, how messages come out of the stream,
//! one buffer at a time toward the other end, and how long either side may block.
//!
//! Decides nothing about queries: it must not know what a message says. RFC 5460 §7.1, §5.1,
//! RFC 7653 §9.1. A connection that ends, however it does, comes out of
//! [`Connections::pop_ended`] once; that is where its owner forgets it.

use alloc::collections::BTreeMap;
use alloc::vec::Vec;
use core::mem;
use core::net::Ipv6Addr;
use core::time::Duration;

use super::input::{CloseReason, ConnectionId, LeasequeryEffect, Remote};
use super::view::{Role, SessionStatistics};
use crate::config::{LEAST_CONNECTIONS_PER_PEER, LeasequeryConfig, Peer};
use crate::effect::Effect;
use crate::outbox::Outbox;
use crate::time::Instant;
use crate::types::PeerId;
use crate::wire::message::HEADER_BYTES;
use crate::wire::tcp_frame::{FrameReader, SIZE_BYTES};

/// Whether what goes over a connection is encrypted.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Tls {
    /// Clear text.
    Off,
    /// The shell shakes hands.
    Handshake,
    /// All that is sent and received.
    On,
}

/// One connection.
#[derive(Debug)]
pub(crate) struct Connection {
    pub(crate) remote: Remote,
    pub(crate) role: Role,
    pub(crate) tls: Tls,
    /// Bytes stand behind the message that is being handled.
    pub(crate) has_more: bool,
    reader: FrameReader,
    is_paused: bool,
    /// The shell has a buffer that it did not say is written.
    is_sending: bool,
    /// What is to follow it.
    behind: Vec<u8>,
    /// No message for so long: closed. `None`: nothing need come.
    receive_timeout: Option<Duration>,
    receive_by: Option<Instant>,
    send_timeout: Duration,
    send_by: Option<Instant>,
    pub(crate) last_sent: Instant,
}

impl Connection {
    /// Whether a buffer can be handed to the shell now.
    pub(crate) const fn is_writable(&self) -> bool {
        !self.is_sending && !matches!(self.tls, Tls::Handshake)
    }
}

/// What is remembered of a peer in one direction over all its connections.
#[derive(Clone, Default, Debug)]
pub(crate) struct Counters {
    pub(crate) statistics: SessionStatistics,
    pub(crate) last_received: Option<Instant>,
    pub(crate) last_sent: Option<Instant>,
    pub(crate) last_error: Option<CloseReason>,
}

/// All connections.
#[derive(Default)]
pub(crate) struct Connections {
    all: BTreeMap<ConnectionId, Connection>,
    counters: BTreeMap<(Remote, Role), Counters>,
    /// Numbers of ours so far.
    opened: u32,
    ended: Vec<(ConnectionId, Connection, CloseReason)>,
    resumed: Vec<ConnectionId>,
}

impl Connections {
    /// Somebody connected: the peer, or `None` where the connection is closed unread.
    // req: BLQ-7, BLQ-8, ALQ-47, ALQ-56, LQ-14
    pub(crate) fn accept(
        &mut self,
        now: Instant,
        out: &mut Outbox,
        config: &LeasequeryConfig,
        id: ConnectionId,
        from: Ipv6Addr,
    ) -> Option<PeerId> {
        let peer = config.peers.iter().find(|peer| peer.address == from);
        let peer = peer.filter(|_| config.enabled);
        if let Some(peer) = peer {
            self.make_room(out, config, peer);
        }
        let Some(peer) = peer.filter(|peer| self.has_room(config, peer)) else {
            refuse(out, id, CloseReason::NotAllowed);
            return None;
        };
        let remote = Remote::Peer(peer.id);
        self.add(now, id, remote, Role::Server);
        Some(peer.id)
    }

    /// Whether one more may be accepted. No peer can take the places of the others. One beyond its
    /// share may show its certificate.
    fn has_room(&self, config: &LeasequeryConfig, peer: &Peer) -> bool {
        self.in_role(Role::Server).count() < config.max_connections
            && self.accepted_of(peer.id).count() < share(config) + usize::from(peer.is_secure)
    }

    /// A peer that comes back knows nothing of connections that broke without a word, for which TCP
    /// still waits here: where it has its share, its oldest one makes room. Not one that has shown
    /// its certificate: anybody who has the peer's address can connect.
    fn make_room(&mut self, out: &mut Outbox, config: &LeasequeryConfig, peer: &Peer) {
        if self.accepted_of(peer.id).count() >= share(config) {
            let all = self.accepted_of(peer.id);
            let may_go = all.filter(|(_, it)| !peer.is_secure || it.tls != Tls::On);
            if let Some(oldest) = oldest(may_go) {
                self.close(out, oldest, CloseReason::Local);
            }
        }
    }

    /// A peer has shown its certificate on one more: where that is beyond its share, its oldest one
    /// makes room.
    pub(crate) fn make_room_beside(
        &mut self,
        out: &mut Outbox,
        config: &LeasequeryConfig,
        (id, peer): (ConnectionId, PeerId),
    ) {
        if self.accepted_of(peer).count() > share(config) {
            let others = self.accepted_of(peer).filter(|(other, _)| *other != id);
            if let Some(oldest) = oldest(others) {
                self.close(out, oldest, CloseReason::Local);
            }
        }
    }

    fn accepted_of(&self, peer: PeerId) -> impl Iterator<Item = (ConnectionId, &Connection)> {
        self.in_role(Role::Server)
            .filter(move |(_, it)| it.remote == Remote::Peer(peer))
    }

    /// Asks the shell for a connection.
    pub(crate) fn open(&mut self, now: Instant, out: &mut Outbox, to: Remote) -> ConnectionId {
        let id = ConnectionId(self.opened.wrapping_mul(2).wrapping_add(1));
        self.opened = self.opened.wrapping_add(1);
        self.add(now, id, to, Role::Requestor);
        let connection = id;
        push(out, LeasequeryEffect::Connect { connection, to });
        id
    }

    fn add(&mut self, now: Instant, id: ConnectionId, remote: Remote, role: Role) {
        let connection = Connection {
            remote,
            role,
            tls: Tls::Off,
            has_more: false,
            reader: FrameReader::default(),
            is_paused: false,
            is_sending: false,
            behind: Vec::new(),
            receive_timeout: None,
            receive_by: None,
            send_timeout: Duration::MAX,
            send_by: None,
            last_sent: now,
        };
        self.all.insert(id, connection);
    }

    pub(crate) fn get(&self, id: ConnectionId) -> Option<&Connection> {
        self.all.get(&id)
    }

    /// Whether the core knows that number: accepted once, and not ended.
    pub(crate) fn contains(&self, id: ConnectionId) -> bool {
        self.all.contains_key(&id)
    }

    /// From now on: closed where no message comes for `receive`, or where the shell does not get
    /// rid of a buffer for `send`.
    pub(crate) fn set_timeouts(
        &mut self,
        now: Instant,
        id: ConnectionId,
        receive: Option<Duration>,
        send: Duration,
    ) {
        if let Some(it) = self.all.get_mut(&id) {
            it.receive_timeout = receive;
            it.receive_by = receive.map(|receive| now + receive);
            it.send_timeout = send;
        }
    }

    /// Hands to the shell what `write` appends, whole messages of at most 64 KiB; behind the buffer
    /// that it still has, where it has one: only who waits for [`Connection::is_writable`] can send
    /// without end. Nothing written is nothing sent.
    pub(crate) fn send<T>(
        &mut self,
        now: Instant,
        out: &mut Outbox,
        id: ConnectionId,
        write: impl FnOnce(&mut Vec<u8>) -> T,
    ) -> Option<T> {
        let it = self.all.get_mut(&id)?;
        let counters = self.counters.entry((it.remote, it.role)).or_default();
        let start;
        let (written, bytes) = if it.is_sending {
            start = it.behind.len();
            (write(&mut it.behind), &it.behind)
        } else {
            start = out.bytes().len();
            (write(out.bytes()), &*out.bytes())
        };
        let bytes = bytes.get(start..).unwrap_or_default();
        if bytes.is_empty() {
            return Some(written);
        }
        count_frames(&mut counters.statistics.messages_sent, bytes);
        counters.last_sent = Some(now);
        it.last_sent = now;
        if !it.is_sending {
            let range = start..start + bytes.len();
            it.hand_over(now, out, id, range);
        }
        Some(written)
    }

    /// The shell has got rid of a buffer, and is given what was to follow it.
    pub(crate) fn writable(&mut self, now: Instant, out: &mut Outbox, id: ConnectionId) {
        let Some(it) = self.all.get_mut(&id) else {
            return;
        };
        it.is_sending = false;
        it.send_by = None;
        if !it.behind.is_empty() {
            let start = out.bytes().len();
            out.bytes().append(&mut it.behind);
            let range = start..out.bytes().len();
            it.hand_over(now, out, id, range);
        }
    }

    /// TLS begins behind all that was sent. `false`, and the connection ends, where bytes came that
    /// the handshake does not protect.
    // req: ALQ-D-19
    pub(crate) fn start_tls(&mut self, out: &mut Outbox, id: ConnectionId, peer: PeerId) -> bool {
        let Some(it) = self.all.get_mut(&id) else {
            return false;
        };
        if it.has_more {
            self.close(out, id, CloseReason::ProtocolError);
            return false;
        }
        it.tls = Tls::Handshake;
        let connection = id;
        push(out, LeasequeryEffect::StartTls { connection, peer });
        true
    }

    /// The handshake is done. Whether one was under way.
    pub(crate) fn tls_up(&mut self, id: ConnectionId) -> bool {
        match self.all.get_mut(&id) {
            Some(it) if it.tls == Tls::Handshake => {
                it.tls = Tls::On;
                true
            }
            _ => false,
        }
    }

    /// Closes, behind all that was sent: what did not fit into one buffer goes out as the last one.
    pub(crate) fn close(&mut self, out: &mut Outbox, id: ConnectionId, reason: CloseReason) {
        if let Some(it) = self.all.get(&id)
            && !it.behind.is_empty()
            && reason != CloseReason::SendTimeout
        {
            let bytes = out.copy(&it.behind);
            let connection = id;
            push(out, LeasequeryEffect::Send { connection, bytes });
        }
        if self.lost(id, reason) {
            refuse(out, id, reason);
        }
    }

    /// It is gone already. Whether it was there.
    // req: ALQ-75
    pub(crate) fn lost(&mut self, id: ConnectionId, reason: CloseReason) -> bool {
        let Some(connection) = self.all.remove(&id) else {
            return false;
        };
        if is_error(reason) {
            let counters = self.counters_mut(connection.remote, connection.role);
            counters.statistics.errors += 1;
            counters.last_error = Some(reason);
        }
        self.ended.push((id, connection, reason));
        true
    }

    /// One that has ended since the last call, for its owner to forget it.
    pub(crate) fn pop_ended(&mut self) -> Option<(ConnectionId, Connection, CloseReason)> {
        self.ended.pop()
    }

    /// Takes bytes of the stream. In the handshake none may come: they are not what TLS protects.
    // req: ALQ-D-19
    pub(crate) fn received(&mut self, out: &mut Outbox, id: ConnectionId, bytes: &[u8]) {
        match self.all.get_mut(&id) {
            Some(it) if it.tls == Tls::Handshake => {
                self.close(out, id, CloseReason::ProtocolError);
            }
            Some(it) => it.reader.extend(bytes),
            None => {}
        }
    }

    /// Whether the last bytes that came are the beginning of a message. While it is paused, messages wait too.
    pub(crate) fn is_within_a_message(&self, id: ConnectionId) -> bool {
        let it = self.all.get(&id);
        it.is_some_and(|it| !it.is_paused && !it.reader.is_empty())
    }

    /// Lends the receiving end of a connection from which messages are to be read.
    pub(crate) fn take_reader(&mut self, id: ConnectionId) -> Option<FrameReader> {
        let it = self.all.get_mut(&id)?;
        let may_read = !it.is_paused && it.tls != Tls::Handshake;
        may_read.then(|| mem::take(&mut it.reader))
    }

    /// Takes it back. Whether more may be read from it at once.
    pub(crate) fn put_reader(&mut self, id: ConnectionId, reader: FrameReader) -> bool {
        match self.all.get_mut(&id) {
            Some(it) => {
                it.reader = reader;
                !it.is_paused && it.tls != Tls::Handshake
            }
            None => false,
        }
    }

    /// A message came, with `has_more` bytes behind it.
    pub(crate) fn heard(
        &mut self,
        now: Instant,
        id: ConnectionId,
        message_type: u8,
        has_more: bool,
    ) {
        let Some(it) = self.all.get_mut(&id) else {
            return;
        };
        it.has_more = has_more;
        // Who asks us has to send its query in time, whatever else it sends. req: ALQ-56
        if it.role == Role::Requestor {
            it.receive_by = it.receive_timeout.map(|timeout| now + timeout);
        }
        let counters = self.counters.entry((it.remote, it.role)).or_default();
        counters.last_received = Some(now);
        count(&mut counters.statistics.messages_received, message_type);
    }

    /// No more messages are read until [`Connections::resume`].
    // req: BLQ-16
    pub(crate) fn pause(&mut self, out: &mut Outbox, id: ConnectionId) {
        if let Some(it) = self.all.get_mut(&id).filter(|it| !it.is_paused) {
            it.is_paused = true;
            let (connection, is_wanted) = (id, false);
            push(
                out,
                LeasequeryEffect::Read {
                    connection,
                    is_wanted,
                },
            );
        }
    }

    /// Messages are read again; those that came meanwhile too.
    pub(crate) fn resume(&mut self, out: &mut Outbox, id: ConnectionId) {
        if let Some(it) = self.all.get_mut(&id).filter(|it| it.is_paused) {
            it.is_paused = false;
            self.resumed.push(id);
            let (connection, is_wanted) = (id, true);
            push(
                out,
                LeasequeryEffect::Read {
                    connection,
                    is_wanted,
                },
            );
        }
    }

    /// One that was resumed since the last call.
    pub(crate) fn pop_resumed(&mut self) -> Option<ConnectionId> {
        self.resumed.pop()
    }

    /// When the next one has blocked for too long.
    pub(crate) fn next_deadline(&self) -> Option<Instant> {
        let deadlines = |it: &Connection| [it.receive_by, it.send_by];
        self.all.values().flat_map(deadlines).flatten().min()
    }

    /// Closes those that have.
    // req: BLQ-9, ALQ-63
    pub(crate) fn close_late(&mut self, now: Instant, out: &mut Outbox) {
        let is_over = |by: Option<Instant>| by.is_some_and(|by| by <= now);
        let reason = |it: &Connection| {
            is_over(it.send_by)
                .then_some(CloseReason::SendTimeout)
                .or(is_over(it.receive_by).then_some(CloseReason::ReceiveTimeout))
        };
        let late: Vec<_> = self
            .all
            .iter()
            .filter_map(|(id, it)| Some((*id, reason(it)?)))
            .collect();
        for (id, reason) in late {
            self.close(out, id, reason);
        }
    }

    /// All in this role, in the order of their numbers.
    pub(crate) fn in_role(&self, role: Role) -> impl Iterator<Item = (ConnectionId, &Connection)> {
        let all = self.all.iter().filter(move |(_, it)| it.role == role);
        all.map(|(id, it)| (*id, it))
    }

    /// What is remembered of one direction of a peer.
    pub(crate) fn counters(&self, remote: Remote, role: Role) -> Option<&Counters> {
        self.counters.get(&(remote, role))
    }

    pub(crate) fn counters_mut(&mut self, remote: Remote, role: Role) -> &mut Counters {
        self.counters.entry((remote, role)).or_default()
    }

    /// Forgets the counters of peers and servers that are not configured any more.
    pub(crate) fn retain(&mut self, is_known: impl Fn(Remote) -> bool) {
        self.counters.retain(|(remote, _), _| is_known(*remote));
    }
}

impl Connection {
    fn hand_over(
        &mut self,
        now: Instant,
        out: &mut Outbox,
        connection: ConnectionId,
        range: core::ops::Range<usize>,
    ) {
        self.is_sending = true;
        self.send_by = Some(now + self.send_timeout);
        let bytes = Outbox::span(range);
        push(out, LeasequeryEffect::Send { connection, bytes });
    }
}

/// The oldest one that asks nothing, else the oldest.
fn oldest<'a>(all: impl Iterator<Item = (ConnectionId, &'a Connection)>) -> Option<ConnectionId> {
    let is_asking = |it: &Connection| it.receive_by.is_none();
    all.map(|(id, it)| (is_asking(it), id))
        .min()
        .map(|(_, id)| id)
}

/// How many connections of one peer are accepted.
fn share(config: &LeasequeryConfig) -> usize {
    let of_each = config.max_connections / config.peers.len().max(1);
    of_each.max(LEAST_CONNECTIONS_PER_PEER)
}

/// Whose TLS and which name: what a peer demands of its connections.
pub(crate) fn peer_of(config: &LeasequeryConfig, remote: Remote) -> Option<&Peer> {
    let Remote::Peer(id) = remote else {
        return None;
    };
    config.peers.iter().find(|peer| peer.id == id)
}

fn push(out: &mut Outbox, effect: LeasequeryEffect) {
    out.push(Effect::Leasequery(effect));
}

/// Closes a connection that is none of ours any more, or never was.
pub(crate) fn refuse(out: &mut Outbox, connection: ConnectionId, reason: CloseReason) {
    push(out, LeasequeryEffect::Close { connection, reason });
}

/// Whether something went wrong.
pub(crate) const fn is_error(reason: CloseReason) -> bool {
    !matches!(reason, CloseReason::Done | CloseReason::Local)
}

/// One more of a kind.
pub(crate) fn count<K: Copy + Ord>(counts: &mut Vec<(K, u64)>, kind: K) {
    match counts.binary_search_by_key(&kind, |(kind, _)| *kind) {
        Ok(at) => {
            if let Some((_, count)) = counts.get_mut(at) {
                *count += 1;
            }
        }
        Err(at) => counts.insert(at, (kind, 1)),
    }
}

/// Counts whole frames by their message type.
fn count_frames(counts: &mut Vec<(u8, u64)>, mut frames: &[u8]) {
    while let Some((size, rest)) = frames.split_first_chunk::<SIZE_BYTES>() {
        let size = usize::from(u16::from_be_bytes(*size)).max(HEADER_BYTES);
        if let Some(message_type) = rest.first() {
            count(counts, *message_type);
        }
        frames = rest.get(size..).unwrap_or_default();
    }
}
