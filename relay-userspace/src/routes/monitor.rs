//! What the kernel says of interfaces, and what it says has changed.
//!
//! A change of links or addresses is answered by asking for all of them again: the snapshot is
//! then right whatever was missed. Decides nothing about routes; hands their changes on.

use std::io;
use std::os::fd::{AsFd, BorrowedFd};

use relay_core::types::IfIndex;

use crate::interfaces::InterfaceTable;

use super::netlink::{Events, Read, Requests};
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

/// Something that others did.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Heard {
    /// A route was made (`true`) or removed.
    Route(KernelRoute, bool),
    /// An interface is down or gone; it may be there again by now.
    Fell(IfIndex),
}

/// What else is known after hearing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Hearing {
    /// Links or addresses changed.
    pub interfaces: bool,
    /// Events were lost.
    pub lost: bool,
    /// There may be more.
    pub is_more: bool,
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

    /// Reads what has come in, without waiting; `each` hears of it in order.
    ///
    /// # Errors
    /// The socket failed.
    pub fn hear(&mut self, mut each: impl FnMut(Heard)) -> io::Result<Hearing> {
        let mut hearing = Hearing::default();
        for _ in 0..READS_MAX {
            let read = self.events.read(|message| match message.message_type {
                libc::RTM_NEWROUTE | libc::RTM_DELROUTE => {
                    let there = message.message_type == libc::RTM_NEWROUTE;
                    if let Some(route) = objects::read_route(&message) {
                        each(Heard::Route(route, there));
                    }
                }
                libc::RTM_NEWLINK | libc::RTM_DELLINK => {
                    hearing.interfaces = true;
                    let is_gone = message.message_type == libc::RTM_DELLINK;
                    let link = objects::read_link(&message);
                    if let Some(link) = link.filter(|link| is_gone || !link.up) {
                        each(Heard::Fell(link.index));
                    }
                }
                libc::RTM_NEWADDR | libc::RTM_DELADDR => hearing.interfaces = true,
                _ => {}
            })?;
            match read {
                Read::Some => {}
                Read::Nothing => return Ok(hearing),
                Read::Overrun => hearing.lost = true,
            }
        }
        hearing.is_more = true;
        Ok(hearing)
    }
}

impl AsFd for Monitor {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.events.as_fd()
    }
}
