//! `[active_leasequery]`, its peers, and `[tls]`.
//!
//! Decides what may stand there and what of it belongs together: a peer that is to be talked to over
//! TLS needs certificates that can be used, clear text needs two steps (RFC 7653 §9.1), and nobody
//! is a peer twice. Certificates are looked at only where a session will need them.

use std::net::{Ipv6Addr, SocketAddr, SocketAddrV6};
use std::path::PathBuf;

use rustls::pki_types::ServerName;

use super::reader::{Faults, Placed, Table};
use super::sections::Access;
use super::together::again;
use super::{ActiveLeasequerySection, Config, PeerSection, TlsSection, values};
use crate::leasequery::tls::{File, Tls};

/// RFC 7653 §3.
// req: BLQ-1
const PORT: u16 = 547;
/// Values below the defaults SHOULD NOT be used (RFC 7653 §6.4): key and default in seconds.
const TIMERS: [(&str, u32); 3] = [
    ("receive_timeout", 120),
    ("send_timeout", 120),
    ("idle_timeout", 60),
];

/// `[active_leasequery]` with the places that checks across sections point at.
pub(super) struct Leasequery {
    pub section: ActiveLeasequerySection,
    peers: Vec<Peer>,
}

struct Peer {
    name: Placed<String>,
    address: Placed<Ipv6Addr>,
    tls: std::ops::Range<usize>,
    links: Vec<(Placed<Ipv6Addr>, Placed<String>)>,
}

/// `[active_leasequery]` with its peers.
pub(super) fn active_leasequery(root: &Table<'_>) -> Leasequery {
    let table = root.table("active_leasequery", "[active_leasequery]");
    let enabled = table.boolean("enabled", false);
    let allow_insecure = table.boolean("allow_insecure", false);
    let listen = listen(&table);
    let [receive, send, idle] = TIMERS.map(|(key, default)| timer(&table, key, default));
    let max_connections = table.integer("max_connections", 1..=1024, 10);
    // What a slow reader was not told yet must not be forgotten before it is closed. req: ALQ-65
    let history_secs = table.integer("history", send..=31_536_000, 86_400);
    let (mut peers, mut sections) = (Vec::new(), Vec::new());
    for peer in table.tables("peer", "[[active_leasequery.peer]]") {
        if let Some((places, section)) = self::peer(&peer, allow_insecure) {
            peers.push(places);
            sections.push(section);
        }
        peer.finish();
    }
    if enabled && sections.is_empty() && !table.has("peer") {
        let message = "Active Leasequery is on and has no peer".to_owned();
        let expected = "`[[active_leasequery.peer]]` with name and address of the other relay: nobody else is asked or answered";
        table
            .faults()
            .warning(&table.span_of("enabled"), message, expected);
    }
    table.finish();
    Leasequery {
        section: ActiveLeasequerySection {
            enabled,
            listen,
            receive_timeout_secs: receive,
            send_timeout_secs: send,
            idle_timeout_secs: idle,
            max_connections,
            history_secs,
            peers: sections,
        },
        peers,
    }
}

fn listen(table: &Table<'_>) -> Vec<SocketAddrV6> {
    let socket = |text: &str| match text.parse() {
        Ok(SocketAddr::V6(address)) => Some(address),
        _ => None,
    };
    let given = table.texts("listen", "an address and port such as \"[::]:547\"", socket);
    if table.has("listen") {
        return given.into_iter().map(|placed| placed.value).collect();
    }
    vec![SocketAddrV6::new(Ipv6Addr::UNSPECIFIED, PORT, 0, 0)]
}

fn timer(table: &Table<'_>, key: &'static str, default: u32) -> u32 {
    let secs = table.integer(key, 1..=86_400, default);
    if secs < default {
        let message = format!("`{key}` is below its default");
        let expected = format!("{default} or more (RFC 7653 §6.4), and the same on both relays");
        table
            .faults()
            .warning(&table.span_of(key), message, expected);
    }
    secs
}

fn peer(table: &Table<'_>, allow_insecure: bool) -> Option<(Peer, PeerSection)> {
    let name = table.required("name", values::NAME, values::name);
    let address = table.required("address", values::OWN_ADDRESS, values::own_address);
    let port = table.integer("port", 1..=u16::MAX, PORT);
    // req: ALQ-19, ALQ-49
    let is_secure = table.choice("tls", &[("required", true), ("off", false)], true);
    if !is_secure && !allow_insecure {
        // req: ALQ-48
        let message = "`tls = \"off\"` sends leases in clear text".to_owned();
        let expected = "\"required\", or `allow_insecure = true` in [active_leasequery]";
        table
            .faults()
            .error(&table.span_of("tls"), message, expected);
    }
    let tls_name = table.parsed("tls_name", values::NAME, values::name);
    let tls_name = tls_name.or_else(|| name.clone());
    let has_shared_interface_id = table.boolean("shared_interface_id", false);
    let links = links(table);
    let (name, address, tls_name) = (name?, address?, tls_name?);
    if is_secure && ServerName::try_from(tls_name.value.as_str()).is_err() {
        let message = format!("no certificate can bear the name `{}`", tls_name.value);
        let expected =
            "`tls_name = \"…\"`, a host name or an address as it stands in the peer's certificate";
        table.faults().error(&tls_name.span, message, expected);
    }
    let section = PeerSection {
        name: name.value.clone(),
        address: address.value,
        port,
        is_secure,
        tls_name: tls_name.value,
        has_shared_interface_id,
        links: links
            .iter()
            .map(|(link, interface)| (link.value, interface.value.clone()))
            .collect(),
    };
    let tls = table.span_of("tls");
    let places = Peer {
        name,
        address,
        tls,
        links,
    };
    Some((places, section))
}

