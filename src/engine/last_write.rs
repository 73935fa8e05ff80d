//! When a write was last done, by which the health of the server is judged.

use std::time::Duration;

use parking_lot::{Mutex, MutexGuard};
use tokio::time::Instant;

/// For how long a write that was done stands for those to come.
const RECENT: Duration = Duration::from_secs(3);

/// The last write of any lane.
#[derive(Default)]
pub struct LastWrite(Mutex<Option<Instant>>);

impl LastWrite {
    /// A group was committed.
    pub fn done(&self) {
        *self.lock() = Some(Instant::now());
    }

    /// A group was not committed, for want of the database: what was done before stands for nothing.
    pub fn failed(&self) {
        *self.lock() = None;
    }

    /// Whether one was done a moment ago, and none failed since.
    pub fn is_recent(&self) -> bool {
        self.lock().is_some_and(|done| done.elapsed() < RECENT)
    }

    /// Whether one was done after a moment, and none failed since.
    pub fn is_after(&self, moment: Instant) -> bool {
        self.lock().is_some_and(|done| moment < done)
    }

    fn lock(&self) -> MutexGuard<'_, Option<Instant>> {
        self.0.lock()
    }
}
