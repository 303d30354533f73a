//! The relay thread: one thread that owns the core, waits for ring, sockets and commands, and
//! carries out what the core decides.
//!
//! Decides nothing about DHCPv6 and nothing about routes: it hands datagrams to
//! [`relay_core::relay::Relay`] in batches and its effects to sockets and queues. On the way of a
//! message nothing allocates, locks or switches tasks once the thread is warm; what is locked is
//! locked once a batch, and only where routes changed.

mod commands;
mod effects;
mod limiter;
mod pace;
mod poll;
mod ports;
mod receive;
mod run;
mod to_follower;
mod to_leasequery;
mod to_store;

use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::sync::mpsc::Receiver;
use std::thread::JoinHandle;

use anyhow::Context;
use relay_core::alq::{Neighbor, Readiness};
use tokio::sync::mpsc::Sender;
use tokio::sync::watch;

use crate::config::OnExit;
use crate::counters::Counters;
use crate::dataplane::{Dataplane, DataplaneHandle};
use crate::events::Events;
use crate::handle::{Command, Surroundings};
use crate::leasequery::Connections;
use crate::routes::RouteQueue;
use crate::store::{Opened, Status};
use crate::surroundings::Numbers;

/// What the relay thread is made of.
pub struct RelayThreadConfig {
    /// What to relay where, until the first [`Command::Surroundings`].
    pub initial: Box<Surroundings>,
    /// Keys the hashes of everything that comes off the wire.
    pub seed: [u8; 16],
    /// The kernel's side, loaded or not.
    pub dataplane: Dataplane,
    /// Whether what is pinned stays when the thread ends.
    pub on_exit: OnExit,
    /// Where to count.
    pub counters: Arc<Counters>,
    /// The receiving end of [`crate::handle::RelayHandle`].
    pub commands: Receiver<Command>,
    /// The eventfd of [`crate::handle::RelayHandle`], non-blocking.
    pub wake: Arc<OwnedFd>,
    /// To the route follower.
    pub routes: RouteQueue,
    /// To `monitor`.
    pub events: Events,
    /// What survives a restart, or why nothing does.
    pub store: Result<Opened, String>,
    /// Leasequery over TCP.
    pub leasequery: LeasequeryParts,
}

/// Where leasequery goes, and what is told of it.
pub struct LeasequeryParts {
    /// Makes connections and moves their bytes.
    pub connections: Connections,
    /// Whether this relay may attract traffic.
    pub ready: watch::Sender<Readiness>,
    /// Sessions that have changed.
    pub changes: Sender<Vec<Neighbor>>,
}

/// A relay thread that runs.
pub struct Spawned {
    /// Ends on [`Command::Stop`].
    pub handle: JoinHandle<()>,
    /// For `show` and metrics.
    pub dataplane: DataplaneHandle,
    /// Likewise.
    pub store: Arc<Status>,
}

/// Starts the thread. Bindings of the store come back before it relays, their interfaces get
/// `numbers`. Sockets and kernel programs come up before this returns, in the network
/// namespace of the caller. The thread ends on [`Command::Stop`], or when nobody can send commands
/// any more.
///
/// # Errors
/// What could not be brought up, and what to do: a port that is taken, missing privileges, an
/// interface that shall be captured by XDP and cannot.
pub fn spawn(config: RelayThreadConfig, numbers: &mut Numbers) -> anyhow::Result<Spawned> {
    let thread = run::RelayThread::new(config, numbers)?;
    let dataplane = thread.dataplane_handle();
    let store = thread.store_status();
    let handle = std::thread::Builder::new()
        .name("relay".to_owned())
        .spawn(move || thread.run())
        .context("start the relay thread")?;
    Ok(Spawned {
        handle,
        dataplane,
        store,
    })
}
