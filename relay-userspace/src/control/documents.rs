//! Short answers, each made at once: interfaces, servers, statistics, version.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use jiff::Timestamp;
use relay_core::effect::BindingAction;
use relay_core::error::{Discard, Notice};
use relay_core::types::IfIndex;
use relay_core::view::TableSummary;
use relay_core::wire::iana::message_type_name;
use serde::{Deserialize, Serialize};

use super::ControlContext;
use super::dataplane::{anti_loop, without_zeros};
use super::servers::{ServerHealth, totals};
use crate::config::Forwarding;
use crate::counters::{
    Counter, Counters, Direction, LATENCY_BOUNDS_MICROS, PortCounters, ShellDrop,
};
use crate::handle::PortState;
use crate::store::{State, Status};
use crate::wall_time::WallTime;

/// An element of `show interfaces --json`.
#[derive(Clone, PartialEq, Debug, Default, Serialize, Deserialize)]
pub struct InterfaceJson {
    /// Its name.
    pub interface: String,
    /// `access` or `core`.
    pub role: String,
    /// Kernel index; `null` while it does not exist.
    pub index: Option<u32>,
    /// Link-layer address.
    pub mac: Option<String>,
    /// Administratively up.
    pub up: bool,
    /// Has carrier.
    pub carrier: bool,
    /// Bytes of layer 3.
    pub mtu: Option<u32>,
    /// `xdp`, `xdp-generic`, `socket`, `absent`; on core interfaces how packets to subscribers are seen, `null` where
    /// they are not.
    pub capture: Option<String>,
    /// Why not a better way.
    pub capture_reason: Option<String>,
    /// `off`, `monitor`, `enforce`; `null` on core interfaces.
    pub source_guard: Option<String>,
    /// `off`, `drop`; `null` on core interfaces.
    pub anti_loop: Option<String>,
    /// `kernel` or `xdp`, as configured.
    pub forwarding: String,
    /// As put into RELAY-FORW; `null` on core interfaces.
    pub link_address: Option<String>,
    /// Source of RELAY-FORW, on core interfaces.
    pub source_address: Option<String>,
    /// IPv6 addresses with their lengths.
    pub addresses: Vec<String>,
}

/// An element of `show servers --json`.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct ServerJson {
    /// Its name.
    pub name: String,
    /// Unicast or multicast.
    pub address: String,
    /// UDP port.
    pub port: u16,
    /// Outgoing interface, where one was named.
    pub interface: Option<String>,
    /// `answering`, `silent`, `unknown`.
    pub state: String,
    /// RELAY-FORW to it.
    pub messages_sent: u64,
    /// Messages from it.
    pub messages_received: u64,
    /// Access interfaces whose clients are relayed to it.
    pub access: Vec<String>,
}

/// A number with its labels.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct Counted {
    /// Interface or server.
    pub interface: String,
    /// Which number of that interface.
    pub name: String,
    /// Its value.
    pub count: u64,
}

/// Messages of one kind.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct MessageCount {
    /// Interface or server.
    pub interface: String,
    /// `from-client`, `to-server`, `from-server`, `to-client`.
    pub direction: String,
    /// `solicit`, ….
    #[serde(rename = "type")]
    pub message_type: String,
    /// How many.
    pub count: u64,
}

/// Leases of one kind now.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct BindingCount {
    /// Access interface.
    pub interface: String,
    /// `IA_NA`, `IA_TA`, `IA_PD`.
    #[serde(rename = "type")]
    pub ia_type: String,
    /// As in `show bindings`.
    pub origin: String,
    /// How many.
    pub count: usize,
}

/// Routes and neighbour entries.
#[derive(Clone, PartialEq, Debug, Default, Serialize, Deserialize)]
pub struct RouteStatistics {
    /// In the kernel now.
    pub installed: u64,
    /// On their way now.
    pub pending: u64,
    /// Refused now.
    pub failed: u64,
    /// Writes that the kernel refused.
    pub errors: u64,
    /// Put back after somebody removed them.
    pub repaired: u64,
    /// Neighbour entries now.
    pub neighbors: u64,
    /// Route changes that did not fit their queue.
    pub queue_overflows: u64,
    /// Comparisons of everything with the kernel.
    pub comparisons: u64,
}

/// Capture to send.
#[derive(Clone, PartialEq, Debug, Default, Serialize, Deserialize)]
pub struct LatencyStatistics {
    /// Messages.
    pub count: u64,
    /// Seconds; `null` without messages.
    pub mean: Option<f64>,
    /// Seconds: the bound below which half of them stayed; `null` without messages or above 1 s.
    pub median_below: Option<f64>,
    /// Seconds: the bound below which 99 % of them stayed.
    pub p99_below: Option<f64>,
}

