//! CLIENT_DATA (RFC 5007 §4.1.2.2): all about one client on one link. Says what stands there; must
//! not know what the table holds.

use alloc::vec::Vec;

use super::lease::{self, LqLease};
use super::{RelayData, RelayDataOut, RequestedOptions, read_u32};
use crate::error::DecodeError;
use crate::types::usable_duid;
use crate::wire::iana;
use crate::wire::message::MessageWriter;
use crate::wire::options::Options;

/// The option as it was read.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct ClientData<'a> {
    /// The client's DUID; `None` also where it is none (RFC 8415 §11.1).
    pub client_id: Option<&'a [u8]>,
    /// Seconds from the client's last transaction to the base-time of the message.
    pub clt_secs: Option<u32>,
    /// How the client was relayed. An error here is no reason to doubt the rest (LQ-36).
    pub relay_data: Result<Option<RelayData<'a>>, DecodeError>,
    options: &'a [u8],
}

/// The option to be written.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct ClientDataOut<'a> {
    /// The client's DUID.
    pub duid: &'a [u8],
    /// Seconds since its last transaction.
    pub clt_secs: u32,
    /// Its leases, at least one; those of one IA side by side.
    pub leases: &'a [LqLease],
    /// How it was relayed.
    pub relay_data: Option<RelayDataOut<'a>>,
}

impl<'a> ClientData<'a> {
    /// Reads the data of the option.
    ///
    /// # Errors
    /// The first option that does not fit into it, or a CLT_TIME that is none.
    pub(super) fn read(options: &'a [u8]) -> Result<Self, DecodeError> {
        let mut data = Self {
            client_id: None,
            clt_secs: None,
            relay_data: Ok(None),
            options,
        };
        let mut client_id = None;
        for option in Options::new(options) {
            let option = option?;
            match option.code {
                iana::OPTION_CLIENTID => client_id = client_id.or(Some(option.data)),
                iana::OPTION_CLT_TIME if data.clt_secs.is_none() => {
                    data.clt_secs = Some(read_u32(option)?);
                }
                iana::OPTION_LQ_RELAY_DATA => data.take_relay_data(Some(option.data)),
                _ => {}
            }
        }
        data.client_id = client_id.and_then(usable_duid);
        Ok(data)
    }

    /// Takes the data of LQ_RELAY_DATA, unless there was one before.
    // req: LQ-36
    pub(super) fn take_relay_data(&mut self, data: Option<&'a [u8]>) {
        if self.relay_data == Ok(None) {
            self.relay_data = data.map(RelayData::read).transpose();
        }
    }

    /// Reads all leases into `leases`, which is emptied before, each address or prefix once and
    /// sorted. Broken leases are left out; returns how many.
    pub fn read_leases(&self, leases: &mut Vec<LqLease>) -> usize {
        lease::read_leases(self.options, leases)
    }
}

impl ClientDataOut<'_> {
    pub(super) fn write(&self, writer: &mut MessageWriter<'_>, requested: RequestedOptions) {
        // req: LQ-17
        writer.option_with(iana::OPTION_CLIENT_DATA, |writer| {
            writer.option(iana::OPTION_CLIENTID, self.duid);
            lease::write_leases(writer, self.leases, requested);
            writer.option(iana::OPTION_CLT_TIME, &self.clt_secs.to_be_bytes());
            // req: LQ-19, LQ-20
            let is_wanted = requested.contains(iana::OPTION_LQ_RELAY_DATA);
            if let Some(relay_data) = self.relay_data.filter(|_| is_wanted) {
                relay_data.write(writer);
            }
        });
    }
}
