//! The bare reflector of `cargo xtask bench relay`: moves the same frames as twinrelay through the same kernel
//! program, ring and sockets, and decides nothing. What it costs is what the way through the kernel costs.
//!
//! Every captured frame's UDP payload goes to the server behind a fixed relay header; what comes back goes to the
//! client that the peer-address names. Fit for the simulated clients of `loadgen` only: their MAC
//! addresses are computed. Arguments: ACCESS-INTERFACE LINK-ADDRESS SERVER [floor].
//!
//! As `floor` it receives the same way and sends nothing: ten times a second it reads whatever has come. No relay can
//! spend less on the same frames without leaving some of them in the network card.

use std::net::Ipv6Addr;
use std::os::fd::{AsRawFd, OwnedFd};
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use relay_common::abi::{self, RECORD_HEADER_BYTES, RecordHeader};
use relay_common::net::{MacAddr, VlanTags};
use relay_core::types::IfIndex;
use relay_userspace::config::Capture;
use relay_userspace::dataplane::{Around, Dataplane, Role, Wanted};
use relay_userspace::net::batch::{Outgoing, RecvBatch, SendBatch, bytes_of};
use relay_userspace::net::frame::{self, Way};
use relay_userspace::net::{packet, udp};

/// Messages that are moved before the sockets are asked again.
const BATCH: usize = 64;
/// Room for one message.
const MESSAGE_MAX: usize = 2048;
/// RELAY-FORW header and the header of its Relay Message option (RFC 8415 §9, §21.10).
const RELAY_HEADER: usize = 34 + 4;
/// Wakes up at least so often, for the heartbeat that keeps the kernel program capturing.
const TICK_MILLISECONDS: i32 = 200;
/// As `floor` it looks so often: ring and socket hold what comes meanwhile at 100,000 messages a second.
const FLOOR_TICK: Duration = Duration::from_millis(100);

struct Reflector {
    ifindex: IfIndex,
    mac: MacAddr,
    link_address: Ipv6Addr,
    server: libc::sockaddr_in6,
    dataplane: Dataplane,
    to_server: OwnedFd,
    to_clients: OwnedFd,
    arrived: RecvBatch,
    sending: SendBatch,
    requests: Vec<([u8; RELAY_HEADER], Vec<u8>)>,
}

fn main() -> Result<()> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = args.iter().map(String::as_str).collect();
    let (interface, link_address, server, only_receives) = match words.as_slice() {
        [interface, link_address, server] => (interface, link_address, server, false),
        [interface, link_address, server, "floor"] => (interface, link_address, server, true),
        _ => anyhow::bail!("usage: reflector ACCESS-INTERFACE LINK-ADDRESS SERVER [floor]"),
    };
    let reflector = Reflector::new(interface, link_address.parse()?, server.parse()?)?;
    match only_receives {
        true => reflector.receive_only(),
        false => reflector.run(),
    }
}

impl Reflector {
    fn new(name: &str, link_address: Ipv6Addr, server: Ipv6Addr) -> Result<Self> {
        let of = |file: &str| {
            std::fs::read_to_string(format!("/sys/class/net/{name}/{file}"))
                .with_context(|| format!("there is no interface {name}"))
        };
        let ifindex = IfIndex(of("ifindex")?.trim().parse()?);
        let mut mac = [0; 6];
        for (byte, text) in mac.iter_mut().zip(of("address")?.trim().split(':')) {
            *byte = u8::from_str_radix(text, 16)?;
        }
        let mut macs = [[0; 6]; abi::INTERFACE_MACS];
        macs[0] = mac;
        let wanted = Wanted {
            ifindex,
            name,
            capture: Capture::Auto,
            role: Role::Access,
            entry: abi::Interface {
                role: abi::ROLE_ACCESS,
                flags: 0,
                client_rate: 0,
                interface_rate: 0,
                mac_count: 1,
                macs,
                mtu: 1500,
            },
            is_ethernet: true,
        };
        let pins = PathBuf::from("/sys/fs/bpf/reflector");
        let mut dataplane = Dataplane::new(pins, 1);
        let around = Around {
            own_addresses: &[],
            source_allow: &[],
            now_nanos: boot_nanos()?,
        };
        let captured = dataplane.sync(&[wanted], around);
        ensure!(
            dataplane.ring_fd().is_some(),
            "no ring to reflect from: {captured:?}"
        );
        eprintln!("{captured:?}");
        Ok(Self {
            ifindex,
            mac: MacAddr(mac),
            link_address,
            server: udp::socket_address(server, 547, 0),
            dataplane,
            to_server: udp::server_socket(Ipv6Addr::UNSPECIFIED)?.into(),
            to_clients: packet::send_socket()?.into(),
            arrived: RecvBatch::new(BATCH, MESSAGE_MAX, 0),
            sending: SendBatch::default(),
            requests: vec![([0; RELAY_HEADER], Vec::with_capacity(MESSAGE_MAX)); BATCH],
        })
    }

