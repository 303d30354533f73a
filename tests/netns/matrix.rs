//! What can happen to one of two routers, each edge with probes to and from every home's address and prefix, and with
//! the loss that is allowed: none, or what VRRP takes to miss a dead router.

use std::time::{Duration, Instant};

use nix::unistd::geteuid;
use xtask::lab::{
    Cable, Disk, Home, Lab, Lifetimes, PAIR_PROGRAMS, PROGRAMS, Pair as Relays, Probes, Record,
    Twins, missing, wait_for,
};

use crate::harness::skipped;

/// On each stream: three adverts of half a second, the skew, and a busy machine, at 125 probes a second.
pub(crate) const DETECTION: usize = 350;
const PATIENCE: Duration = Duration::from_secs(30);
/// Before and after what happens.
const CALM: Duration = Duration::from_millis(500);
const AFTERWARDS: Duration = Duration::from_secs(1);

/// What forwards the packets of subscribers.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Mode {
    /// The examples as they are.
    Kernel,
    /// XDP programs, which drop what no lease covers.
    XdpGuarded,
}

impl Mode {
    fn relays(self) -> Relays {
        let guard =
            "source_guard = \"enforce\"\nsource_allow = [\"2001:db8:a:1::2\", \"2001:db8:a:1::3\"]";
        // Relays that lost each other try again after this, not only after a minute.
        let retry = "idle_timeout = 2";
        let more = [("[[access]]", guard), ("[active_leasequery]", retry)];
        match self {
            Self::Kernel => Relays::twinrelay(),
            Self::XdpGuarded => Relays::Twinrelay {
                forwarding: "xdp".into(),
                more: more
                    .map(|(section, lines)| (section.into(), lines.into()))
                    .into(),
            },
        }
    }
}

pub(crate) struct Pair {
    pub(crate) lab: Lab,
    pub(crate) homes: Vec<Home>,
}

impl Pair {
    pub(crate) fn up(name: &str, mode: Mode, lifetimes: Lifetimes) -> Option<Self> {
        if !geteuid().is_root() {
            return skipped("needs root for network namespaces").map(|_| unreachable!());
        }
        let lacking = missing(&[&PROGRAMS[..], &PAIR_PROGRAMS[..]].concat());
        if !lacking.is_empty() {
            let reason = format!("missing programs: {}", lacking.join(", "));
            return skipped(&reason).map(|_| unreachable!());
        }
        let name = format!("{name}{}", std::process::id());
        let twins = Twins {
            relay: mode.relays(),
            lifetimes,
        };
        let mut lab = Lab::up_twins(&name, &twins).expect("the pair comes up");
        let homes = lab.start_homes().expect("every home gets its lease");
        Some(Self { lab, homes })
    }

    /// Probes while something happens; each stream may lose so many of them, and none arrives twice.
    pub(crate) fn expect_lost(&mut self, most: usize, edge: &str, happens: impl FnOnce(&mut Lab)) {
        let probes = Probes::start(&self.lab, &self.homes).expect("probes are sent");
        std::thread::sleep(CALM);
        let begin = Instant::now();

        happens(&mut self.lab);

        std::thread::sleep(AFTERWARDS);
        let record = probes.finish();
        let (worst, all) = record.lost(Duration::ZERO, Duration::MAX);
        println!(
            "{edge}: {worst} lost on one stream (at most {most}), {all} on all, in {:?}",
            begin.elapsed()
        );
        assert!(worst <= most, "{edge}:\n{}", record.table());
        expect_sound(&record, edge);
    }
}

/// Enough was sent to speak of losses, and no packet was forwarded by both routers.
pub(crate) fn expect_sound(record: &Record, edge: &str) {
    assert_eq!(slow(record), None, "{edge}");
    for stream in &record.streams {
        let (twice, address) = (stream.duplicates(), &stream.address);
        assert_eq!(twice, 0, "{edge}: came twice, {address}");
    }
}

