//! The kernel programs in a kernel of their own making: loaded, given maps as the daemon would fill
//! them, and run on bytes by `BPF_PROG_TEST_RUN`. Nothing is attached to an interface that a test did not make.

use std::io::Write;
use std::path::PathBuf;
use std::time::Duration;

use aya::maps::lpm_trie::{self, LpmTrie};
use aya::maps::xdp::DevMapHash;
use aya::maps::{Array, HashMap, Map, MapData, PerCpuArray, RingBuf};
use aya::programs::{TestRun, TestRunOptions, Xdp, XdpMode};
use aya::{Ebpf, EbpfLoader};
use nix::sys::epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags, EpollTimeout};
use nix::time::{ClockId, clock_gettime};
use relay_common::abi::{
    ALLOWED_SOURCE_BITS, AllowedSource, BindingStats, Daemon, FLAG_ACCEPT_RELAYED, Interface,
    LAYOUT, OwnAddress, PrefixLengths, ROLE_ACCESS, RecordHeader, Refused, XdpPackets,
};
use relay_common::maps::{self, DropReason};
use relay_tests::messages::ip;

/// Test runs need an interface that exists; the loopback is everywhere. No frame reaches it.
pub const IFINDEX: u32 = 1;
/// The router's MAC in the corpus.
pub const ROUTER_MAC: [u8; 6] = [2, 0, 0, 0, 0, 0xfe];
/// The router's address in the corpus.
pub const ROUTER_ADDRESS: &str = "2001:db8:100::1";

/// `XDP_DROP` and `XDP_PASS` of linux/bpf.h.
pub const XDP_DROP: u32 = 1;
/// See [`XDP_DROP`].
pub const XDP_PASS: u32 = 2;
/// See [`XDP_DROP`].
pub const XDP_REDIRECT: u32 = 4;

/// The object under test: as built by `cargo xtask build-ebpf`, or as named by `RELAY_BPF_OBJECT`.
pub fn object_path() -> PathBuf {
    std::env::var_os("RELAY_BPF_OBJECT").map_or_else(
        || {
            PathBuf::from(concat!(
                env!("CARGO_MANIFEST_DIR"),
                "/../target/bpf/relay.o"
            ))
        },
        PathBuf::from,
    )
}

/// Says that this test did not run, and why. The runner counts the lines of the file.
pub fn skip(reason: &str) {
    println!("SKIPPED: {reason}");
    if let Some(path) = std::env::var_os("TWINRELAY_SKIPPED_FILE") {
        let test = std::thread::current().name().unwrap_or("kernel").to_owned();
        let line = format!("{test}: {reason}\n");
        std::fs::OpenOptions::new()
            .create(true)
            .append(true)
            .open(path)
            .and_then(|mut file| file.write_all(line.as_bytes()))
            .expect("the runner's file takes a line");
    }
}

/// Now on the clock of the programs.
pub fn boot_nanos() -> u64 {
    let now: Duration = clock_gettime(ClockId::CLOCK_BOOTTIME)
        .expect("Linux has CLOCK_BOOTTIME")
        .into();
    u64::try_from(now.as_nanos()).expect("584 years")
}

/// The entry of the one interface: its MAC, relayed messages accepted, no limits.
pub fn interface() -> Interface {
    let mut macs = [[0; 6]; relay_common::abi::INTERFACE_MACS];
    macs[0] = ROUTER_MAC;
    Interface {
        role: ROLE_ACCESS,
        flags: FLAG_ACCEPT_RELAYED,
        client_rate: 0,
        interface_rate: 0,
        mac_count: 1,
        macs,
        mtu: 1500,
    }
}

/// Loaded programs and their maps.
pub struct Kernel {
    ebpf: Ebpf,
    ring: RingBuf<MapData>,
}

impl Kernel {
    /// Loaded, with empty maps, room for few bindings and a ring of this size. `None`: skipped, the reason
    /// is noted.
    pub fn load(ring_bytes: u32) -> Option<Self> {
        Self::load_for(ring_bytes, 4096)
    }

