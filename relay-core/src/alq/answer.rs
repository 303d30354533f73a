//! What a peer is told of a client: CLIENT_DATA out of the table, with the times of this moment.
//!
//! Decides what goes into one message; must not know when it is sent, nor to how many.
//!
//! CLIENT_DATA has one CLT_TIME and names one relay that heard the client (LQ_RELAY_DATA), and the
//! receiver decides by both which record is the newer one. So leases of a client that were renewed
//! at different times, or heard by different relays, come in messages of their own; ALQ-D-2 makes
//! that safe.

use alloc::vec::Vec;
use core::net::Ipv6Addr;

use super::query::Asked;
use crate::binding::changes::Node;
use crate::binding::{Bindings, Told};
use crate::config::LeasequeryConfig;
use crate::relaying::link::{Links, is_link_local};
use crate::time::{Instant, WallClock};
use crate::types::IaType;
use crate::wire::leasequery::{ClientDataOut, LqIa, LqLease, RelayDataOut, RelayHop};

/// Which changes are told.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Scope {
    /// Not those before.
    pub(crate) since: Instant,
    /// Nor those from here on.
    pub(crate) until: Instant,
    /// Only what no other relay told.
    pub(crate) is_live: bool,
}

/// Where a message is made from.
#[derive(Clone, Copy)]
pub(crate) struct Sources<'a> {
    pub(crate) now: Instant,
    pub(crate) clock: WallClock,
    pub(crate) config: &'a LeasequeryConfig,
    pub(crate) links: &'a Links,
    pub(crate) bindings: &'a Bindings, // req: LQ-12
}

/// A lease, and what its message has to say besides.
#[derive(Debug)]
struct Found {
    snooped_by: Ipv6Addr,
    clt_secs: u32,
    lease: LqLease,
}

/// Makes messages; its buffers are used again.
#[derive(Default, Debug)]
pub(crate) struct Teller {
    found: Vec<Found>,
    leases: Vec<LqLease>,
    interface_id: Vec<u8>,
    remote_id: Vec<u8>,
}

impl Teller {
    /// Whether a node is told in its own right.
    pub(crate) fn is_told(
        &mut self,
        from: &Sources<'_>,
        asked: &Asked,
        scope: Scope,
        node: Node,
    ) -> bool {
        let changed_at = from.bindings.changes().changed_at(node);
        let is_in_time = changed_at.is_some_and(|at| scope.since <= at && at < scope.until);
        let Some(told) = from.bindings.told(node).filter(|_| is_in_time) else {
            return false;
        };
        (!scope.is_live || told.is_news())
            && asked.wanted.admits(from.links, &told, &mut self.remote_id)
    }

    /// Whether any lease of the client of a node is told.
    pub(crate) fn is_any_told(
        &mut self,
        from: &Sources<'_>,
        asked: &Asked,
        scope: Scope,
        node: Node,
    ) -> bool {
        let mut leases = from.bindings.with_siblings(node);
        leases.any(|lease| self.is_told(from, asked, scope, lease))
    }

    /// Whether another lease of the client is told later in the order of changes: then this one is
    /// told with it.
    pub(crate) fn is_told_later(
        &mut self,
        from: &Sources<'_>,
        asked: &Asked,
        scope: Scope,
        node: Node,
    ) -> bool {
        let bindings = from.bindings;
        let sequence = bindings.changes().sequence(node);
        bindings.with_siblings(node).any(|other| {
            bindings.changes().sequence(other) > sequence && self.is_told(from, asked, scope, other)
        })
    }

