//! Leases that come and go, seen from outside: effects, views, and against a plain model.

use alloc::collections::BTreeMap;
use alloc::format;
use alloc::string::String;
use alloc::vec;
use alloc::vec::Vec;
use core::net::Ipv6Addr;
use core::time::Duration;

use proptest::prelude::*;

use crate::effect::{Effect, RouteChange};
use crate::input::{Clear, Input, RouteOutcome, RouteRefusal};
use crate::relay::Relay;
use crate::testing::*;
use crate::types::{AccessId, IfIndex, Prefix};
use crate::view::{Cursor, Filter, RouteState};
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
const Q: &str = "2001:db8:200::/56";

fn relay() -> Relay {
    relay_with(|config| config.routes.neighbors = false)
}

/// Without what was sent to servers, and messages without their bytes.
fn short(lines: Vec<String>) -> Vec<String> {
    lines
        .into_iter()
        .filter(|line| !line.starts_with("server"))
        .map(|line| {
            if line.starts_with("client") {
                "client".into()
            } else {
                line
            }
        })
        .collect()
}

fn request(relay: &mut Relay, cpe: Cpe, options: &[u8]) -> Vec<String> {
    short(cpe.exchange(relay, T0, iana::REQUEST, options))
}

fn renew(relay: &mut Relay, cpe: Cpe, options: &[u8]) -> Vec<String> {
    short(cpe.exchange(relay, T0, iana::RENEW, options))
}

fn outcome(
    relay: &mut Relay,
    text: &str,
    version: u64,
    result: Result<(), RouteRefusal>,
) -> Vec<String> {
    let prefix = prefix(text);
    relay.handle_input(
        T0,
        Input::Route(RouteOutcome {
            prefix,
            version,
            result,
        }),
    );
    short(run(relay))
}

/// The only lease of this prefix, made and its route installed as version 1.
fn installed(relay: &mut Relay, cpe: Cpe, text: &str) {
    request(relay, cpe, &ia_pd(1, &[(text, 100)]));
    outcome(relay, text, 1, Ok(()));
}

fn route_of(relay: &Relay, text: &str) -> Option<RouteState> {
    let view = relay.find_lease(prefix(text))?;
    view.bindings
        .iter()
        .find(|b| b.prefix == prefix(text))
        .map(|b| b.route)
}

fn timeouts(relay: &mut Relay, until: crate::time::Instant) -> Vec<String> {
    while relay.poll_timeout().is_some_and(|due| due <= until) {
        let due = relay.poll_timeout().unwrap();
        relay.handle_timeout(due);
    }
    relay.handle_timeout(until);
    short(run(relay))
}

#[test]
fn reply_that_creates_waits_for_its_routes_and_leaves_after_both() {
    let mut relay = relay_with(|_| {});
    let both = [ia_na(1, "2001:db8:1::a", 100), ia_pd(1, &[(P, 100)])].concat();

    let lines = request(&mut relay, A, &both);

    assert_eq!(
        lines,
        [
            "Put { interface: IfIndex(3), address: fe80::a, mac: 02:00:00:00:00:0a }",
            "route 2001:db8:1::a/128 via fe80::a if3",
            "binding created",
            "route 2001:db8:100::/56 via fe80::a if3",
            "binding created",
        ]
    );
    assert_eq!(relay.summary().held_replies, 1);
    assert!(outcome(&mut relay, "2001:db8:1::a/128", 1, Ok(())).is_empty());
    let refusal = RouteRefusal::Kernel(17);
    assert_eq!(outcome(&mut relay, P, 2, Err(refusal)), ["client"]);
    assert_eq!(route_of(&relay, P), Some(RouteState::Failed(refusal)));
    assert_eq!(
        route_of(&relay, "2001:db8:1::a/128"),
        Some(RouteState::Installed)
    );
    assert_eq!(relay.summary().held_replies, 0);
}

#[test]
fn reply_that_waited_too_long_leaves_and_is_counted() {
    let mut relay = relay();
    request(&mut relay, A, &ia_pd(1, &[(P, 100)]));

    let deadline = T0 + Duration::from_millis(200);

    assert_eq!(relay.poll_timeout(), Some(deadline));
    assert_eq!(
        timeouts(&mut relay, deadline),
        ["noticed late_reply", "client"]
    );
    assert!(outcome(&mut relay, P, 1, Ok(())).is_empty());
    assert_eq!(route_of(&relay, P), Some(RouteState::Installed));
}

