//! The report of the story: one HTML file without anything from elsewhere. Decides what a reader sees first.

use super::chart::chart;
use super::{Act, Run, ways};
use crate::lab::twins::ROUTERS;
use std::time::Duration;

const STYLE: &str = include_str!("report.css");

/// The whole file.
pub(super) fn html(runs: &[Run]) -> String {
    let until = runs.iter().map(|run| run.record.end()).max();
    let until = until.unwrap_or_default() + Duration::from_millis(200);
    let mut body = String::new();
    body += "<header><h1>A router comes back from nothing</h1>\
        <p class=\"lead\">Two routers share a gateway. One loses its power and its disk, and returns. Probes run to and from \
        every subscriber's address and delegated prefix, 125 a second on each of twelve streams. \
        The same acts, with the \
        same servers, clients and VRRP, with two relays.</p></header><section class=\"figures\">";
    for run in runs {
        let (_, lost) = run.lost(Act::Return);
        let (from, until) = run.time(Act::Return);
        let sent: usize = ways()
            .map(|(direction, target)| run.record.count(direction, target, from, until).sent)
            .sum();
        let class = if lost == 0 { "good" } else { "bad" };
        let explained = match run.in_sync() {
            Some(at) => format!(
                "in sync {:.1} s after its power was back; then VRRP moved",
                (at - run.on).as_secs_f64()
            ),
            None => "VRRP moved by a timer; nobody knew that its routes were missing".to_owned(),
        };
        body += &format!(
            "<div class=\"figure {class}\"><h2>{}</h2><p class=\"number\">{}</p>\
             <p>of {} probes lost when the router came back</p><p class=\"more\">{explained}</p></div>",
            run.name,
            grouped(lost),
            grouped(sent)
        );
    }
    body += "</section>";
    for run in runs {
        body += &format!(
            "<section><h2>{}</h2><div class=\"chart\">{}</div></section>",
            run.name,
            chart(run, until)
        );
    }
    body += LEGEND;
    body += &losses(runs);
    body += &subscribers(runs);
    format!(
        "<!doctype html>\n<html lang=\"en\"><head><meta charset=\"utf-8\">\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\
         <meta name=\"color-scheme\" content=\"light dark\">\
         <title>twinrelay: a router comes back from nothing</title>\n<style>\n{STYLE}</style></head>\n\
         <body><main>\n{body}\
         <footer>Written by <code>cargo xtask demo</code>.</footer></main></body></html>\n"
    )
}

const LEGEND: &str = "<p class=\"legend\"><span><i class=\"arrived\"></i>arrived, above the line</span>\
    <span><i class=\"lost\"></i>lost, below it</span><span><i class=\"r1\"></i>r1</span><span><i class=\"r2\"></i>r2</span>\
    <span><i class=\"routes\"></i>routes in the kernel (filled)</span><span><i class=\"bindings\"></i>bindings (line)</span></p>";

fn losses(runs: &[Run]) -> String {
    let mut html =
        "<section><h2>Lost, of sent</h2><table><thead><tr><th>while</th><th>from → to</th>"
            .to_owned();
    for run in runs {
        html += &format!("<th class=\"number\">{}</th>", run.name);
    }
    html += "</tr></thead><tbody>";
    for act in Act::ALL {
        for (row, (direction, target)) in ways().enumerate() {
            let first = match row {
                0 => format!("<th rowspan=\"4\">{}</th>", act.title()),
                _ => String::new(),
            };
            let way = match direction.name() {
                "inward" => format!("Internet → {}", target.name()),
                _ => format!("{} → Internet", target.name()),
            };
            html += &format!("<tr>{first}<td>{way}</td>");
            for run in runs {
                let (from, until) = run.time(act);
                let count = run.record.count(direction, target, from, until);
                let class = if count.lost == 0 { "good" } else { "bad" };
                html += &format!(
                    "<td class=\"number {class}\">{} <span class=\"more\">of {}</span></td>",
                    grouped(count.lost),
                    grouped(count.sent)
                );
            }
            html += "</tr>";
        }
    }
    html + "</tbody></table></section>"
}

fn subscribers(runs: &[Run]) -> String {
    let mut html = String::new();
    for run in runs {
        for (router, shown) in ROUTERS.into_iter().zip(&run.shown) {
            html += &format!(
                "<details><summary><code>{router}$ twinrelay show subscribers --extensive</code>, before</summary>\
                 <pre>{}</pre></details>",
                escaped(shown)
            );
        }
    }
    format!("<section>{html}</section>")
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;")
        .replace('<', "&lt;")
        .replace('>', "&gt;")
}

/// 12345 as 12,345.
fn grouped(number: usize) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_have_their_thousands_apart() {
        assert_eq!(
            [0, 999, 1000, 1_234_567].map(grouped),
            ["0", "999", "1,000", "1,234,567"]
        );
    }
}
