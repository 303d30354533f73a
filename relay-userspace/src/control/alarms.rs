//! What was noticed and somebody has to look at: told in the log, however often it happens at most
//! once a minute for each interface (SNP-35, SNP-40, RLY-92, ALQ-D-4). Looks at what was counted; the relay
//! path logs nothing.

use std::collections::BTreeMap;
use std::time::Duration;

use relay_core::error::Notice;
use tokio::time::Instant;

use crate::counters::Counters;

/// The same is not told again before.
const TELL_EVERY: Duration = Duration::from_secs(60);

/// What it means, for those notices that are alarms.
const fn meaning(notice: Notice) -> Option<&'static str> {
    Some(match notice {
        Notice::ClientLimit => {
            "a client has more leases than max_leases_per_client: those above have no route"
        }
        Notice::InterfaceLimit => {
            "an interface has more leases than max_leases_per_interface: those above have no route"
        }
        Notice::TableFull => "there are more leases than max_bindings: those above have no route",
        Notice::LeaseConflict => {
            "servers leased one prefix to two clients: the later one has the route"
        }
        Notice::ForeignRelease => {
            "a RELEASE or DECLINE for a lease of somebody else was relayed without effect"
        }
        // req: ALQ-D-4
        Notice::LeaseUnmapped => {
            "a peer or server told of a lease on a link that no access interface is on: it has no route \
             until the link is in the peer's `links`"
        }
        Notice::ServerUnicast => {
            "a server lets clients unicast: renewals that pass this relay by are not learned"
        }
        _ => return None,
    })
}

/// What was told of one counter.
#[derive(Clone, Copy, Debug, Default)]
struct Told {
    count: u64,
    at: Option<Instant>,
}

/// What was told, by interface and notice.
#[derive(Debug, Default)]
pub(super) struct Alarms(BTreeMap<(String, &'static str), Told>);

impl Alarms {
    /// Tells what has grown.
    pub(super) fn look(&mut self, counters: &Counters, now: Instant) {
        let ports = counters
            .ports
            .read()
            .expect("no holder of this lock panics")
            .clone();
        for port in &ports {
            for (notice, counter) in Notice::ALL.iter().zip(&port.notices) {
                let Some(meaning) = meaning(*notice) else {
                    continue;
                };
                let (notice, interface) = (notice.name(), port.name.as_str());
                let told = self.0.entry((port.name.clone(), notice)).or_default();
                if let Some(more) = told.look(now, counter.get()) {
                    tracing::warn!(interface, notice, more, "{meaning}; see `show bindings`");
                }
            }
        }
    }
}

impl Told {
    /// How many more there are, where that is to be told now.
    fn look(&mut self, now: Instant, count: u64) -> Option<u64> {
        // A total that fell was zeroed by an operator.
        self.count = self.count.min(count);
        let is_early = self.at.is_some_and(|at| now - at < TELL_EVERY);
        if count == self.count || is_early {
            return None;
        }
        self.at = Some(now);
        Some(count - std::mem::replace(&mut self.count, count))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn alarm_is_told_at_once_and_then_once_a_minute_with_what_came_meanwhile() {
        let start = Instant::now();
        let at = |secs: u64| start + Duration::from_secs(secs);
        let mut told = Told::default();

        assert_eq!(told.look(at(0), 0), None);
        assert_eq!(told.look(at(1), 3), Some(3));
        assert_eq!(told.look(at(2), 10), None);
        assert_eq!(told.look(at(61), 12), Some(9));
        assert_eq!(told.look(at(200), 12), None, "nothing new");
        assert_eq!(told.look(at(201), 0), None, "zeroed");
        assert_eq!(told.look(at(202), 1), Some(1));
    }

    #[test]
    fn limits_conflicts_and_unicast_are_alarms_and_common_things_are_not() {
        assert!(meaning(Notice::ClientLimit).is_some());
        assert!(meaning(Notice::LeaseConflict).is_some());
        assert!(meaning(Notice::UnmatchedReply).is_none());
    }
}
