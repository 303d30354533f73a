//! What the kernel says of interfaces, and what it says has changed.
//!
//! A change of links or addresses is answered by asking for all of them again: the snapshot is
//! then right whatever was missed. Decides nothing about routes; hands their changes on.

use std::io;
use std::os::fd::{AsFd, BorrowedFd};

use crate::interfaces::InterfaceTable;

use super::netlink::{Events, Heard, Requests};
use super::objects::{self, KernelRoute};

/// RTNLGRP_LINK, RTNLGRP_IPV6_IFADDR, RTNLGRP_IPV6_ROUTE.
const GROUPS: [u32; 3] = [1, 9, 11];
/// Datagrams read in one go, so that a storm of changes does not starve writing.
const READS_MAX: usize = 4096;

/// All interfaces with their IPv6 addresses, now.
///
/// # Errors
/// The kernel refused, or answers were lost.
pub fn interface_table(requests: &mut Requests) -> io::Result<InterfaceTable> {
    let mut interfaces = std::cell::RefCell::new(Vec::new());
    requests.dump(
        objects::dump_links,
        || interfaces.borrow_mut().clear(),
        |message| interfaces.borrow_mut().extend(objects::read_link(&message)),
    )?;
    let addresses = std::cell::RefCell::new(Vec::new());
    requests.dump(
        objects::dump_addresses,
        || addresses.borrow_mut().clear(),
        |message| {
            addresses
                .borrow_mut()
                .extend(objects::read_address(&message));
        },
    )?;
    let mut table = InterfaceTable {
        interfaces: std::mem::take(interfaces.get_mut()),
    };
    table.interfaces.sort_by_key(|interface| interface.index);
    for (index, address) in addresses.into_inner() {
        let found = table
            .interfaces
            .binary_search_by_key(&index, |interface| interface.index);
        // An interface made between the two dumps comes with the next change.
        if let Ok(at) = found {
            table.interfaces[at].addresses.push(address);
        }
    }
    Ok(table)
}

/// What happened since the last look.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Changes {
    /// Links or addresses changed.
    pub interfaces: bool,
    /// Events were lost.
    pub lost: bool,
    /// Routes that others made or removed, in order; `true`: it is there now.
    pub routes: Vec<(KernelRoute, bool)>,
}

/// Listens to the kernel.
#[derive(Debug)]
pub struct Monitor {
    events: Events,
}

impl Monitor {
    /// In the network namespace of the calling thread. `own_port` is the port of the socket whose
    /// writes to routes are not to be reported.
    ///
    /// # Errors
    /// What the kernel said.
    pub fn open(own_port: u32) -> io::Result<Self> {
        Ok(Self {
            events: Events::open(&GROUPS, own_port)?,
        })
    }

    /// Reads what has come in, without waiting.
    ///
    /// # Errors
    /// The socket failed.
    pub fn changes(&mut self) -> io::Result<Changes> {
        let mut changes = Changes::default();
        for _ in 0..READS_MAX {
            let heard = self.events.read(|message| match message.message_type {
                libc::RTM_NEWROUTE => changes
                    .routes
                    .extend(objects::read_route(&message).map(|route| (route, true))),
                libc::RTM_DELROUTE => changes
                    .routes
                    .extend(objects::read_route(&message).map(|route| (route, false))),
                libc::RTM_NEWLINK | libc::RTM_DELLINK | libc::RTM_NEWADDR | libc::RTM_DELADDR => {
                    changes.interfaces = true
                }
                _ => {}
            })?;
            match heard {
                Heard::Some => {}
                Heard::Nothing => break,
                Heard::Overrun => changes.lost = true,
            }
        }
        Ok(changes)
    }
}

impl AsFd for Monitor {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.events.as_fd()
    }
}
