//! From ring and sockets into the core: frames are verified, datagrams that frames have brought
//! already are left alone, everything is counted where it came in.

use std::io;
use std::net::Ipv6Addr;

use relay_common::abi::RecordHeader;
use relay_common::classify::{Datagram, Verdict, classify};
use relay_common::net::{MacAddr, VlanTags};
use relay_common::priority::{client_key, innermost, innermost_of};
use relay_core::input::{ClientDatagram, Input, ServerDatagram};
use relay_core::relay::Relay;
use relay_core::time::Instant;
use relay_core::types::IfIndex;
use relay_core::wire::iana;
use socket2::Socket;

use super::limiter::{Limiter, key_of};
use super::ports::{Port, Ports};
use crate::counters::{Direction, PortCounters, ShellDrop};
use crate::dataplane::Dataplane;
use crate::net::batch::RecvBatch;
use crate::net::frame::{self, Broken};
use crate::net::packet;
use crate::net::udp::{self, Arrival};
use crate::wall_time::at_boot_nanos;

/// Records of the ring between two looks at everything else.
pub const RING_BATCH: usize = 256;
/// Calls of `recvmmsg` for answers between two looks at everything else. One round of requests must never
/// be larger than what it takes of their answers, even from several servers: else answers pile up under
/// load until the kernel drops them, and with each the work that its request has cost.
pub const ANSWER_CALLS: usize = 32;
/// Calls of `recvmmsg` on one socket of the access side while the ring is empty.
pub const REQUEST_CALLS: usize = 4;
/// The same while the ring has frames, for an interface that it serves. What is in these sockets then did
/// not fit into the ring: the relay is overloaded, and the UDP socket holds mostly copies of it. Unread
/// sockets fill, and then the kernel refuses early what would be dropped late.
pub const REQUEST_CALLS_BESIDE_RING: usize = 1;
/// Datagrams in one call.
const SOCKET_BATCH: usize = 64;
/// The largest UDP datagram, with room for the headers of a frame and a tag put back.
const SLOT_BYTES: usize = 65_536 + 64;
/// A client whose request is older has long sent the next one.
const AGE_MAX_NANOS: u64 = 2_000_000_000;

/// Buffers of everything that is received.
pub struct Receiver {
    udp: RecvBatch,
    frames: RecvBatch,
    limiter: Limiter,
    /// When the requests of this round were captured.
    pub captured_at: Vec<u64>,
    /// Messages that went into the core since [`Receiver::take_count`].
    taken: usize,
}

impl Receiver {
    /// Takes memory as it is needed.
    pub fn new() -> Self {
        Self {
            udp: RecvBatch::new(SOCKET_BATCH, SLOT_BYTES, 0),
            frames: RecvBatch::new(SOCKET_BATCH, SLOT_BYTES, packet::TAG_BYTES),
            limiter: Limiter::new(),
            captured_at: Vec::with_capacity(RING_BATCH + REQUEST_CALLS * SOCKET_BATCH),
            taken: 0,
        }
    }

    /// How many messages went into the core since the last call.
    pub fn take_count(&mut self) -> usize {
        std::mem::take(&mut self.taken)
    }

    /// A bounded number of records from the ring. True: there may be more.
    pub fn ring(
        &mut self,
        dataplane: &mut Dataplane,
        ports: &Ports,
        relay: &mut Relay,
        now: Instant,
    ) -> bool {
        for _ in 0..RING_BATCH {
            let Some(record) = dataplane.next_record() else {
                return false;
            };
            let Some((header, bytes)) = RecordHeader::split(&record) else {
                ports.elsewhere.shell_drop(ShellDrop::BadLength);
                continue;
            };
            let captured_at = at_boot_nanos(header.received_at_boot_nanos).as_nanos();
            let (interface, vlans) = ports.owner(IfIndex(header.ifindex), header.tags());
            let port = ports.by_ifindex(interface);
            if now.as_nanos().saturating_sub(captured_at) > AGE_MAX_NANOS {
                counters(ports, port).shell_drop(ShellDrop::Stale);
                continue;
            }
            let packet = bytes.get(usize::from(header.ip_offset)..).unwrap_or(&[]);
            let from = Sender {
                interface,
                vlans,
                mac: header.mac(),
            };
            if client_packet(&from, packet, counters(ports, port), relay, now) {
                self.captured_at.push(captured_at);
                self.taken += 1;
            }
        }
        true
    }

    /// Frames from a packet socket, by at most so many calls. True: there may be more.
    ///
    /// # Errors
    /// What the kernel said.
    pub fn packets(
        &mut self,
        calls: usize,
        port: &Port,
        ports: &Ports,
        relay: &mut Relay,
        now: Instant,
    ) -> io::Result<bool> {
        let Some(socket) = &port.socket else {
            return Ok(false);
        };
        for _ in 0..calls {
            let received = self.frames.receive(socket)?;
            for at in 0..received {
                self.packet(at, port, ports, relay, now);
            }
            if received < self.frames.capacity() {
                return Ok(false);
            }
        }
        Ok(true)
    }

