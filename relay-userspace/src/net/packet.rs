//! AF_PACKET sockets: frames as they came, with the VLAN tags that the kernel took off, and frames
//! to clients.
//!
//! The kernel's filter lets through only what can be DHCPv6 for a relay (UDP to port 547 right
//! behind the IPv6 header); [`relay_common::classify`] decides.

use std::io;
use std::mem::zeroed;

use anyhow::Context;
use relay_core::types::IfIndex;
use socket2::{Domain, Protocol, SockFilter, Socket, Type};

use super::batch::Control;
use super::sockopt;

/// Holds a burst while the relay thread is busy.
const BUFFER_BYTES: i32 = 16 * 1024 * 1024;
/// A frame of any length is taken whole.
const WHOLE: u32 = 0x0004_0000;
/// Bytes of a VLAN tag: what [`restore_tag`] needs in front of a frame.
pub const TAG_BYTES: usize = 4;

/// A socket that hears candidate frames of one interface.
///
/// # Errors
/// What the kernel refused, and what to do about it.
// req: RLY-2
pub fn capture_socket(interface: IfIndex) -> anyhow::Result<Socket> {
    // Protocol 0: nothing is received before the filter is in place and the socket is bound.
    let socket = open()?;
    let prepare = || -> io::Result<()> {
        socket.attach_filter(&FILTER.map(|it| SockFilter::new(it.code, it.jt, it.jf, it.k)))?;
        sockopt::set_int(&socket, libc::SOL_PACKET, libc::PACKET_AUXDATA, 1)?;
        // Our own answers and what this router forwards to the interface are not requests.
        sockopt::set_int(&socket, libc::SOL_PACKET, libc::PACKET_IGNORE_OUTGOING, 1)?;
        sockopt::receive_buffer(&socket, BUFFER_BYTES)?;
        bind(&socket, interface)
    };
    prepare().context("prepare a packet socket")?;
    Ok(socket)
}

/// A socket that only sends, through any interface.
///
/// # Errors
/// What the kernel refused, and what to do about it.
pub fn send_socket() -> anyhow::Result<Socket> {
    let socket = open()?;
    sockopt::send_buffer(&socket, BUFFER_BYTES).context("prepare a packet socket")?;
    Ok(socket)
}

fn open() -> anyhow::Result<Socket> {
    let kind = Type::RAW.nonblocking();
    Socket::new(Domain::PACKET, kind, Some(Protocol::from(0)))
        .context("open a packet socket: this needs CAP_NET_RAW (run as root)")
}

fn bind(socket: &Socket, interface: IfIndex) -> io::Result<()> {
    let all = u16::try_from(libc::ETH_P_ALL).expect("EtherTypes have 16 bits");
    let address = link_layer_address(interface, all);
    // SAFETY: `storage` is written as the sockaddr_ll that it is large enough for.
    let (_, address) = unsafe {
        socket2::SockAddr::try_init(|storage, len| {
            storage.cast::<libc::sockaddr_ll>().write(address);
            *len = size_of::<libc::sockaddr_ll>() as libc::socklen_t;
            Ok(())
        })
    }?;
    socket.bind(&address)
}

/// An interface, as [`super::batch::Outgoing`] takes it.
pub fn link_layer_address(interface: IfIndex, protocol: u16) -> libc::sockaddr_ll {
    // SAFETY: all-zero is a valid value of this plain C struct.
    let mut name: libc::sockaddr_ll = unsafe { zeroed() };
    name.sll_family = libc::sa_family_t::try_from(libc::AF_PACKET).expect("families are small");
    name.sll_protocol = protocol.to_be();
    name.sll_ifindex = i32::try_from(interface.0).unwrap_or(i32::MAX);
    name
}

/// The tag that the kernel took off a frame: tag protocol identifier and control information.
pub fn taken_tag(control: Control<'_>) -> Option<(u16, u16)> {
    for (level, kind, data) in control {
        if (level, kind) != (libc::SOL_PACKET, libc::PACKET_AUXDATA) {
            continue;
        }
        // struct tpacket_auxdata: status u32 | len u32 | snaplen u32 | mac u16 | net u16 |
        // vlan_tci u16 | vlan_tpid u16
        let data = data.first_chunk::<20>()?;
        let status = u32::from_ne_bytes([data[0], data[1], data[2], data[3]]);
        if status & libc::TP_STATUS_VLAN_VALID == 0 {
            return None;
        }
        let tci = u16::from_ne_bytes([data[16], data[17]]);
        let tpid = if status & libc::TP_STATUS_VLAN_TPID_VALID == 0 {
            relay_common::net::TPID_8021Q
        } else {
            u16::from_ne_bytes([data[18], data[19]])
        };
        return Some((tpid, tci));
    }
    None
}

/// Puts a tag back where it was on the wire. `slot` starts with [`TAG_BYTES`] free bytes; the
/// frame with its tag is returned, or without one as it came.
pub fn restore_tag(slot: &mut [u8], tag: Option<(u16, u16)>) -> &[u8] {
    const MACS: usize = 12;
    let Some((tpid, tci)) = tag.filter(|_| slot.len() >= TAG_BYTES + MACS) else {
        return slot.get(TAG_BYTES..).unwrap_or(&[]);
    };
    slot.copy_within(TAG_BYTES..TAG_BYTES + MACS, 0);
    slot[MACS..MACS + 2].copy_from_slice(&tpid.to_be_bytes());
    slot[MACS + 2..MACS + 4].copy_from_slice(&tci.to_be_bytes());
    slot
}

