//! What these tests share: bindings that are told apart by a version, and a store with its events.

use std::collections::BTreeMap;
use std::io::Write;
use std::net::Ipv6Addr;
use std::path::Path;
use std::sync::mpsc::{self, Receiver};
use std::time::Duration;

use relay_common::net::VlanTags;
use relay_core::record::{Record, RecordState};
use relay_core::time::Instant;
use relay_core::types::{AccessId, AccessLink, IaType, Iaid, Prefix};
use relay_core::view::Origin;
use relay_userspace::store::{
    Batch, Clock, Event, OpenError, Opened, Options, Report, StateDir, Store, StoredBinding,
};

/// Far more than any of it takes; only a failing test waits so long.
const PATIENCE: Duration = Duration::from_secs(60);

/// Versions by binding.
pub type Contents = BTreeMap<u64, u32>;

/// Small enough for segments, merges and retries to happen within a test.
pub const SMALL: Options = Options {
    segment_bytes: 8192,
    merge_bytes: 24_000,
    tick: Duration::from_secs(3600),
    retry: Duration::from_millis(20),
    patience: PATIENCE,
    gather: Duration::from_millis(2),
};

/// Says that this test did not run, and why. The runner counts the lines of the file.
pub fn skip(reason: &str) {
    println!("SKIPPED: {reason}");
    if let Some(path) = std::env::var_os("TWINRELAY_SKIPPED_FILE") {
        let test = std::thread::current().name().unwrap_or("store").to_owned();
        let line = format!("{test}: {reason}\n");
        std::fs::OpenOptions::new()
            .create(true)
            .append(true)
            .open(path)
            .and_then(|mut file| file.write_all(line.as_bytes()))
            .expect("the runner's file takes a line");
    }
}

/// The version is the IAID.
pub fn put(batch: &mut Batch, id: u64, version: u32) {
    batch.put(&StoredBinding {
        interface: "acc0",
        origin: "",
        record: Record {
            id,
            link: AccessLink {
                access: AccessId(0),
                vlans: VlanTags::NONE,
            },
            duid: &id.to_be_bytes(),
            client_address: Ipv6Addr::LOCALHOST,
            mac: None,
            link_address: Ipv6Addr::LOCALHOST,
            is_first_hop: true,
            ia_type: IaType::Pd,
            iaid: Iaid(version),
            prefix: Prefix::host(Ipv6Addr::from_bits(u128::from(id))),
            server_duid: &[0, 1, 2],
            server_address: Ipv6Addr::LOCALHOST,
            t1_secs: 100,
            t2_secs: 200,
            cltt: Instant::from_nanos(1),
            preferred_until: Instant::NEVER,
            valid_until: Instant::NEVER,
            state: RecordState::Active,
            origin: Origin::Snooped,
            snooped_by: Ipv6Addr::UNSPECIFIED,
            changed_at: Instant::from_nanos(1),
        },
    });
}

/// Opens a state directory.
pub fn open(folder: &Path) -> Result<Opened, OpenError> {
    Opened::open(StateDir::lock(folder)?, SMALL, Box::new(Clock::read))
}

/// What is in it, and what was found on the way.
pub fn contents(opened: &mut Opened) -> (Contents, Report) {
    let mut found = Contents::new();
    let load = opened.load(|it| {
        found.insert(it.binding.record.id, it.binding.record.iaid.0);
    });
    let report = load.expect("it was opened").clone();
    (found, report)
}

/// A store that is written to.
pub struct Running {
    pub store: Store,
    events: Receiver<Event>,
}

impl Running {
    /// `also` sees events first, in the writer's thread.
    pub fn start(opened: Opened, mut also: impl FnMut(&Event) + Send + 'static) -> Self {
        let (tell, events) = mpsc::channel();
        let store = opened.start(move |event| {
            also(&event);
            drop(tell.send(event));
        });
        Self {
            store: store.expect("a thread can be started"),
            events,
        }
    }

    pub fn submit(&self, sequence: u64, changes: impl IntoIterator<Item = (u64, Option<u32>)>) {
        let mut batch = self.store.batch();
        for (id, version) in changes {
            match version {
                Some(version) => put(&mut batch, id, version),
                None => batch.remove(id),
            }
        }
        batch.set_sequence(sequence);
        self.store.submit(batch).expect("the queue has room");
    }

    pub fn wait(&self, wanted: impl Fn(&Event) -> bool) -> Event {
        loop {
            let event = self.events.recv_timeout(PATIENCE).expect("the event comes");
            if wanted(&event) {
                return event;
            }
        }
    }

    pub fn rewrite(&self, sequence: u64, all: &Contents) {
        assert!(self.store.begin_rewrite());
        self.submit(
            sequence,
            all.iter().map(|(id, version)| (*id, Some(*version))),
        );
        assert!(self.store.end_rewrite(sequence));
        self.wait(|event| *event == Event::Durable(sequence));
    }
}
