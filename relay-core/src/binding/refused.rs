//! Leases over a limit: the servers gave them, the clients believe to have them, and the table did
//! not take them (SNP-40). Kept to be shown, and for nothing else: they get no route and count
//! nowhere. A bounded list, in which the newest pushes out the oldest.

use alloc::boxed::Box;
use alloc::collections::VecDeque;

use relay_common::net::MacAddr;

use super::client::Place;
use crate::time::Instant;
use crate::types::{AccessLink, IaType, Iaid, Prefix};
use crate::view::BindingView;

/// Leases that are kept to be shown: a client that asks for ever more must not cost memory.
pub(crate) const REFUSED_MAX: usize = 1024;

/// A client as the list knows it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Holder {
    pub(crate) link: AccessLink,
    pub(crate) duid: Box<[u8]>,
    pub(crate) place: Place,
}

/// One lease that the table did not take; `binding.route` says why.
#[derive(Clone, Debug)]
pub(crate) struct Refused {
    pub(crate) holder: Holder,
    pub(crate) binding: BindingView,
}

impl Refused {
    /// Whether it is this client's.
    pub(crate) fn is_of(&self, link: AccessLink, duid: &[u8]) -> bool {
        super::table::is_same_link(self.holder.link, link) && *self.holder.duid == *duid
    }

    fn is_lease(&self, ia_type: IaType, iaid: Iaid, prefix: Prefix) -> bool {
        let binding = &self.binding;
        (binding.ia_type, binding.iaid, binding.prefix) == (ia_type, iaid, prefix)
    }
}

/// The list, oldest first.
#[derive(Default)]
pub(crate) struct RefusedLeases {
    list: VecDeque<Refused>,
    /// Not later than the first of them runs out.
    next_expiry: Option<Instant>,
}

impl RefusedLeases {
    pub(crate) fn len(&self) -> usize {
        self.list.len()
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = &Refused> {
        self.list.iter()
    }

    pub(crate) fn get(&self, at: usize) -> Option<&Refused> {
        self.list.get(at)
    }

    /// Puts a lease in, instead of what was known of it. `true` where that was nothing.
    pub(crate) fn put(&mut self, refused: Refused) -> bool {
        let (holder, binding) = (&refused.holder, &refused.binding);
        let is_new = !self.forget(holder.link, &holder.duid, |it| {
            it.is_lease(binding.ia_type, binding.iaid, binding.prefix)
        });
        if self.list.len() >= REFUSED_MAX {
            self.list.pop_front();
        }
        let until = binding.valid_until;
        self.next_expiry = Some(self.next_expiry.map_or(until, |next| next.min(until)));
        self.list.push_back(refused);
        is_new
    }

    /// The table has it now, or the client no longer.
    pub(crate) fn forget_lease(
        &mut self,
        link: AccessLink,
        duid: &[u8],
        (ia_type, iaid, prefix): (IaType, Iaid, Prefix),
    ) {
        self.forget(link, duid, |it| it.is_lease(ia_type, iaid, prefix));
    }

    /// Whether a lease of this client is here.
    pub(crate) fn knows(&self, link: AccessLink, duid: &[u8]) -> bool {
        self.list.iter().any(|it| it.is_of(link, duid))
    }

    /// A client gives up these of its leases; only a frame of its own does that (SNP-23).
    pub(crate) fn give_up(
        &mut self,
        link: AccessLink,
        mac: Option<MacAddr>,
        duid: &[u8],
        is_meant: impl Fn(&BindingView) -> bool,
    ) {
        self.forget(link, duid, |it| {
            it.holder.place.may_be(mac) && is_meant(&it.binding)
        });
    }

    /// Forgets what an operator names: how many.
    pub(crate) fn clear(&mut self, is_meant: impl Fn(&Refused) -> bool) -> usize {
        let before = self.list.len();
        self.list.retain(|it| !is_meant(it));
        before - self.list.len()
    }

    pub(crate) const fn next_expiry(&self) -> Option<Instant> {
        self.next_expiry
    }

    pub(crate) fn expire(&mut self, now: Instant) {
        if self.next_expiry.is_some_and(|next| next <= now) {
            self.list.retain(|it| it.binding.valid_until > now);
            self.next_expiry = self.list.iter().map(|it| it.binding.valid_until).min();
        }
    }

    /// `true` where one was there.
    fn forget(
        &mut self,
        link: AccessLink,
        duid: &[u8],
        is_meant: impl Fn(&Refused) -> bool,
    ) -> bool {
        let before = self.list.len();
        if before > 0 {
            self.list
                .retain(|it| !(is_meant(it) && it.is_of(link, duid)));
        }
        self.list.len() < before
    }
}
