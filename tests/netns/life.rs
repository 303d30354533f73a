//! The life of leases with each real client through each way of capture: all clients go through all steps side by
//! side in one lab for the steps of a lease that lasts, one for duplicates and one for expiry: a server keeps
//! the lease of a duplicate that its client does not decline. What a client cannot do of itself stands in
//! [`EXCEPTIONS`]; a client made by hand does it then.

use std::collections::BTreeMap;
use std::time::Duration;

use xtask::lab::{Client, Lab, Lifetimes, wait_for};

use crate::capture::{configuration, expect_captured};
use crate::hand::HandClient;
use crate::harness::{bindings, expect_no_route, installed, lab, on, prefix, route};
use crate::pcap::{expect_equal_on_both_sides, messages_from, start_capture};

/// dhcp6c takes a T2 below 30 s for a mistake and makes timers of its own then.
const LASTING: Lifetimes = Lifetimes {
    renew: 6,
    rebind: 30,
    preferred: 45,
    valid: 60,
};
const ENDING: Lifetimes = Lifetimes {
    renew: 2,
    rebind: 3,
    preferred: 4,
    valid: 6,
};
/// Addresses that are in use already: more than the clients try.
const DUPLICATES: u16 = 8;
/// The first address that Kea lends: 2001:db8:a:1:8000::
const FIRST: u128 = 0x2001_0db8_000a_0001_8000_0000_0000_0000;
const S2: &str = "2001:db8:c::12";

const RENEW: u8 = 5;
const REBIND: u8 = 6;
const RELEASE: u8 = 8;
const DECLINE: u8 = 9;

/// Messages that a client never says, and why. The test that would meet one asserts it.
const EXCEPTIONS: [(Client, u8, &str); 2] = [
    (
        Client::Dhcpcd,
        DECLINE,
        "9.4.1 goes on waiting after the kernel has told that the address is another's",
    ),
    (
        Client::WideDhcp6c,
        DECLINE,
        "it does not look whether the address is another's, and has no code to decline",
    ),
];

/// A client with its lease.
struct Home {
    client: Client,
    address: String,
    lans: Vec<String>,
}

impl Home {
    /// Waits for an address and this many prefixes.
    fn with_lease(lab: &Lab, client: Client, prefixes: usize) -> Self {
        let what = format!("address and {prefixes} prefixes of {}", client.program());
        wait_for(&what, Duration::from_secs(20), || {
            let lans = lab.globals(client.node(), "lan0");
            let address = lab.global(client.node(), "eth0")?;
            (lans.len() == prefixes).then_some(Self {
                client,
                address,
                lans,
            })
        })
        .unwrap_or_else(|error| panic!("{error}\n{}", lab.log(&label(client))))
    }

    fn destinations(&self) -> Vec<String> {
        let prefixes = self.lans.iter().map(|lan| prefix(lan));
        [format!("{}/128", self.address)]
            .into_iter()
            .chain(prefixes)
            .collect()
    }

    /// Every lease has its route, through the client, and no probe is lost.
    fn expect_reached(&self, lab: &Lab, step: &str) {
        let who = self.client.program();
        for destination in self.destinations() {
            let route = route(lab, &destination);
            let parts = ["via fe80::", "dev acc0", "proto 207"];
            let whole = parts.iter().all(|part| route.contains(part));
            assert!(whole, "{step}, {who}: {destination}: {route:?}");
        }
        for target in [&self.address].into_iter().chain(&self.lans) {
            assert_eq!(
                lab.lost_probes(target, 20),
                Ok(0),
                "{step}, {who}: {target}"
            );
        }
    }
}

fn label(client: Client) -> String {
    format!("{}.{}", client.node(), client.program())
}

/// A lab with s1 alone: dhcpcd takes the first offer, whatever its preference.
fn lab_of_s1(capture: &str, lifetimes: Lifetimes) -> Option<Lab> {
    let mut lab = lab(&configuration(capture, ""), lifetimes)?;
    start_capture(&mut lab, "access");
    lab.stop("s2.kea-dhcp6", "TERM").expect("s2 ends");
    Some(lab)
}

fn start_all(lab: &mut Lab, prefixes: u32) -> Vec<Home> {
    for client in Client::ALL {
        lab.start_client_for(client, prefixes)
            .expect("the client starts");
    }
    let home = |client| Home::with_lease(lab, client, prefixes as usize);
    Client::ALL.map(home).into()
}

/// When the client of each lease was last heard, and the server that lends it.
fn told(lab: &Lab) -> BTreeMap<String, (String, String)> {
    let text = |value: &serde_json::Value| value.as_str().unwrap_or_default().to_owned();
    bindings(lab)
        .iter()
        .filter(|it| it["state"] == "active")
        .map(|it| {
            (
                text(&it["prefix"]),
                (text(&it["cltt"]), text(&it["server"])),
            )
        })
        .collect()
}

