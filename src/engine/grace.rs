//! After a start, or a time without the database, holders could not renew what they have: for a while leases and permits from before are
//! spared. What was granted or renewed since then has no part in it and expires as ever.

use std::time::{Duration, Instant};

use parking_lot::{Mutex, MutexGuard};

use crate::domain::time::Timestamp;

/// Leases and permits that do not expire for now.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Spared {
    /// None of them.
    #[default]
    None,
    /// Those that were granted or last renewed before a moment of the database's clock.
    Before(Timestamp),
    /// All: the database is away.
    All,
}

impl Spared {
    /// Whether one is spared that was granted or last renewed at a moment.
    pub fn spares(self, held_since: Timestamp) -> bool {
        match self {
            Self::None => false,
            Self::Before(moment) => held_since < moment,
            Self::All => true,
        }
    }
}

/// Whom this server spares.
#[derive(Debug, Default)]
pub struct Grace {
    inner: Mutex<Inner>,
}

#[derive(Debug, Default)]
struct Inner {
    lasts: Duration,
    spared: Spared,
    /// When the database was found.
    found: Option<Instant>,
}

impl Grace {
    /// Begins as after a loss of the database; each grace lasts so long.
    pub fn begin(&self, lasts: Duration) {
        self.lock().lasts = lasts;
        self.lost();
    }

    /// The database did not answer.
    pub fn lost(&self) {
        let mut inner = self.lock();
        if !inner.lasts.is_zero() {
            inner.spared = Spared::All;
        }
    }

    /// The database answered, at this moment of its clock.
    pub fn found(&self, now: Timestamp) {
        let mut inner = self.lock();
        if inner.spared == Spared::All {
            inner.spared = Spared::Before(now);
            inner.found = Some(Instant::now());
        }
    }

    /// Who is spared now.
    pub fn spared(&self) -> Spared {
        let mut inner = self.lock();
        let is_over = inner.found.is_some_and(|found| found.elapsed() >= inner.lasts);
        if is_over && matches!(inner.spared, Spared::Before(_)) {
            inner.spared = Spared::None;
        }
        inner.spared
    }

    /// How much is left of the grace at most.
    pub fn remaining(&self) -> Duration {
        let inner = self.lock();
        inner.found.map_or(inner.lasts, |found| inner.lasts.saturating_sub(found.elapsed()))
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BACK: Timestamp = Timestamp(1_000);
    const LONG: Duration = Duration::from_secs(3_600);

    #[test]
    fn nobody_is_spared_without_a_grace() {
        let grace = Grace::default();
        assert_eq!(grace.spared(), Spared::None);
        grace.begin(Duration::ZERO);
        grace.lost();
        assert_eq!(grace.spared(), Spared::None);
    }

    #[test]
    fn after_a_loss_what_is_from_before_is_spared_and_nothing_else() {
        let grace = Grace::default();
        grace.begin(LONG);
        assert!(grace.spared().spares(BACK), "until the database is found, all are");
        grace.found(BACK);
        grace.found(Timestamp(2_000));
        assert!(grace.spared().spares(Timestamp(999)));
        assert!(!grace.spared().spares(BACK), "the first answer counts");
        grace.lost();
        grace.found(Timestamp(3_000));
        assert!(grace.spared().spares(Timestamp(2_999)));
    }

    #[test]
    fn a_grace_ends() {
        let grace = Grace::default();
        grace.begin(Duration::from_nanos(1));
        grace.found(BACK);
        while grace.spared() != Spared::None {
            std::hint::spin_loop();
        }
        grace.lost();
        assert_eq!(grace.spared(), Spared::All, "and begins again");
    }
}
