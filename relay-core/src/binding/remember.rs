//! Removals come into memory, out of it, and back after a restart.
//!
//! Decides what a removal means beside an active lease of the same client and prefix: the later
//! transaction is the true one. How long it is kept is said in [`super::ended`].

use super::changes::Node;
use super::client::{Client, Duid, Place};
use super::ended::{End, Ended, forget_at};
use super::records::earlier;
use super::table::Binding;
use super::{Bindings, Context};
use crate::record::{Ending, Record, RecordState, Restored};
use crate::time::Instant;

/// Removals forgotten in one call.
const FORGET_BATCH: usize = 1024;

impl Bindings {
    /// A lease of this client, just taken out, is remembered; where nobody asks for it, its record
    /// goes.
    pub(super) fn remember(
        &mut self,
        cx: &mut Context<'_>,
        client: u32,
        binding: &Binding,
        how: Ending,
        end: End,
    ) {
        let (Some(history), Some(client)) = (self.history, self.table.client(client)) else {
            return self.record_remove(cx, binding.id);
        };
        let Client { link, place, .. } = *client;
        let ended = Ended {
            duid: Duid::new(&client.duid),
            link,
            place,
            ia_type: binding.ia_type,
            iaid: binding.iaid,
            prefix: binding.prefix,
            how,
            ended_at: end.at,
            forget_at: forget_at(end.at.max(cx.now), binding.valid_until, history),
            origin: end.origin,
            snooped_by: end.snooped_by,
            is_uncertain: false,
            id: binding.id,
        };
        self.put_ended(cx, ended, cx.now);
    }

    /// Remembers a removal in place of what was remembered of that lease before.
    pub(super) fn put_ended(&mut self, cx: &mut Context<'_>, ended: Ended, changed_at: Instant) {
        if let Some(before) = self.endings.find(ended.prefix, &ended.duid) {
            self.drop_ended(cx, before);
        }
        let id = ended.id;
        let Some(at) = self.endings.insert(ended) else {
            return self.record_remove(cx, id);
        };
        self.table.changes_mut().touch(Node::ended(at), changed_at);
        self.record_ended(cx, id, at);
        while self.endings.len() > self.limits.max_bindings {
            // The one that has the least time left.
            let Some(at) = self.endings.pop_due(Instant::NEVER) else {
                break;
            };
            self.forget(cx, at);
        }
    }

    /// Somebody thinks that the lease goes on for so long: the removal is remembered as long.
    // req: ALQ-D-26
    pub(super) fn remember_until(&mut self, cx: &mut Context<'_>, at: u32, until: Instant) {
        if self.endings.keep_until(at, until)
            && let Some(id) = self.endings.get(at).map(|it| it.id)
        {
            self.record_ended(cx, id, at);
        }
    }

    /// A lease is there (again): that it had ended once is over.
    pub(super) fn forget_ending_of(&mut self, cx: &mut Context<'_>, at: u32) {
        if self.endings.len() == 0 {
            return;
        }
        let binding = self.table.binding(at);
        let client = binding.and_then(|binding| self.table.client(binding.client));
        let (Some(binding), Some(client)) = (binding, client) else {
            return;
        };
        if let Some(at) = self.endings.find(binding.prefix, &client.duid) {
            self.drop_ended(cx, at);
        }
    }

    /// Forgets those whose time has come.
    pub(super) fn forget_due(&mut self, cx: &mut Context<'_>) {
        for _ in 0..FORGET_BATCH {
            let Some(at) = self.endings.pop_due(cx.now) else {
                break;
            };
            self.forget(cx, at);
        }
    }

    /// Forgets one that some relay may still have to be told of: what is known begins behind it.
    // req: ALQ-65
    fn forget(&mut self, cx: &mut Context<'_>, at: u32) {
        let node = Node::ended(at);
        let behind = Instant::from_nanos(self.changed_at(node).as_nanos().saturating_add(1));
        self.history_begin = self.history_begin.max(behind);
        self.table.changes_mut().forget(node);
        self.drop_ended(cx, at);
    }

    /// Takes one out that a newer state replaces.
    fn drop_ended(&mut self, cx: &mut Context<'_>, at: u32) {
        self.table.changes_mut().remove(Node::ended(at));
        if let Some(ended) = self.endings.remove(at) {
            self.record_remove(cx, ended.id);
        }
    }

    /// When a node last changed.
    pub(super) fn changed_at(&self, node: Node) -> Instant {
        self.table.changes().changed_at(node).unwrap_or_default()
    }

