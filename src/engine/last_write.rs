//! The last write of the server, by which its health is judged.

use std::time::Duration;

use parking_lot::Mutex;
use tokio::time::Instant;

/// Time in which a write shows that others will succeed.
const RECENT: Duration = Duration::from_secs(3);

/// When a lane last committed a group. None: none yet, or the database failed since.
#[derive(Default)]
pub struct LastWrite(Mutex<Option<Instant>>);

impl LastWrite {
    /// Notes that a group was committed.
    pub fn succeeded(&self) {
        *self.0.lock() = Some(Instant::now());
    }

    /// Notes that the database failed a group; writes before count no longer.
    pub fn failed(&self) {
        *self.0.lock() = None;
    }

    /// Whether a group was committed within [`RECENT`], and none failed since.
    pub fn is_recent(&self) -> bool {
        self.0.lock().is_some_and(|written| written.elapsed() < RECENT)
    }

    /// Whether a group was committed after a moment, and none failed since.
    pub fn is_after(&self, moment: Instant) -> bool {
        self.0.lock().is_some_and(|written| moment < written)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failure_ends_what_earlier_writes_show() {
        let last = LastWrite::default();
        let start = Instant::now();
        assert!(!last.is_recent() && !last.is_after(start));
        last.succeeded();
        assert!(last.is_recent() && last.is_after(start) && !last.is_after(Instant::now()));
        last.failed();
        assert!(!last.is_recent() && !last.is_after(start));
    }
}
