//! A store with many bindings, as a daemon would have left it: each client with an address and a prefix.

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

const CLIENTS_A_BATCH: usize = 500;

/// Makes it.
pub fn make(state: &Path, clients: u64) -> anyhow::Result<()> {
    let clock = Box::new(Clock::read);
    let opened = Opened::open(StateDir::lock(state)?, Options::default(), clock)?;
    let (tell, durable) = mpsc::channel();
    let store = opened.start(move |event| {
        if let Event::Durable(sequence) = event {
            let _ = tell.send(sequence);
        }
    })?;
    let mut sequence = 0;
    for from in (0..clients).step_by(CLIENTS_A_BATCH) {
        let mut batch = store.batch();
        for client in from..(from + CLIENTS_A_BATCH as u64).min(clients) {
            each_binding(client, |binding| batch.put(binding));
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

fn each_binding(client: u64, mut each: impl FnMut(&StoredBinding<'_>)) {
    let number = u128::from(client);
    let mac = MacAddr([
        2,
        0xbe,
        client as u8,
        (client >> 8) as u8,
        (client >> 16) as u8,
        0,
    ]);
    let duid = [&[0, 3, 0, 1][..], &mac.0].concat();
    let address = Prefix::host(Ipv6Addr::from_bits(
        (0x2001_0db8_000a_0001_8000 << 48) + number,
    ));
    let delegated = Ipv6Addr::from_bits((0x2001_0db8_d000 << 80) + (number << 72));
    let delegated = Prefix::new(delegated, 56).expect("a length that exists");
    let now = boot_now();
    let day = Duration::from_secs(86_400);
    for (at, (ia_type, prefix)) in (1..).zip([(IaType::Na, address), (IaType::Pd, delegated)]) {
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
                client_address: Ipv6Addr::from_bits((0xfe80 << 112) + 0x00be_0000_0000 + number),
                mac: Some(mac),
                link_address: "2001:db8:a:1::2".parse().expect("an address"),
                is_first_hop: true,
                ia_type,
                iaid: Iaid(1),
                prefix,
                server_duid: &[0, 1, 0, 1, 0x2a, 0, 0, 0, 2, 0, 0, 0, 0, 9],
                server_address: "2001:db8:c::11".parse().expect("an address"),
                t1_secs: 43_200,
                t2_secs: 69_120,
                cltt: now,
                preferred_until: now + day,
                valid_until: now + day * 2,
                state: RecordState::Active,
                origin: Origin::Snooped,
                snooped_by: Ipv6Addr::UNSPECIFIED,
                changed_at: now,
            },
        });
    }
}
