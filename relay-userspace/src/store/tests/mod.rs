//! The store as a whole, on files of a temporary folder.

mod damage;
mod leasequery;
mod life;
mod model;
mod upgrade;

use std::collections::BTreeMap;
use std::net::Ipv6Addr;
use std::path::Path;
use std::sync::mpsc::{self, Receiver};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use relay_common::net::VlanTags;
use relay_core::record::{Record, RecordState};
use relay_core::time::Instant;
use relay_core::types::{AccessId, AccessLink, IaType, Iaid, Prefix};
use relay_core::view::Origin;

use super::*;

const SECOND: u64 = 1_000_000_000;
/// Far more than any of it takes; only a failing test waits so long.
const PATIENCE: Duration = Duration::from_secs(30);

/// Small enough for all of it to happen within a test.
const SMALL: Options = Options {
    segment_bytes: 4096,
    merge_bytes: u64::MAX,
    tick: Duration::from_secs(3600),
    retry: Duration::from_millis(20),
    patience: PATIENCE,
    gather: Duration::from_millis(2),
};

/// What a version of a binding is told apart by in these tests: its IAID.
fn binding(id: u64, version: u32) -> StoredBinding<'static> {
    StoredBinding {
        interface: "acc0",
        origin: "",
        record: Record {
            id,
            link: AccessLink {
                access: AccessId(0),
                vlans: VlanTags::NONE,
            },
            duid: &[0, 3, 0, 1, 2, 0, 0, 0, 0, 1],
            client_address: "fe80::1".parse().unwrap(),
            mac: None,
            link_address: "2001:db8::1".parse().unwrap(),
            is_first_hop: true,
            ia_type: IaType::Pd,
            iaid: Iaid(version),
            prefix: Prefix::new("2001:db8:100::".parse().unwrap(), 56).unwrap(),
            server_duid: &[0, 1, 2],
            server_address: Ipv6Addr::LOCALHOST,
            t1_secs: 100,
            t2_secs: 200,
            cltt: Instant::from_nanos(1000 * SECOND),
            preferred_until: Instant::from_nanos(2000 * SECOND),
            valid_until: Instant::from_nanos(3000 * SECOND),
            state: RecordState::Active,
            origin: Origin::Snooped,
            snooped_by: Ipv6Addr::UNSPECIFIED,
            changed_at: Instant::from_nanos(1000 * SECOND),
        },
    }
}

/// A wall clock and a boot clock that tests set.
#[derive(Clone)]
struct FakeClock(Arc<Mutex<Clock>>);

impl FakeClock {
    fn new() -> Self {
        Self(Arc::new(Mutex::new(Clock {
            boot: Instant::from_nanos(1000 * SECOND),
            wall_nanos: 1_800_000_000 * i128::from(SECOND),
            boot_id: [1; 16],
            synchronised: true,
        })))
    }

    fn change(&self, change: impl FnOnce(&mut Clock)) {
        change(&mut self.0.lock().unwrap());
    }

    fn reader(&self) -> ClockReader {
        let clock = self.clone();
        Box::new(move || *clock.0.lock().unwrap())
    }
}

fn open(folder: &Path, options: Options, clock: &FakeClock) -> Result<Opened, OpenError> {
    Opened::open(StateDir::lock(folder)?, options, clock.reader())
}

/// By id: its version, and the end of its lifetime in seconds.
fn load(opened: &mut Opened) -> BTreeMap<u64, u32> {
    let mut found = BTreeMap::new();
    let load = opened.load(|restored| {
        let twice = found.insert(restored.binding.record.id, restored.binding.record.iaid.0);
        assert_eq!(twice, None, "each binding is handed out once");
    });
    load.unwrap();
    found
}

fn contents(folder: &Path) -> BTreeMap<u64, u32> {
    load(&mut open(folder, SMALL, &FakeClock::new()).unwrap())
}

/// A store that is written to, and what it tells.
struct Running {
    store: Store,
    events: Receiver<Event>,
    sequence: u64,
}

impl Running {
    fn start(opened: Opened) -> Self {
        let (tell, events) = mpsc::channel();
        let store = opened.start(move |event| drop(tell.send(event))).unwrap();
        Self {
            store,
            events,
            sequence: 0,
        }
    }

    fn open(folder: &Path) -> Self {
        Self::start(open(folder, SMALL, &FakeClock::new()).unwrap())
    }

    /// Hands changes over: a version, or none for removal.
    fn submit(&mut self, changes: impl IntoIterator<Item = (u64, Option<u32>)>) {
        let mut batch = self.store.batch();
        for (id, version) in changes {
            match version {
                Some(version) => batch.put(&binding(id, version)),
                None => batch.remove(id),
            }
        }
        self.sequence += 1;
        batch.set_sequence(self.sequence);
        while let Err(back) = self.store.submit(batch) {
            batch = back;
            std::thread::sleep(Duration::from_millis(1));
        }
    }

    /// The same, and waits until they are durable.
    fn write(&mut self, changes: impl IntoIterator<Item = (u64, Option<u32>)>) {
        self.submit(changes);
        let sequence = self.sequence;
        self.wait(|event| *event == Event::Durable(sequence));
    }

    fn wait(&self, wanted: impl Fn(&Event) -> bool) -> Event {
        loop {
            let event = self.events.recv_timeout(PATIENCE).expect("the event comes");
            if wanted(&event) {
                return event;
            }
        }
    }

    fn rewrite(&mut self, bindings: impl IntoIterator<Item = (u64, u32)>) {
        assert!(self.store.begin_rewrite());
        self.submit(
            bindings
                .into_iter()
                .map(|(id, version)| (id, Some(version))),
        );
        assert!(self.store.end_rewrite(self.sequence));
        let sequence = self.sequence;
        self.wait(|event| *event == Event::Durable(sequence));
    }
}

/// The files of the store, in order.
fn files(folder: &Path) -> Vec<std::path::PathBuf> {
    let mut files: Vec<_> = std::fs::read_dir(folder.join("store"))
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .collect();
    files.sort();
    files
}