#[test]
fn reply_beyond_the_number_held_leaves_at_once() {
    let mut relay = relay_with(|config| {
        config.routes.neighbors = false;
        config.held_replies_max = 1;
    });

    assert!(!request(&mut relay, A, &ia_pd(1, &[(P, 100)])).contains(&"client".into()));
    let lines = request(&mut relay, B, &ia_pd(1, &[(Q, 100)]));

    assert_eq!(lines[2..], ["noticed late_reply", "client"]);
}

#[test]
fn reply_that_only_extends_leaves_at_once_without_a_route_change() {
    let mut relay = relay();
    installed(&mut relay, A, P);

    assert_eq!(
        renew(&mut relay, A, &ia_pd(1, &[(P, 500)])),
        ["binding renewed", "client"]
    );
    assert!(timeouts(&mut relay, T0 + 499 * SECOND).is_empty());
    let lines = timeouts(&mut relay, T0 + 500 * SECOND);
    assert_eq!(lines, ["no route 2001:db8:100::/56", "binding expired"]);
    relay.check();
    assert_eq!(relay.poll_timeout(), None);
}

#[test]
fn reply_repeated_waits_with_the_first() {
    let mut relay = relay();
    request(&mut relay, A, &ia_pd(1, &[(P, 100)]));

    assert_eq!(
        request(&mut relay, A, &ia_pd(1, &[(P, 100)])),
        ["binding renewed"]
    );
    assert_eq!(outcome(&mut relay, P, 1, Ok(())), ["client", "client"]);
}

#[test]
fn reply_held_for_a_route_that_goes_again_leaves() {
    let mut relay = relay();
    request(&mut relay, A, &ia_pd(1, &[(P, 100)]));

    let lines = renew(&mut relay, A, &ia_pd(1, &[(P, 0)]));

    assert_eq!(
        lines,
        [
            "no route 2001:db8:100::/56",
            "client",
            "binding released",
            "client"
        ]
    );
}

#[test]
fn snp_6_unmatched_reply_creates_but_never_ends() {
    let mut relay = relay();
    let reply = |options: &[u8]| A.reply(9, options);

    relay.handle_input(
        T0,
        Input::Server(from_server(&reply(&ia_pd(1, &[(P, 100)])))),
    );
    let lines = short(run(&mut relay));
    assert_eq!(
        lines[..2],
        ["noticed unknown_mac", "noticed unmatched_reply"]
    );
    assert_eq!(lines[3], "binding created");

    relay.handle_input(T0, Input::Server(from_server(&reply(&ia_pd(1, &[(P, 0)])))));
    assert!(!short(run(&mut relay)).contains(&"binding released".into()));
    assert!(relay.find_lease(prefix(P)).is_some());
}

#[test]
fn snp_31_reply_with_another_client_id_is_not_learned() {
    let mut relay = relay();
    let request = A.message(iana::REQUEST, 1, &[]);
    relay.handle_input(T0, Input::Client(A.datagram(&request)));
    run(&mut relay);
    let mut reply = A.reply(1, &ia_pd(1, &[(P, 100)]));
    let at = reply.windows(10).position(|w| w == A.duid()).unwrap() + 9;
    reply[at] = B.n;

    relay.handle_input(T0, Input::Server(from_server(&reply)));

    assert_eq!(
        short(run(&mut relay)),
        ["noticed reply_not_learned", "client"]
    );
}

#[test]
fn snp_35_newer_reply_owns_the_route_until_it_ends() {
    let mut relay = relay();
    installed(&mut relay, A, P);

    let lines = request(&mut relay, B, &ia_pd(1, &[(P, 50)]));
    assert_eq!(
        lines,
        [
            "noticed lease_conflict",
            "route 2001:db8:100::/56 via fe80::b if3",
            "binding created"
        ]
    );
    let page = relay.page(&Filter::default(), Cursor::default(), 10);
    let routes: Vec<_> = page
        .subscribers
        .iter()
        .map(|s| s.bindings[0].route)
        .collect();
    assert_eq!(
        routes,
        [
            RouteState::Failed(RouteRefusal::Superseded),
            RouteState::Pending
        ]
    );
    relay.check();

    let lines = timeouts(&mut relay, T0 + 50 * SECOND);
    assert_eq!(
        lines[2..],
        ["route 2001:db8:100::/56 via fe80::a if3", "binding expired"]
    );
    relay.check();
    let lines = timeouts(&mut relay, T0 + 100 * SECOND);
    assert_eq!(lines, ["no route 2001:db8:100::/56", "binding expired"]);
}

