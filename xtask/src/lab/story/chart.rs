//! One run as a picture over time: SVG, drawn with the report's classes. Decides where what is drawn; knows the
//! numbers, not what they mean.

use super::watch::Sample;
use super::{Act, Run, ways};
use crate::lab::twins::ROUTERS;
use std::time::Duration;

const WIDTH: f64 = 1120.0;
/// Names of the lanes stand left of it.
const LEFT: f64 = 176.0;
const RIGHT: f64 = 12.0;
const TOP: f64 = 62.0;
const PROBES_HEIGHT: f64 = 46.0;
const STATE_HEIGHT: f64 = 20.0;
const COUNT_HEIGHT: f64 = 40.0;
const SPACE: f64 = 12.0;

/// Time to the right, lanes below each other.
struct Chart {
    svg: String,
    y: f64,
    secs: f64,
}

/// The picture of a run, whose time axis ends at `until` as those of the others do.
pub(super) fn chart(run: &Run, until: Duration) -> String {
    let mut chart = Chart {
        svg: String::new(),
        y: TOP,
        secs: until.as_secs_f64(),
    };
    chart.probes(run);
    chart.y += 6.0;
    chart.gateway(run);
    for (router, samples) in ROUTERS.into_iter().zip(&run.samples) {
        if run.is_twinrelay {
            chart.session(router, samples);
        }
    }
    for (router, samples) in ROUTERS.into_iter().zip(&run.samples) {
        chart.counts(router, samples, run);
    }
    let bottom = chart.y;
    let mut behind = String::new();
    for (act, from, end) in [(Act::Outage, run.off, run.on), (Act::Return, run.on, until)] {
        let (x, right) = (chart.x(from), chart.x(end));
        let class = if act == Act::Outage {
            "outage"
        } else {
            "return"
        };
        behind += &format!(
            "<rect class=\"{class}\" x=\"{x:.1}\" y=\"{:.1}\" width=\"{:.1}\" height=\"{:.1}\"/>",
            TOP - 8.0,
            (right - x).max(0.0),
            bottom - TOP + 8.0
        );
    }
    behind += &chart.axis(bottom);
    let events = chart.events(run, bottom);
    let height = bottom + 26.0;
    format!(
        "<svg viewBox=\"0 0 {WIDTH} {height:.0}\" role=\"img\" aria-label=\"{} over {:.0} seconds: probes, gateway, \
         sessions, bindings and routes\">{behind}{}{events}</svg>",
        run.name, chart.secs, chart.svg
    )
}

impl Chart {
    fn x(&self, at: Duration) -> f64 {
        let part = (at.as_secs_f64() / self.secs).min(1.0);
        LEFT + part * (WIDTH - LEFT - RIGHT)
    }

    fn name(&mut self, height: f64, name: &str, more: &str) {
        let y = self.y + height / 2.0;
        self.svg += &format!(
            "<text class=\"name\" x=\"0\" y=\"{:.1}\">{name}</text>",
            if more.is_empty() { y + 4.0 } else { y - 2.0 }
        );
        if !more.is_empty() {
            self.svg += &format!(
                "<text class=\"more\" x=\"0\" y=\"{:.1}\">{more}</text>",
                y + 12.0
            );
        }
    }

