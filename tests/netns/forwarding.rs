//! Packets of subscribers past the kernel's stack: real clients, both directions, tags, counters that agree with what
//! was sent, and the end of a lease whether a daemon lives or not.

use std::net::Ipv6Addr;
use std::time::{Duration, Instant};

use relay_tests::messages::ip;
use serde_json::Value;
use xtask::lab::{Client, Lab, Lifetimes, wait_for};

use crate::capture::json;
use crate::hand::HandClient;
use crate::harness::{CONFIGURATION, bindings, expect_reached, lab, on, prefix};
use crate::no_loss::know_the_router;
use crate::pcap::{frames, start_capture_of};
use crate::probes::Probes;
use crate::wired::{Wire, frame};

/// What may come in on the access side without a lease: the routers of the link.
const LINK: &str = "2001:db8:a:1::/124";
/// r1 on the core side.
const R1_CORE: [u8; 6] = [2, 0, 0, 0, 0, 0x21];
/// r1 toward clients.
const R1_ACCESS: [u8; 6] = [2, 0, 0, 0, 0, 0x02];

/// The lab's configuration with this guard and this forwarding.
pub(crate) fn data_path(guard: &str, forwarding: &str) -> String {
    let access = format!(
        "interface = \"acc0\"\nsource_guard = \"{guard}\"\nsource_allow = [\"{LINK}\"]\nanti_loop = \"drop\""
    );
    let configuration = CONFIGURATION.replace("interface = \"acc0\"", &access);
    format!("{configuration}\n[dataplane]\nforwarding = \"{forwarding}\"\n")
}

/// Datagrams that the kernel of r1 forwarded.
fn forwarded_by_kernel(lab: &Lab) -> u64 {
    let counters = on(lab, "r1", "cat /proc/net/snmp6");
    let line = counters
        .lines()
        .find(|line| line.starts_with("Ip6OutForwDatagrams"));
    let number = line.and_then(|line| line.split_whitespace().nth(1)?.parse().ok());
    number.expect("the kernel counts what it forwards")
}

/// Packets from and to the lease of this destination.
fn traffic(lab: &Lab, destination: &str) -> (u64, u64) {
    let all = bindings(lab);
    let found = all.iter().find(|it| it["prefix"] == destination);
    let row = found.unwrap_or_else(|| panic!("no {destination} in {all:#?}"));
    let number = |name: &str| row[name].as_u64().expect("a number");
    (number("rx_packets"), number("tx_packets"))
}

/// What the programs dropped for this reason, and what they let pass in spite of it.
pub(crate) fn refused(lab: &Lab, reason: &str) -> (u64, u64) {
    let statistics = &json(lab, &["dataplane"])["dataplane"];
    let rows = statistics["reasons"].as_array();
    let rows = rows.unwrap_or_else(|| panic!("no reasons in {statistics:#}"));
    let row = rows.iter().find(|row| row["reason"] == reason);
    let row = row.unwrap_or_else(|| panic!("no {reason} in {statistics:#}"));
    let number = |name: &str| row[name].as_u64().expect("a number");
    (number("dropped"), number("passed"))
}

fn home_is_forwarded_by_xdp(client: Client) {
    let Some(mut lab) = lab(&data_path("enforce", "xdp"), Lifetimes::default()) else {
        return;
    };
    know_the_router(&lab, client.node());
    let (address, lan) = expect_reached(&mut lab, client);
    let before = forwarded_by_kernel(&lab);
    let destinations = [format!("{address}/128"), prefix(&lan)];
    let counted = destinations.each_ref().map(|it| traffic(&lab, it));

    let probes = Probes::start(&lab, client.node(), [&address, &lan]);
    std::thread::sleep(Duration::from_secs(2));
    let probes = probes.finish();

    let lost = probes.iter().filter(|it| !it.answered).count();
    assert_eq!(lost, 0, "of {}", probes.len());
    let kernel = forwarded_by_kernel(&lab) - before;
    assert_eq!(kernel, 0, "of {} the kernel forwarded some", probes.len());
    let mut answers = 0;
    for (at, destination) in destinations.iter().enumerate() {
        let sent = probes.iter().filter(|it| it.target == at).count() as u64;
        let (rx, tx) = traffic(&lab, destination);
        assert_eq!(tx - counted[at].1, sent, "packets to {destination}");
        answers += rx - counted[at].0;
    }
    // The home answers from an address of its own choice.
    assert_eq!(answers, probes.len() as u64, "packets from the home");
}

#[test]
fn dhclient_home_is_forwarded_by_xdp_both_ways() {
    home_is_forwarded_by_xdp(Client::Dhclient);
}

