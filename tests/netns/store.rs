//! A state directory that cannot be used, or not any more: relaying goes on, what was kept is not harmed, and the
//! operator is told what to do.

use std::path::PathBuf;
use std::time::Duration;

use xtask::lab::{Lab, Lifetimes, wait_for};

use crate::hand::HandClient;
use crate::harness::{
    CONFIGURATION, bindings, counted, expect_logged, installed, lab, on, scrape, shown, unlimited,
};

const STATE_DIR: &str = "/var/lib/twinrelay";
/// More leases than a full disk has room for in the last page of a file.
const LEASES_MAX: u8 = 60;

/// Ends the daemon, does something to its state directory, and starts it again.
fn restart_after(lab: &mut Lab, signal: &str, meanwhile: impl FnOnce(&Lab)) {
    lab.stop("r1.twinrelay", signal).expect("the daemon ends");
    meanwhile(lab);
    let binary = std::fs::read_to_string(lab.dir().join("r1/binary")).expect("the lab wrote it");
    let file = lab.dir().join("r1/twinrelay.toml").display().to_string();
    lab.start_twinrelay(&binary, &file)
        .expect("the daemon comes back");
}

fn shell(lab: &Lab, script: &str) {
    lab.exec("r1", &["sh", "-c", script])
        .unwrap_or_else(|error| panic!("{script}: {error}"));
}

/// State and reason, as `show statistics --json` has them.
fn store_state(lab: &Lab) -> (String, String) {
    let store = &shown(lab, "statistics")["statistics"]["store"];
    let text = |name: &str| store[name].as_str().unwrap_or_default().to_owned();
    (text("state"), text("reason"))
}

fn expect_state(lab: &Lab, wanted: &str) -> String {
    let reached = wait_for(wanted, Duration::from_secs(15), || {
        let (state, reason) = store_state(lab);
        (state == wanted).then_some(reason)
    });
    let reason = reached.unwrap_or_else(|error| {
        let log = lab.log("r1.twinrelay");
        panic!("{error}: the store is {:?}\n{log}", store_state(lab))
    });
    let metrics = scrape(lab);
    for state in ["ok", "degraded", "off"] {
        let value = u8::from(state == wanted);
        let line = format!("twinrelay_store_state{{state=\"{state}\"}} {value}");
        assert!(metrics.lines().any(|it| it == line), "{line} in {metrics}");
    }
    reason
}

/// Clients that come one after the other, and what they were told.
struct Clients {
    client: HandClient,
    number: u8,
}

impl Clients {
    fn of(lab: &Lab) -> Self {
        Self {
            client: HandClient::on(lab, "gen", "eth0"),
            number: 0,
        }
    }

    /// Address and prefix of a client that was not here before.
    fn next(&mut self) -> Vec<String> {
        self.number += 1;
        self.client.duid = vec![0, 3, 0, 1, 2, 0xdd, 0, 0, 0, self.number];
        self.client.lease(1).destinations()
    }

    /// Clients come until the store cannot take one more; each is told its lease all the same.
    fn until_degraded(&mut self, lab: &Lab) {
        while store_state(lab).0 != "degraded" {
            assert!(self.number < LEASES_MAX, "the disk takes everything");
            self.next();
        }
    }
}

/// The leases that the daemon has, with or without their routes.
fn known(lab: &Lab) -> Vec<String> {
    let bindings = bindings(lab);
    let active = bindings.iter().filter(|it| it["state"] == "active");
    active
        .map(|it| it["prefix"].as_str().expect("a text").to_owned())
        .collect()
}

/// Waits until these leases are known, and their routes installed.
fn expect_leases(lab: &Lab, mut wanted: Vec<String>) {
    wanted.sort();
    let equal = || {
        let mut known = installed(lab);
        known.sort();
        (known == wanted).then_some(())
    };
    wait_for("exactly the leases", Duration::from_secs(10), equal)
        .unwrap_or_else(|error| panic!("{error}: {wanted:?}, but {:#?}", bindings(lab)));
}

fn segments(lab: &Lab) -> Vec<PathBuf> {
    let folder = lab.dir().join("r1/lib/twinrelay/store");
    let entries = std::fs::read_dir(&folder).expect("the daemon has a store");
    let paths = entries.map(|it| it.expect("it can be listed").path());
    paths
        .filter(|it| it.extension().is_some_and(|it| it == "log"))
        .collect()
}

