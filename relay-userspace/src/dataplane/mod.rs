//! The kernel programs: loading, attaching, their maps and their counters.
//!
//! Decides how an access interface is captured (native XDP, generic XDP, or by sockets only), where packets
//! of subscribers may pass by the kernel, and says why not. Must not know what is captured.

mod attach;
mod bindings;
mod bpf;
mod handle;
mod kernel_info;
mod kernel_maps;
mod lengths;
mod load;
mod object;
mod pins;
mod slots;
mod table;
#[cfg(test)]
mod table_tests;

use std::collections::BTreeMap;
use std::net::Ipv6Addr;
use std::os::fd::{AsFd, BorrowedFd};
use std::path::PathBuf;

use aya::maps::ring_buf::RingBufItem;
use relay_common::{abi, maps};
use relay_core::effect::ForwardingChange;
use relay_core::time::Instant;
use relay_core::types::{IfIndex, Prefix};

use crate::config::{Capture, Config, OnExit};
use crate::net::xdp_features::XdpFeatures;
use attach::{Attached, Mode};
use bindings::Bindings;
pub use handle::DataplaneHandle;
use handle::Mounted;
use load::{Loaded, Sizes};
use pins::Pins;
pub use table::Refusal;

/// On which side of the relay an interface is.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Role {
    /// Toward clients.
    Access,
    /// Toward servers and the Internet.
    Core,
}

impl Role {
    const ALL: [Self; 2] = [Self::Access, Self::Core];

    /// As in the names of pins.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Access => "access",
            Self::Core => "core",
        }
    }

    const fn program(self) -> &'static str {
        match self {
            Self::Access => maps::ACCESS_INGRESS,
            Self::Core => maps::CORE_INGRESS,
        }
    }
}

/// An interface that is there.
pub struct Wanted<'a> {
    /// Which program it gets.
    pub role: Role,
    /// Its kernel index.
    pub ifindex: IfIndex,
    /// Its kernel name.
    pub name: &'a str,
    /// How its frames are to be captured.
    pub capture: Capture,
    /// What the program is to know of it.
    pub entry: abi::Interface,
    /// Without Ethernet frames there is nothing to attach to.
    pub is_ethernet: bool,
}

/// What the programs are to know beside interfaces.
#[derive(Clone, Copy)]
pub struct Around<'a> {
    /// Addresses of this router.
    pub own_addresses: &'a [(Ipv6Addr, IfIndex)],
    /// Sources that need no binding, by access interface.
    pub source_allow: &'a [(IfIndex, Prefix)],
    /// Nanoseconds of the boot clock.
    pub now_nanos: u64,
}

/// How a program is attached to an interface.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Captured {
    /// `xdp`, `xdp-generic` or `socket`.
    pub capture: &'static str,
    /// Why not in a better way, where one was wanted.
    pub reason: Option<String>,
}

impl Captured {
    const fn socket(reason: Option<String>) -> Self {
        Self {
            capture: "socket",
            reason,
        }
    }
}

/// Whether this build has kernel programs in it.
pub fn has_programs() -> bool {
    object::object().is_some()
}

/// The kernel programs of one daemon.
pub struct Dataplane {
    pins: Pins,
    sizes: Sizes,
    /// Entries of bindings that nobody tells of are of no use.
    is_complete: bool,
    handle: DataplaneHandle,
    loaded: Option<Loaded>,
    /// Why the programs could not be loaded: tried once.
    failed: Option<String>,
    bindings: Option<Bindings>,
    /// The relay holds what others hold.
    is_ready: bool,
    attached: BTreeMap<(Role, u32), Attached>,
    /// Interfaces out of which packets are to be forwarded.
    forwards: Vec<(IfIndex, String)>,
    /// Those of them that cannot send what XDP hands them; said once.
    by_kernel: Vec<IfIndex>,
    /// Where attaching failed, for what wish, and why: not tried again for the same wish, because
    /// each try may take a card's link down for a moment.
    refused: BTreeMap<(Role, u32), (Capture, String)>,
}

impl Dataplane {
    /// What the configuration asks for, loaded where it wants to capture in the kernel: to be called with
    /// `CAP_PERFMON`, without which the kernel puts barriers against speculation into the programs, and
    /// aya gives them no names. Why nothing could be loaded is said by [`Dataplane::sync`].
    pub fn of(config: &Config) -> Self {
        let mut dataplane = Self::new(config.dataplane.pin_path.clone(), config.relay.max_bindings);
        if config.access.iter().any(|it| it.capture != Capture::Socket) {
            dataplane.load();
        }
        dataplane
    }

