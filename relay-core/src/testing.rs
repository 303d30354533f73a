//! What the unit tests share: one configuration, the vectors of the specification, and builders of
//! messages. The shell's part is played by [`run`].

use alloc::boxed::Box;
use alloc::format;
use alloc::string::String;
use alloc::vec;
use alloc::vec::Vec;
use core::net::Ipv6Addr;
use core::time::Duration;

use relay_common::net::{MacAddr, VlanTags};

use crate::config::{Access, LeasequeryConfig, Limits, RelayConfig, RoutePolicy, Server};
use crate::effect::{Effect, ForwardingChange, ForwardingEntry, RouteChange};
use crate::input::{ClientDatagram, Input, ServerDatagram};
use crate::record::RecordChange;
use crate::relay::Relay;
use crate::time::Instant;
use crate::types::{AccessId, IfIndex, Prefix, ServerId};
use crate::wire::iana;
use crate::wire::relay_msg::write_option;

pub(crate) const T0: Instant = Instant::from_nanos(1_000_000_000_000);
pub(crate) const SECOND: Duration = Duration::from_secs(1);
pub(crate) const ACCESS: IfIndex = IfIndex(3);
pub(crate) const OTHER_ACCESS: IfIndex = IfIndex(4);
pub(crate) const CORE: IfIndex = IfIndex(9);
pub(crate) const MAC: MacAddr = MacAddr([2, 0, 0, 0, 0, 0xc3]);

pub(crate) const R1: &str =
    "01abcdef0001000a000300010200000000c30008000200000019000c000000010000000000000000";
pub(crate) const R2: &str = "0c00 20010db8000100000000000000000001 fe8000000000000000000000000000c3 0012000467652d30 004f000800010200000000c3 0035000a000300010200000000a1 00090028 01abcdef0001000a000300010200000000c30008000200000019000c000000010000000000000000";
pub(crate) const R3: &str = "0d00 20010db8000100000000000000000001 fe8000000000000000000000000000c3 0012000467652d30 0009004d 07abcdf0 0001000a000300010200000000c3 0002000a00030001020000000053 0019002900000001 00000708 00000b40 001a0019 00000e10 00001c20 38 20010db8010000000000000000000000";
pub(crate) const R4: &str = "0c00 00000000000000000000000000000000 fe8000000000000000000000000000c3 001200027037 00090028 01abcdef0001000a000300010200000000c30008000200000019000c000000010000000000000000";
pub(crate) const R5_HEAD: &str = "0c01 20010db8000100000000000000000001 fe8000000000000000000000000000c3 0012000467652d30 00090054";

pub(crate) fn hex(text: &str) -> Vec<u8> {
    let digits: Vec<u8> = text.bytes().filter(u8::is_ascii_hexdigit).collect();
    digits
        .chunks(2)
        .map(|pair| u8::from_str_radix(core::str::from_utf8(pair).unwrap(), 16).unwrap())
        .collect()
}

/// The names of all vectors of `tests/vectors/leasequery.hex`.
pub(crate) const VECTORS: [&str; 14] = [
    "V1", "V2", "V3", "V4", "V5", "V6", "V7", "V8", "V9", "V10", "V11", "V12", "V13", "V14",
];

/// A vector of `tests/vectors/leasequery.hex`.
pub(crate) fn vector(name: &str) -> Vec<u8> {
    let mut lines = include_str!("../../tests/vectors/leasequery.hex").lines();
    let found = lines.find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
    hex(found.expect("the vector is there"))
}

pub(crate) fn ip(text: &str) -> Ipv6Addr {
    text.parse().unwrap()
}

pub(crate) fn prefix(text: &str) -> Prefix {
    let (address, bits) = text.split_once('/').unwrap();
    Prefix::new(ip(address), bits.parse().unwrap()).unwrap()
}

pub(crate) fn client() -> Ipv6Addr {
    ip("fe80::c3")
}

pub(crate) fn server() -> Ipv6Addr {
    ip("2001:db8:ff::11")
}

fn access(id: u16, ifindex: IfIndex, name: &str, link_address: &str) -> Access {
    Access {
        id: AccessId(id),
        name: name.into(),
        ifindex: Some(ifindex),
        link_address: ip(link_address),
        link_address_aliases: Vec::new(),
        interface_id: name.as_bytes().to_vec(),
        servers: vec![ServerId(0)],
        client_link_layer_address: true,
        remote_id: None,
        subscriber_id: Vec::new(),
        accept_relayed: true,
        accept_rsoo: false,
        accept_reconfigure_request: true,
        echo_request: Vec::new(),
    }
}

