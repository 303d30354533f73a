//! The loop: wait, answers first, then requests in bounded batches, then what has become due.

use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;
use std::sync::mpsc::Receiver as CommandReceiver;
use std::time::Duration;

use anyhow::{Context, bail};
use relay_core::alq::LeasequeryInput;
use relay_core::input::Input;
use relay_core::relay::Relay;
use relay_core::time::Instant;
use socket2::Socket;

use super::RelayThreadConfig;
use super::effects::{Exits, Outbox, Surfaces, Ways};
use super::pace::{self, Pace};
use super::poll::{Poller, Ready, Source};
use super::ports::{self, Ports};
use super::receive::{ANSWER_CALLS, REQUEST_CALLS, REQUEST_CALLS_BESIDE_RING, Receiver};
use super::to_follower::ToFollower;
use super::to_leasequery::{ToLeasequery, give};
use super::to_store::{LAST_WORDS, ToStore};
use crate::config::{Capture, OnExit};
use crate::counters::Counters;
use crate::dataplane::{Around, Captured, Dataplane, DataplaneHandle, Role, Wanted};
use crate::events::{EventKind, Events};
use crate::handle::{Command, PortState, Surroundings};
use crate::net::{packet, udp};
use crate::routes;
use crate::store::Status;
use crate::surroundings::Numbers;
use crate::wall_time::{WallTime, boot_nanos, boot_now};

/// A heartbeat older than a second sends frames to the kernel; four fit in.
const HEARTBEAT: Duration = Duration::from_millis(200);
/// Bytes of peers that wait for room are offered again after this.
const CROWDED: Duration = Duration::from_millis(1);
/// The last words to peers may take so long; who does not read them misses them.
const FAREWELL: Duration = Duration::from_secs(1);
/// Rounds of draining when the thread ends.
const FINAL_ROUNDS: usize = 64;

/// Everything that the relay thread owns.
pub(super) struct RelayThread {
    pub(super) relay: Relay,
    pub(super) ports: Ports,
    pub(super) counters: Arc<Counters>,
    pub(super) commands: CommandReceiver<Command>,
    pub(super) follower: ToFollower,
    pub(super) store: ToStore,
    pub(super) leasequery: ToLeasequery,
    pub(super) surroundings: Box<Surroundings>,
    wake: Arc<OwnedFd>,
    events: Events,
    on_exit: OnExit,
    poller: Poller,
    sockets: Sockets,
    dataplane: Dataplane,
    receiver: Receiver,
    outbox: Outbox,
    heartbeat_at: Instant,
    pace: Pace,
}

struct Sockets {
    /// `None` while no source address is known: the access socket sends, from what the kernel
    /// chooses.
    server: Option<Socket>,
    /// See [`ports::Port::socket_drops`].
    server_drops: u32,
    access: Socket,
    access_drops: u32,
    /// See [`RelayThread::hear_answers`].
    requestor: Answers,
    frames: Socket,
}

/// Where servers may answer that do so on the clients' port.
enum Answers {
    /// Nothing was asked yet.
    Unasked,
    On(Socket),
    /// The port cannot be had; that was said.
    Nowhere,
}

