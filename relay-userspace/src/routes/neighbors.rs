//! Neighbour entries for the next hops of clients: externally learned, so that a mass restart
//! causes no storm of neighbour discovery (DP-28).
//!
//! Decides which entries are written and removed. An entry that somebody set as permanent is never
//! touched; one that the kernel learned itself is taken over.

use std::collections::{HashMap, HashSet};
use std::io;
use std::net::Ipv6Addr;

use relay_common::net::MacAddr;
use relay_core::effect::NeighborChange;
use relay_core::types::IfIndex;

use super::message::Batch;
use super::netlink::{BATCH_MAX, Requests};
use super::objects::{self, KernelNeighbor};
use crate::interfaces::InterfaceTable;

/// Interface and address: one entry in the kernel.
pub type NeighborKey = (IfIndex, Ipv6Addr);

/// Wanted neighbour entries, and those still to be written.
#[derive(Debug, Default)]
pub struct Neighbors {
    wanted: HashMap<NeighborKey, MacAddr>,
    /// In the kernel as wanted.
    ours: HashSet<NeighborKey>,
    queue: HashSet<NeighborKey>,
    /// Interfaces that are up and have carrier.
    usable: HashSet<IfIndex>,
    /// Named since the resend began; `None`: no resend is under way.
    fresh: Option<HashSet<NeighborKey>>,
}

impl Neighbors {
    /// A wish of the core.
    pub fn apply(&mut self, change: NeighborChange) {
        match change {
            NeighborChange::Put {
                interface,
                address,
                mac,
            } => {
                let key = (interface, address);
                if self.wanted.insert(key, mac) != Some(mac) || !self.ours.contains(&key) {
                    self.queue.insert(key);
                }
                if let Some(fresh) = &mut self.fresh {
                    fresh.insert(key);
                }
            }
            NeighborChange::Remove { interface, address } => self.unwant((interface, address)),
        }
    }

    fn unwant(&mut self, key: NeighborKey) {
        if self.wanted.remove(&key).is_some() {
            self.queue.insert(key);
        }
    }

    /// The core is about to say everything again.
    pub fn resend_begins(&mut self) {
        self.fresh = Some(HashSet::new());
    }

    /// The core has said everything.
    pub fn resend_ends(&mut self) {
        let fresh = self.fresh.take().unwrap_or_default();
        let stale: Vec<NeighborKey> = self
            .wanted
            .keys()
            .filter(|key| !fresh.contains(key))
            .copied()
            .collect();
        stale.into_iter().for_each(|key| self.unwant(key));
    }

    /// Interfaces changed. The kernel drops the entries of an interface that goes down or loses
    /// carrier; those of one that comes up are written again.
    pub fn interfaces_changed(&mut self, table: &InterfaceTable) {
        let usable: HashSet<IfIndex> = table
            .interfaces
            .iter()
            .filter(|interface| interface.up && interface.carrier)
            .map(|interface| interface.index)
            .collect();
        let again = |(at, _): &&NeighborKey| usable.contains(at) && !self.usable.contains(at);
        self.queue.extend(self.wanted.keys().filter(again));
        self.ours.retain(|(at, _)| usable.contains(at));
        self.usable = usable;
    }

    /// Whether something is to be written.
    pub fn has_work(&self) -> bool {
        !self.queue.is_empty()
    }

    /// How many entries of ours the kernel has.
    pub fn installed(&self) -> usize {
        self.ours.len()
    }

