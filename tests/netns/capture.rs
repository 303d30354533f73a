//! The ways into the daemon: native XDP, generic XDP and sockets tell the same story; and what of the programs
//! is in the kernel while the daemon runs, and after it.

use crate::harness::{CONFIGURATION, expect_reached, lab};
use serde_json::Value;
use std::time::Duration;
use xtask::lab::{Client, Lab, Lifetimes, wait_for};

const PINS: &str = "/sys/fs/bpf/twinrelay";

/// The lab's configuration with this `capture`, and this at its end.
pub(crate) fn configuration(capture: &str, more: &str) -> String {
    let access = format!("interface = \"acc0\"\ncapture = \"{capture}\"");
    CONFIGURATION.replace("interface = \"acc0\"", &access) + more
}

/// `show WORDS --json`.
pub(crate) fn json(lab: &Lab, words: &[&str]) -> Value {
    let mut all = vec!["show"];
    all.extend_from_slice(words);
    all.push("--json");
    let text = lab.twinrelay(&all).expect("twinrelay answers");
    serde_json::from_str(&text).expect("--json prints JSON")
}

/// How acc0 is captured, and why not better.
fn shown(lab: &Lab) -> (Value, Value) {
    let interfaces = json(lab, &["interfaces"]);
    let acc0 = interfaces["interfaces"]
        .as_array()
        .and_then(|all| all.iter().find(|it| it["interface"] == "acc0"))
        .expect("acc0 is listed");
    (acc0["capture"].clone(), acc0["capture_reason"].clone())
}

/// Messages that came from clients, and frames that the program put into the ring.
fn counted(lab: &Lab) -> (u64, u64) {
    let statistics = &json(lab, &["statistics"])["statistics"];
    let sum = |list: &Value, field: &str, value: &str| -> u64 {
        let all = list.as_array().expect("a list");
        all.iter()
            .filter(|it| it["interface"] == "acc0" && it[field] == value)
            .map(|it| it["count"].as_u64().expect("a number"))
            .sum()
    };
    (
        sum(&statistics["messages"], "direction", "from-client"),
        sum(&statistics["dataplane"]["packets"], "name", "ring"),
    )
}

/// The mode in which a program is attached to acc0, as `ip` has it, and the program's number.
fn attached(lab: &Lab) -> Option<(String, String)> {
    let link = lab
        .exec("r1", &["ip", "-d", "link", "show", "acc0"])
        .expect("r1 shows acc0");
    let mut words = link.split_whitespace();
    let mode = words.find(|word| word.starts_with("xdp"))?.to_string();
    let id = words.skip_while(|word| *word != "id").nth(1)?;
    Some((mode, id.to_string()))
}

/// Every message so far came in by the way that was asked for, and only once.
pub(crate) fn expect_captured(lab: &Lab, capture: &str) {
    let in_ip = match capture {
        "xdp" => Some("xdp"),
        "xdp-generic" => Some("xdpgeneric"),
        _ => None,
    };
    assert_eq!(shown(lab), (capture.into(), Value::Null));
    let mode = attached(lab).map(|(mode, _)| mode);
    assert_eq!(mode.as_deref(), in_ip);
    let (messages, ring) = counted(lab);
    assert!(messages >= 2, "SOLICIT and REQUEST were relayed");
    let by_ring = if in_ip.is_some() { messages } else { 0 };
    assert_eq!(ring, by_ring, "each message came in one way, and only once");
}

#[test]
fn capture_auto_is_native_where_the_driver_can() {
    let Some(mut lab) = lab(&configuration("auto", ""), Lifetimes::default()) else {
        return;
    };

    expect_reached(&mut lab, Client::Dhclient);

    expect_captured(&lab, "xdp");
}

/// Ends the daemon; what it leaves is the caller's to look at.
fn stop(lab: &mut Lab) {
    lab.stop("r1.twinrelay", "TERM")
        .expect("the daemon ends on SIGTERM");
}

/// Starts a daemon with this configuration; returns what it logged since.
fn start(lab: &mut Lab, configuration: &str) -> String {
    let before = lab.log("r1.twinrelay").len();
    let dir = lab.dir().join("r1");
    let file = dir.join("twinrelay.toml").display().to_string();
    std::fs::write(&file, configuration).expect("the configuration is written");
    let binary = std::fs::read_to_string(dir.join("binary")).expect("a daemon ran before");
    lab.start_twinrelay(&binary, &file)
        .expect("the daemon starts");
    lab.log("r1.twinrelay").split_off(before)
}

fn exists(lab: &Lab, path: &str) -> bool {
    let (code, _) = lab
        .ask("r1", &["test", "-e", path])
        .expect("test is everywhere");
    code == Some(0)
}

