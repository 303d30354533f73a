//! `show`: what is asked for and how the answer reads. With `--json` the daemon's document is
//! copied as it comes.

use std::fmt::Write as _;
use std::io::{self, IsTerminal, Write};
use std::net::Ipv6Addr;

use serde::Deserialize;

use super::Failure;
use super::http::{Daemon, parse};
use super::leasequery;
use super::table::{Kind, Table};
use crate::cli::{Filters, Show, Shown};
use crate::control::dataplane::DataplaneJson;
use crate::control::documents::{InterfaceJson, ServerJson, Statistics, Version};
use crate::control::json::{BindingRow, ClientFields, LeaseFields, SubscriberRow};
use crate::control::stream::{DifferenceJson, RouteJson};
use crate::control::view::RouteKind;

use Kind::{Long, Number, State, Text};

/// Carries out `show`.
pub(super) async fn run(daemon: &Daemon, show: Show) -> Result<(), Failure> {
    let (path, words) = match &show.what {
        Shown::Subscribers { filter, .. } => ("/v1/subscribers", words(filter)),
        Shown::Bindings { filter } => ("/v1/bindings", words(filter)),
        Shown::ActiveLeasequery { what } => leasequery::resource(what),
        Shown::Digest => ("/v1/digest", Vec::new()),
        Shown::Routes { diff: false } => ("/v1/routes", Vec::new()),
        Shown::Routes { diff: true } => ("/v1/routes", vec![("diff", "true".to_owned())]),
        Shown::Interfaces => ("/v1/interfaces", Vec::new()),
        Shown::Servers => ("/v1/servers", Vec::new()),
        Shown::Statistics => ("/v1/statistics", Vec::new()),
        Shown::Dataplane => ("/v1/dataplane", Vec::new()),
        Shown::Version => ("/v1/version", Vec::new()),
    };
    if show.json {
        return copy(daemon, path, &words).await;
    }
    let answer = daemon.get(path, &words).await?;
    let colour = io::stdout().is_terminal() && std::env::var_os("NO_COLOR").is_none();
    let text = render(&show.what, &answer, colour)?;
    io::stdout().write_all(text.as_bytes())?;
    let is_filtered = is_filtered(&words);
    match (text.is_empty(), is_filtered) {
        (true, true) => Err(Failure::No("no lease matches".to_owned())),
        (true, false) => {
            eprintln!("nothing to show");
            Ok(())
        }
        (false, _) => Ok(()),
    }
}

/// The answer as a person reads it; empty where there is nothing to show.
pub(super) fn render(what: &Shown, answer: &[u8], colour: bool) -> Result<String, Failure> {
    Ok(match what {
        Shown::Subscribers { extensive, .. } => {
            let Subscribers { subscribers } = parse(answer)?;
            if *extensive {
                blocks(&subscribers)
            } else {
                clients(&subscribers, colour)
            }
        }
        Shown::Bindings { .. } => bindings(&parse::<Bindings>(answer)?.bindings, colour),
        Shown::ActiveLeasequery { what } => leasequery::render(what, answer, colour)?,
        Shown::Digest => leasequery::digest(answer, colour)?,
        Shown::Routes { diff: false } => routes(parse::<Routes>(answer)?.routes, colour),
        Shown::Routes { diff: true } => differences(parse(answer)?, colour),
        Shown::Interfaces => interfaces(parse::<Interfaces>(answer)?.interfaces, colour),
        Shown::Servers => servers(parse::<Servers>(answer)?.servers, colour),
        Shown::Statistics => {
            super::statistics::render(&parse::<StatisticsAnswer>(answer)?.statistics, colour)
        }
        Shown::Dataplane => {
            super::dataplane::render(&parse::<DataplaneAnswer>(answer)?.dataplane, colour)
        }
        Shown::Version => {
            let Version {
                version,
                started,
                uptime,
            } = parse::<VersionAnswer>(answer)?.version;
            format!(
                "twinrelay {version}, started {started}, up {}\n",
                age(uptime)
            )
        }
    })
}

#[derive(Deserialize)]
struct Subscribers {
    subscribers: Vec<SubscriberRow>,
}

#[derive(Deserialize)]
struct Bindings {
    bindings: Vec<BindingRow>,
}