    /// The same with room for so many bindings.
    pub fn load_for(ring_bytes: u32, bindings: u32) -> Option<Self> {
        if !nix::unistd::geteuid().is_root() {
            skip("loading kernel programs needs root");
            return None;
        }
        let path = object_path();
        let Ok(object) = std::fs::read(&path) else {
            skip("no kernel object; run `cargo xtask build-ebpf`");
            return None;
        };
        let loaded = EbpfLoader::new()
            .map_max_entries(maps::DHCP_FRAMES, ring_bytes)
            .map_max_entries(maps::ADDR_BINDINGS, bindings)
            .map_max_entries(maps::PREFIX_BINDINGS, bindings)
            .map_max_entries(maps::BINDING_STATS, bindings)
            .load(&object);
        let mut ebpf = match loaded {
            Ok(ebpf) => ebpf,
            Err(error) if is_refusal(&error) => {
                skip("this system does not let root use bpf(2)");
                return None;
            }
            Err(error) => panic!("load {}: {error:?}", path.display()),
        };
        for name in [maps::ACCESS_INGRESS, maps::CORE_INGRESS] {
            let program: &mut Xdp = ebpf
                .program_mut(name)
                .expect("the object holds the program")
                .try_into()
                .expect("an XDP program");
            program
                .load()
                .unwrap_or_else(|error| panic!("the verifier refuses {name}: {error}"));
        }
        let ring = ebpf.take_map(maps::DHCP_FRAMES).expect("the ring");
        let ring = RingBuf::try_from(ring).expect("a ring buffer");
        Some(Self { ebpf, ring })
    }

    /// As the daemon leaves it: interface, own address and heartbeat in place, a ring of 1 MiB.
    pub fn ready() -> Option<Self> {
        let mut kernel = Self::load(1 << 20)?;
        kernel.set_interface(interface());
        kernel.set_own_address(ROUTER_ADDRESS);
        kernel.beat(boot_nanos());
        Some(kernel)
    }

    /// A program.
    pub fn program_named(&self, name: &str) -> &Xdp {
        self.ebpf
            .program(name)
            .expect("loaded")
            .try_into()
            .expect("an XDP program")
    }

    /// Attaches the program of access interfaces until the harness is dropped.
    pub fn attach(&mut self, interface: &str, mode: XdpMode) {
        self.attach_named(maps::ACCESS_INGRESS, interface, mode);
    }

    /// Attaches a program.
    pub fn attach_named(&mut self, name: &str, interface: &str, mode: XdpMode) {
        let program: &mut Xdp = self
            .ebpf
            .program_mut(name)
            .expect("loaded")
            .try_into()
            .expect("an XDP program");
        program
            .attach(interface, mode)
            .unwrap_or_else(|error| panic!("attach {name} to {interface}: {error}"));
    }

    /// A map by name.
    pub fn map(&self, name: &str) -> &Map {
        self.ebpf.map(name).expect("the object holds the map")
    }

    fn map_mut(&mut self, name: &str) -> &mut Map {
        self.ebpf.map_mut(name).expect("the object holds the map")
    }

    /// Writes the interface's entry.
    pub fn set_interface(&mut self, entry: Interface) {
        self.set_interface_at(IFINDEX, entry);
    }

    /// Writes the entry of another interface.
    pub fn set_interface_at(&mut self, ifindex: u32, entry: Interface) {
        let mut map: HashMap<_, u32, Interface> = self
            .map_mut(maps::INTERFACES)
            .try_into()
            .expect("a hash of interfaces");
        map.insert(ifindex, entry, 0).expect("room");
    }

    /// Removes the interface's entry.
    pub fn remove_interface(&mut self) {
        let mut map: HashMap<_, u32, Interface> = self
            .map_mut(maps::INTERFACES)
            .try_into()
            .expect("a hash of interfaces");
        map.remove(&IFINDEX).expect("it was there");
    }

