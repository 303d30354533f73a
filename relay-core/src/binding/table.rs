//! The binding table: bindings and clients in slabs, found by lease, by client and by address.
//!
//! Keeps indexes, lists, counts and timers in agreement; decides nothing about routes or time.
//!
//! ```text
//! by_prefix ─▶ binding ─next_same_prefix▶ binding …   newest Reply first: it owns the route (SNP-35)
//! by_client ─▶ client ─first▶ binding ⇄ binding …
//! by_duid ─▶ client ⇄ client …                       one DUID on several links (PDR-G-4)
//! by_access ─▶ client ⇄ client …                     one access interface
//! by_address ─▶ the client last seen at (link, address)
//! ```

use alloc::collections::BTreeMap;
use alloc::vec::Vec;
use core::net::Ipv6Addr;

use relay_common::net::VlanTags;

use super::changes::{Changes, Node};
use super::client::{Client, Common, Place, Servers};
use super::digest::Digests;
use super::index::{Index, hash};
use super::slab::{NONE, Slab};
use super::timers::Timers;
use crate::relaying::link::{same_vids, vids};
use crate::snoop::Lease;
use crate::time::Instant;
use crate::types::{AccessId, AccessLink, IaType, Iaid, IfIndex, Prefix};
use crate::view::{Origin, RouteState};

/// Leases of one prefix that are kept: the owner and those that wait for its end. More come only
/// from servers that give one prefix to everyone.
pub(crate) const MAX_SAME_PREFIX: usize = 16;

/// A client with at most this many has them looked through one by one.
const FEW_LEASES: u32 = 8;

/// One lease.
// req: SNP-3
pub(crate) struct Binding {
    pub(crate) prefix: Prefix,
    pub(crate) ia_type: IaType,
    pub(crate) iaid: Iaid,
    pub(crate) client: u32,
    /// A number of [`Servers`].
    server: u32,
    next_of_client: u32,
    previous_of_client: u32,
    next_same_prefix: u32,
    /// First in the chain of its prefix.
    pub(crate) is_owner: bool,
    pub(crate) t1_secs: u32,
    pub(crate) t2_secs: u32,
    pub(crate) cltt: Instant,
    pub(crate) preferred_until: Instant,
    pub(crate) valid_until: Instant,
    /// Of the last route change for it.
    pub(crate) version: u64,
    /// The interface of the route that the shell was asked for, and not asked to take back.
    pub(crate) announced: Option<IfIndex>,
    /// What the shell was told for the kernel's tables of bindings, and not told to take back.
    pub(crate) forwarded: Option<Forwarded>,
    pub(crate) route: RouteState,
    /// Its times may be too late ([`crate::record::Restored`]).
    pub(crate) is_uncertain: bool,
    /// Of its record, for life.
    pub(crate) id: u64,
    pub(crate) origin: Origin,
    /// The relay that read it from a Reply; `::` is this one (ALQ-D-11).
    pub(crate) snooped_by: Ipv6Addr,
}

/// What the shell holds for a prefix because of what it was told.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Announced {
    pub(crate) route: Option<IfIndex>,
    pub(crate) forwarded: Option<Forwarded>,
}

/// What of an entry in the kernel's tables may change without a change of the lease or of its client.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Forwarded {
    pub(crate) interface: IfIndex,
    pub(crate) is_routed: bool,
}

impl Binding {
    /// What was told of it is another's from now on.
    pub(crate) fn take_announced(&mut self) -> Announced {
        Announced {
            route: self.announced.take(),
            forwarded: self.forwarded.take(),
        }
    }

    /// Whether a lease of this IA is it. Servers do not tell IAIDs in leasequery: one that was
    /// learned so is of whatever IA the client says.
    fn is_of_ia(&self, ia_type: IaType, iaid: Iaid) -> bool {
        let is_unsaid = self.iaid == Iaid(0) && self.origin != Origin::Snooped;
        match is_unsaid {
            true => (self.ia_type == IaType::Pd) == (ia_type == IaType::Pd),
            false => (self.ia_type, self.iaid) == (ia_type, iaid),
        }
    }
}