/// What the kernel programs count.
#[derive(Clone, PartialEq, Debug, Default, Serialize, Deserialize)]
pub struct DataplaneStatistics {
    /// By reason.
    pub drops: Vec<NamedCount>,
    /// By interface and action.
    pub packets: Vec<Counted>,
    /// Frames that found the ring full.
    pub ring_lost: u64,
}

/// The store of bindings.
#[derive(Clone, PartialEq, Debug, Default, Serialize, Deserialize)]
pub struct StoreStatistics {
    /// `ok`, `degraded`, `off`.
    pub state: String,
    /// Why it is not `ok`.
    pub reason: Option<String>,
    /// Since when it is degraded.
    pub since: Option<String>,
    /// Writes made durable.
    pub commits: u64,
    /// Changes in them.
    pub records: u64,
    /// Writes that failed.
    pub failures: u64,
    /// Times that all bindings were written again.
    pub rewrites: u64,
    /// Bytes that could not be read.
    pub damaged_bytes: u64,
}

/// A number with one label.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct NamedCount {
    /// Which.
    pub name: String,
    /// Its value.
    pub count: u64,
}

/// `show statistics --json`; lists leave out what is zero.
#[derive(Clone, PartialEq, Debug, Default, Serialize, Deserialize)]
pub struct Statistics {
    /// By interface or server, direction and type.
    pub messages: Vec<MessageCount>,
    /// Dropped on purpose, by interface and reason.
    pub drops: Vec<Counted>,
    /// Noticed without a drop.
    pub notices: Vec<Counted>,
    /// Clients with at least one lease.
    pub clients: usize,
    /// Active leases.
    pub bindings: Vec<BindingCount>,
    /// Leases over a limit that clients hold now, without routes.
    pub bindings_refused: usize,
    /// Since the start or the last clear.
    pub binding_events: Vec<NamedCount>,
    /// Replies that wait for their routes now.
    pub held_replies: usize,
    /// Routes and neighbour entries.
    pub routes: RouteStatistics,
    /// Capture to send.
    pub latency: LatencyStatistics,
    /// The kernel programs.
    pub dataplane: DataplaneStatistics,
    /// Configurations taken while the daemon runs.
    pub reloads: u64,
    /// Configurations refused while the daemon runs.
    pub reloads_refused: u64,
    /// What survives a restart.
    pub store: StoreStatistics,
    /// Events that slow monitors did not get.
    pub events_lost: u64,
    /// Binding events that the binding log did not get.
    pub binding_log_skipped: u64,
}

/// `show version --json`.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct Version {
    /// Of the running daemon.
    pub version: String,
    /// When it started.
    pub started: String,
    /// Seconds since.
    pub uptime: u64,
}

/// Access interfaces in the order of the file, then core interfaces.
pub(super) fn interfaces(context: &ControlContext, ports: &[PortState]) -> Vec<InterfaceJson> {
    let config = Arc::clone(&context.config.borrow());
    let surroundings = Arc::clone(&context.surroundings.borrow());
    let source = surroundings.source_address.map(|source| source.to_string());
    let forwarding = match config.dataplane.forwarding {
        Forwarding::Kernel => "kernel",
        Forwarding::Xdp => "xdp",
    };
    let access = config.access.iter().map(|section| {
        let port = ports
            .iter()
            .find(|port| port.interface == section.interface);
        let relay = surroundings.relay.access.iter();
        let relay = relay.clone().find(|it| it.name == section.interface);
        let link_address = relay.map(|it| it.link_address.to_string());
        InterfaceJson {
            capture: Some(port.map_or("absent", |port| &port.capture).to_owned()),
            capture_reason: port.and_then(|port| port.reason.clone()),
            source_guard: Some(section.source_guard.name().to_owned()),
            anti_loop: Some(anti_loop(section.anti_loop).to_owned()),
            forwarding: forwarding.to_owned(),
            link_address: link_address.filter(|address| address != "::"),
            ..kernel_side(context, &section.interface, "access")
        }
    });
    let core = config.core.iter().map(|section| {
        let port = ports.iter().find(|it| it.interface == section.interface);
        let capture = port.map(|port| port.capture.clone());
        InterfaceJson {
            capture: capture.filter(|it| it != "none"),
            capture_reason: port.and_then(|port| port.reason.clone()),
            forwarding: forwarding.to_owned(),
            source_address: source.clone(),
            ..kernel_side(context, &section.interface, "core")
        }
    });
    access.chain(core).collect()
}

