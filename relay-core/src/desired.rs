//! Which leases must have a route, over which interface, and why others must not have one.
//!
//! Decides from configuration, the client's place and the lease alone; must not know what the
//! kernel holds.

use alloc::vec::Vec;
use core::net::Ipv6Addr;

use relay_common::net::{VlanTag, VlanTags};

use crate::config::RoutePolicy;
use crate::input::RouteRefusal;
use crate::relaying::link::{Links, is_link_local};
use crate::types::{AccessId, AccessLink, IaType, IfIndex, Prefix};

/// What should be of the route of a lease.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Wanted {
    /// A route over this interface.
    Route(IfIndex),
    /// None by configuration.
    Disabled,
    /// None, and why.
    Refused(RouteRefusal),
}

/// A lease as far as its route is concerned.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Candidate {
    pub(crate) ia_type: IaType,
    /// Exactly as leased, and so is its route (PDR-R-2).
    pub(crate) prefix: Prefix,
    pub(crate) link: AccessLink,
    pub(crate) next_hop: core::net::Ipv6Addr,
    pub(crate) is_first_hop: bool,
}

/// The policy, compiled for lookups.
#[derive(Debug)]
pub(crate) struct Policy {
    enabled: bool,
    addresses: bool,
    prefixes: bool,
    pub(crate) neighbors: bool,
    allowed: Vec<Prefix>,
    /// Sorted.
    networks: Vec<(Prefix, IfIndex)>,
    /// The prefix lengths of `networks`, each once.
    lengths: Vec<u8>,
    /// What this router answers to: its addresses, and the subnet-router anycast address of each of its
    /// networks (RFC 4291 §2.6.1). Sorted.
    own_addresses: Vec<Ipv6Addr>,
    /// Sorted.
    vlan_devices: Vec<((IfIndex, VlanTag), IfIndex)>,
}

impl Policy {
    pub(crate) fn new(policy: &RoutePolicy) -> Self {
        let mut networks: Vec<_> = policy.networks.iter().map(|(i, net)| (*net, *i)).collect();
        networks.sort_unstable();
        let mut lengths: Vec<_> = networks.iter().map(|(network, _)| network.bits()).collect();
        lengths.sort_unstable();
        lengths.dedup();
        let anycast = networks.iter().map(|(network, _)| network.address());
        let mut own_addresses: Vec<_> = policy
            .own_addresses
            .iter()
            .copied()
            .chain(anycast)
            .collect();
        own_addresses.sort_unstable();
        own_addresses.dedup();
        let devices = policy.vlan_devices.iter();
        let mut vlan_devices: Vec<_> = devices
            .map(|device| ((device.parent, device.tag), device.ifindex))
            .collect();
        vlan_devices.sort_unstable();
        Self {
            enabled: policy.enabled,
            addresses: policy.addresses,
            prefixes: policy.prefixes,
            neighbors: policy.neighbors,
            allowed: policy.allowed.clone(),
            networks,
            lengths,
            own_addresses,
            vlan_devices,
        }
    }

    /// What should be of the route of this lease.
    // req: PDR-R-2
    pub(crate) fn wanted(&self, links: &Links, lease: &Candidate) -> Wanted {
        if !self.is_enabled(lease.ia_type) {
            return Wanted::Disabled;
        }
        self.interface(links, lease)
            .map_or_else(Wanted::Refused, Wanted::Route)
    }

    /// Whether packets to this lease may pass by the kernel's routes, as far as the kernel does not refuse
    /// its route: they would go the same way, were there an interface for the client's tags.
    pub(crate) fn may_pass_by(&self, links: &Links, lease: &Candidate) -> bool {
        let Ok(access) = access_interface(links, lease) else {
            return false;
        };
        let own = self.device(access, lease.link.vlans).unwrap_or(access);
        self.is_enabled(lease.ia_type)
            && self.refusal(own, &lease.prefix).is_none()
            && !self.is_own_inside(&lease.prefix)
    }

    const fn is_enabled(&self, ia_type: IaType) -> bool {
        let by_type = match ia_type {
            IaType::Na | IaType::Ta => self.addresses,
            IaType::Pd => self.prefixes,
        };
        self.enabled && by_type
    }

    fn interface(&self, links: &Links, lease: &Candidate) -> Result<IfIndex, RouteRefusal> {
        let access = access_interface(links, lease)?;
        let interface = self
            .device(access, lease.link.vlans)
            .ok_or(RouteRefusal::NoVlanInterface)?;
        match self.refusal(interface, &lease.prefix) {
            None => Ok(interface),
            Some(why) => Err(why),
        }
    }

