//! UDP sockets: on port 547 one toward servers, bound to the relay's own address, and one on the
//! access side, which the kernel needs for its multicast memberships and which takes what frames
//! cannot show: datagrams that came in fragments or behind extension headers; on port 546 one for answers
//! to what the relay asks as a client does.

use std::io;
use std::mem::zeroed;
use std::net::{Ipv6Addr, SocketAddrV6};

use anyhow::Context;
use relay_core::types::IfIndex;
use socket2::{Domain, Protocol, SockAddr, Socket, Type};

use super::batch::Control;
use super::sockopt;

/// Relays and servers listen here (RFC 8415 §7.2).
// req: RLY-2, RLY-4
pub const PORT: u16 = 547;
/// Clients listen here (RFC 8415 §7.2). RFC 5007 does not say where a requestor does: Kea answers the port
/// that asked, ISC dhcpd this one.
const CLIENT_PORT: u16 = 546;
/// All_DHCP_Relay_Agents_and_Servers (RFC 8415 §7.1).
pub const ALL_RELAYS_AND_SERVERS: Ipv6Addr = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 1, 2);
/// To any multicast destination (RFC 8415 §19).
// req: RLY-30
const MULTICAST_HOPS: u32 = 8;
/// Holds a burst of answers while the relay thread is busy with requests.
const BUFFER_BYTES: i32 = 16 * 1024 * 1024;

/// linux/in6.h; not in libc.
const IPV6_MULTICAST_ALL: i32 = 29;

/// The socket toward servers. Bound even where the address is not there yet: it works as soon as
/// the address comes.
///
/// # Errors
/// What the kernel refused, and what to do about it.
// req: RLY-32
pub fn server_socket(source: Ipv6Addr) -> anyhow::Result<Socket> {
    let socket = open()?;
    socket
        .set_freebind_v6(true)
        .and_then(|()| socket.set_multicast_hops_v6(MULTICAST_HOPS))
        .context("prepare the UDP socket toward servers")?;
    bind(&socket, source)?;
    Ok(socket)
}

/// The socket that hears a server which answers LEASEQUERY on the clients' port. A DHCPv6 client of this
/// machine that listens there on all addresses goes on.
///
/// # Errors
/// What the kernel refused.
pub fn requestor_socket(source: Ipv6Addr) -> anyhow::Result<Socket> {
    let socket = open()?;
    let to = SockAddr::from(SocketAddrV6::new(source, CLIENT_PORT, 0, 0));
    let bound = socket
        .set_reuse_port(true)
        .and_then(|()| socket.set_freebind_v6(true))
        .and_then(|()| socket.bind(&to));
    bound.with_context(|| format!("bind [{source}]:{CLIENT_PORT}"))?;
    Ok(socket)
}

/// The socket of the access side.
///
/// # Errors
/// What the kernel refused, and what to do about it.
pub fn access_socket() -> anyhow::Result<Socket> {
    let socket = open()?;
    let asked = || -> io::Result<()> {
        // What other programs joined is not for us.
        sockopt::set_int(&socket, libc::IPPROTO_IPV6, IPV6_MULTICAST_ALL, 0)?;
        socket.set_multicast_hops_v6(MULTICAST_HOPS)
    };
    asked().context("prepare the UDP socket of the access side")?;
    bind(&socket, Ipv6Addr::UNSPECIFIED)?;
    Ok(socket)
}

fn open() -> anyhow::Result<Socket> {
    let prepare = || -> io::Result<Socket> {
        let socket = Socket::new(Domain::IPV6, Type::DGRAM.nonblocking(), Some(Protocol::UDP))?;
        socket.set_only_v6(true)?;
        socket.set_reuse_address(true)?;
        socket.set_multicast_loop_v6(false)?;
        for option in [
            libc::IPV6_RECVPKTINFO,
            libc::IPV6_RECVFRAGSIZE,
            libc::IPV6_RECVHOPOPTS,
            libc::IPV6_RECVDSTOPTS,
            libc::IPV6_RECVRTHDR,
        ] {
            sockopt::set_int(&socket, libc::IPPROTO_IPV6, option, 1)?;
        }
        sockopt::receive_buffer(&socket, BUFFER_BYTES)?;
        sockopt::send_buffer(&socket, BUFFER_BYTES)?;
        Ok(socket)
    };
    prepare().context("open a UDP socket for DHCPv6")
}

