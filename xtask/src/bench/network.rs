//! The network of the bench: namespaces clients – relay – server, joined by two veth pairs, and which CPU
//! does the kernel's work on each interface. Knows nothing of DHCP.

use crate::run::Result;
use std::path::PathBuf;
use std::process::{Command, Output, Stdio};

/// The CPU of clients and server.
pub const LOAD_CPU: u32 = 0;
/// The CPU of the relay alone.
pub const RELAY_CPU: u32 = 1;
/// The relay's address toward clients.
pub const LINK_ADDRESS: &str = "2001:db8:a:1::2";
/// The server's address.
pub const SERVER: &str = "2001:db8:c::11";
/// A MAC that no interface has: the server's kernel drops what the stub has already taken.
const SERVER_MAC: &str = "02:be:ff:00:00:11";

/// Three namespaces and the folder for files; removed when dropped.
pub struct Network {
    id: u32,
    /// Configuration, logs and state of the relays.
    pub dir: PathBuf,
}

impl Network {
    /// Builds it. Names carry this process's id, so that several can stand side by side.
    pub fn build(clients: u32) -> Result<Self> {
        let id = std::process::id();
        let network = Self {
            id,
            dir: std::env::temp_dir().join(format!("twinrelay-bench-{id}")),
        };
        std::fs::create_dir_all(&network.dir)
            .map_err(|error| format!("temporary folder: {error}"))?;
        for node in ["clients", "relay", "server"] {
            run("ip", &["netns", "add", &network.namespace(node)])?;
            network.shell(
                node,
                "ip link set lo up; sysctl -qw net.ipv6.conf.all.accept_dad=0 \
                net.ipv6.conf.default.accept_dad=0 net.ipv6.conf.all.forwarding=1",
            )?;
        }
        for (near, near_interface, far, far_interface) in [
            ("relay", network.access(), "clients", network.clients()),
            ("relay", network.core(), "server", network.server()),
        ] {
            run(
                "ip",
                &[
                    "link",
                    "add",
                    &near_interface,
                    "netns",
                    &network.namespace(near),
                    "type",
                    "veth",
                    "peer",
                    "name",
                    &far_interface,
                    "netns",
                    &network.namespace(far),
                ],
            )?;
            // The relay's receiving is the relay's CPU's work. What it sends is received there too, in the
            // softirq of the sender: handing that over would cost an interrupt of the other CPU for nearly
            // every message, which on a virtual machine is dearer than the work itself.
            for (node, interface) in [(near, &near_interface), (far, &far_interface)] {
                network.shell(node, &format!("ip link set {interface} up"))?;
            }
            network.shell(
                near,
                &format!(
                    "echo {:x} >/sys/class/net/{near_interface}/queues/rx-0/rps_cpus",
                    1_u32 << RELAY_CPU
                ),
            )?;
        }
        network.shell(
            "relay",
            &format!(
                "ip address add {LINK_ADDRESS}/64 dev {access} nodad
             ip address add 2001:db8:c::1/64 dev {core} nodad
             ip neigh add {SERVER} lladdr {SERVER_MAC} dev {core} nud permanent",
                access = network.access(),
                core = network.core()
            ),
        )?;
        // A pair of veths would pass on uncut what a relay gives the kernel as one (UDP_SEGMENT). A card cuts it
        // up; here the relay's CPU does, and the server gets what it would get from a wire.
        network.shell(
            "relay",
            &format!("ethtool -K {} tx-udp-segmentation off", network.core()),
        )?;
        network.know_clients(clients)?;
        Ok(network)
    }

    /// Permanent neighbour entries for all clients: without them dnsmasq serves 10 clients a second.
    /// All relays have them, so that the comparison is of relaying alone.
    fn know_clients(&self, clients: u32) -> Result<()> {
        let mut batch = String::new();
        for client in 0..clients {
            let [a, b, c, d] = client.to_be_bytes();
            batch += &format!(
                "neigh add fe80::be:{:x}:{:x} lladdr 02:be:{a:02x}:{b:02x}:{c:02x}:{d:02x} dev {} nud permanent\n",
                client >> 16,
                client & 0xffff,
                self.access()
            );
        }
        let file = self.dir.join("neighbours");
        std::fs::write(&file, batch).map_err(|error| format!("{}: {error}", file.display()))?;
        run(
            "ip",
            &[
                "-6",
                "-n",
                &self.namespace("relay"),
                "-batch",
                &file.to_string_lossy(),
            ],
        )?;
        Ok(())
    }

