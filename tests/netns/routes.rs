//! What others do to our routes and interfaces: routes are as before without a word of DHCP, bindings never know,
//! and a route that is not ours is never touched.

use std::time::{Duration, Instant};

use xtask::lab::{Client, Lab, Lifetimes, wait_for};

use crate::flap::{heard, held};
use crate::harness::{
    CONFIGURATION, bindings, expect_no_route, expect_reached, installed, lab, on, prefix, route,
};

/// Not ours, through no interface of clients.
const FOREIGN: &str = "2001:db8:f::/48 via 2001:db8:c::fe dev core0 proto static";

/// Without a comparison for so long none is due before the next regular one.
const QUIET: Duration = Duration::from_secs(3);

/// Two homes: one with two leases, one that has released its own.
struct Scene {
    lab: Lab,
    address: String,
    lan: String,
    released: String,
    ours: Vec<String>,
    held: Vec<String>,
    heard: u64,
}

impl Scene {
    fn new() -> Option<Self> {
        let mut lab = lab(CONFIGURATION, Lifetimes::default())?;
        let (_, released) = expect_reached(&mut lab, Client::Dhcpcd);
        lab.release_client(Client::Dhcpcd).expect("it releases");
        expect_no_route(&lab, &prefix(&released), 5);
        let (address, lan) = expect_reached(&mut lab, Client::Dhclient);
        on(&lab, "r1", &format!("ip -6 route add {FOREIGN}"));
        Some(Self {
            address,
            lan,
            released: prefix(&released),
            ours: ours(&lab),
            held: held(&lab),
            heard: heard(&lab),
            lab,
        })
    }

    /// The delegated prefix of the home that has one.
    fn delegated(&self) -> String {
        prefix(&self.lan)
    }

    /// Everything is as it was before somebody did something, and the home is reached.
    fn expect_healed(&self) {
        let same =
            || (ours(&self.lab) == self.ours && installed(&self.lab).len() == 2).then_some(());
        wait_for("the routes", Duration::from_secs(10), same)
            .unwrap_or_else(|error| panic!("{error}: {:#?} for {:#?}", ours(&self.lab), self.ours));
        self.expect_unmoved();
        for target in [&self.address, &self.lan] {
            assert_eq!(self.lab.lost_probes(target, 20), Ok(0), "{target}");
        }
    }

    /// What others do to routes is heard of as before: they are back though no comparison was made.
    fn expect_still_heard(&self) {
        let mut count = (comparisons(&self.lab), Instant::now());
        let settled = || {
            let now = comparisons(&self.lab);
            if now != count.0 {
                count = (now, Instant::now());
            }
            (count.1.elapsed() > QUIET).then_some(now)
        };
        let before = wait_for("comparisons to end", Duration::from_secs(30), settled)
            .unwrap_or_else(|error| panic!("{error}"));
        on(&self.lab, "r1", "ip -6 route flush proto 207");
        self.expect_healed();
        assert_eq!(comparisons(&self.lab), before, "the routes were looked for");
    }

    /// Bindings and foreign routes know nothing of it, and no client was asked.
    fn expect_unmoved(&self) {
        assert_eq!(held(&self.lab), self.held);
        assert_eq!(route(&self.lab, &self.released), "", "released");
        let foreign = on(&self.lab, "r1", "ip -6 route show proto static");
        assert!(foreign.starts_with("2001:db8:f::/48 via 2001:db8:c::fe dev core0"));
        assert_eq!(heard(&self.lab), self.heard, "DHCP was spoken");
    }

    /// The lease that cannot have its route says so.
    fn expect_refused(&self, what: &str) {
        let shown = || {
            bindings(&self.lab)
                .into_iter()
                .find(|it| it["prefix"] == *self.delegated() && it["state"] == "active")
                .expect("the binding stays")
        };
        let refused = || (shown()["route"] == "failed").then_some(());
        wait_for("the refusal", Duration::from_secs(10), refused)
            .unwrap_or_else(|error| panic!("{what}: {error}: {:#}", shown()));
        let why = shown()["route_error"].to_string();
        assert!(why.contains("not ours"), "{what}: {why}");
        let listed = self.lab.twinrelay(&["show", "routes"]).expect("it shows");
        let line = listed
            .lines()
            .find(|line| line.starts_with(&self.delegated()));
        let line = line.unwrap_or_default();
        assert!(line.contains("failed"), "{what}: {listed}");
        let both = crate::harness::shown(&self.lab, "routes --diff");
        let sides: Vec<String> = both["differences"]
            .as_array()
            .expect("a list of differences")
            .iter()
            .filter(|row| row["prefix"] == *self.delegated())
            .map(|row| format!("{} {}", row["side"], row["state"]).replace('"', ""))
            .collect();
        assert!(
            sides.contains(&"wanted failed".to_owned()),
            "{what}: {both}"
        );
        assert!(
            sides.contains(&"kernel foreign".to_owned()),
            "{what}: {both}"
        );
    }
}

/// How often routes were compared with the kernel.
fn comparisons(lab: &Lab) -> u64 {
    let routes = &crate::harness::shown(lab, "statistics")["statistics"]["routes"];
    routes["comparisons"].as_u64().expect("a number")
}

/// Every route with our number, in order.
fn ours(lab: &Lab) -> Vec<String> {
    let text = on(lab, "r1", "ip -6 route show proto 207");
    let mut lines: Vec<String> = text.lines().map(|line| line.trim().to_owned()).collect();
    lines.sort();
    lines
}

#[test]
fn flushed_routes_are_all_put_back() {
    let Some(scene) = Scene::new() else {
        return;
    };

    on(&scene.lab, "r1", "ip -6 route flush proto 207");

    scene.expect_healed();
}

