//! Who is connected to whom, and the addresses. Veth pairs are made directly in their namespaces; nothing
//! appears outside the lab's own.
//!
//! ```text
//! inet ::1::99 ── cr ── [core 2001:db8:c::/64] ── s1 ::11, s2 ::12
//!                            │
//!                        r1 ::1 core0               where asked for: r2 ::2 core0
//!                        r1 2001:db8:a:1::2 acc0                     r2 2001:db8:a:1::3 acc0
//!                            │
//!                        [access] ── cpe1 dhclient, cpe2 dhcpcd, cpe3 wide-dhcp6c, gen (frames by hand)
//! ```

use super::Lab;
use super::command::{Result, shell};

/// Every node of the lab with one router.
pub const NODES: [&str; 11] = [
    "access", "core", "r1", "cr", "s1", "s2", "inet", "cpe1", "cpe2", "cpe3", "gen",
];

/// What ethtool turns off so that tags are in the frame, 802.1Q and 802.1ad.
const TAGS_IN_FRAMES: &str =
    "rxvlan off txvlan off rx-vlan-stag-hw-parse off tx-vlan-stag-hw-insert off";

/// The second router.
const SECOND: &str = "r2";

/// Addresses by node and interface.
const ADDRESSES: [(&str, &str, &str); 9] = [
    ("r1", "acc0", "2001:db8:a:1::2"),
    (SECOND, "acc0", "2001:db8:a:1::3"),
    ("r1", "core0", "2001:db8:c::1"),
    (SECOND, "core0", "2001:db8:c::2"),
    ("cr", "core0", "2001:db8:c::fe"),
    ("cr", "inet0", "2001:db8:1::1"),
    ("s1", "eth0", "2001:db8:c::11"),
    ("s2", "eth0", "2001:db8:c::12"),
    ("inet", "eth0", "2001:db8:1::99"),
];

/// The way out of the routers.
const ROUTERS_DEFAULT: &str = "default via 2001:db8:c::fe";

/// What a router or server of the pair configures at its boot: words for a command each.
pub(super) fn own_addresses(node: &str) -> Vec<String> {
    let own = ADDRESSES.into_iter().filter(|it| it.0 == node);
    let addresses = own.map(|(_, interface, address)| {
        format!("ip addr replace {address}/64 dev {interface} nodad")
    });
    let default = match node {
        "r1" | SECOND => ROUTERS_DEFAULT.to_owned(),
        _ => format!("default via {} dev eth0", super::twins::CORE_GATEWAY),
    };
    let route = format!("ip -6 route replace {default}");
    addresses.chain([route]).collect()
}

/// Where a router's clients see it.
pub(super) fn access_address(router: &str) -> &'static str {
    match router {
        SECOND => "2001:db8:a:1::3",
        _ => "2001:db8:a:1::2",
    }
}

