//! What is known to be hard, each written out: every scene ends with equal digests on all relays, and, where one
//! order of things is the right one, with what the model holds.

use std::time::Duration;

use relay_core::alq::SessionState;

use super::{BTreeSet, CLIENTS, MS, Node, Random, SECOND, TOLERANCE_OF_WRONG_CLOCKS, World};
use crate::node::HISTORY;

const DATA_MISSING: u16 = 12;
/// Longer than anything takes without a fault. Each relay that hears a Reply after another told of it takes the next
/// second for it, and so does what follows.
const SOON: u64 = 6 * SECOND;

impl World {
    /// So many relays with right clocks, up and in sync.
    fn scripted(nodes: usize, history: Duration) -> Self {
        let mut world = Self::down(0, Random::new(0), history, (nodes, true));
        world.is_scripted = true;
        for at in 0..nodes {
            world.start(at);
        }
        world.advance(SOON);
        world.assert_in_sync();
        world
    }

    fn assert_equal(&self) {
        let digests: BTreeSet<_> = self.nodes.iter().map(Node::digests).collect();
        assert_eq!(digests.len(), 1, "{:#?} {digests:?}", self.log);
    }

    /// Nothing gets through between two relays, and both notice.
    fn part(&mut self, one: usize, other: usize) {
        self.fault();
        self.cut.insert((one, other));
        self.break_wires(one, other);
    }

    /// How many answers of `peer` to `at` had this status.
    fn statuses(&self, at: usize, peer: usize, code: u16) -> u64 {
        let shown = self.nodes[at].asking(peer).expect("it is a peer");
        let all = shown.statistics.statuses_received;
        all.iter()
            .find(|(it, _)| *it == code)
            .map_or(0, |(_, n)| *n)
    }

    fn holds(&self, at: usize, n: usize) -> usize {
        let leases = self.nodes[at].leases();
        let duid = &self.clients[n].duid;
        leases.iter().filter(|(it, ..)| it == duid).count()
    }
}

/// Release at one relay, request at the other a moment later: the client has its leases, also where the higher
/// address told of the release. req: ALQ-D-11 (twinrelay)
#[test]
fn alq_d_11_release_and_request_within_a_second_at_different_relays() {
    for (first, second) in [(0, 1), (1, 0)] {
        for gap in [50, 100, 400, 900, 1100] {
            let mut world = World::scripted(2, HISTORY);
            world.act(3, "grant", 3600, &[first]);
            world.advance(20 * SECOND);
            world.act(3, "release", 0, &[first]);
            world.advance(gap * MS);
            world.act(3, "grant", 3600, &[second]);
            world.advance(SOON);
            world.assert_equal();
            assert_eq!(world.holds(first, 3), 2, "{gap} ms");

            world.end();
        }
    }
}

/// Likewise while they do not hear each other: nobody can say what came first within a second, but both choose the
/// same. req: ALQ-D-11 (twinrelay)
#[test]
fn alq_d_11_release_and_request_within_a_second_at_parted_relays() {
    for (first, second) in [(0, 1), (1, 0)] {
        for gap in [0, 10, 500, 999, 2000] {
            let mut world = World::scripted(2, HISTORY);
            world.act(3, "grant", 3600, &[0, 1]);
            world.advance(20 * SECOND);
            world.part(0, 1);
            world.act(3, "release", 0, &[first]);
            world.advance(gap * MS);
            world.act(3, "grant", 3600, &[second]);
            world.advance(60 * SECOND);
            world.heal();
            world.advance(130 * SECOND);

            world.assert_equal();
            world.assert_in_sync();
            if gap > 1000 {
                assert_eq!(world.holds(first, 3), 2);
            }
        }
    }
}

/// Both relays heard the Reply; whichever of them alone hears the release soon after, the lease has ended.
/// req: ALQ-D-11 (twinrelay)
#[test]
fn alq_d_11_release_soon_after_a_lease_that_both_heard_ends_it() {
    for hearer in [0, 1, 2] {
        for gap in [100, 600, 1000, 1900] {
            let mut world = World::scripted(3, HISTORY);
            world.act(3, "grant", 3600, &[0, 1, 2]);
            world.advance(gap * MS);
            world.act(3, "release", 0, &[hearer]);
            world.advance(SOON);
            assert_eq!(world.holds(0, 3), 0, "{hearer} {gap} ms");

            world.end();
        }
    }
}

