//! The database's clock between its replies: the last time it told plus what has passed since, a lower bound.
//!
//! It does not go back. What the database tells is as old as its way here was long, and a commit reads the clock before it waits for
//! the disk: taken as it is, an answer that was held up would set this server behind what it has already written, and behind what
//! others have. So of two bounds the higher one stays. An answer cannot be older than its question, though: one that is
//! behind by more than that comes from a clock that was set back, or from another host's, and is believed.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use parking_lot::{Mutex, MutexGuard};

use crate::domain::time::Timestamp;

/// After this the clock is asked again before a decision.
const STALE_AFTER: Duration = Duration::from_secs(1);
/// How old an answer may be of which nobody knows when it was asked for: no question is waited for longer than that.
const MAX_AGE: Duration = Duration::from_secs(60);
/// By how much the two clocks may differ without one of them having been set: the difference is run down.
const MAX_DRIFT: Duration = Duration::from_secs(1);
/// A clock that is ahead of what it was last told loses one part in so many. Without that it would keep whatever this host's clock
/// gains on the database's; a hundredth is more than any clock gains, and ten milliseconds between two readings at most.
const RUN_DOWN: u32 = 100;

/// What is known at a moment of this host's clock.
#[derive(Clone, Copy, Debug)]
struct Reading {
    now: Timestamp,
    at: Instant,
    is_ahead: bool,
}

impl Reading {
    fn estimate(&self, moment: Instant) -> Timestamp {
        let passed = moment.saturating_duration_since(self.at);
        self.now.after(if self.is_ahead { passed - passed / RUN_DOWN } else { passed })
    }
}

/// The last reading.
#[derive(Debug, Default)]
pub struct Clock {
    last: Mutex<Option<Reading>>,
    /// How often the database's clock stepped back.
    steps: AtomicU64,
}

impl Clock {
    /// Notes what the database just said, asked for nobody knows when.
    pub fn observe(&self, told: Timestamp) {
        let mut last = self.lock();
        let moment = Instant::now();
        let reading = next(*last, told, MAX_AGE, moment);
        self.count_step(*last, reading, moment);
        *last = Some(reading);
    }

    /// Notes what the database said to a question that was sent at a moment. Returns the time as it is known now.
    pub fn observe_answer(&self, told: Timestamp, asked: Instant) -> Timestamp {
        let mut last = self.lock();
        let moment = Instant::now();
        let reading = next(*last, told, moment.saturating_duration_since(asked), moment);
        self.count_step(*last, reading, moment);
        *last = Some(reading);
        reading.now
    }

    /// The time, if it was read lately.
    pub fn fresh(&self) -> Option<Timestamp> {
        let last = self.lock();
        let moment = Instant::now();
        let is_fresh = |last: &Reading| moment.saturating_duration_since(last.at) < STALE_AFTER;
        last.filter(is_fresh).map(|last| last.estimate(moment))
    }

    /// The time as far as it is known; the beginning of time before the first reading.
    pub fn now(&self) -> Timestamp {
        // Below the lock, or a reading that comes in between would be told after what follows it.
        let last = self.lock();
        last.map_or(Timestamp(0), |last| last.estimate(Instant::now()))
    }

    /// How often the database's clock was seen to step back.
    pub fn steps(&self) -> u64 {
        self.steps.load(Ordering::Relaxed)
    }

    fn count_step(&self, last: Option<Reading>, reading: Reading, moment: Instant) {
        if let Some(last) = last.map(|last| last.estimate(moment)).filter(|last| *last > reading.now) {
            self.steps.fetch_add(1, Ordering::Relaxed);
            let by = reading.now.until(last);
            tracing::warn!(?by, "the database's clock stepped back: what was to come is brought back by as much");
        }
    }

    fn lock(&self) -> MutexGuard<'_, Option<Reading>> {
        self.last.lock()
    }
}

/// The reading after an answer that is at most so old.
fn next(last: Option<Reading>, told: Timestamp, age: Duration, moment: Instant) -> Reading {
    match last.map(|last| last.estimate(moment)) {
        Some(estimate) if estimate > told && told.after(age).after(MAX_DRIFT) >= estimate => {
            Reading { now: estimate, at: moment, is_ahead: true }
        }
        Some(_) | None => Reading { now: told, at: moment, is_ahead: false },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const START: Timestamp = Timestamp(1_000_000_000);
    const NO_TIME: Duration = Duration::ZERO;

    fn millis(millis: u64) -> Duration {
        Duration::from_millis(millis)
    }

    #[test]
    fn an_answer_that_was_held_up_does_not_set_it_back() {
        let begin = Instant::now();
        let reading = next(None, START, NO_TIME, begin);
        for age in [millis(3), Duration::from_secs(29)] {
            // Read at the beginning, told `age` later.
            let after = next(Some(reading), START, age, begin + age);
            assert_eq!(after.estimate(begin + age), START.after(age));
            assert!(after.estimate(begin + age + millis(1)) > after.estimate(begin + age));
        }
    }

    #[test]
    fn the_higher_bound_stays() {
        let begin = Instant::now();
        let reading = next(None, START, NO_TIME, begin);
        let ahead = next(Some(reading), START.after(millis(7)), millis(9), begin + millis(5));
        assert_eq!((ahead.estimate(begin + millis(5)), ahead.is_ahead), (START.after(millis(7)), false));
    }

    #[test]
    fn a_clock_that_was_set_back_is_followed() {
        let begin = Instant::now();
        let reading = next(None, START, NO_TIME, begin);
        let told = Timestamp(START.0 - 3_600_000_000);
        assert_eq!(next(Some(reading), told, millis(2), begin).estimate(begin), told);
        // An hour is more than any answer's age; two seconds are more than that of one which took two milliseconds.
        assert_eq!(next(Some(reading), told, MAX_AGE, begin).estimate(begin), told);
        let slightly = Timestamp(START.0 - 2_000_000);
        assert_eq!(next(Some(reading), slightly, millis(2), begin).estimate(begin), slightly);
        assert_eq!(next(Some(reading), slightly, MAX_AGE, begin).estimate(begin), START);
    }

    #[test]
    fn a_clock_that_gains_on_the_databases_is_run_down_and_never_goes_back() {
        let begin = Instant::now();
        // Half a second ahead to begin with, and faster than any clock that is slewed.
        let mut reading = next(None, START.after(millis(500)), NO_TIME, begin);
        let mut before = START;
        for second in 1..=120_u32 {
            let (moment, passed) = (begin + millis(1_000) * second, millis(1_000) * second);
            let told = START.after(passed - passed / 1_000);
            reading = next(Some(reading), told, millis(1), moment);
            let estimate = reading.estimate(moment);
            assert!(estimate > before, "second {second}");
            assert!(estimate >= told);
            before = estimate;
            if second > 60 {
                assert!(told.until(estimate) <= millis(2), "{:?} in second {second}", told.until(estimate));
            }
        }
    }

    #[test]
    fn it_is_asked_again_after_a_while() {
        let clock = Clock::default();
        assert_eq!((clock.now(), clock.fresh()), (Timestamp(0), None));
        assert_eq!(clock.observe_answer(START, Instant::now()), START);
        clock.observe(Timestamp(START.0 - 1_000));
        assert!(clock.fresh().is_some_and(|now| now >= START));
        *clock.lock() = Some(Reading { now: START, at: Instant::now() - STALE_AFTER, is_ahead: false });
        assert!(clock.fresh().is_none() && clock.now() >= START.after(STALE_AFTER));
    }
}
