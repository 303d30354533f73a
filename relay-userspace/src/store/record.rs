//! One binding as the bytes of one record. Decides the layout and what a readable record is;
//! must not know where records lie or which of two is newer.
//!
//! ```text
//!  0 layout (1) | flags | state | 0               4 IA type | prefix length | tags | 0
//!  8 epoch (4)  | IAID (4)                       16 prefix (16) | client (16) | link-address (16) | server (16)
//! 80 T1 (4) | T2 (4) | cltt (8) | preferred until (8) | valid until (8)
//! 112 MAC (6) | changed at (8) | tags: TPID and VID (4 each, 0 to 2)
//!     | forget at (8), of a binding that ended | snooped by (16), where it was another relay
//!     | with a length byte before each: interface, DUID, server's DUID, origin (empty: snooped)
//!     | what later versions add
//! ```
//!
//! Numbers are big-endian. Bytes after the known fields are skipped, so that a later version can
//! add fields without a new layout; another layout byte is a record that this version cannot read.
//! Layout 1, of store format 1, is read too: it has an origin byte in front, and neither "changed at"
//! nor what depends on state or flags.

use std::net::Ipv6Addr;

use relay_common::net::{MacAddr, VlanTag, VlanTags};
use relay_core::record::{Ending, Record, RecordState};
use relay_core::time::Instant;
use relay_core::types::{AccessId, AccessLink, IaType, Iaid, Prefix};
use relay_core::view::Origin;

const LAYOUT: u8 = 2;
const FIRST_LAYOUT: u8 = 1;
const FIRST_HOP: u8 = 1;
const HAS_MAC: u8 = 2;
const OF_ANOTHER_RELAY: u8 = 4;
/// RFC 8415 §11.1: a 2-byte type and at most 128 bytes.
const DUID_MAX: usize = 130;
/// What all layouts begin with.
const FIXED: usize = 118;

