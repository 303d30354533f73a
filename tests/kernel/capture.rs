//! What becomes of frames: the program and `classify` agree on the whole corpus, and nothing is
//! taken that somebody else should have.

use relay_common::abi::{Daemon, FRAME_BYTES_MAX, LAYOUT, ROLE_CORE};
use relay_common::classify::{Verdict, classify};
use relay_common::maps::DropReason;

use crate::corpus::{cases, frame};
use crate::harness::{IFINDEX, Kernel, XDP_DROP, XDP_PASS, boot_nanos, interface};

#[test]
fn classify_in_userspace_gives_each_corpus_frame_its_verdict() {
    for case in cases() {
        assert_eq!(
            classify(case.frame.as_slice()).name(),
            case.verdict,
            "{}",
            case.name
        );
    }
}

#[test]
fn program_treats_each_corpus_frame_as_classify_says() {
    let Some(mut kernel) = Kernel::ready() else {
        return;
    };
    let (mut captured, mut passed) = (0, 0);
    for case in cases() {
        let before = boot_nanos();
        let action = kernel.run(&case.frame);
        let record = kernel.next_record();
        let expected = if case.captured { XDP_DROP } else { XDP_PASS };
        assert_eq!(action, expected, "{}", case.name);
        let (Verdict::ToRelay(datagram) | Verdict::ToAddress(datagram)) =
            classify(case.frame.as_slice())
        else {
            assert!(record.is_none(), "{}", case.name);
            passed += 1;
            continue;
        };
        if !case.captured {
            assert!(record.is_none(), "{}", case.name);
            passed += 1;
            continue;
        }
        captured += 1;
        let (header, bytes) = record.unwrap_or_else(|| panic!("{} left no record", case.name));
        assert_eq!(bytes, case.frame, "{}", case.name);
        assert_eq!(header.ifindex, IFINDEX);
        assert_eq!(header.mac(), datagram.mac());
        assert_eq!(header.tags(), datagram.tags(), "{}", case.name);
        assert_eq!(header.outer_tci, datagram.outer_tci, "{}", case.name);
        assert_eq!(header.ip_offset, datagram.ip_offset, "{}", case.name);
        assert!((before..=boot_nanos()).contains(&header.received_at_boot_nanos));
        assert!(kernel.next_record().is_none(), "one record a frame");
    }
    let packets = kernel.packets();
    assert_eq!(
        (packets.captured, packets.passed, packets.dropped),
        (captured, passed, 0)
    );
    assert_eq!(kernel.reasons(), []);
}

#[test]
fn relayed_messages_to_an_own_address_pass_where_they_are_not_accepted() {
    let Some(mut kernel) = Kernel::ready() else {
        return;
    };
    let mut entry = interface();
    entry.flags = 0;
    kernel.set_interface(entry);

    assert_eq!(kernel.run(&frame("relay-forw-own-address")), XDP_PASS);
    assert_eq!(kernel.run(&frame("relay-forw-ldra")), XDP_DROP);
    assert_eq!(kernel.drain(), 1);
    assert_eq!(kernel.reasons(), []);
}

#[test]
fn interface_without_entry_or_toward_the_core_passes_everything() {
    let Some(mut kernel) = Kernel::ready() else {
        return;
    };
    let mut core = interface();
    core.role = ROLE_CORE;
    kernel.set_interface(core);
    assert_eq!(kernel.run(&frame("solicit")), XDP_PASS);

    kernel.remove_interface();
    assert_eq!(kernel.run(&frame("solicit")), XDP_PASS);

    assert_eq!(kernel.drain(), 0);
    assert_eq!(kernel.packets().passed, 2);
}

