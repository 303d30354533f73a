//! Changes on their way to the writer. Decides nothing: a buffer that is filled, handed over and
//! given back.

use relay_core::time::Instant;

use super::entry::{BODY_MAX, Body};
use super::facts::{COUNTER, FACT_MAX, Facts, RESUME, ResumePoint, UNSENT, encode_moment};
use super::record::StoredBinding;
use crate::state::Kept;

/// A batch that holds more should be handed over before it is filled further.
pub const BATCH_BYTES: usize = 256 * 1024;

/// Changes of bindings and facts; a later one of the same binding wins.
#[derive(Debug, Default)]
pub struct Batch {
    /// 4-byte length | body of the entry, again and again.
    bytes: Vec<u8>,
    epoch: u32,
    sequence: u64,
    changes: usize,
}

impl Batch {
    pub(super) fn reset(mut self, epoch: u32) -> Self {
        self.bytes.clear();
        // A burst must not keep its memory for ever.
        self.bytes.shrink_to(2 * BATCH_BYTES);
        Self {
            bytes: self.bytes,
            epoch,
            sequence: 0,
            changes: 0,
        }
    }

    /// The binding of this record's number is so now. Its times are those of the boot clock now.
    pub fn put(&mut self, binding: &StoredBinding<'_>) {
        let (id, epoch) = (binding.record.id, self.epoch);
        self.push(|to| {
            Body::Put { id, record: &[] }.encode(to);
            binding.encode(epoch, to);
        });
    }

    /// This binding is gone.
    pub fn remove(&mut self, id: u64) {
        self.push(|to| Body::Remove { id }.encode(to));
    }

    /// This fact is so now; an empty value removes it. A value over [`FACT_MAX`] is refused.
    ///
    /// [`FACT_MAX`]: super::facts::FACT_MAX
    #[must_use]
    pub fn fact(&mut self, key: &[u8], value: &[u8]) -> bool {
        let fits = key.len() <= 255 && value.len() <= FACT_MAX;
        if fits {
            self.push(|to| Body::Fact { key, value }.encode(to));
        }
        fits
    }

    /// Where a catch-up from this peer goes on; `None` forgets it. It may be relied on before changes
    /// that are told at the same time: tell it when what it covers is durable. `false` where the name
    /// is too long.
    #[must_use]
    pub fn resume_point(&mut self, peer: &str, point: Option<&ResumePoint>) -> bool {
        let value = point.map(ResumePoint::encode);
        let key = [RESUME, peer.as_bytes()].concat();
        self.fact(&key, value.as_ref().map_or(&[], <[u8; _]>::as_slice))
    }

    /// The oldest change that this requestor was not sent when its connection ended; `None` where
    /// there is none. `false` where the name is too long.
    // ALQ-D-25
    #[must_use]
    pub fn oldest_unsent(&mut self, requestor: &str, changed_at: Option<Instant>) -> bool {
        let value = changed_at.map(|at| encode_moment(self.epoch, at));
        let key = [UNSENT, requestor.as_bytes()].concat();
        self.fact(&key, value.as_ref().map_or(&[], <[u8; _]>::as_slice))
    }

    /// A counter that survives a restart. `false` where the name is too long.
    #[must_use]
    pub fn counter(&mut self, name: &str, value: u64) -> bool {
        let key = [COUNTER, name.as_bytes()].concat();
        self.fact(&key, &value.to_be_bytes())
    }

    /// What was chosen once.
    pub fn keep(&mut self, kept: &Kept) {
        for (key, value) in Facts::of_kept(kept) {
            // Names of interfaces and addresses are short.
            let _ = self.fact(&key, &value);
        }
    }

    /// The number of the last change in it; [`Event::Durable`] reports it.
    ///
    /// [`Event::Durable`]: super::Event::Durable
    pub const fn set_sequence(&mut self, sequence: u64) {
        self.sequence = sequence;
    }

    /// See [`Batch::set_sequence`].
    pub const fn sequence(&self) -> u64 {
        self.sequence
    }

    /// Changes in it.
    pub const fn len(&self) -> usize {
        self.changes
    }

    /// Whether there is nothing in it.
    pub const fn is_empty(&self) -> bool {
        self.changes == 0
    }

    /// Whether it should be handed over before more is put into it.
    pub const fn is_full(&self) -> bool {
        self.bytes.len() >= BATCH_BYTES
    }

    pub(super) const fn size(&self) -> usize {
        self.bytes.len()
    }

    pub(super) fn bodies(&self) -> impl Iterator<Item = &[u8]> {
        let mut rest = self.bytes.as_slice();
        core::iter::from_fn(move || {
            let (length, after) = rest.split_first_chunk::<4>()?;
            let (body, after) = after.split_at_checked(u32::from_be_bytes(*length) as usize)?;
            rest = after;
            Some(body)
        })
    }

    fn push(&mut self, write: impl FnOnce(&mut Vec<u8>)) {
        let at = self.bytes.len();
        self.bytes.extend([0; 4]);
        write(&mut self.bytes);
        let length = self.bytes.len() - at - 4;
        debug_assert!(length <= BODY_MAX, "records and facts are bounded");
        self.bytes[at..at + 4].copy_from_slice(&(length as u32).to_be_bytes());
        self.changes += 1;
    }
}