/// Space is short, then there is some again: nothing that was kept is lost, and in the end everything is kept.
#[test]
fn full_disk_delays_no_reply_and_harms_nothing_and_the_rest_is_kept_when_there_is_room() {
    let Some(mut lab) = lab(&unlimited(), Lifetimes::default()) else {
        return;
    };
    restart_after(&mut lab, "TERM", |lab| {
        on(
            lab,
            "r1",
            "mount -t tmpfs -o size=256k tmpfs /var/lib/twinrelay",
        );
    });
    expect_state(&lab, "ok");
    let mut clients = Clients::of(&lab);
    let kept = clients.next();
    shell(
        &lab,
        &format!("cat /dev/zero 2>&1 > {STATE_DIR}/filler; true"),
    );

    clients.until_degraded(&lab);
    let reason = expect_state(&lab, "degraded");
    assert!(reason.contains("disk is full: make room"), "{reason}");
    expect_logged(&lab, "r1.twinrelay", "changes of bindings are not kept", 1);
    let late = counted(&lab, "notices", "late_reply");
    let unkept = counted(&lab, "notices", "unkept_reply");
    for _ in 0..3 {
        clients.next();
    }
    assert_eq!(counted(&lab, "notices", "late_reply"), late);
    assert_eq!(counted(&lab, "notices", "unkept_reply"), unkept + 3);

    restart_after(&mut lab, "KILL", |_| {});
    let had = known(&lab);
    assert!(kept.iter().all(|it| had.contains(it)), "{had:?}");
    expect_state(&lab, "degraded");
    let mut leases = [had, clients.next()].concat();
    shell(&lab, &format!("rm {STATE_DIR}/filler"));
    expect_state(&lab, "ok");
    expect_logged(&lab, "r1.twinrelay", "the store can be written again", 1);
    leases.extend(clients.next());

    restart_after(&mut lab, "KILL", |_| {});
    expect_leases(&lab, leases);
    expect_state(&lab, "ok");
}

#[test]
fn read_only_state_is_taken_back_and_written_when_it_can_be() {
    let Some(mut lab) = lab(CONFIGURATION, Lifetimes::default()) else {
        return;
    };
    restart_after(&mut lab, "TERM", |lab| {
        on(lab, "r1", "mount -t tmpfs tmpfs /var/lib/twinrelay");
    });
    let mut clients = Clients::of(&lab);
    let mut leases = clients.next();

    restart_after(&mut lab, "TERM", |lab| {
        on(lab, "r1", "mount -o remount,ro /var/lib/twinrelay");
    });
    let reason = expect_state(&lab, "degraded");
    assert!(
        reason.contains("read-only: remount it writable"),
        "{reason}"
    );
    expect_leases(&lab, leases.clone());
    let late = counted(&lab, "notices", "late_reply");
    leases.extend(clients.next());
    assert_eq!(counted(&lab, "notices", "late_reply"), late);
    on(&lab, "r1", "mount -o remount,rw /var/lib/twinrelay");
    expect_state(&lab, "ok");

    restart_after(&mut lab, "KILL", |_| {});
    expect_leases(&lab, leases);
}

#[test]
fn foreign_newer_or_damaged_store_is_told_and_relaying_goes_on() {
    let Some(mut lab) = lab(CONFIGURATION, Lifetimes::default()) else {
        return;
    };
    let mut clients = Clients::of(&lab);
    let kept = clients.next();

    // Of somebody else.
    restart_after(&mut lab, "TERM", |lab| {
        shell(
            lab,
            &format!("chmod 700 {STATE_DIR}; chown -R nobody {STATE_DIR}"),
        );
    });
    let reason = expect_state(&lab, "off");
    assert!(reason.contains("chown -R"), "{reason}");
    expect_logged(
        &lab,
        "r1.twinrelay",
        "bindings are not kept over a restart",
        1,
    );
    clients.next();

    // Of a later version; untouched.
    let segment = segments(&lab).pop().expect("one segment");
    let bytes = std::fs::read(&segment).expect("it can be read");
    restart_after(&mut lab, "TERM", |lab| {
        shell(lab, &format!("chown -R root {STATE_DIR}"));
        std::fs::write(&segment, of_later_version(&bytes)).expect("it can be written");
    });
    let reason = expect_state(&lab, "off");
    assert!(
        reason.contains("was written by a later version"),
        "{reason}"
    );
    clients.next();
    let untouched = std::fs::read(&segment).expect("it is there");
    assert_eq!(untouched, of_later_version(&bytes));

    // A bit has flipped; the segment is kept aside.
    restart_after(&mut lab, "TERM", |_| {
        let mut damaged = bytes;
        let at = damaged
            .windows(10)
            .position(|it| it == [0, 3, 0, 1, 2, 0xdd, 0, 0, 0, 1])
            .expect("the first lease of the client is in it");
        damaged[at] ^= 0x40;
        std::fs::write(&segment, damaged).expect("it can be written");
    });
    expect_state(&lab, "ok");
    expect_logged(&lab, "r1.twinrelay", "the store is damaged", 1);
    expect_logged(
        &lab,
        "r1.twinrelay",
        "damaged files of the store were moved to",
        1,
    );
    let left = known(&lab);
    assert_eq!(left.len(), 1, "one of two records was hit: {left:?}");
    assert!(kept.contains(&left[0]), "{left:?}");
    let fresh = clients.next();

    restart_after(&mut lab, "KILL", |_| {});
    expect_leases(&lab, [left, fresh].concat());
}