    /// The name that `ip netns` knows a node by.
    pub fn namespace(&self, node: &str) -> String {
        format!("twbench{}-{node}", self.id)
    }

    /// The relay's interface toward clients.
    pub fn access(&self) -> String {
        format!("ba{}", self.id)
    }

    /// The relay's interface toward the server.
    pub fn core(&self) -> String {
        format!("bc{}", self.id)
    }

    /// The MAC address of the relay's interface toward the server.
    pub fn core_mac(&self) -> Result<String> {
        let file = format!("/sys/class/net/{}/address", self.core());
        let relay = self.namespace("relay");
        run("ip", &["netns", "exec", &relay, "cat", &file]).map(|mac| mac.trim().to_owned())
    }

    /// The clients' interface.
    pub fn clients(&self) -> String {
        format!("bg{}", self.id)
    }

    /// The server's interface.
    pub fn server(&self) -> String {
        format!("bs{}", self.id)
    }

    /// A shell script in a node.
    pub fn shell(&self, node: &str, script: &str) -> Result<()> {
        run(
            "ip",
            &["netns", "exec", &self.namespace(node), "sh", "-ec", script],
        )
        .map(drop)
    }

    /// Where native XDP is attached, its work is NAPI's: moves that to a thread on the relay's CPU, for
    /// otherwise it would run, uncounted, on the CPU that sends. Returns how many such threads there are.
    pub fn steer_napi(&self) -> Result<usize> {
        let mut threads = 0;
        for interface in [self.access(), self.core()] {
            self.shell(
                "relay",
                &format!("echo 1 >/sys/class/net/{interface}/threaded || true"),
            )?;
            for pid in kernel_threads(&format!("napi/{interface}")) {
                run(
                    "taskset",
                    &["-pc", &RELAY_CPU.to_string(), &pid.to_string()],
                )?;
                threads += 1;
            }
        }
        Ok(threads)
    }
}

impl Drop for Network {
    fn drop(&mut self) {
        for node in ["clients", "relay", "server"] {
            // Nothing to tell: a namespace that was never made cannot be removed.
            drop(run("ip", &["netns", "del", &self.namespace(node)]));
        }
        drop(std::fs::remove_dir_all(&self.dir));
    }
}

/// Processes whose name starts so; the kernel cuts names after 15 characters.
fn kernel_threads(name: &str) -> Vec<u32> {
    let name = &name[..name.len().min(15)];
    std::fs::read_dir("/proc")
        .into_iter()
        .flatten()
        .flatten()
        .filter_map(|entry| entry.file_name().to_str()?.parse().ok())
        .filter(|pid| {
            std::fs::read_to_string(format!("/proc/{pid}/comm"))
                .is_ok_and(|comm| comm.starts_with(name))
        })
        .collect()
}

/// Runs a program and returns what it printed.
pub fn run(program: &str, args: &[&str]) -> Result<String> {
    let Output {
        status,
        stdout,
        stderr,
    } = Command::new(program)
        .args(args)
        .env("PATH", path())
        .stdin(Stdio::null())
        .output()
        .map_err(|error| format!("cannot start {program}: {error}"))?;
    if status.success() {
        return Ok(String::from_utf8_lossy(&stdout).into_owned());
    }
    let said = String::from_utf8_lossy(&stderr);
    Err(format!(
        "{program} {} failed: {}",
        args.join(" "),
        said.trim()
    ))
}

/// `PATH` with the sbin folders, which are not in everyone's.
pub fn path() -> String {
    format!(
        "{}:/usr/sbin:/sbin",
        std::env::var("PATH").unwrap_or_default()
    )
}
