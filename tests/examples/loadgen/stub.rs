//! The stub server: a RELAY-FORW frame in, the RELAY-REPL frame out, always the same answer for a client.
//! Allocates no leases and keeps no state. RFC 8415 §19.3.

use crate::frames::{self, HEADERS, message, option};

/// Bytes of a relay message before its options.
const RELAY_HEADER: usize = 34;
/// Relays may be cascaded; deeper than this is not for a bench.
const MAX_DEPTH: usize = 4;

/// The prepared answers.
pub struct Stub {
    advertises: Vec<Vec<u8>>,
    replies: Vec<Vec<u8>>,
}

impl Stub {
    /// Answers for so many clients.
    pub fn new(clients: u32) -> Self {
        let all = |kind| {
            (0..clients)
                .map(|client| frames::server_answer(kind, client))
                .collect()
        };
        Self {
            advertises: all(message::SOLICIT),
            replies: all(message::RENEW),
        }
    }

    /// Writes the answer frame to `out` and returns the transaction id of the client's message.
    /// `None`: no RELAY-FORW of a simulated client.
    pub fn answer(&self, frame: &[u8], out: &mut Vec<u8>) -> Option<u32> {
        let forward = frame.get(HEADERS..)?;
        out.clear();
        out.extend(&frame[6..12]);
        out.extend(&frame[..6]);
        out.extend(&frame[12..22]);
        out.extend(&frame[38..54]);
        out.extend(&frame[22..38]);
        out.extend([frame[56], frame[57], frame[54], frame[55], 0, 0, 0, 0]);
        let transaction = self.wrap(forward, out, MAX_DEPTH)?;
        let udp = (out.len() - 54) as u16;
        out[18..20].copy_from_slice(&udp.to_be_bytes());
        out[58..60].copy_from_slice(&udp.to_be_bytes());
        frames::put_checksum(out);
        Some(transaction)
    }

    /// Appends the RELAY-REPL for a RELAY-FORW, or the answer to a client's message.
    fn wrap(&self, body: &[u8], out: &mut Vec<u8>, depth: usize) -> Option<u32> {
        if *body.first()? != message::RELAY_FORW {
            return self.client(body, out);
        }
        out.push(message::RELAY_REPL);
        out.extend(body.get(1..RELAY_HEADER)?);
        if let Some(id) = find(&body[RELAY_HEADER..], option::INTERFACE_ID) {
            frames::put(out, option::INTERFACE_ID, id);
        }
        let relayed = find(&body[RELAY_HEADER..], option::RELAY_MESSAGE)?;
        out.extend(option::RELAY_MESSAGE.to_be_bytes());
        let length = out.len();
        out.extend([0, 0]);
        let transaction = self.wrap(relayed, out, depth.checked_sub(1)?)?;
        let size = (out.len() - length - 2) as u16;
        out[length..length + 2].copy_from_slice(&size.to_be_bytes());
        Some(transaction)
    }

    fn client(&self, body: &[u8], out: &mut Vec<u8>) -> Option<u32> {
        let kind = *body.first()?;
        let transaction = body.get(1..4)?;
        let client = frames::client_of_duid(find(&body[4..], option::CLIENT_ID)?)? as usize;
        let answers = if kind == message::SOLICIT {
            &self.advertises
        } else {
            &self.replies
        };
        let start = out.len();
        out.extend(answers.get(client)?);
        out[start + 1..start + 4].copy_from_slice(transaction);
        Some(u32::from_be_bytes([
            0,
            transaction[0],
            transaction[1],
            transaction[2],
        ]))
    }
}

/// The data of the first option of that code.
pub fn find(mut options: &[u8], code: u16) -> Option<&[u8]> {
    // Bounded by the length of the frame: every turn takes at least four bytes.
    while options.len() >= 4 {
        let length = usize::from(u16::from_be_bytes([options[2], options[3]]));
        let data = options.get(4..4 + length)?;
        if u16::from_be_bytes([options[0], options[1]]) == code {
            return Some(data);
        }
        options = &options[4 + length..];
    }
    None
}
