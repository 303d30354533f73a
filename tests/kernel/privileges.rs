//! The program with the capabilities that the daemon keeps and no others. Without `CAP_PERFMON` the
//! verifier also refuses pointers that could leak and arithmetic that could be speculated past, so what
//! loads at the start of a daemon may well not load when a reload is the first to ask for XDP.

use aya::programs::XdpMode;
use nix::sched::{CloneFlags, unshare};
use relay_userspace::daemon::privileges::{NEEDED, keep_only};

use crate::attached::ip;
use crate::corpus::frame;
use crate::harness::{Kernel, XDP_DROP, skip};

#[test]
fn program_loads_attaches_and_captures_with_the_capabilities_of_the_daemon() {
    if !nix::unistd::geteuid().is_root() {
        skip("capabilities can only be given up by who has them");
        return;
    }
    if unshare(CloneFlags::CLONE_NEWNET).is_err() {
        skip("this system does not let root make a network namespace");
        return;
    }
    ip("link add router type veth peer name client");
    ip("link set lo up");
    let missing = keep_only(&NEEDED).expect("root may give up capabilities");
    if !missing.is_empty() {
        skip(&format!("root lacks {} here", missing.join(" ")));
        return;
    }

    let Some(mut kernel) = Kernel::ready() else {
        return;
    };
    kernel.attach("router", XdpMode::Driver);
    let action = kernel.run(&frame("solicit"));

    assert_eq!(action, XDP_DROP);
    assert!(kernel.next_record().is_some(), "the frame is in the ring");
}
