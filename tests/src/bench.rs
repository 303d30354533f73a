//! One relay on a bench: virtual time, a shell that answers route changes, effects as text.
//!
//! Decides how effects are written for assertions:
//! ```text
//! to-server 0 solicit
//! to-client reply fe80::c3 546 dev 2 mac 02:00:00:00:00:c3
//! route put 2001:db8:100::/56 via fe80::c3 dev 2
//! route del 2001:db8:100::/56
//! neighbor put fe80::c3 02:00:00:00:00:c3 dev 2
//! discard hop_count_limit
//! notice unmatched_reply
//! event created IA_PD 1 2001:db8:100::/56
//! ```
//! Must not know what the right effects are.

use std::collections::{BTreeSet, VecDeque};
use std::net::Ipv6Addr;
use std::time::Duration;

use relay_common::net::{MacAddr, VlanTags};
use relay_core::alq::LeasequeryEffect;
use relay_core::config::{Access, LeasequeryConfig, Limits, RelayConfig, RoutePolicy, Server};
use relay_core::effect::{Effect, NeighborChange, RouteChange};
use relay_core::input::{Clear, ClientDatagram, Input, RouteOutcome, RouteRefusal, ServerDatagram};
use relay_core::record::RecordChange;
use relay_core::relay::Relay;
use relay_core::time::Instant;
use relay_core::types::{AccessId, IfIndex, Prefix, ServerId};
use relay_core::view::{BindingState, BindingView, Cursor, Filter, RouteState, SubscriberView};
use relay_core::wire::iana::message_type_name;

use crate::messages::{CLIENT_DUID, RELAY_DUID, answer, ip};

/// One second.
pub const SECOND: Duration = Duration::from_secs(1);
/// One millisecond.
pub const MS: Duration = Duration::from_millis(1);
/// Steps of virtual time in one [`Bench::advance`]; more means that the core's timer spins.
const MAX_TIMEOUTS_PER_ADVANCE: usize = 1_000_000;

/// One client: who and where it is.
#[derive(Clone, Debug)]
pub struct Client {
    /// Its DUID.
    pub duid: Vec<u8>,
    /// IPv6 source of its messages.
    pub address: Ipv6Addr,
    /// Source of its frames.
    pub mac: Option<MacAddr>,
    /// Where it is attached.
    pub interface: IfIndex,
    /// Tags of its frames.
    pub vlans: VlanTags,
    /// UDP source port.
    pub port: u16,
}

impl Client {
    /// Client number `n` on this interface; 0xc3 on 2 is the client of the test vectors.
    pub fn new(n: u16, interface: u32) -> Self {
        let [hi, lo] = n.to_be_bytes();
        let mut duid = CLIENT_DUID.to_vec();
        duid[8] = hi;
        duid[9] = lo;
        Self {
            duid,
            address: Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, n),
            mac: Some(MacAddr([2, 0, 0, 0, hi, lo])),
            interface: IfIndex(interface),
            vlans: VlanTags::NONE,
            port: 546,
        }
    }
}

/// One effect, as text and, where it sends, with its message.
#[derive(Clone, Debug)]
pub struct Seen {
    /// As in the header of this file.
    pub line: String,
    /// What is sent.
    pub message: Option<Vec<u8>>,
}

/// What the bench answers when the core wants a route.
#[derive(Clone, Copy, Debug)]
pub enum RouteAnswer {
    /// This, at once.
    Now(Result<(), RouteRefusal>),
    /// Nothing until [`Bench::answer_routes`].
    Wait,
}

/// The bench.
pub struct Bench {
    /// The relay under test.
    pub relay: Relay,
    /// What it was last configured with.
    pub config: RelayConfig,
    /// Virtual time.
    pub now: Instant,
    /// How route changes are answered.
    pub route_answer: RouteAnswer,
    /// Effects since they were last taken.
    pub seen: Vec<Seen>,
    /// Every route change since this was last cleared.
    pub route_changes: Vec<RouteChange>,
    /// What is to be done with connections, in order, until it is taken.
    pub leasequery: VecDeque<(LeasequeryEffect, Vec<u8>)>,
    /// Numbers of the records that a store would hold, where the relay tells of them.
    pub stored: BTreeSet<u64>,
    waiting: Vec<(Prefix, u64)>,
    last_forward: Option<Vec<u8>>,
    xid: u32,
}

