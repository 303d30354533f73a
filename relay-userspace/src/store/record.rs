//! One binding as the bytes of one record. Decides the layout and what a readable record is;
//! must not know where records lie or which of two is newer.
//!
//! ```text
//!  0 layout (1) | flags | state | origin          4 IA type | prefix length | tags | 0
//!  8 epoch (4)  | IAID (4)                       16 prefix (16) | client (16) | link-address (16) | server (16)
//! 80 T1 (4) | T2 (4) | cltt (8) | preferred until (8) | valid until (8)
//! 112 MAC (6) | tags: TPID and VID (4 each, 0 to 2) | then with a length byte before each:
//!     interface, DUID, server's DUID, name of the origin | what later versions add
//! ```
//!
//! Numbers are big-endian. Bytes after the known fields are skipped, so that a later version can
//! add fields without a new layout; another layout byte is a record that this version cannot read.

use std::net::Ipv6Addr;

use relay_common::net::{MacAddr, VlanTag, VlanTags};
use relay_core::time::Instant;
use relay_core::types::{IaType, Iaid, Prefix};

const LAYOUT: u8 = 1;
const FIRST_HOP: u8 = 1;
const HAS_MAC: u8 = 2;
/// RFC 8415 §11.1: a 2-byte type and at most 128 bytes.
const DUID_MAX: usize = 130;
const FIXED: usize = 118;

/// One lease, as it is kept. Times are those of the boot in which it was written.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct StoredBinding<'a> {
    /// Name of the access interface.
    pub interface: &'a str,
    /// Tags of the client's frames.
    pub vlans: VlanTags,
    /// The client's DUID, at most 130 bytes.
    pub duid: &'a [u8],
    /// Address or prefix lease.
    pub ia_type: IaType,
    /// Identity association.
    pub iaid: Iaid,
    /// The lease; an address is a /128.
    pub prefix: Prefix,
    /// The client's link-local address.
    pub client_address: Ipv6Addr,
    /// The client's MAC, where it is known.
    pub mac: Option<MacAddr>,
    /// The client is on our link, not behind another relay.
    pub is_first_hop: bool,
    /// As sent to the servers.
    pub link_address: Ipv6Addr,
    /// DUID of the server that gave it, at most 130 bytes.
    pub server_duid: &'a [u8],
    /// Address of the server that gave it.
    pub server_address: Ipv6Addr,
    /// T1 in seconds.
    pub t1_secs: u32,
    /// T2 in seconds.
    pub t2_secs: u32,
    /// Client's last transaction time.
    pub cltt: Instant,
    /// End of the preferred lifetime.
    pub preferred_until: Instant,
    /// End of the valid lifetime; [`Instant::NEVER`] where it is infinite.
    pub valid_until: Instant,
    /// Active, or how it ended.
    pub state: StoredState,
    /// How we learned of it.
    pub origin: StoredOrigin<'a>,
}

/// What has become of a binding.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum StoredState {
    /// The client may use it.
    Active,
    /// Its valid lifetime ran out; kept for those who ask later (ALQ-D-26).
    Expired,
    /// The client gave it up.
    Released,
    /// The client found it in use.
    Declined,
}

/// Whom we have it from.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum StoredOrigin<'a> {
    /// Read from a Reply that we relayed.
    Snooped,
    /// As `show` prints it: `active-leasequery:r2`. At most 255 bytes.
    Named(&'a str),
}

/// Why bytes are no record.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum RecordError {
    /// It ends before its last field.
    #[error("the record ends early")]
    Truncated,
    /// Of a version that we do not know.
    #[error("record layout {0} is not known to this version")]
    Layout(u8),
    /// A field has an impossible value.
    #[error("impossible {0}")]
    Field(&'static str),
}

impl<'a> StoredBinding<'a> {
    /// Appends the record to `to`. Names and DUIDs that are too long are cut: no input can make
    /// a record that is not read back.
    pub fn encode(&self, epoch: u32, to: &mut Vec<u8>) {
        let tags = self.vlans.len() as u8;
        let flags = if self.is_first_hop { FIRST_HOP } else { 0 }
            | if self.mac.is_some() { HAS_MAC } else { 0 };
        let (origin, origin_name) = match self.origin {
            StoredOrigin::Snooped => (0, ""),
            StoredOrigin::Named(name) => (1, name),
        };
        to.extend([LAYOUT, flags, state_byte(self.state), origin]);
        to.extend([ia_type_byte(self.ia_type), self.prefix.bits(), tags, 0]);
        to.extend(epoch.to_be_bytes());
        to.extend(self.iaid.0.to_be_bytes());
        for address in [
            self.prefix.address(),
            self.client_address,
            self.link_address,
            self.server_address,
        ] {
            to.extend(address.octets());
        }
        to.extend(self.t1_secs.to_be_bytes());
        to.extend(self.t2_secs.to_be_bytes());
        for time in [self.cltt, self.preferred_until, self.valid_until] {
            to.extend(time.as_nanos().to_be_bytes());
        }
        to.extend(self.mac.unwrap_or_default().0);
        for tag in self.vlans.iter() {
            to.extend(tag.tpid.to_be_bytes());
            to.extend(tag.vid.to_be_bytes());
        }
        push(to, cut(self.interface).as_bytes());
        push(to, &self.duid[..self.duid.len().min(DUID_MAX)]);
        push(
            to,
            &self.server_duid[..self.server_duid.len().min(DUID_MAX)],
        );
        push(to, cut(origin_name).as_bytes());
    }