    /// The interface that takes these tags off; `access` itself without tags.
    fn device(&self, access: IfIndex, vlans: VlanTags) -> Option<IfIndex> {
        vlans.iter().try_fold(access, |interface, tag| {
            let devices = &self.vlan_devices;
            let at = devices.binary_search_by_key(&(interface, tag), |(key, _)| *key);
            Some(devices.get(at.ok()?)?.1)
        })
    }

    /// Why nothing of this prefix goes out of this interface.
    fn refusal(&self, interface: IfIndex, prefix: &Prefix) -> Option<RouteRefusal> {
        if !self.allowed.is_empty() && !self.allowed.iter().any(|net| net.covers(prefix)) {
            return Some(RouteRefusal::NotAllowed);
        }
        self.touches_foreign_network(interface, prefix)
            .then_some(RouteRefusal::ForeignNetwork)
    }

    /// Whether the kernel takes some of this prefix for itself, or routes it more specifically.
    // req: SNP-34
    fn is_own_inside(&self, prefix: &Prefix) -> bool {
        let first = prefix.address();
        let address = self.own_addresses.partition_point(|own| *own < first);
        let address = self.own_addresses.get(address);
        let behind = self.networks.partition_point(|(other, _)| other <= prefix);
        let network = self.networks.get(behind);
        address.is_some_and(|own| prefix.contains(*own))
            || network.is_some_and(|(other, _)| prefix.covers(other))
    }

    /// The access interface on whose networks an address is, where that is one.
    pub(crate) fn access_at(&self, links: &Links, address: Ipv6Addr) -> Option<AccessId> {
        let around = self
            .lengths
            .iter()
            .filter_map(|bits| Prefix::new(address, *bits))
            .flat_map(|network| self.networks_of(network));
        let mut found = around.filter_map(|(_, interface)| links.by_ifindex(*interface));
        let access = found.next()?.access.id;
        found.all(|it| it.access.id == access).then_some(access)
    }

    /// This network on each interface that has it.
    fn networks_of(&self, network: Prefix) -> impl Iterator<Item = &(Prefix, IfIndex)> {
        let from = self.networks.partition_point(|(other, _)| *other < network);
        let same = self.networks.iter().skip(from);
        same.take_while(move |(other, _)| *other == network)
    }

    /// Whether the prefix covers or lies inside a network of another interface. Interfaces that
    /// share one network are no strangers there (RLY-23), and what the own interface has on-link
    /// inside a delegated prefix wins by its length (SNP-34).
    // req: SNP-34
    fn touches_foreign_network(&self, own: IfIndex, prefix: &Prefix) -> bool {
        let is_foreign = |(network, interface): &(Prefix, IfIndex)| {
            *interface != own && self.networks.binary_search(&(*network, own)).is_err()
        };
        let around = self
            .lengths
            .iter()
            .take_while(|bits| **bits <= prefix.bits())
            .filter_map(|bits| Prefix::new(prefix.address(), *bits))
            .flat_map(|network| self.networks_of(network));
        let from = self.networks.partition_point(|(other, _)| other < prefix);
        let inside = self
            .networks
            .iter()
            .skip(from)
            .take_while(|(other, _)| prefix.covers(other));
        around.chain(inside).any(is_foreign)
    }
}

