//! Bytes: checked views over what came in, writers for what goes out. Nothing here decides what a
//! message means.

pub mod ia;
pub mod iana;
pub mod leasequery;
pub mod message;
pub mod options;
pub mod relay_msg;
pub mod tcp_frame;