fn kernel_side(context: &ControlContext, name: &str, role: &str) -> InterfaceJson {
    let table = context.interfaces.borrow();
    let mut row = InterfaceJson {
        interface: name.to_owned(),
        role: role.to_owned(),
        ..InterfaceJson::default()
    };
    if let Some(interface) = table.by_name(name) {
        row.index = Some(interface.index.0);
        row.mac = interface.mac.map(|mac| mac.to_string());
        row.up = interface.up;
        row.carrier = interface.carrier;
        row.mtu = Some(interface.mtu);
        let addresses = interface.addresses.iter();
        row.addresses = addresses
            .map(|it| format!("{}/{}", it.address, it.prefix_bits))
            .collect();
    }
    row
}

/// Servers in the order of the file.
pub(super) fn servers(context: &ControlContext, health: &ServerHealth) -> Vec<ServerJson> {
    let surroundings = Arc::clone(&context.surroundings.borrow());
    let interfaces = Arc::clone(&context.interfaces.borrow());
    let name_of = |index: IfIndex| interfaces.by_index(index).map(|it| it.name.clone());
    let servers = surroundings
        .server_names
        .iter()
        .zip(&surroundings.relay.servers);
    servers
        .map(|(name, server)| {
            let (messages_sent, messages_received) = totals(&context.counters.port(name));
            let access = surroundings.relay.access.iter();
            ServerJson {
                name: name.clone(),
                address: server.address.to_string(),
                port: server.port,
                interface: server.interface.and_then(name_of),
                state: health.of(name).name().to_owned(),
                messages_sent,
                messages_received,
                access: access
                    .filter(|it| it.servers.contains(&server.id))
                    .map(|it| it.name.clone())
                    .collect(),
            }
        })
        .collect()
}

/// Everything that is counted.
pub(super) fn statistics(context: &ControlContext, summary: &TableSummary) -> Statistics {
    let counters = &context.counters;
    let ports = counters
        .ports
        .read()
        .expect("no holder of this lock panics")
        .clone();
    let dataplane = context.dataplane.read();
    let surroundings = Arc::clone(&context.surroundings.borrow());
    let names = &surroundings.names;
    Statistics {
        messages: ports.iter().flat_map(|port| messages(port)).collect(),
        drops: ports.iter().flat_map(|port| drops(port)).collect(),
        notices: ports.iter().flat_map(|port| notices(port)).collect(),
        clients: summary.clients,
        bindings: summary
            .active
            .iter()
            .map(|(access, ia_type, origin, count)| BindingCount {
                interface: names.access(*access),
                ia_type: ia_type.name().to_owned(),
                origin: names.origin(*origin),
                count: *count,
            })
            .collect(),
        bindings_refused: summary.refused,
        binding_events: BindingAction::ALL
            .iter()
            .zip(&counters.binding_events)
            .filter_map(|(action, counter)| named(action.name(), counter.get()))
            .collect(),
        held_replies: summary.held_replies,
        routes: RouteStatistics {
            installed: counters.routes.installed.get(),
            pending: counters.routes.pending.get(),
            failed: counters.routes.failed.get(),
            errors: counters.routes.errors.get(),
            repaired: counters.routes.repaired.get(),
            neighbors: counters.routes.neighbors.get(),
            queue_overflows: counters.route_queue_overflows.get(),
            comparisons: counters.routes.comparisons.get(),
        },
        latency: latency(counters),
        dataplane: DataplaneStatistics {
            drops: without_zeros(&dataplane.drops),
            packets: dataplane
                .packets
                .iter()
                .filter_map(|(interface, action, count)| counted(interface, action, *count))
                .collect(),
            ring_lost: dataplane.ring_lost,
        },
        reloads: counters.reloads.get(),
        reloads_refused: counters.reloads_refused.get(),
        store: store(&context.store),
        events_lost: counters.events_lost.get(),
        binding_log_skipped: counters.binding_log_skipped.get(),
    }
}

fn store(status: &Status) -> StoreStatistics {
    let count = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
    let (state, reason, since) = match status.state() {
        State::Ok => ("ok", None, None),
        State::Degraded { reason, since } => {
            let since = Timestamp::try_from(since).ok();
            ("degraded", Some(reason), since.map(|it| it.to_string()))
        }
        State::Off(reason) => ("off", Some(reason), None),
    };
    let counters = &status.counters;
    StoreStatistics {
        state: state.to_owned(),
        reason,
        since,
        commits: count(&counters.commits),
        records: count(&counters.records),
        failures: count(&counters.failures),
        rewrites: count(&counters.rewrites),
        damaged_bytes: count(&counters.damaged_bytes),
    }
}

