//! One network namespace with two veth pairs, the kernel's routes, and which CPU does what.

use std::process::Command;

use anyhow::{Context, bail, ensure};
use nix::sched::{CloneFlags, CpuSet, sched_setaffinity, unshare};
use nix::unistd::Pid;

/// The CPU that sends.
pub const LOAD: usize = 0;
/// The CPU that forwards, and swallows what was forwarded.
const ROUTER: usize = 1;
const ROUTES: &str = "proto 207 metric 2070";

/// Indices of the interfaces.
pub struct Network {
    pub generator: u32,
    pub core: u32,
    pub access: u32,
}

impl Network {
    /// Builds it around this thread; it goes with the process.
    pub fn build() -> anyhow::Result<Self> {
        unshare(CloneFlags::CLONE_NEWNET | CloneFlags::CLONE_NEWNS)
            .context("make a network namespace (root is needed)")?;
        // The namespace's own view of /sys, which knows its interfaces.
        shell(
            "mount --make-rprivate / && mount -t sysfs sysfs /sys && mount -t bpf bpf /sys/fs/bpf",
        )?;
        shell(
            "ip link set lo up
             ip link add core address 02:00:00:00:c0:fe type veth peer name generator address 02:00:00:00:c0:01
             ip link add access address 02:00:00:00:00:fe type veth peer name sink address 02:00:00:00:00:01
             sysctl -qw net.ipv6.conf.all.forwarding=1 net.ipv6.route.max_size=4000000
             for i in core generator access sink; do ip link set $i up; ethtool -K $i gro on 2>/dev/null || true; done
             ip address add 2001:db8:c::1/64 dev core nodad
             ip neighbor add fe80::2 lladdr 02:00:00:00:00:01 dev access nud permanent
             ip neighbor add 2001:db8:c::2 lladdr 02:00:00:00:c0:01 dev core nud permanent
             ip route add default via 2001:db8:c::2",
        )?;
        Ok(Self {
            generator: index("generator")?,
            core: index("core")?,
            access: index("access")?,
        })
    }

    /// Kernel routes to so many bindings, half of them addresses, half prefixes, all by one next hop: more cannot be
    /// made easier for the kernel.
    pub fn install(&self, bindings: u64) -> anyhow::Result<()> {
        use std::fmt::Write as _;
        let mut batch = String::new();
        for client in 0..bindings / 2 {
            let (address, prefix) = super::tables::leases(client);
            for lease in [format!("{address}/128"), format!("{prefix}/56")] {
                writeln!(batch, "route add {lease} via fe80::2 dev access {ROUTES}")?;
            }
        }
        let file = tempfile::NamedTempFile::new()?;
        std::fs::write(file.path(), batch)?;
        shell(&format!("ip -6 -batch {}", file.path().display()))
    }

    /// The threads that receive on the router's and on the sink's interface go to the router's CPU.
    pub fn steer(&self) -> anyhow::Result<Threads> {
        let (mut core, mut sink) = (None, None);
        for interface in ["core", "sink"] {
            shell(&format!("echo 1 > /sys/class/net/{interface}/threaded"))?;
        }
        for entry in std::fs::read_dir("/proc")?.flatten() {
            let Some(pid) = entry
                .file_name()
                .to_str()
                .and_then(|name| name.parse::<i32>().ok())
            else {
                continue;
            };
            let name = std::fs::read_to_string(entry.path().join("comm")).unwrap_or_default();
            let place = match () {
                () if name.starts_with("napi/core-") => &mut core,
                () if name.starts_with("napi/sink-") => &mut sink,
                () => continue,
            };
            pin(Pid::from_raw(pid), ROUTER)?;
            ensure!(place.replace(pid).is_none(), "{name}: two such threads");
        }
        Ok(Threads {
            core: core.context("no NAPI thread for core")?,
            sink: sink.context("no NAPI thread for sink")?,
        })
    }
}

/// The NAPI threads on the router's CPU, by their process numbers.
pub struct Threads {
    core: i32,
    sink: i32,
}

/// What the kernel has counted so far.
pub struct Account {
    /// Seconds that the router's thread ran: it receives, decides, and puts packets into the queue of the sink.
    pub core: f64,
    /// Seconds that the sink's thread ran.
    pub sink: f64,
    /// Seconds that the router's CPU was idle, by the scheduler's clock.
    pub idle: f64,
    /// Packets that the router received.
    pub received: u64,
}

impl Threads {
    pub fn account(&self) -> anyhow::Result<Account> {
        let ran = |pid: i32| -> anyhow::Result<f64> {
            let text = std::fs::read_to_string(format!("/proc/{pid}/schedstat"))?;
            let nanos = text.split_whitespace().next().context("schedstat")?;
            Ok(nanos.parse::<f64>()? / 1e9)
        };
        let received = std::fs::read_to_string("/sys/class/net/core/statistics/rx_packets")?;
        Ok(Account {
            core: ran(self.core)?,
            sink: ran(self.sink)?,
            idle: idle()?,
            received: received.trim().parse()?,
        })
    }
}

/// Puts this thread on a CPU.
pub fn enter(cpu: &usize) -> anyhow::Result<()> {
    pin(Pid::from_raw(0), *cpu)
}

fn pin(pid: Pid, cpu: usize) -> anyhow::Result<()> {
    let mut cpus = CpuSet::new();
    cpus.set(cpu)?;
    sched_setaffinity(pid, &cpus).context("pin a thread")
}

fn idle() -> anyhow::Result<f64> {
    let stat = std::fs::read_to_string("/proc/stat")?;
    let line = stat
        .lines()
        .find_map(|line| line.strip_prefix(&format!("cpu{ROUTER} ")))
        .context("no such CPU")?;
    let idle = line.split_whitespace().nth(3).context("idle")?;
    Ok(idle.parse::<f64>()? / 100.0)
}

/// UDP to a subscriber; the generator fills in the destination.
pub fn frame() -> Vec<u8> {
    let mut frame = vec![
        2, 0, 0, 0, 0xc0, 0xfe, 2, 0, 0, 0, 0xc0, 1, 0x86, 0xdd, 0x60, 0, 0, 0,
    ];
    let payload = u16::try_from(super::FRAME - 54).expect("a frame");
    frame.extend(payload.to_be_bytes());
    frame.extend([17, 64]);
    frame.extend(
        "2001:db8:f::1"
            .parse::<std::net::Ipv6Addr>()
            .expect("an address")
            .octets(),
    );
    frame.resize(super::FRAME, 0);
    frame[58..60].copy_from_slice(&payload.to_be_bytes());
    frame
}

fn index(name: &str) -> anyhow::Result<u32> {
    nix::net::if_::if_nametoindex(name).with_context(|| format!("no interface {name}"))
}

fn shell(script: &str) -> anyhow::Result<()> {
    let status = Command::new("sh")
        .args(["-ec", script])
        .status()
        .context("run sh")?;
    if !status.success() {
        bail!("{script}: {status}");
    }
    Ok(())
}
