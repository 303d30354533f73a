//! The configuration file as a value that cannot be invalid.
//!
//! [`Config`] is what `twinrelay.toml` says after every check that can be made without looking at
//! the kernel. It must not know how the daemon is built.

use std::net::{Ipv6Addr, SocketAddr, SocketAddrV6};
use std::path::PathBuf;

use relay_core::types::Prefix;

pub mod diagnostics;
mod leasequery;
mod reader;
mod sections;
mod together;
mod values;

pub use leasequery::CompleteTls;

use diagnostics::Report;
use std::path::Path;

/// Where the file is unless `-c` names another.
pub const DEFAULT_PATH: &str = "/etc/twinrelay/twinrelay.toml";

/// A file that can be used.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Loaded {
    /// What it says.
    pub config: Config,
    /// Warnings; may hold none.
    pub report: Report,
}

/// Reads and checks a file.
///
/// # Errors
/// All its faults at once.
pub fn load(path: &Path) -> Result<Loaded, Report> {
    let text = std::fs::read_to_string(path).map_err(|error| Report::unreadable(path, &error))?;
    parse(path, &text)
}

/// Checks a file's text; `path` is for messages only.
///
/// # Errors
/// All its faults at once.
pub fn parse(path: &Path, text: &str) -> Result<Loaded, Report> {
    let (document, syntax) = toml::de::DeTable::parse_recoverable(text);
    if !syntax.is_empty() {
        let faults = syntax.iter().map(syntax_fault).collect();
        return Err(Report::new(path, text, faults));
    }
    let faults = reader::Faults::default();
    let config = read(&reader::Table::root(&document, &faults));
    let report = Report::new(path, text, faults.into_list());
    match config {
        _ if report.has_errors() => Err(report),
        config => Ok(Loaded { config, report }),
    }
}

fn syntax_fault(error: &toml::de::Error) -> diagnostics::Diagnostic {
    diagnostics::Diagnostic {
        severity: diagnostics::Severity::Error,
        message: format!("not TOML: {}", error.message()),
        span: error.span(),
        expected: "TOML 1.0: `key = value` lines below `[section]` headers".to_owned(),
        related: None,
    }
}

/// Sections that have faults are left out; the caller looks at the faults first.
fn read(root: &reader::Table<'_>) -> Config {
    let relay = sections::relay(root);
    let servers: Vec<_> = tables(root, "server", sections::server);
    let access: Vec<_> = tables(root, "access", sections::access);
    let core: Vec<_> = tables(root, "core", sections::core);
    let leasequery = leasequery::active_leasequery(root);
    let tls = leasequery::tls(root);
    let config = Config {
        relay,
        routes: sections::routes(root),
        dataplane: sections::dataplane(root),
        metrics: sections::metrics(root),
        log: sections::log(root),
        servers: servers.iter().map(|s| s.section.clone()).collect(),
        access: access.iter().map(|a| a.section.clone()).collect(),
        core: core.iter().map(sections::core_section).collect(),
        active_leasequery: leasequery.section.clone(),
        tls: tls.section.clone(),
    };
    together::needed(root, &access, &core);
    together::unique(root.faults(), &servers, &access, &core);
    together::references(root.faults(), &servers, &access, &core);
    let source = config.relay.source_address;
    leasequery::together(root.faults(), &leasequery, &access, source);
    leasequery::certificates(root.faults(), &config, &leasequery, &tls);
    root.finish();
    config
}

fn tables<'t, T>(
    root: &reader::Table<'t>,
    key: &'static str,
    read: impl Fn(reader::Table<'t>) -> Option<T>,
) -> Vec<T> {
    let name = format!("[[{key}]]");
    root.tables(key, &name)
        .into_iter()
        .filter_map(read)
        .collect()
}

