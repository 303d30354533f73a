//! [`Relay`]: the four calls, and dispatch to the modules that decide.
//!
//! Decides only the order of things: what happens to the table before a message leaves, which
//! Replies wait for their routes, and in which order effects are handed out. Must not know what
//! an option means.

use alloc::vec::Vec;
use core::net::Ipv6Addr;
use core::time::Duration;

use crate::alq::{self, Digest, Heard, Leasequery, Neighbor, Readiness};
use crate::binding::{Again, Bindings, Context, Place, Source};
use crate::config::RelayConfig;
use crate::effect::{ClientPath, Effect, Span};
use crate::error::{Discard, Notice};
use crate::hold::{Hold, Waits};
use crate::input::{Clear, ClientDatagram, Input, ServerDatagram};
use crate::outbox::Outbox;
use crate::record::{Keeping, Record, RecordKey};
use crate::relaying::forward::{self, Accepted};
use crate::relaying::link::{Links, Sender, is_link_local};
use crate::relaying::reply::{self, Delivery};
use crate::relaying::transaction::{Exchange, Remembered, Request, Transactions};
use crate::snoop::{GivenUp, Leases, Reply, Verdict};
use crate::time::Instant;
use crate::types::{AccessId, AccessLink, IfIndex, Prefix};
use crate::view::{Cursor, Filter, Page, SubscriberView, TableSummary};
use crate::wire::iana;
use crate::wire::message::Message;
use crate::wire::relay_msg::Innermost;

/// One DHCPv6 relay agent with its binding table.
pub struct Relay {
    links: Links,
    reply_deadline: Duration,
    held_replies_max: usize,
    bindings: Bindings,
    transactions: Transactions,
    hold: Hold,
    leasequery: Leasequery,
    out: Outbox,
    /// Of the Reply being learned.
    leases: Leases,
    /// The latest time told.
    now: Instant,
}

impl Relay {
    /// An empty relay. `seed` keys the hashes of everything that comes off the wire.
    pub fn new(config: RelayConfig, seed: [u8; 16]) -> Self {
        Self {
            links: Links::new(&config),
            reply_deadline: config.reply_deadline,
            held_replies_max: config.held_replies_max,
            bindings: Bindings::new(&config, seed),
            transactions: Transactions::new(seed),
            hold: Hold::new(),
            leasequery: Leasequery::new(config.leasequery, seed),
            out: Outbox::default(),
            leases: Leases::new(),
            now: Instant::default(),
        }
    }

    /// Takes one input and queues its effects.
    pub fn handle_input(&mut self, now: Instant, input: Input<'_>) {
        self.now = self.now.max(now);
        self.out.begin();
        match input {
            Input::Client(datagram) => self.handle_client(&datagram),
            Input::Server(datagram) => self.handle_server(&datagram),
            Input::Route(outcome) => {
                let (bindings, mut cx) = self.bindings();
                bindings.route_outcome(&mut cx, &outcome);
            }
            Input::Configure(config) => {
                self.links = Links::new(&config);
                self.reply_deadline = config.reply_deadline;
                self.held_replies_max = config.held_replies_max;
                self.bindings.configure(now, &config);
                let (leasequery, mut cx) = self.leasequery();
                leasequery.configure(&mut cx, config.leasequery);
            }
            Input::Clear(clear) => {
                let (bindings, mut cx) = self.bindings();
                bindings.clear(&mut cx, &clear);
            }
            Input::Restore(restored) => {
                let (bindings, mut cx) = self.bindings();
                bindings.restore(&mut cx, &restored);
            }
            Input::Stored { through } => self.hold.settle_record(through, &mut self.out),
            Input::CorrectTimes { earlier_nanos } => {
                let (bindings, mut cx) = self.bindings();
                bindings.correct_times(&mut cx, earlier_nanos);
            }
            Input::Leasequery(input) => {
                let (leasequery, mut cx) = self.leasequery();
                leasequery.handle_input(&mut cx, input);
            }
            Input::WallClock { ahead_nanos } => {
                let (leasequery, mut cx) = self.leasequery();
                leasequery.set_clock(&mut cx, ahead_nanos);
            }
        }
        self.tell_peers();
    }