/// Where the client is, if it is the next hop.
fn access_interface(links: &Links, lease: &Candidate) -> Result<IfIndex, RouteRefusal> {
    // req: ALQ-D-4
    if lease.link.access == AccessId::UNMAPPED {
        return Err(RouteRefusal::NotMapped);
    }
    // Behind a relay that is none of our link, that relay is the first hop. req: RLY-69
    if !lease.is_first_hop || !is_link_local(lease.next_hop) {
        return Err(RouteRefusal::NotFirstHop);
    }
    let access = links.by_id(lease.link.access);
    access
        .and_then(|link| link.access.ifindex)
        .ok_or(RouteRefusal::NoInterface)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::VlanDevice;
    use crate::testing::*;
    use crate::types::AccessId;
    use proptest::prelude::*;
    use relay_common::net::{TPID_8021AD, TPID_8021Q, VlanTags};

    fn lease(text: &str) -> Candidate {
        Candidate {
            ia_type: IaType::Pd,
            prefix: prefix(text),
            link: AccessLink {
                access: AccessId(0),
                vlans: VlanTags::NONE,
            },
            next_hop: client(),
            is_first_hop: true,
        }
    }

    fn wanted(change: impl FnOnce(&mut RoutePolicy), lease: Candidate) -> Wanted {
        let mut config = config();
        config.routes.networks = alloc::vec![
            (ACCESS, prefix("2001:db8:1::/64")),
            (OTHER_ACCESS, prefix("2001:db8:2::/64")),
            (ACCESS, prefix("2001:db8:3::/64")),
            (OTHER_ACCESS, prefix("2001:db8:3::/64")),
        ];
        change(&mut config.routes);
        Policy::new(&config.routes).wanted(&Links::new(&config), &lease)
    }

    const FOREIGN: Wanted = Wanted::Refused(RouteRefusal::ForeignNetwork);

    #[test]
    fn desired_route_respects_policy_and_place() {
        let pd = lease("2001:db8:100::/56");
        let refused = Wanted::Refused;

        assert_eq!(wanted(|_| {}, pd), Wanted::Route(ACCESS));
        assert_eq!(
            wanted(|routes| routes.prefixes = false, pd),
            Wanted::Disabled
        );
        assert_eq!(
            wanted(|routes| routes.enabled = false, pd),
            Wanted::Disabled
        );
        let allow = |routes: &mut RoutePolicy| routes.allowed.push(prefix("2001:db8:200::/40"));
        assert_eq!(
            wanted(allow, lease("2001:db8:300::/56")),
            refused(RouteRefusal::NotAllowed)
        );
        assert_eq!(
            wanted(allow, lease("2001:db8:210::/56")),
            Wanted::Route(ACCESS)
        );
        let cascaded = Candidate {
            is_first_hop: false,
            ..pd
        };
        assert_eq!(wanted(|_| {}, cascaded), refused(RouteRefusal::NotFirstHop));
        let global = Candidate {
            next_hop: server(),
            ..pd
        };
        assert_eq!(wanted(|_| {}, global), refused(RouteRefusal::NotFirstHop));
    }

    #[test]
    fn desired_route_never_shadows_another_interface() {
        assert_eq!(wanted(|_| {}, lease("2001:db8::/32")), FOREIGN);
        assert_eq!(wanted(|_| {}, lease("2001:db8:2::5/128")), FOREIGN);
        assert_eq!(wanted(|_| {}, lease("2001:db8:2::/64")), FOREIGN);
        assert_eq!(
            wanted(|_| {}, lease("2001:db8:1::5/128")),
            Wanted::Route(ACCESS)
        );
        assert_eq!(
            wanted(|_| {}, lease("2001:db8:3::5/128")),
            Wanted::Route(ACCESS)
        );
    }

    #[test]
    fn snp_34_delegated_prefix_around_the_own_network_is_routed() {
        assert_eq!(
            wanted(|_| {}, lease("2001:db8:1::/56")),
            Wanted::Route(ACCESS)
        );
    }

    #[test]
    fn desired_route_of_tagged_client_goes_over_its_vlan_interface() {
        let outer = VlanTag {
            tpid: TPID_8021AD,
            vid: 100,
        };
        let inner = VlanTag {
            tpid: TPID_8021Q,
            vid: 7,
        };
        let mut tagged = lease("2001:db8:100::/56");
        tagged.link.vlans = VlanTags::double(outer, inner);
        let device = |parent, tag, ifindex| VlanDevice {
            parent,
            tag,
            ifindex: IfIndex(ifindex),
        };
        let both = |routes: &mut RoutePolicy| {
            routes.vlan_devices.push(device(IfIndex(20), inner, 21));
            routes.vlan_devices.push(device(ACCESS, outer, 20));
        };

        assert_eq!(wanted(both, tagged), Wanted::Route(IfIndex(21)));
        assert_eq!(
            wanted(
                |routes| routes.vlan_devices.push(device(ACCESS, outer, 20)),
                tagged
            ),
            Wanted::Refused(RouteRefusal::NoVlanInterface)
        );
    }

    proptest! {
        /// Against a plain look at every network.
        #[test]
        fn desired_foreign_network_agrees_with_a_plain_scan(
            networks in proptest::collection::vec((0u32..3, 0u128..16, 124u8..=128), 0..8),
            lease in (0u128..16, 122u8..=128),
        ) {
            let base = ip("2001:db8::").to_bits();
            let make = |(low, bits): (u128, u8)| Prefix::new((base | low).into(), bits).unwrap();
            let networks: Vec<_> = networks.into_iter()
                .map(|(i, low, bits)| (IfIndex(i), make((low, bits)))).collect();
            let (own, lease) = (IfIndex(0), make(lease));
            let policy = Policy::new(&RoutePolicy { networks: networks.clone(), ..RoutePolicy::default() });

            let expected = networks.iter().any(|(interface, network)| {
                *interface != own
                    && (network.covers(&lease) || lease.covers(network))
                    && !networks.contains(&(own, *network))
            });
            prop_assert_eq!(policy.touches_foreign_network(own, &lease), expected);
        }
    }
}
