//! Load for `cargo xtask bench relay`: many simulated clients and a stub server in one thread, so that both
//! fit one CPU and one clock times a message on both sides of the relay.
//!
//! Decides how fast frames are offered and what is counted. Knows nothing of the relay under test.
//! Prints one line of `key=value` words.

mod cpu;
mod frames;
mod run;
mod socket;
mod stub;

use anyhow::{Context, Result, ensure};
use std::collections::HashMap;

/// What one run offers.
pub struct Load {
    /// Simulated clients, each with its own MAC, link-local address and DUID.
    pub clients: u32,
    /// RENEW messages a second.
    pub renews: u64,
    /// SOLICIT messages a second.
    pub solicits: u64,
    /// RELAY-REPLs a second that nobody asked for, in batches: for a relay that forwards nothing.
    pub unasked: u64,
    /// Where they go.
    pub relay_mac: [u8; 6],
    /// How long to offer it, in milliseconds.
    pub milliseconds: u64,
    /// Sleeps where nothing is to be done, and so needs no CPU for itself; times then include being woken.
    pub naps: bool,
}

fn main() -> Result<()> {
    let words: HashMap<String, String> = std::env::args()
        .skip(1)
        .map(|word| {
            word.split_once('=')
                .map(|(key, value)| (key.to_owned(), value.to_owned()))
                .with_context(|| format!("{word:?}: arguments are key=value"))
        })
        .collect::<Result<_>>()?;
    let text = |key: &str| words.get(key).with_context(|| format!("{key}= is missing"));
    let number = |key: &str| -> Result<u64> {
        text(key)?
            .parse()
            .with_context(|| format!("{key}: not a number"))
    };
    let load = Load {
        clients: u32::try_from(number("clients")?)?,
        renews: number("renews")?,
        solicits: number("solicits")?,
        unasked: number("unasked")?,
        relay_mac: mac(text("relay_mac")?)?,
        milliseconds: number("milliseconds")?,
        naps: words.get("naps").is_some_and(|naps| naps == "1"),
    };
    ensure!(
        load.clients > 0 && load.clients <= frames::MAX_CLIENTS,
        "clients: 1 to {}",
        frames::MAX_CLIENTS
    );
    ensure!(
        load.renews + load.solicits > 0,
        "renews and solicits are both 0: nothing to offer"
    );
    let access = socket::Packet::open(text("access_netns")?, text("access_interface")?)?;
    let core = socket::Packet::open(text("core_netns")?, text("core_interface")?)?;
    let cpu = cpu::Watch::new(number("relay_cpu")?, number("relay_pid")?);
    println!("{}", run::run(&load, access, core, &cpu)?);
    Ok(())
}

/// Six octets in hexadecimal with colons between them.
fn mac(text: &str) -> Result<[u8; 6]> {
    let octets = text
        .trim()
        .split(':')
        .map(|octet| u8::from_str_radix(octet, 16))
        .collect::<Result<Vec<u8>, _>>()
        .with_context(|| format!("{text:?}: no MAC address"))?;
    octets
        .try_into()
        .map_err(|_| anyhow::anyhow!("{text:?}: no MAC address"))
}
