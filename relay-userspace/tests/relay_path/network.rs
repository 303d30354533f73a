//! A namespace with an access link and what its two ends are called.

use std::io::Write as _;
use std::net::Ipv6Addr;
use std::process::Command as Process;
use std::time::{Duration, Instant};

use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, unshare};
use relay_common::net::MacAddr;
use relay_core::types::IfIndex;
use relay_userspace::dataplane;

pub(crate) const ROUTER_MAC: MacAddr = MacAddr([2, 0, 0, 0, 0, 0xfe]);
pub(crate) const CLIENT_MAC: MacAddr = MacAddr([2, 0, 0, 0, 0, 1]);
pub(crate) const GROUP_MAC: MacAddr = MacAddr([0x33, 0x33, 0, 1, 0, 2]);
pub(crate) const ROUTER: Ipv6Addr = Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 0xfe);
pub(crate) const CLIENT: Ipv6Addr = Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 1);
pub(crate) const GROUP: Ipv6Addr = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 1, 2);
pub(crate) const LINK: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 1, 0, 0, 0, 0, 1);
pub(crate) const SOURCE: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 0xff, 0, 0, 0, 0, 1);
pub(crate) const SERVER: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 0xff, 0, 0, 0, 0, 0x11);
pub(crate) const RELAY_FORW: u8 = 12;
pub(crate) const RELAY_REPL: u8 = 13;
pub(crate) const PATIENCE: Duration = Duration::from_secs(3);
/// Long enough for a second copy to come, were there one.
pub(crate) const SILENCE: Duration = Duration::from_millis(150);

/// Runs a test where it can break nothing.
pub(crate) fn in_namespace(name: &str, test: impl FnOnce() + Send + 'static) {
    if !nix::unistd::geteuid().is_root() {
        return skip(name, "not root");
    }
    let thread = std::thread::spawn(move || {
        let apart = unshare(CloneFlags::CLONE_NEWNET | CloneFlags::CLONE_NEWNS);
        if let Err(error) = apart {
            return Some(format!("no namespaces: {error}"));
        }
        let private = MsFlags::MS_REC | MsFlags::MS_PRIVATE;
        mount(None::<&str>, "/", None::<&str>, private, None::<&str>).unwrap();
        ip("link set lo up");
        ip(&format!("addr add {SERVER}/128 dev lo nodad"));
        ip(&format!("addr add {SOURCE}/128 dev lo nodad"));
        add_access();
        test();
        None
    });
    match thread.join() {
        Ok(None) => {}
        Ok(Some(reason)) => skip(name, &reason),
        Err(panic) => std::panic::resume_unwind(panic),
    }
}

pub(crate) fn add_access() {
    ip(&format!(
        "link add acc0 address {ROUTER_MAC} type veth peer name cli0 address {CLIENT_MAC}"
    ));
    for name in ["acc0", "cli0"] {
        ip(&format!("link set {name} addrgenmode none"));
    }
    ip("link set cli0 up");
    ip("link set acc0 up");
    wait_until_up("acc0");
    wait_until_up("cli0");
    ip(&format!("addr add {ROUTER}/64 dev acc0 nodad"));
    ip(&format!("addr add {LINK}/64 dev acc0 nodad"));
}

pub(crate) fn skip(name: &str, reason: &str) {
    println!("SKIPPED: {name}: {reason}");
    if let Ok(path) = std::env::var("TWINRELAY_SKIPPED_FILE") {
        let mut options = std::fs::OpenOptions::new();
        let mut file = options.create(true).append(true).open(path).unwrap();
        writeln!(file, "relay_path::{name}: {reason}").unwrap();
    }
}

pub(crate) fn ip(arguments: &str) -> String {
    let output = Process::new("ip")
        .args(arguments.split(' '))
        .output()
        .unwrap();
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "ip {arguments}: {error}");
    String::from_utf8(output.stdout).unwrap()
}

/// What is sent on a link that has just come up is lost until the kernel has noticed, later the busier it is.
pub(crate) fn wait_until_up(interface: &str) {
    let words = format!("-o link show dev {interface}");
    wait_until(|| {
        let shown = ip(&words);
        shown.contains("state UP") && !shown.contains("qdisc noop")
    });
}

/// Likewise for what goes to groups.
pub(crate) fn wait_for_multicast(interface: &str) {
    let words = format!("-6 route show table local type multicast dev {interface}");
    wait_until(|| !ip(&words).is_empty());
}

fn wait_until(is_so: impl Fn() -> bool) {
    let until = Instant::now() + PATIENCE;
    while !is_so() {
        assert!(Instant::now() < until, "the kernel does not come to that");
        std::thread::sleep(Duration::from_millis(1));
    }
}

pub(crate) fn index(name: &str) -> IfIndex {
    IfIndex(nix::net::if_::if_nametoindex(name).unwrap())
}

pub(crate) fn with_programs(name: &str, test: impl FnOnce() + Send + 'static) {
    if dataplane::has_programs() {
        in_namespace(name, test);
    } else {
        skip(name, "no kernel object; run `cargo xtask build-ebpf`");
    }
}
