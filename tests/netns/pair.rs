//! Two routers with twinrelay, r1 and r2, on one access network, that keep each other's bindings over TLS: set up
//! as docs/active-leasequery.md tells an operator to. Decides what it means that they hold the same.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use jiff::{SignedDuration, Timestamp};
use serde_json::Value;
use xtask::lab::{Lab, Lifetimes, Relay, wait_for};

use crate::harness::{
    bindings_on, ends_on, kernel_routes_on, lab_of, listed_on, on, shown_on, skipped, unlimited,
};

pub(crate) const R1: &str = "r1";
pub(crate) const R2: &str = "r2";
pub(crate) const BOTH: [&str; 2] = [R1, R2];
/// Where `tls init` puts its files, on each router.
pub(crate) const TLS_DIR: &str = "/var/lib/twinrelay-tls";
/// For what takes milliseconds on an idle machine.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);
/// Clocks are read at slightly different moments, and lifetimes are whole seconds.
const TOLERANCE: SignedDuration = SignedDuration::from_secs(1);

/// The core address of a router: what it sends to servers and peers from.
pub(crate) fn address(node: &str) -> &'static str {
    match node {
        R1 => "2001:db8:c::1",
        _ => "2001:db8:c::2",
    }
}

pub(crate) fn other(node: &str) -> &'static str {
    if node == R1 { R2 } else { R1 }
}

/// A lab whose routers have their configurations and certificates, but no daemon yet. `more` goes into the section
/// `[active_leasequery]` of both.
pub(crate) fn prepared(lifetimes: Lifetimes, more: &str) -> Option<Lab> {
    let relay = match Relay::twinrelay(&unlimited()) {
        Ok(relay) => relay,
        Err(error) => return skipped(&error),
    };
    let Relay::Twinrelay { binary, .. } = &relay else {
        unreachable!("twinrelay was asked for");
    };
    let binary = binary.display().to_string();
    let lab = lab_of(Relay::None, Some(Relay::None), lifetimes)?;
    let pasted = issue(&lab, &binary, TLS_DIR);
    for node in BOTH {
        let section = "[active_leasequery]\n";
        let half = pasted[node].replace(section, &format!("{section}{more}"));
        let text = format!("{}\n{half}", unlimited());
        std::fs::write(lab.configuration_file(node), text).expect("the lab's folder takes a file");
        std::fs::write(lab.dir().join(node).join("binary"), &binary)
            .expect("the lab's folder takes a file");
    }
    Some(lab)
}

/// `twinrelay tls init` on r1 and what it says to do then, by hand of an operator: what is to be pasted on each.
pub(crate) fn issue(lab: &Lab, binary: &str, dir: &str) -> BTreeMap<&'static str, String> {
    let words = [binary, "tls", "init", "--name", R1, "--peer", R2, dir];
    let printed = lab.exec(R1, &words).expect("certificates are made");
    // Copied to r2, and deleted here.
    let inside = |node: &str, file: &str| {
        let dir = dir.strip_prefix("/var/lib/").expect("of the router alone");
        lab.dir().join(node).join("lib").join(dir).join(file)
    };
    std::fs::create_dir_all(inside(R2, "")).expect("r2 takes a folder");
    for file in ["ca.pem", "r2.pem", "r2.key"] {
        std::fs::copy(inside(R1, file), inside(R2, file)).expect("the file is there");
    }
    std::fs::remove_file(inside(R1, "r2.key")).expect("the key is there");
    BOTH.map(|node| (node, half_of(&printed, node)))
        .into_iter()
        .collect()
}

/// What `tls init` printed for one router, with the address filled in.
fn half_of(printed: &str, node: &str) -> String {
    let half = printed
        .split("# ---- on ")
        .find(|it| it.starts_with(&format!("{node}:")))
        .unwrap_or_else(|| panic!("nothing to paste on {node} in {printed}"));
    let (_, lines) = half.split_once('\n').expect("lines to paste");
    let peer = other(node);
    let blank = format!("ADDRESS-OF-{peer}");
    assert!(lines.contains(&blank), "{lines}");
    lines.replace(&blank, address(peer))
}

