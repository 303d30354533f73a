//! The pair: two routers that share the gateway by VRRP, with Kea in hot standby behind them. Decides what a router
//! consists of and how it is started; what happens to it is `power.rs`. Its files are those in `examples/`.

use super::command::{Result, run};
use super::relay::{self, Relay};
use super::{Client, Lab, Lifetimes, kea, missing, topology, wait_for};
use std::path::{Path, PathBuf};
use std::time::Duration;

/// The two routers.
pub const ROUTERS: [&str; 2] = ["r1", "r2"];
/// What the pair needs beside [`super::PROGRAMS`].
pub const PROGRAMS: [&str; 1] = ["keepalived"];
/// The subscribers' default router.
pub const ACCESS_GATEWAY: &str = "fe80::1";
/// Where the core routes the subscribers' networks to.
pub const CORE_GATEWAY: &str = "fe80::c:1";
/// A node's own folder in its own /var/lib: outlives a restart, is no part of a relay's state.
const TLS_DIR: &str = "/var/lib/twinrelay-tls";

/// What relays on both routers.
#[derive(Clone, Debug)]
pub struct Twins {
    /// twinrelay, or dhcrelay to compare it with.
    pub relay: Pair,
    /// What the servers lend for.
    pub lifetimes: Lifetimes,
}

/// The relays of a pair.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Pair {
    /// twinrelay with examples/r1.toml and r2.toml.
    Twinrelay {
        /// `[dataplane] forwarding`.
        forwarding: String,
        /// More lines of configuration for both: (`[section]`, lines).
        more: Vec<(String, String)>,
    },
    /// ISC dhcrelay: keeps no bindings, tells nobody anything, installs no routes.
    Dhcrelay,
}

impl Pair {
    /// twinrelay as the examples have it.
    pub fn twinrelay() -> Self {
        Self::Twinrelay {
            forwarding: "kernel".into(),
            more: Vec::new(),
        }
    }
}

impl Default for Twins {
    fn default() -> Self {
        Self {
            relay: Pair::twinrelay(),
            lifetimes: Lifetimes::default(),
        }
    }
}

impl Lab {
    /// Builds the pair and starts servers, relays and VRRP; no client runs yet. Ready when r1 has the gateway.
    pub fn up_twins(name: &str, twins: &Twins) -> Result<Self> {
        let lacking = missing(&[&super::PROGRAMS[..], &PROGRAMS[..]].concat());
        if !lacking.is_empty() {
            return Err(format!(
                "missing programs: {}; run: cargo xtask setup",
                lacking.join(", ")
            ));
        }
        let mut lab = Self::create(name)?;
        topology::build(&mut lab, true)?;
        lab.use_gateways()?;
        for server in ["s1", "s2"] {
            kea::start_hot_standby(&mut lab, server, twins.lifetimes)?;
        }
        lab.configure_relays(twins)?;
        for router in ROUTERS {
            lab.write_keepalived(router, twins)?;
            lab.start_router(router)?;
        }
        for server in ["s1", "s2"] {
            kea::wait_hot_standby(&lab, server, 0)?;
        }
        wait_for("the gateway on r1", Duration::from_secs(30), || {
            (lab.owner() == Some("r1") && lab.is_settled()).then_some(())
        })
        .map_err(|error| format!("{error}\n{}", lab.last_words()))?;
        Ok(lab)
    }

    /// Starts the three clients and waits until each has its lease: node, address, and the prefix's first address.
    pub fn start_homes(&mut self) -> Result<Vec<Home>> {
        for client in Client::ALL {
            self.start_client(client)?;
        }
        let home = |client: Client| {
            let (address, lan) = self.lease(client)?;
            Ok(Home {
                client,
                address,
                lan,
            })
        };
        Client::ALL.into_iter().map(home).collect()
    }

