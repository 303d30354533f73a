//! The program on a real device: what a test run cannot show is that drivers hand it whole frames
//! with their tags. A veth pair in a network namespace of this thread's own, which the kernel
//! removes with the thread.

use std::process::Command;
use std::time::{Duration, Instant};

use aya::programs::XdpMode;
use nix::libc;
use nix::sched::{CloneFlags, unshare};
use nix::sys::socket::{
    AddressFamily, LinkAddr, MsgFlags, SockFlag, SockType, SockaddrLike, sendto, socket,
};
use std::os::fd::AsRawFd;

use crate::corpus::frame;
use crate::harness::{Kernel, boot_nanos, interface, skip};

/// Far more than a frame takes between two ends of a veth.
const PATIENCE: Duration = Duration::from_secs(5);

#[test]
fn native_program_on_a_veth_captures_plain_and_tagged_frames() {
    captures(XdpMode::Driver);
}

#[test]
fn generic_program_on_a_veth_captures_plain_and_tagged_frames() {
    captures(XdpMode::Skb);
}

fn captures(mode: XdpMode) {
    let Some(mut kernel) = Kernel::ready() else {
        return;
    };
    if unshare(CloneFlags::CLONE_NEWNET).is_err() {
        skip("this system does not let root make a network namespace");
        return;
    }
    ip("link add router type veth peer name client");
    ip("link set router up");
    ip("link set client up");
    let (router, client) = (index("router"), index("client"));
    kernel.set_interface_at(router, interface());
    kernel.attach("router", mode);

    for name in [
        "solicit",
        "solicit-8021q",
        "solicit-qinq",
        "relay-forw-own-address",
    ] {
        let bytes = frame(name);
        kernel.beat(boot_nanos());
        send(client, &bytes);
        let (header, captured) = wait(&mut kernel, name);
        assert_eq!(captured, bytes, "{name}");
        assert_eq!(header.ifindex, router);
    }
    send(client, &frame("renew-unicast-server"));
    let solicit = frame("solicit");
    send(client, &solicit);
    assert_eq!(
        wait(&mut kernel, "solicit").1,
        solicit,
        "transit is not captured"
    );
}

fn wait(kernel: &mut Kernel, name: &str) -> (relay_common::abi::RecordHeader, Vec<u8>) {
    let start = Instant::now();
    loop {
        if let Some(record) = kernel.next_record() {
            return record;
        }
        assert!(start.elapsed() < PATIENCE, "{name} did not arrive");
        std::thread::sleep(Duration::from_millis(1));
    }
}

/// Runs `ip` in this thread's namespace.
pub fn ip(arguments: &str) {
    let status = Command::new("ip")
        .args(arguments.split(' '))
        .status()
        .expect("iproute2 is installed");
    assert!(status.success(), "ip {arguments}");
}

/// The index of an interface.
pub fn index(name: &str) -> u32 {
    nix::net::if_::if_nametoindex(name).expect("just made")
}

fn send(ifindex: u32, bytes: &[u8]) {
    let socket = socket(
        AddressFamily::Packet,
        SockType::Raw,
        SockFlag::SOCK_CLOEXEC,
        None,
    )
    .expect("a packet socket");
    let to = libc::sockaddr_ll {
        sll_family: libc::AF_PACKET as u16,
        sll_protocol: 0,
        sll_ifindex: i32::try_from(ifindex).expect("an index"),
        sll_hatype: 0,
        sll_pkttype: 0,
        sll_halen: 6,
        sll_addr: [0; 8],
    };
    // SAFETY: `to` is a whole sockaddr_ll and lives through the call, which copies it.
    let to = unsafe {
        LinkAddr::from_raw(
            (&raw const to).cast(),
            Some(size_of::<libc::sockaddr_ll>() as u32),
        )
    }
    .expect("a link address");
    let sent = sendto(socket.as_raw_fd(), bytes, &to, MsgFlags::empty()).expect("the veth is up");
    assert_eq!(sent, bytes.len());
}
