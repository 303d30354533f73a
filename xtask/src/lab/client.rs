//! The three real clients, one home each. Decides how each is started, released and told its script; what a
//! client got is read from the home's interfaces, not from the client's words.

use super::command::Result;
use super::{Lab, wait_for};
use std::time::Duration;

/// A home, by the client that it runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Client {
    /// cpe1: ISC dhclient.
    Dhclient,
    /// cpe2: dhcpcd.
    Dhcpcd,
    /// cpe3: wide-dhcp6c.
    WideDhcp6c,
}

/// Called by dhclient: puts what was leased on the interfaces. `lan` is the prefix's first address. Where the
/// interface looks for duplicates (accept_dad) and finds one, 3 makes dhclient decline the address.
const DHCLIENT_SCRIPT: &str = r#"#!/bin/sh
PATH=/usr/sbin:/usr/bin:/sbin:/bin
lan() { echo "${1%/*}1/64"; }
has() { ip -6 addr show dev "$interface" to "$new_ip6_address" "$1" | grep -q .; }
unique() {
    while has tentative && ! has dadfailed; do sleep 0.05; done
    ! has dadfailed || { ip -6 addr del "$new_ip6_address/128" dev "$interface"; return 1; }
}
case $reason in
PREINIT6) ip link set "$interface" up ;;
BOUND6 | RENEW6 | REBIND6)
    if [ -n "$new_ip6_address" ]; then
        ip -6 addr replace "$new_ip6_address/128" dev "$interface"
        unique || exit 3
    fi
    if [ -n "$new_ip6_prefix" ]; then ip -6 addr replace "$(lan "$new_ip6_prefix")" dev lan0 nodad; fi
    if [ -n "$old_ip6_address" ] && [ "$old_ip6_address" != "$new_ip6_address" ] && [ -n "$new_ip6_address" ]; then ip -6 addr del "$old_ip6_address/128" dev "$interface"; fi
    if [ -n "$old_ip6_prefix" ] && [ "$old_ip6_prefix" != "$new_ip6_prefix" ] && [ -n "$new_ip6_prefix" ]; then ip -6 addr del "$(lan "$old_ip6_prefix")" dev lan0; fi ;;
RELEASE6 | EXPIRE6 | STOP6)
    if [ -n "$old_ip6_address" ]; then ip -6 addr del "$old_ip6_address/128" dev "$interface"; fi
    if [ -n "$old_ip6_prefix" ]; then ip -6 addr del "$(lan "$old_ip6_prefix")" dev lan0; fi ;;
esac
exit 0
"#;

impl Client {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Dhclient, Self::Dhcpcd, Self::WideDhcp6c];

    /// The home's node.
    pub fn node(self) -> &'static str {
        match self {
            Self::Dhclient => "cpe1",
            Self::Dhcpcd => "cpe2",
            Self::WideDhcp6c => "cpe3",
        }
    }

    /// The address of its uplink, as the topology gives it.
    pub fn mac(self) -> [u8; 6] {
        let last = match self {
            Self::Dhclient => 0x11,
            Self::Dhcpcd => 0x12,
            Self::WideDhcp6c => 0x13,
        };
        [2, 0, 0, 0, 0, last]
    }

    /// The program's name.
    pub fn program(self) -> &'static str {
        match self {
            Self::Dhclient => "dhclient",
            Self::Dhcpcd => "dhcpcd",
            Self::WideDhcp6c => "dhcp6c",
        }
    }
}

impl Lab {
    /// Starts a home's client; it asks for one address and one prefix.
    pub fn start_client(&mut self, client: Client) -> Result<()> {
        self.start_client_for(client, 1)
    }

