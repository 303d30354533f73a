//! `top`: a live view of message rates, bindings and drops, from `/v1/statistics` once a second.

use std::collections::BTreeMap;
use std::io::{self, IsTerminal};
use std::time::Duration;

use ratatui::Frame;
use ratatui::crossterm::event::{self, Event, KeyCode, KeyModifiers};
use ratatui::layout::{Constraint, Layout};
use ratatui::style::Style;
use ratatui::text::Line;
use ratatui::widgets::{Block, Cell, Row, Table};
use serde::Deserialize;
use tokio::time::Instant;

use super::Failure;
use super::http::{Daemon, parse};
use crate::control::documents::Statistics;

const EVERY: Duration = Duration::from_secs(1);
const KEYS_EVERY: Duration = Duration::from_millis(100);

#[derive(Deserialize)]
struct Answer {
    statistics: Statistics,
}

/// What is drawn: the last answer, and what changed since the one before.
#[derive(Debug, Default)]
struct View {
    statistics: Statistics,
    /// Messages a second, by interface, direction and type.
    rates: BTreeMap<(String, String, String), f64>,
    /// Drops a second, by interface and reason.
    drops: BTreeMap<(String, String), f64>,
}

impl View {
    /// Takes a new answer that came `elapsed` after the one before.
    fn update(&mut self, statistics: Statistics, elapsed: Duration) {
        let secs = elapsed.as_secs_f64().max(f64::EPSILON);
        let rate = |now: u64, before: u64| now.saturating_sub(before) as f64 / secs;
        let before = std::mem::replace(&mut self.statistics, statistics);
        self.rates.clear();
        for row in &self.statistics.messages {
            let old = before.messages.iter().find(|old| {
                old.interface == row.interface
                    && old.direction == row.direction
                    && old.message_type == row.message_type
            });
            let key = (
                row.interface.clone(),
                row.direction.clone(),
                row.message_type.clone(),
            );
            self.rates
                .insert(key, rate(row.count, old.map_or(0, |old| old.count)));
        }
        self.drops.clear();
        for row in &self.statistics.drops {
            let old = before
                .drops
                .iter()
                .find(|old| old.interface == row.interface && old.name == row.name);
            let key = (row.interface.clone(), row.name.clone());
            self.drops
                .insert(key, rate(row.count, old.map_or(0, |old| old.count)));
        }
    }
}

/// Draws until `q`, Escape or Control-C.
pub(super) async fn run(daemon: &Daemon) -> Result<(), Failure> {
    if !io::stdout().is_terminal() {
        let message = "top needs a terminal; for programs there is `show statistics --json`";
        return Err(Failure::Usage(message.to_owned()));
    }
    let mut view = View::default();
    view.update(ask(daemon).await?, Duration::MAX);
    let mut terminal = ratatui::try_init()?;
    let result = draw_until_quit(daemon, &mut view, &mut terminal).await;
    ratatui::restore();
    result
}

async fn draw_until_quit(
    daemon: &Daemon,
    view: &mut View,
    terminal: &mut ratatui::DefaultTerminal,
) -> Result<(), Failure> {
    let mut asked = Instant::now();
    loop {
        terminal.draw(|frame| draw(frame, view))?;
        while asked.elapsed() < EVERY {
            if event::poll(Duration::ZERO)? && is_quit(&event::read()?) {
                return Ok(());
            }
            tokio::time::sleep(KEYS_EVERY).await;
        }
        let statistics = ask(daemon).await?;
        view.update(statistics, asked.elapsed());
        asked = Instant::now();
    }
}

async fn ask(daemon: &Daemon) -> Result<Statistics, Failure> {
    let answer: Answer = parse(&daemon.get("/v1/statistics", &[]).await?)?;
    Ok(answer.statistics)
}

fn is_quit(event: &Event) -> bool {
    event.as_key_press_event().is_some_and(|key| {
        matches!(key.code, KeyCode::Char('q') | KeyCode::Esc)
            || (key.code == KeyCode::Char('c') && key.modifiers.contains(KeyModifiers::CONTROL))
    })
}

fn draw(frame: &mut Frame<'_>, view: &View) {
    let [head, messages, drops] = Layout::vertical([
        Constraint::Length(3),
        Constraint::Fill(2),
        Constraint::Fill(1),
    ])
    .areas(frame.area());
    frame.render_widget(summary(view), head);
    frame.render_widget(
        table(
            " Messages ",
            ["INTERFACE", "DIRECTION", "TYPE", "A SECOND", "IN ALL"],
            view.rates
                .iter()
                .map(|((interface, direction, message_type), rate)| {
                    let count = view.statistics.messages.iter().find(|row| {
                        row.interface == *interface
                            && row.direction == *direction
                            && row.message_type == *message_type
                    });
                    [
                        interface.clone(),
                        direction.clone(),
                        message_type.clone(),
                        format!("{rate:.0}"),
                        count.map_or(0, |row| row.count).to_string(),
                    ]
                }),
        ),
        messages,
    );
    frame.render_widget(
        table(
            " Drops ",
            ["INTERFACE", "REASON", "", "A SECOND", "IN ALL"],
            view.drops.iter().map(|((interface, reason), rate)| {
                let rows = view.statistics.drops.iter();
                let count = rows
                    .clone()
                    .find(|row| row.interface == *interface && row.name == *reason);
                [
                    interface.clone(),
                    reason.clone(),
                    String::new(),
                    format!("{rate:.0}"),
                    count.map_or(0, |row| row.count).to_string(),
                ]
            }),
        ),
        drops,
    );
}

fn summary(view: &View) -> ratatui::widgets::Paragraph<'static> {
    let statistics = &view.statistics;
    let bindings: usize = statistics.bindings.iter().map(|row| row.count).sum();
    let routes = &statistics.routes;
    let text = format!(
        "{} clients, {bindings} bindings, routes: {} installed, {} pending, {} failed, {} neighbours",
        statistics.clients, routes.installed, routes.pending, routes.failed, routes.neighbors
    );
    let block = Block::bordered()
        .title(" twinrelay ")
        .title_bottom(" q: quit ");
    ratatui::widgets::Paragraph::new(Line::from(text)).block(block)
}

fn table<'a>(
    title: &'a str,
    header: [&'a str; 5],
    rows: impl Iterator<Item = [String; 5]>,
) -> Table<'a> {
    let widths = [
        Constraint::Fill(2),
        Constraint::Length(12),
        Constraint::Fill(2),
        Constraint::Length(10),
        Constraint::Length(12),
    ];
    let rows = rows.map(|cells| Row::new(cells.map(Cell::from)));
    Table::new(rows, widths)
        .header(Row::new(header).style(Style::new().bold()))
        .block(Block::bordered().title(title))
}

#[cfg(test)]
mod tests {
    use ratatui::Terminal;
    use ratatui::backend::TestBackend;

    use super::*;
    use crate::control::documents::MessageCount;

    fn messages(count: u64) -> Statistics {
        Statistics {
            messages: vec![MessageCount {
                interface: "acc0".to_owned(),
                direction: "from-client".to_owned(),
                message_type: "solicit".to_owned(),
                count,
            }],
            clients: 2,
            ..Statistics::default()
        }
    }

    #[test]
    fn view_shows_rates_of_the_last_interval() {
        let mut view = View::default();
        view.update(messages(100), Duration::from_secs(1));
        view.update(messages(150), Duration::from_secs(2));
        let mut terminal = Terminal::new(TestBackend::new(100, 16)).unwrap();

        terminal.draw(|frame| draw(frame, &view)).unwrap();

        insta::assert_snapshot!(terminal.backend());
    }
}
