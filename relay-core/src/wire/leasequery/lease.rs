//! Leases in CLIENT_DATA (RFC 5007 §4.4.2): bare, and inside the IA options that peers of this
//! project exchange besides (ALQ-D-3). Says which stand there; must not know which are of use.

use alloc::vec::Vec;

use super::RequestedOptions;
use crate::types::{IaType, Iaid, Prefix};
use crate::wire::ia::{Ia, LeaseOption};
use crate::wire::iana;
use crate::wire::message::MessageWriter;
use crate::wire::options::Options;

/// Leases in one CLIENT_DATA at most: as many as the shortest of them fit into its 65,535 bytes.
pub const MAX_LEASES: usize = u16::MAX as usize / 28;

/// One lease of a client.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct LqLease {
    /// The identity association, where the other end tells it.
    pub ia: Option<LqIa>,
    /// The address as a /128, or the delegated prefix.
    pub prefix: Prefix,
    /// An address (IAADDR), not a delegated prefix (IAPREFIX).
    pub is_address: bool,
    /// Preferred lifetime left, in seconds, at most the valid one.
    pub preferred_secs: u32,
    /// Valid lifetime left, in seconds; 0 where the lease has ended (ALQ-D-1).
    pub valid_secs: u32,
}

/// The fixed part of the IA that a lease belongs to.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct LqIa {
    /// Which option it is.
    pub ia_type: IaType,
    /// Its identifier.
    pub iaid: Iaid,
    /// T1 in seconds, 0 for IA_TA.
    pub t1_secs: u32,
    /// T2 in seconds, 0 for IA_TA.
    pub t2_secs: u32,
}

impl LqIa {
    const fn of(ia: &Ia<'_>) -> Self {
        Self {
            ia_type: ia.ia_type,
            iaid: ia.iaid,
            t1_secs: ia.t1_secs,
            t2_secs: ia.t2_secs,
        }
    }

    /// The option code of the IA.
    const fn code(&self) -> u16 {
        match self.ia_type {
            IaType::Na => iana::OPTION_IA_NA,
            IaType::Ta => iana::OPTION_IA_TA,
            IaType::Pd => iana::OPTION_IA_PD,
        }
    }
}

/// Reads the leases among the options of one CLIENT_DATA; how many are broken.
pub(super) fn read_leases(options: &[u8], leases: &mut Vec<LqLease>) -> usize {
    leases.clear();
    let mut broken = 0;
    let mut take = |lease: Option<LqLease>| match lease {
        Some(lease) if leases.len() < MAX_LEASES => leases.push(lease),
        _ => broken += 1,
    };
    for option in Options::new(options).map_while(Result::ok) {
        match (Ia::read(option), LeaseOption::read(option)) {
            (Ok(Some(ia)), _) => {
                let fixed = Some(LqIa::of(&ia));
                for lease in ia.leases() {
                    take(lease.ok().and_then(|lease| judge(fixed, &lease)));
                }
            }
            (Ok(None), Ok(Some(lease))) => take(judge(None, &lease)),
            (Ok(None), Ok(None)) => {}
            (Err(_), _) | (_, Err(_)) => take(None),
        }
    }
    merge(leases);
    broken
}

/// The lease, unless it is none: no length that a prefix can have, or a status that denies it.
fn judge(ia: Option<LqIa>, option: &LeaseOption) -> Option<LqLease> {
    let prefix = Prefix::new(option.address, option.bits)?;
    let is_lease = prefix.bits() != 0 && option.status == iana::STATUS_SUCCESS;
    is_lease.then_some(LqLease {
        ia,
        prefix,
        is_address: option.is_address,
        // req: LQ-34
        preferred_secs: option.preferred_secs.min(option.valid_secs),
        valid_secs: option.valid_secs,
    })
}

/// Leaves one of each address or prefix: the one that names its IA, else the first.
// req: ALQ-D-3
fn merge(leases: &mut Vec<LqLease>) {
    leases.sort_by_key(|lease| (lease.prefix, lease.is_address, lease.ia.is_none()));
    leases.dedup_by_key(|lease| (lease.prefix, lease.is_address));
}

