//! What relays on r1: twinrelay with examples/twinrelay.toml, or a peer to compare it with.

use super::command::Result;
use super::{Lab, wait_for};
use std::path::PathBuf;
use std::time::Duration;

/// The configuration that the lab, the demo and a first reader use.
pub const CONFIGURATION: &str = include_str!("../../../examples/twinrelay.toml");

/// The relay on r1.
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
fn binary() -> Option<PathBuf> {
    if let Some(path) = std::env::var_os("TWINRELAY_BINARY") {
        return Some(path.into());
    }
    let root = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("..");
    let target =
        std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| root.join("target"), PathBuf::from);
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

pub(super) fn start(lab: &mut Lab, relay: &Relay) -> Result<()> {
    match relay {
        Relay::None => Ok(()),
        Relay::Dhcrelay => lab
            .spawn(
                "r1",
                &[
                    "dhcrelay",
                    "-6",
                    "-d",
                    "-I",
                    "-l",
                    "2001:db8:a:1::2%acc0",
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
            let file = lab.dir().join("r1/twinrelay.toml").display().to_string();
            std::fs::write(&file, configuration).map_err(|error| format!("{file}: {error}"))?;
            lab.start_twinrelay(&binary.display().to_string(), &file)
        }
    }
}

impl Lab {
    /// Starts twinrelay on r1 and waits for its control socket.
    pub fn start_twinrelay(&mut self, binary: &str, file: &str) -> Result<()> {
        std::fs::write(self.dir().join("r1/binary"), binary).map_err(|error| error.to_string())?;
        self.spawn("r1", &[binary, "run", "-c", file])?;
        let answer = wait_for("answer of twinrelay", Duration::from_secs(10), || {
            self.twinrelay(&["show", "version"]).is_ok().then_some(())
        });
        answer.map_err(|error| format!("{error}\n{}", self.log("r1.twinrelay")))
    }

    /// Runs a verb of the command line against the relay of r1.
    pub fn twinrelay(&self, words: &[&str]) -> Result<String> {
        let binary = std::fs::read_to_string(self.dir().join("r1/binary"))
            .map_err(|_| "r1 runs no twinrelay")?;
        let file = self.dir().join("r1/twinrelay.toml").display().to_string();
        let mut all = vec![binary.as_str()];
        all.extend_from_slice(words);
        all.extend_from_slice(&["-c", &file]);
        self.exec("r1", &all)
    }
}
