//! The control socket from its client's side: a real socket, a relay thread that answers from a
//! list.

use std::net::Ipv6Addr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use relay_core::types::Prefix;
use serde_json::Value;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use super::http::Daemon;
use super::*;
use crate::cli::{Filters, Shown};
use crate::control::view::{
    self, Difference, NoDataplane, RouteKind, RouteRow, RouteRowState, RoutesView, Side,
};
use crate::control::{BindError, ControlContext, bind, serve};
use crate::counters::{Counters, Direction};
use crate::events::{EventKind, Events};
use crate::leasequery::Connections;
use crate::leasequery::ready::starting;
use crate::leasequery::tls::Clock;
use crate::testing::{ObservedBy, interfaces, relay_of, subscriber, surroundings};
use crate::wall_time::boot_now;
use crate::watchers::Watchers;

struct Running {
    daemon: Daemon,
    context: ControlContext,
    observed: Arc<ObservedBy>,
    stop: CancellationToken,
    _dir: tempfile::TempDir,
}

/// Three routes, the last one refused.
struct ThreeRoutes;

impl RoutesView for ThreeRoutes {
    /// The last first: the daemon knows no order.
    fn page(&self, from: u32) -> view::Page<RouteRow> {
        let prefix = |text: &str| Prefix::new(text.parse().unwrap(), 56).unwrap();
        let lease = |text: &str, state, error: Option<&str>| RouteRow {
            prefix: prefix(text),
            gateway: Some("fe80::1".parse().unwrap()),
            interface: Some("acc0".to_owned()),
            kind: RouteKind::Lease,
            state,
            error: error.map(str::to_owned),
        };
        let rows = vec![
            RouteRow {
                prefix: Prefix::new("2001:db8:8000::".parse().unwrap(), 36).unwrap(),
                gateway: None,
                interface: None,
                kind: RouteKind::Aggregate,
                state: RouteRowState::Installed,
                error: None,
            },
            lease("2001:db8:8000:100::", RouteRowState::Installed, None),
            lease(
                "2001:db8:8000:200::",
                RouteRowState::Failed,
                Some("a route that is not ours has this destination"),
            ),
        ];
        let rows: Vec<RouteRow> = rows.into_iter().rev().collect();
        // In pages of two.
        let (first, rest) = rows.split_at(2);
        match from {
            0 => view::Page {
                rows: first.to_vec(),
                next: Some(2),
            },
            _ => view::Page {
                rows: rest.to_vec(),
                next: None,
            },
        }
    }

    fn differences(&self, _from: u32) -> view::Page<Difference> {
        let wanted = Difference {
            side: Side::Wanted,
            prefix: Prefix::new("2001:db8:8000:200::".parse().unwrap(), 56).unwrap(),
            gateway: Some("fe80::1".parse().unwrap()),
            interface: Some("acc0".to_owned()),
            protocol: Some(207),
            metric: Some(2070),
            state: RouteRowState::Failed,
            error: Some("a route that is not ours has this destination".to_owned()),
        };
        let foreign = Difference {
            side: Side::Kernel,
            gateway: None,
            interface: Some("core0".to_owned()),
            protocol: Some(4),
            metric: Some(10),
            state: RouteRowState::Foreign,
            error: None,
            ..wanted.clone()
        };
        view::Page {
            rows: vec![foreign, wanted],
            next: None,
        }
    }
}

