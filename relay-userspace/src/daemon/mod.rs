//! The daemon: starts every part, joins configuration and interfaces whenever one of them changes,
//! reloads, stops.
//!
//! Decides the order of things and what a reload may change. Order at the start: log, lock, user,
//! kernel programs, capabilities, state, sockets of the route thread, relay thread, control socket,
//! metrics, READY. At the end the other way round; routes stay, so that the next daemon finds them.

mod leasequery;
mod parts;
pub mod privileges;
mod reload;

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::config::{Config, Loaded};
use crate::control::{self, ControlContext};
use crate::counters::Counters;
use crate::dataplane::Dataplane;
use crate::events::Events;
use crate::handle::{Command, RelayBusy, Surroundings};
use crate::interfaces::InterfaceTable;
use crate::log::LogHandle;
use crate::notify;
use crate::state::{Kept, StateFile, make_relay_id};
use crate::store::Opened;
use crate::surroundings::{self, Joined, Numbers};
use crate::watchers::Watchers;
use leasequery::Leasequery;
use parts::{BindingLogs, Ends, Lines, Metrics, RelayParts};

/// The relay thread did not take new surroundings: try again after this.
const RETRY_SURROUNDINGS: Duration = Duration::from_millis(50);
/// The relay thread looks at its commands between two batches, within milliseconds.
const RELAY_ANSWERS: Duration = Duration::from_secs(1);
/// How often to look whether all threads live.
const LOOK_AFTER_THREADS: Duration = Duration::from_millis(500);

/// Runs until SIGTERM or SIGINT. The caller has read `file` and shown its warnings or not: they
/// are logged here.
///
/// # Errors
/// What could not be started, and what to do; or a part that ended by itself.
pub fn run(file: &Path, loaded: Loaded) -> anyhow::Result<()> {
    let log = crate::log::start(&loaded.config.log)?;
    for (_, line) in loaded.report.lines() {
        tracing::warn!("{line}");
    }
    let config = Arc::new(loaded.config);
    let _lock = parts::lock(&config.relay.run_dir)?;
    leasequery::not_ready(&config.relay.run_dir);
    let state = StateFile::new(&config.relay.state_dir);
    parts::prepare_folders(&config);
    let dataplane = privileges::drop_after(&config, || Dataplane::of(&config))?;
    // As the user that will write it from now on.
    let store = parts::open_store(&config.relay.state_dir);
    let kept = load_state(&state, &store);
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .thread_name("control")
        .enable_all()
        .build()
        .context("start tokio")?;
    runtime.block_on(async {
        let daemon = Daemon::start(file, config, log, state, kept, store, dataplane).await?;
        daemon.serve().await
    })
}

/// What was kept, with a DUID in it.
fn load_state(state: &StateFile, store: &Result<Opened, String>) -> Kept {
    let stored = store.as_ref().ok().and_then(|store| store.facts().kept());
    // Of a version without store, or of a time when it could not be used.
    let mut kept = stored.unwrap_or_else(|| {
        state.load().unwrap_or_else(|error| {
            tracing::warn!("{error}");
            Kept::default()
        })
    });
    if kept.relay_id_bytes().is_none() {
        match make_relay_id() {
            Ok(relay_id) => kept.relay_id = Some(relay_id),
            Err(error) => tracing::warn!(%error, "no relay-id can be made; set [relay] relay_id"),
        }
    }
    kept
}

struct Daemon {
    file: std::path::PathBuf,
    log: LogHandle,
    state: StateFile,
    /// What is on disk, to write only changes.
    saved: Option<Kept>,
    kept: Kept,
    numbers: Numbers,
    warned: Vec<String>,
    config: watch::Sender<Arc<Config>>,
    interfaces: watch::Receiver<Arc<InterfaceTable>>,
    surroundings: watch::Sender<Arc<Surroundings>>,
    /// The relay thread has not got the newest surroundings yet.
    undelivered: bool,
    parts: RelayParts,
    metrics: Metrics,
    binding_log: BindingLogs,
    leasequery: Leasequery,
    events: Events,
    control: tokio::task::JoinHandle<std::io::Result<()>>,
    stop: CancellationToken,
    signals: Signals,
}

