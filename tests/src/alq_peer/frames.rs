//! Frames that a relay has to survive: what the codec would not write. Each has a name for a
//! failing test to print. What the relay should do with it stands in the test that sends it.

use crate::messages::{Message, iaaddr, iaprefix, option};

/// A frame and what is wrong with it.
pub type Named = (&'static str, Vec<u8>);

/// A message with its message-size in front.
pub fn framed(message: Message) -> Vec<u8> {
    let message = message.build();
    let size = u16::try_from(message.len()).expect("a message of at most 65,535 octets");
    [&size.to_be_bytes()[..], &message].concat()
}

/// The same frame with another transaction-id.
pub fn with_xid(frame: &[u8], xid: u32) -> Vec<u8> {
    let mut frame = frame.to_vec();
    frame[3..6].copy_from_slice(&xid.to_be_bytes()[1..]);
    frame
}

/// The same frame with another base time, where it has one.
pub fn with_base_time(frame: &[u8], secs: u32) -> Vec<u8> {
    let mut frame = frame.to_vec();
    let old = option(100, &BASE_TIME);
    if let Some(at) = frame.windows(old.len()).position(|it| it == old) {
        frame[at + 4..at + 8].copy_from_slice(&secs.to_be_bytes());
    }
    frame
}

/// Beginnings of frames after which nobody knows where the next one begins.
pub fn no_frames() -> Vec<Named> {
    vec![
        ("message-size 0", vec![0, 0]),
        ("message-size 3", vec![0, 3, 17, 0, 0]),
    ]
}

/// LEASEQUERY-DATA whose options do not fit into it or into each other.
pub fn unsound_answers(xid: u32) -> Vec<Named> {
    let data = |raw: &[u8]| framed(Message::new(17, xid).raw(raw));
    vec![
        ("half an option header", data(&[0, 45, 0])),
        ("option longer than the message", data(&[0, 45, 0, 9, 1])),
        (
            "option of 65,535 octets that are not there",
            data(&[0, 45, 0xff, 0xff]),
        ),
        (
            "option longer than CLIENT_DATA",
            data(&option(45, &[0, 1, 0, 9, 1])),
        ),
        ("base time of three octets", data(&option(100, &[0; 3]))),
        ("status code of one octet", data(&option(13, &[0]))),
        (
            "client's last transaction time of five octets",
            data(&option(45, &option(46, &[0; 5]))),
        ),
    ]
}

/// LEASEQUERY-DATA for the client `duid` whose only lease is none. All have a base time.
pub fn impossible_leases(xid: u32, duid: &[u8]) -> Vec<Named> {
    let prefix_of = |bits: u8| {
        let mut prefix = iaprefix("2001:db8:100::/56", 3600, 7200);
        prefix[12] = bits;
        prefix
    };
    vec![
        ("prefix length 0", client(xid, duid, &prefix_of(0))),
        ("prefix length 129", client(xid, duid, &prefix_of(129))),
        ("prefix length 200", client(xid, duid, &prefix_of(200))),
        (
            "IAADDR of 23 octets",
            client(xid, duid, &option(5, &[0x20; 23])),
        ),
        (
            "IAPREFIX of 24 octets",
            client(xid, duid, &option(26, &[0x20; 24])),
        ),
        (
            "IA_PD of 11 octets",
            client(xid, duid, &option(25, &[0; 11])),
        ),
        (
            "address that the server denies",
            client(
                xid,
                duid,
                &option(
                    5,
                    &[&iaaddr("2001:db8:1::c3", 60, 60)[4..], &[0, 13, 0, 2, 0, 3]].concat(),
                ),
            ),
        ),
    ]
}

/// LEASEQUERY-DATA for the client `duid` with a prefix whose preferred lifetime is above its valid
/// one of an hour: a lease all the same (LQ-34).
pub fn preferred_above_valid(xid: u32, duid: &[u8]) -> Vec<u8> {
    client(xid, duid, &iaprefix("2001:db8:100::/56", 7200, 3600))
}

/// LEASEQUERY-DATA for the client `duid` with a good prefix and LQ_RELAY_DATA that cannot be read
/// (LQ-36).
pub fn unreadable_relay_data(xid: u32, duid: &[u8]) -> Vec<u8> {
    let lease = iaprefix("2001:db8:100::/56", 3600, 7200);
    client(xid, duid, &[lease, option(47, &[0; 40])].concat())
}

/// LEASEQUERY-DATA, without CLIENT_DATA, with a status that no RFC defines.
pub fn unknown_status(xid: u32) -> Vec<u8> {
    let data = Message::new(17, xid).status(999);
    framed(data.option(100, &BASE_TIME))
}

/// The longest LEASEQUERY-DATA that there is: 65,535 octets of which nobody knows an option.
pub fn longest(xid: u32) -> Vec<u8> {
    framed(Message::new(17, xid).option(65_000, &[0xaa; 65_535 - 8]))
}

/// A message that does not travel on such connections (BLQ-4).
pub fn solicit(duid: &[u8]) -> Vec<u8> {
    framed(Message::new(1, 9).client_id(duid).option(8, &[0, 0]))
}

const BASE_TIME: [u8; 4] = [0x30, 0, 0, 0];

fn client(xid: u32, duid: &[u8], leases: &[u8]) -> Vec<u8> {
    let inside = [option(1, duid), leases.to_vec(), option(46, &[0; 4])].concat();
    framed(
        Message::new(17, xid)
            .option(45, &inside)
            .option(100, &BASE_TIME),
    )
}

#[cfg(test)]
mod tests {
    use relay_core::types::Xid;
    use relay_core::wire::leasequery::{Answer, ClientData};
    use relay_core::wire::tcp_frame::FrameReader;

    use super::*;
    use crate::messages::CLIENT_DUID;

    /// Hands the only message of a frame to `look`; all are of the transaction that they should be.
    fn read<T>(frame: &[u8], look: impl FnOnce(Result<Answer<'_>, ()>) -> T) -> T {
        let mut reader = FrameReader::default();
        reader.extend(frame);
        let message = reader.next_message().unwrap().unwrap();
        assert_eq!((message.message_type, message.xid), (17, Xid(2)));
        let seen = look(Answer::read(&message).map_err(drop));
        assert!(reader.is_empty());
        seen
    }

    fn client_data<T>(frame: &[u8], look: impl FnOnce(ClientData<'_>) -> T) -> T {
        read(frame, |answer| look(answer.unwrap().client_data.unwrap()))
    }

    #[test]
    fn no_frames_are_none() {
        for (name, bytes) in no_frames() {
            let mut reader = FrameReader::default();
            reader.extend(&bytes);
            assert!(matches!(reader.next_message(), Some(Err(_))), "{name}");
        }
    }

    #[test]
    fn unsound_answers_are_whole_frames_that_cannot_be_read() {
        for (name, frame) in unsound_answers(2) {
            assert!(read(&frame, |answer| answer.is_err()), "{name}");
        }
    }

    #[test]
    fn impossible_leases_are_sound_answers_without_a_lease() {
        for (name, frame) in impossible_leases(2, CLIENT_DUID) {
            let mut leases = Vec::new();
            let broken = client_data(&frame, |data| {
                assert_eq!(data.client_id, Some(CLIENT_DUID));
                data.read_leases(&mut leases)
            });
            assert_eq!((broken, leases), (1, vec![]), "{name}");
        }
    }

    #[test]
    fn oddities_are_sound_answers() {
        let mut leases = Vec::new();
        client_data(&preferred_above_valid(2, CLIENT_DUID), |data| {
            assert_eq!(data.read_leases(&mut leases), 0);
            assert_eq!(leases[0].preferred_secs, 3600);
        });
        client_data(&unreadable_relay_data(2, CLIENT_DUID), |data| {
            assert_eq!(data.read_leases(&mut leases), 0);
            assert!(leases.len() == 1 && data.relay_data.is_err());
        });
        let code = read(&unknown_status(2), |answer| answer.unwrap().status_code());
        assert_eq!(code, 999);
        assert_eq!(longest(2)[..2], [0xff, 0xff]);
        assert!(read(&longest(2), |answer| answer.is_ok()));
        assert!(read(&with_xid(&longest(1), 2), |answer| answer.is_ok()));
        let later = with_base_time(&unknown_status(2), 7);
        let base_time = read(&later, |answer| answer.unwrap().base_time);
        assert_eq!(base_time.map(|it| it.0), Some(7));
    }
}