/// One binding, as it is kept. Times are those of the boot in which it was written.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct StoredBinding<'a> {
    /// Name of the access interface. The number that the record has for it is of this run, and not
    /// kept.
    pub interface: &'a str,
    /// Whom we have it from as `show` prints it, `active-leasequery:r2`, at most 255 bytes; empty
    /// where it was snooped. It is kept instead of the record's origin.
    pub origin: &'a str,
    /// All else. DUIDs have at most 130 bytes.
    pub record: Record<'a>,
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
        let record = &self.record;
        let vlans = record.link.vlans;
        let is_snooped_here = record.snooped_by.is_unspecified();
        let flags = if record.is_first_hop { FIRST_HOP } else { 0 }
            | if record.mac.is_some() { HAS_MAC } else { 0 }
            | if is_snooped_here { 0 } else { OF_ANOTHER_RELAY };
        to.extend([LAYOUT, flags, state_byte(record.state), 0]);
        to.extend([ia_type_byte(record.ia_type), record.prefix.bits()]);
        to.extend([vlans.len() as u8, 0]);
        to.extend(epoch.to_be_bytes());
        to.extend(record.iaid.0.to_be_bytes());
        for address in [
            record.prefix.address(),
            record.client_address,
            record.link_address,
            record.server_address,
        ] {
            to.extend(address.octets());
        }
        to.extend(record.t1_secs.to_be_bytes());
        to.extend(record.t2_secs.to_be_bytes());
        for time in [record.cltt, record.preferred_until, record.valid_until] {
            to.extend(time.as_nanos().to_be_bytes());
        }
        to.extend(record.mac.unwrap_or_default().0);
        to.extend(record.changed_at.as_nanos().to_be_bytes());
        for tag in vlans.iter() {
            to.extend(tag.tpid.to_be_bytes());
            to.extend(tag.vid.to_be_bytes());
        }
        if let RecordState::Ended { forget_at, .. } = record.state {
            to.extend(forget_at.as_nanos().to_be_bytes());
        }
        if !is_snooped_here {
            to.extend(record.snooped_by.octets());
        }
        push(to, cut(self.interface).as_bytes());
        push(to, cut_duid(record.duid));
        push(to, cut_duid(record.server_duid));
        push(to, cut(self.origin).as_bytes());
    }

    /// Reads the record of this binding; also the epoch of its times.
    ///
    /// # Errors
    /// These bytes are none. No bytes make it panic.
    pub fn decode(id: u64, bytes: &'a [u8]) -> Result<(u32, Self), RecordError> {
        let layout = *bytes.first().ok_or(RecordError::Truncated)?;
        if !(FIRST_LAYOUT..=LAYOUT).contains(&layout) {
            return Err(RecordError::Layout(layout));
        }
        let is_first_layout = layout == FIRST_LAYOUT;
        let (fixed, mut rest) = bytes
            .split_first_chunk::<FIXED>()
            .ok_or(RecordError::Truncated)?;
        let flags = fixed[1];
        let cltt = time(at(fixed, 88));
        let changed_at = if is_first_layout {
            cltt
        } else {
            time(chunk(&mut rest)?)
        };
        let vlans = match fixed[6] {
            0 => VlanTags::NONE,
            1 => VlanTags::single(tag(&mut rest)?),
            2 => VlanTags::double(tag(&mut rest)?, tag(&mut rest)?),
            _ => return Err(RecordError::Field("number of tags")),
        };
        let state = match ending(fixed[2])? {
            None => RecordState::Active,
            // The version before kept none.
            Some(_) if is_first_layout => return Err(RecordError::Field("state")),
            Some(how) => RecordState::Ended {
                how,
                forget_at: time(chunk(&mut rest)?),
            },
        };
        let snooped_by = if flags & OF_ANOTHER_RELAY == 0 {
            Ipv6Addr::UNSPECIFIED
        } else {
            Ipv6Addr::from(chunk::<16>(&mut rest)?)
        };
        let interface = text(take(&mut rest)?)?;
        let duid = duid(take(&mut rest)?)?;
        let server_duid = self::duid(take(&mut rest)?)?;
        let origin = text(take(&mut rest)?)?;
        let record = Record {
            id,
            link: AccessLink {
                access: AccessId(0),
                vlans,
            },
            duid,
            client_address: Ipv6Addr::from(at::<16>(fixed, 32)),
            mac: (flags & HAS_MAC != 0).then(|| MacAddr(at(fixed, 112))),
            link_address: Ipv6Addr::from(at::<16>(fixed, 48)),
            is_first_hop: flags & FIRST_HOP != 0,
            ia_type: ia_type(fixed[4])?,
            iaid: Iaid(u32::from_be_bytes(at(fixed, 12))),
            prefix: prefix(Ipv6Addr::from(at::<16>(fixed, 16)), fixed[5])?,
            server_duid,
            server_address: Ipv6Addr::from(at::<16>(fixed, 64)),
            t1_secs: u32::from_be_bytes(at(fixed, 80)),
            t2_secs: u32::from_be_bytes(at(fixed, 84)),
            cltt,
            preferred_until: time(at(fixed, 96)),
            valid_until: time(at(fixed, 104)),
            state,
            origin: Origin::Snooped,
            snooped_by,
            changed_at,
        };
        let binding = Self {
            interface,
            origin,
            record,
        };
        Ok((u32::from_be_bytes(at(fixed, 8)), binding))
    }

    /// Shifts all its times.
    pub(super) fn shift(&mut self, by: impl Fn(Instant) -> Instant) {
        let record = &mut self.record;
        for time in [
            &mut record.cltt,
            &mut record.preferred_until,
            &mut record.valid_until,
            &mut record.changed_at,
        ] {
            *time = by(*time);
        }
        if let RecordState::Ended { forget_at, .. } = &mut record.state {
            *forget_at = by(*forget_at);
        }
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

fn cut_duid(duid: &[u8]) -> &[u8] {
    &duid[..duid.len().min(DUID_MAX)]
}

/// The next bytes.
fn chunk<const N: usize>(rest: &mut &[u8]) -> Result<[u8; N], RecordError> {
    let (chunk, after) = rest
        .split_first_chunk::<N>()
        .ok_or(RecordError::Truncated)?;
    *rest = after;
    Ok(*chunk)
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
    let [a, b, c, d] = chunk(rest)?;
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

const fn time(bytes: [u8; 8]) -> Instant {
    Instant::from_nanos(u64::from_be_bytes(bytes))
}

fn prefix(address: Ipv6Addr, bits: u8) -> Result<Prefix, RecordError> {
    Prefix::new(address, bits)
        .filter(|prefix| prefix.address() == address)
        .ok_or(RecordError::Field("prefix"))
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

const fn state_byte(state: RecordState) -> u8 {
    match state {
        RecordState::Active => 0,
        RecordState::Ended { how, .. } => match how {
            Ending::Expired => 1,
            Ending::Released => 2,
            Ending::Declined => 3,
            Ending::Cleared => 4,
        },
    }
}

const fn ending(byte: u8) -> Result<Option<Ending>, RecordError> {
    Ok(Some(match byte {
        0 => return Ok(None),
        1 => Ending::Expired,
        2 => Ending::Released,
        3 => Ending::Declined,
        4 => Ending::Cleared,
        _ => return Err(RecordError::Field("state")),
    }))
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
        let vlans = match *tags {
            [] => VlanTags::NONE,
            [outer] => VlanTags::single(tag(outer)),
            [outer, inner, ..] => VlanTags::double(tag(outer), tag(inner)),
        };
        let ended = |how| RecordState::Ended {
            how,
            forget_at: Instant::from_nanos(seed / 2),
        };
        StoredBinding {
            interface: text,
            origin: if seed & 4 == 0 { "" } else { text },
            record: Record {
                id: seed,
                link: AccessLink {
                    access: AccessId(0),
                    vlans,
                },
                duid: bytes,
                client_address: Ipv6Addr::from_bits(u128::from(seed)),
                mac: (seed & 1 == 0).then_some(MacAddr([2, 0, 0, 0, 0, seed as u8])),
                link_address: Ipv6Addr::from_bits(!u128::from(seed)),
                is_first_hop: seed & 2 == 0,
                ia_type: [IaType::Na, IaType::Ta, IaType::Pd][seed as usize % 3],
                iaid: Iaid(seed as u32),
                prefix: Prefix::new(Ipv6Addr::from_bits(u128::from(seed) << 60), 56).unwrap(),
                server_duid: bytes,
                server_address: Ipv6Addr::LOCALHOST,
                t1_secs: 1,
                t2_secs: seed as u32,
                cltt: Instant::from_nanos(seed),
                preferred_until: Instant::from_nanos(seed.wrapping_add(1)),
                valid_until: Instant::NEVER,
                state: [
                    RecordState::Active,
                    ended(Ending::Expired),
                    ended(Ending::Released),
                    ended(Ending::Declined),
                    ended(Ending::Cleared),
                ][seed as usize % 5],
                origin: Origin::Snooped,
                snooped_by: Ipv6Addr::from_bits(u128::from(seed % 7)),
                changed_at: Instant::from_nanos(seed / 3),
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

            prop_assert_eq!(StoredBinding::decode(seed, &record), Ok((epoch, written)));
        }

        #[test]
        fn any_bytes_are_read_or_refused(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
            let _ = StoredBinding::decode(1, &bytes);
        }

        #[test]
        fn changed_or_cut_record_is_read_or_refused(
            seed: u64, at: prop::sample::Index, bit in 0_u8..8, end: prop::sample::Index,
        ) {
            let mut record = Vec::new();
            binding(seed, "acc0", &[1; 14], &[(0x8100, 5)]).encode(1, &mut record);
            let length = record.len();

            prop_assert!(StoredBinding::decode(1, &record[..end.index(length)]).is_err());
            record[at.index(length)] ^= 1 << bit;
            let _ = StoredBinding::decode(1, &record);
        }
    }

    #[test]
    fn typical_record_has_under_200_bytes() {
        let mut record = Vec::new();
        let typical = binding(70, "enp5s0f0", &[7; 14], &[(0x8100, 7)]);
        typical.encode(1, &mut record);

        assert_eq!(typical.record.state, RecordState::Active);
        assert!(record.len() <= 190, "{}", record.len());
    }

    #[test]
    fn too_long_names_are_cut_and_still_read() {
        let name = "ä".repeat(200);
        let mut record = Vec::new();
        binding(4, &name, &[9; 200], &[]).encode(1, &mut record);

        let (_, read) = StoredBinding::decode(1, &record).unwrap();

        assert_eq!((read.interface.len(), read.record.duid.len()), (254, 130));
    }
}
