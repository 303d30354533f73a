//! A query that a peer made, resolved: which clients it is about and which changes.
//!
//! Decides what a query finds (RFC 5007 §4.1.2.1, §4.4.1, RFC 5460 §5.3, §7.2); must not know how it
//! is answered.

use alloc::vec::Vec;
use core::net::Ipv6Addr;

use super::connection::peer_of;
use super::input::Remote;
use crate::binding::Told;
use crate::config::LeasequeryConfig;
use crate::relaying::link::Links;
use crate::time::LqTime;
use crate::types::{AccessId, Xid};
use crate::wire::iana;
use crate::wire::leasequery::{LqQuery, Query, QueryBy, RequestedOptions};

/// A query that is to be answered.
#[derive(Debug)]
pub(crate) struct Asked {
    pub(crate) xid: Xid,
    pub(crate) client_id: Vec<u8>,
    pub(crate) requested: RequestedOptions,
    pub(crate) wanted: Wanted,
    pub(crate) start_time: Option<LqTime>,
    pub(crate) end_time: Option<LqTime>,
}

/// Which clients.
#[derive(Debug)]
pub(crate) struct Wanted {
    /// Only those of this link.
    access: Option<AccessId>,
    by: By,
}

#[derive(Debug)]
enum By {
    Everything,
    /// Those of a relay that we are not: none that we know of.
    Nobody,
    Address(Ipv6Addr),
    Client(Vec<u8>),
    RemoteId(Vec<u8>),
}

impl Asked {
    /// Resolves what was read.
    ///
    /// # Errors
    /// The status that such a query gets.
    pub(crate) fn new(
        xid: Xid,
        query: &Query<'_>,
        config: &LeasequeryConfig,
        links: &Links,
        from: Remote,
    ) -> Result<Self, u16> {
        let wanted = match &query.lq_query {
            None => Wanted {
                access: None,
                by: By::Everything,
            },
            // req: ALQ-6
            Some(lq_query) => Wanted::new(lq_query, config, links, from)?,
        };
        Ok(Self {
            xid,
            client_id: query.client_id.to_vec(),
            requested: query.requested,
            wanted,
            start_time: query.start_time,
            end_time: query.end_time,
        })
    }
}

impl Wanted {
    fn new(
        query: &LqQuery<'_>,
        config: &LeasequeryConfig,
        links: &Links,
        from: Remote,
    ) -> Result<Self, u16> {
        let access = if query.link_address.is_unspecified() {
            None
        } else {
            // req: LQ-15, BLQ-26
            let found = find_link(config, links, from, query.link_address);
            Some(found.ok_or(iana::STATUS_NOT_CONFIGURED)?)
        };
        let by = match query.by {
            QueryBy::LinkAddress => By::Everything, // req: BLQ-11
            QueryBy::Address(address) => By::Address(address),
            QueryBy::ClientId(duid) => By::Client(duid.to_vec()),
            // What we learned from the asker included: it may have lost everything.
            // req: ALQ-D-7, BLQ-10
            QueryBy::RelayId(duid) if duid == config.identity || links.is_relay_id(duid) => {
                By::Everything
            }
            QueryBy::RelayId(_) => By::Nobody,
            QueryBy::RemoteId(remote_id) => By::RemoteId(remote_id.to_vec()), // req: BLQ-12
        };
        Ok(Self { access, by })
    }

    /// The address of an answer that is found without a walk.
    pub(crate) const fn address(&self) -> Option<Ipv6Addr> {
        match self.by {
            By::Address(address) => Some(address),
            _ => None,
        }
    }

    /// Whether there is nothing to find.
    pub(crate) const fn is_nobody(&self) -> bool {
        matches!(self.by, By::Nobody)
    }

    /// The client of an answer that is found without a walk.
    pub(crate) fn client(&self) -> Option<&[u8]> {
        match &self.by {
            By::Client(duid) => Some(duid),
            _ => None,
        }
    }

    /// Whether a lease, and with it its client, is meant. `scratch` is anything.
    pub(crate) fn admits(&self, links: &Links, told: &Told<'_>, scratch: &mut Vec<u8>) -> bool {
        let link = told.link;
        self.access.is_none_or(|access| access == link.access)
            && match &self.by {
                By::Everything => true,
                By::Nobody => false,
                By::Address(address) => told.prefix.contains(*address), // req: LQ-4
                By::Client(duid) => **duid == *told.duid,
                By::RemoteId(remote_id) => {
                    scratch.clear();
                    links.write_remote_id(scratch, link, told.place.mac);
                    scratch == remote_id
                }
            }
    }
}

/// The access link that a peer means by an address: one of ours, else what the configuration says
/// of the peer's, else the one whose network it lies in.
fn find_link(
    config: &LeasequeryConfig,
    links: &Links,
    from: Remote,
    address: Ipv6Addr,
) -> Option<AccessId> {
    let of_peer = || {
        let peer = peer_of(config, from)?;
        let found = peer.links.iter().find(|(theirs, _)| *theirs == address);
        found.map(|(_, access)| *access)
    };
    let ours = links.named(None, address).map(|(link, _)| link.access.id);
    ours.or_else(of_peer).or_else(|| links.on_link(address))
}
