//! Two daemons, each in a network namespace with clients and servers of its own, and a wire between them. Measures
//! nothing.

use std::fs::File;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, bail, ensure};
use nix::sched::{CloneFlags, setns, unshare};

use crate::world::{ip, make_interface};

/// Far more than it takes anywhere.
const PATIENCE: Duration = Duration::from_secs(180);
/// How often a daemon is asked whether it is done.
const ASK_EVERY: Duration = Duration::from_millis(10);

/// One of both.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Side {
    /// The one that knows.
    Twin,
    /// The one that begins without anything.
    Empty,
}

/// Both.
pub struct Pair {
    binary: PathBuf,
    folder: PathBuf,
    home: File,
    namespaces: [File; 2],
    daemons: [Option<Daemon>; 2],
}

/// A daemon that runs; killed when dropped.
struct Daemon(Child);

/// A load that is under way.
pub struct Load(Child);

/// What it came to.
pub struct Outcome {
    /// The median from a client's message to the Reply that is back.
    pub micros: f64,
    pub sent: u64,
    pub unanswered: u64,
}

impl Side {
    const fn at(self) -> usize {
        self as usize
    }

    const fn name(self) -> &'static str {
        match self {
            Self::Twin => "r1",
            Self::Empty => "r2",
        }
    }

    const fn other(self) -> Self {
        match self {
            Self::Twin => Self::Empty,
            Self::Empty => Self::Twin,
        }
    }

    const fn address(self) -> &'static str {
        match self {
            Self::Twin => "2001:db8:f::1",
            Self::Empty => "2001:db8:f::2",
        }
    }
}

/// The longer of both.
pub fn at_least(length: Duration, bound: Duration) -> Duration {
    length.max(bound)
}

impl Pair {
    /// Makes namespaces, certificates and empty folders.
    pub fn new(binary: &Path, folder: &Path) -> anyhow::Result<Self> {
        let home = File::open("/proc/thread-self/ns/net")?;
        let namespaces = [namespace(Side::Twin)?, namespace(Side::Empty)?];
        // The end in the second namespace is made from it, and sent to the first.
        setns(namespaces[1].as_fd(), CloneFlags::CLONE_NEWNET)?;
        let keeper = Command::new("sleep").arg("600").spawn()?;
        let keeper = Daemon(keeper);
        setns(namespaces[0].as_fd(), CloneFlags::CLONE_NEWNET)?;
        ip(&format!(
            "link add twin0 type veth peer name twin0 netns {}",
            keeper.0.id()
        ))?;
        for (side, namespace) in [Side::Twin, Side::Empty].into_iter().zip(&namespaces) {
            setns(namespace.as_fd(), CloneFlags::CLONE_NEWNET)?;
            ip("link set twin0 up")?;
            ip(&format!("addr add {}/64 dev twin0 nodad", side.address()))?;
        }
        setns(home.as_fd(), CloneFlags::CLONE_NEWNET)?;
        for part in ["r1", "r2", "tls"] {
            let _ = std::fs::remove_dir_all(folder.join(part));
        }
        let pair = Self {
            binary: binary.to_owned(),
            folder: folder.to_owned(),
            home,
            namespaces,
            daemons: [None, None],
        };
        let tls = folder.join("tls");
        let made = Command::new(binary)
            .args(["tls", "init", "--name", "r1", "--peer", "r2"])
            .arg(&tls)
            .stdout(Stdio::null())
            .status()?;
        ensure!(made.success(), "twinrelay tls init: {made}");
        Ok(pair)
    }

    /// The folder of what a daemon keeps; it is there afterwards.
    pub fn state(&self, side: Side) -> anyhow::Result<PathBuf> {
        let state = self.folder.join(side.name()).join("state");
        std::fs::create_dir_all(&state)?;
        Ok(state)
    }

    /// Starts a daemon on what it has kept.
    pub fn start(&mut self, side: Side) -> anyhow::Result<()> {
        let place = self.folder.join(side.name());
        std::fs::create_dir_all(&place)?;
        let file = place.join("twinrelay.toml");
        std::fs::write(&file, self.configuration(side))?;
        let mut command = Command::new(&self.binary);
        command
            .args(["run", "-c"])
            .arg(&file)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(File::create(place.join("log"))?);
        let child = self.within(side, || Ok(command.spawn()?))?;
        self.daemons[side.at()] = Some(Daemon(child));
        Ok(())
    }

