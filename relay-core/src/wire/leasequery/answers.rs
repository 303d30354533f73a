//! What a server sends: REPLY to STARTTLS, and LEASEQUERY-REPLY, -DATA, -DONE (RFC 5460 §5.2, §7.2,
//! RFC 7653 §9.3). Decides what an answer holds once it is known what to say, and how a client
//! that does not fit into one message is split. Must not know when to say it.

use alloc::vec::Vec;

use super::{ClientDataOut, RequestedOptions, Status};
use crate::time::LqTime;
use crate::types::Xid;
use crate::wire::iana;
use crate::wire::message::{MessageWriter, TooLarge};

/// What all answers to one query have in common.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Answers<'a> {
    /// transaction-id of the query.
    pub xid: Xid,
    /// DUID of the server.
    pub server_id: &'a [u8],
    /// DUID of the requestor.
    pub client_id: &'a [u8],
    /// What the requestor wants.
    pub requested: RequestedOptions,
}

/// Appends a framed REPLY to STARTTLS: without `status` it accepts.
///
/// # Errors
/// It is too large; nothing is appended.
pub fn write_starttls_reply(
    buffer: &mut Vec<u8>,
    xid: Xid,
    status: Option<Status<'_>>,
) -> Result<(), TooLarge> {
    let mut writer = MessageWriter::framed(buffer, iana::REPLY, xid);
    if let Some(status) = status {
        status.write(&mut writer);
    }
    writer.finish()
}

impl Answers<'_> {
    /// Appends the LEASEQUERY-REPLY, framed. Leases of `client` that do not fit into it follow in
    /// LEASEQUERY-DATA. Returns the number of messages.
    ///
    /// # Errors
    /// A message with one lease is too large; nothing is appended.
    pub fn write_reply(
        &self,
        buffer: &mut Vec<u8>,
        now: LqTime,
        status: Option<Status<'_>>,
        client: Option<&ClientDataOut<'_>>,
    ) -> Result<usize, TooLarge> {
        self.write_split(buffer, iana::LEASEQUERY_REPLY, now, status, client)
    }

    /// Appends a LEASEQUERY-DATA, framed, or as many as the leases of `client` take: a client of
    /// two messages is told twice, each time with a part of its leases. Without `client` it is a
    /// keep-alive, or says what `status` says. Returns the number of messages.
    ///
    /// # Errors
    /// A message with one lease is too large; nothing is appended.
    pub fn write_data(
        &self,
        buffer: &mut Vec<u8>,
        now: LqTime,
        status: Option<Status<'_>>,
        client: Option<&ClientDataOut<'_>>,
    ) -> Result<usize, TooLarge> {
        self.write_split(buffer, iana::LEASEQUERY_DATA, now, status, client)
    }

    /// Appends the LEASEQUERY-DONE, framed.
    ///
    /// # Errors
    /// It is too large; nothing is appended.
    pub fn write_done(
        &self,
        buffer: &mut Vec<u8>,
        now: LqTime,
        status: Option<Status<'_>>,
    ) -> Result<(), TooLarge> {
        self.write_one(buffer, iana::LEASEQUERY_DONE, now, status, None)
    }

    /// Writes one message, or one for each half of the leases, and so on.
    // req: ALQ-D-16
    fn write_split(
        &self,
        buffer: &mut Vec<u8>,
        message_type: u8,
        now: LqTime,
        status: Option<Status<'_>>,
        client: Option<&ClientDataOut<'_>>,
    ) -> Result<usize, TooLarge> {
        let start = buffer.len();
        match (
            self.write_one(buffer, message_type, now, status, client),
            client,
        ) {
            (Ok(()), _) => Ok(1),
            (Err(TooLarge), Some(client)) if client.leases.len() > 1 => {
                let (first, rest) = client.leases.split_at(client.leases.len() / 2);
                let [first, rest] = [first, rest].map(|leases| ClientDataOut { leases, ..*client });
                let written = self.write_split(buffer, message_type, now, status, Some(&first));
                let data = iana::LEASEQUERY_DATA;
                written
                    .and_then(|n| Ok(n + self.write_split(buffer, data, now, None, Some(&rest))?))
                    .inspect_err(|_| buffer.truncate(start))
            }
            (Err(TooLarge), _) => Err(TooLarge),
        }
    }

    fn write_one(
        &self,
        buffer: &mut Vec<u8>,
        message_type: u8,
        now: LqTime,
        status: Option<Status<'_>>,
        client: Option<&ClientDataOut<'_>>,
    ) -> Result<(), TooLarge> {
        let mut writer = MessageWriter::framed(buffer, message_type, self.xid);
        if message_type == iana::LEASEQUERY_REPLY {
            writer.option(iana::OPTION_SERVERID, self.server_id);
            writer.option(iana::OPTION_CLIENTID, self.client_id);
        }
        if let Some(status) = status {
            status.write(&mut writer);
        }
        if let Some(client) = client.filter(|client| !client.leases.is_empty()) {
            client.write(&mut writer, self.requested);
        }
        // req: ALQ-14, BLQ-35
        if self.requested.contains(iana::OPTION_LQ_BASE_TIME) {
            writer.option(iana::OPTION_LQ_BASE_TIME, &now.0.to_be_bytes());
        }
        writer.finish()
    }
}