    /// Writes one batch; answers how many writes the kernel refused. `protocol` marks ours.
    ///
    /// # Errors
    /// Answers were lost; [`Neighbors::compare`] is due.
    pub fn write(&mut self, requests: &mut Requests, protocol: u8) -> io::Result<u64> {
        let batch: Vec<NeighborKey> = self.queue.iter().take(BATCH_MAX).copied().collect();
        let mut puts = Vec::new();
        let mut refused = 0;
        for key in batch {
            self.queue.remove(&key);
            match self.wanted.get(&key) {
                Some(_) if !self.usable.contains(&key.0) => {}
                Some(mac) => puts.push((key, *mac)),
                None => refused += self.remove(requests, protocol, key)?,
            }
        }
        let mut bytes = Batch::default();
        let errors = requests.write_batch(&mut bytes, puts.len(), |bytes, index, sequence| {
            let (key, mac) = puts[index];
            objects::put_neighbor(bytes, sequence, key, mac, protocol, false);
        })?;
        let errors: HashMap<usize, i32> = errors.into_iter().collect();
        for (index, (key, mac)) in puts.into_iter().enumerate() {
            let done = match errors.get(&index) {
                None => true,
                Some(&libc::EEXIST) => self.take_over(requests, protocol, key, mac)?,
                Some(errno) => {
                    tracing::debug!(address = %key.1, errno, "neighbour entry refused");
                    false
                }
            };
            if done {
                self.ours.insert(key);
            } else {
                self.ours.remove(&key);
                refused += 1;
            }
        }
        Ok(refused)
    }

    /// An entry is there already: whose?
    fn take_over(
        &mut self,
        requests: &mut Requests,
        protocol: u8,
        key: NeighborKey,
        mac: MacAddr,
    ) -> io::Result<bool> {
        let found = get(requests, key)?;
        if found.is_some_and(|found| found.permanent) {
            return Ok(false);
        }
        if found.is_some_and(|found| is_ours(&found, protocol) && found.mac == Some(mac)) {
            return Ok(true);
        }
        let mut bytes = Batch::default();
        let errors = requests.write_batch(&mut bytes, 1, |bytes, _, sequence| {
            objects::put_neighbor(bytes, sequence, key, mac, protocol, true);
        })?;
        Ok(errors.is_empty())
    }

    fn remove(
        &mut self,
        requests: &mut Requests,
        protocol: u8,
        key: NeighborKey,
    ) -> io::Result<u64> {
        self.ours.remove(&key);
        if !get(requests, key)?.is_some_and(|found| is_ours(&found, protocol)) {
            return Ok(0);
        }
        let mut bytes = Batch::default();
        let errors = requests.write_batch(&mut bytes, 1, |bytes, _, sequence| {
            objects::delete_neighbor(bytes, sequence, key);
        })?;
        Ok(u64::try_from(errors.len()).expect("one message"))
    }

    /// Asks the kernel for all entries and queues what is missing.
    ///
    /// # Errors
    /// The kernel refused, or answers were lost.
    pub fn compare(&mut self, requests: &mut Requests, protocol: u8) -> io::Result<()> {
        if self.wanted.is_empty() && self.ours.is_empty() {
            return Ok(());
        }
        let found = std::cell::RefCell::new(HashMap::new());
        requests.dump(
            objects::dump_neighbors,
            || found.borrow_mut().clear(),
            |message| {
                if let Some(entry) = objects::read_neighbor(&message)
                    && is_ours(&entry, protocol)
                {
                    let key = (entry.interface, entry.address);
                    found.borrow_mut().insert(key, entry.mac);
                }
            },
        )?;
        let found = found.into_inner();
        self.ours = found.keys().copied().collect();
        for (key, mac) in &self.wanted {
            // Without a MAC the kernel gave up on it: it asks the link itself, we need not.
            match found.get(key) {
                Some(Some(present)) if present == mac => {}
                Some(None) => {}
                _ => drop(self.queue.insert(*key)),
            }
        }
        Ok(())
    }
}

fn get(requests: &mut Requests, key: NeighborKey) -> io::Result<Option<KernelNeighbor>> {
    let answer = requests.get(
        |batch, flags, sequence| objects::get_neighbor(batch, flags, sequence, key),
        |message| objects::read_neighbor(&message),
    );
    match answer {
        // The interface is gone, and its entries with it.
        Err(error) if matches!(error.raw_os_error(), Some(libc::ENODEV | libc::EINVAL)) => Ok(None),
        other => other,
    }
}

fn is_ours(entry: &KernelNeighbor, protocol: u8) -> bool {
    entry.externally_learned && !entry.permanent && entry.protocol == protocol
}