#[derive(Deserialize)]
struct Routes {
    routes: Vec<RouteJson>,
}

#[derive(Deserialize)]
struct Differences {
    compared: Option<String>,
    differences: Vec<DifferenceJson>,
}

#[derive(Deserialize)]
struct Interfaces {
    interfaces: Vec<InterfaceJson>,
}

#[derive(Deserialize)]
struct Servers {
    servers: Vec<ServerJson>,
}

#[derive(Deserialize)]
struct StatisticsAnswer {
    statistics: Statistics,
}

#[derive(Deserialize)]
struct DataplaneAnswer {
    dataplane: DataplaneJson,
}

#[derive(Deserialize)]
struct VersionAnswer {
    version: Version,
}

fn words(filter: &Filters) -> Vec<(&'static str, String)> {
    let state = filter.state.and_then(|state| {
        clap::ValueEnum::to_possible_value(&state).map(|value| value.get_name().to_owned())
    });
    [
        ("interface", filter.interface.clone()),
        ("prefix", filter.prefix.map(|prefix| prefix.to_string())),
        ("duid", filter.duid.clone()),
        ("mac", filter.mac.clone()),
        ("origin", filter.origin.clone()),
        ("state", state),
        ("limit", filter.limit.map(|limit| limit.to_string())),
    ]
    .into_iter()
    .filter_map(|(key, value)| Some((key, value?)))
    .collect()
}

/// Whether the words name leases: none of them is a "no" then.
fn is_filtered(words: &[(&str, String)]) -> bool {
    words
        .iter()
        .any(|(key, _)| !matches!(*key, "limit" | "diff"))
}

