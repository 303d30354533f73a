//! Records of leases come in any order and any number: all relays end with the same.

use alloc::vec::Vec;
use core::net::Ipv6Addr;
use core::time::Duration;

use proptest::prelude::*;

use super::client::Place;
use super::replica::{Frame, Outcome, Replica, Whereabouts};
use super::{Bindings, Context, Source};
use crate::config::RelayConfig;
use crate::hold::Hold;
use crate::outbox::Outbox;
use crate::relaying::link::Links;
use crate::snoop::GivenUp;
use crate::testing::*;
use crate::time::{Instant, WallClock};
use crate::types::{AccessId, AccessLink, PeerId, Prefix};
use crate::view::Origin;
use crate::wire::leasequery::LqLease;
use relay_common::net::VlanTags;

const HALF: Duration = Duration::from_millis(500);

fn relay_config() -> RelayConfig {
    let mut config = config();
    config.leasequery.enabled = true;
    config.leasequery.history = Duration::from_secs(86_400);
    config
}

/// A table with all that it needs.
struct Desk {
    bindings: Bindings,
    links: Links,
    out: Outbox,
    hold: Hold,
    own: Ipv6Addr,
    /// What it hears comes by way of other clocks.
    is_rounded: bool,
}

/// What one relay tells of one lease at one second.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Record {
    snooper: u8,
    second: u8,
    client: u8,
    prefix: u8,
    secs: u32,
}

fn address(n: u8) -> Ipv6Addr {
    Ipv6Addr::new(0x2001, 0xdb8, 0xff, 0, 0, 0, 0, u16::from(n) + 1)
}

fn prefix_of(n: u8) -> Prefix {
    prefix(&alloc::format!("2001:db8:{}00::/56", n + 1))
}

fn second(n: u8) -> Instant {
    T0 + Duration::from_secs(u64::from(n))
}

fn link() -> AccessLink {
    AccessLink {
        access: AccessId(0),
        vlans: VlanTags::NONE,
    }
}

fn place(client: u8) -> Place {
    Place {
        address: Cpe {
            n: client,
            interface: ACCESS,
        }
        .address(),
        mac: None,
        link_address: ip("2001:db8:1::1"),
        is_first_hop: true,
    }
}

fn duid(client: u8) -> Vec<u8> {
    Cpe {
        n: client,
        interface: ACCESS,
    }
    .duid()
}

impl Desk {
    fn new(n: u8) -> Self {
        let config = relay_config();
        Self {
            bindings: Bindings::new(&config, [n; 16]),
            links: Links::new(&config),
            out: Outbox::default(),
            hold: Hold::new(),
            own: address(n),
            is_rounded: false,
        }
    }

