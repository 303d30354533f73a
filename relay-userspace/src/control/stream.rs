//! Long answers, in pages: the relay thread is asked for some hundred clients at a time and
//! relays between two pages, the answer leaves as it is made, and memory holds two pages of it.

use axum::body::{Body, Bytes};
use axum::http::header::CONTENT_TYPE;
use axum::response::{IntoResponse, Response};
use relay_core::view::{Cursor, Page};
use serde::{Deserialize, Serialize};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;

use super::ControlContext;
use super::filter::Asked;
use super::json::{binding_row, subscriber_row};
use super::server::{Refusal, Shared};
use super::view::{RouteKind, RouteRow, RouteRowState};
use crate::handle::{Command, RelayBusy};
use crate::wall_time::WallTime;

/// Clients that the relay thread copies between two batches of packets.
const CLIENTS_PER_PAGE: usize = 128;
/// Routes that the follower copies at a time.
const ROUTES_PER_PAGE: usize = 1024;
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
    /// `installed`, `pending`, `failed`.
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

/// `{"NAME": [` … `]}`, written piece by piece.
struct List {
    buffer: Vec<u8>,
    is_first: bool,
    left: usize,
}

impl List {
    fn new(name: &str, limit: Option<usize>) -> Self {
        Self {
            buffer: format!("{{\"{name}\": [").into_bytes(),
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
    pages(context, asked, "subscribers", move |clock, page, list| {
        for subscriber in &page.subscribers {
            list.push(&subscriber_row(clock, &names, subscriber));
        }
    })
    .await
}

/// Leases with their clients folded in.
pub(super) async fn bindings(context: &ControlContext, asked: Asked) -> Result<Response, Refusal> {
    let names = context.surroundings.borrow().names.clone();
    pages(context, asked, "bindings", move |clock, page, list| {
        for subscriber in &page.subscribers {
            for binding in &subscriber.bindings {
                list.push(&binding_row(clock, &names, subscriber, binding));
            }
        }
    })
    .await
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

/// Routes, in the order of their prefixes.
pub(super) fn routes(context: &ControlContext) -> Response {
    let view = std::sync::Arc::clone(&context.routes);
    let (sender, receiver) = mpsc::channel::<Chunk>(PAGES_QUEUED);
    tokio::spawn(async move {
        let mut list = List::new("routes", None);
        let mut after = None;
        loop {
            let rows = view.page(after, ROUTES_PER_PAGE);
            after = rows.last().map(|row| row.prefix);
            let is_last = rows.len() < ROUTES_PER_PAGE;
            for row in rows {
                list.push(&RouteJson::from(row));
            }
            if is_last {
                let _ = sender.send(Ok(list.finish())).await;
                return;
            }
            if sender.send(Ok(list.take())).await.is_err() {
                return;
            }
        }
    });
    json_body(receiver)
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
