//! The configuration, compiled for lookups: which access interface a datagram came in on, which
//! one an answer names, and who is a server.
//!
//! Must not know of messages. RFC 8415 §19.2 (choice of the link), RFC 8213 §3 (whom to believe).

use alloc::collections::BTreeMap;
use alloc::vec::Vec;
use core::net::Ipv6Addr;

use relay_common::net::{MacAddr, TPID_8021AD, TPID_8021Q, VlanTag, VlanTags};

use crate::config::{Access, RelayConfig};
use crate::types::{AccessId, AccessLink, IfIndex, Prefix, ServerId};
use crate::wire::iana;
use crate::wire::relay_msg::write_option;

use super::remote_id::{Template, append};

/// One access interface with all that is the same for each of its messages.
#[derive(Debug)]
pub(crate) struct Link {
    pub(crate) access: Access,
    /// Interface-Id of untagged clients, encoded.
    pub(crate) interface_id_option: Vec<u8>,
    /// Subscriber-Id, ERO and Relay-Id, encoded.
    pub(crate) fixed_options: Vec<u8>,
    pub(crate) remote_id: Option<Template>,
    /// The configured servers of this interface, each once.
    pub(crate) servers: Vec<ServerId>,
}

impl Link {
    fn new(access: Access, config: &RelayConfig) -> Self {
        let mut servers = Vec::new();
        for id in &access.servers {
            if !servers.contains(id) && config.servers.iter().any(|server| server.id == *id) {
                servers.push(*id);
            }
        }
        let mut interface_id_option = Vec::new();
        write_option(
            &mut interface_id_option,
            iana::OPTION_INTERFACE_ID,
            &access.interface_id,
        );
        let remote_id = access.remote_id.as_ref();
        Self {
            interface_id_option,
            fixed_options: fixed_options(&access, &config.relay_id),
            remote_id: remote_id.map(|remote_id| Template::new(remote_id, &access.name)),
            servers,
            access,
        }
    }

    /// Appends the Interface-Id of clients with these tags: `NAME[.VID[.VID]]`. It depends on
    /// configuration and tags alone, so it is the same after a restart.
    // req: RLY-26
    pub(crate) fn write_interface_id(&self, out: &mut Vec<u8>, vlans: VlanTags) {
        out.extend_from_slice(&self.access.interface_id);
        for tag in vlans.iter() {
            append(out, '.');
            append(out, tag.vid);
        }
    }

    /// The text of Remote-Id for a client, where one is sent.
    pub(crate) fn remote_id_text(&self, mac: Option<MacAddr>, vlans: VlanTags) -> Option<Vec<u8>> {
        let template = self.remote_id.as_ref()?;
        template.applies(mac, vlans).then(|| {
            // req: RLY-67
            let mut out = Vec::new();
            template.write_text(&mut out, mac, vlans);
            out
        })
    }
}

fn fixed_options(access: &Access, relay_id: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    if !access.subscriber_id.is_empty() {
        // req: RLY-53
        write_option(&mut out, iana::OPTION_SUBSCRIBER_ID, &access.subscriber_id);
    }
    if !access.echo_request.is_empty() {
        let codes: Vec<u8> = access
            .echo_request
            .iter()
            .flat_map(|code| code.to_be_bytes())
            .collect();
        // req: RLY-58
        write_option(&mut out, iana::OPTION_ERO, &codes);
    }
    if !relay_id.is_empty() {
        // req: RLY-54
        write_option(&mut out, iana::OPTION_RELAY_ID, relay_id);
    }
    out
}

/// What an answer says of the link it is for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum NamedTags {
    /// By Interface-Id: exactly these VIDs. The TPIDs are the usual ones, a guess.
    Exactly(VlanTags),
    /// By link-address: it does not say.
    Unsaid,
}

impl NamedTags {
    /// Whether frames with `vlans` may be meant.
    pub(crate) fn admit(&self, vlans: VlanTags) -> bool {
        match self {
            Self::Exactly(named) => same_vids(*named, vlans),
            Self::Unsaid => true,
        }
    }

    /// The tags to take where nothing is remembered.
    pub(crate) fn guess(&self) -> VlanTags {
        match self {
            Self::Exactly(named) => *named,
            Self::Unsaid => VlanTags::NONE,
        }
    }
}

/// Whether two stacks of tags are the same link. TPIDs do not count: Interface-Id cannot say them.
pub(crate) fn same_vids(one: VlanTags, other: VlanTags) -> bool {
    vids(one) == vids(other)
}