/// All of it.
pub(crate) struct Table {
    key: [u8; 16],
    bindings: Slab<Binding>,
    by_prefix: Index,
    clients: Slab<Client>,
    by_client: Index,
    by_address: Index,
    /// The first client of each DUID.
    by_duid: Index,
    /// By access interface: its first client.
    by_access: Vec<u32>,
    servers: Servers,
    timers: Timers,
    /// By access interface: leases.
    counts: Vec<u32>,
    by_origin: BTreeMap<(AccessId, IaType, Origin), u32>,
    digests: Digests,
    /// Of [`RouteState::Pending`].
    pending: usize,
    /// Of leases whose lives were cut short by a later transaction: how long they once were.
    longer: BTreeMap<u32, Instant>,
    /// Bindings, and the removals that others remember.
    changes: Changes,
}

impl Table {
    pub(crate) fn new(key: [u8; 16]) -> Self {
        Self {
            key,
            bindings: Slab::new(),
            by_prefix: Index::default(),
            clients: Slab::new(),
            by_client: Index::default(),
            by_address: Index::default(),
            by_duid: Index::default(),
            by_access: Vec::new(),
            servers: Servers::new(key),
            timers: Timers::default(),
            counts: Vec::new(),
            by_origin: BTreeMap::new(),
            digests: Digests::default(),
            pending: 0,
            longer: BTreeMap::new(),
            changes: Changes::default(),
        }
    }

    /// The order of changes.
    pub(crate) const fn changes(&self) -> &Changes {
        &self.changes
    }

    pub(crate) const fn changes_mut(&mut self) -> &mut Changes {
        &mut self.changes
    }

    /// So many leases are likely to come, two for each client.
    pub(crate) fn expect(&mut self, leases: usize) {
        let clients = leases / 2;
        self.bindings.expect(leases);
        self.by_prefix.expect(leases);
        self.timers.expect(leases);
        self.changes.expect(leases);
        self.clients.expect(clients);
        for index in [&mut self.by_client, &mut self.by_address, &mut self.by_duid] {
            index.expect(clients);
        }
    }

    /// Leases in all.
    pub(crate) const fn len(&self) -> usize {
        self.bindings.len()
    }

    /// Clients in all.
    pub(crate) const fn clients(&self) -> usize {
        self.clients.len()
    }

    /// One more than the last slot of clients.
    pub(crate) fn clients_end(&self) -> u32 {
        self.clients.end()
    }

    /// One more than the last slot of bindings.
    pub(crate) fn bindings_end(&self) -> u32 {
        self.bindings.end()
    }

    pub(crate) fn binding(&self, at: u32) -> Option<&Binding> {
        self.bindings.get(at)
    }

    pub(crate) fn binding_mut(&mut self, at: u32) -> Option<&mut Binding> {
        self.bindings.get_mut(at)
    }

    /// What has become of the route of a lease.
    pub(crate) fn set_route(&mut self, at: u32, route: RouteState) {
        if let Some(binding) = self.bindings.get_mut(at) {
            self.pending -= usize::from(binding.route == RouteState::Pending);
            self.pending += usize::from(route == RouteState::Pending);
            binding.route = route;
        }
    }

    /// Leases whose routes are on their way to the kernel.
    pub(crate) const fn pending(&self) -> usize {
        self.pending
    }

    pub(crate) fn client(&self, at: u32) -> Option<&Client> {
        self.clients.get(at)
    }

    pub(crate) fn client_mut(&mut self, at: u32) -> Option<&mut Client> {
        self.clients.get_mut(at)
    }

    /// DUID and address of the server that gave a lease.
    pub(crate) fn server_of(&self, binding: &Binding) -> (&[u8], Ipv6Addr) {
        self.servers
            .get(binding.server)
            .unwrap_or((&[], Ipv6Addr::UNSPECIFIED))
    }

    /// Leases on an access interface.
    pub(crate) fn count_on(&self, access: AccessId) -> usize {
        self.counts
            .get(access.place())
            .map_or(0, |count| *count as usize)
    }

    /// How many leases there are of each kind, only of kinds that there are.
    pub(crate) fn all_counts(&self) -> impl Iterator<Item = ((AccessId, IaType, Origin), usize)> {
        let counts = self.by_origin.iter();
        counts.map(|(kind, count)| (*kind, *count as usize))
    }

    pub(crate) const fn digests(&self) -> &Digests {
        &self.digests
    }

