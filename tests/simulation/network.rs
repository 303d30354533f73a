//! Clients, a server and the lossy links between them, driven by one seed.
//!
//! Decides what happens next and tells relay and model of it alike. Every client owns its prefixes
//! and address, so no two leases conflict; conflicts have conformance tests of their own.

use std::collections::BTreeMap;
use std::net::Ipv6Addr;

use relay_core::input::Clear;
use relay_core::types::IfIndex;
use relay_core::view::BindingState;
use relay_tests::bench::{Bench, Client, SECOND, prefix};
use relay_tests::exchanges::{from_client, from_server, na, pd};
use relay_tests::messages::{answer, iaaddr, iaprefix, option};

use crate::model::{Model, Offered};
use crate::random::Random;

/// Clients, half of them on each of two access interfaces.
const CLIENTS: usize = 12;
/// Messages under way at one time; more wait for none, the oldest is lost.
const MAX_UNDER_WAY: usize = 64;
/// Once this much time passes, every finite lease is over.
const LONGEST_LIFETIME: u32 = 400;

/// An answer older than this, in seconds, is lost: no client waits for it, and no relay has to
/// remember what it answers (SNP-6).
const OLDEST_ANSWER: u64 = 100;

/// A Reply on its way from the server to the relay.
struct UnderWay {
    datagram: Vec<u8>,
    sent: u64,
    client: usize,
    next_hop: Ipv6Addr,
    ias: Vec<Offered>,
    /// Whether it answers something that can grant.
    grants: bool,
}

/// Everything but the model.
pub struct Network {
    bench: Bench,
    clients: Vec<Client>,
    model: Model,
    random: Random,
    under_way: Vec<UnderWay>,
    /// What the core's route changes add up to: the kernel's table of a perfect shell.
    routes: BTreeMap<String, String>,
    /// Present indices of the two interfaces.
    present: [Option<u32>; 2],
    next_index: u32,
    elapsed: u64,
    seed: u64,
    /// Leases that the last step granted, and the next hop that they must have (SNP-4).
    just_granted: Vec<(String, Ipv6Addr)>,
    /// What happened, one line each.
    pub log: Vec<String>,
}

impl Network {
    /// An empty network.
    pub fn new(seed: u64) -> Self {
        let clients = (0..CLIENTS)
            .map(|n| Client::new(n as u16 + 1, if n % 2 == 0 { 2 } else { 3 }))
            .collect();
        Self {
            bench: Bench::default(),
            clients,
            model: Model::default(),
            random: Random::new(seed),
            under_way: Vec::new(),
            routes: BTreeMap::new(),
            present: [Some(2), Some(3)],
            next_index: 10,
            elapsed: 0,
            seed,
            just_granted: Vec::new(),
            log: Vec::new(),
        }
    }

    /// One event.
    pub fn step(&mut self) {
        self.just_granted.clear();
        match self.random.below(100) {
            0..40 => self.client_asks(),
            40..72 => self.server_answers(),
            72..92 => self.time_passes(),
            92..97 => self.interface_changes(),
            _ => self.operator_clears(),
        }
        self.follow();
    }

    fn client_asks(&mut self) {
        let n = self.random.below(CLIENTS);
        let Some(index) = self.present[n % 2] else {
            return;
        };
        self.clients[n].interface = IfIndex(index);
        if self.random.chance(5) {
            // A new link-local address: the next hop moves with the next Reply (SNP-4).
            let host = (n as u16 + 1) | (self.random.below(200) as u16) << 8;
            self.clients[n].address = Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, host);
        }
        let message_type = [1, 3, 3, 5, 5, 6, 8, 9, 4, 11][self.random.below(10)];
        let name = relay_core::wire::iana::message_type_name(message_type);
        let ias = self.choose_ias(n, message_type);
        let client = self.clients[n].clone();
        let xid = self.bench.next_xid();
        self.note(format!("{name} client {n} {ias:?}"));

