//! From CLIENT_DATA into the table: whose times these are, who saw the client and where it is.
//!
//! Decides how the times of a message become ours (ALQ-15, ALQ-D-15) and what LQ_RELAY_DATA means
//! here (ALQ-D-4). Which record is the true one is for the table.

use alloc::vec::Vec;
use core::net::Ipv6Addr;
use core::time::Duration;

use super::skew::{SAME_SECS, Skew};
use super::{Context, Shared};
use crate::binding::Place;
use crate::binding::replica::{Frame, HALF_SECOND, Outcome, Replica, Whereabouts};
use crate::config::Peer;
use crate::relaying::link::is_link_local;
use crate::time::LqTime;
use crate::view::Origin;
use crate::wire::leasequery::{ClientData, LqLease, RelayData};

/// Times further apart do not say which is the earlier one.
const OLDEST_SECS: u32 = i32::MAX as u32 - SAME_SECS as u32;

/// Who tells of a client.
#[derive(Clone, Copy)]
pub(crate) struct Teller<'a> {
    pub(crate) origin: Origin,
    pub(crate) address: Ipv6Addr,
    /// A relay, which knows who snooped what.
    pub(crate) peer: Option<&'a Peer>,
    /// A server: its DUID.
    pub(crate) server_duid: Option<&'a [u8]>,
    pub(crate) skew: &'a Skew,
    /// Where we heard the client ourselves: that counts, whatever is told.
    pub(crate) heard: Option<Whereabouts>,
}

/// What came of one CLIENT_DATA.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub(crate) struct Taken {
    /// Leases in it.
    pub(crate) leases: u64,
    /// Those that were older than what is known.
    pub(crate) stale: u64,
    /// Leases, and clients, of which not enough could be read.
    pub(crate) ignored: u64,
}

/// Takes all leases of one CLIENT_DATA. A lease that is not in it goes on as it was (ALQ-D-2).
// req: ALQ-15, ALQ-D-2, ALQ-D-3, LQ-26, LQ-32, LQ-33
pub(crate) fn take(
    shared: &Shared,
    cx: &mut Context<'_>,
    leases: &mut Vec<LqLease>,
    teller: &Teller<'_>,
    data: &ClientData<'_>,
    base_time: Option<LqTime>,
) -> Taken {
    let (Some(duid), Some(clt_secs)) = (data.client_id, data.clt_secs) else {
        return Taken {
            ignored: 1,
            ..Taken::default()
        };
    };
    let now = cx.now();
    let today = shared.base_time(now);
    // What bears no time was made now. What is of a time to come would be newer than all that the
    // client does until then; clocks that are held for the same may differ by a little.
    // req: ALQ-D-11
    let made_at = base_time.map_or(today, |base_time| teller.skew.ours(shared.clock, base_time));
    let made_at = match made_at.secs_since(today) {
        ahead if ahead > SAME_SECS as i32 => today,
        _ => made_at,
    };
    let on_its_way = u32::try_from(today.secs_since(made_at)).unwrap_or(0);
    let cltt = made_at.minus_secs(clt_secs.min(OLDEST_SECS));
    let relay_data = data.relay_data.ok().flatten();
    let told = || relay_data.map(|it| whereabouts(cx, teller.peer, &it));
    let whereabouts = teller.heard.or_else(told);
    let snooper = relay_data.map(|it| it.peer_address);
    let snooper = snooper.filter(|it| teller.peer.is_some() && !it.is_unspecified());
    let snooped_by = snooper.unwrap_or(teller.address);
    let frame = Frame {
        clock: shared.clock,
        own_address: shared.config.own_address,
    };
    let mut taken = Taken {
        ignored: data.read_leases(leases) as u64,
        ..Taken::default()
    };
    for lease in leases.iter() {
        let replica = Replica {
            duid,
            lease,
            at: now - Duration::from_secs(u64::from(on_its_way)),
            cltt: shared.clock.instant_of(now, cltt) + HALF_SECOND,
            origin: teller.origin,
            snooped_by,
            is_rounded: snooped_by != teller.address && teller.skew.secs(shared.clock) != 0,
            server: teller.server_duid.map(|duid| (duid, teller.address)),
            whereabouts,
        };
        let outcome = cx.bindings.take(&mut cx.act, &frame, &replica);
        taken.leases += 1;
        taken.stale += u64::from(outcome == Outcome::Stale);
    }
    taken
}

/// Where a client is, by what its relays said of it.
// req: LQ-35
fn whereabouts(cx: &Context<'_>, peer: Option<&Peer>, data: &RelayData<'_>) -> Whereabouts {
    let (outer, inner) = (&data.outermost, &data.innermost);
    let is_direct = data.layers == 1 || inner.link_address.is_unspecified();
    let is_first_hop =
        is_direct && is_link_local(inner.peer_address) && is_link_local(outer.peer_address);
    let mac = inner.mac.or(outer.mac);
    Whereabouts {
        place: Place {
            address: inner.peer_address,
            mac: mac.filter(|_| is_first_hop),
            link_address: outer.link_address,
            is_first_hop,
        },
        link: cx.bindings.link_of(cx.act.links, peer, outer),
    }
}