    /// The client with this DUID on this link.
    // req: SNP-1, PDR-G-4
    pub(crate) fn find_client(&self, link: AccessLink, duid: &[u8]) -> Option<u32> {
        self.by_client.find(self.client_hash(link, duid), |at| {
            self.clients
                .get(at)
                .is_some_and(|client| is_same_link(client.link, link) && *client.duid == *duid)
        })
    }

    /// The first of the clients with this DUID, on whatever link.
    pub(crate) fn first_with_duid(&self, duid: &[u8]) -> Option<u32> {
        self.by_duid.find(self.duid_hash(duid), |at| {
            let client = self.clients.get(at);
            client.is_some_and(|client| *client.duid == *duid)
        })
    }

    /// All clients with this DUID.
    pub(crate) fn with_duid(&self, duid: &[u8]) -> impl Iterator<Item = u32> {
        let first = self.first_with_duid(duid);
        core::iter::successors(first, |at| {
            some(self.clients.get(*at)?.next[Common::Duid as usize])
        })
    }

    /// The first of the clients on an access interface.
    pub(crate) fn first_on(&self, access: AccessId) -> Option<u32> {
        some(*self.by_access.get(access.place())?)
    }

    /// The client last seen at this address.
    pub(crate) fn client_at(
        &self,
        access: AccessId,
        vlans: VlanTags,
        address: Ipv6Addr,
    ) -> Option<u32> {
        let link = AccessLink { access, vlans };
        self.by_address
            .find(self.address_hash(link, address), |at| {
                self.clients.get(at).is_some_and(|client| {
                    is_same_link(client.link, link) && client.place.address == address
                })
            })
    }

    /// The lease of this prefix whose Reply came last.
    pub(crate) fn owner(&self, prefix: Prefix) -> Option<u32> {
        self.by_prefix.find(self.prefix_hash(prefix), |at| {
            self.bindings
                .get(at)
                .is_some_and(|binding| binding.prefix == prefix)
        })
    }

    /// All leases of this prefix, the owner first.
    pub(crate) fn same_prefix(&self, prefix: Prefix) -> impl Iterator<Item = u32> {
        let first = self.owner(prefix);
        core::iter::successors(first, |at| some(self.bindings.get(*at)?.next_same_prefix))
            .take(MAX_SAME_PREFIX)
    }

    /// Exactly this lease of this client: among its first few, which are near, else by prefix.
    pub(crate) fn find(
        &self,
        client: u32,
        ia_type: IaType,
        iaid: Iaid,
        prefix: Prefix,
    ) -> Option<u32> {
        let is_it = |at: &u32| {
            self.bindings.get(*at).is_some_and(|binding| {
                binding.client == client
                    && binding.prefix == prefix
                    && binding.is_of_ia(ia_type, iaid)
            })
        };
        let leases = self.clients.get(client)?.leases;
        if leases <= FEW_LEASES {
            return self.leases_of(client).find(is_it);
        }
        self.same_prefix(prefix).find(is_it)
    }

    /// The leases of a client.
    pub(crate) fn leases_of(&self, client: u32) -> impl Iterator<Item = u32> {
        let first = self
            .clients
            .get(client)
            .and_then(|client| some(client.first));
        core::iter::successors(first, |at| some(self.bindings.get(*at)?.next_of_client))
    }

    /// The lease behind this one in the list of its client.
    pub(crate) fn next_of_client(&self, at: u32) -> Option<u32> {
        some(self.bindings.get(at)?.next_of_client)
    }

    /// A client that is not there yet. `None` only where all numbers are taken.
    pub(crate) fn add_client(
        &mut self,
        duid: &[u8],
        link: AccessLink,
        place: Place,
    ) -> Option<u32> {
        let with_duid = self.first_with_duid(duid);
        let at = self.clients.insert(Client::new(duid, link, place))?;
        self.by_client.insert(self.client_hash(link, duid), at);
        let hash = self.duid_hash(duid);
        match with_duid {
            Some(first) => {
                self.by_duid.replace(hash, first, at);
            }
            None => self.by_duid.insert(hash, at),
        }
        self.join(Common::Duid, at, with_duid);
        let access = link.access.place();
        if self.by_access.len() <= access {
            self.by_access.resize(access + 1, NONE);
        }
        let on_access = self.first_on(link.access);
        self.join(Common::Access, at, on_access);
        if let Some(first) = self.by_access.get_mut(access) {
            *first = at;
        }
        self.claim_address(at);
        Some(at)
    }