/// A stream that was sent at less than 100 a second: then its losses say too little.
fn slow(record: &Record) -> Option<String> {
    let secs = record.end().as_secs_f64();
    let slow = |it: &&xtask::lab::Stream| (it.probes.len() as f64) < 100.0 * secs;
    let found = record.streams.iter().find(slow);
    found.map(|it| format!("{} of {} in {secs} s", it.probes.len(), it.address))
}

pub(crate) fn expect_owner(lab: &Lab, router: &str) {
    lab.expect_owner(router, PATIENCE)
        .unwrap_or_else(|error| panic!("{error}"));
}

/// The relay of r1 ends by this signal, the gateway goes to r2; it is started again, the gateway is where it was.
pub(crate) fn restart_active(lab: &mut Lab, signal: &str) {
    lab.stop("r1.twinrelay", signal).expect("the daemon ends");
    expect_owner(lab, "r2");
    lab.spawn_twinrelay("r1").expect("the daemon starts");
    expect_owner(lab, "r1");
}

pub(crate) fn restart_standby(lab: &mut Lab, signal: &str) {
    lab.stop("r2.twinrelay", signal).expect("the daemon ends");
    std::thread::sleep(Duration::from_secs(2));
    lab.spawn_twinrelay("r2").expect("the daemon starts");
    wait_for("r2 in sync", PATIENCE, || lab.is_ready("r2").then_some(()))
        .unwrap_or_else(|error| panic!("{error}"));
    assert_eq!(lab.owner(), Some("r1"));
}

#[test]
fn active_router_that_loses_its_power_returns_without_loss_with_its_disk_and_without() {
    let Some(mut pair) = Pair::up("mp", Mode::Kernel, Lifetimes::default()) else {
        return;
    };
    for disk in [Disk::Wiped, Disk::Kept] {
        pair.expect_lost(DETECTION, "power loss of the active", |lab| {
            lab.power_off("r1").expect("it has a switch");
            expect_owner(lab, "r2");
        });
        pair.expect_lost(0, &format!("its return, disk {disk:?}"), |lab| {
            lab.power_on("r1", disk).expect("it has a switch");
            expect_owner(lab, "r1");
        });
    }
    pair.expect_lost(0, "power loss and return of the standby", |lab| {
        lab.power_off("r2").expect("it has a switch");
        std::thread::sleep(Duration::from_secs(2));
        lab.power_on("r2", Disk::Wiped).expect("it has a switch");
        wait_for("r2 in sync", PATIENCE, || lab.is_ready("r2").then_some(()))
            .unwrap_or_else(|error| panic!("{error}"));
    });
}

#[test]
fn daemon_that_ends_in_any_way_on_either_router_costs_no_packet() {
    let Some(mut pair) = Pair::up("md", Mode::Kernel, Lifetimes::default()) else {
        return;
    };
    pair.expect_lost(0, "active: stop and start", |lab| {
        restart_active(lab, "TERM")
    });
    pair.expect_lost(0, "active: SIGKILL and start", |lab| {
        restart_active(lab, "KILL")
    });
    pair.expect_lost(0, "standby: stop and start", |lab| {
        restart_standby(lab, "TERM")
    });
    pair.expect_lost(0, "standby: SIGKILL and start", |lab| {
        restart_standby(lab, "KILL")
    });
}

#[test]
fn cable_of_the_active_router_that_is_pulled_costs_what_vrrp_takes_and_nothing_when_it_is_back() {
    let Some(mut pair) = Pair::up("mc", Mode::Kernel, Lifetimes::default()) else {
        return;
    };
    for cable in [Cable::Access, Cable::Core] {
        pair.expect_lost(DETECTION, &format!("{cable:?} cable pulled"), |lab| {
            lab.set_cable("r1", cable, false).expect("it has a cable");
            expect_owner(lab, "r2");
        });
        pair.expect_lost(0, &format!("{cable:?} cable put back"), |lab| {
            lab.set_cable("r1", cable, true).expect("it has a cable");
            expect_owner(lab, "r1");
        });
    }
}
