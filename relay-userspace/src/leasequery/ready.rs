//! Whether this relay may attract traffic, as others see it: the file `run_dir/ready` for keepalived,
//! the log and `monitor`. What it depends on is the core's decision.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use relay_core::alq::Readiness;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::events::{EventKind, Events};
use crate::handle::Surroundings;

/// `0` or `1`, and replaced as a whole: a reader never finds it empty.
#[derive(Clone, Debug)]
pub struct ReadyFile {
    path: PathBuf,
}

impl ReadyFile {
    /// In `run_dir`, which exists.
    pub fn new(run_dir: &Path) -> Self {
        Self {
            path: run_dir.join("ready"),
        }
    }

    /// Writes it. Where that fails the log says so, and that keepalived does not hear of it.
    pub fn write(&self, is_ready: bool) {
        if let Err(error) = self.replace(is_ready) {
            let path = self.path.display();
            tracing::error!("cannot write {path}: {error}; whoever tracks it goes by what it says");
        }
    }

    fn replace(&self, is_ready: bool) -> io::Result<()> {
        let new = self.path.with_extension("new");
        std::fs::write(&new, if is_ready { "1\n" } else { "0\n" })?;
        std::fs::rename(new, &self.path)
    }
}

/// What is said before the core has said anything.
pub fn starting() -> Readiness {
    Readiness {
        is_ready: false,
        is_by_timeout: false,
        reason: "starting".to_owned(),
    }
}

/// Tells of changes until `stop` is cancelled; the file says no then.
pub async fn tell(
    mut ready: watch::Receiver<Readiness>,
    file: ReadyFile,
    surroundings: watch::Receiver<Arc<Surroundings>>,
    events: Events,
    stop: CancellationToken,
) {
    let mut told = starting();
    loop {
        let now = ready.borrow_and_update().clone();
        if now.is_ready != told.is_ready || now.is_by_timeout != told.is_by_timeout {
            file.write(now.is_ready);
            let reason = surroundings.borrow().names.put_into(&now.reason);
            say(&now, &reason);
            events.publish(EventKind::Readiness {
                event: name(&now).to_owned(),
                reason,
            });
            told = now;
        }
        tokio::select! {
            changed = ready.changed() => if changed.is_err() { break },
            () = stop.cancelled() => break,
        }
    }
    file.write(false);
}

/// In `monitor` and metrics.
pub const fn name(readiness: &Readiness) -> &'static str {
    match (readiness.is_ready, readiness.is_by_timeout) {
        (false, _) => "not-ready",
        (true, false) => "ready",
        (true, true) => "ready-by-timeout",
    }
}

fn say(now: &Readiness, reason: &str) {
    match (now.is_ready, now.is_by_timeout) {
        (true, false) => tracing::info!("ready: {reason}"),
        (true, true) => {
            tracing::warn!(
                "ready without being in sync: {reason}; clients that only another relay knows have no routes here"
            );
        }
        (false, _) => tracing::warn!("not ready any more: {reason}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::surroundings;

    fn of(path: &Path) -> String {
        std::fs::read_to_string(path).unwrap_or_default()
    }

    #[tokio::test]
    async fn file_says_one_only_while_the_relay_is_ready() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("ready");
        let file = ReadyFile::new(folder.path());
        file.write(false);
        assert_eq!(of(&path), "0\n");
        let events = Events::new(Arc::default());
        let mut reader = events.subscribe();
        let (ready, receiver) = watch::channel(starting());
        let (_keep, surroundings) = watch::channel(Arc::new(surroundings()));
        let stop = CancellationToken::new();
        let telling = tokio::spawn(tell(receiver, file, surroundings, events, stop.clone()));

        ready.send_replace(Readiness {
            is_ready: true,
            is_by_timeout: false,
            reason: "in sync with {0}".to_owned(),
        });
        let event = reader.next().await.expect("it is told");
        assert_eq!(of(&path), "1\n");
        let expected = EventKind::Readiness {
            event: "ready".to_owned(),
            reason: "in sync with r2".to_owned(),
        };
        assert_eq!(event.what, expected);

        stop.cancel();
        telling.await.unwrap();
        assert_eq!(of(&path), "0\n");
        assert!(!folder.path().join("ready.new").exists());
    }
}
