//! `cargo xtask lab …`: one lab by hand. Decides what the words mean, and refuses what is not the lab's own.

use super::command::Result;
use super::power::{Cable, Disk};
use super::probes::Probes;
use super::twins::{Home, Twins};
use super::{Client, Lab, Options, Pair, Relay};
use std::process::ExitCode;
use std::time::Duration;

const USAGE: &str = "\
usage: cargo xtask lab [--name N] VERB
  up [--relay twinrelay|dhcrelay|none]          one router
  up --twins [--relay twinrelay|dhcrelay] [--forwarding kernel|xdp]
                                                two routers with VRRP, Kea in hot standby
  status                                        processes, gateway, sessions, routes
  exec NODE COMMAND…                            runs a command on a node
  traffic [SECONDS] [--json FILE]               probes every home both ways, counts what is lost
  power NODE off|on|on-empty                    r1, r2, s1, s2; on-empty: with an empty disk
  cable NODE access|core out|in                 pulls a cable, puts it back
  daemon NODE stop|kill|start|restart|hang|resume
                                                the relay of a router
  down                                          ends everything of this lab
";

/// `cargo xtask lab …`.
pub fn main(args: &[String]) -> ExitCode {
    match dispatch(args) {
        Ok(code) => code,
        Err(error) => {
            eprintln!("lab: {error}");
            ExitCode::FAILURE
        }
    }
}

/// Options by their names, and what is left.
struct Words {
    name: String,
    relay: String,
    forwarding: String,
    json: Option<String>,
    twins: bool,
    rest: Vec<String>,
}

impl Words {
    fn read(args: &[String]) -> Result<Self> {
        let mut words = Self {
            name: "lab".into(),
            relay: "twinrelay".into(),
            forwarding: "kernel".into(),
            json: None,
            twins: false,
            rest: Vec::new(),
        };
        let mut args = args.iter();
        while let Some(arg) = args.next() {
            let mut value = |what| {
                args.next()
                    .cloned()
                    .ok_or_else(|| format!("{arg} needs {what}"))
            };
            let is_exec = words.rest.first().is_some_and(|verb| verb == "exec");
            match arg.as_str() {
                // What follows the node is the command's own.
                _ if is_exec && words.rest.len() > 1 => words.rest.push(arg.clone()),
                "--name" => words.name = value("a name")?,
                "--relay" => words.relay = value("twinrelay, dhcrelay or none")?,
                "--forwarding" => words.forwarding = value("kernel or xdp")?,
                "--json" => words.json = Some(value("a file")?),
                "--twins" => words.twins = true,
                _ => words.rest.push(arg.clone()),
            }
        }
        Ok(words)
    }
}

fn dispatch(args: &[String]) -> Result<ExitCode> {
    let words = Words::read(args)?;
    let name = words.name.as_str();
    let rest: Vec<&str> = words.rest.iter().map(String::as_str).collect();
    match rest.as_slice() {
        ["up"] if words.twins => up_twins(&words)?,
        ["up"] => {
            let mut lab = Lab::up(&Options::new(name, Relay::parse(&words.relay)?))?;
            for client in Client::ALL {
                lab.start_client(client)?;
            }
            println!(
                "lab {name} is up in {}; try: cargo xtask lab exec --name {name} r1 ip -6 route",
                lab.dir().display()
            );
            lab.keep();
        }
        ["down"] => Lab::of_name(name)?.down(),
        ["status"] => print!("{}", status(&Lab::open(name)?)?),
        ["traffic"] => traffic(&Lab::open(name)?, "10", words.json.as_deref())?,
        ["traffic", seconds] => traffic(&Lab::open(name)?, seconds, words.json.as_deref())?,
        ["power", node, switch] => {
            let mut lab = pair(name)?;
            match *switch {
                "off" => lab.power_off(node)?,
                "on" => lab.power_on(node, Disk::Kept)?,
                "on-empty" => lab.power_on(node, Disk::Wiped)?,
                _ => return Err(USAGE.into()),
            }
        }
        ["cable", node, cable, state @ ("in" | "out")] => {
            pair(name)?.set_cable(node, Cable::parse(cable)?, *state == "in")?;
        }
        ["daemon", node, what] => daemon(&mut pair(name)?, node, what)?,
        ["exec", node, command, arguments @ ..] => {
            let lab = Lab::open(name)?;
            let status = lab
                .command(node, command)?
                .args(arguments)
                .status()
                .map_err(|error| format!("{command}: {error}"))?;
            return Ok(ExitCode::from(
                u8::try_from(status.code().unwrap_or(1)).unwrap_or(1),
            ));
        }
        _ => return Err(USAGE.into()),
    }
    Ok(ExitCode::SUCCESS)
}

