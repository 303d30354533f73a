//! What the kernel's tables of bindings are told, seen from outside, and against what is told of everything.

use alloc::collections::BTreeMap;
use alloc::string::String;
use alloc::vec::Vec;
use core::time::Duration;

use proptest::prelude::*;
use relay_common::net::{MacAddr, TPID_8021Q, VlanTag, VlanTags};

use crate::config::{RelayConfig, VlanDevice};
use crate::effect::{Effect, ForwardingChange, ForwardingEntry};
use crate::input::{Clear, Input, RouteOutcome, RouteRefusal};
use crate::record::{Record, RecordState, Restored};
use crate::relay::Relay;
use crate::testing::*;
use crate::time::Instant;
use crate::types::{AccessId, AccessLink, IaType, Iaid, IfIndex, PeerId, Prefix};
use crate::view::Origin;
use crate::wire::iana;

const A: Cpe = Cpe {
    n: 0xa,
    interface: ACCESS,
};
const B: Cpe = Cpe {
    n: 0xb,
    interface: ACCESS,
};
const P: &str = "2001:db8:100::/56";
const REQUEST: u8 = iana::REQUEST;

fn relay_of(change: impl FnOnce(&mut RelayConfig)) -> Relay {
    let mut relay = relay_with(|config| {
        config.routes.neighbors = false;
        change(config);
    });
    relay.set_forwarding(true);
    relay
}

fn relay() -> Relay {
    relay_of(|_| {})
}

/// What is told of the kernel's tables, and what a client or server is sent, by name only.
fn told(lines: Vec<String>) -> Vec<String> {
    let kept = lines.into_iter().filter_map(|line| {
        let is_sent = line.starts_with("client") || line.starts_with("server");
        let word = line.split(' ').next()?;
        match line.contains("forwarding ") {
            true => Some(line),
            false => is_sent.then(|| word.into()),
        }
    });
    kept.collect()
}

fn exchange(relay: &mut Relay, cpe: Cpe, message_type: u8, options: &[u8]) -> Vec<String> {
    let lines = told(cpe.exchange(relay, T0, message_type, options));
    lines.into_iter().filter(|line| line != "server").collect()
}

fn lease(relay: &mut Relay, cpe: Cpe) -> Vec<String> {
    exchange(relay, cpe, REQUEST, &ia_pd(1, &[(P, 100)]))
}

fn outcome(relay: &mut Relay, version: u64, result: Result<(), RouteRefusal>) -> Vec<String> {
    let outcome = RouteOutcome {
        prefix: prefix(P),
        version,
        result,
    };
    relay.handle_input(T0, Input::Route(outcome));
    told(run(relay))
}

fn settle(relay: &mut Relay, now: Instant) {
    while relay.is_resending() {
        relay.handle_timeout(now);
    }
}

fn configured(relay: &mut Relay, change: impl FnOnce(&mut RelayConfig)) -> Vec<String> {
    configure(relay, T0, |config| {
        config.routes.neighbors = false;
        change(config);
    });
    settle(relay, T0);
    told(run(relay))
}

#[test]
fn pdr_r_3_entry_has_exactly_what_was_leased_and_precedes_the_reply() {
    let mut relay = relay_of(|config| config.routes.enabled = false);

    let both = [ia_na(1, "2001:db8:1::a", 50), ia_pd(1, &[(P, 100)])].concat();
    let lines = exchange(&mut relay, A, REQUEST, &both);

    assert_eq!(
        lines,
        [
            "forwarding 2001:db8:1::a/128 if3 02:00:00:00:00:0a until 50",
            "forwarding 2001:db8:100::/56 if3 02:00:00:00:00:0a until 100",
            "client"
        ]
    );
}

#[test]
fn nothing_is_told_to_a_shell_that_has_no_fast_path() {
    let mut relay = relay();
    relay.set_forwarding(false);

    assert!(lease(&mut relay, A).is_empty());
    relay.resend_forwarding();
    settle(&mut relay, T0);
    assert!(told(run(&mut relay)).is_empty());
}

#[test]
fn dp_43_entry_ends_with_the_valid_lifetime_and_moves_with_it() {
    let mut relay = relay();
    assert_eq!(
        lease(&mut relay, A),
        ["forwarding 2001:db8:100::/56 if3 02:00:00:00:00:0a until 100 routed"]
    );
    outcome(&mut relay, 1, Ok(()));

    // The preferred lifetime of this one is over at once, the valid one goes on.
    let mut renewal = ia_pd(1, &[(P, 200)]);
    let preferred = renewal.len() - 25;
    renewal[preferred..preferred + 4].fill(0);
    assert_eq!(
        exchange(&mut relay, A, iana::RENEW, &renewal),
        [
            "forwarding 2001:db8:100::/56 if3 02:00:00:00:00:0a until 200 routed",
            "client"
        ]
    );
    relay.handle_timeout(T0 + Duration::from_secs(199));
    assert!(told(run(&mut relay)).is_empty());
    relay.handle_timeout(T0 + Duration::from_secs(200));

    assert_eq!(told(run(&mut relay)), ["no forwarding 2001:db8:100::/56"]);
}

