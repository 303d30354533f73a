//! One connection: bytes both ways, STARTTLS in place, the end behind what was sent.
//!
//! Reading and writing go on side by side in one task, so that neither a peer that does not read nor
//! one that does not write keeps the other direction, or the end, waiting. Every wait has a limit.

use std::collections::VecDeque;
use std::fmt;
use std::future::poll_fn;
use std::io;
use std::net::{Ipv6Addr, SocketAddr, SocketAddrV6};
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use relay_core::alq::{CloseReason, ConnectionId};
use rustls::pki_types::ServerName;
use socket2::{SockRef, TcpKeepalive};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, ReadBuf};
use tokio::net::{TcpSocket, TcpStream};
use tokio::sync::mpsc;
use tokio::time::timeout;
use tokio_rustls::TlsStream;

use super::tls::reason_of;
use super::{Connections, Limits, Order, Target, Told, What};
use crate::handle::{Command, RelayBusy, RelayHandle};

/// A router that is up answers within milliseconds; an attempt that takes longer has failed.
const CONNECT_WITHIN: Duration = Duration::from_secs(10);
/// Both ends are routers: the handshake takes milliseconds.
const HANDSHAKE_WITHIN: Duration = Duration::from_secs(30);
/// For the last bytes and the other end's FIN.
const LINGER: Duration = Duration::from_secs(2);
/// The relay thread's queue is full: try again after this.
const AGAIN: Duration = Duration::from_millis(2);
/// Read at once: what the core may be given.
const READ_BYTES: usize = 64 << 10;
/// What a peer that does not read costs the kernel, which doubles it.
const SEND_BUFFER_BYTES: usize = 256 << 10;
/// A dead peer that nothing is sent to is noticed after a minute.
const KEEPALIVE: (Duration, Duration, u32) = (Duration::from_secs(30), Duration::from_secs(10), 3);

/// How the connection came to be, for the log.
#[derive(Clone, Debug)]
pub(super) enum Way {
    /// Toward the peer or server of this name.
    Opened(String),
    /// From this address.
    Accepted(Ipv6Addr),
}

impl fmt::Display for Way {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Opened(name) => write!(f, "to {name}"),
            Self::Accepted(from) => write!(f, "from {from}"),
        }
    }
}

/// Opens a connection.
pub(super) async fn connect(
    to: &Target,
    from: Option<Ipv6Addr>,
    limits: Limits,
) -> io::Result<TcpStream> {
    let socket = TcpSocket::new_v6()?;
    if let Some(from) = from {
        socket.bind(SocketAddr::V6(SocketAddrV6::new(from, 0, 0, 0)))?;
    }
    let connecting = socket.connect(SocketAddr::V6(to.address));
    let stream = timeout(CONNECT_WITHIN, connecting)
        .await
        .map_err(|_| io::Error::from(io::ErrorKind::TimedOut))??;
    prepare(&stream, limits)?;
    Ok(stream)
}

/// Options of every connection, in both roles.
pub(super) fn prepare(stream: &TcpStream, limits: Limits) -> io::Result<()> {
    let (time, interval, retries) = KEEPALIVE;
    let keepalive = TcpKeepalive::new()
        .with_time(time)
        .with_interval(interval)
        .with_retries(retries);
    let socket = SockRef::from(stream);
    socket.set_tcp_nodelay(true)?;
    socket.set_tcp_keepalive(&keepalive)?;
    socket.set_tcp_user_timeout(Some(limits.send_timeout))?;
    socket.set_send_buffer_size(SEND_BUFFER_BYTES)
}

/// Tells the relay thread, as soon as it has room.
pub(super) async fn tell(relay: &RelayHandle, told: Told) {
    let mut command = Command::Leasequery(told);
    while let Err((busy, back)) = relay.offer(command) {
        if busy == RelayBusy::Ended {
            return;
        }
        command = back;
        tokio::time::sleep(AGAIN).await;
    }
}

/// In the clear, or over TLS.
enum Stream {
    Clear(TcpStream),
    Secure(Box<TlsStream<TcpStream>>),
}

impl Stream {
    fn tcp(&self) -> &TcpStream {
        match self {
            Self::Clear(stream) => stream,
            Self::Secure(stream) => stream.get_ref().0,
        }
    }

    fn reader(&mut self) -> &mut (dyn AsyncRead + Send + Unpin) {
        match self {
            Self::Clear(stream) => stream,
            Self::Secure(stream) => stream,
        }
    }