/// Copies the document; looks only for whether its list is empty.
async fn copy(
    daemon: &Daemon,
    path: &str,
    words: &[(&'static str, String)],
) -> Result<(), Failure> {
    let mut answer = daemon.stream(path, words).await?;
    let mut output = io::stdout().lock();
    let mut tail = Vec::new();
    while let Some(piece) = answer.next().await? {
        output.write_all(&piece)?;
        tail.extend_from_slice(&piece);
        let from = tail.len().saturating_sub(8);
        tail.drain(..from);
    }
    if tail.last() != Some(&b'\n') {
        output.write_all(b"\n")?;
    }
    output.flush()?;
    if is_filtered(words) && String::from_utf8_lossy(&tail).trim_end().ends_with("[]}") {
        return Err(Failure::No("no lease matches".to_owned()));
    }
    Ok(())
}

/// `acc0`, or `acc0.100.7` for tagged clients.
fn link(client: &ClientFields) -> String {
    let mut text = client.interface.clone();
    for vid in &client.vlans {
        let _ = write!(text, ".{vid}");
    }
    text
}

/// A DUID without its colons.
fn short_duid(client: &ClientFields) -> String {
    client.duid.replace(':', "")
}

/// An address without its /128.
fn lease_text(lease: &LeaseFields) -> String {
    let text = &lease.prefix;
    match lease.ia_type.as_str() {
        "IA_PD" => text.clone(),
        _ => text.strip_suffix("/128").unwrap_or(text).to_owned(),
    }
}

fn remaining(lease: &LeaseFields) -> String {
    match lease.remaining {
        _ if lease.state != "active" => "-".to_owned(),
        Some(secs) => age(secs),
        None => "infinite".to_owned(),
    }
}

/// `59m59s`, `3d04h`: the two largest units.
pub(super) fn age(secs: u64) -> String {
    let (minutes, hours, days) = (secs / 60, secs / 3600, secs / 86_400);
    if days > 0 {
        format!("{days}d{:02}h", hours % 24)
    } else if hours > 0 {
        format!("{hours}h{:02}m", minutes % 60)
    } else if minutes > 0 {
        format!("{minutes}m{:02}s", secs % 60)
    } else {
        format!("{secs}s")
    }
}

/// Nothing, not even a header, for an empty table.
pub(super) fn unless_empty(table: &Table, colour: bool) -> String {
    if table.is_empty() {
        return String::new();
    }
    table.render(colour)
}

fn clients(subscribers: &[SubscriberRow], colour: bool) -> String {
    let mut table = Table::new(&[
        ("DUID", Long),
        ("MAC", Text),
        ("INTERFACE", Text),
        ("ADDRESS", Long),
        ("PREFIX", Long),
        ("REMAINING", Number),
        ("ROUTE", State),
    ]);
    for SubscriberRow { client, bindings } in subscribers {
        let of = |is_prefix: bool| {
            let mut leases = bindings
                .iter()
                .filter(|lease| (lease.ia_type == "IA_PD") == is_prefix);
            let first = leases.next().map_or_else(|| "-".to_owned(), lease_text);
            match leases.count() {
                0 => first,
                more => format!("{first} +{more}"),
            }
        };
        let soonest = bindings
            .iter()
            .min_by_key(|lease| lease.remaining.unwrap_or(u64::MAX));
        let worst = ["failed", "pending", "installed", "disabled"]
            .into_iter()
            .find(|state| bindings.iter().any(|lease| lease.route == *state));
        table.row(vec![
            short_duid(client),
            client.mac.clone().unwrap_or_else(|| "-".to_owned()),
            link(client),
            of(false),
            of(true),
            soonest.map_or_else(|| "-".to_owned(), remaining),
            worst.unwrap_or("-").to_owned(),
        ]);
    }
    unless_empty(&table, colour)
}

fn blocks(subscribers: &[SubscriberRow]) -> String {
    let mut text = String::new();
    for SubscriberRow { client, bindings } in subscribers {
        let or_none = |value: &Option<String>| value.clone().unwrap_or_else(|| "none".to_owned());
        if !text.is_empty() {
            text.push('\n');
        }
        let _ = writeln!(text, "Client {}", client.duid);
        for (name, value) in [
            ("Interface", link(client)),
            ("Link address", client.link_address.to_string()),
            ("Client address", client.client_address.to_string()),
            ("MAC", or_none(&client.mac)),
            ("Interface-Id", client.interface_id.clone()),
            ("Remote-Id", or_none(&client.remote_id)),
            ("Subscriber-Id", or_none(&client.subscriber_id)),
        ] {
            let _ = writeln!(text, "  {name:<15} {value}");
        }
        for lease in bindings {
            block_of_lease(&mut text, lease);
        }
    }
    text
}

fn block_of_lease(text: &mut String, lease: &LeaseFields) {
    let forever = || "infinite".to_owned();
    let _ = writeln!(
        text,
        "  {} {} {} (IAID {}, {} from {})",
        lease.ia_type, lease.prefix, lease.state, lease.iaid, lease.origin, lease.server
    );
    let route = match &lease.route_error {
        Some(error) => format!("{}: {error}", lease.route),
        None => lease.route.clone(),
    };
    for (name, value) in [
        (
            "Last transaction",
            lease.cltt.clone().unwrap_or_else(forever),
        ),
        (
            "Preferred until",
            lease.preferred_until.clone().unwrap_or_else(forever),
        ),
        (
            "Valid until",
            lease.valid_until.clone().unwrap_or_else(forever),
        ),
        ("Remaining", remaining(lease)),
        ("Route", route),
    ] {
        let _ = writeln!(text, "    {name:<17} {value}");
    }
    if let Some(traffic) = &lease.traffic {
        for (name, packets, bytes) in [
            ("From subscriber", traffic.rx_packets, traffic.rx_bytes),
            ("To subscriber", traffic.tx_packets, traffic.tx_bytes),
        ] {
            let _ = writeln!(text, "    {name:<17} {packets} packets, {bytes} bytes");
        }
    }
}

fn bindings(rows: &[BindingRow], colour: bool) -> String {
    let mut table = Table::new(&[
        ("PREFIX", Long),
        ("TYPE", Text),
        ("IAID", Number),
        ("DUID", Long),
        ("INTERFACE", Text),
        ("STATE", State),
        ("REMAINING", Number),
        ("ORIGIN", Text),
        ("ROUTE", State),
    ]);
    for BindingRow { client, lease } in rows {
        table.row(vec![
            lease_text(lease),
            lease.ia_type.clone(),
            lease.iaid.to_string(),
            short_duid(client),
            link(client),
            lease.state.clone(),
            remaining(lease),
            lease.origin.clone(),
            lease.route.clone(),
        ]);
    }
    unless_empty(&table, colour)
}

/// The daemon tells routes in no order.
fn by_prefix(text: &str) -> Option<(Ipv6Addr, u8)> {
    let (address, bits) = text.split_once('/')?;
    Some((address.parse().ok()?, bits.parse().ok()?))
}

fn routes(mut rows: Vec<RouteJson>, colour: bool) -> String {
    rows.sort_by_key(|row| by_prefix(&row.prefix));
    let mut table = Table::new(&[
        ("PREFIX", Long),
        ("VIA", Long),
        ("INTERFACE", Text),
        ("KIND", Text),
        ("STATE", State),
        ("ERROR", Long),
    ]);
    for row in rows {
        let state = row.state.name().to_owned();
        let kind = match row.kind {
            RouteKind::Lease => "lease",
            RouteKind::Aggregate => "aggregate",
        };
        table.row(vec![
            row.prefix,
            row.gateway.unwrap_or_else(|| "unreachable".to_owned()),
            row.interface.unwrap_or_else(|| "-".to_owned()),
            kind.to_owned(),
            state,
            row.error.unwrap_or_default(),
        ]);
    }
    unless_empty(&table, colour)
}

fn differences(answer: Differences, colour: bool) -> String {
    let mut rows = answer.differences;
    rows.sort_by_key(|row| (by_prefix(&row.prefix), row.side.name() == "kernel"));
    let mut table = Table::new(&[
        ("SIDE", Text),
        ("PREFIX", Long),
        ("VIA", Long),
        ("INTERFACE", Text),
        ("PROTO", Number),
        ("METRIC", Number),
        ("STATE", State),
        ("ERROR", Long),
    ]);
    let dash = || "-".to_owned();
    for row in rows {
        table.row(vec![
            row.side.name().to_owned(),
            row.prefix,
            row.gateway.unwrap_or_else(dash),
            row.interface.unwrap_or_else(dash),
            row.protocol.map_or_else(dash, |it| it.to_string()),
            row.metric.map_or_else(dash, |it| it.to_string()),
            row.state.name().to_owned(),
            row.error.unwrap_or_default(),
        ]);
    }
    let last = answer.compared.unwrap_or_else(|| "never".to_owned());
    let text = unless_empty(&table, colour);
    match text.is_empty() {
        true => format!("no differences; last compared with the kernel: {last}\n"),
        false => format!("{text}last compared with the kernel: {last}\n"),
    }
}

fn interfaces(rows: Vec<InterfaceJson>, colour: bool) -> String {
    let mut table = Table::new(&[
        ("INTERFACE", Text),
        ("ROLE", Text),
        ("LINK", State),
        ("CAPTURE", State),
        ("GUARD", Text),
        ("FORWARDING", Text),
        ("ADDRESS", Long),
        ("MTU", Number),
        ("MAC", Text),
        ("NOTE", Long),
    ]);
    for row in rows {
        let link = match (row.index, row.up && row.carrier) {
            (None, _) => "absent",
            (_, true) => "up",
            (_, false) => "down",
        };
        let dash = || "-".to_owned();
        table.row(vec![
            row.interface,
            row.role,
            link.to_owned(),
            row.capture.unwrap_or_else(dash),
            row.source_guard.unwrap_or_else(dash),
            row.forwarding,
            row.link_address.or(row.source_address).unwrap_or_else(dash),
            row.mtu.map_or_else(dash, |mtu| mtu.to_string()),
            row.mac.unwrap_or_else(dash),
            row.capture_reason.unwrap_or_default(),
        ]);
    }
    unless_empty(&table, colour)
}

fn servers(rows: Vec<ServerJson>, colour: bool) -> String {
    let mut table = Table::new(&[
        ("SERVER", Long),
        ("ADDRESS", Long),
        ("PORT", Number),
        ("STATE", State),
        ("SENT", Number),
        ("RECEIVED", Number),
        ("CLIENTS OF", Long),
    ]);
    for row in rows {
        let address = match row.interface {
            Some(interface) => format!("{}%{interface}", row.address),
            None => row.address,
        };
        table.row(vec![
            row.name,
            address,
            row.port.to_string(),
            row.state,
            row.messages_sent.to_string(),
            row.messages_received.to_string(),
            row.access.join(" "),
        ]);
    }
    unless_empty(&table, colour)
}