/// What a peer told, after a restart: nobody here ever heard the client.
#[test]
fn dp_24_lease_that_a_peer_told_has_an_entry_as_soon_as_everything_is_told() {
    let mut relay = relay();
    let record = Record {
        id: 1,
        link: AccessLink {
            access: AccessId(0),
            vlans: VlanTags::NONE,
        },
        duid: &A.duid(),
        client_address: A.address(),
        mac: Some(A.mac()),
        link_address: ip("2001:db8:1::1"),
        is_first_hop: true,
        ia_type: IaType::Pd,
        iaid: Iaid(1),
        prefix: prefix(P),
        server_duid: &[],
        server_address: server(),
        t1_secs: 0,
        t2_secs: 0,
        cltt: T0,
        preferred_until: T0 + Duration::from_secs(60),
        valid_until: T0 + Duration::from_secs(60),
        state: RecordState::Active,
        origin: Origin::ActiveLeasequery(PeerId(0)),
        snooped_by: ip("2001:db8:ff::2"),
        changed_at: T0,
    };
    let restored = Restored {
        record,
        is_uncertain: false,
    };
    relay.handle_input(T0, Input::Restore(restored));
    assert!(told(run(&mut relay)).is_empty());

    relay.resend_routes();
    settle(&mut relay, T0);

    assert_eq!(
        told(run(&mut relay)),
        ["forwarding 2001:db8:100::/56 if3 02:00:00:00:00:0a until 60 routed"]
    );
}

#[test]
fn snp_38_entry_goes_before_the_servers_hear_of_the_release() {
    let mut relay = relay();
    lease(&mut relay, A);
    outcome(&mut relay, 1, Ok(()));

    let release = A.message(iana::RELEASE, 2, &ia_pd(1, &[(P, 0)]));
    relay.handle_input(T0, Input::Client(A.datagram(&release)));

    assert_eq!(
        told(run(&mut relay)),
        ["no forwarding 2001:db8:100::/56", "server"]
    );
}

#[test]
fn snp_35_entry_is_the_newest_holders_and_falls_back_to_the_one_before() {
    let mut relay = relay();
    lease(&mut relay, A);
    let of_b = "forwarding 2001:db8:100::/56 if3 02:00:00:00:00:0b until 100 routed";
    let of_a = "forwarding 2001:db8:100::/56 if3 02:00:00:00:00:0a until 100 routed";

    assert_eq!(lease(&mut relay, B), [of_b]);
    let release = B.message(iana::RELEASE, 2, &ia_pd(1, &[(P, 0)]));
    relay.handle_input(T0, Input::Client(B.datagram(&release)));

    assert_eq!(told(run(&mut relay)), [of_a, "server"]);
}

/// Behind another relay the frames are that relay's; without a MAC address nobody knows whose they are.
#[test]
fn pdr_r_3_client_that_is_not_known_by_its_frames_takes_the_entry_of_the_one_before() {
    let mut relay = relay();
    lease(&mut relay, A);

    let request = B.message(REQUEST, 1, &[]);
    let mut datagram = B.datagram(&request);
    datagram.mac = None;
    relay.handle_input(T0, Input::Client(datagram));
    let reply = B.reply(1, &ia_pd(1, &[(P, 100)]));
    relay.handle_input(T0, Input::Server(from_server(&reply)));

    assert_eq!(
        told(run(&mut relay)),
        ["server", "no forwarding 2001:db8:100::/56"]
    );
}

#[test]
fn snp_4_entry_follows_its_client_to_another_device() {
    let mut relay = relay();
    lease(&mut relay, A);
    run(&mut relay);

    let request = A.message(iana::RENEW, 2, &[]);
    let mut datagram = A.datagram(&request);
    datagram.mac = Some(MacAddr([2, 0, 0, 0, 0, 0xff]));
    relay.handle_input(T0, Input::Client(datagram));
    let reply = A.reply(2, &ia_pd(1, &[(P, 100)]));
    relay.handle_input(T0, Input::Server(from_server(&reply)));

    let lines = told(run(&mut relay));
    let last = lines.iter().rfind(|line| line.starts_with("forwarding"));
    assert_eq!(
        last.map(String::as_str),
        Some("forwarding 2001:db8:100::/56 if3 02:00:00:00:00:ff until 100 routed")
    );
}

