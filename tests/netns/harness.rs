//! What every scenario needs: a lab or a counted reason why there is none, and the routes of r1.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{Read, Write};
use std::net::TcpStream;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use jiff::Timestamp;
use xtask::lab::{Client, Lab, Lifetimes, Options, Relay, wait_for};

use crate::hand::on_node;

/// The configuration of the lab, as the examples have it.
pub(crate) const CONFIGURATION: &str = include_str!("../../examples/twinrelay.toml");

/// The same for a host that plays many clients, faster than one client may ask.
pub(crate) fn unlimited() -> String {
    let section = "interface = \"acc0\"";
    let limits = "rate_limit = { per_client = 0, per_interface = 0 }";
    CONFIGURATION.replace(section, &format!("{section}\n{limits}"))
}

/// A lab with this configuration and these lifetimes; none where this machine cannot, said and counted.
pub(crate) fn lab(configuration: &str, lifetimes: Lifetimes) -> Option<Lab> {
    let relay = match std::env::var("TWINRELAY_LAB_RELAY").as_deref() {
        Ok(name) if name != "twinrelay" => Relay::parse(name),
        _ => Relay::twinrelay(configuration),
    };
    match relay {
        Ok(relay) => lab_of(relay, None, lifetimes),
        Err(error) => skipped(&error),
    }
}

/// The same with these relays on r1, and on r2 where there is one.
pub(crate) fn lab_of(relay: Relay, second: Option<Relay>, lifetimes: Lifetimes) -> Option<Lab> {
    static NUMBER: AtomicU32 = AtomicU32::new(0);
    if !nix::unistd::geteuid().is_root() {
        return skipped("needs root for network namespaces");
    }
    let mut programs = xtask::lab::PROGRAMS.to_vec();
    programs.extend(["tcpdump", "bpftool", "ethtool"]);
    let missing = xtask::lab::missing(&programs);
    if !missing.is_empty() {
        return skipped(&format!("missing programs: {}", missing.join(", ")));
    }
    let name = format!(
        "t{}n{}",
        std::process::id(),
        NUMBER.fetch_add(1, Ordering::Relaxed)
    );
    let mut options = Options::new(&name, relay);
    options.lifetimes = lifetimes;
    options.second = second;
    Some(Lab::up(&options).expect("the lab comes up"))
}

/// Says and counts that a test did not run.
pub(crate) fn skipped(reason: &str) -> Option<Lab> {
    let test = std::thread::current().name().unwrap_or("?").to_string();
    println!("SKIPPED: {reason}");
    if let Some(file) = std::env::var_os("TWINRELAY_SKIPPED_FILE") {
        let mut file = std::fs::OpenOptions::new()
            .create(true)
            .append(true)
            .open(file)
            .expect("the list of skipped tests opens");
        writeln!(file, "{test}: {reason}").expect("the list of skipped tests takes a line");
    }
    None
}

/// The delegated prefix whose first address this is.
pub(crate) fn prefix(lan: &str) -> String {
    format!(
        "{}/56",
        lan.strip_suffix('1')
            .expect("a home takes the first address of its prefix")
    )
}

/// The route of r1 to exactly this destination, empty where there is none.
pub(crate) fn route(lab: &Lab, destination: &str) -> String {
    lab.exec(
        "r1",
        &["ip", "-d", "-6", "route", "show", "exact", destination],
    )
    .expect("r1 lists its routes")
}

/// Waits until r1 has no route to this destination.
pub(crate) fn expect_no_route(lab: &Lab, destination: &str, seconds: u64) {
    wait_for(
        &format!("withdrawal of {destination}"),
        Duration::from_secs(seconds),
        || route(lab, destination).is_empty().then_some(()),
    )
    .unwrap_or_else(|error| panic!("{error}: {}", route(lab, destination)));
}

/// Starts a client, waits for its lease and asserts that the Internet reaches both, from the first probe on.
pub(crate) fn expect_reached(lab: &mut Lab, client: Client) -> (String, String) {
    lab.start_client(client).expect("the client starts");
    let (address, lan) = lab
        .lease(client)
        .expect("the client gets address and prefix");

    let lost = [&address, &lan].map(|target| lab.lost_probes(target, 20).expect("probes are sent"));

    assert_eq!(
        lost,
        [0, 0],
        "probes lost to {address} and {lan}; routes:\n{}",
        lab.status().unwrap_or_default()
    );
    (address, lan)
}

/// When each lease of a router ends, by its destination.
pub(crate) fn ends_on(lab: &Lab, node: &str) -> BTreeMap<String, Timestamp> {
    let text = |value: &serde_json::Value| value.as_str().expect("a text").to_owned();
    bindings_on(lab, node)
        .iter()
        .filter(|it| it["state"] == "active")
        .map(|it| {
            let end = text(&it["valid_until"]).parse().expect("RFC 3339");
            (text(&it["prefix"]), end)
        })
        .collect()
}

/// Our routes to leases in the kernel of a router.
pub(crate) fn kernel_routes_on(lab: &Lab, node: &str) -> BTreeSet<String> {
    let routes = on(lab, node, "ip -6 route show proto 207");
    let destinations = routes
        .lines()
        .filter(|line| !line.starts_with("unreachable"));
    destinations
        .filter_map(|line| line.split(' ').next())
        .map(|it| match it.contains('/') {
            true => it.to_owned(),
            false => format!("{it}/128"),
        })
        .collect()
}

