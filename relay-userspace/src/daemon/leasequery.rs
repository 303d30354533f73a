//! Leasequery over TCP within the daemon: its tasks, and what a reload changes of it.

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use relay_core::alq::{Neighbor, Readiness};
use tokio::runtime::Handle;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::config::Config;
use crate::control::ControlContext;
use crate::handle::{RelayHandle, Surroundings};
use crate::leasequery::ready::{self, ReadyFile};
use crate::leasequery::tell::{self, CHANGES_MAX};
use crate::leasequery::tls::{Clock, Tls};
use crate::leasequery::{Admission, Connections, Limits, Listeners, alarm, clock};
use crate::relay_thread::LeasequeryParts;
use crate::store::Opened;

/// The last bytes of connections, after the relay thread has ended.
const LAST_BYTES: Duration = Duration::from_secs(3);

/// What is there before the relay thread is.
pub(super) struct Prepared {
    pub(super) connections: Connections,
    pub(super) ready: watch::Receiver<Readiness>,
    changes: mpsc::Receiver<Vec<Neighbor>>,
}

/// Makes the ends that the relay thread gets.
pub(super) fn prepare(
    config: &Config,
    relay: RelayHandle,
    store: &Result<Opened, String>,
) -> (Prepared, LeasequeryParts) {
    let clock = Clock {
        not_before: newest_stored(store),
    };
    let connections = Connections::new(Handle::current(), relay, clock);
    load_tls(&connections, config);
    let (ready_sender, ready) = watch::channel(ready::starting());
    let (changes_sender, changes) = mpsc::channel(CHANGES_MAX);
    let parts = LeasequeryParts {
        connections: connections.clone(),
        ready: ready_sender,
        changes: changes_sender,
    };
    let prepared = Prepared {
        connections,
        ready,
        changes,
    };
    (prepared, parts)
}

/// The newest time that the store knows, where the system clock is behind it.
fn newest_stored(store: &Result<Opened, String>) -> SystemTime {
    let report = store.as_ref().ok().map(Opened::report);
    let behind = report.and_then(|report| report.clock_behind);
    let nanos = behind.map_or(0, |it| u64::try_from(it.newest_nanos).unwrap_or(0));
    SystemTime::UNIX_EPOCH + Duration::from_nanos(nanos)
}

/// New sessions use what the files hold now.
fn load_tls(connections: &Connections, config: &Config) {
    let files = config.tls.complete().filter(|_| config.needs_tls());
    let loaded = files.map(|files| Tls::load(&files));
    match loaded.transpose() {
        Ok(tls) => connections.use_tls(tls.map(Arc::new)),
        Err(fault) => {
            tracing::error!("[tls]: {fault}; leasequery sessions go by the old certificates")
        }
    }
}

/// The tasks of leasequery.
pub(super) struct Leasequery {
    connections: Connections,
    listeners: Listeners,
    ready: JoinHandle<()>,
    stop: CancellationToken,
}

impl Leasequery {
    /// Starts them.
    pub(super) fn start(
        prepared: Prepared,
        context: &ControlContext,
        config: &Config,
        stop: &CancellationToken,
    ) -> Self {
        let Prepared {
            connections,
            ready,
            changes,
        } = prepared;
        let surroundings = || context.surroundings.clone();
        let events = || context.events.clone();
        let stop = stop.child_token();
        let file = ReadyFile::new(&config.relay.run_dir);
        tokio::spawn(tell::tell(changes, surroundings(), events()));
        tokio::spawn(clock::watch(context.relay.clone(), stop.clone()));
        tokio::spawn(alarm::watch(connections.clone(), events(), stop.clone()));
        let ready = tokio::spawn(ready::tell(
            ready,
            file,
            surroundings(),
            events(),
            stop.clone(),
        ));
        let counters = Arc::clone(&context.counters);
        let admission = Admission {
            peers: Vec::new(),
            limits: Limits::default(),
        };
        let listeners = Listeners::new(connections.clone(), counters, admission);
        Self {
            connections,
            listeners,
            ready,
            stop,
        }
    }

    /// Listens where the configuration says, for those whom it names.
    pub(super) fn listen(&mut self, config: &Config, surroundings: &Surroundings) {
        let section = &config.active_leasequery;
        let admission = Admission {
            peers: section.peers.iter().map(|peer| peer.address).collect(),
            limits: surroundings.leasequery.limits,
        };
        // req: ALQ-47
        let wanted = match section.enabled {
            true => &section.listen[..],
            false => &[],
        };
        self.listeners.listen(wanted, admission);
    }

    /// Reads the certificates again.
    pub(super) fn reload(&self, config: &Config) {
        load_tls(&self.connections, config);
    }

    /// From here on nobody shall send traffic here.
    pub(super) async fn turn_away(&mut self) {
        self.stop.cancel();
        // It has nothing to answer.
        let _ = (&mut self.ready).await;
    }

    /// Lets the last bytes out, once the relay thread has said them.
    pub(super) async fn stop(self) {
        drop(self.listeners);
        self.connections.ended(LAST_BYTES).await;
    }
}

/// From the start on: not ready.
pub(super) fn not_ready(run_dir: &Path) {
    ReadyFile::new(run_dir).write(false);
}
