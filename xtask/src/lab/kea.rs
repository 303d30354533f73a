//! The two Kea 2.2 servers. Behind one router: independent, with equal pools; s1 is preferred (preference 255), so s2
//! lends only once s1 is dead, and then what the client already holds: deterministic, and rebinding keeps the lease.
//! Behind a pair: in hot standby, s2 with the leases of s1.

use super::command::Result;
use super::{Lab, Lifetimes, wait_for};
use std::path::PathBuf;
use std::time::Duration;

impl Lab {
    /// Starts the server of s1 or s2, after its end too: it knows its leases again.
    pub fn start_server(&mut self, node: &str, lifetimes: Lifetimes) -> Result<()> {
        let log = self.log(&format!("{node}.kea-dhcp6")).len();
        start(self, node, lifetimes)?;
        wait(self, node, log)
    }
}

pub(super) fn start(lab: &mut Lab, node: &str, lifetimes: Lifetimes) -> Result<()> {
    let preference = if node == "s1" { 255 } else { 0 };
    launch(lab, node, lifetimes, preference, "")
}

/// One of a pair in hot standby; the other takes over when this one has not answered it for some seconds.
pub(super) fn start_hot_standby(lab: &mut Lab, node: &str, lifetimes: Lifetimes) -> Result<()> {
    let hooks =
        hooks().ok_or("Kea's libdhcp_ha.so is nowhere below /usr/lib: cargo xtask setup")?;
    let hooks = hooks.display();
    let peer = |name: &str, role: &str| {
        format!(
            r#"{{"name": "{name}", "url": "http://[{}]:8001/", "role": "{role}", "auto-failover": true}}"#,
            address(name)
        )
    };
    let (primary, standby) = (peer("s1", "primary"), peer("s2", "standby"));
    let more = format!(
        r#"
  "multi-threading": {{"enable-multi-threading": true, "thread-pool-size": 2}},
  "hooks-libraries": [
    {{"library": "{hooks}/libdhcp_lease_cmds.so"}},
    {{"library": "{hooks}/libdhcp_ha.so", "parameters": {{"high-availability": [{{
      "this-server-name": "{node}", "mode": "hot-standby",
      "heartbeat-delay": 500, "max-response-delay": 2000, "max-ack-delay": 1000, "max-unacked-clients": 0,
      "multi-threading": {{"enable-multi-threading": true, "http-dedicated-listener": true}},
      "peers": [{primary}, {standby}]
    }}]}}}}
  ],"#
    );
    launch(lab, node, lifetimes, 255, &more)
}

/// Where Kea's hooks are.
fn hooks() -> Option<PathBuf> {
    let folders = std::fs::read_dir("/usr/lib").ok()?;
    folders
        .flatten()
        .map(|folder| folder.path().join("kea/hooks"))
        .find(|hooks| hooks.join("libdhcp_ha.so").exists())
}

fn address(node: &str) -> &'static str {
    match node {
        "s1" => "2001:db8:c::11",
        _ => "2001:db8:c::12",
    }
}

fn launch(
    lab: &mut Lab,
    node: &str,
    lifetimes: Lifetimes,
    preference: u8,
    more: &str,
) -> Result<()> {
    let dir = lab.dir().join(node);
    let folder = dir.display();
    let address = address(node);
    let Lifetimes {
        renew,
        rebind,
        preferred,
        valid,
    } = lifetimes;
    let text = format!(
        r#"{{"Dhcp6": {{{more}
  "interfaces-config": {{"interfaces": ["eth0", "eth0/{address}"]}},
  "data-directory": "{folder}",
  "control-socket": {{"socket-type": "unix", "socket-name": "{folder}/kea.sock"}},
  "lease-database": {{"type": "memfile", "name": "{folder}/leases.csv", "lfc-interval": 0}},
  "renew-timer": {renew}, "rebind-timer": {rebind}, "preferred-lifetime": {preferred}, "valid-lifetime": {valid},
  "expired-leases-processing": {{"reclaim-timer-wait-time": 1, "flush-reclaimed-timer-wait-time": 1, "hold-reclaimed-time": 0}},
  "option-data": [{{"name": "preference", "data": "{preference}"}}],
  "subnet6": [{{
    "id": 1, "subnet": "2001:db8:a:1::/64", "rapid-commit": true, "interface": "eth0",
    "pools": [{{"pool": "2001:db8:a:1:8000::/65"}}],
    "pd-pools": [{{"prefix": "2001:db8:d000::", "prefix-len": 36, "delegated-len": 56}}]
  }}],
  "loggers": [{{"name": "kea-dhcp6", "severity": "INFO", "output_options": [{{"output": "stdout", "flush": true}}]}}]
}}}}
"#
    )
    .replace(", \"interface\": \"eth0\",", ",");
    std::fs::write(dir.join("kea.json"), text).map_err(|error| error.to_string())?;
    let config = dir.join("kea.json").display().to_string();
    let (pids, locks) = (format!("KEA_PIDFILE_DIR={folder}"), "KEA_LOCKFILE_DIR=none");
    let mut command = lab.command(node, "env")?;
    command.args([&pids, locks, "kea-dhcp6", "-c", &config]);
    lab.launch(&format!("{node}.kea-dhcp6"), &mut command)
        .map(drop)
}

/// Waits until a server of the pair serves in hot standby, from octet `after` of its log on.
pub(super) fn wait_hot_standby(lab: &Lab, node: &str, after: usize) -> Result<()> {
    let label = format!("{node}.kea-dhcp6");
    let serves = || {
        let log = lab.log(&label);
        log.get(after..)?.contains("to HOT-STANDBY").then_some(())
    };
    wait_for(
        &format!("hot standby of Kea on {node}"),
        Duration::from_secs(30),
        serves,
    )
    .map_err(|error| format!("{error}\n{}", lab.log(&label)))
}

/// Waits until the server says that it serves, from octet `after` of its log on.
pub(super) fn wait(lab: &Lab, node: &str, after: usize) -> Result<()> {
    let label = format!("{node}.kea-dhcp6");
    let serves = || {
        let log = lab.log(&label);
        log.get(after..)?.contains("DHCP6_STARTED").then_some(())
    };
    wait_for(
        &format!("start of Kea on {node}"),
        Duration::from_secs(10),
        serves,
    )
    .map_err(|error| format!("{error}\n{}", lab.log(&label)))
}