    /// Puts a client before the first of a list.
    fn join(&mut self, list: Common, at: u32, first: Option<u32>) {
        let list = list as usize;
        if let Some(client) = self.clients.get_mut(at) {
            client.next[list] = first.unwrap_or(NONE);
        }
        if let Some(first) = first.and_then(|first| self.clients.get_mut(first)) {
            first.previous[list] = at;
        }
    }

    /// Takes a client out of a list: who is the first now, where it was.
    fn leave(&mut self, list: Common, at: u32) -> Option<u32> {
        let list = list as usize;
        let client = self.clients.get(at)?;
        let (next, previous) = (client.next[list], client.previous[list]);
        if let Some(next) = self.clients.get_mut(next) {
            next.previous[list] = previous;
        }
        match self.clients.get_mut(previous) {
            Some(previous) => {
                previous.next[list] = next;
                None
            }
            None => Some(next),
        }
    }

    /// Puts a client elsewhere behind its link.
    pub(crate) fn move_client(&mut self, at: u32, place: Place, vlans: VlanTags) {
        self.drop_address(at);
        if let Some(client) = self.clients.get_mut(at) {
            client.place = place;
            client.link.vlans = vlans;
        }
        self.claim_address(at);
    }

    /// Makes this client the one that is found at its address. `false` where it was already.
    pub(crate) fn claim_address(&mut self, at: u32) -> bool {
        let Some(client) = self.clients.get(at) else {
            return false;
        };
        let (link, address) = (client.link, client.place.address);
        let hash = self.address_hash(link, address);
        match self.client_at(link.access, link.vlans, address) {
            Some(before) if before == at => return false,
            Some(before) => {
                self.by_address.replace(hash, before, at);
            }
            None => self.by_address.insert(hash, at),
        }
        true
    }

    /// `true` where the client was the one found at its address.
    pub(crate) fn drop_address(&mut self, at: u32) -> bool {
        let Some(client) = self.clients.get(at) else {
            return false;
        };
        let hash = self.address_hash(client.link, client.place.address);
        self.by_address.remove(hash, at)
    }

    /// A new lease of a client, the owner of its prefix from now on. `None` where too many hold
    /// this prefix already.
    pub(crate) fn add(&mut self, client: u32, lease: &Lease, given: Given<'_>) -> Option<u32> {
        let before = self.owner(lease.prefix);
        if before.is_some() && self.same_prefix(lease.prefix).count() >= MAX_SAME_PREFIX {
            return None;
        }
        let at = self.bindings.insert(Binding {
            prefix: lease.prefix,
            ia_type: lease.ia_type,
            iaid: lease.iaid,
            client,
            server: NONE,
            next_of_client: NONE,
            previous_of_client: NONE,
            next_same_prefix: before.unwrap_or(NONE),
            is_owner: true,
            t1_secs: 0,
            t2_secs: 0,
            cltt: given.cltt,
            preferred_until: given.at,
            valid_until: given.at,
            version: 0,
            announced: None,
            forwarded: None,
            route: RouteState::Disabled,
            is_uncertain: false,
            id: 0,
            origin: given.origin,
            snooped_by: given.snooped_by,
        })?;
        let hash = self.prefix_hash(lease.prefix);
        match before {
            Some(before) => {
                self.by_prefix.replace(hash, before, at);
                self.set_owner(before, false);
            }
            None => self.by_prefix.insert(hash, at),
        }
        self.join_client(at, client);
        self.refresh(at, lease, given);
        Some(at)
    }

    /// Puts a lease, which is in no list, at the head of a client's.
    fn join_client(&mut self, at: u32, client: u32) {
        let first = self.clients.get(client).map_or(NONE, |it| it.first);
        if let Some(first) = self.bindings.get_mut(first) {
            first.previous_of_client = at;
        }
        if let Some(binding) = self.bindings.get_mut(at) {
            binding.client = client;
            binding.next_of_client = first;
            binding.previous_of_client = NONE;
        }
        if let Some(client) = self.clients.get_mut(client) {
            client.first = at;
            client.leases += 1;
        }
        self.count(at, 1);
    }

