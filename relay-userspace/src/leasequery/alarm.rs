//! Certificates that will end: told in good time, in the log and in `monitor`.

use std::collections::BTreeMap;
use std::time::Duration;

use jiff::Timestamp;
use tokio_util::sync::CancellationToken;

use super::Connections;
use super::tls::Expiry;
use crate::events::{EventKind, Events};

const LOOK_EVERY: Duration = Duration::from_secs(600);
/// Days before the end; the last is the end itself.
const STEPS: [i64; 4] = [30, 7, 1, 0];
const DAY_SECS: i64 = 86_400;

/// How near an end is: so many of the steps were passed.
fn passed(end: Timestamp, now: Timestamp) -> usize {
    let left = end.as_second() - now.as_second();
    STEPS
        .iter()
        .filter(|days| left <= **days * DAY_SECS)
        .count()
}

/// What was told of each certificate.
#[derive(Default)]
struct Told(BTreeMap<&'static str, (Timestamp, usize)>);

impl Told {
    /// Whether it is to be told now that this one ends.
    fn look(&mut self, expiry: &Expiry, now: Timestamp) -> bool {
        let passed = passed(expiry.not_after, now);
        let told = self.0.entry(expiry.name).or_default();
        // A new certificate begins anew.
        if told.0 != expiry.not_after {
            *told = (expiry.not_after, 0);
        }
        let is_new = passed > told.1;
        told.1 = passed;
        is_new
    }
}

/// Looks now and then, and at once when there are others, until `stop` is cancelled.
pub async fn watch(connections: Connections, events: Events, stop: CancellationToken) {
    let mut told = Told::default();
    let mut look = tokio::time::interval(LOOK_EVERY);
    let mut present = connections.watch_tls();
    loop {
        let now = Timestamp::try_from(connections.clock().now()).unwrap_or(Timestamp::MAX);
        let tls = present.borrow_and_update().clone();
        for expiry in tls.iter().flat_map(|tls| &tls.expiries) {
            if told.look(expiry, now) {
                tell(expiry, now, &events);
            }
        }
        tokio::select! {
            _ = look.tick() => {}
            Ok(()) = present.changed() => {}
            () = stop.cancelled() => return,
        }
    }
}

fn tell(expiry: &Expiry, now: Timestamp, events: &Events) {
    let Expiry { name, not_after } = expiry;
    let has_ended = *not_after <= now;
    let days = (not_after.as_second() - now.as_second()) / DAY_SECS;
    if has_ended {
        tracing::error!(name, %not_after, "a certificate of [tls] has expired: no session of leasequery can begin; make new ones and reload");
    } else if days < 7 {
        tracing::error!(name, %not_after, days, "a certificate of [tls] ends soon; make new ones and reload");
    } else {
        tracing::warn!(name, %not_after, days, "a certificate of [tls] ends soon; make new ones and reload");
    }
    let event = if has_ended { "expired" } else { "expires" };
    events.publish(EventKind::Certificate {
        event: event.to_owned(),
        name: (*name).to_owned(),
        not_after: not_after.to_string(),
    });
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::leasequery::tls::tests::Files;

    /// What `monitor` prints when [tls] is read anew and its certificates end in three days, or have ended.
    #[tokio::test]
    async fn certificate_that_ends_is_an_event_of_monitor() {
        let (sender, _) = std::sync::mpsc::sync_channel(1);
        let wake = nix::sys::eventfd::EventFd::new().unwrap();
        let relay = crate::handle::RelayHandle::new(sender, Arc::new(wake.into()));
        let clock = crate::leasequery::tls::Clock {
            not_before: std::time::SystemTime::UNIX_EPOCH,
        };
        let runtime = tokio::runtime::Handle::current();
        let connections = Connections::new(runtime, relay, clock);
        let events = Events::new(Arc::default());
        let (mut reader, stop) = (events.subscribe(), CancellationToken::new());
        let watching = tokio::spawn(watch(connections.clone(), events, stop.clone()));
        let valid = 5 * 365 * DAY_SECS;
        let now = Timestamp::now().as_second();

        for (left, event) in [(3, "expires"), (-3, "expired")] {
            let files = Files::from(now - valid + left * DAY_SECS);
            connections.use_tls(Some(files.load("r1")));
            for name in ["certificate", "ca"] {
                let next = tokio::time::timeout(Duration::from_secs(10), reader.next()).await;
                let next = next.expect("it is told").expect("the stream goes on");
                let told = serde_json::to_value(&*next).unwrap();
                assert_eq!(told["kind"], "certificate", "{told:#}");
                assert_eq!(
                    (&told["event"], &told["name"]),
                    (&event.into(), &name.into())
                );
                let end: Timestamp = told["not_after"].as_str().unwrap().parse().unwrap();
                let days = (end.as_second() - now).div_euclid(DAY_SECS);
                assert!((left..=left + 1).contains(&days), "{told:#}");
            }
        }
        stop.cancel();
        watching.await.unwrap();
    }

    #[test]
    fn end_is_told_thirty_seven_and_one_day_before_it_and_when_it_comes() {
        let end: Timestamp = "2030-06-30T12:00:00Z".parse().unwrap();
        let expiry = Expiry {
            name: "certificate",
            not_after: end,
        };
        let mut told = Told::default();
        let mut at = |secs_before: i64| {
            let now = Timestamp::from_second(end.as_second() - secs_before).unwrap();
            told.look(&expiry, now)
        };

        assert!(!at(31 * DAY_SECS));
        assert!(at(30 * DAY_SECS));
        assert!(!at(29 * DAY_SECS), "told once");
        assert!(at(7 * DAY_SECS));
        assert!(at(DAY_SECS));
        assert!(!at(1));
        assert!(at(0));
        assert!(!at(-DAY_SECS));
    }

    #[test]
    fn new_certificate_that_ends_soon_is_told_of_again() {
        let now: Timestamp = "2030-06-30T12:00:00Z".parse().unwrap();
        let ends_in = |days: i64| Expiry {
            name: "ca",
            not_after: Timestamp::from_second(now.as_second() + days * DAY_SECS).unwrap(),
        };
        let mut told = Told::default();

        assert!(told.look(&ends_in(3), now));
        assert!(!told.look(&ends_in(300), now));
        assert!(told.look(&ends_in(3), now));
    }
}
