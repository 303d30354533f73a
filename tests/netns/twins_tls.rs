//! Whom a relay lets begin a session: certificates, foreign TLS libraries, garbage and clear text, with the real
//! daemon. What is refused is counted and said in words, and costs neither a lease nor a message.

use std::io::Write;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::PathBuf;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use relay_core::wire::iana::{
    ACTIVELEASEQUERY, LEASEQUERY, LEASEQUERY_DATA, LEASEQUERY_DONE, LEASEQUERY_REPLY, REPLY,
    STARTTLS,
};
use relay_tests::alq_peer::frames::framed;
use relay_tests::alq_peer::{Peer, Received};
use relay_tests::asked::{Said, base_time};
use relay_tests::messages::{Layer, Message, iaprefix, ip, option, read_options};
use relay_userspace::leasequery::init::{Certified, make};
use serde_json::Value;
use xtask::lab::{Lab, Lifetimes, missing, wait_for};

use crate::hand::{Granted, HandClient, on_node};
use crate::harness::{bindings, ends_on, installed, route, scrape, skipped};
use crate::observe::{events, start_monitor};
use crate::openssl::Identity;
use crate::pair::{
    PATIENCE, R1, R2, TLS_DIR, address, expect_active, expect_same, expect_session, logs, pair,
    prepared, ready, session,
};

const R1_PORT: u16 = 547;
const R2_DUID: &[u8] = &[0, 3, 0, 1, 2, 0, 0, 0, 0, 0xb2];
const RETRY: &str = "idle_timeout = 1\n";
/// 2000-01-01 in Unix time: base-times count from there.
const EPOCH_SECS: u64 = 946_684_800;
const YEAR_SECS: i64 = 365 * 86_400;

fn now_secs() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    i64::try_from(since.expect("after 1970").as_secs()).expect("before the year 292 billion")
}

/// Where a router has its certificates, as seen from outside.
fn folder(lab: &Lab, node: &str) -> PathBuf {
    let inside = TLS_DIR
        .strip_prefix("/var/lib/")
        .expect("of the router alone");
    lab.dir().join(node).join("lib").join(inside)
}

/// Puts another certificate and key in place of a router's own.
fn give(lab: &Lab, node: &str, certified: &Certified) {
    let file = |end: &str| folder(lab, node).join(format!("{node}.{end}"));
    std::fs::write(file("pem"), &certified.certificate).expect("the file is writable");
    std::fs::write(file("key"), &certified.key).expect("the file is writable");
}

/// A relay also accepts what this CA has signed.
fn trust(lab: &Lab, node: &str, ca: &str) {
    let file = std::fs::OpenOptions::new()
        .append(true)
        .open(folder(lab, node).join("ca.pem"));
    file.and_then(|mut file| file.write_all(ca.as_bytes()))
        .expect("the file is writable");
}

/// Waits until the last error of a session says this.
fn expect_error(lab: &Lab, node: &str, role: &str, words: &str) -> Value {
    let said = || {
        let row = session(lab, node, role);
        let error = row["last_error"].as_str().unwrap_or_default();
        error.contains(words).then(|| row.clone())
    };
    wait_for(&format!("{words:?} of {node}'s {role}"), PATIENCE, said)
        .unwrap_or_else(|error| panic!("{error}: {:#}\n{}", session(lab, node, role), logs(lab)))
}

/// r1 has the leases that it had, and relays: a new client gets one, and a route.
fn expect_undisturbed(lab: &Lab, client: &mut HandClient, before: &[Granted]) -> Granted {
    client.duid[7] += 1;
    let granted = client.lease(1);
    for destination in before
        .iter()
        .chain([&granted])
        .flat_map(Granted::destinations)
    {
        assert!(installed(lab).contains(&destination), "{destination}");
        assert!(!route(lab, &destination).is_empty(), "{destination}");
    }
    granted
}

