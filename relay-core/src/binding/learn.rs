//! A Reply creates, refreshes and ends leases (spec section 3.2), within the limits (PDR-G-5 to
//! PDR-G-7).

use alloc::vec::Vec;
use core::net::Ipv6Addr;

use relay_common::net::VlanTags;

use super::client::Place;
use super::lifecycle::{Step, step};
use super::refused::{Holder, Refused};
use super::replica::{HALF_SECOND, is_same_end};
use super::table::{Binding, Given};
use super::{Bindings, Context};
use crate::effect::BindingAction;
use crate::error::Notice;
use crate::input::RouteRefusal;
use crate::snoop::{Lease, Leases};
use crate::time::Instant;
use crate::types::{AccessLink, Prefix};
use crate::view::{BindingState, BindingView, Origin, RouteState};

/// Whose leases a Reply is about, and who gave them.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Source<'a> {
    pub(crate) link: AccessLink,
    pub(crate) place: Place,
    pub(crate) duid: &'a [u8],
    pub(crate) server_duid: &'a [u8],
    pub(crate) server_address: Ipv6Addr,
    /// Zero lifetimes end leases.
    pub(crate) may_end: bool,
    /// Who tells it, where it is no Reply (`replica`).
    pub(crate) told: Option<Given<'a>>,
}

impl Bindings {
    /// Learns a Reply. What it has to wait for is in [`Bindings::waits`] and
    /// [`Bindings::awaited_record`].
    // req: PDR-G-3
    pub(crate) fn learn(&mut self, cx: &mut Context<'_>, source: &Source<'_>, leases: &Leases) {
        self.waits.clear();
        self.records.awaited = 0;
        self.records.is_unkept = false;
        let mut client = self.table.find_client(source.link, source.duid);
        let mut is_placed = false;
        for lease in leases {
            let Ok(lease) = lease else {
                cx.out
                    .notice(Some(source.link.access), Notice::LeaseInvalid);
                continue;
            };
            let known = client.and_then(|client| {
                self.table
                    .find(client, lease.ia_type, lease.iaid, lease.prefix)
            });
            let step = step(known.is_some(), lease.valid_secs, source.may_end);
            if matches!(step, Step::Create | Step::Refresh)
                && let Some(client) = client
                && !is_placed
            {
                self.place(cx, client, source.place, source.link.vlans);
                is_placed = true;
            }
            match (step, known) {
                (Step::Create, _) => {
                    client = match self.table.find_of_duid(lease.prefix, source.duid) {
                        Some(at) => self.adopt(cx, source, client, at, lease),
                        None => self.create(cx, source, client, lease),
                    }
                }
                (Step::Ignore, None) if source.may_end => {
                    let key = (lease.ia_type, lease.iaid, lease.prefix);
                    self.refused.forget_lease(source.link, source.duid, key);
                }
                (Step::Refresh, Some(at)) => self.refresh(cx, source, at, lease),
                (Step::End, Some(at)) => {
                    self.end(cx, at, BindingAction::Released);
                    client = client.filter(|client| self.table.client(*client).is_some());
                }
                _ => {}
            }
        }
    }

    /// The route changes that came out of the last Reply.
    pub(crate) fn waits(&self) -> &[(Prefix, u64)] {
        &self.waits
    }

    /// The client after it, which may be new.
    pub(super) fn create(
        &mut self,
        cx: &mut Context<'_>,
        source: &Source<'_>,
        client: Option<u32>,
        lease: &Lease,
    ) -> Option<u32> {
        let access = Some(source.link.access);
        if let Some((notice, why)) = self.limit(source.link, client) {
            // The message goes on all the same. req: SNP-40, DP-14
            cx.out.notice(access, notice);
            self.refuse(cx, source, lease, why);
            return client;
        }
        let before = self.table.owner(lease.prefix);
        let owner = match client {
            Some(client) => client,
            None => self
                .table
                .add_client(source.duid, source.link, source.place)?,
        };
        let given = self.given(cx, source, lease);
        let Some(at) = self.table.add(owner, lease, given) else {
            cx.out.notice(access, Notice::LeaseConflict);
            self.refusals += 1;
            if client.is_none() {
                self.table.remove_client(owner);
            }
            return client;
        };
        self.number(at);
        self.record_put(cx, at);
        let key = (lease.ia_type, lease.iaid, lease.prefix);
        self.refused.forget_lease(source.link, source.duid, key);
        match before {
            Some(before) if self.restore_order(at) => self.supersede(cx, before, at),
            Some(_) => {
                cx.out.notice(access, Notice::LeaseConflict);
                self.table
                    .set_route(at, RouteState::Failed(RouteRefusal::Superseded));
            }
            None => self.reroute(cx, at, false),
        }
        self.event(cx, at, BindingAction::Created);
        Some(owner)
    }

