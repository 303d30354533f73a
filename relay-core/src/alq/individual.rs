//! One client asked of the servers over UDP (RFC 5007): a Confirm was answered with Success for an
//! address that the table does not know, so a client goes on using it, and its prefixes, and a Reply to
//! Confirm states neither (RFC 7513 §6.4.2.1).
//!
//! Decides when the servers are asked, how often, and whose answer counts. A Confirm proves no more than
//! that its sender knows a DUID, and a server answers it by the link alone: so an answer is taken only for
//! the client that confirmed, and not where the server remembers another next hop for it. Must not know
//! which record of a lease is the true one.
//!
//! ```text
//! CONFIRM ─> Confirming ─ Reply: Success ─> Asking ─ all have answered, or MRC ─> gone, or Silent
//! ```

use alloc::boxed::Box;
use alloc::vec::Vec;
use core::hash::Hasher;
use core::net::Ipv6Addr;
use core::time::Duration;

use siphasher::sip::SipHasher13;

use super::intake::{self, Teller};
use super::skew::Skew;
use super::{Context, Shared};
use crate::binding::Place;
use crate::binding::replica::Whereabouts;
use crate::effect::Effect;
use crate::error::Notice;
use crate::outbox::Outbox;
use crate::relaying::transaction::Exchange;
use crate::time::Instant;
use crate::types::{AccessLink, IaType, Prefix, ServerId, Xid, usable_duid};
use crate::view::Origin;
use crate::wire::ia::Ia;
use crate::wire::iana;
use crate::wire::leasequery::{Answer, BulkQuery, ClientData, LqLease, LqQuery, QueryBy};
use crate::wire::message::Message;
use crate::wire::options::Options;

/// LQ_TIMEOUT, LQ_MAX_RT and LQ_MAX_RC (RFC 5007 §4.1.4).
const FIRST_TIMEOUT: Duration = Duration::from_secs(1);
const LONGEST_TIMEOUT: Duration = Duration::from_secs(10);
const TRANSMISSIONS_MAX: u8 = 5;
/// CNF_MAX_RD (RFC 8415 §7.6): no client waits longer for the answer to its Confirm.
const CONFIRM_LIFE: Duration = Duration::from_secs(10);
/// After no server knew it, the same address is not asked for again so long (RFC 5007 §5).
const SILENCE: Duration = Duration::from_secs(60);
/// Clients at one time; a flood of Confirms costs neither more memory nor more queries.
const INQUIRIES_MAX: usize = 64;
/// What is asked for of the client.
const REQUESTED: [u16; 1] = [iana::OPTION_LQ_RELAY_DATA];

/// Where a client was heard.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Heard {
    pub(crate) link: AccessLink,
    pub(crate) place: Place,
}

#[derive(Debug)]
struct Inquiry {
    duid: Box<[u8]>,
    address: Ipv6Addr,
    heard: Heard,
    stage: Stage,
}

#[derive(Debug)]
enum Stage {
    /// The Confirm is on its way.
    Confirming {
        xid: Xid,
        until: Instant,
    },
    Asking(Asking),
    /// Nobody knew.
    Silent {
        until: Instant,
    },
}

#[derive(Debug)]
struct Asking {
    xid: Xid,
    /// Those that have not answered.
    servers: Vec<ServerId>,
    sent: u8,
    timeout: Duration,
    /// The next transmission, or the end.
    at: Instant,
    is_found: bool,
}

/// All that are being asked for.
pub(crate) struct Individual {
    /// Keys transaction-ids and the jitter of timeouts: nobody off the path guesses them.
    key: [u8; 16],
    drawn: u64,
    inquiries: Vec<Inquiry>,
    /// Of the answer at hand.
    leases: Vec<LqLease>,
}

impl Individual {
    pub(crate) const fn new(key: [u8; 16]) -> Self {
        Self {
            key,
            drawn: 0,
            inquiries: Vec::new(),
            leases: Vec::new(),
        }
    }

    /// A client's message is on its way to the servers; only Confirm matters.
    pub(crate) fn confirm(&mut self, cx: &Context<'_>, heard: Heard, message: &Message<'_>) {
        if message.message_type != iana::CONFIRM {
            return;
        }
        let Some((duid, address)) = unknown_address(cx, message) else {
            return;
        };
        let now = cx.now();
        self.inquiries.retain(|it| it.is_alive(now));
        let stage = Stage::Confirming {
            xid: message.xid,
            until: now + CONFIRM_LIFE,
        };
        let mut known = self.inquiries.iter_mut();
        if let Some(known) = known.find(|it| it.address == address && *it.duid == *duid) {
            if matches!(known.stage, Stage::Confirming { .. }) {
                (known.heard, known.stage) = (heard, stage);
            }
        } else if self.inquiries.len() < INQUIRIES_MAX {
            // req: LQ-10
            self.inquiries.push(Inquiry {
                duid: duid.into(),
                address,
                heard,
                stage,
            });
        }
    }

