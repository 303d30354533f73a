//! The kernel programs: loading, attaching, their maps and their counters.
//!
//! Decides how an access interface is captured (native XDP, generic XDP, or by sockets only) and
//! says why. Must not know what is captured.

mod attach;
mod handle;
mod load;
mod object;
mod pins;

use std::collections::BTreeMap;
use std::net::Ipv6Addr;
use std::os::fd::{AsFd, BorrowedFd};
use std::path::PathBuf;

use aya::maps::ring_buf::RingBufItem;
use relay_common::abi;
use relay_core::types::IfIndex;

use crate::config::{Capture, Config, OnExit};
use attach::{Attached, Mode};
pub use handle::DataplaneHandle;
use load::Loaded;
use pins::Pins;

/// An access interface that is there.
pub struct Wanted<'a> {
    /// Its kernel index.
    pub ifindex: IfIndex,
    /// Its kernel name.
    pub name: &'a str,
    /// How it is to be captured.
    pub capture: Capture,
    /// What the program is to know of it.
    pub entry: abi::Interface,
    /// Without Ethernet frames there is nothing to attach to.
    pub is_ethernet: bool,
}

/// How an interface is captured.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Captured {
    /// `xdp`, `xdp-generic` or `socket`.
    pub capture: &'static str,
    /// Why not in a better way, where one was wanted.
    pub reason: Option<String>,
}

/// Whether this build has kernel programs in it.
pub fn has_programs() -> bool {
    object::object().is_some()
}

/// Lets aya find out what the kernel can do, where programs will be loaded: before capabilities are
/// given up, because it tries programs with a name on a kind that needs `CAP_PERFMON`, and ours
/// would have no name in bpftool.
pub fn learn_features(config: &Config) {
    if config.access.iter().any(|it| it.capture != Capture::Socket) {
        aya::features();
    }
}

/// The kernel programs of one daemon.
pub struct Dataplane {
    pins: Pins,
    handle: DataplaneHandle,
    loaded: Option<Loaded>,
    /// Why the programs could not be loaded: tried once.
    failed: Option<String>,
    attached: BTreeMap<u32, Attached>,
    /// Where attaching failed, for what wish, and why: not tried again for the same wish, because
    /// each try may take a card's link down for a moment.
    refused: BTreeMap<u32, (Capture, String)>,
}

impl Dataplane {
    /// Nothing is loaded before an interface wants it.
    pub fn new(pin_path: PathBuf) -> Self {
        Self {
            pins: Pins::new(pin_path),
            handle: DataplaneHandle::default(),
            loaded: None,
            failed: None,
            attached: BTreeMap::new(),
            refused: BTreeMap::new(),
        }
    }

    /// Reads counters from other threads.
    pub fn handle(&self) -> DataplaneHandle {
        self.handle.clone()
    }