#[test]
fn dhcpcd_home_is_forwarded_by_xdp_both_ways() {
    home_is_forwarded_by_xdp(Client::Dhcpcd);
}

#[test]
fn wide_dhcp6c_home_is_forwarded_by_xdp_both_ways() {
    home_is_forwarded_by_xdp(Client::WideDhcp6c);
}

/// What must not leave by XDP does not: the kernel answers a packet whose hop limit ends here, and one too big.
/// req: DP-28
#[test]
fn kernel_answers_what_a_router_must_answer() {
    let Some(mut lab) = lab(&data_path("enforce", "xdp"), Lifetimes::default()) else {
        return;
    };
    know_the_router(&lab, "cpe1");
    let (address, lan) = expect_reached(&mut lab, Client::Dhclient);

    let (_, ends_at_r1) = lab
        .ask(
            "inet",
            &["ping", "-6", "-t", "2", "-c", "1", "-W", "2", &lan],
        )
        .expect("ping runs");
    assert!(
        ends_at_r1.contains("2001:db8:c::1") && ends_at_r1.contains("Hop limit"),
        "{ends_at_r1}"
    );
    on(&lab, "r1", "ip link set acc0 mtu 1400");
    // The daemon learns the MTU from the kernel's message.
    wait_for("the new MTU", Duration::from_secs(5), || {
        let rows = json(&lab, &["interfaces"]);
        let rows = rows["interfaces"].as_array()?.clone();
        rows.iter()
            .any(|it| it["interface"] == "acc0" && it["mtu"] == 1400)
            .then_some(())
    })
    .expect("r1 shows it");
    let words = ["ping", "-6", "-M", "do", "-s", "1400", "-c", "1", "-W", "2"];
    let (_, too_big) = lab
        .ask("inet", &[&words[..], &[&address]].concat())
        .expect("ping runs");
    assert!(
        too_big.contains("2001:db8:c::1") && too_big.contains("Packet too big"),
        "{too_big}"
    );
}

/// A tagged client has a data path without a VLAN interface: tags are put on and taken off by the programs.
#[test]
fn tagged_clients_are_forwarded_without_a_vlan_interface() {
    let Some(mut lab) = lab(&data_path("enforce", "xdp"), Lifetimes::default()) else {
        return;
    };
    crate::tags::start_capture(&mut lab);
    start_capture_of(&mut lab, "core", "udp port 4000");
    let wire = Wire::open(&lab, "gen", "eth0", false);
    for client in &crate::tags::CLIENTS {
        let lan = client.lease_prefix(&lab, &wire);
        let home = Ipv6Addr::from_bits(lan.to_bits() | 7);

        // Down: an echo request of the Internet host comes with the client's tags, and one hop less.
        let (_, text) = lab
            .ask(
                "inet",
                &["ping", "-6", "-c", "1", "-W", "1", &home.to_string()],
            )
            .expect("ping runs");
        let tagged = client.tagged_ipv6();
        let arrived = wait_for("a packet behind the tags", Duration::from_secs(5), || {
            frames(&lab, "gen").into_iter().find(|frame| {
                let behind = frame.get(12..).and_then(|it| it.strip_prefix(&tagged[..]));
                behind.is_some_and(|it| it.get(24..40) == Some(&home.octets()))
            })
        });
        let arrived = arrived.unwrap_or_else(|error| panic!("{error}: {text}"));
        assert_eq!(arrived[..6], client.mac(), "to the client's MAC");
        assert_eq!(arrived[6..12], R1_ACCESS, "from the router's");
        let ip_header = &arrived[12 + tagged.len()..];
        assert_eq!(ip_header[7], 62, "two routers took a hop each");

        // Up: a datagram behind tags arrives at the Internet host without them.
        let ethernet = [&R1_ACCESS[..], &client.mac(), &tagged].concat();
        let payload = format!("up {:02x}", client.mac()[5]);
        let mut up = frame(
            &ethernet,
            [home, ip("2001:db8:1::99")],
            [4000, 4000],
            payload.as_bytes(),
        );
        up[ethernet.len() + 7] = 64;
        wire.send(&up);
        let core = wait_for(
            "the packet on the core side",
            Duration::from_secs(5),
            || {
                frames(&lab, "core")
                    .into_iter()
                    .find(|frame| frame.ends_with(payload.as_bytes()))
            },
        )
        .unwrap_or_else(|error| panic!("{error}: {:#}", json(&lab, &["dataplane"])));
        assert_eq!(
            core[6..14],
            [&R1_CORE[..], &[0x86, 0xdd]].concat()[..],
            "no tags"
        );
        assert_eq!(core[14 + 7], 63);
    }
}

