//! Under load the relay thread naps while messages gather: none is lost or out of order then, and one that comes
//! alone afterwards wakes it.

use crate::hand::{Hand, HandClient, RELAYS};
use crate::harness::{lab, unlimited};
use crate::pcap::{checksum_holds, frames, inner, payload, start_capture};
use relay_tests::messages::Message;
use std::time::{Duration, Instant};
use xtask::lab::{Lifetimes, wait_for};

/// More than 4,000 messages a second, for long enough to be noticed.
const BURST: u32 = 2_000;
const GAP: Duration = Duration::from_micros(100);
/// A type that no server answers, and every relay forwards (RFC 7283 §4): no server has work with it.
const UNKNOWN: u8 = 200;

/// Says so many messages, numbered by their transaction ids.
fn burst(sender: &Hand) {
    let begin = Instant::now();
    for xid in 0..BURST {
        while begin.elapsed() < GAP * xid {
            std::hint::spin_loop();
        }
        let message = Message::new(UNKNOWN, xid).client_id(&[0, 3, 0, 1, 2, 0, 0, 0, 0, 9]);
        sender.say(RELAYS, 547, &message.build());
    }
}

#[test]
fn burst_reaches_the_server_complete_and_in_order() {
    let Some(mut lab) = lab(&unlimited(), Lifetimes::default()) else {
        return;
    };
    start_capture(&mut lab, "core");
    let sender = Hand::on(&lab, "cpe1", "eth0", "::", 546);

    burst(&sender);

    // To each of the two servers, by the last byte of its address.
    let forwarded = |server: u8| -> Vec<u32> {
        let frames = frames(&lab, "core");
        let to_it = frames.iter().filter(|it| it.get(53) == Some(&server));
        let messages = to_it.map(|frame| payload(frame));
        let requests = messages
            .filter(|it| it.first() == Some(&12))
            .filter_map(inner);
        let xid = |it: &[u8]| u32::from_be_bytes([0, it[1], it[2], it[3]]);
        requests.map(xid).collect()
    };
    let expected: Vec<u32> = (0..BURST).collect();
    for server in [0x11, 0x12] {
        wait_for("the burst", Duration::from_secs(5), || {
            (forwarded(server).last() == Some(&(BURST - 1))).then_some(())
        })
        .expect("the last message is forwarded");
        assert_eq!(forwarded(server), expected);
    }
    // Several that were given to the kernel as one, too.
    let of_udp = |frame: &&Vec<u8>| frame.get(20) == Some(&17);
    assert!(
        frames(&lab, "core")
            .iter()
            .filter(of_udp)
            .all(|it| checksum_holds(it))
    );
}

/// Where its frame did not wake the relay, each message would wait for the heartbeat: 100 ms in the median.
#[test]
fn message_that_comes_alone_after_a_burst_is_relayed_at_once() {
    let Some(lab) = lab(&unlimited(), Lifetimes::default()) else {
        return;
    };
    burst(&Hand::on(&lab, "cpe1", "eth0", "::", 546));
    let mut client = HandClient::on(&lab, "cpe2", "eth0");
    // On a busy machine the burst has left a server's socket full, and what comes then is lost there.
    wait_for("an answer after the burst", Duration::from_secs(10), || {
        client.try_lease(Duration::from_millis(500))
    })
    .unwrap_or_else(|error| panic!("{error}"));

    let mut times: Vec<Duration> = (0..21)
        .map(|_| {
            std::thread::sleep(Duration::from_millis(37));
            let asked = Instant::now();
            client.solicit(1);
            asked.elapsed()
        })
        .collect();

    times.sort_unstable();
    assert!(times[10] < Duration::from_millis(50), "{times:?}");
}
