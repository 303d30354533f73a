//! The lab: homes, an access network, one relay router or two, a core with two Kea servers and an Internet host,
//! each a network namespace of its own. Decides what belongs to a lab and that nothing of it outlives it.
//! All its state lies in one folder, all its namespaces bear its name: labs run side by side.

mod cli;
mod client;
mod command;
mod demo;
mod inside;
mod kea;
mod leftovers;
mod node;
mod power;
mod probes;
mod relay;
mod story;
mod topology;
mod twins;

pub use cli::main;
pub use client::Client;
pub use command::{Result, missing, output, run};
pub use power::{Cable, Disk};
pub use probes::{Direction, Probes, Record, Stream, Target};
pub use relay::Relay;
pub use story::demo;
pub use twins::{Home, PROGRAMS as PAIR_PROGRAMS, Pair, ROUTERS, Twins};

use std::io::Write;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::time::{Duration, Instant};

const TEARDOWN: &str = include_str!("teardown.sh");
/// What a lab needs, all from Debian packages.
pub const PROGRAMS: [&str; 7] = [
    "ip",
    "nsenter",
    "kea-dhcp6",
    "dhclient",
    "dhcpcd",
    "dhcp6c",
    "ping",
];

/// How long the servers lend, in seconds.
#[derive(Clone, Copy, Debug)]
pub struct Lifetimes {
    /// T1: when clients renew.
    pub renew: u32,
    /// T2: when clients rebind.
    pub rebind: u32,
    /// The preferred lifetime.
    pub preferred: u32,
    /// The valid lifetime.
    pub valid: u32,
}

impl Lifetimes {
    /// Leases without an end (RFC 8415 §7.7).
    pub const INFINITE: Self = Self {
        renew: u32::MAX,
        rebind: u32::MAX,
        preferred: u32::MAX,
        valid: u32::MAX,
    };
}

impl Default for Lifetimes {
    fn default() -> Self {
        Self {
            renew: 1000,
            rebind: 1600,
            preferred: 2400,
            valid: 3600,
        }
    }
}

/// What to build.
#[derive(Clone, Debug)]
pub struct Options {
    /// Distinguishes labs on one machine: letters and digits, up to 12.
    pub name: String,
    /// What relays on r1.
    pub relay: Relay,
    /// What relays on r2, which is only there where this is.
    pub second: Option<Relay>,
    /// What the servers lend for.
    pub lifetimes: Lifetimes,
}

impl Options {
    /// A lab with long leases.
    pub fn new(name: &str, relay: Relay) -> Self {
        Self {
            name: name.into(),
            relay,
            second: None,
            lifetimes: Lifetimes::default(),
        }
    }
}

/// A running lab; it ends when this is dropped, or its process dies, unless it was kept.
pub struct Lab {
    name: String,
    dir: PathBuf,
    /// Ends the lab when its standard input closes without a word, however this process ended.
    reaper: Option<(Child, ChildStdin)>,
    kept: bool,
    started: Vec<Child>,
}

impl Lab {
    /// Builds the namespaces and starts the servers and the relay; no client runs yet.
    pub fn up(options: &Options) -> Result<Self> {
        let mut lab = Self::create(&options.name)?;
        topology::build(&mut lab, options.second.is_some())?;
        kea::start(&mut lab, "s1", options.lifetimes)?;
        kea::start(&mut lab, "s2", options.lifetimes)?;
        relay::start(&mut lab, "r1", &options.relay)?;
        if let Some(second) = &options.second {
            relay::start(&mut lab, "r2", second)?;
        }
        kea::wait(&lab, "s1", 0)?;
        kea::wait(&lab, "s2", 0)?;
        Ok(lab)
    }

    /// The lab of that name that `up` left running.
    pub fn open(name: &str) -> Result<Self> {
        let mut lab = Self::of_name(name)?;
        lab.kept = true;
        if lab.dir.join("pids").exists() {
            Ok(lab)
        } else {
            Err(format!(
                "no lab named {name} is up: cargo xtask lab up --name {name}"
            ))
        }
    }

    /// The lab of that name, in whatever state it is: to be ended.
    fn of_name(name: &str) -> Result<Self> {
        Ok(Self {
            name: checked(name)?,
            dir: folder(name),
            reaper: None,
            kept: false,
            started: Vec::new(),
        })
    }

    fn create(name: &str) -> Result<Self> {
        let name = checked(name)?;
        let dir = folder(&name);
        std::fs::create_dir(&dir).map_err(|error| {
            format!("cannot create {}: {error}; a lab of that name may be up: cargo xtask lab down --name {name}", dir.display())
        })?;
        std::fs::write(dir.join("pids"), "")
            .map_err(|error| format!("{}: {error}", dir.display()))?;
        let script = format!("read -r word && exit 0\n{TEARDOWN}");
        let mut reaper = Command::new("sh")
            .args(["-c", &script, "teardown"])
            .arg(&dir)
            .arg(prefix(&name))
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .process_group(0)
            .spawn()
            .map_err(|error| format!("cannot start sh: {error}"))?;
        let pipe = reaper
            .stdin
            .take()
            .expect("standard input was asked to be a pipe");
        Ok(Self {
            name,
            dir,
            reaper: Some((reaper, pipe)),
            kept: false,
            started: Vec::new(),
        })
    }

    /// The folder of everything that belongs to this lab.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// The network namespace of a node.
    pub fn namespace(&self, node: &str) -> String {
        format!("{}-{node}", prefix(&self.name))
    }

    /// Leaves the lab running when this process ends.
    pub fn keep(mut self) {
        self.kept = true;
        if let Some((mut reaper, mut pipe)) = self.reaper.take() {
            // A reaper that is gone has nothing to be told.
            let _ = pipe.write_all(b"keep\n");
            drop(pipe);
            let _ = reaper.wait();
        }
    }

    /// Ends the lab and everything in it.
    pub fn down(mut self) {
        self.kept = false;
    }
}

impl Drop for Lab {
    fn drop(&mut self) {
        if self.kept {
            return;
        }
        if std::thread::panicking() {
            eprint!("{}", self.last_words());
        }
        match self.reaper.take() {
            Some((mut reaper, pipe)) => {
                drop(pipe);
                let _ = reaper.wait();
            }
            None => {
                let _ = run(Command::new("sh")
                    .args(["-c", TEARDOWN, "teardown"])
                    .arg(&self.dir)
                    .arg(prefix(&self.name)));
            }
        }
        for child in &mut self.started {
            let _ = child.wait();
        }
    }
}

/// Asks again every 20 ms until `question` answers, or says what never happened.
pub fn wait_for<T>(
    what: &str,
    limit: Duration,
    mut question: impl FnMut() -> Option<T>,
) -> Result<T> {
    let begin = Instant::now();
    loop {
        if let Some(answer) = question() {
            return Ok(answer);
        }
        if begin.elapsed() > limit {
            return Err(format!("{what}: not within {} s", limit.as_secs()));
        }
        std::thread::sleep(Duration::from_millis(20));
    }
}

fn checked(name: &str) -> Result<String> {
    let good =
        (1..=12).contains(&name.len()) && name.bytes().all(|byte| byte.is_ascii_alphanumeric());
    if good {
        Ok(name.into())
    } else {
        Err(format!(
            "{name:?} is no name for a lab: use 1 to 12 letters and digits"
        ))
    }
}

fn prefix(name: &str) -> String {
    format!("twinrelay-{name}")
}

fn folder(name: &str) -> PathBuf {
    std::env::temp_dir().join(prefix(name))
}
