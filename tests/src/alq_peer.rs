//! One end of a leasequery connection that does what a script says, right or wrong: the requestor
//! or the server that a relay under test talks to. Synchronous, and nothing waits for ever.
//!
//! Sound frames come from `relay-core`'s codec, which is held against vectors of its own; frames
//! that no codec would write come from [`frames`]. Must not know what the relay should do.

pub mod frames;

use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use relay_core::types::Xid;
use relay_core::wire::iana::message_type_name;
use relay_core::wire::message::Message;
use relay_core::wire::tcp_frame::FrameReader;

/// Longer than any step of a test that works: connecting, and writing what the other end reads.
const STEP_TIMEOUT: Duration = Duration::from_secs(10);
/// How often something that others cause is looked for again.
const POLL: Duration = Duration::from_millis(5);

/// What carries the bytes: the TCP connection itself, or TLS over it.
pub trait Transport: Read + Write + Send {}

impl<T: Read + Write + Send> Transport for T {}

/// One end of a connection.
pub struct Peer {
    /// For what TLS does not know: timeouts and closing.
    tcp: TcpStream,
    transport: Box<dyn Transport>,
    reader: FrameReader,
}

/// A message that came in.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Received {
    /// msg-type.
    pub message_type: u8,
    /// transaction-id.
    pub xid: Xid,
    /// Its options.
    pub options: Vec<u8>,
}

/// What a wait ended with.
enum Waited {
    Message(Received),
    Closed,
    TimedOut,
}

impl Received {
    /// For the readers of the codec.
    pub fn view(&self) -> Message<'_> {
        Message {
            message_type: self.message_type,
            xid: self.xid,
            options: &self.options,
        }
    }
}

impl Peer {
    /// Connects, as a requestor does.
    pub fn connect(server: SocketAddr) -> Result<Self> {
        let tcp = TcpStream::connect_timeout(&server, STEP_TIMEOUT);
        Self::new(tcp.with_context(|| format!("connect to {server}"))?)
    }

