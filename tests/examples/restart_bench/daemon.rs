//! The daemon of the bench, in a network namespace of its own. Measures nothing.

use std::fs::File;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, bail};

use crate::world::{ip, make_interface};

/// Far more than it takes anywhere.
const PATIENCE: Duration = Duration::from_secs(180);
/// How often it is asked whether it is done.
const ASK_EVERY: Duration = Duration::from_millis(10);

/// A daemon that runs; killed when dropped.
pub struct Daemon {
    child: Child,
    folder: PathBuf,
}

/// This thread, and what it starts, gets interfaces of its own.
pub fn enter_namespace() -> anyhow::Result<()> {
    nix::sched::unshare(nix::sched::CloneFlags::CLONE_NEWNET)
        .context("make a network namespace (root is needed)")?;
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
    make_access_interface()
}

fn make_access_interface() -> anyhow::Result<()> {
    make_interface()?;
    ip("addr add 2001:db8:a:1::2/64 dev acc0 nodad")
}

/// Makes the access interface anew: without its routes.
pub fn renew_access_interface() -> anyhow::Result<()> {
    ip("link del acc0")?;
    make_access_interface()
}

impl Daemon {
    /// Starts it on the state that is in the folder.
    pub fn start(binary: &Path, folder: &Path) -> anyhow::Result<Self> {
        let place = folder.display();
        let configuration = format!(
            "[relay]\nstate_dir = \"{place}/state\"\nrun_dir = \"{place}/run\"\n\n[[server]]\naddress = \
             \"2001:db8:c::11\"\n\n[[access]]\ninterface = \"acc0\"\ncapture = \"socket\"\n\n[[core]]\ninterface = \
             \"core0\"\n"
        );
        let file = folder.join("twinrelay.toml");
        std::fs::write(&file, configuration)?;
        let child = Command::new(binary)
            .args(["run", "-c"])
            .arg(&file)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(File::create(folder.join("log"))?)
            .spawn()
            .context("start the daemon")?;
        Ok(Self {
            child,
            folder: folder.to_owned(),
        })
    }

    /// Its process.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// How long after `since` it answered first.
    pub fn wait_until_it_answers(&self, since: Instant) -> anyhow::Result<Duration> {
        self.wait_until(since, |_| true)
    }

    /// How long after `since` it had so many routes in the kernel, none of them in doubt.
    pub fn wait_for_routes(&self, routes: u64, since: Instant) -> anyhow::Result<Duration> {
        self.wait_until(since, |metrics| {
            let value = |state: &str| {
                let name = format!("twinrelay_routes{{state=\"{state}\"}} ");
                let line = metrics.lines().find_map(|line| line.strip_prefix(&name));
                line.and_then(|value| value.parse::<u64>().ok())
            };
            value("installed") == Some(routes) && value("pending") == Some(0)
        })
    }

    fn wait_until(&self, since: Instant, is_so: impl Fn(&str) -> bool) -> anyhow::Result<Duration> {
        while since.elapsed() < PATIENCE {
            if metrics().is_ok_and(|text| is_so(&text)) {
                return Ok(since.elapsed());
            }
            std::thread::sleep(ASK_EVERY);
        }
        let log = std::fs::read_to_string(self.folder.join("log")).unwrap_or_default();
        bail!("the daemon does not come to that: {}\n{log}", metrics()?)
    }

    /// What it holds of memory, and what it held at most, in bytes.
    pub fn memory(&self) -> anyhow::Result<[u64; 2]> {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.child.id()))?;
        let bytes = |name: &str| {
            let line = status.lines().find_map(|it| it.strip_prefix(name));
            let kilobytes = line.and_then(|it| it.split_whitespace().next());
            anyhow::Ok(kilobytes.context("no such line")?.parse::<u64>()? * 1024)
        };
        Ok([bytes("VmRSS:")?, bytes("VmHWM:")?])
    }

    /// All bindings, in as many pages as the command line asks for: how many rows.
    pub fn show(&self, binary: &Path) -> anyhow::Result<usize> {
        let output = Command::new(binary)
            .args(["show", "bindings", "--json", "--socket"])
            .arg(self.folder.join("run/control.sock"))
            .output()?;
        if !output.status.success() {
            bail!("{}", String::from_utf8_lossy(&output.stderr));
        }
        Ok(output.stdout.split(|byte| *byte == b'\n').count() - 2)
    }

    /// Ends it as a crash would.
    pub fn kill(mut self) -> anyhow::Result<()> {
        self.child.kill()?;
        self.child.wait()?;
        Ok(())
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        // It has ended already, or nobody is left to tell.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn metrics() -> anyhow::Result<String> {
    let mut stream = TcpStream::connect("[::1]:9547")?;
    stream.set_read_timeout(Some(Duration::from_secs(10)))?;
    stream.write_all(b"GET /metrics HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")?;
    let mut text = String::new();
    stream.read_to_string(&mut text)?;
    Ok(text)
}
