//! Leasequery over TCP (RFC 5460, RFC 7653): listening, connecting, and one task for each connection,
//! which moves bytes and switches to TLS in place.
//!
//! Decides nothing of the protocol: what the bytes mean, who may connect and when a connection ends
//! is the core's business (`relay_core::alq`). Between a task and the relay thread there is never
//! more than one buffer each way: the task reads on when the core has taken what it read, and the
//! core builds the next message when the last one is in the hands of the kernel.
//!
//! ```text
//! listener, connector ─▶ connection task ══ TCP, TLS ══ peer
//!                          │ Told        ▲ Order
//!                          ▼             │
//!                        relay thread (core)
//! ```

pub mod alarm;
pub mod clock;
mod connection;
pub mod init;
mod listener;
pub mod ready;
pub mod tell;
pub mod tls;

use std::net::{Ipv6Addr, SocketAddrV6};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use relay_core::alq::{CloseReason, ConnectionId};
use relay_core::types::{PeerId, ServerId};
use rustls::pki_types::ServerName;
use tokio::runtime::Handle;
use tokio::sync::{mpsc, watch};
use tokio_util::task::TaskTracker;

use crate::handle::RelayHandle;
use connection::{Connection, Way};
use tls::{Clock, Tls};

pub use listener::{Admission, Listeners, Refused};

/// Orders of the core that wait for a connection's task: a buffer to send, the begin of TLS, leave to
/// read on, the end.
const ORDERS_MAX: usize = 8;

/// What the core has a connection do, in this order.
#[derive(Debug)]
pub enum Order {
    /// Send these bytes; [`What::Writable`] answers.
    Send(Vec<u8>),
    /// TLS begins, with a peer whose certificate bears this name.
    StartTls(ServerName<'static>),
    /// The core has taken what was read: read on.
    More,
    /// The end, behind all that was to be sent.
    Close,
    /// The end, now: the other end does not read.
    Cut,
}

/// What a connection tells the core.
#[derive(Debug)]
pub struct Told {
    /// Which.
    pub connection: ConnectionId,
    /// What.
    pub what: What,
}

/// What happened on a connection; [`relay_core::alq::LeasequeryInput`] has the same words.
#[derive(Debug)]
pub enum What {
    /// Somebody connected; orders go there.
    Accepted(Ipv6Addr, mpsc::Sender<Order>),
    /// Connecting succeeded.
    Connected,
    /// Bytes came. No more are read until [`Order::More`].
    Received(Vec<u8>),
    /// The last [`Order::Send`] is in the hands of the kernel.
    Writable,
    /// The handshake is done.
    TlsUp,
    /// The other end sends no more.
    HalfClosed,
    /// It is gone: why, and in words.
    Closed(CloseReason, String),
}

/// What an operator has the core do about leasequery.
#[derive(Debug)]
pub enum Ask {
    /// [`relay_core::alq::LeasequeryInput::Resync`].
    Resync(Option<PeerId>),
    /// [`relay_core::alq::LeasequeryInput::QueryServer`].
    QueryServer(Option<ServerId>),
}

/// Who is at the other end of a connection that we open, or may be at that of one that we accept.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Target {
    /// As configured.
    pub name: String,
    /// Where it is.
    pub address: SocketAddrV6,
    /// Its certificate bears this name; `None` where it never will be asked for one.
    pub tls_name: Option<ServerName<'static>>,
}

/// How connections behave.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Limits {
    /// What was sent and is not acknowledged for so long ends the connection.
    pub send_timeout: Duration,
    /// Connections of one peer that are accepted and not ended yet.
    pub accepted_max: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            send_timeout: Duration::from_secs(120),
            accepted_max: 10,
        }
    }
}

/// What all connections share; cheap to clone.
#[derive(Clone, Debug)]
pub struct Connections {
    runtime: Handle,
    relay: RelayHandle,
    shelf: Arc<Shelf>,
    tasks: TaskTracker,
}

/// TLS as it is at present.
#[derive(Debug)]
struct Shelf {
    tls: watch::Sender<Option<Arc<Tls>>>,
    clock: Clock,
    /// Even numbers, for connections that are accepted.
    next: AtomicU32,
}

impl Connections {
    /// None yet.
    pub fn new(runtime: Handle, relay: RelayHandle, clock: Clock) -> Self {
        let shelf = Shelf {
            tls: watch::Sender::new(None),
            clock,
            next: AtomicU32::new(0),
        };
        Self {
            runtime,
            relay,
            shelf: Arc::new(shelf),
            tasks: TaskTracker::new(),
        }
    }

    /// New sessions use these certificates; running ones stay as they are.
    pub fn use_tls(&self, tls: Option<Arc<Tls>>) {
        self.shelf.tls.send_replace(tls);
    }

    /// The present certificates.
    pub fn tls(&self) -> Option<Arc<Tls>> {
        self.shelf.tls.borrow().clone()
    }

    /// Says when there are others.
    pub fn watch_tls(&self) -> watch::Receiver<Option<Arc<Tls>>> {
        self.shelf.tls.subscribe()
    }

    /// By what certificates are judged.
    pub fn clock(&self) -> Clock {
        self.shelf.clock
    }

    /// Opens a connection from this address.
    pub fn open(
        &self,
        connection: ConnectionId,
        to: Target,
        from: Option<Ipv6Addr>,
        limits: Limits,
    ) -> mpsc::Sender<Order> {
        let (orders, receiver) = mpsc::channel(ORDERS_MAX);
        let all = self.clone();
        let task = async move {
            match connection::connect(&to, from, limits).await {
                Ok(stream) => {
                    let way = Way::Opened(to.name);
                    Connection::new(connection, stream, receiver, all, way)
                        .run(What::Connected)
                        .await;
                }
                Err(error) => {
                    let text = format!("cannot connect to {}: {error}", to.address);
                    let what = What::Closed(CloseReason::ConnectFailed, text);
                    connection::tell(&all.relay, Told { connection, what }).await;
                }
            }
        };
        self.tasks.spawn_on(task, &self.runtime);
        orders
    }

    /// Takes a connection that was accepted.
    fn accept(&self, stream: tokio::net::TcpStream, from: Ipv6Addr) -> tokio::task::JoinHandle<()> {
        let connection = ConnectionId(self.shelf.next.fetch_add(2, Ordering::Relaxed));
        let (orders, receiver) = mpsc::channel(ORDERS_MAX);
        let way = Way::Accepted(from);
        let accepted = Connection::new(connection, stream, receiver, self.clone(), way);
        let task = accepted.run(What::Accepted(from, orders));
        self.tasks.spawn_on(task, &self.runtime)
    }

    /// Waits until all have ended, at most so long.
    pub async fn ended(&self, patience: Duration) {
        self.tasks.close();
        // Those that are left are cut.
        let _ = tokio::time::timeout(patience, self.tasks.wait()).await;
    }
}
