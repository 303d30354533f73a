//! Leasequery messages: individual (RFC 5007), bulk (RFC 5460) and active (RFC 7653), read as
//! borrowed views and written into the caller's buffer. Says what stands there; must not know
//! bindings, connections or the time.
//!
//! | who | reads | writes |
//! | --- | --- | --- |
//! | server | [`Query`] | [`write_starttls_reply`], [`Answers`] |
//! | requestor | [`Answer`] | [`write_starttls`], [`ActiveQuery`], [`BulkQuery`] |
//!
//! Where an option comes twice, the first counts.

mod answer;
mod answers;
mod client_data;
mod lease;
mod queries;
mod query;
mod relay_data;
mod requested;

pub use answer::{Answer, Status};
pub use answers::{Answers, write_starttls_reply};
pub use client_data::{ClientData, ClientDataOut};
pub use lease::{LqIa, LqLease, MAX_LEASES};
pub use queries::{ActiveQuery, BulkQuery, write_starttls};
pub use query::{LqQuery, Query, QueryBy, QueryError};
pub use relay_data::{RelayData, RelayDataOut, RelayHop};
pub use requested::RequestedOptions;

use crate::error::DecodeError;
use crate::time::LqTime;
use crate::wire::options::RawOption;

/// The 32 bits that are all of an option.
fn read_u32(option: RawOption<'_>) -> Result<u32, DecodeError> {
    let value = <[u8; 4]>::try_from(option.data).map_err(|_| length(option))?;
    Ok(u32::from_be_bytes(value))
}

fn read_time(option: RawOption<'_>) -> Result<LqTime, DecodeError> {
    read_u32(option).map(LqTime)
}

const fn length(option: RawOption<'_>) -> DecodeError {
    DecodeError::OptionLength {
        code: option.code,
        len: option.data.len(),
    }
}

#[cfg(test)]
#[cfg(test)]
mod vectors;
