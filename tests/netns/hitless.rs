//! Nothing of the traffic is lost while the daemon is stopped, killed, upgraded or reloaded: the programs and their
//! maps stay, and the next daemon takes them over.

use std::path::PathBuf;
use std::time::Duration;

use xtask::lab::{Client, Lab, Lifetimes, Relay, wait_for};

use crate::capture::json;
use crate::forwarding::data_path;
use crate::harness::{bindings, expect_reached, lab, on};
use crate::no_loss::know_the_router;
use crate::probes::{Probe, Probes};

/// One probe to each of two addresses in this time: two thousand packets a second in each direction, where the machine
/// has the time for it.
const INTERVAL: Duration = Duration::from_millis(1);
/// A heartbeat so old is none any more.
const HEARTBEAT_ENDS: Duration = Duration::from_millis(1200);

/// Ends the daemon and starts the same binary again.
pub(crate) fn restart(lab: &mut Lab, signal: &str) {
    lab.stop("r1.twinrelay", signal).expect("the daemon ends");
    std::thread::sleep(HEARTBEAT_ENDS);
    start(lab, &binary(lab));
}

fn binary(lab: &Lab) -> PathBuf {
    let file = lab.dir().join("r1/binary");
    std::fs::read_to_string(file)
        .expect("the lab wrote it")
        .into()
}

fn start(lab: &mut Lab, binary: &std::path::Path) {
    let file = lab.configuration_file("r1").display().to_string();
    lab.start_twinrelay(&binary.display().to_string(), &file)
        .expect("the daemon starts");
}

/// The kernel's number of each program.
fn programs(lab: &Lab) -> Vec<u64> {
    let document = json(lab, &["dataplane"]);
    let rows = document["dataplane"]["programs"]
        .as_array()
        .expect("a list");
    rows.iter()
        .map(|row| row["id"].as_u64().expect("a number"))
        .collect()
}

/// A home with its lease, and probes to it.
fn under_way(forwarding: &str) -> Option<(Lab, Probes)> {
    let mut lab = lab(&data_path("enforce", forwarding), Lifetimes::default())?;
    know_the_router(&lab, "cpe1");
    let (address, lan) = expect_reached(&mut lab, Client::Dhclient);
    let probes = Probes::start_every(INTERVAL, &lab, "cpe1", [&address, &lan]);
    std::thread::sleep(Duration::from_millis(300));
    Some((lab, probes))
}

fn expect_none_lost(probes: &[Probe]) {
    let (first, last) = (&probes[0], &probes[probes.len() - 1]);
    let seconds = last.sent.duration_since(first.sent).as_secs_f64();
    let lost = probes.iter().filter(|it| !it.answered);
    let lost: Vec<_> = lost.map(|it| it.sent.duration_since(first.sent)).collect();
    assert!(
        lost.is_empty(),
        "of {} in {seconds:.1} s lost after {lost:?}",
        probes.len()
    );
    let rate = probes.len() as f64 / seconds;
    assert!(rate >= 1000.0, "only {rate:.0} probes a second were sent");
}

/// Packets to all leases so far.
fn counted(lab: &Lab) -> u64 {
    let rows = bindings(lab);
    let counts = rows.iter().map(|row| row["tx_packets"].as_u64());
    counts.map(|it| it.expect("a number")).sum()
}

fn nothing_is_lost_over_restarts(forwarding: &str) {
    let Some((mut lab, probes)) = under_way(forwarding) else {
        return;
    };
    let first = programs(&lab);

    restart(&mut lab, "TERM");
    restart(&mut lab, "KILL");
    // Another build: another file, which loads programs of its own.
    lab.stop("r1.twinrelay", "TERM").expect("the daemon ends");
    let upgrade = lab.dir().join("r1/upgrade/twinrelay");
    std::fs::create_dir_all(upgrade.with_file_name("")).expect("there is room for a folder");
    std::fs::copy(binary(&lab), &upgrade).expect("there is room for a copy");
    start(&mut lab, &upgrade);
    let file = lab.configuration_file("r1");
    let text = std::fs::read_to_string(&file).expect("it is there");
    std::fs::write(&file, format!("{text}\n[log]\nlevel = \"debug\"\n")).expect("it is written");
    lab.signal("r1.twinrelay", "HUP")
        .expect("the daemon is there");
    wait_for("the reload", Duration::from_secs(5), || {
        lab.log("r1.twinrelay").contains("reloaded").then_some(())
    })
    .unwrap_or_else(|error| panic!("{error}: {}", lab.log("r1.twinrelay")));
    std::thread::sleep(Duration::from_millis(300));

    let probes = probes.finish();
    expect_none_lost(&probes);
    // Twenty were sent to each before.
    assert_eq!(counted(&lab), probes.len() as u64 + 40, "counts go on");
    let last = programs(&lab);
    assert_eq!(first.len(), 2);
    assert!(
        last.iter().all(|id| !first.contains(id)),
        "{first:?} became {last:?}"
    );
    let log = lab.log("r1.twinrelay");
    assert_eq!(
        log.matches("adopted the maps of an earlier daemon").count(),
        3,
        "{log}"
    );
}

#[test]
fn nothing_is_lost_over_restarts_when_xdp_forwards() {
    nothing_is_lost_over_restarts("xdp");
}

#[test]
fn nothing_is_lost_over_restarts_when_the_kernel_forwards() {
    nothing_is_lost_over_restarts("kernel");
}

/// Maps of another size cannot be taken over: the daemon says so and makes new ones, and traffic passes meanwhile.
#[test]
fn nothing_is_lost_where_the_maps_are_made_anew() {
    let Some((mut lab, probes)) = under_way("xdp") else {
        return;
    };
    lab.stop("r1.twinrelay", "TERM").expect("the daemon ends");
    let file = lab.configuration_file("r1");
    let text = std::fs::read_to_string(&file).expect("it is there");
    std::fs::write(&file, format!("[relay]\nmax_bindings = 5000\n{text}")).expect("it is written");

    let same = binary(&lab);
    start(&mut lab, &same);

    std::thread::sleep(Duration::from_millis(500));
    expect_none_lost(&probes.finish());
    let log = lab.log("r1.twinrelay");
    assert!(
        log.contains("the pinned maps are of another version or size"),
        "{log}"
    );
    let document = json(&lab, &["dataplane"]);
    assert_eq!(document["dataplane"]["bindings"]["limit"], 5000);
    assert_eq!(document["dataplane"]["bindings"]["entries"], 2);
}

/// The programs that a dead daemon left do not stand in another relay's way.
#[test]
fn another_relay_serves_at_once_where_the_daemon_died() {
    let Some(mut lab) = lab(&data_path("enforce", "xdp"), Lifetimes::default()) else {
        return;
    };
    expect_reached(&mut lab, Client::Dhclient);
    lab.stop("r1.twinrelay", "KILL").expect("the daemon dies");
    std::thread::sleep(HEARTBEAT_ENDS);

    lab.start_relay("r1", &Relay::Dhcrelay)
        .expect("dhcrelay starts");
    lab.start_client(Client::WideDhcp6c)
        .expect("the client starts");

    lab.lease(Client::WideDhcp6c)
        .expect("the client gets its lease through dhcrelay");
    assert!(
        on(&lab, "r1", "ip -d link show acc0").contains("xdp"),
        "the program is still there"
    );
}