/// A twin that was away for longer than the other remembers: DataMissing, a bulk query, and nothing comes back that
/// has ended. req: ALQ-D-26, ALQ-66, ALQ-38 (RFC 7653 §8.4.1)
#[test]
fn alq_d_26_twin_back_after_longer_than_history() {
    for is_wiped in [false, true] {
        let mut world = World::scripted(2, Duration::from_secs(300));
        for (n, valid) in [5000, 100, 5000, 5000, 5000, 5000, 100]
            .into_iter()
            .enumerate()
        {
            world.act(n, "grant", valid, &[n % 2]);
        }
        world.advance(SOON);
        world.assert_equal();
        world.stop(1);
        if is_wiped {
            world.nodes[1].disk = crate::disk::Disk::default();
        }
        world.advance(10 * SECOND);
        // Released, shortened so that it runs out, declined in part, renewed; the sixth is new, and two run out.
        world.act(0, "release", 0, &[0]);
        world.act(2, "grant", 50, &[0]);
        world.act(3, "decline", 0, &[0]);
        world.act(4, "grant", 9000, &[0]);
        world.advance(1500 * SECOND);
        world.act(5, "grant", 9000, &[0]);
        world.start(1);
        world.advance(60 * SECOND);

        world.assert_equal();
        assert_eq!(
            [0, 1, 2, 3, 4, 5].map(|n| world.holds(1, n)),
            [0, 0, 0, 1, 2, 2]
        );
        let is_missing = world.statuses(1, 0, DATA_MISSING) > 0;
        assert_eq!(is_missing, !is_wiped, "who has nothing asks for all");
        world.end();
    }
}

/// The other one has forgotten too much while the two were parted, both running. req: ALQ-38, ALQ-65 (RFC 7653 §8.4.1)
#[test]
fn alq_38_history_too_short_for_a_parted_pair() {
    let mut world = World::scripted(2, Duration::from_secs(200));
    for n in 0..CLIENTS {
        let valid = if n < 2 { 120 } else { 9000 };
        world.act(n, "grant", valid, &[n % 2]);
    }
    world.advance(SOON);
    world.part(0, 1);
    for n in 2..CLIENTS {
        let kind = ["release", "grant", "decline"][n % 3];
        world.act(n, kind, 8000, &[n % 2]);
        world.advance(100 * SECOND);
    }
    world.heal();
    world.advance(130 * SECOND);

    world.assert_equal();
    for (at, peer) in [(0, 1), (1, 0)] {
        assert!(world.statuses(at, peer, DATA_MISSING) > 0, "{at}");
    }
    world.end();
}

/// A peer restarts with a clock that is an hour behind, with its disk or without; what it sees then counts.
/// req: ALQ-D-9 (twinrelay)
#[test]
fn alq_d_9_peer_restarted_with_an_older_clock() {
    for (is_wiped, seconds_away) in [(false, 20), (true, 20), (false, 600)] {
        let mut world = World::scripted(3, HISTORY);
        world.tolerance = TOLERANCE_OF_WRONG_CLOCKS;
        for n in 0..CLIENTS {
            world.act(n, "grant", 9000, &[n % 3]);
        }
        world.advance(SOON);
        world.stop(1);
        if is_wiped {
            world.nodes[1].disk = crate::disk::Disk::default();
        }
        world.clock(1, -3600 * SECOND as i64);
        world.act(0, "release", 0, &[0]);
        world.advance(seconds_away * SECOND);
        world.start(1);
        world.advance(130 * SECOND);
        world.assert_equal();

        world.act(1, "grant", 7000, &[1]);
        world.act(2, "release", 0, &[1]);
        world.act(3, "grant", 7000, &[0]);
        world.advance(SOON);

        world.assert_equal();
        world.end();
    }
}

