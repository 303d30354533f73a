//! How tokio's tasks talk to the relay thread: bounded commands in, bounded events out.
//!
//! The relay thread owns the core and answers between two batches of packets; a question that would
//! take long is asked in pages. Nothing here knows what the commands do.

use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::sync::Arc;
use std::sync::mpsc::{SyncSender, TrySendError};

use relay_core::alq::{Digest, Neighbor, Remote};
use relay_core::input::{Clear, RouteOutcome};
use relay_core::types::{AccessId, IfIndex, Prefix};
use relay_core::view::{Cursor, Filter, Page, SubscriberView, TableSummary};
use tokio::sync::oneshot;

use crate::interfaces::InterfaceTable;
use crate::leasequery::{Ask, Target, Told};
use crate::names::Names;
use crate::state::Kept;

/// Commands that may wait for the relay thread at one time.
pub const COMMANDS_MAX: usize = 4096;

/// What tokio's tasks ask of the relay thread.
#[derive(Debug)]
pub enum Command {
    /// New configuration, or new interfaces, or both: what to relay where.
    Surroundings(Box<Surroundings>),
    /// What became of routes.
    Routes(Vec<RouteOutcome>),
    /// A page of clients.
    Page(Filter, Cursor, usize, oneshot::Sender<Page>),
    /// One lease.
    Lease(Prefix, oneshot::Sender<Option<SubscriberView>>),
    /// Numbers of the table.
    Summary(oneshot::Sender<TableSummary>),
    /// State of sockets and capture.
    Ports(oneshot::Sender<Vec<PortState>>),
    /// Remove bindings, some at a time: relaying goes on in between.
    Clear(Clear, oneshot::Sender<Cleared>),
    /// Whether somebody watches events.
    Observe(bool),
    /// What was chosen once, for the store.
    Keep(Box<Kept>),
    /// Something happened on a connection of leasequery.
    Leasequery(Told),
    /// What an operator asks of leasequery.
    Request(Ask),
    /// Sessions of leasequery.
    Neighbors(oneshot::Sender<Vec<Neighbor>>),
    /// Bindings by access interface, as one number each.
    Digests(oneshot::Sender<Vec<(AccessId, Digest)>>),
    /// What the wall clock shows: nanoseconds since 1970 minus those of the boot clock.
    WallClock(i64),
    /// Send what is queued, then end.
    Stop,
}

/// What a [`Command::Clear`] did.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Cleared {
    /// How many bindings were removed.
    pub bindings: usize,
    /// There are more: ask again.
    pub more: bool,
}

/// What to relay where: configuration joined with interfaces. Made by `daemon.rs`.
#[derive(Clone, Debug)]
pub struct Surroundings {
    /// For the core.
    pub relay: relay_core::config::RelayConfig,
    /// For sockets and kernel programs, in the order of `relay.access`.
    pub access: Vec<AccessPort>,
    /// Toward servers and the Internet, those that are there.
    pub core: Vec<CorePort>,
    /// Packets of subscribers pass by the kernel's stack, where they may.
    pub forwards: bool,
    /// Names by their numbers; those that left the configuration, and those that only the store
    /// remembers, too.
    pub names: Names,
    /// Names of servers, in the order of `relay.servers`: the counters' labels.
    pub server_names: Vec<String>,
    /// Leasequery over TCP: with whom, and how.
    pub leasequery: LeasequeryEnds,
    /// Source of RELAY-FORW and of leasequery; `None` while no address is fit.
    pub source_address: Option<std::net::Ipv6Addr>,
    /// All interfaces.
    pub interfaces: Arc<InterfaceTable>,
}

/// What connections of leasequery need to know.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub struct LeasequeryEnds {
    /// Peers that may connect, and servers that may be asked.
    pub remotes: Vec<(Remote, Target)>,
    /// Of connections.
    pub limits: crate::leasequery::Limits,
}

/// What sockets and kernel programs need to know of an access interface.
#[derive(Clone, Debug)]
pub struct AccessPort {
    /// Interface name.
    pub name: String,
    /// How to capture.
    pub capture: crate::config::Capture,
    /// In the kernel.
    pub rate_limit: crate::config::RateLimit,
    /// RELAY-FORW from below, by multicast and to own addresses.
    pub accept_relayed: bool,
    /// Sources are checked.
    pub source_guard: crate::config::SourceGuard,
    /// Sources that need no binding.
    pub source_allow: Vec<Prefix>,
    /// What a client sends to its own lease is dropped.
    pub anti_loop: bool,
    /// Source of frames to clients: the interface's own link-local address (DP-66).
    pub link_local: Option<std::net::Ipv6Addr>,
}

/// What kernel programs need to know of a core interface.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct CorePort {
    /// Interface name.
    pub name: String,
    /// Its present index.
    pub ifindex: IfIndex,
}

/// How an access interface is served at present, or a core interface watched.
#[derive(Clone, PartialEq, Eq, Debug, serde::Serialize, serde::Deserialize)]
pub struct PortState {
    /// Interface name.
    pub interface: String,
    /// `xdp`, `xdp-generic`, `socket`, or `absent`; of a core interface `none` without a program.
    pub capture: String,
    /// Why `auto` did not take a better way.
    pub reason: Option<String>,
}

/// The relay thread does not take commands: it ended, or its queue is full.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum RelayBusy {
    /// Its queue is full.
    #[error("the relay thread is busy; try again")]
    Full,
    /// It ended.
    #[error("the relay thread has ended")]
    Ended,
}

/// A way to the relay thread; cheap to clone.
#[derive(Clone, Debug)]
pub struct RelayHandle {
    commands: SyncSender<Command>,
    wake: Arc<OwnedFd>,
}

impl RelayHandle {
    /// `wake` is an eventfd that the relay thread polls.
    pub fn new(commands: SyncSender<Command>, wake: Arc<OwnedFd>) -> Self {
        Self { commands, wake }
    }

    /// Hands over a command and wakes the thread.
    ///
    /// # Errors
    /// [`RelayBusy`], with the command lost.
    pub fn send(&self, command: Command) -> Result<(), RelayBusy> {
        self.offer(command).map_err(|(busy, _)| busy)
    }

    /// The same.
    ///
    /// # Errors
    /// [`RelayBusy`], with the command.
    pub fn offer(&self, command: Command) -> Result<(), (RelayBusy, Command)> {
        self.commands
            .try_send(command)
            .map_err(|error| match error {
                TrySendError::Full(command) => (RelayBusy::Full, command),
                TrySendError::Disconnected(command) => (RelayBusy::Ended, command),
            })?;
        // A full eventfd counter means that a wake-up is already due.
        let _ = nix::unistd::write(self.wake.as_fd(), &1u64.to_ne_bytes());
        Ok(())
    }

    /// Asks and waits for the answer.
    ///
    /// # Errors
    /// [`RelayBusy`].
    pub async fn ask<T>(
        &self,
        question: impl FnOnce(oneshot::Sender<T>) -> Command,
    ) -> Result<T, RelayBusy> {
        let (answer, answered) = oneshot::channel();
        self.send(question(answer))?;
        answered.await.map_err(|_| RelayBusy::Ended)
    }

    /// The eventfd, for logs.
    pub fn wake_fd(&self) -> i32 {
        self.wake.as_raw_fd()
    }
}
