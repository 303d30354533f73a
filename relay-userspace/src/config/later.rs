//! Keys whose features are not in this release: their values are checked like all others, and
//! switching such a feature on is refused, because a router that silently lacks what its file asks
//! for is worse than one that does not start.

use std::net::SocketAddr;

use super::reader::Table;
use super::values;

const NOT_HERE: &str = "is not in this release";

fn refuse(table: &Table<'_>, key: &str, what: &str, expected: &str) {
    let message = format!("{what} {NOT_HERE}");
    let expected = format!("{expected}, or a later release");
    table.faults().error(&table.span_of(key), message, expected);
}

/// `bulk_leasequery`.
pub(super) fn server(table: &Table<'_>) -> bool {
    let bulk = table.boolean("bulk_leasequery", false);
    if bulk {
        refuse(table, "bulk_leasequery", "Bulk Leasequery", "false");
    }
    bulk
}

/// `source_guard`, `source_allow`, `anti_loop`.
pub(super) fn access(table: &Table<'_>) {
    let modes = [("off", false), ("monitor", true), ("enforce", true)];
    if table.choice("source_guard", &modes, false) {
        refuse(table, "source_guard", "the source guard", "\"off\"");
    }
    table.texts("source_allow", values::SOURCE, values::source);
    let modes = [("off", false), ("drop", true), ("icmp", true)];
    if table.choice("anti_loop", &modes, false) {
        refuse(table, "anti_loop", "the access-side loop guard", "\"off\"");
    }
}

/// `forwarding`.
pub(super) fn dataplane(table: &Table<'_>) {
    let modes = [("kernel", false), ("xdp", true)];
    if table.choice("forwarding", &modes, false) {
        refuse(table, "forwarding", "forwarding in XDP", "\"kernel\"");
    }
}

/// `[active_leasequery]` with its peers.
pub(super) fn active_leasequery(root: &Table<'_>) {
    let table = root.table("active_leasequery", "[active_leasequery]");
    if table.boolean("enabled", false) {
        refuse(&table, "enabled", "Active Leasequery", "false");
    }
    let insecure = table.boolean("allow_insecure", false);
    let socket = |text: &str| text.parse::<SocketAddr>().ok().filter(SocketAddr::is_ipv6);
    table.texts("listen", "an address and port such as \"[::]:547\"", socket);
    table.integer("receive_timeout", 1..=86_400, 120);
    table.integer("send_timeout", 1..=86_400, 120);
    table.integer("idle_timeout", 1..=86_400, 60);
    table.integer("max_connections", 1..=1024, 10);
    table.integer("history", 0..=31_536_000, 86_400);
    for peer in table.tables("peer", "[[active_leasequery.peer]]") {
        alq_peer(&peer, insecure);
        peer.finish();
    }
    table.finish();
}

fn alq_peer(peer: &Table<'_>, insecure: bool) {
    peer.required("name", values::NAME, values::name);
    peer.required("address", values::OWN_ADDRESS, values::own_address);
    peer.integer("port", 1..=u16::MAX, 547);
    let tls = peer.choice("tls", &[("required", true), ("off", false)], true);
    if !tls && !insecure {
        let message = "`tls = \"off\"` sends leases in clear text".to_owned();
        let expected = "\"required\", or `allow_insecure = true` in [active_leasequery]";
        peer.faults().error(&peer.span_of("tls"), message, expected);
    }
    peer.parsed("tls_name", values::NAME, values::name);
    peer.boolean("shared_interface_id", false);
    for link in peer.tables("links", "links") {
        link.required("peer", values::OWN_ADDRESS, values::own_address);
        link.required("interface", values::INTERFACE, values::interface);
        link.finish();
    }
}

/// `[tls]`: paths are kept for Active Leasequery; naming them alone switches nothing on.
pub(super) fn tls(root: &Table<'_>) {
    let table = root.table("tls", "[tls]");
    for key in ["certificate", "key", "ca"] {
        table.parsed(key, values::PATH, values::path);
    }
    table.finish();
}
