//! Grace after a start or an outage of the database, when holders could not renew: for a while, leases and permits from before do not expire.
//! What was granted or renewed since then expires as usual.

use std::time::{Duration, Instant};

use parking_lot::Mutex;

use crate::domain::time::Timestamp;
use crate::operation::overlay::Spared;

/// Which leases and permits this server lets live beyond their expiry.
#[derive(Debug, Default)]
pub struct Grace {
    inner: Mutex<Inner>,
}

#[derive(Debug, Default)]
struct Inner {
    lasts: Duration,
    spared: Spared,
    /// When the outage ended. None: it has not.
    found: Option<Instant>,
}

impl Grace {
    /// Begins as in an outage. Each grace lasts for `lasts` after its end; zero: there is none.
    pub fn begin(&self, lasts: Duration) {
        self.inner.lock().lasts = lasts;
        self.lost();
    }

    /// Notes that the database did not respond.
    pub fn lost(&self) {
        let mut inner = self.inner.lock();
        if !inner.lasts.is_zero() {
            inner.spared = Spared::All;
        }
    }

    /// Notes that the database responded, at this time of its clock.
    pub fn found(&self, now: Timestamp) {
        let mut inner = self.inner.lock();
        if inner.spared == Spared::All {
            inner.spared = Spared::Before(now);
            inner.found = Some(Instant::now());
        }
    }

    /// Leases and permits that are spared now.
    pub fn spared(&self) -> Spared {
        let mut inner = self.inner.lock();
        let is_over = inner.found.is_some_and(|found| found.elapsed() >= inner.lasts);
        if is_over && matches!(inner.spared, Spared::Before(_)) {
            inner.spared = Spared::None;
        }
        inner.spared
    }

    /// Longest time until the grace ends.
    pub fn remaining(&self) -> Duration {
        let inner = self.inner.lock();
        inner.found.map_or(inner.lasts, |found| inner.lasts.saturating_sub(found.elapsed()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BACK: Timestamp = Timestamp(1_000);
    const LONG: Duration = Duration::from_secs(3_600);

    #[test]
    fn a_grace_of_zero_spares_none() {
        let grace = Grace::default();
        assert_eq!(grace.spared(), Spared::None);
        grace.begin(Duration::ZERO);
        grace.lost();
        assert_eq!(grace.spared(), Spared::None);
    }

    #[test]
    fn an_outage_spares_what_is_from_before_its_end() {
        let grace = Grace::default();
        grace.begin(LONG);
        assert!(grace.spared().spares(BACK), "all are spared until the database responds");
        grace.found(BACK);
        grace.found(Timestamp(2_000));
        assert!(grace.spared().spares(Timestamp(999)));
        assert!(!grace.spared().spares(BACK), "the first response counts");
        grace.lost();
        grace.found(Timestamp(3_000));
        assert!(grace.spared().spares(Timestamp(2_999)));
    }

    #[test]
    fn a_grace_ends_and_begins_again() {
        let grace = Grace::default();
        grace.begin(Duration::from_nanos(1));
        grace.found(BACK);
        while grace.spared() != Spared::None {
            std::hint::spin_loop();
        }
        grace.lost();
        assert_eq!(grace.spared(), Spared::All);
    }
}
