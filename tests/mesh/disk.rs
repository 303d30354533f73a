//! A perfect disk: what the core wants kept, as it was told. Decides nothing.

use std::collections::BTreeMap;

use relay_core::alq::{LeasequeryInput, PeerMemory};
use relay_core::input::Input;
use relay_core::record::{Record, Restored};
use relay_core::relay::Relay;
use relay_core::time::Instant;
use relay_core::types::PeerId;

/// One record with what it borrows.
struct Owned {
    record: Record<'static>,
    duid: Vec<u8>,
    server_duid: Vec<u8>,
}

/// All of it.
#[derive(Default)]
pub struct Disk {
    records: BTreeMap<u64, Owned>,
    memories: BTreeMap<PeerId, PeerMemory>,
}

impl Disk {
    /// Keeps a record.
    pub fn put(&mut self, record: Record<'_>) {
        let (duid, server_duid) = (record.duid.to_vec(), record.server_duid.to_vec());
        let record = Record {
            duid: &[],
            server_duid: &[],
            ..record
        };
        let owned = Owned {
            record,
            duid,
            server_duid,
        };
        self.records.insert(owned.record.id, owned);
    }

    /// Drops one.
    pub fn remove(&mut self, id: u64) {
        self.records.remove(&id);
    }

    /// Keeps what is known of a peer.
    pub fn remember(&mut self, memory: PeerMemory) {
        self.memories.insert(memory.peer, memory);
    }

    /// Hands all out to a relay that begins.
    pub fn restore(&self, relay: &mut Relay, now: Instant) {
        for owned in self.records.values() {
            let record = Record {
                duid: &owned.duid,
                server_duid: &owned.server_duid,
                ..owned.record
            };
            let is_uncertain = false;
            let restored = Restored {
                record,
                is_uncertain,
            };
            relay.handle_input(now, Input::Restore(restored));
        }
        for memory in self.memories.values() {
            relay.handle_input(now, Input::Leasequery(LeasequeryInput::Restore(*memory)));
        }
        if let Some(last) = self.records.keys().last() {
            relay.number_from(last + 1);
        }
    }
}