    /// What arrived stands above the line, what was lost hangs below it.
    fn probes(&mut self, run: &Run) {
        let most = run
            .record
            .tenths()
            .flat_map(|(from, until)| {
                ways().map(move |(direction, target)| {
                    run.record.count(direction, target, from, until).sent
                })
            })
            .max()
            .unwrap_or(1)
            .max(1) as f64;
        for (direction, target) in ways() {
            let (name, arrow) = match direction.name() {
                "inward" => ("Internet", "to"),
                _ => ("to Internet", "from"),
            };
            let lost = run
                .record
                .count(direction, target, Duration::ZERO, Duration::MAX);
            self.name(
                PROBES_HEIGHT,
                &match arrow {
                    "to" => format!("{name} → {}", target.name()),
                    _ => format!("{} → Internet", target.name()),
                },
                &format!("{} of {} lost", lost.lost, lost.sent),
            );
            let line = self.y + PROBES_HEIGHT / 2.0;
            let unit = PROBES_HEIGHT / 2.0 / most;
            let (mut up, mut down) = (String::new(), String::new());
            for (from, until) in run.record.tenths() {
                let count = run.record.count(direction, target, from, until);
                let (x, right) = (self.x(from), self.x(until));
                let arrived = (count.sent - count.lost) as f64 * unit;
                let lost = count.lost as f64 * unit;
                if arrived > 0.0 {
                    up += &format!(
                        "M{x:.1} {line:.1}V{:.1}H{right:.1}V{line:.1}z",
                        line - arrived
                    );
                }
                if lost > 0.0 {
                    down += &format!("M{x:.1} {line:.1}V{:.1}H{right:.1}V{line:.1}z", line + lost);
                }
            }
            self.svg += &format!(
                "<path class=\"arrived\" d=\"{up}\"/><path class=\"lost\" d=\"{down}\"/>\
                 <line class=\"base\" x1=\"{LEFT}\" x2=\"{:.1}\" y1=\"{line:.1}\" y2=\"{line:.1}\"/>",
                WIDTH - RIGHT
            );
            self.y += PROBES_HEIGHT + SPACE;
        }
    }

    fn gateway(&mut self, run: &Run) {
        self.name(STATE_HEIGHT, "gateway (VRRP)", "");
        let (first, second) = (&run.samples[0], &run.samples[1]);
        let states: Vec<(Duration, String)> = first
            .iter()
            .map(|it| {
                let at = second.iter().rfind(|other| other.at <= it.at);
                let other = at.is_some_and(|other| other.has_gateway);
                let owner = match (it.has_gateway, other) {
                    (true, false) => "r1",
                    (false, true) => "r2",
                    (false, false) => "nobody",
                    (true, true) => "both",
                };
                (it.at, owner.to_owned())
            })
            .collect();
        self.states(&states);
    }

    fn session(&mut self, router: &str, samples: &[Sample]) {
        self.name(STATE_HEIGHT, &format!("{router} asks its twin"), "");
        let states: Vec<(Duration, String)> = samples
            .iter()
            .map(|it| {
                let state =
                    it.relay
                        .as_ref()
                        .map_or("no relay".to_owned(), |said| match said.is_ready {
                            true => said.session.clone(),
                            false => format!("{}, not ready", said.session),
                        });
                (it.at, state)
            })
            .collect();
        self.states(&states);
    }

    /// Equal ones in a row are one bar.
    fn states(&mut self, states: &[(Duration, String)]) {
        let end = states.last().map_or(Duration::ZERO, |it| it.0);
        let runs = states.chunk_by(|one, next| one.1 == next.1);
        let begins: Vec<(Duration, &str)> = runs.map(|run| (run[0].0, run[0].1.as_str())).collect();
        let ends = begins.iter().skip(1).map(|it| it.0).chain([end]);
        let bars: Vec<(Duration, Duration, &str)> = begins
            .iter()
            .zip(ends)
            .map(|((from, state), until)| (*from, until, *state))
            .collect();
        for (from, until, state) in bars {
            let (x, right) = (self.x(from), self.x(until));
            let class = match state {
                "r1" => "r1",
                "r2" => "r2",
                "active" => "good",
                "nobody" | "no relay" => "none",
                _ => "busy",
            };
            let width = (right - x).max(1.5);
            self.svg += &format!(
                "<rect class=\"state {class}\" x=\"{x:.1}\" y=\"{:.1}\" width=\"{width:.1}\" height=\"{STATE_HEIGHT}\" \
                 rx=\"3\"><title>{state}, from {:.1} s to {:.1} s</title></rect>",
                self.y,
                from.as_secs_f64(),
                until.as_secs_f64()
            );
            if width > 7.0 * state.len() as f64 + 8.0 {
                self.svg += &format!(
                    "<text class=\"in {class}\" x=\"{:.1}\" y=\"{:.1}\">{state}</text>",
                    x + 6.0,
                    self.y + STATE_HEIGHT / 2.0 + 4.0
                );
            }
        }
        self.y += STATE_HEIGHT + SPACE;
    }

