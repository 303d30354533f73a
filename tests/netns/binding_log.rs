//! The binding log: who had which lease from when to when, from the file alone.

use std::path::PathBuf;
use std::time::Duration;

use serde_json::Value;
use xtask::lab::{Lab, Lifetimes, wait_for};

use crate::hand::HandClient;
use crate::harness::{CONFIGURATION, lab, scrape};

/// The file and those that were set aside, the oldest first.
fn files(lab: &Lab) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(lab.dir().join("r1/lib")).expect("r1 has a /var/lib");
    let paths = entries.map(|it| it.expect("it can be listed").path());
    let mut files: Vec<PathBuf> = paths
        .filter(|it| it.is_file() && it.to_string_lossy().contains("/bindings.jsonl"))
        .collect();
    files.sort();
    // The present one has no time behind its name.
    if !files.is_empty() {
        files.rotate_left(1);
    }
    files
}

fn lines(lab: &Lab) -> Vec<Value> {
    // One that is renamed just now is found under its new name the next time.
    let text: String = files(lab)
        .iter()
        .filter_map(|it| std::fs::read_to_string(it).ok())
        .collect();
    let line = |line| serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}"));
    // The last line may be half written.
    let whole = text.rfind('\n').map_or("", |end| &text[..end]);
    whole.lines().map(line).collect()
}

/// What happened to a lease, in order.
fn story(lab: &Lab, destination: &str) -> Vec<String> {
    let all = lines(lab);
    let its = all
        .iter()
        .filter(|it| it["binding"]["prefix"] == destination);
    its.map(|it| it["event"].as_str().expect("a text").to_owned())
        .collect()
}

fn expect_story(lab: &Lab, destination: &str, wanted: &[&str]) {
    let told = || (story(lab, destination) == wanted).then_some(());
    wait_for(destination, Duration::from_secs(15), told)
        .unwrap_or_else(|error| panic!("{error}: {:#?}", lines(lab)));
}

#[test]
fn binding_log_tells_each_lease_from_its_begin_to_its_end_over_several_files() {
    let configuration = format!(
        "{CONFIGURATION}\n[relay]\nbinding_log = \"/var/lib/bindings.jsonl\"\nbinding_log_size = 1000\n"
    );
    let lifetimes = Lifetimes {
        renew: 2,
        rebind: 3,
        preferred: 4,
        valid: 5,
    };
    let Some(lab) = lab(&configuration, lifetimes) else {
        return;
    };
    let mut client = HandClient::on(&lab, "gen", "eth0");

    let granted = client.lease(1);
    let [address, prefix] = granted.destinations().try_into().expect("one of each");
    expect_story(&lab, &prefix, &["created"]);
    client.request(&granted);
    expect_story(&lab, &prefix, &["created", "renewed"]);
    client.release(&granted);
    for destination in [&address, &prefix] {
        expect_story(&lab, destination, &["created", "renewed", "released"]);
    }
    client.duid.push(1);
    let forgotten = client.lease(0).destinations().remove(0);
    expect_story(&lab, &forgotten, &["created", "expired"]);

    for line in lines(&lab) {
        let binding = &line["binding"];
        assert_eq!(line["kind"], "binding", "{line}");
        let time = line["time"].as_str().expect("a time");
        assert!(time.parse::<jiff::Timestamp>().is_ok(), "{line}");
        assert_eq!(binding["interface"], "acc0", "{line}");
        assert_eq!(binding["vlans"], serde_json::json!([]), "{line}");
        assert_eq!(binding["origin"], "snooped", "{line}");
        assert_eq!(binding["server"], "2001:db8:c::11", "{line}");
        for field in ["duid", "mac", "interface_id", "client_address"] {
            let text = binding[field].as_str().unwrap_or_default();
            assert!(!text.is_empty(), "no {field} in {line}");
        }
    }
    assert!(files(&lab).len() > 2, "{:?}", files(&lab));
    let metrics = scrape(&lab);
    let skipped = "twinrelay_binding_log_skipped_total 0";
    assert!(metrics.lines().any(|it| it == skipped), "{metrics}");
}