/// Both come back in the same moment, each with what the other does not have, or one with nothing.
/// req: ALQ-D-8, ALQ-D-10 (twinrelay)
#[test]
fn alq_d_8_both_started_at_once() {
    for is_wiped in [false, true] {
        let mut world = World::scripted(2, HISTORY);
        for n in 0..CLIENTS {
            world.act(n, "grant", 9000, &[n % 2]);
        }
        world.advance(SOON);
        if !is_wiped {
            world.part(0, 1);
            world.act(0, "release", 0, &[0]);
            world.act(1, "grant", 5000, &[1]);
            world.act(2, "grant", 5000, &[1]);
            world.advance(30 * SECOND);
        }
        for at in [0, 1] {
            world.stop(at);
        }
        if is_wiped {
            world.nodes[0].disk = crate::disk::Disk::default();
        }
        world.advance(100 * SECOND);
        world.cut.clear();
        for at in [0, 1] {
            world.start(at);
        }
        world.advance(SOON);

        world.assert_equal();
        world.assert_in_sync();
        world.end();
    }
}

/// A catch-up, or the first bulk query, is cut at each second of it, and things happen meanwhile.
/// req: ALQ-34, ALQ-35 (RFC 7653 §8.4.1)
#[test]
fn alq_34_cut_in_the_middle_of_a_catch_up() {
    for is_wiped in [false, true] {
        let mut cut_within = 0;
        for second in 0..15 {
            let mut world = World::scripted(2, HISTORY);
            for n in 0..CLIENTS {
                world.act(n, "grant", 9000, &[0]);
            }
            world.advance(SOON);
            world.stop(1);
            if is_wiped {
                world.nodes[1].disk = crate::disk::Disk::default();
            }
            world.advance(20 * SECOND);
            for n in 0..CLIENTS {
                let kind = ["grant", "release"][n % 2];
                world.act(n, kind, 8000, &[0]);
            }
            world.slow.insert(1);
            world.start(1);
            world.advance(second * SECOND);
            let shown = world.nodes[1].asking(0).expect("it is a peer");
            let within = [SessionState::CatchUp, SessionState::BulkCatchUp];
            cut_within += usize::from(within.contains(&shown.state) && shown.catch_up.received > 0);
            world.part(0, 1);
            world.act(1, "grant", 7000, &[0]);
            world.act(2, "release", 0, &[0]);
            world.act(3, "grant", 7000, &[1]);
            world.advance(40 * SECOND);

            world.end();
        }
        assert!(cut_within >= 3, "{cut_within} cuts within the catch-up");
    }
}

/// Changes wait behind a reader that takes one piece a second, and the connection is cut at each second of that: what
/// was not sent comes with the next catch-up, though later base-times were. req: ALQ-D-25 (twinrelay)
#[test]
fn alq_d_25_cut_while_changes_wait_behind_a_slow_reader() {
    let mut cut_within = 0;
    for second in 0..25 {
        let mut world = World::scripted(2, HISTORY);
        world.slow.insert(1);
        for round in 0..3 {
            for n in 0..CLIENTS {
                let kind = ["grant", "grant", "release"][(n + round) % 3];
                world.act(n, kind, 8000, &[0]);
            }
            world.advance(2 * SECOND);
        }
        world.advance(second * SECOND);
        let is_waiting = |pipe: &crate::wire::Pipe| pipe.awaits_writable;
        cut_within += usize::from(world.wires.iter().any(|it| it.pipes.iter().any(is_waiting)));
        world.part(0, 1);
        world.advance(40 * SECOND);

        world.end();
    }
    assert!(cut_within >= 3, "{cut_within} cuts while something waited");
}

/// Relays that have all been away from each other ask each other for what they missed, and are at rest then.
/// req: ALQ-D-12 (twinrelay)
#[test]
fn alq_d_12_relays_that_were_all_away_come_to_rest() {
    let nodes = 5;
    let mut world = World::scripted(nodes, HISTORY);
    for n in 0..CLIENTS {
        world.act(n, "grant", 9000, &[n % nodes]);
    }
    for round in 0..8 {
        world.advance(SOON);
        for other in 0..nodes {
            for one in 0..other {
                world.part(one, other);
            }
        }
        world.act(round, "grant", 9000, &[round % nodes]);
        world.advance(10 * SECOND);
        world.heal();
        world.advance(200 * SECOND);

        world.assert_equal();
        world.assert_in_sync();
    }
    world.end();
}
