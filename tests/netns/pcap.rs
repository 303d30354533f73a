//! Frames as the wire has them: tcpdump on a bridge's port, its file read back, and the few fields that tests
//! look at. Judges nothing.

use std::time::Duration;
use xtask::lab::{Client, Lab, wait_for};

/// Starts a capture of DHCPv6 on a bridge's port toward r1, where frames are seen whatever r1 does with them.
pub(crate) fn start_capture(lab: &mut Lab, node: &str) {
    start_capture_of(lab, node, "udp port 547 or udp port 546");
}

/// The same, of what passes this filter.
pub(crate) fn start_capture_of(lab: &mut Lab, node: &str, filter: &str) {
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
            // Room for as many frames of the longest kind as a burst has.
            "-s",
            "65535",
            "-B",
            "131072",
            "-w",
            &file,
            filter,
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
pub(crate) fn payload(frame: &[u8]) -> &[u8] {
    &frame[14 + 40 + 8..]
}

/// The types of the messages that a home's client sent, in a capture of the access side.
pub(crate) fn messages_from(lab: &Lab, client: Client) -> Vec<u8> {
    let mac = client.mac();
    let frames = frames(lab, "access").into_iter();
    let its = frames.filter(|frame| frame[6..12] == mac);
    its.filter_map(|frame| payload(&frame).first().copied())
        .collect()
}

/// Every message on the access side is on the core side too, byte for byte, inside a relay message, and the other
/// way round; all checksums hold. The last one is on the other side, and in both files, a moment later.
pub(crate) fn expect_equal_on_both_sides(lab: &Lab) {
    let mut differences = Vec::new();
    wait_for("both sides alike", Duration::from_secs(5), || {
        differences = only_on_one_side(lab);
        differences.is_empty().then_some(())
    })
    .unwrap_or_else(|error| panic!("{error}: {differences:#?}"));
}

/// What is wrong: the messages that are on one side only.
fn only_on_one_side(lab: &Lab) -> Vec<String> {
    let (access, core) = (frames(lab, "access"), frames(lab, "core"));
    let of = |kind: u8| -> Vec<&[u8]> {
        let messages = core.iter().map(|frame| payload(frame));
        let of_kind = messages.filter(|it| it.first() == Some(&kind));
        of_kind.filter_map(inner).collect()
    };
    let (forward, reply) = (of(12), of(13));
    for frame in access.iter().chain(&core) {
        assert!(checksum_holds(frame), "UDP checksum of {frame:02x?}");
    }
    let outside: Vec<&[u8]> = access.iter().map(|frame| payload(frame)).collect();
    if forward.is_empty() || reply.is_empty() {
        return vec!["nothing was seen".to_owned()];
    }
    let lost = outside.iter().filter(|message| match message[0] {
        2 | 7 | 10 => !reply.contains(message),
        _ => !forward.contains(message),
    });
    let made_up = forward.iter().chain(&reply);
    let made_up = made_up.filter(|message| !outside.contains(message));
    let lost = lost.map(|it| format!("not on the core side: {it:02x?}"));
    lost.chain(made_up.map(|it| format!("not on the access side: {it:02x?}")))
        .collect()
}

/// The Relay Message option's bytes (RFC 8415 §21.10) of a relay message.
pub(crate) fn inner(message: &[u8]) -> Option<&[u8]> {
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
pub(crate) fn checksum_holds(frame: &[u8]) -> bool {
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
