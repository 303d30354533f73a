//! Leasequery in clear text, which takes two steps to allow: what is on the wire, as others dissect it; and servers
//! that are asked at the start.

use std::net::{SocketAddr, TcpListener};
use std::time::Duration;

use relay_core::wire::iana::{
    ACTIVELEASEQUERY, LEASEQUERY, LEASEQUERY_DATA, LEASEQUERY_DONE, LEASEQUERY_REPLY,
};
use relay_tests::alq_peer::frames::framed;
use relay_tests::alq_peer::{Peer, Received};
use relay_tests::asked::Said;
use relay_tests::messages::{Message, iaaddr, iaprefix, ip, option, read_options};
use xtask::lab::{Lifetimes, Relay, missing, run, wait_for};

use crate::hand::{HandClient, on_node};
use crate::harness::{CONFIGURATION, kernel_routes_on, lab_of, skipped, unlimited};
use crate::pair::{
    PATIENCE, R1, R2, expect_active, expect_same, origins, prepared, ready, session,
};
use crate::pcap::start_capture_of;

/// What tshark 4.0 knows of these sessions by its dissector for Bulk Leasequery on TCP.
#[test]
fn clear_stream_of_a_pair_is_dissected_by_tshark_without_a_malformed_mark() {
    if !missing(&["tshark"]).is_empty() {
        skipped("tshark is not installed");
        return;
    }
    let Some(mut lab) = prepared(Lifetimes::default(), "allow_insecure = true\n") else {
        return;
    };
    for (node, peer) in [(R1, R2), (R2, R1)] {
        let file = lab.configuration_file(node);
        let name = format!("name = \"{peer}\"");
        let text = std::fs::read_to_string(&file).expect("it is there");
        let text = text.replace(&name, &format!("{name}\ntls = \"off\""));
        std::fs::write(file, text).expect("it is writable");
    }
    start_capture_of(&mut lab, "core", "tcp port 547");
    lab.start_twinrelay_on(R1).expect("r1 starts");
    let mut client = HandClient::on(&lab, "gen", "eth0");
    client.lease(1);
    lab.start_twinrelay_on(R2).expect("r2 starts");
    expect_active(&lab);
    expect_same(&lab, 2);
    client.duid[7] += 1;
    let granted = client.lease(2);
    expect_same(&lab, 5);
    client.release(&granted);
    expect_same(&lab, 2);
    assert_eq!(session(&lab, R1, "requestor")["tls"], false);

    let file = lab.dir().join("core/wire.pcap");
    let shown = |filter: &str, field: &str| {
        let mut tshark = std::process::Command::new("tshark");
        tshark.arg("-r").arg(&file);
        tshark.args(["-Y", filter, "-T", "fields", "-e", field]);
        run(&mut tshark).expect("tshark reads the capture")
    };
    let types = || {
        let all = shown("dhcpv6.bulk_leasequery", "dhcpv6.bulk_leasequery.msgtype");
        let all = all
            .split(['\n', ','])
            .filter_map(|it| it.parse::<u8>().ok());
        all.collect::<Vec<u8>>()
    };
    let is_whole = || {
        let types = types();
        let wanted = [
            LEASEQUERY,
            LEASEQUERY_REPLY,
            LEASEQUERY_DATA,
            LEASEQUERY_DONE,
        ];
        wanted.iter().all(|it| types.contains(it)).then_some(())
    };
    wait_for("all types of messages in the capture", PATIENCE, is_whole)
        .unwrap_or_else(|error| panic!("{error}: {:?}", types()));
    // ACTIVELEASEQUERY, one for each direction, is newer than its dissector.
    let marked = shown("_ws.malformed", "dhcpv6.bulk_leasequery.msgtype");
    assert_eq!(marked, format!("{ACTIVELEASEQUERY}\n").repeat(2));
}

