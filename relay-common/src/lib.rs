//! What the kernel programs and the daemon must agree on: map layouts, the ring record, the frame classifier, who gives
//! way under load, which packets of subscribers are good, and which go where. Knows nothing of sockets, clocks, DHCPv6
//! leases or configuration files.
#![no_std]

pub mod abi;
pub mod bindings;
pub mod classify;
pub mod forward;
pub mod frame;
pub mod guard;
pub mod maps;
pub mod net;
pub mod packet;
pub mod priority;
pub mod rate;
