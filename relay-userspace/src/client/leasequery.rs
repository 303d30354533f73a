//! Leasequery for people: sessions, their counters, digests, readiness and requests.

use std::io::{self, Write};

use serde::Deserialize;

use super::Failure;
use super::http::{Daemon, parse};
use super::show::{age, unless_empty};
use super::table::{Kind, Table};
use crate::cli::{Request, RequestLeasequery, ShownLeasequery};
use crate::control::leasequery::{
    CountJson, DigestJson, NeighborJson, ReadyJson, SessionCountsJson,
};

use Kind::{Long, Number, State, Text};

type Words = Vec<(&'static str, String)>;

/// What is asked for.
pub(super) fn resource(what: &ShownLeasequery) -> (&'static str, Words) {
    let (path, name) = match what {
        ShownLeasequery::Neighbors { name } => ("/v1/active-leasequery/neighbors", name),
        ShownLeasequery::Statistics { name } => ("/v1/active-leasequery/statistics", name),
    };
    (path, named(name))
}

fn named(name: &Option<String>) -> Words {
    name.iter().map(|name| ("name", name.clone())).collect()
}

/// The answer as a person reads it.
pub(super) fn render(
    what: &ShownLeasequery,
    answer: &[u8],
    colour: bool,
) -> Result<String, Failure> {
    Ok(match what {
        ShownLeasequery::Neighbors { .. } => {
            neighbors(&parse::<Neighbors>(answer)?.neighbors, colour)
        }
        ShownLeasequery::Statistics { .. } => {
            statistics(&parse::<Statistics>(answer)?.statistics, colour)
        }
    })
}

#[derive(Deserialize)]
struct Neighbors {
    neighbors: Vec<NeighborJson>,
}

#[derive(Deserialize)]
struct Statistics {
    statistics: Vec<SessionCountsJson>,
}

#[derive(Deserialize)]
struct Digest {
    digest: DigestJson,
}

/// One row for each session, and what went wrong below.
fn neighbors(rows: &[NeighborJson], colour: bool) -> String {
    let mut table = Table::new(&[
        ("NAME", Text),
        ("ADDRESS", Long),
        ("ROLE", Text),
        ("STATE", State),
        ("TLS", Text),
        ("FOR", Number),
        ("RETRY", Number),
        ("CATCH-UP", Text),
        ("RECEIVED", Number),
        ("SENT", Number),
        ("LAG", Number),
        ("ERRORS", Number),
    ]);
    let now = jiff::Timestamp::now();
    let dash = || "-".to_owned();
    for row in rows {
        let since = row.since.as_deref().and_then(|it| it.parse().ok());
        let held = since.map(|since: jiff::Timestamp| now.duration_since(since).as_secs());
        let catch_up = match (row.catch_up.complete, row.catch_up.received) {
            (true, _) => "complete".to_owned(),
            (false, 0) => dash(),
            (false, received) => format!("{received}…"),
        };
        table.row(vec![
            row.name.clone(),
            row.address.clone(),
            row.role.clone(),
            row.state.clone(),
            if row.tls { "yes" } else { "no" }.to_owned(),
            held.map_or_else(dash, |secs| age(u64::try_from(secs).unwrap_or(0))),
            row.retry_in.map_or_else(dash, |secs| format!("{secs:.0}s")),
            catch_up,
            row.bindings_received.to_string(),
            row.bindings_sent.to_string(),
            row.lag.map_or_else(dash, |secs| format!("{secs:.2}s")),
            row.errors.to_string(),
        ]);
    }
    let mut text = unless_empty(&table, colour);
    for row in rows {
        if let Some(error) = &row.last_error {
            text.push_str(&wrapped(&format!("{} as {}: {error}", row.name, row.role)));
        }
    }
    text
}

/// Lines that fit the width of tables; the later ones indented.
fn wrapped(text: &str) -> String {
    let (mut lines, mut line) = (String::new(), String::new());
    for word in text.split(' ') {
        let is_full = line.chars().count() + 1 + word.chars().count() > super::table::WIDTH;
        if is_full && !line.trim().is_empty() {
            lines.push_str(&line);
            lines.push('\n');
            line = "   ".to_owned();
        }
        if !line.is_empty() {
            line.push(' ');
        }
        line.push_str(word);
    }
    format!("{lines}{line}\n")
}

fn statistics(rows: &[SessionCountsJson], colour: bool) -> String {
    let mut table = Table::new(&[
        ("NAME", Text),
        ("ROLE", Text),
        ("DIRECTION", Text),
        ("WHAT", Text),
        ("COUNT", Number),
    ]);
    for row in rows {
        let ignored = (row.ignored > 0).then(|| CountJson {
            direction: "received".to_owned(),
            name: "ignored".to_owned(),
            count: row.ignored,
        });
        for CountJson {
            direction,
            name,
            count,
        } in row.messages.iter().chain(&row.statuses).chain(&ignored)
        {
            let (peer, role) = (row.name.clone(), row.role.clone());
            table.row(vec![
                peer,
                role,
                direction.clone(),
                name.clone(),
                count.to_string(),
            ]);
        }
    }
    unless_empty(&table, colour)
}

/// `show digest`.
pub(super) fn digest(answer: &[u8], colour: bool) -> Result<String, Failure> {
    let DigestJson { links, total } = parse::<Digest>(answer)?.digest;
    let mut table = Table::new(&[("LINK", Text), ("BINDINGS", Number), ("DIGEST", Text)]);
    for row in links.into_iter().chain([total]) {
        table.row(vec![row.link, row.bindings.to_string(), row.digest]);
    }
    Ok(unless_empty(&table, colour))
}

/// `ready`.
pub(super) async fn ready(daemon: &Daemon, json: bool) -> Result<(), Failure> {
    let answer = daemon.get("/v1/ready", &[]).await?;
    let ReadyJson {
        ready,
        by_timeout,
        reason,
    } = parse(&answer)?;
    let mut output = io::stdout();
    if json {
        output.write_all(&answer)?;
        writeln!(output)?;
    }
    match (ready, by_timeout) {
        (false, _) => return Err(Failure::No(format!("not ready: {reason}"))),
        _ if json => {}
        (true, false) => writeln!(output, "ready: {reason}")?,
        (true, true) => writeln!(output, "ready without being in sync: {reason}")?,
    }
    Ok(())
}

/// `request`.
pub(super) async fn request(daemon: &Daemon, json: bool, what: Request) -> Result<(), Failure> {
    let (path, name) = match what {
        Request::ActiveLeasequery {
            what: RequestLeasequery::Resync { name },
        } => ("/v1/request/active-leasequery/resync", name),
        Request::BulkLeasequery { server } => ("/v1/request/bulk-leasequery", server),
    };
    let answer = daemon.post(path, &named(&name)).await?;
    match json {
        true => io::stdout().write_all(&answer)?,
        false => writeln!(
            io::stdout(),
            "requested; see `twinrelay show active-leasequery neighbors`"
        )?,
    }
    Ok(())
}
