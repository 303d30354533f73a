//! Token buckets per interface and client, and the ring's own limit: who gives way when.

use aya_ebpf::bindings::{BPF_RB_AVAIL_DATA, BPF_RB_RING_SIZE};
use aya_ebpf::helpers::generated::bpf_ringbuf_query;
use aya_ebpf::programs::XdpContext;
use relay_common::abi::{Interface, TokenBucket};
use relay_common::classify::Datagram;
use relay_common::maps::DropReason;
use relay_common::priority::{Priority, client_key, innermost};
use relay_common::rate::take;

use crate::emit::ring;
use crate::maps::{CLIENT_RATE, INTERFACE_RATE};
use crate::xdp_frame::WholeFrame;

/// Takes a token from both buckets, or from neither.
///
/// The interface is asked first, so a flood of made-up clients that the interface bucket refuses
/// leaves no trace in the table of clients. Two CPUs may take the same token at the same moment;
/// the error is one message per race, and an atomic exchange would cost every message.
#[inline(always)]
// req: RLY-71
pub fn admit(
    ctx: &XdpContext,
    datagram: &Datagram,
    ifindex: u32,
    interface: &Interface,
    now: u64,
) -> Result<(), DropReason> {
    let inside = innermost(&WholeFrame(ctx), datagram);
    if inside.priority == Priority::GivesWay && ring_is_crowded() {
        return Err(DropReason::Overload);
    }
    let mut interface_bucket = None;
    if interface.interface_rate != 0 {
        let place = INTERFACE_RATE.get_ptr_mut(ifindex);
        let after = take(read(place), now, interface.interface_rate, inside.priority)
            .ok_or(DropReason::InterfaceRate)?;
        interface_bucket = Some((place, after));
    }
    if interface.client_rate != 0 {
        let key = client_key(datagram, ifindex, &inside);
        let place = CLIENT_RATE.get_ptr_mut(&key);
        let after = take(read(place), now, interface.client_rate, inside.priority)
            .ok_or(DropReason::ClientRate)?;
        match place {
            // SAFETY: an entry of the map; a slot that was reused meanwhile takes no harm.
            Some(place) => unsafe { *place = after },
            // Without room there is no limit for this client; the interface's holds.
            None => drop(CLIENT_RATE.insert(&key, after, 0)),
        }
    }
    if let Some((place, after)) = interface_bucket {
        match place {
            // SAFETY: an entry of the map, removed only with its interface.
            Some(place) => unsafe { *place = after },
            None => drop(INTERFACE_RATE.insert(ifindex, after, 0)),
        }
    }
    Ok(())
}

#[inline(always)]
fn read(place: Option<*mut TokenBucket>) -> TokenBucket {
    match place {
        // SAFETY: an entry of the map, any bytes of which are a value.
        Some(place) => unsafe { *place },
        None => TokenBucket::default(),
    }
}

/// Whether more than three quarters of the ring wait to be read.
#[inline(always)]
fn ring_is_crowded() -> bool {
    // SAFETY: reads two numbers of the ring.
    let (waiting, size) = unsafe {
        (
            bpf_ringbuf_query(ring(), BPF_RB_AVAIL_DATA as u64),
            bpf_ringbuf_query(ring(), BPF_RB_RING_SIZE as u64),
        )
    };
    waiting > size - size / 4
}
