//! The Internet checksum (RFC 1071) as UDP over IPv6 uses it (RFC 8200 §8.1).
//!
//! Sums are kept in the byte order of the machine: the ones' complement sum does not depend on it,
//! as long as all parts start at an even offset.

use std::net::Ipv6Addr;

/// Next header of UDP.
pub const UDP: u8 = 17;

/// Adds `bytes`, padded with a zero byte to an even length.
pub fn add(mut sum: u64, bytes: &[u8]) -> u64 {
    let mut chunks = bytes.chunks_exact(4);
    for chunk in &mut chunks {
        sum += u64::from(u32::from_ne_bytes([chunk[0], chunk[1], chunk[2], chunk[3]]));
    }
    let mut rest = [0; 4];
    let tail = chunks.remainder();
    rest[..tail.len()].copy_from_slice(tail);
    sum + u64::from(u32::from_ne_bytes(rest))
}

/// Folds a sum to 16 bits, in the byte order of the machine.
pub fn fold(mut sum: u64) -> u16 {
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    u16::try_from(sum).expect("folded until it fits")
}

/// The sum of the pseudo-header (RFC 8200 §8.1) of a UDP datagram of `udp_bytes`.
pub fn pseudo_header(source: Ipv6Addr, destination: Ipv6Addr, udp_bytes: u32) -> u64 {
    let sum = add(add(0, &source.octets()), &destination.octets());
    add(add(sum, &udp_bytes.to_be_bytes()), &[0, 0, 0, UDP])
}

/// Why a datagram's checksum is taken as right, or that it is not.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Verdict {
    /// It is right.
    Good,
    /// The sender left it to its network card, and there was none on the way.
    Partial,
    /// It is wrong, or absent.
    Bad,
}

/// Verifies the checksum of `udp`, a whole UDP datagram with its header.
// req: RLY-34
pub fn verify(source: Ipv6Addr, destination: Ipv6Addr, udp: &[u8]) -> Verdict {
    let Some(&[high, low]) = udp.get(6..8) else {
        return Verdict::Bad;
    };
    let field = u16::from_ne_bytes([high, low]);
    if field == 0 {
        return Verdict::Bad;
    }
    let udp_bytes = u32::try_from(udp.len()).unwrap_or(u32::MAX);
    let pseudo = pseudo_header(source, destination, udp_bytes);
    if fold(add(pseudo, udp)) == 0xffff {
        return Verdict::Good;
    }
    // A kernel that sends through a virtual link leaves the checksum to hardware that is not
    // there: the field then holds the bare pseudo-header sum, and the bytes never left memory. On
    // a wire such a frame is as rare as any other wrong checksum that happens to fit.
    if fold(pseudo) == field {
        return Verdict::Partial;
    }
    Verdict::Bad
}

/// The checksum field of a UDP datagram: `header` with a zero checksum field, then `payload`.
/// A result of zero is sent as ffff.
// req: RLY-34
pub fn udp(source: Ipv6Addr, destination: Ipv6Addr, header: &[u8; 8], payload: &[u8]) -> [u8; 2] {
    let udp_bytes = u32::try_from(header.len() + payload.len()).unwrap_or(u32::MAX);
    let pseudo = pseudo_header(source, destination, udp_bytes);
    let sum = !fold(add(add(pseudo, header), payload));
    if sum == 0 { 0xffff } else { sum }.to_ne_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;

    const A: Ipv6Addr = Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 1);
    const B: Ipv6Addr = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 1, 2);

    fn datagram(payload: &[u8]) -> Vec<u8> {
        let len = u16::try_from(8 + payload.len()).unwrap();
        let mut header = [0; 8];
        header[0..2].copy_from_slice(&546u16.to_be_bytes());
        header[2..4].copy_from_slice(&547u16.to_be_bytes());
        header[4..6].copy_from_slice(&len.to_be_bytes());
        let sum = udp(A, B, &header, payload);
        header[6..8].copy_from_slice(&sum);
        [&header[..], payload].concat()
    }

    /// req: RLY-34 (RFC 8200 §8.1)
    #[test]
    fn rly_34_checksum_of_every_length_verifies_and_any_flipped_bit_does_not() {
        for len in 0..70 {
            let payload: Vec<u8> = (1..=len).collect();
            let mut bytes = datagram(&payload);

            assert_eq!(verify(A, B, &bytes), Verdict::Good, "{len} bytes");
            let last = bytes.len() - 1;
            bytes[last] ^= 0x10;
            assert_eq!(verify(A, B, &bytes), Verdict::Bad, "{len} bytes");
        }
    }

    /// req: RLY-34 (RFC 8200 §8.1)
    #[test]
    fn rly_34_absent_checksum_is_bad() {
        let mut bytes = datagram(b"solicit");
        bytes[6..8].fill(0);

        assert_eq!(verify(A, B, &bytes), Verdict::Bad);
    }

    #[test]
    fn pseudo_header_sum_alone_is_partial() {
        let mut bytes = datagram(b"solicit");
        let bare = fold(pseudo_header(A, B, 15));
        bytes[6..8].copy_from_slice(&bare.to_ne_bytes());

        assert_eq!(verify(A, B, &bytes), Verdict::Partial);
    }

    /// req: RLY-34 (RFC 8200 §8.1)
    #[test]
    fn rly_34_sum_of_zero_is_sent_as_ffff() {
        // The last two bytes bring the whole sum to ffff, whose complement is 0.
        let mut payload = [0u8; 4];
        let header = [0; 8];
        let rest = !fold(add(add(pseudo_header(A, B, 12), &header), &payload));
        payload[2..4].copy_from_slice(&rest.to_ne_bytes());

        assert_eq!(udp(A, B, &header, &payload), [0xff, 0xff]);
    }
}