    /// Nothing is loaded before an interface wants it.
    pub fn new(pin_path: PathBuf, max_bindings: usize) -> Self {
        let bindings = u32::try_from(max_bindings).unwrap_or(u32::MAX - 1);
        let sizes = Sizes {
            bindings,
            slots: bindings.saturating_add(1),
        };
        Self {
            pins: Pins::new(pin_path),
            sizes,
            is_complete: false,
            handle: DataplaneHandle::default(),
            loaded: None,
            failed: None,
            bindings: None,
            is_ready: false,
            attached: BTreeMap::new(),
            forwards: Vec::new(),
            by_kernel: Vec::new(),
            refused: BTreeMap::new(),
        }
    }

    /// What the core tells of bindings is all there is. To be said before [`Dataplane::sync`].
    pub const fn set_complete(&mut self, is_complete: bool) {
        self.is_complete = is_complete;
    }

    /// Reads counters from other threads.
    pub fn handle(&self) -> DataplaneHandle {
        self.handle.clone()
    }

    /// Attaches what is wanted and detaches what is not; one answer for each interface, in order. Core
    /// interfaces, which come last, have a program only where some access interface has one.
    pub fn sync(&mut self, wanted: &[Wanted<'_>], around: Around<'_>) -> Vec<Captured> {
        let is_captured = |port: &&Wanted<'_>| port.capture != Capture::Socket;
        let mut access = wanted.iter().filter(|port| port.role == Role::Access);
        let any = access.any(|port| is_captured(&port));
        if any && self.loaded.is_none() && self.failed.is_none() {
            self.load();
        }
        if let Some(loaded) = &mut self.loaded {
            loaded.write_own_addresses(around.own_addresses);
            loaded.write_source_allow(around.source_allow);
            for ifindex in loaded.write_interfaces(wanted) {
                self.handle.start_counting(ifindex);
            }
            loaded.write_state(None, Some(wanted.iter().any(has_data_path)));
            loaded.write_heartbeat(around.now_nanos);
        }
        self.detach_unwanted(wanted, any);
        let names = wanted
            .iter()
            .map(|port| (port.ifindex.0, port.name.to_owned()));
        self.handle.set_names(names.collect());
        let mut captured = Vec::with_capacity(wanted.len());
        for role in Role::ALL {
            for port in wanted.iter().filter(|port| port.role == role) {
                captured.push(match role == Role::Access || self.is_active() {
                    true => self.capture(port),
                    false => Captured::socket(None),
                });
            }
            if role == Role::Access && !self.is_active() {
                self.detach_unwanted(wanted, false);
            }
        }
        let forwards = wanted
            .iter()
            .filter(|port| port.entry.flags & abi::FLAG_FORWARD != 0);
        self.forwards = forwards
            .map(|port| (port.ifindex, port.name.to_owned()))
            .collect();
        self.write_egress();
        self.follow_bindings();
        let modes = self.attached.iter().map(|((role, ifindex), it)| Mounted {
            role: *role,
            ifindex: *ifindex,
            mode: it.captured().capture,
        });
        self.handle.set_mounted(modes.collect());
        captured
    }

    /// Whether some access interface has a program.
    fn is_active(&self) -> bool {
        self.attached.keys().any(|(role, _)| *role == Role::Access)
    }

    fn load(&mut self) {
        match Loaded::load(&mut self.pins, self.sizes) {
            Ok(mut loaded) => {
                self.handle.set_maps(loaded.counters());
                self.handle.set_objects(loaded.objects());
                self.loaded = Some(loaded);
            }
            Err(error) => self.failed = Some(format!("{error:#}")),
        }
    }

    /// Where packets may be sent without the kernel's stack: a driver that cannot send what a program in another
    /// driver hands it drops it. Whether it can may change, so this is looked at again now and then.
    // req: DP-28
    fn write_egress(&mut self) {
        let Some(loaded) = &mut self.loaded else {
            return;
        };
        let features = XdpFeatures::open();
        let is_native = self.attached.values().any(|it| it.mode() == Mode::Native);
        let mut egress = Vec::new();
        for (ifindex, name) in &self.forwards {
            // A kernel before 6.3 does not say: what is not known is not relied on.
            let can_send = !is_native
                || features
                    .as_ref()
                    .is_ok_and(|it| it.can_send(*ifindex).unwrap_or(false));
            if can_send {
                egress.push(ifindex.0);
            } else if !self.by_kernel.contains(ifindex) {
                tracing::warn!(
                    interface = name,
                    "the driver cannot send what XDP forwards: packets out of this interface are the kernel's"
                );
            }
        }
        let by_kernel = self.forwards.iter().map(|(ifindex, _)| *ifindex);
        self.by_kernel = by_kernel.filter(|it| !egress.contains(&it.0)).collect();
        loaded.write_egress(&egress);
        self.handle.set_egress(egress);
    }

    /// Bindings are in the kernel exactly where a program looks at them.
    fn follow_bindings(&mut self) {
        let is_active = self.is_active();
        match (&mut self.loaded, is_active) {
            (Some(loaded), true) if self.bindings.is_none() => {
                let is_fresh = std::mem::replace(&mut loaded.is_fresh, false);
                let (sizes, is_complete) = (self.sizes, self.is_complete);
                let opened = loaded
                    .kernel_maps()
                    .and_then(|maps| Bindings::open(maps, sizes, is_fresh, is_complete))
                    .and_then(|bindings| Ok((bindings.shared()?, bindings)));
                match opened {
                    Ok((shared, bindings)) => {
                        self.handle.set_bindings(Some(shared));
                        self.bindings = Some(bindings);
                    }
                    Err(error) => {
                        tracing::error!(
                            error = format!("{error:#}"),
                            "the kernel learns of no bindings"
                        );
                    }
                }
            }
            (_, false) => {
                self.handle.set_bindings(None);
                self.bindings = None;
            }
            (_, true) => {}
        }
    }

    /// Whether bindings are to be told ([`relay_core::relay::Relay::set_forwarding`]).
    pub const fn follows_bindings(&self) -> bool {
        self.bindings.is_some()
    }

    /// Whether all bindings are to be told from now on.
    pub fn begins_telling(&mut self, now: Instant) -> bool {
        let begins = self.bindings.as_mut().is_some_and(|it| it.begins(now));
        if begins {
            self.write_egress();
        }
        begins
    }

    /// When [`Dataplane::begins_telling`] is to be asked, or there is something to tidy.
    pub fn due(&self) -> Option<Instant> {
        self.bindings.as_ref().and_then(Bindings::due)
    }

    /// Writes what was told of bindings. `more`: not all was told yet.
    pub fn write_bindings(&mut self, changes: &mut Vec<ForwardingChange>, more: bool) {
        match &mut self.bindings {
            Some(bindings) => bindings.write(changes, more),
            None => changes.clear(),
        }
        self.tell_ready();
    }

    /// Removes some of the entries that nobody told of.
    pub fn tidy_bindings(&mut self) {
        if let Some(bindings) = &mut self.bindings {
            bindings.tidy();
        }
    }

    /// Whether the relay holds what others hold; the programs know it when the maps do, too.
    // req: DP-24, DP-25
    pub fn set_ready(&mut self, is_ready: bool) {
        self.is_ready = is_ready;
        self.tell_ready();
    }

    fn tell_ready(&mut self) {
        let has_all = self.bindings.as_ref().is_some_and(Bindings::is_settled);
        if let Some(loaded) = &mut self.loaded {
            loaded.write_state(Some(self.is_ready && has_all), None);
        }
    }

    fn detach_unwanted(&mut self, wanted: &[Wanted<'_>], with_core: bool) {
        let is_wanted = |role: Role, ifindex: u32, mode: Mode| {
            wanted.iter().any(|port| {
                port.role == role
                    && port.ifindex.0 == ifindex
                    && Mode::allowed(port.capture).contains(&mode)
                    && (role == Role::Access || with_core)
            })
        };
        let unwanted: Vec<(Role, u32)> = self
            .attached
            .iter()
            .filter(|((role, ifindex), attached)| !is_wanted(*role, *ifindex, attached.mode()))
            .map(|(key, _)| *key)
            .collect();
        for attached in unwanted.iter().filter_map(|key| self.attached.remove(key)) {
            attached.detach();
        }
        self.refused.retain(|(role, ifindex), _| {
            wanted
                .iter()
                .any(|port| (port.role, port.ifindex.0) == (*role, *ifindex))
        });
        // What an earlier daemon left, too.
        self.pins
            .remove_links(|role, ifindex, mode| !is_wanted(role, ifindex, mode));
    }

    fn capture(&mut self, port: &Wanted<'_>) -> Captured {
        let key = (port.role, port.ifindex.0);
        if port.capture == Capture::Socket {
            return Captured::socket(None);
        }
        if !port.is_ethernet {
            let reason = "the interface does not carry Ethernet frames";
            return Captured::socket(Some(reason.to_owned()));
        }
        let Some(loaded) = &mut self.loaded else {
            return Captured::socket(self.failed.clone());
        };
        if let Some(attached) = self.attached.get(&key) {
            return attached.captured();
        }
        if let Some((wish, reason)) = self.refused.get(&key)
            && *wish == port.capture
        {
            return Captured::socket(Some(reason.clone()));
        }
        match attach::attach(loaded.program(port.role), &self.pins, port) {
            Ok(attached) => {
                let captured = attached.captured();
                self.attached.insert(key, attached);
                captured
            }
            Err(reason) => {
                let refused = (port.capture, reason.clone());
                self.refused.insert(key, refused);
                Captured::socket(Some(reason))
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
                self.bindings = None;
                self.loaded = None;
                self.pins.remove_all();
            }
        }
    }
}

/// Whether more than DHCPv6 is looked at there.
const fn has_data_path(port: &Wanted<'_>) -> bool {
    let flags = abi::FLAG_GUARD | abi::FLAG_FORWARD | abi::FLAG_ANTI_LOOP;
    matches!(port.role, Role::Access) && port.entry.flags & flags != 0
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