    /// Reads a record; also the epoch of its times.
    ///
    /// # Errors
    /// These bytes are none. No bytes make it panic.
    pub fn decode(bytes: &'a [u8]) -> Result<(u32, Self), RecordError> {
        let layout = *bytes.first().ok_or(RecordError::Truncated)?;
        if layout != LAYOUT {
            return Err(RecordError::Layout(layout));
        }
        let (fixed, mut rest) = bytes
            .split_first_chunk::<FIXED>()
            .ok_or(RecordError::Truncated)?;
        let bits = fixed[5];
        let address = Ipv6Addr::from_bits(u128::from_be_bytes(at(fixed, 16)));
        let prefix = Prefix::new(address, bits)
            .filter(|prefix| prefix.address() == address)
            .ok_or(RecordError::Field("prefix"))?;
        let vlans = match fixed[6] {
            0 => VlanTags::NONE,
            1 => VlanTags::single(tag(&mut rest)?),
            2 => VlanTags::double(tag(&mut rest)?, tag(&mut rest)?),
            _ => return Err(RecordError::Field("number of tags")),
        };
        let interface = text(take(&mut rest)?)?;
        let duid = duid(take(&mut rest)?)?;
        let server_duid = self::duid(take(&mut rest)?)?;
        let origin_name = text(take(&mut rest)?)?;
        let binding = Self {
            interface,
            vlans,
            duid,
            ia_type: ia_type(fixed[4])?,
            iaid: Iaid(u32::from_be_bytes(at(fixed, 12))),
            prefix,
            client_address: Ipv6Addr::from(at::<16>(fixed, 32)),
            mac: (fixed[1] & HAS_MAC != 0).then(|| MacAddr(at(fixed, 112))),
            is_first_hop: fixed[1] & FIRST_HOP != 0,
            link_address: Ipv6Addr::from(at::<16>(fixed, 48)),
            server_duid,
            server_address: Ipv6Addr::from(at::<16>(fixed, 64)),
            t1_secs: u32::from_be_bytes(at(fixed, 80)),
            t2_secs: u32::from_be_bytes(at(fixed, 84)),
            cltt: time(fixed, 88),
            preferred_until: time(fixed, 96),
            valid_until: time(fixed, 104),
            state: state(fixed[2])?,
            origin: match fixed[3] {
                0 => StoredOrigin::Snooped,
                1 => StoredOrigin::Named(origin_name),
                _ => return Err(RecordError::Field("origin")),
            },
        };
        Ok((u32::from_be_bytes(at(fixed, 8)), binding))
    }
}

fn push(to: &mut Vec<u8>, bytes: &[u8]) {
    to.push(bytes.len() as u8);
    to.extend(bytes);
}

/// At most what a length byte can say.
fn cut(text: &str) -> &str {
    &text[..text.floor_char_boundary(255)]
}

fn take<'a>(rest: &mut &'a [u8]) -> Result<&'a [u8], RecordError> {
    let (&len, after) = rest.split_first().ok_or(RecordError::Truncated)?;
    let (field, after) = after
        .split_at_checked(usize::from(len))
        .ok_or(RecordError::Truncated)?;
    *rest = after;
    Ok(field)
}

fn tag(rest: &mut &[u8]) -> Result<VlanTag, RecordError> {
    let (&[a, b, c, d], after) = rest
        .split_first_chunk::<4>()
        .ok_or(RecordError::Truncated)?;
    *rest = after;
    let tag = VlanTag {
        tpid: u16::from_be_bytes([a, b]),
        vid: u16::from_be_bytes([c, d]),
    };
    if tag.tpid == 0 || tag.vid > 4095 {
        return Err(RecordError::Field("VLAN tag"));
    }
    Ok(tag)
}

fn text(bytes: &[u8]) -> Result<&str, RecordError> {
    str::from_utf8(bytes).map_err(|_| RecordError::Field("name"))
}

const fn duid(bytes: &[u8]) -> Result<&[u8], RecordError> {
    if bytes.len() > DUID_MAX {
        return Err(RecordError::Field("DUID"));
    }
    Ok(bytes)
}

fn at<const N: usize>(fixed: &[u8; FIXED], from: usize) -> [u8; N] {
    fixed[from..from + N]
        .try_into()
        .expect("the fixed part holds its fields")
}

