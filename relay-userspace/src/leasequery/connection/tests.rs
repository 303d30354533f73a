//! Two connection tasks at the ends of one TCP connection over loopback, or one and a foreign end.

use std::process::{Command as Program, Stdio};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, TryRecvError, sync_channel};
use std::time::SystemTime;

use jiff::Timestamp;
use nix::sys::eventfd::EventFd;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use tokio::net::TcpListener;
use tokio_rustls::TlsConnector;

use super::*;
use crate::leasequery::tls::tests::Files;
use crate::leasequery::tls::{Clock, Tls};

const PATIENCE: Duration = Duration::from_secs(10);
const OPENED: ConnectionId = ConnectionId(1);

/// What the relay thread would be.
struct Side {
    connections: Connections,
    commands: Receiver<Command>,
}

impl Side {
    fn new(tls: Option<Arc<Tls>>) -> Self {
        Self::at(tls, SystemTime::UNIX_EPOCH)
    }

    fn at(tls: Option<Arc<Tls>>, not_before: SystemTime) -> Self {
        let (sender, commands) = sync_channel(64);
        let relay = RelayHandle::new(sender, Arc::new(EventFd::new().unwrap().into()));
        let runtime = tokio::runtime::Handle::current();
        let connections = Connections::new(runtime, relay, Clock { not_before });
        connections.use_tls(tls);
        Self {
            connections,
            commands,
        }
    }

    async fn hear(&self) -> What {
        let told = async {
            loop {
                match self.commands.try_recv() {
                    Ok(Command::Leasequery(told)) => return told.what,
                    Ok(other) => panic!("{other:?}"),
                    Err(TryRecvError::Empty) => tokio::time::sleep(Duration::from_millis(1)).await,
                    Err(TryRecvError::Disconnected) => panic!("all connections are gone"),
                }
            }
        };
        timeout(PATIENCE, told).await.expect("something happens")
    }

    fn hears_nothing(&self) -> bool {
        matches!(self.commands.try_recv(), Err(TryRecvError::Empty))
    }

    /// Takes the next connection of this listener.
    async fn accept(&self, listener: &TcpListener) -> mpsc::Sender<Order> {
        let (stream, from) = listener.accept().await.unwrap();
        let SocketAddr::V6(from) = from else {
            panic!("{from}");
        };
        prepare(&stream, Limits::default()).unwrap();
        self.connections.accept(stream, *from.ip());
        match self.hear().await {
            What::Accepted(Ipv6Addr::LOCALHOST, orders) => orders,
            other => panic!("{other:?}"),
        }
    }

    fn open(&self, to: SocketAddr) -> mpsc::Sender<Order> {
        let SocketAddr::V6(address) = to else {
            panic!("{to}");
        };
        let to = Target {
            name: "r2".to_owned(),
            address,
            tls_name: None,
        };
        let from = Some(Ipv6Addr::LOCALHOST);
        self.connections.open(OPENED, to, from, Limits::default())
    }
}

async fn listener() -> TcpListener {
    TcpListener::bind("[::1]:0").await.unwrap()
}

fn name(text: &str) -> ServerName<'static> {
    ServerName::try_from(text.to_owned()).unwrap()
}

async fn order(to: &mpsc::Sender<Order>, orders: impl IntoIterator<Item = Order>) {
    for order in orders {
        to.send(order).await.expect("the task lives");
    }
}

/// A client and a server, connected; the client is `r1`, the server `r2`.
struct Pair {
    client: Side,
    server: Side,
    to_client: mpsc::Sender<Order>,
    to_server: mpsc::Sender<Order>,
}

impl Pair {
    async fn of(client: Side, server: Side) -> Self {
        let listener = listener().await;
        let to_client = client.open(listener.local_addr().unwrap());
        let to_server = server.accept(&listener).await;
        assert!(matches!(client.hear().await, What::Connected));
        Self {
            client,
            server,
            to_client,
            to_server,
        }
    }

