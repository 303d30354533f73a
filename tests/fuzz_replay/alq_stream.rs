//! The corpus of `alq_stream`: the vectors, and what they do not show.

use relay_tests::fuzzing::check_alq_stream;
use relay_tests::messages::{
    CLIENT_DUID, Layer, Message, RELAY_DUID, iaaddr, iaprefix, ip, leasequery_vectors, option,
};

use crate::{keep, replay};

#[test]
fn alq_stream_of_the_corpus_and_its_mutations_holds_its_properties() {
    replay("alq_stream", 60_000, check_alq_stream);
}

#[test]
fn alq_stream_corpus_holds_the_vectors_and_the_frames_written_here() {
    let vectors = leasequery_vectors();
    let all: Vec<u8> = vectors
        .iter()
        .flat_map(|(_, frame)| frame.clone())
        .collect();
    for (name, frame) in &vectors {
        keep(
            "alq_stream",
            &name.to_lowercase(),
            &[&[0][..], frame].concat(),
        );
    }
    keep("alq_stream", "all-at-once", &[&[0][..], &all].concat());
    keep(
        "alq_stream",
        "all-octet-by-octet",
        &[&[1][..], &all].concat(),
    );
    for (name, message) in seeds() {
        keep("alq_stream", name, &[&[29][..], &framed(&message)].concat());
    }
}

fn framed(message: &[u8]) -> Vec<u8> {
    let size = u16::try_from(message.len()).expect("it fits");
    [&size.to_be_bytes()[..], message].concat()
}

/// LQ_QUERY for one link.
fn lq_query(query_type: u8, inside: &[u8]) -> Vec<u8> {
    let link = ip("2001:db8:1::1").octets();
    option(44, &[&[query_type][..], &link, inside].concat())
}

fn seeds() -> Vec<(&'static str, Vec<u8>)> {
    let ia = |code: u16, inside: &[u8]| {
        let timers = if code == 4 { 0 } else { 8 };
        option(
            code,
            &[&[0, 0, 0, 7][..], &vec![0; timers], inside].concat(),
        )
    };
    let (address, prefix) = (
        iaaddr("2001:db8:1::c3", 60, 120),
        iaprefix("2001:db8:100::/56", 60, 120),
    );
    let inner = Layer::new(12, 0, ip("::"), ip("fe80::c3"))
        .option(18, b"p7")
        .option(37, b"\0\0\0\x09remote")
        .option(38, b"subscriber")
        .option(79, &[0, 1, 2, 0, 0, 0, 0, 0xc3]);
    let outer = Layer::new(12, 1, ip("2001:db8:1::1"), ip("fe80::1"))
        .option(53, RELAY_DUID)
        .message(&inner.build());
    let relay_data = option(47, &[&[0; 16][..], &outer.build()].concat());
    let client = [
        option(1, CLIENT_DUID),
        address.clone(),
        prefix.clone(),
        ia(3, &address),
        ia(25, &prefix),
        ia(4, &iaaddr("2001:db8:1::c4", 60, 120)),
        option(46, &[0, 0, 0, 5]),
        relay_data,
    ];
    let ask = |query_type, inside: &[u8]| {
        let query = lq_query(query_type, inside);
        Message::new(14, 16)
            .client_id(RELAY_DUID)
            .raw(&query)
            .build()
    };
    vec![
        (
            "client-in-ias-of-two-relays",
            Message::new(15, 2)
                .server_id(RELAY_DUID)
                .client_id(RELAY_DUID)
                .option(45, &client.concat())
                .option(100, &[0x30, 0, 0, 0])
                .build(),
        ),
        ("query-by-address", ask(1, &iaaddr("2001:db8:1::c3", 0, 0))),
        ("query-by-clientid", ask(2, &option(1, CLIENT_DUID))),
        ("query-by-remote-id", ask(5, &option(37, b"\0\0\0\x09r"))),
        ("query-by-nothing-known", ask(99, &[])),
        ("message-size-three", vec![17, 0, 0]),
    ]
}
