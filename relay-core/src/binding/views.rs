//! Bindings as the outside sees them.

use alloc::vec;
use alloc::vec::Vec;
use core::net::Ipv6Addr;

use super::client::Place;
use super::refused::{Holder, Refused};
use super::table::Binding;
use super::{Bindings, Context};
use crate::effect::{BindingAction, BindingEvent, Effect};
use crate::record::Ending;
use crate::relaying::link::Links;
use crate::types::{AccessLink, Prefix};
use crate::view::{
    BindingState, BindingView, Cursor, Filter, Origin, Page, RouteState, SubscriberView,
};

/// Clients looked at for each one that a page may hold.
const LOOKED_AT_PER_CLIENT: usize = 4;
/// Cursors from here on stand in the list of refused leases.
const REFUSED_FROM: u32 = 1 << 31;
/// And from here on among the removals that are remembered.
const ENDED_FROM: u32 = REFUSED_FROM | 1 << 30;

impl Bindings {
    /// The client of a slot with those of its leases that `is_meant`; `None` where that is none.
    // req: PDR-O-1
    pub(super) fn view(
        &self,
        links: &Links,
        at: u32,
        is_meant: impl Fn(u32, &Binding) -> bool,
    ) -> Option<SubscriberView> {
        let client = self.table.client(at)?;
        let leases = self
            .table
            .leases_of(at)
            .filter_map(|at| Some((at, self.table.binding(at)?)));
        let mut bindings: Vec<_> = leases
            .filter(|(at, binding)| is_meant(*at, binding))
            .map(|(_, binding)| self.binding_view(binding))
            .collect();
        bindings.sort_by_key(|binding| (binding.ia_type, binding.iaid, binding.prefix));
        if bindings.is_empty() {
            return None;
        }
        let bare = bare_view(links, client.link, &client.duid, client.place);
        Some(SubscriberView { bindings, ..bare })
    }

    fn binding_view(&self, binding: &Binding) -> BindingView {
        let (server_duid, server_address) = self.table.server_of(binding);
        BindingView {
            ia_type: binding.ia_type,
            iaid: binding.iaid,
            prefix: binding.prefix,
            state: BindingState::Active,
            origin: binding.origin,
            snooped_by: binding.snooped_by,
            server_duid: server_duid.to_vec(),
            server_address,
            t1_secs: binding.t1_secs,
            t2_secs: binding.t2_secs,
            cltt: binding.cltt,
            preferred_until: binding.preferred_until,
            valid_until: binding.valid_until,
            route: binding.route,
        }
    }

    /// The client that owns exactly this prefix, with all its leases.
    pub(crate) fn find_lease(&self, links: &Links, prefix: Prefix) -> Option<SubscriberView> {
        let owner = self.table.binding(self.table.owner(prefix)?)?;
        self.view(links, owner.client, |_, _| true)
    }

    /// A page of the clients that match: those of the table, then those that have nothing in it
    /// but leases over a limit, then, only where a state is asked for, leases that have ended.
    // req: SNP-40
    pub(crate) fn page(&self, links: &Links, filter: &Filter, from: Cursor, limit: usize) -> Page {
        let limit = limit.max(1);
        if from.0 >= ENDED_FROM {
            return self.ended_page(links, filter, from, limit);
        }
        if from.0 >= REFUSED_FROM {
            return self.refused_page(links, filter, from, limit);
        }
        let looked_at = u32::try_from(limit.saturating_mul(LOOKED_AT_PER_CLIENT));
        let end = self.table.clients_end();
        let stop = from
            .0
            .saturating_add(looked_at.unwrap_or(u32::MAX))
            .min(end);
        let mut subscribers = Vec::new();
        let mut next = from.0;
        while next < stop && subscribers.len() < limit {
            subscribers.extend(self.matching(links, filter, next));
            next += 1;
        }
        let is_more = next < end;
        let refused = (self.refused.len() > 0).then_some(Cursor(REFUSED_FROM));
        Page {
            subscribers,
            next: if is_more {
                Some(Cursor(next))
            } else {
                refused.or(self.first_ended(filter))
            },
        }
    }

    /// What of a client matches, its leases over a limit included.
    fn matching(&self, links: &Links, filter: &Filter, at: u32) -> Option<SubscriberView> {
        let client = self.table.client(at)?;
        if !is_client_meant(filter, client.link, &client.duid, client.place) {
            return None;
        }
        let view = self.view(links, at, |_, binding| {
            is_lease_meant(filter, binding.prefix, BindingState::Active, binding.origin)
        });
        if self.refused.len() == 0 {
            return view;
        }
        let bare = || bare_view(links, client.link, &client.duid, client.place);
        self.with_refused(view.unwrap_or_else(bare), filter)
    }

    fn refused_page(&self, links: &Links, filter: &Filter, from: Cursor, limit: usize) -> Page {
        let mut subscribers = Vec::new();
        let mut next = (from.0 - REFUSED_FROM) as usize;
        while let Some(refused) = self.refused.get(next).filter(|_| subscribers.len() < limit) {
            let Holder { link, duid, place } = &refused.holder;
            let is_first = || {
                !self
                    .refused
                    .iter()
                    .take(next)
                    .any(|it| it.is_of(*link, duid))
            };
            if is_client_meant(filter, *link, duid, *place)
                && self.table.find_client(*link, duid).is_none()
                && is_first()
            {
                let bare = bare_view(links, *link, duid, *place);
                subscribers.extend(self.with_refused(bare, filter));
            }
            next += 1;
        }
        let is_more = next < self.refused.len();
        Page {
            subscribers,
            // The list is far shorter than the rest of the numbers.
            next: is_more
                .then_some(Cursor(REFUSED_FROM + next as u32))
                .or(self.first_ended(filter)),
        }
    }

