//! The threads and tasks that the daemon is made of, and how they are tied together.

use std::net::{Ipv6Addr, SocketAddr, SocketAddrV6, UdpSocket};
use std::os::fd::OwnedFd;
use std::path::Path;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, sync_channel};
use std::thread::JoinHandle;
use std::time::Duration;

use anyhow::Context;
use nix::sys::eventfd::{EfdFlags, EventFd};
use relay_core::config::Server;
use relay_core::input::RouteOutcome;
use socket2::SockRef;
use tokio_util::sync::CancellationToken;

use crate::binding_log::BindingLog;
use crate::config::{BindingLogSection, Config};
use crate::control::ControlContext;
use crate::control::json::refusal_text;
use crate::counters::Counters;
use crate::dataplane::{Dataplane, DataplaneHandle};
use crate::events::Events;
use crate::handle::{COMMANDS_MAX, Command, RelayBusy, RelayHandle, Surroundings};
use crate::lock::{DYING, FolderLock, Refused};
use crate::metrics::{self, MetricsContext};
use crate::relay_thread::{self, LeasequeryParts, RelayThreadConfig, Spawned};
use crate::routes::{Prepared, Routes};
use crate::store::{Clock, Opened, Options, StateDir, Status};
use crate::surroundings::Numbers;
use crate::watchers::Watchers;

/// Refuses a second daemon with the same `run_dir`; the lock ends with the process.
pub(super) fn lock(run_dir: &Path) -> anyhow::Result<FolderLock> {
    std::fs::create_dir_all(run_dir)
        .with_context(|| format!("make {}; check [relay] run_dir", run_dir.display()))?;
    FolderLock::take(run_dir, DYING).map_err(|refused| match refused {
        Refused::Held(_) => anyhow::anyhow!(
            "another twinrelay runs with run_dir = \"{}\"; stop it first, or set another run_dir",
            run_dir.display()
        ),
        Refused::Failed { verb, path, error } => anyhow::Error::new(error)
            .context(format!("{verb} {}; check [relay] run_dir", path.display())),
    })
}

/// What survives a restart, or why nothing does.
pub(super) fn open_store(state_dir: &Path) -> Result<Opened, String> {
    let folder = StateDir::lock(state_dir).map_err(|error| error.to_string())?;
    let opened = Opened::open(folder, Options::default(), Box::new(Clock::read));
    opened.map_err(|error| error.to_string())
}

/// The address that the kernel would send from to this server.
pub(super) fn source_toward(server: &Server) -> Option<Ipv6Addr> {
    let socket = UdpSocket::bind((Ipv6Addr::UNSPECIFIED, 0)).ok()?;
    let scope = server.interface.map_or(0, |index| index.0);
    if server.address.is_multicast() {
        // A scope in the address itself counts for link-local groups only.
        SockRef::from(&socket).set_multicast_if_v6(scope).ok()?;
    }
    // Connecting a UDP socket sends nothing.
    socket
        .connect(SocketAddrV6::new(server.address, server.port, 0, scope))
        .ok()?;
    match socket.local_addr().ok()? {
        SocketAddr::V6(address) => Some(*address.ip()),
        SocketAddr::V4(_) => None,
    }
}

/// Both ends of the way to the relay thread.
pub(super) struct Lines {
    pub(super) relay: RelayHandle,
    wake: Arc<OwnedFd>,
    commands: Receiver<Command>,
}

impl Lines {
    pub(super) fn new() -> anyhow::Result<Self> {
        let wake = EventFd::from_flags(EfdFlags::EFD_NONBLOCK | EfdFlags::EFD_CLOEXEC)
            .context("make an eventfd")?;
        let wake = Arc::new(OwnedFd::from(wake));
        let (sender, commands) = sync_channel(COMMANDS_MAX);
        Ok(Self {
            relay: RelayHandle::new(sender, Arc::clone(&wake)),
            wake,
            commands,
        })
    }
}

/// What the relay thread is given by others.
pub(super) struct Ends {
    pub(super) store: Result<Opened, String>,
    pub(super) dataplane: Dataplane,
    pub(super) lines: Lines,
    pub(super) leasequery: LeasequeryParts,
}

/// Relay thread, route thread and the thread between them.
pub(super) struct RelayParts {
    pub(super) relay: RelayHandle,
    pub(super) routes: Routes,
    pub(super) dataplane: DataplaneHandle,
    pub(super) store: Arc<Status>,
    thread: JoinHandle<()>,
}