    /// STARTTLS and its answer, then the handshake; what each end hears then.
    async fn secure(&self, server_name: &str, client_name: &str) -> (What, What) {
        order(&self.to_client, [Order::Send(b"starttls".to_vec())]).await;
        assert!(matches!(self.client.hear().await, What::Writable));
        order(&self.to_server, [Order::More]).await;
        let What::Received(asked) = self.server.hear().await else {
            panic!("the server is asked");
        };
        assert_eq!(asked, b"starttls");
        let start = Order::StartTls(name(client_name));
        order(
            &self.to_server,
            [Order::Send(b"reply".to_vec()), start, Order::More],
        )
        .await;
        assert!(matches!(self.server.hear().await, What::Writable));
        order(&self.to_client, [Order::More]).await;
        let What::Received(answered) = self.client.hear().await else {
            panic!("the client is answered");
        };
        assert_eq!(answered, b"reply");
        order(
            &self.to_client,
            [Order::StartTls(name(server_name)), Order::More],
        )
        .await;
        let (mut client, server) = tokio::join!(self.client.hear(), self.server.hear());
        if matches!((&client, &server), (What::TlsUp, What::Closed(..))) {
            // TLS 1.3: the server judges the client's certificate after the client's handshake.
            client = self.client.hear().await;
        }
        (client, server)
    }
}

fn closed(what: &What) -> (CloseReason, &str) {
    match what {
        What::Closed(reason, text) => (*reason, text),
        other => panic!("{other:?}"),
    }
}

async fn handshake(
    client: Side,
    server: Side,
    server_name: &str,
    client_name: &str,
) -> (What, What) {
    let pair = Pair::of(client, server).await;
    pair.secure(server_name, client_name).await
}

/// req: ALQ-23, ALQ-25 (RFC 7653 §8.2), ALQ-51 (§9.1)
#[tokio::test]
async fn alq_23_pair_of_one_authority_goes_on_within_tls_both_ways() {
    let files = Files::new();
    let client = Side::new(Some(files.load("r1")));
    let pair = Pair::of(client, Side::new(Some(files.load("r2")))).await;

    let up = pair.secure("r2", "r1").await;

    assert!(matches!(up, (What::TlsUp, What::TlsUp)), "{up:?}");
    let long: Vec<u8> = (0..60_000u32).map(|at| at as u8).collect();
    order(&pair.to_server, [Order::Send(long.clone())]).await;
    let mut came = Vec::new();
    while came.len() < long.len() {
        match pair.client.hear().await {
            What::Received(bytes) => came.extend(bytes),
            other => panic!("{other:?}"),
        }
        order(&pair.to_client, [Order::More]).await;
    }
    assert_eq!(came, long);
    assert!(matches!(pair.server.hear().await, What::Writable));
    order(&pair.to_client, [Order::Send(b"question".to_vec())]).await;
    let What::Received(question) = pair.server.hear().await else {
        panic!("a question");
    };
    assert_eq!(question, b"question");
}

/// The last bytes arrive though the end is ordered at once, and though the other end has bytes on
/// the way that nobody reads.
#[tokio::test]
async fn end_comes_behind_what_was_sent() {
    let files = Files::new();
    let client = Side::new(Some(files.load("r1")));
    let pair = Pair::of(client, Side::new(Some(files.load("r2")))).await;
    pair.secure("r2", "r1").await;
    order(&pair.to_client, [Order::Send(b"unread".to_vec())]).await;
    assert!(matches!(pair.client.hear().await, What::Writable));

    order(
        &pair.to_server,
        [Order::Send(b"done".to_vec()), Order::Close],
    )
    .await;

    let What::Received(last) = pair.client.hear().await else {
        panic!("the last bytes");
    };
    assert_eq!(last, b"done");
    order(&pair.to_client, [Order::More]).await;
    assert!(matches!(pair.client.hear().await, What::HalfClosed));
}

/// req: ALQ-24 (RFC 7653 §8.2)
#[tokio::test]
async fn alq_24_server_of_another_name_or_authority_is_refused() {
    let (files, others) = (Files::new(), Files::new());
    let r1 = || Side::new(Some(files.load("r1")));
    let r2 = || Side::new(Some(files.load("r2")));

    let (client, server) = handshake(r1(), r2(), "r3", "r1").await;
    let (reason, text) = closed(&client);
    assert_eq!(reason, CloseReason::TlsCertificate);
    assert!(
        text.contains("bears the name") && text.contains("not r3"),
        "{text}"
    );
    assert_eq!(closed(&server).0, CloseReason::TlsCertificate);

    let stranger = Side::new(Some(others.load_with_ca_of("r2", &files)));
    let (client, server) = handshake(r1(), stranger, "r2", "r1").await;
    let (reason, text) = closed(&client);
    assert_eq!(reason, CloseReason::TlsCertificate);
    assert!(text.contains("not signed by an authority"), "{text}");
    let (reason, text) = closed(&server);
    assert_eq!(reason, CloseReason::TlsCertificate);
    assert!(text.contains("does not know the authority"), "{text}");
}

