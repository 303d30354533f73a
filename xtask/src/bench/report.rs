//! Medians over rounds, the table of them, and the goals. Knows nothing of how they were measured.

use super::goals::Goal;

/// Above this share of the relay's CPU, in percent, other programs spoil the figures.
const FOREIGN_MAX: f64 = 3.0;

/// What one relay showed in one round; not a number where it was not measured.
#[derive(Clone)]
pub struct Round {
    /// CPU time per relayed message at each common rate, µs; messages of both directions count.
    pub equal_cpu: Vec<f64>,
    /// From a client's message to its RELAY-FORW at the server, µs, at each common rate.
    pub equal_latency: Vec<f64>,
    /// CPU time per relayed message, µs, saturated.
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
    /// From a client's message to its RELAY-FORW at the server, µs, at 1000 exchanges a second.
    pub latency: f64,
    /// User time of other programs on the relay's CPU, in percent of the measured time.
    pub foreign: f64,
    /// The generator could not offer more than the relay took.
    pub bounded: bool,
}

impl Default for Round {
    fn default() -> Self {
        Self {
            equal_cpu: vec![],
            equal_latency: vec![],
            saturated_cpu: f64::NAN,
            saturated_rate: f64::NAN,
            lossless: f64::NAN,
            overload: f64::NAN,
            overload_factor: f64::NAN,
            renews_kept: f64::NAN,
            latency: f64::NAN,
            foreign: 0.0,
            bounded: false,
        }
    }
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

/// The middle value; of an even number the upper of the two. What is not a number was not measured.
pub fn median(mut values: Vec<f64>) -> f64 {
    values.retain(|value| !value.is_nan());
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(f64::NAN)
}

/// A round in words.
pub fn line(round: &Round, rates: &[u64]) -> String {
    let mut words: Vec<String> = rates
        .iter()
        .zip(&round.equal_cpu)
        .map(|(rate, cpu)| format!("{cpu:.2} us/msg at {rate}/s"))
        .collect();
    if !round.latency.is_nan() {
        words.push(format!("latency {:.1} us", round.latency));
    }
    if !round.lossless.is_nan() {
        words.push(format!(
            "{:.2} saturated at {:.0} msgs/s, lossless {:.0}/s, at {:.1}x {:.1} % of peak, \
             RENEWs kept in a flood {:.1} %",
            round.saturated_cpu,
            round.saturated_rate,
            round.lossless,
            round.overload_factor,
            round.overload,
            round.renews_kept,
        ));
    }
    words.push(format!("others {:.1} %", round.foreign));
    words.join(", ")
}

/// A column: two lines above it, and what stands in it.
struct Column {
    head: [String; 2],
    cell: Box<dyn Fn(&Row) -> String>,
}

fn column(
    head: [&str; 2],
    decimals: usize,
    marked: bool,
    value: impl Fn(&Round) -> f64 + Copy + 'static,
) -> Column {
    Column {
        head: head.map(str::to_owned),
        cell: Box::new(move |row| {
            let mark = if marked && row.bounded() { "*" } else { "" };
            match row.median(value) {
                figure if figure.is_nan() => "-".into(),
                figure => format!("{figure:.decimals$}{mark}"),
            }
        }),
    }
}

fn columns(rates: &[u64]) -> Vec<Column> {
    let mut columns: Vec<Column> = rates
        .iter()
        .enumerate()
        .map(|(at, rate)| {
            let head = ["us/msg at", &format!("{rate}/s")];
            column(head, 2, false, move |round| round.equal_cpu[at])
        })
        .collect();
    columns.extend([
        column(["us/msg", "saturated"], 2, false, |it| it.saturated_cpu),
        column(["msgs/s", "saturated"], 0, true, |it| it.saturated_rate),
        column(["lossless", "exchanges/s"], 0, true, |it| it.lossless),
        column(["goodput at 2x", "% of peak"], 1, false, |it| it.overload),
        column(["RENEWs in", "flood, %"], 1, false, |it| it.renews_kept),
        column(["latency us", "at 1000/s"], 1, false, |it| it.latency),
    ]);
    columns.extend(rates.iter().enumerate().map(|(at, rate)| {
        let head = ["latency us", &format!("at {rate}/s")];
        column(head, 1, false, move |round| {
            round.equal_latency.get(at).copied().unwrap_or(f64::NAN)
        })
    }));
    columns.push(column(["others", "% CPU"], 1, false, |it| it.foreign));
    columns
}

/// The table, and the ratios to the first row, each taken inside its round.
pub fn print(rows: &[Row], rates: &[u64]) {
    let columns = columns(rates);
    println!();
    for (at, first) in [(0, "relay"), (1, "")] {
        print!("{first:<10}");
        for column in &columns {
            print!(" {:>13}", column.head[at]);
        }
        println!();
    }
    for row in rows {
        print!("{:<10}", row.name);
        for column in &columns {
            print!(" {:>13}", (column.cell)(row));
        }
        println!();
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
        let equal = rates.iter().enumerate().map(|(at, rate)| {
            let figure = ratio(other, first, |round| round.equal_cpu[at]);
            format!("at {rate}/s {figure:.2}")
        });
        let equal: Vec<String> = equal.collect();
        println!(
            "{} / {}: us/msg {}, saturated {:.2}; lossless {:.2}; latency {:.2}",
            other.name,
            first.name,
            equal.join(", "),
            ratio(other, first, |round| round.saturated_cpu),
            ratio(other, first, |round| round.lossless),
            ratio(other, first, |round| round.latency),
        );
    }
}

/// The median over rounds of `value` of one relay by that of another in the same round.
fn ratio(one: &Row, other: &Row, value: impl Fn(&Round) -> f64) -> f64 {
    let rounds = one.rounds.iter().zip(&other.rounds);
    median(rounds.map(|(a, b)| value(a) / value(b)).collect())
}

/// What is demanded of twinrelay next to the relays that ran with it.
pub fn goals(rows: &[Row], rates: &[u64]) -> Vec<Goal> {
    let find = |name| rows.iter().find(|row| row.name == name);
    let Some(ours) = find("twinrelay") else {
        return vec![];
    };
    let mut goals = vec![];
    for (name, bound) in [("dhcrelay", 5.0), ("dnsmasq", 1.6)] {
        let Some(theirs) = find(name) else { continue };
        for (at, rate) in rates.iter().enumerate() {
            let equal = |round: &Round| round.equal_cpu[at];
            let figure = ratio(theirs, ours, equal);
            // A peer that cannot keep this rate has no figure for it.
            if !figure.is_nan() {
                let what = format!("CPU a message of {name} / twinrelay, at {rate}/s");
                let possible = find("floor").map_or(f64::NAN, |floor| ratio(theirs, floor, equal));
                let note = match possible.is_nan() {
                    true => String::new(),
                    false => format!("{name} / floor: {possible:.2}x"),
                };
                goals.push(Goal::at_least(what, figure, bound, "x").noting(&note));
            }
        }
        let what = format!("CPU a message of {name} / twinrelay, saturated");
        let figure = ratio(theirs, ours, |round| round.saturated_cpu);
        goals.push(Goal::at_least(what, figure, bound, "x"));
    }
    if let Some(bare) = find("reflector") {
        for (at, rate) in rates.iter().enumerate() {
            let what = format!("CPU a message of twinrelay / reflector, at {rate}/s");
            let figure = ratio(ours, bare, |round| round.equal_cpu[at]);
            goals.push(Goal::at_most(what, figure, 1.35, "x"));
        }
        let what = "CPU a message of twinrelay / reflector, saturated";
        let figure = ratio(ours, bare, |round| round.saturated_cpu);
        goals.push(Goal::at_most(what, figure, 1.35, "x"));
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
    let lowest = ours.rounds.iter().map(|round| round.overload);
    let lowest = lowest.fold(f64::INFINITY, f64::min);
    goals.push(
        Goal::at_least(
            "goodput at twice the lossless rate, of peak",
            ours.median(|round| round.overload),
            90.0,
            " %",
        )
        .noting(&format!("{factor:.2}x offered; lowest {lowest:.0} %")),
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

    #[test]
    fn median_leaves_out_what_was_not_measured() {
        assert_eq!(median(vec![9.0, f64::NAN, 1.0, 5.0]), 5.0);
        assert!(median(vec![f64::NAN]).is_nan());
    }
}
