//! Medians over rounds, and the table of them. Knows nothing of how they were measured.

/// Above this share of the relay's CPU, in percent, other programs spoil the figures.
const FOREIGN_MAX: f64 = 3.0;

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
    /// RENEWs answered while SOLICITs flood, in percent: a quarter of the lossless rate of RENEWs, twice
    /// that rate of SOLICITs.
    pub renews_kept: f64,
    /// Neighbour solicitations that reached the clients while each was seen for the first time.
    pub solicitations: f64,
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
        let ratio = |value: fn(&Round) -> f64| {
            median(
                first
                    .rounds
                    .iter()
                    .zip(&other.rounds)
                    .map(|(a, b)| value(b) / value(a))
                    .collect(),
            )
        };
        println!(
            "{} / {}: us/msg at {rate}/s {:.2}, saturated {:.2}; lossless {:.2}; latency {:.2}",
            other.name,
            first.name,
            ratio(|round| round.equal_cpu),
            ratio(|round| round.saturated_cpu),
            ratio(|round| round.lossless),
            ratio(|round| round.latency),
        );
    }
}

#[cfg(test)]
mod tests {
    use super::median;

    #[test]
    fn median_of_unsorted_values_is_the_middle_one() {
        assert_eq!(median(vec![9.0, 1.0, 5.0]), 5.0);
    }
}
