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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{VECTORS, vector};
    use crate::types::Xid;
    use proptest::prelude::*;

    /// What one frame says: type, transaction-id, options.
    type Seen = (u8, Xid, Vec<u8>);

    /// Takes all messages after each piece.
    fn feed<'a>(pieces: impl Iterator<Item = &'a [u8]>) -> (FrameReader, Vec<Seen>) {
        let (mut reader, mut seen) = (FrameReader::default(), Vec::new());
        for piece in pieces {
            reader.extend(piece);
            while let Some(Ok(message)) = reader.next_message() {
                seen.push((message.message_type, message.xid, message.options.to_vec()));
            }
        }
        (reader, seen)
    }

    fn all_vectors() -> Vec<u8> {
        VECTORS.iter().flat_map(|name| vector(name)).collect()
    }

    /// req: BLQ-2, ALQ-3 (RFC 5460 §5.1, RFC 7653 §6.1)
    #[test]
    fn blq_2_frames_octet_by_octet_or_all_in_one_are_the_same() {
        let stream = all_vectors();

        let (one_by_one, octets) = feed(stream.chunks(1));
        let (at_once, joined) = feed(stream.chunks(stream.len()));

        assert_eq!(octets.len(), VECTORS.len());
        assert_eq!(octets, joined);
        assert!(one_by_one.is_empty() && at_once.is_empty());
    }

    /// req: BLQ-5 (RFC 5460 §5.1)
    #[test]
    fn blq_5_message_size_below_four_is_an_error_that_stays() {
        for message_size in 0..4 {
            let mut reader = FrameReader::default();
            reader.extend(&vector("V1"));
            reader.extend(&[0, message_size, 23, 0, 0, 1]);

            assert!(matches!(reader.next_message(), Some(Ok(_))));
            let error = FrameError {
                message_size: message_size.into(),
            };
            for _ in 0..2 {
                assert_eq!(reader.next_message(), Some(Err(error)));
            }
            assert!(!reader.is_empty());
        }
    }

    #[test]
    fn frame_of_the_longest_message_is_given_out_whole_or_not_at_all() {
        let mut frame = alloc::vec![0xff, 0xff, 17, 0, 0, 2];
        frame.resize(MAX_FRAME_BYTES, 0xaa);
        let mut reader = FrameReader::default();

        reader.extend(&frame[..MAX_FRAME_BYTES - 1]);
        assert_eq!(reader.next_message(), None);
        assert!(!reader.is_empty());
        reader.extend(&frame[MAX_FRAME_BYTES - 1..]);
        let message = reader.next_message().unwrap().unwrap();
        assert_eq!((message.xid, message.options.len()), (Xid(2), 65_531));
        assert!(reader.is_empty());
    }

    #[test]
    fn frame_reader_memory_is_bounded_over_a_long_stream() {
        let frame = vector("V7");
        let stream: Vec<u8> = frame
            .iter()
            .copied()
            .cycle()
            .take(frame.len() * 20_000)
            .collect();

        // 16 KiB are 103 frames and a piece of one.
        let (reader, seen) = feed(stream.chunks(16_384));

        assert_eq!(seen.len(), 20_000);
        assert!(
            reader.bytes.capacity() < 4 * 16_384,
            "{}",
            reader.bytes.capacity()
        );
    }

    /// Bytes moved within the buffer, told by where given-out ones were dropped.
    #[test]
    fn frame_reader_fed_faster_than_read_moves_no_byte_twice_for_one_given_out() {
        let (mut reader, frame) = (FrameReader::default(), vector("V7"));
        reader.extend(&frame.repeat(1000));
        let (mut moved, mut given_out) = (0, 0);

        for _ in 0..1000 {
            assert!(matches!(reader.next_message(), Some(Ok(_))));
            given_out += frame.len();
            let before = reader.at;
            reader.extend(&[0]);
            if reader.at < before {
                moved += reader.bytes.len();
            }
        }

        assert!(
            moved <= 2 * given_out,
            "{moved} bytes moved for {given_out}"
        );
    }

    proptest! {
        #[test]
        fn frames_are_the_same_however_the_stream_is_cut(
            mut cuts in proptest::collection::vec(0usize..700, 0..40),
        ) {
            let stream = all_vectors();
            cuts.sort_unstable();
            let (mut pieces, mut at) = (Vec::new(), 0);
            for cut in cuts.into_iter().map(|cut| cut.min(stream.len())) {
                pieces.push(&stream[at..cut]);
                at = cut;
            }
            pieces.push(&stream[at..]);

            prop_assert_eq!(feed(pieces.into_iter()).1, feed(stream.chunks(stream.len())).1);
        }

        #[test]
        fn frame_reader_is_total_on_arbitrary_bytes(bytes in proptest::collection::vec(any::<u8>(), 0..600)) {
            prop_assert_eq!(feed(bytes.chunks(7)).1, feed(bytes.chunks(600)).1);
        }
    }
}