#[test]
fn capture_auto_takes_sockets_where_another_program_is_attached_and_says_so_once() {
    // The other program: what a daemon with its pins elsewhere left behind.
    let elsewhere = "\n[dataplane]\npin_path = \"/sys/fs/bpf/elsewhere\"\n";
    let Some(mut lab) = lab(&configuration("xdp", elsewhere), Lifetimes::default()) else {
        return;
    };
    let other = attached(&lab).expect("it is attached");
    stop(&mut lab);

    start(&mut lab, &configuration("auto", ""));
    lab.exec(
        "r1",
        &[
            "ip",
            "addr",
            "add",
            "2001:db8:a:1::3/64",
            "dev",
            "acc0",
            "nodad",
        ],
    )
    .expect("surroundings change");
    expect_reached(&mut lab, Client::Dhclient);

    let (capture, reason) = shown(&lab);
    assert_eq!(capture, "socket");
    let reason = reason.as_str().expect("a reason").to_string();
    assert!(reason.contains("another program is attached"), "{reason}");
    assert_eq!(attached(&lab), Some(other), "the other program stays");
    let log = lab.log("r1.twinrelay");
    assert_eq!(log.matches("capture=socket").count(), 1, "{log}");
    let (messages, ring) = counted(&lab);
    assert!(messages >= 2);
    assert_eq!(ring, 0);
}

#[test]
fn bpftool_names_program_maps_and_fields() {
    let Some(mut lab) = lab(&configuration("auto", ""), Lifetimes::default()) else {
        return;
    };
    expect_reached(&mut lab, Client::Dhclient);
    let (_, id) = attached(&lab).expect("the program is attached");

    let program = lab
        .exec("r1", &["bpftool", "prog", "show", "id", &id])
        .expect("bpftool shows the program");
    // The kernel takes the name only where CAP_PERFMON was there to load it.
    assert!(program.contains("name access_ingress"), "{program}");
    for (map, field) in [
        ("interfaces", "mac_count"),
        ("own_addresses", "address_be"),
        ("daemon", "heartbeat_boot_nanos"),
        ("xdp_packets", "captured"),
        ("client_rate", "full_at_boot_nanos"),
        ("interface_rate", "full_at_boot_nanos"),
    ] {
        let path = format!("{PINS}/{map}");
        let text = lab
            .exec("r1", &["bpftool", "map", "dump", "pinned", &path])
            .expect("bpftool dumps the map");
        assert!(text.contains(&format!("\"{field}\"")), "{map}: {text}");
    }
}

#[test]
fn on_exit_detach_leaves_nothing_in_the_kernel() {
    let detach = "\n[dataplane]\non_exit = \"detach\"\n";
    let Some(mut lab) = lab(&configuration("auto", detach), Lifetimes::default()) else {
        return;
    };
    let (_, id) = attached(&lab).expect("the program is attached");
    assert!(exists(&lab, PINS));

    stop(&mut lab);

    assert_eq!(attached(&lab), None);
    assert!(!exists(&lab, PINS), "pins are left");
    // The kernel frees a program a moment after its last holder let go.
    wait_for("end of the program", Duration::from_secs(5), || {
        let (code, _) = lab
            .ask("r1", &["bpftool", "prog", "show", "id", &id])
            .expect("bpftool runs");
        (code != Some(0)).then_some(())
    })
    .expect("the program is gone");
}

#[test]
fn on_exit_keep_leaves_the_program_attached_and_the_next_daemon_adopts_it() {
    let configuration = configuration("auto", "");
    let Some(mut lab) = lab(&configuration, Lifetimes::default()) else {
        return;
    };
    expect_reached(&mut lab, Client::Dhclient);
    let link = |lab: &Lab| {
        let index = lab
            .exec("r1", &["cat", "/sys/class/net/acc0/ifindex"])
            .expect("acc0 has an index");
        let pin = format!("{PINS}/access_{}_native", index.trim());
        let text = lab
            .exec("r1", &["bpftool", "--json", "link", "show", "pinned", &pin])
            .expect("the link is pinned");
        let link: Value = serde_json::from_str(&text).expect("bpftool prints JSON");
        link["id"].as_u64().expect("links have numbers")
    };
    let (before, (_, ring)) = (link(&lab), counted(&lab));
    assert!(ring >= 2);

    stop(&mut lab);
    assert!(attached(&lab).is_some(), "the program stays attached");

    let log = start(&mut lab, &configuration);
    assert!(
        log.contains("adopted the maps of an earlier daemon"),
        "{log}"
    );
    assert_eq!(link(&lab), before, "the same link");
    expect_reached(&mut lab, Client::WideDhcp6c);
    let (messages, total) = counted(&lab);
    assert!(messages >= 2);
    assert_eq!(total, ring + messages, "the counters go on");
}