/// An expired certificate, one of another name, one of another CA: no session in either direction, until the right
/// one is back, by SIGHUP.
#[test]
fn certificate_that_proves_nothing_is_refused_and_nothing_else_suffers() {
    let Some(mut lab) = prepared(Lifetimes::default(), RETRY) else {
        return;
    };
    let now = now_secs();
    let expired = make(["expired", R2], now - 6 * YEAR_SECS).expect("a pair is made");
    let renamed = make([R1, "r3"], now).expect("a pair is made");
    let foreign = make([R1, R2], now).expect("a pair is made");
    trust(&lab, R1, &expired.ca);
    trust(&lab, R1, &renamed.ca);
    let read = |end: &str| std::fs::read_to_string(folder(&lab, R2).join(format!("r2.{end}")));
    let right = Certified {
        certificate: read("pem").expect("it is there"),
        key: read("key").expect("it is there"),
    };
    lab.start_twinrelay_on(R1).expect("r1 starts");
    lab.start_twinrelay_on(R2).expect("r2 starts");
    expect_active(&lab);
    let mut client = HandClient::on(&lab, "gen", "eth0");
    let mut granted = vec![client.lease(1)];
    expect_same(&lab, 2);

    let cases = [
        (
            &expired.relays[1],
            "certificate has expired",
            "our certificate has expired",
        ),
        (
            &renamed.relays[1],
            "bears the name",
            "the peer refuses our certificate",
        ),
        (
            &foreign.relays[1],
            "not signed by an authority",
            "the authority of our certificate",
        ),
    ];
    for (certified, at_r1, at_r2) in cases {
        lab.stop("r2.twinrelay", "TERM").expect("r2 ends");
        give(&lab, R2, certified);
        let errors = session(&lab, R1, "server")["errors"].clone();
        lab.start_twinrelay_on(R2).expect("r2 starts");

        for role in ["requestor", "server"] {
            let row = expect_error(&lab, R1, role, at_r1);
            let error = row["last_error"].as_str().unwrap_or_default();
            assert!(error.starts_with("certificate refused"), "{error}");
        }
        expect_error(&lab, R2, "requestor", at_r2);
        assert!(session(&lab, R1, "server")["errors"].as_u64() > errors.as_u64());
        assert_eq!(ready(&lab, R2).0, Some(1), "without its twin");
        assert_eq!(ready(&lab, R1).0, Some(0), "once ready, always ready");
        let more = expect_undisturbed(&lab, &mut client, &granted);
        granted.push(more);
    }

    give(&lab, R2, &right);
    lab.signal("r2.twinrelay", "HUP").expect("r2 runs");
    expect_active(&lab);
    expect_same(&lab, 8);
}

