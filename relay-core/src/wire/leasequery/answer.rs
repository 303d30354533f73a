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

#[cfg(test)]
mod tests {
    use super::super::LqLease;
    use super::*;
    use crate::testing::{hex, ip, option, vector};
    use crate::types::Xid;
    use alloc::vec::Vec;

    fn message(options: &[u8]) -> Message<'_> {
        Message {
            message_type: iana::LEASEQUERY_DATA,
            xid: Xid(2),
            options,
        }
    }

    fn leases(client_data: &ClientData<'_>) -> Vec<LqLease> {
        let mut leases = Vec::new();
        assert_eq!(client_data.read_leases(&mut leases), 0);
        leases
    }

    /// V7 with another LQ_RELAY_DATA (Interface-Id "ge-0" is its last option).
    fn v7_with_relay_data(change: impl FnOnce(&mut Vec<u8>)) -> Vec<u8> {
        let frame = vector("V7");
        let at = frame
            .windows(4)
            .position(|bytes| bytes == hex("002f 003a"))
            .unwrap();
        let mut data = frame[at + 4..at + 4 + 58].to_vec();
        change(&mut data);
        let client = [&frame[10..at], &option(iana::OPTION_LQ_RELAY_DATA, &data)].concat();
        option(iana::OPTION_CLIENT_DATA, &client)
    }

    /// A Relay Message that claims four bytes more than there are, as some servers write it.
    /// req: LQ-36 (RFC 5007 §4.1.2.4)
    #[test]
    fn lq_36_unreadable_relay_data_loses_no_lease() {
        let cut = v7_with_relay_data(|data| {
            data.splice(50.., [0, 9, 0, 38]);
            data.extend([&[12, 0][..], &[0; 32]].concat());
        });
        for options in [cut, v7_with_relay_data(|data| data.truncate(20))] {
            let answer = Answer::read(&message(&options)).unwrap();
            let client_data = answer.client_data.unwrap();

            assert!(client_data.relay_data.is_err());
            assert_eq!(leases(&client_data).len(), 2);
            assert_eq!(client_data.clt_secs, Some(5));
        }
    }

    /// req: LQ-33 (RFC 5007 §4.1.2.4)
    #[test]
    fn lq_33_relay_data_is_taken_from_inside_and_beside_client_data() {
        let relay = |link: &str| {
            let layer = [&[12, 0][..], &ip(link).octets(), &ip("fe80::c3").octets()].concat();
            option(iana::OPTION_LQ_RELAY_DATA, &[&[0; 16][..], &layer].concat())
        };
        let client = |inside: &[u8]| {
            let id = option(iana::OPTION_CLIENTID, &[0, 3, 9]);
            option(iana::OPTION_CLIENT_DATA, &[&id, inside].concat())
        };
        let link = |options: &[u8]| {
            let answer = Answer::read(&message(options)).unwrap();
            let relay_data = answer.client_data.unwrap().relay_data.unwrap();
            relay_data.map(|data| data.innermost.link_address)
        };
        let (inside, beside) = (relay("2001:db8:1::1"), relay("2001:db8:2::1"));

        let both = [client(&inside), beside.clone()].concat();
        let before = [beside.clone(), client(&[])].concat();
        let after = [client(&[]), beside].concat();

        assert_eq!(link(&client(&inside)), Some(ip("2001:db8:1::1")));
        assert_eq!(link(&both), Some(ip("2001:db8:1::1")));
        assert_eq!(link(&before), Some(ip("2001:db8:2::1")));
        assert_eq!(link(&after), Some(ip("2001:db8:2::1")));
        assert_eq!(link(&client(&[])), None);
    }

    #[test]
    fn status_text_is_read_as_far_as_it_is_utf_8() {
        for (data, code, text) in [
            (&b"\0\x0c"[..], 12, ""),
            (b"\0\x0cgone", 12, "gone"),
            (b"\0\x09no \xc3\xa4 here", 9, "no \u{e4} here"),
            (b"\0\x09no \xff here", 9, "no "),
            (b"\x12\x34\xff", 0x1234, ""),
        ] {
            assert_eq!(Status::read(data), Ok(Status { code, text }));
        }
        assert!(Status::read(&[0]).is_err());
    }

    /// req: BLQ-5 (RFC 5460 §5.1)
    #[test]
    fn blq_5_answer_cut_within_an_option_is_unsound() {
        let frame = vector("V7");
        // CLIENT_DATA is one option: only its end, and that of the whole, are whole messages.
        let ends: Vec<usize> = (6..frame.len())
            .filter(|len| Answer::read(&message(&frame[6..*len])).is_ok())
            .collect();

        assert_eq!(ends, [6, frame.len() - 8]);
    }

    #[test]
    fn answer_with_options_of_impossible_length_is_unsound() {
        let id = option(iana::OPTION_CLIENTID, &[0, 3, 9]);
        let client =
            |inside: Vec<u8>| option(iana::OPTION_CLIENT_DATA, &[&id[..], &inside].concat());
        for options in [
            option(iana::OPTION_LQ_BASE_TIME, &[0; 3]),
            option(iana::OPTION_LQ_BASE_TIME, &[0; 5]),
            option(iana::OPTION_STATUS_CODE, &[0]),
            option(iana::OPTION_LQ_CLIENT_LINK, &[0; 17]),
            client(option(iana::OPTION_CLT_TIME, &[0; 3])),
            client(hex("0005 0018 20")),
            client(hex("00")),
        ] {
            assert!(Answer::read(&message(&options)).is_err(), "{options:x?}");
        }
    }

    #[test]
    fn client_links_are_read_as_addresses() {
        let links = [ip("2001:db8:1::1").octets(), ip("2001:db8:2::1").octets()];
        let options = option(iana::OPTION_LQ_CLIENT_LINK, links.as_flattened());

        assert_eq!(
            Answer::read(&message(&options)).unwrap().client_links,
            links
        );
    }

    #[test]
    fn reply_without_server_or_to_another_requestor_is_no_reply() {
        let ours = [0, 3, 9];
        let client = |id: &[u8]| option(iana::OPTION_CLIENTID, id);
        let server = |id: &[u8]| option(iana::OPTION_SERVERID, id);
        let is_reply = |options: &[u8]| Answer::read(&message(options)).unwrap().is_reply_to(&ours);

        assert!(is_reply(&[client(&ours), server(&[1])].concat()));
        assert!(!is_reply(&client(&ours)));
        assert!(!is_reply(&[client(&ours), server(&[])].concat()));
        assert!(!is_reply(&server(&[1])));
        assert!(!is_reply(&[client(&[0, 3, 8]), server(&[1])].concat()));
    }

    #[test]
    fn client_id_that_is_no_duid_is_none() {
        for len in [0, 131] {
            let id = option(iana::OPTION_CLIENTID, &[7; 131][..len]);
            let options = option(iana::OPTION_CLIENT_DATA, &id);
            let answer = Answer::read(&message(&options)).unwrap();
            assert_eq!(answer.client_data.unwrap().client_id, None);
        }
    }
}