    /// The router that has the subscribers' gateway; none while none or both have.
    pub fn owner(&self) -> Option<&'static str> {
        let mut owners = ROUTERS
            .into_iter()
            .filter(|router| self.holds_gateway(router));
        owners.next().filter(|_| owners.next().is_none())
    }

    /// Whether this lab was built by [`Lab::up_twins`].
    pub fn is_pair(&self) -> bool {
        self.keepalived_file("r1").exists()
    }

    /// Whether a router has the gateway's address of either side.
    pub(super) fn holds_gateway(&self, router: &str) -> bool {
        let pid = std::fs::read_to_string(self.dir().join(router).join("pid")).unwrap_or_default();
        let addresses = std::fs::read_to_string(format!("/proc/{pid}/net/if_inet6"));
        addresses.is_ok_and(|text| has_gateway(&text))
    }

    /// Waits until this router has the gateway alone.
    pub fn expect_owner(&self, router: &str, limit: Duration) -> Result<Duration> {
        let begin = std::time::Instant::now();
        wait_for(&format!("the gateway on {router}"), limit, || {
            (self.owner() == Some(router)).then_some(())
        })
        .map_err(|error| format!("{error}\n{}", self.last_words()))?;
        Ok(begin.elapsed())
    }

    /// Whether both relays say that they are in sync; dhcrelay has no such notion.
    fn is_settled(&self) -> bool {
        let pair = ROUTERS.into_iter().all(|router| self.is_ready(router));
        pair || self.pid("r1.dhcrelay").is_some()
    }

    /// What `run_dir/ready` of a router says to keepalived.
    pub fn is_ready(&self, router: &str) -> bool {
        let pid = std::fs::read_to_string(self.dir().join(router).join("pid")).unwrap_or_default();
        // As the node sees it, without a program that runs there.
        let file = Path::new("/proc")
            .join(pid)
            .join("root/run/twinrelay/ready");
        std::fs::read_to_string(file).is_ok_and(|text| text.trim() == "1")
    }

    /// Starts what runs on a router, as its boot would: nothing waits for anything.
    pub(super) fn start_router(&mut self, router: &str) -> Result<()> {
        if self.configuration_file(router).exists() {
            self.spawn_twinrelay(router)?;
        } else {
            relay::start(self, router, &Relay::Dhcrelay)?;
        }
        self.start_keepalived(router)
    }

    /// Starts keepalived on a router.
    pub fn start_keepalived(&mut self, router: &str) -> Result<()> {
        let file = self.keepalived_file(router).display().to_string();
        self.exec(router, &["mkdir", "-p", "/run/keepalived"])?;
        let words = ["keepalived", "-n", "-l", "-D", "-P", "-f", &file];
        let pids = ["-p", "/run/keepalived/pid", "-r", "/run/keepalived/vrrp"];
        self.spawn(router, &[&words[..], &pids[..]].concat())
            .map(drop)
    }

    fn keepalived_file(&self, router: &str) -> PathBuf {
        self.dir().join(router).join("keepalived.conf")
    }

    /// The example, with the program where it is here; without readiness for a relay that has none.
    fn write_keepalived(&self, router: &str, twins: &Twins) -> Result<()> {
        let example = match router {
            "r1" => include_str!("../../../examples/keepalived-r1.conf"),
            _ => include_str!("../../../examples/keepalived-r2.conf"),
        };
        let text = match twins.relay {
            Pair::Twinrelay { .. } => {
                let binary = self.binary(router)?;
                example.replace("/usr/bin/twinrelay", &binary)
            }
            Pair::Dhcrelay => without_readiness(example),
        };
        let file = self.keepalived_file(router);
        std::fs::write(&file, text).map_err(|error| format!("{}: {error}", file.display()))?;
        // It refuses a configuration that others may write.
        run(std::process::Command::new("chmod").arg("600").arg(file)).map(drop)
    }

    /// Homes and core send to the virtual addresses, not to a router.
    fn use_gateways(&self) -> Result<()> {
        for client in Client::ALL {
            let via = format!("ip -6 route replace default via {ACCESS_GATEWAY} dev eth0");
            self.exec_words(client.node(), &via)?;
        }
        for network in ["2001:db8:a:1::/64", "2001:db8:d000::/36"] {
            let via = format!("ip -6 route replace {network} via {CORE_GATEWAY} dev core0");
            self.exec_words("cr", &via)?;
        }
        for server in ["s1", "s2"] {
            let via = format!("ip -6 route replace default via {CORE_GATEWAY} dev eth0");
            self.exec_words(server, &via)?;
        }
        Ok(())
    }

    /// A command of words with a blank between.
    pub(super) fn exec_words(&self, node: &str, words: &str) -> Result<String> {
        self.exec(node, &words.split(' ').collect::<Vec<_>>())
    }

    /// Certificates by `tls init` and the examples' configurations.
    fn configure_relays(&mut self, twins: &Twins) -> Result<()> {
        let Pair::Twinrelay { forwarding, more } = &twins.relay else {
            return Ok(());
        };
        let binary = relay::binary().ok_or("twinrelay is not built yet: cargo xtask build")?;
        let binary = binary.display().to_string();
        let init = [
            &binary, "tls", "init", "--name", "r1", "--peer", "r2", TLS_DIR,
        ];
        self.exec("r1", &init)?;
        let inside = |node: &str| self.dir().join(node).join("lib/twinrelay-tls");
        let failed = |error: std::io::Error| format!("certificates of the pair: {error}");
        std::fs::create_dir_all(inside("r2")).map_err(failed)?;
        for file in ["ca.pem", "r2.pem", "r2.key"] {
            std::fs::copy(inside("r1").join(file), inside("r2").join(file)).map_err(failed)?;
        }
        std::fs::remove_file(inside("r1").join("r2.key")).map_err(failed)?;
        for router in ROUTERS {
            let example = match router {
                "r1" => include_str!("../../../examples/r1.toml"),
                _ => include_str!("../../../examples/r2.toml"),
            };
            let mut text = example.replace("/etc/twinrelay/tls", TLS_DIR);
            if forwarding != "kernel" {
                text += &format!("\n[dataplane]\nforwarding = \"{forwarding}\"\n");
            }
            for (section, lines) in more {
                text = match text.contains(section.as_str()) {
                    true => text.replacen(section.as_str(), &format!("{section}\n{lines}"), 1),
                    false => format!("{text}\n{section}\n{lines}\n"),
                };
            }
            let file = self.configuration_file(router);
            std::fs::write(&file, text).map_err(|error| format!("{}: {error}", file.display()))?;
            std::fs::write(self.binary_file(router), &binary).map_err(|error| error.to_string())?;
        }
        Ok(())
    }
}