#[test]
fn snp_4_next_hop_follows_a_newer_reply_with_all_routes() {
    let mut relay = relay_with(|_| {});
    let both = [ia_na(1, "2001:db8:1::a", 100), ia_pd(1, &[(P, 100)])].concat();
    request(&mut relay, A, &both);
    let request = A.message(iana::REBIND, 1, &[]);
    let mut datagram = A.datagram(&request);
    datagram.source = ip("fe80::aa");
    relay.handle_input(T0, Input::Client(datagram));
    let mut reply = A.reply(1, &ia_pd(1, &[(P, 100)]));
    reply[33] = 0xaa;

    relay.handle_input(T0, Input::Server(from_server(&reply)));

    let lines = short(run(&mut relay));
    assert_eq!(
        lines[0],
        "Remove { interface: IfIndex(3), address: fe80::a }"
    );
    assert_eq!(
        lines[1],
        "Put { interface: IfIndex(3), address: fe80::aa, mac: 02:00:00:00:00:0a }"
    );
    let mut routes = lines[2..4].to_vec();
    routes.sort();
    assert_eq!(
        routes,
        [
            "route 2001:db8:100::/56 via fe80::aa if3",
            "route 2001:db8:1::a/128 via fe80::aa if3"
        ]
    );
    relay.check();
}

#[test]
fn pdr_g_9_release_takes_the_route_before_it_is_forwarded() {
    let mut relay = relay();
    installed(&mut relay, A, P);
    let release = A.message(iana::RELEASE, 2, &ia_pd(1, &[(P, 0)]));

    relay.handle_input(T0, Input::Client(A.datagram(&release)));

    let lines = run(&mut relay);
    assert_eq!(
        lines[..2],
        ["no route 2001:db8:100::/56", "binding released"]
    );
    assert!(lines[2].starts_with("server 0 release"));
    relay.handle_input(T0, Input::Client(A.datagram(&release)));
    assert_eq!(run(&mut relay).len(), 1);
}

#[test]
fn snp_23_release_from_another_port_mac_or_duid_has_no_effect() {
    let mut relay = relay();
    installed(&mut relay, A, P);
    let release = A.message(iana::RELEASE, 2, &ia_pd(1, &[(P, 0)]));
    let of_other = B.message(iana::RELEASE, 2, &ia_pd(1, &[(P, 0)]));
    let mut other_port = A.datagram(&release);
    other_port.interface = OTHER_ACCESS;
    let mut other_mac = A.datagram(&release);
    other_mac.mac = Some(B.mac());

    for datagram in [other_port, other_mac, B.datagram(&of_other)] {
        relay.handle_input(T0, Input::Client(datagram));
        let lines = run(&mut relay);
        assert_eq!(lines[0], "noticed foreign_release");
        assert!(lines[1].starts_with("server 0 release"), "{lines:?}");
        assert_eq!(lines.len(), 2);
    }
    assert_eq!(route_of(&relay, P), Some(RouteState::Installed));
}

#[test]
fn pdr_g_5_and_6_limits_forward_without_installing() {
    let two = ia_pd(1, &[(P, 100), (Q, 100)]);
    let refused = |change: fn(&mut crate::config::Limits)| {
        let mut relay = relay_with(|config| {
            config.routes.neighbors = false;
            change(&mut config.limits);
        });
        let lines = request(&mut relay, A, &two);
        relay.check();
        assert_eq!(outcome(&mut relay, P, 1, Ok(())), ["client"]);
        lines[2..].to_vec()
    };

    assert_eq!(
        refused(|l| l.max_leases_per_client = 1),
        ["noticed client_limit", "binding refused"]
    );
    assert_eq!(
        refused(|l| l.max_leases_per_interface = 1),
        ["noticed interface_limit", "binding refused"]
    );
    assert_eq!(
        refused(|l| l.max_bindings = 1),
        ["noticed table_full", "binding refused"]
    );
}

