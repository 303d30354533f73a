//! Leases end: given up by the client, run out, or cleared by an operator.

use alloc::vec::Vec;
use core::net::Ipv6Addr;

use relay_common::net::MacAddr;

use super::ended::End;
use super::{Bindings, Context};
use crate::effect::{BindingAction, BindingEvent, Effect};
use crate::error::Notice;
use crate::input::Clear;
use crate::record::Ending;
use crate::snoop::{GivenUp, Item};
use crate::time::Instant;
use crate::types::{AccessLink, IaType};
use crate::view::{BindingState, Origin, RouteState};

/// Timers looked at in one call.
const EXPIRY_BATCH: usize = 1024;
/// Clients whose leases an operator's word ends in one call.
const CLEAR_BATCH: usize = 1024;

impl Bindings {
    /// A client gives leases up. Nobody else can do it for them: link, DUID and, where no relay is
    /// in between, MAC must be those of the lease.
    // req: SNP-23, PDR-G-9, DP-15
    pub(crate) fn give_up(
        &mut self,
        cx: &mut Context<'_>,
        link: AccessLink,
        mac: Option<MacAddr>,
        given_up: &GivenUp<'_>,
    ) {
        let action = if given_up.declined {
            BindingAction::Declined
        } else {
            BindingAction::Released
        };
        let found = self.table.find_client(link, given_up.duid);
        let client = found.filter(|at| self.table.client(*at).is_some_and(|c| c.may_be(mac)));
        let mut is_foreign = found != client;
        // Once, not for each of thousands of items that a message can name.
        let is_refused = self.refused.knows(link, given_up.duid);
        for item in given_up.items() {
            if is_refused {
                self.refused
                    .give_up(link, mac, given_up.duid, |lease| match item {
                        Item::Lease(ia_type, iaid, prefix) => {
                            (lease.ia_type, lease.iaid, lease.prefix) == (ia_type, iaid, prefix)
                        }
                        Item::WholePd(iaid) => (lease.ia_type, lease.iaid) == (IaType::Pd, iaid),
                    });
            }
            match (item, client) {
                (Item::Lease(ia_type, iaid, prefix), _) => {
                    let lease =
                        client.and_then(|client| self.table.find(client, ia_type, iaid, prefix));
                    match lease {
                        Some(at) => self.end(cx, at, action),
                        None => {
                            let owner = self.table.owner(prefix);
                            let owner = owner.and_then(|at| self.table.binding(at));
                            is_foreign |= owner.is_some_and(|owner| Some(owner.client) != client);
                        }
                    }
                }
                (Item::WholePd(iaid), Some(client)) => {
                    let is_of_ia = |at: &u32| {
                        let binding = self.table.binding(*at);
                        binding.is_some_and(|b| b.ia_type == IaType::Pd && b.iaid == iaid)
                    };
                    let leases: Vec<u32> = self.table.leases_of(client).filter(is_of_ia).collect();
                    for at in leases {
                        self.end(cx, at, action);
                    }
                }
                (Item::WholePd(_), None) => {}
            }
        }
        self.waits.clear();
        if is_foreign {
            cx.out.notice(Some(link.access), Notice::ForeignRelease);
        }
    }

    /// Ends what has run out, at most [`EXPIRY_BATCH`] timers of it.
    pub(crate) fn expire(&mut self, cx: &mut Context<'_>) {
        self.refused.expire(cx.now);
        self.forget_due(cx);
        self.tell_sequels(cx);
        for _ in 0..EXPIRY_BATCH {
            match self.table.pop_expired(cx.now) {
                Some(Some(at)) => self.run_out(cx, at),
                Some(None) => {}
                None => break,
            }
        }
        self.waits.clear();
    }

    /// Ends what an operator names, at most [`CLEAR_BATCH`] clients of it; the shell asks again while
    /// [`Bindings::has`] some.
    // req: PDR-O-2
    pub(crate) fn clear(&mut self, cx: &mut Context<'_>, clear: &Clear) {
        self.cleared += self.refused.clear(|it| match clear {
            Clear::Lease(prefix) => it.binding.prefix == *prefix,
            Clear::Client(duid) => *it.holder.duid == **duid,
            Clear::Interface(access) => it.holder.link.access == *access,
        });
        if let Clear::Lease(prefix) = clear {
            // The owner last: nobody inherits the route meanwhile.
            let leases: Vec<u32> = self.table.same_prefix(*prefix).collect();
            for at in leases.into_iter().rev() {
                self.end(cx, at, BindingAction::Cleared);
            }
        } else {
            for _ in 0..CLEAR_BATCH {
                // With its last lease a client leaves the list.
                let Some(client) = self.first_of(clear) else {
                    break;
                };
                let leases: Vec<u32> = self.table.leases_of(client).collect();
                for lease in leases {
                    self.end(cx, lease, BindingAction::Cleared);
                }
            }
        }
        self.waits.clear();
    }

