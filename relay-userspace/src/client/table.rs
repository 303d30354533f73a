//! Aligned columns that fit the width. Where they do not, the columns that may shrink lose the
//! middle of their longest cells, the widest column first. Colour only where asked for.

/// Widest line of every table.
pub(super) const WIDTH: usize = 120;
/// No column shrinks below this.
const NARROWEST: usize = 9;
const GAP: &str = "  ";

/// How a cell is set.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Kind {
    /// Kept whole.
    Text,
    /// May lose its middle.
    Long,
    /// Kept whole, to the right.
    Number,
    /// Kept whole; red or yellow where it means trouble.
    State,
}

/// A column.
pub(super) type Column = (&'static str, Kind);

/// Rows of cells, printed with a header.
#[derive(Debug)]
pub(super) struct Table {
    columns: Vec<Column>,
    rows: Vec<Vec<String>>,
}

impl Table {
    pub(super) fn new(columns: &[Column]) -> Self {
        Self {
            columns: columns.to_vec(),
            rows: Vec::new(),
        }
    }

    /// One cell for each column.
    pub(super) fn row(&mut self, cells: Vec<String>) {
        debug_assert_eq!(cells.len(), self.columns.len());
        self.rows.push(cells);
    }

    pub(super) fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }

    /// The whole table, each line ended.
    pub(super) fn render(&self, colour: bool) -> String {
        let widths = self.widths();
        let header: Vec<String> = self
            .columns
            .iter()
            .map(|(name, _)| (*name).to_owned())
            .collect();
        let mut text = self.line(&header, &widths, colour, true);
        for row in &self.rows {
            text.push_str(&self.line(row, &widths, colour, false));
        }
        text
    }

    fn widths(&self) -> Vec<usize> {
        let mut widths: Vec<usize> = self.columns.iter().map(|(name, _)| width(name)).collect();
        for row in &self.rows {
            for (known, cell) in widths.iter_mut().zip(row) {
                *known = (*known).max(width(cell));
            }
        }
        let gaps = GAP.len() * self.columns.len().saturating_sub(1);
        while widths.iter().sum::<usize>() + gaps > WIDTH {
            let widest = (0..widths.len())
                .filter(|&at| self.columns[at].1 == Kind::Long && widths[at] > NARROWEST)
                .max_by_key(|&at| widths[at]);
            let Some(widest) = widest else { break };
            widths[widest] -= 1;
        }
        widths
    }

    fn line(&self, cells: &[String], widths: &[usize], colour: bool, is_header: bool) -> String {
        let mut line = String::new();
        for (at, cell) in cells.iter().enumerate() {
            let kind = self.columns[at].1;
            let cell = shrink(cell, widths[at]);
            let padding = " ".repeat(widths[at] - width(&cell));
            let painted = if colour {
                paint(&cell, kind, is_header)
            } else {
                cell
            };
            match kind {
                Kind::Number => line.push_str(&(padding + &painted)),
                _ => line.push_str(&(painted + &padding)),
            }
            line.push_str(GAP);
        }
        let mut line = line.trim_end().to_owned();
        line.push('\n');
        line
    }
}

fn width(text: &str) -> usize {
    text.chars().count()
}

/// The begin and the end of a text that is too long: DUIDs and prefixes differ at their ends.
fn shrink(text: &str, room: usize) -> String {
    let length = width(text);
    if length <= room {
        return text.to_owned();
    }
    let head = room.saturating_sub(1) / 2;
    let tail = room.saturating_sub(1) - head;
    let begin: String = text.chars().take(head).collect();
    let end: String = text.chars().skip(length - tail).collect();
    format!("{begin}…{end}")
}

fn paint(cell: &str, kind: Kind, is_header: bool) -> String {
    let code = match (is_header, kind, cell) {
        (true, ..) => "1",
        (
            _,
            Kind::State,
            "failed" | "silent" | "absent" | "declined" | "down" | "no" | "backoff",
        ) => "31",
        (_, Kind::State, "pending" | "expired" | "released" | "unknown") => "33",
        (_, Kind::State, "installed" | "active" | "answering" | "up") => "32",
        _ => return cell.to_owned(),
    };
    format!("\u{1b}[{code}m{cell}\u{1b}[0m")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn wide_table_shrinks_its_long_columns_to_fit() {
        let mut table = Table::new(&[("A", Kind::Long), ("B", Kind::Text), ("C", Kind::Long)]);
        table.row(vec!["a".repeat(100), "b".repeat(30), "c".repeat(40)]);

        let text = table.render(false);

        assert!(text.lines().all(|line| width(line) <= WIDTH), "{text}");
        assert!(text.contains(&"b".repeat(30)));
        assert!(text.contains("a…a"));
    }

    #[test]
    fn narrow_table_is_aligned_and_has_no_colour() {
        let mut table = Table::new(&[
            ("NAME", Kind::Text),
            ("N", Kind::Number),
            ("S", Kind::State),
        ]);
        table.row(vec!["x".to_owned(), "100".to_owned(), "failed".to_owned()]);

        assert_eq!(table.render(false), "NAME    N  S\nx     100  failed\n");
        assert!(table.render(true).contains("\u{1b}[31mfailed\u{1b}[0m"));
    }
}
