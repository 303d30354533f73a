//! What a store is told, what waits for it, and what comes back after a restart.

use alloc::collections::BTreeMap;
use alloc::string::String;
use alloc::vec;
use alloc::vec::Vec;
use core::time::Duration;

use proptest::prelude::*;

use crate::effect::{Effect, RouteChange};
use crate::input::{Input, RouteOutcome};
use crate::record::{Keeping, Record, RecordChange, Restored};
use crate::relay::Relay;
use crate::testing::*;
use crate::time::Instant;
use crate::types::Prefix;
use crate::view::{BindingState, Cursor, Filter, RouteState, SubscriberView};
use crate::wire::iana;

const A: Cpe = Cpe {
    n: 0xa,
    interface: ACCESS,
};
const P: &str = "2001:db8:100::/56";

/// Routes switched off: only the store is waited for.
fn kept_relay(with_routes: bool) -> Relay {
    remembering_relay(with_routes, None)
}

/// One that remembers removals for so long.
fn remembering_relay(with_routes: bool, history: Option<Duration>) -> Relay {
    let mut relay = relay_with(|config| {
        config.leasequery.enabled = history.is_some();
        config.leasequery.history = history.unwrap_or_default();
        config.routes.neighbors = false;
        config.routes.enabled = with_routes;
        // Leases over a limit are shown, and not kept.
        config.limits.max_leases_per_client = 100;
    });
    relay.set_keeping(Keeping::Awaited);
    relay
}

fn records(lines: &[String]) -> Vec<&str> {
    let is_told = |line: &&str| line.starts_with("record") || line.starts_with("client");
    lines
        .iter()
        .map(|line| line.split(" if").next().unwrap_or_default())
        .filter(is_told)
        .collect()
}

fn unkept(lines: &[String]) -> usize {
    let is_it = |line: &&String| line.as_str() == "noticed unkept_reply";
    lines.iter().filter(is_it).count()
}

fn stored(relay: &mut Relay, through: u64) -> Vec<String> {
    relay.handle_input(T0, Input::Stored { through });
    run(relay)
}

#[test]
fn reply_that_creates_leaves_after_its_record_is_stored() {
    let mut relay = kept_relay(false);

    let told = A.exchange(&mut relay, T0, iana::REQUEST, &ia_pd(1, &[(P, 100)]));
    assert_eq!(records(&told), ["record 1: put 1"]);

    assert_eq!(records(&stored(&mut relay, 1)), ["client"]);
}

#[test]
fn reply_waits_for_both_store_and_route() {
    for route_first in [false, true] {
        let mut relay = kept_relay(true);
        A.exchange(&mut relay, T0, iana::REQUEST, &ia_pd(1, &[(P, 100)]));
        let route = |relay: &mut Relay| {
            let outcome = RouteOutcome {
                prefix: prefix(P),
                version: 1,
                result: Ok(()),
            };
            relay.handle_input(T0, Input::Route(outcome));
            run(relay)
        };

        let (first, second) = if route_first {
            (route(&mut relay), stored(&mut relay, 1))
        } else {
            (stored(&mut relay, 1), route(&mut relay))
        };

        assert_eq!(records(&first), Vec::<&str>::new());
        assert_eq!(records(&second), ["client"]);
    }
}

#[test]
fn reply_that_only_extends_waits_for_the_store_alone() {
    let mut relay = kept_relay(true);
    A.exchange(&mut relay, T0, iana::REQUEST, &ia_pd(1, &[(P, 100)]));
    relay.handle_timeout(T0 + SECOND);
    run(&mut relay);

    let told = A.exchange(&mut relay, T0 + SECOND, iana::RENEW, &ia_pd(1, &[(P, 100)]));

    // The first Reply left late; its route is still pending, but nobody waits for it any more.
    assert_eq!(records(&told), ["record 2: put 1"]);
    assert_eq!(records(&stored(&mut relay, 1)), Vec::<&str>::new());
    assert_eq!(records(&stored(&mut relay, 2)), ["client"]);
}

#[test]
fn reply_leaves_at_the_deadline_where_the_store_is_slow() {
    let mut relay = kept_relay(false);
    A.exchange(&mut relay, T0, iana::REQUEST, &ia_pd(1, &[(P, 100)]));

    relay.handle_timeout(T0 + Duration::from_millis(200));

    assert!(
        run(&mut relay)
            .iter()
            .any(|line| line == "noticed late_reply")
    );
    assert_eq!(stored(&mut relay, 1), Vec::<String>::new());
}

