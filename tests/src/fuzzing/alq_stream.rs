//! Any stream on a leasequery connection, cut in any way: frames, then all that reads them.
//!
//! ```text
//! 0     1
//! | cut | stream …   `cut` says how TCP delivers it
//! ```

use relay_core::types::{Prefix, Xid};
use relay_core::wire::iana;
use relay_core::wire::leasequery::{
    ActiveQuery, Answer, Answers, BulkQuery, ClientData, ClientDataOut, LqLease, MAX_LEASES, Query,
    QueryError, RelayDataOut, RelayHop, Status,
};
use relay_core::wire::message::Message;
use relay_core::wire::relay_msg::MAX_LAYERS;
use relay_core::wire::tcp_frame::FrameReader;

const SERVER: &[u8] = &[0, 3, 0, 1, 2, 0, 0, 0, 0, 0xb2];

/// A stream gives the frames that stand in it, however it is cut. What a message says can be
/// written, and then says the same.
pub fn check_alq_stream(bytes: &[u8]) {
    let Some((cut, stream)) = bytes.split_first() else {
        return;
    };
    let (expected, is_sound) = frames(stream);
    let mut expected = expected.into_iter();
    let mut reader = FrameReader::default();
    let mut read = 0;
    for piece in pieces(*cut, stream) {
        reader.extend(piece);
        while let Some(message) = reader.next_message() {
            let Ok(message) = message else {
                assert!(!is_sound, "no frame is refused without a reason");
                assert!(expected.next().is_none(), "frames before a bad one stay");
                return;
            };
            let frame = expected.next().expect("no more frames than there are");
            assert_eq!(message, Message::new(frame).expect("four bytes at least"));
            read += 2 + frame.len();
            check_query(&message);
            check_answer(&message);
        }
    }
    assert!(is_sound && expected.next().is_none(), "all are given out");
    assert_eq!(reader.is_empty(), read == stream.len());
}

/// The messages in `stream`, and whether it ends without a message-size that is none.
fn frames(mut stream: &[u8]) -> (Vec<&[u8]>, bool) {
    let mut frames = Vec::new();
    while let [high, low, rest @ ..] = stream {
        let size = usize::from(*high) << 8 | usize::from(*low);
        if size < 4 {
            return (frames, false);
        }
        if size > rest.len() {
            break;
        }
        frames.push(&rest[..size]);
        stream = &rest[size..];
    }
    (frames, true)
}

/// 0: all at once; 1: octet by octet; else pieces of changing length.
fn pieces(cut: u8, mut stream: &[u8]) -> impl Iterator<Item = &[u8]> {
    let mut state = usize::from(cut);
    std::iter::from_fn(move || {
        state = (state * 37 + usize::from(cut)) % 251;
        let length = match cut {
            0 => stream.len(),
            1 => 1,
            _ => 1 + state,
        };
        let (piece, rest) = stream.split_at(length.min(stream.len()));
        stream = rest;
        (!piece.is_empty()).then_some(piece)
    })
}

