//! The relay thread's end of one connection, with the test in place of the connection's task.

use std::sync::Arc;
use std::sync::mpsc::sync_channel;
use std::time::SystemTime;

use nix::sys::eventfd::EventFd;
use relay_core::types::PeerId;

use super::*;
use crate::handle::RelayHandle;
use crate::leasequery::tls::Clock;
use crate::testing::surroundings;

const CONNECTION: ConnectionId = ConnectionId(2);
const PEER: Remote = Remote::Peer(PeerId(0));

struct Bench {
    relay: Relay,
    leasequery: ToLeasequery,
    orders: mpsc::Receiver<Order>,
}

impl Bench {
    /// A peer has connected.
    fn connected(tls_name: Option<&'static str>) -> Self {
        let (sender, _) = sync_channel(1);
        let handle = RelayHandle::new(sender, Arc::new(EventFd::new().unwrap().into()));
        let clock = Clock {
            not_before: SystemTime::UNIX_EPOCH,
        };
        let connections = Connections::new(tokio::runtime::Handle::current(), handle, clock);
        let ready = watch::Sender::new(crate::leasequery::ready::starting());
        let mut leasequery = ToLeasequery::new(connections, ready, mpsc::channel(1).0);
        let mut surroundings = surroundings();
        let target = Target {
            name: "r2".to_owned(),
            address: "[2001:db8:ff::2]:547".parse().unwrap(),
            tls_name: tls_name.map(|name| name.try_into().unwrap()),
        };
        surroundings.leasequery.remotes = vec![(PEER, target)];
        leasequery.surround(&surroundings);
        let mut relay = Relay::new(surroundings.relay, [7; 16]);
        let (sender, orders) = mpsc::channel(8);
        let what = What::Accepted("2001:db8:ff::2".parse().unwrap(), sender);
        let told = Told {
            connection: CONNECTION,
            what,
        };
        assert!(leasequery.hear(&mut relay, Instant::default(), told, false));
        leasequery.read_on(CONNECTION);
        let mut bench = Self {
            relay,
            leasequery,
            orders,
        };
        assert_eq!(bench.ordered(), ["More"], "both ends get leave to read");
        bench
    }

    /// What the connection was told since.
    fn ordered(&mut self) -> Vec<String> {
        let mut all = Vec::new();
        while let Ok(order) = self.orders.try_recv() {
            all.push(format!("{order:?}"));
        }
        all
    }

    /// Bytes have come. Whether the core has taken them.
    fn receive(&mut self, is_crowded: bool) -> bool {
        let told = Told {
            connection: CONNECTION,
            what: What::Received(vec![0, 4]),
        };
        let now = Instant::default();
        self.leasequery.hear(&mut self.relay, now, told, is_crowded)
    }

    fn obey(&mut self, effect: LeasequeryEffect) {
        let config = surroundings().relay;
        let mut numbers = crate::surroundings::Numbers::default();
        let counters = Arc::new(crate::counters::Counters::default());
        let wake = Arc::new(EventFd::new().unwrap().into());
        let mut relay = Relay::new(config, [7; 16]);
        let opened = Err("no store here".to_owned());
        let mut store = ToStore::start(opened, &mut relay, &mut numbers, &counters, wake);
        self.leasequery.obey(&self.relay, effect, &mut store);
    }

    fn want(&mut self, is_wanted: bool) {
        self.obey(LeasequeryEffect::Read {
            connection: CONNECTION,
            is_wanted,
        });
    }
}

/// What the store or the follower has no room for stays at the other end of the connection.
#[tokio::test]
async fn bytes_wait_while_what_they_cause_has_no_room_and_nothing_more_is_read() {
    let mut bench = Bench::connected(None);

    assert!(!bench.receive(true), "the core was not given them");
    assert!(bench.leasequery.is_waiting());
    assert_eq!(bench.ordered(), [""; 0], "read on though they wait");

    let given = bench
        .leasequery
        .give_waiting(&mut bench.relay, Instant::default());
    assert_eq!(given, Some(CONNECTION));
    bench.leasequery.read_on(CONNECTION);
    assert_eq!(bench.ordered(), ["More"]);
    assert!(!bench.leasequery.is_waiting());
}

