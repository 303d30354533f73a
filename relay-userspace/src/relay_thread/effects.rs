//! From the core to sockets, route follower and counters: all effects of a round are gathered,
//! then each kind leaves in one system call.
//!
//! Routes go to the follower before any message is sent; which answers wait for their routes is
//! the core's decision.

use std::net::Ipv6Addr;

use relay_core::alq::{CloseReason, LeasequeryEffect};
use relay_core::effect::{BindingEvent, ClientPath, Effect, ForwardingChange, Span};
use relay_core::relay::Relay;
use relay_core::types::{AccessId, IfIndex, ServerId};
use relay_core::wire::iana;
use socket2::Socket;

use super::ports::{Port, Ports};
use super::to_follower::ToFollower;
use super::to_leasequery::ToLeasequery;
use super::to_store::ToStore;
use crate::counters::{Counters, Direction, PortCounters, ShellDrop};
use crate::dataplane::Dataplane;
use crate::events::Events;
use crate::leasequery::Refused;
use crate::names::Names;
use crate::net::batch::{Outgoing, SendBatch, bytes_of};
use crate::net::frame::{self, Frame, Way};
use crate::net::udp::{self, PacketInfo};
use crate::net::{packet, udp::PORT};
use crate::routes::{Change, Pace};

/// EtherType that the packet socket names; the frame itself says the same.
const ETHERTYPE_IPV6: u16 = 0x86dd;

/// Sockets that messages to clients leave by.
pub struct Exits<'a> {
    /// To clients whose MAC is not known.
    pub access: &'a Socket,
    /// To clients whose MAC is known.
    pub frames: &'a Socket,
}

/// Where the other effects go.
pub struct Ways<'a> {
    /// Routes and neighbour entries.
    pub follower: &'a mut ToFollower,
    /// How soon routes are wanted.
    pub pace: Pace,
    /// Bindings in the kernel.
    pub dataplane: &'a mut Dataplane,
    /// What survives a restart.
    pub store: &'a mut ToStore,
    /// Other relays.
    pub leasequery: &'a mut ToLeasequery,
}

/// What else effects need.
pub struct Surfaces<'a> {
    /// Interfaces and servers.
    pub ports: &'a Ports,
    /// To `monitor`.
    pub events: &'a Events,
    /// What was counted.
    pub counters: &'a Counters,
    /// Names by their numbers.
    pub names: &'a Names,
}

/// Effects of one round, and the room to send them; kept between rounds.
#[derive(Default)]
pub struct Outbox {
    to_servers: Vec<ToServer>,
    to_clients: Vec<ToClient>,
    frames: Vec<ReadyFrame>,
    datagrams: Vec<ReadyDatagram>,
    forwarding: Vec<ForwardingChange>,
    batch: SendBatch,
    /// Distinguishes the fragments of one answer from those of the next (RFC 8200 §4.5).
    identification: u32,
}

struct ToServer {
    server: ServerId,
    message_type: u8,
    message: Span,
}

struct ToClient {
    path: ClientPath,
    message_type: u8,
    message: Span,
}

struct ReadyFrame {
    frame: Frame,
    client: usize,
    address: libc::sockaddr_ll,
}

struct ReadyDatagram {
    client: usize,
    address: libc::sockaddr_in6,
    control: PacketInfo,
}

impl Outbox {
    /// Carries out everything that the core has queued, but for what goes to servers; routes at this pace.
    pub fn flush(
        &mut self,
        relay: &mut Relay,
        exits: &Exits<'_>,
        to: &Surfaces<'_>,
        ways: &mut Ways<'_>,
    ) {
        let Ways {
            follower,
            pace,
            dataplane,
            store,
            leasequery,
        } = ways;
        // Bounded by the core: it refuses messages when its buffer is full.
        while let Some(effect) = relay.poll_effect() {
            match effect {
                Effect::Record { change, sequence } => store.push(relay, change, sequence),
                Effect::Binding(event) => publish(&event, to),
                Effect::Leasequery(effect) => {
                    count_refused(&effect, to.counters);
                    leasequery.obey(relay, effect, store);
                    dataplane.set_ready(relay.readiness().is_ready);
                }
                other => self.gather(other, to, follower),
            }
        }
        follower.hand_over(relay.is_resending(), *pace, to.counters);
        store.hand_over();
        // Nobody hears of a lease before the kernel knows whose it is. req: PDR-R-3
        dataplane.write_bindings(&mut self.forwarding, relay.is_resending());
        self.send_to_clients(relay, exits, to.ports);
    }

