//! From leases to route changes and neighbour entries: one owner per prefix, one change per
//! difference.

use super::client::Client;
use super::table::{Announced, Binding};
use super::{Bindings, Context};
use crate::desired::{Candidate, Wanted};
use crate::effect::{Effect, ForwardingChange, NeighborChange, Route, RouteChange};
use crate::input::RouteOutcome;
use crate::types::{IfIndex, Prefix};
use crate::view::RouteState;

impl Bindings {
    /// Compares what is wanted for the owner of a prefix with what the shell was told, and tells
    /// it the difference; all of it where `again`.
    // req: PDR-R-1, DP-32
    pub(super) fn reroute(&mut self, cx: &mut Context<'_>, at: u32, again: bool) {
        self.follow_route(cx, at, again);
        self.forward(cx, at, again);
    }

    fn follow_route(&mut self, cx: &mut Context<'_>, at: u32, again: bool) {
        let Some(binding) = self.table.binding(at) else {
            return;
        };
        let (owner, prefix) = (binding.client, binding.prefix);
        let Some(client) = self.table.client(owner) else {
            return;
        };
        let gateway = client.place.address;
        let wanted = self.policy.wanted(cx.links, &candidate(binding, client));
        match wanted {
            Wanted::Route(interface) => {
                if binding.announced == Some(interface) && !again {
                    return;
                }
                self.version += 1;
                let version = self.version;
                if let Some(binding) = self.table.binding_mut(at) {
                    binding.version = version;
                    binding.announced = Some(interface);
                }
                self.table.set_route(at, RouteState::Pending);
                self.put_neighbor(cx, owner, interface);
                self.waits.push((prefix, version));
                cx.out.push(Effect::Route(RouteChange::Put(Route {
                    prefix,
                    gateway,
                    interface,
                    version,
                })));
            }
            Wanted::Disabled => self.unroute(cx, at, RouteState::Disabled),
            Wanted::Refused(why) => self.unroute(cx, at, RouteState::Failed(why)),
        }
    }

    fn unroute(&mut self, cx: &mut Context<'_>, at: u32, state: RouteState) {
        self.table.set_route(at, state);
        let Some(binding) = self.table.binding_mut(at) else {
            return;
        };
        let prefix = binding.prefix;
        if binding.announced.take().is_some() {
            let version = self.retract(cx, prefix);
            if let Some(binding) = self.table.binding_mut(at) {
                binding.version = version;
            }
        }
    }

    /// All leases of a client that own their prefix.
    pub(super) fn reroute_client(&mut self, cx: &mut Context<'_>, client: u32, again: bool) {
        let mut next = self.table.leases_of(client).next();
        while let Some(at) = next {
            next = self.table.next_of_client(at);
            if self
                .table
                .binding(at)
                .is_some_and(|binding| binding.is_owner)
            {
                self.reroute(cx, at, again);
            }
        }
    }

    /// A lease now owns its prefix, of which another had what was told `before`.
    pub(super) fn take_over(&mut self, cx: &mut Context<'_>, at: u32, before: Announced) {
        self.reroute(cx, at, false);
        let Some(now) = self.table.binding(at) else {
            return;
        };
        let prefix = now.prefix;
        let left = Announced {
            route: before.route.filter(|_| now.announced.is_none()),
            forwarded: before.forwarded.filter(|_| now.forwarded.is_none()),
        };
        self.take_back(cx, prefix, left);
    }

    /// Nothing of what was told of a prefix is true any more.
    pub(super) fn take_back(&mut self, cx: &mut Context<'_>, prefix: Prefix, told: Announced) {
        if told.route.is_some() {
            self.retract(cx, prefix);
        }
        if told.forwarded.is_some() {
            cx.out
                .push(Effect::Forwarding(ForwardingChange::Remove { prefix }));
        }
    }

    /// No route to this prefix any more: the version of that change. Nothing waits for it.
    pub(super) fn retract(&mut self, cx: &mut Context<'_>, prefix: Prefix) -> u64 {
        self.version += 1;
        let version = self.version;
        cx.out
            .push(Effect::Route(RouteChange::Remove { prefix, version }));
        cx.hold.settle(prefix, version, cx.out);
        version
    }

    /// The shell says what became of a route. Only what it says of the last change counts for the
    /// binding; a Reply is let go by any later one too.
    pub(crate) fn route_outcome(&mut self, cx: &mut Context<'_>, outcome: &RouteOutcome) {
        let owner = self.table.owner(outcome.prefix);
        if let Some(at) = owner
            && let Some(binding) = self.table.binding(at)
            && binding.version == outcome.version
            && binding.announced.is_some()
        {
            let state = match outcome.result {
                Ok(()) => RouteState::Installed,
                Err(why) => RouteState::Failed(why),
            };
            self.table.set_route(at, state);
            self.forward(cx, at, false);
        }
        cx.hold.settle(outcome.prefix, outcome.version, cx.out);
    }

    pub(super) fn put_neighbor(&mut self, cx: &mut Context<'_>, client: u32, interface: IfIndex) {
        let (wanted, Some(client)) = (self.policy.neighbors, self.table.client_mut(client)) else {
            return;
        };
        let address = client.place.address;
        let old = client.neighbor;
        let new = client.place.mac.filter(|_| wanted);
        if let Some(old) = old.filter(|old| *old != interface || !wanted) {
            client.neighbor = None;
            cx.out.push(Effect::Neighbor(NeighborChange::Remove {
                interface: old,
                address,
            }));
        }
        if let Some(mac) = new
            && client.neighbor.is_none()
        {
            client.neighbor = Some(interface);
            cx.out.push(Effect::Neighbor(NeighborChange::Put {
                interface,
                address,
                mac,
            }));
        }
    }

    /// Takes a client's neighbour entry back, unless another client is at its address by now.
    pub(super) fn remove_neighbor(&mut self, cx: &mut Context<'_>, at: u32) {
        let Some(client) = self.table.client_mut(at) else {
            return;
        };
        let (link, address) = (client.link, client.place.address);
        if let Some(interface) = client.neighbor.take()
            && self.table.client_at(link.access, link.vlans, address) == Some(at)
        {
            cx.out.push(Effect::Neighbor(NeighborChange::Remove {
                interface,
                address,
            }));
        }
    }
}

pub(super) fn candidate(binding: &Binding, client: &Client) -> Candidate {
    Candidate {
        ia_type: binding.ia_type,
        prefix: binding.prefix,
        link: client.link,
        next_hop: client.place.address,
        is_first_hop: client.place.is_first_hop,
    }
}