fn named(name: &str, count: u64) -> Option<NamedCount> {
    (count > 0).then(|| NamedCount {
        name: name.to_owned(),
        count,
    })
}

fn counted(interface: &str, name: &str, count: u64) -> Option<Counted> {
    (count > 0).then(|| Counted {
        interface: interface.to_owned(),
        name: name.to_owned(),
        count,
    })
}

/// Types that have no name share one row.
fn messages(port: &PortCounters) -> Vec<MessageCount> {
    let mut rows: Vec<MessageCount> = Vec::new();
    for direction in Direction::ALL {
        for (message_type, counter) in (0u8..).zip(&port.messages[direction as usize]) {
            let (name, count) = (message_type_name(message_type), counter.get());
            let is_same = |row: &&mut MessageCount| {
                row.direction == direction.name() && row.message_type == name
            };
            if count == 0 {
                continue;
            }
            if let Some(row) = rows.iter_mut().find(is_same) {
                row.count += count;
                continue;
            }
            rows.push(MessageCount {
                interface: port.name.clone(),
                direction: direction.name().to_owned(),
                message_type: name.to_owned(),
                count,
            });
        }
    }
    rows
}

fn drops(port: &PortCounters) -> impl Iterator<Item = Counted> + use<'_> {
    let core = Discard::ALL.iter().zip(&port.discards);
    let core = core.map(|(reason, counter)| (reason.name(), counter));
    let shell = ShellDrop::ALL.iter().zip(&port.shell_drops);
    let shell = shell.map(|(reason, counter)| (reason.name(), counter));
    core.chain(shell)
        .filter_map(|(name, counter)| counted(&port.name, name, counter.get()))
}

fn notices(port: &PortCounters) -> impl Iterator<Item = Counted> + use<'_> {
    let all = Notice::ALL.iter().zip(&port.notices);
    all.filter_map(|(notice, counter)| counted(&port.name, notice.name(), counter.get()))
}

fn latency(counters: &Counters) -> LatencyStatistics {
    let histogram = &counters.relay_latency;
    let buckets: Vec<u64> = histogram.buckets.iter().map(Counter::get).collect();
    let count: u64 = buckets.iter().sum();
    let below = |share: f64| {
        let mut seen = 0;
        let slot = buckets.iter().position(|bucket| {
            seen += bucket;
            seen as f64 >= share * count as f64
        })?;
        Some(*LATENCY_BOUNDS_MICROS.get(slot)? as f64 / 1e6)
    };
    if count == 0 {
        return LatencyStatistics::default();
    }
    LatencyStatistics {
        count,
        mean: Some(histogram.sum_nanos.get() as f64 / 1e9 / count as f64),
        median_below: below(0.5),
        p99_below: below(0.99),
    }
}

/// Of the running daemon.
pub(super) fn version(context: &ControlContext) -> Version {
    let clock = WallTime::read();
    let uptime = clock.now_utc.duration_since(context.started).as_secs();
    Version {
        version: env!("CARGO_PKG_VERSION").to_owned(),
        started: whole_second(context.started).to_string(),
        uptime: u64::try_from(uptime).unwrap_or(0),
    }
}

fn whole_second(time: jiff::Timestamp) -> jiff::Timestamp {
    jiff::Timestamp::from_second(time.as_second()).unwrap_or(time)
}

/// Zeroes what only grows; what is a state of now stays.
pub(super) fn clear_statistics(counters: &Counters) {
    for port in counters
        .ports
        .read()
        .expect("no holder of this lock panics")
        .iter()
    {
        port.messages.iter().flatten().for_each(Counter::clear);
        port.discards.iter().for_each(Counter::clear);
        port.notices.iter().for_each(Counter::clear);
        port.shell_drops.iter().for_each(Counter::clear);
    }
    counters.binding_events.iter().for_each(Counter::clear);
    counters
        .relay_latency
        .buckets
        .iter()
        .for_each(Counter::clear);
    counters.relay_latency.sum_nanos.clear();
    counters.routes.errors.clear();
    counters.routes.repaired.clear();
    counters.routes.comparisons.clear();
    counters.reloads.clear();
    counters.reloads_refused.clear();
    counters.events_lost.clear();
    counters.binding_log_skipped.clear();
    counters.route_queue_overflows.clear();
    counters.leasequery_refused.iter().for_each(Counter::clear);
}
