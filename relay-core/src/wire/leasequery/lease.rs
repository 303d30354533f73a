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
