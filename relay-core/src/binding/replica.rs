//! Leases that somebody else saw: a relay or a server tells of one, and the table takes it over.
//!
//! Decides which of two records of one lease is the true one (ALQ-D-11), on which link it is here
//! (ALQ-D-4), and that it is treated as a lease from a Reply in all else. Must not know messages or
//! sessions.
//!
//! A record is what can be told of a lease (a DUID's address or prefix): a transaction, by its second
//! and by the relay that snooped it, and whether the lease goes on. Transactions of one lease are in
//! one order for all relays: the later second is the greater, in one second the higher address. It
//! is total, and what a relay knows of a lease only ever rises in it:
//!
//! - What a relay sees of a lease bears a later second than what it knew of it ([`super::sequel`]).
//!   But a Reply of which another relay has told already stays the record of that one ([`super::learn`]).
//! - A lease that has run out stays in the second of its transaction, as what it was.
//!
//! So whoever has been told the same, in whatever order and however often, holds the same: the
//! greatest. Of one transaction, the later told is the newer state of it: it goes on, then it has
//! ended. Whether a lease goes on has no part in the order, or a lease would fall in it when it
//! runs out: what is told of that is a removal like others, and relays that had held it for the
//! greatest would take back a smaller one that others still hold, each at another time.
//!
//! The order has no tolerance: what "about the same time" means is not transitive, and three
//! records would be sorted by the order in which they came. Seconds are compared as the snooping
//! relay told them, converted by whole seconds, so that all relays compare the same numbers.

use core::net::Ipv6Addr;
use core::time::Duration;

use super::client::{Duid, Place};
use super::ended::{End, Ended, forget_at};
use super::learn::Source;
use super::table::Given;
use super::{Bindings, Context};
use crate::config::Peer;
use crate::effect::BindingAction;
use crate::error::Notice;
use crate::record::Ending;
use crate::relaying::link::Links;
use crate::snoop::{Lease, routable};
use crate::time::{Instant, LqTime, WallClock};
use crate::types::{AccessId, AccessLink, IaType, Iaid, Prefix};
use crate::view::Origin;
use crate::wire::leasequery::{LqLease, RelayHop};
use relay_common::net::VlanTags;

/// What somebody tells of one lease of a client.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Replica<'a> {
    pub(crate) duid: &'a [u8],
    pub(crate) lease: &'a LqLease,
    /// Its lifetimes run from here.
    pub(crate) at: Instant,
    /// The client's last transaction.
    pub(crate) cltt: Instant,
    pub(crate) origin: Origin,
    /// The relay that read it from a Reply, by its own address too.
    pub(crate) snooped_by: Ipv6Addr,
    /// Its second went through the clocks of more than one other relay, which differ from ours.
    pub(crate) is_rounded: bool,
    /// DUID and address of the server, where that is who tells it.
    pub(crate) server: Option<(&'a [u8], Ipv6Addr)>,
    /// Where the client is; `None` where that is not told.
    pub(crate) whereabouts: Option<Whereabouts>,
}

/// Times are told in whole seconds; the middle of one stays in it when clocks are slewed.
pub(crate) const HALF_SECOND: Duration = Duration::from_millis(500);

/// Whether two ends are one, but for the way of a message and parts of seconds.
pub(super) fn is_same_end(one: Instant, other: Instant) -> bool {
    one.max(other).saturating_since(one.min(other)).as_secs() <= 2
}

/// Seconds by which the time of one record may differ that came by two ways.
const ROUNDED_SECS: i32 = 3;

/// Where a client is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Whereabouts {
    pub(crate) place: Place,
    /// Our link that is meant; `None`: none of ours is known to be (ALQ-D-4).
    pub(crate) link: Option<AccessLink>,
}

/// What came of it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Outcome {
    /// New here.
    Created,
    /// Newer than what was known.
    Refreshed,
    /// It is over, now for this relay too.
    Ended,
    /// Known already.
    Known,
    /// Older than what is known.
    Stale,
    /// Taken, and on no link of ours.
    Unmapped,
    /// Over a limit, or no lease that anybody can have.
    Refused,
}

/// The clock that records are compared by, and our own name in them.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Frame {
    pub(crate) clock: WallClock,
    pub(crate) own_address: Option<Ipv6Addr>,
}

/// A record as far as the order of records is concerned.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Stamp {
    secs: LqTime,
    snooped_by: Ipv6Addr,
}

impl Stamp {
    /// Whether this one, which came later, replaces `known`: the newer transaction, in one second
    /// that of the higher address, and of the same what came last.
    // req: ALQ-D-11, ALQ-D-14, ALQ-44, LQ-28, LQ-29
    fn replaces(&self, known: &Self) -> bool {
        match self.secs == known.secs {
            true => self.snooped_by >= known.snooped_by,
            false => self.secs.is_after(known.secs),
        }
    }

