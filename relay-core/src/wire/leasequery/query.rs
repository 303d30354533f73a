//! What a server gets: LEASEQUERY and ACTIVELEASEQUERY (RFC 5007 §4.1.2.1, RFC 5460 §5.3,
//! RFC 7653 §6.2.1), and whether it is a query at all. Must not know what it will find.
//!
//! ```text
//! LQ_QUERY: query-type(1) link-address(16) query-options
//! ```

use core::net::Ipv6Addr;

use super::read_time;
use super::requested::{RequestedOptions, is_per_client, write_oro};
use crate::error::DecodeError;
use crate::time::LqTime;
use crate::types::usable_duid;
use crate::wire::iana;
use crate::wire::message::{Message, MessageWriter};
use crate::wire::options::{Options, RawOption};

/// A Remote-Id begins with it and goes on behind it (RFC 4649 §3).
const ENTERPRISE_NUMBER_BYTES: usize = 4;

/// One query that can be answered.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Query<'a> {
    /// The requestor's DUID; the answer repeats it.
    pub client_id: &'a [u8],
    /// What is looked for. `None` is everything, and only in ACTIVELEASEQUERY.
    pub lq_query: Option<LqQuery<'a>>,
    /// Both Option Requests together (ALQ-D-5).
    pub requested: RequestedOptions,
    /// Only what changed on or after it, on the clock of the server.
    pub start_time: Option<LqTime>,
    /// Only what changed on or before it; never in ACTIVELEASEQUERY.
    pub end_time: Option<LqTime>,
}

/// The content of LQ_QUERY.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct LqQuery<'a> {
    /// Only this link; `::` is everywhere.
    pub link_address: Ipv6Addr,
    /// query-type, with the query-option that it requires.
    pub by: QueryBy<'a>,
}