/// Every binding as `show bindings --json` has it.
pub(crate) fn bindings(lab: &Lab) -> Vec<serde_json::Value> {
    bindings_on(lab, "r1")
}

/// The same on a router.
pub(crate) fn bindings_on(lab: &Lab, node: &str) -> Vec<serde_json::Value> {
    listed_on(lab, node, "bindings")
}

/// The list of that name in the answer to `show NAME --json`.
pub(crate) fn listed(lab: &Lab, name: &str) -> Vec<serde_json::Value> {
    listed_on(lab, "r1", name)
}

/// The list that the last word names in the answer to `show NAME --json` on a router.
pub(crate) fn listed_on(lab: &Lab, node: &str, name: &str) -> Vec<serde_json::Value> {
    let list = name.rsplit(' ').next().expect("a name has a word");
    shown_on(lab, node, name)[list]
        .as_array()
        .unwrap_or_else(|| panic!("show {name} has a list of them"))
        .clone()
}

/// The answer to `show NAME --json`.
pub(crate) fn shown(lab: &Lab, name: &str) -> serde_json::Value {
    shown_on(lab, "r1", name)
}

/// The same on a router.
pub(crate) fn shown_on(lab: &Lab, node: &str, name: &str) -> serde_json::Value {
    let words: Vec<&str> = ["show", "--json"]
        .into_iter()
        .chain(name.split(' '))
        .collect();
    let text = lab
        .twinrelay_on(node, &words)
        .unwrap_or_else(|error| panic!("{node}: show {name}: {error}"));
    serde_json::from_str(&text).expect("it is JSON")
}

/// The destinations of all bindings whose route is installed.
pub(crate) fn installed(lab: &Lab) -> Vec<String> {
    bindings(lab)
        .iter()
        .filter(|it| it["state"] == "active" && it["route"] == "installed")
        .map(|it| it["prefix"].as_str().expect("a text").to_owned())
        .collect()
}

/// The text of the metrics endpoint.
pub(crate) fn scrape(lab: &Lab) -> String {
    scrape_on(lab, "r1")
}

/// The same on a router.
pub(crate) fn scrape_on(lab: &Lab, node: &str) -> String {
    let answer = on_node(lab, node, || {
        let mut stream = TcpStream::connect("[::1]:9547").expect("the endpoint listens");
        stream
            .write_all(b"GET /metrics HTTP/1.0\r\nHost: r1\r\n\r\n")
            .expect("it takes a request");
        let mut text = String::new();
        stream.read_to_string(&mut text).expect("it answers");
        text
    });
    assert!(answer.starts_with("HTTP/1.0 200"), "{answer}");
    answer
}

/// How often the daemon dropped or noticed this, over all interfaces: `list` is `drops` or `notices`.
pub(crate) fn counted(lab: &Lab, list: &str, name: &str) -> u64 {
    let statistics = shown(lab, "statistics");
    let rows = statistics["statistics"][list].as_array();
    let rows = rows.unwrap_or_else(|| panic!("no list {list} in {statistics:#}"));
    rows.iter()
        .filter(|row| row["name"] == name)
        .map(|row| row["count"].as_u64().expect("a number"))
        .sum()
}

/// Waits until a counter has this value.
pub(crate) fn expect_counted(lab: &Lab, list: &str, name: &str, times: u64) {
    let reached = wait_for(name, Duration::from_secs(5), || {
        (counted(lab, list, name) >= times).then_some(())
    });
    let statistics = shown(lab, "statistics");
    reached.unwrap_or_else(|error| panic!("{error}: {statistics:#}"));
    assert_eq!(counted(lab, list, name), times, "{name}: {statistics:#}");
}

/// Waits until a server has said this so often.
pub(crate) fn expect_logged(lab: &Lab, label: &str, words: &str, times: usize) {
    let what = format!("{words:?} in the log of {label}");
    wait_for(&what, Duration::from_secs(5), || {
        (lab.log(label).matches(words).count() >= times).then_some(())
    })
    .unwrap_or_else(|error| panic!("{error}\n{}", lab.log(label)));
}

/// A second access interface `acc1` of r1, whose other end is `cli1` on node gen.
pub(crate) fn second_access(lab: &Lab) {
    let (router, client) = (lab.namespace("r1"), lab.namespace("gen"));
    for words in [
        format!(
            "-n {router} link add acc1 address 02:00:00:00:01:02 type veth peer name cli1 netns {client}"
        ),
        format!("-n {client} link set cli1 address 02:00:00:00:01:09"),
        format!("-n {client} link set cli1 up"),
        format!("-n {router} link set acc1 up"),
        format!("-n {router} addr add 2001:db8:a:2::2/64 dev acc1 nodad"),
    ] {
        xtask::lab::run(std::process::Command::new("ip").args(words.split(' ')))
            .expect("r1 takes an interface");
    }
}

/// Runs a command of blank-separated words on a node.
pub(crate) fn on(lab: &Lab, node: &str, words: &str) -> String {
    let words: Vec<&str> = words.split(' ').collect();
    lab.exec(node, &words)
        .unwrap_or_else(|error| panic!("{node}: {error}"))
}
