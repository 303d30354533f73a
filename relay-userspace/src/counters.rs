//! Numbers that any thread may add to and any thread may read: plain relaxed atomics in arrays, so
//! that counting on the relay path costs one increment.

use std::sync::Arc;
use std::sync::RwLock;
use std::sync::atomic::{AtomicU64, Ordering};

use relay_core::effect::BindingAction;
use relay_core::error::{Discard, Notice};

use crate::leasequery::Refused;

/// One number that only grows (or is cleared by an operator).
#[derive(Debug, Default)]
pub struct Counter(AtomicU64);

impl Counter {
    /// Adds one.
    pub fn inc(&self) {
        self.add(1);
    }

    /// Adds `n`.
    pub fn add(&self, n: u64) {
        self.0.fetch_add(n, Ordering::Relaxed);
    }

    /// A gauge's new value.
    pub fn set(&self, value: u64) {
        self.0.store(value, Ordering::Relaxed);
    }

    /// The present value.
    pub fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }

    /// Back to zero (`clear statistics`).
    pub fn clear(&self) {
        self.0.store(0, Ordering::Relaxed);
    }
}

/// Message types 0 to 38, and one place for all others.
pub const MESSAGE_TYPES: usize = 40;

/// The place of a message type in an array of [`MESSAGE_TYPES`].
pub fn message_type_slot(message_type: u8) -> usize {
    usize::from(message_type).min(MESSAGE_TYPES - 1)
}

/// Which way a message went, as seen from this relay.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Direction {
    /// From a client or downstream relay.
    FromClient,
    /// To a server.
    ToServer,
    /// From a server.
    FromServer,
    /// To a client or downstream relay.
    ToClient,
}

impl Direction {
    /// All, in the order of their discriminants.
    pub const ALL: [Self; 4] = [
        Self::FromClient,
        Self::ToServer,
        Self::FromServer,
        Self::ToClient,
    ];

    /// The label of metrics.
    pub const fn name(self) -> &'static str {
        match self {
            Self::FromClient => "from-client",
            Self::ToServer => "to-server",
            Self::FromServer => "from-server",
            Self::ToClient => "to-client",
        }
    }
}

/// What happened on one interface (access interfaces by name; servers are counted by their name).
#[derive(Debug)]
pub struct PortCounters {
    /// Interface or server name: the `interface` label.
    pub name: String,
    /// By [`Direction`] and [`message_type_slot`].
    pub messages: [[Counter; MESSAGE_TYPES]; 4],
    /// By [`Discard`].
    pub discards: [Counter; Discard::ALL.len()],
    /// By [`Notice`].
    pub notices: [Counter; Notice::ALL.len()],
    /// By [`ShellDrop`].
    pub shell_drops: [Counter; ShellDrop::ALL.len()],
}

impl PortCounters {
    /// All zero.
    pub fn new(name: String) -> Self {
        Self {
            name,
            messages: std::array::from_fn(|_| std::array::from_fn(|_| Counter::default())),
            discards: std::array::from_fn(|_| Counter::default()),
            notices: std::array::from_fn(|_| Counter::default()),
            shell_drops: std::array::from_fn(|_| Counter::default()),
        }
    }

    /// The counter of one direction and type.
    pub fn message(&self, direction: Direction, message_type: u8) -> &Counter {
        &self.messages[direction as usize][message_type_slot(message_type)]
    }

    /// Counts a drop that the shell decided.
    pub fn shell_drop(&self, reason: ShellDrop) {
        self.shell_drops[reason as usize].inc();
    }
}

