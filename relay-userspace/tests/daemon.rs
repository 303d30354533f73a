//! The life of the real daemon, each test in a network namespace of its own: start, reload, stop,
//! and what it may do. Relaying itself is tested elsewhere. Needs root; skipped and counted
//! otherwise.
#![allow(
    clippy::unwrap_used,
    reason = "helpers of tests are not recognised as tests"
)]

use std::io::{BufRead as _, BufReader, Write as _};
use std::os::unix::process::CommandExt as _;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tempfile::TempDir;

const PATIENCE: Duration = Duration::from_secs(10);

fn in_namespace(name: &str, test: impl FnOnce() + Send + 'static) {
    if !nix::unistd::geteuid().is_root() {
        return skip(name, "not root");
    }
    let thread = std::thread::spawn(move || {
        if let Err(error) = nix::sched::unshare(nix::sched::CloneFlags::CLONE_NEWNET) {
            return Some(format!("no network namespaces: {error}"));
        }
        ip("link set lo up");
        for (near, far) in [("acc0", "cli0"), ("core0", "srv0")] {
            ip(&format!("link add {near} type veth peer name {far}"));
            ip(&format!("link set {far} up"));
            ip(&format!("link set {near} up"));
        }
        ip("addr add 2001:db8:1::1/64 dev acc0 nodad");
        ip("addr add 2001:db8:ff::1/64 dev core0 nodad");
        test();
        None
    });
    match thread.join() {
        Ok(None) => {}
        Ok(Some(reason)) => skip(name, &reason),
        Err(panic) => std::panic::resume_unwind(panic),
    }
}

fn skip(name: &str, reason: &str) {
    println!("SKIPPED: {name}: {reason}");
    if let Ok(path) = std::env::var("TWINRELAY_SKIPPED_FILE") {
        let file = std::fs::OpenOptions::new()
            .create(true)
            .append(true)
            .open(path);
        writeln!(file.unwrap(), "daemon::{name}: {reason}").unwrap();
    }
}

fn ip(arguments: &str) -> String {
    let output = Command::new("ip")
        .args(arguments.split(' '))
        .output()
        .unwrap();
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "ip {arguments}: {error}");
    String::from_utf8(output.stdout).unwrap()
}

/// A daemon with its folders; killed at the end of the test if it still runs.
struct Daemon {
    folder: TempDir,
    child: Child,
    log: Receiver<String>,
}

impl Drop for Daemon {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Daemon {
    fn start(more: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let mut daemon = Self::launch(folder, more);
        daemon.expect("twinrelay relays");
        daemon
    }

    fn launch(folder: TempDir, more: &str) -> Self {
        write_file(&folder, more);
        Self::spawn(folder)
    }

    /// With the file that is there.
    fn spawn(folder: TempDir) -> Self {
        // Another user must get to its folders.
        let open = std::os::unix::fs::PermissionsExt::from_mode(0o755);
        std::fs::set_permissions(folder.path(), open).unwrap();
        let mut command = command(&folder);
        let mut child = command.stderr(Stdio::piped()).spawn().unwrap();
        let lines = BufReader::new(child.stderr.take().unwrap()).lines();
        let (sender, log) = channel();
        std::thread::spawn(move || {
            for line in lines.map_while(Result::ok) {
                let _ = sender.send(line);
            }
        });
        Self { folder, child, log }
    }

    /// Waits for a line of the log that contains `text`; answers it.
    fn expect(&mut self, text: &str) -> String {
        let start = Instant::now();
        let mut seen = Vec::new();
        while let Some(left) = PATIENCE.checked_sub(start.elapsed()) {
            match self.log.recv_timeout(left) {
                Ok(line) if line.contains(text) => return line,
                Ok(line) => seen.push(line),
                Err(RecvTimeoutError::Timeout | RecvTimeoutError::Disconnected) => break,
            }
        }
        panic!("no line with {text:?} in the log: {seen:#?}");
    }

