//! The ways into the daemon: native XDP, generic XDP and sockets tell the same story.

use crate::harness::{CONFIGURATION, expect_reached, lab};
use xtask::lab::{Client, Lifetimes};

fn captures(mode: &str, shown: Option<&str>) {
    let configuration = CONFIGURATION.replace(
        "interface = \"acc0\"",
        &format!("interface = \"acc0\"\ncapture = \"{mode}\""),
    );
    let Some(mut lab) = lab(&configuration, Lifetimes::default()) else {
        return;
    };

    expect_reached(&mut lab, Client::Dhclient);

    let link = lab
        .exec("r1", &["ip", "link", "show", "acc0"])
        .expect("r1 shows acc0");
    let words: Vec<&str> = link
        .split_whitespace()
        .filter(|word| word.starts_with("xdp"))
        .collect();
    assert_eq!(words.first().copied(), shown, "{link}");
}

#[test]
fn capture_socket_attaches_nothing_on_the_access_side_and_relays() {
    captures("socket", None);
}