    /// Takes a lease out of its client's list.
    fn leave_client(&mut self, at: u32) {
        self.count(at, -1);
        let Some(binding) = self.bindings.get(at) else {
            return;
        };
        let (client, next) = (binding.client, binding.next_of_client);
        let previous = binding.previous_of_client;
        if let Some(next) = self.bindings.get_mut(next) {
            next.previous_of_client = previous;
        }
        if let Some(previous) = self.bindings.get_mut(previous) {
            previous.next_of_client = next;
        }
        if let Some(client) = self.clients.get_mut(client) {
            if client.first == at {
                client.first = next;
            }
            client.leases -= 1;
        }
    }

    /// The lease of this prefix that a client with this DUID has, on whatever link and in whatever
    /// IA: there is one at most.
    pub(crate) fn find_of_duid(&self, prefix: Prefix, duid: &[u8]) -> Option<u32> {
        self.same_prefix(prefix).find(|at| {
            let binding = self.bindings.get(*at);
            let client = binding.and_then(|binding| self.clients.get(binding.client));
            client.is_some_and(|client| *client.duid == *duid)
        })
    }

    /// A lease is another client's from now on, or of another IA.
    pub(crate) fn rekey(&mut self, at: u32, client: u32, ia_type: IaType, iaid: Iaid) {
        self.leave_client(at);
        if let Some(binding) = self.bindings.get_mut(at) {
            binding.ia_type = ia_type;
            binding.iaid = iaid;
        }
        self.join_client(at, client);
    }

    /// Takes lifetimes, timers and server of a lease from a Reply, or from who told it.
    // req: PDR-G-8, SNP-28, SNP-29, SNP-32
    pub(crate) fn refresh(&mut self, at: u32, lease: &Lease, given: Given<'_>) {
        let Some(binding) = self.bindings.get_mut(at) else {
            return;
        };
        self.changes.touch(Node::binding(at), given.now);
        binding.t1_secs = lease.t1_secs;
        binding.t2_secs = lease.t2_secs;
        binding.cltt = given.cltt;
        binding.preferred_until = given.at.plus_lifetime(lease.preferred_secs);
        binding.snooped_by = given.snooped_by;
        let before = binding.valid_until;
        let until = given.at.plus_lifetime(lease.valid_secs);
        if until < before {
            let longer = self.longer.entry(at).or_default();
            *longer = (*longer).max(before);
        }
        binding.valid_until = until;
        // Where it is armed already and only grows later, the timer comes too early and is armed
        // anew then. A new lease is not armed yet; an infinite one may never have been.
        let is_armed = before > given.at && before != Instant::NEVER;
        if !is_armed || binding.valid_until < before {
            self.timers.arm(at, binding.valid_until);
        }
        if let Some((duid, address)) = given.server
            && !self.servers.is(binding.server, duid, address)
        {
            let old = binding.server;
            binding.server = self.servers.take(duid, address);
            self.servers.give_back(old);
        }
        if binding.origin != given.origin {
            let (ia_type, client) = (binding.ia_type, binding.client);
            let old = core::mem::replace(&mut binding.origin, given.origin);
            if let Some(access) = self.clients.get(client).map(|it| it.link.access) {
                self.count_kind((access, ia_type, old), -1);
                self.count_kind((access, ia_type, given.origin), 1);
            }
        }
    }

    /// How long a lease once was, where a later transaction has cut it short.
    pub(crate) fn longer_until(&self, at: u32) -> Option<Instant> {
        self.longer.get(&at).copied()
    }

    /// A later transaction cuts a lease short that may be thought to go on for so long.
    pub(crate) fn note_longer(&mut self, at: u32, until: Instant) {
        let longer = self.longer.entry(at).or_default();
        *longer = (*longer).max(until);
    }

    /// Sets the ends of both lifetimes, earlier or later than they were.
    pub(crate) fn set_times(&mut self, at: u32, preferred_until: Instant, valid_until: Instant) {
        if let Some(binding) = self.bindings.get_mut(at) {
            binding.preferred_until = preferred_until;
            binding.valid_until = valid_until;
            self.timers.arm(at, valid_until);
        }
    }

    /// Makes a lease the owner of its prefix: the one before it, where there was one.
    pub(crate) fn promote(&mut self, at: u32) -> Option<u32> {
        let binding = self.bindings.get(at)?;
        if binding.is_owner {
            return None;
        }
        let prefix = binding.prefix;
        let before = self.owner(prefix)?;
        self.unchain(prefix, at);
        self.by_prefix.replace(self.prefix_hash(prefix), before, at);
        self.set_owner(before, false);
        if let Some(binding) = self.bindings.get_mut(at) {
            binding.next_same_prefix = before;
            binding.is_owner = true;
        }
        Some(before)
    }