    /// Does what has become due: expires leases, releases Replies that waited too long, looks at
    /// one more slice of routes. What is left over is due at once.
    pub fn handle_timeout(&mut self, now: Instant) {
        self.now = self.now.max(now);
        self.hold.let_go_late(self.now, &mut self.out);
        let is_anybody_behind = self.leasequery.is_anybody_behind(&self.bindings);
        self.bindings.set_anybody_behind(is_anybody_behind);
        let (bindings, mut cx) = self.bindings();
        bindings.expire(&mut cx);
        bindings.sweep_slice(&mut cx);
        bindings.correct_slice(&mut cx);
        let (leasequery, mut cx) = self.leasequery();
        leasequery.handle_timeout(&mut cx);
        self.tell_peers();
    }

    /// When [`Relay::handle_timeout`] wants to be called next.
    pub fn poll_timeout(&self) -> Option<Instant> {
        let bindings = self.bindings.next_time(self.now);
        let held = self.hold.next_deadline();
        let leasequery = self.leasequery.next_time(&self.bindings, self.now);
        let times = [bindings, held, leasequery];
        times.into_iter().flatten().min()
    }

    /// The next effect, in order.
    pub fn poll_effect(&mut self) -> Option<Effect> {
        self.out.pop()
    }

    /// The message that an effect named. Readable until the first input after the queue of
    /// effects was drained.
    pub fn message(&self, span: Span) -> &[u8] {
        self.out.message(span)
    }

    /// Asks for all wanted routes and neighbour entries once more, for a shell that lost sight of
    /// the kernel. They come in slices out of the next calls of [`Relay::handle_timeout`].
    pub fn resend_routes(&mut self) {
        self.bindings.look_again(Again {
            routes: true,
            forwarding: false,
        });
    }

    /// Whether the shell writes the kernel's tables of bindings: only then does it hear of what they are
    /// to hold. Of what is there already it hears after [`Relay::resend_forwarding`].
    pub fn set_forwarding(&mut self, is_wanted: bool) {
        self.bindings.set_forwarding(is_wanted);
    }

    /// Asks for all entries of the kernel's tables of bindings once more. They come as routes do after
    /// [`Relay::resend_routes`].
    pub fn resend_forwarding(&mut self) {
        self.bindings.look_again(Again {
            routes: false,
            forwarding: true,
        });
    }

    /// Whether slices of such a resend, or of a look after new surroundings, wait: the shell
    /// has no room for them.
    pub fn hold_routes_back(&mut self, hold: bool) {
        self.bindings.hold_looks_back(hold);
    }

    /// Whether slices of such a resend, or of a look after new surroundings, are still
    /// to come.
    pub fn is_resending(&self) -> bool {
        self.bindings.is_looking()
    }

    /// Whether a durable store keeps the bindings, and Replies wait for it. Those that wait leave
    /// at once where they need not any more.
    pub fn set_keeping(&mut self, keeping: Keeping) {
        self.bindings.set_keeping(keeping);
        if keeping != Keeping::Awaited {
            self.out.begin();
            self.hold.give_up_records(&mut self.out);
        }
    }

    /// So many bindings are likely to come back.
    pub fn expect(&mut self, bindings: usize) {
        self.bindings.expect(bindings);
    }

    /// New bindings get this number and those behind it, or later ones.
    pub fn number_from(&mut self, id: u64) {
        self.bindings.number_from(id);
    }

