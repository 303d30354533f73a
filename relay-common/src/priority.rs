//! Who gives way under load: which messages keep the reserved share of a token bucket and of the
//! ring, and whose bucket they take from.
//!
//! A client that renews, rebinds, requests or releases has something to lose; one that solicits or
//! asks for information tries again. A RELAY-FORW counts as the message inside it and for the
//! client inside it (RFC 8415 §9), found by a bounded descent. Must not judge whether a message is
//! sound: that is the relay's.

use crate::abi::{CLIENT_BY_MAC, CLIENT_BY_PEER_ADDRESS, ClientKey};
use crate::classify::Datagram;
use crate::frame::Frame;

/// RELAY-FORW inside RELAY-FORW that the descent follows: HOP_COUNT_LIMIT (RFC 8415 §7.6) and one.
pub const NESTING_MAX: usize = 9;
/// Options looked at in one RELAY-FORW before its Relay Message.
pub const OPTIONS_MAX: usize = 12;

const REQUEST: u8 = 3;
const CONFIRM: u8 = 4;
const RENEW: u8 = 5;
const REBIND: u8 = 6;
const RELEASE: u8 = 8;
const DECLINE: u8 = 9;
const RELAY_FORW: u8 = 12;
const OPTION_RELAY_MSG: u16 = 9;
/// Type, hop-count, link-address, peer-address.
const RELAY_HEADER_BYTES: usize = 34;
const PEER_ADDRESS_AT: usize = 18;

/// Whether a message may use what is reserved.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Priority {
    /// SOLICIT, INFORMATION-REQUEST, and whatever cannot be read or is not known.
    GivesWay,
    /// REQUEST, CONFIRM, RENEW, REBIND, RELEASE, DECLINE.
    Reserved,
}

impl Priority {
    /// Of a message that is not a RELAY-FORW.
    #[inline(always)]
    pub const fn of(message_type: u8) -> Self {
        match message_type {
            REQUEST | CONFIRM | RENEW | REBIND | RELEASE | DECLINE => Self::Reserved,
            _ => Self::GivesWay,
        }
    }
}

/// What the innermost readable message says.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Innermost {
    /// What it may use.
    pub priority: Priority,
    /// peer-address of the innermost RELAY-FORW: the client, where a relay speaks for it.
    pub peer_address: Option<[u8; 16]>,
}

/// Looks at the message, and through RELAY-FORW at the message inside.
#[inline(always)]
pub fn innermost<F: Frame + ?Sized>(frame: &F, datagram: &Datagram) -> Innermost {
    if datagram.message_type == RELAY_FORW {
        descend(frame, datagram.message_offset())
    } else {
        Innermost {
            priority: Priority::of(datagram.message_type),
            peer_address: None,
        }
    }
}

/// The same of a message that no frame was seen of.
pub fn innermost_of(message: &[u8]) -> Innermost {
    match message.first() {
        Some(&RELAY_FORW) => descend(message, 0),
        message_type => Innermost {
            priority: Priority::of(message_type.copied().unwrap_or(0)),
            peer_address: None,
        },
    }
}

/// Whose bucket a frame's message takes from.
#[inline(always)]
pub fn client_key(datagram: &Datagram, ifindex: u32, inside: &Innermost) -> ClientKey {
    let (kind, client) = match inside.peer_address {
        Some(address) => (CLIENT_BY_PEER_ADDRESS, address),
        None => {
            let [a, b, c, d, e, f] = datagram.source_mac;
            (
                CLIENT_BY_MAC,
                [a, b, c, d, e, f, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0],
            )
        }
    };
    ClientKey {
        ifindex,
        outer_vid: datagram.outer_tci & 0x0fff,
        inner_vid: datagram.inner_tci & 0x0fff,
        kind,
        client,
    }
}

