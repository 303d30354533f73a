//! Each section of the file: its keys, their defaults and what its values may be. What one section
//! must have to do with another is in `together.rs`.

use std::net::SocketAddr;
use std::path::PathBuf;

use relay_core::types::Prefix;

use super::reader::{Placed, Table};
use super::{
    AccessSection, BindingLogSection, Capture, CoreSection, DataplaneSection, Forwarding,
    LogSection, MetricsSection, OnExit, RateLimit, RelaySection, RoutesSection, ServerSection,
    SourceGuard, values,
};

/// Interface-Id and Subscriber-Id must fit beside the client's message; tags may be appended.
const IDENTIFIER_MAX: usize = 252;
/// 100 MiB: some 200,000 lines.
const BINDING_LOG_BYTES: u64 = 100 << 20;
/// Routes of table 0 go to `main` by another name; 255 is the kernel's own.
const LOCAL_TABLE: u32 = 255;
/// rtnetlink.h: unspec, redirect, kernel, boot, static.
const KERNEL_PROTOCOLS_LAST: u8 = 4;
/// rtnetlink.h and FRR: routing daemons that would lose their routes to us.
const DAEMON_PROTOCOLS: [u8; 25] = [
    8, 9, 10, 11, 12, 13, 14, 15, 16, 17, 18, 42, 99, 186, 187, 188, 189, 190, 191, 192, 193, 194,
    195, 196, 197,
];

fn path(table: &Table<'_>, key: &'static str, default: &str) -> PathBuf {
    table
        .parsed(key, values::PATH, values::path)
        .map_or_else(|| PathBuf::from(default), |placed| placed.value)
}

/// `[relay]`.
pub(super) fn relay(root: &Table<'_>) -> RelaySection {
    let table = root.table("relay", "[relay]");
    let user = |text: &str| values::name(text);
    let section = RelaySection {
        relay_id: table
            .parsed("relay_id", values::RELAY_ID, values::relay_id)
            .and_then(|placed| placed.value),
        source_address: table
            .parsed("source_address", values::OWN_ADDRESS, values::own_address)
            .map(|placed| placed.value),
        state_dir: path(&table, "state_dir", "/var/lib/twinrelay"),
        run_dir: path(&table, "run_dir", "/run/twinrelay"),
        max_bindings: table.integer("max_bindings", 1..=16_777_216, 1_048_576),
        max_leases_per_client: table.integer("max_leases_per_client", 1..=1024, 8),
        max_leases_per_interface: table.integer("max_leases_per_interface", 0..=16_777_216, 0),
        ready_timeout_secs: table.integer("ready_timeout", 0..=86_400, 180),
        user: table
            .parsed("user", "the name of a user", user)
            .map(|placed| placed.value),
        binding_log: binding_log(&table),
    };
    table.finish();
    section
}

fn binding_log(table: &Table<'_>) -> Option<BindingLogSection> {
    // A year, and more than any disk: beyond that it is a slip of the pen.
    let size_bytes = table.integer("binding_log_size", 0..=1 << 50, BINDING_LOG_BYTES);
    let age_secs = table.integer("binding_log_age", 0..=31_536_000, 0);
    let path = table
        .parsed("binding_log", values::PATH, values::path)?
        .value;
    Some(BindingLogSection {
        path,
        size_bytes,
        age_secs,
    })
}

/// A section with the places that the checks across sections point at.
pub(super) struct Server {
    pub section: ServerSection,
    pub name: Placed<String>,
    pub interface: Option<Placed<String>>,
}