#[test]
fn heartbeat_missing_old_or_of_another_layout_passes_and_counts() {
    let Some(mut kernel) = Kernel::ready() else {
        return;
    };
    let solicit = frame("solicit");
    let now = boot_nanos();
    let daemon = |layout, heartbeat_boot_nanos| Daemon {
        layout,
        quiet: 0,
        heartbeat_boot_nanos,
        ready: 0,
        data_path: 0,
    };

    kernel.set_daemon(daemon(0, 0));
    assert_eq!(kernel.run_repeatedly(&solicit, 1).0, XDP_PASS);
    kernel.set_daemon(daemon(LAYOUT, now - 1_100_000_000));
    assert_eq!(kernel.run_repeatedly(&solicit, 1).0, XDP_PASS);
    kernel.set_daemon(daemon(LAYOUT + 1, boot_nanos()));
    assert_eq!(kernel.run_repeatedly(&solicit, 1).0, XDP_PASS);
    assert_eq!(kernel.reasons(), [("no_heartbeat", 3)]);
    assert_eq!(kernel.drain(), 0);

    kernel.set_daemon(daemon(LAYOUT, boot_nanos() - 500_000_000));
    assert_eq!(kernel.run_repeatedly(&solicit, 1).0, XDP_DROP);
    assert_eq!(kernel.reason(DropReason::NoHeartbeat), 3);
}

#[test]
fn daemon_that_naps_is_not_woken_and_finds_the_frames() {
    let Some(mut kernel) = Kernel::ready() else {
        return;
    };
    let (waiter, solicit) = (kernel.waiter(), frame("solicit"));
    let says = |quiet| Daemon {
        layout: LAYOUT,
        quiet,
        heartbeat_boot_nanos: boot_nanos(),
        ready: 0,
        data_path: 0,
    };

    kernel.set_daemon(says(1));
    assert_eq!(kernel.run_repeatedly(&solicit, 3).0, XDP_DROP);
    assert!(!Kernel::woke(&waiter), "nobody waits");
    assert_eq!(kernel.drain(), 3);

    kernel.set_daemon(says(0));
    assert_eq!(kernel.run_repeatedly(&solicit, 1).0, XDP_DROP);
    assert!(
        Kernel::woke(&waiter),
        "a message that comes alone wakes the daemon"
    );
    assert_eq!(kernel.drain(), 1);
}

#[test]
fn full_ring_passes_what_is_reserved_and_counts_it() {
    let Some(mut kernel) = Kernel::load(4096) else {
        return;
    };
    kernel.set_interface(interface());
    let renew = frame("renew");
    let mut fitted = 0;
    while kernel.run(&renew) == XDP_DROP {
        fitted += 1;
        assert!(fitted < 100, "4096 octets do not hold this many");
    }

    assert_eq!(kernel.run(&renew), XDP_PASS);
    assert_eq!(kernel.reasons(), [("ring_full", 2)]);
    assert_eq!(kernel.drain(), fitted);
    assert_eq!(kernel.run(&renew), XDP_DROP);
}

#[test]
fn crowded_ring_drops_what_gives_way_and_takes_what_is_reserved() {
    let Some(mut kernel) = Kernel::load(16 * 4096) else {
        return;
    };
    kernel.set_interface(interface());
    let (solicit, renew) = (frame("solicit"), frame("renew"));
    let record = (32 + 8 + solicit.len()).next_multiple_of(8);
    let mut taken = 0;
    for _ in 0..2000 {
        kernel.run(&solicit);
        let overload = kernel.reason(DropReason::Overload);
        if overload > 0 {
            break;
        }
        taken += 1;
    }

    // Three quarters, and the one that crossed the line.
    let three_quarters = 16 * 4096 * 3 / 4;
    assert_eq!(taken, three_quarters / record + 1);
    assert_eq!(kernel.run(&frame("relay-forw-ldra")), XDP_DROP);
    assert_eq!(kernel.reasons(), [("overload", 2)]);
    assert_eq!(kernel.run(&renew), XDP_DROP);
    assert_eq!(kernel.reasons(), [("overload", 2)]);
    assert_eq!(kernel.drain(), taken + 1);
}

#[test]
fn frame_larger_than_a_record_passes_and_counts() {
    let Some(mut kernel) = Kernel::ready() else {
        return;
    };
    let mut largest = frame("solicit");
    largest.resize(FRAME_BYTES_MAX, 0);
    let mut larger = largest.clone();
    larger.push(0);

    assert_eq!(kernel.run(&largest), XDP_DROP);
    assert_eq!(kernel.next_record().map(|(_, bytes)| bytes), Some(largest));
    assert_eq!(kernel.run(&larger), XDP_PASS);
    assert_eq!(kernel.reasons(), [("oversized", 1)]);
}