impl RelayThread {
    /// Opens everything.
    pub(super) fn new(config: RelayThreadConfig, numbers: &mut Numbers) -> anyhow::Result<Self> {
        let sockets = Sockets {
            server: None,
            server_drops: 0,
            access: udp::access_socket()?,
            access_drops: 0,
            requestor: Answers::Unasked,
            frames: packet::send_socket()?,
        };
        let poller = Poller::new().context("make an epoll instance")?;
        poller.add(&config.wake, Source::Wake)?;
        poller.add(&sockets.access, Source::Access)?;
        let mut initial = config.initial;
        // The core gets the rest by `apply`, when sockets are there to serve it.
        let mut relay = Relay::new(initial.relay.clone(), config.seed);
        let wake = Arc::clone(&config.wake);
        let store = ToStore::start(config.store, &mut relay, numbers, &config.counters, wake);
        // Those that only the store remembers, too.
        initial.names = numbers.names();
        let parts = config.leasequery;
        let remembers = store.remembers();
        let mut dataplane = config.dataplane;
        dataplane.set_complete(remembers);
        let mut follower = ToFollower::new(config.routes, remembers);
        // Routes of what came back, and an end to those of what did not.
        follower.ask_for_everything();
        let mut thread = Self {
            relay,
            ports: Ports::new(&config.counters),
            counters: config.counters,
            commands: config.commands,
            follower,
            store,
            leasequery: ToLeasequery::new(parts.connections, parts.ready, parts.changes),
            surroundings: Box::new(Surroundings {
                source_address: None,
                ..(*initial).clone()
            }),
            wake: config.wake,
            events: config.events,
            on_exit: config.on_exit,
            poller,
            sockets,
            dataplane,
            receiver: Receiver::new(),
            outbox: Outbox::default(),
            heartbeat_at: Instant::default(),
            pace: Pace::default(),
        };
        let wants_server = initial.source_address.is_some();
        for error in thread.apply(initial) {
            // Without this socket there is no relay; an interface that cannot be served yet may be
            // served after the next change of its addresses.
            if wants_server && thread.sockets.server.is_none() {
                return Err(error);
            }
            tracing::error!("{error:#}");
        }
        match thread.refuse_what_was_demanded() {
            Ok(()) => {
                thread.begin_leasequery();
                Ok(thread)
            }
            Err(error) => {
                thread.dataplane.close(thread.on_exit);
                Err(error)
            }
        }
    }

    /// At start, and only there, an interface that shall be captured by XDP must be.
    fn refuse_what_was_demanded(&self) -> anyhow::Result<()> {
        for port in &self.ports.list {
            let demanded = matches!(port.wanted, Capture::Xdp | Capture::XdpGeneric);
            if let Some(state) = port.state.as_ref().filter(|_| demanded)
                && state.capture == "socket"
            {
                bail!(
                    "cannot capture on {} as demanded: {}; capture = \"auto\" would take sockets",
                    port.name,
                    state.reason.as_deref().unwrap_or("no reason given"),
                );
            }
        }
        Ok(())
    }

    /// Brings the counters of what the kernel dropped at full sockets up to date.
    pub(super) fn count_overflows(&mut self) {
        let Sockets {
            server,
            server_drops,
            access,
            access_drops,
            ..
        } = &mut self.sockets;
        if let Some(server) = server {
            ports::count_overflow(server, server_drops, &self.ports.elsewhere);
        }
        ports::count_overflow(access, access_drops, &self.ports.udp);
        for port in &mut self.ports.list {
            if let Some(socket) = &port.socket {
                ports::count_overflow(socket, &mut port.socket_drops, &port.counters);
            }
        }
    }

    /// The store has handed out all that it holds: sessions begin.
    fn begin_leasequery(&mut self) {
        let now = boot_now();
        let ahead_nanos = WallTime::read().ahead_nanos();
        self.relay
            .handle_input(now, Input::WallClock { ahead_nanos });
        for memory in self.store.memories() {
            give(&mut self.relay, now, LeasequeryInput::Restore(memory));
        }
        give(&mut self.relay, now, LeasequeryInput::Loaded);
        self.flush();
        self.leasequery.tell_readiness(&self.relay);
    }

    pub(super) fn store_status(&self) -> Arc<Status> {
        self.store.status()
    }

    pub(super) fn dataplane_handle(&self) -> DataplaneHandle {
        self.dataplane.handle()
    }