/// `[[server]]`.
pub(super) fn server(table: Table<'_>) -> Option<Server> {
    let address = table.required("address", values::SERVER_ADDRESS, values::server_address);
    let name = table.parsed("name", values::NAME, values::name);
    let port = table.integer("port", 1..=u16::MAX, 547);
    let interface = table.parsed("interface", values::INTERFACE, values::interface);
    let bulk_leasequery = table.boolean("bulk_leasequery", false);
    // req: BLQ-3
    if bulk_leasequery && address.as_ref().is_some_and(|it| it.value.is_multicast()) {
        let message = "`bulk_leasequery` asks one server, not a group".to_owned();
        let expected = "false, or a `[[server]]` with a unicast address";
        let span = table.span_of("bulk_leasequery");
        table.faults().error(&span, message, expected);
    }
    let address = address.and_then(|address| {
        let scoped = address.value.is_unicast_link_local() || address.value.is_multicast();
        if scoped && interface.is_none() && !table.has("interface") {
            let kind = if address.value.is_multicast() {
                "multicast"
            } else {
                "link-local"
            };
            let message = format!(
                "{kind} address {} alone does not say where to send",
                address.value
            );
            let expected = "`interface = \"…\"` beside it, naming the interface toward the server";
            table.faults().error(&address.span, message, expected);
            return None;
        }
        Some(address)
    });
    table.finish();
    let address = address?;
    let name = name.unwrap_or_else(|| Placed {
        value: address.value.to_string(),
        span: address.span.clone(),
    });
    Some(Server {
        section: ServerSection {
            name: name.value.clone(),
            address: address.value,
            port,
            interface: interface.as_ref().map(|placed| placed.value.clone()),
            bulk_leasequery,
        },
        name,
        interface,
    })
}

/// A section with the places that the checks across sections point at.
pub(super) struct Access {
    pub section: AccessSection,
    pub interface: Placed<String>,
    /// Where it is given, else that of the interface that it is named after.
    pub interface_id_span: std::ops::Range<usize>,
    pub servers: Vec<Placed<String>>,
    pub link_address: Option<Placed<std::net::Ipv6Addr>>,
}

/// `[[access]]`.
pub(super) fn access(table: Table<'_>) -> Option<Access> {
    let interface = table.required("interface", values::INTERFACE, values::interface);
    let capture = table.choice(
        "capture",
        &[
            ("auto", Capture::Auto),
            ("xdp", Capture::Xdp),
            ("xdp-generic", Capture::XdpGeneric),
            ("socket", Capture::Socket),
        ],
        Capture::Auto,
    );
    let link_address = table.parsed("link_address", values::OWN_ADDRESS, values::own_address);
    let identifier = |text: &str| (text.len() <= IDENTIFIER_MAX).then(|| text.to_owned());
    let interface_id = table.parsed("interface_id", "1 to 252 bytes", identifier);
    let subscriber_id = table.parsed("subscriber_id", "at most 252 bytes", identifier);
    let servers = table.texts("servers", "the name of a [[server]]", |text| {
        Some(text.to_owned())
    });
    let section = AccessSection {
        interface: String::new(),
        capture,
        link_address: link_address.as_ref().map(|placed| placed.value),
        interface_id: String::new(),
        servers: servers.iter().map(|placed| placed.value.clone()).collect(),
        client_link_layer_address: table.boolean("client_link_layer_address", true),
        remote_id: remote_id(&table),
        subscriber_id: subscriber_id.map_or_else(String::new, |placed| placed.value),
        accept_relayed: table.boolean("accept_relayed", false),
        accept_rsoo: table.boolean("accept_rsoo", true),
        accept_reconfigure_request: table.boolean("accept_reconfigure_request", true),
        echo_request: table
            .integers("echo_request", 1..=u16::MAX)
            .into_iter()
            .map(|placed| placed.value)
            .collect(),
        rate_limit: rate_limit(&table),
        source_guard: source_guard(&table),
        source_allow: source_allow(&table),
        anti_loop: anti_loop(&table),
    };
    remind_of_twin(&table, &section);
    capture_for_guard(&table, &section);
    table.finish();
    let interface = interface?;
    let mut section = section;
    section.interface.clone_from(&interface.value);
    let interface_id = interface_id.filter(|placed| !placed.value.is_empty());
    let interface_id = interface_id.unwrap_or_else(|| interface.clone());
    section.interface_id = interface_id.value;
    Some(Access {
        section,
        interface,
        interface_id_span: interface_id.span,
        servers,
        link_address,
    })
}

fn source_guard(table: &Table<'_>) -> SourceGuard {
    let modes = [SourceGuard::Off, SourceGuard::Monitor, SourceGuard::Enforce];
    let modes = modes.map(|mode| (mode.name(), mode));
    table.choice("source_guard", &modes, SourceGuard::Off)
}