fn daemon_with(clients: u32) -> Running {
    let dir = tempfile::tempdir().unwrap();
    let file = format!(
        "[relay]\nrun_dir = \"{}\"\n[[server]]\naddress = \"2001:db8:ff::11\"\n\
         [[access]]\ninterface = \"acc0\"\n[[core]]\ninterface = \"core0\"\n",
        dir.path().display()
    );
    let config = config::parse(Path::new("t.toml"), &file).unwrap().config;
    let now = boot_now();
    let (relay, observed) = relay_of((1..=clients).map(|n| subscriber(n, now)).collect());
    let counters = Arc::new(Counters::default());
    let context = ControlContext {
        watchers: Watchers::new(relay.clone()),
        counters: Arc::clone(&counters),
        config: watch::channel(Arc::new(config)).1,
        interfaces: watch::channel(Arc::new(interfaces())).1,
        surroundings: watch::channel(Arc::new(surroundings())).1,
        routes: Arc::new(ThreeRoutes),
        dataplane: Arc::new(NoDataplane),
        store: Arc::new(crate::store::Status::off("no store here".to_owned())),
        ready: watch::channel(starting()).1,
        connections: Connections::new(
            tokio::runtime::Handle::current(),
            relay.clone(),
            Clock {
                not_before: std::time::SystemTime::UNIX_EPOCH,
            },
        ),
        relay,
        events: Events::new(counters),
        started: jiff::Timestamp::now(),
    };
    let stop = CancellationToken::new();
    let socket = bind(dir.path()).unwrap();
    let daemon = Daemon::at(socket.path().to_owned());
    tokio::spawn(serve(socket, context.clone(), stop.clone()));
    Running {
        daemon,
        context,
        observed,
        stop,
        _dir: dir,
    }
}

impl Running {
    async fn json(&self, path: &str) -> Value {
        serde_json::from_slice(&self.daemon.get(path, &[]).await.unwrap()).unwrap()
    }

    /// As a person sees it.
    async fn shown(&self, what: Shown, path: &str) -> String {
        let answer = self.daemon.get(path, &[]).await.unwrap();
        let text = show::render(&what, &answer, false).unwrap();
        assert!(
            text.lines().all(|line| line.chars().count() <= 120),
            "{text}"
        );
        text
    }
}

#[tokio::test]
async fn subscribers_json_has_the_documented_names() {
    let running = daemon_with(1);

    let document = running.json("/v1/subscribers").await;

    let subscriber = &document["subscribers"][0];
    let mut known = subscriber.clone();
    for lease in known["bindings"].as_array_mut().unwrap() {
        for time in ["cltt", "preferred_until", "valid_until"] {
            let text = lease[time].as_str().expect("a time").to_owned();
            assert!(
                text.parse::<jiff::Timestamp>().is_ok() && text.ends_with('Z'),
                "{text}"
            );
            lease[time] = Value::from("TIME");
        }
        assert!((865_000..=865_800).contains(&lease["remaining"].as_u64().unwrap()));
        lease["remaining"] = Value::from(865_799);
    }
    insta::assert_snapshot!(serde_json::to_string_pretty(&known).unwrap());
}

#[tokio::test]
async fn bindings_of_many_pages_are_all_there_once() {
    let running = daemon_with(1000);

    let document = running.json("/v1/bindings").await;

    let rows = document["bindings"].as_array().unwrap();
    let prefixes: std::collections::BTreeSet<&str> = rows
        .iter()
        .map(|row| row["prefix"].as_str().unwrap())
        .collect();
    assert_eq!((rows.len(), prefixes.len()), (2000, 2000));
    assert_eq!(rows[0]["interface"], "acc0");
}

/// The measure of the product is 2 s on a router; a test machine may be busy.
#[tokio::test(flavor = "multi_thread")]
async fn hundred_thousand_bindings_come_within_seconds_in_pages() {
    let running = daemon_with(50_000);
    let start = std::time::Instant::now();
    let mut answer = running.daemon.stream("/v1/bindings", &[]).await.unwrap();

    let (mut rows, mut largest) = (0, 0);
    while let Some(piece) = answer.next().await.unwrap() {
        rows += piece.iter().filter(|&&byte| byte == b'\n').count();
        largest = largest.max(piece.len());
    }

    let elapsed = start.elapsed();
    println!("{rows} rows in {elapsed:?}, largest piece {largest} bytes");
    assert_eq!(rows, 100_001, "a row each, and the end");
    assert!(elapsed < Duration::from_secs(10), "{elapsed:?}");
    assert!(largest < 1 << 20, "{largest}");
}

#[tokio::test]
async fn limit_counts_rows() {
    let running = daemon_with(1000);

    let bindings = running.json("/v1/bindings?limit=5").await;
    let subscribers = running.json("/v1/subscribers?limit=300").await;

    assert_eq!(bindings["bindings"].as_array().unwrap().len(), 5);
    assert_eq!(subscribers["subscribers"].as_array().unwrap().len(), 300);
}

