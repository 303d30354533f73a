//! Surroundings that are missing or refuse: interfaces, servers, sources, sizes (RFC 8415 §19.1).

use relay_tests::bench::{Bench, Client};
use relay_tests::exchanges::from_client;
use relay_tests::messages::{hex, ip, vectors};

/// Frames of an interface that is none of ours are not relayed.
#[test]
fn client_on_an_unknown_interface_is_dropped() {
    let mut bench = Bench::default();

    bench.client(&Client::new(1, 77), &hex(vectors::R1));

    bench.expect_effects("discard unknown_interface");
}

/// An answer for an interface that is gone goes nowhere.
#[test]
fn answer_for_an_interface_that_is_gone_is_dropped() {
    let mut bench = Bench::default();
    bench.client(&Client::new(0xc3, 2), &hex(vectors::R1));
    bench.take();
    bench.reconfigure(|config| config.access[0].ifindex = None);
    bench.take();

    bench.server(&hex(vectors::R3));

    let lines: Vec<_> = bench.take().into_iter().map(|seen| seen.line).collect();
    assert!(
        lines.iter().any(|line| line.starts_with("discard ")),
        "{lines:?}"
    );
    assert!(
        !lines.iter().any(|line| line.starts_with("to-client")),
        "{lines:?}"
    );
}

/// Without a server a message has nowhere to go.
#[test]
fn client_of_an_interface_without_server_is_dropped() {
    let mut bench = Bench::with(|config| config.access[0].servers.clear());

    bench.client(&Client::new(1, 2), &hex(vectors::R1));

    bench.expect_effects("discard no_server");
}

/// No answer could be sent to these sources.
#[test]
fn client_with_an_unspecified_or_multicast_source_is_dropped() {
    for source in ["::", "ff02::1"] {
        let mut bench = Bench::default();

        bench.client(
            &Client {
                address: ip(source),
                ..Client::new(1, 2)
            },
            &hex(vectors::R1),
        );

        bench.expect_effects("discard bad_source");
    }
}

/// What does not fit into a datagram once wrapped is dropped.
#[test]
fn message_that_does_not_fit_once_wrapped_is_dropped() {
    let mut bench = Bench::default();
    let client = Client::new(1, 2);

    bench.client(&client, &from_client(1, 1, &client, &vec![0; 65_450]));
    bench.expect_effects("discard too_large");

    bench.client(&client, &from_client(1, 1, &client, &vec![0; 60_000]));
    bench.expect_effects("to-server 0 solicit");
}
