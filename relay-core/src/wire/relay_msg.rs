//! Relay messages (RFC 8415 §9): a checked view, the descent to the innermost message, and the
//! writer that wraps a message once. Nothing here decides whether a message may pass.
//!
//! ```text
//! 0          1           2              18             34
//! | msg-type | hop-count | link-address | peer-address | options …
//! ```

use alloc::vec::Vec;
use core::net::Ipv6Addr;

use crate::error::DecodeError;
use crate::wire::iana;
use crate::wire::message::Message;
use crate::wire::options::Options;

/// Bytes before the options.
pub const HEADER_BYTES: usize = 34;
/// What fits into one UDP datagram over IPv6 without jumbo payloads.
pub const MAX_MESSAGE_BYTES: usize = 65_527;
/// Layers of relay messages that are descended. A RELAY-FORW that may pass has at most
/// HOP_COUNT_LIMIT of them, its answer one more.
pub const MAX_LAYERS: usize = iana::HOP_COUNT_LIMIT as usize + 1;

/// One layer of a RELAY-FORW or RELAY-REPL.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct RelayMessage<'a> {
    /// RELAY-FORW or RELAY-REPL.
    pub message_type: u8,
    /// hop-count.
    pub hop_count: u8,
    /// link-address.
    pub link_address: Ipv6Addr,
    /// peer-address.
    pub peer_address: Ipv6Addr,
    /// Everything behind the fixed part.
    pub options: &'a [u8],
}

impl<'a> RelayMessage<'a> {
    /// Reads the fixed part; the caller has looked at the message type.
    ///
    /// # Errors
    /// The message is shorter than its fixed part.
    pub fn new(bytes: &'a [u8]) -> Result<Self, DecodeError> {
        let truncated = DecodeError::Truncated {
            at: 0,
            need: HEADER_BYTES,
        };
        let ([message_type, hop_count], rest) = bytes.split_first_chunk().ok_or(truncated)?;
        let (link_address, rest) = rest.split_first_chunk::<16>().ok_or(truncated)?;
        let (peer_address, options) = rest.split_first_chunk::<16>().ok_or(truncated)?;
        Ok(Self {
            message_type: *message_type,
            hop_count: *hop_count,
            link_address: Ipv6Addr::from(*link_address),
            peer_address: Ipv6Addr::from(*peer_address),
            options,
        })
    }

    /// Whether these bytes claim to be a relay message.
    pub fn is_relay(bytes: &[u8]) -> bool {
        matches!(bytes.first(), Some(&(iana::RELAY_FORW | iana::RELAY_REPL)))
    }

    /// Walks all options of this layer once.
    ///
    /// # Errors
    /// The first unsound option, or none of them is a Relay Message.
    pub fn read_options(&self) -> Result<RelayOptions<'a>, DecodeError> {
        let mut found = None;
        let mut options = RelayOptions {
            relay_message: &[],
            interface_id: None,
            relay_port: None,
            has_rsoo: false,
        };
        for option in Options::new(self.options) {
            let option = option?;
            match option.code {
                iana::OPTION_RELAY_MSG if found.is_none() => found = Some(option.data),
                iana::OPTION_INTERFACE_ID if options.interface_id.is_none() => {
                    options.interface_id = Some(option.data);
                }
                iana::OPTION_RELAY_PORT => {
                    let port = option.data.first_chunk().copied().map(u16::from_be_bytes);
                    options.relay_port = options.relay_port.or(port);
                }
                iana::OPTION_RSOO => options.has_rsoo = true,
                _ => {}
            }
        }
        // Relay Message holds a whole message, of four bytes at least (RFC 8415 §21.10).
        let found = found.filter(|inner| inner.len() >= crate::wire::message::HEADER_BYTES);
        options.relay_message = found.ok_or(DecodeError::NoRelayMessage)?;
        Ok(options)
    }
}

