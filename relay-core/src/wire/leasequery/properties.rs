//! What holds for all values and all bytes: what is written reads back as the same value, and
//! reading is total.

use alloc::string::String;
use alloc::vec::Vec;
use core::net::Ipv6Addr;

use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;
use relay_common::net::MacAddr;

use super::*;
use crate::testing::{VECTORS, vector};
use crate::types::{IaType, Iaid, Prefix, Xid};
use crate::wire::message::{Message, MessageWriter};
use crate::wire::tcp_frame::FrameReader;

const SERVER: &[u8] = &[0, 3, 0, 1, 0xb2];

fn duid() -> impl Strategy<Value = Vec<u8>> {
    vec(any::<u8>(), 1..131)
}

fn bytes() -> impl Strategy<Value = Option<Vec<u8>>> {
    option::of(vec(any::<u8>(), 0..20))
}

fn address() -> impl Strategy<Value = Ipv6Addr> {
    any::<u128>().prop_map(Ipv6Addr::from_bits)
}

fn time() -> impl Strategy<Value = Option<LqTime>> {
    option::of(any::<u32>().prop_map(LqTime))
}

/// Codes that are kept, in any order.
fn codes() -> impl Strategy<Value = Vec<u16>> {
    vec(0u16..256, 0..12)
}

/// query-type and its data, owned.
fn by() -> impl Strategy<Value = (u8, Vec<u8>)> {
    (1u8..=5, vec(any::<u8>(), 16..130))
}

fn lq_query<'a>(link: Ipv6Addr, (query_type, data): &'a (u8, Vec<u8>)) -> LqQuery<'a> {
    let address = Ipv6Addr::from(<[u8; 16]>::try_from(&data[..16]).unwrap());
    let by = match query_type {
        1 => QueryBy::Address(address),
        2 => QueryBy::ClientId(data),
        3 => QueryBy::RelayId(data),
        4 => QueryBy::LinkAddress,
        _ => QueryBy::RemoteId(data),
    };
    let needs_link = *query_type == 4 && link.is_unspecified();
    LqQuery {
        link_address: if needs_link {
            Ipv6Addr::LOCALHOST
        } else {
            link
        },
        by,
    }
}

fn lease() -> impl Strategy<Value = LqLease> {
    let ia = (any::<u32>(), any::<u32>(), any::<u32>(), any::<bool>());
    (
        option::of(ia),
        address(),
        1u8..=128,
        any::<bool>(),
        any::<(u32, u32)>(),
    )
        .prop_map(|(ia, address, bits, is_address, (a, b))| LqLease {
            ia: ia.map(|(iaid, t1_secs, t2_secs, is_ta)| LqIa {
                ia_type: match (is_address, is_ta) {
                    (false, _) => IaType::Pd,
                    (true, false) => IaType::Na,
                    (true, true) => IaType::Ta,
                },
                iaid: Iaid(iaid),
                t1_secs: if is_address && is_ta { 0 } else { t1_secs },
                t2_secs: if is_address && is_ta { 0 } else { t2_secs },
            }),
            prefix: Prefix::new(address, if is_address { 128 } else { bits }).unwrap(),
            is_address,
            preferred_secs: a.min(b),
            valid_secs: a.max(b),
        })
}

/// A [`RelayHop`], owned.
type Hop = (Ipv6Addr, Ipv6Addr, Option<[u8; 6]>, [Option<Vec<u8>>; 4]);

fn hop() -> impl Strategy<Value = Hop> {
    let texts = [bytes(), bytes(), bytes(), bytes()];
    (address(), address(), any::<Option<[u8; 6]>>(), texts)
}

fn borrow((link, peer, mac, [interface, remote, subscriber, relay]): &Hop) -> RelayHop<'_> {
    RelayHop {
        link_address: *link,
        peer_address: *peer,
        interface_id: interface.as_deref(),
        mac: mac.map(MacAddr),
        remote_id: remote.as_deref(),
        subscriber_id: subscriber.as_deref(),
        relay_id: relay.as_deref(),
    }
}