    fn configuration(&self, side: Side) -> String {
        let (name, peer) = (side.name(), side.other());
        let (place, tls) = (self.folder.join(name), self.folder.join("tls"));
        let (place, tls) = (place.display(), tls.display());
        let (own, address, peer) = (side.address(), peer.address(), peer.name());
        // Relay-Ids differ although both daemons run on one machine.
        let relay_id = match side {
            Side::Twin => "00:03:00:01:02:00:00:00:00:a1",
            Side::Empty => "00:03:00:01:02:00:00:00:00:b2",
        };
        format!(
            r#"[relay]
relay_id = "{relay_id}"
source_address = "{own}"
state_dir = "{place}/state"
run_dir = "{place}/run"

[[server]]
address = "2001:db8:c::11"

[[access]]
interface = "acc0"
capture = "socket"

[[core]]
interface = "core0"

[dataplane]
pin_path = "/sys/fs/bpf/twinrelay-bench-{name}"

[active_leasequery]
enabled = true

[[active_leasequery.peer]]
name = "{peer}"
address = "{address}"

[tls]
certificate = "{tls}/{name}.pem"
key = "{tls}/{name}.key"
ca = "{tls}/ca.pem"
"#
        )
    }

    /// Ends the one that began empty as a crash would, and takes away what it kept and installed.
    pub fn begin_anew(&mut self) -> anyhow::Result<()> {
        self.daemons[Side::Empty.at()] = None;
        std::fs::remove_dir_all(self.folder.join("r2"))?;
        self.within(Side::Empty, || {
            ip("link del acc0")?;
            access(Side::Empty)
        })
    }

    /// Stops the process of a daemon without ending it.
    pub fn halt(&self, side: Side) -> anyhow::Result<()> {
        let pid = nix::unistd::Pid::from_raw(i32::try_from(self.id(side)?)?);
        Ok(nix::sys::signal::kill(pid, nix::sys::signal::SIGSTOP)?)
    }

    /// So many clients of the twin renew at this rate; the server of the bench answers.
    pub fn load(&self, clients: u64, rate: u64, length: Duration) -> anyhow::Result<Load> {
        let program = std::env::current_exe()?;
        let program = program.parent().context("a folder")?.join("loadgen");
        let pid = self.id(Side::Twin)?;
        let namespace = format!("/proc/{pid}/ns/net");
        let child = Command::new(program)
            .args([
                format!("access_netns={namespace}"),
                "access_interface=cli0".to_owned(),
                format!("core_netns={namespace}"),
                "core_interface=srv0".to_owned(),
                format!("clients={clients}"),
                format!("renews={rate}"),
                "solicits=0".to_owned(),
                "unasked=0".to_owned(),
                "relay_mac=02:00:00:00:00:02".to_owned(),
                format!("milliseconds={}", length.as_millis()),
                "relay_cpu=0".to_owned(),
                format!("relay_pid={pid}"),
            ])
            .stdout(Stdio::piped())
            .spawn()
            .context("start loadgen")?;
        Ok(Load(child))
    }