    /// Who gives or tells a lease, and when: a Reply comes after what was known, also of other
    /// clients' leases of its prefix.
    fn given<'a>(&mut self, cx: &Context<'_>, source: &Source<'a>, lease: &Lease) -> Given<'a> {
        let given = source.given(cx);
        if source.told.is_some() {
            return given;
        }
        if let Some(known) = self.told_already(cx, source.duid, lease, given.at) {
            return Given {
                cltt: known.cltt,
                snooped_by: known.snooped_by,
                ..given
            };
        }
        let ended = self.endings.find(lease.prefix, source.duid);
        let ended_at = ended.and_then(|at| Some(self.endings.get(at)?.ended_at));
        let owner = self.table.owner(lease.prefix);
        let owner = owner.and_then(|at| self.table.binding(at));
        let ahead = owner.map(|it| it.cltt).filter(|cltt| *cltt > cx.now);
        let known = ended_at.max(ahead);
        Given {
            cltt: self.time_after(cx, lease.prefix, source.duid, known),
            ..given
        }
    }

    /// The record of another relay that heard the same Reply and told of it first. It stays that record: under a
    /// second of its own, the next one, it would outlive a Release that the other hears meanwhile.
    // req: ALQ-D-11
    fn told_already(
        &self,
        cx: &Context<'_>,
        duid: &[u8],
        lease: &Lease,
        at: Instant,
    ) -> Option<&Binding> {
        let known = self.table.find_of_duid(lease.prefix, duid)?;
        let known = self.table.binding(known)?;
        let is_told = !known.snooped_by.is_unspecified() && known.cltt + HALF_SECOND > cx.now;
        let until = at.plus_lifetime(lease.valid_secs);
        (is_told && is_same_end(known.valid_until, until)).then_some(known)
    }

    /// A lease of this client that was known on another link, or of another IA: it has moved here.
    /// The client after it, which may be new.
    pub(super) fn adopt(
        &mut self,
        cx: &mut Context<'_>,
        source: &Source<'_>,
        client: Option<u32>,
        at: u32,
        lease: &Lease,
    ) -> Option<u32> {
        let before = self.table.binding(at)?.client;
        let has_moved = client != Some(before);
        if has_moved && let Some((notice, why)) = self.limit(source.link, client) {
            // req: SNP-40
            cx.out.notice(Some(source.link.access), notice);
            self.refuse(cx, source, lease, why);
            return client;
        }
        let owner = match client {
            Some(client) => client,
            None => self
                .table
                .add_client(source.duid, source.link, source.place)?,
        };
        if has_moved {
            self.table.rekey(at, owner, lease.ia_type, lease.iaid);
        }
        let key = (lease.ia_type, lease.iaid, lease.prefix);
        self.refused.forget_lease(source.link, source.duid, key);
        self.refresh(cx, source, at, lease);
        if has_moved {
            self.leave(cx, before);
            if self.table.binding(at).is_some_and(|it| it.is_owner) {
                self.reroute(cx, at, true);
            }
        }
        Some(owner)
    }

    /// A lease that the table does not take: it is shown, since its client believes to have it.
    fn refuse(
        &mut self,
        cx: &mut Context<'_>,
        source: &Source<'_>,
        lease: &Lease,
        why: RouteRefusal,
    ) {
        let holder = Holder {
            link: source.link,
            duid: source.duid.into(),
            place: source.place,
        };
        let given = source.given(cx);
        let binding = BindingView {
            ia_type: lease.ia_type,
            iaid: lease.iaid,
            prefix: lease.prefix,
            state: BindingState::Active,
            origin: given.origin,
            snooped_by: given.snooped_by,
            server_duid: source.server_duid.to_vec(),
            server_address: source.server_address,
            t1_secs: lease.t1_secs,
            t2_secs: lease.t2_secs,
            cltt: given.cltt,
            preferred_until: given.at.plus_lifetime(lease.preferred_secs),
            valid_until: given.at.plus_lifetime(lease.valid_secs),
            route: RouteState::Failed(why),
        };
        self.refusals += 1;
        let refused = Refused { holder, binding };
        if self.refused.put(refused.clone()) {
            self.refused_event(cx, &refused);
        }
    }

