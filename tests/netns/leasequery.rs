//! Individual LEASEQUERY (RFC 5007) against ISC dhcpd: a client comes back with its old address, the relay
//! has lost all it knew, and the server says who it is.

use std::time::Duration;

use xtask::lab::{Client, Lab, Lifetimes, wait_for};

use crate::harness::{CONFIGURATION, bindings, counted, lab, on, route, skipped};

const DHCPD: &str = "
    allow leasequery;
    default-lease-time 3600;
    subnet6 2001:db8:c::/64 { }
    subnet6 2001:db8:a:1::/64 {
        range6 2001:db8:a:1:8000::10 2001:db8:a:1:8000::ff;
        prefix6 2001:db8:d000:: 2001:db8:d000:ff00:: /56;
    }";

/// dhcpd at the address of s1, which Kea has left.
fn start_dhcpd(lab: &mut Lab) {
    for server in ["s1", "s2"] {
        lab.stop(&format!("{server}.kea-dhcp6"), "KILL")
            .expect("Kea ends");
    }
    let path = |file: &str| lab.dir().join("s1").join(file).display().to_string();
    let (conf, leases, pid) = (path("dhcpd.conf"), path("dhcpd.leases"), path("dhcpd.pid"));
    std::fs::write(&conf, DHCPD).expect("a configuration");
    std::fs::write(&leases, "").expect("an empty file of leases");
    let words = [
        "dhcpd", "-6", "-f", "-d", "-cf", &conf, "-lf", &leases, "-pf", &pid, "eth0",
    ];
    lab.spawn("s1", &words).expect("dhcpd starts");
    let is_up = || lab.log("s1.dhcpd").contains("Sending on").then_some(());
    wait_for("dhcpd", Duration::from_secs(10), is_up)
        .unwrap_or_else(|error| panic!("{error}\n{}", lab.log("s1.dhcpd")));
}

/// The daemon loses memory and disk.
fn begin_anew(lab: &mut Lab) {
    lab.stop("r1.twinrelay", "KILL").expect("the daemon dies");
    std::fs::remove_dir_all(lab.dir().join("r1/lib/twinrelay")).expect("it has a state directory");
    on(lab, "r1", "ip -6 route flush proto 207");
    let read = |name: &str| std::fs::read_to_string(lab.dir().join(name)).expect("it is there");
    let (binary, file) = (read("r1/binary"), lab.dir().join("r1/twinrelay.toml"));
    lab.start_twinrelay(&binary, &file.display().to_string())
        .expect("the daemon comes back");
    assert_eq!(bindings(lab).len(), 0);
}

/// The route of a confirmed address is there although the relay saw no Reply that states the lease; what the
/// server says of its end is shown.
/// req: LQ-1, LQ-25 (RFC 5007 §4.3)
#[test]
fn lq_1_confirmed_address_is_learned_from_a_real_server() {
    let missing = xtask::lab::missing(&["dhcpd"]);
    if !missing.is_empty() {
        skipped("missing program: dhcpd");
        return;
    }
    let Some(mut lab) = lab(CONFIGURATION, Lifetimes::default()) else {
        return;
    };
    start_dhcpd(&mut lab);
    // With a prefix to ask for it would say Rebind at its return.
    lab.start_client_for(Client::Dhclient, 0)
        .expect("the client starts");
    let has_address = || lab.global("cpe1", "eth0");
    let address = wait_for("an address", Duration::from_secs(20), has_address).expect("a lease");
    lab.stop("cpe1.dhclient", "KILL").expect("the client dies");
    let end = |lab: &Lab| {
        let all = bindings(lab);
        let mut all = all
            .iter()
            .filter(|it| it["prefix"] == format!("{address}/128"));
        let row = all.next()?;
        let until: jiff::Timestamp = row["valid_until"].as_str()?.parse().ok()?;
        Some((until, row["origin"].as_str()?.to_owned()))
    };
    let (before, origin) = end(&lab).expect("the relay saw the lease");
    assert_eq!(origin, "snooped");

    begin_anew(&mut lab);
    lab.start_client_for(Client::Dhclient, 0)
        .expect("the client starts again");

    let learned = wait_for("the lease", Duration::from_secs(15), || end(&lab));
    let (after, origin) = learned.unwrap_or_else(|error| {
        panic!(
            "{error}\n{}\n{}",
            lab.log("s1.dhcpd"),
            lab.log("cpe1.dhclient")
        )
    });
    assert_eq!(
        origin,
        "leasequery:s1",
        "{}\n{}",
        lab.log("cpe1.dhclient"),
        lab.log("s1.dhcpd")
    );
    let apart = (after.as_second() - before.as_second()).abs();
    assert!(apart <= 2, "{before} and {after}");
    assert!(
        lab.log("cpe1.dhclient").contains("Confirm"),
        "{}",
        lab.log("cpe1.dhclient")
    );
    let is_routed = || (!route(&lab, &format!("{address}/128")).is_empty()).then_some(());
    wait_for("the route", Duration::from_secs(5), is_routed).expect("a route to the lease");
    assert_eq!(lab.lost_probes(&address, 20), Ok(0));
    assert_eq!(counted(&lab, "notices", "leasequery_mismatch"), 0);
}
