//! SIGHUP: the file is read again. A file with faults changes nothing and says why; a good one
//! changes what it says and leaves everything else alone.

use std::sync::Arc;

use super::Daemon;
use crate::config::{self, Config, OnExit};
use crate::notify;

impl Daemon {
    /// Reads the file again.
    pub(super) async fn reload(&mut self) {
        notify::reloading();
        match self.try_reload().await {
            Ok(()) => {
                self.events.publish_reload(None);
                tracing::info!("the configuration was reloaded");
            }
            Err(Refused { summary, lines }) => {
                self.events.publish_reload(Some(&summary));
                lines.iter().for_each(|line| tracing::error!("{line}"));
                tracing::error!("the configuration was not reloaded; the old one stays in force");
            }
        }
        notify::ready();
        self.tell_status();
    }

    async fn try_reload(&mut self) -> Result<(), Refused> {
        let loaded = config::load(&self.file).map_err(|report| Refused {
            summary: report.summary(),
            // The drawing of the offending line says more than one line of text.
            lines: report.render(false).lines().map(str::to_owned).collect(),
        })?;
        for (_, line) in loaded.report.lines() {
            tracing::warn!("{line}");
        }
        let mut new = loaded.config;
        let old = Arc::clone(&self.config.borrow());
        for (key, what) in keep_fixed(&old, &mut new) {
            tracing::warn!(
                "{key} cannot change while the daemon runs: {what} stays until a restart"
            );
        }
        // First what can fail, so that a failure leaves everything as it was.
        let listening = self.metrics.listen(new.metrics.listen).await;
        listening.map_err(|error| Refused::because(&error.to_string()))?;
        if let Err(error) = self.log.reload(&new.log) {
            // Without effect on the new metrics address this would be half a reload.
            let _ = self.metrics.listen(old.metrics.listen).await;
            return Err(Refused::because(&error.to_string()));
        }
        self.leasequery.reload(&new);
        self.binding_log.write(new.relay.binding_log.clone()).await;
        let routes = new.routes.clone();
        self.config.send_replace(Arc::new(new));
        if routes != old.routes {
            self.parts.routes.queue.configure(routes);
        }
        self.surround();
        Ok(())
    }
}

/// Why a file was not taken: in one line, and at length.
struct Refused {
    summary: String,
    lines: Vec<String>,
}

impl Refused {
    fn because(reason: &str) -> Self {
        Self {
            summary: reason.to_owned(),
            lines: vec![reason.to_owned()],
        }
    }
}

/// Puts back what only a start can change; answers the keys concerned.
fn keep_fixed(old: &Config, new: &mut Config) -> Vec<(&'static str, String)> {
    let mut kept = Vec::new();
    let mut keep = |key, differs: bool, old: String| {
        if differs {
            kept.push((key, old));
        }
    };
    let relay = &old.relay;
    keep(
        "[relay] state_dir",
        relay.state_dir != new.relay.state_dir,
        relay.state_dir.display().to_string(),
    );
    keep(
        "[relay] run_dir",
        relay.run_dir != new.relay.run_dir,
        relay.run_dir.display().to_string(),
    );
    keep(
        "[relay] user",
        relay.user != new.relay.user,
        relay
            .user
            .clone()
            .unwrap_or_else(|| "the present user".to_owned()),
    );
    keep(
        "[dataplane] pin_path",
        old.dataplane.pin_path != new.dataplane.pin_path,
        old.dataplane.pin_path.display().to_string(),
    );
    keep(
        "[dataplane] on_exit",
        old.dataplane.on_exit != new.dataplane.on_exit,
        match old.dataplane.on_exit {
            OnExit::Keep => "keep",
            OnExit::Detach => "detach",
        }
        .to_owned(),
    );
    new.relay.state_dir.clone_from(&relay.state_dir);
    new.relay.run_dir.clone_from(&relay.run_dir);
    new.relay.user.clone_from(&relay.user);
    new.dataplane.pin_path.clone_from(&old.dataplane.pin_path);
    new.dataplane.on_exit = old.dataplane.on_exit;
    kept
}
