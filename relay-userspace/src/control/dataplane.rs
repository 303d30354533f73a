//! `show dataplane`, and what was counted for leases.

use relay_core::types::IfIndex;
use serde::{Deserialize, Serialize};

use super::ControlContext;
use super::documents::{Counted, NamedCount};
use crate::config::Forwarding;
use crate::handle::PortState;

/// Packets and octets of IPv6 of a lease, seen from this router.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug, Serialize, Deserialize)]
pub struct Traffic {
    /// From the subscriber.
    pub rx_packets: u64,
    /// From the subscriber.
    pub rx_bytes: u64,
    /// To the subscriber.
    pub tx_packets: u64,
    /// To the subscriber.
    pub tx_bytes: u64,
}

/// What the parts that run kernel programs know of them.
#[derive(Clone, PartialEq, Default, Debug)]
pub struct DataplaneState {
    /// Programs that are loaded.
    pub programs: Vec<ProgramRow>,
    /// Where they are attached.
    pub interfaces: Vec<MountedRow>,
    /// The maps of bindings.
    pub maps: Vec<MapRow>,
    /// Entries of bindings; `None` where no program looks at them.
    pub bindings: Option<BindingEntries>,
    /// The ring of captured frames.
    pub ring: Option<RingRow>,
}

/// A program.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct ProgramRow {
    /// `access_ingress`, `core_ingress`.
    pub name: String,
    /// The kernel's number.
    pub id: u32,
    /// Equal for equal programs.
    pub tag: String,
    /// Runs while `kernel.bpf_stats_enabled` was on.
    pub run_count: u64,
    /// Time that they took.
    pub run_nanoseconds: u64,
}

/// A program on an interface.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct MountedRow {
    /// Its name.
    pub interface: String,
    /// `access` or `core`.
    pub role: String,
    /// Kernel index.
    pub index: u32,
    /// `xdp` or `xdp-generic`.
    pub mode: String,
    /// Packets are sent out of it without the kernel's stack.
    pub sends: bool,
}

/// A map.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct MapRow {
    /// Its name.
    pub name: String,
    /// Bytes of kernel memory; `null` where the kernel does not say.
    pub memory: Option<u64>,
}

/// Entries of bindings.
#[derive(Clone, PartialEq, Eq, Default, Debug, Serialize, Deserialize)]
pub struct BindingEntries {
    /// Now.
    pub entries: u64,
    /// As many as there may be.
    pub limit: u64,
    /// Bindings that got none, since the start.
    pub refused_total: u64,
    /// Writes that failed for other reasons, since the start.
    pub write_failures: u64,
    /// Bindings that have none now; at most 1024 of them.
    pub refused: Vec<RefusedRow>,
}

/// A binding without an entry.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct RefusedRow {
    /// Its prefix.
    pub prefix: String,
    /// `map_full`, `prefix_lengths`.
    pub reason: String,
}

/// The ring of captured frames.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct RingRow {
    /// Its size.
    pub bytes: u64,
    /// What waits in it now.
    pub used: u64,
}

/// A reason for which packets were dropped, or would have been.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct ReasonRow {
    /// Its label.
    pub reason: String,
    /// Nobody has them.
    pub dropped: u64,
    /// The kernel's stack has them.
    pub passed: u64,
}

/// An interface of `show dataplane`.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct DataplaneInterface {
    /// Its name.
    pub interface: String,
    /// `access` or `core`.
    pub role: String,
    /// Kernel index; `null` while it does not exist.
    pub index: Option<u32>,
    /// `xdp`, `xdp-generic`, `none`.
    pub mode: String,
    /// Why not in a better way.
    pub reason: Option<String>,
    /// `off`, `monitor`, `enforce`; `null` on core interfaces.
    pub source_guard: Option<String>,
    /// `off`, `drop`; likewise.
    pub anti_loop: Option<String>,
    /// `kernel`, or `xdp` where packets may leave through it without the kernel's stack.
    pub forwarding: String,
}

