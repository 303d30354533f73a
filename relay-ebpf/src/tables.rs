//! [`Bindings`] over the kernel's own maps. Keys are built in per-CPU memory ([`crate::maps::work`]).

use core::ptr::NonNull;

use aya_ebpf::helpers::generated::{bpf_jiffies64, bpf_ktime_get_boot_ns};
use relay_common::abi::{ALLOWED_SOURCE_BITS, Binding, Interface, PrefixLengths};
use relay_common::bindings::Bindings;
use relay_common::packet::{AddressBe, Key, Work};

use crate::maps::{
    ADDR_BINDINGS, INTERFACES, PREFIX_BINDINGS, PREFIX_LENGTHS, SOURCE_ALLOW, value,
};

/// The maps, and this CPU's memory for their keys.
pub struct Tables(pub NonNull<Work>);

impl Tables {
    /// The time on `CLOCK_BOOTTIME` at most a tick ago, some milliseconds: to read the clock takes as long as to
    /// look a binding up, and lifetimes are in seconds.
    #[inline(always)]
    pub fn now(&self) -> u64 {
        let work = self.0.as_ptr();
        // SAFETY: this CPU's own memory; reads a counter and a clock.
        unsafe {
            let tick = bpf_jiffies64();
            if (*work).tick != tick {
                (*work).tick = tick;
                (*work).now = bpf_ktime_get_boot_ns();
            }
            (*work).now
        }
    }

    /// The entry of an interface.
    #[inline(always)]
    pub fn interface(&self, ifindex: u32) -> Option<&Interface> {
        // SAFETY: this CPU's own memory. The daemon replaces entries whole; nothing here removes one
        // while it is read.
        unsafe {
            let key = &raw mut (*self.0.as_ptr()).ifindex;
            *key = ifindex;
            value(&INTERFACES, key).map(|it: NonNull<Interface>| it.as_ref())
        }
    }
}

impl Bindings for Tables {
    #[inline(always)]
    fn lengths(&self, place: u32) -> Option<&PrefixLengths> {
        // SAFETY: this CPU's own memory, values as the map has them.
        unsafe {
            let key = &raw mut (*self.0.as_ptr()).place;
            *key = place;
            value(&PREFIX_LENGTHS, key).map(|it: NonNull<PrefixLengths>| it.as_ref())
        }
    }

    #[inline(always)]
    fn by_address(&self, key: &Key) -> Option<&Binding> {
        // SAFETY: a key begins with the address. The daemon replaces entries whole, and one that it
        // removes is not given away before this program has ended.
        unsafe {
            value(&ADDR_BINDINGS, core::ptr::from_ref(key)).map(|it: NonNull<Binding>| it.as_ref())
        }
    }

    #[inline(always)]
    fn by_prefix(&self, key: &Key) -> Option<&Binding> {
        // SAFETY: a key begins with address and length; else as above.
        unsafe {
            value(&PREFIX_BINDINGS, core::ptr::from_ref(key))
                .map(|it: NonNull<Binding>| it.as_ref())
        }
    }

    #[inline(always)]
    fn is_allowed(&self, ifindex: u32, address: &AddressBe) -> bool {
        // SAFETY: this CPU's own memory; only whether there is a value is asked.
        unsafe {
            let key = &raw mut (*self.0.as_ptr()).allowed;
            (*key)[0] = ALLOWED_SOURCE_BITS + 128;
            (*key)[1] = ifindex;
            let words = address.as_ptr().cast::<u32>();
            (*key)[2] = *words;
            (*key)[3] = *words.add(1);
            (*key)[4] = *words.add(2);
            (*key)[5] = *words.add(3);
            value::<_, _, u32>(&SOURCE_ALLOW, key.cast::<u32>().cast_const()).is_some()
        }
    }
}