    fn packet(&mut self, at: usize, port: &Port, ports: &Ports, relay: &mut Relay, now: Instant) {
        if self.frames.is_truncated(at) {
            return port.counters.shell_drop(ShellDrop::Truncated);
        }
        let tag = packet::taken_tag(self.frames.control(at));
        let bytes = packet::restore_tag(self.frames.slot(at), tag);
        let (Verdict::ToRelay(found) | Verdict::ToAddress(found)) = classify(bytes) else {
            return;
        };
        let Some(interface) = port.ifindex.filter(|_| ports.is_for_relay(port, &found)) else {
            return;
        };
        if ports.owner(interface, found.tags()).0 != interface {
            // The packet socket of the VLAN interface gets it too.
            return;
        }
        let inside = innermost(bytes, &found);
        let key = client_key(&found, interface.0, &inside);
        let admitted = self.limiter.admit(&key, &port.entry, inside.priority, now);
        if let Err(reason) = admitted {
            return port.counters.shell_drop(reason);
        }
        let from = Sender::of(interface, &found);
        let packet = bytes.get(usize::from(found.ip_offset)..).unwrap_or(&[]);
        if client_packet(&from, packet, &port.counters, relay, now) {
            self.captured_at.push(now.as_nanos());
            self.taken += 1;
        }
    }

    /// Datagrams from a UDP socket, of the servers' or the access side, by at most so many calls. True: there
    /// may be more.
    ///
    /// # Errors
    /// What the kernel said.
    pub fn datagrams(
        &mut self,
        calls: usize,
        socket: &Socket,
        ports: &Ports,
        relay: &mut Relay,
        now: Instant,
    ) -> io::Result<bool> {
        for _ in 0..calls {
            let received = self.udp.receive(socket)?;
            self.taken += received;
            for at in 0..received {
                self.datagram(at, ports, relay, now);
            }
            if received < self.udp.capacity() {
                return Ok(false);
            }
        }
        Ok(true)
    }

    fn datagram(&mut self, at: usize, ports: &Ports, relay: &mut Relay, now: Instant) {
        let Some(arrival) = udp::arrival(self.udp.control(at)) else {
            return;
        };
        let (source, source_port) = self.udp.sender(at);
        let payload = self.udp.bytes(at);
        let port = ports.by_ifindex(arrival.interface);
        if self.udp.is_truncated(at) {
            return counters(ports, port).shell_drop(ShellDrop::Truncated);
        }
        match side(ports, port, &arrival, payload) {
            Side::Client(port) => {
                let inside = innermost_of(payload);
                let client = inside.peer_address.unwrap_or(source.octets());
                let key = key_of(arrival.interface.0, client);
                let admitted = self.limiter.admit(&key, &port.entry, inside.priority, now);
                if let Err(reason) = admitted {
                    return port.counters.shell_drop(reason);
                }
                count_from_client(&port.counters, payload);
                let datagram = ClientDatagram {
                    interface: arrival.interface,
                    vlans: VlanTags::NONE,
                    mac: None,
                    source,
                    source_port,
                    destination: arrival.destination,
                    payload,
                };
                relay.handle_input(now, Input::Client(datagram));
            }
            Side::Server => {
                count_from_server(ports, source, payload);
                let datagram = ServerDatagram {
                    interface: arrival.interface,
                    source,
                    source_port,
                    payload,
                };
                relay.handle_input(now, Input::Server(datagram));
            }
            Side::None => {}
        }
    }
}

/// Who a datagram of a UDP socket is from.
enum Side<'a> {
    Client(&'a Port),
    Server,
    /// It came as a frame already, or is for other relays.
    None,
}

fn side<'a>(ports: &Ports, port: Option<&'a Port>, arrival: &Arrival, payload: &[u8]) -> Side<'a> {
    let message_type = payload.first().copied().unwrap_or(0);
    match port {
        Some(port) if ports.had_as_frame(port, arrival, message_type) => Side::None,
        // A server may be reached through an access interface: its answers come to our own address
        // and are never taken as frames.
        Some(_)
            if matches!(message_type, iana::RELAY_REPL | iana::LEASEQUERY_REPLY)
                && !arrival.destination.is_multicast() =>
        {
            Side::Server
        }
        Some(port) => Side::Client(port),
        // Another relay's requests to a group that we are in on the access side.
        None if arrival.destination.is_multicast() => Side::None,
        None => Side::Server,
    }
}

struct Sender {
    interface: IfIndex,
    vlans: VlanTags,
    mac: MacAddr,
}

impl Sender {
    fn of(interface: IfIndex, found: &Datagram) -> Self {
        Self {
            interface,
            vlans: found.tags(),
            mac: found.mac(),
        }
    }
}

/// A packet from a frame. True: it went into the core.
fn client_packet(
    from: &Sender,
    packet: &[u8],
    counters: &PortCounters,
    relay: &mut Relay,
    now: Instant,
) -> bool {
    let datagram = match frame::read_datagram(packet) {
        Ok(datagram) => datagram,
        Err(Broken::Length) => {
            counters.shell_drop(ShellDrop::BadLength);
            return false;
        }
        Err(Broken::Checksum) => {
            counters.shell_drop(ShellDrop::BadChecksum);
            return false;
        }
    };
    count_from_client(counters, datagram.payload);
    let datagram = ClientDatagram {
        interface: from.interface,
        vlans: from.vlans,
        mac: Some(from.mac),
        source: datagram.source,
        source_port: datagram.source_port,
        destination: datagram.destination,
        payload: datagram.payload,
    };
    relay.handle_input(now, Input::Client(datagram));
    true
}

fn count_from_client(counters: &PortCounters, payload: &[u8]) {
    let message_type = payload.first().copied().unwrap_or(0);
    counters.message(Direction::FromClient, message_type).inc();
}

fn count_from_server(ports: &Ports, source: Ipv6Addr, payload: &[u8]) {
    let message_type = payload.first().copied().unwrap_or(0);
    let counters = ports
        .server_at(source)
        .map_or(&ports.elsewhere, |server| &server.counters);
    counters.message(Direction::FromServer, message_type).inc();
}

fn counters<'a>(ports: &'a Ports, port: Option<&'a Port>) -> &'a PortCounters {
    port.map_or(&ports.elsewhere, |port| &port.counters)
}