fn links(table: &Table<'_>) -> Vec<(Placed<Ipv6Addr>, Placed<String>)> {
    let mut links = Vec::new();
    for link in table.tables("links", "links") {
        let peer = link.required("peer", values::OWN_ADDRESS, values::own_address);
        let interface = link.required("interface", values::INTERFACE, values::interface);
        links.extend(peer.zip(interface));
        link.finish();
    }
    links
}

/// `[tls]` with the places of its files.
pub(super) struct TlsFiles {
    pub section: TlsSection,
    places: [std::ops::Range<usize>; 3],
    has_section: bool,
}

const FILES: [&str; 3] = ["certificate", "key", "ca"];

/// `[tls]`: paths alone switch nothing on.
pub(super) fn tls(root: &Table<'_>) -> TlsFiles {
    let has_section = root.has("tls");
    let table = root.table("tls", "[tls]");
    let [certificate, key, ca] = FILES.map(|name| {
        let path = table.parsed(name, values::PATH, values::path);
        path.map(|placed| placed.value)
    });
    table.finish();
    TlsFiles {
        section: TlsSection {
            certificate,
            key,
            ca,
        },
        places: FILES.map(|name| table.span_of(name)),
        has_section,
    }
}

/// What peers must have to do with each other, with access interfaces and with this relay.
pub(super) fn together(
    faults: &Faults,
    leasequery: &Leasequery,
    access: &[Access],
    source: Option<Ipv6Addr>,
) {
    for (at, peer) in leasequery.peers.iter().enumerate() {
        let earlier = &leasequery.peers[..at];
        if let Some(first) = earlier.iter().find(|it| it.name.value == peer.name.value) {
            let message = format!("peer name `{}` is used twice", peer.name.value);
            let expected = "a value of its own";
            again(faults, message, &peer.name.span, &first.name.span, expected);
        }
        let same = earlier
            .iter()
            .find(|it| it.address.value == peer.address.value);
        if let Some(first) = same {
            let message = format!("two peers have the address {}", peer.address.value);
            let (span, first) = (&peer.address.span, &first.address.span);
            let expected = "each peer once: a connection is known by its address";
            again(faults, message, span, first, expected);
        }
        if source == Some(peer.address.value) {
            let message = format!("peer `{}` has this relay's own address", peer.name.value);
            let expected = "the address of the other relay";
            faults.error(&peer.address.span, message, expected);
        }
        links_of(faults, peer, access);
    }
}

fn links_of(faults: &Faults, peer: &Peer, access: &[Access]) {
    for (at, (link, interface)) in peer.links.iter().enumerate() {
        if !access
            .iter()
            .any(|it| it.interface.value == interface.value)
        {
            let message = format!("`{}` is no [[access]] interface", interface.value);
            let expected = "the access interface of this relay that is on the peer's link";
            faults.error(&interface.span, message, expected);
        }
        let same = peer.links[..at]
            .iter()
            .find(|(it, _)| it.value == link.value);
        if let Some((first, _)) = same {
            let message = format!("the peer's link {} is named twice", link.value);
            let expected = "each link-address of the peer once";
            again(faults, message, &link.span, &first.span, expected);
        }
    }
}

/// Certificates that sessions need are there and can be used.
pub(super) fn certificates(faults: &Faults, config: &Config, peers: &Leasequery, tls: &TlsFiles) {
    if !config.needs_tls() {
        return;
    }
    let secure = peers.peers.iter().zip(&peers.section.peers);
    let secure = secure.filter(|(_, section)| section.is_secure);
    let first = secure.map(|(peer, _)| peer).next();
    let paths = [&tls.section.certificate, &tls.section.key, &tls.section.ca];
    for (name, path) in FILES.iter().zip(paths) {
        if path.is_none() {
            let message = format!("TLS is required and [tls] has no `{name}`");
            let expected = format!(
                "`{name} = \"/…\"` in [tls]; `twinrelay tls init` makes the files and prints these lines"
            );
            let span = match (tls.has_section, first) {
                (false, Some(peer)) => peer.tls.clone(),
                _ => tls.places[0].clone(),
            };
            faults.error(&span, message, expected);
        }
    }
    let Some(files) = tls.section.complete() else {
        return;
    };
    match Tls::load(&files) {
        Ok(tls_loaded) => {
            if let Some(warning) = tls_loaded.exposed_key {
                let expected = "a key that only the daemon can read: `chmod 600`";
                faults.warning(&tls.places[1], warning, expected);
            }
        }
        Err(fault) => {
            let place = match fault.file {
                File::Certificate => 0,
                File::Key => 1,
                File::Ca => 2,
            };
            faults.error(&tls.places[place], fault.message, fault.expected);
        }
    }
}

impl TlsSection {
    /// All three files, where all are named.
    pub fn complete(&self) -> Option<CompleteTls> {
        Some(CompleteTls {
            certificate: self.certificate.clone()?,
            key: self.key.clone()?,
            ca: self.ca.clone()?,
        })
    }
}

/// The files of `[tls]`.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct CompleteTls {
    /// Ours, the end entity's first, PEM.
    pub certificate: PathBuf,
    /// Its private key, PEM.
    pub key: PathBuf,
    /// Those whose signature on a peer's certificate counts, PEM.
    pub ca: PathBuf,
}
