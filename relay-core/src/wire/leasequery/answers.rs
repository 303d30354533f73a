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

#[cfg(test)]
mod tests {
    use super::super::{Answer, LqIa, LqLease};
    use super::*;
    use crate::types::{IaType, Iaid, Prefix};
    use crate::wire::tcp_frame::FrameReader;
    use alloc::vec;
    use core::net::Ipv6Addr;

    const NOW: LqTime = LqTime(0x3000_0000);

    fn answers(requested: &[u16]) -> Answers<'static> {
        Answers {
            xid: Xid(2),
            server_id: &[0, 3, 0, 1, 0xb2],
            client_id: &[0, 3, 0, 1, 0xa1],
            requested: requested.iter().copied().collect(),
        }
    }

    fn addresses(count: u32) -> Vec<LqLease> {
        let address = |n| Ipv6Addr::from_bits((0x2001_0db8 << 96) | u128::from(n));
        let lease = |n| LqLease {
            ia: None,
            prefix: Prefix::host(address(n)),
            is_address: true,
            preferred_secs: 60,
            valid_secs: 120,
        };
        (0..count).map(lease).collect()
    }

    fn client(leases: &[LqLease]) -> ClientDataOut<'_> {
        ClientDataOut {
            duid: &[0, 3, 0, 1, 0xc3],
            clt_secs: 5,
            leases,
            relay_data: None,
        }
    }

    /// Types, statuses and leases of all messages in `frames`.
    fn read(frames: &[u8]) -> Vec<(u8, u16, Vec<LqLease>)> {
        let (mut reader, mut seen) = (FrameReader::default(), Vec::new());
        reader.extend(frames);
        while let Some(message) = reader.next_message() {
            let message = message.unwrap();
            let answer = Answer::read(&message).unwrap();
            assert_eq!((message.xid, answer.base_time), (Xid(2), Some(NOW)));
            let mut leases = Vec::new();
            if let Some(data) = answer.client_data {
                assert_eq!(
                    (data.client_id, data.clt_secs),
                    (Some(&[0, 3, 0, 1, 0xc3][..]), Some(5))
                );
                assert_eq!(data.read_leases(&mut leases), 0);
            }
            seen.push((message.message_type, answer.status_code(), leases));
        }
        assert!(reader.is_empty());
        seen
    }

    /// req: ALQ-D-16 (RFC 5460 §5.1)
    #[test]
    fn alq_d_16_client_too_large_for_a_message_is_split_over_several() {
        let leases = addresses(6000);
        let status = Some(Status::new(iana::STATUS_DATA_MISSING));
        let mut frames = vec![];

        let written = answers(&[100]).write_reply(&mut frames, NOW, status, Some(&client(&leases)));

        let seen = read(&frames);
        assert_eq!(written, Ok(seen.len()));
        let heads: Vec<_> = seen.iter().map(|(kind, code, _)| (*kind, *code)).collect();
        assert_eq!(heads, [(15, 12), (17, 0), (17, 0), (17, 0)]);
        let told: Vec<_> = seen.into_iter().flat_map(|(_, _, leases)| leases).collect();
        assert_eq!(told, leases);
    }

    /// req: ALQ-D-16 (RFC 5460 §5.1)
    #[test]
    fn alq_d_16_lease_that_fits_into_no_message_leaves_the_buffer() {
        // The first lease fits beside so long a DUID, the second, which comes twice, does not.
        let duid = vec![0; 65_450];
        let mut leases = addresses(2);
        leases[1].ia = Some(LqIa {
            ia_type: IaType::Na,
            iaid: Iaid(1),
            t1_secs: 0,
            t2_secs: 0,
        });
        let answers = answers(&[100, iana::OPTION_IA_NA]);
        let too_large = ClientDataOut {
            duid: &duid,
            ..client(&leases)
        };
        let first = ClientDataOut {
            leases: &leases[..1],
            ..too_large
        };
        let mut frames = vec![7];

        let written = answers.write_data(&mut frames, NOW, None, Some(&too_large));
        let fits = answers.write_data(&mut vec![], NOW, None, Some(&first));

        assert_eq!(fits, Ok(1));
        assert_eq!((written, frames), (Err(TooLarge), vec![7]));
    }

    /// req: LQ-17 (RFC 5007 §4.4.2)
    #[test]
    fn lq_17_client_data_holds_client_leases_and_time_or_is_not_there() {
        let (leases, mut frames) = (addresses(1), vec![]);

        let answers = answers(&[100]);
        answers
            .write_data(&mut frames, NOW, None, Some(&client(&leases)))
            .unwrap();
        answers
            .write_data(&mut frames, NOW, None, Some(&client(&[])))
            .unwrap();

        assert_eq!(read(&frames), [(17, 0, leases), (17, 0, vec![])]);
        // The second has a base time and nothing else.
        assert_eq!(frames[frames.len() - 14..][..2], [0, 12]);
    }

    /// req: ALQ-14 (RFC 7653 §9.3)
    #[test]
    fn alq_14_every_answer_bears_the_base_time_if_asked_and_else_none() {
        for (requested, expected) in [(&[100][..], Some(NOW)), (&[47], None)] {
            let (answers, mut frames) = (answers(requested), vec![]);
            let leases = addresses(1);
            let status = Some(Status::new(iana::STATUS_QUERY_TERMINATED));
            answers.write_reply(&mut frames, NOW, None, None).unwrap();
            answers
                .write_data(&mut frames, NOW, None, Some(&client(&leases)))
                .unwrap();
            answers.write_data(&mut frames, NOW, None, None).unwrap();
            answers.write_done(&mut frames, NOW, status).unwrap();

            let mut reader = FrameReader::default();
            reader.extend(&frames);
            for message_type in [15, 17, 17, 16] {
                let message = reader.next_message().unwrap().unwrap();
                assert_eq!(message.message_type, message_type);
                assert_eq!(Answer::read(&message).unwrap().base_time, expected);
            }
        }
    }
}