struct Signals {
    reload: Signal,
    terminate: Signal,
    interrupt: Signal,
}

impl Signals {
    fn listen() -> std::io::Result<Self> {
        Ok(Self {
            reload: signal(SignalKind::hangup())?,
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
        })
    }
}

impl Daemon {
    async fn start(
        file: &Path,
        config: Arc<Config>,
        log: LogHandle,
        state: StateFile,
        kept: Kept,
        store: Result<Opened, String>,
        dataplane: Dataplane,
    ) -> anyhow::Result<Self> {
        // Before anything that takes time: a SIGTERM during the start must stop, not kill.
        let signals = Signals::listen().context("listen to signals")?;
        let counters = Arc::new(Counters::default());
        let events = Events::new(Arc::clone(&counters));
        let socket = control::bind(&config.relay.run_dir)?;
        let routes = crate::routes::prepare(&config.routes, Arc::clone(&counters), events.clone())
            .context("open netlink sockets")?;
        let interfaces = routes.interfaces.clone();
        let mut numbers = Numbers::default();
        let joined = join(&config, &interfaces, &kept, &mut numbers);
        joined
            .warnings
            .iter()
            .for_each(|warning| tracing::warn!("{warning}"));
        let mut first = joined.surroundings.clone();
        let lines = Lines::new()?;
        let (leasequery, parts) = leasequery::prepare(&config, lines.relay.clone(), &store);
        let ends = Ends {
            store,
            dataplane,
            lines,
            leasequery: parts,
        };
        let parts = RelayParts::start(
            &config,
            first.clone(),
            routes,
            &counters,
            &events,
            &mut numbers,
            ends,
        )?;
        // The store may remember interfaces that the configuration does not name.
        first.names = numbers.names();
        let (surroundings, _) = watch::channel(Arc::new(first));
        let (config_sender, _) = watch::channel(Arc::clone(&config));
        let stop = CancellationToken::new();
        let context = ControlContext {
            relay: parts.relay.clone(),
            counters: Arc::clone(&counters),
            config: config_sender.subscribe(),
            interfaces: interfaces.clone(),
            surroundings: surroundings.subscribe(),
            routes: Arc::new(parts.routes.view()),
            dataplane: Arc::new(parts.dataplane.clone()),
            watchers: Watchers::new(parts.relay.clone()),
            store: Arc::clone(&parts.store),
            ready: leasequery.ready.clone(),
            connections: leasequery.connections.clone(),
            events: events.clone(),
            started: jiff::Timestamp::now(),
        };
        let mut leasequery = Leasequery::start(leasequery, &context, &config, &stop);
        leasequery.listen(&config, &surroundings.borrow());
        let mut metrics = Metrics::new(&context);
        metrics.listen(config.metrics.listen).await?;
        let mut binding_log = BindingLogs::new(&context);
        binding_log.write(config.relay.binding_log.clone()).await;
        let control = tokio::spawn(control::serve(socket, context, stop.clone()));
        let mut daemon = Self {
            file: file.to_owned(),
            log,
            state,
            saved: None,
            kept,
            numbers,
            warned: joined.warnings.clone(),
            config: config_sender,
            interfaces,
            surroundings,
            undelivered: false,
            parts,
            metrics,
            binding_log,
            leasequery,
            events,
            control,
            stop,
            signals,
        };
        daemon.keep(joined.kept);
        Ok(daemon)
    }

    async fn serve(mut self) -> anyhow::Result<()> {
        notify::ready();
        self.tell_status();
        tracing::info!(version = env!("CARGO_PKG_VERSION"), "twinrelay relays");
        let mut look = tokio::time::interval(LOOK_AFTER_THREADS);
        let mut watchdog =
            tokio::time::interval(notify::watchdog_interval().unwrap_or(Duration::from_secs(3600)));
        let ended = loop {
            tokio::select! {
                _ = self.signals.terminate.recv() => break Ok(()),
                _ = self.signals.interrupt.recv() => break Ok(()),
                _ = self.signals.reload.recv() => self.reload().await,
                changed = self.interfaces.changed() => match changed {
                    Ok(()) => self.surround(),
                    Err(_) => break Err(anyhow::anyhow!("the route thread ended by itself")),
                },
                () = tokio::time::sleep(RETRY_SURROUNDINGS), if self.undelivered => self.deliver(),
                _ = watchdog.tick() => {
                    if self.relay_answers().await {
                        notify::watchdog();
                    }
                }
                _ = look.tick() => {
                    if self.parts.relay_ended() {
                        break Err(anyhow::anyhow!("the relay thread ended by itself"));
                    }
                }
                ended = &mut self.control => {
                    break Err(anyhow::anyhow!("the control socket ended by itself: {ended:?}"));
                }
            }
        };
        self.finish(ended).await
    }

