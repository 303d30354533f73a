//! Kernel routes and neighbours follow the core's wishes; the kernel's interfaces become a
//! snapshot for everybody else.
//!
//! `queue.rs` brings wishes, `follower` and `neighbors.rs` decide the writes over what `slots.rs` and
//! `hops.rs` remember, `thread.rs` and `entries.rs` carry them out when `due.rs` says, `monitor.rs`
//! watches the kernel, `compare.rs` reads all of it, `netlink.rs`, `message.rs` and `objects.rs` speak
//! its language. Routes stay when the daemon stops: the next one adopts them.

mod compare;
mod due;
mod entries;
pub mod follower;
pub mod hops;
pub mod message;
pub mod monitor;
pub mod neighbors;
pub mod netlink;
pub mod objects;
pub mod queue;
pub mod slots;
mod thread;
pub mod view;

use std::collections::HashSet;
use std::io;
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;

use tokio::sync::watch;

use crate::config::RoutesSection;
use crate::counters::Counters;
use crate::events::Events;
use crate::interfaces::InterfaceTable;
use follower::{Follower, Policy};

pub use follower::Pace;
pub use queue::{Change, QueueFull, RouteQueue};
pub use thread::OutcomeSink;

/// The running route thread.
#[derive(Debug)]
pub struct Routes {
    /// The way to it.
    pub queue: RouteQueue,
    /// The interfaces, always up to date.
    pub interfaces: watch::Receiver<Arc<InterfaceTable>>,
    follower: Arc<Mutex<Follower>>,
    thread: JoinHandle<()>,
}

/// Sockets open and interfaces known, but nothing is written yet: what the daemon needs before the
/// relay thread exists.
pub struct Prepared {
    /// The way to the route thread.
    pub queue: RouteQueue,
    /// The interfaces.
    pub interfaces: watch::Receiver<Arc<InterfaceTable>>,
    thread: thread::RouteThread,
}

/// Opens the sockets in the network namespace of the calling thread and asks for the interfaces.
///
/// # Errors
/// What the kernel said.
pub fn prepare(
    section: &RoutesSection,
    counters: Arc<Counters>,
    events: Events,
) -> io::Result<Prepared> {
    let mut requests = netlink::Requests::open()?;
    let monitor = monitor::Monitor::open(requests.port()?)?;
    let table = monitor::interface_table(&mut requests)?;
    let mut follower = Follower::new(Policy::new(section), Arc::clone(&counters));
    let none_fell = HashSet::new();
    follower.interfaces_changed(&table, &none_fell);
    let mut neighbors = neighbors::Neighbors::default();
    neighbors.interfaces_changed(&mut follower.hops, &table, &none_fell);
    let (sender, interfaces) = watch::channel(Arc::new(table));
    let queue = RouteQueue::new()?;
    Ok(Prepared {
        queue: queue.clone(),
        interfaces,
        thread: thread::RouteThread {
            follower: Arc::new(Mutex::new(follower)),
            counters,
            events,
            requests,
            reader: compare::Reader::open()?,
            monitor,
            queue,
            interfaces: sender,
            outcomes: Box::new(|_| true),
            neighbors,
            due: due::Due::at_start(),
            fell: HashSet::new(),
            told: Vec::new(),
            is_told_much: false,
            unsent: Vec::new(),
            stopping: false,
        },
    })
}

impl Prepared {
    /// So many routes are likely to come.
    pub fn expect(&mut self, routes: usize) {
        thread::lock(&self.thread.follower).expect(routes);
    }

    /// Starts to follow. `outcomes` hears what became of wanted routes.
    ///
    /// # Errors
    /// No thread could be made.
    pub fn start(mut self, outcomes: OutcomeSink) -> io::Result<Routes> {
        self.thread.outcomes = outcomes;
        let follower = Arc::clone(&self.thread.follower);
        let thread = std::thread::Builder::new()
            .name("routes".to_owned())
            .spawn(move || self.thread.run())?;
        Ok(Routes {
            queue: self.queue,
            interfaces: self.interfaces,
            follower,
            thread,
        })
    }
}

impl Routes {
    /// What `show routes` reads.
    pub fn view(&self) -> view::FollowerView {
        view::FollowerView {
            follower: Arc::clone(&self.follower),
            interfaces: self.interfaces.clone(),
        }
    }

    /// Writes what waits and ends the thread; the routes stay.
    pub fn stop(self) {
        self.queue.stop();
        if self.thread.join().is_err() {
            tracing::error!("the route thread panicked");
        }
    }
}