pub(super) fn build(lab: &mut Lab, has_second: bool) -> Result<()> {
    let is_there = |node: &str| has_second || node != SECOND;
    let all = NODES.into_iter().chain([SECOND]);
    let nodes: Vec<&str> = all.filter(|node| is_there(node)).collect();
    for node in &nodes {
        lab.add_node(node)?;
    }
    let mut script = String::from("PATH=$PATH:/usr/sbin:/sbin\n");
    let mut line = |text: &str| {
        script += text;
        script.push('\n');
    };
    let in_ns = |node: &str, words: &str| {
        format!("ip netns exec {} sysctl -qw {words}", lab.namespace(node))
    };
    for node in &nodes {
        // Nobody waits for duplicate address detection; a bridge's machine speaks no IPv6 itself.
        let off = u8::from(*node == "access" || *node == "core");
        line(&in_ns(
            node,
            &format!(
                "net.ipv6.conf.default.accept_dad=0 net.ipv6.conf.all.accept_dad=0 net.ipv6.conf.default.disable_ipv6={off} net.ipv6.conf.all.disable_ipv6={off} net.ipv6.conf.default.accept_ra=0"
            ),
        ));
    }
    let routers = ["r1", SECOND, "cr", "cpe1", "cpe2", "cpe3"];
    for node in routers.into_iter().filter(|node| is_there(node)) {
        line(&in_ns(node, "net.ipv6.conf.all.forwarding=1"));
    }
    let ip = |node: &str, words: &str| format!("ip -n {} {words}", lab.namespace(node));
    for bridge in ["access", "core"] {
        line(&ip(
            bridge,
            "link add br0 type bridge stp_state 0 mcast_snooping 0",
        ));
        line(&ip(bridge, "link set br0 up"));
    }
    let ports = [
        ("r1", "acc0", "access", 0x02),
        (SECOND, "acc0", "access", 0x03),
        ("gen", "eth0", "access", 0x09),
        ("cpe1", "eth0", "access", 0x11),
        ("cpe2", "eth0", "access", 0x12),
        ("cpe3", "eth0", "access", 0x13),
        ("r1", "core0", "core", 0x21),
        (SECOND, "core0", "core", 0x23),
        ("cr", "core0", "core", 0x22),
        ("s1", "eth0", "core", 0x31),
        ("s2", "eth0", "core", 0x32),
    ];
    for (node, interface, bridge, number) in ports.into_iter().filter(|it| is_there(it.0)) {
        line(&ip(
            node,
            &format!(
                "link add {interface} address 02:00:00:00:00:{number:02x} type veth peer name {node} netns {}",
                lab.namespace(bridge)
            ),
        ));
        line(&ip(bridge, &format!("link set {node} master br0 up")));
        // Checksums are real and tags are in the frame, as on a wire (offloads hide both from a capture).
        line(&format!(
            "ip netns exec {} ethtool -K {interface} tx off {TAGS_IN_FRAMES} >/dev/null",
            lab.namespace(node)
        ));
        line(&format!(
            "ip netns exec {} ethtool -K {node} gro on {TAGS_IN_FRAMES} >/dev/null",
            lab.namespace(bridge)
        ));
        line(&ip(node, &format!("link set {interface} up")));
    }
    line(&ip(
        "cr",
        &format!(
            "link add inet0 type veth peer name eth0 netns {}",
            lab.namespace("inet")
        ),
    ));
    for (node, interface) in [("inet", "eth0"), ("cr", "inet0")] {
        line(&format!(
            "ip netns exec {} ethtool -K {interface} tx off >/dev/null",
            lab.namespace(node)
        ));
    }
    line(&ip("cr", "link set inet0 up"));
    line(&ip("inet", "link set eth0 up"));
    for cpe in ["cpe1", "cpe2", "cpe3"] {
        // A pair gives the home's network a carrier without the dummy module.
        line(&ip(cpe, "link add lan0 type veth peer name lan1"));
        line(&ip(cpe, "link set lan1 up"));
        line(&ip(cpe, "link set lan0 up"));
        line(&ip(cpe, "route add default via fe80::ff:fe00:2 dev eth0"));
    }
    for (node, interface, address) in ADDRESSES.into_iter().filter(|it| is_there(it.0)) {
        line(&ip(
            node,
            &format!("addr add {address}/64 dev {interface} nodad"),
        ));
    }
    let routes = [
        ("r1", ROUTERS_DEFAULT),
        (SECOND, ROUTERS_DEFAULT),
        ("s1", "default via 2001:db8:c::1"),
        ("s2", "default via 2001:db8:c::1"),
        ("inet", "default via 2001:db8:1::1"),
        ("cr", "2001:db8:a:1::/64 via 2001:db8:c::1"),
        ("cr", "2001:db8:d000::/36 via 2001:db8:c::1"),
    ];
    for (node, route) in routes.into_iter().filter(|it| is_there(it.0)) {
        line(&ip(node, &format!("route add {route}")));
    }
    shell(&("set -e\n".to_string() + &script)).map(drop)
}
