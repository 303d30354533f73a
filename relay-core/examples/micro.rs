//! What the core alone costs per message: `cargo run --release -p relay-core --example micro`.
//!
//! 100,000 clients on one interface, each with an address and a prefix, in an order that no cache
//! foresees. Prints the median and the tenth percentile over batches of a few microseconds, of which
//! a busy machine interrupts few; a mean over all of them would measure the other programs.

use std::net::Ipv6Addr;
use std::time::{Duration, Instant as Clock};

use relay_common::net::{MacAddr, VlanTags};
use relay_core::alq::{CloseReason, ConnectionId, LeasequeryEffect, LeasequeryInput};
use relay_core::config::{
    Access, LeasequeryConfig, Limits, Peer, RelayConfig, RoutePolicy, Server,
};
use relay_core::effect::{Effect, RouteChange};
use relay_core::input::{ClientDatagram, Input, RouteOutcome, ServerDatagram};
use relay_core::relay::Relay;
use relay_core::time::Instant;
use relay_core::types::{AccessId, IfIndex, PeerId, ServerId};
use relay_core::wire::iana;

/// Where the first argument names no other number; a few hundred show the cost without cache misses.
const CLIENTS: u32 = 100_000;
const ROUNDS: u64 = 7;
/// Inputs between two looks at the effects, as the daemon does it.
const BATCH: usize = 50;
/// Odd, so that multiplying by it visits every client once in a round.
const STRIDE: u32 = 61_417;
const RELAY_ID: &[u8] = &[0, 3, 0, 1, 2, 0, 0, 0, 0, 0xa1];
const PEER: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 0xff, 0, 0, 0, 0, 2);

fn main() {
    let clients = std::env::args()
        .nth(1)
        .and_then(|arg| arg.parse().ok())
        .unwrap_or(CLIENTS);
    let mut relay = Relay::new(config(), [7; 16]);
    let before = resident_kib();
    let t0 = Instant::from_nanos(1 << 40);
    let (mut forward, mut reply) = (Vec::new(), Vec::new());
    round(
        &mut relay,
        clients,
        t0,
        iana::REQUEST,
        &mut forward,
        &mut reply,
    );
    let grown = resident_kib() - before;
    let bindings = 2 * u64::from(clients);
    let each = grown * 1024 / bindings;
    println!("{bindings} bindings: {grown} KiB resident, {each} bytes per binding");
    print("forward, first", &mut forward);
    print("reply that creates two leases, with outcomes", &mut reply);
    for n in 1..=ROUNDS {
        let now = t0 + Duration::from_secs(60 * n);
        round(
            &mut relay,
            clients,
            now,
            iana::RENEW,
            &mut forward,
            &mut reply,
        );
    }
    print("forward", &mut forward);
    print("reply that refreshes two leases", &mut reply);
    for _ in 0..2 {
        tell_all(&mut relay, t0 + Duration::from_secs(60 * (ROUNDS + 1)));
    }
    let end = t0 + Duration::from_secs(1 << 20);
    let mut expiry = Vec::new();
    while relay.poll_timeout().is_some_and(|due| due <= end) {
        let clock = Clock::now();
        relay.handle_timeout(end);
        drain(&mut relay);
        expiry.push(clock.elapsed().as_nanos() as f64 / 1024.0);
    }
    print("expiry of one of many", &mut expiry);
}

/// One request and one Reply of every client; nanoseconds per message, one number per batch.
fn round(
    relay: &mut Relay,
    clients: u32,
    now: Instant,
    message_type: u8,
    forward: &mut Vec<f64>,
    reply: &mut Vec<f64>,
) {
    let per_message = |clock: Clock| clock.elapsed().as_nanos() as f64 / BATCH as f64;
    let (mut requests, mut replies) = (Vec::new(), Vec::new());
    for batch in 0..clients as usize / BATCH {
        requests.clear();
        replies.clear();
        for i in batch * BATCH..(batch + 1) * BATCH {
            let n = (u64::from(STRIDE) * i as u64 % u64::from(clients)) as u32;
            requests.push((n, message(n, message_type, false)));
            replies.push(relay_repl(n, &message(n, iana::REPLY, true)));
        }
        let clock = Clock::now();
        for (n, payload) in &requests {
            relay.handle_input(now, Input::Client(from_client(*n, payload)));
        }
        drain(relay);
        forward.push(per_message(clock));
        let clock = Clock::now();
        for payload in &replies {
            relay.handle_input(now, Input::Server(from_server(payload)));
        }
        let (_, outcomes) = drain(relay);
        for outcome in outcomes {
            relay.handle_input(now, Input::Route(outcome));
        }
        drain(relay);
        reply.push(per_message(clock));
    }
}