/// Two access interfaces, one unicast server, all routes.
pub(crate) fn config() -> RelayConfig {
    RelayConfig {
        relay_id: hex("000300010200000000a1"),
        limits: Limits {
            max_bindings: 1 << 20,
            max_leases_per_client: 8,
            max_leases_per_interface: 0,
        },
        servers: vec![Server {
            id: ServerId(0),
            address: server(),
            port: 547,
            interface: None,
        }],
        access: vec![
            access(0, ACCESS, "ge-0", "2001:db8:1::1"),
            access(1, OTHER_ACCESS, "ge-1", "2001:db8:2::1"),
        ],
        core: vec![CORE],
        routes: RoutePolicy {
            enabled: true,
            addresses: true,
            prefixes: true,
            neighbors: true,
            allowed: Vec::new(),
            networks: Vec::new(),
            own_addresses: Vec::new(),
            vlan_devices: Vec::new(),
        },
        reply_deadline: Duration::from_millis(200),
        held_replies_max: 1024,
        leasequery: LeasequeryConfig::default(),
    }
}

pub(crate) fn relay_with(change: impl FnOnce(&mut RelayConfig)) -> Relay {
    let mut config = config();
    change(&mut config);
    Relay::new(config, [7; 16])
}

pub(crate) fn from_client(payload: &[u8]) -> ClientDatagram<'_> {
    ClientDatagram {
        interface: ACCESS,
        vlans: VlanTags::NONE,
        mac: Some(MAC),
        source: client(),
        source_port: 546,
        destination: iana::ALL_RELAY_AGENTS_AND_SERVERS,
        payload,
    }
}

pub(crate) fn from_server(payload: &[u8]) -> ServerDatagram<'_> {
    ServerDatagram {
        interface: CORE,
        source: server(),
        source_port: 547,
        payload,
    }
}

pub(crate) fn configure(relay: &mut Relay, now: Instant, change: impl FnOnce(&mut RelayConfig)) {
    let mut config = config();
    change(&mut config);
    relay.handle_input(now, Input::Configure(Box::new(config)));
}

/// An option, encoded.
pub(crate) fn option(code: u16, data: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    assert!(write_option(&mut out, code, data));
    out
}

/// A RELAY-REPL of the form that servers send.
pub(crate) fn relay_repl(link: Ipv6Addr, peer: Ipv6Addr, options: &[u8], inner: &[u8]) -> Vec<u8> {
    let mut out = vec![iana::RELAY_REPL, 0];
    out.extend_from_slice(&link.octets());
    out.extend_from_slice(&peer.octets());
    out.extend_from_slice(options);
    out.extend_from_slice(&option(iana::OPTION_RELAY_MSG, inner));
    out
}

/// All effects since the last call, one line each, messages with their bytes in hexadecimal.
pub(crate) fn run(relay: &mut Relay) -> Vec<String> {
    let mut lines = Vec::new();
    while let Some(effect) = relay.poll_effect() {
        lines.push(match effect {
            Effect::Leasequery(effect) => alloc::format!("leasequery {effect:?}"),
            Effect::SendToServer {
                server,
                message_type,
                message,
            } => {
                let name = iana::message_type_name(message_type);
                format!(
                    "server {} {name} {}",
                    server.0,
                    text(relay.message(message))
                )
            }
            Effect::SendToClient { path, message, .. } => format!(
                "client if{} {:?} {:?} [{}]:{} {}",
                path.interface.0,
                path.vlans,
                path.mac,
                path.destination,
                path.port,
                text(relay.message(message))
            ),
            Effect::Route(RouteChange::Put(route)) => {
                let (prefix, via, dev) = (route.prefix, route.gateway, route.interface.0);
                format!("route {prefix} via {via} if{dev}")
            }
            Effect::Route(RouteChange::Remove { prefix, .. }) => format!("no route {prefix}"),
            Effect::Neighbor(change) => format!("{change:?}"),
            Effect::Forwarding(ForwardingChange::Put(entry)) => forwarding_line(&entry),
            Effect::Forwarding(ForwardingChange::Remove { prefix }) => {
                format!("no forwarding {prefix}")
            }
            Effect::Binding(event) => format!("binding {}", event.action.name()),
            Effect::Discarded { reason, .. } => format!("discarded {}", reason.name()),
            Effect::Record { change, sequence } => match change {
                RecordChange::Put(key) => format!("record {sequence}: put {}", key.id),
                RecordChange::Remove { id } => format!("record {sequence}: remove {id}"),
            },
            Effect::Noticed { notice, .. } => format!("noticed {}", notice.name()),
        });
    }
    lines
}