    /// All that was stored is back. An empty table knows nothing of before; else nothing that was
    /// forgotten is younger than `history`.
    // req: ALQ-65, ALQ-D-10
    pub(crate) fn begin_history(&mut self, now: Instant) {
        let is_empty = self.table.len() == 0 && self.endings.len() == 0;
        let known_since = match self.history {
            Some(history) if !is_empty => now - history,
            _ => now,
        };
        self.history_begin = self.history_begin.max(known_since);
    }

    /// All changes from here on are known.
    pub(crate) const fn history_begin(&self) -> Instant {
        self.history_begin
    }

    /// A removal as the store has to hold it.
    pub(super) fn ended_record(&self, at: u32, id: u64) -> Option<Record<'_>> {
        let ended = self.endings.get(at).filter(|it| it.id == id)?;
        Some(Record {
            id,
            link: ended.link,
            duid: &ended.duid,
            client_address: ended.place.address,
            mac: ended.place.mac,
            link_address: ended.place.link_address,
            is_first_hop: ended.place.is_first_hop,
            ia_type: ended.ia_type,
            iaid: ended.iaid,
            prefix: ended.prefix,
            server_duid: &[],
            server_address: core::net::Ipv6Addr::UNSPECIFIED,
            t1_secs: 0,
            t2_secs: 0,
            cltt: ended.ended_at,
            preferred_until: ended.ended_at,
            valid_until: ended.ended_at,
            state: RecordState::Ended {
                how: ended.how,
                forget_at: ended.forget_at,
            },
            origin: ended.origin,
            snooped_by: ended.snooped_by,
            changed_at: self.changed_at(Node::ended(at)),
        })
    }

    /// A removal comes back from the store.
    // req: ALQ-D-26
    pub(super) fn restore_ended(
        &mut self,
        cx: &mut Context<'_>,
        restored: &Restored<'_>,
        how: Ending,
        forget_at: Instant,
    ) {
        let record = &restored.record;
        let active = self.table.find_of_duid(record.prefix, record.duid);
        let active = active.and_then(|at| Some((at, self.table.binding(at)?.cltt)));
        if self.history.is_none() || active.is_some_and(|(_, cltt)| cltt >= record.cltt) {
            return self.record_remove(cx, record.id);
        }
        if let Some((at, _)) = active {
            self.take_out(cx, at);
        }
        let ended = Ended {
            duid: Duid::new(record.duid),
            link: record.link,
            place: Place {
                address: record.client_address,
                mac: record.mac,
                link_address: record.link_address,
                is_first_hop: record.is_first_hop,
            },
            ia_type: record.ia_type,
            iaid: record.iaid,
            prefix: record.prefix,
            how,
            ended_at: record.cltt,
            forget_at,
            origin: record.origin,
            snooped_by: record.snooped_by,
            is_uncertain: restored.is_uncertain,
            id: record.id,
        };
        self.put_ended(cx, ended, record.changed_at);
    }

    /// Whether a lease that comes back from the store has ended later, as the store says too.
    pub(super) fn has_ended_since(&mut self, cx: &mut Context<'_>, record: &Record<'_>) -> bool {
        let found = self.endings.find(record.prefix, record.duid);
        let ended_at = found.and_then(|at| Some(self.endings.get(at)?.ended_at));
        let has_ended = ended_at.is_some_and(|ended_at| ended_at > record.cltt);
        match (has_ended, found) {
            (true, _) => self.record_remove(cx, record.id),
            (false, Some(at)) => self.drop_ended(cx, at),
            (false, None) => {}
        }
        has_ended
    }

    /// Takes a lease out of a table that is being restored: no route of it was told yet.
    fn take_out(&mut self, cx: &mut Context<'_>, at: u32) {
        if let Some((binding, _)) = self.table.remove(at) {
            self.record_remove(cx, binding.id);
            self.leave(cx, binding.client);
        }
    }

    /// The time of a restored change was too late.
    pub(super) fn correct_change(&mut self, node: Node, earlier_nanos: i64) {
        let changed_at = earlier(self.changed_at(node), earlier_nanos);
        self.table.changes_mut().set_changed_at(node, changed_at);
    }

    /// Uncertain times of a removal are later than they should be by this much.
    pub(super) fn correct_ended(&mut self, cx: &mut Context<'_>, at: u32, earlier_nanos: i64) {
        let ended = self.endings.get(at).filter(|it| it.is_uncertain);
        let Some(ended) = ended else { return };
        let (id, times) = (ended.id, [ended.ended_at, ended.forget_at]);
        let [ended_at, forget_at] = times.map(|time| earlier(time, earlier_nanos));
        self.endings.set_times(at, ended_at, forget_at);
        self.correct_change(Node::ended(at), earlier_nanos);
        self.record_ended(cx, id, at);
    }
}
