//! SIGHUP: servers and access interfaces come and go, and nothing else is touched.

use crate::hand::HandClient;
use crate::harness::{CONFIGURATION, bindings, lab, listed, on, route, second_access};
use std::time::Duration;
use xtask::lab::{Lab, Lifetimes, wait_for};

const SERVER: &str = "[[server]]\nname = \"s1\"\naddress = \"2001:db8:c::11\"\n";
const SECOND_SERVER: &str = "[[server]]\nname = \"s2\"\naddress = \"2001:db8:c::12\"\n";
const SECOND_ACCESS: &str =
    "[[access]]\ninterface = \"acc1\"\nlink_address = \"2001:db8:a:1::3\"\n";

fn configuration(servers: &[&str], second: &str) -> String {
    let end = CONFIGURATION
        .find("[[access]]")
        .expect("an access is there");
    format!("{}{second}{}", servers.concat(), &CONFIGURATION[end..])
}

/// The inodes of the daemon's sockets.
fn sockets(lab: &Lab) -> Vec<String> {
    let pid = lab.pid("r1.twinrelay").expect("the daemon runs");
    let folder = std::fs::read_dir(format!("/proc/{pid}/fd")).expect("the daemon has files");
    let target = |entry: std::io::Result<std::fs::DirEntry>| {
        let path = std::fs::read_link(entry.ok()?.path()).ok()?;
        Some(path.display().to_string()).filter(|it| it.starts_with("socket:"))
    };
    let mut all: Vec<String> = folder.filter_map(target).collect();
    all.sort();
    all
}

/// What must not change for acc0: its bindings with their ends, their routes, its row of `show interfaces`, and
/// the kernel programs on it.
fn of_first_access(
    lab: &Lab,
    destinations: &[String],
) -> (Vec<String>, Vec<String>, String, String) {
    let of_acc0 = |rows: Vec<serde_json::Value>| {
        rows.into_iter()
            .filter(|it| it["interface"] == "acc0")
            .collect::<Vec<_>>()
    };
    let held = of_acc0(bindings(lab));
    let row =
        |it: &serde_json::Value| format!("{} {} {}", it["prefix"], it["valid_until"], it["route"]);
    let routes = destinations.iter().map(|it| route(lab, it)).collect();
    let interface = format!("{:?}", of_acc0(listed(lab, "interfaces")));
    let link = on(lab, "r1", "ip -d link show acc0");
    (held.iter().map(row).collect(), routes, interface, link)
}

/// Writes the file, signals, and waits until the daemon serves these servers and access interfaces.
fn reload(lab: &Lab, text: &str, servers: &[&str], access: &[&str]) {
    std::fs::write(lab.dir().join("r1/twinrelay.toml"), text).expect("the file is writable");
    lab.signal("r1.twinrelay", "HUP").expect("the daemon runs");
    let names = |list: &str, key: &str| -> Vec<String> {
        let served = |it: &serde_json::Value| it["role"] != "core" && it["capture"] != "absent";
        let rows = listed(lab, list).into_iter().filter(served);
        rows.map(|it| it[key].as_str().expect("a text").to_owned())
            .collect()
    };
    let serves =
        || names("servers", "name") == servers && names("interfaces", "interface") == access;
    wait_for("the reload", Duration::from_secs(5), || {
        serves().then_some(())
    })
    .unwrap_or_else(|error| panic!("{error}\n{}", lab.log("r1.twinrelay")));
}

#[test]
fn sighup_adds_and_removes_a_server_and_an_access_interface_without_touching_the_others() {
    let one = configuration(&[SERVER], "");
    let Some(lab) = lab(&one, Lifetimes::default()) else {
        return;
    };
    second_access(&lab);
    on(
        &lab,
        "r1",
        "ip -6 addr add 2001:db8:a:1::3/128 dev acc1 nodad",
    );
    let mut first = HandClient::on(&lab, "cpe1", "eth0");
    let granted = first.lease(1).destinations();
    let before = of_first_access(&lab, &granted);
    assert_eq!(before.0.len(), 2, "{:?}", bindings(&lab));
    let open_before = sockets(&lab);

    let two = configuration(&[SERVER, SECOND_SERVER], SECOND_ACCESS);
    reload(&lab, &two, &["s1", "s2"], &["acc1", "acc0"]);

    assert_eq!(of_first_access(&lab, &granted), before);
    let open = sockets(&lab);
    let closed: Vec<_> = open_before.iter().filter(|it| !open.contains(it)).collect();
    assert!(
        closed.is_empty(),
        "sockets were closed: {closed:?} of {open_before:?}"
    );
    let mut second = HandClient::on(&lab, "gen", "cli1");
    let lent = second.lease(1).destinations();
    let prefix = lent
        .iter()
        .find(|it| it.ends_with("/56"))
        .expect("a prefix");
    assert!(
        route(&lab, prefix).contains("dev acc1"),
        "{:?}",
        bindings(&lab)
    );
    let sent = |name: &str| {
        let rows = listed(&lab, "servers");
        let row = rows
            .iter()
            .find(|it| it["name"] == name)
            .expect("the server is shown");
        row["messages_sent"].as_u64().expect("a number")
    };
    assert!(sent("s2") >= 2, "the new server is asked too");

    let last = configuration(&[SECOND_SERVER], "");
    reload(&lab, &last, &["s2"], &["acc0"]);

    assert_eq!(of_first_access(&lab, &granted), before);
    second.say(&[1, 0, 0, 9]);
    let mut third = HandClient::on(&lab, "cpe2", "eth0");
    let solicit = third.message(1).ia_na(1, &[]).build();
    third.say(&solicit);
    third
        .hear(Duration::from_secs(5))
        .expect("s2 answers on acc0");
    assert_eq!(sent("s2"), 3, "what came in on acc1 was relayed");
}
