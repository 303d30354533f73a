//! From leases to entries of the kernel's tables of bindings, by which it checks, counts and forwards
//! packets without its routes: one owner per prefix, as with routes.
//!
//! Decides which leases have an entry, and which of them may be forwarded to. Must not know how the tables
//! are written.

use super::client::Client;
use super::routes::candidate;
use super::table::{Binding, Forwarded};
use super::{Bindings, Context};
use crate::effect::{Effect, ForwardingChange, ForwardingEntry};
use crate::relaying::link::Links;
use crate::types::AccessId;
use crate::view::RouteState;

impl Bindings {
    pub(crate) const fn set_forwarding(&mut self, is_wanted: bool) {
        self.forwards = is_wanted;
    }

    /// Tells what there is to be for the owner of a prefix, where that is not what was told; in any case where
    /// it may differ in more than [`Forwarded`] says (`again`).
    pub(super) fn forward(&mut self, cx: &mut Context<'_>, at: u32, again: bool) {
        let binding = self.table.binding(at).filter(|it| it.is_owner);
        let Some(binding) = binding.filter(|_| self.forwards) else {
            return;
        };
        let Some(client) = self.table.client(binding.client) else {
            return;
        };
        let entry = self.entry(cx.links, binding, client);
        let (prefix, before) = (binding.prefix, binding.forwarded);
        let now = entry.map(|entry| Forwarded {
            interface: entry.interface,
            is_routed: entry.is_routed,
        });
        let change = match entry {
            Some(entry) if again || now != before => ForwardingChange::Put(entry),
            None if before.is_some() => ForwardingChange::Remove { prefix },
            _ => return,
        };
        if let Some(binding) = self.table.binding_mut(at) {
            binding.forwarded = now;
        }
        cx.out.push(Effect::Forwarding(change));
    }

    /// All leases of a client that own their prefix, whatever was told of them.
    pub(super) fn forward_client(&mut self, cx: &mut Context<'_>, client: u32) {
        let mut next = self.table.leases_of(client).next();
        while let Some(at) = next {
            next = self.table.next_of_client(at);
            self.forward(cx, at, true);
        }
    }

    /// Only a client that is the first hop is known by its frames. Whoever told its lease, the entry is there
    /// before this relay may become the forwarder.
    // req: DP-24, PDR-R-3
    fn entry(&self, links: &Links, binding: &Binding, client: &Client) -> Option<ForwardingEntry> {
        let link = client.link;
        let is_known = client.place.is_first_hop && link.access != AccessId::UNMAPPED;
        let mac = client.place.mac.filter(|_| is_known)?;
        let is_refused =
            matches!(binding.route, RouteState::Failed(_)) && binding.announced.is_some();
        Some(ForwardingEntry {
            prefix: binding.prefix,
            interface: links.by_id(link.access)?.access.ifindex?,
            vlans: link.vlans,
            mac,
            // req: DP-43
            valid_until: binding.valid_until,
            is_routed: !is_refused && self.policy.may_pass_by(links, &candidate(binding, client)),
        })
    }
}