/// Number of tags and both VIDs, in one number.
pub(crate) fn vids(vlans: VlanTags) -> u32 {
    let vid = |tag: Option<VlanTag>| tag.map_or(0xffff, |tag| u32::from(tag.vid));
    vid(vlans.outer()) << 16 | vid(vlans.inner())
}

/// All access interfaces and servers.
#[derive(Debug)]
pub(crate) struct Links {
    links: Vec<Link>,
    by_ifindex: BTreeMap<IfIndex, usize>,
    by_id: BTreeMap<AccessId, usize>,
    by_interface_id: BTreeMap<Vec<u8>, usize>,
    /// `None`: several interfaces have this address, so it names none of them.
    by_link_address: BTreeMap<Ipv6Addr, Option<usize>>,
    /// Unicast servers, sorted; the interface of a link-local one.
    servers: Vec<(Ipv6Addr, Option<IfIndex>)>,
    has_multicast_server: bool,
    core: Vec<IfIndex>,
    relay_id: Vec<u8>,
    server_addresses: BTreeMap<ServerId, Ipv6Addr>,
    /// On-link networks of access interfaces.
    networks: Vec<(Prefix, AccessId)>,
}

impl Links {
    pub(crate) fn new(config: &RelayConfig) -> Self {
        let mut servers: Vec<_> = config
            .servers
            .iter()
            .filter(|server| !server.address.is_multicast())
            .map(|server| {
                let bound = server.interface.filter(|_| is_link_local(server.address));
                (server.address, bound)
            })
            .collect();
        servers.sort_unstable();
        let mut this = Self {
            links: Vec::with_capacity(config.access.len()),
            by_ifindex: BTreeMap::new(),
            by_id: BTreeMap::new(),
            by_interface_id: BTreeMap::new(),
            by_link_address: BTreeMap::new(),
            has_multicast_server: config.servers.iter().any(|s| s.address.is_multicast()),
            servers,
            core: config.core.clone(),
            relay_id: config.relay_id.clone(),
            server_addresses: config
                .servers
                .iter()
                .map(|it| (it.id, it.address))
                .collect(),
            networks: Vec::new(),
        };
        for access in &config.access {
            this.add(Link::new(access.clone(), config));
        }
        for (ifindex, network) in &config.routes.networks {
            if let Some(link) = this.by_ifindex(*ifindex) {
                let access = link.access.id;
                this.networks.push((*network, access));
            }
        }
        this
    }

    fn add(&mut self, link: Link) {
        let at = self.links.len();
        let access = &link.access;
        if let Some(ifindex) = access.ifindex {
            self.by_ifindex.insert(ifindex, at);
        }
        self.by_id.insert(access.id, at);
        self.by_interface_id
            .entry(access.interface_id.clone())
            .or_insert(at);
        let addresses = core::iter::once(&access.link_address).chain(&access.link_address_aliases);
        for address in addresses.filter(|address| !address.is_unspecified()) {
            self.by_link_address
                .entry(*address)
                .and_modify(|named| {
                    if *named != Some(at) {
                        *named = None;
                    }
                })
                .or_insert(Some(at));
        }
        self.links.push(link);
    }

    /// The access interface with this index.
    pub(crate) fn by_ifindex(&self, ifindex: IfIndex) -> Option<&Link> {
        self.links.get(*self.by_ifindex.get(&ifindex)?)
    }

    /// The access interface with this number.
    pub(crate) fn by_id(&self, id: AccessId) -> Option<&Link> {
        self.links.get(*self.by_id.get(&id)?)
    }

    /// The access interface in whose networks an address lies, the longest first.
    pub(crate) fn on_link(&self, address: Ipv6Addr) -> Option<AccessId> {
        let networks = self.networks.iter();
        let around = networks.filter(|(network, _)| network.contains(address));
        let longest = around.max_by_key(|(network, _)| network.bits());
        longest.map(|(_, access)| *access)
    }

    /// What servers know this relay by; empty where nothing is sent.
    pub(crate) fn relay_id(&self) -> &[u8] {
        &self.relay_id
    }

    /// What servers know our links by.
    pub(crate) fn link_addresses(&self) -> impl Iterator<Item = Ipv6Addr> {
        let all = self.links.iter().map(|link| link.access.link_address);
        all.filter(|address| !address.is_unspecified() && !is_link_local(*address))
    }

    /// Where a configured server is.
    pub(crate) fn server_address(&self, id: ServerId) -> Option<Ipv6Addr> {
        self.server_addresses.get(&id).copied()
    }

