//! `cargo xtask demo --single`: three real clients get address and prefix through the relay, the Internet reaches into
//! each home, a release takes the route away. Decides what counts as success; leaves nothing behind.

use super::command::Result;
use super::{Client, Lab, Options, Relay, wait_for};
use std::process::ExitCode;
use std::time::{Duration, Instant};

/// Probes sent to each address.
const PROBES: u32 = 25;

/// Runs the demonstration; `--relay dhcrelay` shows what is missing without twinrelay.
pub(super) fn single(words: &[&str]) -> ExitCode {
    let relay = match words {
        [] => "twinrelay",
        ["--relay", relay] => *relay,
        _ => {
            eprintln!("usage: cargo xtask demo --single [--relay twinrelay|dhcrelay]");
            return ExitCode::from(2);
        }
    };
    let begin = Instant::now();
    match story(relay) {
        Ok(0) => {
            println!(
                "\nSUCCESS in {} s: three clients, addresses and prefixes reached from the Internet, the released one no longer.",
                begin.elapsed().as_secs()
            );
            ExitCode::SUCCESS
        }
        Ok(failures) => {
            println!("\nFAILED: {failures} of the steps above.");
            ExitCode::FAILURE
        }
        Err(error) => {
            println!("\nFAILED: {error}");
            ExitCode::FAILURE
        }
    }
}

fn story(relay: &str) -> Result<u32> {
    let missing = super::missing(&super::PROGRAMS);
    if !missing.is_empty() {
        return Err(format!(
            "missing programs: {}; run: cargo xtask setup",
            missing.join(", ")
        ));
    }
    let mut failures = 0;
    let mut say = |good: bool, text: &str| {
        failures += u32::from(!good);
        println!("  {} {text}", if good { "ok  " } else { "FAIL" });
    };

    println!(
        "Building the lab: three homes, {relay} on router r1, two Kea servers, an Internet host."
    );
    let mut lab = Lab::up(&Options::new(
        &format!("demo{}", std::process::id()),
        Relay::parse(relay)?,
    ))?;
    for client in Client::ALL {
        lab.start_client(client)?;
    }
    let mut homes = Vec::new();
    for client in Client::ALL {
        let (address, lan) = lab.lease(client)?;
        let home = Home {
            client,
            prefix: format!("{}/56", lan.strip_suffix('1').unwrap_or(&lan)),
            address,
            lan,
        };
        say(
            true,
            &format!(
                "{:<9} {}: address {}, prefix {}",
                client.program(),
                client.node(),
                home.address,
                home.prefix
            ),
        );
        homes.push(home);
    }

    if relay == "twinrelay" {
        let table = lab.twinrelay(&["show", "subscribers"])?;
        println!("\n$ twinrelay show subscribers\n{table}");
    }
    println!("From the Internet host, {PROBES} probes to each address and into each prefix:");
    for home in &homes {
        for target in [&home.address, &home.lan] {
            let lost = lab.lost_probes(target, PROBES)?;
            let text = format!("{:<9} {target:<22} {lost} lost", home.client.program());
            say(lost == 0, &text);
        }
    }

    let [home, other, ..] = &homes[..] else {
        return Err("the demo needs two homes".into());
    };
    println!("{} releases its lease:", home.client.program());
    let route = lab.route(&home.prefix);
    let before = match &route {
        Some(route) => format!("before  r1: {route}"),
        None => format!("before  r1 has no route to {}", home.prefix),
    };
    say(route.is_some(), &before);
    lab.release_client(home.client)?;
    let gone = wait_for("withdrawal of the route", Duration::from_secs(3), || {
        lab.route(&home.prefix).is_none().then_some(())
    });
    let after = match &gone {
        Ok(()) => format!("after   r1 has no route to {}", home.prefix),
        Err(_) => format!("after   r1 still routes to {}", home.prefix),
    };
    say(gone.is_ok(), &after);
    let lost = lab.lost_probes(&other.lan, PROBES)?;
    let text = format!(
        "{:<9} {:<22} {lost} lost",
        other.client.program(),
        other.lan
    );
    say(lost == 0, &text);

    let belongings = lab.belongings();
    let processes = belongings.processes();
    lab.down();
    let left = belongings.left();
    let text = match left.is_empty() {
        true => format!("nothing is left of the lab and its {processes} processes"),
        false => format!("left behind: {}", left.join(", ")),
    };
    say(left.is_empty(), &text);
    Ok(failures)
}

/// What a client got.
struct Home {
    client: Client,
    address: String,
    prefix: String,
    /// The prefix's first address, on the home's own network.
    lan: String,
}

impl Lab {
    /// The route of r1 to exactly this prefix, as `ip` prints it.
    fn route(&self, prefix: &str) -> Option<String> {
        let words = ["ip", "-6", "route", "show", "exact", prefix];
        let text = self.exec("r1", &words).ok()?;
        text.lines().next().map(|line| line.trim().to_owned())
    }
}
