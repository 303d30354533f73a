//! `show dataplane` for people: a table per subject.

use std::fmt::Write as _;

use super::show::unless_empty;
use super::table::{Kind, Table};
use crate::control::dataplane::DataplaneJson;

use Kind::{Long, Number, State, Text};

/// All tables.
pub(super) fn render(dataplane: &DataplaneJson, colour: bool) -> String {
    let mut text = String::new();
    let mut section = |title: &str, body: String| {
        if !body.is_empty() {
            let gap = if text.is_empty() { "" } else { "\n" };
            let _ = write!(text, "{gap}{title}\n{body}");
        }
    };
    section("Interfaces", interfaces(dataplane, colour));
    section("Programs", programs(dataplane, colour));
    section("Frames", packets(dataplane, colour));
    section("Reasons", reasons(dataplane, colour));
    section("Bindings", bindings(dataplane));
    section("Bindings without an entry", refused(dataplane, colour));
    section("Memory of maps", maps(dataplane, colour));
    section("Ring", ring(dataplane));
    text
}

fn interfaces(dataplane: &DataplaneJson, colour: bool) -> String {
    let mut table = Table::new(&[
        ("INTERFACE", Text),
        ("ROLE", Text),
        ("INDEX", Number),
        ("MODE", State),
        ("GUARD", Text),
        ("ANTI-LOOP", Text),
        ("FORWARDING", Text),
        ("NOTE", Long),
    ]);
    let dash = || "-".to_owned();
    for row in &dataplane.interfaces {
        table.row(vec![
            row.interface.clone(),
            row.role.clone(),
            row.index.map_or_else(dash, |index| index.to_string()),
            row.mode.clone(),
            row.source_guard.clone().unwrap_or_else(dash),
            row.anti_loop.clone().unwrap_or_else(dash),
            row.forwarding.clone(),
            row.reason.clone().unwrap_or_default(),
        ]);
    }
    unless_empty(&table, colour)
}

fn programs(dataplane: &DataplaneJson, colour: bool) -> String {
    let mut table = Table::new(&[
        ("PROGRAM", Text),
        ("ID", Number),
        ("TAG", Text),
        ("RUNS", Number),
        ("NANOSECONDS", Number),
        ("EACH", Number),
    ]);
    for row in &dataplane.programs {
        let each = row.run_nanoseconds.checked_div(row.run_count);
        table.row(vec![
            row.name.clone(),
            row.id.to_string(),
            row.tag.clone(),
            row.run_count.to_string(),
            row.run_nanoseconds.to_string(),
            each.map_or_else(|| "-".to_owned(), |nanos| nanos.to_string()),
        ]);
    }
    unless_empty(&table, colour)
}

fn packets(dataplane: &DataplaneJson, colour: bool) -> String {
    let mut table = Table::new(&[("INTERFACE", Text), ("ACTION", Text), ("COUNT", Number)]);
    for row in dataplane.packets.iter().filter(|row| row.count > 0) {
        table.row(vec![
            row.interface.clone(),
            row.name.clone(),
            row.count.to_string(),
        ]);
    }
    unless_empty(&table, colour)
}

fn reasons(dataplane: &DataplaneJson, colour: bool) -> String {
    let mut table = Table::new(&[("REASON", Text), ("DROPPED", Number), ("PASSED", Number)]);
    let rows = dataplane.reasons.iter();
    for row in rows.filter(|row| row.dropped > 0 || row.passed > 0) {
        table.row(vec![
            row.reason.clone(),
            row.dropped.to_string(),
            row.passed.to_string(),
        ]);
    }
    unless_empty(&table, colour)
}

fn bindings(dataplane: &DataplaneJson) -> String {
    let Some(bindings) = &dataplane.bindings else {
        return String::new();
    };
    let mut text = String::new();
    for (name, value) in [
        (
            "entries",
            format!("{} of {}", bindings.entries, bindings.limit),
        ),
        ("refused so far", bindings.refused_total.to_string()),
        ("writes failed", bindings.write_failures.to_string()),
    ] {
        let _ = writeln!(text, "{name:<15} {value}");
    }
    if let Some(traffic) = &dataplane.traffic {
        for (name, packets, bytes) in [
            ("from leases", traffic.rx_packets, traffic.rx_bytes),
            ("to leases", traffic.tx_packets, traffic.tx_bytes),
        ] {
            let _ = writeln!(text, "{name:<15} {packets} packets, {bytes} bytes");
        }
    }
    text
}

fn refused(dataplane: &DataplaneJson, colour: bool) -> String {
    let mut table = Table::new(&[("PREFIX", Long), ("REASON", Text)]);
    for row in dataplane.bindings.iter().flat_map(|it| &it.refused) {
        table.row(vec![row.prefix.clone(), row.reason.clone()]);
    }
    unless_empty(&table, colour)
}

fn maps(dataplane: &DataplaneJson, colour: bool) -> String {
    let mut table = Table::new(&[("MAP", Text), ("KIB", Number)]);
    for row in &dataplane.maps {
        let kibibytes = row.memory.map(|bytes| (bytes / 1024).to_string());
        table.row(vec![
            row.name.clone(),
            kibibytes.unwrap_or_else(|| "-".to_owned()),
        ]);
    }
    unless_empty(&table, colour)
}

fn ring(dataplane: &DataplaneJson) -> String {
    dataplane.ring.map_or_else(String::new, |ring| {
        format!(
            "{} of {} bytes used, {} frames found it full\n",
            ring.used, ring.bytes, dataplane.ring_lost
        )
    })
}
