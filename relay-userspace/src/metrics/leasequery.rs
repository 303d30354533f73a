//! Metrics of leasequery: sessions, digests, readiness, certificates.

use relay_core::alq::{Digest, Neighbor, Role, SessionState};
use relay_core::types::AccessId;

use super::{Family, Labels, add, alone, counter, gauge, seconds};
use crate::control::leasequery::{link_digests, messages, total};
use crate::counters::Counters;
use crate::handle::Surroundings;
use crate::leasequery::Refused;
use crate::leasequery::tls::Expiry;

/// What a gauge of Prometheus holds exactly, whoever computes with it.
const DIGEST_BITS: u32 = 48;

/// What one scrape asks of leasequery.
#[derive(Clone, Default, Debug)]
pub struct Leasequery {
    /// Sessions.
    pub neighbors: Vec<Neighbor>,
    /// Bindings by access interface.
    pub digests: Vec<(AccessId, Digest)>,
    /// This relay may attract traffic.
    pub is_ready: bool,
    /// It waited in vain to be in sync.
    pub is_by_timeout: bool,
    /// Ends of certificates.
    pub expiries: Vec<Expiry>,
}

impl Leasequery {
    pub(super) fn families(&self, counters: &Counters, surroundings: &Surroundings) -> Vec<Family> {
        let names = &surroundings.names;
        let of = |it: &Neighbor| -> Labels {
            let role = it.role.name().to_owned();
            vec![("peer", names.remote(it.remote)), ("role", role)]
        };
        let (mut states, mut counts) = (Vec::new(), Vec::new());
        let (mut lags, mut catch_ups, mut unsent) = (Vec::new(), Vec::new(), Vec::new());
        for neighbor in &self.neighbors {
            for state in SessionState::ALL {
                let mut labels = of(neighbor);
                labels.push(("state", state.name().to_owned()));
                states.push((labels, u64::from(neighbor.state == state)));
            }
            for (direction, name, count) in messages(neighbor) {
                let mut labels = of(neighbor);
                labels.push(("direction", direction.to_owned()));
                labels.push(("type", name.to_owned()));
                add(&mut counts, labels, count);
            }
            let peer: Labels = vec![("peer", names.remote(neighbor.remote))];
            let is_ours = neighbor.role == Role::Requestor;
            if let Some(nanos) = neighbor.lag_nanos {
                let behind = if is_ours { &mut lags } else { &mut unsent };
                behind.push((peer.clone(), nanos as f64 / 1e9));
            }
            let catch_up = &neighbor.catch_up;
            if is_ours && let Some((from, until)) = catch_up.started_at.zip(catch_up.completed_at) {
                let took = until.saturating_since(from);
                catch_ups.push((peer, took.as_secs_f64()));
            }
        }
        vec![
            gauge(
                "alq_session_state",
                "1 for the state that a session of leasequery is in",
                states,
            ),
            counter("alq_messages", "Leasequery messages over TCP", counts),
            seconds(
                "alq_lag_seconds",
                "How long the last message of a peer was on its way",
                lags,
            ),
            seconds(
                "alq_unsent_seconds",
                "Age of the oldest change that a peer was not told yet",
                unsent,
            ),
            seconds(
                "alq_catch_up_seconds",
                "How long the last whole catch-up from a peer took",
                catch_ups,
            ),
            self.digests(surroundings),
            gauge(
                "ready",
                "1 while this relay may attract traffic",
                alone(u64::from(self.is_ready)),
            ),
            gauge(
                "ready_by_timeout",
                "1 while it is ready without having been in sync",
                alone(u64::from(self.is_by_timeout)),
            ),
            seconds(
                "tls_certificate_expiry_timestamp_seconds",
                "When a certificate of [tls] ends, in Unix time",
                self.expiries(),
            ),
            refused(counters),
        ]
    }

    fn digests(&self, surroundings: &Surroundings) -> Family {
        let total = ("total".to_owned(), total(&self.digests));
        let links = link_digests(surroundings, &self.digests);
        let samples = links.into_iter().chain([total]).map(|(link, digest)| {
            let bits = digest.sum & ((1 << DIGEST_BITS) - 1);
            (vec![("link", link)], bits)
        });
        gauge(
            "binding_digest",
            "Active bindings as one number, equal on relays that hold the same: 48 bits of show digest",
            samples.collect(),
        )
    }

    fn expiries(&self) -> Vec<(Labels, f64)> {
        let samples = self.expiries.iter().map(|expiry| {
            let labels = vec![("name", expiry.name.to_owned())];
            (labels, expiry.not_after.as_second() as f64)
        });
        samples.collect()
    }
}

fn refused(counters: &Counters) -> Family {
    let reasons = Refused::ALL.iter().zip(&counters.leasequery_refused);
    let samples = reasons
        .map(|(reason, counter)| (vec![("reason", reason.name().to_owned())], counter.get()));
    counter(
        "leasequery_refused",
        "Connections closed before anything was read from them",
        samples.collect(),
    )
}

#[cfg(test)]
impl Leasequery {
    /// An active session each way.
    pub(super) fn of_a_pair() -> Self {
        let neighbors = crate::testing::neighbors();
        Self {
            neighbors,
            digests: vec![(
                AccessId(0),
                Digest {
                    bindings: 2,
                    sum: 0xffff_0000_0000_0007,
                },
            )],
            is_ready: true,
            is_by_timeout: false,
            expiries: vec![Expiry {
                name: "certificate",
                not_after: "2031-01-01T00:00:00Z".parse().unwrap(),
            }],
        }
    }
}