/// The five query-types.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum QueryBy<'a> {
    /// QUERY_BY_ADDRESS: the client that has it, or a prefix that contains it.
    Address(Ipv6Addr),
    /// QUERY_BY_CLIENTID: the client's DUID.
    ClientId(&'a [u8]),
    /// QUERY_BY_RELAY_ID: the DUID of the relay that the client came through.
    RelayId(&'a [u8]),
    /// QUERY_BY_LINK_ADDRESS: all of the link of `link_address`, which is not `::`.
    LinkAddress,
    /// QUERY_BY_REMOTE_ID: the whole Remote-Id, enterprise number included.
    RemoteId(&'a [u8]),
}

/// Why there is nothing to look for.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum QueryError<'a> {
    /// The options of the message do not fit into it: the connection closes (BLQ-5).
    #[error("unsound query: {0}")]
    Unsound(DecodeError),
    /// No CLIENTID, no LQ_QUERY in LEASEQUERY, or for another server: no answer (LQ-11).
    #[error("query that is to be discarded")]
    Discard,
    /// Gets a LEASEQUERY-REPLY with this status, UnknownQueryType or MalformedQuery.
    #[error("query refused with {}", iana::status_name(*.status))]
    Refused {
        /// Status code of the answer.
        status: u16,
        /// The requestor's DUID; the answer repeats it.
        client_id: &'a [u8],
        /// What the answer may have to hold.
        requested: RequestedOptions,
    },
}

impl<'a> Query<'a> {
    /// Reads a LEASEQUERY or ACTIVELEASEQUERY sent to the server with the DUID `server_id`.
    ///
    /// # Errors
    /// See [`QueryError`].
    pub fn read(message: &Message<'a>, server_id: &[u8]) -> Result<Self, QueryError<'a>> {
        let is_active = message.message_type == iana::ACTIVELEASEQUERY;
        let fields = Fields::read(message.options).map_err(QueryError::Unsound)?;
        let client_id = fields.client_id.and_then(usable_duid);
        let is_foreign = fields.server_id.is_some_and(|id| id != server_id);
        let is_incomplete = !is_active && fields.lq_query.is_none();
        let Some(client_id) = client_id.filter(|_| !is_foreign && !is_incomplete) else {
            return Err(QueryError::Discard);
        };
        let refused = |status| QueryError::Refused {
            status,
            client_id,
            requested: fields.requested,
        };
        if fields.is_malformed || is_active && fields.end_time.is_some() {
            return Err(refused(iana::STATUS_MALFORMED_QUERY));
        }
        let lq_query = fields.lq_query.map(LqQuery::read).transpose();
        Ok(Self {
            client_id,
            lq_query: lq_query.map_err(refused)?,
            requested: fields.requested,
            start_time: fields.start_time,
            end_time: fields.end_time,
        })
    }
}

/// All options that matter, before they are judged together.
#[derive(Default)]
struct Fields<'a> {
    client_id: Option<&'a [u8]>,
    server_id: Option<&'a [u8]>,
    lq_query: Option<&'a [u8]>,
    requested: RequestedOptions,
    start_time: Option<LqTime>,
    end_time: Option<LqTime>,
    /// One of them has a length that it cannot have.
    is_malformed: bool,
}

impl<'a> Fields<'a> {
    fn read(options: &'a [u8]) -> Result<Self, DecodeError> {
        let mut fields = Self::default();
        for option in Options::new(options) {
            fields.is_malformed |= fields.take(option?).is_err();
        }
        // The per-client codes stand inside LQ_QUERY where there is one.
        let inside = fields
            .lq_query
            .and_then(|data| data.get(LqQuery::FIXED_BYTES..));
        for option in Options::new(inside.unwrap_or_default()).map_while(Result::ok) {
            if option.code == iana::OPTION_ORO {
                // req: ALQ-D-5, LQ-6
                fields.is_malformed |= fields.requested.insert_all(option.data).is_err();
            }
        }
        Ok(fields)
    }

    fn take(&mut self, option: RawOption<'a>) -> Result<(), DecodeError> {
        match option.code {
            iana::OPTION_CLIENTID => self.client_id = self.client_id.or(Some(option.data)),
            iana::OPTION_SERVERID => self.server_id = self.server_id.or(Some(option.data)),
            iana::OPTION_LQ_QUERY => self.lq_query = self.lq_query.or(Some(option.data)),
            iana::OPTION_ORO => self.requested.insert_all(option.data)?,
            iana::OPTION_LQ_START_TIME => {
                self.start_time = self.start_time.or(Some(read_time(option)?));
            }
            iana::OPTION_LQ_END_TIME => {
                self.end_time = self.end_time.or(Some(read_time(option)?));
            }
            // Option 11 (Authentication) too: it proves nothing here. req: ALQ-16
            _ => {}
        }
        Ok(())
    }
}

impl<'a> LqQuery<'a> {
    const FIXED_BYTES: usize = 17;

    /// Reads the data of LQ_QUERY.
    ///
    /// # Errors
    /// The status code that such a query gets.
    // req: LQ-13
    fn read(data: &'a [u8]) -> Result<Self, u16> {
        const MALFORMED: u16 = iana::STATUS_MALFORMED_QUERY;
        let (query_type, rest) = data.split_first().ok_or(MALFORMED)?;
        let (link_address, options) = rest.split_first_chunk::<16>().ok_or(MALFORMED)?;
        let link_address = Ipv6Addr::from(*link_address);
        if Options::new(options).any(|option| option.is_err()) {
            return Err(MALFORMED);
        }
        let required = |code| {
            let data = Options::new(options).find(code).ok().flatten();
            data.ok_or(MALFORMED)
        };
        let duid = |code| usable_duid(required(code)?).ok_or(MALFORMED);
        let by = match *query_type {
            iana::QUERY_BY_ADDRESS => {
                let data = required(iana::OPTION_IAADDR)?;
                let (address, _) = data.split_first_chunk::<16>().ok_or(MALFORMED)?;
                QueryBy::Address(Ipv6Addr::from(*address))
            }
            iana::QUERY_BY_CLIENTID => QueryBy::ClientId(duid(iana::OPTION_CLIENTID)?),
            iana::QUERY_BY_RELAY_ID => QueryBy::RelayId(duid(iana::OPTION_RELAY_ID)?),
            iana::QUERY_BY_LINK_ADDRESS if link_address.is_unspecified() => return Err(MALFORMED),
            iana::QUERY_BY_LINK_ADDRESS => QueryBy::LinkAddress,
            iana::QUERY_BY_REMOTE_ID => {
                let remote_id = required(iana::OPTION_REMOTE_ID)?;
                if remote_id.len() <= ENTERPRISE_NUMBER_BYTES {
                    return Err(MALFORMED);
                }
                QueryBy::RemoteId(remote_id)
            }
            _ => return Err(iana::STATUS_UNKNOWN_QUERY_TYPE),
        };
        Ok(Self { link_address, by })
    }

    /// Writes LQ_QUERY, with the per-client ones of the `requested` codes inside.
    pub(super) fn write(&self, writer: &mut MessageWriter<'_>, requested: &[u16]) {
        writer.option_with(iana::OPTION_LQ_QUERY, |writer| {
            writer.bytes(&[self.by.query_type()]);
            writer.bytes(&self.link_address.octets());
            match self.by {
                QueryBy::Address(address) => {
                    writer.option_with(iana::OPTION_IAADDR, |writer| {
                        writer.bytes(&address.octets());
                        writer.bytes(&[0; 8]); // the lifetimes are not asked for
                    });
                }
                QueryBy::ClientId(duid) => writer.option(iana::OPTION_CLIENTID, duid),
                QueryBy::RelayId(duid) => writer.option(iana::OPTION_RELAY_ID, duid),
                QueryBy::LinkAddress => {}
                QueryBy::RemoteId(data) => writer.option(iana::OPTION_REMOTE_ID, data),
            }
            write_oro(
                writer,
                requested.iter().filter(|code| is_per_client(**code)),
            );
        });
    }
}

impl QueryBy<'_> {
    /// query-type.
    pub const fn query_type(&self) -> u8 {
        match self {
            Self::Address(_) => iana::QUERY_BY_ADDRESS,
            Self::ClientId(_) => iana::QUERY_BY_CLIENTID,
            Self::RelayId(_) => iana::QUERY_BY_RELAY_ID,
            Self::LinkAddress => iana::QUERY_BY_LINK_ADDRESS,
            Self::RemoteId(_) => iana::QUERY_BY_REMOTE_ID,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{hex, option, vector};
    use crate::types::Xid;
    use alloc::vec::Vec;

    const SERVER: &[u8] = &[0, 3, 0, 1, 2, 0, 0, 0, 0, 0xb2];
    const REQUESTOR: &[u8] = &[0, 3, 0, 1, 2, 0, 0, 0, 0, 0xa1];
    const MALFORMED: u16 = iana::STATUS_MALFORMED_QUERY;

    fn read(message_type: u8, options: &[Vec<u8>]) -> Result<RequestedOptions, Fault> {
        let options = options.concat();
        let message = Message {
            message_type,
            xid: Xid(1),
            options: &options,
        };
        match Query::read(&message, SERVER) {
            Ok(query) => Ok(query.requested),
            Err(QueryError::Unsound(_)) => Err(Fault::Unsound),
            Err(QueryError::Discard) => Err(Fault::Discard),
            Err(QueryError::Refused {
                status, client_id, ..
            }) => {
                assert_eq!(client_id, REQUESTOR);
                Err(Fault::Status(status))
            }
        }
    }

    #[derive(PartialEq, Debug)]
    enum Fault {
        Unsound,
        Discard,
        Status(u16),
    }

    fn client_id() -> Vec<u8> {
        option(iana::OPTION_CLIENTID, REQUESTOR)
    }

    /// LQ_QUERY for all links, unless `link` is set.
    fn lq_query(query_type: u8, link: u8, inside: &[Vec<u8>]) -> Vec<u8> {
        let mut data = [0; 17];
        data[0] = query_type;
        data[16] = link;
        option(
            iana::OPTION_LQ_QUERY,
            &[&data[..], &inside.concat()].concat(),
        )
    }

    fn by_relay_id() -> Vec<u8> {
        lq_query(3, 0, &[option(iana::OPTION_RELAY_ID, SERVER)])
    }

    /// Each query-type without the option that it requires, or with one that cannot be it.
    /// req: LQ-13 (RFC 5007 §4.1.2.1, §4.4.1)
    #[test]
    fn lq_13_query_without_its_required_option_is_malformed() {
        let short = |code, len| option(code, &[0; 40][..len]);
        for (query_type, inside) in [
            (1, short(iana::OPTION_IAADDR, 15)),
            (1, option(iana::OPTION_IAPREFIX, &[0; 25])),
            (2, Vec::new()),
            (2, short(iana::OPTION_CLIENTID, 0)),
            (3, option(iana::OPTION_CLIENTID, REQUESTOR)),
            (3, option(iana::OPTION_RELAY_ID, &[0; 131])),
            (4, Vec::new()),
            (5, short(iana::OPTION_REMOTE_ID, 4)),
            (
                3,
                [&option(iana::OPTION_RELAY_ID, SERVER)[..], &[0, 6, 0, 9]].concat(),
            ),
        ] {
            let query = lq_query(query_type, 0, core::slice::from_ref(&inside));
            let result = read(iana::LEASEQUERY, &[client_id(), query]);
            assert_eq!(
                result,
                Err(Fault::Status(MALFORMED)),
                "{query_type} {inside:x?}"
            );
        }
    }

    /// req: LQ-13 (RFC 5007 §4.1.2.1)
    #[test]
    fn lq_13_query_of_unknown_type_is_told_so() {
        for query_type in [0, 6, 99, 255] {
            let query = lq_query(query_type, 1, &[]);
            let result = read(iana::LEASEQUERY, &[client_id(), query]);
            assert_eq!(result, Err(Fault::Status(iana::STATUS_UNKNOWN_QUERY_TYPE)));
        }
    }

    #[test]
    fn query_by_each_type_is_read() {
        let iaaddr = option(iana::OPTION_IAADDR, &[0x20; 24]);
        for (query_type, link, inside) in [
            (1, 0, iaaddr),
            (2, 0, client_id()),
            (3, 0, option(iana::OPTION_RELAY_ID, SERVER)),
            (4, 1, Vec::new()),
            (5, 0, option(iana::OPTION_REMOTE_ID, &[0, 0, 0, 9, b'x'])),
        ] {
            let query = lq_query(query_type, link, &[inside]);
            let (data, requested) = (&query[4..], Ok(RequestedOptions::default()));
            assert_eq!(LqQuery::read(data).unwrap().by.query_type(), query_type);
            assert_eq!(read(iana::LEASEQUERY, &[client_id(), query]), requested);
        }
    }

    #[test]
    fn query_that_is_nobodys_or_anothers_is_discarded() {
        let foreign = option(iana::OPTION_SERVERID, REQUESTOR);
        let ours = option(iana::OPTION_SERVERID, SERVER);
        let empty_id = option(iana::OPTION_CLIENTID, &[]);

        for message_type in [iana::LEASEQUERY, iana::ACTIVELEASEQUERY] {
            let result = |options: &[Vec<u8>]| read(message_type, options);
            assert_eq!(result(&[by_relay_id()]), Err(Fault::Discard));
            assert_eq!(
                result(&[empty_id.clone(), by_relay_id()]),
                Err(Fault::Discard)
            );
            let to_another = [client_id(), by_relay_id(), foreign.clone()];
            assert_eq!(result(&to_another), Err(Fault::Discard));
            assert!(result(&[client_id(), by_relay_id(), ours.clone()]).is_ok());
        }
        assert_eq!(read(iana::LEASEQUERY, &[client_id()]), Err(Fault::Discard));
        assert!(read(iana::ACTIVELEASEQUERY, &[client_id()]).is_ok());
    }

    /// req: BLQ-5 (RFC 5460 §5.1)
    #[test]
    fn blq_5_query_whose_option_runs_past_it_is_unsound() {
        let mut cut = vector("V12")[6..].to_vec();
        cut.pop();

        assert_eq!(read(iana::LEASEQUERY, &[cut]), Err(Fault::Unsound));
    }

    #[test]
    fn query_with_times_of_impossible_length_is_malformed() {
        for (code, len) in [(101, 0), (101, 3), (101, 5), (102, 8), (6, 3)] {
            let odd = option(code, &[0; 8][..len]);
            let result = read(iana::LEASEQUERY, &[client_id(), by_relay_id(), odd]);
            assert_eq!(
                result,
                Err(Fault::Status(MALFORMED)),
                "option {code} of {len}"
            );
        }
    }

    #[test]
    fn active_query_with_an_end_time_is_malformed() {
        let end_time = option(iana::OPTION_LQ_END_TIME, &[0; 4]);

        let active = read(iana::ACTIVELEASEQUERY, &[client_id(), end_time]);

        assert_eq!(active, Err(Fault::Status(MALFORMED)));
    }

    /// req: ALQ-D-5 (RFC 7653 §6.2.1)
    #[test]
    fn alq_d_5_requested_options_are_those_of_both_lists() {
        let inner = option(iana::OPTION_ORO, &hex("002f 0019"));
        let outer = option(iana::OPTION_ORO, &hex("0064 002f ffff"));
        let relay_id = option(iana::OPTION_RELAY_ID, SERVER);

        let query = lq_query(3, 0, &[relay_id, inner]);
        let requested = read(iana::ACTIVELEASEQUERY, &[outer, query, client_id()]).unwrap();

        assert_eq!(requested, [25, 47, 100].into_iter().collect());
        assert!(requested.contains(25) && !requested.contains(26) && !requested.contains(0xffff));
    }

    /// req: ALQ-D-5 (RFC 7653 §6.2.1)
    #[test]
    fn alq_d_5_active_query_for_a_part_requests_inside_and_outside() {
        let mut frame = Vec::new();
        let query = super::super::ActiveQuery {
            client_id: REQUESTOR,
            server_id: None,
            lq_query: Some(LqQuery {
                link_address: Ipv6Addr::LOCALHOST,
                by: QueryBy::LinkAddress,
            }),
            requested: &[100, 47],
            start_time: None,
        };

        query.write(&mut frame, Xid(1)).unwrap();

        let inside = lq_query(4, 1, &[option(iana::OPTION_ORO, &hex("002f"))]);
        let outside = option(iana::OPTION_ORO, &hex("0064 002f"));
        assert_eq!(frame[6..], [client_id(), inside, outside].concat());
    }
}