/// The whole file.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Config {
    /// `[relay]`.
    pub relay: RelaySection,
    /// `[[server]]`; empty: All_DHCP_Servers on each core interface (RLY-29).
    pub servers: Vec<ServerSection>,
    /// `[[access]]`, at least one.
    pub access: Vec<AccessSection>,
    /// `[[core]]`, at least one.
    pub core: Vec<CoreSection>,
    /// `[routes]`.
    pub routes: RoutesSection,
    /// `[dataplane]`.
    pub dataplane: DataplaneSection,
    /// `[metrics]`.
    pub metrics: MetricsSection,
    /// `[log]`.
    pub log: LogSection,
    /// `[active_leasequery]`.
    pub active_leasequery: ActiveLeasequerySection,
    /// `[tls]`.
    pub tls: TlsSection,
}

impl Config {
    /// Whether some session will be over TLS.
    pub fn needs_tls(&self) -> bool {
        let section = &self.active_leasequery;
        section.enabled && section.peers.iter().any(|peer| peer.is_secure)
    }
}

/// `[relay]`.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct RelaySection {
    /// `None` for `"auto"`.
    pub relay_id: Option<Vec<u8>>,
    /// Source of RELAY-FORW; `None`: chosen once and kept.
    pub source_address: Option<Ipv6Addr>,
    /// What survives a restart.
    pub state_dir: PathBuf,
    /// `control.sock` and `ready`.
    pub run_dir: PathBuf,
    /// Bound on the table.
    pub max_bindings: usize,
    /// PDR-G-5, PDR-G-7.
    pub max_leases_per_client: usize,
    /// PDR-G-6; 0 for none.
    pub max_leases_per_interface: usize,
    /// Seconds.
    pub ready_timeout_secs: u32,
    /// Every binding event as a line of JSON; `None`: none.
    pub binding_log: Option<BindingLogSection>,
    /// Drop to this user after start-up.
    pub user: Option<String>,
}

/// `binding_log`, `binding_log_size` and `binding_log_age`.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct BindingLogSection {
    /// The file.
    pub path: PathBuf,
    /// It is set aside when it has this many bytes; 0: never for its size.
    pub size_bytes: u64,
    /// And when it is this many seconds old; 0: never for its age.
    pub age_secs: u64,
}

/// `[[server]]`.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ServerSection {
    /// Unique.
    pub name: String,
    /// Unicast or multicast.
    pub address: Ipv6Addr,
    /// UDP port.
    pub port: u16,
    /// Present where the address is link-local or multicast.
    pub interface: Option<String>,
    /// Bindings are recovered from it at the start, by Bulk Leasequery (RFC 5460).
    pub bulk_leasequery: bool,
}

/// `[active_leasequery]`.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ActiveLeasequerySection {
    /// Peers are asked and answered.
    pub enabled: bool,
    /// Where peers connect to.
    pub listen: Vec<SocketAddrV6>,
    /// ACTIVE_LQ_RCV_TIMEOUT.
    pub receive_timeout_secs: u32,
    /// ACTIVE_LQ_SEND_TIMEOUT.
    pub send_timeout_secs: u32,
    /// ACTIVE_LQ_IDLE_TIMEOUT.
    pub idle_timeout_secs: u32,
    /// BULK_LQ_MAX_CONNS.
    pub max_connections: usize,
    /// How long ended bindings are remembered at least.
    pub history_secs: u32,
    /// Other relays.
    pub peers: Vec<PeerSection>,
}

/// `[[active_leasequery.peer]]`.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct PeerSection {
    /// Unique.
    pub name: String,
    /// Where it is, and from where it connects; unique.
    pub address: Ipv6Addr,
    /// TCP port that it listens on.
    pub port: u16,
    /// TLS, or clear text where the file allows it.
    pub is_secure: bool,
    /// Its certificate bears this name.
    pub tls_name: String,
    /// Equal Interface-Ids mean the same link on both relays.
    pub has_shared_interface_id: bool,
    /// Its link-addresses, and the access interfaces of ours that they mean.
    pub links: Vec<(Ipv6Addr, String)>,
}

/// `[tls]`.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub struct TlsSection {
    /// Ours.
    pub certificate: Option<PathBuf>,
    /// Its key.
    pub key: Option<PathBuf>,
    /// Those who sign for peers.
    pub ca: Option<PathBuf>,
}

