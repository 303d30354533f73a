//! Leasequery on the control socket: sessions, their counters, digests, readiness, and what an
//! operator asks for.

use std::collections::BTreeMap;
use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use relay_core::alq::{Digest, Neighbor, Remote};
use relay_core::time::Instant;
use relay_core::types::AccessId;
use relay_core::wire::iana::{self, message_type_name};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::ControlContext;
use super::server::{Answer, Refusal, Shared, Words};
use crate::handle::{Command, Surroundings};
use crate::leasequery::Ask;
use crate::wall_time::WallTime;

/// 2000-01-01 00:00 UTC: base-times count from here (RFC 7653 §2).
const EPOCH_SECS: i64 = 946_684_800;

/// An element of `show active-leasequery neighbors --json`.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct NeighborJson {
    /// The peer, or the server that is asked by Bulk Leasequery.
    pub name: String,
    /// Where it is.
    pub address: String,
    /// TCP port.
    pub port: u16,
    /// As seen from here: `requestor` or `server`.
    pub role: String,
    /// `idle`, `connecting`, `tls-handshake`, `query-sent`, `bulk-catch-up`, `catch-up`, `active`,
    /// `backoff`.
    pub state: String,
    /// TLS is up.
    pub tls: bool,
    /// Since when it is in this state.
    pub since: Option<String>,
    /// Seconds until the next attempt.
    pub retry_in: Option<f64>,
    /// Progress.
    pub catch_up: CatchUpJson,
    /// Last message heard.
    pub last_received: Option<String>,
    /// Last message sent.
    pub last_sent: Option<String>,
    /// Seconds.
    pub lag: Option<f64>,
    /// Leases taken from messages.
    pub bindings_received: u64,
    /// Leases put into messages.
    pub bindings_sent: u64,
    /// Leases that were older than what was known.
    pub stale_ignored: u64,
    /// Sessions that ended by an error.
    pub errors: u64,
    /// What went wrong last.
    pub last_error: Option<String>,
}

/// Of the last catch-up.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct CatchUpJson {
    /// The start time asked for, by the other end's clock; `null`: everything.
    pub requested_from: Option<String>,
    /// All of it has come.
    pub complete: bool,
    /// When.
    pub completed_at: Option<String>,
    /// Bindings in it so far.
    pub received: u64,
}

/// An element of `show active-leasequery statistics --json`.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct SessionCountsJson {
    /// The peer or server.
    pub name: String,
    /// `requestor` or `server`.
    pub role: String,
    /// By direction and type.
    pub messages: Vec<CountJson>,
    /// By direction and code.
    pub statuses: Vec<CountJson>,
    /// What was received and could not be taken for what it claims to be.
    pub ignored: u64,
}

/// One number.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct CountJson {
    /// `received` or `sent`.
    pub direction: String,
    /// The message type or the status code.
    pub name: String,
    /// How many.
    pub count: u64,
}

/// `show digest --json`.
#[derive(Clone, PartialEq, Debug, Default, Serialize, Deserialize)]
pub struct DigestJson {
    /// By access link, ordered.
    pub links: Vec<LinkDigestJson>,
    /// Of all.
    pub total: LinkDigestJson,
}

/// Active bindings as one number.
#[derive(Clone, PartialEq, Debug, Default, Serialize, Deserialize)]
pub struct LinkDigestJson {
    /// The prefix of the link; `unmapped` for leases without one, `total` for all.
    pub link: String,
    /// How many.
    pub bindings: u64,
    /// 64 bits in hex.
    pub digest: String,
}

/// `/v1/ready`.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct ReadyJson {
    /// This relay may attract traffic.
    pub ready: bool,
    /// It waited in vain to be in sync.
    pub by_timeout: bool,
    /// Why.
    pub reason: String,
}

/// What there is of sessions, of one peer or server where it is named.
async fn neighbors_of(
    shared: &Shared,
    words: &Words,
) -> Answer<(Vec<Neighbor>, Arc<Surroundings>)> {
    let mut neighbors = shared.context.relay.ask(Command::Neighbors).await?;
    let surroundings = Arc::clone(&shared.context.surroundings.borrow());
    if let Some(name) = name_of(&words.0)? {
        neighbors.retain(|it| surroundings.names.remote(it.remote) == *name);
        if neighbors.is_empty() {
            return Err(unknown(name, "peer of leasequery", "neighbors"));
        }
    }
    Ok((neighbors, surroundings))
}

/// The only word that is known.
fn name_of(words: &BTreeMap<String, String>) -> Answer<Option<&String>> {
    match words.keys().find(|key| *key != "name") {
        Some(key) => {
            let message = format!("unknown parameter `{key}`");
            Err(Refusal::new(StatusCode::BAD_REQUEST, message))
        }
        None => Ok(words.get("name")),
    }
}

fn unknown(name: &str, what: &str, list: &str) -> Refusal {
    let see = format!("`twinrelay show active-leasequery {list}`");
    let message = format!("no {what} is named `{name}`; see {see}");
    Refusal::new(StatusCode::NOT_FOUND, message)
}