/// New certificates as docs/active-leasequery.md says to bring them in: nothing is interrupted, and what begins
/// then begins with them. The ends of certificates are told.
#[test]
fn certificates_are_renewed_by_reloads_without_interrupting_a_session() {
    let Some(mut lab) = pair(Lifetimes::default(), RETRY) else {
        return;
    };
    start_monitor(&mut lab);
    // Until it says that an operator wants a new session, it may not listen yet.
    let is_watched = || {
        lab.twinrelay(&["request", "active-leasequery", "resync"])
            .expect("r1 takes a request");
        (!events(&lab).is_empty()).then_some(())
    };
    wait_for("monitor", PATIENCE, is_watched).expect("it prints events");
    expect_active(&lab);
    let ends = |lab: &Lab| {
        let metrics = scrape(lab);
        let name = "twinrelay_tls_certificate_expiry_timestamp_seconds{name=\"certificate\"} ";
        let line = metrics.lines().find_map(|it| it.strip_prefix(name));
        let secs = line.unwrap_or_else(|| panic!("no {name} in {metrics}"));
        secs.parse::<f64>().expect("a number") as i64
    };
    let five_years = now_secs() + 5 * YEAR_SECS;
    assert!((ends(&lab) - five_years).abs() < 120, "{}", ends(&lab));
    let since = [R1, R2].map(|node| session(&lab, node, "requestor")["since"].clone());

    // One that ends in three days, so that its end is news at once.
    let soon = make([R1, R2], now_secs() - 5 * YEAR_SECS + 3 * 86_400).expect("a pair is made");
    for node in [R1, R2] {
        trust(&lab, node, &soon.ca);
        lab.signal(&format!("{node}.twinrelay"), "HUP")
            .expect("it runs");
    }
    for (node, certified) in [R1, R2].into_iter().zip(&soon.relays) {
        give(&lab, node, certified);
        lab.signal(&format!("{node}.twinrelay"), "HUP")
            .expect("it runs");
    }
    let in_three_days = now_secs() + 3 * 86_400;
    let is_new = || ((ends(&lab) - in_three_days).abs() < 120).then_some(());
    wait_for("the new certificate", PATIENCE, is_new)
        .unwrap_or_else(|error| panic!("{error}: {}", ends(&lab)));
    let is_told = |it: &Value| {
        it["kind"] == "certificate" && it["event"] == "expires" && it["name"] == "certificate"
    };
    let told = || events(&lab).into_iter().find(is_told);
    let told = wait_for("the certificate event", PATIENCE, told)
        .unwrap_or_else(|error| panic!("{error}: {:#?}", events(&lab)));
    let end = told["not_after"].as_str().expect("a text");
    let end: jiff::Timestamp = end.parse().expect("RFC 3339");
    assert!((end.as_second() - in_three_days).abs() < 120, "{told:#}");
    let now = [R1, R2].map(|node| session(&lab, node, "requestor")["since"].clone());
    assert_eq!(now, since, "a session was interrupted");

    lab.twinrelay(&["request", "active-leasequery", "resync"])
        .expect("r1 takes a request");
    wait_for("a new session", PATIENCE, || {
        let row = session(&lab, R1, "requestor");
        (row["state"] == "active" && row["since"] != since[0]).then_some(())
    })
    .unwrap_or_else(|error| panic!("{error}\n{}", logs(&lab)));
    assert_eq!(session(&lab, R1, "requestor")["tls"], true);
    crate::harness::expect_logged(&lab, "r1.twinrelay", "a certificate of [tls] ends soon", 1);
}

/// A connection to r1 from r2's address.
fn connect(lab: &Lab) -> Peer {
    let to = SocketAddr::from((ip(address(R1)), R1_PORT));
    on_node(lab, R2, || Peer::connect(to)).expect("r1 listens")
}

/// r1 runs, r2 is whatever the test makes of it; a client has a lease.
fn alone() -> Option<(Lab, HandClient, Vec<Granted>)> {
    let mut lab = prepared(Lifetimes::default(), RETRY)?;
    if !missing(&["openssl"]).is_empty() {
        return skipped("openssl is not installed").map(|_| unreachable!("it was skipped"));
    }
    lab.start_twinrelay_on(R1).expect("r1 starts");
    let mut client = HandClient::on(&lab, "gen", "eth0");
    let granted = vec![client.lease(1)];
    Some((lab, client, granted))
}

