//! Bindings that survive: the durable store of the relay.
//!
//! A log of records in segment files, appended by one thread, synced once for all that is queued.
//! The bindings themselves live in the core; the store only has to bring them back. So it keeps no
//! index: a start reads the segments once to see which record of a binding is the newest, and once
//! more to hand these out; old segments are merged in the background.
//!
//! The relay thread fills a [`Batch`] and hands it over ([`Store::submit`]), which never blocks;
//! [`Event::Durable`] says when it is on disk. The store knows nothing of DHCPv6 beyond the fields
//! of a record, and decides nothing about bindings.

mod batch;
mod entry;
mod facts;
mod files;
mod handle;
mod log;
mod merge;
mod open;
mod reader;
mod record;
mod scan;
mod status;
mod time;
mod writer;

#[cfg(test)]
mod tests;

pub use self::batch::{BATCH_BYTES, Batch};
pub use self::facts::{Facts, ResumePoint};
pub use self::files::{OpenError, StateDir};
pub use self::handle::{ClockReader, Event, Options, Store};
pub use self::open::{Opened, Report, Restored};
pub use self::reader::Harm;
pub use self::record::{RecordError, StoredBinding};
pub use self::status::{COMMIT_BUCKETS_MICROS, CommitTimes, Counters, State, Status};
pub use self::time::{Clock, ClockBehind, Correction};