    /// Resident memory in bytes.
    pub fn memory(&self, side: Side) -> anyhow::Result<u64> {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.id(side)?))?;
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
        let kilobytes = line.and_then(|line| line.split_whitespace().next());
        Ok(kilobytes.context("no VmRSS")?.parse::<u64>()? * 1024)
    }

    /// How long after `since` a daemon had so many routes in the kernel, none of them in doubt.
    pub fn wait_for_routes(
        &self,
        side: Side,
        routes: u64,
        since: Instant,
    ) -> anyhow::Result<Duration> {
        self.wait_until(side, since, |metrics| {
            let state = |name: &str| sum(metrics, "twinrelay_routes{", name);
            state("state=\"installed\"") >= routes as f64 && state("state=\"pending\"") == 0.0
        })
    }

    /// Until the one that began empty has so many bindings in its table.
    pub fn wait_for_bindings(&self, bindings: u64, since: Instant) -> anyhow::Result<Duration> {
        self.wait_until(Side::Empty, since, |metrics| {
            sum(metrics, "twinrelay_bindings{", "") >= bindings as f64
        })
    }

    /// Until it has made so many changes durable.
    pub fn wait_for_records(&self, bindings: u64, since: Instant) -> anyhow::Result<Duration> {
        self.wait_until(Side::Empty, since, |metrics| {
            sum(metrics, "twinrelay_store_records_total", "") >= bindings as f64
        })
    }

    /// Until it says that it is ready, and not because it gave up waiting.
    pub fn wait_until_ready(&self, since: Instant) -> anyhow::Result<Duration> {
        let at = self.wait_until(Side::Empty, since, |metrics| {
            sum(metrics, "twinrelay_ready ", "") == 1.0
        })?;
        let metrics = self.metrics(Side::Empty)?;
        let by_timeout = sum(&metrics, "twinrelay_ready_by_timeout", "");
        ensure!(by_timeout == 0.0, "it is ready by timeout");
        Ok(at)
    }

    /// Until both ends of both sessions say so.
    pub fn wait_until_both_are_active(&self) -> anyhow::Result<()> {
        for side in [Side::Twin, Side::Empty] {
            self.wait_until(side, Instant::now(), |metrics| {
                sum(metrics, "twinrelay_alq_session_state{", "state=\"active\"") == 2.0
            })?;
        }
        Ok(())
    }

    /// Both have equal digests.
    pub fn expect_equal(&self) -> anyhow::Result<()> {
        let digest = |side| {
            let metrics = self.metrics(side)?;
            anyhow::Ok(sum(&metrics, "twinrelay_binding_digest{", "link=\"total\""))
        };
        let (one, other) = (digest(Side::Twin)?, digest(Side::Empty)?);
        ensure!(one == other, "the digests differ: {one} and {other}");
        Ok(())
    }

    /// Does something in the network namespace of a side.
    pub fn within<T>(
        &self,
        side: Side,
        work: impl FnOnce() -> anyhow::Result<T>,
    ) -> anyhow::Result<T> {
        setns(self.namespaces[side.at()].as_fd(), CloneFlags::CLONE_NEWNET)?;
        let result = work();
        setns(self.home.as_fd(), CloneFlags::CLONE_NEWNET)?;
        result
    }

    fn id(&self, side: Side) -> anyhow::Result<u32> {
        let daemon = self.daemons[side.at()].as_ref();
        Ok(daemon.context("it does not run")?.0.id())
    }

    fn wait_until(
        &self,
        side: Side,
        since: Instant,
        is_so: impl Fn(&str) -> bool,
    ) -> anyhow::Result<Duration> {
        while since.elapsed() < PATIENCE {
            if self.metrics(side).is_ok_and(|text| is_so(&text)) {
                return Ok(since.elapsed());
            }
            std::thread::sleep(ASK_EVERY);
        }
        let log = self.folder.join(side.name()).join("log");
        let log = std::fs::read_to_string(log).unwrap_or_default();
        bail!(
            "{} does not come to that: {}\n{log}",
            side.name(),
            self.metrics(side)?
        )
    }

    fn metrics(&self, side: Side) -> anyhow::Result<String> {
        self.within(side, || {
            let mut stream = TcpStream::connect("[::1]:9547")?;
            stream.set_read_timeout(Some(Duration::from_secs(10)))?;
            stream.write_all(
                b"GET /metrics HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n",
            )?;
            let mut text = String::new();
            stream.read_to_string(&mut text)?;
            Ok(text)
        })
    }
}

impl Load {
    /// Waits for its end.
    pub fn outcome(self) -> anyhow::Result<Outcome> {
        let output = self.0.wait_with_output()?;
        ensure!(output.status.success(), "loadgen: {}", output.status);
        let text = String::from_utf8_lossy(&output.stdout);
        let number = |key: &str| {
            let mut words = text.split_whitespace();
            let value = words.find_map(|word| word.strip_prefix(key)?.strip_prefix('='));
            value
                .and_then(|value| value.parse::<u64>().ok())
                .with_context(|| format!("loadgen: no {key}"))
        };
        let sent = number("sent")?;
        Ok(Outcome {
            micros: number("round_trip_ns")? as f64 / 1e3,
            sent,
            unanswered: sent.saturating_sub(number("answered")?),
        })
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        // It has ended already, or nobody is left to tell.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// The sum of the samples of a metric whose labels hold `labels`.
fn sum(metrics: &str, name: &str, labels: &str) -> f64 {
    let samples = metrics.lines().filter_map(|line| {
        let rest = line.strip_prefix(name)?;
        rest.contains(labels).then_some(())?;
        rest.rsplit(' ').next()?.parse::<f64>().ok()
    });
    samples.sum()
}

/// A namespace with clients and a server; the thread is in it afterwards.
fn namespace(side: Side) -> anyhow::Result<File> {
    unshare(CloneFlags::CLONE_NEWNET).context("make a network namespace (root is needed)")?;
    for arguments in [
        "link set lo up",
        "link add core0 address 02:00:00:00:00:02 type veth peer name srv0",
        "link set srv0 up",
        "link set core0 up",
        "addr add 2001:db8:c::1/64 dev core0 nodad",
        "neigh add 2001:db8:c::11 lladdr 02:be:ff:00:00:11 dev core0 nud permanent",
    ] {
        ip(arguments)?;
    }
    access(side)?;
    Ok(File::open("/proc/thread-self/ns/net")?)
}

fn access(side: Side) -> anyhow::Result<()> {
    make_interface()?;
    let last = side.at() + 2;
    ip(&format!("addr add 2001:db8:a:1::{last}/64 dev acc0 nodad"))
}