    /// Until [`Command::Stop`].
    pub(super) fn run(mut self) {
        let mut ready = Ready::default();
        let mut busy = false;
        loop {
            let timeout = match busy {
                true => Some(Duration::ZERO),
                false => self.rest(),
            };
            if let Err(error) = self.poller.wait(timeout, &mut ready) {
                tracing::error!(%error, "the relay thread cannot wait and ends");
                break;
            }
            // Who looks without being woken has not been told of frames; there may be some.
            ready.ring |= timeout == Some(Duration::ZERO);
            // A spurious wake-up costs one empty look at the queue of commands.
            if ready.wake {
                let _ = nix::unistd::read(self.wake.as_fd(), &mut [0; 8]);
            }
            self.beat();
            busy = self.round(&ready);
            match self.obey_commands() {
                Some(more) => busy |= more,
                None => break,
            }
        }
        self.finish();
    }

    /// Nothing is left to do: naps while messages gather, where many come. Returns how long to wait for
    /// the first message otherwise.
    fn rest(&mut self) -> Option<Duration> {
        let nap = self.pace.after(boot_now(), self.receiver.take_count());
        let was_napping = self.dataplane.is_quiet();
        self.dataplane.set_quiet(nap.is_some());
        let nap = match nap {
            Some(nap) => nap,
            // A frame that came before the kernel program knew wakes nobody: one more look.
            None if was_napping => pace::NAP_MIN,
            None => return self.due_in(),
        };
        std::thread::sleep(nap);
        Some(Duration::ZERO)
    }

    /// One batch of everything that is there. True: there is more.
    fn round(&mut self, ready: &Ready) -> bool {
        let now = boot_now();
        let mut more = false;
        if ready.server
            && let Some(server) = &self.sockets.server
        {
            // Answers before new requests: what is asked for anew would only grow the queue.
            let received =
                self.receiver
                    .datagrams(ANSWER_CALLS, server, &self.ports, &mut self.relay, now);
            more |= or_log("the UDP socket toward servers", received);
            self.flush();
        }
        if ready.requestor
            && let Answers::On(requestor) = &self.sockets.requestor
        {
            let (ports, relay) = (&self.ports, &mut self.relay);
            let received = self
                .receiver
                .datagrams(ANSWER_CALLS, requestor, ports, relay, now);
            more |= or_log("the UDP socket on port 546", received);
        }
        let calls = |beside_ring: bool| {
            if ready.ring && beside_ring {
                REQUEST_CALLS_BESIDE_RING
            } else {
                REQUEST_CALLS
            }
        };
        if ready.access {
            let access = &self.sockets.access;
            let received =
                self.receiver
                    .datagrams(calls(true), access, &self.ports, &mut self.relay, now);
            more |= or_log("the UDP socket of the access side", received);
        }
        for &ifindex in &ready.packets {
            let Some(port) = self.ports.by_ifindex(ifindex) else {
                continue;
            };
            let state = port.state.as_ref();
            let in_ring = state.is_some_and(|state| state.capture != "socket");
            let received =
                self.receiver
                    .packets(calls(in_ring), port, &self.ports, &mut self.relay, now);
            more |= or_log("a packet socket", received);
        }
        // Whether the ring woke us or not: while we nap it does not.
        let (dataplane, relay) = (&mut self.dataplane, &mut self.relay);
        more |= self.receiver.ring(dataplane, &self.ports, relay, now);
        self.store.hear(&mut self.relay, now);
        more |= self.read_on(now);
        if self.follower.begins(now) {
            self.relay.resend_routes();
        }
        if self.dataplane.begins_telling(now) {
            self.relay.resend_forwarding();
        }
        self.dataplane.tidy_bindings();
        let is_resending = self.relay.is_resending();
        self.relay
            .hold_routes_back(is_resending && !self.follower.has_room(now));
        if self.relay.poll_timeout().is_some_and(|due| due <= now) {
            // A slice of all routes must not come between a Reply and its own.
            if is_resending {
                self.flush();
            }
            self.relay.handle_timeout(now);
        }
        self.flush_at(if is_resending {
            routes::Pace::InTurn
        } else {
            routes::Pace::Now
        });
        more
    }

