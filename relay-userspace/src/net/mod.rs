//! Bytes in, bytes out: sockets, frames and batches of system calls. No protocol above UDP.

pub mod batch;
pub mod checksum;
pub mod ethtool;
pub mod frame;
pub mod packet;
pub mod sockopt;
pub mod udp;
pub mod xdp_features;
