//! What relays on a router: twinrelay with examples/twinrelay.toml, or a peer to compare it with.

use super::command::Result;
use super::{Lab, topology, wait_for};
use std::path::PathBuf;
use std::time::Duration;

/// The configuration that the lab, the demo and a first reader use.
pub const CONFIGURATION: &str = include_str!("../../../examples/twinrelay.toml");

/// The relay of a router.
#[derive(Clone, Debug)]
pub enum Relay {
    /// `twinrelay run`: the binary, and its whole configuration.
    Twinrelay {
        /// The file to run.
        binary: PathBuf,
        /// The text of its configuration.
        configuration: String,
    },
    /// ISC dhcrelay, which installs no routes.
    Dhcrelay,
    /// Nothing: the caller starts its own.
    None,
}

impl Relay {
    /// The relay of that name; twinrelay from the newest build.
    pub fn parse(name: &str) -> Result<Self> {
        match name {
            "twinrelay" => Self::twinrelay(CONFIGURATION),
            "dhcrelay" => Ok(Self::Dhcrelay),
            "none" => Ok(Self::None),
            _ => Err(format!(
                "{name:?} is no relay: use twinrelay, dhcrelay or none"
            )),
        }
    }

    /// twinrelay from `TWINRELAY_BINARY` or the newest build, with this configuration.
    pub fn twinrelay(configuration: &str) -> Result<Self> {
        let binary = binary().ok_or("twinrelay is not built yet: cargo xtask build")?;
        Ok(Self::Twinrelay {
            binary,
            configuration: configuration.into(),
        })
    }
}

/// The newest twinrelay of this workspace.
pub(super) fn binary() -> Option<PathBuf> {
    if let Some(path) = std::env::var_os("TWINRELAY_BINARY") {
        return Some(path.into());
    }
    let target = target();
    let built = |profile: &str| {
        let path = target.join(profile).join("twinrelay");
        let time = path.metadata().and_then(|data| data.modified()).ok()?;
        Some((time, path))
    };
    ["debug", "release"]
        .into_iter()
        .filter_map(built)
        .max()
        .and_then(|(_, path)| path.canonicalize().ok())
}

/// Where cargo builds.
pub(super) fn target() -> PathBuf {
    let ours = || crate::run::root().join("target");
    std::env::var_os("CARGO_TARGET_DIR").map_or_else(ours, PathBuf::from)
}

pub(super) fn start(lab: &mut Lab, node: &str, relay: &Relay) -> Result<()> {
    match relay {
        Relay::None => Ok(()),
        Relay::Dhcrelay => lab
            .spawn(
                node,
                &[
                    "dhcrelay",
                    "-6",
                    "-d",
                    "-I",
                    "-l",
                    &format!("{}%acc0", topology::access_address(node)),
                    "-u",
                    "2001:db8:c::11%core0",
                    "-u",
                    "2001:db8:c::12%core0",
                ],
            )
            .map(drop),
        Relay::Twinrelay {
            binary,
            configuration,
        } => {
            let file = lab.configuration_file(node);
            std::fs::write(&file, configuration)
                .map_err(|error| format!("{}: {error}", file.display()))?;
            std::fs::write(lab.binary_file(node), binary.display().to_string())
                .map_err(|error| error.to_string())?;
            lab.start_twinrelay_on(node)
        }
    }
}

impl Lab {
    /// Starts the relay of a router that has none yet.
    pub fn start_relay(&mut self, node: &str, relay: &Relay) -> Result<()> {
        start(self, node, relay)
    }

    /// Starts twinrelay on r1 and waits for its control socket.
    pub fn start_twinrelay(&mut self, binary: &str, file: &str) -> Result<()> {
        std::fs::write(self.binary_file("r1"), binary).map_err(|error| error.to_string())?;
        self.launch_twinrelay("r1", binary, file)
    }

    /// Starts the twinrelay of a router again, with its configuration as it now is.
    pub fn start_twinrelay_on(&mut self, node: &str) -> Result<()> {
        let binary = self.binary(node)?;
        let file = self.configuration_file(node).display().to_string();
        self.launch_twinrelay(node, &binary, &file)
    }

    fn launch_twinrelay(&mut self, node: &str, binary: &str, file: &str) -> Result<()> {
        self.spawn(node, &[binary, "run", "-c", file])?;
        let answer = wait_for("answer of twinrelay", Duration::from_secs(10), || {
            let answer = self.twinrelay_on(node, &["show", "version"]);
            answer.is_ok().then_some(())
        });
        answer.map_err(|error| format!("{error}\n{}", self.log(&format!("{node}.twinrelay"))))
    }

    /// Runs a verb of the command line against the relay of r1.
    pub fn twinrelay(&self, words: &[&str]) -> Result<String> {
        self.twinrelay_on("r1", words)
    }

    /// Runs a verb of the command line against the relay of a router.
    pub fn twinrelay_on(&self, node: &str, words: &[&str]) -> Result<String> {
        let (binary, file) = (self.binary(node)?, self.configuration_file(node));
        let file = file.display().to_string();
        let mut all = vec![binary.as_str()];
        all.extend_from_slice(words);
        all.extend_from_slice(&["-c", &file]);
        self.exec(node, &all)
    }

    /// The configuration that the twinrelay of a router was started with.
    pub fn configuration_file(&self, node: &str) -> PathBuf {
        self.dir().join(node).join("twinrelay.toml")
    }

    pub(super) fn binary_file(&self, node: &str) -> PathBuf {
        self.dir().join(node).join("binary")
    }

    pub(super) fn binary(&self, node: &str) -> Result<String> {
        std::fs::read_to_string(self.binary_file(node))
            .map_err(|_| format!("{node} runs no twinrelay"))
    }
}
