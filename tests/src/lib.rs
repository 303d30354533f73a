//! What the tests share: one relay on a bench ([`mod@bench`]), exchanges of
//! clients with servers through it ([`exchanges`]), the other end of what it asks ([`asked`])
//! and of what it is asked ([`asking`]), several
//! relays that ask each other ([`mesh`]), a leasequery peer that may be wrong ([`alq_peer`]),
//! messages to feed them ([`messages`]), what must hold for any
//! bytes ([`fuzzing`], [`fuzzing_alq`], [`fuzzing_alq_server`]).
//!
//! Must not know how the core decides: builders and readers of relayed messages are written from
//! the RFCs alone and share no code with `relay-core`'s codec, so that an error in one shows in the
//! other.

pub mod alq_peer;
pub mod asked;
pub mod asking;
pub mod bench;
pub mod exchanges;
pub mod fuzzing;
pub mod fuzzing_alq;
pub mod fuzzing_alq_server;
pub mod mesh;
pub mod messages;
