//! Messages on a TCP connection (RFC 5460 §5.1, RFC 7653 §6.1): puts the bytes of the stream
//! together again, however TCP cut them, and gives out whole messages. Must not know what they say.
//!
//! ```text
//! 0              2
//! | message-size | message (message-size bytes) | next frame …
//! ```

use alloc::vec::Vec;

use crate::wire::message::{HEADER_BYTES, Message};

/// Bytes of message-size.
pub const SIZE_BYTES: usize = 2;
/// The longest frame: all that message-size can say, and itself.
pub const MAX_FRAME_BYTES: usize = SIZE_BYTES + u16::MAX as usize;

/// What no message can begin with: the bounds of all later ones are lost, so the connection ends.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[error("message-size {message_size} is below the {HEADER_BYTES} bytes of a message")]
pub struct FrameError {
    /// As it came.
    pub message_size: u16,
}

/// The receiving end of one connection.
///
/// Holds what was fed and not yet given out, and less than that again: who takes all messages
/// before feeding the next bytes holds less than [`MAX_FRAME_BYTES`] in between.
#[derive(Clone, Default, Debug)]
pub struct FrameReader {
    bytes: Vec<u8>,
    /// What lies before was given out.
    at: usize,
}

impl FrameReader {
    /// Takes the next bytes of the stream.
    pub fn extend(&mut self, bytes: &[u8]) {
        // Each byte given out pays for moving one that was not: no way of feeding is quadratic.
        if self.at > 0 && self.at >= self.bytes.len() - self.at {
            self.bytes.drain(..self.at);
            self.at = 0;
        }
        self.bytes.extend_from_slice(bytes);
    }

    /// The next whole message; `None` until more bytes are fed. An error stays.
    // req: BLQ-2, ALQ-3
    pub fn next_message(&mut self) -> Option<Result<Message<'_>, FrameError>> {
        let (size, rest) = self
            .bytes
            .get(self.at..)?
            .split_first_chunk::<SIZE_BYTES>()?;
        let message_size = u16::from_be_bytes(*size);
        // req: BLQ-5
        if usize::from(message_size) < HEADER_BYTES {
            return Some(Err(FrameError { message_size }));
        }
        let message = rest.get(..usize::from(message_size))?;
        self.at += SIZE_BYTES + message.len();
        Some(Message::new(message).map_err(|_| FrameError { message_size }))
    }

    /// Whether bytes wait behind the next message, which is whole.
    pub fn has_more(&self) -> bool {
        let waiting = self.bytes.get(self.at..).unwrap_or_default();
        let next = waiting.split_first_chunk::<SIZE_BYTES>();
        next.is_some_and(|(size, rest)| rest.len() > usize::from(u16::from_be_bytes(*size)))
    }

    /// Whether no byte waits, not even of a message that is not whole yet.
    pub fn is_empty(&self) -> bool {
        self.at == self.bytes.len()
    }
}
