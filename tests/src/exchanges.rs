//! Exchanges between a client and a server, by way of the relay on the bench.
//!
//! Decides what a client and a server put around the IAs that a test names: transaction-id,
//! Client-Id and Server-Id (RFC 8415 §18.2, §18.3). Must not know what the relay learns from them.

use crate::bench::{Bench, Client};
use crate::messages::{Message, SERVER_DUID, iaaddr, iaprefix, option};

/// An IA_PD with T1 and T2 zero, holding these options.
pub fn pd(iaid: u32, inside: &[Vec<u8>]) -> Vec<u8> {
    pd_timed(iaid, 0, 0, inside)
}

/// An IA_PD with T1 and T2.
pub fn pd_timed(iaid: u32, t1: u32, t2: u32, inside: &[Vec<u8>]) -> Vec<u8> {
    option(25, &ia_data(iaid, t1, t2, inside))
}

/// An IA_NA with T1 and T2 zero, holding these options.
pub fn na(iaid: u32, inside: &[Vec<u8>]) -> Vec<u8> {
    option(3, &ia_data(iaid, 0, 0, inside))
}

/// An IA_TA, holding these options.
pub fn ta(iaid: u32, inside: &[Vec<u8>]) -> Vec<u8> {
    option(4, &[&iaid.to_be_bytes()[..], &inside.concat()].concat())
}

fn ia_data(iaid: u32, t1: u32, t2: u32, inside: &[Vec<u8>]) -> Vec<u8> {
    let mut data = iaid.to_be_bytes().to_vec();
    data.extend(t1.to_be_bytes());
    data.extend(t2.to_be_bytes());
    data.extend(inside.concat());
    data
}

/// An IA_PD with one prefix, valid for so many seconds and preferred for half of them.
pub fn pd_lease(iaid: u32, prefix: &str, valid: u32) -> Vec<u8> {
    pd(iaid, &[iaprefix(prefix, valid / 2, valid)])
}

/// An IA_NA with one address, valid for so many seconds and preferred for half of them.
pub fn na_lease(iaid: u32, address: &str, valid: u32) -> Vec<u8> {
    na(iaid, &[iaaddr(address, valid / 2, valid)])
}

/// A client's message of this type: Client-Id, Server-Id where the type names a server, `inside`.
pub fn from_client(message_type: u8, xid: u32, client: &Client, inside: &[u8]) -> Vec<u8> {
    let message = Message::new(message_type, xid).client_id(&client.duid);
    let message = if matches!(message_type, 3 | 5 | 8 | 9) {
        message.server_id(SERVER_DUID)
    } else {
        message
    };
    message.raw(inside).build()
}

/// A server's message of this type to the client: Client-Id, Server-Id, `inside`.
pub fn from_server(message_type: u8, xid: u32, client: &Client, inside: &[u8]) -> Vec<u8> {
    Message::new(message_type, xid)
        .client_id(&client.duid)
        .server_id(SERVER_DUID)
        .raw(inside)
        .build()
}

impl Bench {
    /// The client sends a message of this type; its transaction-id.
    pub fn ask(&mut self, client: &Client, message_type: u8, inside: &[u8]) -> u32 {
        let xid = self.next_xid();
        self.client(client, &from_client(message_type, xid, client, inside));
        xid
    }

    /// Server 0 answers what was last relayed with a REPLY.
    pub fn reply(&mut self, client: &Client, xid: u32, inside: &[u8]) {
        self.answer(&from_server(7, xid, client, inside));
    }

    /// A whole exchange: the client's message holds `asked`, the REPLY `given`.
    pub fn converse(&mut self, client: &Client, message_type: u8, asked: &[u8], given: &[u8]) {
        let xid = self.ask(client, message_type, asked);
        self.reply(client, xid, given);
    }

    /// The client gets these IAs by REQUEST and REPLY; the effects of that are taken away.
    pub fn bind(&mut self, client: &Client, given: &[u8]) {
        self.converse(client, 3, given, given);
        self.take();
    }
}
