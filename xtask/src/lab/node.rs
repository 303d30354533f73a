//! One machine of the lab: a network namespace and a lasting mount namespace with its own /run, /var/lib,
//! machine-id and bpffs, so that daemons which believe to be alone are. Knows nothing of DHCP.

use super::command::{Result, output, run};
use super::{Lab, wait_for};
use std::fs::{File, OpenOptions};
use std::io::Write;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

/// How much of each log a failed test shows.
const LAST_LINES: usize = 20;

impl Lab {
    /// Makes a node: the namespaces, and a process that keeps the mount namespace.
    pub(super) fn add_node(&mut self, node: &str) -> Result<()> {
        let namespace = self.namespace(node);
        run(Command::new("ip").args(["netns", "add", &namespace]))?;
        let dir = self.dir.join(node);
        for folder in ["", "lib", "lib/dhcp", "lib/dhcpcd", "lib/dhcpv6", "lib/kea"] {
            std::fs::create_dir_all(dir.join(folder))
                .map_err(|error| format!("{}: {error}", dir.display()))?;
        }
        let id = node.bytes().fold(0x7717_u64, |sum, byte| {
            sum.wrapping_mul(131) + u64::from(byte)
        });
        std::fs::write(dir.join("machine-id"), format!("{id:032x}\n"))
            .map_err(|error| error.to_string())?;
        let script = "set -eu
            mount --make-rprivate /
            mount -t tmpfs tmpfs /run
            mount --bind \"$1/lib\" /var/lib
            if [ -e /etc/machine-id ]; then mount --bind \"$1/machine-id\" /etc/machine-id; fi
            mount -t bpf bpf /sys/fs/bpf
            ip link set lo up
            : >\"$1/made\"
            exec sleep infinity";
        let mut command = Command::new("ip");
        command
            .args(["netns", "exec", &namespace, "sh", "-c", script, "node"])
            .arg(&dir);
        let pid = self.launch(&format!("{node}.node"), &mut command)?;
        std::fs::write(dir.join("pid"), pid.to_string()).map_err(|error| error.to_string())?;
        let log = dir.join("../").join(format!("{node}.node.log"));
        wait_for(
            &format!("the mount namespace of {node} (see {})", log.display()),
            Duration::from_secs(5),
            || dir.join("made").exists().then_some(()),
        )
    }

    /// A command that will run on a node, in its network and mount namespaces.
    pub fn command(&self, node: &str, program: &str) -> Result<Command> {
        let pid = std::fs::read_to_string(self.dir.join(node).join("pid")).map_err(|_| {
            format!(
                "no node named {node}; there are: {}",
                super::topology::NODES.join(" ")
            )
        })?;
        let mut command = Command::new("nsenter");
        command.args(["-t", &pid, "-m", "-n", "--", program]);
        let path = std::env::var("PATH").unwrap_or_default();
        command.env("PATH", format!("{path}:/usr/sbin:/sbin"));
        Ok(command)
    }

    /// Runs a program on a node to its end; failure is an error.
    pub fn exec(&self, node: &str, words: &[&str]) -> Result<String> {
        let (program, arguments) = words.split_first().expect("a command has a first word");
        run(self.command(node, program)?.args(arguments))
    }

    /// Runs a program on a node to its end: its exit code and what it said on standard output.
    pub fn ask(&self, node: &str, words: &[&str]) -> Result<(Option<i32>, String)> {
        let (program, arguments) = words.split_first().expect("a command has a first word");
        let output = output(self.command(node, program)?.args(arguments))?;
        Ok((
            output.status.code(),
            String::from_utf8_lossy(&output.stdout).into_owned(),
        ))
    }

    /// Starts a program on a node that goes on running; its words go to `NODE.PROGRAM.log` in the folder.
    pub fn spawn(&mut self, node: &str, words: &[&str]) -> Result<u32> {
        let (program, arguments) = words.split_first().expect("a command has a first word");
        let mut command = self.command(node, program)?;
        command.args(arguments);
        let base = program
            .rsplit('/')
            .next()
            .expect("rsplit yields at least one part");
        self.launch(&format!("{node}.{base}"), &mut command)
    }

