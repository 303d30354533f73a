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

/// What is measured, and where it may write.
#[derive(Clone, Copy)]
pub struct Place<'a> {
    pub binary: &'a Path,
    pub folder: &'a Path,
}

/// How long after its start a relay had something first.
#[derive(Clone, Copy)]
pub struct Figures {
    /// All bindings in its table.
    pub table: Duration,
    /// As many changes durable.
    pub disk: Duration,
    /// All routes in the kernel, none in doubt.
    pub routes: Duration,
    /// It says that it is ready.
    pub ready: Duration,
}

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
    /// Each on a CPU of its own.
    are_separate: bool,
}

/// A daemon that runs; killed when dropped.
struct Daemon(Child);

/// A load that is under way.
pub struct Load(Child);

/// What it came to.
pub struct Outcome {
    /// The median from a client's message to the server's RELAY-FORW.
    pub relay_micros: f64,
    /// And to the Reply that is back.
    pub reply_micros: f64,
    pub sent: u64,
    pub unanswered: u64,
}

impl Outcome {
    pub fn answered(&self) -> u64 {
        self.sent - self.unanswered
    }
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

    /// Where it runs once both are separate.
    const fn cpu(self) -> &'static str {
        match self {
            Self::Twin => "0",
            Self::Empty => "1",
        }
    }

    const fn address(self) -> &'static str {
        match self {
            Self::Twin => "2001:db8:f::1",
            Self::Empty => "2001:db8:f::2",
        }
    }
}