#[test]
fn dp_28_what_the_kernel_refuses_to_route_is_not_forwarded_past_it() {
    let mut relay = relay();
    lease(&mut relay, A);
    let refusal = RouteRefusal::ForeignRoute;

    assert_eq!(
        outcome(&mut relay, 1, Err(refusal)),
        [
            "forwarding 2001:db8:100::/56 if3 02:00:00:00:00:0a until 100",
            "client"
        ]
    );
    assert_eq!(
        outcome(&mut relay, 1, Ok(())),
        ["forwarding 2001:db8:100::/56 if3 02:00:00:00:00:0a until 100 routed"]
    );
    assert!(outcome(&mut relay, 1, Ok(())).is_empty());
}

#[test]
fn snp_34_what_the_router_itself_has_inside_a_prefix_keeps_it_with_the_kernel() {
    let is_routed = |change: fn(&mut RelayConfig), leased: &str| {
        let mut relay = relay_of(change);
        let lines = exchange(&mut relay, A, REQUEST, &ia_pd(1, &[(leased, 100)]));
        let line = lines.iter().find(|line| line.starts_with("forwarding"));
        line.is_some_and(|line| line.ends_with(" routed"))
    };
    let network = |config: &mut RelayConfig| {
        let network = prefix("2001:db8:100:5::/64");
        config.routes.networks.push((ACCESS, network));
    };
    let address = |config: &mut RelayConfig| {
        config.routes.own_addresses.push(ip("2001:db8:100::1"));
    };

    assert!(is_routed(|_| {}, P));
    assert!(!is_routed(network, P));
    assert!(is_routed(network, "2001:db8:100:6::/64"));
    assert!(is_routed(network, "2001:db8:100:5::7/128"));
    // The subnet-router anycast address is the router's.
    assert!(!is_routed(network, "2001:db8:100:5::/128"));
    assert!(!is_routed(address, P));
    assert!(!is_routed(address, "2001:db8:100::1/128"));
    assert!(is_routed(address, "2001:db8:100::2/128"));
    assert!(!is_routed(|config| config.routes.prefixes = false, P));
    assert!(!is_routed(
        |config| config.routes.allowed.push(prefix("2001:db8:200::/40")),
        P
    ));
}

#[test]
fn tagged_client_without_a_vlan_interface_is_forwarded_to_with_its_tags() {
    let tag = VlanTag {
        tpid: TPID_8021Q,
        vid: 7,
    };
    let mut relay = relay();
    let request = A.message(REQUEST, 1, &[]);
    let mut datagram = A.datagram(&request);
    datagram.vlans = VlanTags::single(tag);
    relay.handle_input(T0, Input::Client(datagram));
    let id = option(iana::OPTION_INTERFACE_ID, b"ge-0.7");
    let inner = [
        A.message(
            iana::REPLY,
            1,
            &option(iana::OPTION_SERVERID, &[0, 3, 0, 1, 53]),
        ),
        ia_pd(1, &[(P, 100)]),
    ];
    let reply = relay_repl(ip("2001:db8:1::1"), A.address(), &id, &inner.concat());
    relay.handle_input(T0, Input::Server(from_server(&reply)));
    let with_tags = alloc::format!(
        "forwarding 2001:db8:100::/56 if3 {:?} 02:00:00:00:00:0a until 100 routed",
        VlanTags::single(tag)
    );
    assert_eq!(
        told(run(&mut relay)),
        ["server", with_tags.as_str(), "client"]
    );

    // The VLAN interface changes the route; the frames come in where they did.
    let lines = configured(&mut relay, |config| {
        config.routes.vlan_devices.push(VlanDevice {
            parent: ACCESS,
            tag,
            ifindex: IfIndex(20),
        });
    });
    assert!(lines.is_empty(), "{lines:?}");
}

#[test]
fn entry_follows_its_interface_when_that_is_made_anew() {
    let mut relay = relay();
    lease(&mut relay, A);
    outcome(&mut relay, 1, Ok(()));

    let gone = configured(&mut relay, |config| config.access[0].ifindex = None);
    assert_eq!(gone, ["no forwarding 2001:db8:100::/56"]);
    let anew = configured(&mut relay, |config| {
        config.access[0].ifindex = Some(IfIndex(77));
    });
    assert_eq!(
        anew,
        ["forwarding 2001:db8:100::/56 if77 02:00:00:00:00:0a until 100 routed"]
    );
}

#[derive(Clone, Debug)]
enum Op {
    Reply { n: u8, mac: u8, at: u8, secs: u32 },
    Release { n: u8, at: u8 },
    Pass(u64),
    Clear(u8),
    Outcome(u8, bool),
    Surround(u8),
}