    /// A server has answered a Confirm with Success.
    pub(crate) fn confirmed(
        &mut self,
        shared: &Shared,
        cx: &mut Context<'_>,
        exchange: &Exchange,
        servers: &[ServerId],
    ) {
        let has_name = !shared.config.identity.is_empty();
        let mut inquiries = self.inquiries.iter();
        let found = inquiries.position(|it| has_name && it.is_of(exchange));
        let Some(mut inquiry) = found.map(|at| self.inquiries.swap_remove(at)) else {
            return;
        };
        let asking = Asking {
            xid: self.draw_xid(),
            servers: servers.to_vec(),
            sent: 0,
            timeout: Duration::ZERO,
            at: cx.now(),
            is_found: false,
        };
        inquiry.stage = Stage::Asking(asking);
        self.go_on(shared, cx, inquiry);
    }

    /// A LEASEQUERY-REPLY came from a server over UDP. `false` where nothing asked for it.
    // req: LQ-24, LQ-25, LQ-28
    pub(crate) fn answer(
        &mut self,
        shared: &Shared,
        cx: &mut Context<'_>,
        from: Ipv6Addr,
        message: &Message<'_>,
    ) -> bool {
        let Ok(answer) = Answer::read(message) else {
            return false;
        };
        let of_this = |it: &Inquiry| match &it.stage {
            Stage::Asking(asking) => asking.xid == message.xid,
            _ => false,
        };
        let Some(mut inquiry) = self
            .inquiries
            .iter()
            .position(of_this)
            .filter(|_| answer.is_reply_to(&shared.config.identity))
            .map(|at| self.inquiries.swap_remove(at))
        else {
            return false;
        };
        let Stage::Asking(asking) = &mut inquiry.stage else {
            return false;
        };
        // A member of a group answers for itself: others may follow.
        let server = cx.act.links.server_at(from);
        asking.servers.retain(|it| Some(*it) != server);
        let server = server.or(asking.servers.first().copied());
        let data = answer
            .client_data
            .filter(|_| answer.status_code() == iana::STATUS_SUCCESS);
        if let (Some(data), Some(server)) = (data, server) {
            asking.is_found |= take(
                shared,
                cx,
                &mut self.leases,
                &inquiry.duid,
                inquiry.heard,
                (server, from, answer.server_id.unwrap_or_default()),
                &data,
            );
        }
        if asking.servers.is_empty() {
            self.end(cx.now(), inquiry);
        } else {
            self.inquiries.push(inquiry);
        }
        true
    }

    /// Asks again, and gives up.
    pub(crate) fn handle_timeout(&mut self, shared: &Shared, cx: &mut Context<'_>) {
        let now = cx.now();
        while let Some(at) = self.inquiries.iter().position(|it| it.is_due(now)) {
            let inquiry = self.inquiries.swap_remove(at);
            self.go_on(shared, cx, inquiry);
        }
    }

    /// When [`Individual::handle_timeout`] is due.
    pub(crate) fn next_time(&self) -> Option<Instant> {
        let asking = self.inquiries.iter().filter_map(|it| match &it.stage {
            Stage::Asking(asking) => Some(asking.at),
            _ => None,
        });
        asking.min()
    }

    /// One more transmission to whoever has not answered, or the end.
    // req: LQ-1, LQ-2, LQ-7, LQ-8, LQ-9
    fn go_on(&mut self, shared: &Shared, cx: &mut Context<'_>, mut inquiry: Inquiry) {
        let now = cx.now();
        let jitter = self.draw();
        let Stage::Asking(asking) = &mut inquiry.stage else {
            return;
        };
        if asking.is_found || asking.sent == TRANSMISSIONS_MAX || asking.servers.is_empty() {
            return self.end(now, inquiry);
        }
        asking.sent += 1;
        asking.timeout = next_timeout(asking.timeout, jitter);
        asking.at = now + asking.timeout;
        send(shared, cx.out(), asking, inquiry.address);
        self.inquiries.push(inquiry);
    }