    fn writer(&mut self) -> &mut (dyn AsyncWrite + Send + Unpin) {
        match self {
            Self::Clear(stream) => stream,
            Self::Secure(stream) => stream,
        }
    }
}

/// What is being sent.
struct Sending {
    bytes: Vec<u8>,
    sent: usize,
}

/// A connection, owned by its task.
pub(super) struct Connection {
    id: ConnectionId,
    /// `None` only while the handshake has it.
    stream: Option<Stream>,
    orders: mpsc::Receiver<Order>,
    /// Came while something was being sent.
    later: VecDeque<Order>,
    sending: Option<Sending>,
    /// The core has taken what was read last.
    may_read: bool,
    is_half_closed: bool,
    buffer: Box<[u8]>,
    all: Connections,
    way: Way,
}

enum Event {
    Order(Order),
    /// The relay thread has ended.
    NobodyOrders,
    Sent(io::Result<()>),
    Read(io::Result<usize>),
}

/// The connection has ended; nothing is left to be done with it.
struct Ended;

impl Connection {
    pub(super) fn new(
        id: ConnectionId,
        stream: TcpStream,
        orders: mpsc::Receiver<Order>,
        all: Connections,
        way: Way,
    ) -> Self {
        Self {
            id,
            stream: Some(Stream::Clear(stream)),
            orders,
            later: VecDeque::new(),
            sending: None,
            // Both ends of a connection first get leave from the core.
            may_read: false,
            is_half_closed: false,
            buffer: vec![0; READ_BYTES].into_boxed_slice(),
            all,
            way,
        }
    }

    /// Until either end closes it. `first` is what the core hears of it.
    pub(super) async fn run(mut self, first: What) {
        self.tell(first).await;
        while self.step().await.is_ok() {}
    }

    async fn tell(&self, what: What) {
        let connection = self.id;
        tell(&self.all.relay, Told { connection, what }).await;
    }

    async fn step(&mut self) -> Result<(), Ended> {
        while self.sending.is_none()
            && let Some(order) = self.later.pop_front()
        {
            self.obey(order).await?;
        }
        let event = poll_fn(|cx| self.poll(cx)).await;
        match event {
            Event::Order(Order::More) => self.may_read = true,
            Event::Order(Order::Close) | Event::NobodyOrders => {
                self.close().await;
                return Err(Ended);
            }
            Event::Order(Order::Cut) => {
                self.cut();
                return Err(Ended);
            }
            // Behind what is being sent.
            Event::Order(order) if self.sending.is_some() => self.later.push_back(order),
            Event::Order(order) => self.obey(order).await?,
            Event::Sent(Ok(())) => {
                self.sending = None;
                self.tell(What::Writable).await;
            }
            Event::Read(Ok(0)) => {
                self.is_half_closed = true;
                self.tell(What::HalfClosed).await;
            }
            Event::Read(Ok(len)) => {
                self.may_read = false;
                let bytes = self.buffer[..len].to_vec();
                self.tell(What::Received(bytes)).await;
            }
            Event::Sent(Err(error)) | Event::Read(Err(error)) => {
                let (reason, text) = reason_of(&error);
                return self.ended(reason, text).await;
            }
        }
        Ok(())
    }

    /// Orders first: leave to read stands behind those that change what is read.
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Event> {
        if let Poll::Ready(order) = self.orders.poll_recv(cx) {
            return Poll::Ready(order.map_or(Event::NobodyOrders, Event::Order));
        }
        let stream = self.stream.as_mut().expect("the handshake has ended");
        if let Some(sending) = &mut self.sending
            && let Poll::Ready(sent) = poll_send(stream.writer(), sending, cx)
        {
            return Poll::Ready(Event::Sent(sent));
        }
        if self.may_read && !self.is_half_closed {
            let mut buffer = ReadBuf::new(&mut self.buffer);
            let read = ready!(Pin::new(stream.reader()).poll_read(cx, &mut buffer));
            let len = buffer.filled().len();
            return Poll::Ready(Event::Read(read.map(|()| len)));
        }
        Poll::Pending
    }

    async fn obey(&mut self, order: Order) -> Result<(), Ended> {
        match order {
            Order::Send(bytes) => {
                self.sending = Some(Sending { bytes, sent: 0 });
                Ok(())
            }
            Order::StartTls(name) => self.secure(name).await,
            Order::More => {
                self.may_read = true;
                Ok(())
            }
            Order::Close | Order::Cut => Err(Ended),
        }
    }