fn op() -> impl Strategy<Value = Op> {
    let secs = prop_oneof![Just(0u32), Just(5), Just(30), Just(u32::MAX)];
    prop_oneof![
        4 => (0u8..4, 0u8..3, 0u8..4, secs)
            .prop_map(|(n, mac, at, secs)| Op::Reply { n, mac, at, secs }),
        1 => (0u8..4, 0u8..4).prop_map(|(n, at)| Op::Release { n, at }),
        1 => (1u64..20).prop_map(Op::Pass),
        1 => (0u8..4).prop_map(Op::Clear),
        2 => (0u8..4, any::<bool>()).prop_map(|(at, is_good)| Op::Outcome(at, is_good)),
        1 => (0u8..6).prop_map(Op::Surround),
    ]
}

fn text_of(at: u8) -> String {
    alloc::format!("2001:db8:{at}00::/56")
}

/// One of several states of this router.
fn surround(config: &mut RelayConfig, n: u8) {
    config.routes.neighbors = false;
    match n {
        0 => {}
        1 => config.access[0].ifindex = None,
        2 => config.access[0].ifindex = Some(IfIndex(77)),
        3 => config.routes.enabled = false,
        4 => config
            .routes
            .networks
            .push((ACCESS, prefix("2001:db8:100:5::/64"))),
        _ => config.routes.allowed.push(prefix("2001:db8:200::/40")),
    }
}

type Entries = BTreeMap<Prefix, ForwardingEntry>;

/// Takes out what is told; the versions of routes, too.
fn fold(relay: &mut Relay, entries: &mut Entries, versions: &mut BTreeMap<Prefix, u64>) -> bool {
    let mut is_sound = true;
    while let Some(effect) = relay.poll_effect() {
        match effect {
            Effect::Forwarding(ForwardingChange::Put(entry)) => {
                entries.insert(entry.prefix, entry);
            }
            Effect::Forwarding(ForwardingChange::Remove { prefix }) => {
                is_sound &= entries.remove(&prefix).is_some();
            }
            Effect::Route(crate::effect::RouteChange::Put(route)) => {
                versions.insert(route.prefix, route.version);
            }
            _ => {}
        }
    }
    is_sound
}

proptest! {
    /// Whatever happens: who does what it is told has what it would have if everything were told anew, and is
    /// never told to remove what it was not told of.
    #[test]
    fn changes_add_up_to_everything(ops in proptest::collection::vec(op(), 1..60)) {
        let mut relay = relay();
        let (mut told, mut versions) = (Entries::new(), BTreeMap::new());
        let mut ifindex = Some(ACCESS);
        let mut now = T0;
        for op in ops {
            match op {
                Op::Reply { n, mac, at, secs } => {
                    let Some(interface) = ifindex else { continue };
                    let cpe = Cpe { n, interface };
                    let request = cpe.message(iana::RENEW, 1, &[]);
                    let mut datagram = cpe.datagram(&request);
                    datagram.mac = (mac > 0).then_some(MacAddr([2, 0, 0, 0, mac, n]));
                    relay.handle_input(now, Input::Client(datagram));
                    let reply = Cpe { interface: ACCESS, ..cpe };
                    let reply = reply.reply(1, &ia_pd(1, &[(&text_of(at), secs)]));
                    relay.handle_input(now, Input::Server(from_server(&reply)));
                }
                Op::Release { n, at } => {
                    let Some(interface) = ifindex else { continue };
                    let cpe = Cpe { n, interface };
                    let release = cpe.message(iana::RELEASE, 2, &ia_pd(1, &[(&text_of(at), 0)]));
                    relay.handle_input(now, Input::Client(cpe.datagram(&release)));
                }
                Op::Pass(secs) => {
                    now = now + Duration::from_secs(secs);
                    relay.handle_timeout(now);
                }
                Op::Clear(at) => {
                    relay.handle_input(now, Input::Clear(Clear::Lease(prefix(&text_of(at)))));
                }
                Op::Outcome(at, is_good) => {
                    let prefix = prefix(&text_of(at));
                    let Some(version) = versions.get(&prefix).copied() else { continue };
                    let result = if is_good { Ok(()) } else { Err(RouteRefusal::Kernel(17)) };
                    relay.handle_input(now, Input::Route(RouteOutcome { prefix, version, result }));
                }
                Op::Surround(n) => {
                    configure(&mut relay, now, |config| surround(config, n));
                    ifindex = match n { 1 => None, 2 => Some(IfIndex(77)), _ => Some(ACCESS) };
                }
            }
            settle(&mut relay, now);
            prop_assert!(fold(&mut relay, &mut told, &mut versions), "removed twice");
            relay.check();

            let mut anew = Entries::new();
            relay.resend_forwarding();
            settle(&mut relay, now);
            fold(&mut relay, &mut anew, &mut versions);
            prop_assert_eq!(&told, &anew);
        }
    }
}