    /// What nobody knew is not asked for again at once.
    // req: LQ-10
    fn end(&mut self, now: Instant, mut inquiry: Inquiry) {
        if matches!(&inquiry.stage, Stage::Asking(asking) if !asking.is_found) {
            inquiry.stage = Stage::Silent {
                until: now + SILENCE,
            };
            self.inquiries.push(inquiry);
        }
    }

    fn draw_xid(&mut self) -> Xid {
        Xid(self.draw() as u32 & 0x00ff_ffff)
    }

    fn draw(&mut self) -> u64 {
        self.drawn += 1;
        let mut hasher = SipHasher13::new_with_key(&self.key);
        hasher.write(b"leasequery");
        hasher.write_u64(self.drawn);
        hasher.finish()
    }
}

impl Inquiry {
    fn is_alive(&self, now: Instant) -> bool {
        match &self.stage {
            Stage::Asking(_) => true,
            Stage::Confirming { until, .. } | Stage::Silent { until } => *until > now,
        }
    }

    fn is_due(&self, now: Instant) -> bool {
        matches!(&self.stage, Stage::Asking(asking) if asking.at <= now)
    }

    fn is_of(&self, exchange: &Exchange) -> bool {
        matches!(&self.stage, Stage::Confirming { xid, .. } if *xid == exchange.xid)
            && self.heard.link.access == exchange.access
            && self.heard.place.address == exchange.client_address
    }
}

/// RT of RFC 8415 §15: doubled each time, up to MRT, each within a tenth.
fn next_timeout(before: Duration, random: u64) -> Duration {
    let base = match before {
        Duration::ZERO => FIRST_TIMEOUT,
        before => (before * 2).min(LONGEST_TIMEOUT),
    };
    let tenth = base / 10;
    let within = u32::try_from(random % 1025).unwrap_or(0);
    base - tenth + tenth * 2 * within / 1024
}

fn send(shared: &Shared, out: &mut Outbox, asking: &Asking, address: Ipv6Addr) {
    if out.is_full() {
        return;
    }
    let query = BulkQuery {
        client_id: &shared.config.identity,
        server_id: None,
        lq_query: LqQuery {
            link_address: Ipv6Addr::UNSPECIFIED,
            by: QueryBy::Address(address),
        },
        requested: &REQUESTED,
        start_time: None,
        end_time: None,
    };
    let start = out.bytes().len();
    let written = query.write_datagram(out.bytes(), asking.xid);
    debug_assert!(written.is_ok(), "a DUID and an address fit");
    let message = Outbox::span(start..out.bytes().len());
    for server in &asking.servers {
        out.push(Effect::SendToServer {
            server: *server,
            message_type: iana::LEASEQUERY,
            message,
        });
    }
}

/// The client of a Confirm, and the first of its addresses that the table does not know.
fn unknown_address<'a>(cx: &Context<'_>, message: &Message<'a>) -> Option<(&'a [u8], Ipv6Addr)> {
    let client_id = Options::new(message.options).find(iana::OPTION_CLIENTID);
    let duid = usable_duid(client_id.ok()??)?;
    let ias = Options::new(message.options).filter_map(|option| Ia::read(option.ok()?).ok()?);
    let leases = ias
        .filter(|ia| ia.ia_type != IaType::Pd)
        .flat_map(|ia| ia.leases());
    let mut addresses = leases.filter_map(|lease| Some(lease.ok()?.address));
    let address = addresses.find(|it| !cx.bindings.knows(Prefix::host(*it), duid))?;
    Some((duid, address))
}

/// Takes what a server says of the client, unless it is another one, or was somewhere else.
fn take(
    shared: &Shared,
    cx: &mut Context<'_>,
    leases: &mut Vec<LqLease>,
    duid: &[u8],
    heard: Heard,
    (server, address, server_duid): (ServerId, Ipv6Addr, &[u8]),
    data: &ClientData<'_>,
) -> bool {
    let relay_data = data.relay_data.ok().flatten();
    let is_elsewhere =
        relay_data.is_some_and(|it| it.innermost.peer_address != heard.place.address);
    if data.client_id != Some(duid) || is_elsewhere {
        let access = Some(heard.link.access);
        cx.out().notice(access, Notice::LeasequeryMismatch);
        return false;
    }
    let teller = Teller {
        origin: Origin::Leasequery(server),
        address,
        peer: None,
        server_duid: Some(server_duid),
        skew: &Skew::default(),
        heard: Some(Whereabouts {
            place: heard.place,
            link: Some(heard.link),
        }),
    };
    intake::take(shared, cx, leases, &teller, data, None).leases > 0
}
