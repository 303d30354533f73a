//! Which options a requestor wants (Option Request, RFC 8415 §21.7).

use crate::error::DecodeError;
use crate::wire::iana;
use crate::wire::message::MessageWriter;

/// A set of option codes. Codes above 255 are not kept: no answer holds any of them.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct RequestedOptions([u64; 4]);

impl RequestedOptions {
    /// Whether `code` is among them.
    pub fn contains(&self, code: u16) -> bool {
        let word = self.0.get(usize::from(code / 64)).copied();
        word.unwrap_or(0) >> (code % 64) & 1 == 1
    }

    /// Adds `code`.
    pub fn insert(&mut self, code: u16) {
        if let Some(word) = self.0.get_mut(usize::from(code / 64)) {
            *word |= 1 << (code % 64);
        }
    }

    /// Adds what the data of an Option Request option lists.
    ///
    /// # Errors
    /// Half a code at the end.
    pub(super) fn insert_all(&mut self, data: &[u8]) -> Result<(), DecodeError> {
        let (codes, rest) = data.as_chunks::<2>();
        if !rest.is_empty() {
            return Err(DecodeError::OptionLength {
                code: iana::OPTION_ORO,
                len: data.len(),
            });
        }
        for code in codes {
            self.insert(u16::from_be_bytes(*code));
        }
        Ok(())
    }
}

impl FromIterator<u16> for RequestedOptions {
    fn from_iter<I: IntoIterator<Item = u16>>(codes: I) -> Self {
        let mut set = Self::default();
        for code in codes {
            set.insert(code);
        }
        set
    }
}

/// Whether a requested option stands in CLIENT_DATA, not beside it (RFC 5007 §4.1.2.1).
pub(super) const fn is_per_client(code: u16) -> bool {
    code != iana::OPTION_LQ_BASE_TIME
}

/// Writes an Option Request, unless it would be empty.
pub(super) fn write_oro<'c>(writer: &mut MessageWriter<'_>, codes: impl Iterator<Item = &'c u16>) {
    let mut codes = codes.peekable();
    if codes.peek().is_some() {
        writer.option_with(iana::OPTION_ORO, |writer| {
            for code in codes {
                writer.bytes(&code.to_be_bytes());
            }
        });
    }
}
