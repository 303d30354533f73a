//! What the tests share: one relay on a bench ([`mod@bench`]), exchanges of
//! clients with servers through it ([`exchanges`]), messages to feed it ([`messages`]),
//! what must hold for any bytes ([`fuzzing`]), a leasequery peer that may be wrong ([`alq_peer`]).
//!
//! Must not know how the core decides: builders and readers of relayed messages are written from
//! the RFCs alone and share no code with `relay-core`'s codec, so that an error in one shows in the
//! other.

pub mod alq_peer;
pub mod bench;
pub mod exchanges;
pub mod fuzzing;
pub mod messages;