/// Waits until what was told of every lease of every home is as `is_so` wants it.
fn expect_told(
    lab: &Lab,
    homes: &[Home],
    step: &str,
    seconds: u64,
    is_so: impl Fn(&str, &(String, String)) -> bool,
) {
    let all: Vec<String> = homes.iter().flat_map(Home::destinations).collect();
    wait_for(step, Duration::from_secs(seconds), || {
        let now = told(lab);
        let one = |it: &String| now.get(it).is_some_and(|row| is_so(it, row));
        all.iter().all(one).then_some(())
    })
    .unwrap_or_else(|error| panic!("{error}: {:#?}", told(lab)));
}

/// Each client said it, or is known not to. The capture has it a moment after the relay.
fn expect_said(lab: &Lab, message_type: u8, step: &str) {
    for client in Client::ALL {
        let said = || messages_from(lab, client).contains(&message_type);
        let known = |it: &&(Client, u8, &str)| (it.0, it.1) == (client, message_type);
        let who = client.program();
        match EXCEPTIONS.iter().find(known) {
            None => {
                let what = format!("{step}: {who} says message {message_type}");
                wait_for(&what, Duration::from_secs(5), || said().then_some(()))
                    .unwrap_or_else(|error| panic!("{error}"));
            }
            Some((.., reason)) => {
                assert!(!said(), "{step}: {who} does say it now; not true: {reason}");
            }
        }
    }
}

/// Routes to these destinations were put in once and never taken away.
fn expect_undisturbed(lab: &Lab, homes: &[Home]) {
    let changes = lab.log("r1.ip");
    for destination in homes.iter().flat_map(Home::destinations) {
        let name = destination.trim_end_matches("/128");
        let is_about =
            |line: &&str| line.trim_start_matches("Deleted ").split(' ').next() == Some(name);
        let lines: Vec<&str> = changes.lines().filter(is_about).collect();
        assert_eq!(lines.len(), 1, "{destination}: {lines:#?}");
        assert!(!lines[0].starts_with("Deleted"), "{lines:?}");
    }
}

fn leases_that_last(capture: &str) {
    let Some(mut lab) = lab_of_s1(capture, LASTING) else {
        return;
    };
    start_capture(&mut lab, "core");
    lab.spawn("r1", &["ip", "-6", "monitor", "route"])
        .expect("ip monitors");
    let expect_all_reached =
        |lab: &Lab, homes: &[Home], step| homes.iter().for_each(|it| it.expect_reached(lab, step));

    let homes = start_all(&mut lab, 2);
    lab.start_server("s2", LASTING).expect("s2 comes back");
    let first = told(&lab);
    expect_all_reached(&lab, &homes, "lease");

    let again = |lease: &str, row: &(String, String)| row.0 > first[lease].0;
    expect_told(&lab, &homes, "renew", 15, again);
    expect_said(&lab, RENEW, "renew");

    lab.stop("s1.kea-dhcp6", "KILL").expect("s1 dies");
    let by_s2 = |_: &str, row: &(String, String)| row.1 == S2;
    expect_told(&lab, &homes, "rebind", 50, by_s2);
    expect_said(&lab, REBIND, "rebind");
    expect_all_reached(&lab, &homes, "rebind");
    expect_undisturbed(&lab, &homes);

    for home in &homes {
        lab.release_client(home.client)
            .expect("the client releases");
        for destination in home.destinations() {
            expect_no_route(&lab, &destination, 5);
        }
    }
    expect_said(&lab, RELEASE, "release");
    assert_eq!(installed(&lab), Vec::<String>::new());
    expect_captured(&lab, capture);
    expect_equal_on_both_sides(&lab);
}

/// The Linux of each home looks for duplicates of the addresses on its uplink.
fn look_for_duplicates(lab: &Lab) {
    for client in Client::ALL {
        let words = "sysctl -qw net.ipv6.conf.eth0.accept_dad=1";
        on(lab, client.node(), words);
    }
}

/// Whether a host of the access network has the first addresses of the pool.
fn occupy(lab: &Lab, yes: bool) {
    let verb = if yes { "add" } else { "del" };
    for number in 0..DUPLICATES {
        let address = std::net::Ipv6Addr::from(FIRST + u128::from(number));
        let words = format!("ip -6 addr {verb} {address}/64 dev eth0 nodad");
        on(lab, "gen", &words);
    }
}

/// The address that a client goes on with although the kernel has found it to be another's.
fn unnoticed(lab: &Lab, client: Client) -> String {
    let words = "ip -6 -o addr show dev eth0 scope global dadfailed";
    wait_for("a duplicate address", Duration::from_secs(20), || {
        let shown = on(lab, client.node(), words);
        let mut words = shown.split_whitespace().skip_while(|it| *it != "inet6");
        words.nth(1).map(str::to_owned)
    })
    .unwrap_or_else(|error| panic!("{error}\n{}", lab.log(&label(client))))
}

/// What the server heard to be declined.
fn declined_addresses(lab: &Lab) -> Vec<String> {
    let log = lab.log("s1.kea-dhcp6");
    let address = |rest: &str| Some(format!("{}/128", rest.split(' ').next()?));
    let rest = log.split("sent DECLINE for address ").skip(1);
    rest.filter_map(address).collect()
}