    /// Hands all leases of the client of a node, or the removal that it is, to `write`, message by
    /// message; how many leases.
    // req: LQ-18, ALQ-59, ALQ-D-1, ALQ-D-2
    pub(crate) fn tell(
        &mut self,
        from: &Sources<'_>,
        scope: Scope,
        node: Node,
        mut write: impl FnMut(&ClientDataOut<'_>),
    ) -> usize {
        let Some(client) = from.bindings.told(node) else {
            return 0;
        };
        self.found.clear();
        for node in from.bindings.with_siblings(node) {
            if let Some(told) = from.bindings.told(node)
                && (!scope.is_live || told.is_news())
                && told.valid_until.is_none_or(|until| until > from.now)
            {
                self.found.push(Found::new(from, &told));
            }
        }
        self.found.sort_by_key(Found::order);
        let place = self.place(from, &client);
        for group in self.found.chunk_by(|a, b| a.message() == b.message()) {
            self.leases.clear();
            self.leases.extend(group.iter().map(|found| found.lease));
            let Some(Found {
                snooped_by,
                clt_secs,
                ..
            }) = group.first()
            else {
                continue;
            };
            let heard_by = (!snooped_by.is_unspecified()).then_some(*snooped_by);
            let relay_data =
                heard_by
                    .or(from.config.own_address)
                    .map(|peer_address| RelayDataOut {
                        peer_address,
                        hop: RelayHop {
                            interface_id: place.has_interface_id.then_some(&self.interface_id),
                            remote_id: place.has_remote_id.then_some(&self.remote_id),
                            ..place.hop
                        },
                        client_behind: place.client_behind,
                    });
            write(&ClientDataOut {
                duid: client.duid,
                clt_secs: *clt_secs,
                leases: &self.leases,
                relay_data,
            });
        }
        self.found.len()
    }

    /// What our last RELAY-FORW for the client said, or would say now of one that another relay
    /// heard.
    // req: ALQ-D-4, LQ-21
    fn place(&mut self, from: &Sources<'_>, client: &Told<'_>) -> PlaceOut {
        let (link, place) = (client.link, client.place);
        self.interface_id.clear();
        self.remote_id.clear();
        let known = from.links.by_id(link.access);
        if let Some(known) = known {
            known.write_interface_id(&mut self.interface_id, link.vlans);
            from.links
                .write_remote_id(&mut self.remote_id, link, place.mac);
        }
        let ours = known.map_or(place.link_address, |it| it.access.link_address);
        let is_behind = !place.is_first_hop && is_link_local(place.address);
        PlaceOut {
            hop: RelayHop {
                link_address: if client.snooped_by.is_unspecified() {
                    place.link_address
                } else {
                    ours
                },
                peer_address: if is_behind {
                    Ipv6Addr::UNSPECIFIED
                } else {
                    place.address
                },
                interface_id: None,
                mac: place.mac,
                remote_id: None,
                subscriber_id: None,
                relay_id: None,
            },
            has_interface_id: !self.interface_id.is_empty(),
            has_remote_id: !self.remote_id.is_empty(),
            client_behind: is_behind.then_some(place.address),
        }
    }
}

/// A hop without what lies in buffers.
struct PlaceOut {
    hop: RelayHop<'static>,
    has_interface_id: bool,
    has_remote_id: bool,
    client_behind: Option<Ipv6Addr>,
}

impl Found {
    fn new(from: &Sources<'_>, told: &Told<'_>) -> Self {
        let secs_since = |at| from.clock.secs_between(at, from.now);
        // Of one that goes on, at least a second is left: 0 is an end. req: LQ-22
        let secs_left = |until| match until {
            Instant::NEVER => u32::MAX,
            until => from
                .clock
                .secs_between(from.now, until)
                .clamp(1, u32::MAX - 1),
        };
        let valid_secs = told.valid_until.map_or(0, secs_left);
        let preferred_secs = match told.preferred_until {
            until if until <= from.now => 0,
            until => secs_left(until).min(valid_secs),
        };
        Self {
            snooped_by: told.snooped_by,
            clt_secs: secs_since(told.cltt),
            lease: LqLease {
                ia: Some(LqIa {
                    ia_type: told.ia_type,
                    iaid: told.iaid,
                    t1_secs: told.t1_secs,
                    t2_secs: told.t2_secs,
                }),
                prefix: told.prefix,
                is_address: told.ia_type != IaType::Pd,
                preferred_secs,
                valid_secs,
            },
        }
    }

    /// What all leases of one message have in common.
    const fn message(&self) -> (Ipv6Addr, u32) {
        (self.snooped_by, self.clt_secs)
    }

    /// Those of one message side by side, in it those of one IA.
    fn order(&self) -> impl Ord + use<> {
        let ia = self.lease.ia.map(|ia| (ia.ia_type, ia.iaid));
        (self.message(), ia, self.lease.prefix)
    }
}
