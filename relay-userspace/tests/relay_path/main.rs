//! The relay thread between a client's frames and a server's socket, in a network namespace of its
//! own: capture by socket, generic and native XDP, with none, one and two tags. Needs root;
//! skipped and counted otherwise.
#![allow(
    clippy::unwrap_used,
    reason = "helpers of tests are not recognised as tests"
)]

mod bench;
mod capture;
mod client;
mod network;
mod wire;
