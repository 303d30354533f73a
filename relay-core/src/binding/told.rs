//! The table as other relays are told of it: leases and removals alike, one by one.
//!
//! Decides what belongs together; must not know messages, nor whom it is for.

use core::net::Ipv6Addr;

use super::Bindings;
use super::changes::{Changes, Kind, Node};
use super::client::Place;
use crate::time::Instant;
use crate::types::{AccessLink, IaType, Iaid, Prefix};
use crate::view::Origin;

/// A lease, or the end of one.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Told<'a> {
    pub(crate) duid: &'a [u8],
    pub(crate) link: AccessLink,
    pub(crate) place: Place,
    pub(crate) ia_type: IaType,
    pub(crate) iaid: Iaid,
    pub(crate) prefix: Prefix,
    pub(crate) t1_secs: u32,
    pub(crate) t2_secs: u32,
    /// The client's last transaction.
    pub(crate) cltt: Instant,
    pub(crate) preferred_until: Instant,
    /// `None`: it has ended.
    pub(crate) valid_until: Option<Instant>,
    /// The relay that read it from a Reply; `::` is this one.
    pub(crate) snooped_by: Ipv6Addr,
    pub(crate) origin: Origin,
}

impl Told<'_> {
    /// Whether this relay knows it of itself: from a Reply, or from a server that it asked. What a
    /// relay told, that relay tells the others too.
    // req: ALQ-60, ALQ-D-12
    pub(crate) const fn is_news(&self) -> bool {
        self.snooped_by.is_unspecified() || !matches!(self.origin, Origin::ActiveLeasequery(_))
    }
}

impl Bindings {
    pub(crate) const fn changes(&self) -> &Changes {
        self.table.changes()
    }

    pub(crate) const fn changes_mut(&mut self) -> &mut Changes {
        self.table.changes_mut()
    }

    /// What a node says now.
    pub(crate) fn told(&self, node: Node) -> Option<Told<'_>> {
        match node.kind() {
            Kind::Binding(at) => {
                let binding = self.table.binding(at)?;
                let client = self.table.client(binding.client)?;
                Some(Told {
                    duid: &client.duid,
                    link: client.link,
                    place: client.place,
                    ia_type: binding.ia_type,
                    iaid: binding.iaid,
                    prefix: binding.prefix,
                    t1_secs: binding.t1_secs,
                    t2_secs: binding.t2_secs,
                    cltt: binding.cltt,
                    preferred_until: binding.preferred_until,
                    valid_until: Some(binding.valid_until),
                    snooped_by: binding.snooped_by,
                    origin: binding.origin,
                })
            }
            Kind::Ended(at) => {
                let ended = self.endings.get(at)?;
                Some(Told {
                    duid: &ended.duid,
                    link: ended.link,
                    place: ended.place,
                    ia_type: ended.ia_type,
                    iaid: ended.iaid,
                    prefix: ended.prefix,
                    t1_secs: 0,
                    t2_secs: 0,
                    cltt: ended.ended_at,
                    preferred_until: ended.ended_at,
                    valid_until: None,
                    snooped_by: ended.snooped_by,
                    origin: ended.origin,
                })
            }
        }
    }

    /// All leases of the client of a lease, itself included; a removal stands for itself.
    pub(crate) fn with_siblings(&self, node: Node) -> impl Iterator<Item = Node> {
        let (of_client, alone) = match node.kind() {
            Kind::Binding(at) => (self.table.binding(at).map(|it| it.client), None),
            Kind::Ended(_) => (None, Some(node)),
        };
        let leases = of_client
            .into_iter()
            .flat_map(|at| self.table.leases_of(at));
        leases.map(Node::binding).chain(alone)
    }

    /// A lease of each client with this DUID, on whatever link.
    // req: LQ-5, BLQ-6
    pub(crate) fn of_duid(&self, duid: &[u8]) -> impl Iterator<Item = Node> {
        let leases = self.table.with_duid(duid);
        leases.filter_map(|at| Some(Node::binding(self.table.client(at)?.first)))
    }

    /// The leases of this address, or of the longest prefix that contains it.
    // req: LQ-4
    pub(crate) fn of_address(&self, address: Ipv6Addr) -> impl Iterator<Item = Node> {
        let mut prefixes = (1..=128)
            .rev()
            .filter_map(move |bits| Prefix::new(address, bits));
        let longest = prefixes.find(|prefix| self.table.owner(*prefix).is_some());
        let leases = longest
            .into_iter()
            .flat_map(|it| self.table.same_prefix(it));
        leases.map(Node::binding)
    }
}
