//! Relays crash and return, networks fall apart, readers are slow, clocks are set.

use relay_core::alq::CloseReason;

use super::{CALM, DELAY, MS, SECOND, SPACING, Tell, World};

impl World {
    pub(super) fn crash_or_return(&mut self) {
        let at = self.random.below(self.nodes.len());
        match self.nodes[at].relay {
            Some(_) => {
                self.note(format!("crash {at}"));
                self.stop(at);
            }
            None => self.start(at),
        }
    }

    /// Only where the others know all that it knows: what nobody else knew is lost with the disk.
    pub(super) fn wipe(&mut self) {
        let is_known = self.is_calm()
            && self
                .free_at
                .iter()
                .all(|free| *free < self.now + SPACING - DELAY);
        if !is_known {
            return;
        }
        let at = self.random.below(self.nodes.len());
        self.note(format!("wipe {at}"));
        self.stop(at);
        self.nodes[at].disk = crate::disk::Disk::default();
    }

    pub(super) fn stop(&mut self, at: usize) {
        self.fault();
        self.nodes[at].relay = None;
        self.nodes[at].out.clear();
        let mut broken = Vec::new();
        self.wires.retain(|wire| {
            let far = wire.ends.iter().position(|end| end.node == at);
            if let Some(side) = far {
                broken.push(wire.ends[1 - side]);
            }
            far.is_none()
        });
        for end in broken {
            // A process that died says so at once, a router without power never: its peer's kernel gives up what
            // nobody acknowledges (TCP_USER_TIMEOUT, of ACTIVE_LQ_SEND_TIMEOUT).
            let delay = if self.random.chance(60) {
                MS
            } else {
                120 * SECOND
            };
            self.tell(delay, end, Tell::Closed(CloseReason::Remote));
        }
    }

    pub(super) fn start(&mut self, at: usize) {
        self.fault();
        self.note(format!("back {at}"));
        let now = self.instant();
        self.nodes[at].start(now);
        self.carry_out(at);
    }

    pub(super) fn cut_or_heal(&mut self) {
        let (one, other) = self.any_pair();
        self.fault();
        if self.cut.remove(&(one, other)) {
            return self.note(format!("healed {one} {other}"));
        }
        self.note(format!("cut {one} {other}"));
        self.cut.insert((one, other));
        // Else what is on its way goes on after the cut.
        if !self.random.chance(50) {
            self.break_wires(one, other);
        }
    }

    /// The ends of all connections between two relays notice that they are broken, each in its time.
    pub(super) fn break_wires(&mut self, one: usize, other: usize) {
        let mut broken = Vec::new();
        self.wires.retain(|wire| {
            if wire.is_between(one, other) {
                broken.extend(wire.ends);
            }
            !wire.is_between(one, other)
        });
        for end in broken {
            let delay = self.random.below(30_000) as u64 * MS;
            self.tell(delay, end, Tell::Closed(CloseReason::Remote));
        }
    }

    pub(super) fn change_speed(&mut self) {
        let at = self.random.below(self.nodes.len());
        self.fault();
        if self.slow.remove(&at) {
            self.note(format!("fast {at}"));
        } else {
            self.note(format!("slow {at}"));
            self.slow.insert(at);
        }
    }

    pub(super) fn set_clock(&mut self) {
        let at = self.random.below(self.nodes.len());
        let mut skew = self.any_skew();
        if self.nodes[at].relay.is_none() {
            // Set back between two lives: nobody knows who did not live through it (docs/testing.md).
            skew = skew.max(self.nodes[at].skew_nanos);
        }
        self.clock(at, skew);
    }

    /// Its clock shows so much more than the right one from now on.
    pub(super) fn clock(&mut self, at: usize, skew: i64) {
        self.fault();
        self.note(format!(
            "clock of {at} is wrong by {} s",
            skew / SECOND as i64
        ));
        let now = self.instant();
        self.nodes[at].set_clock(now, skew);
        self.carry_out(at);
    }

    pub(super) fn any_skew(&mut self) -> i64 {
        if self.is_exact {
            return 0;
        }
        let most = [3, 60, 3600][self.random.below(3)];
        (self.random.below(2 * most * 1000) as i64 - most as i64 * 1000) * MS as i64
    }

    pub(super) fn any_pair(&mut self) -> (usize, usize) {
        let one = self.random.below(self.nodes.len());
        let other = (one + 1 + self.random.below(self.nodes.len() - 1)) % self.nodes.len();
        (one.min(other), one.max(other))
    }

    pub(super) fn heal(&mut self) {
        self.note("healed all".to_owned());
        self.cut.clear();
        self.slow.clear();
        self.fault();
        for at in 0..self.nodes.len() {
            if self.nodes[at].relay.is_none() {
                self.start(at);
            }
        }
    }

    pub(super) fn fault(&mut self) {
        self.calm_since = self.now;
    }

    pub(super) fn is_calm(&self) -> bool {
        self.cut.is_empty()
            && self.slow.is_empty()
            && self.nodes.iter().all(|node| node.relay.is_some())
            && self.now >= self.calm_since + CALM
    }
}
