//! What monitoring sees of a lease: the stream of events, and the metrics.

use crate::hand::HandClient;
use crate::harness::{CONFIGURATION, expect_no_route, lab, scrape};
use std::time::Duration;
use xtask::lab::{Lab, Lifetimes, wait_for};

/// Starts `twinrelay monitor --json` on r1.
pub(crate) fn start_monitor(lab: &mut Lab) {
    let file = lab.dir().join("r1/twinrelay.toml").display().to_string();
    let binary = std::fs::read_to_string(lab.dir().join("r1/binary")).expect("r1 has a relay");
    let mut command = lab.command("r1", &binary).expect("r1 is there");
    command.args(["monitor", "--json", "-c", &file]);
    lab.launch("r1.monitor", &mut command)
        .expect("monitor starts");
}

/// What it has printed.
pub(crate) fn events(lab: &Lab) -> Vec<serde_json::Value> {
    let text = lab.log("r1.monitor");
    let line = |line| serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}"));
    // The last line may be half written.
    let whole = text.rfind('\n').map_or("", |end| &text[..end]);
    whole.lines().map(line).collect()
}

/// Waits for an event of this kind and name about this destination.
fn expect_event(lab: &Lab, kind: &str, event: &str, destination: &str) -> serde_json::Value {
    let is_it = |it: &serde_json::Value| {
        let prefix = if kind == "binding" {
            &it["binding"]["prefix"]
        } else {
            &it["prefix"]
        };
        it["kind"] == kind && it["event"] == event && prefix == destination
    };
    let found = wait_for("an event", Duration::from_secs(5), || {
        events(lab).into_iter().find(is_it)
    });
    found.unwrap_or_else(|error| {
        panic!(
            "{error}: {kind} {event} {destination} in\n{}",
            lab.log("r1.monitor")
        )
    })
}

#[test]
fn monitor_json_prints_binding_and_route_events_of_a_lease() {
    let Some(mut lab) = lab(CONFIGURATION, Lifetimes::default()) else {
        return;
    };
    start_monitor(&mut lab);
    let mut client = HandClient::on(&lab, "gen", "eth0");
    wait_for("the monitor to be heard", Duration::from_secs(10), || {
        let granted = client.lease(0);
        client.release(&granted);
        std::thread::sleep(Duration::from_millis(100));
        (!events(&lab).is_empty()).then_some(())
    })
    .unwrap_or_else(|error| panic!("{error}: {}", lab.log("r1.monitor")));

    let granted = client.lease(1);

    let [address, prefix] = granted.destinations().try_into().expect("one of each");
    for (destination, kind) in [(&address, "IA_NA"), (&prefix, "IA_PD")] {
        let event = expect_event(&lab, "binding", "created", destination);
        assert_eq!(event["binding"]["type"], kind, "{event}");
        assert_eq!(event["binding"]["interface"], "acc0", "{event}");
        assert!(
            event["time"].as_str().is_some_and(|it| it.ends_with('Z')),
            "{event}"
        );
        expect_event(&lab, "route", "installed", destination);
    }

    client.release(&granted);
    for destination in [&address, &prefix] {
        expect_event(&lab, "binding", "released", destination);
    }
}

/// The value of a metric with exactly these labels.
fn value(text: &str, series: &str) -> Option<f64> {
    let rest = text.lines().find_map(|line| line.strip_prefix(series));
    rest?.strip_prefix(' ')?.parse().ok()
}

#[test]
fn metrics_show_messages_drops_bindings_and_routes_under_their_names() {
    let Some(lab) = lab(CONFIGURATION, Lifetimes::default()) else {
        return;
    };
    let mut client = HandClient::on(&lab, "gen", "eth0");
    let granted = client.lease(2);
    let reply = client.message(7).build();
    client.say(&reply);

    let series = |name: &str, labels: &str| format!("twinrelay_{name}{{{labels}}}");
    let expected = [
        (
            series(
                "messages_total",
                r#"interface="acc0",direction="from-client",type="solicit""#,
            ),
            1.0,
        ),
        (
            series(
                "messages_total",
                r#"interface="acc0",direction="to-client",type="reply""#,
            ),
            1.0,
        ),
        (
            series(
                "messages_total",
                r#"interface="s1",direction="to-server",type="request""#,
            ),
            1.0,
        ),
        (
            series(
                "messages_dropped_total",
                r#"interface="acc0",reason="server_message_from_client""#,
            ),
            1.0,
        ),
        (
            series("bindings", r#"link="acc0",type="IA_NA",origin="snooped""#),
            1.0,
        ),
        (
            series("bindings", r#"link="acc0",type="IA_PD",origin="snooped""#),
            2.0,
        ),
        (series("binding_events_total", r#"event="created""#), 3.0),
        (series("routes", r#"state="failed""#), 0.0),
        ("twinrelay_route_errors_total".to_owned(), 0.0),
    ];
    let wrong = |text: &str| -> Vec<String> {
        let differs = |(series, wanted): &&(String, f64)| value(text, series) != Some(*wanted);
        let row = |(series, wanted): &(String, f64)| format!("{series} {wanted}");
        expected.iter().filter(differs).map(row).collect()
    };
    wait_for("the metrics", Duration::from_secs(5), || {
        wrong(&scrape(&lab)).is_empty().then_some(())
    })
    .unwrap_or_else(|error| panic!("{error}: {:#?} in {}", wrong(&scrape(&lab)), scrape(&lab)));
    let text = scrape(&lab);
    let latency = "twinrelay_relay_latency_seconds_count";
    assert!(value(&text, latency) > Some(0.0), "{text}");
    // The aggregate of the configuration has its route too.
    let installed = value(&text, &series("routes", r#"state="installed""#));
    assert_eq!(installed, Some(4.0), "{text}");

    client.release(&granted);
    for destination in granted.destinations() {
        expect_no_route(&lab, &destination, 5);
    }
    wait_for("the gauge to fall", Duration::from_secs(5), || {
        let left = value(
            &scrape(&lab),
            &series("bindings", r#"link="acc0",type="IA_PD",origin="snooped""#),
        );
        (left.unwrap_or(0.0) == 0.0).then_some(())
    })
    .expect("no binding is left");
}
