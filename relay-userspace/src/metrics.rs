//! Prometheus text at `/metrics`. Decides names and labels; reads counters at scrape time.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use axum::Router;
use axum::extract;
use axum::http::StatusCode;
use axum::http::header::CONTENT_TYPE;
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, MetricEncoder};
use prometheus_client::metrics::MetricType;
use prometheus_client::registry::{Registry, Unit};
use relay_core::alq::Readiness;
use relay_core::effect::BindingAction;
use relay_core::error::{Discard, Notice};
use relay_core::view::TableSummary;
use relay_core::wire::iana::message_type_name;
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::control::view::{DataplaneCounters, DataplaneView};
use crate::counters::{Counter, Counters, Direction, LATENCY_BOUNDS_MICROS, ShellDrop};
use crate::handle::{Command, RelayBusy, RelayHandle, Surroundings};
use crate::leasequery::Connections;
use crate::store::{COMMIT_BUCKETS_MICROS, State, Status};

/// What prometheus-client writes.
const EXPOSITION_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// What a scrape reads. `daemon.rs` makes one; cheap to clone.
#[derive(Clone)]
pub struct MetricsContext {
    /// The relay thread, for the numbers of the table.
    pub relay: RelayHandle,
    /// What was counted.
    pub counters: Arc<Counters>,
    /// Names of access interfaces by their numbers.
    pub surroundings: watch::Receiver<Arc<Surroundings>>,
    /// The kernel programs.
    pub dataplane: Arc<dyn DataplaneView>,
    /// What survives a restart.
    pub store: Arc<Status>,
    /// Whether this relay may attract traffic.
    pub ready: watch::Receiver<Readiness>,
    /// Certificates.
    pub connections: Connections,
}

/// Binds `[metrics] listen`; apart from [`serve`] so that a start or reload can refuse.
///
/// # Errors
/// What the kernel said, with the address.
pub async fn bind(address: SocketAddr) -> io::Result<TcpListener> {
    TcpListener::bind(address).await.map_err(|error| {
        io::Error::new(
            error.kind(),
            format!("cannot listen on [metrics] listen = \"{address}\": {error}"),
        )
    })
}

/// Answers scrapes until `stop` is cancelled.
///
/// # Errors
/// Only where the listening socket itself fails.
pub async fn serve(
    listener: TcpListener,
    context: MetricsContext,
    stop: CancellationToken,
) -> io::Result<()> {
    let router = Router::new()
        .route("/metrics", get(scrape))
        .with_state(context);
    tokio::select! {
        result = axum::serve(listener, router) => result,
        () = stop.cancelled() => Ok(()),
    }
}

async fn scrape(extract::State(context): extract::State<MetricsContext>) -> Response {
    let summary = match context.relay.ask(Command::Summary).await {
        Ok(summary) => summary,
        Err(busy) => return (StatusCode::SERVICE_UNAVAILABLE, busy.to_string()).into_response(),
    };
    let leasequery = match leasequery(&context).await {
        Ok(leasequery) => leasequery,
        Err(busy) => return (StatusCode::SERVICE_UNAVAILABLE, busy.to_string()).into_response(),
    };
    let surroundings = Arc::clone(&context.surroundings.borrow());
    let dataplane = context.dataplane.read();
    let text = exposition(
        &context.counters,
        &surroundings,
        &summary,
        &dataplane,
        &context.store,
        &leasequery,
    );
    ([(CONTENT_TYPE, EXPOSITION_TYPE)], text).into_response()
}

async fn leasequery(context: &MetricsContext) -> Result<Leasequery, RelayBusy> {
    let tls = context.connections.tls();
    Ok(Leasequery {
        neighbors: context.relay.ask(Command::Neighbors).await?,
        digests: context.relay.ask(Command::Digests).await?,
        is_ready: context.ready.borrow().is_ready,
        is_by_timeout: context.ready.borrow().is_by_timeout,
        expiries: tls.map_or_else(Vec::new, |tls| tls.expiries.clone()),
    })
}