/// Clear text where TLS is demanded, garbage instead of a handshake, clear text behind STARTTLS, and a stranger.
#[test]
fn who_does_not_begin_tls_as_agreed_is_cut_off_and_counted() {
    let Some((lab, mut client, granted)) = alone() else {
        return;
    };
    let starttls = framed(Message::new(STARTTLS, 1));
    let query = framed(Message::new(ACTIVELEASEQUERY, 2).client_id(R2_DUID));

    let mut peer = connect(&lab);
    peer.send(&query).expect("it is taken");
    peer.expect_closed(PATIENCE).expect("no clear text");
    expect_error(&lab, R1, "server", "TLS required");

    let mut peer = connect(&lab);
    peer.send(&starttls).expect("it is taken");
    peer.expect(REPLY, PATIENCE).expect("STARTTLS is accepted");
    peer.send(b"GET / HTTP/1.1\r\nHost: r1\r\n\r\n")
        .expect("it is taken");
    expect_error(
        &lab,
        R1,
        "server",
        "TLS failed: what the peer sends is no TLS",
    );

    let mut peer = connect(&lab);
    peer.send(&[&starttls[..], &query].concat())
        .expect("it is taken");
    expect_error(&lab, R1, "server", "protocol error");

    let refused = "twinrelay_leasequery_refused_total{reason=\"not_a_peer\"} 1";
    let to = SocketAddr::from((ip(address(R1)), R1_PORT));
    let mut stranger = on_node(&lab, "s1", || Peer::connect(to)).expect("r1 listens");
    stranger
        .expect_closed(PATIENCE)
        .expect("who is no peer is closed");
    assert!(scrape(&lab).contains(refused), "{}", scrape(&lab));

    assert!(session(&lab, R1, "server")["errors"].as_u64() >= Some(3));
    expect_undisturbed(&lab, &mut client, &granted);
}

/// One relay with TLS, one without: both say so, neither speaks.
#[test]
fn relay_without_tls_has_no_session_with_one_that_demands_it() {
    let Some((mut lab, ..)) = alone() else {
        return;
    };
    let file = lab.configuration_file(R2);
    let text = std::fs::read_to_string(&file).expect("it is there");
    let text = text
        .replace("enabled = true", "enabled = true\nallow_insecure = true")
        .replace("name = \"r1\"", "name = \"r1\"\ntls = \"off\"");
    std::fs::write(&file, text).expect("it is writable");
    lab.start_twinrelay_on(R2).expect("r2 starts");

    for role in ["requestor", "server"] {
        expect_error(&lab, R1, role, "TLS required");
    }
    expect_error(&lab, R2, "requestor", "closed by the peer");
    assert_eq!(ends_on(&lab, R2).len(), 0);
    // They call each other back, but not without pause.
    let before = errors(&lab, R1);
    std::thread::sleep(Duration::from_secs(4));
    let more = errors(&lab, R1) - before;
    assert!(more <= 12, "{more} errors in four seconds");
}

/// Connections of leasequery that ended with an error, in both roles.
fn errors(lab: &Lab, node: &str) -> u64 {
    let of = |role| session(lab, node, role)["errors"].as_u64();
    let of = |role| of(role).expect("a number");
    of("requestor") + of("server")
}

/// LEASEQUERY-REPLY, -DATA or -DONE to what was asked, from r2.
fn answer(asked: &Received, message_type: u8, options: &[u8]) -> Vec<u8> {
    framed(Message::new(message_type, asked.xid.0).raw(options))
}

/// OpenSSL asks: what r1 holds, and what happens then.
#[test]
fn openssl_asks_over_starttls_and_is_told_of_a_lease() {
    let Some((lab, mut client, _)) = alone() else {
        return;
    };
    let identity = Identity {
        folder: &folder(&lab, R2),
        name: R2,
        peer: R1,
    };
    let mut peer = connect(&lab);
    peer.send(&framed(Message::new(STARTTLS, 1)))
        .expect("it is taken");
    let reply = peer.expect(REPLY, PATIENCE).expect("STARTTLS is accepted");
    assert!(
        reply.options.is_empty(),
        "no status: {:02x?}",
        reply.options
    );
    peer.start_tls(|connection| identity.client(connection))
        .expect("openssl starts");

    let query = Message::new(ACTIVELEASEQUERY, 2)
        .client_id(R2_DUID)
        .option(6, &[0, 47, 0, 100]);
    peer.send(&framed(query)).expect("it is taken");
    peer.expect(LEASEQUERY_REPLY, PATIENCE).expect("r1 answers");
    let row = expect_session(&lab, R1, "server", "active");
    assert_eq!(row["tls"], true);

    client.duid[7] += 1;
    client.lease(1);
    let told = peer.expect(LEASEQUERY_DATA, PATIENCE).expect("r1 tells");
    let options = read_options(&told.options);
    let (_, told) = options
        .iter()
        .find(|(code, _)| *code == 45)
        .expect("a client");
    let inside = read_options(told);
    assert!(inside.contains(&(1, client.duid.clone())), "{inside:02x?}");
}