        if self.random.chance(10) {
            self.note(format!("lost {name}"));
            return;
        }
        let mut inside = encode(&ias);
        let rapid = message_type == 1 && self.random.chance(50);
        if rapid {
            inside.extend(option(14, &[]));
        }
        let request = from_client(message_type, xid, &client, &inside);
        let times = if self.random.chance(10) { 2 } else { 1 };
        for _ in 0..times {
            self.bench.client(&client, &request);
            if matches!(message_type, 8 | 9) {
                self.model.given_up(n, &ias, message_type == 9);
            }
        }
        self.answer_of_server(n, message_type, xid, rapid, ias);
    }

    /// What the server makes of it goes under way.
    fn answer_of_server(
        &mut self,
        n: usize,
        message_type: u8,
        xid: u32,
        rapid: bool,
        mut ias: Vec<Offered>,
    ) {
        let grants = matches!(message_type, 3 | 5 | 6) || rapid;
        if grants && self.random.chance(15) {
            self.note("zero".to_owned());
            ias.iter_mut().for_each(|ia| ia.valid = 0);
        }
        // To Release, Decline, Confirm and Information-Request: no IA (RFC 8415 §18.3).
        let mut inside = if grants || message_type == 1 {
            encode(&ias)
        } else {
            Vec::new()
        };
        if rapid {
            inside.extend(option(14, &[]));
        }
        let reply_type = if message_type == 1 && !rapid { 2 } else { 7 };
        let client = &self.clients[n];
        let inner = from_server(reply_type, xid, client, &inside);
        if self.under_way.len() == MAX_UNDER_WAY {
            self.under_way.remove(0);
        }
        self.under_way.push(UnderWay {
            datagram: answer(self.bench.last_forward(), &inner),
            sent: self.elapsed,
            client: n,
            next_hop: client.address,
            ias,
            grants,
        });
    }

    fn choose_ias(&mut self, n: usize, message_type: u8) -> Vec<Offered> {
        if matches!(message_type, 4 | 11) {
            return Vec::new();
        }
        let mut all = vec![
            (25, 1, format!("2001:db8:{:x}00::/56", n + 0x10)),
            (25, 1, format!("2001:db8:{:x}40::/60", n + 0x10)),
            (25, 2, format!("2001:db8:{:x}80::/64", n + 0x10)),
            (3, 1, format!("2001:db8:{}::{:x}/128", n % 2 + 1, n + 0x100)),
        ];
        all.retain(|_| self.random.chance(60));
        all.into_iter()
            .map(|(code, iaid, prefix)| Offered {
                code,
                iaid,
                prefix,
                valid: 1 + self.random.below(LONGEST_LIFETIME as usize) as u32,
            })
            .collect()
    }

    fn server_answers(&mut self) {
        if self.under_way.is_empty() {
            return;
        }
        let at = self.random.below(self.under_way.len());
        if at > 0 {
            self.note("later: a newer answer goes first".to_owned());
        }
        let too_old = self.elapsed - self.under_way[at].sent > OLDEST_ANSWER;
        if too_old || self.random.chance(15) {
            self.note("lost reply".to_owned());
            self.under_way.remove(at);
            return;
        }
        let again = self.random.chance(10);
        let UnderWay {
            datagram,
            sent: _,
            client,
            next_hop,
            ias,
            grants,
        } = self.under_way.remove(at);
        for _ in 0..if again { 2 } else { 1 } {
            self.note(format!("reply to client {client}"));
            self.bench.server(&datagram);
            // Without the interface no Reply is delivered, and what is not delivered is not learned.
            if grants && self.present[client % 2].is_some() {
                self.model.granted(self.elapsed, client, next_hop, &ias);
                let granted = ias.iter().filter(|ia| ia.valid > 0);
                self.just_granted = granted.map(|ia| (ia.prefix.clone(), next_hop)).collect();
            }
        }
        if again {
            self.note("twice".to_owned());
        }
    }

    fn time_passes(&mut self) {
        let seconds = 1 + self.random.below(60) as u32;
        self.note(format!("time {seconds}"));
        self.pass(seconds);
    }

    fn pass(&mut self, seconds: u32) {
        self.bench.advance(seconds * SECOND);
        self.elapsed += u64::from(seconds);
        self.model.at(self.elapsed);
    }

    fn interface_changes(&mut self) {
        let which = self.random.below(2);
        self.present[which] = match self.present[which] {
            Some(_) if self.random.chance(50) => {
                self.note(format!("gone {which}"));
                None
            }
            _ => {
                self.next_index += 1;
                self.note(format!("back {which} as {}", self.next_index));
                Some(self.next_index)
            }
        };
        let present = self.present;
        self.bench.reconfigure(|config| {
            for (access, index) in config.access.iter_mut().zip(present) {
                access.ifindex = index.map(IfIndex);
            }
            let networks = [prefix("2001:db8:1::/64"), prefix("2001:db8:2::/64")];
            config.routes.networks = present
                .iter()
                .zip(networks)
                .filter_map(|(index, network)| index.map(|index| (IfIndex(index), network)))
                .collect();
        });
    }

    fn operator_clears(&mut self) {
        let Some((_, _, _, text)) = self.model.leases.keys().next().cloned() else {
            return;
        };
        self.note(format!("clear {text}"));
        assert_eq!(
            self.bench.clear(Clear::Lease(prefix(&text))),
            1,
            "seed {}",
            self.seed
        );
        self.model.cleared(&text);
    }

    /// Does to the routes what the core wants.
    fn follow(&mut self) {
        for seen in self.bench.take() {
            if let Some(route) = seen.line.strip_prefix("route put ") {
                let (to, how) = route.split_once(" via ").expect("prefix via gateway");
                self.routes.insert(to.to_owned(), how.to_owned());
            } else if let Some(to) = seen.line.strip_prefix("route del ") {
                self.routes.remove(to);
            }
        }
    }

    /// Table and routes equal the model.
    pub fn check(&mut self) {
        let mut held = BTreeMap::new();
        for subscriber in self.bench.subscribers() {
            let n = self
                .clients
                .iter()
                .position(|client| client.duid == subscriber.duid)
                .expect("no client but ours");
            for lease in subscriber.bindings {
                if lease.state == BindingState::Active {
                    let code = if lease.ia_type.name() == "IA_PD" {
                        25
                    } else {
                        3
                    };
                    let left = lease.valid_until.saturating_since(self.bench.now).as_secs();
                    let key = (n, code, lease.iaid.0, lease.prefix.to_string());
                    assert!(
                        held.insert(key, left).is_none(),
                        "a lease twice, seed {}",
                        self.seed
                    );
                }
            }
        }
        let wanted: BTreeMap<_, _> = self
            .model
            .leases
            .iter()
            .map(|(key, lease)| (key.clone(), lease.valid_until - self.elapsed))
            .collect();
        assert_eq!(
            held,
            wanted,
            "leases, seed {}: {:#?}",
            self.seed,
            self.tail()
        );

        for (n, .., to) in self.model.leases.keys() {
            if let Some(index) = self.present[n % 2] {
                let how = self.routes.get(to).unwrap_or_else(|| {
                    panic!("no route to {to}, seed {}: {:#?}", self.seed, self.tail())
                });
                assert!(
                    how.ends_with(&format!(" dev {index}")),
                    "{to} via {how}, wanted dev {index}, seed {}: {:#?}",
                    self.seed,
                    self.tail()
                );
            }
        }
        for (to, next_hop) in &self.just_granted {
            assert!(
                self.routes[to].starts_with(&format!("{next_hop} dev ")),
                "{to} {}, wanted via {next_hop}, seed {}",
                self.routes[to],
                self.seed
            );
        }
        for to in self.routes.keys() {
            assert!(
                self.model.leases.keys().any(|(.., held)| held == to),
                "a route to {to} without lease, seed {}: {:#?}",
                self.seed,
                self.tail()
            );
        }
    }

    /// When all time is over, nothing is left.
    pub fn end(&mut self) {
        self.just_granted.clear();
        self.pass(LONGEST_LIFETIME + 1);
        self.follow();
        self.check();
        assert_eq!(self.bench.relay.summary().clients, 0, "seed {}", self.seed);
        assert!(
            self.routes.is_empty(),
            "seed {}: {:?}",
            self.seed,
            self.routes
        );
    }

    fn note(&mut self, line: String) {
        self.log.push(line);
    }

    fn tail(&self) -> &[String] {
        &self.log[self.log.len().saturating_sub(12)..]
    }
}

fn encode(ias: &[Offered]) -> Vec<u8> {
    let mut bytes = Vec::new();
    for ia in ias {
        let (preferred, valid) = (ia.valid / 2, ia.valid);
        if ia.code == 25 {
            bytes.extend(pd(ia.iaid, &[iaprefix(&ia.prefix, preferred, valid)]));
        } else {
            let address = ia.prefix.trim_end_matches("/128");
            bytes.extend(na(ia.iaid, &[iaaddr(address, preferred, valid)]));
        }
    }
    bytes
}
