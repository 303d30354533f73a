//! What a durable store has to hold: each change of a binding with a growing number, and bindings
//! that come back after a restart.
//!
//! Decides which Reply waits for which change, and what a restored binding means beside those that
//! are there. Must not know of files.

use super::changes::{Kind, Node};
use super::client::Place;
use super::table::Given;
use super::{Bindings, Context};
use crate::effect::Effect;
use crate::record::{Keeping, Record, RecordChange, RecordKey, RecordState, Restored};
use crate::snoop::Lease;
use crate::time::Instant;
use crate::view::RouteState;

/// Slots of bindings looked at in one call.
const SLICE: u32 = 1024;

/// Numbers of bindings and of their changes.
#[derive(Default)]
pub(crate) struct Records {
    keeping: Keeping,
    /// Of the newest binding.
    last_id: u64,
    /// Of the newest change.
    sequence: u64,
    /// The newest change that came out of the Reply being learned; 0: none.
    pub(super) awaited: u64,
    /// The Reply being learned changed something that it does not wait to have kept.
    pub(super) is_unkept: bool,
    correction: Option<Correction>,
}

impl Records {
    /// A number that no binding had yet.
    pub(super) const fn next_id(&mut self) -> u64 {
        self.last_id += 1;
        self.last_id
    }
}

/// Uncertain times that are being put right.
#[derive(Clone, Copy)]
struct Correction {
    next: Node,
    earlier_nanos: i64,
}

impl Bindings {
    pub(crate) const fn set_keeping(&mut self, keeping: Keeping) {
        self.records.keeping = keeping;
    }

    /// So many bindings are likely to come back: no table need grow for them.
    pub(crate) fn expect(&mut self, bindings: usize) {
        self.table.expect(bindings);
    }

    /// New bindings get this number and those behind it, or later ones.
    pub(crate) fn number_from(&mut self, id: u64) {
        self.records.last_id = self.records.last_id.max(id.saturating_sub(1));
    }

    /// The newest change that came out of the last Reply, which has to wait for it.
    pub(crate) const fn awaited_record(&self) -> Option<u64> {
        match self.records.awaited {
            0 => None,
            sequence => Some(sequence),
        }
    }

    /// Whether the last Reply leaves before what it changed is kept, though there is a store.
    pub(crate) const fn leaves_unkept(&self) -> bool {
        self.records.is_unkept
    }

    /// A new binding gets its number.
    pub(super) fn number(&mut self, at: u32) {
        let id = self.records.next_id();
        if let Some(binding) = self.table.binding_mut(at) {
            binding.id = id;
        }
    }

    /// A binding has changed. That it had ended once is over.
    pub(super) fn record_put(&mut self, cx: &mut Context<'_>, at: u32) {
        self.forget_ending_of(cx, at);
        if let Some(binding) = self.table.binding_mut(at) {
            binding.is_uncertain = false;
            let id = binding.id;
            let at = Node::binding(at);
            self.tell_record(cx, RecordChange::Put(RecordKey { id, at }));
        }
    }

    /// A binding has ended and is remembered.
    pub(super) fn record_ended(&mut self, cx: &mut Context<'_>, id: u64, at: u32) {
        let at = Node::ended(at);
        self.tell_record(cx, RecordChange::Put(RecordKey { id, at }));
    }

    /// A binding has ended, and nobody need know.
    pub(super) fn record_remove(&mut self, cx: &mut Context<'_>, id: u64) {
        self.tell_record(cx, RecordChange::Remove { id });
    }

    fn tell_record(&mut self, cx: &mut Context<'_>, change: RecordChange) {
        let next = self.records.sequence + 1;
        match self.records.keeping {
            Keeping::No => return,
            Keeping::Failing => {
                self.records.is_unkept = true;
                return;
            }
            Keeping::Told => self.records.is_unkept = true,
            Keeping::Awaited => self.records.awaited = next,
        }
        self.records.sequence = next;
        cx.out.push(Effect::Record {
            change,
            sequence: self.records.sequence,
        });
    }

