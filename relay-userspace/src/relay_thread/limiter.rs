//! The limits of `rate_limit` for what comes by sockets: the buckets, keys and shares are those of the kernel program
//! (`relay-ebpf/src/limit.rs`), for frames that it did not see or did not want. Knows neither sockets nor clocks.
//!
//! What the ring brings was limited already and does not come here, so the two ways in have buckets of their own.

use std::collections::HashMap;
use std::hash::{BuildHasher, RandomState};

use relay_common::abi::{CLIENT_BY_PEER_ADDRESS, ClientKey, Interface, TokenBucket};
use relay_common::priority::Priority;
use relay_common::rate::take;
use relay_core::time::Instant;

use crate::counters::ShellDrop;

/// Clients with a bucket, as many as in the kernel's table: 65,536 x 16 bytes = 1 MiB, taken as it is touched.
const CLIENTS: usize = relay_common::maps::CLIENT_RATE_CAPACITY;
/// Places that a client may have. Of those the one that is full again soonest makes room.
const WAYS: usize = 4;

/// The buckets of all interfaces and clients.
pub struct Limiter {
    hasher: RandomState,
    clients: Box<[[Slot; WAYS]]>,
    interfaces: HashMap<u32, TokenBucket>,
}

/// A client's bucket; zero throughout where it was never used.
#[derive(Clone, Copy)]
struct Slot {
    /// Stands for a [`ClientKey`]: nobody outside can make two that are equal.
    hash: u64,
    bucket: TokenBucket,
}

impl Limiter {
    /// All full.
    pub fn new() -> Self {
        let empty = Slot {
            hash: 0,
            bucket: TokenBucket::default(),
        };
        Self {
            hasher: RandomState::new(),
            clients: vec![[empty; WAYS]; CLIENTS / WAYS].into_boxed_slice(),
            interfaces: HashMap::new(),
        }
    }

    /// Takes a token from the buckets of interface and client, or from neither.
    ///
    /// # Errors
    /// Which of them had none.
    // req: RLY-71
    pub fn admit(
        &mut self,
        client: &ClientKey,
        limits: &Interface,
        priority: Priority,
        now: Instant,
    ) -> Result<(), ShellDrop> {
        let now = now.as_nanos();
        let interface = self.interfaces.entry(client.ifindex).or_default();
        let interface_after = take(*interface, now, limits.interface_rate, priority)
            .ok_or(ShellDrop::InterfaceRate)?;
        if limits.client_rate != 0 {
            let hash = self.hasher.hash_one(client);
            let place = place(&mut self.clients, hash);
            let before = if place.hash == hash {
                place.bucket
            } else {
                TokenBucket::default()
            };
            let bucket =
                take(before, now, limits.client_rate, priority).ok_or(ShellDrop::ClientRate)?;
            *place = Slot { hash, bucket };
        }
        *interface = interface_after;
        Ok(())
    }
}

/// Where this client's bucket is, or may be.
fn place(clients: &mut [[Slot; WAYS]], hash: u64) -> &mut Slot {
    let set = usize::try_from(hash % (CLIENTS / WAYS) as u64).expect("smaller than the table");
    let set = &mut clients[set];
    let found = set.iter().position(|slot| slot.hash == hash);
    let at = found.unwrap_or_else(|| {
        let full_at = |at: &usize| set[*at].bucket.full_at_boot_nanos;
        (0..WAYS).min_by_key(full_at).expect("there are some")
    });
    &mut set[at]
}

/// The key of a client whose frame nobody saw: by the address that it sends from, or that a relay gives for it.
pub fn key_of(ifindex: u32, address: [u8; 16]) -> ClientKey {
    ClientKey {
        ifindex,
        outer_vid: 0,
        inner_vid: 0,
        kind: CLIENT_BY_PEER_ADDRESS,
        client: address,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use Priority::{GivesWay, Reserved};
    use relay_common::abi::{INTERFACE_MACS, ROLE_ACCESS};

    const NOW: Instant = Instant::from_nanos(5_000_000_000);

    fn limits(client_rate: u32, interface_rate: u32) -> Interface {
        Interface {
            role: ROLE_ACCESS,
            flags: 0,
            client_rate,
            interface_rate,
            mac_count: 0,
            macs: [[0; 6]; INTERFACE_MACS],
            mtu: 1500,
        }
    }

    fn client(number: u32) -> ClientKey {
        let mut address = [0; 16];
        address[..4].copy_from_slice(&number.to_be_bytes());
        key_of(2, address)
    }

    /// What becomes of so many messages at one moment: how many pass, and why the last does not.
    fn burst(
        limiter: &mut Limiter,
        client: &ClientKey,
        limits: &Interface,
        priority: Priority,
    ) -> (usize, Option<ShellDrop>) {
        let told: Vec<_> = (0..100)
            .map(|_| limiter.admit(client, limits, priority, NOW))
            .collect();
        let passed = told.iter().filter(|it| it.is_ok()).count();
        (passed, told.last().and_then(|it| it.err()))
    }

    /// req: RLY-71
    #[test]
    fn rly_71_client_over_its_rate_is_refused_and_others_are_not() {
        let mut limiter = Limiter::new();
        let limits = limits(10, 0);

        let solicits = burst(&mut limiter, &client(1), &limits, GivesWay);
        let renews = burst(&mut limiter, &client(1), &limits, Reserved);
        let others = burst(&mut limiter, &client(2), &limits, Reserved);

        let refused = Some(ShellDrop::ClientRate);
        assert_eq!(solicits, (5, refused));
        assert_eq!(renews, (5, refused), "the reserved half is left");
        assert_eq!(others, (10, refused));
    }

    /// req: RLY-71
    #[test]
    fn rly_71_interface_over_its_rate_is_refused_and_costs_no_client_a_token() {
        let mut limiter = Limiter::new();
        let narrow = limits(10, 4);

        let first = burst(&mut limiter, &client(1), &narrow, Reserved);
        let second = burst(&mut limiter, &client(2), &narrow, Reserved);
        let wide = burst(&mut limiter, &client(2), &limits(10, 0), Reserved);

        let refused = Some(ShellDrop::InterfaceRate);
        assert_eq!((first, second), ((4, refused), (0, refused)));
        assert_eq!(wide.0, 10);
    }

    #[test]
    fn limits_of_zero_let_everything_pass() {
        let told = burst(&mut Limiter::new(), &client(1), &limits(0, 0), GivesWay);

        assert_eq!(told, (100, None));
    }

    /// Many more clients than places: whoever is over its rate stays refused while it goes on.
    #[test]
    fn flood_of_made_up_clients_gives_no_busy_client_a_new_bucket() {
        let mut limiter = Limiter::new();
        let limits = limits(10, 0);
        burst(&mut limiter, &client(1), &limits, Reserved);

        for number in 2..3 * CLIENTS as u32 {
            limiter
                .admit(&client(number), &limits, GivesWay, NOW)
                .expect("each says one word");
        }

        let told = limiter.admit(&client(1), &limits, Reserved, NOW);
        assert_eq!(told, Err(ShellDrop::ClientRate));
    }
}