    fn run(mut self) -> Result<()> {
        let mut next_heartbeat = 0;
        loop {
            self.wait()?;
            // A system call: with every batch it would make the bare way dearer than the relay's.
            let now = boot_nanos()?;
            if now >= next_heartbeat {
                self.dataplane.heartbeat(now);
                next_heartbeat = now + TICK_MILLISECONDS as u64 * 1_000_000;
            }
            self.requests()?;
            self.answers()?;
        }
    }

    /// Reads what has come, ten times a second, and sends nothing.
    fn receive_only(mut self) -> Result<()> {
        loop {
            std::thread::sleep(FLOOR_TICK);
            self.dataplane.heartbeat(boot_nanos()?);
            while self.dataplane.next_record().is_some() {}
            while self.arrived.receive(&self.to_server)? > 0 {}
        }
    }

    fn wait(&self) -> Result<()> {
        let ring = self.dataplane.ring_fd().context("the ring is gone")?;
        let poll = |fd| libc::pollfd {
            fd,
            events: libc::POLLIN,
            revents: 0,
        };
        let mut fds = [poll(ring.as_raw_fd()), poll(self.to_server.as_raw_fd())];
        // SAFETY: the pointer and the count describe `fds`.
        unsafe {
            libc::poll(
                fds.as_mut_ptr(),
                fds.len() as libc::nfds_t,
                TICK_MILLISECONDS,
            )
        };
        Ok(())
    }

    fn requests(&mut self) -> Result<usize> {
        let mut count = 0;
        while count < BATCH {
            let Some(record) = self.dataplane.next_record() else {
                break;
            };
            let (header, message) = &mut self.requests[count];
            let ip = RECORD_HEADER_BYTES
                + usize::from(u16::from_ne_bytes([
                    record[std::mem::offset_of!(RecordHeader, ip_offset)],
                    record[std::mem::offset_of!(RecordHeader, ip_offset) + 1],
                ]));
            let payload = &record[ip + 48..];
            message.clear();
            message.extend(payload);
            header[0] = 12;
            header[2..18].copy_from_slice(&self.link_address.octets());
            header[18..34].copy_from_slice(&record[ip + 8..ip + 24]);
            header[34..36].copy_from_slice(&9_u16.to_be_bytes());
            header[36..38].copy_from_slice(&u16::try_from(payload.len())?.to_be_bytes());
            count += 1;
        }
        let datagrams = self.requests[..count].iter().map(|(head, body)| Outgoing {
            head,
            body,
            address: bytes_of(&self.server),
            control: &[],
        });
        self.sending.send(&self.to_server, datagrams, |_, _| {});
        Ok(count)
    }

    fn answers(&mut self) -> Result<usize> {
        let count = self.arrived.receive(&self.to_server)?;
        let mut frames = Vec::with_capacity(count);
        for at in 0..count {
            let bytes = self.arrived.bytes(at);
            let peer: [u8; 16] = bytes[18..34].try_into()?;
            let way = Way {
                source_mac: self.mac,
                destination_mac: MacAddr([0x02, 0xbe, peer[12], peer[13], peer[14], peer[15]]),
                vlans: VlanTags::default(),
                source: Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 1),
                destination: Ipv6Addr::from(peer),
                source_port: 547,
                destination_port: 546,
                mtu: 1500,
            };
            let payload = &bytes[RELAY_HEADER..];
            frame::build(&way, payload, 0, |frame| frames.push((frame, payload)));
        }
        let address = packet::link_layer_address(self.ifindex, libc::ETH_P_IPV6 as u16);
        let datagrams = frames.iter().map(|(frame, payload)| Outgoing {
            head: frame.headers(),
            body: &payload[frame.payload.clone()],
            address: bytes_of(&address),
            control: &[],
        });
        self.sending.send(&self.to_clients, datagrams, |_, _| {});
        Ok(count)
    }
}

/// The clock of the heartbeat.
fn boot_nanos() -> Result<u64> {
    // SAFETY: timespec is integers, for which zero is a value.
    let mut time: libc::timespec = unsafe { std::mem::zeroed() };
    // SAFETY: the pointer is to `time`.
    let result = unsafe { libc::clock_gettime(libc::CLOCK_BOOTTIME, &raw mut time) };
    ensure!(
        result == 0,
        "clock_gettime: {}",
        std::io::Error::last_os_error()
    );
    Ok(u64::try_from(time.tv_sec)? * 1_000_000_000 + u64::try_from(time.tv_nsec)?)
}