/// A pair that runs and is in sync.
pub(crate) fn pair(lifetimes: Lifetimes, more: &str) -> Option<Lab> {
    let mut lab = prepared(lifetimes, more)?;
    for node in BOTH {
        lab.start_twinrelay_on(node).expect("the daemon starts");
    }
    expect_active(&lab);
    Some(lab)
}

/// The session of this role on a router: `requestor` or `server`.
pub(crate) fn session(lab: &Lab, node: &str, role: &str) -> Value {
    let rows = listed_on(lab, node, "active-leasequery neighbors");
    let found = rows.iter().find(|it| it["role"] == role).cloned();
    found.unwrap_or_else(|| panic!("no {role} of {node} in {rows:#?}"))
}

/// Waits until a session is in this state.
pub(crate) fn expect_session(lab: &Lab, node: &str, role: &str, state: &str) -> Value {
    let reached = || Some(session(lab, node, role)).filter(|it| it["state"] == state);
    wait_for(&format!("{role} of {node} {state}"), PATIENCE, reached)
        .unwrap_or_else(|error| panic!("{error}: {:#}\n{}", session(lab, node, role), logs(lab)))
}

/// Waits until all four sessions of the pair are active.
pub(crate) fn expect_active(lab: &Lab) {
    for node in BOTH {
        for role in ["requestor", "server"] {
            expect_session(lab, node, role, "active");
        }
    }
}

/// Both logs.
pub(crate) fn logs(lab: &Lab) -> String {
    let log = |node| format!("---- {node}\n{}", lab.log(&format!("{node}.twinrelay")));
    BOTH.map(log).concat()
}

/// `show digest --json` of a router.
pub(crate) fn digest(lab: &Lab, node: &str) -> Value {
    shown_on(lab, node, "digest")["digest"].clone()
}

/// Why the two do not hold the same: `None` where they do. Leases, their ends, digests, and routes in both kernels.
pub(crate) fn difference(lab: &Lab) -> Option<String> {
    let [ours, theirs] = BOTH.map(|node| ends_on(lab, node));
    let keys = |all: &BTreeMap<String, Timestamp>| all.keys().cloned().collect::<Vec<_>>();
    if keys(&ours) != keys(&theirs) {
        return Some(format!("leases: r1 {ours:#?}, r2 {theirs:#?}"));
    }
    for ((lease, end), other) in ours.iter().zip(theirs.values()) {
        if end.duration_since(*other).abs() > TOLERANCE {
            return Some(format!("{lease} ends {end} on r1, {other} on r2"));
        }
    }
    for node in BOTH {
        let routes = kernel_routes_on(lab, node);
        if !routes.iter().eq(ours.keys()) {
            return Some(format!(
                "leases {:?}, {node} routes {routes:?}",
                keys(&ours)
            ));
        }
    }
    let [ours, theirs] = BOTH.map(|node| digest(lab, node));
    (ours != theirs).then(|| format!("digests: r1 {ours:#}, r2 {theirs:#}"))
}

/// Waits until both hold the same, and at least this many leases; returns the time that it took.
pub(crate) fn expect_same(lab: &Lab, leases: usize) -> Duration {
    expect_same_within(lab, leases, PATIENCE)
}

/// The same where connections have to be found dead before.
pub(crate) fn expect_same_within(lab: &Lab, leases: usize, patience: Duration) -> Duration {
    let begin = Instant::now();
    let is_same = || {
        let enough = ends_on(lab, R1).len() >= leases;
        (enough && difference(lab).is_none()).then_some(())
    };
    wait_for("two relays that hold the same", patience, is_same).unwrap_or_else(|error| {
        let difference = difference(lab);
        panic!("{error}: {difference:?}\n{}", logs(lab))
    });
    begin.elapsed()
}