    /// Whether this one is `known` but for seconds that were converted from clock to clock. Else a
    /// record that relays tell each other again and again would grow younger each time.
    fn is_echo_of(&self, known: &Self) -> bool {
        self.snooped_by == known.snooped_by && self.secs.secs_since(known.secs) <= ROUNDED_SECS
    }
}

impl Frame {
    fn stamp(&self, cltt: Instant, snooped_by: Ipv6Addr) -> Stamp {
        let own = self.own_address.filter(|_| snooped_by.is_unspecified());
        Stamp {
            secs: self.clock.lq_time(cltt),
            snooped_by: own.unwrap_or(snooped_by),
        }
    }
}

impl Bindings {
    /// Whether this client is known to have the lease.
    pub(crate) fn knows(&self, prefix: Prefix, duid: &[u8]) -> bool {
        self.table.find_of_duid(prefix, duid).is_some()
    }

    /// Takes over what is told of a lease. The same may come again and again (ALQ-D-23).
    // req: ALQ-31, ALQ-D-23
    pub(crate) fn take(
        &mut self,
        cx: &mut Context<'_>,
        frame: &Frame,
        told: &Replica<'_>,
    ) -> Outcome {
        let stated = told.lease.prefix;
        let Some(prefix) = routable(stated.address(), stated.bits()) else {
            cx.out.notice(None, Notice::LeaseInvalid);
            return Outcome::Refused;
        };
        let known = self.table.find_of_duid(prefix, told.duid);
        let ended = self.endings.find(prefix, told.duid);
        let is_active = told.lease.valid_secs > 0;
        let stamp = frame.stamp(told.cltt, told.snooped_by);
        let binding = known.and_then(|at| self.table.binding(at));
        let ending = ended.and_then(|at| self.endings.get(at));
        let before = match (binding, ending) {
            (Some(it), _) => Some(frame.stamp(it.cltt, it.snooped_by)),
            (None, Some(it)) => Some(frame.stamp(it.ended_at, it.snooped_by)),
            (None, None) => None,
        };
        if before.is_some_and(|before| !stamp.replaces(&before)) {
            if is_active {
                self.note_believed(cx, known, ended, told.until());
            }
            return Outcome::Stale;
        }
        let is_echo = told.is_rounded && before.is_some_and(|before| stamp.is_echo_of(&before));
        let is_said = match known {
            Some(at) => is_active && self.is_known(cx, at, told),
            None => !is_active,
        };
        if is_echo && is_said {
            return Outcome::Known;
        }
        let outcome = match (is_active, known) {
            // req: ALQ-D-1
            (false, Some(at)) => {
                self.end_as(cx, at, BindingAction::Released, told.end());
                Outcome::Ended
            }
            (false, None) if before == Some(stamp) => Outcome::Known,
            (false, None) => {
                self.remember_foreign(cx, told, prefix);
                Outcome::Ended
            }
            (true, Some(at)) if before == Some(stamp) && self.is_known(cx, at, told) => {
                Outcome::Known
            }
            // It has run out on its way.
            (true, Some(at)) if told.until() <= cx.now => {
                // Who knows of an earlier transaction only may think that it goes on.
                self.table.note_longer(at, Instant::NEVER);
                self.end_as(cx, at, BindingAction::Expired, told.end());
                Outcome::Ended
            }
            (true, None) if told.until() <= cx.now => {
                self.remember_foreign(cx, told, prefix);
                Outcome::Ended
            }
            (true, known) => self.take_active(cx, told, prefix, known),
        };
        self.waits.clear();
        outcome
    }

    /// Somebody who is behind thinks that a lease goes on for so long: if it ends before, that is
    /// remembered for as long.
    // req: ALQ-D-26
    fn note_believed(
        &mut self,
        cx: &mut Context<'_>,
        known: Option<u32>,
        ended: Option<u32>,
        until: Instant,
    ) {
        match (known, ended) {
            (Some(at), _) => {
                let binding = self.table.binding(at);
                if binding.is_some_and(|it| it.valid_until < until) {
                    self.table.note_longer(at, until);
                }
            }
            (None, Some(at)) if until != Instant::NEVER => self.remember_until(cx, at, until),
            (None, _) => {}
        }
    }