    fn refresh(&mut self, cx: &mut Context<'_>, source: &Source<'_>, at: u32, lease: &Lease) {
        let given = self.given(cx, source, lease);
        if let Some(binding) = self.table.binding(at)
            && (binding.ia_type, binding.iaid) != (lease.ia_type, lease.iaid)
        {
            // Who told it did not say of which IA it is.
            let client = binding.client;
            self.table.rekey(at, client, lease.ia_type, lease.iaid);
        }
        self.table.refresh(at, lease, given);
        self.record_put(cx, at);
        let before = self.table.promote(at);
        if let Some(before) = before.filter(|_| self.restore_order(at)) {
            self.supersede(cx, before, at);
        } else if let Some(binding) = self.table.binding(at)
            && binding.route == RouteState::Pending
            && cx.hold.awaits(binding.prefix)
        {
            // A repeated Reply does not overtake the first one, which still waits.
            self.waits.push((binding.prefix, binding.version));
        }
        self.forward(cx, at, true);
        self.event(cx, at, BindingAction::Renewed);
    }

    /// The lease `new` takes its prefix from `old`, whose Reply is older.
    // req: SNP-35
    fn supersede(&mut self, cx: &mut Context<'_>, old: u32, new: u32) {
        let clients = [old, new].map(|at| self.table.binding(at).map(|binding| binding.client));
        let [old_client, new_client] = clients;
        if old_client != new_client {
            let client = new_client.and_then(|at| self.table.client(at));
            cx.out.notice(
                client.map(|client| client.link.access),
                Notice::LeaseConflict,
            );
        }
        self.table
            .set_route(old, RouteState::Failed(RouteRefusal::Superseded));
        let binding = self.table.binding_mut(old);
        let announced = binding.map(Binding::take_announced).unwrap_or_default();
        self.take_over(cx, new, announced);
    }

    /// Puts the leases of a prefix, of which this one came last, in the order of their
    /// transactions. Whether this one owns the prefix.
    pub(super) fn restore_order(&mut self, at: u32) -> bool {
        let Some((prefix, cltt)) = self.table.binding(at).map(|it| (it.prefix, it.cltt)) else {
            return false;
        };
        let mut newer: Vec<(Instant, u32)> = self
            .table
            .same_prefix(prefix)
            .filter(|other| *other != at)
            .filter_map(|other| Some((self.table.binding(other)?.cltt, other)))
            .filter(|(other, _)| *other > cltt)
            .collect();
        newer.sort_unstable();
        for (_, other) in &newer {
            self.table.promote(*other);
        }
        newer.is_empty()
    }

    /// The limit that one more lease would break.
    // req: PDR-G-5, PDR-G-6, PDR-G-7
    pub(super) fn limit(
        &self,
        link: AccessLink,
        client: Option<u32>,
    ) -> Option<(Notice, RouteRefusal)> {
        let of_client = client
            .and_then(|client| self.table.client(client))
            .map_or(0, |client| client.leases as usize);
        let of_interface = self.table.count_on(link.access);
        let limits = &self.limits;
        if of_client >= limits.max_leases_per_client {
            return Some((Notice::ClientLimit, RouteRefusal::ClientLimit));
        }
        if limits.max_leases_per_interface != 0 && of_interface >= limits.max_leases_per_interface {
            return Some((Notice::InterfaceLimit, RouteRefusal::InterfaceLimit));
        }
        let is_full = self.table.len() >= limits.max_bindings;
        is_full.then_some((Notice::TableFull, RouteRefusal::TableFull))
    }

    /// The client is there now: its routes and its neighbour entry follow.
    // req: SNP-4
    pub(super) fn place(
        &mut self,
        cx: &mut Context<'_>,
        at: u32,
        mut place: Place,
        vlans: VlanTags,
    ) {
        let Some(client) = self.table.client(at) else {
            return;
        };
        let old = client.place;
        if place.address == old.address {
            place.mac = place.mac.or(old.mac);
        }
        let (same_vlans, address_changed) =
            (client.link.vlans == vlans, place.address != old.address);
        if place == old && same_vlans {
            return;
        }
        if address_changed {
            self.remove_neighbor(cx, at);
        } else if place.mac != old.mac
            && let Some(client) = self.table.client_mut(at)
        {
            client.neighbor = None;
        }
        self.table.move_client(at, place, vlans);
        let unmoved = Place {
            link_address: old.link_address,
            ..place
        };
        if unmoved != old || !same_vlans {
            self.reroute_client(cx, at, true);
        }
    }
}

impl<'a> Source<'a> {
    fn given(&self, cx: &Context<'_>) -> Given<'a> {
        self.told.unwrap_or(Given {
            now: cx.now,
            at: cx.now,
            cltt: cx.now,
            server: Some((self.server_duid, self.server_address)),
            origin: Origin::Snooped,
            snooped_by: Ipv6Addr::UNSPECIFIED,
        })
    }
}