    /// A binding as the store has to hold it; `None` where it has ended since.
    pub fn record(&self, key: RecordKey) -> Option<Record<'_>> {
        self.bindings.record(key)
    }

    /// Tells a slice of all bindings to a store that lost sight of them, from [`Cursor::default`]
    /// on. Where the next slice begins; `None` after the last.
    pub fn record_slice(&mut self, from: Cursor) -> Option<Cursor> {
        self.out.begin();
        let (bindings, mut cx) = self.bindings();
        bindings.record_slice(&mut cx, from.0).map(Cursor)
    }

    /// Whether somebody watches bindings: only then do renewals carry a view.
    pub fn set_observed(&mut self, observed: bool) {
        self.bindings.set_observed(observed);
    }

    /// A page of the clients that match, at most `limit` clients and at most `4 * limit` looked at.
    pub fn page(&self, filter: &Filter, from: Cursor, limit: usize) -> Page {
        self.bindings.page(&self.links, filter, from, limit)
    }

    /// The client that holds exactly this lease.
    pub fn find_lease(&self, prefix: Prefix) -> Option<SubscriberView> {
        self.bindings.find_lease(&self.links, prefix)
    }

    /// Numbers of the table.
    pub fn summary(&self) -> TableSummary {
        TableSummary {
            held_replies: self.hold.len(),
            ..self.bindings.summary()
        }
    }

    /// Each peer and direction, and each server that is asked by Bulk Leasequery, ordered.
    pub fn neighbors(&self) -> Vec<Neighbor> {
        self.leasequery.neighbors(&self.bindings, self.now)
    }

    /// Whether this relay may attract traffic.
    pub fn readiness(&self) -> Readiness {
        self.leasequery.readiness().clone()
    }

    /// By access interface, ordered; [`AccessId::UNMAPPED`] last.
    pub fn digests(&self) -> Vec<(AccessId, Digest)> {
        self.bindings.digests()
    }

    /// Whether there are still bindings that a [`Clear`] means: it removes many in several calls.
    pub fn has(&self, clear: &Clear) -> bool {
        self.bindings.has(clear)
    }

    /// How many bindings a [`crate::input::Clear`] just removed, since the last call.
    pub fn take_cleared(&mut self) -> usize {
        self.bindings.take_cleared()
    }

    #[cfg(test)]
    pub(crate) fn check(&self) {
        self.bindings.check();
    }

    /// The table, and what it needs to act.
    fn bindings(&mut self) -> (&mut Bindings, Context<'_>) {
        let cx = Context {
            now: self.now,
            links: &self.links,
            out: &mut self.out,
            hold: &mut self.hold,
        };
        (&mut self.bindings, cx)
    }

    /// Leasequery, and what it needs to act.
    fn leasequery(&mut self) -> (&mut Leasequery, alq::Context<'_>) {
        let act = Context {
            now: self.now,
            links: &self.links,
            out: &mut self.out,
            hold: &mut self.hold,
        };
        let bindings = &mut self.bindings;
        (&mut self.leasequery, alq::Context { bindings, act })
    }

    /// What was changed goes out to the other relays, behind the effects of the change.
    // req: ALQ-60
    fn tell_peers(&mut self) {
        let (leasequery, mut cx) = self.leasequery();
        leasequery.pump(&mut cx);
    }

    fn handle_client(&mut self, datagram: &ClientDatagram<'_>) {
        let Some(link) = self.links.by_ifindex(datagram.interface) else {
            return self.out.discard(None, Discard::UnknownInterface);
        };
        let access = link.access.id;
        let is_of_server = match datagram.payload.first() {
            Some(&iana::RELAY_REPL) => true,
            Some(&iana::LEASEQUERY_REPLY) => self.is_server(datagram.source, datagram.interface),
            _ => false,
        };
        if is_of_server {
            // A server may be behind an access interface that is a core interface too.
            return self.handle_server(&ServerDatagram {
                interface: datagram.interface,
                source: datagram.source,
                source_port: datagram.source_port,
                payload: datagram.payload,
            });
        }
        let accepted = match forward::accept(link, datagram) {
            Ok(accepted) => accepted,
            Err(reason) => return self.out.discard(Some(access), reason),
        };
        if link.servers.is_empty() {
            return self.out.discard(Some(access), Discard::NoServer);
        }
        if self.out.is_full() {
            return self.out.discard(Some(access), Discard::Overload);
        }
        let Some(range) = forward::wrap(link, datagram, &accepted, self.out.bytes()) else {
            return self.out.discard(Some(access), Discard::TooLarge);
        };
        let message = Outbox::span(range);
        // What a client gives up is gone before the servers hear of it. req: SNP-38
        self.note_client_message(datagram, &accepted, access);
        let innermost = accepted.innermost.as_ref();
        let message_type = innermost.map_or(iana::RELAY_FORW, |it| it.message.message_type);
        let Some(link) = self.links.by_ifindex(datagram.interface) else {
            return;
        };
        // The same bytes for each of them. req: RLY-28, RLY-33, RLY-79, SNP-24
        for server in &link.servers {
            self.out.push(Effect::SendToServer {
                server: *server,
                message_type,
                message,
            });
        }
    }

    /// Remembers a request for its answer, and acts on what it gives up.
    fn note_client_message(
        &mut self,
        datagram: &ClientDatagram<'_>,
        accepted: &Accepted<'_>,
        access: AccessId,
    ) {
        let Some(innermost) = &accepted.innermost else {
            return;
        };
        let exchange = Exchange {
            access,
            peer_address: datagram.source,
            client_address: innermost.client_address,
            xid: innermost.message.xid,
        };
        let remembered = self.transactions.remember(
            self.now,
            &exchange,
            innermost.message.message_type,
            innermost.message.client_id(),
            datagram.mac,
            datagram.vlans,
        );
        match remembered {
            Remembered::Fine => {}
            Remembered::Evicting => self.out.notice(Some(access), Notice::TransactionEvicted),
            Remembered::Conflict => self.out.notice(Some(access), Notice::TransactionConflict),
        }
        let link = AccessLink {
            access,
            vlans: datagram.vlans,
        };
        let is_first_hop = !innermost.cascaded && is_link_local(datagram.source);
        let heard = Heard {
            link,
            place: Place {
                address: innermost.client_address,
                mac: datagram.mac.filter(|_| is_first_hop),
                link_address: accepted.link_address,
                is_first_hop,
            },
        };
        let (leasequery, cx) = self.leasequery();
        leasequery.forwarded(&cx, heard, &innermost.message);
        if let Some(given_up) = GivenUp::read(&innermost.message) {
            let (bindings, mut cx) = self.bindings();
            bindings.give_up(&mut cx, link, datagram.mac, &given_up);
        }
    }

    fn is_server(&self, source: Ipv6Addr, interface: IfIndex) -> bool {
        self.links.sender(source, interface).is_some()
    }

    /// What we asked over UDP ourselves is not for a client.
    fn handle_leasequery_reply(&mut self, datagram: &ServerDatagram<'_>) {
        if !self.is_server(datagram.source, datagram.interface) {
            return self.out.discard(None, Discard::NotFromServer);
        }
        let Ok(message) = Message::new(datagram.payload) else {
            return self.out.discard(None, Discard::Malformed);
        };
        let (leasequery, mut cx) = self.leasequery();
        if !leasequery.answered(&mut cx, datagram.source, &message) {
            self.out.discard(None, Discard::NotForRelay);
        }
    }

    fn handle_server(&mut self, datagram: &ServerDatagram<'_>) {
        if datagram.payload.first() == Some(&iana::LEASEQUERY_REPLY) {
            return self.handle_leasequery_reply(datagram);
        }
        let delivery = match reply::unwrap(&self.links, datagram) {
            Ok(delivery) => delivery,
            Err((access, reason)) => return self.out.discard(access, reason),
        };
        if self.out.is_full() {
            let access = Some(delivery.access);
            return self.out.discard(access, Discard::Overload);
        }
        // req: SNP-5
        let innermost = Innermost::descend(delivery.inner, delivery.peer_address).ok();
        let request = innermost.as_ref().and_then(|innermost| {
            let exchange = Exchange {
                access: delivery.access,
                peer_address: delivery.peer_address,
                client_address: innermost.client_address,
                xid: innermost.message.xid,
            };
            self.transactions.recall(self.now, &exchange, delivery.tags)
        });
        let path = self.path(&delivery, request.as_ref());
        let must_wait = innermost
            .filter(|innermost| innermost.message.message_type == iana::REPLY)
            .is_some_and(|reply| self.learn(datagram.source, &delivery, &path, request, &reply));
        if must_wait {
            return;
        }
        let message = self.out.copy(delivery.inner);
        self.out.push(Effect::SendToClient {
            path,
            message_type: delivery.inner.first().copied().unwrap_or_default(),
            message,
        });
    }

    /// A client goes on with addresses of which the Reply says no more than that they are good.
    // req: DP-17
    fn ask_for_confirmed(&mut self, delivery: &Delivery<'_>, innermost: &Innermost<'_>) {
        let exchange = Exchange {
            access: delivery.access,
            peer_address: delivery.peer_address,
            client_address: innermost.client_address,
            xid: innermost.message.xid,
        };
        let link = self.links.by_id(delivery.access);
        let servers = link.map_or_else(Vec::new, |link| link.servers.clone());
        let (leasequery, mut cx) = self.leasequery();
        leasequery.confirmed(&mut cx, &exchange, &servers);
    }

    /// MAC and tags: those of the request, else of the client known at that address.
    fn path(&mut self, delivery: &Delivery<'_>, request: Option<&Request>) -> ClientPath {
        let mut path = ClientPath {
            access: delivery.access,
            interface: delivery.interface,
            vlans: request.map_or(delivery.tags.guess(), |request| request.vlans),
            mac: request.and_then(|request| request.mac),
            destination: delivery.peer_address,
            port: delivery.port,
        };
        if path.mac.is_none() {
            let known = self
                .bindings
                .client_at(path.access, path.vlans, path.destination);
            if let Some(client) = known {
                path.mac = client.place.mac;
                path.vlans = client.link.vlans;
            }
        }
        if path.mac.is_none() {
            self.out.notice(Some(path.access), Notice::UnknownMac);
        }
        path
    }

    /// Learns a Reply. `true` where it now waits for its routes and
    /// for the store; else it leaves at once.
    fn learn(
        &mut self,
        server_address: Ipv6Addr,
        delivery: &Delivery<'_>,
        path: &ClientPath,
        request: Option<Request>,
        innermost: &Innermost<'_>,
    ) -> bool {
        let access = Some(delivery.access);
        if request.is_none() {
            self.out.notice(access, Notice::UnmatchedReply);
            // Anybody on the servers' side could say it. req: SNP-6
            if delivery.sender == Sender::Claimed {
                return false;
            }
        }
        let Ok(reply) = Reply::read(&innermost.message, &mut self.leases) else {
            self.out.notice(access, Notice::UnreadableReply);
            return false;
        };
        if reply.server_unicast {
            // req: RLY-92
            self.out.notice(access, Notice::ServerUnicast);
        }
        if request.is_some_and(|it| reply.confirms(it.message_type)) {
            self.ask_for_confirmed(delivery, innermost);
        }
        let verdict = reply.verdict(request.map(|request| request.message_type), |duid| {
            request.is_some_and(|request| self.transactions.is_from(&request, duid))
        });
        let (duid, server_duid, may_end) = match verdict {
            Verdict::Learn {
                duid,
                server_duid,
                may_end,
            } => (duid, server_duid, may_end),
            Verdict::Nothing => return false,
            Verdict::NotLearned => {
                self.out.notice(access, Notice::ReplyNotLearned);
                return false;
            }
        };
        let is_first_hop = !innermost.cascaded && is_link_local(delivery.peer_address);
        let source = Source {
            link: AccessLink {
                access: delivery.access,
                vlans: path.vlans,
            },
            place: Place {
                address: innermost.client_address,
                mac: path.mac.filter(|_| is_first_hop),
                link_address: delivery.link_address,
                is_first_hop,
            },
            duid,
            server_duid,
            server_address,
            may_end,
            told: None,
        };
        let mut cx = Context {
            now: self.now,
            links: &self.links,
            out: &mut self.out,
            hold: &mut self.hold,
        };
        self.bindings.learn(&mut cx, &source, &self.leases);
        if self.bindings.leaves_unkept() {
            self.out.notice(access, Notice::UnkeptReply);
        }
        let (waits, record) = (self.bindings.waits(), self.bindings.awaited_record());
        if waits.is_empty() && record.is_none() {
            return false;
        }
        if self.hold.len() >= self.held_replies_max || self.reply_deadline.is_zero() {
            // Forwarded in any case. req: SNP-37
            self.out.notice(access, Notice::LateReply);
            return false;
        }
        let deadline = self.now + self.reply_deadline;
        let waits = Waits {
            routes: waits,
            record,
        };
        self.hold.keep(deadline, *path, delivery.inner, &waits)
    }
}
