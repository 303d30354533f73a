//! What each router says and has, ten times a second: the gateway, readiness, the session with its twin, bindings and
//! routes. Decides how it is read without disturbing anybody; reads only what the kernel and the metrics show.

use crate::lab::Lab;
use crate::lab::command::Result;
use crate::lab::inside::enter;
use crate::lab::twins::{ROUTERS, has_gateway};
use std::io::{Read, Write};
use std::net::{Ipv6Addr, SocketAddr, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

const INTERVAL: Duration = Duration::from_millis(100);
const METRICS_PORT: u16 = 9547;
const WITHIN: Duration = Duration::from_millis(300);

/// One router at one moment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Sample {
    pub(super) at: Duration,
    /// The subscribers' gateway is here.
    pub(super) has_gateway: bool,
    /// What the relay says; `None` where none answers, or it says nothing of the kind.
    pub(super) relay: Option<Said>,
    /// Routes to leases in the kernel.
    pub(super) routes: usize,
}

/// What twinrelay says.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Said {
    pub(super) is_ready: bool,
    /// The state of the session in which it asks its twin.
    pub(super) session: String,
    pub(super) bindings: usize,
}

/// Watching both routers.
pub(super) struct Watch {
    goes_on: Arc<AtomicBool>,
    threads: Vec<JoinHandle<Vec<Sample>>>,
}

impl Watch {
    /// Begins; times count from `begin`.
    pub(super) fn start(lab: &Lab, begin: Instant) -> Result<Self> {
        let goes_on = Arc::new(AtomicBool::new(true));
        let mut threads = Vec::new();
        for router in ROUTERS {
            let namespace = lab.open_namespace(router)?;
            let goes_on = Arc::clone(&goes_on);
            threads.push(std::thread::spawn(move || {
                let mut samples = Vec::new();
                if enter(&namespace).is_err() {
                    return samples;
                }
                while goes_on.load(Ordering::Relaxed) {
                    samples.push(sample(begin));
                    std::thread::sleep(INTERVAL);
                }
                samples
            }));
        }
        Ok(Self { goes_on, threads })
    }

    /// What was seen, router by router.
    pub(super) fn finish(self) -> Vec<Vec<Sample>> {
        self.goes_on.store(false, Ordering::Relaxed);
        let all = self.threads.into_iter();
        all.map(|it| it.join().expect("a watcher ends by itself"))
            .collect()
    }
}

fn sample(begin: Instant) -> Sample {
    let of_this_thread = |file: &str| {
        std::fs::read_to_string(format!("/proc/thread-self/net/{file}")).unwrap_or_default()
    };
    Sample {
        at: begin.elapsed(),
        has_gateway: has_gateway(&of_this_thread("if_inet6")),
        routes: routes(&of_this_thread("ipv6_route")),
        relay: metrics().as_deref().and_then(said),
    }
}

/// Prefixes and single addresses out of the servers' pools, by way of a home.
fn routes(ipv6_route: &str) -> usize {
    let is_one = |line: &&str| {
        let words: Vec<&str> = line.split_whitespace().collect();
        let [to, bits, _, _, via, ..] = words.as_slice() else {
            return false;
        };
        let is_lease = (to.starts_with("20010db8d0") && *bits == "38")
            || (to.starts_with("20010db8000a00018") && *bits == "80");
        is_lease && via.starts_with("fe80")
    };
    ipv6_route.lines().filter(is_one).count()
}

fn metrics() -> Option<String> {
    let address = SocketAddr::from((Ipv6Addr::LOCALHOST, METRICS_PORT));
    let mut stream = TcpStream::connect_timeout(&address, WITHIN).ok()?;
    stream.set_read_timeout(Some(WITHIN)).ok()?;
    stream
        .write_all(b"GET /metrics HTTP/1.0\r\nHost: localhost\r\n\r\n")
        .ok()?;
    let mut text = String::new();
    stream.read_to_string(&mut text).ok()?;
    Some(text)
}

fn said(metrics: &str) -> Option<Said> {
    let mut said = Said::default();
    let mut is_complete = false;
    for line in metrics.lines() {
        let Some((name, value)) = line.rsplit_once(' ') else {
            continue;
        };
        if name == "twinrelay_ready" {
            said.is_ready = value == "1";
            is_complete = true;
        } else if name.starts_with("twinrelay_bindings{") {
            said.bindings += value.parse::<usize>().unwrap_or(0);
        } else if name.starts_with("twinrelay_alq_session_state{")
            && name.contains("role=\"requestor\"")
            && value == "1"
        {
            said.session = label(name, "state").unwrap_or_default().to_owned();
        }
    }
    is_complete.then_some(said)
}

/// The value of a label of a metric.
fn label<'a>(name: &'a str, label: &str) -> Option<&'a str> {
    let (_, rest) = name.split_once(&format!("{label}=\""))?;
    rest.split('"').next()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_relay_says_is_read_from_its_metrics() {
        let text = "# HELP twinrelay_ready 1 while\ntwinrelay_ready 1\n\
                    twinrelay_bindings{link=\"a\",type=\"IA_NA\",origin=\"snooped\"} 3\n\
                    twinrelay_bindings{link=\"a\",type=\"IA_PD\",origin=\"snooped\"} 2\n\
                    twinrelay_alq_session_state{peer=\"r2\",role=\"requestor\",state=\"active\"} 1\n\
                    twinrelay_alq_session_state{peer=\"r2\",role=\"server\",state=\"idle\"} 1\n";

        let expected = Said {
            is_ready: true,
            session: "active".into(),
            bindings: 5,
        };
        assert_eq!(said(text), Some(expected));
        assert_eq!(said("HTTP/1.0 503\r\n"), None);
    }

    #[test]
    fn routes_are_those_to_leases() {
        let line = |to: &str, bits: &str, via: &str| {
            format!("{to} {bits} 00000000000000000000000000000000 00 {via} 00000816 1 0 3 acc0\n")
        };
        let home = "fe80000000000000000000fffe000011";
        let nobody = "00000000000000000000000000000000";
        let text = [
            line("20010db8d00001000000000000000000", "38", home),
            line("20010db8000a00018000000000000001", "80", home),
            line("20010db8d00000000000000000000000", "24", nobody),
            line("20010db8000a00010000000000000002", "80", nobody),
        ]
        .concat();

        assert_eq!(routes(&text), 2);
    }
}
