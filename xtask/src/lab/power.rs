//! What can happen to a machine of the pair: its power, its cables, its daemon. Decides what each of them takes away
//! and brings back; knows nothing of what the relay should do then.

use super::command::{Result, run};
use super::{Lab, kea, topology, wait_for};
use std::process::Command;
use std::time::Duration;

/// Which cable of a router.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cable {
    /// To the subscribers.
    Access,
    /// To servers, twin and Internet.
    Core,
}

impl Cable {
    /// By the word of the command line.
    pub fn parse(word: &str) -> Result<Self> {
        match word {
            "access" => Ok(Self::Access),
            "core" => Ok(Self::Core),
            _ => Err(format!("{word:?} is no cable: use access or core")),
        }
    }

    /// The node whose bridge the cable ends in.
    fn bridge(self) -> &'static str {
        match self {
            Self::Access => "access",
            Self::Core => "core",
        }
    }
}

/// What a disk holds when the power comes back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Disk {
    /// What was on it.
    Kept,
    /// Configuration and certificates, and nothing that the relay wrote.
    Wiped,
}

impl Lab {
    /// Pulls a cable of a router or server, or puts it back.
    pub fn set_cable(&self, node: &str, cable: Cable, is_in: bool) -> Result<()> {
        let state = if is_in { "up" } else { "down" };
        let words = format!("ip link set {node} {state}");
        self.exec_words(cable.bridge(), &words).map(drop)
    }

    /// The machine is without power: no frame leaves it from now on, its memory is gone.
    pub fn power_off(&mut self, node: &str) -> Result<()> {
        let cables = cables(node)?;
        // First: a daemon that is killed may have last words (keepalived's are a fail-over), a dead machine has none.
        for (cable, _) in cables {
            self.set_cable(node, *cable, false)?;
        }
        self.kill_all(node)?;
        let interfaces: Vec<&str> = cables.iter().map(|(_, interface)| *interface).collect();
        for interface in interfaces {
            // The kernel forgets addresses, routes and neighbours of it.
            self.exec_words(node, &format!("ip link set {interface} down"))?;
        }
        self.exec_words(node, "ip -6 route flush proto 207")?;
        let forget = "rm -rf /run/* /sys/fs/bpf/twinrelay";
        self.exec(node, &["sh", "-c", forget]).map(drop)
    }

    /// The power is back: addresses as configured, daemons as at a boot.
    pub fn power_on(&mut self, node: &str, disk: Disk) -> Result<()> {
        if disk == Disk::Wiped {
            let written = "rm -rf /var/lib/twinrelay";
            self.exec(node, &["sh", "-c", written])?;
        }
        for (cable, interface) in cables(node)? {
            self.exec_words(node, &format!("ip link set {interface} up"))?;
            self.set_cable(node, *cable, true)?;
        }
        for words in topology::own_addresses(node) {
            self.exec_words(node, &words)?;
        }
        match node {
            "r1" | "r2" => self.start_router(node),
            _ => kea::start_hot_standby(self, node, super::Lifetimes::default()),
        }
    }

    /// Starts the relay of a router without waiting for what it says.
    pub fn spawn_twinrelay(&mut self, router: &str) -> Result<()> {
        let (binary, file) = (self.binary(router)?, self.configuration_file(router));
        let file = file.display().to_string();
        self.spawn(router, &[&binary, "run", "-c", &file]).map(drop)
    }

    /// What runs the relay of a router: `r1.twinrelay`, `r1.dhcrelay`.
    pub fn relay_label(&self, router: &str) -> String {
        let program = match self.configuration_file(router).exists() {
            true => "twinrelay",
            false => "dhcrelay",
        };
        format!("{router}.{program}")
    }

    /// Everything that runs on a node, except what keeps its namespaces.
    fn kill_all(&self, node: &str) -> Result<()> {
        let keeper = std::fs::read_to_string(self.dir().join(node).join("pid"));
        let keeper = keeper.map_err(|_| format!("no node named {node}"))?;
        let namespace = self.namespace(node);
        wait_for(
            &format!("end of everything on {node}"),
            Duration::from_secs(10),
            || {
                let pids = run(Command::new("ip").args(["netns", "pids", &namespace])).ok()?;
                let others: Vec<&str> = pids.lines().filter(|pid| *pid != keeper).collect();
                for pid in &others {
                    // It may be gone already.
                    let _ = run(Command::new("kill").args(["-KILL", pid]));
                }
                others.is_empty().then_some(())
            },
        )
    }
}

/// The cables of a machine that has power, and its own ends of them.
fn cables(node: &str) -> Result<&'static [(Cable, &'static str)]> {
    match node {
        "r1" | "r2" => Ok(&[(Cable::Access, "acc0"), (Cable::Core, "core0")]),
        "s1" | "s2" => Ok(&[(Cable::Core, "eth0")]),
        _ => Err(format!(
            "{node:?} has no power switch: use r1, r2, s1 or s2"
        )),
    }
}