    /// Whether something of our own is asked among what waits for [`Outbox::send_to_servers`].
    pub fn asks_servers(&self) -> bool {
        let mut waiting = self.to_servers.iter();
        waiting.any(|it| it.message_type == iana::LEASEQUERY)
    }

    fn gather(&mut self, effect: Effect, to: &Surfaces<'_>, follower: &mut ToFollower) {
        match effect {
            Effect::SendToServer {
                server,
                message_type,
                message,
            } => self.to_servers.push(ToServer {
                server,
                message_type,
                message,
            }),
            Effect::SendToClient {
                path,
                message_type,
                message,
            } => self.to_clients.push(ToClient {
                path,
                message_type,
                message,
            }),
            Effect::Route(change) => follower.push(Change::Route(change)),
            Effect::Neighbor(change) => follower.push(Change::Neighbor(change)),
            Effect::Forwarding(change) => self.forwarding.push(change),
            // Taken out by the caller.
            Effect::Record { .. } | Effect::Binding(_) | Effect::Leasequery(_) => {}
            Effect::Discarded { access, reason } => {
                counters(to.ports, access).discards[reason as usize].inc();
            }
            Effect::Noticed { access, notice } => {
                counters(to.ports, access).notices[notice as usize].inc();
            }
        }
    }

    /// Sends what waits for servers.
    pub fn send_to_servers(&mut self, relay: &Relay, socket: &Socket, ports: &Ports) {
        // A server that a reload took away has its last requests dropped.
        self.to_servers
            .retain(|message| ports.by_server(message.server).is_some());
        // In order for each server, and those that can leave as one beside each other.
        self.to_servers.sort_by_key(|message| message.server);
        let messages = &self.to_servers;
        let target = |at: usize| {
            ports
                .by_server(messages[at].server)
                .expect("those without a server were dropped above")
        };
        let datagrams = (0..messages.len()).map(|at| {
            let target = target(at);
            Outgoing {
                head: &[],
                body: relay.message(messages[at].message),
                address: bytes_of(&target.address),
                control: target.control.as_ref().map_or(&[], bytes_of),
            }
        });
        self.batch.send_joined(socket, datagrams, |at, result| {
            let counters = &target(at).counters;
            match result {
                Ok(()) => counters
                    .message(Direction::ToServer, messages[at].message_type)
                    .inc(),
                Err(_) => counters.shell_drop(ShellDrop::SendToServer),
            }
        });
        self.to_servers.clear();
    }

    fn send_to_clients(&mut self, relay: &Relay, exits: &Exits<'_>, ports: &Ports) {
        for client in 0..self.to_clients.len() {
            self.prepare(client, relay, ports);
        }
        let clients = &self.to_clients;
        let body = |client: usize| relay.message(clients[client].message);
        let count = |client: usize, first: bool, result: std::io::Result<()>| {
            let to = &clients[client];
            let counters = counters(ports, Some(to.path.access));
            match result {
                Ok(()) if first => counters.message(Direction::ToClient, to.message_type).inc(),
                Ok(()) => {}
                Err(_) => counters.shell_drop(ShellDrop::SendToClient),
            }
        };
        let frames = self.frames.iter().map(|ready| Outgoing {
            head: ready.frame.headers(),
            body: &body(ready.client)[ready.frame.payload.clone()],
            address: bytes_of(&ready.address),
            control: &[],
        });
        self.batch.send(exits.frames, frames, |at, result| {
            let ready = &self.frames[at];
            count(ready.client, ready.frame.payload.start == 0, result);
        });
        let datagrams = self.datagrams.iter().map(|ready| Outgoing {
            head: &[],
            body: body(ready.client),
            address: bytes_of(&ready.address),
            control: bytes_of(&ready.control),
        });
        self.batch.send(exits.access, datagrams, |at, result| {
            count(self.datagrams[at].client, true, result);
        });
        self.frames.clear();
        self.datagrams.clear();
        self.to_clients.clear();
    }

