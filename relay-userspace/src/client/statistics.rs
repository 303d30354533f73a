//! `show statistics` for people: a table per subject, without what is zero.

use std::fmt::Write as _;

use super::table::{Kind, Table};
use crate::control::documents::{Counted, NamedCount, Statistics};

use Kind::{Long, Number, Text};

/// All tables.
pub(super) fn render(statistics: &Statistics, colour: bool) -> String {
    let mut text = String::new();
    let mut section = |title: &str, body: String| {
        if !body.is_empty() {
            let gap = if text.is_empty() { "" } else { "\n" };
            let _ = write!(text, "{gap}{title}\n{body}");
        }
    };
    section("Messages", messages(statistics, colour));
    section("Dropped", counted("REASON", &statistics.drops, colour));
    section("Noticed", counted("NOTICE", &statistics.notices, colour));
    section("Bindings", bindings(statistics, colour));
    section(
        "Binding events",
        named("EVENT", &statistics.binding_events, colour),
    );
    section("Daemon", daemon(statistics, colour));
    section("Latency, capture to send", latency(statistics));
    let dataplane = &statistics.dataplane;
    section(
        "Kernel programs",
        counted("ACTION", &dataplane.packets, colour),
    );
    section(
        "Dropped by kernel programs",
        named("REASON", &dataplane.drops, colour),
    );
    text
}

fn messages(statistics: &Statistics, colour: bool) -> String {
    let mut table = Table::new(&[
        ("INTERFACE", Long),
        ("DIRECTION", Text),
        ("TYPE", Text),
        ("COUNT", Number),
    ]);
    for row in &statistics.messages {
        table.row(vec![
            row.interface.clone(),
            row.direction.clone(),
            row.message_type.clone(),
            row.count.to_string(),
        ]);
    }
    unless_empty(&table, colour)
}

fn counted(what: &'static str, rows: &[Counted], colour: bool) -> String {
    let mut table = Table::new(&[("INTERFACE", Long), (what, Text), ("COUNT", Number)]);
    for row in rows {
        table.row(vec![
            row.interface.clone(),
            row.name.clone(),
            row.count.to_string(),
        ]);
    }
    unless_empty(&table, colour)
}

fn named(what: &'static str, rows: &[NamedCount], colour: bool) -> String {
    let mut table = Table::new(&[(what, Text), ("COUNT", Number)]);
    for row in rows {
        table.row(vec![row.name.clone(), row.count.to_string()]);
    }
    unless_empty(&table, colour)
}

fn bindings(statistics: &Statistics, colour: bool) -> String {
    let mut table = Table::new(&[("INTERFACE", Long), ("TYPE", Text), ("ACTIVE", Number)]);
    for row in &statistics.bindings {
        table.row(vec![
            row.interface.clone(),
            row.ia_type.clone(),
            row.count.to_string(),
        ]);
    }
    let mut text = unless_empty(&table, colour);
    let _ = writeln!(
        text,
        "{} clients, {} leases over a limit, {} Replies wait for their routes",
        statistics.clients, statistics.bindings_refused, statistics.held_replies
    );
    text
}

fn daemon(statistics: &Statistics, colour: bool) -> String {
    let routes = &statistics.routes;
    let all = [
        ("routes installed now", routes.installed),
        ("routes pending now", routes.pending),
        ("routes failed now", routes.failed),
        ("neighbours now", routes.neighbors),
        ("route writes refused by the kernel", routes.errors),
        ("routes put back", routes.repaired),
        ("route queue overflows", routes.queue_overflows),
        ("comparisons with the kernel", routes.comparisons),
        ("configurations taken", statistics.reloads),
        ("configurations refused", statistics.reloads_refused),
        ("events lost by monitors", statistics.events_lost),
        (
            "events not in the binding log",
            statistics.binding_log_skipped,
        ),
        ("frames lost by the ring", statistics.dataplane.ring_lost),
        ("bindings made durable", statistics.store.records),
        ("writes of the store failed", statistics.store.failures),
        ("rewrites of the store", statistics.store.rewrites),
    ];
    let rows: Vec<NamedCount> = all
        .into_iter()
        .filter(|(_, count)| *count > 0)
        .map(|(name, count)| NamedCount {
            name: name.to_owned(),
            count,
        })
        .collect();
    named("WHAT", &rows, colour)
}

fn latency(statistics: &Statistics) -> String {
    let latency = &statistics.latency;
    let Some(mean) = latency.mean else {
        return String::new();
    };
    let below = |bound: Option<f64>| match bound {
        Some(secs) => format!("below {:.0} µs", secs * 1e6),
        None => "above 1 s".to_owned(),
    };
    format!(
        "{} messages, mean {:.0} µs, half {}, 99 % {}\n",
        latency.count,
        mean * 1e6,
        below(latency.median_below),
        below(latency.p99_below)
    )
}

fn unless_empty(table: &Table, colour: bool) -> String {
    if table.is_empty() {
        return String::new();
    }
    table.render(colour)
}