/// A peer that catches up from before the start is told everything, a buffer at a time.
fn tell_all(relay: &mut Relay, now: Instant) {
    relay.handle_input(now, Input::Leasequery(LeasequeryInput::Loaded));
    let connection = ConnectionId(2);
    relay.handle_input(
        now,
        Input::Leasequery(LeasequeryInput::Accepted {
            connection,
            from: PEER,
        }),
    );
    let query = [
        option(iana::OPTION_CLIENTID, &[0, 3, 0, 1, 2, 0, 0, 0, 0, 0xb2]),
        option(iana::OPTION_ORO, &[0, 100, 0, 47, 0, 3, 0, 25]),
        option(iana::OPTION_LQ_QUERY, &by_relay_id()),
    ];
    let query = [&[iana::LEASEQUERY, 0, 0, 1], query.concat().as_slice()].concat();
    let size = u16::try_from(query.len()).expect("short").to_be_bytes();
    let bytes = &[&size[..], &query].concat();
    let (mut per_lease, mut all) = (Vec::new(), Duration::ZERO);
    let start = bindings_sent(relay);
    let mut before = start;
    let mut clock = Clock::now();
    relay.handle_input(
        now,
        Input::Leasequery(LeasequeryInput::Received { connection, bytes }),
    );
    while took_a_buffer(relay) {
        let sent = bindings_sent(relay);
        all += clock.elapsed();
        per_lease.push(clock.elapsed().as_nanos() as f64 / (sent - before).max(1) as f64);
        before = sent;
        clock = Clock::now();
        let writable = LeasequeryInput::Writable { connection };
        relay.handle_input(now, Input::Leasequery(writable));
    }
    println!(
        "all {} leases told in {:.1} ms",
        before - start,
        all.as_secs_f64() * 1e3
    );
    print("lease told, with relay data and IA options", &mut per_lease);
    let reason = CloseReason::Remote;
    let closed = LeasequeryInput::Closed { connection, reason };
    relay.handle_input(now, Input::Leasequery(closed));
}

fn bindings_sent(relay: &Relay) -> u64 {
    let neighbors = relay.neighbors();
    neighbors.iter().map(|it| it.statistics.bindings_sent).sum()
}

/// Takes all effects, and whether a buffer was among them.
fn took_a_buffer(relay: &mut Relay) -> bool {
    let mut is_sent = false;
    while let Some(effect) = relay.poll_effect() {
        if let Effect::Leasequery(LeasequeryEffect::Send { bytes, .. }) = effect {
            std::hint::black_box(relay.message(bytes));
            is_sent = true;
        }
    }
    is_sent
}

fn by_relay_id() -> Vec<u8> {
    let relay_id = option(iana::OPTION_RELAY_ID, RELAY_ID);
    [&[iana::QUERY_BY_RELAY_ID][..], &[0; 16], &relay_id].concat()
}

/// Takes all effects; how many, and the answers to the routes wanted.
fn drain(relay: &mut Relay) -> (usize, Vec<RouteOutcome>) {
    let (mut count, mut outcomes) = (0, Vec::new());
    while let Some(effect) = relay.poll_effect() {
        count += 1;
        match effect {
            Effect::Route(RouteChange::Put(route)) => outcomes.push(RouteOutcome {
                prefix: route.prefix,
                version: route.version,
                result: Ok(()),
            }),
            Effect::SendToServer { message, .. } | Effect::SendToClient { message, .. } => {
                std::hint::black_box(relay.message(message));
            }
            _ => {}
        }
    }
    (count, outcomes)
}

/// Prints and forgets the numbers.
fn print(what: &str, nanos: &mut Vec<f64>) {
    nanos.sort_by(f64::total_cmp);
    let (low, median) = (nanos[nanos.len() / 10], nanos[nanos.len() / 2]);
    println!("{what}: median {median:.0} ns, tenth percentile {low:.0} ns");
    nanos.clear();
}

fn resident_kib() -> u64 {
    let statm = std::fs::read_to_string("/proc/self/statm").expect("Linux has /proc");
    let pages: u64 = statm
        .split(' ')
        .nth(1)
        .and_then(|pages| pages.parse().ok())
        .expect("the second field is the resident set");
    pages * 4
}

fn address(n: u32) -> Ipv6Addr {
    Ipv6Addr::from_bits((0xfe80 << 112) | (u128::from(n) + 1))
}

fn option(code: u16, data: &[u8]) -> Vec<u8> {
    let len = u16::try_from(data.len()).expect("short options");
    [&code.to_be_bytes()[..], &len.to_be_bytes(), data].concat()
}

