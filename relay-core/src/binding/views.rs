//! Bindings as the outside sees them.

use alloc::vec::Vec;

use super::client::Client;
use super::table::Binding;
use super::{Bindings, Context};
use crate::effect::{BindingAction, BindingEvent, Effect};
use crate::relaying::link::Links;
use crate::types::Prefix;
use crate::view::{BindingState, BindingView, Cursor, Filter, Origin, Page, SubscriberView};

/// Clients looked at for each one that a page may hold.
const LOOKED_AT_PER_CLIENT: usize = 4;

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
        let link = links.by_id(client.link.access);
        let mut interface_id = Vec::new();
        if let Some(link) = link {
            link.write_interface_id(&mut interface_id, client.link.vlans);
        }
        let subscriber_id = link.map(|link| link.access.subscriber_id.clone());
        Some(SubscriberView {
            duid: client.duid.to_vec(),
            link: client.link,
            link_address: client.place.link_address,
            client_address: client.place.address,
            mac: client.place.mac,
            interface_id,
            remote_id: link
                .and_then(|link| link.remote_id_text(client.place.mac, client.link.vlans)),
            subscriber_id: subscriber_id.filter(|id| !id.is_empty()),
            bindings,
        })
    }

    fn binding_view(&self, binding: &Binding) -> BindingView {
        let (server_duid, server_address) = self.table.server_of(binding);
        BindingView {
            ia_type: binding.ia_type,
            iaid: binding.iaid,
            prefix: binding.prefix,
            state: BindingState::Active,
            origin: Origin::Snooped,
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

    /// A page of the clients that match.
    pub(crate) fn page(&self, links: &Links, filter: &Filter, from: Cursor, limit: usize) -> Page {
        let limit = limit.max(1);
        let looked_at = u32::try_from(limit.saturating_mul(LOOKED_AT_PER_CLIENT));
        let end = self.table.clients_end();
        let stop = from
            .0
            .saturating_add(looked_at.unwrap_or(u32::MAX))
            .min(end);
        let mut subscribers = Vec::new();
        let mut next = from.0;
        while next < stop && subscribers.len() < limit {
            let client = self.table.client(next);
            if client.is_some_and(|client| is_client_meant(filter, client)) {
                subscribers.extend(self.view(links, next, |_, b| is_lease_meant(filter, b)));
            }
            next += 1;
        }
        Page {
            subscribers,
            next: (next < end).then_some(Cursor(next)),
        }
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

fn is_client_meant(filter: &Filter, client: &Client) -> bool {
    filter.access.is_none_or(|it| it == client.link.access)
        && filter.duid.as_ref().is_none_or(|it| **it == *client.duid)
        && filter.mac.is_none_or(|it| Some(it) == client.place.mac)
}

fn is_lease_meant(filter: &Filter, binding: &Binding) -> bool {
    let touches = |it: Prefix| it.covers(&binding.prefix) || binding.prefix.covers(&it);
    filter.prefix.is_none_or(touches)
        && filter.state.is_none_or(|it| it == BindingState::Active)
        && filter.origin.is_none_or(|it| it == Origin::Snooped)
}