    /// Whether nothing would change but parts of a second.
    fn is_known(&self, cx: &Context<'_>, at: u32, told: &Replica<'_>) -> bool {
        let Some(binding) = self.table.binding(at) else {
            return false;
        };
        let Some(client) = self.table.client(binding.client) else {
            return false;
        };
        let is_there = told.whereabouts.is_none_or(|it| {
            it.place == client.place && it.link.is_none_or(|link| link == client.link)
        });
        let is_ia = told
            .lease
            .ia
            .is_none_or(|ia| (ia.ia_type, ia.iaid) == (binding.ia_type, binding.iaid));
        // What we heard ourselves is not less known for how others heard it; and whom we have not told of
        // it yet, we still have to.
        let is_heard = binding.origin == Origin::Snooped;
        (is_heard || is_there && is_ia)
            && is_same_end(told.until(), binding.valid_until)
            && binding.valid_until > cx.now
    }

    fn take_active(
        &mut self,
        cx: &mut Context<'_>,
        told: &Replica<'_>,
        prefix: Prefix,
        known: Option<u32>,
    ) -> Outcome {
        let binding = known.and_then(|at| self.table.binding(at));
        let holder = binding.and_then(|binding| self.table.client(binding.client));
        let unmapped = AccessLink {
            access: AccessId::UNMAPPED,
            vlans: VlanTags::NONE,
        };
        // Who tells less than we know does not take it from us.
        let link = told
            .whereabouts
            .and_then(|it| it.link)
            .or(holder.map(|it| it.link));
        let place = told.whereabouts.map(|it| it.place);
        let nowhere = Place {
            address: Ipv6Addr::UNSPECIFIED,
            mac: None,
            link_address: Ipv6Addr::UNSPECIFIED,
            is_first_hop: false,
        };
        let place = place.or(holder.map(|it| it.place)).unwrap_or(nowhere);
        let lease = told.lease_as(prefix, binding.map(|it| (it.ia_type, it.iaid)));
        let (server_duid, server_address) = told.server.unwrap_or((&[], Ipv6Addr::UNSPECIFIED));
        let source = Source {
            link: link.unwrap_or(unmapped),
            place,
            duid: told.duid,
            server_duid,
            server_address,
            may_end: true,
            told: Some(told.given(cx.now)),
        };
        let client = self.table.find_client(source.link, told.duid);
        if let Some(client) = client.filter(|at| self.is_newest_of(*at, told.cltt)) {
            self.place(cx, client, place, source.link.vlans);
        }
        let refused_before = self.refusals;
        match known {
            Some(at) => drop(self.adopt(cx, &source, client, at, &lease)),
            None => drop(self.create(cx, &source, client, &lease)),
        }
        if self.refusals != refused_before {
            Outcome::Refused
        } else if link.is_none() {
            // req: ALQ-D-4
            cx.out.notice(None, Notice::LeaseUnmapped);
            Outcome::Unmapped
        } else if known.is_some() {
            Outcome::Refreshed
        } else {
            Outcome::Created
        }
    }

    /// Whether no lease of a client has a later transaction.
    fn is_newest_of(&self, client: u32, cltt: Instant) -> bool {
        let mut leases = self.table.leases_of(client);
        leases.all(|at| self.table.binding(at).is_none_or(|it| it.cltt <= cltt))
    }

    /// The end of a lease that was never here: it may come yet, from somebody who is behind.
    fn remember_foreign(&mut self, cx: &mut Context<'_>, told: &Replica<'_>, prefix: Prefix) {
        let Some(history) = self.history else { return };
        let before = self.endings.find(prefix, told.duid);
        let before = before.and_then(|at| self.endings.get(at));
        let until = before.map_or(Instant::NEVER, |it| it.forget_at);
        let lease = told.lease_as(prefix, before.map(|it| (it.ia_type, it.iaid)));
        let whereabouts = told.whereabouts;
        let ended = Ended {
            duid: Duid::new(told.duid),
            link: whereabouts.and_then(|it| it.link).unwrap_or(AccessLink {
                access: AccessId::UNMAPPED,
                vlans: VlanTags::NONE,
            }),
            place: whereabouts.map_or(
                Place {
                    address: Ipv6Addr::UNSPECIFIED,
                    mac: None,
                    link_address: Ipv6Addr::UNSPECIFIED,
                    is_first_hop: false,
                },
                |it| it.place,
            ),
            ia_type: lease.ia_type,
            iaid: lease.iaid,
            prefix,
            how: match told.lease.valid_secs {
                0 => Ending::Released,
                _ => Ending::Expired,
            },
            ended_at: told.cltt,
            // How long it would have gone on is not told: as long as what ends now.
            forget_at: forget_at(told.cltt.max(cx.now), until, history),
            origin: told.origin,
            snooped_by: told.snooped_by,
            is_uncertain: false,
            id: self.records.next_id(),
        };
        self.put_ended(cx, ended, cx.now);
    }