    fn signal(&self, signal: Signal) {
        kill(
            Pid::from_raw(i32::try_from(self.child.id()).unwrap()),
            signal,
        )
        .unwrap();
    }

    fn stop(&mut self) -> ExitStatus {
        self.signal(Signal::SIGTERM);
        let start = Instant::now();
        loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                return status;
            }
            assert!(start.elapsed() < PATIENCE, "no end on SIGTERM");
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    fn state(&self) -> String {
        std::fs::read_to_string(self.folder.path().join("state/state.json")).unwrap()
    }

    fn status(&self, key: &str) -> Vec<String> {
        let tasks = format!("/proc/{}/task", self.child.id());
        std::fs::read_dir(tasks)
            .unwrap()
            .map(|task| std::fs::read_to_string(task.unwrap().path().join("status")).unwrap())
            .map(|text| {
                let line = text.lines().find(|line| line.starts_with(key)).unwrap();
                line.split_whitespace().nth(1).unwrap().to_owned()
            })
            .collect()
    }
}

fn write_file(folder: &TempDir, more: &str) {
    let root = folder.path().display();
    let text = format!(
        "[relay]\nstate_dir = \"{root}/state\"\nrun_dir = \"{root}/run\"\nUSER\n\
         [dataplane]\npin_path = \"{root}/bpf\"\n[metrics]\nlisten = \"\"\n\
         [[server]]\naddress = \"2001:db8:ff::11\"\n\
         [[access]]\ninterface = \"acc0\"\ncapture = \"socket\"\n\
         [[core]]\ninterface = \"core0\"\n"
    );
    // The first line of `more` may go into [relay].
    let (relay, more) = match more.strip_prefix("relay: ") {
        Some(rest) => rest.split_once('\n').unwrap_or((rest, "")),
        None => ("", more),
    };
    let text = text.replace("USER", relay) + more;
    std::fs::write(folder.path().join("twinrelay.toml"), text).unwrap();
}

fn command(folder: &TempDir) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_twinrelay"));
    command
        .arg("run")
        .arg("-c")
        .arg(folder.path().join("twinrelay.toml"));
    // Gone with the test, whatever becomes of it.
    // SAFETY: prctl is async-signal-safe and touches no memory of this process.
    unsafe {
        command.pre_exec(|| Ok(nix::sys::prctl::set_pdeathsig(Signal::SIGKILL)?));
    }
    command
}

fn eventually(what: &str, condition: impl Fn() -> bool) {
    let start = Instant::now();
    while !condition() {
        assert!(
            start.elapsed() < PATIENCE,
            "{what}: not within {PATIENCE:?}"
        );
        std::thread::sleep(Duration::from_millis(10));
    }
}

fn ours() -> String {
    ip("-6 route show proto 207")
}

const AGGREGATE: &str = "[routes]\naggregates = [\"2001:db8:8000::/40\"]\n";

#[test]
fn sigterm_ends_the_daemon_cleanly_and_routes_stay() {
    in_namespace("sigterm_ends_the_daemon_cleanly_and_routes_stay", || {
        let mut daemon = Daemon::start(AGGREGATE);
        eventually("aggregate", || ours().contains("2001:db8:8000::/40"));
        let socket = daemon.folder.path().join("run/control.sock");
        assert!(socket.exists());

        let status = daemon.stop();

        assert_eq!(status.code(), Some(0));
        assert!(!socket.exists());
        assert!(ours().contains("2001:db8:8000::/40"));
    });
}

#[test]
fn good_reload_applies_and_bad_reload_changes_nothing_and_says_why() {
    in_namespace("good_reload_applies_and_bad_reload_changes_nothing", || {
        let mut daemon = Daemon::start("");

        write_file(&daemon.folder, AGGREGATE);
        daemon.signal(Signal::SIGHUP);
        daemon.expect("the configuration was reloaded");
        eventually("aggregate", || ours().contains("2001:db8:8000::/40"));

        write_file(
            &daemon.folder,
            "[routes]\naggregates = [\"2001:db8::1/300\"]\n",
        );
        daemon.signal(Signal::SIGHUP);
        daemon.expect("2001:db8::1/300");
        daemon.expect("was not reloaded");
        assert!(ours().contains("2001:db8:8000::/40"));
        assert_eq!(daemon.stop().code(), Some(0));
    });
}

