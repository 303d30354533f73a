//! What a Reply does to one lease: a pure table (spec section 3.2).

/// What happens to a lease.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Step {
    /// It begins.
    Create,
    /// It goes on, with new lifetimes.
    Refresh,
    /// It ends at once.
    End,
    /// Nothing.
    Ignore,
}

/// What a lease in a Reply means. `may_end`: the Reply answers a request that we know. A lease
/// that a Reply leaves out never comes here and goes on as it was (SNP-12).
pub(crate) const fn step(is_known: bool, valid_secs: u32, may_end: bool) -> Step {
    match (is_known, valid_secs, may_end) {
        (false, 0, _) => Step::Ignore,
        (false, _, _) => Step::Create,
        (true, 0, true) => Step::End, // req: SNP-11
        (true, 0, false) => Step::Ignore,
        (true, _, _) => Step::Refresh,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lifecycle_every_state_and_event() {
        for (is_known, valid_secs, may_end, expected) in [
            (false, 0, false, Step::Ignore),
            (false, 0, true, Step::Ignore),
            (false, 9, false, Step::Create),
            (false, 9, true, Step::Create),
            (true, 0, false, Step::Ignore),
            (true, 0, true, Step::End),
            (true, 9, false, Step::Refresh),
            (true, 9, true, Step::Refresh),
        ] {
            assert_eq!(step(is_known, valid_secs, may_end), expected);
        }
    }
}