    fn set_owner(&mut self, at: u32, is_owner: bool) {
        if let Some(binding) = self.bindings.get_mut(at) {
            binding.is_owner = is_owner;
        }
    }

    /// Takes a lease out, its client too with its last one: the lease, and who owns the prefix
    /// now, if another does.
    pub(crate) fn remove(&mut self, at: u32) -> Option<(Binding, Option<u32>)> {
        let binding = self.bindings.get(at)?;
        let (prefix, was_owner) = (binding.prefix, binding.is_owner);
        let heir = self.unchain(prefix, at).filter(|_| was_owner);
        if let Some(heir) = heir {
            self.set_owner(heir, true);
        }
        self.timers.disarm(at);
        self.changes.remove(Node::binding(at));
        self.longer.remove(&at);
        self.leave_client(at);
        self.set_route(at, RouteState::Disabled);
        let binding = self.bindings.remove(at)?;
        self.servers.give_back(binding.server);
        Some((binding, heir))
    }

    /// Takes out a client that has no lease left.
    pub(crate) fn remove_client(&mut self, at: u32) {
        self.drop_address(at);
        let first_with_duid = self.leave(Common::Duid, at);
        let first_on_access = self.leave(Common::Access, at);
        if let Some(client) = self.clients.remove(at) {
            let hash = self.duid_hash(&client.duid);
            match first_with_duid {
                Some(NONE) => drop(self.by_duid.remove(hash, at)),
                Some(next) => drop(self.by_duid.replace(hash, at, next)),
                None => {}
            }
            let first = self.by_access.get_mut(client.link.access.place());
            if let (Some(first), Some(next)) = (first, first_on_access) {
                *first = next;
            }
            let hash = self.client_hash(client.link, &client.duid);
            self.by_client.remove(hash, at);
        }
    }

    /// When the next lease may have run out.
    pub(crate) fn next_expiry(&self) -> Option<Instant> {
        self.timers.next()
    }

    /// A slot whose timer came, armed anew where its lease goes on: `Some(None)` then.
    // No grace period: the route ends with the valid lifetime.
    // req: SNP-36, SNP-39
    pub(crate) fn pop_expired(&mut self, now: Instant) -> Option<Option<u32>> {
        let at = self.timers.pop_due(now)?;
        let valid_until = self.bindings.get(at)?.valid_until;
        if valid_until > now {
            self.timers.arm(at, valid_until);
            return Some(None);
        }
        Some(Some(at))
    }

    /// Takes a lease out of the chain of its prefix: the one behind it.
    fn unchain(&mut self, prefix: Prefix, at: u32) -> Option<u32> {
        let next = some(self.bindings.get(at)?.next_same_prefix);
        let hash = self.prefix_hash(prefix);
        let previous = self.same_prefix(prefix).find(|previous| {
            let binding = self.bindings.get(*previous);
            binding.is_some_and(|binding| binding.next_same_prefix == at)
        });
        if let Some(previous) = previous {
            if let Some(binding) = self.bindings.get_mut(previous) {
                binding.next_same_prefix = next.unwrap_or(NONE);
            }
            return next;
        }
        match next {
            Some(next) => self.by_prefix.replace(hash, at, next),
            None => self.by_prefix.remove(hash, at),
        };
        next
    }

    /// A lease is there (`by` is 1) or not any more (-1).
    fn count(&mut self, at: u32, by: i32) {
        let Some(binding) = self.bindings.get(at) else {
            return;
        };
        let Some(client) = self.clients.get(binding.client) else {
            return;
        };
        let access = client.link.access;
        match by {
            1 => self.digests.add(access, &client.duid, binding.prefix),
            _ => self.digests.take(access, &client.duid, binding.prefix),
        }
        let place = access.place();
        if self.counts.len() <= place {
            self.counts.resize(place + 1, 0);
        }
        if let Some(count) = self.counts.get_mut(place) {
            *count = count.saturating_add_signed(by);
        }
        self.count_kind((access, binding.ia_type, binding.origin), by);
    }

    fn count_kind(&mut self, kind: (AccessId, IaType, Origin), by: i32) {
        let count = self.by_origin.entry(kind).or_default();
        *count = count.saturating_add_signed(by);
        if *count == 0 {
            self.by_origin.remove(&kind);
        }
    }

