//! Wrapping and unwrapping (RFC 8415 §19): what passes, with which envelope, to whom. Nothing here
//! knows of bindings.

pub(crate) mod forward;
pub(crate) mod link;
pub(crate) mod remote_id;
pub(crate) mod reply;
pub(crate) mod transaction;

#[cfg(test)]
mod tests;