#[test]
fn deleted_route_is_put_back() {
    let Some(scene) = Scene::new() else {
        return;
    };

    let delegated = scene.delegated();
    on(&scene.lab, "r1", &format!("ip -6 route del {delegated}"));

    scene.expect_healed();
}

/// Somebody else's route in the place of ours stays, and ours is there again when it goes.
#[test]
fn route_replaced_by_somebody_else_is_refused_and_shown_until_it_goes() {
    let Some(scene) = Scene::new() else {
        return;
    };
    let delegated = scene.delegated();
    let before = route(&scene.lab, &delegated);
    let metric = before.split_once("metric ").expect("a metric").1;
    let metric = metric.split(' ').next().expect("a number");
    let theirs = format!("{delegated} via 2001:db8:c::fe dev core0 proto bird metric {metric}");

    on(&scene.lab, "r1", &format!("ip -6 route replace {theirs}"));

    scene.expect_refused("replaced");
    let there = route(&scene.lab, &delegated);
    assert!(there.contains("dev core0 proto bird"), "{there}");
    assert_eq!(there.matches(delegated.as_str()).count(), 1, "{there}");
    scene.expect_unmoved();
    on(&scene.lab, "r1", &format!("ip -6 route del {theirs}"));
    scene.expect_healed();
}

/// Whatever it is and whatever its metric: ours does not stand beside it.
#[test]
fn foreign_routes_to_our_destination_stay_untouched_at_any_metric() {
    let Some(scene) = Scene::new() else {
        return;
    };
    let delegated = scene.delegated();
    for protocol in ["static", "ra", "bird", "kernel"] {
        for metric in [7, 9999] {
            let what = format!("{protocol} {metric}");
            let theirs = format!(
                "{delegated} via 2001:db8:c::fe dev core0 proto {protocol} metric {metric}"
            );
            on(&scene.lab, "r1", &format!("ip -6 route add {theirs}"));
            scene.expect_refused(&what);
            // While it stands, nothing of us tempts it: ours is not pushed in again.
            on(&scene.lab, "r1", "ip -6 route flush proto 207");
            let rest = || (ours(&scene.lab).len() + 1 == scene.ours.len()).then_some(());
            wait_for("the others", Duration::from_secs(10), rest)
                .unwrap_or_else(|error| panic!("{what}: {error}: {:?}", ours(&scene.lab)));
            let there = route(&scene.lab, &delegated);
            assert!(
                there.contains(&format!("metric {metric}")),
                "{what}: {there}"
            );
            assert!(!there.contains("proto 207"), "{what}: {there}");
            on(&scene.lab, "r1", &format!("ip -6 route del {theirs}"));
            scene.expect_healed();
        }
    }
}

/// The kernel gives the new interface another number; leases, routes and relaying move to it.
/// req: PDR-S-2 (RFC 8987 §4.3)
#[test]
fn pdr_s_2_interface_deleted_and_made_again_has_its_routes_and_serves() {
    let Some(mut scene) = Scene::new() else {
        return;
    };
    let number = |lab: &Lab| on(lab, "r1", "cat /sys/class/net/acc0/ifindex");
    let before = number(&scene.lab);

    on(&scene.lab, "r1", "ip link del acc0");
    std::thread::sleep(Duration::from_millis(500));
    assert_eq!(held(&scene.lab), scene.held, "without the interface");
    let (router, access) = (scene.lab.namespace("r1"), scene.lab.namespace("access"));
    let make = format!(
        "-n {router} link add acc0 address 02:00:00:00:00:02 type veth peer name r1 netns {access}"
    );
    xtask::lab::run(std::process::Command::new("ip").args(make.split(' ')))
        .expect("r1 takes an interface");
    on(&scene.lab, "access", "ip link set r1 master br0 up");
    on(&scene.lab, "r1", "ethtool -K acc0 tx off");
    on(&scene.lab, "r1", "ip link set acc0 up");
    on(
        &scene.lab,
        "r1",
        "ip -6 addr add 2001:db8:a:1::2/64 dev acc0 nodad",
    );

    assert_ne!(number(&scene.lab), before, "the test shows nothing");
    scene.expect_healed();
    scene.expect_still_heard();
    expect_reached(&mut scene.lab, Client::WideDhcp6c);
}

/// Without IPv6 on the interface the kernel throws its addresses and routes away while the link stays up, and
/// takes no new ones.
#[test]
fn addresses_flushed_from_the_access_interface_cost_no_lease_and_no_route() {
    let Some(mut scene) = Scene::new() else {
        return;
    };

    on(&scene.lab, "r1", "ip -6 addr flush dev acc0");
    on(
        &scene.lab,
        "r1",
        "sysctl -qw net.ipv6.conf.acc0.disable_ipv6=1",
    );
    std::thread::sleep(Duration::from_millis(500));
    let left = on(&scene.lab, "r1", "ip -6 route show dev acc0");
    assert_eq!(left, "", "the kernel keeps routes: the test shows nothing");
    scene.expect_unmoved();
    on(
        &scene.lab,
        "r1",
        "sysctl -qw net.ipv6.conf.acc0.disable_ipv6=0",
    );
    for address in ["fe80::ff:fe00:2/64", "2001:db8:a:1::2/64"] {
        // The kernel may have made the first one itself.
        on(
            &scene.lab,
            "r1",
            &format!("ip -6 addr replace {address} dev acc0 nodad"),
        );
    }

    scene.expect_healed();
    scene.expect_still_heard();
    expect_reached(&mut scene.lab, Client::WideDhcp6c);
}
