//! What the shell tells about connections, and what it is to do with them.
//!
//! One buffer at a time goes out on each connection: the next [`LeasequeryEffect::Send`] follows only after
//! [`LeasequeryInput::Writable`], and messages are built then, from the state of that moment
//! (RFC 7653 §7). So a peer that does not read costs one buffer, whatever happens meanwhile.

use core::net::Ipv6Addr;

use crate::effect::Span;
use crate::time::Instant;
use crate::types::{PeerId, ServerId};

/// A TCP connection. Those that we open have odd numbers, given by the core; accepted ones even
/// numbers, given by the shell. No number comes twice.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct ConnectionId(pub u32);

/// The other end.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Remote {
    /// Another relay.
    Peer(PeerId),
    /// A DHCP server with `bulk_leasequery`.
    Server(ServerId),
}

/// Something happened to a connection.
#[derive(Clone, Copy, Debug)]
pub enum LeasequeryInput<'a> {
    /// Somebody connected to us. Nothing was read yet.
    Accepted {
        /// Its number.
        connection: ConnectionId,
        /// Who, by address.
        from: Ipv6Addr,
    },
    /// A [`LeasequeryEffect::Connect`] succeeded.
    Connected {
        /// Its number.
        connection: ConnectionId,
    },
    /// Bytes came, in the clear; after [`LeasequeryEffect::StartTls`] only what TLS has decrypted.
    Received {
        /// Where.
        connection: ConnectionId,
        /// In any pieces, at most 64 KiB at once.
        bytes: &'a [u8],
    },
    /// The last [`LeasequeryEffect::Send`] is in the hands of the kernel.
    Writable {
        /// Where.
        connection: ConnectionId,
    },
    /// The TLS handshake is done, and the peer's certificate bears the name of the peer.
    TlsUp {
        /// Where.
        connection: ConnectionId,
    },
    /// The other end will send no more; it may still read (BLQ-31).
    HalfClosed {
        /// Where.
        connection: ConnectionId,
    },
    /// It could not be opened, TLS failed, or it is gone. The last that is heard of it, except after
    /// [`LeasequeryEffect::Close`], which nothing answers.
    Closed {
        /// Which.
        connection: ConnectionId,
        /// What the shell knows of why.
        reason: CloseReason,
    },
    /// What the store remembers of a peer. Before the first connection.
    Restore(PeerMemory),
    /// An operator drops what is known of a peer's progress: catch up from nothing. `None`: all.
    Resync(Option<PeerId>),
    /// An operator asks a server by Bulk Leasequery now. `None`: all that have it.
    QueryServer(Option<ServerId>),
    /// The store has handed out all that it holds: queries may be answered, sessions begin.
    /// req: ALQ-D-27
    Loaded,
    /// The daemon ends: say so on all connections.
    Shutdown,
}

/// What must survive of one peer.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct PeerMemory {
    /// Which.
    pub peer: PeerId,
    /// Its base-time from which we ask next (ALQ-10, ALQ-36): seconds since 2000 of its clock.
    pub resume_point: Option<u32>,
    /// Stands for the DUID of the relay whose clock that is; `None`: not known.
    pub server: Option<u64>,
    /// The oldest change that it was not told when its connection ended (ALQ-D-25).
    pub unsent_since: Option<Instant>,
}

/// Why a connection ended, as the shell sees it or as the core tells it.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum CloseReason {
    /// TCP: refused, unreachable, timed out.
    ConnectFailed,
    /// The other end closed or reset it.
    Remote,
    /// TLS: alert, garbage, no common version.
    TlsFailed,
    /// TLS: the certificate is not of this peer, not of our CA, or not valid now.
    TlsCertificate,
    /// Not in the list of peers, or beyond `max_connections`.
    NotAllowed,
    /// Clear text where TLS is demanded, or TLS refused.
    TlsRequired,
    /// The stream or a message breaks a rule (BLQ-5, ALQ-42).
    ProtocolError,
    /// Nothing was heard for too long (ALQ-29, BLQ-9).
    ReceiveTimeout,
    /// Nothing could be sent for too long (ALQ-27, ALQ-63).
    SendTimeout,
    /// The query was answered with an error, or answered for good.
    Done,
    /// A new configuration, a resync or the end of the daemon.
    Local,
}

impl CloseReason {
    /// The label in `show` and in counters.
    pub const fn name(self) -> &'static str {
        match self {
            Self::ConnectFailed => "connect failed",
            Self::Remote => "closed by the peer",
            Self::TlsFailed => "TLS failed",
            Self::TlsCertificate => "certificate refused",
            Self::NotAllowed => "not allowed",
            Self::TlsRequired => "TLS required",
            Self::ProtocolError => "protocol error",
            Self::ReceiveTimeout => "receive timeout",
            Self::SendTimeout => "send timeout",
            Self::Done => "done",
            Self::Local => "closed here",
        }
    }
}

/// Something for the shell to do.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum LeasequeryEffect {
    /// Open a connection from the relay's source address.
    Connect {
        /// Its number from now on.
        connection: ConnectionId,
        /// Where to: address and port are those of the configuration.
        to: Remote,
    },
    /// Send these bytes, then say [`LeasequeryInput::Writable`]. Before that comes no other, except
    /// one right before [`LeasequeryEffect::Close`].
    Send {
        /// Where.
        connection: ConnectionId,
        /// At most 64 KiB, whole messages.
        bytes: Span,
    },
    /// Whether bytes are to be read from it; at first they are. What is on its way already is taken
    /// all the same (BLQ-16).
    Read {
        /// Where.
        connection: ConnectionId,
        /// Read on, or let them wait at the other end.
        is_wanted: bool,
    },
    /// TLS begins, behind all that was sent. The opener is the TLS client. Bytes that were received
    /// behind the last message are an error that the core has looked for (ALQ-D-19).
    StartTls {
        /// Where.
        connection: ConnectionId,
        /// Whose name the certificate must bear.
        peer: PeerId,
    },
    /// Close, behind all that was sent; after [`CloseReason::SendTimeout`] without waiting for that.
    Close {
        /// Which.
        connection: ConnectionId,
        /// Why: for the log and the counters.
        reason: CloseReason,
    },
    /// Store this, not before all that was to be stored until now (ALQ-D-25).
    Remember(PeerMemory),
    /// A session with a peer has come to another state: for `monitor`, the log and metrics, which
    /// look at [`crate::relay::Relay::neighbors`].
    Changed(Remote),
    /// [`crate::relay::Relay::readiness`] is another.
    Readiness,
}