#[tokio::test]
async fn filter_by_duid_reaches_the_relay_thread() {
    let running = daemon_with(300);

    let document = running
        .json("/v1/bindings?duid=00:03:00:01:02:00:00:00:00:fa")
        .await;

    let rows = document["bindings"].as_array().unwrap();
    assert_eq!(rows.len(), 2);
    assert_eq!(rows[0]["mac"], "02:00:00:00:00:fa");
}

#[tokio::test]
async fn origin_of_a_peer_that_nobody_knows_matches_nothing() {
    let running = daemon_with(3);

    let document = running
        .json("/v1/bindings?origin=active-leasequery:r9")
        .await;

    assert_eq!(document["bindings"].as_array().unwrap().len(), 0);
}

#[tokio::test]
async fn bad_questions_are_refused_with_what_is_wrong() {
    let running = daemon_with(1);
    let refused = async |path: &str| match running.daemon.get(path, &[]).await {
        Err(failure) => format!("{} {failure}", failure.exit_code()),
        Ok(answer) => panic!("{path}: {answer:?}"),
    };

    assert_eq!(
        refused("/v1/bindings?color=red").await,
        "4 unknown parameter `color`"
    );
    assert_eq!(
        refused("/v1/bindings?prefix=2001:db8::1/32").await,
        "4 `prefix` cannot be \"2001:db8::1/32\""
    );
    assert_eq!(
        refused("/v1/bindings?interface=acc9").await,
        "1 no access interface is named `acc9`; see `twinrelay show interfaces`"
    );
    assert!(
        refused("/v1/nothing")
            .await
            .starts_with("1 no such resource")
    );
}

#[tokio::test]
async fn tables_for_people_fit_and_read_well() {
    let running = daemon_with(2);
    let acc0 = running.context.counters.port("acc0");
    acc0.message(Direction::FromClient, 1).add(7);
    acc0.discards[0].add(2);
    running
        .context
        .counters
        .port("kea-a")
        .message(Direction::ToServer, 1)
        .add(7);
    running.context.counters.relay_latency.record(15_000);
    let filter = Filters::default;
    let subscribers = |extensive| Shown::Subscribers {
        extensive,
        filter: filter(),
    };

    let mut text = String::new();
    for (what, path) in [
        (subscribers(false), "/v1/subscribers"),
        (Shown::Bindings { filter: filter() }, "/v1/bindings"),
        (Shown::Routes { diff: false }, "/v1/routes"),
        (Shown::Routes { diff: true }, "/v1/routes?diff=true"),
        (Shown::Interfaces, "/v1/interfaces"),
        (Shown::Servers, "/v1/servers"),
        (Shown::Statistics, "/v1/statistics"),
    ] {
        text.push_str(&format!("$ {path}\n{}\n", running.shown(what, path).await));
    }

    insta::assert_snapshot!(text);
    let block = running.shown(subscribers(true), "/v1/subscribers").await;
    assert!(
        block.starts_with("Client 00:03:00:01:02:00:00:00:00:01\n"),
        "{block}"
    );
    assert!(block.contains("  Remote-Id       none\n"), "{block}");
}

#[tokio::test]
async fn clear_of_one_client_tells_how_many_bindings_went() {
    let running = daemon_with(3);
    let duid = vec![("duid", "00:03:00:01:02:00:00:00:00:02".to_owned())];

    let first = running
        .daemon
        .post("/v1/clear/binding", &duid)
        .await
        .unwrap();
    let second = running
        .daemon
        .post("/v1/clear/binding", &duid)
        .await
        .unwrap();
    let none = running.daemon.post("/v1/clear/binding", &[]).await;

    assert_eq!(&first[..], b"{\"cleared\":2}");
    assert_eq!(&second[..], b"{\"cleared\":0}");
    assert!(matches!(none, Err(Failure::Refused(_))));
}

