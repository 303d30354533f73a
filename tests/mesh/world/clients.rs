//! Clients ask for leases and give them up, and relays hear of it or not; a server grants all; an operator clears.
//! The model is told what the relays see.

use relay_core::input::{Clear, ClientDatagram, Input, ServerDatagram};
use relay_core::types::IfIndex;
use relay_tests::bench::{Client, prefix};
use relay_tests::exchanges::{from_client, from_server, na, na_lease, pd, pd_lease};
use relay_tests::messages::{answer, iaaddr, iaprefix, ip, status};

use super::{CLIENTS, Event, MS, SECOND, SPACING, World};
use crate::model::Key;
use crate::node::Out;

impl World {
    pub(super) fn lease_names(&self, n: usize) -> [String; 2] {
        [
            format!("2001:db8:{}::{:x}", n % 2 + 1, n + 0x100),
            format!("2001:db8:{:x}00::/56", n + 0x10),
        ]
    }

    pub(super) fn keys(&self, n: usize) -> [Key; 2] {
        let [address, prefix] = self.lease_names(n);
        [(n, format!("{address}/128")), (n, prefix)]
    }

    pub(super) fn client_acts(&mut self) {
        let n = self.random.below(CLIENTS);
        if self.free_at[n] > self.now {
            return;
        }
        self.free_at[n] = self.now + SPACING;
        let kind = match self.random.below(100) {
            0..65 => "grant",
            65..93 => "release",
            _ => "decline",
        };
        let hearers: Vec<usize> = (0..self.nodes.len())
            .filter(|at| self.nodes[*at].relay.is_some())
            .filter(|_| self.random.chance(75))
            .collect();
        let up = self
            .nodes
            .iter()
            .filter(|node| node.relay.is_some())
            .count();
        if hearers.len() < up {
            self.note(format!("deaf: client {n} is heard by {hearers:?} of {up}"));
        }
        let valid = 30 + self.random.below(900) as u32;
        self.act(n, kind, valid, &hearers);
    }

    /// Client `n` asks for its leases and is given them for `valid` seconds, or gives them up, heard by these relays.
    pub(super) fn act(&mut self, n: usize, kind: &str, valid: u32, hearers: &[usize]) {
        self.note(format!("{kind} client {n} for {valid} s at {hearers:?}"));
        let [address, delegated] = self.lease_names(n);
        let (message_type, asked) = match kind {
            "grant" => (
                3,
                [na_lease(1, &address, 0), pd_lease(1, &delegated, 0)].concat(),
            ),
            "release" => (
                8,
                [
                    na(1, &[iaaddr(&address, 0, 0)]),
                    pd(1, &[iaprefix(&delegated, 0, 0)]),
                ]
                .concat(),
            ),
            _ => (9, na(1, &[iaaddr(&address, 0, 0)])),
        };
        let given = match kind {
            "grant" => [na_lease(1, &address, valid), pd_lease(1, &delegated, valid)].concat(),
            _ => status(0),
        };
        self.xid += 1;
        let client = self.clients[n].clone();
        let request = from_client(message_type, self.xid, &client, &asked);
        let reply = from_server(7, self.xid, &client, &given);
        let ends: &[Key] = match kind {
            "grant" => &[],
            "release" => &self.keys(n),
            _ => &self.keys(n)[..1],
        };
        for at in hearers.iter().copied() {
            let held = self.nodes[at].leases();
            for key in ends {
                let holds = |(duid, lease, _): &(Vec<u8>, String, u64)| {
                    *duid == client.duid && *lease == key.1
                };
                // Who does not hold it cannot know that it was this client's to give up (SNP-23).
                if held.iter().any(holds) {
                    self.model.ended(self.now, key.clone());
                }
            }
            self.client_message(at, &client, &request);
            for out in std::mem::take(&mut self.nodes[at].out) {
                match out {
                    Out::ToServer(forward) if !self.random.chance(10) || self.is_scripted => {
                        let granted = match kind {
                            "grant" => self.keys(n).map(|key| (key, u64::from(valid))).to_vec(),
                            _ => Vec::new(),
                        };
                        let datagram = answer(&forward, &reply);
                        let delay = (1 + self.random.below(50) as u64) * MS;
                        self.plan(
                            delay,
                            Event::Answer {
                                node: at,
                                datagram,
                                granted,
                            },
                        );
                    }
                    Out::ToServer(_) => self.note("lost on the way to the server".to_owned()),
                    other => self.nodes[at].out.push(other),
                }
            }
            self.carry_out(at);
        }
    }

    pub(super) fn client_message(&mut self, at: usize, client: &Client, payload: &[u8]) {
        let now = self.instant();
        let datagram = ClientDatagram {
            interface: client.interface,
            vlans: client.vlans,
            mac: client.mac,
            source: client.address,
            source_port: client.port,
            destination: ip("ff02::1:2"),
            payload,
        };
        self.nodes[at].input(now, Input::Client(datagram));
    }

    pub(super) fn server_answers(&mut self, at: usize, datagram: &[u8], granted: Vec<(Key, u64)>) {
        let now = self.instant();
        let datagram = ServerDatagram {
            interface: IfIndex(9),
            source: ip("2001:db8:53::1"),
            source_port: 547,
            payload: datagram,
        };
        self.nodes[at].input(now, Input::Server(datagram));
        let is_delivered = |out: &Out| matches!(out, Out::ToClient);
        if self.nodes[at].out.iter().any(is_delivered) {
            for (key, valid) in granted {
                self.model.granted(self.now, key, self.now + valid * SECOND);
            }
        }
        self.carry_out(at);
    }

    pub(super) fn operator_clears(&mut self) {
        let at = self.random.below(self.nodes.len());
        let held = self.nodes[at].leases();
        if held.is_empty() {
            return;
        }
        let (duid, lease, _) = held[self.random.below(held.len())].clone();
        let client = self.clients.iter().position(|client| client.duid == duid);
        let n = client.expect("no client but ours");
        if self.free_at[n] > self.now {
            return;
        }
        self.free_at[n] = self.now + SPACING;
        self.note(format!("clear {lease} at {at}"));
        let now = self.instant();
        self.nodes[at].input(now, Input::Clear(Clear::Lease(prefix(&lease))));
        self.model.ended(self.now, (n, lease));
        self.carry_out(at);
    }
}