    /// Starts a command as the lab's own, recorded under `label`.
    pub fn launch(&mut self, label: &str, command: &mut Command) -> Result<u32> {
        let log = OpenOptions::new()
            .create(true)
            .append(true)
            .open(self.dir.join(format!("{label}.log")))
            .map_err(|error| format!("log of {label}: {error}"))?;
        let again = log.try_clone().map_err(|error| error.to_string())?;
        let child = command
            .stdin(Stdio::null())
            .stdout(log)
            .stderr(again)
            .spawn()
            .map_err(|error| format!("cannot start {label}: {error}"))?;
        let pid = child.id();
        self.started.push(child);
        let start = start_time(pid).unwrap_or_default();
        OpenOptions::new()
            .append(true)
            .open(self.dir.join("pids"))
            .and_then(|mut file: File| writeln!(file, "{pid} {start} {label}"))
            .map_err(|error| format!("pids: {error}"))?;
        Ok(pid)
    }

    /// Sends a signal (`TERM`, `HUP`, …) to the running process of that label.
    pub fn signal(&self, label: &str, signal: &str) -> Result<()> {
        let pid = self
            .pid(label)
            .ok_or_else(|| format!("{label} does not run"))?;
        run(Command::new("kill").args([&format!("-{signal}"), &pid.to_string()])).map(drop)
    }

    /// Ends the process of that label and waits until it is gone.
    pub fn stop(&mut self, label: &str, signal: &str) -> Result<()> {
        let pid = self
            .pid(label)
            .ok_or_else(|| format!("{label} does not run"))?;
        self.signal(label, signal)?;
        wait_for(
            &format!("end of {label} after SIG{signal}"),
            Duration::from_secs(10),
            || {
                let child = self.started.iter_mut().find(|child| child.id() == pid);
                match child.map(Child::try_wait) {
                    // Its first thread may be dead while others still hold its ports and locks: only
                    // when all of them are gone can it be reaped.
                    Some(Ok(status)) => status.map(drop),
                    _ => start_time(pid).is_none().then_some(()),
                }
            },
        )
    }

    /// The process of that label, where it still runs.
    pub fn pid(&self, label: &str) -> Option<u32> {
        self.processes()
            .into_iter()
            .rev()
            .find(|(_, name, alive)| name == label && *alive)
            .map(|(pid, ..)| pid)
    }

    /// What a process of that label said so far.
    pub fn log(&self, label: &str) -> String {
        let bytes = std::fs::read(self.dir.join(format!("{label}.log"))).unwrap_or_default();
        String::from_utf8_lossy(&bytes).into_owned()
    }

    /// What each process said last, for a person who wonders why a test failed.
    pub(super) fn last_words(&self) -> String {
        let labels = self.processes().into_iter().map(|(_, label, _)| label);
        let mut text = String::new();
        for label in labels.collect::<std::collections::BTreeSet<_>>() {
            let log = self.log(&label);
            let lines: Vec<&str> = log.lines().rev().take(LAST_LINES).collect();
            for line in lines.into_iter().rev() {
                text += &format!("{label}: {line}\n");
            }
        }
        text
    }

    /// Every recorded process: number, label, whether it runs.
    pub fn processes(&self) -> Vec<(u32, String, bool)> {
        let text = std::fs::read_to_string(self.dir.join("pids")).unwrap_or_default();
        let line = |line: &str| {
            let mut words = line.splitn(3, ' ');
            let pid = words.next()?.parse().ok()?;
            let start: u64 = words.next()?.parse().ok()?;
            Some((
                pid,
                words.next()?.to_string(),
                start_time(pid) == Some(start),
            ))
        };
        text.lines().filter_map(line).collect()
    }

    /// Processes, routes and leases, for a person.
    pub fn status(&self) -> Result<String> {
        let mut text = format!("lab in {}\n", self.dir.display());
        for (pid, label, alive) in self.processes() {
            text += &format!(
                "{pid:>8}  {:<8} {label}\n",
                if alive { "running" } else { "ended" }
            );
        }
        Ok(text + "routes of r1:\n" + &self.exec("r1", &["ip", "-6", "route"])?)
    }
}

/// When a live process began (field 22 of its stat); none for zombies.
pub(super) fn start_time(pid: u32) -> Option<u64> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let fields: Vec<&str> = stat.rsplit(") ").next()?.split(' ').collect();
    if fields.first() == Some(&"Z") {
        None
    } else {
        fields.get(19)?.parse().ok()
    }
}
