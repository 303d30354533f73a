//! The source guard against real clients: made-up sources are dropped in `enforce` and only counted in `monitor`; who
//! has a lease is never in its way.

use std::time::Duration;

use xtask::lab::{Client, Lab, Lifetimes};

use crate::forwarding::{data_path, icmp_echos, refused};
use crate::harness::{expect_reached, lab, on};
use crate::hitless::restart;
use crate::no_loss::know_the_router;
use crate::probes::Probes;

/// Why a source does not pass.
const SOURCES: [&str; 3] = ["source_unbound", "source_foreign", "source_expired"];
const INTERNET: &str = "2001:db8:1::99";

/// The home of dhclient sends this many echo requests from a source that it takes for itself.
fn spoof(lab: &Lab, source: &str, count: u32) {
    on(
        lab,
        "cpe1",
        &format!("ip -6 addr add {source}/128 dev lan0 nodad"),
    );
    let count = count.to_string();
    let words = [
        "ping", "-6", "-I", source, "-i", "0.01", "-W", "1", "-c", &count, INTERNET,
    ];
    lab.ask("cpe1", &words).expect("ping runs");
}

/// Two homes with leases; one of them takes sources that are nobody's and the other's.
fn spoofed(guard: &str, forwarding: &str) -> Option<(Lab, u64)> {
    let mut lab = lab(&data_path(guard, forwarding), Lifetimes::default())?;
    know_the_router(&lab, "cpe1");
    expect_reached(&mut lab, Client::Dhclient);
    let (_, lan) = expect_reached(&mut lab, Client::Dhcpcd);
    let foreign = lan.replace("::1", "::bad");
    for reason in SOURCES {
        assert_eq!(
            refused(&lab, reason),
            (0, 0),
            "{reason}: nobody made anything up yet"
        );
    }
    let heard = icmp_echos(&lab, "inet");

    spoof(&lab, "2001:db8:d0ff:ff00::bad", 20);
    spoof(&lab, &foreign, 10);

    let heard = icmp_echos(&lab, "inet") - heard;
    Some((lab, heard))
}

/// req: DP-8 (RFC 7513 §8.1), PDR-R-3 (RFC 8987 §4.2)
fn made_up_sources_are_dropped(forwarding: &str) {
    let Some((lab, heard)) = spoofed("enforce", forwarding) else {
        return;
    };

    assert_eq!(heard, 0, "the Internet host heard some");
    assert_eq!(refused(&lab, "source_unbound"), (20, 0));
    assert_eq!(refused(&lab, "source_foreign"), (10, 0));
}

#[test]
fn dp_8_made_up_sources_are_dropped_in_enforce_when_xdp_forwards() {
    made_up_sources_are_dropped("xdp");
}

#[test]
fn dp_8_made_up_sources_are_dropped_in_enforce_when_the_kernel_forwards() {
    made_up_sources_are_dropped("kernel");
}

#[test]
fn made_up_sources_pass_and_are_counted_in_monitor() {
    let Some((lab, heard)) = spoofed("monitor", "xdp") else {
        return;
    };

    assert_eq!(heard, 30);
    assert_eq!(refused(&lab, "source_unbound"), (0, 20));
    assert_eq!(refused(&lab, "source_foreign"), (0, 10));
}

/// Over lease, renewals and a restart of the relay nothing of a home with a lease is dropped.
/// req: PDR-R-3 (RFC 8987 §4.2), DP-24, DP-25
fn rightful_client_is_never_dropped(client: Client) {
    let lifetimes = Lifetimes {
        renew: 2,
        rebind: 8,
        preferred: 12,
        valid: 20,
    };
    let Some(mut lab) = lab(&data_path("enforce", "xdp"), lifetimes) else {
        return;
    };
    know_the_router(&lab, client.node());
    let (address, lan) = expect_reached(&mut lab, client);
    let probes = Probes::start(&lab, client.node(), [&address, &lan]);

    std::thread::sleep(Duration::from_millis(2500));
    restart(&mut lab, "KILL");
    std::thread::sleep(Duration::from_millis(2500));

    let probes = probes.finish();
    let lost = probes.iter().filter(|it| !it.answered).count();
    assert_eq!(lost, 0, "of {}", probes.len());
    assert!(probes.len() > 1500, "only {} were sent", probes.len());
    for reason in SOURCES
        .iter()
        .chain(&["neighbor_target", "header_chain", "loop"])
    {
        assert_eq!(refused(&lab, reason), (0, 0), "{reason}");
    }
}

#[test]
fn pdr_r_3_dhclient_home_is_never_dropped() {
    rightful_client_is_never_dropped(Client::Dhclient);
}

#[test]
fn pdr_r_3_dhcpcd_home_is_never_dropped() {
    rightful_client_is_never_dropped(Client::Dhcpcd);
}

#[test]
fn pdr_r_3_wide_dhcp6c_home_is_never_dropped() {
    rightful_client_is_never_dropped(Client::WideDhcp6c);
}

/// What a client sends to its own delegated prefix does not come back to it over and over.
/// req: PDR-R-5 (RFC 8987 §4.2)
#[test]
fn pdr_r_5_packet_to_the_sender_s_own_lease_does_not_loop() {
    let Some(mut lab) = lab(&data_path("off", "kernel"), Lifetimes::default()) else {
        return;
    };
    know_the_router(&lab, "cpe1");
    let (_, lan) = expect_reached(&mut lab, Client::Dhclient);
    let unused = lan.replace("::1", ":ff::1");
    let before = refused(&lab, "loop");

    let (_, text) = lab
        .ask(
            "cpe1",
            &["ping", "-6", "-c", "5", "-i", "0.05", "-W", "1", &unused],
        )
        .expect("ping runs");

    assert!(!text.contains(" 0% packet loss"), "{text}");
    assert_eq!(before, (0, 0));
    assert_eq!(refused(&lab, "loop"), (5, 0), "each once: {text}");
}