    /// Whether the relay thread does its work: a hung one must not be kept alive by this thread.
    async fn relay_answers(&self) -> bool {
        let asked = self.parts.relay.ask(Command::Summary);
        let answers = tokio::time::timeout(RELAY_ANSWERS, asked).await;
        let answers = matches!(answers, Ok(Ok(_)));
        if !answers {
            tracing::error!("the relay thread does not answer");
        }
        answers
    }

    /// Interfaces or configuration changed: joins them anew.
    fn surround(&mut self) {
        let config = Arc::clone(&self.config.borrow());
        let joined = join(&config, &self.interfaces, &self.kept, &mut self.numbers);
        for warning in &joined.warnings {
            if !self.warned.contains(warning) {
                tracing::warn!("{warning}");
            }
        }
        self.warned = joined.warnings;
        self.keep(joined.kept);
        self.surroundings
            .send_replace(Arc::new(joined.surroundings));
        self.deliver();
        self.leasequery.listen(&config, &self.surroundings.borrow());
        self.tell_status();
    }

    fn deliver(&mut self) {
        let newest = Surroundings::clone(&self.surroundings.borrow());
        let sent = self
            .parts
            .relay
            .send(Command::Surroundings(Box::new(newest)));
        self.undelivered = sent == Err(RelayBusy::Full);
    }

    /// Writes what was chosen, where it changed.
    fn keep(&mut self, kept: Kept) {
        self.kept = kept;
        if self.saved.as_ref() == Some(&self.kept) {
            return;
        }
        // Twice: whoever loses the store keeps the names that servers and peers know it by.
        if let Err(error) = self.state.save(&self.kept) {
            tracing::warn!("{error:#}");
        }
        let kept = Box::new(self.kept.clone());
        // Full: the next rewrite of the store or the next start brings it.
        let _ = self.parts.relay.send(Command::Keep(kept));
        // Once is enough: the same words on every change of an interface help nobody.
        self.saved = Some(self.kept.clone());
    }

    fn tell_status(&self) {
        let surroundings = self.surroundings.borrow();
        let access = &surroundings.relay.access;
        let present = access.iter().filter(|it| it.ifindex.is_some()).count();
        let source = match surroundings.source_address {
            Some(address) => format!("as {address}"),
            None => "waiting for a source address".to_owned(),
        };
        notify::status(&format!(
            "{present} of {} access interfaces, {} servers, {source}",
            access.len(),
            surroundings.relay.servers.len()
        ));
    }

    /// Traffic is turned away first; then control, so that nobody asks what is about to end; then
    /// relaying; then the routes that it still caused.
    async fn finish(mut self, ended: anyhow::Result<()>) -> anyhow::Result<()> {
        notify::stopping();
        tracing::info!("stopping; routes stay");
        self.leasequery.turn_away().await;
        self.stop.cancel();
        self.metrics.stop();
        if !self.control.is_finished() {
            // Its end was asked for: nothing is to be learned from it.
            let _ = self.control.await;
        }
        let parts = self.parts;
        let stopped = tokio::task::spawn_blocking(move || parts.stop()).await;
        self.leasequery.stop().await;
        // Last: what the other parts still did belongs into it.
        self.binding_log.write(None).await;
        let stopped = stopped.context("stop the threads")?;
        ended.and(stopped)
    }
}

fn join(
    config: &Config,
    interfaces: &watch::Receiver<Arc<InterfaceTable>>,
    kept: &Kept,
    numbers: &mut Numbers,
) -> Joined {
    let table = Arc::clone(&interfaces.borrow());
    surroundings::join(config, &table, kept, numbers, parts::source_toward)
}
