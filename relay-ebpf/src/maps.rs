//! The maps, under the names and capacities of `relay_common::maps`, and the two counters.

use core::ptr::NonNull;

use aya_ebpf::bindings::BPF_F_NO_PREALLOC;
use aya_ebpf::btf_maps::{Array, DevMapHash, HashMap, LpmTrie, LruHashMap, PerCpuArray, RingBuf};
use aya_ebpf::helpers::generated::bpf_map_lookup_elem;
use aya_ebpf::macros::btf_map;
use relay_common::abi::{
    AddressKey, AllowedSource, Binding, BindingStats, ClientKey, Daemon, Interface, OwnAddress,
    PrefixKey, PrefixLengths, RecordHeader, Refused, Scratch, TokenBucket, XdpPackets,
};
use relay_common::maps::{
    BINDINGS_CAPACITY, CLIENT_RATE_CAPACITY, DHCP_FRAMES_BYTES, DROP_REASONS, DropReason,
    EGRESS_CAPACITY, INTERFACE_RATE_CAPACITY, INTERFACES_CAPACITY, OWN_ADDRESSES_CAPACITY,
    PREFIX_LENGTHS_CAPACITY, SOURCE_ALLOW_CAPACITY, XDP_PACKETS_CAPACITY, packets_place,
};
use relay_common::packet::Work;

use crate::capture::Outcome;

/// Few interfaces are the rule: entries are allocated when they come.
const SPARSE: usize = BPF_F_NO_PREALLOC as usize;

#[btf_map(name = "interfaces")]
pub static INTERFACES: HashMap<u32, Interface, INTERFACES_CAPACITY, SPARSE> = HashMap::new();

#[btf_map(name = "own_addresses")]
pub static OWN_ADDRESSES: HashMap<OwnAddress, u32, OWN_ADDRESSES_CAPACITY, SPARSE> = HashMap::new();

#[btf_map(name = "daemon")]
static DAEMON: Array<Daemon, 1> = Array::new();

#[btf_map(name = "drop_counters")]
static DROP_COUNTERS: PerCpuArray<Refused, DROP_REASONS> = PerCpuArray::new();

#[btf_map(name = "xdp_packets")]
static XDP_PACKETS: PerCpuArray<XdpPackets, XDP_PACKETS_CAPACITY> = PerCpuArray::new();

#[btf_map(name = "client_rate")]
pub static CLIENT_RATE: LruHashMap<ClientKey, TokenBucket, CLIENT_RATE_CAPACITY> =
    LruHashMap::new();

#[btf_map(name = "interface_rate")]
pub static INTERFACE_RATE: HashMap<u32, TokenBucket, INTERFACE_RATE_CAPACITY, SPARSE> =
    HashMap::new();

#[btf_map(name = "dhcp_frames")]
pub static DHCP_FRAMES: RingBuf<RecordHeader, DHCP_FRAMES_BYTES> = RingBuf::new();

#[btf_map(name = "addr_bindings")]
pub static ADDR_BINDINGS: HashMap<AddressKey, Binding, BINDINGS_CAPACITY, SPARSE> = HashMap::new();

#[btf_map(name = "prefix_bindings")]
pub static PREFIX_BINDINGS: HashMap<PrefixKey, Binding, BINDINGS_CAPACITY, SPARSE> = HashMap::new();

#[btf_map(name = "prefix_lengths")]
pub static PREFIX_LENGTHS: Array<PrefixLengths, PREFIX_LENGTHS_CAPACITY> = Array::new();

#[btf_map(name = "binding_stats")]
pub static BINDING_STATS: PerCpuArray<BindingStats, BINDINGS_CAPACITY> = PerCpuArray::new();

#[btf_map(name = "source_allow")]
pub static SOURCE_ALLOW: LpmTrie<AllowedSource, u32, SOURCE_ALLOW_CAPACITY> = LpmTrie::new();

#[btf_map(name = "egress")]
pub static EGRESS: DevMapHash<EGRESS_CAPACITY> = DevMapHash::new();

#[btf_map(name = "work")]
static WORK: PerCpuArray<Work, 1> = PerCpuArray::new();

#[btf_map(name = "scratch")]
pub static SCRATCH: PerCpuArray<Scratch, 1> = PerCpuArray::new();

/// Counts a packet under a reason.
#[inline(always)]
pub fn count_reason(reason: DropReason, is_dropped: bool) {
    if let Some(counter) = DROP_COUNTERS.get_ptr_mut(reason as u32) {
        // SAFETY: this CPU's own value; nothing else on this CPU runs between read and write.
        unsafe {
            (*counter).dropped += is_dropped as u64;
            (*counter).passed += !is_dropped as u64;
        }
    }
}

/// The one place of [`SCRATCH`] and [`WORK`].
///
/// Keys of maps lie where helpers can read them, and on the stack they cost: without CAP_PERFMON the
/// kernel puts a barrier behind the first write to each place there, some 20 ns.
static FIRST: u32 = 0;

/// This CPU's scratch memory.
#[inline(always)]
pub fn scratch() -> Option<NonNull<Scratch>> {
    // SAFETY: the map's values are `Scratch`, its keys four octets.
    unsafe { value(&SCRATCH, &raw const FIRST) }
}

/// This CPU's memory for looking at packets.
#[inline(always)]
pub fn work() -> Option<NonNull<Work>> {
    // SAFETY: the map's values are `Work`, its keys four octets.
    unsafe { value(&WORK, &raw const FIRST) }
}

/// What the daemon says.
#[inline(always)]
pub fn daemon() -> Option<&'static Daemon> {
    // SAFETY: the map's values are `Daemon`, its keys four octets; an array keeps its values.
    unsafe { value(&DAEMON, &raw const FIRST).map(|it| it.as_ref()) }
}

/// The value of a key that lies in memory of a map or of the program.
///
/// # Safety
/// The map's keys are `K` (or begin with what it has), its values are `V`.
#[inline(always)]
pub unsafe fn value<M, K, V>(map: &M, key: *const K) -> Option<NonNull<V>> {
    let map = core::ptr::from_ref(map).cast_mut().cast();
    // SAFETY: the caller's.
    NonNull::new(unsafe { bpf_map_lookup_elem(map, key.cast()) }.cast())
}

/// Counts what became of a frame.
#[inline(always)]
pub fn count_packet(ifindex: u32, outcome: Outcome) {
    let Some(scratch) = scratch() else {
        return;
    };
    // SAFETY: this CPU's own values, as `XDP_PACKETS` has them; nothing else on this CPU runs between
    // read and write.
    unsafe {
        let key = &raw mut (*scratch.as_ptr()).header.ifindex;
        *key = packets_place(ifindex);
        let Some(packets) = value::<_, _, XdpPackets>(&XDP_PACKETS, key) else {
            return;
        };
        let packets = packets.as_ptr();
        // All of them, or LLVM picks one by a variable offset, which needs CAP_PERFMON too.
        (*packets).passed += (outcome == Outcome::Passed) as u64;
        (*packets).captured += (outcome == Outcome::Captured) as u64;
        (*packets).dropped += (outcome == Outcome::Dropped) as u64;
        (*packets).forwarded += (outcome == Outcome::Forwarded) as u64;
    }
}
