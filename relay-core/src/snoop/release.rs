//! A Release or Decline on its way to the servers (RFC 8415 §18.2.7, §18.2.8).

use crate::types::{IaType, Iaid, Prefix, usable_duid};
use crate::wire::ia::Ia;
use crate::wire::iana;
use crate::wire::message::Message;
use crate::wire::options::Options;

/// A Release or Decline that can be read to its end.
#[derive(Clone, Copy, Debug)]
pub(crate) struct GivenUp<'a> {
    options: &'a [u8],
    /// The client.
    pub(crate) duid: &'a [u8],
    /// Decline: the addresses are in use by others.
    pub(crate) declined: bool,
}

/// One thing that a client gives up.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Item {
    /// This lease.
    Lease(IaType, Iaid, Prefix),
    /// All prefixes of this IA_PD.
    WholePd(Iaid),
}

impl<'a> GivenUp<'a> {
    /// `None` where it is another message, or cannot be read to its end: then it has no effect.
    pub(crate) fn read(message: &Message<'a>) -> Option<Self> {
        let declined = match message.message_type {
            iana::RELEASE => false,
            iana::DECLINE => true,
            _ => return None,
        };
        let mut client_id = None;
        for option in Options::new(message.options) {
            let option = option.ok()?;
            if option.code == iana::OPTION_CLIENTID {
                client_id = client_id.or(Some(option.data));
            } else if let Some(ia) = Ia::read(option).ok()? {
                ia.leases().try_for_each(|lease| lease.map(drop)).ok()?;
            }
        }
        Some(Self {
            options: message.options,
            duid: usable_duid(client_id?)?,
            declined,
        })
    }

    /// What is given up, in wire order: the leases listed, and each IA_PD that lists none as a
    /// whole. A client cannot decline a prefix.
    // req: SNP-21, SNP-22, RLY-84
    pub(crate) fn items(&self) -> impl Iterator<Item = Item> + use<'a> {
        let declined = self.declined;
        Options::new(self.options)
            .filter_map(|option| Ia::read(option.ok()?).ok()?)
            .filter(move |ia| !declined || ia.ia_type != IaType::Pd)
            .flat_map(|ia| {
                let is_empty = ia.leases().next().is_none();
                let whole = is_empty && ia.ia_type == IaType::Pd;
                let listed = ia.leases().filter_map(move |lease| {
                    let lease = lease.ok()?;
                    let prefix = Prefix::new(lease.address, lease.bits)?;
                    Some(Item::Lease(ia.ia_type, ia.iaid, prefix))
                });
                whole
                    .then_some(Item::WholePd(ia.iaid))
                    .into_iter()
                    .chain(listed)
            })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{hex, prefix};
    use alloc::vec::Vec;

    const CLIENT_ID: &str = "0001000a000300010200000000c3";
    const TWO_IAS: &str = "0019000c 00000001 00000000 00000000 \
        0003002800000002 00000000 00000000 00050018 20010db8000100000000000000000005 00000000 00000000 \
        00190029 00000003 00000000 00000000 001a0019 00000000 00000000 38 20010db8010000000000000000000000";

    fn items(message_type: &str) -> Vec<Item> {
        let bytes = hex(&[message_type, "000001", CLIENT_ID, TWO_IAS].concat());
        let message = Message::new(&bytes).unwrap();
        GivenUp::read(&message).unwrap().items().collect()
    }

    #[test]
    fn snp_21_release_gives_up_what_it_lists_and_empty_ia_pds() {
        assert_eq!(
            items("08"),
            [
                Item::WholePd(Iaid(1)),
                Item::Lease(IaType::Na, Iaid(2), prefix("2001:db8:1::5/128")),
                Item::Lease(IaType::Pd, Iaid(3), prefix("2001:db8:100::/56")),
            ]
        );
    }

    #[test]
    fn snp_22_decline_gives_up_addresses_only() {
        let address = Item::Lease(IaType::Na, Iaid(2), prefix("2001:db8:1::5/128"));

        assert_eq!(items("09"), [address]);
    }

    #[test]
    fn release_that_breaks_off_gives_up_nothing() {
        let mut bytes = hex(&["08000001", CLIENT_ID, TWO_IAS].concat());
        bytes.pop();

        assert!(GivenUp::read(&Message::new(&bytes).unwrap()).is_none());
    }
}
