//! Whether a client would take a lease as stated (spec section 3.3).

use core::net::Ipv6Addr;

use super::Lease;
use crate::types::Prefix;
use crate::wire::ia::{Ia, LeaseOption};

/// A client skips an IA whose timers contradict each other. IA_TA has none.
// req: SNP-27
pub(super) const fn is_sound(ia: &Ia<'_>) -> bool {
    ia.t1_secs == 0 || ia.t2_secs == 0 || ia.t1_secs <= ia.t2_secs
}

/// The lease, where a client would take it and a route to it makes sense.
// req: SNP-26
pub(super) fn lease(ia: &Ia<'_>, option: &LeaseOption) -> Option<Lease> {
    if option.preferred_secs > option.valid_secs {
        return None;
    }
    Some(Lease {
        ia_type: ia.ia_type,
        iaid: ia.iaid,
        t1_secs: ia.t1_secs,
        t2_secs: ia.t2_secs,
        prefix: routable(option.address, option.bits)?,
        preferred_secs: option.preferred_secs,
        valid_secs: option.valid_secs,
    })
}

/// The prefix with its host bits masked, unless it is nothing that anyone can be routed to.
// req: SNP-33
pub(crate) fn routable(address: Ipv6Addr, bits: u8) -> Option<Prefix> {
    let prefix = Prefix::new(address, bits).filter(|_| bits != 0)?;
    let reserved = [
        Prefix::new(Ipv6Addr::new(0xff00, 0, 0, 0, 0, 0, 0, 0), 8)?,
        Prefix::new(Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 0), 10)?,
        Prefix::host(Ipv6Addr::UNSPECIFIED),
        Prefix::host(Ipv6Addr::LOCALHOST),
    ];
    let overlaps = |other: &Prefix| prefix.covers(other) || other.covers(&prefix);
    (!reserved.iter().any(overlaps)).then_some(prefix)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{ip, prefix};

    #[test]
    fn snp_33_prefixes_nobody_can_be_routed_to_are_refused() {
        for (address, bits) in [
            ("2001:db8::", 0),
            ("2001:db8::", 129),
            ("::", 64),
            ("::", 128),
            ("::1", 128),
            ("8000::", 1),
            ("fe80::1", 128),
            ("febf::", 16),
            ("ff05::1", 128),
        ] {
            assert_eq!(routable(ip(address), bits), None, "{address}/{bits}");
        }
    }

    #[test]
    fn snp_33_host_bits_are_masked() {
        let masked = routable(ip("2001:db8:100:1::5"), 48);

        assert_eq!(masked, Some(prefix("2001:db8:100::/48")));
    }
}
