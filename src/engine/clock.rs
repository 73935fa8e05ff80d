//! The database's clock between its replies: the last time it told plus what has passed since, a lower bound.

use std::sync::Mutex;
use std::time::{Duration, Instant};

use crate::domain::time::Timestamp;

/// After this the clock is asked again before a decision.
const STALE_AFTER: Duration = Duration::from_secs(1);

/// The last reading.
#[derive(Debug, Default)]
pub struct Clock {
    last: Mutex<Option<(Timestamp, Instant)>>,
}

impl Clock {
    /// Notes what the database just said.
    pub fn observe(&self, now: Timestamp) {
        *self.last.lock().unwrap_or_else(|poisoned| poisoned.into_inner()) = Some((now, Instant::now()));
    }

    /// The time, if it was read lately.
    pub fn fresh(&self) -> Option<Timestamp> {
        let last = *self.last.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        last.filter(|(_, read)| read.elapsed() < STALE_AFTER).map(|(now, read)| now.after(read.elapsed()))
    }

    /// The time as far as it is known; the beginning of time before the first reading.
    pub fn now(&self) -> Timestamp {
        let last = *self.last.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        last.map_or(Timestamp(0), |(now, read)| now.after(read.elapsed()))
    }
}