#[test]
fn second_daemon_on_the_same_run_dir_is_refused() {
    in_namespace("second_daemon_on_the_same_run_dir_is_refused", || {
        let mut daemon = Daemon::start("");

        let second = command(&daemon.folder).output().unwrap();

        assert_eq!(second.status.code(), Some(1));
        let error = String::from_utf8(second.stderr).unwrap();
        assert!(error.contains("another twinrelay runs"), "{error}");
        assert_eq!(daemon.stop().code(), Some(0));
    });
}

#[test]
fn every_thread_keeps_only_the_capabilities_it_needs() {
    in_namespace("every_thread_keeps_only_the_capabilities_it_needs", || {
        let daemon = Daemon::start("");

        let effective = daemon.status("CapEff");

        // NET_BIND_SERVICE, NET_ADMIN, NET_RAW, BPF.
        let needed = 1u64 << 10 | 1 << 12 | 1 << 13 | 1 << 39;
        assert!(effective.len() > 2, "{effective:?}");
        for thread in effective {
            assert_eq!(u64::from_str_radix(&thread, 16).unwrap(), needed);
        }
    });
}

#[test]
fn user_is_dropped_to_and_routes_are_still_written() {
    in_namespace("user_is_dropped_to_and_routes_are_still_written", || {
        let mut daemon = Daemon::start(&format!("relay: user = \"nobody\"\n{AGGREGATE}"));

        assert!(daemon.status("Uid").iter().all(|uid| uid == "65534"));
        eventually("aggregate", || ours().contains("2001:db8:8000::/40"));
        assert!(daemon.state().contains("relay_id"));
        ip("addr add 2001:db8:ff::2/64 dev core0 nodad");
        ip("addr del 2001:db8:ff::1/64 dev core0");
        eventually("written as nobody", || {
            daemon.state().contains("2001:db8:ff::2")
        });
        assert_eq!(daemon.stop().code(), Some(0));
    });
}

/// Programs and maps are loaded before capabilities are given up, and yet are the user's.
#[test]
fn user_owns_replaces_and_removes_what_is_pinned() {
    const NAME: &str = "user_owns_replaces_and_removes_what_is_pinned";
    if !relay_userspace::dataplane::has_programs() {
        return skip(NAME, "this build has no kernel programs in it");
    }
    in_namespace(NAME, || {
        let folder = tempfile::tempdir().unwrap();
        let bpf = folder.path().join("bpf");
        mount_for_nobody(&bpf);
        let pin_path = bpf.join("pins");
        let start = |folder: TempDir, max_bindings: u32, on_exit: &str| {
            write_file(&folder, "relay: user = \"nobody\"");
            let file = folder.path().join("twinrelay.toml");
            let text = std::fs::read_to_string(&file).unwrap();
            let more =
                format!("max_bindings = {max_bindings}\n[dataplane]\non_exit = \"{on_exit}\"");
            let text = text.replace("[dataplane]", &more);
            let text = text.replace("/bpf\"", "/bpf/pins\"");
            std::fs::write(file, text.replace("\"socket\"", "\"xdp-generic\"")).unwrap();
            Daemon::spawn(folder)
        };
        let mut daemon = start(folder, 1000, "keep");
        daemon.expect("twinrelay relays");
        let pins = owners(&pin_path);
        assert!(
            pins.iter().any(|(name, _)| name == "interfaces"),
            "{pins:?}"
        );
        assert!(pins.iter().any(|(name, _)| name.starts_with("access_")));
        assert!(pins.iter().all(|(_, uid)| *uid == 65534), "{pins:?}");
        assert_eq!(daemon.stop().code(), Some(0));

        let folder = std::mem::replace(&mut daemon.folder, tempfile::tempdir().unwrap());
        let mut daemon = start(folder, 1000, "keep");
        daemon.expect("adopted the maps of an earlier daemon");
        daemon.expect("twinrelay relays");
        assert_eq!(daemon.stop().code(), Some(0));

        let folder = std::mem::replace(&mut daemon.folder, tempfile::tempdir().unwrap());
        let mut daemon = start(folder, 2000, "detach");
        daemon.expect("starting afresh");
        daemon.expect("twinrelay relays");
        assert_eq!(daemon.stop().code(), Some(0));
        assert!(!pin_path.exists());
        nix::mount::umount(&bpf).unwrap();
    });
}