#[test]
fn store_that_fails_holds_nobody_back() {
    let mut relay = kept_relay(false);
    A.exchange(&mut relay, T0, iana::REQUEST, &ia_pd(1, &[(P, 100)]));

    relay.set_keeping(Keeping::Failing);
    let let_go = run(&mut relay);
    assert_eq!(records(&let_go), ["client"]);
    let renewed = A.exchange(&mut relay, T0, iana::RENEW, &ia_pd(1, &[(P, 100)]));

    assert_eq!(records(&renewed), ["client"]);
    // Both are counted: a crash may lose what they told.
    assert_eq!((unkept(&let_go), unkept(&renewed)), (1, 1));
    let nothing_new = A.exchange(&mut relay, T0, iana::REQUEST, &[]);
    assert_eq!(unkept(&nothing_new), 0);
}

#[test]
fn without_a_store_no_reply_is_told_of_as_unkept() {
    let mut relay = kept_relay(false);
    relay.set_keeping(Keeping::No);

    let told = A.exchange(&mut relay, T0, iana::REQUEST, &ia_pd(1, &[(P, 100)]));

    assert_eq!((records(&told), unkept(&told)), (vec!["client"], 0));
}

#[test]
fn store_that_is_written_anew_is_told_and_not_waited_for() {
    let mut relay = kept_relay(false);

    relay.set_keeping(Keeping::Told);
    let told = A.exchange(&mut relay, T0, iana::REQUEST, &ia_pd(1, &[(P, 100)]));

    assert_eq!(records(&told), ["record 1: put 1", "client"]);
    assert_eq!(unkept(&told), 1);
}

#[test]
fn reply_that_changes_no_lease_leaves_at_once() {
    let mut relay = kept_relay(false);

    let told = A.exchange(&mut relay, T0, iana::REQUEST, &[]);

    assert_eq!(records(&told), ["client"]);
}

#[test]
fn release_removes_the_record_and_is_forwarded_at_once() {
    let mut relay = kept_relay(false);
    A.exchange(&mut relay, T0, iana::REQUEST, &ia_pd(1, &[(P, 100)]));

    let release = A.message(iana::RELEASE, 2, &ia_pd(1, &[(P, 0)]));
    relay.handle_input(T0, Input::Client(A.datagram(&release)));

    let told = run(&mut relay);
    assert_eq!(records(&told), ["record 2: remove 1"]);
    assert!(told.iter().any(|line| line.starts_with("server 0 release")));
}

/// A removal is kept in place of its binding, until nobody need know of it. req: ALQ-D-26
#[test]
fn alq_d_26_removal_is_stored_and_forgotten_in_time() {
    let mut relay = remembering_relay(false, Some(Duration::from_secs(50)));
    A.exchange(&mut relay, T0, iana::REQUEST, &ia_pd(1, &[(P, 100)]));
    let release = A.message(iana::RELEASE, 2, &ia_pd(1, &[(P, 0)]));
    let now = T0 + 2 * SECOND;

    relay.handle_input(now, Input::Client(A.datagram(&release)));

    let (told, end) = (run(&mut relay), T0 + 100 * SECOND);
    assert_eq!(records(&told).last(), Some(&"record 2: put 1"));
    stored(&mut relay, 2);
    relay.handle_timeout(end - Duration::from_nanos(1));
    assert_eq!(records(&run(&mut relay)), Vec::<&str>::new());
    relay.handle_timeout(end);
    assert_eq!(records(&run(&mut relay)), ["record 3: remove 1"]);
}

/// Where there are more than bindings may be, the one that has the least time left goes.
/// req: ALQ-D-26
#[test]
fn alq_d_26_removals_are_bounded_as_bindings_are() {
    let mut relay = relay_with(|config| {
        config.leasequery.enabled = true;
        config.limits.max_bindings = 2;
    });
    for n in 1..=3 {
        let cpe = Cpe { n, ..A };
        let text = alloc::format!("2001:db8:{n}00::/56");
        let secs = 1000 - 10 * u32::from(n);
        cpe.exchange(&mut relay, T0, iana::REQUEST, &ia_pd(1, &[(&text, secs)]));
        let release = cpe.message(iana::RELEASE, 2, &ia_pd(1, &[(&text, 0)]));
        relay.handle_input(T0 + 2 * SECOND, Input::Client(cpe.datagram(&release)));
        run(&mut relay);
    }

    let kept: Vec<_> = endings(&relay).iter().map(|it| it.duid[9]).collect();
    assert_eq!(kept, [1, 2]);
}

