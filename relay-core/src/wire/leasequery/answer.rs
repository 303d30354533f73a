//! What a requestor gets: LEASEQUERY-REPLY, -DATA, -DONE and REPLY (RFC 5007 §4.2.2, RFC 5460 §5.2,
//! RFC 7653 §6.2.3). Must not know what was asked.

use super::{ClientData, length, read_time};
use crate::error::DecodeError;
use crate::time::LqTime;
use crate::wire::ia::read_status;
use crate::wire::iana;
use crate::wire::message::{Message, MessageWriter};
use crate::wire::options::Options;

/// One answer.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Answer<'a> {
    /// The server's DUID.
    pub server_id: Option<&'a [u8]>,
    /// The requestor's DUID.
    pub client_id: Option<&'a [u8]>,
    /// Status Code at top level. None means Success.
    pub status: Option<Status<'a>>,
    /// When the message was made, on the clock of the server.
    pub base_time: Option<LqTime>,
    /// One client. None is a keep-alive in LEASEQUERY-DATA of an active query (ALQ-32).
    pub client_data: Option<ClientData<'a>>,
    /// LQ_CLIENT_LINK: the links to ask for one by one (RFC 5007 §4.1.2.5), as IPv6 addresses.
    pub client_links: &'a [[u8; 16]],
}

/// A Status Code option (RFC 8415 §21.13).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Status<'a> {
    /// status-code.
    pub code: u16,
    /// status-message, up to where it is UTF-8. Written by the other end: escape it before a
    /// terminal sees it.
    pub text: &'a str,
}

impl<'a> Answer<'a> {
    /// Reads the options of an answer.
    ///
    /// # Errors
    /// The first option that does not fit, or that cannot have its length.
    pub fn read(message: &Message<'a>) -> Result<Self, DecodeError> {
        let mut answer = Self {
            server_id: None,
            client_id: None,
            status: None,
            base_time: None,
            client_data: None,
            client_links: &[],
        };
        let mut relay_data = None;
        for option in Options::new(message.options) {
            let option = option?;
            match option.code {
                iana::OPTION_SERVERID if answer.server_id.is_none() => {
                    answer.server_id = Some(option.data);
                }
                iana::OPTION_CLIENTID if answer.client_id.is_none() => {
                    answer.client_id = Some(option.data);
                }
                iana::OPTION_STATUS_CODE if answer.status.is_none() => {
                    answer.status = Some(Status::read(option.data)?);
                }
                iana::OPTION_LQ_BASE_TIME if answer.base_time.is_none() => {
                    answer.base_time = Some(read_time(option)?);
                }
                iana::OPTION_CLIENT_DATA if answer.client_data.is_none() => {
                    answer.client_data = Some(ClientData::read(option.data)?);
                }
                iana::OPTION_LQ_RELAY_DATA => relay_data = relay_data.or(Some(option.data)),
                iana::OPTION_LQ_CLIENT_LINK if answer.client_links.is_empty() => {
                    let (links, rest) = option.data.as_chunks();
                    if !rest.is_empty() {
                        return Err(length(option));
                    }
                    answer.client_links = links;
                }
                _ => {}
            }
        }
        if let Some(client_data) = &mut answer.client_data {
            // Some servers put it here. req: LQ-33
            client_data.take_relay_data(relay_data);
        }
        Ok(answer)
    }

    /// The status code; what the absence of a Status Code means is Success.
    pub fn status_code(&self) -> u16 {
        self.status
            .map_or(iana::STATUS_SUCCESS, |status| status.code)
    }

    /// Whether a LEASEQUERY-REPLY with these options may answer a query of `client_id`: it names a
    /// server, and that client (LQ-24). The transaction-id is for the caller to compare.
    pub fn is_reply_to(&self, client_id: &[u8]) -> bool {
        self.server_id.is_some_and(|id| !id.is_empty()) && self.client_id == Some(client_id)
    }
}

impl<'a> Status<'a> {
    /// A code without text.
    pub const fn new(code: u16) -> Self {
        Self { code, text: "" }
    }

    fn read(data: &'a [u8]) -> Result<Self, DecodeError> {
        let code = read_status(data)?;
        let text = data.get(2..).unwrap_or_default().utf8_chunks().next();
        let text = text.map_or("", |chunk| chunk.valid());
        Ok(Self { code, text })
    }

    pub(super) fn write(&self, writer: &mut MessageWriter<'_>) {
        writer.option_with(iana::OPTION_STATUS_CODE, |writer| {
            writer.bytes(&self.code.to_be_bytes());
            writer.bytes(self.text.as_bytes());
        });
    }
}