/// A bpffs of the user `nobody`, in a mount namespace of this thread.
fn mount_for_nobody(at: &std::path::Path) {
    use nix::mount::{MsFlags, mount};
    nix::sched::unshare(nix::sched::CloneFlags::CLONE_NEWNS).unwrap();
    let private = MsFlags::MS_REC | MsFlags::MS_PRIVATE;
    mount(None::<&str>, "/", None::<&str>, private, None::<&str>).unwrap();
    std::fs::create_dir(at).unwrap();
    mount(
        Some("bpf"),
        at,
        Some("bpf"),
        MsFlags::empty(),
        Some("mode=0700"),
    )
    .unwrap();
    std::os::unix::fs::chown(at, Some(65534), None).unwrap();
}

/// What lies in a folder, and whose it is.
fn owners(folder: &std::path::Path) -> Vec<(String, u32)> {
    let entries = std::fs::read_dir(folder).unwrap().flatten();
    let owned = entries.map(|entry| {
        let uid = std::os::unix::fs::MetadataExt::uid(&entry.metadata().unwrap());
        (entry.file_name().into_string().unwrap(), uid)
    });
    owned.collect()
}

/// The source stays the same over restarts, though a newer address comes first in the kernel's
/// list. req: RLY-32 (RFC 8415 §18.3.10), RLY-98 (RFC 6977 §5)
#[test]
fn rly_32_chosen_addresses_and_relay_id_survive_a_restart() {
    in_namespace(
        "rly_32_chosen_addresses_and_relay_id_survive_a_restart",
        || {
            let mut daemon = Daemon::start("");
            let before = daemon.state();
            assert!(
                before.contains("\"source_address\": \"2001:db8:ff::1\""),
                "{before}"
            );
            daemon.stop();
            ip("addr add 2001:db8:ff::9/64 dev core0 nodad");
            ip("addr add 2001:db8:1::9/64 dev acc0 nodad");

            let folder = std::mem::replace(&mut daemon.folder, tempfile::tempdir().unwrap());
            let mut daemon = Daemon::launch(folder, "");
            daemon.expect("twinrelay relays");

            assert_eq!(daemon.state(), before);
        },
    );
}

#[test]
fn unwritable_state_dir_is_reported_and_relaying_goes_on() {
    in_namespace(
        "unwritable_state_dir_is_reported_and_relaying_goes_on",
        || {
            let folder = tempfile::tempdir().unwrap();
            std::fs::write(folder.path().join("state"), "a file in the way").unwrap();

            let mut daemon = Daemon::launch(folder, "");

            daemon.expect("state_dir");
            daemon.expect("twinrelay relays");
            assert_eq!(daemon.stop().code(), Some(0));
        },
    );
}

#[test]
fn interface_that_comes_later_is_waited_for() {
    in_namespace("interface_that_comes_later_is_waited_for", || {
        let mut daemon = Daemon::launch(
            tempfile::tempdir().unwrap(),
            "[[access]]\ninterface = \"acc1\"\ncapture = \"socket\"\n",
        );
        daemon.expect("acc1 does not exist");
        daemon.expect("twinrelay relays");

        ip("link add acc1 type veth peer name cli1");
        ip("link set acc1 up");
        ip("addr add 2001:db8:2::1/64 dev acc1 nodad");

        eventually("chosen", || {
            daemon.state().contains("\"acc1\": \"2001:db8:2::1\"")
        });
    });
}