/// req: ALQ-52, ALQ-53 (RFC 7653 §9.1)
#[tokio::test]
async fn alq_53_client_of_another_name_or_authority_is_refused() {
    let (files, others) = (Files::new(), Files::new());
    let r2 = || Side::new(Some(files.load("r2")));

    // Of our authority, and still not the one that connects from there.
    let impostor = Side::new(Some(files.load("r2")));
    let (client, server) = handshake(impostor, r2(), "r2", "r1").await;
    let (reason, text) = closed(&server);
    assert_eq!(reason, CloseReason::TlsCertificate);
    assert!(text.contains("not r1"), "{text}");
    assert_eq!(closed(&client).0, CloseReason::TlsCertificate);

    let stranger = Side::new(Some(others.load_with_ca_of("r1", &files)));
    let (client, server) = handshake(stranger, r2(), "r2", "r1").await;
    assert_eq!(closed(&server).0, CloseReason::TlsCertificate);
    assert_eq!(closed(&client).0, CloseReason::TlsCertificate);
}

/// DESIGN: certificates are judged by the later of the wall clock and the newest stored time.
#[tokio::test]
async fn certificate_that_expired_or_is_not_valid_yet_is_refused() {
    let now = Timestamp::now().as_second();
    let six_years = 6 * 365 * 86_400;
    let (old, future) = (Files::from(now - six_years), Files::from(now + six_years));

    let (client, server) = handshake(
        Side::new(Some(old.load("r1"))),
        Side::new(Some(old.load("r2"))),
        "r2",
        "r1",
    )
    .await;
    assert_eq!(closed(&client).0, CloseReason::TlsCertificate);
    assert!(closed(&client).1.contains("has expired"), "{client:?}");
    assert!(closed(&server).1.contains("ours") || closed(&server).1.contains("our certificate"));

    let (client, _) = handshake(
        Side::new(Some(future.load("r1"))),
        Side::new(Some(future.load("r2"))),
        "r2",
        "r1",
    )
    .await;
    assert!(closed(&client).1.contains("not valid yet"), "{client:?}");

    // A clock that was set back does not make it valid again: the store knows better.
    let fresh = Files::new();
    let stored = SystemTime::now() + Duration::from_secs(six_years as u64);
    let client = Side::at(Some(fresh.load("r1")), stored);
    let (client, _) = handshake(client, Side::new(Some(fresh.load("r2"))), "r2", "r1").await;
    assert!(closed(&client).1.contains("has expired"), "{client:?}");
}

#[tokio::test]
async fn start_of_tls_without_certificates_ends_the_connection() {
    let files = Files::new();
    let client = Side::new(Some(files.load("r1")));

    let (client, server) = handshake(client, Side::new(None), "r2", "r1").await;

    let (reason, text) = closed(&server);
    assert_eq!(reason, CloseReason::TlsFailed);
    assert!(text.contains("[tls]"), "{text}");
    assert_eq!(closed(&client).0, CloseReason::TlsFailed);
}

/// A server in the handshake, and what it hears after these bytes came, and the end where `ends`.
async fn server_told(bytes: &[u8], ends: bool) -> (CloseReason, String) {
    let server = Side::new(Some(Files::new().load("r2")));
    let listener = listener().await;
    let mut foreign = TcpStream::connect(listener.local_addr().unwrap())
        .await
        .unwrap();
    let orders = server.accept(&listener).await;
    order(&orders, [Order::StartTls(name("r1")), Order::More]).await;
    foreign.write_all(bytes).await.unwrap();
    if ends {
        foreign.shutdown().await.unwrap();
    }
    match server.hear().await {
        What::Closed(reason, text) => (reason, text),
        other => panic!("{other:?}"),
    }
}