/// `show dataplane --json`.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct DataplaneJson {
    /// Interfaces in the order of the file.
    pub interfaces: Vec<DataplaneInterface>,
    /// Programs that are loaded.
    pub programs: Vec<ProgramRow>,
    /// Frames by interface and what became of them.
    pub packets: Vec<Counted>,
    /// Packets that met a reason.
    pub reasons: Vec<ReasonRow>,
    /// Entries of bindings; `null` where no program looks at them.
    pub bindings: Option<BindingEntries>,
    /// The maps of bindings.
    pub maps: Vec<MapRow>,
    /// The ring of captured frames; `null` without programs.
    pub ring: Option<RingRow>,
    /// Frames that found it full.
    pub ring_lost: u64,
    /// Of all leases that there ever were.
    pub traffic: Option<Traffic>,
}

/// All of it.
pub(super) fn document(context: &ControlContext, ports: &[PortState]) -> DataplaneJson {
    let state = context.dataplane.describe();
    let counters = context.dataplane.read();
    let passes = |reason: &str| {
        let found = counters.passes.iter().find(|(name, _)| name == reason);
        found.map_or(0, |(_, count)| *count)
    };
    let drops = |reason: &str| {
        let found = counters.drops.iter().find(|(name, _)| name == reason);
        found.map_or(0, |(_, count)| *count)
    };
    let names = counters.passes.iter().map(|(name, _)| name);
    let packets = counters.packets.iter();
    DataplaneJson {
        interfaces: interfaces(context, ports, &state),
        programs: state.programs,
        packets: packets
            .map(|(interface, action, count)| Counted {
                interface: interface.clone(),
                name: action.clone(),
                count: *count,
            })
            .collect(),
        reasons: names
            .map(|reason| ReasonRow {
                reason: reason.clone(),
                dropped: drops(reason),
                passed: passes(reason),
            })
            .collect(),
        bindings: state.bindings,
        maps: state.maps,
        ring: state.ring,
        ring_lost: counters.ring_lost,
        traffic: counters.traffic,
    }
}

fn interfaces(
    context: &ControlContext,
    ports: &[PortState],
    state: &DataplaneState,
) -> Vec<DataplaneInterface> {
    let config = std::sync::Arc::clone(&context.config.borrow());
    let table = context.interfaces.borrow();
    let is_forwarding = config.dataplane.forwarding == Forwarding::Xdp;
    let row = |name: &str, role: &str| {
        let index = table.by_name(name).map(|it| it.index);
        let is_this = |it: &&MountedRow| Some(IfIndex(it.index)) == index && it.role == role;
        let mounted = state.interfaces.iter().find(is_this);
        let port = ports.iter().find(|port| port.interface == name);
        DataplaneInterface {
            interface: name.to_owned(),
            role: role.to_owned(),
            index: index.map(|it| it.0),
            mode: mounted.map_or("none", |it| &it.mode).to_owned(),
            reason: port.and_then(|port| port.reason.clone()),
            source_guard: None,
            anti_loop: None,
            forwarding: match is_forwarding && mounted.is_some_and(|it| it.sends) {
                true => "xdp".to_owned(),
                false => "kernel".to_owned(),
            },
        }
    };
    let access = config.access.iter().map(|section| DataplaneInterface {
        source_guard: Some(section.source_guard.name().to_owned()),
        anti_loop: Some(anti_loop(section.anti_loop).to_owned()),
        ..row(&section.interface, "access")
    });
    let core = config.core.iter().map(|it| row(&it.interface, "core"));
    access.chain(core).collect()
}

/// As in the file.
pub(super) const fn anti_loop(is_on: bool) -> &'static str {
    if is_on { "drop" } else { "off" }
}

/// Without what is zero.
pub(super) fn without_zeros(counts: &[(String, u64)]) -> Vec<NamedCount> {
    let counts = counts.iter().filter(|(_, count)| *count > 0);
    counts
        .map(|(name, count)| NamedCount {
            name: name.clone(),
            count: *count,
        })
        .collect()
}