    /// Panics where indexes, lists, counts or timers disagree.
    #[cfg(test)]
    pub(crate) fn check(&self) {
        let (mut leases, mut owners, mut finite, mut pending) = (0, 0, 0, 0);
        let (mut counts, mut digests) = (BTreeMap::new(), Digests::default());
        for at in 0..self.clients.end() {
            let Some(client) = self.clients.get(at) else {
                continue;
            };
            assert_eq!(self.find_client(client.link, &client.duid), Some(at));
            let walk = |list: Common, first| {
                core::iter::successors(first, move |at| {
                    some(self.clients.get(*at).unwrap().next[list as usize])
                })
            };
            let mut with_duid = walk(Common::Duid, self.first_with_duid(&client.duid));
            assert!(with_duid.any(|it| it == at), "not among those of its DUID");
            let mut on_access = walk(Common::Access, self.first_on(client.link.access));
            assert!(
                on_access.any(|it| it == at),
                "not among those of its interface"
            );
            assert!(client.leases > 0, "a client without leases stays");
            assert_eq!(self.leases_of(at).count(), client.leases as usize);
            for lease in self.leases_of(at) {
                let binding = self.bindings.get(lease).unwrap();
                assert_eq!(binding.client, at);
                let found = self.find(at, binding.ia_type, binding.iaid, binding.prefix);
                assert_eq!(found, Some(lease));
                let is_owner = self.owner(binding.prefix) == Some(lease);
                assert_eq!(binding.is_owner, is_owner);
                assert!(is_owner || binding.announced.is_none());
                assert!(is_owner || binding.forwarded.is_none());
                pending += usize::from(binding.route == RouteState::Pending);
                leases += 1;
                owners += usize::from(is_owner);
                finite += usize::from(binding.valid_until != Instant::NEVER);
                let kind = (client.link.access, binding.ia_type, binding.origin);
                *counts.entry(kind).or_insert(0) += 1;
                digests.add(client.link.access, &client.duid, binding.prefix);
                let of_duid = self.find_of_duid(binding.prefix, &client.duid);
                assert_eq!(of_duid, Some(lease), "twice the lease of one client");
            }
        }
        assert_eq!(leases, self.bindings.len());
        assert_eq!(owners, self.by_prefix.len());
        assert_eq!(self.by_client.len(), self.clients.len());
        assert!(self.by_address.len() <= self.clients.len());
        assert!(finite <= self.timers.len() && self.timers.len() <= leases);
        assert_eq!(self.pending, pending);
        assert_eq!(self.by_origin, counts);
        assert_eq!(self.digests.list(), digests.list());
        for (access, digest) in digests.list() {
            assert_eq!(self.count_on(access) as u64, digest.bindings);
        }
    }

    fn prefix_hash(&self, prefix: Prefix) -> u32 {
        hash(&self.key, &prefix.address().octets(), &[prefix.bits()])
    }

    fn client_hash(&self, link: AccessLink, duid: &[u8]) -> u32 {
        hash(&self.key, &link_bytes(link), duid)
    }

    fn duid_hash(&self, duid: &[u8]) -> u32 {
        hash(&self.key, &[], duid)
    }

    fn address_hash(&self, link: AccessLink, address: Ipv6Addr) -> u32 {
        hash(&self.key, &link_bytes(link), &address.octets())
    }
}

/// Who gave or told a lease, and when.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Given<'a> {
    /// When we hear of it.
    pub(crate) now: Instant,
    /// Its lifetimes run from here.
    pub(crate) at: Instant,
    /// When the client last spoke with a server about it.
    pub(crate) cltt: Instant,
    /// DUID and address of the server that gave it; `None` where nobody says.
    pub(crate) server: Option<(&'a [u8], Ipv6Addr)>,
    pub(crate) origin: Origin,
    pub(crate) snooped_by: Ipv6Addr,
}

pub(crate) fn is_same_link(one: AccessLink, other: AccessLink) -> bool {
    one.access == other.access && same_vids(one.vlans, other.vlans)
}

fn link_bytes(link: AccessLink) -> [u8; 8] {
    (u64::from(link.access.0) << 32 | u64::from(vids(link.vlans))).to_ne_bytes()
}

/// A number of a list, or its end.
const fn some(at: u32) -> Option<u32> {
    if at == NONE { None } else { Some(at) }
}