macro_rules! shell_drops {
    ($($(#[$doc:meta])* $variant:ident => $label:literal,)+) => {
        /// Drops that the shell decides, before or after the core.
        #[derive(Clone, Copy, PartialEq, Eq, Debug)]
        pub enum ShellDrop { $($(#[$doc])* $variant,)+ }
        impl ShellDrop {
            /// All, in the order of their discriminants.
            pub const ALL: &'static [Self] = &[$(Self::$variant),+];
            /// The label of the counter.
            pub const fn name(self) -> &'static str { match self { $(Self::$variant => $label,)+ } }
        }
    };
}

shell_drops! {
    /// IPv6 length and frame length do not agree.
    BadLength => "bad_length",
    /// UDP checksum wrong or zero.
    BadChecksum => "bad_checksum",
    /// Ring record older than 2 s.
    Stale => "stale",
    /// The kernel refused to send to a server.
    SendToServer => "send_to_server",
    /// The kernel refused to send to a client.
    SendToClient => "send_to_client",
    /// The interface has no link-local address to send from.
    NoLinkLocal => "no_link_local",
    /// The message was truncated by a receive buffer.
    Truncated => "truncated",
    /// By a socket came more from this client than `per_client` allows.
    ClientRate => "client_rate",
    /// By sockets came more from this interface than `per_interface` allows.
    InterfaceRate => "interface_rate",
    /// The kernel had no room left for it in a socket's queue.
    QueueFull => "queue_full",
}

/// Upper bounds of the latency histogram, in microseconds; one more bucket is infinity.
pub const LATENCY_BOUNDS_MICROS: [u64; 14] = [
    10, 20, 50, 100, 200, 500, 1_000, 2_000, 5_000, 10_000, 50_000, 200_000, 500_000, 1_000_000,
];

/// Capture to send, one sample a relayed message.
#[derive(Debug, Default)]
pub struct LatencyHistogram {
    /// Not cumulative.
    pub buckets: [Counter; LATENCY_BOUNDS_MICROS.len() + 1],
    /// Sum in nanoseconds.
    pub sum_nanos: Counter,
}

impl LatencyHistogram {
    /// Adds one sample.
    pub fn record(&self, nanos: u64) {
        let micros = nanos / 1_000;
        let slot = LATENCY_BOUNDS_MICROS.partition_point(|&bound| bound < micros);
        self.buckets[slot].inc();
        self.sum_nanos.add(nanos);
    }
}

/// Routes and neighbours, counted by the follower.
#[derive(Debug, Default)]
pub struct RouteCounters {
    /// Routes of ours in the kernel now (a gauge).
    pub installed: Counter,
    /// Changes on their way (a gauge).
    pub pending: Counter,
    /// Routes refused or failed now (a gauge).
    pub failed: Counter,
    /// Writes that the kernel refused.
    pub errors: Counter,
    /// Routes put back after somebody else removed them.
    pub repaired: Counter,
    /// Neighbour entries of ours now (a gauge).
    pub neighbors: Counter,
    /// Comparisons of everything with the kernel.
    pub comparisons: Counter,
    /// When the last one ended: Unix time in seconds, 0 before the first (a gauge).
    pub compared_at: Counter,
}

impl RouteCounters {
    /// A comparison has ended.
    pub fn compared(&self) {
        self.comparisons.inc();
        let now = std::time::UNIX_EPOCH.elapsed().unwrap_or_default();
        self.compared_at.set(now.as_secs());
    }
}

/// Everything the daemon counts.
#[derive(Debug, Default)]
pub struct Counters {
    /// By access interface and server; grows on reload, never shrinks.
    pub ports: RwLock<Vec<Arc<PortCounters>>>,
    /// By [`BindingAction`].
    pub binding_events: [Counter; BindingAction::ALL.len()],
    /// Capture to send.
    pub relay_latency: LatencyHistogram,
    /// The follower's numbers.
    pub routes: RouteCounters,
    /// Configurations taken while the daemon runs.
    pub reloads: Counter,
    /// Configurations refused while the daemon runs.
    pub reloads_refused: Counter,
    /// Events that a slow `monitor` did not get.
    pub events_lost: Counter,
    /// Binding events that the binding log did not get.
    pub binding_log_skipped: Counter,
    /// Connections of leasequery that were closed before anything was read, by [`Refused`].
    pub leasequery_refused: [Counter; Refused::ALL.len()],
    /// Route changes that did not fit their queue (each is followed by a full comparison).
    pub route_queue_overflows: Counter,
}

impl Counters {
    /// The counters of this interface or server, made where they are not there yet.
    pub fn port(&self, name: &str) -> Arc<PortCounters> {
        let mut ports = self.ports.write().expect("no holder of this lock panics");
        if let Some(port) = ports.iter().find(|port| port.name == name) {
            return Arc::clone(port);
        }
        let port = Arc::new(PortCounters::new(name.to_owned()));
        ports.push(Arc::clone(&port));
        port
    }
}