    /// Starts a home's client; it asks for one address and this many prefixes, which all go to `lan0`. Only
    /// dhclient does without any.
    pub fn start_client_for(&mut self, client: Client, prefixes: u32) -> Result<()> {
        let node = client.node();
        let dir = self.dir().join(node);
        let path = |file: &str| dir.join(file).display().to_string();
        let write = |file: &str, text: &str| {
            std::fs::write(dir.join(file), text).map_err(|error| format!("{}: {error}", path(file)))
        };
        match client {
            Client::Dhclient => {
                write("dhclient.conf", "")?;
                write("script", DHCLIENT_SCRIPT)?;
                super::command::shell(&format!("chmod 755 '{}'", path("script")))?;
                let words = self.dhclient_words(&vec!["-P"; prefixes as usize]);
                let words: Vec<&str> = words.iter().map(String::as_str).collect();
                self.spawn(node, &words)?;
            }
            Client::Dhcpcd => {
                let each = |at: u32| format!("ia_pd {} lan0/0/64/1\n", at + 1);
                let delegations: String = (1..=prefixes).map(each).collect();
                write(
                    "dhcpcd.conf",
                    &format!(
                        "duid\nnodev\nipv6only\nnoipv6rs\nnohook resolv.conf, ntp, hostname\nallowinterfaces eth0 lan0\ninterface lan0\nnodhcp6\ninterface eth0\nia_na 1\n{delegations}"
                    ),
                )?;
                self.spawn(node, &["dhcpcd", "-B", "-d", "-f", &path("dhcpcd.conf")])?;
            }
            Client::WideDhcp6c => {
                let sent = |at: u32| format!(" send ia-pd {at};");
                let taken = |at: u32| {
                    format!(
                        "id-assoc pd {at} {{ prefix-interface lan0 {{ sla-id 0; sla-len 8; ifid 1; }}; }};\n"
                    )
                };
                let all =
                    |each: &dyn Fn(u32) -> String| (1..=prefixes).map(each).collect::<String>();
                write(
                    "dhcp6c.conf",
                    &format!(
                        "interface eth0 {{ send ia-na 1;{} }};\nid-assoc na 1 {{ }};\n{}",
                        all(&sent),
                        all(&taken)
                    ),
                )?;
                self.spawn(
                    node,
                    &[
                        "dhcp6c",
                        "-f",
                        "-D",
                        "-c",
                        &path("dhcp6c.conf"),
                        "-p",
                        &path("dhcp6c.pid"),
                        "eth0",
                    ],
                )?;
            }
        }
        Ok(())
    }

    /// Gives the home's lease back, in the client's own way, and ends the client.
    pub fn release_client(&mut self, client: Client) -> Result<()> {
        let node = client.node();
        match client {
            Client::Dhclient => {
                let words = self.dhclient_words(&["-P", "-r"]);
                let words: Vec<&str> = words.iter().map(String::as_str).collect();
                self.exec(node, &words).map(drop)
            }
            Client::Dhcpcd => self.signal("cpe2.dhcpcd", "ALRM"),
            Client::WideDhcp6c => self.signal("cpe3.dhcp6c", "TERM"),
        }
    }

    /// Waits until the home has an address and a prefix; returns the address, and the prefix's first address.
    pub fn lease(&self, client: Client) -> Result<(String, String)> {
        let what = format!("address and prefix of {}", client.program());
        wait_for(&what, Duration::from_secs(20), || {
            Some((
                self.global(client.node(), "eth0")?,
                self.global(client.node(), "lan0")?,
            ))
        })
        .map_err(|error| {
            format!(
                "{error}\n{}",
                self.log(&format!("{}.{}", client.node(), client.program()))
            )
        })
    }

    /// Probes from the Internet host, 10 ms apart; returns how many were lost.
    pub fn lost_probes(&self, target: &str, count: u32) -> Result<u32> {
        let (_, text) = self.ask(
            "inet",
            &[
                "ping",
                "-6",
                "-q",
                "-i",
                "0.01",
                "-W",
                "1",
                "-c",
                &count.to_string(),
                target,
            ],
        )?;
        let received = text
            .split(", ")
            .find_map(|part| part.strip_suffix(" received"))
            .and_then(|number| number.parse::<u32>().ok());
        received
            .map(|received| count.saturating_sub(received))
            .ok_or_else(|| format!("ping {target}: {text}"))
    }

    /// The first global address of an interface.
    pub fn global(&self, node: &str, interface: &str) -> Option<String> {
        self.globals(node, interface).into_iter().next()
    }

    /// All global addresses of an interface, none while it is not there.
    pub fn globals(&self, node: &str, interface: &str) -> Vec<String> {
        let text = self
            .exec(
                node,
                &[
                    "ip",
                    "-6",
                    "-o",
                    "addr",
                    "show",
                    "dev",
                    interface,
                    "scope",
                    "global",
                    "-tentative",
                ],
            )
            .unwrap_or_default();
        let address = |line: &str| {
            let mut words = line.split_whitespace().skip_while(|word| *word != "inet6");
            Some(words.nth(1)?.split('/').next()?.to_owned())
        };
        text.lines().filter_map(address).collect()
    }

    fn dhclient_words(&self, more: &[&str]) -> Vec<String> {
        let path = |file: &str| self.dir().join("cpe1").join(file).display().to_string();
        let mut words: Vec<String> = ["dhclient", "-6", "-d", "-N"].map(String::from).into();
        for (option, file) in [
            ("-cf", "dhclient.conf"),
            ("-lf", "dhclient.leases"),
            ("-pf", "dhclient.pid"),
            ("-sf", "script"),
        ] {
            words.extend([option.to_string(), path(file)]);
        }
        words.extend(more.iter().map(|word| (*word).to_string()));
        words.push("eth0".into());
        words
    }
}