#[test]
fn snp_28_infinite_lifetime_never_ends() {
    let mut relay = relay();
    request(&mut relay, A, &ia_pd(1, &[(P, u32::MAX)]));
    outcome(&mut relay, P, 1, Ok(()));

    assert_eq!(relay.poll_timeout(), None);
    assert_eq!(
        renew(&mut relay, A, &ia_pd(1, &[(P, 10)])),
        ["binding renewed", "client"]
    );
    assert_eq!(relay.poll_timeout(), Some(T0 + 10 * SECOND));
    renew(&mut relay, A, &ia_pd(1, &[(P, u32::MAX)]));
    assert!(timeouts(&mut relay, T0 + 20 * SECOND).is_empty());
    assert_eq!(relay.poll_timeout(), None);
}

#[test]
fn configure_interface_that_goes_and_returns_keeps_bindings_and_routes_again() {
    let mut relay = relay();
    installed(&mut relay, A, P);

    configure(&mut relay, T0, |config| {
        config.routes.neighbors = false;
        config.access[0].ifindex = None;
    });
    assert_eq!(timeouts(&mut relay, T0), ["no route 2001:db8:100::/56"]);
    assert_eq!(
        route_of(&relay, P),
        Some(RouteState::Failed(RouteRefusal::NoInterface))
    );

    configure(&mut relay, T0, |config| {
        config.routes.neighbors = false;
        config.access[0].ifindex = Some(IfIndex(77));
    });
    assert_eq!(
        timeouts(&mut relay, T0),
        ["route 2001:db8:100::/56 via fe80::a if77"]
    );
    assert_eq!(relay.poll_timeout(), Some(T0 + 100 * SECOND));
}

#[test]
fn configure_without_a_difference_changes_no_route() {
    let mut relay = relay_with(|_| {});
    installed(&mut relay, A, P);

    configure(&mut relay, T0, |_| {});

    assert!(timeouts(&mut relay, T0).is_empty());
    assert_eq!(route_of(&relay, P), Some(RouteState::Installed));
}

#[test]
fn pdr_s_2_resend_tells_all_routes_and_neighbours_again() {
    let mut relay = relay_with(|_| {});
    installed(&mut relay, A, P);

    relay.resend_routes();

    assert_eq!(
        timeouts(&mut relay, T0),
        [
            "Put { interface: IfIndex(3), address: fe80::a, mac: 02:00:00:00:00:0a }",
            "route 2001:db8:100::/56 via fe80::a if3",
        ]
    );
}

#[test]
fn pdr_o_2_clear_takes_lease_client_or_interface() {
    let mut relay = relay_with(|_| {});
    for clear in [
        Clear::Lease(prefix(P)),
        Clear::Client(A.duid()),
        Clear::Interface(AccessId(0)),
    ] {
        request(&mut relay, A, &ia_pd(1, &[(P, 100)]));
        relay.handle_input(T0, Input::Clear(clear));
        let lines = short(run(&mut relay));
        assert!(
            lines.contains(&"no route 2001:db8:100::/56".into()),
            "{lines:?}"
        );
        assert!(lines.contains(&"Remove { interface: IfIndex(3), address: fe80::a }".into()));
        assert_eq!(lines.last().unwrap(), "binding cleared");
        assert_eq!(relay.take_cleared(), 1);
        assert_eq!(relay.take_cleared(), 0);
        relay.check();
    }
    assert_eq!(relay.summary().clients, 0);
}

#[test]
fn rly_69_client_behind_ldra_is_routed_and_behind_cascaded_relay_is_not() {
    let expected = [
        (Ipv6Addr::UNSPECIFIED, Some(RouteState::Pending)),
        (
            ip("2001:db8:9::1"),
            Some(RouteState::Failed(RouteRefusal::NotFirstHop)),
        ),
    ];
    for (link, state) in expected {
        let mut relay = relay();
        let whole = A.reply(1, &ia_pd(1, &[(P, 100)]));
        let inner = &whole[34 + 8 + 4..];
        let layer = relay_repl(link, A.address(), &[], inner);
        let id = option(iana::OPTION_INTERFACE_ID, b"ge-0");
        let message = relay_repl(ip("2001:db8:1::1"), A.address(), &id, &layer);

        relay.handle_input(T0, Input::Server(from_server(&message)));

        assert_eq!(route_of(&relay, P), state);
    }
}