/// The configuration of the bench: two access interfaces (2 and 3), one server, one core interface
/// (9), the default limits.
pub fn config() -> RelayConfig {
    RelayConfig {
        relay_id: RELAY_DUID.to_vec(),
        limits: Limits {
            max_bindings: 10_000,
            max_leases_per_client: 8,
            max_leases_per_interface: 0,
        },
        servers: vec![server(0, "2001:db8:53::1")],
        access: vec![
            access(0, "ge-0", 2, "2001:db8:1::1"),
            access(1, "ge-1", 3, "2001:db8:2::1"),
        ],
        core: vec![IfIndex(9)],
        routes: RoutePolicy {
            enabled: true,
            addresses: true,
            prefixes: true,
            neighbors: false,
            allowed: Vec::new(),
            networks: vec![
                (IfIndex(2), prefix("2001:db8:1::/64")),
                (IfIndex(3), prefix("2001:db8:2::/64")),
                (IfIndex(9), prefix("2001:db8:53::/64")),
            ],
            own_addresses: Vec::new(),
            vlan_devices: Vec::new(),
        },
        reply_deadline: 200 * MS,
        held_replies_max: 1024,
        leasequery: LeasequeryConfig::default(),
    }
}

/// A unicast server on port 547.
pub fn server(id: u16, address: &str) -> Server {
    Server {
        id: ServerId(id),
        address: ip(address),
        port: 547,
        interface: None,
    }
}

/// An access interface with the defaults of the configuration file, relaying to server 0.
pub fn access(id: u16, name: &str, ifindex: u32, link_address: &str) -> Access {
    Access {
        id: AccessId(id),
        name: name.to_owned(),
        ifindex: Some(IfIndex(ifindex)),
        link_address: ip(link_address),
        link_address_aliases: Vec::new(),
        interface_id: name.as_bytes().to_vec(),
        servers: vec![ServerId(0)],
        client_link_layer_address: true,
        remote_id: None,
        subscriber_id: Vec::new(),
        accept_relayed: false,
        accept_rsoo: true,
        accept_reconfigure_request: true,
        echo_request: Vec::new(),
    }
}

/// A prefix out of its text.
pub fn prefix(text: &str) -> Prefix {
    let (address, bits) = text.split_once('/').expect("address/length");
    Prefix::new(ip(address), bits.parse().expect("length")).expect("length up to 128")
}

impl Default for Bench {
    fn default() -> Self {
        Self::new(config())
    }
}

impl Bench {
    /// A relay with this configuration whose routes are all accepted at once.
    pub fn new(config: RelayConfig) -> Self {
        Self {
            relay: Relay::new(config.clone(), [7; 16]),
            config,
            now: Instant::from_nanos(1_000_000_000_000),
            route_answer: RouteAnswer::Now(Ok(())),
            seen: Vec::new(),
            route_changes: Vec::new(),
            leasequery: VecDeque::new(),
            stored: BTreeSet::new(),
            waiting: Vec::new(),
            last_forward: None,
            xid: 0x00ab_0000,
        }
    }

    /// A transaction-id not used before.
    pub fn next_xid(&mut self) -> u32 {
        self.xid += 1;
        self.xid
    }

    /// The last RELAY-FORW that left.
    pub fn last_forward(&self) -> &[u8] {
        self.last_forward
            .as_deref()
            .expect("something was relayed before")
    }

    /// The same bench that answers route changes so.
    pub fn answering(mut self, route_answer: RouteAnswer) -> Self {
        self.route_answer = route_answer;
        self
    }