/// What one scrape answers.
pub fn exposition(
    counters: &Counters,
    surroundings: &Surroundings,
    summary: &TableSummary,
    dataplane: &DataplaneCounters,
    store: &Status,
    leasequery: &Leasequery,
) -> String {
    let mut families = port_families(counters);
    families.extend(leasequery.families(counters, surroundings));
    families.extend(table_families(counters, surroundings, summary));
    families.extend(route_families(counters));
    families.extend(dataplane_families(dataplane));
    families.push(reload_family(counters));
    families.extend(store_families(store));
    let samples = Samples {
        families,
        histograms: [relay_latency(counters), store_commits(store)],
    };
    let mut registry = Registry::with_prefix("twinrelay");
    registry.register_collector(Box::new(samples));
    let mut text = String::new();
    prometheus_client::encoding::text::encode(&mut text, &registry)
        .expect("a text takes all that is written");
    text
}

type Labels = Vec<(&'static str, String)>;

mod leasequery;

pub use leasequery::Leasequery;

/// All samples of one name.
#[derive(Debug)]
struct Family {
    name: &'static str,
    help: &'static str,
    kind: MetricType,
    samples: Vec<(Labels, Value)>,
}

/// Gauges of time have fractions.
#[derive(Clone, Copy, Debug)]
enum Value {
    Whole(u64),
    Seconds(f64),
}

fn whole(samples: Vec<(Labels, u64)>) -> Vec<(Labels, Value)> {
    let whole = samples.into_iter();
    whole
        .map(|(labels, value)| (labels, Value::Whole(value)))
        .collect()
}

fn counter(name: &'static str, help: &'static str, samples: Vec<(Labels, u64)>) -> Family {
    Family {
        name,
        help,
        kind: MetricType::Counter,
        samples: whole(samples),
    }
}

fn gauge(name: &'static str, help: &'static str, samples: Vec<(Labels, u64)>) -> Family {
    Family {
        name,
        help,
        kind: MetricType::Gauge,
        samples: whole(samples),
    }
}

fn seconds(name: &'static str, help: &'static str, samples: Vec<(Labels, f64)>) -> Family {
    let samples = samples.into_iter();
    Family {
        name,
        help,
        kind: MetricType::Gauge,
        samples: samples
            .map(|(labels, value)| (labels, Value::Seconds(value)))
            .collect(),
    }
}

/// A number without labels.
fn alone(value: u64) -> Vec<(Labels, u64)> {
    vec![(Vec::new(), value)]
}

/// By interface or server. Message types that never came are left out, since there are 160 for
/// each; drops and notices are there from the start, so that a rate of them can be asked for.
fn port_families(counters: &Counters) -> Vec<Family> {
    let ports = counters
        .ports
        .read()
        .expect("no holder of this lock panics")
        .clone();
    let (mut messages, mut drops, mut notices) = (Vec::new(), Vec::new(), Vec::new());
    for port in &ports {
        let interface = || ("interface", port.name.clone());
        let label = |key, value: &str| vec![interface(), (key, value.to_owned())];
        for direction in Direction::ALL {
            for (message_type, counter) in (0u8..).zip(&port.messages[direction as usize]) {
                if counter.get() > 0 {
                    let mut labels = label("direction", direction.name());
                    labels.push(("type", message_type_name(message_type).to_owned()));
                    add(&mut messages, labels, counter.get());
                }
            }
        }
        for (reason, counter) in Discard::ALL.iter().zip(&port.discards) {
            drops.push((label("reason", reason.name()), counter.get()));
        }
        for (reason, counter) in ShellDrop::ALL.iter().zip(&port.shell_drops) {
            drops.push((label("reason", reason.name()), counter.get()));
        }
        for (notice, counter) in Notice::ALL.iter().zip(&port.notices) {
            notices.push((label("notice", notice.name()), counter.get()));
        }
    }
    vec![
        counter(
            "messages",
            "DHCPv6 messages, by the interface or server they came from or went to",
            messages,
        ),
        counter("messages_dropped", "Datagrams dropped on purpose", drops),
        counter(
            "notices",
            "Worth knowing, though nothing was dropped",
            notices,
        ),
    ]
}

/// Several types may share the name `unknown`.
fn add(samples: &mut Vec<(Labels, u64)>, labels: Labels, value: u64) {
    match samples.iter_mut().find(|(known, _)| *known == labels) {
        Some((_, sum)) => *sum += value,
        None => samples.push((labels, value)),
    }
}

fn table_families(
    counters: &Counters,
    surroundings: &Surroundings,
    summary: &TableSummary,
) -> Vec<Family> {
    let names = &surroundings.names;
    let bindings = summary.active.iter().map(|(id, ia_type, origin, count)| {
        let labels = vec![
            ("link", names.access(*id)),
            ("type", ia_type.name().to_owned()),
            ("origin", names.origin(*origin)),
        ];
        (labels, *count as u64)
    });
    let events = BindingAction::ALL.iter().zip(&counters.binding_events);
    let events =
        events.map(|(action, counter)| (vec![("event", action.name().to_owned())], counter.get()));
    vec![
        gauge("bindings", "Active leases", bindings.collect()),
        counter("binding_events", "Changes of leases", events.collect()),
        gauge(
            "clients",
            "Clients with at least one lease",
            alone(summary.clients as u64),
        ),
        gauge(
            "bindings_refused",
            "Leases over a limit that clients hold now; they have no route",
            alone(summary.refused as u64),
        ),
        gauge(
            "held_replies",
            "Replies that wait for their routes",
            alone(summary.held_replies as u64),
        ),
        counter(
            "events_lost",
            "Events that a slow monitor did not get",
            alone(counters.events_lost.get()),
        ),
        counter(
            "binding_log_skipped",
            "Binding events that the binding log did not get",
            alone(counters.binding_log_skipped.get()),
        ),
    ]
}

fn route_families(counters: &Counters) -> Vec<Family> {
    let routes = &counters.routes;
    let state = |name: &str, counter: &Counter| (vec![("state", name.to_owned())], counter.get());
    vec![
        gauge(
            "routes",
            "Routes to leases and aggregates",
            vec![
                state("installed", &routes.installed),
                state("pending", &routes.pending),
                state("failed", &routes.failed),
            ],
        ),
        counter(
            "route_errors",
            "Route writes that the kernel refused",
            alone(routes.errors.get()),
        ),
        counter(
            "routes_repaired",
            "Routes put back after somebody removed them",
            alone(routes.repaired.get()),
        ),
        counter(
            "route_queue_overflows",
            "Route changes that did not fit their queue; a full comparison followed",
            alone(counters.route_queue_overflows.get()),
        ),
        counter(
            "route_comparisons",
            "Comparisons of all routes and neighbour entries with the kernel",
            alone(routes.comparisons.get()),
        ),
        gauge(
            "route_compared_timestamp_seconds",
            "When the last of them ended, 0 before the first",
            alone(routes.compared_at.get()),
        ),
        gauge(
            "neighbors",
            "Neighbour entries for next hops",
            alone(routes.neighbors.get()),
        ),
    ]
}

fn reload_family(counters: &Counters) -> Family {
    let result = |name: &str, counter: &Counter| (vec![("result", name.to_owned())], counter.get());
    counter(
        "configuration_reloads",
        "Configurations read while the daemon runs",
        vec![
            result("reloaded", &counters.reloads),
            result("refused", &counters.reloads_refused),
        ],
    )
}

fn dataplane_families(dataplane: &DataplaneCounters) -> Vec<Family> {
    let packets = dataplane.packets.iter().map(|(interface, action, count)| {
        let labels = vec![("interface", interface.clone()), ("action", action.clone())];
        (labels, *count)
    });
    let drops = dataplane
        .drops
        .iter()
        .map(|(reason, count)| (vec![("reason", reason.clone())], *count));
    let passes = dataplane
        .passes
        .iter()
        .map(|(reason, count)| (vec![("reason", reason.clone())], *count));
    let mut families = vec![
        counter(
            "xdp_packets",
            "Frames seen by the kernel programs",
            packets.collect(),
        ),
        counter(
            "xdp_drops",
            "Frames dropped by the kernel programs",
            drops.collect(),
        ),
        counter(
            "xdp_passes",
            "Frames that met a reason and went to the kernel's stack all the same",
            passes.collect(),
        ),
        counter(
            "ring_lost",
            "Frames that found the ring full and went to the kernel instead",
            alone(dataplane.ring_lost),
        ),
    ];
    families.extend(subscriber_families(dataplane));
    families
}

/// Nothing where no program looks at bindings.
fn subscriber_families(dataplane: &DataplaneCounters) -> Vec<Family> {
    let mut families = Vec::new();
    if let Some(traffic) = dataplane.traffic {
        let both = |received: u64, sent: u64| {
            let direction = |name: &str| vec![("direction", name.to_owned())];
            vec![
                (direction("from-subscriber"), received),
                (direction("to-subscriber"), sent),
            ]
        };
        families.push(counter(
            "subscriber_packets",
            "Packets of leases seen by the kernel programs",
            both(traffic.rx_packets, traffic.tx_packets),
        ));
        families.push(counter(
            "subscriber_bytes",
            "Octets of IPv6 in them",
            both(traffic.rx_bytes, traffic.tx_bytes),
        ));
    }
    if let Some((entries, limit, refused)) = dataplane.entries {
        families.push(gauge(
            "binding_entries",
            "Bindings in the kernel's maps",
            alone(entries),
        ));
        families.push(gauge(
            "binding_entries_limit",
            "Bindings that the kernel's maps have room for",
            alone(limit),
        ));
        families.push(counter(
            "binding_entries_refused",
            "Bindings that got no entry in the kernel's maps",
            alone(refused),
        ));
    }
    families
}

fn store_families(store: &Status) -> Vec<Family> {
    let now = store.state();
    let state = |name: &str, is_it: bool| (vec![("state", name.to_owned())], u64::from(is_it));
    let counters = &store.counters;
    let total = |counter: &AtomicU64| alone(counter.load(Ordering::Relaxed));
    vec![
        gauge(
            "store_state",
            "1 for the state that the store is in",
            vec![
                state("ok", now == State::Ok),
                state("degraded", matches!(now, State::Degraded { .. })),
                state("off", matches!(now, State::Off(_))),
            ],
        ),
        counter(
            "store_records",
            "Changes of bindings made durable",
            total(&counters.records),
        ),
        counter(
            "store_failures",
            "Writes of the store that failed",
            total(&counters.failures),
        ),
        counter(
            "store_rewrites",
            "Times that all bindings were written again",
            total(&counters.rewrites),
        ),
        counter(
            "store_damaged_bytes",
            "Bytes of the store that could not be read",
            total(&counters.damaged_bytes),
        ),
    ]
}

/// Samples of one histogram; its unit is seconds.
#[derive(Debug)]
struct Histogram {
    name: &'static str,
    help: &'static str,
    sum_secs: f64,
    /// Upper bound and count.
    buckets: Vec<(f64, u64)>,
}

fn relay_latency(counters: &Counters) -> Histogram {
    let histogram = &counters.relay_latency;
    let bounds = LATENCY_BOUNDS_MICROS.iter();
    Histogram {
        name: "relay_latency",
        help: "From capture to send",
        sum_secs: histogram.sum_nanos.get() as f64 / 1e9,
        buckets: bounds
            .map(|&micros| micros as f64 / 1e6)
            .chain([f64::INFINITY])
            .zip(histogram.buckets.iter().map(Counter::get))
            .collect(),
    }
}

fn store_commits(store: &Status) -> Histogram {
    let (counts, sum) = store.commit_times.read();
    let bounds = COMMIT_BUCKETS_MICROS.iter();
    Histogram {
        name: "store_commit",
        help: "From the first change of a commit to its being durable",
        sum_secs: sum.as_secs_f64(),
        buckets: bounds
            .map(|&micros| micros as f64 / 1e6)
            .chain([f64::INFINITY])
            .zip(counts)
            .collect(),
    }
}

/// All that one scrape tells.
#[derive(Debug)]
struct Samples {
    families: Vec<Family>,
    histograms: [Histogram; 2],
}

impl Collector for Samples {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), std::fmt::Error> {
        for family in &self.families {
            let mut family_encoder =
                encoder.encode_descriptor(family.name, family.help, None, family.kind)?;
            for (labels, value) in &family.samples {
                if labels.is_empty() {
                    encode_value(family.kind, *value, &mut family_encoder)?;
                } else {
                    let mut sample = family_encoder.encode_family(labels)?;
                    encode_value(family.kind, *value, &mut sample)?;
                }
            }
        }
        for histogram in &self.histograms {
            let count = histogram.buckets.iter().map(|(_, count)| count).sum();
            encoder
                .encode_descriptor(
                    histogram.name,
                    histogram.help,
                    Some(&Unit::Seconds),
                    MetricType::Histogram,
                )?
                .encode_histogram::<Labels>(histogram.sum_secs, count, &histogram.buckets, None)?;
        }
        encoder
            .encode_descriptor("build", "The running daemon", None, MetricType::Info)?
            .encode_info(&vec![("version", env!("CARGO_PKG_VERSION"))])
    }
}

