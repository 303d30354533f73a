//! TCP connections between relays: bytes in order, after a delay, at a rate; cut at any moment. Decides when
//! what arrives; must not know what the bytes say.

use std::collections::VecDeque;

use relay_core::alq::ConnectionId;

/// One end: the relay and its number for the connection.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct End {
    /// Which relay.
    pub node: usize,
    /// How that relay knows it.
    pub connection: ConnectionId,
}

/// What goes from one end to the other.
#[derive(Clone, Debug)]
pub enum Item {
    /// Bytes.
    Bytes(Vec<u8>),
    /// TLS begins.
    StartTls,
    /// The end.
    Close,
}

/// One direction.
#[derive(Default, Debug)]
pub struct Pipe {
    /// When, in nanoseconds of virtual time, and what.
    pub items: VecDeque<(u64, Item)>,
    /// The writer waits until the reader has taken what is in it.
    pub awaits_writable: bool,
    /// TLS was begun by who writes here.
    pub tls_begun: bool,
    /// Nothing more goes in.
    pub closed: bool,
}

impl Pipe {
    /// Bytes on the way.
    pub fn waiting_bytes(&self) -> usize {
        let len = |item: &Item| match item {
            Item::Bytes(bytes) => bytes.len(),
            Item::StartTls | Item::Close => 0,
        };
        self.items.iter().map(|(_, item)| len(item)).sum()
    }

    /// Puts something in that arrives at `at`, never before what is in it.
    pub fn push(&mut self, at: u64, item: Item) {
        let last = self.items.back().map_or(0, |(at, _)| *at);
        self.items.push_back((at.max(last), item));
    }
}

/// One connection.
#[derive(Debug)]
pub struct Wire {
    /// Who opened it, and who accepted it.
    pub ends: [End; 2],
    /// From each end to the other.
    pub pipes: [Pipe; 2],
    /// Both ends were told that TLS is up.
    pub is_secure: bool,
}

impl Wire {
    /// A new connection.
    pub fn new(opener: End, acceptor: End) -> Self {
        Self {
            ends: [opener, acceptor],
            pipes: [Pipe::default(), Pipe::default()],
            is_secure: false,
        }
    }

    /// Which of the ends this is.
    pub fn side(&self, end: End) -> Option<usize> {
        self.ends.iter().position(|it| *it == end)
    }

    /// Whether it leads from one of these relays to the other.
    pub fn is_between(&self, one: usize, other: usize) -> bool {
        let nodes = self.ends.map(|end| end.node);
        nodes == [one, other] || nodes == [other, one]
    }
}
