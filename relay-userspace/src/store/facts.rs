//! Small facts that are kept beside the bindings: what was chosen once, epochs, numbers, resume
//! points. Decides their keys; each segment begins with all of them.

use std::collections::BTreeMap;

use crate::state::Kept;

const RELAY_ID: &[u8] = b"relay-id";
const SOURCE_ADDRESS: &[u8] = b"source-address";
const LINK_ADDRESS: &[u8] = b"link-address/";
const NEXT_ID: &[u8] = b"next-id";
/// Resume points of Active Leasequery, by the name of the peer.
pub const RESUME: &[u8] = b"resume/";
/// Counters that survive a restart, by name.
pub const COUNTER: &[u8] = b"counter/";

/// Longest value of a fact: far below what an entry can hold.
pub const FACT_MAX: usize = 4096;

/// By key.
#[derive(Clone, Default, PartialEq, Eq, Debug)]
pub struct Facts(BTreeMap<Vec<u8>, Vec<u8>>);

impl Facts {
    /// One fact.
    pub fn get(&self, key: &[u8]) -> Option<&[u8]> {
        self.0.get(key).map(Vec::as_slice)
    }

    /// All facts whose key starts so, by the rest of the key.
    pub fn starting_with<'a>(
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
        assert_eq!(
            facts.starting_with(RESUME).collect::<Vec<_>>(),
            [(&b"r2"[..], &b"x"[..])]
        );
        assert_eq!(facts.next_id(), 1);
    }
}