impl Pair {
    /// Makes namespaces, certificates and empty folders.
    pub fn new(Place { binary, folder }: Place<'_>) -> anyhow::Result<Self> {
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
            are_separate: false,
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
        let mut command = match self.are_separate {
            false => Command::new(&self.binary),
            true => {
                let mut command = Command::new("taskset");
                command.args(["-c", side.cpu()]).arg(&self.binary);
                command
            }
        };
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

    /// Ends a daemon as a crash would, and takes away what it kept and installed.
    pub fn stop_and_forget(&mut self, side: Side) -> anyhow::Result<()> {
        self.daemons[side.at()] = None;
        std::fs::remove_dir_all(self.folder.join(side.name()))?;
        self.within(side, || {
            ip("link del acc0")?;
            access(side)
        })
    }

    /// From now on the twin is alone on its CPU, but for what the kernel does there, and the other one is on the
    /// other CPU.
    pub fn separate(&mut self) -> anyhow::Result<()> {
        self.are_separate = true;
        let status = Command::new("taskset")
            .args(["-a", "-c", "-p", Side::Twin.cpu()])
            .arg(self.id(Side::Twin)?.to_string())
            .stdout(Stdio::null())
            .status()?;
        ensure!(status.success(), "taskset: {status}");
        Ok(())
    }

    /// Stops the process of a daemon without ending it.
    pub fn halt(&self, side: Side) -> anyhow::Result<()> {
        let pid = nix::unistd::Pid::from_raw(i32::try_from(self.id(side)?)?);
        Ok(nix::sys::signal::kill(pid, nix::sys::signal::SIGSTOP)?)
    }

    /// So many clients of the twin renew at this rate; the server of the bench answers. Both sleep where nothing is
    /// to be done, and need not wait for a CPU then.
    pub fn load(&self, clients: u64, rate: u64, length: Duration) -> anyhow::Result<Load> {
        let program = std::env::current_exe()?;
        let program = program.parent().context("a folder")?.join("loadgen");
        let pid = self.id(Side::Twin)?;
        let namespace = format!("/proc/{pid}/ns/net");
        let child = Command::new("chrt")
            .args(["-f", "1", "taskset", "-c", Side::Empty.cpu()])
            .arg(program)
            .args([
                "naps=1".to_owned(),
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

    /// Resident memory of a daemon in bytes, now and at most.
    pub fn memory(&self, side: Side) -> anyhow::Result<[u64; 2]> {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.id(side)?))?;
        let bytes = |name: &str| {
            let line = status.lines().find_map(|it| it.strip_prefix(name));
            let kilobytes = line.and_then(|it| it.split_whitespace().next());
            anyhow::Ok(kilobytes.context("no such line")?.parse::<u64>()? * 1024)
        };
        Ok([bytes("VmRSS:")?, bytes("VmHWM:")?])
    }

    /// Memory that the kernel holds for what its connections have not sent.
    pub fn unsent_bytes(&self, side: Side) -> anyhow::Result<u64> {
        let output = self.within(side, || Ok(Command::new("ss").arg("-tnmH").output()?))?;
        let text = String::from_utf8(output.stdout)?;
        // skmem:(r0,rb131072,t0,tb524288,f0,w4096,…: what is queued to be sent, with the kernel's overhead.
        let queued = text.split([',', '(']).filter_map(|it| it.strip_prefix('w'));
        Ok(queued.filter_map(|it| it.parse::<u64>().ok()).sum())
    }

    /// How long after `since` a daemon first had so many bindings in all places.
    pub fn wait_for_everything(
        &self,
        side: Side,
        bindings: u64,
        since: Instant,
    ) -> anyhow::Result<Figures> {
        let bindings = bindings as f64;
        let mut first = [None; 4];
        self.wait_until(side, since, |metrics| {
            let routes = |state| sum(metrics, "twinrelay_routes{", state);
            let is_so = [
                sum(metrics, "twinrelay_bindings{", "") >= bindings,
                // A twin that began with them has nothing to write.
                side == Side::Twin || sum(metrics, "twinrelay_store_records_total", "") >= bindings,
                routes("\"installed\"") >= bindings && routes("\"pending\"") == 0.0,
                // The twin waits for the other one.
                side == Side::Twin || sum(metrics, "twinrelay_ready ", "") == 1.0,
            ];
            for (first, is_so) in first.iter_mut().zip(is_so) {
                *first = first.or(is_so.then(|| since.elapsed()));
            }
            first.iter().all(Option::is_some)
        })?;
        let [table, disk, routes, ready] = first.map(Option::unwrap_or_default);
        let metrics = self.metrics(side)?;
        let by_timeout = sum(&metrics, "twinrelay_ready_by_timeout", "");
        ensure!(by_timeout == 0.0, "it is ready by timeout");
        Ok(Figures {
            table,
            disk,
            routes,
            ready,
        })
    }

    /// Until it has so many in its table.
    pub fn wait_for_bindings(&self, side: Side, bindings: u64) -> anyhow::Result<()> {
        self.wait_until(side, Instant::now(), |metrics| {
            sum(metrics, "twinrelay_bindings{", "") >= bindings as f64
        })
    }

    /// In its table.
    pub fn bindings(&self, side: Side) -> anyhow::Result<f64> {
        Ok(sum(&self.metrics(side)?, "twinrelay_bindings{", ""))
    }

    /// That are in sync.
    pub fn sessions(&self, side: Side) -> anyhow::Result<f64> {
        let metrics = self.metrics(side)?;
        Ok(active(&metrics))
    }

    /// Until both ends of both sessions say so.
    pub fn wait_until_both_are_active(&self) -> anyhow::Result<()> {
        for side in [Side::Twin, Side::Empty] {
            self.wait_until(side, Instant::now(), |metrics| active(metrics) == 2.0)?;
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
        mut is_so: impl FnMut(&str) -> bool,
    ) -> anyhow::Result<()> {
        while since.elapsed() < PATIENCE {
            if self.metrics(side).is_ok_and(|text| is_so(&text)) {
                return Ok(());
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
            relay_micros: number("latency_ns")? as f64 / 1e3,
            reply_micros: number("round_trip_ns")? as f64 / 1e3,
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

/// Sessions in sync, those of either role.
fn active(metrics: &str) -> f64 {
    sum(metrics, "twinrelay_alq_session_state{", "state=\"active\"")
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
    // A relay sends to no client before it has a link-local address, and an interface that is made anew would
    // have none for two seconds.
    std::fs::write("/proc/sys/net/ipv6/conf/default/accept_dad", "0")?;
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
