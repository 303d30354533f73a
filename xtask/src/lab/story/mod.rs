//! `cargo xtask demo`: a router of a pair loses its power and its memory, and comes back. Told twice, with twinrelay
//! and with ISC dhcrelay, with traffic both ways all the while. Decides what the acts are and what counts as success.

mod chart;
mod report;
mod watch;

use self::watch::{Sample, Watch};
use super::command::Result;
use super::twins::ROUTERS;
use super::{Direction, Disk, Home, Lab, Pair, Probes, Record, Target, Twins};
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::{Duration, Instant};

const USAGE: &str = "\
usage: cargo xtask demo [--report FILE] [--forwarding kernel|xdp]
       cargo xtask demo --single [--relay twinrelay|dhcrelay]     one router, no fail-over";

/// Long enough to see that nothing is lost while nothing happens.
const CALM: Duration = Duration::from_secs(4);
/// From the power cut to the power's return: VRRP has moved long before.
const WITHOUT_POWER: Duration = Duration::from_secs(7);
/// After the gateway is back on r1.
const AFTERWARDS: Duration = Duration::from_secs(7);
const MOVES_WITHIN: Duration = Duration::from_secs(30);
/// What may be lost on each stream when a router dies: three adverts of half a second and the skew, and a busy machine.
const DETECTION: Duration = Duration::from_millis(2500);

/// One telling.
struct Run {
    name: &'static str,
    /// It keeps bindings and says when it is in sync.
    is_twinrelay: bool,
    record: Record,
    /// Of r1 and r2.
    samples: Vec<Vec<Sample>>,
    /// When r1 lost its power, and had it again.
    off: Duration,
    on: Duration,
    /// When the gateway was on r2, and on r1 again.
    taken_over: Duration,
    back: Duration,
    /// What `show subscribers --extensive` said, router by router.
    shown: Vec<String>,
}

/// A part of the story.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Act {
    Calm,
    Outage,
    Return,
}

impl Act {
    const ALL: [Self; 3] = [Self::Calm, Self::Outage, Self::Return];

    fn title(self) -> &'static str {
        match self {
            Self::Calm => "both routers run",
            Self::Outage => "r1 has no power",
            Self::Return => "r1 is back, with an empty disk",
        }
    }
}

impl Run {
    fn time(&self, act: Act) -> (Duration, Duration) {
        match act {
            Act::Calm => (Duration::ZERO, self.off),
            Act::Outage => (self.off, self.on),
            Act::Return => (self.on, Duration::MAX),
        }
    }

    /// Lost on the worst stream, and on all.
    fn lost(&self, act: Act) -> (usize, usize) {
        let (from, until) = self.time(act);
        self.record.lost(from, until)
    }

    /// When r1 said that it is in sync again.
    fn in_sync(&self) -> Option<Duration> {
        let is_ready = |it: &&Sample| it.relay.as_ref().is_some_and(|said| said.is_ready);
        let after = self.samples[0].iter().filter(|it| it.at >= self.on);
        after.clone().find(is_ready).map(|it| it.at)
    }
}

/// `cargo xtask demo …`.
pub fn demo(args: &[String]) -> ExitCode {
    let mut report = super::relay::target().join("demo-report.html");
    let mut forwarding = "kernel".to_owned();
    let words: Vec<&str> = args.iter().map(String::as_str).collect();
    let mut rest = words.as_slice();
    loop {
        rest = match rest {
            [] => break,
            ["--single", more @ ..] => return super::demo::single(more),
            ["--report", file, more @ ..] => {
                report = PathBuf::from(file);
                more
            }
            ["--forwarding", how, more @ ..] => {
                forwarding = (*how).into();
                more
            }
            _ => {
                eprintln!("{USAGE}");
                return ExitCode::from(2);
            }
        };
    }
    match story(&forwarding, &report) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            println!("\nFAILED: {error}");
            ExitCode::FAILURE
        }
    }
}

fn story(forwarding: &str, report: &std::path::Path) -> Result<bool> {
    let begin = Instant::now();
    let twinrelay = Pair::Twinrelay {
        forwarding: forwarding.into(),
        more: Vec::new(),
    };
    let runs = [
        tell("twinrelay", twinrelay)?,
        tell("ISC dhcrelay", Pair::Dhcrelay)?,
    ];
    println!(
        "\nLost of all probes, twelve streams of 125 a second:\n{}",
        table(&runs)
    );
    std::fs::write(report, report::html(&runs))
        .map_err(|error| format!("{}: {error}", report.display()))?;
    println!(
        "The report, with everything over time: {}",
        report.display()
    );
    let failures = failures(&runs[0]);
    for failure in &failures {
        println!("  FAIL {failure}");
    }
    let secs = begin.elapsed().as_secs();
    if failures.is_empty() {
        println!(
            "\nSUCCESS in {secs} s: the router that had lost everything took the gateway back, and no packet was lost."
        );
    } else {
        println!("\nFAILED after {secs} s.");
    }
    Ok(failures.is_empty())
}

