//! What the kernel programs and the daemon must agree on: map layouts, the ring record, the frame
//! classifier and who gives way under load. Knows nothing of sockets, clocks, DHCPv6 leases or
//! configuration files.
#![no_std]

pub mod abi;
pub mod classify;
pub mod frame;
pub mod maps;
pub mod net;
pub mod priority;
pub mod rate;
