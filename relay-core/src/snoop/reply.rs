//! A Reply on its way to the client (spec section 3.2).

use alloc::vec::Vec;

use super::{Lease, judge};
use crate::error::DecodeError;
use crate::types::usable_duid;
use crate::wire::ia::{self, Ia};
use crate::wire::iana;
use crate::wire::message::Message;
use crate::wire::options::Options;

/// A Reply that can be read to its end, IAs, leases and all.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Reply<'a> {
    client_id: Option<&'a [u8]>,
    server_id: Option<&'a [u8]>,
    status: u16,
    rapid_commit: bool,
    has_ias: bool,
    /// It bears the Server Unicast option.
    pub(crate) server_unicast: bool,
}

/// What a Reply may do to the table.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Verdict<'a> {
    /// Create, refresh and, where `may_end`, end leases.
    Learn {
        duid: &'a [u8],
        server_duid: &'a [u8],
        may_end: bool,
    },
    /// It says nothing of leases.
    Nothing,
    /// It speaks of leases, but not in a way that the client would heed.
    NotLearned,
}

impl<'a> Reply<'a> {
    /// Reads all of it once, and fills `leases` with what a client takes from it, in wire order:
    /// `Err` for a lease that it would not take because its values are impossible.
    ///
    /// # Errors
    /// The first unsound option at any level that matters.
    // req: RLY-80, PDR-G-2
    pub(crate) fn read(message: &Message<'a>, leases: &mut Leases) -> Result<Self, DecodeError> {
        leases.clear();
        let mut this = Self {
            client_id: None,
            server_id: None,
            status: iana::STATUS_SUCCESS,
            rapid_commit: false,
            has_ias: false,
            server_unicast: false,
        };
        let mut status_seen = false;
        for option in Options::new(message.options) {
            let option = option?;
            match option.code {
                iana::OPTION_CLIENTID => this.client_id = this.client_id.or(Some(option.data)),
                iana::OPTION_SERVERID => this.server_id = this.server_id.or(Some(option.data)),
                iana::OPTION_STATUS_CODE if !status_seen => {
                    this.status = ia::read_status(option.data)?;
                    status_seen = true;
                }
                iana::OPTION_RAPID_COMMIT => this.rapid_commit = true,
                iana::OPTION_UNICAST => this.server_unicast = true,
                _ => {
                    if let Some(ia) = Ia::read(option)? {
                        this.has_ias = true;
                        read_leases(&ia, leases)?;
                    }
                }
            }
        }
        Ok(this)
    }

    /// Whether it tells the client of a Confirm that its addresses are good where it is
    /// (RFC 8415 §18.3.3).
    pub(crate) fn confirms(&self, request: u8) -> bool {
        request == iana::CONFIRM && !self.has_ias && self.status == iana::STATUS_SUCCESS
    }

    /// What it may do. `request` is the type of the message that it answers, where that is known,
    /// and whether both bear the same Client Identifier.
    pub(crate) fn verdict(
        &self,
        request: Option<u8>,
        same_client: impl FnOnce(Option<&[u8]>) -> bool,
    ) -> Verdict<'a> {
        if !self.has_ias {
            // CONFIRM, RELEASE, DECLINE and INFORMATION-REQUEST end here too. req: SNP-20
            return Verdict::Nothing;
        }
        // req: SNP-31
        let client_id = self.client_id.and_then(usable_duid);
        let server_id = self.server_id.and_then(usable_duid);
        let (Some(duid), Some(server_duid)) = (client_id, server_id) else {
            return Verdict::NotLearned;
        };
        if request.is_some() && !same_client(self.client_id) {
            return Verdict::NotLearned;
        }
        if self.status != iana::STATUS_SUCCESS {
            // req: SNP-30
            return Verdict::Nothing;
        }
        let learn = |may_end| Verdict::Learn {
            duid,
            server_duid,
            may_end,
        };
        match request {
            // The match may be lost by a restart: what is given now is true, what is ended is not
            // to be believed. req: SNP-6
            None => learn(false),
            // req: SNP-9
            Some(iana::SOLICIT) if self.rapid_commit => learn(true),
            // A lease that it does not name keeps its lifetimes. req: SNP-12
            // req: SNP-7, SNP-10, SNP-15
            Some(iana::REQUEST | iana::RENEW | iana::REBIND) => learn(true),
            // req: SNP-16, SNP-17, SNP-18, SNP-19, SNP-25, RLY-81, RLY-82, RLY-83
            Some(_) => Verdict::Nothing,
        }
    }
}

/// Adds the leases of one IA. An IA with any bad status gives nothing and takes nothing, yet it
/// has to be sound to its end.
// req: SNP-8, SNP-13, SNP-14
fn read_leases(ia: &Ia<'_>, leases: &mut Leases) -> Result<(), DecodeError> {
    let is_good = ia.status()? == iana::STATUS_SUCCESS;
    let is_sound = judge::is_sound(ia);
    for option in ia.leases() {
        let option = option?;
        if is_good && option.status == iana::STATUS_SUCCESS {
            let lease = judge::lease(ia, &option).filter(|_| is_sound);
            leases.push(lease.ok_or(InvalidLease));
        }
    }
    Ok(())
}

/// What a client takes from a Reply: at most as much as 64 KiB of message can hold. Kept by the
/// caller from one Reply to the next.
pub(crate) type Leases = Vec<Result<Lease, InvalidLease>>;

/// A lease with impossible lifetimes, timers or address.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct InvalidLease;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{R3, hex};
    use proptest::prelude::*;

    fn r3() -> Vec<u8> {
        hex(R3)[46..].to_vec()
    }

    fn verdict(bytes: &[u8], request: Option<u8>) -> Verdict<'_> {
        let message = Message::new(bytes).unwrap();
        let mut leases = Leases::new();
        Reply::read(&message, &mut leases)
            .unwrap()
            .verdict(request, |_| true)
    }

    #[test]
    fn reply_verdict_depends_on_what_it_answers() {
        let bytes = r3();
        let may_end = |request| match verdict(&bytes, request) {
            Verdict::Learn { may_end, .. } => Some(may_end),
            _ => None,
        };

        for request in [iana::REQUEST, iana::RENEW, iana::REBIND] {
            assert_eq!(may_end(Some(request)), Some(true));
        }
        assert_eq!(may_end(None), Some(false));
        for request in [
            iana::SOLICIT,
            iana::CONFIRM,
            iana::RELEASE,
            iana::DECLINE,
            iana::INFORMATION_REQUEST,
            iana::ADDR_REG_INFORM,
        ] {
            assert_eq!(verdict(&bytes, Some(request)), Verdict::Nothing);
        }
    }

    #[test]
    fn reply_cut_anywhere_is_unreadable_or_whole() {
        let bytes = r3();
        for len in 4..bytes.len() {
            let message = Message::new(&bytes[..len]).unwrap();
            let mut leases = Leases::new();
            if Reply::read(&message, &mut leases).is_ok() {
                assert!(leases.is_empty(), "cut at {len}");
            }
        }
    }

    proptest! {
        #[test]
        fn reply_is_total_on_damaged_bytes(at in 0usize..77, value: u8) {
            let mut bytes = r3();
            bytes[at] = value;
            let mut leases = Leases::new();
            if let Ok(reply) = Reply::read(&Message::new(&bytes).unwrap(), &mut leases) {
                let _ = reply.verdict(Some(iana::RENEW), |_| true);
            }
        }
    }
}