/// The options of one layer that a relay acts on. The first of each code counts.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct RelayOptions<'a> {
    /// Relay Message (9).
    pub relay_message: &'a [u8],
    /// Interface-Id (18).
    pub interface_id: Option<&'a [u8]>,
    /// Relay Source Port (135).
    pub relay_port: Option<u16>,
    /// Relay-Supplied Options (66) are there.
    pub has_rsoo: bool,
}

/// What lies under all relay layers of a message.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Innermost<'a> {
    /// The client/server message (SNP-5).
    pub message: Message<'a>,
    /// peer-address of the layer around it: the client.
    pub client_address: Ipv6Addr,
    /// One of the layers passed has a link-address: a relay that is no LDRA.
    pub cascaded: bool,
    /// One of the layers passed holds an RSOO.
    pub has_rsoo: bool,
}

impl<'a> Innermost<'a> {
    /// Descends from `bytes`, which came from `peer_address` or were wrapped for it.
    ///
    /// # Errors
    /// A layer that is unsound, or more than [`MAX_LAYERS`].
    pub fn descend(
        mut bytes: &'a [u8],
        peer_address: Ipv6Addr,
    ) -> Result<Self, (DecodeError, bool)> {
        let mut client_address = peer_address;
        let (mut cascaded, mut has_rsoo) = (false, false);
        for _ in 0..=MAX_LAYERS {
            if !RelayMessage::is_relay(bytes) {
                let message = Message::new(bytes).map_err(|error| (error, has_rsoo))?;
                return Ok(Self {
                    message,
                    client_address,
                    cascaded,
                    has_rsoo,
                });
            }
            let layer = RelayMessage::new(bytes).map_err(|error| (error, has_rsoo))?;
            let options = match layer.read_options() {
                Ok(options) => options,
                Err(error) => return Err((error, has_rsoo || holds_rsoo(layer.options))),
            };
            cascaded |= !layer.link_address.is_unspecified();
            has_rsoo |= options.has_rsoo;
            client_address = layer.peer_address;
            bytes = options.relay_message;
        }
        Err((DecodeError::TooDeep, has_rsoo))
    }
}

/// Whether the sound beginning of `options` holds an RSOO.
fn holds_rsoo(options: &[u8]) -> bool {
    matches!(Options::new(options).find(iana::OPTION_RSOO), Ok(Some(_)))
}

/// Writes one RELAY-FORW at the end of a buffer: fixed part, options, and last the message inside.
#[derive(Debug)]
pub struct RelayWriter<'b> {
    buffer: &'b mut Vec<u8>,
    start: usize,
    fits: bool,
}

impl<'b> RelayWriter<'b> {
    /// Begins a RELAY-FORW.
    pub fn relay_forw(
        buffer: &'b mut Vec<u8>,
        hop_count: u8,
        link_address: Ipv6Addr,
        peer_address: Ipv6Addr,
    ) -> Self {
        let start = buffer.len();
        let mut header = [0; HEADER_BYTES];
        let (head, addresses) = header.split_at_mut(2);
        head.copy_from_slice(&[iana::RELAY_FORW, hop_count]);
        let (link, peer) = addresses.split_at_mut(16);
        link.copy_from_slice(&link_address.octets());
        peer.copy_from_slice(&peer_address.octets());
        buffer.extend_from_slice(&header);
        Self {
            buffer,
            start,
            fits: true,
        }
    }

    /// Adds options that are encoded already.
    pub fn encoded(&mut self, options: &[u8]) {
        self.buffer.extend_from_slice(options);
    }

    /// Adds one option.
    pub fn option(&mut self, code: u16, data: &[u8]) {
        self.fits &= write_option(self.buffer, code, data);
    }

    /// Adds one option whose data `write` appends.
    pub fn option_with(&mut self, code: u16, write: impl FnOnce(&mut Vec<u8>)) {
        self.buffer.extend_from_slice(&code.to_be_bytes());
        let len_at = self.buffer.len();
        self.buffer.extend_from_slice(&[0, 0]);
        write(self.buffer);
        let len = self.buffer.len() - len_at - 2;
        match (u16::try_from(len), self.buffer.get_mut(len_at..len_at + 2)) {
            (Ok(len), Some(place)) => place.copy_from_slice(&len.to_be_bytes()),
            _ => self.fits = false,
        }
    }

