//! What a frame costs. Measures and asserts nothing about time, so it runs only when asked for.
//! The kernel does the timing, so the test's own profile does not matter:
//! `cargo test -p relay-tests --test kernel -- --ignored --nocapture cost`

use std::time::Duration;

use relay_common::maps::DropReason;
use relay_userspace::daemon::privileges::{NEEDED, keep_only};

use crate::corpus::frame;
use crate::empty::Empty;
use crate::harness::{Kernel, XDP_DROP, XDP_PASS, boot_nanos, interface};

/// Frames in one round; so many records of the largest frame measured fit the ring.
const ROUND: u32 = 20_000;
const ROUNDS: usize = 15;

#[test]
#[ignore = "measures"]
fn cost_of_one_frame() {
    // With more capabilities the kernel leaves out what costs time: barriers against speculation.
    keep_only(&NEEDED).expect("capabilities can be given up");
    let Some(mut kernel) = Kernel::load(16 << 20) else {
        return;
    };
    let show = |what: &str, mut nanos: Vec<u128>| {
        nanos.sort_unstable();
        println!(
            "{what:<52} {:>5} ns (of {ROUNDS} rounds {} to {})",
            nanos[ROUNDS / 2],
            nanos[0],
            nanos[ROUNDS - 1]
        );
    };
    let empty = Empty::load();
    let arp = frame("arp");
    let rounds = (0..ROUNDS)
        .map(|_| empty.run_repeatedly(&arp, ROUND).as_nanos())
        .collect();
    show("a program that only passes", rounds);
    for (client_rate, interface_rate, limits) in [
        (0, 0, "no limits"),
        (1_000_000_000, 1_000_000_000, "both limits"),
    ] {
        let mut entry = interface();
        entry.client_rate = client_rate;
        entry.interface_rate = interface_rate;
        kernel.set_interface(entry);
        for name in [
            "arp",
            "tcp-547",
            "dns",
            "renew",
            "solicit",
            "solicit-qinq",
            "relay-forw-ldra",
        ] {
            let bytes = frame(name);
            let rounds = (0..ROUNDS)
                .map(|_| round(&mut kernel, &bytes).as_nanos())
                .collect();
            show(&format!("{name}, {} octets, {limits}", bytes.len()), rounds);
        }
    }
    let mut entry = interface();
    entry.client_rate = 1;
    kernel.set_interface(entry);
    let solicit = frame("solicit");
    let rounds = (0..ROUNDS)
        .map(|_| round(&mut kernel, &solicit).as_nanos())
        .collect();
    show("solicit, dropped by its client's bucket", rounds);
    assert_eq!(
        kernel.reason(DropReason::RingFull),
        0,
        "every record found room"
    );
}

/// Mean time of a run over one round.
fn round(kernel: &mut Kernel, bytes: &[u8]) -> Duration {
    kernel.drain();
    kernel.beat(boot_nanos());
    let (action, duration) = kernel.run_repeatedly(bytes, ROUND);
    assert!(action == XDP_DROP || action == XDP_PASS);
    duration
}
