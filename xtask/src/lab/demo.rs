//! `cargo xtask demo`: three real clients get address and prefix through the relay, the Internet reaches into
//! each home, a release takes the route away. Decides what counts as success; leaves nothing behind.

use super::command::Result;
use super::{Client, Lab, Options, Relay, wait_for};
use std::process::ExitCode;
use std::time::{Duration, Instant};

/// Probes sent to each address.
const PROBES: u32 = 25;

/// Runs the demonstration; `--relay dhcrelay` shows what is missing without twinrelay.
pub fn demo(args: &[String]) -> ExitCode {
    let words: Vec<&str> = args.iter().map(String::as_str).collect();
    let relay = match words.as_slice() {
        [] => "twinrelay",
        ["--relay", relay] => relay,
        _ => {
            eprintln!("usage: cargo xtask demo [--relay twinrelay|dhcrelay]");
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
        say(
            true,
            &format!(
                "{:<9} {}: address {address}, prefix {lan}/56",
                client.program(),
                client.node()
            )
            .replace("1/56", "/56"),
        );
        homes.push((client, address, lan));
    }

    if relay == "twinrelay" {
        println!(
            "\n$ twinrelay show subscribers\n{}",
            lab.twinrelay(&["show", "subscribers"])?
        );
    }
    println!("From the Internet host, {PROBES} probes each:");
    for (client, address, lan) in &homes {
        for target in [address, lan] {
            let lost = lab.lost_probes(target, PROBES)?;
            say(
                lost == 0,
                &format!("{:<9} {target}: {lost} lost", client.program()),
            );
        }
    }

    println!("dhclient releases its lease:");
    let (client, _, lan) = &homes[0];
    lab.release_client(*client)?;
    let prefix = format!("{}/56", lan.strip_suffix('1').unwrap_or(lan));
    let gone = wait_for("withdrawal of the route", Duration::from_secs(3), || {
        lab.exec("r1", &["ip", "-6", "route", "show", "exact", &prefix])
            .ok()?
            .is_empty()
            .then_some(())
    });
    say(gone.is_ok(), &format!("r1 has no route to {prefix}"));
    let other = &homes[1];
    say(
        lab.lost_probes(&other.2, PROBES)? == 0,
        &format!("{} is still reached", other.2),
    );
    lab.down();
    Ok(failures)
}