/// A request, or a Reply with an IA_NA and an IA_PD.
fn message(n: u32, message_type: u8, is_reply: bool) -> Vec<u8> {
    let [_, a, b, c] = n.to_be_bytes();
    let lifetimes = [3600u32.to_be_bytes(), 7200u32.to_be_bytes()].concat();
    let duid = [&[0, 3, 0, 1, 2, 0][..], &n.to_be_bytes()].concat();
    let (global, prefix) = (
        Ipv6Addr::from_bits(0x2001_0db8_0001 << 80 | u128::from(n)),
        Ipv6Addr::from_bits(0x2001_0db9 << 96 | u128::from(n) << 72),
    );
    let lease = [&global.octets()[..], &lifetimes].concat();
    let delegated = [&lifetimes, &[56][..], &prefix.octets()].concat();
    let ia = |lease: Vec<u8>| [&[0, 0, 0, 1, 0, 0, 7, 8, 0, 0, 11, 64][..], &lease].concat();
    let mut out = vec![message_type, a, b, c];
    out.extend(option(iana::OPTION_CLIENTID, &duid));
    if is_reply {
        out.extend(option(
            iana::OPTION_SERVERID,
            &[0, 3, 0, 1, 2, 0, 0, 0, 0, 0x53],
        ));
    }
    out.extend(option(
        iana::OPTION_IA_NA,
        &ia(option(iana::OPTION_IAADDR, &lease)),
    ));
    out.extend(option(
        iana::OPTION_IA_PD,
        &ia(option(iana::OPTION_IAPREFIX, &delegated)),
    ));
    out
}

fn relay_repl(n: u32, inner: &[u8]) -> Vec<u8> {
    let mut out = vec![iana::RELAY_REPL, 0];
    out.extend(Ipv6Addr::from_bits(0x2001_0db8_0001 << 80 | 1).octets());
    out.extend(address(n).octets());
    out.extend(option(iana::OPTION_INTERFACE_ID, b"acc0"));
    out.extend(option(iana::OPTION_RELAY_MSG, inner));
    out
}

fn from_client(n: u32, payload: &[u8]) -> ClientDatagram<'_> {
    let [a, b, c, d] = n.to_be_bytes();
    ClientDatagram {
        interface: IfIndex(2),
        vlans: VlanTags::NONE,
        mac: Some(MacAddr([2, 0, a, b, c, d])),
        source: address(n),
        source_port: 546,
        destination: iana::ALL_RELAY_AGENTS_AND_SERVERS,
        payload,
    }
}

fn from_server(payload: &[u8]) -> ServerDatagram<'_> {
    ServerDatagram {
        interface: IfIndex(9),
        source: Ipv6Addr::from_bits(0x2001_0db8_00ff << 80 | 0x11),
        source_port: 547,
        payload,
    }
}

fn config() -> RelayConfig {
    RelayConfig {
        relay_id: RELAY_ID.to_vec(),
        limits: Limits {
            max_bindings: 1 << 20,
            max_leases_per_client: 8,
            max_leases_per_interface: 0,
        },
        servers: vec![Server {
            id: ServerId(0),
            address: Ipv6Addr::from_bits(0x2001_0db8_00ff << 80 | 0x11),
            port: 547,
            interface: None,
        }],
        access: vec![Access {
            id: AccessId(0),
            name: "acc0".to_owned(),
            ifindex: Some(IfIndex(2)),
            link_address: Ipv6Addr::from_bits(0x2001_0db8_0001 << 80 | 1),
            link_address_aliases: Vec::new(),
            interface_id: b"acc0".to_vec(),
            servers: vec![ServerId(0)],
            client_link_layer_address: true,
            remote_id: None,
            subscriber_id: Vec::new(),
            accept_relayed: false,
            accept_rsoo: true,
            accept_reconfigure_request: true,
            echo_request: Vec::new(),
        }],
        core: vec![IfIndex(9)],
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
        held_replies_max: 4096,
        leasequery: LeasequeryConfig {
            enabled: true,
            identity: RELAY_ID.to_vec(),
            own_address: Some(Ipv6Addr::from_bits(0x2001_0db8_00ff << 80 | 1)),
            max_connections: 10,
            send_timeout: Duration::from_secs(120),
            idle_timeout: Duration::from_secs(60),
            peers: vec![Peer {
                id: PeerId(0),
                address: PEER,
                is_secure: false,
                tls_name: 0,
                has_shared_interface_id: false,
                links: Vec::new(),
            }],
            ..LeasequeryConfig::default()
        },
    }
}
