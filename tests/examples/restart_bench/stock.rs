//! A store with many bindings, as a daemon would have left it: each client with an address and a prefix, clients
//! in no order. They are those of the load generator, as far as it has some.

use std::net::Ipv6Addr;
use std::path::Path;
use std::sync::mpsc;
use std::time::Duration;

use relay_common::net::{MacAddr, VlanTags};
use relay_core::record::{Record, RecordState};
use relay_core::types::{AccessId, AccessLink, IaType, Iaid, Prefix};
use relay_core::view::Origin;
use relay_userspace::store::{Clock, Event, Opened, Options, StateDir, StoredBinding};
use relay_userspace::wall_time::boot_now;

use crate::world::Wanted;

const CLIENTS_A_BATCH: usize = 500;

/// Makes it; all bindings end so long after now.
pub fn make(state: &Path, clients: u64, lifetime: Duration) -> anyhow::Result<()> {
    let clock = Box::new(Clock::read);
    let opened = Opened::open(StateDir::lock(state)?, Options::default(), clock)?;
    let (tell, durable) = mpsc::channel();
    let store = opened.start(move |event| {
        if let Event::Durable(sequence) = event {
            let _ = tell.send(sequence);
        }
    })?;
    let mut sequence = 0;
    let numbers: Vec<u64> = in_no_order(clients).collect();
    for some in numbers.chunks(CLIENTS_A_BATCH) {
        let mut batch = store.batch();
        for client in some {
            each_binding(*client, lifetime, |binding| batch.put(binding));
        }
        sequence += 1;
        batch.set_sequence(sequence);
        while let Err(back) = store.submit(batch) {
            batch = back;
            std::thread::sleep(Duration::from_millis(1));
        }
    }
    while durable.recv()? < sequence {}
    store.close();
    Ok(())
}

/// The routes that these bindings call for, in the order in which they were stored.
pub fn routes(clients: u64) -> Vec<Wanted> {
    in_no_order(clients)
        .flat_map(|client| {
            leases(client).map(|(_, prefix)| Wanted {
                prefix,
                gateway: link_local(client),
            })
        })
        .collect()
}

fn in_no_order(clients: u64) -> impl Iterator<Item = u64> {
    // Next to the golden section; a prime, so that each client comes once.
    (0..clients).map(move |at| at * 618_033_989 % clients)
}

fn link_local(client: u64) -> Ipv6Addr {
    Ipv6Addr::from_bits((0xfe80 << 112) + 0x00be_0000_0000 + u128::from(client))
}

fn leases(client: u64) -> [(IaType, Prefix); 2] {
    let number = u128::from(client);
    let address = Ipv6Addr::from_bits((0x2001_0db8_000a_0001_8000 << 48) + number);
    let delegated = Ipv6Addr::from_bits((0x2001_0db8_d000 << 80) + (number << 72));
    let delegated = Prefix::new(delegated, 56).expect("a length that exists");
    [(IaType::Na, Prefix::host(address)), (IaType::Pd, delegated)]
}

fn each_binding(client: u64, lifetime: Duration, mut each: impl FnMut(&StoredBinding<'_>)) {
    let number = (client as u32).to_be_bytes();
    let mac = MacAddr([2, 0xbe, number[0], number[1], number[2], number[3]]);
    let duid = [&[0, 3, 0, 1][..], &mac.0].concat();
    let now = boot_now();
    for (at, (ia_type, prefix)) in (1..).zip(leases(client)) {
        each(&StoredBinding {
            interface: "acc0",
            origin: "",
            record: Record {
                id: 2 * client + at,
                link: AccessLink {
                    access: AccessId(0),
                    vlans: VlanTags::NONE,
                },
                duid: &duid,
                client_address: link_local(client),
                mac: Some(mac),
                link_address: "2001:db8:a:1::2".parse().expect("an address"),
                is_first_hop: true,
                ia_type,
                iaid: Iaid(client as u32),
                prefix,
                server_duid: &[0, 3, 0, 1, 0x02, 0xbe, 0xff, 0, 0, 0x11],
                server_address: "2001:db8:c::11".parse().expect("an address"),
                t1_secs: 43_200,
                t2_secs: 69_120,
                cltt: now,
                preferred_until: now + lifetime,
                valid_until: now + lifetime,
                state: RecordState::Active,
                origin: Origin::Snooped,
                snooped_by: Ipv6Addr::UNSPECIFIED,
                changed_at: now,
            },
        });
    }
}
