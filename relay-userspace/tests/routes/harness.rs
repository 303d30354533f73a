//! A follower that runs against the kernel of a network namespace of its own, and what it reports.

use std::io::Write as _;
use std::net::Ipv6Addr;
use std::process::Command;
use std::sync::mpsc::{Receiver, channel};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use relay_common::net::MacAddr;
use relay_core::effect::{NeighborChange, Route, RouteChange};
use relay_core::input::{RouteOutcome, RouteRefusal};
use relay_core::types::{IfIndex, Prefix};
use relay_userspace::config::RoutesSection;
use relay_userspace::counters::Counters;
use relay_userspace::events::{EventKind, EventReader, Events};
use relay_userspace::routes::{Change, Pace, Routes, prepare};

pub const PATIENCE: Duration = Duration::from_secs(5);

/// Runs `test` in a new network namespace with `acc0` (a veth, its peer `cli0`), or says why not.
pub fn in_namespace(name: &str, test: impl FnOnce() + Send + 'static) {
    if !nix::unistd::geteuid().is_root() {
        return skip(name, "not root");
    }
    let thread = std::thread::spawn(move || {
        if let Err(error) = nix::sched::unshare(nix::sched::CloneFlags::CLONE_NEWNET) {
            return Some(format!("no network namespaces: {error}"));
        }
        ip("link set lo up");
        ip("link add acc0 address 02:00:00:00:00:01 type veth peer name cli0");
        ip("link set cli0 up");
        ip("link set acc0 up");
        test();
        None
    });
    match thread.join() {
        Ok(None) => {}
        Ok(Some(reason)) => skip(name, &reason),
        Err(panic) => std::panic::resume_unwind(panic),
    }
}

fn skip(name: &str, reason: &str) {
    println!("SKIPPED: {name}: {reason}");
    if let Ok(path) = std::env::var("TWINRELAY_SKIPPED_FILE") {
        let file = std::fs::OpenOptions::new()
            .create(true)
            .append(true)
            .open(path);
        writeln!(file.unwrap(), "routes::{name}: {reason}").unwrap();
    }
}

/// `ip ARGUMENTS` in the namespace of this thread.
pub fn ip(arguments: &str) -> String {
    let output = Command::new("ip")
        .args(arguments.split(' '))
        .output()
        .unwrap();
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "ip {arguments}: {error}");
    String::from_utf8(output.stdout).unwrap()
}

pub fn acc0() -> IfIndex {
    let text = ip("-o link show acc0");
    IfIndex(text.split(':').next().unwrap().trim().parse().unwrap())
}

pub fn section() -> RoutesSection {
    RoutesSection {
        enabled: true,
        table: 254,
        protocol: 207,
        metric: 2070,
        allowed: Vec::new(),
        aggregates: Vec::new(),
        addresses: true,
        prefixes: true,
        neighbors: true,
    }
}

pub fn prefix(text: &str) -> Prefix {
    let (address, bits) = text.split_once('/').unwrap();
    Prefix::new(address.parse().unwrap(), bits.parse().unwrap()).unwrap()
}

pub fn put(text: &str, gateway: &str, version: u64) -> Change {
    Change::Route(RouteChange::Put(Route {
        prefix: prefix(text),
        gateway: gateway.parse().unwrap(),
        interface: acc0(),
        version,
    }))
}

pub fn remove(text: &str, version: u64) -> Change {
    Change::Route(RouteChange::Remove {
        prefix: prefix(text),
        version,
    })
}

/// A running follower and what it reports.
pub struct Bench {
    pub routes: Routes,
    pub counters: Arc<Counters>,
    pub outcomes: Mutex<Receiver<RouteOutcome>>,
    pub events: Mutex<EventReader>,
}

impl Bench {
    /// The next event that a monitor would show.
    pub fn event(&self) -> EventKind {
        let runtime = tokio::runtime::Builder::new_current_thread().build();
        let mut reader = self.events.lock().unwrap();
        let event = runtime.unwrap().block_on(reader.next());
        event.expect("the stream is open").what.clone()
    }

    pub fn start(section: &RoutesSection) -> Self {
        let counters = Arc::new(Counters::default());
        let events = Events::new(Arc::clone(&counters));
        let reader = events.subscribe();
        let prepared = prepare(section, Arc::clone(&counters), events).unwrap();
        let (sender, outcomes) = channel();
        let routes = prepared
            .start(Box::new(move |batch| {
                batch.iter().all(|outcome| sender.send(*outcome).is_ok())
            }))
            .unwrap();
        Self {
            routes,
            counters,
            outcomes: Mutex::new(outcomes),
            events: Mutex::new(reader),
        }
    }

    pub fn send(&self, changes: impl IntoIterator<Item = Change>) {
        self.routes.queue.send(changes, Pace::Now).unwrap();
    }

    pub fn outcome(&self) -> RouteOutcome {
        let outcomes = self.outcomes.lock().unwrap();
        outcomes.recv_timeout(PATIENCE).expect("an outcome in time")
    }

    pub fn expect(&self, text: &str, version: u64, result: Result<(), RouteRefusal>) {
        let expected = RouteOutcome {
            prefix: prefix(text),
            version,
            result,
        };
        assert_eq!(self.outcome(), expected);
    }
}

pub fn eventually(what: &str, condition: impl Fn() -> bool) {
    let start = Instant::now();
    while !condition() {
        assert!(
            start.elapsed() < PATIENCE,
            "{what}: not within {PATIENCE:?}"
        );
        std::thread::sleep(Duration::from_millis(5));
    }
}

pub fn ours() -> String {
    ip("-6 route show proto 207")
}

pub fn neighbor(address: &str, mac: u8) -> NeighborChange {
    NeighborChange::Put {
        interface: acc0(),
        address: address.parse().unwrap(),
        mac: MacAddr([2, 0, 0, 0, 1, mac]),
    }
}

/// `count` wishes over `acc0` as it is now, versions from `version` on.
pub fn many(count: u64, version: u64) -> Vec<Change> {
    let interface = acc0();
    let base = u128::from("2001:db8:8000::".parse::<Ipv6Addr>().unwrap());
    let wish = |n: u64| {
        let address = Ipv6Addr::from(base + (u128::from(n) << 72));
        Change::Route(RouteChange::Put(Route {
            prefix: Prefix::new(address, 56).unwrap(),
            gateway: Ipv6Addr::from((0xfe80 << 112) + u128::from(n / 2 + 1)),
            interface,
            version: version + n,
        }))
    };
    (0..count).map(wish).collect()
}