/// Clear text behind STARTTLS never gets past the handshake. req: ALQ-D-19
#[tokio::test]
async fn alq_d_19_clear_text_or_garbage_where_tls_begins_ends_the_connection() {
    // ACTIVELEASEQUERY, of the test vectors.
    let query = [
        0, 0x1a, 0x16, 0, 0, 2, 0, 1, 0, 0x0a, 0, 3, 0, 1, 2, 0, 0, 0, 0, 0xa1,
    ];

    for bytes in [&query[..], &[0xff; 300], b"GET / HTTP/1.0\r\n\r\n"] {
        let (reason, text) = server_told(bytes, false).await;
        assert_eq!(reason, CloseReason::TlsFailed);
        assert!(text.contains("no TLS"), "{text}");
    }
    let (reason, text) = server_told(&[], true).await;
    assert_eq!(reason, CloseReason::TlsFailed);
    assert!(text.contains("broke the handshake off"), "{text}");
}

/// A ClientHello that knows no later version than this.
fn client_hello(version: [u8; 2]) -> Vec<u8> {
    let mut hello = vec![version[0], version[1]];
    hello.extend([7; 32]);
    // No session; TLS_ECDHE_ECDSA_WITH_AES_128_CBC_SHA; no compression; no extensions.
    hello.extend([0, 0, 2, 0xc0, 0x09, 1, 0, 0, 0]);
    let len = hello.len() as u8;
    let handshake = [&[1, 0, 0, len][..], &hello].concat();
    [&[0x16, 3, 1, 0, handshake.len() as u8][..], &handshake].concat()
}

/// req: ALQ-26 (RFC 9325 §3.1.1)
#[tokio::test]
async fn alq_26_tls_1_1_and_1_0_are_refused() {
    for version in [[3, 1], [3, 2]] {
        let (reason, text) = server_told(&client_hello(version), false).await;

        assert_eq!(reason, CloseReason::TlsFailed);
        assert!(text.contains("TLS 1.2 or 1.3 is needed"), "{text}");
    }
}

/// A foreign client of rustls with this version, with or without a certificate.
async fn foreign_client(
    version: &'static rustls::SupportedProtocolVersion,
    has_certificate: bool,
) -> What {
    let files = Files::new();
    let server = Side::new(Some(files.load("r2")));
    let listener = listener().await;
    let stream = TcpStream::connect(listener.local_addr().unwrap())
        .await
        .unwrap();
    let orders = server.accept(&listener).await;
    order(&orders, [Order::StartTls(name("r1")), Order::More]).await;
    let mut roots = rustls::RootCertStore::empty();
    roots
        .add(CertificateDer::from_pem_file(files.path("ca.pem")).unwrap())
        .unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = rustls::ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(&[version])
        .unwrap()
        .with_root_certificates(roots);
    let config = match has_certificate {
        false => builder.with_no_client_auth(),
        true => {
            let own = CertificateDer::from_pem_file(files.path("r1.pem")).unwrap();
            let key = rustls::pki_types::PrivateKeyDer::from_pem_file(files.path("r1.key"));
            builder
                .with_client_auth_cert(vec![own], key.unwrap())
                .unwrap()
        }
    };
    let connector = TlsConnector::from(Arc::new(config));
    let connecting = tokio::spawn(async move { connector.connect(name("r2"), stream).await });
    let heard = server.hear().await;
    if let Ok(stream) = connecting.await.unwrap() {
        let used = stream.get_ref().1.protocol_version();
        assert_eq!(used, Some(version.version));
    }
    heard
}

/// req: ALQ-26 (RFC 9325 §3.1.1)
#[tokio::test]
async fn alq_26_tls_1_2_and_1_3_are_taken_and_demand_a_certificate() {
    for version in [&rustls::version::TLS12, &rustls::version::TLS13] {
        let heard = foreign_client(version, true).await;
        assert!(matches!(heard, What::TlsUp), "{version:?}: {heard:?}");

        let heard = foreign_client(version, false).await;
        let (reason, text) = closed(&heard);
        assert_eq!(reason, CloseReason::TlsCertificate, "{version:?}");
        assert!(text.contains("shows no certificate"), "{text}");
    }
}