    /// Whether there are bindings that an operator's word means.
    pub(crate) fn has(&self, clear: &Clear) -> bool {
        self.first_of(clear).is_some()
    }

    fn first_of(&self, clear: &Clear) -> Option<u32> {
        match clear {
            Clear::Lease(prefix) => self.table.owner(*prefix),
            Clear::Client(duid) => self.table.first_with_duid(duid),
            Clear::Interface(access) => self.table.first_on(*access),
        }
    }

    /// Ends one lease because of what this relay saw.
    pub(super) fn end(&mut self, cx: &mut Context<'_>, at: u32, action: BindingAction) {
        let seen = End {
            at: self.time_of_end(cx, at),
            origin: Origin::Snooped,
            snooped_by: Ipv6Addr::UNSPECIFIED,
        };
        self.end_as(cx, at, action, seen);
    }

    /// Ends one lease that has run out: it had been said before that it would, but not to everybody
    /// where some relay was away.
    fn run_out(&mut self, cx: &mut Context<'_>, at: u32) {
        let Some(binding) = self.table.binding(at) else {
            return;
        };
        let said = End {
            at: binding.cltt,
            origin: binding.origin,
            snooped_by: binding.snooped_by,
        };
        let is_ours =
            binding.snooped_by.is_unspecified() || Some(binding.snooped_by) == self.own_address;
        let is_untold = self.is_anybody_behind && is_ours;
        if let Some(history) = self.history.filter(|_| is_untold) {
            // How long the lease is thought to go on is not known.
            self.table.note_longer(at, cx.now + history);
        }
        self.end_as(cx, at, BindingAction::Expired, said);
    }

    /// After what is known of the lease.
    fn time_of_end(&mut self, cx: &Context<'_>, at: u32) -> Instant {
        let Some(binding) = self.table.binding(at) else {
            return cx.now;
        };
        let (prefix, cltt) = (binding.prefix, binding.cltt);
        let client = self.table.client(binding.client);
        let duid = client.map_or(Vec::new(), |client| client.duid.to_vec());
        self.time_after(cx, prefix, &duid, Some(cltt))
    }

    /// Ends one lease: first its route goes, or passes to the next lease of the prefix. Who did not
    /// see it run out by itself has to be told.
    // req: ALQ-D-13
    pub(super) fn end_as(
        &mut self,
        cx: &mut Context<'_>,
        at: u32,
        action: BindingAction,
        end: End,
    ) {
        let Some(client) = self.table.binding(at).map(|binding| binding.client) else {
            return;
        };
        let mut view = self.view(cx.links, client, |lease, _| lease == at);
        let longer = self.table.longer_until(at);
        let Some((mut binding, heir)) = self.table.remove(at) else {
            return;
        };
        // Others may know of an earlier transaction that gave the lease a longer life.
        let outlived = longer.filter(|until| *until > cx.now);
        let how = ending(action).or(outlived.map(|_| Ending::Expired));
        binding.valid_until = binding.valid_until.max(outlived.unwrap_or_default());
        match how {
            Some(how) => self.remember(cx, client, &binding, how, end),
            // Nobody needs it any more, whoever told it. req: ALQ-46
            None => self.record_remove(cx, binding.id),
        }
        let announced = binding.take_announced();
        match heir {
            Some(heir) => self.take_over(cx, heir, announced),
            None => self.take_back(cx, binding.prefix, announced),
        }
        self.leave(cx, client);
        if let Some(ended) = view.as_mut().and_then(|view| view.bindings.first_mut()) {
            ended.state = state_after(action);
            ended.route = RouteState::Disabled;
        }
        self.cleared += usize::from(action == BindingAction::Cleared);
        cx.out.push(Effect::Binding(BindingEvent {
            action,
            subscriber: view.map(Into::into),
        }));
    }

    /// A lease of this client went; with its last one it goes too.
    pub(super) fn leave(&mut self, cx: &mut Context<'_>, client: u32) {
        if self.table.client(client).is_some_and(|it| it.leases == 0) {
            self.remove_neighbor(cx, client);
            self.table.remove_client(client);
        }
    }
}

const fn state_after(action: BindingAction) -> BindingState {
    match action {
        BindingAction::Created | BindingAction::Renewed | BindingAction::Refused => {
            BindingState::Active
        }
        BindingAction::Declined => BindingState::Declined,
        BindingAction::Expired => BindingState::Expired,
        BindingAction::Released | BindingAction::Cleared => BindingState::Released,
    }
}

/// How a lease ended before its time.
const fn ending(action: BindingAction) -> Option<Ending> {
    match action {
        BindingAction::Released => Some(Ending::Released),
        BindingAction::Declined => Some(Ending::Declined),
        BindingAction::Cleared => Some(Ending::Cleared),
        BindingAction::Created
        | BindingAction::Renewed
        | BindingAction::Expired
        | BindingAction::Refused => None,
    }
}
