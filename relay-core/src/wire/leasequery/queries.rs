//! What a requestor sends: STARTTLS, ACTIVELEASEQUERY and LEASEQUERY (RFC 5007 §4.3.1,
//! RFC 5460 §5.3, RFC 7653 §6.2). Must not know what for.

use alloc::vec::Vec;

use super::LqQuery;
use super::requested::{is_per_client, write_oro};
use crate::time::LqTime;
use crate::types::Xid;
use crate::wire::iana;
use crate::wire::message::{MessageWriter, TooLarge};

/// ACTIVELEASEQUERY. It has no LQ_END_TIME (ALQ-8).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct ActiveQuery<'a> {
    /// The requestor's DUID.
    pub client_id: &'a [u8],
    /// The only server that is meant.
    pub server_id: Option<&'a [u8]>,
    /// Only a part of the updates; `None` asks for all (ALQ-5).
    pub lq_query: Option<LqQuery<'a>>,
    /// Option codes wanted, in this order.
    pub requested: &'a [u16],
    /// Also what changed on or after it, on the clock of the server.
    pub start_time: Option<LqTime>,
}

/// LEASEQUERY.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct BulkQuery<'a> {
    /// The requestor's DUID.
    pub client_id: &'a [u8],
    /// The only server that is meant.
    pub server_id: Option<&'a [u8]>,
    /// What is looked for.
    pub lq_query: LqQuery<'a>,
    /// Option codes wanted, in this order.
    pub requested: &'a [u16],
    /// Only what changed on or after it, on the clock of the server.
    pub start_time: Option<LqTime>,
    /// Only what changed on or before it, on the clock of the server.
    pub end_time: Option<LqTime>,
}

/// Appends a framed STARTTLS.
pub fn write_starttls(buffer: &mut Vec<u8>, xid: Xid) {
    let written = MessageWriter::framed(buffer, iana::STARTTLS, xid).finish();
    debug_assert!(written.is_ok(), "a message without options fits");
}

impl ActiveQuery<'_> {
    /// Appends it, framed.
    ///
    /// # Errors
    /// It is too large; nothing is appended.
    pub fn write(&self, buffer: &mut Vec<u8>, xid: Xid) -> Result<(), TooLarge> {
        let mut writer = MessageWriter::framed(buffer, iana::ACTIVELEASEQUERY, xid);
        write_identifiers(&mut writer, self.client_id, self.server_id);
        if let Some(lq_query) = &self.lq_query {
            lq_query.write(&mut writer, self.requested);
        }
        // RFC 7653 does not say where the per-client codes stand without LQ_QUERY: here, all of
        // them, always. req: ALQ-D-5
        write_oro(&mut writer, self.requested.iter());
        write_time(&mut writer, iana::OPTION_LQ_START_TIME, self.start_time);
        writer.finish()
    }
}

impl BulkQuery<'_> {
    /// Appends it, framed.
    ///
    /// # Errors
    /// It is too large; nothing is appended.
    pub fn write(&self, buffer: &mut Vec<u8>, xid: Xid) -> Result<(), TooLarge> {
        self.write_to(MessageWriter::framed(buffer, iana::LEASEQUERY, xid))
    }

    /// Appends it as a datagram.
    ///
    /// # Errors
    /// It is too large; nothing is appended.
    pub fn write_datagram(&self, buffer: &mut Vec<u8>, xid: Xid) -> Result<(), TooLarge> {
        self.write_to(MessageWriter::datagram(buffer, iana::LEASEQUERY, xid))
    }

    fn write_to(&self, mut writer: MessageWriter<'_>) -> Result<(), TooLarge> {
        write_identifiers(&mut writer, self.client_id, self.server_id);
        self.lq_query.write(&mut writer, self.requested);
        let outer = self.requested.iter().filter(|code| !is_per_client(**code));
        write_oro(&mut writer, outer);
        write_time(&mut writer, iana::OPTION_LQ_START_TIME, self.start_time);
        write_time(&mut writer, iana::OPTION_LQ_END_TIME, self.end_time);
        writer.finish()
    }
}

fn write_identifiers(writer: &mut MessageWriter<'_>, client_id: &[u8], server_id: Option<&[u8]>) {
    writer.option(iana::OPTION_CLIENTID, client_id);
    if let Some(server_id) = server_id {
        writer.option(iana::OPTION_SERVERID, server_id);
    }
}

fn write_time(writer: &mut MessageWriter<'_>, code: u16, time: Option<LqTime>) {
    if let Some(LqTime(secs)) = time {
        writer.option(code, &secs.to_be_bytes());
    }
}