    fn act<T>(
        &mut self,
        now: Instant,
        act: impl FnOnce(&mut Bindings, &mut Context<'_>) -> T,
    ) -> T {
        let mut cx = Context {
            now,
            links: &self.links,
            out: &mut self.out,
            hold: &mut self.hold,
        };
        let done = act(&mut self.bindings, &mut cx);
        while self.out.pop().is_some() {}
        self.bindings.check();
        done
    }

    fn take(&mut self, now: Instant, record: Record) -> Outcome {
        self.take_until(
            now,
            record,
            second(record.second).plus_lifetime(record.secs),
        )
    }

    fn take_until(&mut self, now: Instant, record: Record, until: Instant) -> Outcome {
        let lease = LqLease {
            ia: None,
            prefix: prefix_of(record.prefix),
            is_address: false,
            preferred_secs: record.secs,
            valid_secs: record.secs,
        };
        let frame = Frame {
            clock: WallClock::default(),
            own_address: Some(self.own),
        };
        let duid = duid(record.client);
        let is_rounded = self.is_rounded;
        self.act(now, |bindings, cx| {
            let told = Replica {
                duid: &duid,
                lease: &lease,
                at: until - Duration::from_secs(u64::from(record.secs)),
                cltt: second(record.second) + HALF,
                origin: Origin::ActiveLeasequery(PeerId(0)),
                snooped_by: address(record.snooper),
                is_rounded,
                server: None,
                whereabouts: Some(Whereabouts {
                    place: place(record.client),
                    link: Some(link()),
                }),
            };
            bindings.take(cx, &frame, &told)
        })
    }

    /// This relay snoops a Reply, or a Release.
    fn snoop(&mut self, record: Record) {
        let (now, duid) = (second(record.second), duid(record.client));
        let prefix = prefix_of(record.prefix);
        let text = alloc::format!("{prefix}");
        if record.secs == 0 {
            let cpe = Cpe {
                n: record.client,
                interface: ACCESS,
            };
            let bytes = cpe.message(crate::wire::iana::RELEASE, 1, &ia_pd(0, &[(&text, 0)]));
            let message = crate::wire::message::Message::new(&bytes).unwrap();
            let given_up = GivenUp::read(&message).unwrap();
            return self.act(now, |bindings, cx| {
                bindings.give_up(cx, link(), None, &given_up);
            });
        }
        let cpe = Cpe {
            n: record.client,
            interface: ACCESS,
        };
        let bytes = cpe.reply(1, &ia_pd(0, &[(&text, record.secs)]));
        let relayed = crate::wire::relay_msg::RelayMessage::new(&bytes).unwrap();
        let inner = relayed.options;
        let inner = crate::wire::options::Options::new(inner)
            .find(crate::wire::iana::OPTION_RELAY_MSG)
            .unwrap()
            .unwrap();
        let message = crate::wire::message::Message::new(inner).unwrap();
        let mut leases = crate::snoop::Leases::new();
        crate::snoop::Reply::read(&message, &mut leases).unwrap();
        self.act(now, |bindings, cx| {
            let source = Source {
                link: link(),
                place: place(record.client),
                duid: &duid,
                server_duid: b"server",
                server_address: server(),
                may_end: true,
                told: None,
            };
            bindings.learn(cx, &source, &leases);
        });
    }

    /// All that a catch-up tells: leases with their ends, and removals.
    fn all(&self) -> Vec<(Record, Instant)> {
        let table = &self.bindings.table;
        let secs = |at: Instant| (at.saturating_since(T0).as_secs()) as u8;
        let snooper = |it: Ipv6Addr| match it.is_unspecified() {
            true => self.own.octets()[15] - 1,
            false => it.octets()[15] - 1,
        };
        let number = |prefix: Prefix| prefix.address().segments()[2].to_be_bytes()[0] - 1;
        let active = (0..table.bindings_end()).filter_map(|at| {
            let binding = table.binding(at)?;
            let client = table.client(binding.client)?;
            let record = Record {
                snooper: snooper(binding.snooped_by),
                second: secs(binding.cltt),
                client: client.duid[9],
                prefix: number(binding.prefix),
                secs: 1,
            };
            Some((record, binding.valid_until))
        });
        let endings = &self.bindings.endings;
        let ended = (0..endings.end()).filter_map(|at| {
            let ended = endings.get(at)?;
            let record = Record {
                snooper: snooper(ended.snooped_by),
                second: secs(ended.ended_at),
                client: ended.duid[9],
                prefix: number(ended.prefix),
                secs: 0,
            };
            Some((record, ended.ended_at))
        });
        active.chain(ended).collect()
    }

    /// Every lease that goes on: whose, until when, and who snooped it.
    fn state(&self) -> Vec<(Vec<u8>, Prefix, Instant, Ipv6Addr)> {
        let mut all = Vec::new();
        for at in 0..self.bindings.table.bindings_end() {
            if let Some(binding) = self.bindings.table.binding(at) {
                let client = self.bindings.table.client(binding.client).unwrap();
                let snooper = Some(binding.snooped_by).filter(|it| !it.is_unspecified());
                all.push((
                    client.duid.to_vec(),
                    binding.prefix,
                    binding.valid_until,
                    snooper.unwrap_or(self.own),
                ));
            }
        }
        all.sort();
        all
    }
}

fn record() -> impl Strategy<Value = Record> {
    let secs = prop_oneof![1 => Just(0u32), 2 => Just(5u32), 2 => 100u32..1000];
    (0u8..3, 0u8..8, 1u8..3, 0u8..2, secs).prop_map(|(snooper, second, client, prefix, secs)| {
        Record {
            snooper,
            second,
            client,
            prefix,
            secs,
        }
    })
}

/// One relay sees one thing of a lease in a second: what it sees next bears the next second
/// (`sequel`).
fn distinct(records: Vec<Record>) -> Vec<Record> {
    let mut kept: Vec<Record> = Vec::new();
    for record in records {
        let is_twice = kept.iter().any(|it| {
            (it.snooper, it.second, it.client, it.prefix)
                == (record.snooper, record.second, record.client, record.prefix)
        });
        if !is_twice {
            kept.push(record);
        }
    }
    kept
}

proptest! {
    /// Any two orders of the same records, each any number of times.
    /// req: ALQ-D-11, ALQ-D-23, ALQ-44
    #[test]
    fn alq_d_11_records_in_any_order_end_in_one_table(
        records in proptest::collection::vec(record(), 1..14).prop_map(distinct),
        seed in proptest::collection::vec(any::<proptest::sample::Index>(), 30),
    ) {
        let now = second(8);
        let mut expected = Desk::new(7);
        for record in &records {
            expected.take(now, *record);
        }
        let mut other = Desk::new(8);
        // Some twice, in another order, then whatever did not come yet.
        for index in seed {
            other.take(now, *index.get(&records));
        }
        for record in records.iter().rev() {
            other.take(now, *record);
        }

        let later = second(200);
        for desk in [&mut expected, &mut other] {
            desk.act(now, |bindings, cx| bindings.expire(cx));
        }
        prop_assert_eq!(expected.state(), other.state());
        for desk in [&mut expected, &mut other] {
            desk.act(later, |bindings, cx| bindings.expire(cx));
        }
        prop_assert_eq!(expected.state(), other.state());
    }

    /// Three relays snoop Replies and Releases as they happen, hear of each other's sooner or later,
    /// and leases run out meanwhile: in the end all hold the same.
    /// req: ALQ-D-11, ALQ-D-13, ALQ-D-14
    #[test]
    fn alq_d_11_relays_that_snoop_and_hear_end_in_one_table(
        records in proptest::collection::vec(record(), 1..14).prop_map(distinct),
        early in proptest::collection::vec((0usize..14, 0usize..3), 0..20),
    ) {
        let mut records = records;
        // What several relays see of one lease in one second is left to the test of records.
        let mut seen = Vec::new();
        records.retain(|it| {
            let key = (it.second, it.client, it.prefix);
            let is_new = !seen.contains(&key);
            seen.push(key);
            is_new
        });
        records.sort_by_key(|it| it.second);
        let mut relays = [Desk::new(0), Desk::new(1), Desk::new(2)];
        let mut told: Vec<Record> = Vec::new();
        for record in &records {
            let now = second(record.second);
            let relay = &mut relays[usize::from(record.snooper)];
            relay.act(now, |bindings, cx| bindings.expire(cx));
            let is_held = relay.state().iter().any(|(duid_of, prefix, ..)| {
                *duid_of == duid(record.client) && *prefix == prefix_of(record.prefix)
            });
            relay.snoop(*record);
            // A Release of what a relay does not know is nothing that it could tell.
            if record.secs > 0 || is_held {
                told.push(*record);
            }
            for (at, relay) in &early {
                if let Some(heard) = told.get(*at).filter(|it| usize::from(it.snooper) != *relay) {
                    relays[*relay].take(now, *heard);
                }
            }
        }
        // As after a catch-up of each from each.
        let now = second(8);
        for relay in &mut relays {
            relay.act(now, |bindings, cx| bindings.expire(cx));
        }
        for _ in 0..2 {
            for from in 0..3 {
                for (record, until) in relays[from].all() {
                    for (n, relay) in relays.iter_mut().enumerate() {
                        if n != from {
                            relay.take_until(now, record, until);
                        }
                    }
                }
            }
        }

        let leases = |relay: &Desk| -> Vec<_> {
            relay.state().into_iter().map(|(duid, prefix, ..)| (duid, prefix)).collect()
        };
        prop_assert_eq!(leases(&relays[0]), leases(&relays[1]), "{:?}", told);
        prop_assert_eq!(leases(&relays[1]), leases(&relays[2]));
        prop_assert_eq!(relays[0].bindings.digests(), relays[2].bindings.digests());
    }
}

/// What is seen in the second of what was known bears the next second. req: ALQ-D-11
#[test]
fn alq_d_11_release_in_the_second_of_the_reply_bears_the_next_one() {
    let mut relay = Desk::new(0);
    let reply = Record {
        snooper: 1,
        second: 3,
        client: 1,
        prefix: 0,
        secs: 100,
    };
    relay.take(second(3), reply);

    relay.snoop(Record { secs: 0, ..reply });

    let at = relay.bindings.endings.find(prefix_of(0), &duid(1)).unwrap();
    let ended_at = relay.bindings.endings.get(at).unwrap().ended_at;
    assert_eq!(ended_at, second(4) + HALF);
    assert_eq!(relay.bindings.next_time(second(3)), Some(second(4) + HALF));
    assert_eq!(relay.take(second(5), reply), Outcome::Stale);
}

/// A relay that was away may know of an earlier and longer life of a lease that ran out here; one that
/// was told all along knows better. req: ALQ-D-13, ALQ-D-26
#[test]
fn alq_d_13_expiry_is_remembered_while_somebody_cannot_know_of_it() {
    for (is_anybody_behind, outcome) in [(true, Outcome::Stale), (false, Outcome::Created)] {
        let mut relay = Desk::new(0);
        relay.bindings.set_anybody_behind(is_anybody_behind);
        let short = Record {
            snooper: 0,
            second: 3,
            client: 1,
            prefix: 0,
            secs: 5,
        };
        relay.snoop(short);
        relay.act(second(10), |bindings, cx| bindings.expire(cx));

        let longer = Record {
            snooper: 1,
            second: 2,
            secs: 100,
            ..short
        };
        assert_eq!(relay.take(second(11), longer), outcome);
    }
}

/// What others say of a record by clocks that are not ours does not make it younger.
/// req: ALQ-D-11, ALQ-D-23
#[test]
fn alq_d_11_record_that_comes_back_by_another_clock_is_known() {
    let mut relay = Desk::new(0);
    let removal = Record {
        snooper: 1,
        second: 3,
        client: 1,
        prefix: 0,
        secs: 0,
    };
    relay.take(second(3), removal);

    relay.is_rounded = true;
    let echo = Record {
        second: 4,
        ..removal
    };
    assert_eq!(relay.take(second(5), echo), Outcome::Known);

    let granted = Record {
        snooper: 0,
        second: 4,
        secs: 100,
        ..removal
    };
    assert_eq!(relay.take(second(5), granted), Outcome::Created);
}