#[tokio::test]
async fn clear_statistics_zeroes_counters_and_keeps_states() {
    let running = daemon_with(1);
    let counters = &running.context.counters;
    counters
        .port("acc0")
        .message(Direction::FromClient, 1)
        .add(7);
    counters.routes.installed.add(3);
    counters.routes.errors.add(4);

    running
        .daemon
        .post("/v1/clear/statistics", &[])
        .await
        .unwrap();

    let statistics = running.json("/v1/statistics").await;
    assert_eq!(statistics["statistics"]["messages"], serde_json::json!([]));
    assert_eq!(statistics["statistics"]["routes"]["errors"], 0);
    assert_eq!(statistics["statistics"]["routes"]["installed"], 3);
}

#[tokio::test]
async fn events_stream_lines_and_the_relay_thread_knows_of_watchers() {
    let running = daemon_with(1);
    let mut stream = running.daemon.stream("/v1/events", &[]).await.unwrap();
    let address: Ipv6Addr = "2001:db8:ff::11".parse().unwrap();

    running.context.events.publish(EventKind::Server {
        event: "silent".to_owned(),
        name: "kea-a".to_owned(),
        address,
    });

    let line = stream.next().await.unwrap().expect("a line");
    let event: crate::events::Event = serde_json::from_slice(&line).unwrap();
    assert!(line.ends_with(b"\n"));
    assert!(monitor::text(&event).ends_with(" server silent kea-a (2001:db8:ff::11)"));
    drop(stream);
    for _ in 0..100 {
        if *running.observed.0.lock().unwrap() == [true, false] {
            return;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    panic!("told {:?}", running.observed.0.lock().unwrap());
}

#[tokio::test]
async fn reload_is_an_event() {
    let running = daemon_with(1);
    let mut stream = running.daemon.stream("/v1/events", &[]).await.unwrap();

    running.context.events.publish_reload(None);
    running.context.events.publish_reload(Some("line 3"));

    let mut lines = monitor::Lines::default();
    let mut told = Vec::new();
    while told.len() < 2 {
        let piece = stream.next().await.unwrap().expect("a line");
        for line in lines.feed(&piece).unwrap() {
            told.push(monitor::text(&serde_json::from_slice(&line).unwrap()));
        }
    }
    assert!(told[0].ends_with(" configuration reloaded"));
    assert!(told[1].ends_with(" configuration refused: line 3"));
    let counters = &running.context.counters;
    let counted = (counters.reloads.get(), counters.reloads_refused.get());
    assert_eq!(counted, (1, 1));
}

#[tokio::test]
async fn socket_of_a_living_daemon_is_refused_and_of_a_dead_one_replaced() {
    let dir = tempfile::tempdir().unwrap();
    let living = bind(dir.path()).unwrap();
    let path = living.path().to_owned();

    let second = bind(dir.path());

    assert!(matches!(second, Err(BindError::Taken(_))));
    drop(living);
    assert!(!path.exists(), "a stopped daemon leaves its socket");
    drop(std::os::unix::net::UnixListener::bind(&path).unwrap());
    assert!(path.exists(), "a killed daemon leaves its socket");
    let third = bind(dir.path()).unwrap();
    let mode = std::os::unix::fs::PermissionsExt::mode(&path.metadata().unwrap().permissions());
    assert_eq!(mode & 0o777, 0o660);
    drop(third);
}

#[tokio::test]
async fn daemon_that_stops_ends_monitors() {
    let running = daemon_with(1);
    let mut stream = running.daemon.stream("/v1/events", &[]).await.unwrap();

    running.stop.cancel();

    let end = tokio::time::timeout(Duration::from_secs(5), stream.next()).await;
    assert!(
        matches!(end, Ok(Ok(None) | Err(Failure::Unreachable(_)))),
        "{end:?}"
    );
}

#[tokio::test]
async fn daemon_that_is_not_there_is_unreachable() {
    let daemon = Daemon::at("/nonexistent/control.sock".into());

    let failure = daemon
        .get("/v1/version", &[])
        .await
        .expect_err("nobody is there");

    assert_eq!(failure.exit_code(), 3);
    insta::assert_snapshot!(failure);
}
