//! The maps, under the names and capacities of `relay_common::maps`, and the two counters.

use core::mem::MaybeUninit;

use aya_ebpf::bindings::BPF_F_NO_PREALLOC;
use aya_ebpf::btf_maps::{Array, HashMap, LruHashMap, PerCpuArray, PerCpuHashMap, RingBuf};
use aya_ebpf::macros::btf_map;
use relay_common::abi::{
    ClientKey, Daemon, Interface, OwnAddress, RecordHeader, Scratch, TokenBucket, XdpPackets,
};
use relay_common::maps::{
    CLIENT_RATE_CAPACITY, DHCP_FRAMES_BYTES, DROP_REASONS, DropReason, INTERFACE_RATE_CAPACITY,
    INTERFACES_CAPACITY, OWN_ADDRESSES_CAPACITY, XDP_PACKETS_CAPACITY,
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
static XDP_PACKETS: PerCpuHashMap<u32, XdpPackets, XDP_PACKETS_CAPACITY, SPARSE> =
    PerCpuHashMap::new();

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

/// Counts what became of a frame.
#[inline(always)]
pub fn count_packet(ifindex: u32, outcome: Outcome) {
    let Some(packets) = XDP_PACKETS.get_ptr_mut(ifindex) else {
        first_packet(ifindex, outcome);
        return;
    };
    // SAFETY: this CPU's own value; nothing else on this CPU runs between read and write.
    unsafe {
        match outcome {
            Outcome::Passed => (*packets).passed += 1,
            Outcome::Captured => (*packets).captured += 1,
            Outcome::Dropped => (*packets).dropped += 1,
        }
    }
}

/// Makes the entry of an interface, which the next frames find. No room is no harm.
#[inline(always)]
fn first_packet(ifindex: u32, outcome: Outcome) {
    let mut packets = MaybeUninit::<XdpPackets>::uninit();
    let at = packets.as_mut_ptr();
    // Volatile, or LLVM calls a loop for zeros that lie side by side, and the verifier lets no
    // program without CAP_PERFMON loop over its stack.
    // SAFETY: three writes, each within `packets`, which are all of it.
    let packets = unsafe {
        (&raw mut (*at).passed).write_volatile((outcome == Outcome::Passed) as u64);
        (&raw mut (*at).captured).write_volatile((outcome == Outcome::Captured) as u64);
        (&raw mut (*at).dropped).write_volatile((outcome == Outcome::Dropped) as u64);
        packets.assume_init_ref()
    };
    let _ = XDP_PACKETS.insert(ifindex, packets, 0);
}