/// What twinrelay promises and did not keep.
fn failures(run: &Run) -> Vec<String> {
    let most = DETECTION.as_millis() / super::probes::INTERVAL.as_millis();
    let mut failures = Vec::new();
    for (act, most) in [(Act::Calm, 0), (Act::Outage, most), (Act::Return, 0)] {
        let (worst, all) = run.lost(act);
        if worst as u128 > most {
            failures.push(format!(
                "{}: {worst} lost on one stream, {all} in all; allowed are {most}",
                act.title()
            ));
        }
    }
    failures
}

fn tell(name: &'static str, relay: Pair) -> Result<Run> {
    let is_twinrelay = relay != Pair::Dhcrelay;
    println!(
        "\n== {name} on both routers: three homes, VRRP, Kea in hot standby, an Internet host."
    );
    let lab_name = format!("demo{}", std::process::id());
    let mut lab = Lab::up_twins(
        &lab_name,
        &Twins {
            relay,
            ..Twins::default()
        },
    )?;
    let homes = lab.start_homes()?;
    for home in &homes {
        println!(
            "   {:<9} {}: address {}, prefix {}",
            home.client.program(),
            home.client.node(),
            home.address,
            home.prefix()
        );
    }
    let mut shown = Vec::new();
    if is_twinrelay {
        for router in ROUTERS {
            let text = lab.twinrelay_on(router, &["show", "subscribers", "--extensive"])?;
            println!("\n{router}$ twinrelay show subscribers --extensive\n{text}");
            shown.push(text);
        }
    } else {
        by_hand(&lab, &homes)?;
        println!(
            "   It installs no routes: they were put by hand on both, as a provider's script might."
        );
    }

    let probes = Probes::start(&lab, &homes)?;
    let watch = Watch::start(&lab, probes.begin())?;
    let say = |text: &str| println!("   {:>5.1} s  {text}", probes.now().as_secs_f64());
    say("probes run to and from every address and prefix; the gateway is on r1");
    std::thread::sleep(CALM);

    let off = probes.now();
    lab.power_off("r1")?;
    say("r1 loses its power");
    let taken_over = off + lab.expect_owner("r2", MOVES_WITHIN)?;
    say("VRRP has moved the gateway to r2");
    std::thread::sleep((off + WITHOUT_POWER).saturating_sub(probes.now()));

    let on = probes.now();
    lab.power_on("r1", Disk::Wiped)?;
    say("r1 has power again, and an empty disk: no binding, no route");
    if is_twinrelay {
        super::wait_for("r1 in sync", MOVES_WITHIN, || {
            lab.is_ready("r1").then_some(())
        })?;
        say(
            "r1 has every binding and route from r2 by Active Leasequery, and says that it is ready",
        );
    }
    lab.expect_owner("r1", MOVES_WITHIN)?;
    let back = probes.now();
    say("VRRP has moved the gateway back to r1");
    std::thread::sleep(AFTERWARDS);
    say("the end");
    let samples = watch.finish();
    let record = probes.finish();
    lab.down();
    let run = Run {
        name,
        is_twinrelay,
        record,
        samples,
        off,
        on,
        taken_over,
        back,
        shown,
    };
    for act in Act::ALL {
        let (worst, all) = run.lost(act);
        let what = act.title();
        println!("   {what}: {all} lost, at most {worst} on one stream");
    }
    Ok(run)
}

/// What dhcrelay does not do.
fn by_hand(lab: &Lab, homes: &[Home]) -> Result<()> {
    for router in ROUTERS {
        for home in homes {
            let [.., last] = home.client.mac();
            let via = format!("via fe80::ff:fe00:{last:x} dev acc0");
            for to in [home.prefix(), home.address.clone()] {
                lab.exec_words(router, &format!("ip -6 route add {to} {via}"))?;
            }
        }
    }
    Ok(())
}

/// The losses of both, side by side.
fn table(runs: &[Run]) -> String {
    let mut text = format!("{:<32} {:<9} {:<8}", "", "WAY", "TO/FROM");
    for run in runs {
        text += &format!(" {:>22}", run.name.to_uppercase());
    }
    text.push('\n');
    for act in Act::ALL {
        for (direction, target) in ways() {
            text += &format!(
                "{:<32} {:<9} {:<8}",
                act.title(),
                direction.name(),
                target.name()
            );
            for run in runs {
                let (from, until) = run.time(act);
                let count = run.record.count(direction, target, from, until);
                let cell = format!("{} of {}", count.lost, count.sent);
                text += &format!(" {cell:>22}");
            }
            text.push('\n');
        }
    }
    text
}

/// Every way with every target.
fn ways() -> impl Iterator<Item = (Direction, Target)> {
    Direction::ALL
        .into_iter()
        .flat_map(|direction| Target::ALL.map(|target| (direction, target)))
}
