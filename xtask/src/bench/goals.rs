//! The last table of a bench: what is demanded, what was measured, whether that is enough. Measures nothing.

/// One demand.
pub struct Goal {
    what: String,
    figure: String,
    bound: String,
    met: Option<bool>,
}

impl Goal {
    /// `figure` must be at least `bound`.
    pub fn at_least(what: impl Into<String>, figure: f64, bound: f64, unit: &str) -> Self {
        Self::new(what, figure, ">=", bound, unit, figure >= bound)
    }

    /// `figure` must be at most `bound`.
    pub fn at_most(what: impl Into<String>, figure: f64, bound: f64, unit: &str) -> Self {
        Self::new(what, figure, "<=", bound, unit, figure <= bound)
    }

    fn new(
        what: impl Into<String>,
        figure: f64,
        relation: &str,
        bound: f64,
        unit: &str,
        met: bool,
    ) -> Self {
        Self {
            what: what.into(),
            figure: format!("{figure:.2}{unit}"),
            bound: format!("{relation} {bound}{unit}"),
            met: (!figure.is_nan()).then_some(met),
        }
    }

    /// What could not be measured, and why.
    pub fn unmeasured(what: impl Into<String>, why: impl Into<String>) -> Self {
        Self {
            what: what.into(),
            figure: why.into(),
            bound: String::new(),
            met: None,
        }
    }

    /// The figure with something to say about it.
    pub fn noting(mut self, note: &str) -> Self {
        if !note.is_empty() {
            self.figure = format!("{} ({note})", self.figure);
        }
        self
    }
}

/// Prints the table.
pub fn print(goals: &[Goal]) {
    let width = |text: fn(&Goal) -> &String| {
        goals
            .iter()
            .map(|goal| text(goal).chars().count())
            .max()
            .unwrap_or(0)
            .max(6)
    };
    let (what, figure, bound) = (
        width(|goal| &goal.what),
        width(|goal| &goal.figure),
        width(|goal| &goal.bound),
    );
    println!();
    println!(
        "{:<what$}  {:<figure$}  {:<bound$}  verdict",
        "goal", "figure", "bound"
    );
    for goal in goals {
        let verdict = match goal.met {
            Some(true) => "met",
            Some(false) => "MISSED",
            None => "not measured",
        };
        println!(
            "{:<what$}  {:<figure$}  {:<bound$}  {verdict}",
            goal.what, goal.figure, goal.bound
        );
    }
}

#[cfg(test)]
mod tests {
    use super::Goal;

    #[test]
    fn figure_at_its_bound_is_enough_and_one_that_is_missing_is_neither() {
        assert_eq!(Goal::at_least("", 5.0, 5.0, "x").met, Some(true));
        assert_eq!(Goal::at_least("", 4.9, 5.0, "x").met, Some(false));
        assert_eq!(Goal::at_most("", 1.36, 1.35, "x").met, Some(false));
        assert_eq!(Goal::at_most("", f64::NAN, 1.35, "x").met, None);
    }
}