/// All interfaces share the kernel's table of them.
fn source_allow(table: &Table<'_>) -> Vec<Prefix> {
    let allowed = table.texts("source_allow", values::SOURCE, values::source);
    allowed.into_iter().map(|placed| placed.value).collect()
}

fn anti_loop(table: &Table<'_>) -> bool {
    let modes = [("off", Some(false)), ("drop", Some(true)), ("icmp", None)];
    let mode = table.choice("anti_loop", &modes, Some(false));
    if mode.is_none() {
        let message = "`anti_loop = \"icmp\"` is not in this release: looping packets can be dropped, but not answered".to_owned();
        let span = table.span_of("anti_loop");
        table.faults().error(&span, message, "\"off\" or \"drop\"");
    }
    mode.unwrap_or(false)
}

/// The other relay of a pair sends from its own addresses on this link: advertisements, probes.
fn remind_of_twin(table: &Table<'_>, section: &AccessSection) {
    if section.source_guard != SourceGuard::Off && section.source_allow.is_empty() {
        let message =
            "`source_guard` is on and `source_allow` is empty: packets of other routers and \
                       static hosts on this link, such as a twin's, do not pass"
                .to_owned();
        let expected = "`source_allow = [\"…\"]` with the addresses that the twin has on this link, if there is one";
        let span = table.span_of("source_guard");
        table.faults().warning(&span, message, expected);
    }
}

/// Programs check sources, sockets do not.
fn capture_for_guard(table: &Table<'_>, section: &AccessSection) {
    let is_socket = section.capture == Capture::Socket;
    for (key, is_on) in [
        ("source_guard", section.source_guard != SourceGuard::Off),
        ("anti_loop", section.anti_loop),
    ] {
        if is_socket && is_on {
            let message =
                format!("`{key}` needs XDP, which `capture = \"socket\"` keeps off this interface");
            let expected = "`capture` \"auto\", \"xdp\" or \"xdp-generic\"";
            table.faults().error(&table.span_of(key), message, expected);
        }
    }
}

fn rate_limit(table: &Table<'_>) -> RateLimit {
    let limit = table.table("rate_limit", "rate_limit");
    let section = RateLimit {
        per_client: limit.integer("per_client", 0..=1_000_000, 10),
        per_interface: limit.integer("per_interface", 0..=100_000_000, 20_000),
    };
    limit.finish();
    section
}

fn remote_id(table: &Table<'_>) -> Option<(u32, String)> {
    let remote = table.table("remote_id", "remote_id");
    let enterprise = remote.integer("enterprise", 0..=u32::MAX, 0);
    let value = remote.text("value", "a text");
    let value = value.filter(|value| !value.value.is_empty());
    let result = match (enterprise, value) {
        (0, None) => None,
        (0, Some(value)) => {
            let message = "`remote_id` has a value but no enterprise number".to_owned();
            let expected = "`enterprise = N` beside it, an IANA enterprise number that is not 0";
            remote.faults().error(&value.span, message, expected);
            None
        }
        (enterprise, None) => {
            let message = format!("`remote_id` of enterprise {enterprise} has no value");
            let expected = "`value = \"…\"`, in which {mac}, {interface}, {svlan} and {cvlan} stand for the client's";
            let span = remote.span_of("enterprise");
            remote.faults().error(&span, message, expected);
            None
        }
        (enterprise, Some(value)) => {
            if let Some(unknown) = values::unknown_placeholder(&value.value) {
                let message = format!("`{unknown}` in `remote_id` stands for nothing");
                let expected = "only {mac}, {interface}, {svlan} and {cvlan} in braces";
                remote.faults().error(&value.span, message, expected);
            }
            if value.value.len() > IDENTIFIER_MAX {
                let message = "`value` in remote_id is too long".to_owned();
                remote
                    .faults()
                    .error(&value.span, message, "at most 252 bytes");
            }
            Some((enterprise, value.value))
        }
    };
    remote.finish();
    result
}

/// `[[core]]`.
pub(super) fn core(table: Table<'_>) -> Option<Placed<String>> {
    let interface = table.required("interface", values::INTERFACE, values::interface);
    table.finish();
    interface
}

/// The section of one core interface.
pub(super) fn core_section(interface: &Placed<String>) -> CoreSection {
    CoreSection {
        interface: interface.value.clone(),
    }
}

