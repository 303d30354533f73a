//! Long answers, in pages: the relay thread is asked for some hundred clients at a time and
//! relays between two pages, the answer leaves as it is made, and memory holds two pages of it.

use std::sync::Arc;

use axum::body::{Body, Bytes};
use axum::http::header::CONTENT_TYPE;
use axum::response::{IntoResponse, Response};
use relay_core::input::RouteRefusal;
use relay_core::view::{BindingState, Cursor, Filter, Page, RouteState, SubscriberView};
use serde::{Deserialize, Serialize};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;

use super::ControlContext;
use super::dataplane::Traffic;
use super::filter::Asked;
use super::json::{binding_row, refusal_text, subscriber_row};
use super::server::{Refusal, Shared};
use super::view::{DataplaneView, Difference, RouteKind, RouteRow, RouteRowState, Side};
use crate::handle::{Command, RelayBusy};
use crate::names::Names;
use crate::wall_time::WallTime;

/// Clients that the relay thread copies between two batches of packets.
const CLIENTS_PER_PAGE: usize = 128;
/// Pages that wait for a slow reader.
const PAGES_QUEUED: usize = 2;
/// Readers of `/v1/events` at one time.
const WATCHERS_MAX: usize = 64;

type Chunk = Result<Bytes, RelayBusy>;

/// A route as `show routes --json` prints it.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct RouteJson {
    /// Destination.
    pub prefix: String,
    /// Next hop; `null` for an unreachable route.
    pub gateway: Option<String>,
    /// Outgoing interface; `null` for an unreachable route.
    pub interface: Option<String>,
    /// `lease` or `aggregate`.
    pub kind: RouteKind,
    /// `installed`, `pending`, `failed`, `unclaimed`.
    pub state: RouteRowState,
    /// Why it failed.
    pub error: Option<String>,
}

impl From<RouteRow> for RouteJson {
    fn from(row: RouteRow) -> Self {
        Self {
            prefix: row.prefix.to_string(),
            gateway: row.gateway.map(|gateway| gateway.to_string()),
            interface: row.interface,
            kind: row.kind,
            state: row.state,
            error: row.error,
        }
    }
}

/// An element of `show routes --diff --json`.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct DifferenceJson {
    /// `wanted` or `kernel`.
    pub side: Side,
    /// Destination.
    pub prefix: String,
    /// Next hop; `null` for an unreachable route and on the side of the kernel where not ours.
    pub gateway: Option<String>,
    /// Outgoing interface.
    pub interface: Option<String>,
    /// Number of who made it; `null` where nothing was to be written.
    pub protocol: Option<u8>,
    /// Metric; likewise.
    pub metric: Option<u32>,
    /// `pending`, `failed`, `unclaimed`, `foreign`.
    pub state: RouteRowState,
    /// Why it is not there.
    pub error: Option<String>,
}

impl From<Difference> for DifferenceJson {
    fn from(row: Difference) -> Self {
        Self {
            side: row.side,
            prefix: row.prefix.to_string(),
            gateway: row.gateway.map(|gateway| gateway.to_string()),
            interface: row.interface,
            protocol: row.protocol,
            metric: row.metric,
            state: row.state,
            error: row.error,
        }
    }
}

/// `{"NAME": [` … `]}`, written piece by piece.
struct List {
    buffer: Vec<u8>,
    is_first: bool,
    left: usize,
}

impl List {
    fn new(name: &str, limit: Option<usize>) -> Self {
        Self::behind("", name, limit)
    }

    /// Behind other members of the document.
    fn behind(head: &str, name: &str, limit: Option<usize>) -> Self {
        Self {
            buffer: format!("{{{head}\"{name}\": [").into_bytes(),
            is_first: true,
            left: limit.unwrap_or(usize::MAX),
        }
    }

    fn push(&mut self, row: &impl Serialize) {
        if self.left == 0 {
            return;
        }
        self.left -= 1;
        self.buffer
            .extend_from_slice(if self.is_first { b"\n" } else { b",\n" });
        self.is_first = false;
        serde_json::to_writer(&mut self.buffer, row)
            .expect("rows are plain data, and memory grows");
    }

    fn take(&mut self) -> Bytes {
        Bytes::from(std::mem::take(&mut self.buffer))
    }

    fn finish(mut self) -> Bytes {
        self.buffer.extend_from_slice(b"]}\n");
        self.take()
    }
}