/// What is remembered has its times put right like what goes on. req: ALQ-D-26
#[test]
fn alq_d_26_uncertain_times_of_removals_are_put_right() {
    let history = Some(Duration::from_secs(50));
    let (mut before, mut store) = (remembering_relay(false, history), Store::default());
    A.exchange(&mut before, T0, iana::REQUEST, &ia_pd(1, &[(P, 100)]));
    let release = A.message(iana::RELEASE, 2, &ia_pd(1, &[(P, 0)]));
    before.handle_input(T0 + 2 * SECOND, Input::Client(A.datagram(&release)));
    store.follow(&mut before);
    let mut relay = remembering_relay(false, history);
    store.restore(&mut relay, T0 + 2 * SECOND, true);

    relay.handle_input(
        T0 + 2 * SECOND,
        Input::CorrectTimes {
            earlier_nanos: 1_000_000_000,
        },
    );
    relay.handle_timeout(T0 + 2 * SECOND);
    relay.handle_timeout(T0 + 2 * SECOND);

    let all = endings(&relay);
    assert_eq!(all[0].bindings[0].cltt, T0 + SECOND);
}

#[test]
fn bindings_are_told_again_in_slices() {
    let mut relay = kept_relay(false);
    for n in 1..=3 {
        let cpe = Cpe { n, ..A };
        let text = alloc::format!("2001:db8:{n}00::/56");
        cpe.exchange(&mut relay, T0, iana::REQUEST, &ia_pd(1, &[(&text, 100)]));
    }

    let next = relay.record_slice(Cursor::default());

    assert_eq!(next, None);
    let told = run(&mut relay);
    assert_eq!(
        records(&told),
        ["record 4: put 1", "record 5: put 2", "record 6: put 3"]
    );
}

#[test]
fn uncertain_times_are_put_right_and_renewed_ones_are_not() {
    let mut store = Store::default();
    let mut before = kept_relay(false);
    let other = Cpe { n: 0xb, ..A };
    A.exchange(&mut before, T0, iana::REQUEST, &ia_pd(1, &[(P, 100)]));
    store.follow(&mut before);
    other.exchange(
        &mut before,
        T0,
        iana::REQUEST,
        &ia_pd(1, &[("2001:db8:200::/56", 100)]),
    );
    store.follow(&mut before);
    // `exchange` takes the effects itself: everything is told once more.
    before.record_slice(Cursor::default());
    store.follow(&mut before);
    let mut relay = kept_relay(false);
    store.restore(&mut relay, T0, true);
    other.exchange(
        &mut relay,
        T0,
        iana::RENEW,
        &ia_pd(1, &[("2001:db8:200::/56", 100)]),
    );

    relay.handle_input(
        T0,
        Input::CorrectTimes {
            earlier_nanos: 60_000_000_000,
        },
    );
    relay.handle_timeout(T0);

    let ends = |text: &str| {
        let view = relay.find_lease(prefix(text)).unwrap();
        view.bindings[0].valid_until
    };
    assert_eq!(ends(P), T0 + Duration::from_secs(40));
    assert_eq!(ends("2001:db8:200::/56"), T0 + Duration::from_secs(100));
}

/// A record with its own bytes.
#[derive(Clone, PartialEq, Eq, Debug)]
struct Kept {
    record: Record<'static>,
    duid: Vec<u8>,
    server_duid: Vec<u8>,
}

/// A store as the shell would keep it.
#[derive(Default)]
struct Store {
    records: BTreeMap<u64, Kept>,
    routes: BTreeMap<Prefix, core::net::Ipv6Addr>,
}

impl Store {
    fn follow(&mut self, relay: &mut Relay) {
        let mut through = 0;
        while let Some(effect) = relay.poll_effect() {
            match effect {
                Effect::Record { change, sequence } => {
                    assert!(sequence > through, "sequences grow");
                    through = sequence;
                    self.apply(relay, change);
                }
                Effect::Route(RouteChange::Put(route)) => {
                    self.routes.insert(route.prefix, route.gateway);
                }
                Effect::Route(RouteChange::Remove { prefix, .. }) => {
                    self.routes.remove(&prefix);
                }
                _ => {}
            }
        }
    }

    fn apply(&mut self, relay: &Relay, change: RecordChange) {
        match change {
            RecordChange::Put(key) => {
                if let Some(record) = relay.record(key) {
                    let kept = Kept {
                        duid: record.duid.to_vec(),
                        server_duid: record.server_duid.to_vec(),
                        record: Record {
                            duid: &[],
                            server_duid: &[],
                            ..record
                        },
                    };
                    self.records.insert(key.id, kept);
                }
            }
            RecordChange::Remove { id } => drop(self.records.remove(&id)),
        }
    }

    fn restore(&self, relay: &mut Relay, now: Instant, is_uncertain: bool) {
        for kept in self.records.values() {
            let record = Record {
                duid: &kept.duid,
                server_duid: &kept.server_duid,
                ..kept.record
            };
            let restored = Restored {
                record,
                is_uncertain,
            };
            relay.handle_input(now, Input::Restore(restored));
        }
    }
}

