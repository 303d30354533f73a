//! What is done to bindings, and what follows from it: routes, neighbour entries, events.
//!
//! Decides what a Reply, a Release, time and an operator do to the table ([`learn`], [`end`]), and
//! which route changes come out of it ([`routes`]). Must not know of messages: what they say was
//! read before (`snoop`).

pub(crate) mod changes;
pub(crate) mod client;
pub(crate) mod digest;
mod end;
pub(crate) mod ended;
mod forwarding;
pub(crate) mod index;
mod learn;
mod lifecycle;
mod records;
mod refused;
mod remember;
pub(crate) mod replica;
mod routes;
mod sequel;
pub(crate) mod slab;
mod sweep;
pub(crate) mod table;
mod timers;
mod told;
mod views;

#[cfg(test)]
mod forwarding_tests;
#[cfg(test)]
mod record_tests;
#[cfg(test)]
mod replica_tests;
#[cfg(test)]
mod tests;

use alloc::vec::Vec;
use core::net::Ipv6Addr;
use core::time::Duration;

use relay_common::net::VlanTags;

use self::client::Client;
use self::ended::Endings;
use self::records::Records;
use self::refused::RefusedLeases;
use self::sequel::Sequels;
pub(crate) use self::sweep::Again;
use self::sweep::Sweep;
use self::table::Table;
use crate::alq::Digest;
use crate::config::{LeasequeryConfig, Limits, Peer, RelayConfig};
use crate::desired::Policy;
use crate::hold::Hold;
use crate::outbox::Outbox;
use crate::relaying::link::Links;
use crate::time::Instant;
use crate::types::{AccessId, Prefix};
use crate::view::TableSummary;

pub(crate) use self::client::Place;
pub(crate) use self::learn::Source;
pub(crate) use self::told::Told;

/// The table with all that acts on it.
pub(crate) struct Bindings {
    table: Table,
    endings: Endings,
    sequels: Sequels,
    /// How long removals are remembered at least; `None`: nobody asks for them.
    history: Option<Duration>,
    /// As others know us ([`LeasequeryConfig::own_address`]).
    own_address: Option<Ipv6Addr>,
    /// Some relay that asks us does not know of all that has changed here.
    is_anybody_behind: bool,
    /// All changes from here on are known.
    history_begin: Instant,
    refused: RefusedLeases,
    policy: Policy,
    limits: Limits,
    /// Other relays, for what they mean by a link.
    peers: Vec<Peer>,
    /// Leases that the table did not take, so far.
    refusals: u64,
    /// Of the last route change.
    version: u64,
    /// Route changes that came out of the Reply being learned.
    waits: Vec<(Prefix, u64)>,
    sweep: Option<Sweep>,
    /// The sweep waits.
    is_held_back: bool,
    records: Records,
    observed: bool,
    /// The shell is told of what the kernel's tables of bindings are to hold.
    forwards: bool,
    cleared: usize,
}

/// What an action needs besides the table.
pub(crate) struct Context<'a> {
    pub(crate) now: Instant,
    pub(crate) links: &'a Links,
    pub(crate) out: &'a mut Outbox,
    pub(crate) hold: &'a mut Hold,
}

impl Bindings {
    pub(crate) fn new(config: &RelayConfig, key: [u8; 16]) -> Self {
        Self {
            table: Table::new(key),
            endings: Endings::new(key),
            sequels: Sequels::default(),
            history: history(&config.leasequery),
            own_address: config.leasequery.own_address,
            is_anybody_behind: true,
            history_begin: Instant::default(),
            refused: RefusedLeases::default(),
            policy: Policy::new(&config.routes),
            limits: config.limits,
            peers: config.leasequery.peers.clone(),
            refusals: 0,
            version: 0,
            waits: Vec::new(),
            sweep: None,
            is_held_back: false,
            records: Records::default(),
            observed: false,
            forwards: false,
            cleared: 0,
        }
    }

    /// New surroundings: bindings stay, their routes are looked at again slice by slice.
    pub(crate) fn configure(&mut self, now: Instant, config: &RelayConfig) {
        if self.history.is_none() {
            // No removal was remembered until now. req: ALQ-66
            self.history_begin = self.history_begin.max(now);
        }
        self.policy = Policy::new(&config.routes);
        self.limits = config.limits;
        self.peers.clone_from(&config.leasequery.peers);
        self.history = history(&config.leasequery);
        self.own_address = config.leasequery.own_address;
        self.look_again(Again::default());
    }

    pub(crate) const fn set_observed(&mut self, observed: bool) {
        self.observed = observed;
    }

    /// Whether some relay that asks us does not know of all that has changed here.
    pub(crate) const fn set_anybody_behind(&mut self, is_anybody_behind: bool) {
        self.is_anybody_behind = is_anybody_behind;
    }

    /// How many leases were cleared since the last call.
    pub(crate) fn take_cleared(&mut self) -> usize {
        core::mem::take(&mut self.cleared)
    }

    /// The client last seen at this address.
    pub(crate) fn client_at(
        &self,
        access: AccessId,
        vlans: VlanTags,
        address: Ipv6Addr,
    ) -> Option<&Client> {
        let at = self.table.client_at(access, vlans, address)?;
        self.table.client(at)
    }

    /// When a lease may run out, or there is a slice to do.
    pub(crate) fn next_time(&self, now: Instant) -> Option<Instant> {
        if (self.is_looking() && !self.is_held_back) || self.is_correcting() {
            return Some(now);
        }
        let times = [
            self.table.next_expiry(),
            self.refused.next_expiry(),
            self.endings.next_time(),
            self.sequels.next_time(),
        ];
        times.into_iter().flatten().min()
    }

    #[cfg(test)]
    pub(crate) fn check(&self) {
        self.table.check();
    }

    /// Leases whose routes are on their way to the kernel, or not looked at yet.
    pub(crate) const fn routes_to_come(&self) -> usize {
        self.table.pending()
    }

    /// Leases in all.
    pub(crate) const fn len(&self) -> usize {
        self.table.len()
    }

    /// By access interface.
    pub(crate) fn digests(&self) -> Vec<(AccessId, Digest)> {
        self.table.digests().list()
    }

    /// Numbers of the table.
    pub(crate) fn summary(&self) -> TableSummary {
        let counts = self.table.all_counts();
        TableSummary {
            clients: self.table.clients(),
            active: counts
                .map(|((access, ia_type, origin), count)| (access, ia_type, origin, count))
                .collect(),
            refused: self.refused.len(),
            held_replies: 0,
        }
    }
}

/// How long removals are remembered for other relays.
fn history(config: &LeasequeryConfig) -> Option<Duration> {
    config.enabled.then_some(config.history)
}