const fn load_half(at: u32) -> libc::sock_filter {
    instruction(libc::BPF_LD | libc::BPF_H | libc::BPF_ABS, 0, 0, at)
}

const fn load_byte(at: u32) -> libc::sock_filter {
    instruction(libc::BPF_LD | libc::BPF_B | libc::BPF_ABS, 0, 0, at)
}

const fn jump_equal(value: u32, yes: u8, no: u8) -> libc::sock_filter {
    instruction(libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K, yes, no, value)
}

const fn verdict(bytes: u32) -> libc::sock_filter {
    instruction(libc::BPF_RET | libc::BPF_K, 0, 0, bytes)
}

const fn instruction(code: u32, yes: u8, no: u8, value: u32) -> libc::sock_filter {
    libc::sock_filter {
        code: code as u16,
        jt: yes,
        jf: no,
        k: value,
    }
}

/// The outermost tag is not in the frame any more when this runs: an EtherType of a tag at 12 is
/// that of the inner one. Offsets: EtherType 12, IPv6 14, next header +6, UDP port +42; with an
/// inner tag all 4 later.
#[rustfmt::skip]
const FILTER: [libc::sock_filter; 16] = [
    load_half(12),
    jump_equal(0x86dd, 0, 4), // else 6
    load_byte(20),
    jump_equal(17, 0, 11),    // else 15
    load_half(56),
    jump_equal(547, 8, 9),    // 14, else 15
    jump_equal(0x8100, 1, 0), // 8, else 7
    jump_equal(0x88a8, 0, 7), // 8, else 15
    load_half(16),
    jump_equal(0x86dd, 0, 5), // else 15
    load_byte(24),
    jump_equal(17, 0, 3),     // else 15
    load_half(60),
    jump_equal(547, 0, 1),    // 14, else 15
    verdict(WHOLE),
    verdict(0),
];

#[cfg(test)]
mod tests {
    use super::*;

    /// Runs the filter as the kernel does; bytes that are not there refuse the frame.
    fn accepts(frame: &[u8]) -> bool {
        let (mut at, mut accumulator) = (0, 0u32);
        loop {
            let step = FILTER[at];
            let k = step.k as usize;
            let code = u32::from(step.code);
            at += 1;
            if code == libc::BPF_RET | libc::BPF_K {
                return step.k != 0;
            } else if code == libc::BPF_LD | libc::BPF_H | libc::BPF_ABS {
                let Some(half) = frame.get(k..k + 2) else {
                    return false;
                };
                accumulator = u32::from(half[0]) << 8 | u32::from(half[1]);
            } else if code == libc::BPF_LD | libc::BPF_B | libc::BPF_ABS {
                let Some(&byte) = frame.get(k) else {
                    return false;
                };
                accumulator = u32::from(byte);
            } else {
                let taken = accumulator == step.k;
                at += usize::from(if taken { step.jt } else { step.jf });
            }
        }
    }

    fn frame(tags: &[u16], next_header: u8, port: u16) -> Vec<u8> {
        let mut frame = vec![0; 12];
        for tpid in tags {
            frame.extend_from_slice(&tpid.to_be_bytes());
            frame.extend_from_slice(&[0, 100]);
        }
        frame.extend_from_slice(&[0x86, 0xdd, 0x60, 0, 0, 0, 0, 9, next_header, 1]);
        frame.extend_from_slice(&[0; 34]);
        frame.extend_from_slice(&port.to_be_bytes());
        frame.extend_from_slice(&[0; 5]);
        frame
    }

    #[test]
    fn filter_lets_only_udp_to_547_through_with_at_most_one_tag_left() {
        for tags in [&[][..], &[0x8100], &[0x88a8]] {
            assert!(accepts(&frame(tags, 17, 547)), "{tags:x?}");
            assert!(!accepts(&frame(tags, 17, 546)), "{tags:x?}");
            assert!(!accepts(&frame(tags, 6, 547)), "{tags:x?}");
            assert!(!accepts(&frame(tags, 44, 547)), "{tags:x?}");
            assert!(!accepts(&frame(tags, 17, 547)[..40]), "{tags:x?}");
        }
        assert!(!accepts(&frame(&[0x8100, 0x8100], 17, 547)));
        assert!(!accepts(&frame(&[0x9100], 17, 547)));
    }

    #[test]
    fn tag_is_put_back_behind_the_addresses() {
        let mut slot = b"....DDDDDDSSSSSS\x86\xddrest".to_vec();

        assert_eq!(
            restore_tag(&mut slot, Some((0x88a8, 0xe064))),
            b"DDDDDDSSSSSS\x88\xa8\xe0\x64\x86\xddrest"
        );
    }

    #[test]
    fn frame_without_tag_stays_as_it_is() {
        let mut slot = b"....DDDDDDSSSSSS\x86\xddrest".to_vec();

        assert_eq!(restore_tag(&mut slot, None), b"DDDDDDSSSSSS\x86\xddrest");
        assert_eq!(restore_tag(&mut [0; 7], Some((0x8100, 1))), [0; 3]);
    }
}
