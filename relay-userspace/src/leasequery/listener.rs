//! Where peers connect to. Nobody else gets further than a closed connection: who is no peer costs
//! one accept, and connections that have not ended are limited, whatever their number in a second.

use std::collections::BTreeMap;
use std::io;
use std::net::{Ipv6Addr, SocketAddr, SocketAddrV6};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use socket2::{Domain, Protocol, Socket, Type};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinHandle;

use super::connection::prepare;
use super::{Connections, Limits};
use crate::counters::Counters;

/// An address that is not there yet, or a port that somebody else has.
const AGAIN: Duration = Duration::from_secs(2);
/// Out of file descriptors: those that are in use may end.
const EXHAUSTED: Duration = Duration::from_millis(100);
/// Peers are few.
const BACKLOG: i32 = 32;

/// Who may connect, and how many at a time.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Admission {
    /// Addresses of peers.
    pub peers: Vec<Ipv6Addr>,
    /// Of all connections.
    pub limits: Limits,
}

/// The sockets that are listened on.
#[derive(Debug)]
pub struct Listeners {
    connections: Connections,
    counters: Arc<Counters>,
    admission: watch::Sender<Admission>,
    /// Connections of all addresses that have not ended.
    open: Arc<AtomicUsize>,
    tasks: BTreeMap<SocketAddrV6, JoinHandle<()>>,
}

impl Listeners {
    /// None yet.
    pub fn new(connections: Connections, counters: Arc<Counters>, admission: Admission) -> Self {
        Self {
            connections,
            counters,
            admission: watch::Sender::new(admission),
            open: Arc::default(),
            tasks: BTreeMap::new(),
        }
    }

    /// Listens there and nowhere else. Connections that are open stay.
    // req: ALQ-2, ALQ-47
    pub fn listen(&mut self, wanted: &[SocketAddrV6], admission: Admission) {
        self.admission.send_if_modified(|present| {
            let is_new = *present != admission;
            *present = admission;
            is_new
        });
        self.tasks.retain(|address, task| {
            let stays = wanted.contains(address);
            if !stays {
                task.abort();
            }
            stays
        });
        for address in wanted {
            self.tasks.entry(*address).or_insert_with(|| {
                let (connections, counters) =
                    (self.connections.clone(), Arc::clone(&self.counters));
                tokio::spawn(serve(
                    *address,
                    connections,
                    counters,
                    Arc::clone(&self.open),
                    self.admission.subscribe(),
                ))
            });
        }
    }
}

impl Drop for Listeners {
    fn drop(&mut self) {
        self.tasks.values().for_each(JoinHandle::abort);
    }
}

async fn serve(
    address: SocketAddrV6,
    connections: Connections,
    counters: Arc<Counters>,
    open: Arc<AtomicUsize>,
    admission: watch::Receiver<Admission>,
) {
    let listener = listener(address).await;
    tracing::info!(%address, "listening for leasequery peers");
    loop {
        match listener.accept().await {
            Ok((stream, from)) => {
                if let Err(refused) = admit(stream, from, &connections, &open, &admission) {
                    counters.leasequery_refused[refused as usize].inc();
                }
            }
            // That connection is gone, or there are too many files.
            Err(error) => {
                tracing::debug!(%error, "cannot accept a connection");
                tokio::time::sleep(EXHAUSTED).await;
            }
        }
    }
}

/// Why a connection is closed before anything is read from it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Refused {
    /// Its address is that of no peer.
    NotAPeer,
    /// There are too many already.
    TooMany,
}

impl Refused {
    /// All, in the order of their discriminants.
    pub const ALL: [Self; 2] = [Self::NotAPeer, Self::TooMany];

    /// The label of the counter.
    pub const fn name(self) -> &'static str {
        match self {
            Self::NotAPeer => "not_a_peer",
            Self::TooMany => "too_many",
        }
    }
}

// req: ALQ-56
fn admit(
    stream: TcpStream,
    from: SocketAddr,
    connections: &Connections,
    open: &Arc<AtomicUsize>,
    admission: &watch::Receiver<Admission>,
) -> Result<(), Refused> {
    let Admission { peers, limits } = admission.borrow().clone();
    let SocketAddr::V6(from) = from else {
        return Err(Refused::NotAPeer);
    };
    if !peers.contains(from.ip()) {
        return Err(Refused::NotAPeer);
    }
    if open.load(Ordering::Relaxed) >= limits.accepted_max || prepare(&stream, limits).is_err() {
        return Err(Refused::TooMany);
    }
    open.fetch_add(1, Ordering::Relaxed);
    let task = connections.accept(stream, *from.ip());
    let open = Arc::clone(open);
    tokio::spawn(async move {
        // However it ended.
        let _ = task.await;
        open.fetch_sub(1, Ordering::Relaxed);
    });
    Ok(())
}

/// As soon as the address is there and free.
async fn listener(address: SocketAddrV6) -> TcpListener {
    let mut told = None;
    loop {
        match bind(address) {
            Ok(listener) => return listener,
            Err(error) => {
                let text = error.to_string();
                if told.as_ref() != Some(&text) {
                    tracing::error!(%address, "cannot listen for leasequery peers: {text}");
                    told = Some(text);
                }
            }
        }
        tokio::time::sleep(AGAIN).await;
    }
}

fn bind(address: SocketAddrV6) -> io::Result<TcpListener> {
    let socket = Socket::new(Domain::IPV6, Type::STREAM, Some(Protocol::TCP))?;
    socket.set_only_v6(true)?;
    socket.set_reuse_address(true)?;
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    TcpListener::from_std(socket.into())
}