/// OpenSSL answers: r1 asks it for everything, and routes to what it tells.
#[test]
fn openssl_answers_over_starttls_and_its_lease_is_routed() {
    let Some((lab, ..)) = alone() else {
        return;
    };
    let to = SocketAddr::from((ip("::"), R1_PORT));
    let listener = on_node(&lab, R2, || TcpListener::bind(to)).expect("nobody has the port");
    let folder = folder(&lab, R2);
    let identity = Identity {
        folder: &folder,
        name: R2,
        peer: R1,
    };
    let accept = |wanted: u8| {
        let mut peer = Peer::accept(&listener, PATIENCE).expect("r1 connects");
        let asked = peer.expect(STARTTLS, PATIENCE).expect("r1 begins TLS");
        peer.send(&answer(&asked, REPLY, &[])).expect("it is taken");
        peer.start_tls(|connection| identity.server(connection))
            .expect("openssl starts");
        let asked = peer
            .expect(wanted, Duration::from_secs(5))
            .expect("r1 asks");
        (peer, asked)
    };
    let secs = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .expect("after 1970");
    let now = u32::try_from(secs.as_secs() - EPOCH_SECS).expect("before 2136");
    let head = |asked: &Received| {
        let options = read_options(&asked.options);
        let (_, duid) = options
            .iter()
            .find(|(code, _)| *code == 1)
            .expect("r1's DUID");
        [option(1, duid), option(2, R2_DUID), base_time(now)].concat()
    };

    let (mut active, asked) = accept(ACTIVELEASEQUERY);
    active
        .send(&answer(&asked, LEASEQUERY_REPLY, &head(&asked)))
        .expect("it is taken");
    let (mut bulk, asked) = accept(LEASEQUERY);
    let mut said = Said::new(
        &[0, 3, 0, 1, 2, 0, 0, 0, 0, 0xc9],
        ip(address(R2)),
        5,
        &iaprefix("2001:db8:d999::/56", 500, 600),
    );
    let layer = Layer::new(12, 0, ip("2001:db8:a:1::3"), ip("fe80::c9"))
        .option(79, &[0, 1, 2, 0, 0, 0, 0, 0xc9]);
    said.relay_data = Some([&ip(address(R2)).octets()[..], &layer.build()].concat());
    let told = [head(&asked), said.option()].concat();
    bulk.send(&answer(&asked, LEASEQUERY_REPLY, &told))
        .expect("it is taken");
    bulk.send(&answer(&asked, LEASEQUERY_DONE, &[]))
        .expect("it is taken");

    expect_session(&lab, R1, "requestor", "active");
    let routed = || (!route(&lab, "2001:db8:d999::/56").is_empty()).then_some(());
    wait_for("the route of what OpenSSL told", PATIENCE, routed)
        .unwrap_or_else(|error| panic!("{error}: {:#?}\n{}", bindings(&lab), logs(&lab)));
    let (code, reason) = ready(&lab, R1);
    assert_eq!(code, Some(0), "{reason}");
}

/// The port of leasequery, to see that it is nobody's.
#[test]
fn daemon_without_active_leasequery_listens_nowhere() {
    let Some(lab) = crate::harness::lab(crate::harness::CONFIGURATION, Lifetimes::default()) else {
        return;
    };
    let to = SocketAddr::from((ip(address(R1)), R1_PORT));

    let refused = on_node(&lab, "s1", || TcpStream::connect(to));

    assert!(refused.is_err(), "{refused:?}");
}