#[test]
fn reply_to_known_client_finds_its_mac_in_the_table() {
    let mut relay = relay();
    installed(&mut relay, A, P);
    let id = option(iana::OPTION_INTERFACE_ID, b"ge-0");
    let reconfigure = relay_repl(ip("2001:db8:1::1"), A.address(), &id, &hex("0a000000"));

    relay.handle_input(T0, Input::Server(from_server(&reconfigure)));

    let line = format!("client if3 [] Some({}) [fe80::a]:546 0a000000", A.mac());
    assert_eq!(run(&mut relay), [line]);
}

#[test]
fn prefix_given_to_everyone_is_kept_for_a_bounded_number() {
    let mut relay = relay();
    let max = u8::try_from(super::table::MAX_SAME_PREFIX).unwrap();
    for n in 1..=max {
        request(&mut relay, Cpe { n, ..A }, &ia_pd(1, &[(P, 100)]));
    }

    let lines = request(&mut relay, Cpe { n: max + 1, ..A }, &ia_pd(1, &[(P, 100)]));

    assert_eq!(lines, ["noticed lease_conflict", "client"]);
    assert_eq!(relay.summary().clients, usize::from(max));
    relay.check();
}

#[test]
fn page_walks_all_clients_in_bounded_steps() {
    let mut relay = relay();
    for n in 1..=50 {
        let text = format!("2001:db8:1{n:02}::/48");
        request(&mut relay, Cpe { n, ..A }, &ia_pd(1, &[(&text, 100)]));
    }
    let filter = Filter {
        mac: Some(Cpe { n: 50, ..A }.mac()),
        ..Filter::default()
    };

    let (mut from, mut pages, mut found) = (Cursor::default(), 0, 0);
    loop {
        let page = relay.page(&filter, from, 5);
        pages += 1;
        found += page.subscribers.len();
        let Some(next) = page.next else { break };
        from = next;
    }

    assert_eq!((pages, found), (3, 1));
}

fn status(code: u8) -> Vec<u8> {
    option(iana::OPTION_STATUS_CODE, &[0, code])
}

#[test]
fn snp_13_bad_status_of_one_ia_leaves_its_leases_and_spares_the_others() {
    let mut relay = relay();
    installed(&mut relay, A, P);
    let mut bad = ia_pd(1, &[(P, 0)]);
    bad.extend(status(3));
    let len = u16::try_from(bad.len() - 4).unwrap();
    bad[2..4].copy_from_slice(&len.to_be_bytes());

    let lines = renew(&mut relay, A, &[bad, ia_pd(2, &[(Q, 100)])].concat());

    assert_eq!(
        lines,
        ["route 2001:db8:200::/56 via fe80::a if3", "binding created"]
    );
    assert_eq!(route_of(&relay, P), Some(RouteState::Installed));
}

#[test]
fn snp_30_bad_status_of_the_message_changes_nothing() {
    let mut relay = relay();
    installed(&mut relay, A, P);

    let options = [status(1), ia_pd(1, &[(P, 0)]), ia_pd(2, &[(Q, 100)])].concat();

    assert_eq!(renew(&mut relay, A, &options), ["client"]);
    assert_eq!(route_of(&relay, P), Some(RouteState::Installed));
}

/// A lease as the model knows it: when its Reply came, and when it ends.
type Model = BTreeMap<(u8, u8, Prefix), (usize, u64)>;

#[derive(Clone, Debug)]
enum Op {
    Reply { n: u8, iaid: u8, at: u8, secs: u32 },
    Release { n: u8, iaid: u8, at: u8 },
    Pass(u64),
    Clear(u8),
}

fn op() -> impl Strategy<Value = Op> {
    let secs = prop_oneof![Just(0u32), 1u32..30, Just(u32::MAX)];
    prop_oneof![
        5 => (1u8..6, 1u8..3, 0u8..10, secs).prop_map(|(n, iaid, at, secs)| Op::Reply { n, iaid, at, secs }),
        2 => (1u8..6, 1u8..3, 0u8..10).prop_map(|(n, iaid, at)| Op::Release { n, iaid, at }),
        2 => (1u64..20).prop_map(Op::Pass),
        1 => (0u8..10).prop_map(Op::Clear),
    ]
}

fn text_of(at: u8) -> String {
    format!("2001:db8:{}00::/56", at + 1)
}