#[inline(always)]
fn descend<F: Frame + ?Sized>(frame: &F, message_at: usize) -> Innermost {
    let mut found = Innermost {
        priority: Priority::GivesWay,
        peer_address: None,
    };
    let mut at = message_at;
    let mut level = 0;
    while level < NESTING_MAX {
        match frame.load(at) {
            None => return found,
            Some([RELAY_FORW]) => {}
            Some([message_type]) => {
                found.priority = Priority::of(message_type);
                return found;
            }
        }
        match frame.load(at + PEER_ADDRESS_AT) {
            None => return found,
            peer_address => found.peer_address = peer_address,
        }
        at += RELAY_HEADER_BYTES;
        match relay_message_at(frame, at) {
            None => return found,
            Some(inside) => at = inside,
        }
        level += 1;
    }
    found
}

/// Where the content of the first Relay Message option starts.
#[inline(always)]
fn relay_message_at<F: Frame + ?Sized>(frame: &F, options_at: usize) -> Option<usize> {
    let mut at = options_at;
    let mut option = 0;
    while option < OPTIONS_MAX {
        let [code_high, code_low, len_high, len_low] = frame.load(at)?;
        at += 4;
        if u16::from_be_bytes([code_high, code_low]) == OPTION_RELAY_MSG {
            return Some(at);
        }
        at += u16::from_be_bytes([len_high, len_low]) as usize;
        option += 1;
    }
    None
}

#[cfg(test)]
mod tests {
    extern crate std;
    use super::*;
    use std::vec;
    use std::vec::Vec;

    fn relay_forw(peer: u8, options_before: usize, inside: &[u8]) -> Vec<u8> {
        let mut bytes = vec![RELAY_FORW, 0];
        bytes.extend([0; 16]);
        bytes.extend([peer; 16]);
        for _ in 0..options_before {
            bytes.extend([0, 18, 0, 1, 0]);
        }
        bytes.extend(OPTION_RELAY_MSG.to_be_bytes());
        bytes.extend((inside.len() as u16).to_be_bytes());
        bytes.extend(inside);
        bytes
    }

    fn nested(levels: usize, inside: &[u8]) -> Vec<u8> {
        (0..levels).fold(inside.to_vec(), |bytes, level| {
            relay_forw(level as u8 + 1, 0, &bytes)
        })
    }

    fn seen(message: &[u8]) -> (Priority, Option<u8>) {
        let found = innermost_of(message);
        (found.priority, found.peer_address.map(|peer| peer[0]))
    }

    #[test]
    fn messages_of_clients_with_leases_are_reserved_others_give_way() {
        let reserved: Vec<u8> = (0..=255)
            .filter(|&message_type| Priority::of(message_type) == Priority::Reserved)
            .collect();

        assert_eq!(reserved, [3, 4, 5, 6, 8, 9]);
    }

    #[test]
    fn relay_forw_counts_as_its_innermost_message_and_client() {
        assert_eq!(seen(&nested(1, &[RENEW])), (Priority::Reserved, Some(1)));
        assert_eq!(seen(&nested(3, &[1])), (Priority::GivesWay, Some(1)));
        assert_eq!(
            seen(&nested(NESTING_MAX - 1, &[RENEW])),
            (Priority::Reserved, Some(1))
        );
    }

    #[test]
    fn message_alone_counts_by_its_type_and_an_empty_one_gives_way() {
        assert_eq!(seen(&[RENEW]), (Priority::Reserved, None));
        assert_eq!(seen(&[]), (Priority::GivesWay, None));
    }

    #[test]
    fn nesting_and_options_beyond_the_bounds_give_way() {
        assert_eq!(seen(&nested(NESTING_MAX, &[RENEW])).0, Priority::GivesWay);
        assert_eq!(
            seen(&relay_forw(1, OPTIONS_MAX - 1, &[RENEW])).0,
            Priority::Reserved
        );
        assert_eq!(
            seen(&relay_forw(1, OPTIONS_MAX, &[RENEW])).0,
            Priority::GivesWay
        );
    }

    #[test]
    fn relay_forw_that_ends_early_gives_way() {
        let whole = relay_forw(1, 2, &[RENEW]);
        for end in 0..whole.len() {
            assert_eq!(seen(&whole[..end]).0, Priority::GivesWay, "{end}");
        }
    }
}
