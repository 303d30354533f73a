//! The way to a real store in a temporary folder, with a disk that can be made to hang or fail.

use std::path::Path;

use nix::sys::eventfd::EventFd;
use relay_common::net::{MacAddr, VlanTags};
use relay_core::effect::Effect;
use relay_core::record::RecordState;
use relay_core::types::{AccessLink, IaType, Iaid, Prefix};
use relay_core::view::{Filter, Origin};

use super::*;
use crate::store::{Clock, Options, StateDir};
use crate::testing::surroundings;

/// Far more than any of it takes; only a failing test waits so long.
const PATIENCE: Duration = Duration::from_secs(30);
const OPTIONS: Options = Options {
    // Each commit begins a file.
    segment_bytes: 0,
    merge_bytes: u64::MAX,
    tick: PATIENCE,
    retry: Duration::from_millis(20),
    patience: PATIENCE,
    gather: Duration::from_millis(2),
};

/// A relay thread's share of it.
struct Bench {
    relay: Relay,
    to_store: ToStore,
    counters: Arc<Counters>,
    /// Whoever holds it makes the disk hang: the writer reads the clock before each commit.
    gate: Arc<Mutex<()>>,
}

impl Bench {
    fn start(folder: &Path) -> Self {
        let gate = Arc::new(Mutex::new(()));
        let waits = Arc::clone(&gate);
        let clock = move || {
            let _gate = waits.lock().unwrap();
            Clock::read()
        };
        let folder = StateDir::lock(folder).unwrap();
        let opened = Opened::open(folder, OPTIONS, Box::new(clock)).unwrap();
        let mut bench = Self::of(Ok(opened));
        bench.gate = gate;
        bench
    }

    fn of(opened: Result<Opened, String>) -> Self {
        let config = surroundings().relay;
        let mut relay = Relay::new(config, [7; 16]);
        let counters = Arc::new(Counters::default());
        let mut numbers = Numbers::default();
        // As the configuration would number them.
        numbers.access("acc0");
        let wake = Arc::new(OwnedFd::from(EventFd::new().unwrap()));
        let to_store = ToStore::start(opened, &mut relay, &mut numbers, &counters, wake);
        Self {
            relay,
            to_store,
            counters,
            gate: Arc::default(),
        }
    }

    /// So many bindings of one client each, which the store does not know yet.
    fn learn(&mut self, ids: std::ops::RangeInclusive<u64>) {
        for id in ids {
            let address = std::net::Ipv6Addr::from_bits(0x2001_0db8 << 96 | u128::from(id));
            let now = boot_now();
            let record = Record {
                id,
                link: AccessLink {
                    access: AccessId(0),
                    vlans: VlanTags::NONE,
                },
                duid: &id.to_be_bytes(),
                client_address: "fe80::1".parse().unwrap(),
                mac: Some(MacAddr([2, 0, 0, 0, 0, 1])),
                link_address: "2001:db8:100::1".parse().unwrap(),
                is_first_hop: true,
                ia_type: IaType::Na,
                iaid: Iaid(1),
                prefix: Prefix::host(address),
                server_duid: &[0, 1],
                server_address: "2001:db8:ff::11".parse().unwrap(),
                t1_secs: 900,
                t2_secs: 1440,
                cltt: now,
                preferred_until: now + Duration::from_secs(1800),
                valid_until: now + Duration::from_secs(3600),
                state: RecordState::Active,
                origin: Origin::Snooped,
                snooped_by: std::net::Ipv6Addr::UNSPECIFIED,
                changed_at: now,
            };
            let restored = Restored {
                record,
                is_uncertain: false,
            };
            self.relay.handle_input(now, Input::Restore(restored));
        }
        self.carry_out();
    }

    /// Tells all bindings, as if each had changed.
    fn tell_all(&mut self) {
        self.relay.record_slice(Cursor::default());
        self.carry_out();
    }

    /// A round of the relay thread.
    fn carry_out(&mut self) {
        while let Some(effect) = self.relay.poll_effect() {
            if let Effect::Record { change, sequence } = effect {
                self.to_store.push(&self.relay, change, sequence);
            }
        }
        self.to_store.hand_over();
    }