    /// [`config`] with changes.
    pub fn with(change: impl FnOnce(&mut RelayConfig)) -> Self {
        let mut config = config();
        change(&mut config);
        Self::new(config)
    }

    /// Changes the configuration of the running relay, and lets it do what is due at once then.
    pub fn reconfigure(&mut self, change: impl FnOnce(&mut RelayConfig)) {
        change(&mut self.config);
        self.input(Input::Configure(Box::new(self.config.clone())));
        self.advance(Duration::ZERO);
    }

    /// Puts one input in and takes all effects out.
    pub fn input(&mut self, input: Input<'_>) {
        self.relay.handle_input(self.now, input);
        self.drain();
    }

    /// A message from a client to ff02::1:2.
    pub fn client(&mut self, client: &Client, payload: &[u8]) {
        self.client_to(client, ip("ff02::1:2"), payload);
    }

    /// A message from a client to this destination.
    pub fn client_to(&mut self, client: &Client, destination: Ipv6Addr, payload: &[u8]) {
        self.input(Input::Client(ClientDatagram {
            interface: client.interface,
            vlans: client.vlans,
            mac: client.mac,
            source: client.address,
            source_port: client.port,
            destination,
            payload,
        }));
    }

    /// A datagram from server 0, by way of the core interface.
    pub fn server(&mut self, payload: &[u8]) {
        self.server_from("2001:db8:53::1", payload);
    }

    /// A datagram from this source, by way of the core interface.
    pub fn server_from(&mut self, source: &str, payload: &[u8]) {
        self.input(Input::Server(ServerDatagram {
            interface: IfIndex(9),
            source: ip(source),
            source_port: 547,
            payload,
        }));
    }

    /// Server 0 answers the last RELAY-FORW with this message inside.
    pub fn answer(&mut self, inner: &[u8]) {
        let forward = self
            .last_forward
            .clone()
            .expect("something was relayed before");
        self.server(&answer(&forward, inner));
    }

    /// `request` from the client, `reply` from server 0.
    pub fn exchange(&mut self, client: &Client, request: &[u8], reply: &[u8]) {
        self.client(client, request);
        self.answer(reply);
    }

    /// An operator clears bindings, all that are meant; how many went.
    pub fn clear(&mut self, clear: Clear) -> usize {
        let mut cleared = 0;
        loop {
            self.input(Input::Clear(clear.clone()));
            cleared += self.relay.take_cleared();
            if !self.relay.has(&clear) {
                return cleared;
            }
        }
    }

    /// Lets virtual time pass, with every timeout that the core asks for at its time.
    pub fn advance(&mut self, time: Duration) {
        let end = self.now + time;
        for _ in 0..MAX_TIMEOUTS_PER_ADVANCE {
            match self.relay.poll_timeout() {
                Some(due) if due <= end => {
                    self.now = self.now.max(due);
                    self.relay.handle_timeout(self.now);
                    self.drain();
                }
                _ => {
                    self.now = end;
                    return;
                }
            }
        }
        panic!(
            "the core's timer spins: due {:?}",
            self.relay.poll_timeout()
        );
    }

    /// Answers all route changes that [`RouteAnswer::Wait`] left open.
    pub fn answer_routes(&mut self, result: Result<(), RouteRefusal>) {
        for (prefix, version) in std::mem::take(&mut self.waiting) {
            self.input(Input::Route(RouteOutcome {
                prefix,
                version,
                result,
            }));
        }
    }

    /// The effects since the last look must be these lines, in this order; binding events and
    /// neighbour entries are left to [`Bench::expect_events`]. Looks once: the list is then empty.
    #[track_caller]
    pub fn expect_effects(&mut self, lines: &str) {
        let seen = self.take();
        let shown: Vec<&str> = seen
            .iter()
            .map(|seen| seen.line.as_str())
            .filter(|line| !line.starts_with("event ") && !line.starts_with("neighbor "))
            .collect();
        assert_eq!(shown, trimmed(lines), "all effects: {seen:#?}");
    }