pub(super) async fn neighbors(State(shared): State<Shared>, words: Words) -> Answer<Json<Value>> {
    let (neighbors, surroundings) = neighbors_of(&shared, &words).await?;
    let clock = WallTime::read();
    let rows: Vec<_> = neighbors
        .iter()
        .map(|neighbor| neighbor_json(&clock, &surroundings, neighbor))
        .collect();
    Ok(Json(json!({"neighbors": rows})))
}

pub(super) async fn statistics(State(shared): State<Shared>, words: Words) -> Answer<Json<Value>> {
    let (neighbors, surroundings) = neighbors_of(&shared, &words).await?;
    let rows: Vec<_> = neighbors
        .iter()
        .map(|neighbor| SessionCountsJson {
            name: surroundings.names.remote(neighbor.remote),
            role: neighbor.role.name().to_owned(),
            messages: messages(neighbor)
                .map(|(direction, name, count)| row(direction, name, count))
                .collect(),
            statuses: statuses(neighbor),
            ignored: neighbor.statistics.ignored,
        })
        .collect();
    Ok(Json(json!({"statistics": rows})))
}

/// Direction, type and number of the messages of a session.
pub fn messages(neighbor: &Neighbor) -> impl Iterator<Item = (&'static str, &'static str, u64)> {
    let of = |direction, counts: &[(u8, u64)]| {
        let named = counts.iter().map(|(message_type, count)| {
            let name = message_type_name(*message_type);
            (direction, name, *count)
        });
        named.collect::<Vec<_>>()
    };
    let statistics = &neighbor.statistics;
    let received = of("received", &statistics.messages_received);
    received
        .into_iter()
        .chain(of("sent", &statistics.messages_sent))
}

fn statuses(neighbor: &Neighbor) -> Vec<CountJson> {
    let of = |direction, counts: &[(u16, u64)]| {
        let rows = counts.iter();
        rows.map(|(code, count)| row(direction, &status_name(*code), *count))
            .collect::<Vec<_>>()
    };
    let statistics = &neighbor.statistics;
    let mut rows = of("received", &statistics.statuses_received);
    rows.extend(of("sent", &statistics.statuses_sent));
    rows
}

fn row(direction: &str, name: &str, count: u64) -> CountJson {
    CountJson {
        direction: direction.to_owned(),
        name: name.to_owned(),
        count,
    }
}

/// One that no RFC names goes by its number.
fn status_name(code: u16) -> String {
    match iana::status_name(code) {
        "unknown" => format!("status-{code}"),
        name => name.to_owned(),
    }
}

fn neighbor_json(clock: &WallTime, surroundings: &Surroundings, it: &Neighbor) -> NeighborJson {
    let ends = &surroundings.leasequery.remotes;
    let end = ends.iter().find(|(remote, _)| *remote == it.remote);
    let address = end.map(|(_, target)| target.address);
    let time = |at: Option<_>| at.and_then(|at| clock.rfc3339(at));
    let seconds = |nanos: u64| nanos as f64 / 1e9;
    NeighborJson {
        name: surroundings.names.remote(it.remote),
        address: address.map_or_else(String::new, |it| it.ip().to_string()),
        port: address.map_or(0, |it| it.port()),
        role: it.role.name().to_owned(),
        state: it.state.name().to_owned(),
        tls: it.is_secure,
        // A peer that never asked has been idle since no time that is known.
        since: time((it.since > Instant::default()).then_some(it.since)),
        retry_in: it.retry_at.map(|at| clock.until(at).as_secs_f64()),
        catch_up: CatchUpJson {
            requested_from: it.catch_up.requested_from.and_then(base_time),
            complete: it.catch_up.is_complete,
            completed_at: time(it.catch_up.completed_at),
            received: it.catch_up.received,
        },
        last_received: time(it.last_received),
        last_sent: time(it.last_sent),
        lag: it.lag_nanos.map(seconds),
        bindings_received: it.statistics.bindings_received,
        bindings_sent: it.statistics.bindings_sent,
        stale_ignored: it.statistics.stale_ignored,
        errors: it.statistics.errors,
        last_error: it.last_error.clone(),
    }
}

fn base_time(secs: u32) -> Option<String> {
    let timestamp = jiff::Timestamp::from_second(EPOCH_SECS + i64::from(secs));
    timestamp.ok().map(|it| it.to_string())
}

pub(super) async fn digest(State(shared): State<Shared>) -> Answer<Json<Value>> {
    let digests = shared.context.relay.ask(Command::Digests).await?;
    let surroundings = Arc::clone(&shared.context.surroundings.borrow());
    let digest = digest_json(&surroundings, &digests);
    Ok(Json(json!({"digest": digest})))
}

fn digest_json(surroundings: &Surroundings, digests: &[(AccessId, Digest)]) -> DigestJson {
    let named = link_digests(surroundings, digests);
    let of = |link: String, digest: Digest| LinkDigestJson {
        link,
        bindings: digest.bindings,
        digest: format!("{:016x}", digest.sum),
    };
    DigestJson {
        total: of("total".to_owned(), total(digests)),
        links: named.into_iter().map(|(link, it)| of(link, it)).collect(),
    }
}