/// Asked for everything that it knows of this relay and its links, as its configuration says; it answers as Kea 3
/// does: one lease in each message, and no DONE where there is nothing. It is made by hand: Debian's Kea has no hook
/// for this. The relay is ready when it has answered, and asks again when an operator wants that.
#[test]
fn server_is_asked_for_its_leases_before_the_relay_is_ready() {
    let server = "address = \"2001:db8:c::11\"\n";
    let text = CONFIGURATION.replace(server, &format!("{server}bulk_leasequery = true\n"));
    assert_ne!(text, unlimited());
    let relay = match Relay::twinrelay(&text) {
        Ok(relay) => relay,
        Err(error) => {
            skipped(&error);
            return;
        }
    };
    let Some(mut lab) = lab_of(Relay::None, None, Lifetimes::default()) else {
        return;
    };
    let at = SocketAddr::from((ip("2001:db8:c::11"), 547));
    let listener = on_node(&lab, "s1", || TcpListener::bind(at)).expect("Kea has UDP only");
    lab.start_relay(R1, &relay).expect("r1 starts");

    let peer = Peer::accept(&listener, PATIENCE).expect("r1 connects");
    let (code, reason) = ready(&lab, R1);
    assert_eq!(code, Some(1), "{reason}");
    assert!(reason.contains("waiting for s1"), "{reason}");
    let asked = serve(peer, 0x99);

    assert_eq!(asked, 2, "by relay-id, and by the link-address of acc0");
    let is_ready = || (ready(&lab, R1).0 == Some(0)).then_some(());
    wait_for("r1 ready", PATIENCE, is_ready)
        .unwrap_or_else(|error| panic!("{error}\n{}", lab.log("r1.twinrelay")));
    let leases = ["2001:db8:a:1:8000::99/128", "2001:db8:d099::/56"];
    let origins = origins(&lab, R1);
    assert!(origins.keys().eq(leases), "{origins:?}");
    assert!(
        origins.values().all(|it| it == "bulk-leasequery:s1"),
        "{origins:?}"
    );
    assert!(kernel_routes_on(&lab, R1).iter().eq(leases));

    // An operator asks again, and is told what is new.
    lab.twinrelay(&["request", "bulk-leasequery", "s1"])
        .expect("r1 takes a request");
    let peer = Peer::accept(&listener, PATIENCE).expect("r1 connects");
    assert_eq!(serve(peer, 0x9a), 2);
    let is_there = || (kernel_routes_on(&lab, R1).len() == 4).then_some(());
    wait_for("what the server has by now", PATIENCE, is_there)
        .unwrap_or_else(|error| panic!("{error}\n{}", lab.log("r1.twinrelay")));
    let origin = crate::pair::origins(&lab, R1)["2001:db8:d09a::/56"].clone();
    assert_eq!(origin, "bulk-leasequery:s1");
    let refused = lab.twinrelay(&["request", "bulk-leasequery", "s2"]);
    let refused = refused.expect_err("s2 is not asked");
    assert!(refused.contains("bulk_leasequery"), "{refused}");
}

/// Answers all that comes on a connection of r1, of a client with this number: how many queries.
fn serve(mut peer: Peer, client: u8) -> u32 {
    let mut asked = 0;
    while let Ok(query) = peer.expect(LEASEQUERY, Duration::from_secs(2)) {
        asked += 1;
        for frame in answers(&query, client) {
            peer.send(&frame).expect("it is taken");
        }
    }
    asked
}

/// By link-address: two leases of one client. By relay-id: nothing is known.
fn answers(query: &Received, client: u8) -> Vec<Vec<u8>> {
    let options = read_options(&query.options);
    let find = |code| {
        options
            .iter()
            .find(|(it, _)| *it == code)
            .map(|(_, data)| data)
    };
    let client_id = find(1).expect("r1 says who it is");
    let by_link = find(44).expect("a query")[0] == 4;
    let head = [
        option(1, client_id),
        option(2, &[0, 3, 0, 1, 2, 0, 0, 0, 0, 0x53]),
    ]
    .concat();
    let message = |message_type, more: &[u8]| {
        framed(Message::new(message_type, query.xid.0).raw(&[&head, more].concat()))
    };
    if !by_link {
        return vec![message(LEASEQUERY_REPLY, &option(13, &[0, 0]))];
    }
    let lease = |leases: &[u8]| {
        let duid = [0, 3, 0, 1, 2, 0, 0, 0, 0, client];
        let mut said = Said::new(&duid, ip("::"), 3, leases);
        let relay_data = said.relay_data.take().expect("Said has it");
        let link = ip("2001:db8:a:1::2").octets();
        let mut forward = relay_data[16..].to_vec();
        forward[2..18].copy_from_slice(&link);
        said.relay_data = Some([&ip("2001:db8:c::1").octets()[..], &forward].concat());
        said.option()
    };
    vec![
        message(
            LEASEQUERY_REPLY,
            &lease(&iaaddr(&format!("2001:db8:a:1:8000::{client:x}"), 500, 600)),
        ),
        message(
            LEASEQUERY_DATA,
            &lease(&iaprefix(&format!("2001:db8:d0{client:x}::/56"), 500, 600)),
        ),
        message(LEASEQUERY_DONE, &[]),
    ]
}
