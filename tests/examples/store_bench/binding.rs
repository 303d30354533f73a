//! What the bench stores. Measures nothing.

use std::net::Ipv6Addr;
use std::time::Duration;

use relay_common::net::{MacAddr, VlanTag, VlanTags};
use relay_core::record::{Record, RecordState};
use relay_core::types::{AccessId, AccessLink, IaType, Iaid, Prefix};
use relay_core::view::Origin;
use relay_userspace::store::StoredBinding;
use relay_userspace::wall_time::boot_now;

/// Bytes around a record in the log: what frames it, and its key.
pub const OVERHEAD: usize = 17;

/// A typical one: 14-byte DUIDs, one VLAN tag.
pub fn with_binding(id: u64, mut use_it: impl FnMut(&StoredBinding<'_>)) {
    let mut duid = [0, 1, 0, 1, 0x2a, 0, 0, 0, 2, 0, 0, 0, 0, 0];
    duid[8..].copy_from_slice(&id.to_be_bytes()[2..]);
    let now = boot_now();
    let hour = Duration::from_secs(3600);
    use_it(&StoredBinding {
        interface: "enp5s0f0",
        origin: "",
        record: Record {
            id,
            link: AccessLink {
                access: AccessId(0),
                vlans: VlanTags::single(VlanTag {
                    tpid: 0x8100,
                    vid: (id % 4000) as u16,
                }),
            },
            duid: &duid,
            client_address: Ipv6Addr::from_bits(0xfe80 << 112 | u128::from(id)),
            mac: Some(MacAddr([2, 0, 0, 0, 0, 1])),
            link_address: Ipv6Addr::LOCALHOST,
            is_first_hop: true,
            ia_type: IaType::Pd,
            iaid: Iaid(id as u32),
            prefix: Prefix::host(Ipv6Addr::from_bits(
                0x2001_0db8 << 96 | u128::from(id) << 72,
            )),
            server_duid: &[0, 1, 0, 1, 0x2a, 0, 0, 0, 2, 0, 0, 0, 0, 9],
            server_address: Ipv6Addr::LOCALHOST,
            t1_secs: 1800,
            t2_secs: 2880,
            cltt: now,
            preferred_until: now + hour,
            valid_until: now + hour * 2,
            state: RecordState::Active,
            origin: Origin::Snooped,
            snooped_by: Ipv6Addr::UNSPECIFIED,
            changed_at: now,
        },
    });
}