/// Of all links together.
pub fn total(digests: &[(AccessId, Digest)]) -> Digest {
    let add = |sum: Digest, (_, it): &(AccessId, Digest)| plus(sum, *it);
    digests.iter().fold(Digest::default(), add)
}

const fn plus(one: Digest, other: Digest) -> Digest {
    Digest {
        bindings: one.bindings + other.bindings,
        sum: one.sum.wrapping_add(other.sum),
    }
}

/// By the prefix of the link, which twins share; two interfaces of one link are one.
pub fn link_digests(
    surroundings: &Surroundings,
    digests: &[(AccessId, Digest)],
) -> BTreeMap<String, Digest> {
    let mut links = BTreeMap::new();
    for (access, digest) in digests {
        let sum = links.entry(link_name(surroundings, *access)).or_default();
        *sum = plus(*sum, *digest);
    }
    links
}

fn link_name(surroundings: &Surroundings, access: AccessId) -> String {
    let relay = &surroundings.relay;
    let Some(link) = relay.access.iter().find(|it| it.id == access) else {
        return surroundings.names.access(access);
    };
    let interface = surroundings.interfaces.by_name(&link.name);
    let addresses = interface.into_iter().flat_map(|it| &it.addresses);
    let mut own = addresses.filter(|it| it.address == link.link_address);
    match own.find_map(crate::interfaces::InterfaceAddress::network) {
        Some(network) => network.to_string(),
        None => relay_core::types::Prefix::host(link.link_address).to_string(),
    }
}

pub(super) async fn ready(State(shared): State<Shared>) -> Json<ReadyJson> {
    Json(ready_json(&shared.context))
}

fn ready_json(context: &ControlContext) -> ReadyJson {
    let ready = context.ready.borrow().clone();
    let surroundings = context.surroundings.borrow();
    ReadyJson {
        ready: ready.is_ready,
        by_timeout: ready.is_by_timeout,
        reason: surroundings.names.put_into(&ready.reason),
    }
}

/// Drops what is known of a peer's progress, or of every peer's.
pub(super) async fn resync(State(shared): State<Shared>, words: Words) -> Answer<Json<Value>> {
    let surroundings = Arc::clone(&shared.context.surroundings.borrow());
    if !surroundings.relay.leasequery.enabled {
        let message = "Active Leasequery is off; see [active_leasequery] enabled";
        return Err(Refusal::new(StatusCode::CONFLICT, message.to_owned()));
    }
    let name = name_of(&words.0)?;
    let peer = match name {
        None => None,
        Some(name) => {
            let is_it = |remote: &Remote| matches!(remote, Remote::Peer(_));
            match find(&surroundings, name, is_it) {
                Some(Remote::Peer(peer)) => Some(peer),
                _ => return Err(unknown(name, "peer", "neighbors")),
            }
        }
    };
    shared
        .context
        .relay
        .send(Command::Request(Ask::Resync(peer)))?;
    let peer = name.map_or("all", String::as_str);
    tracing::info!(peer, "an operator asked for a catch-up from nothing");
    Ok(Json(json!({"requested": true})))
}

/// Asks a server for all bindings, or all that are configured for it.
pub(super) async fn query_server(
    State(shared): State<Shared>,
    words: Words,
) -> Answer<Json<Value>> {
    let surroundings = Arc::clone(&shared.context.surroundings.borrow());
    let bulk = &surroundings.relay.leasequery.bulk_servers;
    let name = name_of(&words.0)?;
    let server = match name {
        None if bulk.is_empty() => {
            let message = "no [[server]] has bulk_leasequery = true";
            return Err(Refusal::new(StatusCode::CONFLICT, message.to_owned()));
        }
        None => None,
        Some(name) => {
            let is_it = |remote: &Remote| matches!(remote, Remote::Server(_));
            match find(&surroundings, name, is_it) {
                Some(Remote::Server(server)) if bulk.contains(&server) => Some(server),
                Some(_) => {
                    let message = format!("server `{name}` has no bulk_leasequery = true");
                    return Err(Refusal::new(StatusCode::CONFLICT, message));
                }
                None => {
                    let message =
                        format!("no server is named `{name}`; see `twinrelay show servers`");
                    return Err(Refusal::new(StatusCode::NOT_FOUND, message));
                }
            }
        }
    };
    shared
        .context
        .relay
        .send(Command::Request(Ask::QueryServer(server)))?;
    let server = name.map_or("all", String::as_str);
    tracing::info!(server, "an operator asked for a bulk leasequery");
    Ok(Json(json!({"requested": true})))
}

fn find(
    surroundings: &Surroundings,
    name: &str,
    is_it: impl Fn(&Remote) -> bool,
) -> Option<Remote> {
    let remotes = surroundings.leasequery.remotes.iter();
    remotes
        .filter(|(remote, _)| is_it(remote))
        .find(|(_, target)| target.name == name)
        .map(|(remote, _)| *remote)
}