/// A home and what it was leased.
#[derive(Clone, Debug)]
pub struct Home {
    /// Its client.
    pub client: Client,
    /// The address of its uplink.
    pub address: String,
    /// The first address of its delegated prefix.
    pub lan: String,
}

impl Home {
    /// The delegated prefix.
    pub fn prefix(&self) -> String {
        format!("{}/56", self.lan.strip_suffix('1').unwrap_or(&self.lan))
    }
}

/// Whether the addresses of /proc/net/if_inet6 have that of a gateway.
pub(super) fn has_gateway(if_inet6: &str) -> bool {
    if_inet6
        .lines()
        .any(|line| line.starts_with("fe800000000000000000000000000001 "))
}

/// The blocks that ask for the readiness of a relay taken out: what a pair without it has to make do with.
fn without_readiness(example: &str) -> String {
    let of_readiness = [
        "track_file in_sync {",
        "vrrp_script answers {",
        "track_file {",
        "track_script {",
    ];
    let mut text = String::new();
    let mut inside = false;
    for line in example.lines() {
        let code = line.trim();
        inside |= of_readiness.contains(&code);
        if !inside && code != "sync_group_tracking_weight" {
            text += line;
            text.push('\n');
        }
        inside &= code != "}";
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keepalived_without_readiness_keeps_both_instances_and_nothing_of_a_relay() {
        let text = without_readiness(include_str!("../../../examples/keepalived-r1.conf"));

        let code: String = text.lines().filter(|it| !it.starts_with('#')).collect();
        assert!(
            !code.contains("twinrelay") && !code.contains("weight"),
            "{text}"
        );
        assert_eq!(text.matches("vrrp_instance ").count(), 2);
        assert_eq!(text.matches('{').count(), text.matches('}').count());
    }

    #[test]
    fn gateway_is_seen_among_the_addresses_of_a_node() {
        let other = "fe80000000000000000000fffe000002 02 40 20 80 acc0\n";

        assert!(!has_gateway(other));
        assert!(has_gateway(&format!(
            "{other}fe800000000000000000000000000001 02 40 20 80 acc0\n"
        )));
    }
}