    /// Takes the next connection, as a server does.
    pub fn accept(listener: &TcpListener, within: Duration) -> Result<Self> {
        listener.set_nonblocking(true)?;
        let deadline = Instant::now() + within;
        loop {
            match listener.accept() {
                Ok((tcp, _)) => {
                    tcp.set_nonblocking(false)?;
                    return Self::new(tcp);
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => {
                    ensure!(Instant::now() < deadline, "nobody connected in {within:?}");
                    std::thread::sleep(POLL);
                }
                Err(error) => return Err(error).context("accept a connection"),
            }
        }
    }

    fn new(tcp: TcpStream) -> Result<Self> {
        tcp.set_nodelay(true)?;
        tcp.set_write_timeout(Some(STEP_TIMEOUT))?;
        Ok(Self {
            transport: Box::new(tcp.try_clone()?),
            tcp,
            reader: FrameReader::default(),
        })
    }

    /// Puts TLS, or what claims to be, over the connection; what was read before must be used up.
    pub fn start_tls(
        &mut self,
        wrap: impl FnOnce(TcpStream) -> Result<Box<dyn Transport>>,
    ) -> Result<()> {
        ensure!(self.reader.is_empty(), "clear text is left before TLS");
        self.tcp.set_read_timeout(Some(STEP_TIMEOUT))?;
        self.transport = wrap(self.tcp.try_clone()?)?;
        Ok(())
    }

    /// Sends bytes as they are.
    pub fn send(&mut self, bytes: &[u8]) -> Result<()> {
        let sent = self.transport.write_all(bytes);
        sent.and_then(|()| self.transport.flush())
            .with_context(|| format!("send {} bytes", bytes.len()))
    }

    /// Sends one octet at a time with a pause before each.
    pub fn send_slowly(&mut self, bytes: &[u8], pause: Duration) -> Result<()> {
        for octet in bytes.chunks(1) {
            std::thread::sleep(pause);
            self.send(octet)?;
        }
        Ok(())
    }

    /// The next message, which is of this type.
    pub fn expect(&mut self, message_type: u8, within: Duration) -> Result<Received> {
        let wanted = message_type_name(message_type);
        match self.wait(within)? {
            Waited::Message(message) if message.message_type == message_type => Ok(message),
            Waited::Message(other) => {
                let name = message_type_name(other.message_type);
                bail!("{name} instead of {wanted}: {other:02x?}")
            }
            Waited::Closed => bail!("closed instead of {wanted}"),
            Waited::TimedOut => bail!("no {wanted} in {within:?}"),
        }
    }

    /// The other end closes, and says nothing before.
    pub fn expect_closed(&mut self, within: Duration) -> Result<()> {
        match self.wait(within)? {
            Waited::Closed => Ok(()),
            Waited::Message(message) => bail!("a message instead of a close: {message:02x?}"),
            Waited::TimedOut => bail!("not closed in {within:?}"),
        }
    }

    /// The other end neither says anything nor closes.
    pub fn expect_silence(&mut self, during: Duration) -> Result<()> {
        match self.wait(during)? {
            Waited::TimedOut => Ok(()),
            Waited::Message(message) => bail!("a message instead of silence: {message:02x?}"),
            Waited::Closed => bail!("closed instead of silence"),
        }
    }

    /// Says that nothing more will be sent; goes on reading.
    pub fn half_close(&mut self) -> Result<()> {
        self.tcp.shutdown(Shutdown::Write).context("half-close")
    }

    /// Waits for a message or the end. A reset is an end too.
    fn wait(&mut self, within: Duration) -> Result<Waited> {
        let deadline = Instant::now() + within;
        let mut buffer = [0; 16_384];
        loop {
            if let Some(message) = self.reader.next_message() {
                let message = message.context("read a frame")?;
                return Ok(Waited::Message(Received {
                    message_type: message.message_type,
                    xid: message.xid,
                    options: message.options.to_vec(),
                }));
            }
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Ok(Waited::TimedOut);
            }
            self.tcp.set_read_timeout(Some(left))?;
            match self.transport.read(&mut buffer) {
                Ok(0) => {
                    ensure!(self.reader.is_empty(), "closed in the middle of a frame");
                    return Ok(Waited::Closed);
                }
                Ok(length) => self.reader.extend(&buffer[..length]),
                Err(error) => match error.kind() {
                    ErrorKind::WouldBlock | ErrorKind::TimedOut | ErrorKind::Interrupted => {}
                    ErrorKind::ConnectionReset | ErrorKind::BrokenPipe => {
                        return Ok(Waited::Closed);
                    }
                    _ => return Err(error).context("read"),
                },
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use relay_core::time::LqTime;
    use relay_core::wire::iana;
    use relay_core::wire::leasequery::{
        ActiveQuery, Answer, Answers, Query, Status, write_starttls, write_starttls_reply,
    };

    use super::*;
    use crate::messages::{RELAY_DUID, SERVER_DUID};

    const SOON: Duration = Duration::from_secs(5);
    const SHORT: Duration = Duration::from_millis(50);

    /// A requestor and a server, connected over loopback.
    fn pair() -> (Peer, Peer) {
        let listener = TcpListener::bind("[::1]:0").unwrap();
        let requestor = Peer::connect(listener.local_addr().unwrap()).unwrap();
        (requestor, Peer::accept(&listener, SOON).unwrap())
    }

    fn keep_alive() -> Vec<u8> {
        crate::messages::hex("000c 11000002 006400043000003c")
    }

    #[test]
    fn peers_of_both_roles_play_a_whole_query() {
        let (mut requestor, mut server) = pair();
        let mut frames = Vec::new();

        write_starttls(&mut frames, Xid(1));
        requestor.send(&frames).unwrap();
        let starttls = server.expect(iana::STARTTLS, SOON).unwrap();
        frames.clear();
        let refused = Some(Status::new(iana::STATUS_TLS_CONNECTION_REFUSED));
        write_starttls_reply(&mut frames, starttls.xid, refused).unwrap();
        server.send(&frames).unwrap();
        let reply = requestor.expect(iana::REPLY, SOON).unwrap();
        assert_eq!(Answer::read(&reply.view()).unwrap().status, refused);

        frames.clear();
        let query = ActiveQuery {
            client_id: RELAY_DUID,
            server_id: None,
            lq_query: None,
            requested: &[100],
            start_time: None,
        };
        query.write(&mut frames, Xid(2)).unwrap();
        requestor.send(&frames).unwrap();
        let query = server.expect(iana::ACTIVELEASEQUERY, SOON).unwrap();
        let read = Query::read(&query.view(), SERVER_DUID).unwrap();
        let answers = Answers {
            xid: query.xid,
            server_id: SERVER_DUID,
            client_id: read.client_id,
            requested: read.requested,
        };
        frames.clear();
        answers
            .write_reply(&mut frames, LqTime(1), None, None)
            .unwrap();
        answers.write_done(&mut frames, LqTime(2), None).unwrap();
        server.send(&frames).unwrap();
        requestor.expect(iana::LEASEQUERY_REPLY, SOON).unwrap();
        requestor.expect(iana::LEASEQUERY_DONE, SOON).unwrap();
        requestor.expect_silence(SHORT).unwrap();
        requestor.half_close().unwrap();
        server.expect_closed(SOON).unwrap();
        server.send(&keep_alive()).unwrap();
        requestor.expect(iana::LEASEQUERY_DATA, SOON).unwrap();
        drop(server);
        requestor.expect_closed(SOON).unwrap();
    }

    #[test]
    fn expectation_that_is_not_met_says_what_came_instead() {
        let (mut requestor, mut server) = pair();
        let told = |result: Result<Received>| format!("{:#}", result.unwrap_err());

        let silent = requestor.expect(iana::LEASEQUERY_DATA, SHORT);
        assert_eq!(told(silent), "no leasequery-data in 50ms");
        assert!(requestor.expect_closed(SHORT).is_err());
        server.send(&keep_alive()).unwrap();
        let other = told(requestor.expect(iana::LEASEQUERY_DONE, SOON));
        assert!(other.starts_with("leasequery-data instead of leasequery-done"));
        server.send(&keep_alive()).unwrap();
        assert!(requestor.expect_silence(SOON).is_err());
        server.send(&keep_alive()).unwrap();
        assert!(requestor.expect_closed(SOON).is_err());
        drop(server);
        let closed = requestor.expect(iana::LEASEQUERY_DATA, SOON);
        assert_eq!(told(closed), "closed instead of leasequery-data");
        assert!(requestor.expect_silence(SOON).is_err());
    }

    #[test]
    fn frame_that_comes_octet_by_octet_is_one_message() {
        let (mut requestor, mut server) = pair();

        server
            .send_slowly(&keep_alive(), Duration::from_millis(1))
            .unwrap();
        requestor.expect(iana::LEASEQUERY_DATA, SOON).unwrap();
        requestor.expect_silence(SHORT).unwrap();
    }

    #[test]
    fn peer_that_never_reads_makes_the_other_give_up() {
        let (mut requestor, never_reads) = pair();
        requestor.tcp.set_write_timeout(Some(SHORT)).unwrap();

        let flood = keep_alive().repeat(100_000);
        let gave_up = (0..100).any(|_| requestor.send(&flood).is_err());

        assert!(gave_up);
        drop(never_reads);
    }

    #[test]
    fn nobody_who_connects_is_told() {
        let listener = TcpListener::bind("[::1]:0").unwrap();

        assert!(Peer::accept(&listener, SHORT).is_err());
    }

    #[test]
    fn clear_text_before_tls_is_refused_and_a_wrap_carries_on() {
        let (mut requestor, mut server) = pair();
        server.send(&keep_alive()[..3]).unwrap();
        assert!(requestor.expect_silence(SHORT).is_ok());
        assert!(requestor.start_tls(|tcp| Ok(Box::new(tcp))).is_err());
        server.send(&keep_alive()[3..]).unwrap();
        requestor.expect(iana::LEASEQUERY_DATA, SOON).unwrap();

        requestor.start_tls(|tcp| Ok(Box::new(tcp))).unwrap();

        server.send(&keep_alive()).unwrap();
        requestor.expect(iana::LEASEQUERY_DATA, SOON).unwrap();
    }
}