fn duplicates_are_declined(capture: &str) {
    let Some(mut lab) = lab_of_s1(capture, Lifetimes::INFINITE) else {
        return;
    };
    occupy(&lab, true);
    look_for_duplicates(&lab);
    for client in Client::ALL {
        lab.start_client(client).expect("the client starts");
    }
    let kept = [Client::Dhcpcd, Client::WideDhcp6c].map(|client| unnoticed(&lab, client));
    wait_for("a Decline", Duration::from_secs(20), || {
        messages_from(&lab, Client::Dhclient)
            .contains(&DECLINE)
            .then_some(())
    })
    .unwrap_or_else(|error| panic!("{error}\n{}", lab.log(&label(Client::Dhclient))));
    occupy(&lab, false);
    let home = Home::with_lease(&lab, Client::Dhclient, 1);

    expect_said(&lab, DECLINE, "decline");
    for address in &kept {
        assert!(!route(&lab, address).is_empty(), "not declined: {address}");
    }
    let declined = declined_addresses(&lab);
    assert!(!declined.is_empty(), "{}", lab.log("s1.kea-dhcp6"));
    for address in declined {
        assert!(!kept.contains(&address), "{address} of {kept:?}");
        expect_no_route(&lab, &address, 5);
    }
    home.expect_reached(&lab, "decline");
    declined_by_hand(&mut lab);

    expect_captured(&lab, capture);
}

/// For the clients that do not; the prefix beside the address stays.
fn declined_by_hand(lab: &mut Lab) {
    lab.stop(&label(Client::WideDhcp6c), "KILL")
        .expect("dhcp6c leaves its port to the client by hand");
    let mut client = HandClient::on(lab, Client::WideDhcp6c.node(), "eth0");
    let granted = client.lease(1);
    let [address, prefix] = granted.destinations().try_into().expect("one of each");
    assert!(!route(lab, &address).is_empty(), "no route to {address}");

    client.decline(&granted);

    expect_no_route(lab, &address, 5);
    let installed = installed(lab);
    assert!(installed.contains(&prefix), "{prefix} of {installed:?}");
    assert!(!installed.contains(&address), "{address} of {installed:?}");
}

fn leases_of_dead_clients_expire(capture: &str) {
    let Some(mut lab) = lab_of_s1(capture, ENDING) else {
        return;
    };

    // One after the other: each is dead and still reached within what is left of its lease.
    let mut homes = Vec::new();
    for client in Client::ALL {
        lab.start_client(client).expect("the client starts");
        let home = Home::with_lease(&lab, client, 1);
        lab.stop(&label(client), "KILL").expect("the client dies");
        home.expect_reached(&lab, "expiry");
        homes.push(home);
    }

    for destination in homes.iter().flat_map(Home::destinations) {
        expect_no_route(&lab, &destination, 10);
    }
    expect_captured(&lab, capture);
}

/// Two prefixes each, reached, renewed, rebound to the other server, released. req: PDR-R-1, PDR-G-3, RLY-44, DP-32
/// (RFC 8987 §4.1, §4.2; RFC 8415 §19.2)
#[test]
fn pdr_r_1_leases_that_last_through_native_xdp() {
    leases_that_last("xdp");
}

/// As through native XDP. req: PDR-R-1 (RFC 8987 §4.2)
#[test]
fn pdr_r_1_leases_that_last_through_generic_xdp() {
    leases_that_last("xdp-generic");
}

/// As through native XDP. req: PDR-R-1 (RFC 8987 §4.2)
#[test]
fn pdr_r_1_leases_that_last_through_sockets() {
    leases_that_last("socket");
}

/// Where the client can decline. req: SNP-22 (RFC 8415 §18.2.8)
#[test]
fn snp_22_duplicates_are_declined_through_native_xdp() {
    duplicates_are_declined("xdp");
}

/// As through native XDP. req: SNP-22 (RFC 8415 §18.2.8)
#[test]
fn snp_22_duplicates_are_declined_through_generic_xdp() {
    duplicates_are_declined("xdp-generic");
}

/// As through native XDP. req: SNP-22 (RFC 8415 §18.2.8)
#[test]
fn snp_22_duplicates_are_declined_through_sockets() {
    duplicates_are_declined("socket");
}

/// Nobody releases them. req: PDR-R-1 (RFC 8987 §4.2)
#[test]
fn pdr_r_1_leases_of_dead_clients_expire_through_native_xdp() {
    leases_of_dead_clients_expire("xdp");
}

/// As through native XDP. req: PDR-R-1 (RFC 8987 §4.2)
#[test]
fn pdr_r_1_leases_of_dead_clients_expire_through_generic_xdp() {
    leases_of_dead_clients_expire("xdp-generic");
}

/// As through native XDP. req: PDR-R-1 (RFC 8987 §4.2)
#[test]
fn pdr_r_1_leases_of_dead_clients_expire_through_sockets() {
    leases_of_dead_clients_expire("socket");
}