#[test]
fn missing_state_directory_is_made_and_what_stands_in_its_place_is_told_and_left_alone() {
    let Some(mut lab) = lab(CONFIGURATION, Lifetimes::default()) else {
        return;
    };
    let mut clients = Clients::of(&lab);
    clients.next();

    restart_after(&mut lab, "TERM", |lab| {
        shell(lab, &format!("rm -r {STATE_DIR}"));
    });
    expect_state(&lab, "ok");
    let kept = clients.next();
    restart_after(&mut lab, "KILL", |_| {});
    expect_leases(&lab, kept);

    restart_after(&mut lab, "TERM", |lab| {
        shell(
            lab,
            &format!("rm -r {STATE_DIR}; echo precious > {STATE_DIR}"),
        );
    });
    let reason = expect_state(&lab, "off");
    assert!(reason.contains(STATE_DIR), "{reason}");
    assert!(reason.contains("Check [relay] state_dir"), "{reason}");
    clients.next();
    shell(&lab, &format!("grep -qx precious {STATE_DIR}"));
}

/// The same segment as a later version would begin it.
fn of_later_version(segment: &[u8]) -> Vec<u8> {
    let mut later = segment.to_vec();
    for header in later.chunks_exact_mut(64).take(2) {
        header[11] += 1;
        let checksum = crc32(&header[..40]);
        header[40..44].copy_from_slice(&checksum.to_be_bytes());
    }
    later
}

fn crc32(bytes: &[u8]) -> u32 {
    !bytes.iter().fold(u32::MAX, |sum, byte| {
        (0..8).fold(sum ^ u32::from(*byte), |sum, _| {
            (sum >> 1) ^ if sum & 1 == 1 { 0xedb8_8320 } else { 0 }
        })
    })
}

/// Another daemon with the same state directory, in a network of its own.
#[test]
fn second_daemon_on_one_state_directory_says_so_and_goes_on_without() {
    let Some(mut lab) = lab(CONFIGURATION, Lifetimes::default()) else {
        return;
    };
    let binary = std::fs::read_to_string(lab.dir().join("r1/binary")).expect("the lab wrote it");
    let configuration = format!(
        "{CONFIGURATION}\n[relay]\nrun_dir = \"/run/second\"\n\n[dataplane]\npin_path = \
         \"/sys/fs/bpf/second\"\n"
    );
    let file = lab.dir().join("r1/second.toml").display().to_string();
    std::fs::write(&file, configuration).expect("the lab's folder takes a file");
    let script = format!(
        "ip link add acc0 type veth peer name core0; for i in lo acc0 core0; do ip link set $i up; \
         done; ip -6 addr add 2001:db8:c::2/64 dev core0 nodad; exec {binary} run -c {file}"
    );
    let mut command = lab.command("r1", "unshare").expect("r1 is there");
    command.args(["-n", "sh", "-c", &script]);
    lab.launch("r1.second", &mut command)
        .expect("the second daemon starts");

    let ask = || {
        let words = [&binary, "show", "statistics", "--json", "-c", &file];
        let text = lab.exec("r1", &words).ok()?;
        let answer: serde_json::Value = serde_json::from_str(&text).expect("it is JSON");
        Some(answer["statistics"]["store"].clone())
    };
    let store = wait_for("the second daemon", Duration::from_secs(10), ask)
        .unwrap_or_else(|error| panic!("{error}\n{}", lab.log("r1.second")));
    assert_eq!(store["state"], "off", "{store}");
    let reason = store["reason"].as_str().expect("a reason");
    assert!(
        reason.contains("is in use by the daemon with process id"),
        "{reason}"
    );
    assert!(lab.log("r1.second").contains(reason));

    // The first has not noticed.
    let kept = Clients::of(&lab).next();
    restart_after(&mut lab, "KILL", |_| {});
    expect_leases(&lab, kept);
}