/// How DHCPv6 is captured on an access interface.
#[derive(Clone, Copy, PartialEq, Eq, Debug, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Capture {
    /// Native XDP, else generic, else socket.
    Auto,
    /// Native XDP or an error.
    Xdp,
    /// Generic XDP or an error.
    XdpGeneric,
    /// AF_PACKET and UDP sockets.
    Socket,
}

/// What becomes of packets from clients whose source is not theirs.
#[derive(Clone, Copy, PartialEq, Eq, Debug, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum SourceGuard {
    /// Nobody looks.
    Off,
    /// They are counted.
    Monitor,
    /// They are counted and dropped.
    Enforce,
}

impl SourceGuard {
    /// As in the file.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Off => "off",
            Self::Monitor => "monitor",
            Self::Enforce => "enforce",
        }
    }
}

/// Who passes packets of subscribers on.
#[derive(Clone, Copy, PartialEq, Eq, Debug, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Forwarding {
    /// The kernel's stack.
    Kernel,
    /// The programs on the interfaces, what they can; the kernel's stack the rest.
    Xdp,
}

/// Messages a second, in the kernel; 0 for no limit.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct RateLimit {
    /// Per client MAC.
    pub per_client: u32,
    /// Per access interface.
    pub per_interface: u32,
}

/// `[[access]]`.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct AccessSection {
    /// Interface name, unique.
    pub interface: String,
    /// How to capture.
    pub capture: Capture,
    /// `None`: a global address of the interface, chosen once and kept.
    pub link_address: Option<Ipv6Addr>,
    /// Interface-Id bytes; defaults to the name.
    pub interface_id: String,
    /// Names of servers; empty for all.
    pub servers: Vec<String>,
    /// Option 79.
    pub client_link_layer_address: bool,
    /// Enterprise number and template.
    pub remote_id: Option<(u32, String)>,
    /// Empty: none.
    pub subscriber_id: String,
    /// RELAY-FORW from below.
    pub accept_relayed: bool,
    /// RELAY-FORW with an RSOO inside (RLY-59).
    pub accept_rsoo: bool,
    /// RECONFIGURE-REQUEST (RLY-14).
    pub accept_reconfigure_request: bool,
    /// Options for the Echo Request option (RLY-58).
    pub echo_request: Vec<u16>,
    /// In the kernel.
    pub rate_limit: RateLimit,
    /// PDR-R-3.
    pub source_guard: SourceGuard,
    /// Sources that pass the guard without a binding.
    pub source_allow: Vec<Prefix>,
    /// PDR-R-5.
    pub anti_loop: bool,
}

/// `[[core]]`.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct CoreSection {
    /// Interface name, unique.
    pub interface: String,
}

/// `[routes]`.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct RoutesSection {
    /// Off: no routes, no neighbour entries, no aggregates.
    pub enabled: bool,
    /// Kernel table.
    pub table: u32,
    /// Protocol number that marks routes as ours.
    pub protocol: u8,
    /// Metric of our routes.
    pub metric: u32,
    /// Where not empty, only leases inside get routes.
    pub allowed: Vec<Prefix>,
    /// Unreachable routes.
    pub aggregates: Vec<Prefix>,
    /// /128 per address.
    pub addresses: bool,
    /// Route per delegation.
    pub prefixes: bool,
    /// Neighbour entries.
    pub neighbors: bool,
}

/// What becomes of programs and maps when the daemon stops.
#[derive(Clone, Copy, PartialEq, Eq, Debug, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum OnExit {
    /// They stay.
    Keep,
    /// They go.
    Detach,
}

/// `[dataplane]`.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct DataplaneSection {
    /// On a bpffs.
    pub pin_path: PathBuf,
    /// At exit.
    pub on_exit: OnExit,
    /// Of packets of subscribers.
    pub forwarding: Forwarding,
}

/// `[metrics]`.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct MetricsSection {
    /// `None`: off.
    pub listen: Option<SocketAddr>,
}

/// `[log]`.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct LogSection {
    /// A `tracing` filter: `info`, `debug`, `relay_userspace::routes=trace,info`.
    pub level: String,
    /// One JSON object a line instead of text.
    pub json: bool,
}

#[cfg(test)]
mod tests;
