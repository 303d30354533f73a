//! Small facts that are kept beside the bindings: what was chosen once, epochs, numbers, resume
//! points. Decides their keys; each segment begins with all of them.

use std::collections::BTreeMap;

use relay_core::time::Instant;

use crate::state::Kept;

const RELAY_ID: &[u8] = b"relay-id";
const SOURCE_ADDRESS: &[u8] = b"source-address";
const LINK_ADDRESS: &[u8] = b"link-address/";
const NEXT_ID: &[u8] = b"next-id";
/// Resume points of Active Leasequery, by the name of the peer.
pub(super) const RESUME: &[u8] = b"resume/";
/// The oldest change that was not sent, by the name of the requestor.
pub(super) const UNSENT: &[u8] = b"unsent/";
/// Counters that survive a restart, by name.
pub(super) const COUNTER: &[u8] = b"counter/";

/// Longest value of a fact: far below what an entry can hold.
pub const FACT_MAX: usize = 4096;

/// Where a catch-up from a peer goes on (RFC 7653 §8.4).
// ALQ-33
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct ResumePoint {
    /// Its newest base-time, in seconds since 2000 (RFC 7653 §6.2.1) of its clock.
    pub base_time_secs: u32,
    /// Stands for the DUID of the relay whose clock that is.
    pub server: Option<u64>,
}

impl ResumePoint {
    const BYTES: usize = 13;

    /// `base-time (4) | server known (1) | server (8)`
    pub(super) fn encode(&self) -> [u8; Self::BYTES] {
        let mut bytes = [0; Self::BYTES];
        bytes[..4].copy_from_slice(&self.base_time_secs.to_be_bytes());
        bytes[4] = u8::from(self.server.is_some());
        bytes[5..].copy_from_slice(&self.server.unwrap_or_default().to_be_bytes());
        bytes
    }

    fn decode(bytes: &[u8]) -> Option<Self> {
        let bytes: &[u8; Self::BYTES] = bytes.first_chunk()?;
        let (base_time, rest) = bytes.split_first_chunk()?;
        let (&is_known, server) = rest.split_first()?;
        let server = u64::from_be_bytes(*server.first_chunk()?);
        Some(Self {
            base_time_secs: u32::from_be_bytes(*base_time),
            server: (is_known != 0).then_some(server),
        })
    }
}

/// A moment of a boot: `epoch (4) | nanoseconds (8)`
pub(super) fn encode_moment(epoch: u32, at: Instant) -> [u8; 12] {
    let mut bytes = [0; 12];
    bytes[..4].copy_from_slice(&epoch.to_be_bytes());
    bytes[4..].copy_from_slice(&at.as_nanos().to_be_bytes());
    bytes
}

fn decode_moment(bytes: &[u8]) -> Option<(u32, Instant)> {
    let (epoch, rest) = bytes.split_first_chunk()?;
    let nanos = u64::from_be_bytes(*rest.first_chunk()?);
    Some((u32::from_be_bytes(*epoch), Instant::from_nanos(nanos)))
}

/// By key.
#[derive(Clone, Default, PartialEq, Eq, Debug)]
pub struct Facts(BTreeMap<Vec<u8>, Vec<u8>>);

impl Facts {
    /// One fact.
    pub fn get(&self, key: &[u8]) -> Option<&[u8]> {
        self.0.get(key).map(Vec::as_slice)
    }

    /// All facts whose key starts so, by the rest of the key.
    pub(super) fn starting_with<'a>(
        &'a self,
        prefix: &'a [u8],
    ) -> impl Iterator<Item = (&'a [u8], &'a [u8])> {
        self.0
            .range(prefix.to_vec()..)
            .map_while(move |(key, value)| Some((key.strip_prefix(prefix)?, value.as_slice())))
    }

    /// An empty value removes the fact.
    pub(super) fn set(&mut self, key: &[u8], value: &[u8]) {
        if value.is_empty() {
            self.0.remove(key);
        } else {
            self.0.insert(key.to_vec(), value.to_vec());
        }
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (&[u8], &[u8])> {
        self.0
            .iter()
            .map(|(key, value)| (key.as_slice(), value.as_slice()))
    }

    /// No id from this one on was ever given out.
    pub(super) fn next_id(&self) -> u64 {
        let bytes = self.get(NEXT_ID).and_then(|it| it.try_into().ok());
        bytes.map_or(1, u64::from_be_bytes)
    }

    pub(super) fn next_id_fact(next_id: u64) -> (&'static [u8], [u8; 8]) {
        (NEXT_ID, next_id.to_be_bytes())
    }

    /// What was chosen once; `None` where the store has never been told.
    pub fn kept(&self) -> Option<Kept> {
        let text = |bytes: &[u8]| str::from_utf8(bytes).ok().map(str::to_owned);
        let address = |bytes: &[u8]| text(bytes)?.parse().ok();
        let links = self.starting_with(LINK_ADDRESS);
        let kept = Kept {
            relay_id: self.get(RELAY_ID).and_then(text),
            source_address: self.get(SOURCE_ADDRESS).and_then(address),
            link_addresses: links
                .filter_map(|(name, value)| Some((text(name)?, address(value)?)))
                .collect(),
        };
        (kept != Kept::default()).then_some(kept)
    }

    /// By the name of the peer.
    pub fn resume_points(&self) -> BTreeMap<String, ResumePoint> {
        self.by_name(RESUME, ResumePoint::decode)
    }

    /// By the name of the requestor: a moment of an epoch.
    pub(super) fn oldest_unsent(&self) -> BTreeMap<String, (u32, Instant)> {
        self.by_name(UNSENT, decode_moment)
    }

    /// By name.
    pub fn counters(&self) -> BTreeMap<String, u64> {
        self.by_name(COUNTER, |bytes| {
            bytes.try_into().ok().map(u64::from_be_bytes)
        })
    }

    fn by_name<T>(
        &self,
        prefix: &[u8],
        decode: impl Fn(&[u8]) -> Option<T>,
    ) -> BTreeMap<String, T> {
        self.starting_with(prefix)
            .filter_map(|(name, value)| {
                let name = str::from_utf8(name).ok()?.to_owned();
                Some((name, decode(value)?))
            })
            .collect()
    }

    /// The facts that say what was chosen, each with its key.
    pub(super) fn of_kept(kept: &Kept) -> Vec<(Vec<u8>, Vec<u8>)> {
        let mut facts = Vec::new();
        if let Some(relay_id) = &kept.relay_id {
            facts.push((RELAY_ID.to_vec(), relay_id.clone().into_bytes()));
        }
        if let Some(address) = kept.source_address {
            facts.push((SOURCE_ADDRESS.to_vec(), address.to_string().into_bytes()));
        }
        for (name, address) in &kept.link_addresses {
            let key = [LINK_ADDRESS, name.as_bytes()].concat();
            facts.push((key, address.to_string().into_bytes()));
        }
        facts
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn choices_read_back_from_their_facts() {
        let kept = Kept {
            relay_id: Some("00:04:01".to_owned()),
            source_address: Some("2001:db8::1".parse().unwrap()),
            link_addresses: [("acc0".to_owned(), "fd00::1".parse().unwrap())].into(),
        };
        let mut facts = Facts::default();
        assert_eq!(facts.kept(), None);

        for (key, value) in Facts::of_kept(&kept) {
            facts.set(&key, &value);
        }
        facts.set(b"resume/r2", b"x");

        assert_eq!(facts.kept(), Some(kept));
        assert_eq!(facts.resume_points(), BTreeMap::new());
        assert_eq!(facts.next_id(), 1);
    }
}