    /// The configured server of this address; no group is.
    pub(crate) fn server_at(&self, address: Ipv6Addr) -> Option<ServerId> {
        let mut all = self.server_addresses.iter();
        all.find(|(_, it)| **it == address).map(|(id, _)| *id)
    }

    /// Whether servers know this relay by it.
    pub(crate) fn is_relay_id(&self, duid: &[u8]) -> bool {
        !duid.is_empty() && *duid == *self.relay_id
    }

    /// Appends the data of Remote-Id for a client, where one is sent.
    pub(crate) fn write_remote_id(
        &self,
        out: &mut Vec<u8>,
        link: AccessLink,
        mac: Option<MacAddr>,
    ) {
        let template = self.by_id(link.access).and_then(|it| it.remote_id.as_ref());
        if let Some(template) = template.filter(|it| it.applies(mac, link.vlans)) {
            template.write(out, mac, link.vlans);
        }
    }

    /// The link that an answer is for: by Interface-Id where there is one, else by link-address.
    // req: RLY-45
    pub(crate) fn named(
        &self,
        interface_id: Option<&[u8]>,
        link_address: Ipv6Addr,
    ) -> Option<(&Link, NamedTags)> {
        let (at, tags) = match interface_id {
            Some(interface_id) => {
                let (at, tags) = self.by_interface_id(interface_id)?;
                (at, NamedTags::Exactly(tags))
            }
            None => (
                (*self.by_link_address.get(&link_address)?)?,
                NamedTags::Unsaid,
            ),
        };
        Some((self.links.get(at)?, tags))
    }

    fn by_interface_id(&self, interface_id: &[u8]) -> Option<(usize, VlanTags)> {
        if let Some(at) = self.by_interface_id.get(interface_id) {
            return Some((*at, VlanTags::NONE));
        }
        let (name, last) = split_vid(interface_id)?;
        if let Some(at) = self.by_interface_id.get(name) {
            let tag = VlanTag {
                tpid: TPID_8021Q,
                vid: last,
            };
            return Some((*at, VlanTags::single(tag)));
        }
        let (name, first) = split_vid(name)?;
        let outer = VlanTag {
            tpid: TPID_8021AD,
            vid: first,
        };
        let inner = VlanTag {
            tpid: TPID_8021Q,
            vid: last,
        };
        let at = self.by_interface_id.get(name)?;
        Some((*at, VlanTags::double(outer, inner)))
    }

    /// Whether a RELAY-REPL from here is to be believed: from a configured server, or, where a
    /// server is known by a multicast address only, from the servers' side. Never from an access
    /// interface that is not on the servers' side too: there, every client could claim to be one.
    // req: RLY-61
    pub(crate) fn sender(&self, source: Ipv6Addr, interface: IfIndex) -> Option<Sender> {
        let from_core = self.core.contains(&interface);
        if !from_core && self.by_ifindex.contains_key(&interface) {
            return None;
        }
        let from = self
            .servers
            .partition_point(|(address, _)| *address < source);
        let unicast = self
            .servers
            .iter()
            .skip(from)
            .take_while(|(address, _)| *address == source)
            .any(|(_, bound)| bound.is_none_or(|bound| bound == interface));
        if unicast {
            return Some(Sender::Configured);
        }
        (self.has_multicast_server && from_core).then_some(Sender::Claimed)
    }
}

/// Who a RELAY-REPL is from.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Sender {
    /// A server that the configuration names by its address.
    Configured,
    /// Somebody on the servers' side, where a server is known by a multicast address only: it may
    /// answer what was asked, and nothing else.
    Claimed,
}

/// `NAME.VID` taken apart, where VID is a decimal number of a VLAN as we write it.
fn split_vid(interface_id: &[u8]) -> Option<(&[u8], u16)> {
    let dot = interface_id.iter().rposition(|byte| *byte == b'.')?;
    let (name, digits) = (interface_id.get(..dot)?, interface_id.get(dot + 1..)?);
    let canonical = digits == b"0" || digits.first().is_some_and(|first| *first != b'0');
    if !canonical || digits.len() > 4 || !digits.iter().all(u8::is_ascii_digit) {
        return None;
    }
    let vid = digits
        .iter()
        .fold(0u16, |vid, digit| vid * 10 + u16::from(digit - b'0'));
    (vid <= 4095).then_some((name, vid))
}

/// fe80::/10.
pub(crate) const fn is_link_local(address: Ipv6Addr) -> bool {
    address.is_unicast_link_local()
}
