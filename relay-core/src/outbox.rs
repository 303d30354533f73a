//! What waits for the shell: effects in order, and the one buffer that holds their messages.
//!
//! Decides when the buffer starts anew; must not know what is in it.

use alloc::collections::VecDeque;
use alloc::vec::Vec;
use core::ops::Range;

use crate::effect::{Effect, Span};
use crate::error::{Discard, Notice};
use crate::types::AccessId;

/// Bytes of messages that may wait for the shell. A shell that takes effects after each batch of
/// inputs never comes near; the bound keeps [`Span`] in range for one that does not.
const MAX_WAITING_BYTES: usize = 1 << 28;

/// Effects and their messages.
#[derive(Default)]
pub(crate) struct Outbox {
    effects: VecDeque<Effect>,
    bytes: Vec<u8>,
}

impl Outbox {
    /// Before an input: where the queue was drained, nobody reads the old messages any more.
    pub(crate) fn begin(&mut self) {
        if self.effects.is_empty() {
            self.bytes.clear();
        }
    }

    /// Whether the shell is too far behind for one more message.
    pub(crate) fn is_full(&self) -> bool {
        self.bytes.len() >= MAX_WAITING_BYTES
    }

    /// The buffer, for writers of messages.
    pub(crate) fn bytes(&mut self) -> &mut Vec<u8> {
        &mut self.bytes
    }

    /// Copies a message into the buffer.
    pub(crate) fn copy(&mut self, message: &[u8]) -> Span {
        let start = self.bytes.len();
        self.bytes.extend_from_slice(message);
        Self::span(start..self.bytes.len())
    }

    /// Names a range of the buffer.
    pub(crate) fn span(range: Range<usize>) -> Span {
        // Both fit: the buffer holds at most MAX_WAITING_BYTES and one batch of held Replies.
        Span {
            start: u32::try_from(range.start).unwrap_or(u32::MAX),
            len: u32::try_from(range.len()).unwrap_or(0),
        }
    }

    pub(crate) fn message(&self, span: Span) -> &[u8] {
        let start = span.start as usize;
        self.bytes
            .get(start..start.saturating_add(span.len as usize))
            .unwrap_or_default()
    }

    pub(crate) fn push(&mut self, effect: Effect) {
        self.effects.push_back(effect);
    }

    pub(crate) fn discard(&mut self, access: Option<AccessId>, reason: Discard) {
        self.push(Effect::Discarded { access, reason });
    }

    pub(crate) fn notice(&mut self, access: Option<AccessId>, notice: Notice) {
        self.push(Effect::Noticed { access, notice });
    }

    pub(crate) fn pop(&mut self) -> Option<Effect> {
        self.effects.pop_front()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn send(out: &mut Outbox, message: &[u8]) -> Span {
        let message = out.copy(message);
        out.notice(None, Notice::LateReply);
        message
    }

    #[test]
    fn outbox_starts_anew_only_after_all_effects_were_taken() {
        let mut out = Outbox::default();
        let first = send(&mut out, b"first");
        out.begin();
        let second = send(&mut out, b"second");
        assert_eq!(
            (out.message(first), out.message(second)),
            (&b"first"[..], &b"second"[..])
        );

        while out.pop().is_some() {}
        assert_eq!(out.message(second), b"second");
        out.begin();

        assert_eq!(out.bytes().len(), 0);
    }
}