    /// Whether more changes would find no room on their way to the store or to the follower.
    pub(super) fn is_crowded(&self) -> bool {
        self.store.is_crowded() || self.follower.is_crowded()
    }

    /// Gives the core some bytes of peers that waited. True: there are more.
    fn read_on(&mut self, now: Instant) -> bool {
        if self.leasequery.has_lost() {
            self.leasequery.give_lost(&mut self.relay, now);
        }
        if self.is_crowded() {
            return false;
        }
        if self.leasequery.is_waiting() {
            // Routes that a Reply waits for.
            self.flush();
        }
        if let Some(connection) = self.leasequery.give_waiting(&mut self.relay, now) {
            self.flush_at(self.leasequery.pace());
            self.leasequery.read_on(connection);
        }
        self.leasequery.is_waiting()
    }

    /// Carries out what the core has decided.
    pub(super) fn flush(&mut self) {
        self.flush_at(routes::Pace::Now);
    }

    pub(super) fn flush_at(&mut self, pace: routes::Pace) {
        let exits = Exits {
            access: &self.sockets.access,
            frames: &self.sockets.frames,
        };
        let surfaces = Surfaces {
            ports: &self.ports,
            events: &self.events,
            counters: &self.counters,
            names: &self.surroundings.names,
        };
        self.outbox.flush(
            &mut self.relay,
            &exits,
            &surfaces,
            &mut Ways {
                follower: &mut self.follower,
                pace,
                dataplane: &mut self.dataplane,
                store: &mut self.store,
                leasequery: &mut self.leasequery,
            },
        );
        if self.outbox.asks_servers() {
            self.hear_answers();
        }
        let server = self.sockets.server.as_ref().unwrap_or(&self.sockets.access);
        self.outbox
            .send_to_servers(&self.relay, server, &self.ports);
        if !self.receiver.captured_at.is_empty() {
            let now = boot_now().as_nanos();
            for captured_at in self.receiver.captured_at.drain(..) {
                self.counters
                    .relay_latency
                    .record(now.saturating_sub(captured_at));
            }
        }
    }

    /// Before the first LEASEQUERY leaves: the port is opened when it is needed, because a DHCPv6 client of
    /// this machine may want it.
    fn hear_answers(&mut self) {
        let (Answers::Unasked, Some(source)) =
            (&self.sockets.requestor, self.surroundings.source_address)
        else {
            return;
        };
        let opened = udp::requestor_socket(source).and_then(|socket| {
            self.poller.add(&socket, Source::Requestor)?;
            Ok(socket)
        });
        self.sockets.requestor = match opened {
            Ok(socket) => Answers::On(socket),
            Err(error) => {
                tracing::warn!(
                    "servers that answer LEASEQUERY on port 546 are not heard: {error:#}"
                );
                Answers::Nowhere
            }
        };
    }

    fn beat(&mut self) {
        if !self.dataplane.is_loaded() {
            return;
        }
        let now = boot_now();
        if now >= self.heartbeat_at {
            self.dataplane.heartbeat(boot_nanos(now));
            self.heartbeat_at = now + HEARTBEAT;
        }
    }

    /// How long nothing will be due.
    fn due_in(&self) -> Option<Duration> {
        let beat = self.dataplane.is_loaded().then_some(self.heartbeat_at);
        let due = [
            self.relay.poll_timeout(),
            beat,
            self.follower.due(),
            self.dataplane.due(),
            self.store.due(),
            self.leasequery_due(),
        ]
        .into_iter()
        .flatten()
        .min()
        .filter(|due| *due != Instant::NEVER)?;
        Some(due.saturating_since(boot_now()))
    }

    fn leasequery_due(&self) -> Option<Instant> {
        let now = boot_now();
        match self.leasequery.is_waiting() {
            _ if self.leasequery.has_lost() => Some(now),
            true => Some(now + CROWDED),
            false => None,
        }
    }

