//! What a connection that was accepted may do: a pure table (spec/active-leasequery, section 8.2;
//! RFC 7653 §9, RFC 5460 §7).

use super::input::CloseReason;
use crate::wire::iana;

/// Where such a connection stands.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum State {
    /// TLS is demanded, and not begun.
    Clear,
    /// The handshake is under way.
    Handshake,
    /// A query may come, in clear text.
    Open,
    /// A query may come, in TLS.
    Secured,
    /// Bulk queries are being answered.
    Bulk,
    /// What changed since a start time is being told.
    CatchUp,
    /// What changes is told.
    Live,
}

/// What comes up.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Event {
    /// STARTTLS.
    StartTls,
    /// ACTIVELEASEQUERY.
    ActiveQuery,
    /// LEASEQUERY.
    BulkQuery,
    /// Any other message.
    OtherMessage,
    /// The other end will send no more.
    HalfClosed,
    /// The daemon ends, or the configuration is another.
    Withdrawn,
}

/// What follows.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Reaction {
    /// REPLY without status, then the handshake.
    AcceptTls,
    /// REPLY TLSConnectionRefused; the connection stays.
    RefuseTls,
    /// The query is read, and answered if it is one.
    Take,
    /// LEASEQUERY-REPLY with this status, then close.
    Refuse(u16),
    /// LEASEQUERY-DONE (or LEASEQUERY-REPLY where none was sent yet) of the query being answered, with
    /// this status, then close.
    Terminate(u16, CloseReason),
    /// What was asked is answered, then close.
    Finish,
    /// Close.
    Close(CloseReason),
}

/// The table.
pub(crate) const fn react(state: State, event: Event) -> Reaction {
    use Reaction::{AcceptTls, Close, Finish, Refuse, RefuseTls, Take, Terminate};
    use {CloseReason as Why, Event as E, State as S};
    match (state, event) {
        (S::Clear, E::StartTls) => AcceptTls, // req: ALQ-51
        (S::Open, E::StartTls) => RefuseTls,  // req: ALQ-50
        (S::Clear, E::ActiveQuery | E::BulkQuery) => Close(Why::TlsRequired), // req: ALQ-D-21
        (S::Open | S::Secured, E::ActiveQuery | E::BulkQuery) => Take,
        (S::Bulk, E::BulkQuery) => Take, // req: BLQ-15
        // Active Leasequery shares its connection with nothing. req: ALQ-12, ALQ-13
        (S::Bulk, E::ActiveQuery) => Refuse(iana::STATUS_NOT_ALLOWED),
        (S::CatchUp | S::Live, E::ActiveQuery | E::BulkQuery) => {
            Terminate(iana::STATUS_NOT_ALLOWED, Why::ProtocolError)
        }
        (S::Bulk, E::HalfClosed) => Finish, // req: BLQ-31
        (S::Open | S::Secured, E::HalfClosed) => Close(Why::Done),
        (_, E::HalfClosed) => Close(Why::Remote), // req: ALQ-72
        (S::Bulk | S::CatchUp | S::Live, E::Withdrawn) => {
            Terminate(iana::STATUS_QUERY_TERMINATED, Why::Local) // req: ALQ-71, BLQ-32
        }
        (_, E::Withdrawn) => Close(Why::Local),
        // req: BLQ-4
        (_, E::StartTls | E::OtherMessage) | (S::Handshake, _) => Close(Why::ProtocolError),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::format;
    use alloc::string::String;

    /// All states and events, printed: a changed rule is one line in review.
    #[test]
    fn server_every_state_and_event() {
        let states = [
            State::Clear,
            State::Handshake,
            State::Open,
            State::Secured,
            State::Bulk,
            State::CatchUp,
            State::Live,
        ];
        let events = [
            Event::StartTls,
            Event::ActiveQuery,
            Event::BulkQuery,
            Event::OtherMessage,
            Event::HalfClosed,
            Event::Withdrawn,
        ];
        let mut printed = String::new();
        for state in states {
            for event in events {
                let reaction = react(state, event);
                printed += &format!("{state:?} · {event:?}: {reaction:?}\n");
            }
        }

        assert_eq!(printed, include_str!("server_state.txt"), "{printed}");
    }
}