fn encode_value(
    kind: MetricType,
    value: Value,
    encoder: &mut MetricEncoder<'_>,
) -> Result<(), std::fmt::Error> {
    match (kind, value) {
        (MetricType::Counter, Value::Whole(value)) => {
            encoder.encode_counter::<Labels, _, u64>(&value, None)
        }
        (_, Value::Whole(value)) => encoder.encode_gauge(&i64::try_from(value).unwrap_or(i64::MAX)),
        (_, Value::Seconds(value)) => encoder.encode_gauge(&value),
    }
}

#[cfg(test)]
mod tests {
    use relay_core::types::{AccessId, IaType};
    use relay_core::view::Origin;

    use super::*;
    use crate::control::dataplane::Traffic;
    use crate::testing::surroundings;

    #[test]
    fn exposition_has_the_documented_names_and_labels() {
        let counters = Counters::default();
        let port = counters.port("acc0");
        port.message(Direction::FromClient, 1).add(3);
        port.message(Direction::FromClient, 30).add(1);
        port.message(Direction::FromClient, 200).add(1);
        port.discards[Discard::HopCountLimit as usize].inc();
        counters.relay_latency.record(15_000);
        counters.relay_latency.record(2_000_000_000);
        let summary = TableSummary {
            clients: 2,
            active: vec![(AccessId(0), IaType::Pd, Origin::Snooped, 2)],
            refused: 2,
            held_replies: 0,
        };
        let dataplane = DataplaneCounters {
            drops: vec![("client_rate".to_owned(), 7)],
            packets: vec![("acc0".to_owned(), "ring".to_owned(), 9)],
            ring_lost: 1,
            passes: vec![("spoofed_source".to_owned(), 4)],
            traffic: Some(Traffic {
                rx_packets: 5,
                rx_bytes: 500,
                tx_packets: 6,
                tx_bytes: 600,
            }),
            entries: Some((2, 1000, 1)),
        };

        let store = Status::off(String::new());

        let text = exposition(
            &counters,
            &surroundings(),
            &summary,
            &dataplane,
            &store,
            &Leasequery::of_a_pair(),
        );

        let zero = |line: &&str| !line.ends_with(" 0") || line.contains("le=");
        let lines: Vec<&str> = text.lines().filter(zero).collect();
        insta::assert_snapshot!(lines.join("\n"));
    }

    #[test]
    fn every_reason_of_a_drop_is_there_before_it_happens() {
        let counters = Counters::default();
        counters.port("acc0");

        let text = exposition(
            &counters,
            &surroundings(),
            &TableSummary::default(),
            &DataplaneCounters::default(),
            &Status::off(String::new()),
            &Leasequery::default(),
        );

        let names = Discard::ALL.iter().map(|it| it.name());
        for reason in names.chain(ShellDrop::ALL.iter().map(|it| it.name())) {
            let line = format!(
                "twinrelay_messages_dropped_total{{interface=\"acc0\",reason=\"{reason}\"}} 0"
            );
            assert!(text.lines().any(|it| it == line), "{line}");
        }
    }
}