fn up_twins(words: &Words) -> Result<()> {
    let relay = match words.relay.as_str() {
        "twinrelay" => Pair::Twinrelay {
            forwarding: words.forwarding.clone(),
            more: Vec::new(),
        },
        "dhcrelay" => Pair::Dhcrelay,
        other => {
            return Err(format!(
                "{other:?} is no relay of a pair: use twinrelay or dhcrelay"
            ));
        }
    };
    let name = &words.name;
    let mut lab = Lab::up_twins(
        name,
        &Twins {
            relay,
            ..Twins::default()
        },
    )?;
    let homes = lab.start_homes()?;
    for home in homes {
        println!(
            "{}  {:<9} {:<24} {}",
            home.client.node(),
            home.client.program(),
            home.address,
            home.prefix()
        );
    }
    println!(
        "lab {name} is up in {}; try: cargo xtask lab --name {name} status",
        lab.dir().display()
    );
    lab.keep();
    Ok(())
}

/// The lab of that name, where it has two routers.
fn pair(name: &str) -> Result<Lab> {
    let lab = Lab::open(name)?;
    match lab.is_pair() {
        true => Ok(lab),
        false => Err(format!(
            "lab {name} has one router: cargo xtask lab up --twins"
        )),
    }
}

fn daemon(lab: &mut Lab, node: &str, what: &str) -> Result<()> {
    if !super::twins::ROUTERS.contains(&node) {
        return Err(format!("{node:?} runs no relay: use r1 or r2"));
    }
    let label = lab.relay_label(node);
    match what {
        "stop" => lab.stop(&label, "TERM"),
        "kill" => lab.stop(&label, "KILL"),
        "hang" => lab.signal(&label, "STOP"),
        "resume" => lab.signal(&label, "CONT"),
        "start" => lab.start_twinrelay_on(node),
        "restart" => {
            lab.stop(&label, "TERM")?;
            lab.start_twinrelay_on(node)
        }
        _ => Err(USAGE.into()),
    }
}

fn traffic(lab: &Lab, seconds: &str, json: Option<&str>) -> Result<()> {
    let seconds: u64 = seconds
        .parse()
        .map_err(|_| format!("{seconds:?} is no number of seconds"))?;
    let homes: Vec<Home> = Client::ALL
        .into_iter()
        .filter_map(|client| {
            Some(Home {
                client,
                address: lab.global(client.node(), "eth0")?,
                lan: lab.global(client.node(), "lan0")?,
            })
        })
        .collect();
    if homes.is_empty() {
        return Err("no home has a lease".into());
    }
    let probes = Probes::start(lab, &homes)?;
    std::thread::sleep(Duration::from_secs(seconds));
    let record = probes.finish();
    print!("{}", record.table());
    if let Some(file) = json {
        std::fs::write(file, record.json()).map_err(|error| format!("{file}: {error}"))?;
    }
    Ok(())
}

fn status(lab: &Lab) -> Result<String> {
    let mut text = lab.status()?;
    if !lab.is_pair() {
        return Ok(text);
    }
    let owner = lab.owner().unwrap_or("nobody, or both");
    text += &format!("routes of r2:\n{}", lab.exec_words("r2", "ip -6 route")?);
    text += &format!("the gateway is with {owner}\n");
    for router in super::twins::ROUTERS {
        // A daemon that is not there is worth a line, not an end.
        let shown = |words: &[&str]| {
            lab.twinrelay_on(router, words)
                .unwrap_or_else(|error| format!("{error}\n"))
        };
        if lab.configuration_file(router).exists() {
            let ready = if lab.is_ready(router) { "" } else { "not " };
            text += &format!("{router} is {ready}in sync\n");
            text += &shown(&["show", "active-leasequery", "neighbors"]);
        }
    }
    Ok(text)
}