/// The only message that `frame` holds.
fn only(frame: &[u8], look: impl FnOnce(&Message<'_>)) {
    let mut reader = FrameReader::default();
    reader.extend(frame);
    look(&reader.next_message().expect("whole").expect("sound"));
    assert!(reader.is_empty(), "one message");
}

fn check_query(message: &Message<'_>) {
    let query = match Query::read(message, SERVER) {
        Ok(query) => query,
        Err(QueryError::Refused {
            status, client_id, ..
        }) => {
            assert!(matches!(status, 7 | 8) && !client_id.is_empty());
            return;
        }
        Err(_) => return,
    };
    let requested: Vec<u16> = (0..256)
        .filter(|it| query.requested.contains(*it))
        .collect();
    let mut frame = Vec::new();
    let active = ActiveQuery {
        client_id: query.client_id,
        server_id: Some(SERVER),
        lq_query: query.lq_query,
        requested: &requested,
        start_time: query.start_time,
    };
    // Options that were in one list only are in two now: what was long may be too long.
    if active.write(&mut frame, message.xid).is_ok() {
        let end_time = None;
        only(&frame, |it| {
            assert_eq!(Query::read(it, SERVER), Ok(Query { end_time, ..query }));
        });
    }
    frame.clear();
    let Some(lq_query) = query.lq_query else {
        assert_eq!(message.message_type, iana::ACTIVELEASEQUERY);
        return;
    };
    let bulk = BulkQuery {
        client_id: query.client_id,
        server_id: None,
        lq_query,
        requested: &requested,
        start_time: query.start_time,
        end_time: query.end_time,
    };
    if bulk.write(&mut frame, message.xid).is_ok() {
        only(&frame, |it| assert_eq!(Query::read(it, SERVER), Ok(query)));
    }
}

fn check_answer(message: &Message<'_>) {
    let Ok(answer) = Answer::read(message) else {
        return;
    };
    let mut leases = Vec::new();
    let client = answer
        .client_data
        .and_then(|data| as_written(&data, &mut leases));
    let (Some(now), Some(client_id)) = (answer.base_time, answer.client_id) else {
        return;
    };
    let answers = Answers {
        xid: message.xid,
        server_id: answer.server_id.unwrap_or(SERVER),
        client_id,
        requested: [3, 4, 25, 47, 100].into_iter().collect(),
    };
    let mut frames = Vec::new();
    let written = answers.write_reply(&mut frames, now, answer.status, client.as_ref());
    let Ok(messages) = written else {
        assert!(frames.is_empty());
        return;
    };
    let told = read_back(
        &frames,
        messages,
        message.xid,
        answer.status,
        client.as_ref(),
    );
    assert_eq!(told, leases);
}

/// The client as we would tell another of it, unless it lacks what that takes.
fn as_written<'a>(
    data: &ClientData<'a>,
    leases: &'a mut Vec<LqLease>,
) -> Option<ClientDataOut<'a>> {
    data.read_leases(leases);
    assert!(leases.len() <= MAX_LEASES);
    for lease in &*leases {
        assert!(lease.preferred_secs <= lease.valid_secs);
        assert!(lease.prefix.bits() != 0 && (!lease.is_address || lease.prefix.bits() == 128));
        let masked = Prefix::new(lease.prefix.address(), lease.prefix.bits());
        assert_eq!(masked, Some(lease.prefix));
    }
    let relay_data = data.relay_data.ok().flatten();
    assert!(relay_data.is_none_or(|data| data.layers <= MAX_LAYERS));
    let (Some(duid), Some(clt_secs)) = (data.client_id, data.clt_secs) else {
        leases.clear();
        return None;
    };
    Some(ClientDataOut {
        duid,
        clt_secs,
        leases,
        relay_data: relay_data.map(|data| RelayDataOut {
            peer_address: data.peer_address,
            hop: data.innermost,
            client_behind: None,
        }),
    })
}

/// The leases that `messages` answers in `frames` tell, after everything else was compared.
fn read_back(
    frames: &[u8],
    messages: usize,
    xid: Xid,
    status: Option<Status<'_>>,
    client: Option<&ClientDataOut<'_>>,
) -> Vec<LqLease> {
    let mut reader = FrameReader::default();
    reader.extend(frames);
    let mut told = Vec::new();
    for nth in 0..messages {
        let message = reader.next_message().expect("whole").expect("sound");
        let answer = Answer::read(&message).expect("sound");
        assert_eq!(message.xid, xid);
        assert_eq!(answer.status, status.filter(|_| nth == 0));
        let Some(data) = answer.client_data else {
            assert!(client.is_none_or(|client| client.leases.is_empty()));
            continue;
        };
        let client = client.expect("no client was made up");
        assert_eq!(data.client_id, Some(client.duid));
        assert_eq!(data.clt_secs, Some(client.clt_secs));
        let hop: Option<RelayHop<'_>> = data.relay_data.expect("sound").map(|it| it.innermost);
        assert_eq!(hop, client.relay_data.map(|it| it.hop));
        let mut leases = Vec::new();
        assert_eq!(data.read_leases(&mut leases), 0);
        told.extend(leases);
    }
    assert!(reader.is_empty());
    told
}
