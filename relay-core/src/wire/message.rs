//! A client/server message (RFC 8415 §8) as a borrowed view. Only the fixed part is checked: what
//! a client says inside is never a reason not to relay it.
//!
//! ```text
//! 0          1                4
//! | msg-type | transaction-id | options …
//! ```

use crate::error::DecodeError;
use crate::types::Xid;
use crate::wire::iana;
use crate::wire::options::Options;

/// Bytes before the options.
pub const HEADER_BYTES: usize = 4;

/// A client/server message.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Message<'a> {
    /// msg-type.
    pub message_type: u8,
    /// transaction-id.
    pub xid: Xid,
    /// Everything behind the fixed part.
    pub options: &'a [u8],
}

impl<'a> Message<'a> {
    /// Reads the fixed part.
    ///
    /// # Errors
    /// The message is shorter than its fixed part.
    pub fn new(bytes: &'a [u8]) -> Result<Self, DecodeError> {
        let Some(([message_type, a, b, c], options)) = bytes.split_first_chunk() else {
            return Err(DecodeError::Truncated {
                at: 0,
                need: HEADER_BYTES,
            });
        };
        // DHCPV4-QUERY and its answer have flags in this place (RFC 7341 §6.2), which may differ.
        let xid = match *message_type {
            iana::DHCPV4_QUERY | iana::DHCPV4_RESPONSE => 0,
            _ => u32::from_be_bytes([0, *a, *b, *c]),
        };
        Ok(Self {
            message_type: *message_type,
            xid: Xid(xid),
            options,
        })
    }

    /// The Client Identifier, where the options up to it are sound.
    pub fn client_id(&self) -> Option<&'a [u8]> {
        Options::new(self.options)
            .find(iana::OPTION_CLIENTID)
            .ok()
            .flatten()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn message_shorter_than_four_bytes_is_truncated() {
        assert!(Message::new(&[1, 2, 3]).is_err());
        assert!(Message::new(&[]).is_err());
    }

    #[test]
    fn message_flags_of_dhcpv4_query_are_no_transaction_id() {
        let query = Message::new(&[iana::DHCPV4_QUERY, 0x80, 0, 0]).unwrap();
        let response = Message::new(&[iana::DHCPV4_RESPONSE, 0, 0, 0]).unwrap();

        assert_eq!(query.xid, response.xid);
    }
}