/// With the daemon dead the lease still ends, and what is sent to it is forwarded by nobody.
/// req: DP-43
fn expired_lease_is_forwarded_by_nobody(forwarding: &str) {
    let lifetimes = Lifetimes {
        renew: 3,
        rebind: 4,
        preferred: 6,
        valid: 6,
    };
    let Some(mut lab) = lab(&data_path("off", forwarding), lifetimes) else {
        return;
    };
    let mut client = HandClient::on(&lab, "cpe1", "eth0");
    let granted = client.lease(1);
    let ends = Instant::now() + Duration::from_secs(6);
    let [address, delegated] = granted.destinations().try_into().expect("one of each");
    let lan = delegated.replace("/56", "1");
    on(
        &lab,
        "cpe1",
        &format!("ip -6 addr add {address} dev eth0 nodad"),
    );
    on(
        &lab,
        "cpe1",
        &format!("ip -6 addr add {lan}/64 dev lan0 nodad"),
    );
    know_the_router(&lab, "cpe1");
    let address = address.trim_end_matches("/128").to_owned();
    lab.stop("r1.twinrelay", "KILL").expect("the daemon dies");
    for target in [&address, &lan] {
        assert_eq!(
            lab.lost_probes(target, 20),
            Ok(0),
            "{target}, before the end"
        );
    }

    std::thread::sleep(ends.saturating_duration_since(Instant::now()) + Duration::from_millis(300));

    let routes = on(&lab, "r1", "ip -6 route show proto 207");
    assert!(
        routes.contains(&delegated),
        "nobody is there to take the route away: {routes}"
    );
    let heard = icmp_echos(&lab, "cpe1");
    for target in [&address, &lan] {
        assert_eq!(
            lab.lost_probes(target, 20),
            Ok(20),
            "{target}, after the end"
        );
    }
    assert_eq!(
        icmp_echos(&lab, "cpe1"),
        heard,
        "the home heard some of them"
    );
    let dropped = dropped_as(&lab, 13);
    assert!(dropped >= 40, "only {dropped} were dropped as expired");
}

/// ICMPv6 echo requests that a node got.
pub(crate) fn icmp_echos(lab: &Lab, node: &str) -> u64 {
    let counters = on(lab, node, "cat /proc/net/snmp6");
    let line = counters.lines().find(|it| it.starts_with("Icmp6InEchos"));
    line.and_then(|line| line.split_whitespace().nth(1)?.parse().ok())
        .expect("the kernel counts echo requests")
}

/// What `bpftool` says of one reason, without a daemon.
fn dropped_as(lab: &Lab, place: u64) -> u64 {
    let map = "/sys/fs/bpf/twinrelay/drop_counters";
    let text = on(lab, "r1", &format!("bpftool -j map dump pinned {map}"));
    let rows: Value = serde_json::from_str(&text).expect("bpftool prints JSON");
    let rows = rows.as_array().expect("a list");
    let row = rows.iter().find(|row| row["formatted"]["key"] == place);
    let values = row.and_then(|row| row["formatted"]["values"].as_array());
    let values = values.unwrap_or_else(|| panic!("no {place} in {text}"));
    let dropped = values.iter().map(|it| it["value"]["dropped"].as_u64());
    dropped.map(|it| it.expect("a number")).sum()
}

#[test]
fn expired_lease_is_forwarded_by_nobody_when_xdp_forwards() {
    expired_lease_is_forwarded_by_nobody("xdp");
}

#[test]
fn expired_lease_is_forwarded_by_nobody_when_the_kernel_forwards() {
    expired_lease_is_forwarded_by_nobody("kernel");
}

/// Traffic is counted where the kernel forwards, too, and an operator sees it by subscriber and in total.
#[test]
fn traffic_is_counted_and_shown_where_the_kernel_forwards() {
    let Some(mut lab) = lab(&data_path("off", "kernel"), Lifetimes::default()) else {
        return;
    };
    know_the_router(&lab, "cpe1");
    let (_, lan) = expect_reached(&mut lab, Client::Dhclient);
    let (rx, tx) = traffic(&lab, &prefix(&lan));
    assert_eq!((rx, tx), (20, 20), "as many as the probes before");

    assert_eq!(lab.lost_probes(&lan, 30), Ok(0));

    assert_eq!(traffic(&lab, &prefix(&lan)), (50, 50));
    let text = lab
        .twinrelay(&["show", "subscribers", "--extensive"])
        .expect("twinrelay answers");
    assert!(text.contains("50 packets"), "{text}");
}