    /// Adds an own address.
    pub fn set_own_address(&mut self, address: &str) {
        let key = OwnAddress {
            address_be: ip(address).octets(),
        };
        let mut map: HashMap<_, OwnAddress, u32> = self
            .map_mut(maps::OWN_ADDRESSES)
            .try_into()
            .expect("a hash of addresses");
        map.insert(key, IFINDEX, 0).expect("room");
    }

    /// Writes what the daemon says.
    pub fn set_daemon(&mut self, daemon: Daemon) {
        let mut map: Array<_, Daemon> = self
            .map_mut(maps::DAEMON)
            .try_into()
            .expect("an array of one");
        map.set(0, daemon, 0).expect("place 0");
    }

    /// The heartbeat, at this time.
    pub fn beat(&mut self, heartbeat_boot_nanos: u64) {
        self.set_daemon(Daemon {
            layout: LAYOUT,
            quiet: 0,
            heartbeat_boot_nanos,
            ready: 0,
            data_path: 0,
        });
    }

    /// Runs the program once on a frame, with a fresh heartbeat; its action.
    pub fn run(&mut self, frame: &[u8]) -> u32 {
        self.beat(boot_nanos());
        self.run_repeatedly(frame, 1).0
    }

    /// Runs the program; its last action and the mean time of one run. Leaves the heartbeat alone.
    pub fn run_repeatedly(&self, frame: &[u8], repeat: u32) -> (u32, Duration) {
        let (action, duration, _) = self.run_on(maps::ACCESS_INGRESS, IFINDEX, frame, repeat);
        (action, duration)
    }

    /// Runs a program as if on an interface: its last action, the mean time of one run, and the frame as it
    /// left it.
    pub fn run_on(
        &self,
        program: &str,
        ifindex: u32,
        frame: &[u8],
        repeat: u32,
    ) -> (u32, Duration, Vec<u8>) {
        // struct xdp_md: data, data_end, data_meta, ingress_ifindex, rx_queue_index, egress_ifindex.
        let end = u32::try_from(frame.len()).expect("a frame");
        let context: Vec<u8> = [0, end, 0, ifindex, 0, 0]
            .into_iter()
            .flat_map(u32::to_ne_bytes)
            .collect();
        // Two tags may come on top.
        let mut left = vec![0; frame.len() + 8];
        let result = self
            .program_named(program)
            .test_run(TestRunOptions {
                data_in: Some(frame),
                data_out: Some(&mut left),
                ctx_in: Some(&context),
                repeat,
                ..TestRunOptions::default()
            })
            .expect("the kernel runs the program");
        left.truncate(result.data_size_out as usize);
        (result.return_value, result.duration, left)
    }

    /// Writes an entry of a map, octet for octet.
    pub fn put<K: aya::Pod, V: aya::Pod>(&mut self, map: &str, key: K, value: V) {
        let mut map: HashMap<_, K, V> = self.map_mut(map).try_into().expect("a hash");
        map.insert(key, value, 0).expect("room");
    }

    /// Writes the lengths of a place.
    pub fn put_lengths(&mut self, place: u32, lengths: PrefixLengths) {
        let mut map: Array<_, PrefixLengths> = self
            .map_mut(maps::PREFIX_LENGTHS)
            .try_into()
            .expect("an array");
        map.set(place, lengths, 0).expect("a place");
    }

    /// Lets a prefix be the source of packets on an interface.
    pub fn allow_source(&mut self, ifindex: u32, address: &str, bits: u32) {
        let source = AllowedSource {
            ifindex,
            address_be: ip(address).octets(),
        };
        let mut map: LpmTrie<_, AllowedSource, u32> =
            self.map_mut(maps::SOURCE_ALLOW).try_into().expect("a trie");
        let key = lpm_trie::Key::new(ALLOWED_SOURCE_BITS + bits, source);
        map.insert(&key, 1, 0).expect("room");
    }

    /// Lets packets leave by an interface.
    pub fn open_egress(&mut self, ifindex: u32) {
        let mut map: DevMapHash<_> = self.map_mut(maps::EGRESS).try_into().expect("devices");
        map.insert(ifindex, ifindex, None, 0).expect("a device");
    }