impl RelayParts {
    pub(super) fn start(
        config: &Config,
        first: Surroundings,
        mut routes: Prepared,
        counters: &Arc<Counters>,
        events: &Events,
        numbers: &mut Numbers,
        ends: Ends,
    ) -> anyhow::Result<Self> {
        let Ends {
            store,
            dataplane,
            leasequery,
            lines:
                Lines {
                    relay,
                    wake,
                    commands,
                },
        } = ends;
        let queue = routes.queue.clone();
        // Before the store is read: what the kernel has is read meanwhile.
        let outcomes = outcomes(relay.clone(), events.clone());
        if let Ok(store) = &store {
            let bindings = store.report().bindings;
            routes.expect(usize::try_from(bindings).unwrap_or(0));
        }
        let routes = routes.start(outcomes).context("start the route thread")?;
        let config = RelayThreadConfig {
            initial: Box::new(first),
            seed: crate::state::random().context("read random bytes")?,
            dataplane,
            on_exit: config.dataplane.on_exit,
            counters: Arc::clone(counters),
            commands,
            wake,
            routes: queue,
            events: events.clone(),
            store,
            leasequery,
        };
        let Spawned {
            handle: thread,
            dataplane,
            store,
        } = match relay_thread::spawn(config, numbers) {
            Ok(spawned) => spawned,
            Err(error) => {
                routes.stop();
                return Err(error);
            }
        };
        Ok(Self {
            relay,
            routes,
            dataplane,
            store,
            thread,
        })
    }

    pub(super) fn relay_ended(&self) -> bool {
        self.thread.is_finished()
    }

    /// Flushes and ends both, in the direction in which routes flow.
    pub(super) fn stop(self) -> anyhow::Result<()> {
        while self.relay.send(Command::Stop) == Err(RelayBusy::Full) {
            std::thread::sleep(Duration::from_millis(1));
        }
        let relay = self.thread.join();
        self.routes.stop();
        if relay.is_err() {
            anyhow::bail!("a thread panicked; the log says where");
        }
        Ok(())
    }
}

/// What becomes of routes goes to the core, and to those who watch.
fn outcomes(relay: RelayHandle, events: Events) -> crate::routes::OutcomeSink {
    Box::new(move |outcomes: &[RouteOutcome]| {
        if relay.send(Command::Routes(outcomes.to_vec())) == Err(RelayBusy::Full) {
            return false;
        }
        let watched = if events.is_watched() { outcomes } else { &[] };
        for outcome in watched {
            let error = outcome.result.err().map(refusal_text);
            events.publish_route(outcome.prefix, error.as_deref());
        }
        true
    })
}

/// The metrics endpoint, which a reload may move.
pub(super) struct Metrics {
    context: MetricsContext,
    listening: Option<(SocketAddr, CancellationToken)>,
}

impl Metrics {
    pub(super) fn new(context: &ControlContext) -> Self {
        Self {
            context: MetricsContext {
                relay: context.relay.clone(),
                counters: Arc::clone(&context.counters),
                surroundings: context.surroundings.clone(),
                dataplane: Arc::clone(&context.dataplane),
                store: Arc::clone(&context.store),
                ready: context.ready.clone(),
                connections: context.connections.clone(),
            },
            listening: None,
        }
    }

    /// Listens there and nowhere else; where that fails everything stays as it was.
    pub(super) async fn listen(&mut self, wanted: Option<SocketAddr>) -> std::io::Result<()> {
        if wanted == self.listening.as_ref().map(|(address, _)| *address) {
            return Ok(());
        }
        let listener = match wanted {
            Some(address) => Some((address, metrics::bind(address).await?)),
            None => None,
        };
        self.stop();
        self.listening = listener.map(|(address, listener)| {
            let stop = CancellationToken::new();
            let serve = metrics::serve(listener, self.context.clone(), stop.clone());
            tokio::spawn(async move {
                if let Err(error) = serve.await {
                    tracing::error!(%error, "the metrics endpoint ended");
                }
            });
            (address, stop)
        });
        Ok(())
    }

    pub(super) fn stop(&self) {
        if let Some((_, stop)) = &self.listening {
            stop.cancel();
        }
    }
}

/// The binding log, which a reload may switch on, move and switch off.
pub(super) struct BindingLogs {
    events: Events,
    watchers: Watchers,
    counters: Arc<Counters>,
    section: Option<BindingLogSection>,
    log: Option<BindingLog>,
}

impl BindingLogs {
    pub(super) fn new(context: &ControlContext) -> Self {
        Self {
            events: context.events.clone(),
            watchers: context.watchers.clone(),
            counters: Arc::clone(&context.counters),
            section: None,
            log: None,
        }
    }

    /// Writes this log and no other.
    pub(super) async fn write(&mut self, wanted: Option<BindingLogSection>) {
        if self.section == wanted {
            return;
        }
        if let Some(log) = self.log.take() {
            log.stop().await;
        }
        self.section.clone_from(&wanted);
        let Some(section) = wanted else { return };
        match self.watchers.enter(usize::MAX) {
            Ok(Some(watching)) => {
                let (reader, counters) = (self.events.subscribe(), Arc::clone(&self.counters));
                self.log = Some(BindingLog::start(section, reader, watching, counters));
            }
            // Tried again with the next reload.
            Ok(None) => self.section = None,
            Err(error) => {
                self.section = None;
                tracing::error!("the binding log is not written: {error}");
            }
        }
    }
}

/// Makes what only the first user may make.
pub(super) fn prepare_folders(config: &Config) {
    if let Err(error) = std::fs::create_dir_all(&config.relay.state_dir) {
        tracing::warn!(
            "cannot make {}: {error}; relaying goes on, nothing is kept. Check [relay] state_dir",
            config.relay.state_dir.display()
        );
    }
}