/// Everything that `show` tells of bindings that go on, but what became of routes.
fn views(relay: &Relay) -> Vec<SubscriberView> {
    views_in(relay, None)
}

/// Removals that are remembered.
fn endings(relay: &Relay) -> Vec<SubscriberView> {
    use BindingState::{Declined, Expired, Released};
    let states = [Declined, Expired, Released];
    states
        .into_iter()
        .flat_map(|state| views_in(relay, Some(state)))
        .collect()
}

fn views_in(relay: &Relay, state: Option<BindingState>) -> Vec<SubscriberView> {
    let filter = Filter {
        state,
        ..Filter::default()
    };
    let mut all = Vec::new();
    let mut from = Some(Cursor::default());
    while let Some(at) = from {
        let page = relay.page(&filter, at, 1 << 20);
        all.extend(page.subscribers);
        from = page.next;
    }
    for binding in all.iter_mut().flat_map(|it| it.bindings.iter_mut()) {
        binding.route = RouteState::Pending;
    }
    all.sort_by_key(|it| {
        (
            it.duid.clone(),
            it.bindings.first().map(|first| first.prefix),
        )
    });
    all
}

#[derive(Clone, Debug)]
enum Op {
    Reply { n: u8, iaid: u8, at: u8, secs: u32 },
    Release { n: u8, iaid: u8, at: u8 },
    Pass(u64),
    Restart,
}

fn op() -> impl Strategy<Value = Op> {
    let secs = prop_oneof![Just(0u32), 1u32..30, Just(u32::MAX)];
    prop_oneof![
        // A client has at most the 8 leases of its limit: what is over it is shown, but not kept.
        6 => (1u8..6, 1u8..3, 0u8..4, secs).prop_map(|(n, iaid, at, secs)| Op::Reply { n, iaid, at, secs }),
        2 => (1u8..6, 1u8..3, 0u8..4).prop_map(|(n, iaid, at)| Op::Release { n, iaid, at }),
        2 => (1u64..20).prop_map(Op::Pass),
        1 => Just(Op::Restart),
    ]
}

proptest! {
    /// Whatever happened before: a relay that takes the records back shows the same bindings,
    /// remembers the same removals and asks for the same routes.
    #[test]
    fn restart_brings_back_every_binding_and_route(
        ops in proptest::collection::vec(op(), 1..80),
        history in proptest::option::of(0u64..40),
    ) {
        let history = history.map(Duration::from_secs);
        let mut relay = remembering_relay(true, history);
        let mut store = Store::default();
        let mut now = T0;
        for op in ops {
            // No two transactions at one moment.
            now = now + Duration::from_nanos(1);
            match op {
                Op::Reply { n, iaid, at, secs } => {
                    let cpe = Cpe { n, ..A };
                    let text = alloc::format!("2001:db8:{}00::/56", at + 1);
                    let request = cpe.message(iana::RENEW, 1, &[]);
                    let reply = cpe.reply(1, &ia_pd(iaid, &[(&text, secs)]));
                    relay.handle_input(now, Input::Client(cpe.datagram(&request)));
                    relay.handle_input(now, Input::Server(from_server(&reply)));
                }
                Op::Release { n, iaid, at } => {
                    let cpe = Cpe { n, ..A };
                    let text = alloc::format!("2001:db8:{}00::/56", at + 1);
                    let release = cpe.message(iana::RELEASE, 2, &ia_pd(iaid, &[(&text, 0)]));
                    relay.handle_input(now, Input::Client(cpe.datagram(&release)));
                }
                Op::Pass(secs) => now = now + Duration::from_secs(secs),
                Op::Restart => {
                    relay.handle_timeout(now);
                    store.follow(&mut relay);
                    let mut back = remembering_relay(true, history);
                    store.restore(&mut back, now, false);
                    back.check();
                    prop_assert_eq!(views(&back), views(&relay));
                    prop_assert_eq!(endings(&back), endings(&relay));
                    let expected = core::mem::take(&mut store.routes);
                    back.resend_routes();
                    while back.is_resending() {
                        back.handle_timeout(now);
                    }
                    store.follow(&mut back);
                    prop_assert_eq!(&store.routes, &expected);
                    relay = back;
                }
            }
            while relay.poll_timeout().is_some_and(|due| due <= now) {
                relay.handle_timeout(now);
            }
            store.follow(&mut relay);
            let shown: usize = views(&relay).iter().map(|it| it.bindings.len()).sum();
            let remembered = endings(&relay).len();
            prop_assert!(remembered == 0 || history.is_some());
            prop_assert_eq!(store.records.len(), shown + remembered);
        }
        relay.check();
    }
}
