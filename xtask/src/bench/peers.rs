//! The relays that are compared: how each is started on the relay's CPU, and stopped. Measures nothing.

use super::network::{LINK_ADDRESS, Network, RELAY_CPU, SERVER, path, run};
use crate::run::Result;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

/// A program that relays DHCPv6.
#[derive(Clone, Debug)]
pub enum Peer {
    /// Ours; the binary, and whether its rate limits hold.
    Twinrelay(PathBuf, Limits),
    /// Our ring and sockets without a relay behind them; the binary.
    Reflector(PathBuf),
    /// The same program as it only receives; the binary.
    Floor(PathBuf),
    /// ISC dhcrelay.
    Dhcrelay,
    /// dnsmasq as a relay.
    Dnsmasq,
}

/// The rate limits of twinrelay's kernel program.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Limits {
    /// As nobody configures them: the bench of relaying offers more than they allow.
    Off,
    /// As they are without a word in the configuration.
    Default,
}

/// Long enough for every relay here to be ready or to have failed.
const START: Duration = Duration::from_millis(1200);
/// After this a relay that does not end on SIGTERM is killed.
const STOP: Duration = Duration::from_secs(5);

/// A running relay; stopped when dropped.
pub struct Running {
    child: Child,
    /// How many kernel threads do its XDP programs' work; 0 without native XDP.
    pub napi_threads: usize,
}

impl Peer {
    /// Whether it sends what it receives.
    pub fn relays(&self) -> bool {
        !matches!(self, Self::Floor(_))
    }

    /// What it is called.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Twinrelay(..) => "twinrelay",
            Self::Reflector(_) => "reflector",
            Self::Floor(_) => "floor",
            Self::Dhcrelay => "dhcrelay",
            Self::Dnsmasq => "dnsmasq",
        }
    }

    /// Starts it in the relay's namespace, on the relay's CPU.
    pub fn start(&self, network: &Network) -> Result<Running> {
        let (access, core) = (network.access(), network.core());
        let words: Vec<String> = match self {
            Self::Twinrelay(binary, limits) => {
                let file = network.dir.join("twinrelay.toml");
                std::fs::write(&file, configuration(network, *limits))
                    .map_err(|error| format!("{}: {error}", file.display()))?;
                vec![text(binary), "run".into(), "-c".into(), text(&file)]
            }
            Self::Reflector(binary) => {
                vec![text(binary), access, LINK_ADDRESS.into(), SERVER.into()]
            }
            Self::Floor(binary) => vec![
                text(binary),
                access,
                LINK_ADDRESS.into(),
                SERVER.into(),
                "floor".into(),
            ],
            Self::Dhcrelay => [
                "dhcrelay",
                "-6",
                "-d",
                "--no-pid",
                "-l",
                &access,
                "-u",
                &format!("{SERVER}%{core}"),
            ]
            .map(String::from)
            .to_vec(),
            Self::Dnsmasq => vec![
                "dnsmasq".into(),
                "--keep-in-foreground".into(),
                "--conf-file=/dev/null".into(),
                "--port=0".into(),
                "--user=root".into(),
                "--pid-file=".into(),
                "--quiet-dhcp6".into(),
                "--log-facility=/dev/null".into(),
                format!("--dhcp-relay={LINK_ADDRESS},{SERVER},{core}"),
            ],
        };
        let log = network.dir.join(format!("{}.log", self.name()));
        let file = File::create(&log).map_err(|error| format!("{}: {error}", log.display()))?;
        let errors = file.try_clone().map_err(|error| error.to_string())?;
        // `ip netns exec` lays a fresh /sys over the old one: a bpffs for the relay's pins belongs on it.
        let child = Command::new("ip")
            .args(["netns", "exec", &network.namespace("relay"), "sh", "-ec"])
            .arg("mount -t bpf bpf /sys/fs/bpf; exec taskset -c \"$@\"")
            .args(["sh", &RELAY_CPU.to_string()])
            .args(words)
            .env("PATH", path())
            .stdin(Stdio::null())
            .stdout(file)
            .stderr(errors)
            .spawn()
            .map_err(|error| format!("cannot start {}: {error}", self.name()))?;
        let mut running = Running {
            child,
            napi_threads: 0,
        };
        sleep(START);
        if let Ok(Some(status)) = running.child.try_wait() {
            let said = std::fs::read_to_string(&log).unwrap_or_default();
            return Err(format!("{} ended with {status}:\n{said}", self.name()));
        }
        running.napi_threads = network.steer_napi()?;
        Ok(running)
    }
}

impl Running {
    /// Its process.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        drop(run("kill", &["-TERM", &self.pid().to_string()]));
        let deadline = Instant::now() + STOP;
        while Instant::now() < deadline {
            if !matches!(self.child.try_wait(), Ok(None)) {
                return;
            }
            sleep(Duration::from_millis(20));
        }
        // It did not end by itself; an error here means that it has ended meanwhile.
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

/// Everything as on a router.
fn configuration(network: &Network, limits: Limits) -> String {
    let dir = network.dir.display();
    let limits = match limits {
        Limits::Off => "rate_limit = { per_client = 0, per_interface = 0 }",
        Limits::Default => "",
    };
    format!(
        "[relay]
state_dir = \"{dir}/state\"
run_dir = \"{dir}/run\"

[[server]]
address = \"{SERVER}\"

[[access]]
interface = \"{}\"
{limits}

[[core]]
interface = \"{}\"

[dataplane]
on_exit = \"detach\"
",
        network.access(),
        network.core()
    )
}

fn text(path: &Path) -> String {
    path.to_string_lossy().into_owned()
}
