//! The other end of a session that the relay on the bench opens: a peer or a server whose messages a
//! test writes itself, right or wrong.

use std::net::Ipv6Addr;

use relay_core::alq::{CloseReason, ConnectionId, LeasequeryEffect, LeasequeryInput, Remote};
use relay_core::input::Input;

use crate::bench::Bench;
use crate::messages::{Layer, Message, option};

/// DUID of the other end.
pub const PEER_DUID: &[u8] = &[0, 3, 0, 1, 2, 0, 0, 0, 0, 0xb2];

/// What is said of one client.
#[derive(Clone, Debug)]
pub struct Said {
    /// The client's DUID.
    pub duid: Vec<u8>,
    /// IAADDR, IAPREFIX and IA options.
    pub leases: Vec<u8>,
    /// CLT_TIME.
    pub clt: Option<u32>,
    /// The data of LQ_RELAY_DATA.
    pub relay_data: Option<Vec<u8>>,
}

impl Said {
    /// A client that relay `snooper` heard `clt` seconds ago on the link 2001:db8:1::/64 as fe80::c3.
    pub fn new(duid: &[u8], snooper: Ipv6Addr, clt: u32, leases: &[u8]) -> Self {
        let link = "2001:db8:1::2".parse().expect("an address");
        let client = "fe80::c3".parse().expect("an address");
        let layer = Layer::new(12, 0, link, client)
            .option(18, b"eth7")
            .option(79, &[0, 1, 2, 0, 0, 0, 0, 0xc3]);
        Self {
            duid: duid.to_vec(),
            leases: leases.to_vec(),
            clt: Some(clt),
            relay_data: Some([&snooper.octets()[..], &layer.build()].concat()),
        }
    }

    /// CLIENT_DATA (45).
    pub fn option(&self) -> Vec<u8> {
        let mut data = option(1, &self.duid);
        data.extend(&self.leases);
        if let Some(clt) = self.clt {
            data.extend(option(46, &clt.to_be_bytes()));
        }
        if let Some(relay_data) = &self.relay_data {
            data.extend(option(47, relay_data));
        }
        option(45, &data)
    }
}

/// LQ_BASE_TIME (100).
pub fn base_time(secs: u32) -> Vec<u8> {
    option(100, &secs.to_be_bytes())
}

/// A connection that the relay has opened.
#[derive(Clone, Debug)]
pub struct Asked {
    /// Its number.
    pub connection: ConnectionId,
    /// Whom it was opened to.
    pub to: Remote,
    /// transaction-id of the last message that the relay sent.
    pub xid: u32,
    /// The relay's DUID.
    pub identity: Vec<u8>,
}

impl Bench {
    /// The next connection that the relay opens; earlier effects are lost.
    pub fn connecting(&mut self) -> Option<Asked> {
        while let Some((effect, _)) = self.leasequery.pop_front() {
            if let LeasequeryEffect::Connect { connection, to } = effect {
                let identity = self.config.leasequery.identity.clone();
                return Some(Asked {
                    connection,
                    to,
                    xid: 0,
                    identity,
                });
            }
        }
        None
    }

    /// Opens it, and says what the relay sends first.
    #[track_caller]
    pub fn accepted(&mut self) -> (Asked, TcpMessage) {
        let mut asked = self.connecting().expect("a connection is opened");
        let connection = asked.connection;
        self.input(Input::Leasequery(LeasequeryInput::Connected { connection }));
        let sent = asked.sent(self).expect("something is sent at once");
        (asked, sent)
    }

    /// Why the relay closed a connection, where it has.
    pub fn closed(&mut self, asked: &Asked) -> Option<CloseReason> {
        let at = self.leasequery.iter().position(|(effect, _)| {
            matches!(effect, LeasequeryEffect::Close { connection, .. } if *connection == asked.connection)
        })?;
        match self.leasequery.remove(at) {
            Some((LeasequeryEffect::Close { reason, .. }, _)) => Some(reason),
            _ => None,
        }
    }
}

/// A message on TCP, taken apart.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct TcpMessage {
    /// msg-type.
    pub message_type: u8,
    /// transaction-id.
    pub xid: u32,
    /// In wire order.
    pub options: Vec<(u16, Vec<u8>)>,
}

impl TcpMessage {
    fn read(frame: &[u8]) -> Self {
        let size = usize::from(u16::from_be_bytes([frame[0], frame[1]]));
        assert_eq!(size, frame.len() - 2, "one whole message");
        Self {
            message_type: frame[2],
            xid: u32::from_be_bytes([0, frame[3], frame[4], frame[5]]),
            options: crate::messages::read_options(&frame[6..]),
        }
    }

    /// The data of an option.
    pub fn find(&self, code: u16) -> Option<&[u8]> {
        let found = self.options.iter().find(|(it, _)| *it == code);
        found.map(|(_, data)| data.as_slice())
    }

    /// The option codes, in wire order.
    pub fn codes(&self) -> Vec<u16> {
        self.options.iter().map(|(code, _)| *code).collect()
    }
}

impl Asked {
    /// The next message that the relay sends here; the kernel takes it at once.
    pub fn sent(&mut self, bench: &mut Bench) -> Option<TcpMessage> {
        let connection = self.connection;
        let at = bench.leasequery.iter().position(|(effect, _)| {
            matches!(effect, LeasequeryEffect::Send { connection: it, .. } if *it == connection)
        })?;
        let (_, frame) = bench.leasequery.remove(at)?;
        bench.input(Input::Leasequery(LeasequeryInput::Writable { connection }));
        let message = TcpMessage::read(&frame);
        self.xid = message.xid;
        Some(message)
    }

    /// These bytes come, as they are.
    pub fn feed(&self, bench: &mut Bench, bytes: &[u8]) {
        bench.input(Input::Leasequery(LeasequeryInput::Received {
            connection: self.connection,
            bytes,
        }));
    }

    /// This message comes.
    pub fn receive(&self, bench: &mut Bench, message: &[u8]) {
        let size = u16::try_from(message.len()).expect("a message on TCP");
        self.feed(bench, &[&size.to_be_bytes()[..], message].concat());
    }

    /// A message of this type with the transaction-id of the query comes.
    pub fn say(&self, bench: &mut Bench, message_type: u8, options: &[u8]) {
        let message = Message::new(message_type, self.xid).raw(options);
        self.receive(bench, &message.build());
    }

    /// LEASEQUERY-REPLY with both identifiers comes.
    pub fn reply(&self, bench: &mut Bench, options: &[u8]) {
        let identifiers = [option(2, PEER_DUID), option(1, &self.identity)].concat();
        self.say(bench, 15, &[identifiers.as_slice(), options].concat());
    }

    /// LEASEQUERY-DATA comes.
    pub fn data(&self, bench: &mut Bench, options: &[u8]) {
        self.say(bench, 17, options);
    }

    /// LEASEQUERY-DONE comes.
    pub fn done(&self, bench: &mut Bench, options: &[u8]) {
        self.say(bench, 16, options);
    }

    /// The other end is gone.
    pub fn breaks(&self, bench: &mut Bench) {
        bench.input(Input::Leasequery(LeasequeryInput::Closed {
            connection: self.connection,
            reason: CloseReason::Remote,
        }));
    }
}
