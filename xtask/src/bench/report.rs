//! Medians over rounds, the table of them, and the goals. Knows nothing of how they were measured.

use super::goals::Goal;

/// Above this share of the relay's CPU, in percent, other programs spoil the figures.
const FOREIGN_MAX: f64 = 3.0;

/// One number of a round.
type Value = fn(&Round) -> f64;

/// What one relay showed in one round.
#[derive(Clone, Default)]
pub struct Round {
    /// CPU time per relayed message at the common rate, µs; messages of both directions count.
    pub equal_cpu: f64,
    /// The same, saturated.
    pub saturated_cpu: f64,
    /// Relayed messages a second, saturated.
    pub saturated_rate: f64,
    /// Exchanges a second without loss.
    pub lossless: f64,
    /// Answers that arrived at twice the lossless rate, in percent of the peak.
    pub overload: f64,
    /// What was offered then, in lossless rates: less than 2 where the generator offers no more.
    pub overload_factor: f64,
    /// RENEWs answered while SOLICITs flood, in percent: a quarter of the lossless rate of RENEWs, twice
    /// that rate of SOLICITs.
    pub renews_kept: f64,
    /// From a client's message to its RELAY-FORW at the server, µs.
    pub latency: f64,
    /// User time of other programs on the relay's CPU, in percent of the measured time.
    pub foreign: f64,
    /// The generator could not offer more than the relay took.
    pub bounded: bool,
}

/// The rounds of one relay.
pub struct Row {
    /// Its name.
    pub name: &'static str,
    /// One for each round.
    pub rounds: Vec<Round>,
}

impl Row {
    fn median(&self, value: impl Fn(&Round) -> f64) -> f64 {
        median(self.rounds.iter().map(value).collect())
    }

    fn bounded(&self) -> bool {
        self.rounds.iter().any(|round| round.bounded)
    }
}

/// The middle value; of an even number the upper of the two.
pub fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(f64::NAN)
}

/// The table, and the ratios to the first row, each taken inside its round.
pub fn print(rows: &[Row], rate: u64) {
    println!();
    println!(
        "{:<10} {:>6} {:>13} {:>13} {:>13} {:>13} {:>13} {:>10} {:>10} {:>8}",
        "relay",
        "rounds",
        "us/msg at",
        "us/msg",
        "msgs/s",
        "lossless",
        "goodput at 2x",
        "RENEWs in",
        "latency",
        "others"
    );
    println!(
        "{:<10} {:>6} {:>13} {:>13} {:>13} {:>13} {:>13} {:>10} {:>10} {:>8}",
        "",
        "",
        format!("{rate}/s"),
        "saturated",
        "saturated",
        "exchanges/s",
        "% of peak",
        "flood, %",
        "us",
        "% CPU"
    );
    for row in rows {
        let mark = if row.bounded() { "*" } else { "" };
        println!(
            "{:<10} {:>6} {:>13.2} {:>13.2} {:>13} {:>13} {:>13.1} {:>10.1} {:>10.1} {:>8.1}",
            row.name,
            row.rounds.len(),
            row.median(|round| round.equal_cpu),
            row.median(|round| round.saturated_cpu),
            format!("{:.0}{mark}", row.median(|round| round.saturated_rate)),
            format!("{:.0}{mark}", row.median(|round| round.lossless)),
            row.median(|round| round.overload),
            row.median(|round| round.renews_kept),
            row.median(|round| round.latency),
            row.median(|round| round.foreign),
        );
    }
    if rows.iter().any(Row::bounded) {
        println!("* bounded by the generator in at least one round: the relay can do more.");
    }
    let foreign = rows
        .iter()
        .map(|row| row.median(|round| round.foreign))
        .fold(0.0, f64::max);
    if foreign > FOREIGN_MAX {
        println!(
            "Other programs used up to {foreign:.0} % of the relay's CPU: its figures are too high. Run this \
             on a machine that does nothing else."
        );
    }
    let Some((first, others)) = rows.split_first() else {
        return;
    };
    for other in others {
        println!(
            "{} / {}: us/msg at {rate}/s {:.2}, saturated {:.2}; lossless {:.2}; latency {:.2}",
            other.name,
            first.name,
            ratio(other, first, |round| round.equal_cpu),
            ratio(other, first, |round| round.saturated_cpu),
            ratio(other, first, |round| round.lossless),
            ratio(other, first, |round| round.latency),
        );
    }
}

/// The median over rounds of `value` of one relay by that of another in the same round.
fn ratio(one: &Row, other: &Row, value: Value) -> f64 {
    let rounds = one.rounds.iter().zip(&other.rounds);
    median(rounds.map(|(a, b)| value(a) / value(b)).collect())
}

/// What is demanded of twinrelay next to the relays that ran with it.
pub fn goals(rows: &[Row], rate: u64) -> Vec<Goal> {
    let find = |name| rows.iter().find(|row| row.name == name);
    let Some(ours) = find("twinrelay") else {
        return vec![];
    };
    let mut goals = vec![];
    let cpu: [(String, Value); 2] = [
        (format!("at {rate}/s"), |round| round.equal_cpu),
        ("saturated".into(), |round| round.saturated_cpu),
    ];
    for (name, bound) in [("dhcrelay", 5.0), ("dnsmasq", 1.6)] {
        for (load, value) in &cpu {
            if let Some(theirs) = find(name) {
                let what = format!("CPU a message of {name} / twinrelay, {load}");
                goals.push(Goal::at_least(
                    what,
                    ratio(theirs, ours, *value),
                    bound,
                    "x",
                ));
            }
        }
    }
    if let Some(bare) = find("reflector") {
        for (load, value) in &cpu {
            let what = format!("CPU a message of twinrelay / reflector, {load}");
            goals.push(Goal::at_most(what, ratio(ours, bare, *value), 1.35, "x"));
        }
    }
    let bounded = if ours.bounded() {
        "bounded by the generator"
    } else {
        ""
    };
    for (name, bound) in [("dhcrelay", 4.0), ("dnsmasq", 1.0)] {
        if let Some(theirs) = find(name) {
            let what = format!("lossless rate of twinrelay / {name}");
            let figure = ratio(ours, theirs, |round| round.lossless);
            goals.push(Goal::at_least(what, figure, bound, "x").noting(bounded));
        }
    }
    let factor = ours.median(|round| round.overload_factor);
    goals.push(
        Goal::at_least(
            "goodput at twice the lossless rate, of peak",
            ours.median(|round| round.overload),
            90.0,
            " %",
        )
        .noting(&format!("{factor:.2}x offered")),
    );
    if let Some(theirs) = find("dhcrelay") {
        goals.push(Goal::at_least(
            "median latency of dhcrelay / twinrelay",
            ratio(theirs, ours, |round| round.latency),
            1.0,
            "x",
        ));
    }
    goals
}

#[cfg(test)]
mod tests {
    use super::median;

    #[test]
    fn median_of_unsorted_values_is_the_middle_one() {
        assert_eq!(median(vec![9.0, 1.0, 5.0]), 5.0);
    }
}