fn bind(socket: &Socket, address: Ipv6Addr) -> anyhow::Result<()> {
    let to = SockAddr::from(SocketAddrV6::new(address, PORT, 0, 0));
    socket.bind(&to).map_err(|error| match error.kind() {
        io::ErrorKind::AddrInUse => anyhow::anyhow!(
            "UDP port {PORT} is taken by another DHCPv6 relay or server: stop it (ss -ulpn 'sport = {PORT}')"
        ),
        io::ErrorKind::PermissionDenied => {
            anyhow::anyhow!("UDP port {PORT} needs CAP_NET_BIND_SERVICE: run as root")
        }
        _ => anyhow::Error::new(error).context(format!("bind [{address}]:{PORT}")),
    })
}

/// Joins ff02::1:2 on an interface, whether XDP takes the frames or not: switches that snoop MLD
/// send them only where somebody joined.
///
/// # Errors
/// What the kernel said; being a member already is no error.
pub fn join(socket: &Socket, interface: IfIndex) -> io::Result<()> {
    // req: RLY-1
    match socket.join_multicast_v6(&ALL_RELAYS_AND_SERVERS, interface.0) {
        Err(error) if error.kind() == io::ErrorKind::AddrInUse => Ok(()),
        result => result,
    }
}

/// Leaves it again; an interface that is gone has left by itself.
pub fn leave(socket: &Socket, interface: IfIndex) {
    let _ = socket.leave_multicast_v6(&ALL_RELAYS_AND_SERVERS, interface.0);
}

/// What the kernel says of a received datagram.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Arrival {
    /// Where it came in.
    pub interface: IfIndex,
    /// Its IPv6 destination.
    pub destination: Ipv6Addr,
    /// It came in fragments or behind extension headers: the frame classifier leaves those alone.
    pub beyond_frames: bool,
}

/// Reads the control messages of a datagram; `None` without packet information, which every socket
/// of this file asks for.
pub fn arrival(control: Control<'_>) -> Option<Arrival> {
    let mut packet_info = None;
    let mut beyond_frames = false;
    for (level, kind, data) in control {
        if level != libc::IPPROTO_IPV6 {
            continue;
        }
        match kind {
            libc::IPV6_PKTINFO => {
                let address = data.first_chunk::<16>()?;
                let index = data.get(16..20)?.first_chunk::<4>()?;
                packet_info = Some((Ipv6Addr::from(*address), u32::from_ne_bytes(*index)));
            }
            libc::IPV6_RECVFRAGSIZE
            | libc::IPV6_HOPOPTS
            | libc::IPV6_DSTOPTS
            | libc::IPV6_RTHDR => beyond_frames = true,
            _ => {}
        }
    }
    packet_info.map(|(destination, index)| Arrival {
        interface: IfIndex(index),
        destination,
        beyond_frames,
    })
}

/// A destination, as [`super::batch::Outgoing`] takes it. `scope` is the interface of a link-local
/// destination, else 0.
pub fn socket_address(address: Ipv6Addr, port: u16, scope: u32) -> libc::sockaddr_in6 {
    // SAFETY: all-zero is a valid value of this plain C struct.
    let mut name: libc::sockaddr_in6 = unsafe { zeroed() };
    name.sin6_family = libc::sa_family_t::try_from(libc::AF_INET6).expect("families are small");
    name.sin6_port = port.to_be();
    name.sin6_addr.s6_addr = address.octets();
    name.sin6_scope_id = scope;
    name
}

/// The control message that fixes source and interface of one datagram: `cmsghdr | in6_pktinfo`.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct PacketInfo {
    header: libc::cmsghdr,
    info: libc::in6_pktinfo,
    padding: [u8; 4],
}

impl PacketInfo {
    /// `::` leaves the source to the socket's binding.
    pub fn new(source: Ipv6Addr, interface: IfIndex) -> Self {
        // SAFETY: all-zero is a valid value of these plain C structs.
        let mut message: Self = unsafe { zeroed() };
        message.header.cmsg_len = size_of::<libc::cmsghdr>() + size_of::<libc::in6_pktinfo>();
        message.header.cmsg_level = libc::IPPROTO_IPV6;
        message.header.cmsg_type = libc::IPV6_PKTINFO;
        message.info.ipi6_addr.s6_addr = source.octets();
        message.info.ipi6_ifindex = interface.0;
        message
    }
}

/// Whether a destination needs its interface named.
pub fn needs_scope(address: Ipv6Addr) -> bool {
    address.is_unicast_link_local() || address.is_multicast()
}
