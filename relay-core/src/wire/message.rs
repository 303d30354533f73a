//! A client/server message (RFC 8415 §8): a borrowed view, and a writer. The view checks only the
//! fixed part: what a client says inside is never a reason not to relay it.
//!
//! ```text
//! 0          1                4
//! | msg-type | transaction-id | options …
//! ```

use alloc::vec::Vec;

use crate::error::DecodeError;
use crate::types::Xid;
use crate::wire::iana;
use crate::wire::options::Options;
use crate::wire::{relay_msg, tcp_frame};

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

/// The message fits into no frame or datagram. The buffer is as it was.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[error("message too large")]
pub struct TooLarge;

/// Writes one message at the end of a buffer, framed for TCP or as the content of a datagram.
#[derive(Debug)]
#[must_use = "`finish` sets the lengths"]
pub struct MessageWriter<'b> {
    buffer: &'b mut Vec<u8>,
    start: usize,
    message_at: usize,
    fits: bool,
}

impl<'b> MessageWriter<'b> {
    /// Begins a message behind its message-size (RFC 5460 §5.1).
    pub fn framed(buffer: &'b mut Vec<u8>, message_type: u8, xid: Xid) -> Self {
        let start = buffer.len();
        buffer.extend_from_slice(&[0; tcp_frame::SIZE_BYTES]);
        Self::begin(buffer, start, message_type, xid)
    }

    /// Begins a message that travels alone.
    pub fn datagram(buffer: &'b mut Vec<u8>, message_type: u8, xid: Xid) -> Self {
        let start = buffer.len();
        Self::begin(buffer, start, message_type, xid)
    }

    fn begin(buffer: &'b mut Vec<u8>, start: usize, message_type: u8, xid: Xid) -> Self {
        let message_at = buffer.len();
        let [_, a, b, c] = xid.0.to_be_bytes();
        buffer.extend_from_slice(&[message_type, a, b, c]);
        Self {
            buffer,
            start,
            message_at,
            fits: true,
        }
    }

    /// Adds bytes as they are: fixed parts, or options that are encoded already.
    pub fn bytes(&mut self, bytes: &[u8]) {
        self.buffer.extend_from_slice(bytes);
    }

    /// Adds one option.
    pub fn option(&mut self, code: u16, data: &[u8]) {
        self.option_with(code, |writer| writer.bytes(data));
    }

    /// Adds one option whose data `write` adds; it may hold options again.
    pub fn option_with(&mut self, code: u16, write: impl FnOnce(&mut Self)) {
        self.bytes(&code.to_be_bytes());
        let len_at = self.buffer.len();
        self.bytes(&[0; 2]);
        write(self);
        self.patch(len_at);
    }

    /// Ends the message.
    ///
    /// # Errors
    /// It, or an option in it, is too large. Nothing has been written then.
    pub fn finish(mut self) -> Result<(), TooLarge> {
        if self.message_at > self.start {
            self.patch(self.start);
        }
        let len = self.buffer.len() - self.message_at;
        if self.fits && (self.message_at > self.start || len <= relay_msg::MAX_MESSAGE_BYTES) {
            return Ok(());
        }
        self.buffer.truncate(self.start);
        Err(TooLarge)
    }

    /// Sets the two bytes of length at `len_at` to what follows them.
    fn patch(&mut self, len_at: usize) {
        let len = u16::try_from(self.buffer.len() - len_at - 2);
        match (len, self.buffer.get_mut(len_at..len_at + 2)) {
            (Ok(len), Some(place)) => place.copy_from_slice(&len.to_be_bytes()),
            _ => self.fits = false,
        }
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