    /// Attaches what is wanted and detaches what is not; one answer for each interface, in order.
    pub fn sync(
        &mut self,
        wanted: &[Wanted<'_>],
        own_addresses: &[(Ipv6Addr, IfIndex)],
        now_nanos: u64,
    ) -> Vec<Captured> {
        let any = wanted.iter().any(|port| port.capture != Capture::Socket);
        if any && self.loaded.is_none() && self.failed.is_none() {
            self.load();
        }
        if let Some(loaded) = &mut self.loaded {
            loaded.write_own_addresses(own_addresses);
            for ifindex in loaded.write_interfaces(wanted) {
                self.handle.start_counting(ifindex);
            }
            loaded.write_heartbeat(now_nanos);
        }
        self.detach_unwanted(wanted);
        let names = wanted
            .iter()
            .map(|port| (port.ifindex.0, port.name.to_owned()));
        self.handle.set_names(names.collect());
        wanted.iter().map(|port| self.capture(port)).collect()
    }

    fn load(&mut self) {
        match Loaded::load(&mut self.pins) {
            Ok(mut loaded) => {
                self.handle.set_maps(loaded.counters());
                self.loaded = Some(loaded);
            }
            Err(error) => self.failed = Some(format!("{error:#}")),
        }
    }

    fn detach_unwanted(&mut self, wanted: &[Wanted<'_>]) {
        let is_wanted = |ifindex: u32, mode: Mode| {
            wanted.iter().any(|port| {
                port.ifindex.0 == ifindex && Mode::allowed(port.capture).contains(&mode)
            })
        };
        let unwanted: Vec<u32> = self
            .attached
            .iter()
            .filter(|(ifindex, attached)| !is_wanted(**ifindex, attached.mode()))
            .map(|(ifindex, _)| *ifindex)
            .collect();
        for attached in unwanted
            .iter()
            .filter_map(|ifindex| self.attached.remove(ifindex))
        {
            attached.detach();
        }
        self.refused
            .retain(|ifindex, _| wanted.iter().any(|port| port.ifindex.0 == *ifindex));
        // What an earlier daemon left, too.
        self.pins
            .remove_links(|ifindex, mode| !is_wanted(ifindex, mode));
    }

    fn capture(&mut self, port: &Wanted<'_>) -> Captured {
        let socket = |reason: Option<String>| Captured {
            capture: "socket",
            reason,
        };
        if port.capture == Capture::Socket {
            return socket(None);
        }
        if !port.is_ethernet {
            return socket(Some(
                "the interface does not carry Ethernet frames".to_owned(),
            ));
        }
        let Some(loaded) = &mut self.loaded else {
            return socket(self.failed.clone());
        };
        if let Some(attached) = self.attached.get(&port.ifindex.0) {
            return attached.captured();
        }
        if let Some((wish, reason)) = self.refused.get(&port.ifindex.0)
            && *wish == port.capture
        {
            return socket(Some(reason.clone()));
        }
        match attach::attach(loaded.program(), &self.pins, port) {
            Ok(attached) => {
                let captured = attached.captured();
                self.attached.insert(port.ifindex.0, attached);
                captured
            }
            Err(reason) => {
                let refused = (port.capture, reason.clone());
                self.refused.insert(port.ifindex.0, refused);
                socket(Some(reason))
            }
        }
    }

    /// Says that the ring is read. Without it for a second, frames go to the kernel.
    pub fn heartbeat(&mut self, now_nanos: u64) {
        if let Some(loaded) = &mut self.loaded {
            loaded.write_heartbeat(now_nanos);
        }
    }

    /// Says whether frames are to wake nobody, because the ring is looked at without that.
    pub fn set_quiet(&mut self, is_quiet: bool) {
        if let Some(loaded) = &mut self.loaded
            && loaded.is_quiet() != is_quiet
        {
            loaded.write_quiet(is_quiet);
        }
    }

    /// What was said last.
    pub fn is_quiet(&self) -> bool {
        self.loaded.as_ref().is_some_and(Loaded::is_quiet)
    }

    /// Whether a heartbeat is needed.
    pub fn is_loaded(&self) -> bool {
        self.loaded.is_some()
    }

    /// The ring's descriptor, to poll.
    pub fn ring_fd(&self) -> Option<BorrowedFd<'_>> {
        self.loaded.as_ref().map(|loaded| loaded.ring.as_fd())
    }

    /// The next captured frame.
    pub fn next_record(&mut self) -> Option<RingBufItem<'_>> {
        self.loaded.as_mut()?.ring.next()
    }

    /// Frames go to the kernel from now on; what is in the ring can still be read.
    pub fn quiesce(&mut self) {
        if let Some(loaded) = &mut self.loaded {
            loaded.write_heartbeat(0);
        }
    }

    /// Leaves the kernel as `[dataplane] on_exit` says.
    pub fn close(mut self, on_exit: OnExit) {
        match on_exit {
            OnExit::Keep => {}
            OnExit::Detach => {
                for (_, attached) in std::mem::take(&mut self.attached) {
                    attached.detach();
                }
                self.handle.clear();
                self.loaded = None;
                self.pins.remove_all();
            }
        }
    }
}

impl Mode {
    /// As `show interfaces` prints it.
    const fn name(self) -> &'static str {
        match self {
            Self::Native => "xdp",
            Self::Generic => "xdp-generic",
        }
    }
}
