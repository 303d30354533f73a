//! The wall clock, for a core that only knows the boot clock: told at the start, and again whenever
//! somebody sets it.

use std::time::Duration;

use tokio_util::sync::CancellationToken;

use crate::handle::{Command, RelayHandle};
use crate::wall_time::WallTime;

const LOOK_EVERY: Duration = Duration::from_secs(1);
/// Less than this is the time between reading one clock and the other.
const STEP_NANOS: u64 = 1_000_000;

/// Tells of steps until `stop` is cancelled.
pub async fn watch(relay: RelayHandle, stop: CancellationToken) {
    let mut told = WallTime::read().ahead_nanos();
    let mut look = tokio::time::interval(LOOK_EVERY);
    loop {
        tokio::select! {
            _ = look.tick() => {
                let now = WallTime::read().ahead_nanos();
                // Full: told with the next look.
                if now.abs_diff(told) > STEP_NANOS && relay.send(Command::WallClock(now)).is_ok() {
                    let seconds = now.saturating_sub(told) / 1_000_000_000;
                    tracing::info!(seconds, "the system clock was set");
                    told = now;
                }
            }
            () = stop.cancelled() => return,
        }
    }
}