    /// The handshake. Whoever opened the connection is the TLS client.
    // req: ALQ-21, ALQ-23, ALQ-51
    async fn secure(&mut self, name: ServerName<'static>) -> Result<(), Ended> {
        let Some(tls) = self.all.tls() else {
            let text = "[tls] has no certificates that can be used".to_owned();
            return self.ended(CloseReason::TlsFailed, text).await;
        };
        let Some(Stream::Clear(stream)) = self.stream.take() else {
            let text = "TLS within TLS".to_owned();
            return self.ended(CloseReason::ProtocolError, text).await;
        };
        let clock = self.all.clock();
        let is_client = matches!(self.way, Way::Opened(_));
        let handshake = async move {
            if is_client {
                let connecting = tls.connector(&clock).connect(name, stream);
                connecting.await.map(TlsStream::from)
            } else {
                let accepting = tls.acceptor(&name, &clock).accept(stream);
                accepting.await.map(TlsStream::from)
            }
        };
        let mut handshake = std::pin::pin!(timeout(HANDSHAKE_WITHIN, handshake));
        let done = loop {
            tokio::select! {
                biased;
                order = self.orders.recv() => match order {
                    Some(Order::More) => self.may_read = true,
                    Some(Order::Close | Order::Cut) | None => return Err(Ended),
                    Some(order) => self.later.push_back(order),
                },
                done = &mut handshake => break done,
            }
        };
        match done {
            Ok(Ok(stream)) => {
                self.stream = Some(Stream::Secure(Box::new(stream)));
                self.tell(What::TlsUp).await;
                Ok(())
            }
            Ok(Err(error)) => {
                let (reason, text) = match reason_of(&error) {
                    (CloseReason::Remote, text) => {
                        let text = format!("the peer broke the handshake off: {text}");
                        (CloseReason::TlsFailed, text)
                    }
                    other => other,
                };
                self.ended(reason, text).await
            }
            Err(_) => {
                let secs = HANDSHAKE_WITHIN.as_secs();
                let text = format!("the handshake took longer than {secs} s");
                self.ended(CloseReason::TlsFailed, text).await
            }
        }
    }

    /// The last that the core hears of it, behind what it has still to take.
    async fn ended(&mut self, reason: CloseReason, text: String) -> Result<(), Ended> {
        tracing::debug!(
            reason = reason.name(),
            "connection {} ended: {text}",
            self.way
        );
        self.stream = None;
        while !self.may_read {
            match self.orders.recv().await {
                Some(Order::More) => self.may_read = true,
                Some(Order::Close | Order::Cut) | None => return Err(Ended),
                // Nobody is there any more who could be sent anything.
                Some(Order::Send(_) | Order::StartTls(_)) => {}
            }
        }
        self.tell(What::Closed(reason, text)).await;
        Err(Ended)
    }

    /// What was to be sent, then the end, then what the other end still says: unread bytes would make
    /// the kernel throw away what it has not delivered.
    async fn close(&mut self) {
        let Some(mut stream) = self.stream.take() else {
            return;
        };
        let sending = self.sending.take();
        let later = std::mem::take(&mut self.later);
        let last = async {
            if let Some(Sending { bytes, sent }) = sending {
                stream.writer().write_all(&bytes[sent..]).await?;
            }
            for order in later {
                if let Order::Send(bytes) = order {
                    stream.writer().write_all(&bytes).await?;
                }
            }
            stream.writer().shutdown().await?;
            while stream.reader().read(&mut self.buffer).await? > 0 {}
            io::Result::Ok(())
        };
        if timeout(LINGER, last).await.is_err() {
            self.stream = Some(stream);
            self.cut();
        }
    }

    /// The other end reads nothing: the kernel shall not keep what it will not take.
    fn cut(&mut self) {
        if let Some(stream) = self.stream.take() {
            let _ = SockRef::from(stream.tcp()).set_linger(Some(Duration::ZERO));
        }
    }
}

/// Writes, then makes sure that nothing is left in buffers of TLS.
fn poll_send(
    writer: &mut (dyn AsyncWrite + Send + Unpin),
    sending: &mut Sending,
    cx: &mut Context<'_>,
) -> Poll<io::Result<()>> {
    let mut writer = Pin::new(writer);
    while sending.sent < sending.bytes.len() {
        let left = &sending.bytes[sending.sent..];
        match ready!(writer.as_mut().poll_write(cx, left)) {
            Ok(0) => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
            Ok(len) => sending.sent += len,
            Err(error) => return Poll::Ready(Err(error)),
        }
    }
    writer.poll_flush(cx)
}

#[cfg(test)]
mod tests;