    /// Leases that were on no link of ours may be on one by now.
    pub(super) fn remap(&mut self, cx: &mut Context<'_>, at: u32) {
        let Some(client) = self.table.client(at) else {
            return;
        };
        let (duid, place) = (client.duid.to_vec(), client.place);
        let origin = self
            .table
            .leases_of(at)
            .find_map(|at| Some(self.table.binding(at)?.origin));
        let peer = self.peers.iter().find(|it| match origin {
            Some(Origin::ActiveLeasequery(peer)) => it.id == peer,
            _ => false,
        });
        let Some(access) = self.access_of(cx.links, peer, place.link_address) else {
            return;
        };
        let link = AccessLink {
            access,
            vlans: VlanTags::NONE,
        };
        let leases: alloc::vec::Vec<u32> = self.table.leases_of(at).collect();
        for lease in leases {
            let known = self.table.find_client(link, &duid);
            if let Some((notice, _)) = self.limit(link, known) {
                cx.out.notice(Some(access), notice);
                return;
            }
            let Some(owner) = known.or_else(|| self.table.add_client(&duid, link, place)) else {
                return;
            };
            let Some((ia_type, iaid)) = self.table.binding(lease).map(|it| (it.ia_type, it.iaid))
            else {
                return;
            };
            self.table.rekey(lease, owner, ia_type, iaid);
            self.record_put(cx, lease);
            if self.table.binding(lease).is_some_and(|it| it.is_owner) {
                self.reroute(cx, lease, false);
            }
        }
        self.leave(cx, at);
    }

    /// Our link that a relay or server means by what it says of a client.
    // req: ALQ-D-4
    pub(crate) fn link_of(
        &self,
        links: &Links,
        peer: Option<&Peer>,
        hop: &RelayHop<'_>,
    ) -> Option<AccessLink> {
        let named = hop
            .interface_id
            .and_then(|id| links.named(Some(id), hop.link_address));
        let named = named.map(|(link, tags)| (link.access.id, tags.guess()));
        let by_name = named.filter(|_| peer.is_some_and(|it| it.has_shared_interface_id));
        let access = self
            .access_of(links, peer, hop.link_address)
            .or(by_name.map(|(access, _)| access))?;
        // An Interface-Id that means the same interface here is one of ours, or of a twin.
        let vlans = named.filter(|(it, _)| *it == access);
        Some(AccessLink {
            access,
            vlans: vlans.map_or(VlanTags::NONE, |(_, vlans)| vlans),
        })
    }

    /// The access interface that is meant by a link-address of somebody else's.
    fn access_of(
        &self,
        links: &Links,
        peer: Option<&Peer>,
        link_address: Ipv6Addr,
    ) -> Option<AccessId> {
        let told = peer.map_or(&[][..], |peer| &peer.links);
        let told = told.iter().find(|(address, _)| *address == link_address);
        told.map(|(_, access)| *access)
            .filter(|access| links.by_id(*access).is_some())
            .or_else(|| Some(links.named(None, link_address)?.0.access.id))
            .or_else(|| self.policy.access_at(links, link_address))
    }
}

impl<'a> Replica<'a> {
    const fn given(&self, now: Instant) -> Given<'a> {
        Given {
            now,
            at: self.at,
            cltt: self.cltt,
            server: self.server,
            origin: self.origin,
            snooped_by: self.snooped_by,
        }
    }

    /// The end of its valid lifetime.
    const fn until(&self) -> Instant {
        self.at.plus_lifetime(self.lease.valid_secs)
    }

    fn end(&self) -> End {
        End {
            at: self.cltt,
            origin: self.origin,
            snooped_by: self.snooped_by,
        }
    }

    /// The lease; its IA is that which was known where none is told.
    fn lease_as(&self, prefix: Prefix, known: Option<(IaType, Iaid)>) -> Lease {
        let lease = self.lease;
        let kind = match lease.is_address {
            true => IaType::Na,
            false => IaType::Pd,
        };
        let told = lease.ia.map(|ia| (ia.ia_type, ia.iaid));
        let (ia_type, iaid) = told.or(known).unwrap_or((kind, Iaid(0)));
        Lease {
            ia_type,
            iaid,
            t1_secs: lease.ia.map_or(0, |ia| ia.t1_secs),
            t2_secs: lease.ia.map_or(0, |ia| ia.t2_secs),
            prefix,
            // req: ALQ-D-15
            preferred_secs: lease.preferred_secs.min(lease.valid_secs),
            valid_secs: lease.valid_secs,
        }
    }
}
