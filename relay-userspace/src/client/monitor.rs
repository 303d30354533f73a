//! `monitor`: one line an event, until interrupted.

use std::io::{self, Write};

use super::Failure;
use super::http::{Daemon, parse};
use crate::events::{Event, EventKind};

/// An event is a client with one lease; more than this is not one.
const LINE_MAX: usize = 1 << 20;

/// Prints until the daemon ends or the reader leaves.
pub(super) async fn run(daemon: &Daemon, json: bool) -> Result<(), Failure> {
    let mut answer = daemon.stream("/v1/events", &[]).await?;
    let mut output = io::stdout();
    let mut lines = Lines::default();
    while let Some(piece) = answer.next().await? {
        for line in lines.feed(&piece)? {
            if json {
                output.write_all(&line)?;
                output.write_all(b"\n")?;
            } else {
                writeln!(output, "{}", text(&parse(&line)?))?;
            }
        }
        output.flush()?;
    }
    Err(Failure::Unreachable(
        "the daemon has stopped; start `twinrelay run`".to_owned(),
    ))
}

/// Pieces → whole lines.
#[derive(Debug, Default)]
pub(super) struct Lines(Vec<u8>);

impl Lines {
    pub(super) fn feed(&mut self, piece: &[u8]) -> Result<Vec<Vec<u8>>, Failure> {
        self.0.extend_from_slice(piece);
        let mut lines = Vec::new();
        while let Some(end) = self.0.iter().position(|&byte| byte == b'\n') {
            let mut line: Vec<u8> = self.0.drain(..=end).collect();
            line.pop();
            lines.push(line);
        }
        if self.0.len() > LINE_MAX {
            return Err(Failure::Refused(
                "the daemon sent an endless line".to_owned(),
            ));
        }
        Ok(lines)
    }
}

/// An event for people.
pub(super) fn text(event: &Event) -> String {
    let time = &event.time;
    let because = |error: &Option<String>| match error {
        Some(error) => format!(": {error}"),
        None => String::new(),
    };
    match &event.what {
        EventKind::Binding { event, binding } => {
            let lease = &binding.lease;
            let remaining = lease.remaining.map_or_else(
                || "for ever".to_owned(),
                |secs| format!("for {}", super::show::age(secs)),
            );
            format!(
                "{time} binding {event} {} {} {remaining} client {} on {} route {}{}",
                lease.ia_type,
                lease.prefix,
                binding.client.duid,
                binding.client.interface,
                lease.route,
                because(&lease.route_error)
            )
        }
        EventKind::Route {
            event,
            prefix,
            interface,
            error,
        } => {
            let on = interface
                .as_ref()
                .map_or_else(String::new, |it| format!(" on {it}"));
            format!("{time} route {event} {prefix}{on}{}", because(error))
        }
        EventKind::Server {
            event,
            name,
            address,
        } => format!("{time} server {event} {name} ({address})"),
        EventKind::Capture {
            event,
            interface,
            reason,
        } => format!("{time} capture {event} {interface}{}", because(reason)),
        EventKind::Configuration { event, reason } => {
            format!("{time} configuration {event}{}", because(reason))
        }
        EventKind::Neighbor {
            event,
            name,
            role,
            reason,
        } => format!(
            "{time} neighbor {event} {name} as {role}{}",
            because(reason)
        ),
        EventKind::Readiness { event, reason } => format!("{time} readiness {event}: {reason}"),
        EventKind::Certificate {
            event,
            name,
            not_after,
        } => format!("{time} certificate {event} {name}: ends {not_after}"),
        EventKind::Lost { events } => {
            format!("{time} lost {events} events: this monitor was too slow")
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_whole_however_they_are_cut() {
        let mut lines = Lines::default();

        assert_eq!(lines.feed(b"one\ntw").unwrap(), [b"one".to_vec()]);
        assert_eq!(lines.feed(b"o\n").unwrap(), [b"two".to_vec()]);
        assert!(lines.feed(&vec![b'x'; LINE_MAX + 1]).is_err());
    }
}
