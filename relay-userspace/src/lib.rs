//! The daemon around [`relay_core`]: the only place that knows tokio, aya, rtnetlink, files and
//! signals. `main.rs` is a thin shell around this library, so that tests can reach the parts.

pub mod binding_log;
pub mod cli;
pub mod client;
pub mod config;
pub mod control;
pub mod counters;
pub mod daemon;
pub mod dataplane;
pub mod events;
pub mod handle;
pub mod interfaces;
pub mod leasequery;
pub mod lock;
pub mod log;
pub mod metrics;
pub mod names;
pub mod net;
pub mod notify;
pub mod relay_thread;
pub mod routes;
pub mod state;
pub mod store;
pub mod surroundings;
pub mod wall_time;
pub mod watchers;

#[cfg(test)]
mod testing;
