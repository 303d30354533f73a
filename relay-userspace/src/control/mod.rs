//! The control socket: HTTP/1.1 with JSON over the unix socket `run_dir/control.sock`.
//!
//! Decides what may be asked of a running daemon and in which words. Must not know how relaying,
//! routes or kernel programs work: it asks the relay thread through [`RelayHandle`] and the rest
//! through the traits of [`view`].

mod alarms;
pub mod dataplane;
pub mod documents;
mod filter;
pub mod json;
pub mod leasequery;
mod server;
mod servers;
mod socket;
pub mod stream;
pub mod view;

use std::io;
use std::sync::Arc;

use jiff::Timestamp;
use relay_core::alq::Readiness;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::config::Config;
use crate::counters::Counters;
use crate::events::Events;
use crate::handle::{RelayHandle, Surroundings};
use crate::interfaces::InterfaceTable;
use crate::leasequery::Connections;
use crate::store::Status;
use crate::watchers::Watchers;
use view::{DataplaneView, RoutesView};

pub use socket::{BindError, ControlSocket, bind};

/// What the control socket answers from. `daemon.rs` makes one; cheap to clone.
#[derive(Clone)]
pub struct ControlContext {
    /// The relay thread.
    pub relay: RelayHandle,
    /// What was counted.
    pub counters: Arc<Counters>,
    /// The configuration in force.
    pub config: watch::Receiver<Arc<Config>>,
    /// The router's interfaces.
    pub interfaces: watch::Receiver<Arc<InterfaceTable>>,
    /// What was last handed to the relay thread: names of access interfaces and servers by their
    /// numbers, addresses chosen.
    pub surroundings: watch::Receiver<Arc<Surroundings>>,
    /// For `show routes`.
    pub routes: Arc<dyn RoutesView>,
    /// For `show statistics`.
    pub dataplane: Arc<dyn DataplaneView>,
    /// For `show statistics`.
    pub store: Arc<Status>,
    /// Whether this relay may attract traffic.
    pub ready: watch::Receiver<Readiness>,
    /// Their certificates.
    pub connections: Connections,
    /// For `monitor`.
    pub events: Events,
    /// Those who run it.
    pub watchers: Watchers,
    /// When the daemon started.
    pub started: Timestamp,
}

/// Answers on the socket until `stop` is cancelled.
///
/// # Errors
/// Only where the listening socket itself fails; a broken connection ends alone.
pub async fn serve(
    socket: ControlSocket,
    context: ControlContext,
    stop: CancellationToken,
) -> io::Result<()> {
    let health = Arc::new(servers::ServerHealth::default());
    let watch = servers::watch(context.clone(), Arc::clone(&health), stop.clone());
    let shared = server::Shared {
        context,
        health,
        stop: stop.clone(),
    };
    tokio::select! {
        served = socket.serve(server::router(shared), stop) => served,
        () = watch => Ok(()),
    }
}