/// `forwarding PREFIX ifN[ tags] MAC until SECONDS[ routed]`; seconds are those since [`T0`].
fn forwarding_line(entry: &ForwardingEntry) -> String {
    let until = entry.valid_until.saturating_since(T0).as_secs();
    let tags = match entry.vlans.iter().count() {
        0 => String::new(),
        _ => format!(" {:?}", entry.vlans),
    };
    format!(
        "forwarding {} if{}{tags} {} until {until}{}",
        entry.prefix,
        entry.interface.0,
        entry.mac,
        if entry.is_routed { " routed" } else { "" },
    )
}

pub(crate) fn text(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// A client of a test: number `n` has `fe80::n`, its own MAC and DUID.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Cpe {
    pub(crate) n: u8,
    pub(crate) interface: IfIndex,
}

impl Cpe {
    pub(crate) fn address(self) -> Ipv6Addr {
        Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, u16::from(self.n))
    }

    pub(crate) fn mac(self) -> MacAddr {
        MacAddr([2, 0, 0, 0, 0, self.n])
    }

    pub(crate) fn duid(self) -> Vec<u8> {
        vec![0, 3, 0, 1, 2, 0, 0, 0, 0, self.n]
    }

    pub(crate) fn message(self, message_type: u8, xid: u8, options: &[u8]) -> Vec<u8> {
        let mut out = vec![message_type, 0, 0, xid];
        out.extend(option(iana::OPTION_CLIENTID, &self.duid()));
        out.extend_from_slice(options);
        out
    }

    pub(crate) fn datagram(self, payload: &[u8]) -> ClientDatagram<'_> {
        ClientDatagram {
            interface: self.interface,
            mac: Some(self.mac()),
            source: self.address(),
            ..from_client(payload)
        }
    }

    /// The RELAY-REPL around a Reply of server 53.
    pub(crate) fn reply(self, xid: u8, options: &[u8]) -> Vec<u8> {
        let server_id = option(iana::OPTION_SERVERID, &hex("00030001020000000053"));
        let reply = self.message(iana::REPLY, xid, &[&server_id, options].concat());
        let name: &[u8] = if self.interface == ACCESS {
            b"ge-0"
        } else {
            b"ge-1"
        };
        let id = option(iana::OPTION_INTERFACE_ID, name);
        relay_repl(ip("2001:db8:1::1"), self.address(), &id, &reply)
    }

    /// A request of this type and its Reply with these options; the effects of both.
    pub(crate) fn exchange(
        self,
        relay: &mut Relay,
        now: Instant,
        message_type: u8,
        options: &[u8],
    ) -> Vec<String> {
        let request = self.message(message_type, 1, &[]);
        relay.handle_input(now, Input::Client(self.datagram(&request)));
        relay.handle_input(now, Input::Server(from_server(&self.reply(1, options))));
        run(relay)
    }
}

/// An IA_PD with leases of (prefix, preferred and valid lifetime).
pub(crate) fn ia_pd(iaid: u8, leases: &[(&str, u32)]) -> Vec<u8> {
    let mut data = vec![0, 0, 0, iaid, 0, 0, 0, 0, 0, 0, 0, 0];
    for (text, secs) in leases {
        let prefix = prefix(text);
        let mut lease = [secs.to_be_bytes(), secs.to_be_bytes()].concat();
        lease.push(prefix.bits());
        lease.extend_from_slice(&prefix.address().octets());
        data.extend(option(iana::OPTION_IAPREFIX, &lease));
    }
    option(iana::OPTION_IA_PD, &data)
}

/// An IA_NA with one address.
pub(crate) fn ia_na(iaid: u8, address: &str, secs: u32) -> Vec<u8> {
    let mut data = vec![0, 0, 0, iaid, 0, 0, 0, 0, 0, 0, 0, 0];
    let mut lease = ip(address).octets().to_vec();
    lease.extend([secs.to_be_bytes(), secs.to_be_bytes()].concat());
    data.extend(option(iana::OPTION_IAADDR, &lease));
    option(iana::OPTION_IA_NA, &data)
}
