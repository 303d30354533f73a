//! The two Kea 2.2 servers: independent, with equal pools. s1 is preferred (preference 255), so s2 lends only
//! once s1 is dead, and then what the client already holds: deterministic, and rebinding keeps the lease.

use super::command::Result;
use super::{Lab, Lifetimes, wait_for};
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
    let dir = lab.dir().join(node);
    let folder = dir.display();
    let (address, preference) = match node {
        "s1" => ("2001:db8:c::11", 255),
        _ => ("2001:db8:c::12", 0),
    };
    let Lifetimes {
        renew,
        rebind,
        preferred,
        valid,
    } = lifetimes;
    let text = format!(
        r#"{{"Dhcp6": {{
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