    /// Routes filled, bindings as a line on top.
    fn counts(&mut self, router: &str, samples: &[Sample], run: &Run) {
        let bindings = |it: &Sample| it.relay.as_ref().map_or(0, |said| said.bindings);
        let all = run.samples.iter().flatten();
        let most = all.map(|it| it.routes.max(bindings(it))).max();
        let most = most.unwrap_or(1).max(1) as f64;
        let name = match run.is_twinrelay {
            true => format!("{router}: bindings, routes"),
            false => format!("{router}: routes by hand"),
        };
        self.name(COUNT_HEIGHT, &name, &format!("0 to {most}"));
        let bottom = self.y + COUNT_HEIGHT;
        let y = |count: usize| bottom - count as f64 / most * (COUNT_HEIGHT - 3.0);
        let steps = |of: &dyn Fn(&Sample) -> usize| {
            let mut path = String::new();
            for it in samples {
                path += &format!("H{:.1}V{:.1}", self.x(it.at), y(of(it)));
            }
            path
        };
        let routes = steps(&|it| it.routes);
        let end = samples.last().map_or(LEFT, |it| self.x(it.at));
        let first = samples.first();
        let start = |of: &dyn Fn(&Sample) -> usize| first.map_or(bottom, |it| y(of(it)));
        let filled = format!(
            "<path class=\"routes {router}\" d=\"M{LEFT} {bottom:.1}V{:.1}{routes}H{end:.1}V{bottom:.1}z\"/>",
            start(&|it| it.routes)
        );
        let line = match run.is_twinrelay {
            true => format!(
                "<path class=\"bindings {router}\" d=\"M{LEFT} {:.1}{}\"/>",
                start(&bindings),
                steps(&bindings)
            ),
            false => String::new(),
        };
        self.svg += &filled;
        self.svg += &line;
        self.svg += &format!(
            "<line class=\"base\" x1=\"{LEFT}\" x2=\"{:.1}\" y1=\"{bottom:.1}\" y2=\"{bottom:.1}\"/>",
            WIDTH - RIGHT
        );
        self.y += COUNT_HEIGHT + SPACE;
    }

    fn axis(&self, bottom: f64) -> String {
        let mut svg = String::new();
        for second in (0..=self.secs as u64).step_by(2) {
            let x = self.x(Duration::from_secs(second));
            svg += &format!(
                "<line class=\"grid\" x1=\"{x:.1}\" x2=\"{x:.1}\" y1=\"{:.1}\" y2=\"{bottom:.1}\"/>\
                 <text class=\"tick\" x=\"{x:.1}\" y=\"{:.1}\">{second} s</text>",
                TOP - 8.0,
                bottom + 16.0
            );
        }
        svg
    }

    fn events(&self, run: &Run, bottom: f64) -> String {
        let mut events = vec![
            (run.off, "r1 loses power"),
            (run.taken_over, "gateway on r2"),
            (run.on, "r1 returns empty"),
            (run.back, "gateway on r1"),
        ];
        if run.is_twinrelay
            && let Some(at) = run.in_sync()
        {
            events.insert(3, (at, "r1 in sync"));
        }
        let mut svg = String::new();
        // Two rows in turn, so that neighbours do not cover each other.
        for (number, (at, text)) in events.into_iter().enumerate() {
            let x = self.x(at);
            let y = [14.0, 30.0, 46.0][number % 3];
            svg += &format!(
                "<line class=\"event\" x1=\"{x:.1}\" x2=\"{x:.1}\" y1=\"{:.1}\" y2=\"{bottom:.1}\"/>\
                 <text class=\"event\" x=\"{:.1}\" y=\"{y}\">{text} <tspan class=\"more\">{:.1} s</tspan></text>",
                y + 4.0,
                x + 3.0,
                at.as_secs_f64()
            );
        }
        svg
    }
}