proptest! {
    /// Whatever happens: the table is sound, and the kernel would hold exactly one route for each
    /// prefix with a lease, to the client whose Reply came last.
    #[test]
    fn table_and_routes_agree_with_a_plain_model(ops in proptest::collection::vec(op(), 1..80)) {
        let mut relay = relay();
        let mut model = Model::new();
        let mut kernel: BTreeMap<Prefix, Ipv6Addr> = BTreeMap::new();
        let mut now = 0u64;
        for (step, op) in ops.into_iter().enumerate() {
            let time = T0 + Duration::from_secs(now);
            match op {
                Op::Reply { n, iaid, at, secs } => {
                    let cpe = Cpe { n, ..A };
                    let request = cpe.message(iana::RENEW, 1, &[]);
                    let reply = cpe.reply(1, &ia_pd(iaid, &[(&text_of(at), secs)]));
                    relay.handle_input(time, Input::Client(cpe.datagram(&request)));
                    relay.handle_input(time, Input::Server(from_server(&reply)));
                    let key = (n, iaid, prefix(&text_of(at)));
                    if secs > 0 {
                        // Of another IA now: one client has a prefix once.
                        let other = (n, 3 - iaid, key.2);
                        if let Some(moved) = model.remove(&other) {
                            model.insert(key, moved);
                        }
                    }
                    let of_client = model.keys().filter(|(m, ..)| *m == n).count();
                    match secs {
                        0 => { model.remove(&key); }
                        _ if !model.contains_key(&key) && of_client >= 8 => {}
                        u32::MAX => { model.insert(key, (step, u64::MAX)); }
                        secs => { model.insert(key, (step, now + u64::from(secs))); }
                    }
                }
                Op::Release { n, iaid, at } => {
                    let cpe = Cpe { n, ..A };
                    let release = cpe.message(iana::RELEASE, 2, &ia_pd(iaid, &[(&text_of(at), 0)]));
                    relay.handle_input(time, Input::Client(cpe.datagram(&release)));
                    model.remove(&(n, iaid, prefix(&text_of(at))));
                }
                Op::Pass(secs) => {
                    now += secs;
                    relay.handle_timeout(T0 + Duration::from_secs(now));
                    model.retain(|_, (_, end)| *end > now);
                }
                Op::Clear(at) => {
                    relay.handle_input(time, Input::Clear(Clear::Lease(prefix(&text_of(at)))));
                    model.retain(|(.., held), _| *held != prefix(&text_of(at)));
                }
            }
            while let Some(effect) = relay.poll_effect() {
                match effect {
                    Effect::Route(RouteChange::Put(route)) => { kernel.insert(route.prefix, route.gateway); }
                    Effect::Route(RouteChange::Remove { prefix, .. }) => {
                        prop_assert!(kernel.remove(&prefix).is_some(), "removed twice: {prefix}");
                    }
                    _ => {}
                }
            }
            relay.check();
            let mut expected: BTreeMap<Prefix, (usize, Ipv6Addr)> = BTreeMap::new();
            for ((n, _, prefix), (since, _)) in &model {
                let newest = expected.entry(*prefix).or_insert((*since, Cpe { n: *n, ..A }.address()));
                if *since >= newest.0 {
                    *newest = (*since, Cpe { n: *n, ..A }.address());
                }
            }
            let expected: BTreeMap<_, _> = expected.into_iter().map(|(p, (_, via))| (p, via)).collect();
            prop_assert_eq!(&kernel, &expected);
            let held: usize = relay.summary().active.iter().map(|(_, _, _, count)| count).sum();
            prop_assert_eq!(held, model.len());
        }
    }
}

#[test]
fn expiry_of_many_goes_in_batches_that_are_due_at_once() {
    let mut relay = relay_with(|config| {
        config.routes.enabled = false;
        config.limits.max_leases_per_client = 5000;
    });
    for half in 0..2u16 {
        let leases: Vec<String> = (0..750)
            .map(|i| format!("2001:db8:{:x}::/48", 1 + half * 750 + i))
            .collect();
        let leases: Vec<_> = leases.iter().map(|text| (text.as_str(), 10)).collect();
        request(&mut relay, A, &ia_pd(1, &leases));
    }
    let end = T0 + 10 * SECOND;

    relay.handle_timeout(end);

    assert_eq!(run(&mut relay).len(), 1024);
    assert_eq!(relay.poll_timeout(), Some(end));
    relay.handle_timeout(end);
    assert_eq!(run(&mut relay).len(), 1500 - 1024);
    assert_eq!(vec![relay.poll_timeout()], [None]);
}