    /// Rounds, until it is so.
    fn until(&mut self, mut is_so: impl FnMut(&mut Self) -> bool) {
        let start = boot_now();
        while !is_so(self) {
            assert!(boot_now() < start + PATIENCE, "it does not come to that");
            self.to_store.hear(&mut self.relay, boot_now());
            self.carry_out();
            std::thread::sleep(Duration::from_millis(1));
        }
    }

    fn state(&self) -> State {
        self.to_store.status().state()
    }

    /// Ends, and counts what a later start finds.
    fn kept(mut self, folder: &Path) -> usize {
        self.to_store.close(&mut self.relay);
        drop(self);
        let later = Self::start(folder);
        let page = later
            .relay
            .page(&Filter::default(), Cursor::default(), usize::MAX);
        page.subscribers.len()
    }
}

#[test]
fn bindings_and_counters_come_back_and_ended_ones_do_not() {
    let folder = tempfile::tempdir().unwrap();
    let mut bench = Bench::start(folder.path());
    bench.learn(1..=3);
    bench.tell_all();
    bench.counters.binding_events[1].add(5);
    let clear = relay_core::input::Clear::Client(2_u64.to_be_bytes().into());
    bench.relay.handle_input(boot_now(), Input::Clear(clear));
    bench.carry_out();
    bench.to_store.close(&mut bench.relay);
    drop(bench);

    let later = Bench::start(folder.path());

    let page = later
        .relay
        .page(&Filter::default(), Cursor::default(), usize::MAX);
    let duids = page.subscribers.iter().map(|it| it.duid[7]);
    assert_eq!(duids.collect::<Vec<_>>(), [1, 3]);
    let access = page.subscribers[0].link.access;
    assert_eq!(later.to_store.names.access(access), "acc0");
    assert_eq!(later.counters.binding_events[1].get(), 5);
}

#[test]
fn changes_wait_for_a_full_queue_and_are_told_in_the_end() {
    let folder = tempfile::tempdir().unwrap();
    let mut bench = Bench::start(folder.path());
    let gate = Arc::clone(&bench.gate);
    let hangs = gate.lock().unwrap();
    bench.learn(1..=1);
    while bench.to_store.due().is_none() {
        bench.tell_all();
    }
    bench.learn(2..=9);
    bench.tell_all();

    drop(hangs);
    bench.until(|bench| bench.to_store.due().is_none());

    assert_eq!(bench.kept(folder.path()), 9);
}

#[test]
fn more_than_may_wait_is_told_once_more_as_a_whole() {
    let folder = tempfile::tempdir().unwrap();
    let mut bench = Bench::start(folder.path());
    let gate = Arc::clone(&bench.gate);
    let hangs = gate.lock().unwrap();
    bench.learn(1..=500);
    while !bench.to_store.is_rewriting() {
        bench.tell_all();
    }

    drop(hangs);
    let rewrites = |bench: &Bench| {
        bench
            .to_store
            .status()
            .counters
            .rewrites
            .load(Ordering::Relaxed)
    };
    bench.until(|bench| rewrites(bench) > 0);

    assert_eq!(rewrites(&bench), 1);
    assert_eq!(bench.kept(folder.path()), 500);
}

#[test]
fn store_that_failed_is_told_everything_when_it_can_write_again() {
    let folder = tempfile::tempdir().unwrap();
    let store = folder.path().join("store");
    let mut bench = Bench::start(folder.path());
    bench.until(|_| store.exists());
    std::fs::remove_dir_all(&store).unwrap();
    std::fs::write(&store, "no folder").unwrap();
    bench.learn(1..=5);
    bench.tell_all();
    bench.until(|bench| matches!(bench.state(), State::Degraded { .. }));
    // What is told meanwhile is lost.
    bench.learn(6..=9);
    bench.tell_all();

    std::fs::remove_file(&store).unwrap();
    bench.until(|bench| bench.state() == State::Ok && bench.to_store.due().is_none());

    assert_eq!(bench.kept(folder.path()), 9);
}

#[test]
fn without_a_store_nothing_is_kept_and_the_reason_is_told() {
    let mut bench = Bench::of(Err("no folder".to_owned()));

    bench.learn(1..=1);
    bench.tell_all();

    assert!(!bench.to_store.remembers() && bench.to_store.due().is_none());
    assert_eq!(bench.state(), State::Off("no folder".to_owned()));
}
