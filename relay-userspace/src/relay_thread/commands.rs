//! Commands of tokio's tasks, obeyed between two batches of messages.

use std::sync::mpsc::TryRecvError;
use std::time::Duration;

use relay_core::input::Input;

use super::run::RelayThread;
use super::to_leasequery::ask;
use crate::handle::{Cleared, Command};
use crate::leasequery::Told;
use crate::wall_time::boot_now;

/// Time for commands between two batches; one that was begun is finished.
const SLICE: Duration = Duration::from_micros(500);
/// Clients in a page: some 20 µs each.
const PAGE_MAX: usize = 256;

impl RelayThread {
    /// Some commands. `Some(true)`: there may be more; `None`: the thread shall end.
    pub(super) fn obey_commands(&mut self) -> Option<bool> {
        let until = boot_now() + SLICE;
        loop {
            match self.commands.try_recv() {
                Ok(Command::Stop) => return None,
                Ok(command) => self.obey(command),
                Err(TryRecvError::Empty) => return Some(false),
                // Nobody can ask for anything any more: the daemon is gone.
                Err(TryRecvError::Disconnected) => return None,
            }
            if boot_now() >= until {
                return Some(true);
            }
        }
    }

    fn obey(&mut self, command: Command) {
        // An answer that nobody waits for any more is no error.
        match command {
            Command::Surroundings(new) => {
                for error in self.apply(new) {
                    tracing::error!("{error:#}");
                }
            }
            Command::Routes(outcomes) => {
                let now = boot_now();
                for outcome in outcomes {
                    self.relay.handle_input(now, Input::Route(outcome));
                }
                self.flush();
            }
            Command::Page(filter, from, limit, answer) => {
                let _ = answer.send(self.relay.page(&filter, from, limit.min(PAGE_MAX)));
            }
            Command::Lease(prefix, answer) => drop(answer.send(self.relay.find_lease(prefix))),
            Command::Summary(answer) => {
                self.count_overflows();
                let _ = answer.send(self.relay.summary());
            }
            Command::Ports(answer) => {
                let states = self.ports.list.iter().filter_map(|port| port.state.clone());
                let core = self.ports.core_states.iter().cloned();
                let _ = answer.send(states.chain(core).collect());
            }
            Command::Clear(what, answer) => {
                self.relay
                    .handle_input(boot_now(), Input::Clear(what.clone()));
                self.flush();
                let _ = answer.send(Cleared {
                    bindings: self.relay.take_cleared(),
                    more: self.relay.has(&what),
                });
            }
            Command::Observe(observed) => self.relay.set_observed(observed),
            Command::Keep(kept) => self.store.keep(*kept),
            Command::Leasequery(told) => self.hear(told),
            Command::Request(request) => {
                ask(&mut self.relay, boot_now(), request);
                self.flush();
            }
            Command::Neighbors(answer) => {
                let _ = answer.send(self.leasequery.neighbors(&self.relay));
            }
            Command::Digests(answer) => drop(answer.send(self.relay.digests())),
            Command::WallClock(ahead_nanos) => {
                self.relay
                    .handle_input(boot_now(), Input::WallClock { ahead_nanos });
                self.flush();
            }
            // Obeyed by the caller.
            Command::Stop => {}
        }
    }

    /// Something happened on a connection of leasequery.
    fn hear(&mut self, told: Told) {
        let (connection, is_crowded) = (told.connection, self.is_crowded());
        let reads_on = self
            .leasequery
            .hear(&mut self.relay, boot_now(), told, is_crowded);
        // Orders first: leave to read stands behind those that change what is read.
        self.flush_at(self.leasequery.pace());
        if reads_on {
            self.leasequery.read_on(connection);
        }
    }
}
