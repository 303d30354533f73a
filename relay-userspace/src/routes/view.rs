//! `show routes`: what the follower wants and what the kernel holds, as rows.

use std::sync::{Arc, Mutex};

use relay_core::types::Prefix;
use tokio::sync::watch;

use super::follower::{Entry, Follower, State, next_hop};
use super::objects::Target;
use super::thread::lock;
use crate::control::json::refusal_text;
use crate::control::view::{RouteKind, RouteRow, RouteRowState, RoutesView};
use crate::interfaces::InterfaceTable;

/// Reads the follower; never holds it longer than a page takes.
#[derive(Clone, Debug)]
pub struct FollowerView {
    pub(super) follower: Arc<Mutex<Follower>>,
    pub(super) interfaces: watch::Receiver<Arc<InterfaceTable>>,
}

impl RoutesView for FollowerView {
    fn page(&self, after: Option<Prefix>, limit: usize) -> Vec<RouteRow> {
        let table = Arc::clone(&self.interfaces.borrow());
        let follower = lock(&self.follower);
        let mut rows: Vec<RouteRow> = Vec::new();
        // The next page starts behind a whole destination: a lease and an equal aggregate are two
        // rows, so a page may be longer than asked for by what belongs to its last destination.
        for (&(prefix, _), entry) in follower.entries_after(after.map(|prefix| (prefix, u32::MAX)))
        {
            let same = rows.last().is_some_and(|last| last.prefix == prefix);
            if rows.len() >= limit && !same {
                break;
            }
            rows.extend(row(prefix, entry, &table));
        }
        rows
    }
}

/// `None` for an entry that neither is nor should be in the kernel.
fn row(prefix: Prefix, entry: &Entry, table: &InterfaceTable) -> Option<RouteRow> {
    let target = entry.wanted.map(|(target, _)| target).or(entry.present)?;
    let (gateway, interface) = next_hop(target).unzip();
    let (state, error) = match (entry.wanted, entry.state) {
        (None, _) => (RouteRowState::Unclaimed, None),
        (Some(_), State::Pending) => (RouteRowState::Pending, None),
        (Some(_), State::Installed) => (RouteRowState::Installed, None),
        (Some(_), State::Refused(why)) => (RouteRowState::Failed, Some(refusal_text(why))),
    };
    Some(RouteRow {
        prefix,
        gateway,
        interface: interface
            .and_then(|index| table.by_index(index))
            .map(|interface| interface.name.clone()),
        kind: match target {
            Target::Unreachable => RouteKind::Aggregate,
            Target::Via { .. } | Target::Other => RouteKind::Lease,
        },
        state,
        error,
    })
}