/// `[routes]`.
pub(super) fn routes(root: &Table<'_>) -> RoutesSection {
    let table = root.table("routes", "[routes]");
    let metric = table.integer("metric", 1..=u32::MAX, 2070);
    if metric == 1024 || metric == 256 {
        let message = format!("metric {metric} is the kernel's default");
        let expected = "a value of its own: the kernel replaces or merges routes of equal metric whatever their protocol";
        table
            .faults()
            .warning(&table.span_of("metric"), message, expected);
    }
    let aggregates = table.texts("aggregates", values::PREFIX, values::prefix);
    for aggregate in aggregates
        .iter()
        .filter(|aggregate| aggregate.value.bits() == 0)
    {
        let message = "an unreachable route for ::/0 would cut this router off".to_owned();
        let expected = "the prefixes that delegations are made from";
        table.faults().error(&aggregate.span, message, expected);
    }
    let allowed = table.texts("allowed", values::PREFIX, values::prefix);
    let section = RoutesSection {
        enabled: table.boolean("enabled", true),
        table: route_table(&table),
        protocol: protocol(&table),
        metric,
        allowed: allowed.into_iter().map(|placed| placed.value).collect(),
        aggregates: aggregates.into_iter().map(|placed| placed.value).collect(),
        addresses: table.boolean("addresses", true),
        prefixes: table.boolean("prefixes", true),
        neighbors: table.boolean("neighbors", true),
    };
    table.finish();
    section
}

fn route_table(table: &Table<'_>) -> u32 {
    let number = table.integer("table", 1..=u32::MAX, 254);
    if number == LOCAL_TABLE {
        let message = "table 255 is the kernel's own".to_owned();
        table.faults().error(
            &table.span_of("table"),
            message,
            "254 (main) or a table of your own",
        );
    }
    number
}

fn protocol(table: &Table<'_>) -> u8 {
    let number = table.integer("protocol", 1..=u8::MAX, 207);
    let span = table.span_of("protocol");
    let expected = "a number that nobody else on this router uses, such as 207: routes with it in this table are removed when no lease wants them";
    if number <= KERNEL_PROTOCOLS_LAST {
        let message = format!("protocol {number} belongs to the kernel and the administrator");
        table.faults().error(&span, message, expected);
    } else if DAEMON_PROTOCOLS.contains(&number) {
        let message = format!("protocol {number} is that of a known routing daemon");
        table.faults().warning(&span, message, expected);
    }
    number
}

/// `[dataplane]`.
pub(super) fn dataplane(root: &Table<'_>) -> DataplaneSection {
    let table = root.table("dataplane", "[dataplane]");
    let section = DataplaneSection {
        pin_path: path(&table, "pin_path", "/sys/fs/bpf/twinrelay"),
        on_exit: table.choice(
            "on_exit",
            &[("keep", OnExit::Keep), ("detach", OnExit::Detach)],
            OnExit::Keep,
        ),
        forwarding: table.choice(
            "forwarding",
            &[("kernel", Forwarding::Kernel), ("xdp", Forwarding::Xdp)],
            Forwarding::Kernel,
        ),
    };
    table.finish();
    section
}

/// `[metrics]`.
pub(super) fn metrics(root: &Table<'_>) -> MetricsSection {
    let table = root.table("metrics", "[metrics]");
    let expected = "an address and port such as \"[::1]:9547\", or \"\" for off";
    let default = SocketAddr::from((std::net::Ipv6Addr::LOCALHOST, 9547));
    let listen = match table.text("listen", expected) {
        None => Some(default),
        Some(text) if text.value.is_empty() => None,
        Some(text) => table
            .parse_placed("listen", &text, expected, |text| text.parse().ok())
            .map(|placed| placed.value),
    };
    table.finish();
    MetricsSection { listen }
}

/// `[log]`.
pub(super) fn log(root: &Table<'_>) -> LogSection {
    let table = root.table("log", "[log]");
    let section = LogSection {
        level: table
            .parsed("level", values::LEVEL, values::level)
            .map_or_else(|| "info".to_owned(), |placed| placed.value),
        json: table.choice("format", &[("text", false), ("json", true)], false),
    };
    table.finish();
    section
}
