//! Every protocol decision of the relay, deterministic and without I/O.
//!
//! The shell (the daemon, a simulation, a fuzzer, a replay tool) drives [`relay::Relay`] by four
//! calls: put an [`input::Input`] in, tell that time has passed, ask when time matters next, and
//! take [`effect::Effect`]s out. With no `std` in scope nobody can open a socket, read a clock or
//! spawn a thread here.
#![no_std]
#![forbid(unsafe_code)]

extern crate alloc;

pub mod alq;
pub mod binding;
pub mod config;
mod desired;
pub mod effect;
pub mod error;
mod hold;
pub mod input;
mod outbox;
pub mod record;
pub mod relay;
pub mod relaying;
pub mod snoop;
pub mod time;
pub mod types;
pub mod view;
pub mod wire;

#[cfg(test)]
mod testing;
