//! The binding log: every binding event as a JSON line in a file, for operators who must be able to
//! say later who had which address (`[relay] binding_log`).
//!
//! A reader of the event stream like `monitor`, so it never holds the relay up; what it could not
//! write is counted. Decides when to write; where lines go and when a file is full: `file.rs`.

pub mod file;

use std::sync::Arc;

use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::config::BindingLogSection;
use crate::counters::Counters;
use crate::events::{Event, EventKind, EventReader};
use crate::watchers::Watching;
use file::LogFile;

/// Lines gathered for one write.
const WRITE_BYTES: usize = 256 * 1024;

/// A log that is being written.
#[derive(Debug)]
pub struct BindingLog {
    stop: CancellationToken,
    task: JoinHandle<()>,
}

impl BindingLog {
    /// Writes everything that `reader` brings from now on.
    pub fn start(
        section: BindingLogSection,
        reader: EventReader,
        watching: Watching,
        counters: Arc<Counters>,
    ) -> Self {
        let stop = CancellationToken::new();
        let writer = Writer {
            file: Some(LogFile::new(section)),
            lines: Vec::new(),
            count: 0,
            failed: false,
            counters,
        };
        let task = tokio::spawn(writer.run(reader, stop.clone(), watching));
        Self { stop, task }
    }

    /// Writes what has happened so far, and ends.
    pub async fn stop(self) {
        self.stop.cancel();
        if let Err(error) = self.task.await {
            tracing::error!(%error, "the binding log ended early");
        }
    }
}

struct Writer {
    /// Away while a thread of its own writes to it.
    file: Option<LogFile>,
    lines: Vec<u8>,
    /// Events in `lines`.
    count: u64,
    failed: bool,
    counters: Arc<Counters>,
}

impl Writer {
    async fn run(mut self, mut reader: EventReader, stop: CancellationToken, _watching: Watching) {
        loop {
            let event = tokio::select! {
                event = reader.next() => event,
                () = stop.cancelled() => None,
            };
            let is_end = event.is_none();
            if let Some(event) = event {
                self.take(&event);
            }
            while self.lines.len() < WRITE_BYTES || is_end {
                let Some(event) = reader.try_next() else {
                    break;
                };
                self.take(&event);
            }
            self.write().await;
            if is_end {
                return;
            }
        }
    }

    fn take(&mut self, event: &Event) {
        match &event.what {
            EventKind::Binding { .. } => {
                serde_json::to_writer(&mut self.lines, event).expect("events are plain data");
                self.lines.push(b'\n');
                self.count += 1;
            }
            EventKind::Lost { events } => self.counters.binding_log_skipped.add(*events),
            _ => {}
        }
    }

    async fn write(&mut self) {
        if self.lines.is_empty() {
            return;
        }
        let lines = std::mem::take(&mut self.lines);
        let file = self.file.take();
        let written = tokio::task::spawn_blocking(move || {
            let mut file = file?;
            let result = file.write(&lines, jiff::Timestamp::now());
            Some((file, lines, result))
        });
        let Ok(Some((file, mut lines, result))) = written.await else {
            self.counters.binding_log_skipped.add(self.count);
            return;
        };
        if let Err(error) = &result {
            self.counters.binding_log_skipped.add(self.count);
            if !self.failed {
                tracing::error!(
                    "cannot write [relay] binding_log {}: {error}; binding events are not \
                     recorded until it can be written",
                    file.path().display()
                );
            }
        } else if self.failed {
            tracing::info!("the binding log can be written again");
        }
        self.failed = result.is_err();
        self.file = Some(file);
        lines.clear();
        self.lines = lines;
        self.count = 0;
    }
}
