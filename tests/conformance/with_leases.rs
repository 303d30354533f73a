//! Relaying beside live leases: what a lease must not change, and what shows only with one
//! (RFC 8415 §19, RFC 6221 §7.2).

use relay_tests::bench::{Bench, Client};
use relay_tests::exchanges::{from_client, from_server, pd, pd_lease};
use relay_tests::messages::{Layer, hex, ip};

fn client() -> Client {
    Client::new(0xc3, 2)
}

/// A live lease of another client withholds nothing. req: RLY-79 (RFC 8987 §3.1)
#[test]
fn rly_79_solicit_of_a_second_client_on_the_port_is_relayed() {
    let mut bench = Bench::default();
    bench.bind(&client(), &pd_lease(1, "2001:db8:100::/56", 3600));

    bench.ask(&Client::new(0xc4, 2), 1, &pd(1, &[]));

    bench.expect_effects("to-server 0 solicit");
    bench.expect_leases("IA_PD 1 2001:db8:100::/56");
}

/// A client behind an LDRA is snooped. req: RLY-69, SNP-5 (RFC 6221 §7.2)
#[test]
fn rly_69_client_behind_an_ldra_gets_its_route() {
    let mut bench = Bench::with(|config| config.access[0].accept_relayed = true);
    let client = Client {
        port: 547,
        ..client()
    };
    let ias = pd_lease(1, "2001:db8:100::/56", 3600);
    let request = Layer::new(12, 0, ip("::"), client.address)
        .option(18, b"p7")
        .message(&from_client(3, 7, &client, &ias));

    bench.client(&client, &request.build());
    bench.take();
    bench.answer(&from_server(7, 7, &client, &ias));

    bench.expect_effects(
        "route put 2001:db8:100::/56 via fe80::c3 dev 2
         to-client relay-repl fe80::c3 547 dev 2 mac 02:00:00:00:00:c3",
    );
    bench.expect_leases("IA_PD 1 2001:db8:100::/56");
}

/// RECONFIGURE needs no transaction. req: RLY-85 (RFC 8415 §19.3)
#[test]
fn rly_85_unsolicited_reconfigure_is_delivered() {
    let mut bench = Bench::default();
    let client = client();
    bench.bind(&client, &pd_lease(1, "2001:db8:100::/56", 3600));
    let reconfigure = from_server(10, 0, &client, &hex("0013 0001 05"));
    let back = Layer::new(13, 0, ip("2001:db8:1::1"), ip("fe80::c3")).option(18, b"ge-0");

    bench.server(&back.message(&reconfigure).build());

    assert_eq!(
        bench.only("to-client reconfigure fe80::c3 546 dev 2"),
        reconfigure
    );
    bench.expect_leases("IA_PD 1 2001:db8:100::/56");
}

/// Server Unicast is noticed, and left in. req: RLY-92 (RFC 8415 §19.2, §21.12)
#[test]
fn rly_92_server_unicast_in_a_reply_is_noticed_and_left_in() {
    let mut bench = Bench::default();
    let client = client();
    let ias = pd_lease(1, "2001:db8:100::/56", 3600);
    let unicast = [
        &hex("000c0010")[..],
        &ip("2001:db8:53::1").octets()[..],
        &ias[..],
    ]
    .concat();
    let xid = bench.ask(&client, 3, &ias);
    bench.take();

    bench.reply(&client, xid, &unicast);

    let seen = bench.take();
    assert_eq!(
        seen.iter()
            .filter(|seen| seen.line == "notice server_unicast")
            .count(),
        1
    );
    let sent = seen
        .iter()
        .find_map(|seen| seen.message.clone())
        .expect("delivered");
    assert_eq!(sent, from_server(7, xid, &client, &unicast));
}
