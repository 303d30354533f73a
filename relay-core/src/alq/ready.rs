//! Whether this relay may attract traffic: it holds what the others hold, and the kernel has it.
//!
//! Decides when that is so, when it is assumed, and how it is told. Must not know of messages.
//! A relay that was ready once stays it, whatever happens to its peers: only an operator who wants
//! everything anew takes it back.

use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;
use core::time::Duration;

use super::input::{LeasequeryEffect, Remote};
use super::view::{Readiness, SessionState};
use super::{Context, Shared};
use crate::config::LeasequeryConfig;
use crate::effect::Effect;
use crate::time::Instant;

/// Between attempts while nobody may rely on this relay yet.
const UNREADY_RETRY: Duration = Duration::from_secs(1);

/// How far a peer or server is with what it has to tell.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Progress {
    pub(crate) remote: Remote,
    pub(crate) state: SessionState,
    /// All of it has come.
    pub(crate) is_in_sync: bool,
    /// When something of it last came that had not come before.
    pub(crate) at: Instant,
}

/// How far attempts at the same thing came. Only what none of them came to before is progress: one
/// that fails at the same place each time is given up in the end.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Attempts {
    leases: u64,
    most: u64,
    progress_at: Instant,
}

impl Attempts {
    pub(crate) const fn new(now: Instant) -> Self {
        Self {
            leases: 0,
            most: 0,
            progress_at: now,
        }
    }

    /// Another one begins.
    pub(crate) const fn begin(&mut self) {
        self.leases = 0;
    }

    /// So many leases have come.
    pub(crate) fn came(&mut self, now: Instant, leases: u64) {
        self.leases += leases;
        if self.leases > self.most {
            self.most = self.leases;
            self.progress_at = now;
        }
    }

    /// When the last progress was made.
    pub(crate) const fn progress_at(&self) -> Instant {
        self.progress_at
    }
}

/// What is known and was told.
#[derive(Debug)]
pub(crate) struct Ready {
    shown: Readiness,
    /// What is shown was made of this.
    standing: Option<Standing>,
    /// Nobody was waited for before.
    carrier_since: Option<Instant>,
}

/// All that a reason depends on. To look comes after every input, a million times while as many routes are
/// written, and words cost more than the rest of that.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Standing {
    is_loaded: bool,
    is_by_timeout: bool,
    waiting: Option<(Remote, SessionState)>,
    /// To a sixteenth.
    routes_to_come: usize,
}

impl Default for Ready {
    fn default() -> Self {
        Self {
            standing: None,
            shown: Readiness {
                is_ready: false,
                is_by_timeout: false,
                reason: String::from("waiting for the store"),
            },
            carrier_since: None,
        }
    }
}

impl Ready {
    /// A core interface has carrier from now on, where none had before.
    pub(crate) fn carrier(&mut self, now: Instant) {
        self.carrier_since.get_or_insert(now);
    }

    /// Everything is to come anew.
    pub(crate) fn begin_anew(&mut self, now: Instant) {
        self.shown.is_ready = false;
        self.shown.is_by_timeout = false;
        self.standing = None;
        self.carrier_since = self.carrier_since.map(|_| now);
    }

    /// How long after a failure the next attempt is due.
    // req: ALQ-18, ALQ-D-18
    pub(crate) const fn retry_after(&self, config: &LeasequeryConfig) -> Duration {
        if self.shown.is_ready {
            config.idle_timeout
        } else {
            UNREADY_RETRY
        }
    }

    pub(crate) const fn shown(&self) -> &Readiness {
        &self.shown
    }

    /// When the next one is waited for no longer.
    pub(crate) fn next_time(
        &self,
        now: Instant,
        config: &LeasequeryConfig,
        progress: impl Iterator<Item = Progress>,
    ) -> Option<Instant> {
        if self.shown.is_ready {
            return None;
        }
        let waited_for = progress.filter(|it| !it.is_in_sync);
        waited_for
            .filter_map(|it| self.given_up_at(config, &it))
            .max()
            .filter(|at| *at > now)
    }

    /// When one that makes no progress is waited for no longer.
    fn given_up_at(&self, config: &LeasequeryConfig, it: &Progress) -> Option<Instant> {
        let begin = self.carrier_since.filter(|_| config.has_core_carrier)?;
        Some(begin.max(it.at) + config.ready_timeout)
    }

    /// Looks at everything, unless it is settled.
    pub(crate) fn look(
        &mut self,
        shared: &Shared,
        cx: &mut Context<'_>,
        progress: impl Iterator<Item = Progress> + Clone,
        routes_to_come: usize,
    ) {
        if self.shown.is_ready || shared.is_ending {
            return;
        }
        let now = cx.now();
        let config = &shared.config;
        let is_given_up = |it: &Progress| self.given_up_at(config, it).is_some_and(|at| at <= now);
        let mut standing = Standing {
            is_loaded: shared.is_loaded,
            is_by_timeout: false,
            waiting: None,
            routes_to_come: roughly(routes_to_come),
        };
        for it in progress.clone().filter(|it| !it.is_in_sync) {
            match is_given_up(&it) {
                true => standing.is_by_timeout = true,
                false => standing.waiting = standing.waiting.or(Some((it.remote, it.state))),
            }
        }
        if self.standing.replace(standing) == Some(standing) {
            return;
        }
        let Standing {
            waiting,
            is_by_timeout,
            ..
        } = standing;
        let in_sync = progress.filter(|it| it.is_in_sync);
        let names: Vec<String> = in_sync.map(|it| name_of(it.remote)).collect();
        let (is_ready, reason) = match (shared.is_loaded, waiting, routes_to_come) {
            (false, ..) => (false, "waiting for the store".to_string()),
            (true, Some((remote, state)), _) => {
                let name = name_of(remote);
                (false, format!("waiting for {name}: {}", state.name()))
            }
            (true, None, 0) if is_by_timeout => (
                true,
                "ready_timeout has passed: bindings of a peer or server may be missing".to_string(),
            ),
            (true, None, 0) if names.is_empty() => (true, "no peer is configured".to_string()),
            (true, None, 0) => (true, format!("in sync with {}", names.join(", "))),
            (true, None, routes) => (false, format!("{routes} routes to write")),
        };
        let shown = Readiness {
            is_ready,
            is_by_timeout: is_ready && is_by_timeout,
            reason,
        };
        if shown != self.shown {
            self.shown = shown;
            cx.out()
                .push(Effect::Leasequery(LeasequeryEffect::Readiness));
        }
    }
}

/// Never none of some.
fn roughly(routes: usize) -> usize {
    let unit = 1 << routes.checked_ilog2().unwrap_or(0).saturating_sub(4);
    routes / unit * unit
}

/// The shell puts names in.
fn name_of(remote: Remote) -> String {
    match remote {
        Remote::Peer(peer) => format!("{{{}}}", peer.0),
        Remote::Server(server) => format!("{{s{}}}", server.0),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn routes_to_come_are_told_anew_where_a_sixteenth_is_done_and_one_by_one_in_the_end() {
        let told = [0, 1, 31, 33, 990_000, 1_000_000].map(roughly);

        assert_eq!(told, [0, 1, 31, 32, 983_040, 983_040]);
    }
}