    /// A binding as it is now; `None` where it has ended.
    pub(crate) fn record(&self, key: RecordKey) -> Option<Record<'_>> {
        if let Kind::Ended(at) = key.at.kind() {
            return self.ended_record(at, key.id);
        }
        let Kind::Binding(at) = key.at.kind() else {
            return None;
        };
        let binding = self.table.binding(at).filter(|it| it.id == key.id)?;
        let client = self.table.client(binding.client)?;
        let (server_duid, server_address) = self.table.server_of(binding);
        Some(Record {
            id: binding.id,
            link: client.link,
            duid: &client.duid,
            client_address: client.place.address,
            mac: client.place.mac,
            link_address: client.place.link_address,
            is_first_hop: client.place.is_first_hop,
            ia_type: binding.ia_type,
            iaid: binding.iaid,
            prefix: binding.prefix,
            server_duid,
            server_address,
            t1_secs: binding.t1_secs,
            t2_secs: binding.t2_secs,
            cltt: binding.cltt,
            preferred_until: binding.preferred_until,
            valid_until: binding.valid_until,
            state: RecordState::Active,
            origin: binding.origin,
            snooped_by: binding.snooped_by,
            changed_at: self.changed_at(Node::binding(at)),
        })
    }

    /// Tells the next slice of all bindings and removals, from a slot on. Where the next one begins.
    pub(crate) fn record_slice(&mut self, cx: &mut Context<'_>, from: u32) -> Option<u32> {
        match Node::from_number(from).kind() {
            Kind::Binding(from) => {
                let end = self.table.bindings_end();
                let stop = from.saturating_add(SLICE).min(end);
                for at in from..stop {
                    if let Some(id) = self.table.binding(at).map(|binding| binding.id) {
                        let at = Node::binding(at);
                        self.tell_record(cx, RecordChange::Put(RecordKey { id, at }));
                    }
                }
                let is_more = stop < end || self.endings.len() > 0;
                let next = if stop < end {
                    Node::binding(stop)
                } else {
                    Node::ended(0)
                };
                is_more.then_some(next.number())
            }
            Kind::Ended(from) => {
                let end = self.endings.end();
                let stop = from.saturating_add(SLICE).min(end);
                for at in from..stop {
                    if let Some(id) = self.endings.get(at).map(|ended| ended.id) {
                        self.record_ended(cx, id, at);
                    }
                }
                (stop < end).then_some(Node::ended(stop).number())
            }
        }
    }

    /// Takes a binding back. It was within the limits when it was made. Its route is not told yet:
    /// that is for a look at all routes once everything is back.
    pub(crate) fn restore(&mut self, cx: &mut Context<'_>, restored: &Restored<'_>) {
        let record = &restored.record;
        self.records.last_id = self.records.last_id.max(record.id);
        if let RecordState::Ended { how, forget_at } = record.state {
            return self.restore_ended(cx, restored, how, forget_at);
        }
        if self.has_ended_since(cx, record) {
            return;
        }
        let place = Place {
            address: record.client_address,
            mac: record.mac,
            link_address: record.link_address,
            is_first_hop: record.is_first_hop,
        };
        let known = self.table.find_of_duid(record.prefix, record.duid);
        let twin = known.and_then(|at| self.table.binding(at));
        if let Some((id, cltt)) = twin.map(|twin| (twin.id, twin.cltt)) {
            // Written under two numbers: the later transaction is the true one.
            let old = if cltt < record.cltt { id } else { record.id };
            self.record_remove(cx, old);
            if old == record.id {
                return;
            }
        }
        let found = self.table.find_client(record.link, record.duid);
        let client = found.or_else(|| self.table.add_client(record.duid, record.link, place));
        let Some(client) = client else { return };
        self.place_newest(client, place, restored);
        self.put_back(cx, client, known, restored);
    }

    /// Where its newest transaction saw it, there a client is.
    fn place_newest(&mut self, client: u32, place: Place, restored: &Restored<'_>) {
        let leases = self.table.leases_of(client);
        let newest = leases
            .filter_map(|at| Some(self.table.binding(at)?.cltt))
            .max();
        if newest.is_some_and(|newest| newest < restored.record.cltt) {
            let vlans = restored.record.link.vlans;
            self.table.move_client(client, place, vlans);
        }
    }

    /// `known`: the binding that the client has of this lease already.
    fn put_back(
        &mut self,
        cx: &mut Context<'_>,
        client: u32,
        known: Option<u32>,
        restored: &Restored<'_>,
    ) {
        let record = &restored.record;
        let lease = Lease {
            ia_type: record.ia_type,
            iaid: record.iaid,
            t1_secs: record.t1_secs,
            t2_secs: record.t2_secs,
            prefix: record.prefix,
            preferred_secs: secs_between(cx.now, record.preferred_until),
            valid_secs: secs_between(cx.now, record.valid_until),
        };
        let given = Given {
            now: cx.now,
            at: cx.now,
            cltt: record.cltt,
            server: Some((record.server_duid, record.server_address)),
            origin: record.origin,
            snooped_by: record.snooped_by,
        };
        let at = match known {
            Some(at) => {
                let before = self.table.binding(at).map_or(client, |it| it.client);
                self.table.rekey(at, client, record.ia_type, record.iaid);
                self.leave(cx, before);
                self.table.refresh(at, &lease, given);
                Some(at)
            }
            None => self.table.add(client, &lease, given),
        };
        let Some(at) = at else {
            // Too many leases of one prefix: it cannot have been one of them.
            self.record_remove(cx, record.id);
            if self.table.client(client).is_some_and(|it| it.leases == 0) {
                self.table.remove_client(client);
            }
            return;
        };
        if let Some(binding) = self.table.binding_mut(at) {
            binding.id = record.id;
            binding.is_uncertain = restored.is_uncertain;
        }
        self.table.set_route(at, RouteState::Pending);
        self.table
            .set_times(at, record.preferred_until, record.valid_until);
        let changes = self.table.changes_mut();
        changes.set_changed_at(Node::binding(at), record.changed_at);
        // The lease whose Reply came last owns the prefix, the one before it is next.
        // req: SNP-35
        self.restore_order(at);
    }

    /// Uncertain times are later than they should be by this much; negative: earlier.
    pub(crate) fn correct_times(&mut self, cx: &mut Context<'_>, earlier_nanos: i64) {
        while self.records.correction.is_some() {
            self.correct_slice(cx);
        }
        self.records.correction = Some(Correction {
            next: Node::binding(0),
            earlier_nanos,
        });
    }

    /// Whether slices of a correction are to come.
    pub(super) const fn is_correcting(&self) -> bool {
        self.records.correction.is_some()
    }

    /// One slice of it.
    pub(crate) fn correct_slice(&mut self, cx: &mut Context<'_>) {
        let Some(Correction {
            next,
            earlier_nanos,
        }) = self.records.correction
        else {
            return;
        };
        let next = match next.kind() {
            Kind::Binding(next) => {
                let end = self.table.bindings_end();
                let stop = next.saturating_add(SLICE).min(end);
                for at in next..stop {
                    self.correct_binding(cx, at, earlier_nanos);
                }
                let behind = (self.endings.len() > 0).then_some(Node::ended(0));
                if stop < end {
                    Some(Node::binding(stop))
                } else {
                    behind
                }
            }
            Kind::Ended(next) => {
                let end = self.endings.end();
                let stop = next.saturating_add(SLICE).min(end);
                for at in next..stop {
                    self.correct_ended(cx, at, earlier_nanos);
                }
                (stop < end).then_some(Node::ended(stop))
            }
        };
        self.records.correction = next.map(|next| Correction {
            next,
            earlier_nanos,
        });
    }

    fn correct_binding(&mut self, cx: &mut Context<'_>, at: u32, earlier_nanos: i64) {
        let binding = self.table.binding_mut(at).filter(|it| it.is_uncertain);
        let Some(binding) = binding else { return };
        binding.cltt = earlier(binding.cltt, earlier_nanos);
        let preferred_until = earlier(binding.preferred_until, earlier_nanos);
        let valid_until = earlier(binding.valid_until, earlier_nanos);
        self.table.set_times(at, preferred_until, valid_until);
        self.correct_change(Node::binding(at), earlier_nanos);
        self.record_put(cx, at);
        self.forward(cx, at, true);
    }
}

/// Whole seconds of a lifetime; the exact end is set afterwards.
fn secs_between(now: Instant, until: Instant) -> u32 {
    if until == Instant::NEVER {
        return u32::MAX;
    }
    let secs = until.saturating_since(now).as_secs();
    u32::try_from(secs).unwrap_or(u32::MAX - 1)
}

pub(super) fn earlier(at: Instant, by_nanos: i64) -> Instant {
    if at == Instant::NEVER {
        return at;
    }
    Instant::from_nanos(at.as_nanos().saturating_add_signed(-by_nanos))
}