    /// What a binding counted, over all CPUs.
    pub fn stats(&self, slot: u32) -> BindingStats {
        let map: PerCpuArray<_, BindingStats> = self
            .map(maps::BINDING_STATS)
            .try_into()
            .expect("a per-CPU array");
        let values = map.get(&slot, 0).expect("a slot");
        values
            .iter()
            .fold(BindingStats::default(), |sum, cpu| BindingStats {
                rx_packets: sum.rx_packets + cpu.rx_packets,
                rx_bytes: sum.rx_bytes + cpu.rx_bytes,
                tx_packets: sum.tx_packets + cpu.tx_packets,
                tx_bytes: sum.tx_bytes + cpu.tx_bytes,
            })
    }

    /// The next record, if there is one.
    pub fn next_record(&mut self) -> Option<(RecordHeader, Vec<u8>)> {
        let item = self.ring.next()?;
        let (header, frame) = RecordHeader::split(&item).expect("a record of ours");
        assert_eq!(
            item.len(),
            size_of::<RecordHeader>() + frame.len(),
            "a record holds header and frame and nothing else"
        );
        Some((header, frame.to_vec()))
    }

    /// Whether the ring woke who waits for it, since `waiter` was made or this was asked last.
    pub fn woke(waiter: &Epoll) -> bool {
        let mut events = [EpollEvent::empty()];
        let count = waiter.wait(&mut events, EpollTimeout::from(20u8));
        count.expect("an epoll instance") > 0
    }

    /// Waits for the ring as the daemon does. Of what is in the ring already it hears nothing.
    pub fn waiter(&self) -> Epoll {
        let epoll = Epoll::new(EpollCreateFlags::empty()).expect("an epoll instance");
        let event = EpollEvent::new(EpollFlags::EPOLLIN, 0);
        epoll.add(&self.ring, event).expect("a ring can be polled");
        epoll
    }

    /// Throws away what is in the ring; how many records.
    pub fn drain(&mut self) -> usize {
        std::iter::from_fn(|| self.ring.next().map(|_| ())).count()
    }

    /// What met a reason, dropped or not, over all CPUs.
    pub fn reason(&self, reason: DropReason) -> u64 {
        let refused = self.refused(reason);
        refused.dropped + refused.passed
    }

    /// What became of what met a reason, over all CPUs.
    pub fn refused(&self, reason: DropReason) -> Refused {
        let map: PerCpuArray<_, Refused> = self
            .map(maps::DROP_COUNTERS)
            .try_into()
            .expect("a per-CPU array");
        let values = map.get(&(reason as u32), 0).expect("a place per reason");
        values.iter().fold(Refused::default(), |sum, cpu| Refused {
            dropped: sum.dropped + cpu.dropped,
            passed: sum.passed + cpu.passed,
        })
    }

    /// Reasons that counted anything, with how often.
    pub fn reasons(&self) -> Vec<(&'static str, u64)> {
        DropReason::ALL
            .iter()
            .map(|&reason| (reason.name(), self.reason(reason)))
            .filter(|&(_, count)| count != 0)
            .collect()
    }

    /// Packets of the interface, over all CPUs.
    pub fn packets(&self) -> XdpPackets {
        let map: PerCpuArray<_, XdpPackets> = self
            .map(maps::XDP_PACKETS)
            .try_into()
            .expect("a per-CPU array");
        let place = maps::packets_place(IFINDEX);
        let mut sum = XdpPackets::default();
        for value in map.get(&place, 0).expect("a place").iter() {
            sum.passed += value.passed;
            sum.captured += value.captured;
            sum.dropped += value.dropped;
            sum.forwarded += value.forwarded;
        }
        sum
    }
}

fn is_refusal(error: &aya::EbpfError) -> bool {
    let mut source: Option<&dyn std::error::Error> = Some(error);
    while let Some(error) = source {
        if let Some(io) = error.downcast_ref::<std::io::Error>() {
            return io.raw_os_error() == Some(libc::EPERM);
        }
        source = error.source();
    }
    false
}