fn json_body(chunks: mpsc::Receiver<Chunk>) -> Response {
    let body = Body::from_stream(ReceiverStream::new(chunks));
    ([(CONTENT_TYPE, "application/json")], body).into_response()
}

/// Clients with their leases.
pub(super) async fn subscribers(
    context: &ControlContext,
    asked: Asked,
) -> Result<Response, Refusal> {
    let names = context.surroundings.borrow().names.clone();
    let dataplane = Arc::clone(&context.dataplane);
    pages(context, asked, "subscribers", move |clock, page, list| {
        for subscriber in &page.subscribers {
            let mut row = subscriber_row(clock, &names, subscriber);
            let traffic = traffic_of(&*dataplane, subscriber);
            for (lease, traffic) in row.bindings.iter_mut().zip(traffic) {
                lease.traffic = Some(traffic);
            }
            list.push(&row);
        }
    })
    .await
}

/// Leases with their clients folded in.
pub(super) async fn bindings(context: &ControlContext, asked: Asked) -> Result<Response, Refusal> {
    let names = context.surroundings.borrow().names.clone();
    let dataplane = Arc::clone(&context.dataplane);
    pages(context, asked, "bindings", move |clock, page, list| {
        for subscriber in &page.subscribers {
            let traffic = traffic_of(&*dataplane, subscriber);
            for (binding, traffic) in subscriber.bindings.iter().zip(traffic) {
                let mut row = binding_row(clock, &names, subscriber, binding);
                row.lease.traffic = Some(traffic);
                list.push(&row);
            }
        }
    })
    .await
}

/// What was counted for the leases of a client, in their order. Those of others, over a limit or ended, count
/// nothing.
fn traffic_of(dataplane: &dyn DataplaneView, subscriber: &SubscriberView) -> Vec<Traffic> {
    let bindings = &subscriber.bindings;
    let mut prefixes = bindings.iter().map(|binding| binding.prefix);
    let mut traffic = dataplane.traffic(&mut prefixes);
    for (binding, traffic) in bindings.iter().zip(&mut traffic) {
        let is_owner = binding.state == BindingState::Active && !is_without_entry(binding.route);
        if !is_owner {
            *traffic = Traffic::default();
        }
    }
    traffic
}

/// Whether another lease owns the prefix.
const fn is_without_entry(route: RouteState) -> bool {
    use RouteRefusal::{ClientLimit, InterfaceLimit, Superseded, TableFull};
    matches!(
        route,
        RouteState::Failed(Superseded | ClientLimit | InterfaceLimit | TableFull)
    )
}

/// Walks the table. The first page is awaited before the answer begins, so that a relay thread
/// that does not answer becomes a refusal; one that ends later breaks the answer off.
async fn pages(
    context: &ControlContext,
    asked: Asked,
    name: &'static str,
    write: impl Fn(&WallTime, &Page, &mut List) + Send + 'static,
) -> Result<Response, Refusal> {
    let relay = context.relay.clone();
    let ask = move |from: Cursor| {
        let (relay, filter) = (relay.clone(), asked.filter.clone());
        async move {
            relay
                .ask(|answer| Command::Page(filter, from, CLIENTS_PER_PAGE, answer))
                .await
        }
    };
    let mut list = List::new(name, asked.limit);
    let (sender, receiver) = mpsc::channel::<Chunk>(PAGES_QUEUED);
    if asked.nothing || asked.limit == Some(0) {
        let _ = sender.send(Ok(list.finish())).await;
        return Ok(json_body(receiver));
    }
    let mut page = ask(Cursor::default()).await?;
    tokio::spawn(async move {
        loop {
            write(&WallTime::read(), &page, &mut list);
            let Some(next) = page.next.filter(|_| list.left > 0) else {
                let _ = sender.send(Ok(list.finish())).await;
                return;
            };
            if sender.send(Ok(list.take())).await.is_err() {
                return; // the reader left
            }
            page = match ask(next).await {
                Ok(page) => page,
                Err(busy) => {
                    let _ = sender.send(Err(busy)).await;
                    return;
                }
            };
        }
    });
    Ok(json_body(receiver))
}

