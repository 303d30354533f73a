//! What only the wire shows: equal inner bytes on both sides, transit, hop limits, memberships.

use crate::harness::{CONFIGURATION, lab};
use std::time::Duration;
use xtask::lab::{Client, Lab, Lifetimes, wait_for};

/// Starts a capture on a bridge's port toward r1, where frames are seen whatever r1 does with them.
fn start_capture(lab: &mut Lab, node: &str) {
    let file = lab.dir().join(node).join("wire.pcap").display().to_string();
    lab.spawn(
        node,
        &[
            "tcpdump",
            "-Z",
            "root",
            "-U",
            "--immediate-mode",
            "-i",
            "r1",
            "-s",
            "0",
            "-w",
            &file,
            "udp port 547 or udp port 546",
        ],
    )
    .expect("tcpdump starts");
    let label = format!("{node}.tcpdump");
    wait_for("tcpdump", Duration::from_secs(5), || {
        lab.log(&label).contains("listening").then_some(())
    })
    .expect("tcpdump listens");
}

/// The frames of a capture (pcap, little-endian: 24 octets of header; 16 before each frame).
pub(crate) fn frames(lab: &Lab, node: &str) -> Vec<Vec<u8>> {
    let bytes =
        std::fs::read(lab.dir().join(node).join("wire.pcap")).expect("the capture is readable");
    let mut rest = bytes.get(24..).unwrap_or_default();
    let mut frames = Vec::new();
    while let Some((header, after)) = rest.split_at_checked(16) {
        let len = u32::from_le_bytes(header[8..12].try_into().expect("four octets")) as usize;
        let Some((frame, next)) = after.split_at_checked(len) else {
            break;
        };
        frames.push(frame.to_vec());
        rest = next;
    }
    frames
}

/// The UDP payload of an untagged frame.
fn payload(frame: &[u8]) -> &[u8] {
    &frame[14 + 40 + 8..]
}

/// The Relay Message option's bytes (RFC 8415 §21.10) of a relay message.
fn inner(message: &[u8]) -> Option<&[u8]> {
    let mut options = message.get(34..)?;
    while let Some((head, rest)) = options.split_at_checked(4) {
        let (code, len) = (
            u16::from_be_bytes([head[0], head[1]]),
            usize::from(u16::from_be_bytes([head[2], head[3]])),
        );
        if code == 9 {
            return rest.get(..len);
        }
        options = rest.get(len..)?;
    }
    None
}

/// The one's complement sum over pseudo-header and datagram is all ones where the checksum holds.
fn checksum_holds(frame: &[u8]) -> bool {
    let datagram = &frame[54..];
    let mut bytes = frame[22..54].to_vec();
    bytes.extend_from_slice(
        &u32::try_from(datagram.len())
            .expect("a frame is short")
            .to_be_bytes(),
    );
    bytes.extend_from_slice(&[0, 0, 0, 17]);
    bytes.extend_from_slice(datagram);
    let mut sum: u32 = bytes
        .chunks(2)
        .map(|pair| u32::from(pair[0]) << 8 | u32::from(pair.get(1).copied().unwrap_or(0)))
        .sum();
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    sum == 0xffff
}

/// req: RLY-44 (RFC 8415 §19.2)
#[test]
fn rly_44_inner_bytes_are_equal_on_both_sides_in_both_directions() {
    let Some(mut lab) = lab(CONFIGURATION, Lifetimes::default()) else {
        return;
    };
    start_capture(&mut lab, "access");
    start_capture(&mut lab, "core");

    for client in Client::ALL {
        lab.start_client(client).expect("the client starts");
        lab.lease(client)
            .expect("the client gets address and prefix");
    }
    std::thread::sleep(Duration::from_millis(500));

    let (access, core) = (frames(&lab, "access"), frames(&lab, "core"));
    let of = |kind: u8| -> Vec<&[u8]> {
        core.iter()
            .map(|frame| payload(frame))
            .filter(|it| it.first() == Some(&kind))
            .filter_map(inner)
            .collect()
    };
    let (forward, reply) = (of(12), of(13));
    assert!(
        forward.len() >= 12 && reply.len() >= 6,
        "{} forwarded, {} answered",
        forward.len(),
        reply.len()
    );
    for frame in &access {
        assert!(checksum_holds(frame), "UDP checksum of {frame:02x?}");
        let message = payload(frame);
        let side = if matches!(message[0], 2 | 7 | 10) {
            &reply
        } else {
            &forward
        };
        assert!(
            side.contains(&message),
            "not on the core side: {message:02x?}"
        );
    }
    let from_clients: Vec<&[u8]> = access.iter().map(|frame| payload(frame)).collect();
    assert!(
        forward
            .iter()
            .chain(&reply)
            .all(|message| from_clients.contains(message)),
        "the core side has a message that the access side has not"
    );
}

#[test]
fn transit_to_port_547_of_a_server_passes_untouched() {
    let Some(mut lab) = lab(CONFIGURATION, Lifetimes::default()) else {
        return;
    };
    start_capture(&mut lab, "core");
    lab.exec(
        "cpe1",
        &[
            "ip",
            "-6",
            "addr",
            "add",
            "2001:db8:a:1::77/64",
            "dev",
            "eth0",
            "nodad",
        ],
    )
    .expect("cpe1 takes an address");

    lab.exec(
        "cpe1",
        &[
            "bash",
            "-c",
            "printf '\\x0b\\x01\\x02\\x03transit' >/dev/udp/2001:db8:c::11/547",
        ],
    )
    .expect("cpe1 sends");

    let seen = wait_for(
        "the datagram on the core side",
        Duration::from_secs(3),
        || {
            frames(&lab, "core")
                .into_iter()
                .find(|frame| payload(frame) == b"\x0b\x01\x02\x03transit")
        },
    )
    .expect("transit passes");
    assert_eq!(
        seen[22..38],
        "2001:db8:a:1::77"
            .parse::<std::net::Ipv6Addr>()
            .expect("an address")
            .octets(),
        "source"
    );
    assert_eq!(seen[21], 63, "hop limit: forwarded once");
    assert!(checksum_holds(&seen));
}

/// req: RLY-1 (RFC 8415 §7.1)
#[test]
fn rly_1_access_interface_has_joined_all_dhcp_relay_agents_and_servers() {
    let Some(lab) = lab(CONFIGURATION, Lifetimes::default()) else {
        return;
    };

    let joined = lab
        .exec("r1", &["cat", "/proc/net/igmp6"])
        .expect("the list is readable");

    assert!(
        joined
            .lines()
            .any(|line| line.contains("acc0") && line.contains("ff020000000000000000000000010002")),
        "{joined}"
    );
}
