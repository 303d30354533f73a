//! Where peers connect to. Nobody else gets further than a closed connection: who is no peer costs
//! one accept, and each peer's connections that have not ended are limited, whatever their number in a second.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::io;
use std::net::{Ipv6Addr, SocketAddr, SocketAddrV6};
use std::sync::{Arc, Mutex, PoisonError};
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
    /// Of the connections of each.
    pub limits: Limits,
}

/// How many connections of each peer have not ended, the last FIN included: none takes a place of another.
#[derive(Default, Debug)]
struct Open(Mutex<BTreeMap<Ipv6Addr, usize>>);

impl Open {
    /// One more, where there is room.
    fn begin(&self, from: Ipv6Addr, most: usize) -> bool {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let count = all.entry(from).or_default();
        let has_room = *count < most;
        *count += usize::from(has_room);
        has_room
    }

    /// One has ended.
    fn end(&self, from: Ipv6Addr) {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Entry::Occupied(mut entry) = all.entry(from) {
            match entry.get() {
                0 | 1 => drop(entry.remove()),
                _ => *entry.get_mut() -= 1,
            }
        }
    }
}

/// The sockets that are listened on.
#[derive(Debug)]
pub struct Listeners {
    connections: Connections,
    counters: Arc<Counters>,
    admission: watch::Sender<Admission>,
    open: Arc<Open>,
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
    open: Arc<Open>,
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
    /// This peer has too many already.
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
    open: &Arc<Open>,
    admission: &watch::Receiver<Admission>,
) -> Result<(), Refused> {
    let Admission { peers, limits } = admission.borrow().clone();
    let SocketAddr::V6(from) = from else {
        return Err(Refused::NotAPeer);
    };
    if !peers.contains(from.ip()) {
        return Err(Refused::NotAPeer);
    }
    let from = *from.ip();
    if prepare(&stream, limits).is_err() || !open.begin(from, limits.accepted_max) {
        return Err(Refused::TooMany);
    }
    let task = connections.accept(stream, from);
    let open = Arc::clone(open);
    tokio::spawn(async move {
        // However it ended.
        let _ = task.await;
        open.end(from);
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

#[cfg(test)]
mod tests {
    use std::sync::mpsc::{Receiver, sync_channel};
    use std::time::SystemTime;

    use nix::sys::eventfd::EventFd;
    use tokio::io::AsyncReadExt;
    use tokio::time::timeout;

    use super::*;
    use crate::handle::{Command, RelayHandle};
    use crate::leasequery::tls::Clock;
    use crate::leasequery::{Told, What};

    const PATIENCE: Duration = Duration::from_secs(10);

    /// Listeners, what the relay thread is told, and an address with a port that is free.
    struct Bench {
        listeners: Listeners,
        commands: Receiver<Command>,
        counters: Arc<Counters>,
        address: SocketAddrV6,
    }

    impl Bench {
        fn new() -> Self {
            let (sender, commands) = sync_channel(64);
            let relay = RelayHandle::new(sender, Arc::new(EventFd::new().unwrap().into()));
            let clock = Clock {
                not_before: SystemTime::UNIX_EPOCH,
            };
            let connections = Connections::new(tokio::runtime::Handle::current(), relay, clock);
            let counters = Arc::new(Counters::default());
            let nobody = admission(&[], 10);
            let listeners = Listeners::new(connections, Arc::clone(&counters), nobody);
            let free = std::net::TcpListener::bind("[::1]:0").unwrap();
            let SocketAddr::V6(address) = free.local_addr().unwrap() else {
                panic!("no IPv6");
            };
            Self {
                listeners,
                commands,
                counters,
                address,
            }
        }

        /// A connection, once somebody listens.
        async fn connect(&self) -> TcpStream {
            let connect = async {
                loop {
                    match TcpStream::connect(self.address).await {
                        Ok(stream) => return stream,
                        Err(_) => tokio::time::sleep(Duration::from_millis(5)).await,
                    }
                }
            };
            timeout(PATIENCE, connect).await.expect("somebody listens")
        }

        /// The orders of the connection that the relay thread is told of next.
        async fn accepted(&self) -> tokio::sync::mpsc::Sender<crate::leasequery::Order> {
            let told = async {
                loop {
                    match self.commands.try_recv() {
                        Ok(Command::Leasequery(Told {
                            what: What::Accepted(Ipv6Addr::LOCALHOST, orders),
                            ..
                        })) => return orders,
                        Ok(other) => panic!("{other:?}"),
                        Err(_) => tokio::time::sleep(Duration::from_millis(5)).await,
                    }
                }
            };
            timeout(PATIENCE, told).await.expect("it is told")
        }

        fn refused(&self, why: Refused) -> u64 {
            self.counters.leasequery_refused[why as usize].get()
        }
    }

    fn admission(peers: &[Ipv6Addr], accepted_max: usize) -> Admission {
        let limits = Limits {
            accepted_max,
            ..Limits::default()
        };
        Admission {
            peers: peers.to_vec(),
            limits,
        }
    }

    /// Nothing comes but the end.
    async fn expect_closed(mut stream: TcpStream) {
        let mut byte = [0];
        let read = timeout(PATIENCE, stream.read(&mut byte)).await;
        let read = read.expect("it is closed");
        assert!(matches!(read, Ok(0) | Err(_)), "{read:?}");
    }

    /// Who may connect is known before a byte is read. req: ALQ-56
    #[tokio::test]
    async fn alq_56_stranger_is_closed_and_counted_and_the_relay_thread_hears_nothing() {
        let mut bench = Bench::new();
        let other: Ipv6Addr = "2001:db8::2".parse().unwrap();
        bench
            .listeners
            .listen(&[bench.address], admission(&[other], 10));

        expect_closed(bench.connect().await).await;

        assert_eq!(bench.refused(Refused::NotAPeer), 1);
        assert_eq!(bench.refused(Refused::TooMany), 0);
        assert!(bench.commands.try_recv().is_err());
    }

    /// req: ALQ-56
    #[tokio::test]
    async fn alq_56_connections_beyond_the_limit_are_closed_until_others_have_ended() {
        let mut bench = Bench::new();
        let peers = admission(&[Ipv6Addr::LOCALHOST], 1);
        bench.listeners.listen(&[bench.address], peers);
        let first = bench.connect().await;
        let orders = bench.accepted().await;

        expect_closed(bench.connect().await).await;
        assert_eq!(bench.refused(Refused::TooMany), 1);

        drop((orders, first));
        let again = async {
            loop {
                let stream = bench.connect().await;
                tokio::time::sleep(Duration::from_millis(20)).await;
                if let Ok(Command::Leasequery(told)) = bench.commands.try_recv() {
                    return (stream, told);
                }
            }
        };
        let again = timeout(PATIENCE, again).await;
        assert!(again.is_ok(), "a place became free");
    }

    /// req: ALQ-56, BLQ-7
    #[test]
    fn alq_56_connections_of_one_peer_take_no_place_of_another() {
        let (one, other) = (Ipv6Addr::LOCALHOST, Ipv6Addr::UNSPECIFIED);
        let open = Open::default();

        assert!(open.begin(one, 2) && open.begin(one, 2));
        assert!(!open.begin(one, 2), "a third");
        assert!(open.begin(other, 2));
        open.end(one);
        assert!(open.begin(one, 2));
        for from in [one, one, other] {
            open.end(from);
        }

        assert!(open.0.lock().unwrap().is_empty(), "nothing is left of them");
    }

    /// A reload changes who may connect, and where.
    #[tokio::test]
    async fn reload_moves_the_socket_and_the_list_of_peers() {
        let mut bench = Bench::new();
        bench.listeners.listen(&[bench.address], admission(&[], 10));
        expect_closed(bench.connect().await).await;

        let peers = || admission(&[Ipv6Addr::LOCALHOST], 10);
        bench.listeners.listen(&[bench.address], peers());
        let stream = bench.connect().await;
        let orders = bench.accepted().await;

        bench.listeners.listen(&[], peers());
        let closed = async {
            while TcpStream::connect(bench.address).await.is_ok() {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        timeout(PATIENCE, closed).await.expect("nobody listens");
        assert!(!orders.is_closed(), "what is open stays open");
        drop(stream);
    }
}
