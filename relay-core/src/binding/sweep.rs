//! A look at all routes again, in slices: after new surroundings, or because the shell asks.

use super::{Bindings, Context};
use crate::types::AccessId;

/// Slots of clients looked at in one call.
const SLICE: u32 = 1024;

/// Where such a look stands.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Sweep {
    next: u32,
    again: Again,
}

/// What is told again whole, not only where it differs.
#[derive(Clone, Copy, Default, Debug)]
pub(crate) struct Again {
    /// Routes and neighbour entries, and what follows from them.
    pub(crate) routes: bool,
    /// Entries of the kernel's tables of bindings.
    pub(crate) forwarding: bool,
}

impl Bindings {
    /// Begins a look at all clients; one that is under way begins anew.
    pub(crate) fn look_again(&mut self, again: Again) {
        let before = self.sweep.map(|sweep| sweep.again).unwrap_or_default();
        let again = Again {
            routes: again.routes || before.routes,
            forwarding: again.forwarding || before.forwarding,
        };
        self.sweep = (self.table.clients() > 0).then_some(Sweep { next: 0, again });
    }

    /// Whether one is under way.
    pub(crate) fn is_looking(&self) -> bool {
        self.sweep.is_some()
    }

    /// Whether slices wait.
    pub(crate) const fn hold_looks_back(&mut self, hold: bool) {
        self.is_held_back = hold;
    }

    /// One slice of it.
    // req: PDR-S-2, DP-30
    pub(crate) fn sweep_slice(&mut self, cx: &mut Context<'_>) {
        let Some(sweep) = self.sweep.filter(|_| !self.is_held_back) else {
            return;
        };
        let end = sweep
            .next
            .saturating_add(SLICE)
            .min(self.table.clients_end());
        for at in sweep.next..end {
            let Some(client) = self.table.client_mut(at) else {
                continue;
            };
            if client.link.access == AccessId::UNMAPPED {
                self.remap(cx, at);
                continue;
            }
            if sweep.again.routes {
                // Told anew with the first of its routes.
                client.neighbor = None;
            }
            self.reroute_client(cx, at, sweep.again.routes);
            if sweep.again.forwarding && !sweep.again.routes {
                self.forward_client(cx, at);
            }
            self.tidy_neighbor(cx, at);
        }
        self.waits.clear();
        self.sweep = (end < self.table.clients_end()).then_some(Sweep { next: end, ..sweep });
    }

    /// The entry of a client follows its routes: it comes where one is there, and goes where none
    /// is left.
    fn tidy_neighbor(&mut self, cx: &mut Context<'_>, client: u32) {
        let mut routes = self.table.leases_of(client);
        let interface = routes.find_map(|at| self.table.binding(at)?.announced);
        drop(routes);
        match interface {
            Some(interface) => self.put_neighbor(cx, client, interface),
            None => self.remove_neighbor(cx, client),
        }
    }
}