    /// Takes new surroundings over: sockets and programs first, so that nothing is relayed where
    /// it cannot be answered. Returns what could not be done; all the rest was.
    pub(super) fn apply(&mut self, new: Box<Surroundings>) -> Vec<anyhow::Error> {
        let mut errors = Vec::new();
        // Some sockets may go now, and with them their numbers.
        self.count_overflows();
        if new.source_address != self.surroundings.source_address || self.sockets.server.is_none() {
            match new.source_address.map(udp::server_socket).transpose() {
                Ok(server) => {
                    if let Some(server) = &server
                        && let Err(error) = self.poller.add(server, Source::Server)
                    {
                        errors.push(error.into());
                    }
                    self.sockets.server = server;
                    self.sockets.server_drops = 0;
                    self.sockets.requestor = Answers::Unasked;
                }
                // The old socket goes on.
                Err(error) => errors.push(error),
            }
        }
        errors.extend(
            self.ports
                .update(&new, &self.counters, &self.sockets.access),
        );
        for port in &self.ports.list {
            if let (Some(socket), Some(ifindex)) = (&port.socket, port.ifindex)
                && let Err(error) = self.poller.add(socket, Source::Packets(ifindex))
            {
                errors.push(error.into());
            }
        }
        self.capture(&new);
        self.relay.set_forwarding(self.dataplane.follows_bindings());
        if let Some(ring) = self.dataplane.ring_fd()
            && let Err(error) = self.poller.add(ring, Source::Ring)
        {
            errors.push(error.into());
        }
        let config = Box::new(new.relay.clone());
        self.relay
            .handle_input(boot_now(), Input::Configure(config));
        self.store.set_names(&new.names);
        self.leasequery.surround(&new);
        self.surroundings = new;
        self.flush();
        errors
    }

    /// Attaches and detaches programs, and tells what changed.
    fn capture(&mut self, new: &Surroundings) {
        let own: Vec<_> = ports::own_addresses(&new.interfaces).collect();
        let ports = &self.ports.list;
        let allowed = ports.iter().filter_map(|port| {
            let prefixes = port.source_allow.iter().copied();
            Some((port.ifindex?, prefixes))
        });
        let allowed: Vec<_> = allowed
            .flat_map(|(ifindex, prefixes)| prefixes.map(move |prefix| (ifindex, prefix)))
            .collect();
        let access = ports.iter().filter_map(|port| {
            Some(Wanted {
                role: Role::Access,
                ifindex: port.ifindex?,
                name: &port.name,
                capture: port.wanted,
                entry: port.entry,
                is_ethernet: port.mac.is_some(),
            })
        });
        let core = new.core.iter().map(|port| {
            let entry = ports::core_entry(port.ifindex, new);
            Wanted {
                role: Role::Core,
                ifindex: port.ifindex,
                name: &port.name,
                capture: Capture::Auto,
                entry,
                is_ethernet: entry.mac_count > 0,
            }
        });
        let wanted: Vec<Wanted<'_>> = access.chain(core).collect();
        let around = Around {
            own_addresses: &own,
            source_allow: &allowed,
            now_nanos: boot_nanos(boot_now()),
        };
        let captured = self.dataplane.sync(&wanted, around);
        drop(wanted);
        let mut captured = captured.into_iter();
        for port in &mut self.ports.list {
            let captured = port.ifindex.and_then(|_| captured.next());
            let state = access_state(&port.name, captured);
            if port.state.as_ref() != Some(&state) {
                tell(&state, port.wanted, &self.events);
                port.state = Some(state);
            }
        }
        let core = new.core.iter().zip(captured);
        let core: Vec<PortState> = core.map(|(port, it)| core_state(&port.name, it)).collect();
        for state in &core {
            if !self.ports.core_states.contains(state) {
                tell_core(state, &self.events);
            }
        }
        self.ports.core_states = core;
    }