/// Where a router has learned each of its leases.
pub(crate) fn origins(lab: &Lab, node: &str) -> BTreeMap<String, String> {
    let text = |value: &Value| value.as_str().expect("a text").to_owned();
    let all = bindings_on(lab, node);
    let active = all.iter().filter(|it| it["state"] == "active");
    active
        .map(|it| (text(&it["prefix"]), text(&it["origin"])))
        .collect()
}

/// The access network of a router is cut off from it, or back.
pub(crate) fn set_access(lab: &Lab, node: &str, is_up: bool) {
    let state = if is_up { "up" } else { "down" };
    on(lab, "access", &format!("ip link set {node} {state}"));
}

/// The Internet reaches homes through this router.
pub(crate) fn route_through(lab: &Lab, node: &str) {
    for network in ["2001:db8:a:1::/64", "2001:db8:d000::/36"] {
        let via = address(node);
        on(
            lab,
            "cr",
            &format!("ip -6 route replace {network} via {via}"),
        );
    }
}

/// `run_dir/ready` as keepalived reads it.
pub(crate) fn ready_file(lab: &Lab, node: &str) -> String {
    let pid = std::fs::read_to_string(lab.dir().join(node).join("pid")).expect("the node runs");
    // As the node sees it, without a program that runs there.
    let node = std::path::Path::new("/proc").join(pid);
    std::fs::read_to_string(node.join("root/run/twinrelay/ready")).unwrap_or_default()
}

/// `twinrelay ready` of a router: its exit code, and why.
pub(crate) fn ready(lab: &Lab, node: &str) -> (Option<i32>, String) {
    let folder = lab.dir().join(node);
    let binary = std::fs::read_to_string(folder.join("binary")).expect("the lab wrote it");
    let mut command = lab.command(node, &binary).expect("the node is there");
    command
        .args(["ready", "-c"])
        .arg(lab.configuration_file(node));
    let output = xtask::lab::output(&mut command).expect("the command line starts");
    let words = [output.stdout, output.stderr].concat();
    (
        output.status.code(),
        String::from_utf8_lossy(&words).into_owned(),
    )
}

/// The router is gone as after a power cut with a new disk: daemon, store, routes and kernel programs.
pub(crate) fn lose_everything(lab: &mut Lab, node: &str) {
    lab.stop(&format!("{node}.twinrelay"), "KILL")
        .expect("the daemon dies");
    on(
        lab,
        node,
        "rm -rf /var/lib/twinrelay /sys/fs/bpf/twinrelay /run/twinrelay",
    );
    on(lab, node, "ip -6 route flush proto 207");
    on(lab, node, "ip -6 neigh flush all");
}

/// The daemon of a router, without waiting for what it says.
pub(crate) fn spawn(lab: &mut Lab, node: &str) {
    let folder = lab.dir().join(node);
    let binary = std::fs::read_to_string(folder.join("binary")).expect("the lab wrote it");
    let file = lab.configuration_file(node).display().to_string();
    lab.spawn(node, &[&binary, "run", "-c", &file])
        .expect("the daemon starts");
}

/// How often a session has heard a message type or status, or said it.
pub(crate) fn counted(lab: &Lab, node: &str, role: &str, direction: &str, name: &str) -> u64 {
    let rows = shown_on(lab, node, "active-leasequery statistics");
    let rows = rows["statistics"].as_array().expect("a list");
    let session = rows.iter().find(|it| it["role"] == role);
    let counts = ["messages", "statuses"].iter().flat_map(|list| {
        let list = session.map(|it| it[*list].as_array().expect("a list").clone());
        list.unwrap_or_default()
    });
    counts
        .filter(|it| it["direction"] == direction && it["name"] == name)
        .map(|it| it["count"].as_u64().expect("a number"))
        .sum()
}
