//! The states of a session with a peer that we ask, as a pure table (RFC 7653 §8; spec section 8.1).
//!
//! Decides what may come when and what follows from it; must not know how that is done.

/// Where a session with a peer stands.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum State {
    /// No connection.
    Idle,
    /// TCP is being opened.
    Connecting,
    /// STARTTLS was sent.
    TlsAsked,
    /// The handshake is under way.
    TlsHandshake,
    /// ACTIVELEASEQUERY was sent.
    QuerySent,
    /// What changed since the start time comes.
    CatchUp,
    /// Only new changes come.
    Live,
}

/// What happens to it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Event {
    /// It is time for an attempt.
    Start,
    /// TCP is up, and clear text is configured.
    ConnectedInsecure,
    /// TCP is up, and TLS is demanded.
    ConnectedSecure,
    /// REPLY without status.
    TlsAccepted,
    /// REPLY with a status, or anything else in its place.
    TlsRefused,
    /// TLS is up, and the certificate is the peer's.
    TlsUp,
    /// LEASEQUERY-REPLY without an error; no start time was sent.
    Success,
    /// LEASEQUERY-REPLY without an error to a query with start time.
    SuccessSince,
    /// LEASEQUERY-REPLY with an error that will be the same the next time.
    Refused,
    /// LEASEQUERY-REPLY with any other error than DataMissing.
    Failed,
    /// LEASEQUERY-DATA without status, with or without a client.
    Data,
    /// LEASEQUERY-DATA with CatchUpComplete.
    CatchUpComplete,
    /// DataMissing, in LEASEQUERY-REPLY or LEASEQUERY-DATA.
    DataMissing,
    /// LEASEQUERY-DONE with our transaction-id.
    Done,
    /// The connection is gone.
    Lost,
}

/// What is to be done.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Step {
    /// Open TCP.
    Connect,
    /// Send STARTTLS.
    AskTls,
    /// Shake hands.
    ShakeHands,
    /// Send ACTIVELEASEQUERY.
    Query,
    /// Take the client, if any, and fetch everything by a bulk query.
    FetchAll,
    /// Take the client, if any; the resume point stays (ALQ-34).
    Take,
    /// Take the client, if any; the base-time is the resume point unless a bulk query is pending.
    TakeAndResume,
    /// The base-time is the resume point from now on.
    Complete,
    /// Fetch by a bulk query what changed from the start time to the base-time.
    FetchGap,
    /// Close, and try again after a long while.
    BackOff,
    /// Close for want of TLS.
    CloseInsecure,
    /// Close.
    Close,
    /// The base-time is the resume point unless a bulk query is pending; close.
    ResumeAndClose,
    /// Try again after a while.
    Retry,
}

/// The next state and what to do; `None`: this may not come now, the connection closes.
pub(crate) const fn next(state: State, event: Event) -> Option<(State, Step)> {
    use {Event as E, State as S};
    Some(match (state, event) {
        (S::Idle, E::Start) => (S::Connecting, Step::Connect),
        (S::Connecting, E::ConnectedInsecure) => (S::QuerySent, Step::Query), // req: ALQ-20
        (S::Connecting, E::ConnectedSecure) => (S::TlsAsked, Step::AskTls),   // req: ALQ-21
        (S::TlsAsked, E::TlsAccepted) => (S::TlsHandshake, Step::ShakeHands), // req: ALQ-23
        (S::TlsAsked, E::TlsRefused) => (S::Idle, Step::CloseInsecure),       // req: ALQ-22
        (S::TlsHandshake, E::TlsUp) => (S::QuerySent, Step::Query),           // req: ALQ-25
        (S::QuerySent, E::Success) => (S::Live, Step::FetchAll),              // req: ALQ-43
        (S::QuerySent, E::SuccessSince) => (S::CatchUp, Step::Take),
        (S::QuerySent, E::Refused) => (S::Idle, Step::BackOff),
        (S::QuerySent, E::Failed) => (S::Idle, Step::Close),
        (S::QuerySent | S::CatchUp, E::DataMissing) => (S::Live, Step::FetchGap), // req: ALQ-37
        (S::CatchUp, E::Data) => (S::CatchUp, Step::Take), // req: ALQ-34, ALQ-40
        (S::CatchUp, E::CatchUpComplete) => (S::Live, Step::Complete), // req: ALQ-39
        (S::CatchUp, E::Done) => (S::Idle, Step::Close),   // req: ALQ-35
        (S::Live, E::Data) => (S::Live, Step::TakeAndResume), // req: ALQ-33
        (S::Live, E::Done) => (S::Idle, Step::ResumeAndClose), // req: ALQ-41
        (S::Idle, E::Lost) => return None,
        (_, E::Lost) => (S::Idle, Step::Retry), // req: ALQ-17
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::format;
    use alloc::string::String;

    const STATES: [State; 7] = [
        State::Idle,
        State::Connecting,
        State::TlsAsked,
        State::TlsHandshake,
        State::QuerySent,
        State::CatchUp,
        State::Live,
    ];
    const EVENTS: [Event; 15] = [
        Event::Start,
        Event::ConnectedInsecure,
        Event::ConnectedSecure,
        Event::TlsAccepted,
        Event::TlsRefused,
        Event::TlsUp,
        Event::Success,
        Event::SuccessSince,
        Event::Refused,
        Event::Failed,
        Event::Data,
        Event::CatchUpComplete,
        Event::DataMissing,
        Event::Done,
        Event::Lost,
    ];

    /// All states × all events; what is not here closes the connection. req: ALQ-20 (RFC 7653
    /// §8.2), ALQ-21, ALQ-22, ALQ-23, ALQ-25, ALQ-33, ALQ-34, ALQ-35, ALQ-37, ALQ-39, ALQ-40, ALQ-41
    #[test]
    fn session_every_state_and_event() {
        let mut lines = String::new();
        for state in STATES {
            for event in EVENTS {
                if let Some((to, step)) = next(state, event) {
                    lines.push_str(&format!("{state:?} {event:?}: {step:?} -> {to:?}\n"));
                }
            }
        }

        assert_eq!(
            lines,
            "Idle Start: Connect -> Connecting
Connecting ConnectedInsecure: Query -> QuerySent
Connecting ConnectedSecure: AskTls -> TlsAsked
Connecting Lost: Retry -> Idle
TlsAsked TlsAccepted: ShakeHands -> TlsHandshake
TlsAsked TlsRefused: CloseInsecure -> Idle
TlsAsked Lost: Retry -> Idle
TlsHandshake TlsUp: Query -> QuerySent
TlsHandshake Lost: Retry -> Idle
QuerySent Success: FetchAll -> Live
QuerySent SuccessSince: Take -> CatchUp
QuerySent Refused: BackOff -> Idle
QuerySent Failed: Close -> Idle
QuerySent DataMissing: FetchGap -> Live
QuerySent Lost: Retry -> Idle
CatchUp Data: Take -> CatchUp
CatchUp CatchUpComplete: Complete -> Live
CatchUp DataMissing: FetchGap -> Live
CatchUp Done: Close -> Idle
CatchUp Lost: Retry -> Idle
Live Data: TakeAndResume -> Live
Live Done: ResumeAndClose -> Idle
Live Lost: Retry -> Idle
"
        );
    }
}