    /// Says to all peers that this relay ends, and waits until it is said.
    // req: ALQ-71
    fn take_leave(&mut self) {
        give(&mut self.relay, boot_now(), LeasequeryInput::Shutdown);
        self.flush();
        let until = boot_now() + FAREWELL;
        while !self.leasequery.is_idle() && boot_now() < until {
            // A second Command::Stop has nothing to say.
            let _ = self.obey_commands();
            self.round(&Ready::default());
            std::thread::sleep(Duration::from_millis(1));
        }
    }

    fn finish(mut self) {
        self.take_leave();
        // From here on frames go to the kernel; those that are in the ring are still relayed, and
        // so are answers that wait for their routes.
        self.dataplane.quiesce();
        let all = Ready {
            server: true,
            access: true,
            ring: true,
            packets: self
                .ports
                .list
                .iter()
                .filter_map(|port| port.ifindex)
                .collect(),
            ..Ready::default()
        };
        for _ in 0..FINAL_ROUNDS {
            if !self.round(&all) {
                break;
            }
        }
        let until = boot_now() + LAST_WORDS;
        while self.store.is_rewriting() && boot_now() < until {
            self.store.hear(&mut self.relay, boot_now());
            self.flush();
            // The writer needs the processor too, and room in its queue comes with it.
            std::thread::sleep(Duration::from_micros(100));
        }
        self.store.close(&mut self.relay);
        self.flush();
        let deadline = boot_now() + self.surroundings.relay.reply_deadline;
        self.relay.handle_timeout(deadline);
        self.flush();
        self.dataplane.close(self.on_exit);
    }
}

fn access_state(name: &str, captured: Option<Captured>) -> PortState {
    PortState {
        interface: name.to_owned(),
        capture: captured
            .as_ref()
            .map_or("absent", |it| it.capture)
            .to_owned(),
        reason: captured.and_then(|it| it.reason),
    }
}

/// Nothing is captured there: what no program sees the kernel has as before.
fn core_state(name: &str, captured: Captured) -> PortState {
    let capture = match captured.capture {
        "socket" => "none",
        other => other,
    };
    PortState {
        interface: name.to_owned(),
        capture: capture.to_owned(),
        reason: captured.reason,
    }
}

fn tell_core(state: &PortState, events: &Events) {
    let (interface, program) = (&state.interface, &state.capture);
    match (&state.reason, program.as_str()) {
        (Some(reason), "none") => tracing::warn!(
            %interface, %reason,
            "no program on this core interface: its packets to subscribers are neither counted nor forwarded by XDP, nor dropped when a lease is over"
        ),
        (Some(reason), _) => tracing::warn!(%interface, %program, %reason, "core program"),
        // Where none is wanted, nothing is to be said.
        (None, "none") => return,
        (None, _) => tracing::info!(%interface, %program, "core program"),
    }
    events.publish(EventKind::Capture {
        event: program.clone(),
        interface: interface.clone(),
        reason: state.reason.clone(),
    });
}

fn tell(state: &PortState, wanted: Capture, events: &Events) {
    let (interface, capture) = (&state.interface, &state.capture);
    match (&state.reason, wanted) {
        (Some(reason), Capture::Xdp | Capture::XdpGeneric) if capture == "socket" => {
            tracing::error!(%interface, %capture, %reason, "not captured as demanded");
        }
        (Some(reason), _) => tracing::warn!(%interface, %capture, %reason, "capture"),
        (None, _) => tracing::info!(%interface, %capture, "capture"),
    }
    events.publish(EventKind::Capture {
        event: capture.clone(),
        interface: interface.clone(),
        reason: state.reason.clone(),
    });
}

/// An interface that goes down makes its socket fail once; that is no news.
fn or_log(what: &str, more: std::io::Result<bool>) -> bool {
    match more {
        Ok(more) => return more,
        Err(error) if error.raw_os_error() == Some(libc::ENETDOWN) => {}
        Err(error) => tracing::warn!(%error, "cannot receive from {what}"),
    }
    false
}