    /// Adds the message inside and ends: the range written, or nothing where the whole exceeds
    /// [`MAX_MESSAGE_BYTES`].
    pub fn finish(mut self, inner: &[u8]) -> Option<core::ops::Range<usize>> {
        self.option(iana::OPTION_RELAY_MSG, inner);
        let end = self.buffer.len();
        if self.fits && end - self.start <= MAX_MESSAGE_BYTES {
            Some(self.start..end)
        } else {
            self.buffer.truncate(self.start);
            None
        }
    }
}

/// Appends one option; `false`, and nothing appended, where its data is too long for one.
pub fn write_option(buffer: &mut Vec<u8>, code: u16, data: &[u8]) -> bool {
    let Ok(len) = u16::try_from(data.len()) else {
        return false;
    };
    let [a, b] = code.to_be_bytes();
    let [c, d] = len.to_be_bytes();
    buffer.extend_from_slice(&[a, b, c, d]);
    buffer.extend_from_slice(data);
    true
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::vec;
    use proptest::prelude::*;

    fn layer(link: Ipv6Addr, peer: Ipv6Addr, inner: &[u8]) -> Vec<u8> {
        let mut out = Vec::new();
        RelayWriter::relay_forw(&mut out, 0, link, peer)
            .finish(inner)
            .unwrap();
        out
    }

    #[test]
    fn descent_through_ldra_layers_finds_client_and_is_not_cascaded() {
        let client: Ipv6Addr = "fe80::c3".parse().unwrap();
        let message = layer(Ipv6Addr::UNSPECIFIED, client, &[1, 0xab, 0xcd, 0xef]);

        let innermost = Innermost::descend(&message, "fe80::1".parse().unwrap()).unwrap();

        assert_eq!(innermost.client_address, client);
        assert_eq!(innermost.message.xid.0, 0xab_cdef);
        assert!(!innermost.cascaded);
    }

    #[test]
    fn descent_deeper_than_the_bound_ends_with_too_deep() {
        let mut message = vec![1, 0, 0, 0];
        for _ in 0..=MAX_LAYERS {
            message = layer(Ipv6Addr::UNSPECIFIED, Ipv6Addr::UNSPECIFIED, &message);
        }

        let result = Innermost::descend(&message, Ipv6Addr::UNSPECIFIED);

        assert_eq!(result, Err((DecodeError::TooDeep, false)));
    }

    #[test]
    fn writer_refuses_what_no_datagram_holds_and_leaves_the_buffer() {
        let mut out = vec![7];
        let any = Ipv6Addr::UNSPECIFIED;

        assert!(
            RelayWriter::relay_forw(&mut out, 0, any, any)
                .finish(&vec![0; MAX_MESSAGE_BYTES - HEADER_BYTES - 3])
                .is_none()
        );
        assert_eq!(out, [7]);
        assert!(
            RelayWriter::relay_forw(&mut out, 0, any, any)
                .finish(&vec![0; MAX_MESSAGE_BYTES - HEADER_BYTES - 4])
                .is_some()
        );
    }

    proptest! {
        #[test]
        fn descent_is_total_on_arbitrary_bytes(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
            let _ = Innermost::descend(&bytes, Ipv6Addr::UNSPECIFIED);
        }

        #[test]
        fn descent_is_total_on_damaged_layers(
            mut inner in proptest::collection::vec(any::<u8>(), 0..60),
            at in 0usize..200, value: u8,
        ) {
            for _ in 0..3 {
                inner = layer(Ipv6Addr::UNSPECIFIED, Ipv6Addr::LOCALHOST, &inner);
            }
            if let Some(byte) = inner.get_mut(at) {
                *byte = value;
            }
            let _ = Innermost::descend(&inner, Ipv6Addr::UNSPECIFIED);
        }
    }
}
