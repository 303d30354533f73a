//! `show routes`: what the follower wants and what the kernel holds, as rows; and what is different between
//! the two.

use std::sync::{Arc, Mutex};

use relay_core::input::RouteRefusal;
use tokio::sync::watch;

use super::follower::{Entry, Follower, State, next_hop};
use super::hops::HopId;
use super::objects::Target;
use super::thread::lock;
use crate::control::json::refusal_text;
use crate::control::view::{
    Difference, Page, RouteKind, RouteRow, RouteRowState, RoutesView, Side,
};
use crate::interfaces::InterfaceTable;

/// Slots looked at for a page of rows: all of them may be routes.
const ROWS: u32 = 1024;
/// Slots looked at for a page of differences: hardly any of them is one.
const LOOKS: u32 = 16_384;

/// Reads the follower; never holds it longer than a page takes.
#[derive(Clone, Debug)]
pub struct FollowerView {
    pub(super) follower: Arc<Mutex<Follower>>,
    pub(super) interfaces: watch::Receiver<Arc<InterfaceTable>>,
}

impl FollowerView {
    fn rows<T>(
        &self,
        from: u32,
        slots: u32,
        mut each: impl FnMut(&Look<'_>, &Entry, &mut Vec<T>),
    ) -> Page<T> {
        let table = Arc::clone(&self.interfaces.borrow());
        let follower = lock(&self.follower);
        let look = Look {
            follower: &follower,
            table: &table,
        };
        let (entries, next) = follower.page(from, slots);
        let mut rows = Vec::new();
        entries.for_each(|entry| each(&look, entry, &mut rows));
        Page { rows, next }
    }
}

impl RoutesView for FollowerView {
    fn page(&self, from: u32) -> Page<RouteRow> {
        self.rows(from, ROWS, |look, entry, rows| rows.extend(look.row(entry)))
    }

    fn differences(&self, from: u32) -> Page<Difference> {
        self.rows(from, LOOKS, |look, entry, rows| {
            look.differences(entry, rows);
        })
    }
}

/// Follower and interfaces, at one moment.
struct Look<'a> {
    follower: &'a Follower,
    table: &'a InterfaceTable,
}

impl Look<'_> {
    /// `None` for an entry that neither is nor should be in the kernel.
    fn row(&self, entry: &Entry) -> Option<RouteRow> {
        let target = self.follower.hops.target(entry.wanted.or(entry.present)?);
        let (gateway, _) = next_hop(target).unzip();
        let (state, error) = match entry.wanted {
            None => (RouteRowState::Unclaimed, None),
            Some(_) => wanted_state(entry),
        };
        Some(RouteRow {
            prefix: entry.prefix(),
            gateway,
            interface: self.interface(target),
            kind: match target {
                Target::Unreachable => RouteKind::Aggregate,
                Target::Via { .. } | Target::Other => RouteKind::Lease,
            },
            state,
            error,
        })
    }

    /// Of a wanted route: it, where it is not there, and what is in its way. Of ours that is there and
    /// not, or not like that, wanted: that one.
    fn differences(&self, entry: &Entry, rows: &mut Vec<Difference>) {
        if entry.wanted.is_some() && entry.state() != State::Installed {
            let (state, error) = wanted_state(entry);
            rows.push(self.difference(entry, entry.wanted, Side::Wanted, state, error));
        }
        if entry.present.is_some() && entry.present != entry.wanted {
            let state = RouteRowState::Unclaimed;
            rows.push(self.difference(entry, entry.present, Side::Kernel, state, None));
        }
        let in_the_way = self.follower.foreign(entry.prefix());
        if let Some(foreign) = in_the_way
            && entry.state() == State::Refused(RouteRefusal::ForeignRoute)
        {
            rows.push(Difference {
                side: Side::Kernel,
                prefix: entry.prefix(),
                gateway: None,
                interface: foreign.interface.and_then(|at| self.name(at)),
                protocol: Some(foreign.protocol),
                metric: Some(foreign.metric),
                state: RouteRowState::Foreign,
                error: None,
            });
        }
    }

    fn difference(
        &self,
        entry: &Entry,
        hop: Option<HopId>,
        side: Side,
        state: RouteRowState,
        error: Option<String>,
    ) -> Difference {
        let target = hop.map_or(Target::Other, |hop| self.follower.hops.target(hop));
        Difference {
            side,
            prefix: entry.prefix(),
            gateway: next_hop(target).map(|(gateway, _)| gateway),
            interface: self.interface(target),
            protocol: Some(self.follower.policy().protocol),
            metric: Some(entry.metric()),
            state,
            error,
        }
    }

    fn interface(&self, target: Target) -> Option<String> {
        self.name(next_hop(target)?.1)
    }

    fn name(&self, index: relay_core::types::IfIndex) -> Option<String> {
        Some(self.table.by_index(index)?.name.clone())
    }
}

fn wanted_state(entry: &Entry) -> (RouteRowState, Option<String>) {
    match entry.state() {
        State::Pending => (RouteRowState::Pending, None),
        State::Installed => (RouteRowState::Installed, None),
        State::Refused(why) => (RouteRowState::Failed, Some(refusal_text(why))),
    }
}
