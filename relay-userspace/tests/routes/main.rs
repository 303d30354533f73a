//! The route follower against the real kernel, each test in a network namespace of its own that
//! ends with its thread. Needs root; skipped and counted otherwise.

#![allow(
    clippy::unwrap_used,
    reason = "helpers of tests are not recognised as tests"
)]

mod harness;
mod many;
mod neighbors;
mod others;
mod wanted;
