//! The vectors of `tests/vectors/leasequery.hex`, both ways: read, they give the values that their
//! comments state; written from these values, they are the same bytes.

use alloc::vec;
use alloc::vec::Vec;

use super::*;
use crate::testing::{ip, prefix, vector};
use crate::types::Xid;
use crate::wire::iana;
use crate::wire::message::{Message, TooLarge};
use crate::wire::tcp_frame::FrameReader;

const REQUESTOR: &[u8] = &[0, 3, 0, 1, 2, 0, 0, 0, 0, 0xa1];
const SERVER: &[u8] = &[0, 3, 0, 1, 2, 0, 0, 0, 0, 0xb2];
const CLIENT: &[u8] = &[0, 3, 0, 1, 2, 0, 0, 0, 0, 0xc3];
const BASE: LqTime = LqTime(0x3000_0000);
/// The order in which the vectors ask for them.
const REQUESTED: &[u16] = &[iana::OPTION_LQ_BASE_TIME, iana::OPTION_LQ_RELAY_DATA];

/// Hands the only message of a vector to `look`.
fn read<T>(name: &str, message_type: u8, xid: u32, look: impl FnOnce(&Message<'_>) -> T) -> T {
    let mut reader = FrameReader::default();
    reader.extend(&vector(name));
    let message = reader.next_message().unwrap().unwrap();
    assert_eq!(
        (message.message_type, message.xid),
        (message_type, Xid(xid))
    );
    let seen = look(&message);
    assert!(reader.is_empty(), "{name} is one message");
    seen
}

fn query<T>(name: &str, message_type: u8, xid: u32, look: impl FnOnce(Query<'_>) -> T) -> T {
    read(name, message_type, xid, |message| {
        look(Query::read(message, SERVER).unwrap())
    })
}

fn answer<T>(name: &str, message_type: u8, xid: u32, look: impl FnOnce(Answer<'_>) -> T) -> T {
    read(name, message_type, xid, |message| {
        look(Answer::read(message).unwrap())
    })
}

fn answers(xid: u32) -> Answers<'static> {
    Answers {
        xid: Xid(xid),
        server_id: SERVER,
        client_id: REQUESTOR,
        requested: REQUESTED.iter().copied().collect(),
    }
}

/// What `write` appends.
fn written<T>(write: impl FnOnce(&mut Vec<u8>) -> Result<T, TooLarge>) -> Vec<u8> {
    let mut buffer = vec![0xee];
    assert!(write(&mut buffer).is_ok(), "a vector fits");
    assert_eq!(buffer.remove(0), 0xee, "what stood in the buffer stays");
    buffer
}

#[test]
fn vectors_1_to_3_are_starttls_and_its_answers() {
    let refused = Status::new(iana::STATUS_TLS_CONNECTION_REFUSED);

    read("V1", iana::STARTTLS, 1, |it| assert!(it.options.is_empty()));
    answer("V2", iana::REPLY, 1, |it| assert_eq!(it.status, None));
    answer("V3", iana::REPLY, 1, |it| {
        assert_eq!(it.status, Some(refused));
        assert_eq!(it.status_code(), refused.code);
    });

    let starttls = written(|out| {
        write_starttls(out, Xid(1));
        Ok(())
    });
    assert_eq!(starttls, vector("V1"));
    let reply = |status| written(|out| write_starttls_reply(out, Xid(1), status));
    assert_eq!(reply(None), vector("V2"));
    assert_eq!(reply(Some(refused)), vector("V3"));
}

#[test]
fn vectors_4_and_5_are_activeleasequery_for_everything() {
    for (name, xid, start_time) in [("V4", 2, None), ("V5", 3, Some(BASE))] {
        let sent = ActiveQuery {
            client_id: REQUESTOR,
            server_id: None,
            lq_query: None,
            requested: REQUESTED,
            start_time,
        };

        query(name, iana::ACTIVELEASEQUERY, xid, |it| {
            assert_eq!(
                it,
                Query {
                    client_id: REQUESTOR,
                    lq_query: None,
                    requested: REQUESTED.iter().copied().collect(),
                    start_time,
                    end_time: None,
                }
            );
        });
        assert_eq!(written(|out| sent.write(out, Xid(xid))), vector(name));
    }
}

#[test]
fn vector_6_is_success_without_data() {
    answer("V6", iana::LEASEQUERY_REPLY, 2, |it| {
        assert_eq!(
            (it.server_id, it.client_id),
            (Some(SERVER), Some(REQUESTOR))
        );
        assert_eq!((it.status, it.base_time), (None, Some(BASE)));
        assert_eq!(it.client_data, None);
        assert!(it.is_reply_to(REQUESTOR));
    });
    let reply = written(|out| answers(2).write_reply(out, BASE, None, None));
    assert_eq!(reply, vector("V6"));
}

#[test]
fn vector_7_is_one_client_with_two_leases_and_relay_data() {
    let lease = |text, is_address| LqLease {
        ia: None,
        prefix: prefix(text),
        is_address,
        preferred_secs: 3600,
        valid_secs: 7200,
    };
    let leases = [
        lease("2001:db8:100::/56", false),
        lease("2001:db8:1::c3/128", true),
    ];
    let hop = RelayHop {
        link_address: ip("2001:db8:1::1"),
        peer_address: ip("fe80::c3"),
        interface_id: Some(b"ge-0"),
        mac: None,
        remote_id: None,
        subscriber_id: None,
        relay_id: None,
    };
    let base_time = LqTime(BASE.0 + 10);

    answer("V7", iana::LEASEQUERY_DATA, 2, |it| {
        assert_eq!((it.server_id, it.client_id), (None, None));
        assert_eq!((it.status, it.base_time), (None, Some(base_time)));
        let data = it.client_data.unwrap();
        assert_eq!((data.client_id, data.clt_secs), (Some(CLIENT), Some(5)));
        let relay_data = data.relay_data.unwrap().unwrap();
        assert_eq!(relay_data.peer_address, ip("2001:db8:ffff::b"));
        assert_eq!((relay_data.layers, relay_data.relay_forw.len()), (1, 42));
        assert_eq!((relay_data.outermost, relay_data.innermost), (hop, hop));
        let mut read = Vec::new();
        assert_eq!(data.read_leases(&mut read), 0);
        let mut sorted = leases;
        sorted.sort_by_key(|lease| lease.prefix);
        assert_eq!(read, sorted);
    });

    let client = ClientDataOut {
        duid: CLIENT,
        clt_secs: 5,
        leases: &leases,
        relay_data: Some(RelayDataOut {
            peer_address: ip("2001:db8:ffff::b"),
            hop,
            client_behind: None,
        }),
    };
    let data = written(|out| answers(2).write_data(out, base_time, None, Some(&client)));
    assert_eq!(data, vector("V7"));
}

#[test]
fn vectors_8_and_9_are_keep_alive_and_end_of_catch_up() {
    let complete = Status::new(iana::STATUS_CATCH_UP_COMPLETE);
    for (name, xid, status, secs) in [("V8", 2, None, 0x3c), ("V9", 3, Some(complete), 0x46)] {
        let base_time = LqTime(BASE.0 + secs);

        answer(name, iana::LEASEQUERY_DATA, xid, |it| {
            assert_eq!((it.status, it.base_time), (status, Some(base_time)));
            assert_eq!(it.client_data, None);
        });
        let data = written(|out| answers(xid).write_data(out, base_time, status, None));
        assert_eq!(data, vector(name));
    }
}

#[test]
fn vectors_10_and_14_are_replies_with_a_status() {
    let missing = Status::new(iana::STATUS_DATA_MISSING);
    let not_supported = Status::new(iana::STATUS_NOT_SUPPORTED);
    let base_time = LqTime(BASE.0 + 0x50);

    answer("V10", iana::LEASEQUERY_REPLY, 3, |it| {
        assert!(it.is_reply_to(REQUESTOR));
        assert_eq!((it.status, it.base_time), (Some(missing), Some(base_time)));
    });
    answer("V14", iana::LEASEQUERY_REPLY, 2, |it| {
        assert!(it.is_reply_to(REQUESTOR));
        assert_eq!((it.status, it.base_time), (Some(not_supported), None));
    });

    let data_missing = written(|out| answers(3).write_reply(out, base_time, Some(missing), None));
    assert_eq!(data_missing, vector("V10"));
    // This requestor did not ask for base times.
    let unasked = Answers {
        requested: RequestedOptions::default(),
        ..answers(2)
    };
    let refusal = written(|out| unasked.write_reply(out, base_time, Some(not_supported), None));
    assert_eq!(refusal, vector("V14"));
}

#[test]
fn vector_11_is_the_end_of_a_query() {
    let terminated = Status::new(iana::STATUS_QUERY_TERMINATED);
    let base_time = LqTime(BASE.0 + 0x5a);

    answer("V11", iana::LEASEQUERY_DONE, 2, |it| {
        assert_eq!(
            (it.status, it.base_time),
            (Some(terminated), Some(base_time))
        );
    });
    let done = written(|out| answers(2).write_done(out, base_time, Some(terminated)));
    assert_eq!(done, vector("V11"));
}

#[test]
fn vectors_12_and_13_are_bulk_queries() {
    let by_link = LqQuery {
        link_address: ip("2001:db8:1::1"),
        by: QueryBy::LinkAddress,
    };
    let by_relay = LqQuery {
        link_address: ip("::"),
        by: QueryBy::RelayId(SERVER),
    };
    let times = (Some(BASE), Some(LqTime(BASE.0 + 0x50)));
    for (name, xid, lq_query, (start_time, end_time)) in [
        ("V12", 16, by_link, (None, None)),
        ("V13", 17, by_relay, times),
    ] {
        let sent = BulkQuery {
            client_id: REQUESTOR,
            server_id: None,
            lq_query,
            requested: REQUESTED,
            start_time,
            end_time,
        };

        query(name, iana::LEASEQUERY, xid, |it| {
            assert_eq!(
                it,
                Query {
                    client_id: REQUESTOR,
                    lq_query: Some(lq_query),
                    requested: REQUESTED.iter().copied().collect(),
                    start_time,
                    end_time,
                }
            );
        });
        let framed = written(|out| sent.write(out, Xid(xid)));
        assert_eq!(framed, vector(name));
        assert_eq!(
            written(|out| sent.write_datagram(out, Xid(xid))),
            framed[2..]
        );
    }
}
