//! The strict option walker (RFC 8415 §21.1): a borrowed view that reports the first option that
//! does not fit and never allocates.
//!
//! ```text
//! 0      2      4
//! | code | len  | data (len bytes) | next option …
//! ```

use crate::error::DecodeError;

/// Options in one message or container are at most this many; more is an overrun of patience, not
/// of bytes. 65,535 bytes could hold 16,383.
pub const MAX_OPTIONS: usize = 4096;

/// One option, borrowed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct RawOption<'a> {
    /// Option code.
    pub code: u16,
    /// What follows code and length.
    pub data: &'a [u8],
}

/// Walks the options of a message or container in wire order. After an error it ends.
#[derive(Clone, Debug)]
pub struct Options<'a> {
    bytes: &'a [u8],
    at: usize,
    left: usize,
}

impl<'a> Options<'a> {
    /// `bytes` is a sequence of options and nothing else.
    pub const fn new(bytes: &'a [u8]) -> Self {
        Self {
            bytes,
            at: 0,
            left: MAX_OPTIONS,
        }
    }

    /// The first option of this code. `Ok(None)` where the options are sound and hold none;
    /// options after the one found are not looked at.
    ///
    /// # Errors
    /// The first unsound option before the one looked for.
    pub fn find(self, code: u16) -> Result<Option<&'a [u8]>, DecodeError> {
        for option in self {
            let option = option?;
            if option.code == code {
                return Ok(Some(option.data));
            }
        }
        Ok(None)
    }
}

impl<'a> Iterator for Options<'a> {
    type Item = Result<RawOption<'a>, DecodeError>;

    fn next(&mut self) -> Option<Self::Item> {
        let rest = self.bytes.get(self.at..).filter(|rest| !rest.is_empty())?;
        let at = self.at;
        let Some(([a, b, c, d], data)) = rest.split_first_chunk() else {
            self.at = self.bytes.len();
            return Some(Err(DecodeError::Truncated { at, need: 4 }));
        };
        let code = u16::from_be_bytes([*a, *b]);
        let len = usize::from(u16::from_be_bytes([*c, *d]));
        match data.get(..len) {
            Some(data) if self.left > 0 => {
                self.left -= 1;
                self.at = at + 4 + len;
                Some(Ok(RawOption { code, data }))
            }
            _ => {
                self.at = self.bytes.len();
                Some(Err(DecodeError::OptionOverrun { code, at }))
            }
        }
    }
}