/// OpenSSL as the other end. req: ALQ-26 (RFC 9325 §3.1.1)
#[tokio::test(flavor = "multi_thread")]
async fn alq_26_openssl_talks_to_us_in_both_versions() {
    if Program::new("openssl").arg("version").output().is_err() {
        return crate::testing::skipped("openssl is not installed");
    }
    for version in ["-tls1_2", "-tls1_3"] {
        let files = Files::new();
        let server = Side::new(Some(files.load("r2")));
        let listener = listener().await;
        let port = listener.local_addr().unwrap().port();
        let mut foreign = Program::new("openssl")
            .args(["s_client", "-quiet", "-verify_return_error", version])
            .args([
                "-verify_hostname",
                "r2",
                "-connect",
                &format!("[::1]:{port}"),
            ])
            .arg("-CAfile")
            .arg(files.path("ca.pem"))
            .arg("-cert")
            .arg(files.path("r1.pem"))
            .arg("-key")
            .arg(files.path("r1.key"))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let orders = server.accept(&listener).await;
        order(&orders, [Order::StartTls(name("r1")), Order::More]).await;
        let up = server.hear().await;
        assert!(matches!(up, What::TlsUp), "{version}: {up:?}");

        std::io::Write::write_all(foreign.stdin.as_mut().unwrap(), b"hello\n").unwrap();
        let What::Received(said) = server.hear().await else {
            panic!("openssl says something");
        };
        assert_eq!(said, b"hello\n");
        order(&orders, [Order::Send(b"bye\n".to_vec()), Order::Close]).await;
        drop(foreign.stdin.take());
        let output = foreign.wait_with_output().unwrap();
        assert_eq!(output.stdout, b"bye\n");
    }
}

/// While the core has not taken what was read, nothing more is read: TCP makes the other end wait.
#[tokio::test]
async fn nothing_is_read_before_the_core_has_taken_what_came() {
    let (client, server) = (Side::new(None), Side::new(None));
    let pair = Pair::of(client, server).await;
    order(&pair.to_client, [Order::Send(vec![1; 100])]).await;
    assert!(matches!(pair.client.hear().await, What::Writable));
    tokio::time::sleep(Duration::from_millis(50)).await;
    assert!(pair.server.hears_nothing(), "read without leave");

    order(&pair.to_server, [Order::More]).await;
    assert!(matches!(pair.server.hear().await, What::Received(_)));
    order(&pair.to_client, [Order::Send(vec![2; 100])]).await;
    assert!(matches!(pair.client.hear().await, What::Writable));
    tokio::time::sleep(Duration::from_millis(50)).await;
    assert!(pair.server.hears_nothing(), "read without leave");
}

/// A peer that reads nothing: what cannot be sent stays one buffer, and the end comes all the same.
#[tokio::test]
async fn peer_that_reads_nothing_delays_neither_writable_of_others_nor_the_end() {
    let (client, server) = (Side::new(None), Side::new(None));
    let pair = Pair::of(client, server).await;
    let mut sent = 0;
    loop {
        order(&pair.to_server, [Order::Send(vec![0; 64 << 10])]).await;
        let Ok(what) = timeout(Duration::from_millis(300), pair.server.hear()).await else {
            break;
        };
        assert!(matches!(what, What::Writable), "{what:?}");
        sent += 1;
        assert!(sent < 256, "the kernel takes everything");
    }

    order(&pair.to_server, [Order::Close]).await;
    let ended = timeout(LINGER * 2, pair.to_server.closed()).await;
    assert!(ended.is_ok(), "the task goes on");
}

#[tokio::test]
async fn refused_connection_is_told_with_its_address() {
    let client = Side::new(None);
    let listener = listener().await;
    let address = listener.local_addr().unwrap();
    drop(listener);

    let _orders = client.open(address);

    let heard = client.hear().await;
    let (reason, text) = closed(&heard);
    assert_eq!(reason, CloseReason::ConnectFailed);
    assert!(
        text.contains(&address.to_string()) && text.contains("refused"),
        "{text}"
    );
}

#[tokio::test]
async fn other_end_that_is_reset_is_told() {
    let (client, server) = (Side::new(None), Side::new(None));
    let pair = Pair::of(client, server).await;
    order(&pair.to_client, [Order::More]).await;
    let listening = pair.server;
    order(&pair.to_server, [Order::Send(vec![0; 10]), Order::Close]).await;
    drop(listening);

    assert!(matches!(pair.client.hear().await, What::Received(_)));
    order(&pair.to_client, [Order::More]).await;
    assert!(matches!(pair.client.hear().await, What::HalfClosed));
}
