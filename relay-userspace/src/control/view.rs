//! What the control socket and the metrics endpoint ask of the parts that write routes and run
//! kernel programs. Implemented there; nothing here knows netlink or eBPF.

use std::net::Ipv6Addr;

use relay_core::types::Prefix;
use serde::{Deserialize, Serialize};

use super::dataplane::{DataplaneState, Traffic};

/// The routes that the daemon wants or holds.
pub trait RoutesView: Send + Sync {
    /// Some routes, from a place of the table on; 0 is the first. Called from tokio tasks: must not
    /// block for longer than copying them takes.
    fn page(&self, from: u32) -> Page<RouteRow>;

    /// What is wanted and not in the kernel, and what is in the kernel and not wanted or in the way, from
    /// a place of the table on. Likewise.
    fn differences(&self, from: u32) -> Page<Difference>;
}

/// Some rows. Pages of one walk may miss or repeat what changes meanwhile.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Page<T> {
    /// In no order.
    pub rows: Vec<T>,
    /// Where the next page begins; `None` after the last.
    pub next: Option<u32>,
}

impl<T> Default for Page<T> {
    fn default() -> Self {
        Self {
            rows: Vec::new(),
            next: None,
        }
    }
}

/// What a route is for.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum RouteKind {
    /// To a leased address or delegated prefix.
    Lease,
    /// An unreachable route of `[routes] aggregates`.
    Aggregate,
}

/// Whether a route is in the kernel.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum RouteRowState {
    /// It is.
    Installed,
    /// Its write is on the way.
    Pending,
    /// Refused, by us or by the kernel.
    Failed,
    /// In the kernel with our protocol number, left by an earlier run or on its way out; no lease is
    /// known for it.
    Unclaimed,
    /// In the kernel and not ours.
    Foreign,
}

impl RouteRowState {
    /// As in JSON.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Installed => "installed",
            Self::Pending => "pending",
            Self::Failed => "failed",
            Self::Unclaimed => "unclaimed",
            Self::Foreign => "foreign",
        }
    }
}

/// One route.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct RouteRow {
    /// Destination.
    pub prefix: Prefix,
    /// Next hop; `None` for an unreachable route.
    pub gateway: Option<Ipv6Addr>,
    /// Name of the outgoing interface; `None` for an unreachable route.
    pub interface: Option<String>,
    /// What it is for.
    pub kind: RouteKind,
    /// Whether it is in the kernel.
    pub state: RouteRowState,
    /// Why it is not ([`super::json::refusal_text`] for refusals of the core).
    pub error: Option<String>,
}

/// Which side of the comparison a row is from.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Side {
    /// What leases and configuration call for.
    Wanted,
    /// What is there.
    Kernel,
}

impl Side {
    /// As in JSON.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Wanted => "wanted",
            Self::Kernel => "kernel",
        }
    }
}

/// A route that only one side has, or that keeps one of ours out.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Difference {
    /// Whose.
    pub side: Side,
    /// Destination.
    pub prefix: Prefix,
    /// Next hop, where known.
    pub gateway: Option<Ipv6Addr>,
    /// Name of the outgoing interface, where known.
    pub interface: Option<String>,
    /// Who made it, or our number.
    pub protocol: Option<u8>,
    /// Metric.
    pub metric: Option<u32>,
    /// On the side of what is wanted `pending` or `failed`, on that of the kernel `unclaimed` or `foreign`.
    pub state: RouteRowState,
    /// Why it is not there.
    pub error: Option<String>,
}

/// No routes: what a daemon with `[routes] enabled = false` shows.
#[derive(Clone, Copy, Debug, Default)]
pub struct NoRoutes;

impl RoutesView for NoRoutes {
    fn page(&self, _from: u32) -> Page<RouteRow> {
        Page::default()
    }

    fn differences(&self, _from: u32) -> Page<Difference> {
        Page::default()
    }
}

/// The kernel programs' own counters.
pub trait DataplaneView: Send + Sync {
    /// Reads them from the maps, now.
    fn read(&self) -> DataplaneCounters;

    /// What was counted for leases, one answer each; zeros where a lease is not counted.
    fn traffic(&self, prefixes: &mut dyn Iterator<Item = Prefix>) -> Vec<Traffic> {
        prefixes.map(|_| Traffic::default()).collect()
    }

    /// Programs and maps as they are now.
    fn describe(&self) -> DataplaneState {
        DataplaneState::default()
    }
}

/// What the kernel programs counted since they were loaded.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct DataplaneCounters {
    /// Packets dropped, by reason label.
    pub drops: Vec<(String, u64)>,
    /// Packets that met a reason and went to the kernel's stack all the same.
    pub passes: Vec<(String, u64)>,
    /// Packets by interface name and action label (`ring`, `pass`, `drop`, …).
    pub packets: Vec<(String, String, u64)>,
    /// Frames that found the ring full and went to the kernel instead.
    pub ring_lost: u64,
    /// Of all leases; `None` where none are counted.
    pub traffic: Option<Traffic>,
    /// Entries of bindings now, how many there may be, and bindings that got none so far.
    pub entries: Option<(u64, u64, u64)>,
}

/// No kernel programs: what a daemon with `capture = "socket"` everywhere shows.
#[derive(Clone, Copy, Debug, Default)]
pub struct NoDataplane;

impl DataplaneView for NoDataplane {
    fn read(&self) -> DataplaneCounters {
        DataplaneCounters::default()
    }
}
