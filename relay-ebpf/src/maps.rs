//! The maps, under the names and capacities of `relay_common::maps`, and the two counters.

use core::ptr::NonNull;

use aya_ebpf::bindings::BPF_F_NO_PREALLOC;
use aya_ebpf::btf_maps::{Array, HashMap, LruHashMap, PerCpuArray, RingBuf};
use aya_ebpf::helpers::generated::bpf_map_lookup_elem;
use aya_ebpf::macros::btf_map;
use relay_common::abi::{
    ClientKey, Daemon, Interface, OwnAddress, RecordHeader, Scratch, TokenBucket, XdpPackets,
};
use relay_common::maps::{
    CLIENT_RATE_CAPACITY, DHCP_FRAMES_BYTES, DROP_REASONS, DropReason, INTERFACE_RATE_CAPACITY,
    INTERFACES_CAPACITY, OWN_ADDRESSES_CAPACITY, XDP_PACKETS_CAPACITY, packets_place,
};

use crate::capture::Outcome;

/// Few interfaces are the rule: entries are allocated when they come.
const SPARSE: usize = BPF_F_NO_PREALLOC as usize;

#[btf_map(name = "interfaces")]
pub static INTERFACES: HashMap<u32, Interface, INTERFACES_CAPACITY, SPARSE> = HashMap::new();

#[btf_map(name = "own_addresses")]
pub static OWN_ADDRESSES: HashMap<OwnAddress, u32, OWN_ADDRESSES_CAPACITY, SPARSE> = HashMap::new();

#[btf_map(name = "daemon")]
pub static DAEMON: Array<Daemon, 1> = Array::new();

#[btf_map(name = "drop_counters")]
static DROP_COUNTERS: PerCpuArray<u64, DROP_REASONS> = PerCpuArray::new();

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

#[btf_map(name = "scratch")]
pub static SCRATCH: PerCpuArray<Scratch, 1> = PerCpuArray::new();

/// Counts why a DHCPv6 frame did not reach the ring.
#[inline(always)]
pub fn count_reason(reason: DropReason) {
    if let Some(counter) = DROP_COUNTERS.get_ptr_mut(reason as u32) {
        // SAFETY: this CPU's own value; nothing else on this CPU runs between read and write.
        unsafe { *counter += 1 };
    }
}

/// The one place of [`SCRATCH`].
///
/// Keys of maps lie where helpers can read them, and on the stack they cost: without CAP_PERFMON the
/// kernel puts a barrier behind the first write to each place there, some 20 ns.
static FIRST: u32 = 0;

/// This CPU's scratch memory.
#[inline(always)]
pub fn scratch() -> Option<NonNull<Scratch>> {
    let map = core::ptr::from_ref(&SCRATCH).cast_mut().cast();
    // SAFETY: the map's values are `Scratch`, its keys four octets.
    NonNull::new(unsafe { bpf_map_lookup_elem(map, (&raw const FIRST).cast()) }.cast())
}

/// Counts what became of a frame.
#[inline(always)]
pub fn count_packet(ifindex: u32, outcome: Outcome) {
    let Some(scratch) = scratch() else {
        return;
    };
    let map = core::ptr::from_ref(&XDP_PACKETS).cast_mut().cast();
    // SAFETY: this CPU's own values, as `XDP_PACKETS` has them; nothing else on this CPU runs between
    // read and write.
    unsafe {
        let key = &raw mut (*scratch.as_ptr()).header.ifindex;
        *key = packets_place(ifindex);
        let packets: *mut XdpPackets = bpf_map_lookup_elem(map, key.cast()).cast();
        if packets.is_null() {
            return;
        }
        // All three, or LLVM picks one by a variable offset, which needs CAP_PERFMON too.
        (*packets).passed += (outcome == Outcome::Passed) as u64;
        (*packets).captured += (outcome == Outcome::Captured) as u64;
        (*packets).dropped += (outcome == Outcome::Dropped) as u64;
    }
}