/// Routes, in no order.
pub(super) fn routes(context: &ControlContext) -> Response {
    let view = Arc::clone(&context.routes);
    let (sender, receiver) = mpsc::channel::<Chunk>(PAGES_QUEUED);
    tokio::spawn(async move {
        let mut list = List::new("routes", None);
        let mut from = Some(0);
        while let Some(place) = from {
            let page = view.page(place);
            from = page.next;
            for row in page.rows {
                list.push(&RouteJson::from(row));
            }
            if from.is_some() && sender.send(Ok(list.take())).await.is_err() {
                return;
            }
        }
        let _ = sender.send(Ok(list.finish())).await;
    });
    json_body(receiver)
}

/// What is wanted beside what the kernel holds: the follower's side, then leases that may not even be
/// wanted there.
pub(super) fn differences(context: &ControlContext) -> Response {
    let (view, relay) = (Arc::clone(&context.routes), context.relay.clone());
    let names = context.surroundings.borrow().names.clone();
    let compared = context.counters.routes.compared_at.get();
    let compared = i64::try_from(compared).ok().filter(|at| *at > 0);
    let compared = compared.and_then(|at| jiff::Timestamp::from_second(at).ok());
    let compared = serde_json::json!(compared.map(|at| at.to_string()));
    let head = format!("\"compared\": {compared}, ");
    let (sender, receiver) = mpsc::channel::<Chunk>(PAGES_QUEUED);
    tokio::spawn(async move {
        let mut list = List::behind(&head, "differences", None);
        let mut from = Some(0);
        while let Some(place) = from {
            let page = view.differences(place);
            from = page.next;
            page.rows
                .into_iter()
                .for_each(|row| list.push(&DifferenceJson::from(row)));
            if sender.send(Ok(list.take())).await.is_err() {
                return;
            }
        }
        let mut cursor = Some(Cursor::default());
        while let Some(from) = cursor {
            let ask = |answer| Command::Page(Filter::default(), from, CLIENTS_PER_PAGE, answer);
            let page = match relay.ask(ask).await {
                Ok(page) => page,
                Err(busy) => {
                    let _ = sender.send(Err(busy)).await;
                    return;
                }
            };
            cursor = page.next;
            for subscriber in &page.subscribers {
                not_wanted(&names, subscriber).for_each(|row| list.push(&row));
            }
            if sender.send(Ok(list.take())).await.is_err() {
                return;
            }
        }
        let _ = sender.send(Ok(list.finish())).await;
    });
    json_body(receiver)
}

/// Leases of a client that the follower never heard of, because policy or a limit refused them a route.
fn not_wanted<'a>(
    names: &'a Names,
    subscriber: &'a SubscriberView,
) -> impl Iterator<Item = DifferenceJson> + 'a {
    subscriber.bindings.iter().filter_map(|binding| {
        let RouteState::Failed(why) = binding.route else {
            return None;
        };
        if matches!(why, RouteRefusal::ForeignRoute | RouteRefusal::Kernel(_)) {
            return None;
        }
        Some(DifferenceJson {
            side: Side::Wanted,
            prefix: binding.prefix.to_string(),
            gateway: Some(subscriber.client_address.to_string()),
            interface: Some(names.access(subscriber.link.access)),
            protocol: None,
            metric: None,
            state: RouteRowState::Failed,
            error: Some(refusal_text(why)),
        })
    })
}

/// Events as JSON lines, until the reader leaves.
pub(super) fn events(shared: &Shared) -> Result<Response, Refusal> {
    let watching = shared.context.watchers.enter(WATCHERS_MAX)?;
    let Some(watching) = watching else {
        return Err(Refusal::busy("64 monitors run already; end one"));
    };
    let mut reader = shared.context.events.subscribe();
    let (sender, receiver) = mpsc::channel::<Chunk>(PAGES_QUEUED);
    let stop = shared.stop.clone();
    tokio::spawn(async move {
        let _watching = watching;
        loop {
            let event = tokio::select! {
                event = reader.next() => event,
                () = sender.closed() => None,
                () = stop.cancelled() => None,
            };
            let Some(event) = event else { return };
            let mut line = serde_json::to_vec(&*event).expect("events are plain data");
            line.push(b'\n');
            if sender.send(Ok(Bytes::from(line))).await.is_err() {
                return;
            }
        }
    });
    let body = Body::from_stream(ReceiverStream::new(receiver));
    Ok(([(CONTENT_TYPE, "application/jsonl")], body).into_response())
}
