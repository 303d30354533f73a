//! Our follower, fed as the relay thread feeds it.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use relay_core::effect::{Route, RouteChange};
use relay_core::types::IfIndex;
use relay_userspace::config::RoutesSection;
use relay_userspace::counters::Counters;
use relay_userspace::events::Events;
use relay_userspace::routes::{Change, Pace, RouteQueue, Routes, prepare};

use crate::world::{METRIC, PATIENCE, PROTOCOL, Wanted};

/// What the relay thread hands over at a time: a slice of its table.
const SLICE: usize = 1024;

/// A running follower.
pub struct Follower {
    routes: Option<Routes>,
    counters: Arc<Counters>,
    installed: Arc<AtomicU64>,
    version: u64,
}

impl Follower {
    pub fn start() -> anyhow::Result<Self> {
        let section = RoutesSection {
            enabled: true,
            table: 254,
            protocol: PROTOCOL,
            metric: METRIC,
            allowed: Vec::new(),
            aggregates: Vec::new(),
            addresses: true,
            prefixes: true,
            neighbors: true,
        };
        let counters = Arc::new(Counters::default());
        let events = Events::new(Arc::clone(&counters));
        let installed = Arc::new(AtomicU64::new(0));
        let heard = Arc::clone(&installed);
        let routes =
            prepare(&section, Arc::clone(&counters), events)?.start(Box::new(move |outcomes| {
                let good = outcomes.iter().filter(|it| it.result.is_ok()).count();
                heard.fetch_add(good as u64, Ordering::Release);
                true
            }))?;
        Ok(Self {
            routes: Some(routes),
            counters,
            installed,
            version: 0,
        })
    }

    /// Wants all of them and waits until the last one is in the kernel.
    pub fn add(&mut self, wanted: &[Wanted], interface: IfIndex) -> anyhow::Result<Duration> {
        let queue = &self.routes.as_ref().context("it runs")?.queue;
        self.installed.store(0, Ordering::Release);
        let started = Instant::now();
        for slice in wanted.chunks(SLICE) {
            let changes = slice.iter().map(|route| {
                self.version += 1;
                Change::Route(RouteChange::Put(Route {
                    prefix: route.prefix,
                    gateway: route.gateway,
                    interface,
                    version: self.version,
                }))
            });
            wait_for_room(queue);
            queue.send(changes, Pace::InTurn)?;
        }
        self.wait(started, wanted.len())
    }

    /// Routes put back so far.
    pub fn repaired(&self) -> u64 {
        self.counters.routes.repaired.get()
    }

    /// Wants none of them any more and waits until the last one is gone.
    pub fn delete(&mut self, wanted: &[Wanted]) -> anyhow::Result<Duration> {
        let routes = self.routes.take().context("it runs")?;
        let started = Instant::now();
        for slice in wanted.chunks(SLICE) {
            let changes = slice.iter().map(|route| {
                self.version += 1;
                Change::Route(RouteChange::Remove {
                    prefix: route.prefix,
                    version: self.version,
                })
            });
            wait_for_room(&routes.queue);
            routes.queue.send(changes, Pace::InTurn)?;
        }
        routes.stop();
        Ok(started.elapsed())
    }

    /// Until so many routes were reported as installed.
    fn wait(&self, since: Instant, count: usize) -> anyhow::Result<Duration> {
        while self.installed.load(Ordering::Acquire) < count as u64 {
            if since.elapsed() > PATIENCE {
                bail!(
                    "{} of {count} installed",
                    self.installed.load(Ordering::Acquire)
                );
            }
            std::thread::sleep(Duration::from_micros(200));
        }
        Ok(since.elapsed())
    }
}

/// As the relay thread does before each slice.
fn wait_for_room(queue: &RouteQueue) {
    while !queue.has_room() {
        std::thread::sleep(Duration::from_millis(1));
    }
}