/// Pieces of one connection stay in order, and those of others do not overtake.
#[tokio::test]
async fn bytes_that_come_while_others_wait_wait_too() {
    let mut bench = Bench::connected(None);
    bench.receive(true);

    assert!(!bench.receive(false));

    let mut given = 0;
    while bench
        .leasequery
        .give_waiting(&mut bench.relay, Instant::default())
        .is_some()
    {
        given += 1;
    }
    assert_eq!(given, 2);
}

/// The core has enough to do with what came. req: BLQ-16 (RFC 5460 §7.3)
#[tokio::test]
async fn blq_16_connection_is_read_on_only_while_the_core_wants_it() {
    let mut bench = Bench::connected(None);
    bench.want(false);
    assert!(bench.receive(false));
    bench.leasequery.read_on(CONNECTION);
    assert_eq!(bench.ordered(), [""; 0]);

    bench.want(true);
    assert_eq!(bench.ordered(), ["More"]);
    bench.want(true);
    assert_eq!(
        bench.ordered(),
        [""; 0],
        "leave is given once for each piece"
    );
}

/// The connection's task takes orders in turn: REPLY, TLS, and only then leave to read.
#[tokio::test]
async fn start_of_tls_follows_what_was_sent_and_names_the_peer() {
    let mut bench = Bench::connected(Some("r2.example"));
    bench.obey(LeasequeryEffect::StartTls {
        connection: CONNECTION,
        peer: PeerId(0),
    });
    bench.leasequery.read_on(CONNECTION);

    let ordered = bench.ordered();
    assert!(ordered[0].starts_with("StartTls"), "{ordered:?}");
    assert!(ordered[0].contains("r2.example"), "{ordered:?}");
}

/// A reload has taken its TLS, or the peer, away meanwhile: the connection has failed.
#[tokio::test]
async fn what_a_reload_has_taken_away_is_told_to_the_core_as_a_failure() {
    let mut bench = Bench::connected(None);
    bench.obey(LeasequeryEffect::StartTls {
        connection: CONNECTION,
        peer: PeerId(0),
    });
    assert!(bench.leasequery.has_lost());
    assert!(bench.leasequery.is_idle());
    assert_eq!(bench.ordered(), [""; 0]);
    assert!(bench.orders.is_closed(), "its task ends");

    bench
        .leasequery
        .give_lost(&mut bench.relay, Instant::default());
    assert!(!bench.leasequery.has_lost(), "told once");

    bench.obey(LeasequeryEffect::Connect {
        connection: ConnectionId(3),
        to: Remote::Peer(PeerId(9)),
    });
    assert!(bench.leasequery.has_lost(), "a peer that nobody knows");
}

/// The words of the task explain the reason of the core, and no other one.
#[tokio::test]
async fn end_of_a_connection_is_the_last_that_the_core_hears_of_it() {
    let mut bench = Bench::connected(None);
    let told = |what| Told {
        connection: CONNECTION,
        what,
    };
    let closed = What::Closed(CloseReason::Remote, "Connection reset by peer".to_owned());
    let now = Instant::default();

    bench
        .leasequery
        .hear(&mut bench.relay, now, told(closed), false);
    assert!(bench.leasequery.is_idle());
    let taken = bench.receive(false);
    assert!(!taken, "of a connection that is gone");
}

/// Whoever cannot be sent anything any more is cut off; all others get what was to be sent.
#[tokio::test]
async fn connection_is_closed_behind_what_was_sent_unless_nothing_can_be() {
    for (reason, order) in [
        (CloseReason::SendTimeout, "Cut"),
        (CloseReason::ReceiveTimeout, "Close"),
        (CloseReason::Local, "Close"),
    ] {
        let mut bench = Bench::connected(None);
        bench.obey(LeasequeryEffect::Close {
            connection: CONNECTION,
            reason,
        });
        assert_eq!(bench.ordered(), [order], "{reason:?}");
    }
}

/// What peers tell before this relay is ready is most of what there is; later each route is wanted at once.
#[tokio::test]
async fn routes_that_peers_tell_go_in_turn_until_this_relay_is_ready() {
    let bench = Bench::connected(None);
    let ready = &bench.leasequery.ready;
    assert_eq!(bench.leasequery.pace(), Pace::InTurn);

    ready.send_modify(|it| it.is_ready = true);
    assert_eq!(bench.leasequery.pace(), Pace::Now);

    ready.send_modify(|it| it.is_ready = false);
    assert_eq!(bench.leasequery.pace(), Pace::InTurn, "after a resync");
}