    /// Makes the frames or the datagram of one answer.
    fn prepare(&mut self, client: usize, relay: &Relay, ports: &Ports) {
        let ToClient { path, message, .. } = &self.to_clients[client];
        let Some(port) = ports.by_access(path.access) else {
            return ports.elsewhere.shell_drop(ShellDrop::SendToClient);
        };
        let Some(source) = port.source_for(path.destination) else {
            return port.counters.shell_drop(ShellDrop::NoLinkLocal);
        };
        let (Some(destination_mac), Some(source_mac)) = (path.mac, port.mac) else {
            return match fallback(port, ports, path, source) {
                Some((address, control)) => self.datagrams.push(ReadyDatagram {
                    client,
                    address,
                    control,
                }),
                None => port.counters.shell_drop(ShellDrop::SendToClient),
            };
        };
        // req: DP-66, RLY-3, RLY-4, RLY-46, RLY-70
        let way = Way {
            source_mac,
            destination_mac,
            vlans: path.vlans,
            source,
            destination: path.destination,
            source_port: PORT,
            destination_port: path.port,
            mtu: port.mtu,
        };
        self.identification = self.identification.wrapping_add(1);
        let address = packet::link_layer_address(path.interface, ETHERTYPE_IPV6);
        let frames = &mut self.frames;
        let fits = frame::build(
            &way,
            relay.message(*message),
            self.identification,
            |frame| {
                frames.push(ReadyFrame {
                    frame,
                    client,
                    address,
                });
            },
        );
        if !fits {
            port.counters.shell_drop(ShellDrop::SendToClient);
        }
    }
}

/// How an answer leaves where no frame can be made: by the kernel, which resolves the neighbour. A
/// tagged client can be reached this way only where a VLAN interface puts its tags on.
fn fallback(
    port: &Port,
    ports: &Ports,
    path: &ClientPath,
    source: Ipv6Addr,
) -> Option<(libc::sockaddr_in6, PacketInfo)> {
    let on_link = path.destination.is_unicast_link_local();
    let device = ports.device_for(path.interface, path.vlans)?;
    // A VLAN interface has a link-local address of its own; the kernel knows it. A global
    // destination is routed like any other packet. req: RLY-49
    let own = port.ifindex == Some(device);
    let source = if own || !on_link {
        source
    } else {
        Ipv6Addr::UNSPECIFIED
    };
    let interface = if on_link { device } else { IfIndex(0) };
    let scope = if on_link { device.0 } else { 0 };
    Some((
        udp::socket_address(path.destination, path.port, scope),
        PacketInfo::new(source, interface),
    ))
}

fn publish(event: &BindingEvent, to: &Surfaces<'_>) {
    to.counters.binding_events[event.action as usize].inc();
    to.events.publish_binding(event, to.names);
}

/// A peer has connected more often than it may.
fn count_refused(effect: &LeasequeryEffect, counters: &Counters) {
    if let LeasequeryEffect::Close {
        reason: CloseReason::NotAllowed,
        ..
    } = effect
    {
        counters.leasequery_refused[Refused::TooMany as usize].inc();
    }
}

fn counters(ports: &Ports, access: Option<AccessId>) -> &PortCounters {
    access
        .and_then(|access| ports.by_access(access))
        .map_or(&ports.elsewhere, |port| &port.counters)
}