fn time(fixed: &[u8; FIXED], from: usize) -> Instant {
    Instant::from_nanos(u64::from_be_bytes(at(fixed, from)))
}

/// The option codes (RFC 8415 §21).
const fn ia_type_byte(ia_type: IaType) -> u8 {
    match ia_type {
        IaType::Na => 3,
        IaType::Ta => 4,
        IaType::Pd => 25,
    }
}

const fn ia_type(byte: u8) -> Result<IaType, RecordError> {
    match byte {
        3 => Ok(IaType::Na),
        4 => Ok(IaType::Ta),
        25 => Ok(IaType::Pd),
        _ => Err(RecordError::Field("IA type")),
    }
}

const fn state_byte(state: StoredState) -> u8 {
    match state {
        StoredState::Active => 0,
        StoredState::Expired => 1,
        StoredState::Released => 2,
        StoredState::Declined => 3,
    }
}

const fn state(byte: u8) -> Result<StoredState, RecordError> {
    match byte {
        0 => Ok(StoredState::Active),
        1 => Ok(StoredState::Expired),
        2 => Ok(StoredState::Released),
        3 => Ok(StoredState::Declined),
        _ => Err(RecordError::Field("state")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn binding<'a>(
        seed: u64,
        text: &'a str,
        bytes: &'a [u8],
        tags: &[(u16, u16)],
    ) -> StoredBinding<'a> {
        let tag = |(tpid, vid): (u16, u16)| VlanTag {
            tpid: tpid.max(1),
            vid: vid & 4095,
        };
        StoredBinding {
            interface: text,
            vlans: match *tags {
                [] => VlanTags::NONE,
                [outer] => VlanTags::single(tag(outer)),
                [outer, inner, ..] => VlanTags::double(tag(outer), tag(inner)),
            },
            duid: bytes,
            ia_type: [IaType::Na, IaType::Ta, IaType::Pd][seed as usize % 3],
            iaid: Iaid(seed as u32),
            prefix: Prefix::new(Ipv6Addr::from_bits(u128::from(seed) << 60), 56).unwrap(),
            client_address: Ipv6Addr::from_bits(u128::from(seed)),
            mac: (seed & 1 == 0).then_some(MacAddr([2, 0, 0, 0, 0, seed as u8])),
            is_first_hop: seed & 2 == 0,
            link_address: Ipv6Addr::from_bits(!u128::from(seed)),
            server_duid: bytes,
            server_address: Ipv6Addr::LOCALHOST,
            t1_secs: 1,
            t2_secs: seed as u32,
            cltt: Instant::from_nanos(seed),
            preferred_until: Instant::from_nanos(seed.wrapping_add(1)),
            valid_until: Instant::NEVER,
            state: [
                StoredState::Active,
                StoredState::Expired,
                StoredState::Released,
                StoredState::Declined,
            ][seed as usize % 4],
            origin: if seed & 4 == 0 {
                StoredOrigin::Snooped
            } else {
                StoredOrigin::Named(text)
            },
        }
    }

    proptest! {
        #[test]
        fn record_reads_back_as_it_was_written(
            seed: u64, epoch: u32, text in "[a-zä.0-9]{0,60}",
            bytes in prop::collection::vec(any::<u8>(), 0..=130),
            tags in prop::collection::vec(any::<(u16, u16)>(), 0..=2),
            later in prop::collection::vec(any::<u8>(), 0..20),
        ) {
            let written = binding(seed, &text, &bytes, &tags);
            let mut record = Vec::new();
            written.encode(epoch, &mut record);
            record.extend(later);

            prop_assert_eq!(StoredBinding::decode(&record), Ok((epoch, written)));
        }

        #[test]
        fn any_bytes_are_read_or_refused(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
            let _ = StoredBinding::decode(&bytes);
        }

        #[test]
        fn changed_or_cut_record_is_read_or_refused(
            seed: u64, at: prop::sample::Index, bit in 0_u8..8, end: prop::sample::Index,
        ) {
            let mut record = Vec::new();
            binding(seed, "acc0", &[1; 14], &[(0x8100, 5)]).encode(1, &mut record);
            let length = record.len();

            prop_assert!(StoredBinding::decode(&record[..end.index(length)]).is_err());
            record[at.index(length)] ^= 1 << bit;
            let _ = StoredBinding::decode(&record);
        }
    }

    #[test]
    fn typical_record_has_under_200_bytes() {
        let mut record = Vec::new();
        binding(3, "enp5s0f0", &[7; 14], &[(0x8100, 7)]).encode(1, &mut record);

        assert!(record.len() <= 180, "{}", record.len());
    }

    #[test]
    fn too_long_names_are_cut_and_still_read() {
        let name = "ä".repeat(200);
        let mut record = Vec::new();
        binding(4, &name, &[9; 200], &[]).encode(1, &mut record);

        let (_, read) = StoredBinding::decode(&record).unwrap();

        assert_eq!((read.interface.len(), read.duid.len()), (254, 130));
    }
}