/// Writes the leases bare, then those of the requested kinds of IA once more inside it. Neighbours
/// of one IA share one option.
// req: ALQ-D-3
pub(super) fn write_leases(
    writer: &mut MessageWriter<'_>,
    leases: &[LqLease],
    requested: RequestedOptions,
) {
    for lease in leases {
        lease.write(writer);
    }
    for of_one in leases.chunk_by(|a, b| a.ia == b.ia) {
        let ia = of_one.first().and_then(|lease| lease.ia);
        if let Some(ia) = ia.filter(|ia| requested.contains(ia.code())) {
            writer.option_with(ia.code(), |writer| {
                writer.bytes(&ia.iaid.0.to_be_bytes());
                if ia.ia_type != IaType::Ta {
                    writer.bytes(&ia.t1_secs.to_be_bytes());
                    writer.bytes(&ia.t2_secs.to_be_bytes());
                }
                for lease in of_one {
                    lease.write(writer);
                }
            });
        }
    }
}

impl LqLease {
    fn write(&self, writer: &mut MessageWriter<'_>) {
        let address = self.prefix.address().octets();
        let (preferred, valid) = (
            self.preferred_secs.to_be_bytes(),
            self.valid_secs.to_be_bytes(),
        );
        if self.is_address {
            writer.option_with(iana::OPTION_IAADDR, |writer| {
                writer.bytes(&address);
                writer.bytes(&preferred);
                writer.bytes(&valid);
            });
        } else {
            writer.option_with(iana::OPTION_IAPREFIX, |writer| {
                writer.bytes(&preferred);
                writer.bytes(&valid);
                writer.bytes(&[self.prefix.bits()]);
                writer.bytes(&address);
            });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{hex, option, prefix};
    use alloc::vec;

    fn iaprefix(bits: u8, preferred: u32, valid: u32) -> Vec<u8> {
        let mut data = [preferred.to_be_bytes(), valid.to_be_bytes()].concat();
        data.push(bits);
        data.extend(hex("20010db8 0100 0000 0000000000000000"));
        option(iana::OPTION_IAPREFIX, &data)
    }

    fn iaaddr(valid: u32) -> Vec<u8> {
        let mut data = hex("20010db8 0001 0000 00000000000000c3");
        data.extend([valid.to_be_bytes(), valid.to_be_bytes()].concat());
        option(iana::OPTION_IAADDR, &data)
    }

    fn ia_pd(iaid: u32, inside: &[Vec<u8>]) -> Vec<u8> {
        let fixed = [
            iaid.to_be_bytes(),
            100u32.to_be_bytes(),
            200u32.to_be_bytes(),
        ]
        .concat();
        option(iana::OPTION_IA_PD, &[fixed, inside.concat()].concat())
    }

    fn read(options: &[Vec<u8>]) -> (Vec<LqLease>, usize) {
        let mut leases = Vec::new();
        let broken = read_leases(&options.concat(), &mut leases);
        (leases, broken)
    }

    fn lease(ia: Option<LqIa>, preferred_secs: u32, valid_secs: u32) -> LqLease {
        LqLease {
            ia,
            prefix: prefix("2001:db8:100::/56"),
            is_address: false,
            preferred_secs,
            valid_secs,
        }
    }

    const IA: LqIa = LqIa {
        ia_type: IaType::Pd,
        iaid: Iaid(7),
        t1_secs: 100,
        t2_secs: 200,
    };

    /// req: ALQ-D-3 (RFC 7653 §6.2.3)
    #[test]
    fn alq_d_3_bare_lease_and_the_same_inside_its_ia_are_one() {
        let bare = iaprefix(56, 60, 120);
        let inside = ia_pd(7, core::slice::from_ref(&bare));

        for options in [
            vec![bare.clone(), inside.clone()],
            vec![inside.clone(), bare.clone()],
            vec![inside],
        ] {
            assert_eq!(read(&options), (vec![lease(Some(IA), 60, 120)], 0));
        }
        assert_eq!(read(&[bare]), (vec![lease(None, 60, 120)], 0));
    }

    /// req: ALQ-D-3 (RFC 7653 §6.2.3)
    #[test]
    fn alq_d_3_leases_stand_inside_only_the_kinds_of_ia_that_were_requested() {
        let ia = |ia_type, iaid| LqIa {
            ia_type,
            iaid: Iaid(iaid),
            ..IA
        };
        let address = |ia, text| LqLease {
            ia: Some(ia),
            prefix: prefix(text),
            is_address: true,
            ..lease(None, 60, 120)
        };
        let leases = [
            lease(Some(IA), 60, 120),
            address(ia(IaType::Na, 1), "2001:db8:1::1/128"),
            address(ia(IaType::Na, 1), "2001:db8:1::2/128"),
            address(ia(IaType::Na, 2), "2001:db8:1::3/128"),
        ];
        let codes = |requested: &[u16]| {
            let mut out = Vec::new();
            let mut writer = MessageWriter::datagram(&mut out, 17, crate::types::Xid(1));
            write_leases(&mut writer, &leases, requested.iter().copied().collect());
            writer.finish().unwrap();
            let options = Options::new(&out[4..]).map(|option| option.unwrap().code);
            options.collect::<Vec<_>>()
        };

        assert_eq!(codes(&[]), [26, 5, 5, 5]);
        assert_eq!(codes(&[25]), [26, 5, 5, 5, 25]);
        assert_eq!(codes(&[3, 4]), [26, 5, 5, 5, 3, 3]);
        assert_eq!(codes(&[3, 4, 25]), [26, 5, 5, 5, 25, 3, 3]);
    }

    /// req: LQ-34 (RFC 5007 §4.1.2.2)
    #[test]
    fn lq_34_preferred_lifetime_above_the_valid_one_is_cut_to_it() {
        let (leases, broken) = read(&[iaprefix(56, 3600, 10)]);

        assert_eq!((leases, broken), (vec![lease(None, 10, 10)], 0));
    }

    #[test]
    fn lease_of_impossible_length_is_left_out_and_the_others_stay() {
        let good = lease(None, 60, 120);
        for broken in [
            iaprefix(0, 60, 120),
            iaprefix(129, 60, 120),
            iaprefix(200, 60, 120),
            option(iana::OPTION_IAPREFIX, &[0; 24]),
            option(iana::OPTION_IAADDR, &[0x20; 23]),
            option(
                iana::OPTION_IAADDR,
                &[&[0x20; 24][..], &[0, 13, 0, 9]].concat(),
            ),
            option(
                iana::OPTION_IAADDR,
                &[&[0x20; 24][..], &[0, 13, 0, 2, 0, 3]].concat(),
            ),
            option(iana::OPTION_IA_PD, &[0; 11]),
            ia_pd(7, &[iaprefix(0, 60, 120)]),
        ] {
            for options in [
                [broken.clone(), iaprefix(56, 60, 120)],
                [iaprefix(56, 60, 120), broken.clone()],
            ] {
                assert_eq!(read(&options), (vec![good], 1), "{broken:x?}");
            }
        }
    }

    #[test]
    fn lease_behind_a_broken_one_of_the_same_ia_is_read() {
        let both = ia_pd(7, &[iaprefix(0, 60, 120), iaprefix(56, 60, 120)]);

        assert_eq!(read(&[both]), (vec![lease(Some(IA), 60, 120)], 1));
    }

    #[test]
    fn prefix_as_long_as_an_address_is_no_address() {
        let mut as_prefix = iaprefix(128, 60, 60);
        as_prefix.splice(13.., hex("20010db8 0001 0000 00000000000000c3"));

        let (leases, broken) = read(&[iaaddr(60), as_prefix]);

        assert_eq!((leases.len(), broken), (2, 0));
        assert_eq!(leases[0].prefix, leases[1].prefix);
        assert_ne!(leases[0].is_address, leases[1].is_address);
    }

    #[test]
    fn most_leases_that_a_client_can_have_are_all_read() {
        let mut options = Vec::new();
        for n in 0..MAX_LEASES as u32 {
            let address = [&hex("20010db8 0001 0000 00000000")[..], &n.to_be_bytes()].concat();
            options.push(option(
                iana::OPTION_IAADDR,
                &[&address[..], &[0; 8]].concat(),
            ));
        }
        assert!(options.concat().len() <= 65_535 && options.concat().len() + 28 > 65_535);

        let (leases, broken) = read(&options);

        assert_eq!((leases.len(), broken), (MAX_LEASES, 0));
    }
}