/// Hands the only message of `frame` to `look`.
fn read<T>(frame: &[u8], look: impl FnOnce(Message<'_>) -> T) -> T {
    let mut reader = FrameReader::default();
    reader.extend(frame);
    let seen = look(reader.next_message().unwrap().unwrap());
    assert!(reader.is_empty());
    seen
}

/// Through all that reads a message.
fn read_all(message: &Message<'_>) {
    let _ = Query::read(message, SERVER);
    if let Ok(Answer {
        client_data: Some(client_data),
        ..
    }) = Answer::read(message)
    {
        let mut leases = Vec::new();
        client_data.read_leases(&mut leases);
        assert!(leases.len() <= MAX_LEASES);
        for lease in leases {
            assert!(lease.preferred_secs <= lease.valid_secs);
            assert!((1..=128).contains(&lease.prefix.bits()));
        }
    }
}

proptest! {
    #[test]
    fn query_that_is_written_reads_back_as_itself(
        (client_id, server, link, by) in (duid(), any::<bool>(), address(), option::of(by())),
        (requested, start_time, end_time, xid) in (codes(), time(), time(), 0u32..1 << 24),
    ) {
        let lq_query = by.as_ref().map(|by| lq_query(link, by));
        let server_id = server.then_some(SERVER);
        let mut frame = Vec::new();
        let expected = Query {
            client_id: &client_id,
            lq_query,
            requested: requested.iter().copied().collect(),
            start_time,
            end_time: None,
        };

        let active = ActiveQuery {
            client_id: &client_id,
            server_id,
            lq_query,
            requested: &requested,
            start_time,
        };
        active.write(&mut frame, Xid(xid)).unwrap();
        read(&frame, |message| {
            prop_assert_eq!(Query::read(&message, SERVER), Ok(expected));
            prop_assert_eq!(message.xid, Xid(xid));
            Ok(())
        })?;

        if let Some(lq_query) = lq_query {
            frame.clear();
            let bulk = BulkQuery {
                client_id: &client_id,
                server_id,
                lq_query,
                requested: &requested,
                start_time,
                end_time,
            };
            bulk.write(&mut frame, Xid(xid)).unwrap();
            read(&frame, |message| {
                prop_assert_eq!(Query::read(&message, SERVER), Ok(Query { end_time, ..expected }));
                Ok(())
            })?;
        }
    }

    #[test]
    fn answer_that_is_written_reads_back_as_itself(
        (duid, clt_secs, mut leases, hop) in (duid(), any::<u32>(), vec(lease(), 1..12), option::of(hop())),
        (now, requested, code, text) in (any::<u32>(), codes(), any::<u16>(), any::<String>()),
    ) {
        let requested: RequestedOptions = requested.into_iter().chain([3, 4, 25, 47]).collect();
        let answers = Answers { xid: Xid(9), server_id: SERVER, client_id: &duid, requested };
        let status = Some(Status { code, text: &text });
        let relay = hop.as_ref().map(|hop| RelayDataOut {
            peer_address: Ipv6Addr::LOCALHOST,
            hop: borrow(hop),
            client_behind: None,
        });
        let client = ClientDataOut { duid: &duid, clt_secs, leases: &leases, relay_data: relay };
        let mut frame = Vec::new();

        prop_assert_eq!(answers.write_reply(&mut frame, LqTime(now), status, Some(&client)), Ok(1));

        read(&frame, |message| {
            let answer = Answer::read(&message).unwrap();
            prop_assert!(answer.is_reply_to(&duid));
            prop_assert_eq!(answer.server_id, Some(SERVER));
            prop_assert_eq!(answer.status, status);
            prop_assert_eq!(answer.base_time, requested.contains(100).then_some(LqTime(now)));
            let data = answer.client_data.unwrap();
            prop_assert_eq!((data.client_id, data.clt_secs), (Some(&duid[..]), Some(clt_secs)));
            let relay_data = data.relay_data.unwrap();
            let told = relay_data.map(|it| RelayDataOut {
                peer_address: it.peer_address,
                hop: it.innermost,
                client_behind: None,
            });
            prop_assert_eq!(told, relay);
            let mut read = Vec::new();
            prop_assert_eq!(data.read_leases(&mut read), 0);
            leases.sort_by_key(|lease| (lease.prefix, lease.is_address, lease.ia.is_none()));
            leases.dedup_by_key(|lease| (lease.prefix, lease.is_address));
            prop_assert_eq!(read, leases);
            Ok(())
        })?;
    }

    #[test]
    fn reading_is_total_on_arbitrary_options(message_type: u8, options in vec(any::<u8>(), 0..300)) {
        read_all(&Message { message_type, xid: Xid(1), options: &options });
    }

    #[test]
    fn reading_is_total_on_damaged_vectors(which in 0usize..14, at in 6usize..160, value: u8, end in 6usize..160) {
        let mut frame = vector(VECTORS[which]);
        if let Some(byte) = frame.get_mut(at) {
            *byte = value;
        }
        let (message_type, end) = (frame[2], end.min(frame.len()));
        read_all(&Message { message_type, xid: Xid(1), options: &frame[6..end] });
    }

    /// Whatever is asked to be written: the buffer holds a message that can be framed, or nothing.
    #[test]
    fn written_message_always_fits_its_frame(sizes in vec(0usize..40_000, 1..4)) {
        let mut buffer = Vec::new();
        let mut writer = MessageWriter::framed(&mut buffer, 17, Xid(1));
        for size in &sizes {
            writer.option_with(45, |writer| writer.option(1, &alloc::vec![0; *size]));
        }
        let fits = 4 + sizes.iter().map(|size| 8 + size).sum::<usize>() <= 65_535;

        prop_assert_eq!(writer.finish().is_ok(), fits);
        if fits {
            prop_assert_eq!(usize::from(u16::from_be_bytes([buffer[0], buffer[1]])), buffer.len() - 2);
        } else {
            prop_assert!(buffer.is_empty());
        }
    }
}