    /// The binding events since the last look must be these, in any order.
    #[track_caller]
    pub fn expect_events(&mut self, lines: &str) {
        let seen = self.take();
        let mut shown: Vec<&str> = seen
            .iter()
            .filter_map(|seen| seen.line.strip_prefix("event "))
            .collect();
        let mut wanted = trimmed(lines);
        shown.sort_unstable();
        wanted.sort_unstable();
        assert_eq!(shown, wanted);
    }

    /// Takes the effects seen so far.
    pub fn take(&mut self) -> Vec<Seen> {
        std::mem::take(&mut self.seen)
    }

    /// Takes the only message sent to a server.
    #[track_caller]
    pub fn forwarded(&mut self) -> Vec<u8> {
        self.sent("to-server ")
    }

    /// Takes the only message sent to a client.
    #[track_caller]
    pub fn delivered(&mut self) -> Vec<u8> {
        self.sent("to-client ")
    }

    /// Takes the effects seen and asserts that exactly one starts like this; its message.
    #[track_caller]
    pub fn only(&mut self, start: &str) -> Vec<u8> {
        self.sent(start)
    }

    /// The lines since the last look that start like this; looks once.
    pub fn lines(&mut self, start: &str) -> Vec<String> {
        let seen = self.take();
        seen.into_iter()
            .map(|seen| seen.line)
            .filter(|line| line.starts_with(start))
            .collect()
    }

    #[track_caller]
    fn sent(&mut self, kind: &str) -> Vec<u8> {
        let seen = self.take();
        let mut sent = seen.iter().filter(|seen| seen.line.starts_with(kind));
        let Some(Seen {
            message: Some(message),
            ..
        }) = sent.next()
        else {
            panic!("nothing sent {kind}: {seen:#?}");
        };
        assert!(sent.next().is_none(), "sent twice {kind}: {seen:#?}");
        message.clone()
    }

    /// All clients with leases.
    pub fn subscribers(&self) -> Vec<SubscriberView> {
        let mut all = Vec::new();
        let mut from = Cursor::default();
        loop {
            let page = self.relay.page(&Filter::default(), from, 64);
            all.extend(page.subscribers);
            match page.next {
                Some(next) if next != from => from = next,
                Some(_) => panic!("the walk does not move on"),
                None => return all,
            }
        }
    }

    /// The one lease of this prefix.
    pub fn lease(&self, text: &str) -> Option<BindingView> {
        let wanted = prefix(text);
        self.relay
            .find_lease(wanted)?
            .bindings
            .into_iter()
            .find(|binding| binding.prefix == wanted && binding.state == BindingState::Active)
    }

    /// Every active lease as `IA_PD 1 2001:db8:100::/56`, sorted.
    #[track_caller]
    pub fn expect_leases(&self, lines: &str) {
        let mut shown: Vec<String> = self
            .subscribers()
            .iter()
            .flat_map(|subscriber| subscriber.bindings.iter())
            .filter(|binding| binding.state == BindingState::Active)
            .map(binding_line)
            .collect();
        shown.sort_unstable();
        let mut wanted = trimmed(lines);
        wanted.sort_unstable();
        assert_eq!(shown, wanted);
    }

    fn drain(&mut self) {
        let mut answers = Vec::new();
        while let Some(effect) = self.relay.poll_effect() {
            let (line, message) = self.show(&effect);
            if line.starts_with("to-server ") {
                self.last_forward.clone_from(&message);
            }
            self.seen.push(Seen { line, message });
            if let Effect::Leasequery(effect) = effect {
                let bytes = match effect {
                    LeasequeryEffect::Send { bytes, .. } => self.relay.message(bytes).to_vec(),
                    _ => Vec::new(),
                };
                self.leasequery.push_back((effect, bytes));
            }
            match effect {
                Effect::Record {
                    change: RecordChange::Put(key),
                    ..
                } => drop(self.stored.insert(key.id)),
                Effect::Record {
                    change: RecordChange::Remove { id },
                    ..
                } => drop(self.stored.remove(&id)),
                _ => {}
            }
            if let Effect::Route(change) = effect {
                self.route_changes.push(change);
            }
            if let Effect::Route(RouteChange::Put(route)) = effect {
                answers.push((route.prefix, route.version));
            }
        }
        match self.route_answer {
            RouteAnswer::Wait => self.waiting.extend(answers),
            RouteAnswer::Now(result) => {
                for (prefix, version) in answers {
                    self.input(Input::Route(RouteOutcome {
                        prefix,
                        version,
                        result,
                    }));
                }
            }
        }
    }

