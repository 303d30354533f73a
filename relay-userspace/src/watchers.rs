//! Who watches bindings change: the relay thread makes a view of each renewal only while somebody
//! does.

use std::sync::{Arc, Mutex, PoisonError};

use crate::handle::{Command, RelayBusy, RelayHandle};

/// Counts those who watch; cheap to clone.
#[derive(Clone, Debug)]
pub struct Watchers {
    relay: RelayHandle,
    count: Arc<Mutex<usize>>,
}

impl Watchers {
    /// Nobody watches yet.
    pub fn new(relay: RelayHandle) -> Self {
        Self {
            relay,
            count: Arc::default(),
        }
    }

    /// One more, until the answer is dropped. `None` where `max` watch already.
    ///
    /// # Errors
    /// The relay thread cannot be told.
    pub fn enter(&self, max: usize) -> Result<Option<Watching>, RelayBusy> {
        let mut count = self.count.lock().unwrap_or_else(PoisonError::into_inner);
        if *count >= max {
            return Ok(None);
        }
        if *count == 0 {
            self.relay.send(Command::Observe(true))?;
        }
        *count += 1;
        Ok(Some(Watching(self.clone())))
    }
}

/// Somebody watches.
#[derive(Debug)]
pub struct Watching(Watchers);

impl Drop for Watching {
    fn drop(&mut self) {
        let mut count = self.0.count.lock().unwrap_or_else(PoisonError::into_inner);
        *count -= 1;
        if *count == 0 {
            // A relay thread too busy to hear it only makes views that nobody reads.
            let _ = self.0.relay.send(Command::Observe(false));
        }
    }
}
