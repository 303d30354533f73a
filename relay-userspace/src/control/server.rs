//! The resources of the control socket: which path answers what, and how a refusal is written.

use std::collections::BTreeMap;
use std::sync::Arc;

use axum::extract::{Query, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use relay_core::input::Clear;
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;

use super::filter::{Asked, FilterError};
use super::servers::ServerHealth;
use super::{ControlContext, dataplane, documents, filter, leasequery, stream};
use crate::handle::{Command, RelayBusy};

/// What the handlers share.
#[derive(Clone)]
pub(super) struct Shared {
    pub context: ControlContext,
    pub health: Arc<ServerHealth>,
    /// Ends the streams of events, which have no end of their own.
    pub stop: CancellationToken,
}

/// Why a request is refused.
pub(super) struct Refusal(StatusCode, String);

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        (self.0, Json(json!({"error": self.1}))).into_response()
    }
}

impl From<RelayBusy> for Refusal {
    fn from(busy: RelayBusy) -> Self {
        Self(StatusCode::SERVICE_UNAVAILABLE, busy.to_string())
    }
}

impl From<FilterError> for Refusal {
    fn from(error: FilterError) -> Self {
        let status = match error {
            FilterError::UnknownInterface(_) => StatusCode::NOT_FOUND,
            _ => StatusCode::BAD_REQUEST,
        };
        Self(status, error.to_string())
    }
}

impl Refusal {
    pub(super) fn new(status: StatusCode, message: String) -> Self {
        Self(status, message)
    }

    pub(super) fn busy(message: &str) -> Self {
        Self(StatusCode::SERVICE_UNAVAILABLE, message.to_owned())
    }
}

pub(super) type Words = Query<BTreeMap<String, String>>;
pub(super) type Answer<T> = Result<T, Refusal>;

/// All resources.
pub(super) fn router(shared: Shared) -> Router {
    Router::new()
        .route("/v1/subscribers", get(subscribers))
        .route("/v1/bindings", get(bindings))
        .route("/v1/routes", get(routes))
        .route("/v1/interfaces", get(interfaces))
        .route("/v1/servers", get(servers))
        .route("/v1/statistics", get(statistics))
        .route("/v1/dataplane", get(dataplane))
        .route("/v1/version", get(version))
        .route("/v1/events", get(events))
        .route(
            "/v1/active-leasequery/neighbors",
            get(leasequery::neighbors),
        )
        .route(
            "/v1/active-leasequery/statistics",
            get(leasequery::statistics),
        )
        .route("/v1/digest", get(leasequery::digest))
        .route("/v1/ready", get(leasequery::ready))
        .route(
            "/v1/request/active-leasequery/resync",
            post(leasequery::resync),
        )
        .route(
            "/v1/request/bulk-leasequery",
            post(leasequery::query_server),
        )
        .route("/v1/clear/binding", post(clear_binding))
        .route("/v1/clear/statistics", post(clear_statistics))
        .fallback(unknown)
        .with_state(shared)
}

async fn unknown() -> Refusal {
    let message = "no such resource; this daemon may be older than the command line";
    Refusal(StatusCode::NOT_FOUND, message.to_owned())
}

async fn subscribers(State(shared): State<Shared>, words: Words) -> Answer<Response> {
    let asked = Asked::from_words(&words.0, &shared.context)?;
    stream::subscribers(&shared.context, asked).await
}

async fn bindings(State(shared): State<Shared>, words: Words) -> Answer<Response> {
    let asked = Asked::from_words(&words.0, &shared.context)?;
    stream::bindings(&shared.context, asked).await
}

async fn routes(State(shared): State<Shared>, words: Words) -> Answer<Response> {
    match words.0.get("diff").map(String::as_str) {
        None | Some("false") => Ok(stream::routes(&shared.context)),
        Some("true") => Ok(stream::differences(&shared.context)),
        Some(other) => {
            let message = format!("diff={other}: expected true or false");
            Err(Refusal(StatusCode::BAD_REQUEST, message))
        }
    }
}

async fn interfaces(State(shared): State<Shared>) -> Answer<Json<Value>> {
    let ports = shared.context.relay.ask(Command::Ports).await?;
    let rows = documents::interfaces(&shared.context, &ports);
    Ok(Json(json!({"interfaces": rows})))
}

async fn servers(State(shared): State<Shared>) -> Json<Value> {
    let rows = documents::servers(&shared.context, &shared.health);
    Json(json!({"servers": rows}))
}

async fn statistics(State(shared): State<Shared>) -> Answer<Json<Value>> {
    let summary = shared.context.relay.ask(Command::Summary).await?;
    let statistics = documents::statistics(&shared.context, &summary);
    Ok(Json(json!({"statistics": statistics})))
}

async fn dataplane(State(shared): State<Shared>) -> Answer<Json<Value>> {
    let ports = shared.context.relay.ask(Command::Ports).await?;
    let document = dataplane::document(&shared.context, &ports);
    Ok(Json(json!({"dataplane": document})))
}

async fn version(State(shared): State<Shared>) -> Json<Value> {
    Json(json!({"version": documents::version(&shared.context)}))
}

async fn events(State(shared): State<Shared>) -> Answer<Response> {
    stream::events(&shared)
}

async fn clear_binding(State(shared): State<Shared>, words: Words) -> Answer<Json<Value>> {
    let clear: Clear = filter::clear_from_words(&words.0, &shared.context)?;
    let text = format!("{clear:?}");
    let relay = &shared.context.relay;
    let mut cleared = 0;
    loop {
        let part = relay.ask(|answer| Command::Clear(clear.clone(), answer));
        let part = part.await?;
        cleared += part.bindings;
        if !part.more {
            break;
        }
    }
    tracing::info!(cleared, what = text, "an operator removed bindings");
    Ok(Json(json!({"cleared": cleared})))
}

async fn clear_statistics(State(shared): State<Shared>) -> Json<Value> {
    documents::clear_statistics(&shared.context.counters);
    tracing::info!("an operator zeroed the counters");
    Json(json!({"cleared": true}))
}