    /// Where the removals begin, if the filter may mean any.
    fn first_ended(&self, filter: &Filter) -> Option<Cursor> {
        let is_meant = filter.state.is_some_and(|it| it != BindingState::Active);
        (is_meant && self.endings.len() > 0).then_some(Cursor(ENDED_FROM))
    }

    fn ended_page(&self, links: &Links, filter: &Filter, from: Cursor, limit: usize) -> Page {
        let first = from.0 - ENDED_FROM;
        let looked_at = u32::try_from(limit.saturating_mul(LOOKED_AT_PER_CLIENT));
        let end = self.endings.end();
        let stop = first.saturating_add(looked_at.unwrap_or(u32::MAX)).min(end);
        let mut subscribers = Vec::new();
        let mut next = first;
        while next < stop && subscribers.len() < limit {
            subscribers.extend(self.ended_view(links, filter, next));
            next += 1;
        }
        Page {
            subscribers,
            next: (next < end).then_some(Cursor(ENDED_FROM + next)),
        }
    }

    /// A removal that matches, as the one lease of its client.
    fn ended_view(&self, links: &Links, filter: &Filter, at: u32) -> Option<SubscriberView> {
        let ended = self.endings.get(at)?;
        let state = match ended.how {
            Ending::Expired => BindingState::Expired,
            Ending::Released | Ending::Cleared => BindingState::Released,
            Ending::Declined => BindingState::Declined,
        };
        let is_meant = is_client_meant(filter, ended.link, &ended.duid, ended.place)
            && is_lease_meant(filter, ended.prefix, state, ended.origin);
        is_meant.then(|| SubscriberView {
            bindings: vec![BindingView {
                ia_type: ended.ia_type,
                iaid: ended.iaid,
                prefix: ended.prefix,
                state,
                origin: ended.origin,
                snooped_by: ended.snooped_by,
                server_duid: Vec::new(),
                server_address: Ipv6Addr::UNSPECIFIED,
                t1_secs: 0,
                t2_secs: 0,
                cltt: ended.ended_at,
                preferred_until: ended.ended_at,
                valid_until: ended.ended_at,
                route: RouteState::Disabled,
            }],
            ..bare_view(links, ended.link, &ended.duid, ended.place)
        })
    }

    /// Adds the leases over a limit of a client; `None` where it has none at all then.
    fn with_refused(&self, mut view: SubscriberView, filter: &Filter) -> Option<SubscriberView> {
        for refused in self.refused.iter() {
            let binding = &refused.binding;
            if refused.is_of(view.link, &view.duid)
                && is_lease_meant(filter, binding.prefix, binding.state, binding.origin)
            {
                view.bindings.push(binding.clone());
            }
        }
        view.bindings
            .sort_by_key(|binding| (binding.ia_type, binding.iaid, binding.prefix));
        (!view.bindings.is_empty()).then_some(view)
    }

    /// Tells of a lease over a limit.
    pub(super) fn refused_event(&self, cx: &mut Context<'_>, refused: &Refused) {
        let Holder { link, duid, place } = &refused.holder;
        let mut view = bare_view(cx.links, *link, duid, *place);
        view.bindings.push(refused.binding.clone());
        cx.out.push(Effect::Binding(BindingEvent {
            action: BindingAction::Refused,
            subscriber: Some(view.into()),
        }));
    }

    /// Tells of a change of one lease that goes on.
    pub(super) fn event(&self, cx: &mut Context<'_>, at: u32, action: BindingAction) {
        let is_told = self.observed || action != BindingAction::Renewed;
        let binding = self.table.binding(at).filter(|_| is_told);
        let view = binding.and_then(|b| self.view(cx.links, b.client, |lease, _| lease == at));
        cx.out.push(Effect::Binding(BindingEvent {
            action,
            subscriber: view.map(Into::into),
        }));
    }
}

/// A client without its leases.
fn bare_view(links: &Links, link: AccessLink, duid: &[u8], place: Place) -> SubscriberView {
    let found = links.by_id(link.access);
    let mut interface_id = Vec::new();
    if let Some(found) = found {
        found.write_interface_id(&mut interface_id, link.vlans);
    }
    let subscriber_id = found.map(|link| link.access.subscriber_id.clone());
    SubscriberView {
        duid: duid.to_vec(),
        link,
        link_address: place.link_address,
        client_address: place.address,
        mac: place.mac,
        interface_id,
        remote_id: found.and_then(|found| found.remote_id_text(place.mac, link.vlans)),
        subscriber_id: subscriber_id.filter(|id| !id.is_empty()),
        bindings: Vec::new(),
    }
}

fn is_client_meant(filter: &Filter, link: AccessLink, duid: &[u8], place: Place) -> bool {
    filter.access.is_none_or(|it| it == link.access)
        && filter.duid.as_ref().is_none_or(|it| **it == *duid)
        && filter.mac.is_none_or(|it| Some(it) == place.mac)
}

fn is_lease_meant(filter: &Filter, prefix: Prefix, state: BindingState, origin: Origin) -> bool {
    let touches = |it: Prefix| it.covers(&prefix) || prefix.covers(&it);
    filter.prefix.is_none_or(touches)
        && filter.state.is_none_or(|it| it == state)
        && filter.origin.is_none_or(|it| it == origin)
}