    fn show(&self, effect: &Effect) -> (String, Option<Vec<u8>>) {
        match effect {
            Effect::Leasequery(effect) => (format!("leasequery {effect:?}"), None),
            Effect::SendToServer {
                server,
                message_type,
                message,
            } => (
                format!(
                    "to-server {} {}",
                    server.0,
                    message_type_name(*message_type)
                ),
                Some(self.relay.message(*message).to_vec()),
            ),
            Effect::SendToClient {
                path,
                message_type,
                message,
            } => {
                let mac = path.mac.map_or("unknown".to_owned(), |mac| mac.to_string());
                let tags: String = path
                    .vlans
                    .iter()
                    .map(|tag| format!(" vlan {:x}:{}", tag.tpid, tag.vid))
                    .collect();
                let name = message_type_name(*message_type);
                let line = format!(
                    "to-client {name} {} {} dev {} mac {mac}{tags}",
                    path.destination, path.port, path.interface.0
                );
                (line, Some(self.relay.message(*message).to_vec()))
            }
            Effect::Route(RouteChange::Put(route)) => (
                format!(
                    "route put {} via {} dev {}",
                    route.prefix, route.gateway, route.interface.0
                ),
                None,
            ),
            Effect::Route(RouteChange::Remove { prefix, .. }) => {
                (format!("route del {prefix}"), None)
            }
            Effect::Neighbor(NeighborChange::Put {
                interface,
                address,
                mac,
            }) => (
                format!("neighbor put {address} {mac} dev {}", interface.0),
                None,
            ),
            Effect::Neighbor(NeighborChange::Remove { interface, address }) => {
                (format!("neighbor del {address} dev {}", interface.0), None)
            }
            // Asked for by no test with one relay.
            Effect::Forwarding(change) => (format!("{change:?}"), None),
            Effect::Binding(event) => {
                let what = event
                    .subscriber
                    .as_ref()
                    .map_or("-".to_owned(), |subscriber| {
                        let lines: Vec<_> = subscriber.bindings.iter().map(binding_line).collect();
                        lines.join(", ")
                    });
                (format!("event {} {what}", event.action.name()), None)
            }
            Effect::Discarded { reason, .. } => (format!("discard {}", reason.name()), None),
            Effect::Noticed { notice, .. } => (format!("notice {}", notice.name()), None),
            Effect::Record { sequence, .. } => (format!("record {sequence}"), None),
        }
    }
}

fn binding_line(binding: &BindingView) -> String {
    let (name, iaid, prefix) = (binding.ia_type.name(), binding.iaid.0, binding.prefix);
    let over = if is_over_a_limit(binding) {
        " over a limit"
    } else {
        ""
    };
    format!("{name} {iaid} {prefix}{over}")
}

/// Whether a lease is shown only, because there were too many (SNP-40).
pub fn is_over_a_limit(binding: &BindingView) -> bool {
    matches!(
        binding.route,
        RouteState::Failed(
            RouteRefusal::ClientLimit | RouteRefusal::InterfaceLimit | RouteRefusal::TableFull
        )
    )
}

fn trimmed(lines: &str) -> Vec<&str> {
    lines
        .lines()
        .map(str::trim)
        .filter(|line| !line.is_empty())
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bench_time_advances_exactly() {
        let mut bench = Bench::default();
        let before = bench.now;

        bench.advance(3 * SECOND);

        assert_eq!(bench.now.saturating_since(before), 3 * SECOND);
        bench.expect_effects("");
    }
}
