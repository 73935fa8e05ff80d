//! An estimate of the database's clock: the last reading plus the time since, a lower bound.
//!
//! The estimate does not go back. A reading is as old as its way here was long, and a commit reads the clock before it waits for
//! the disk: a late reading, taken as it is, would set this server behind what it and others have already written. So of two lower bounds the
//! higher one stays. But a reading cannot be older than the question it answers. One that is behind by more than that comes from a clock that was
//! set back, or from another host, and replaces the estimate.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use parking_lot::Mutex;

use crate::domain::time::Timestamp;

/// Age from which a reading is not used for a decision.
const STALE_AFTER: Duration = Duration::from_secs(1);
/// Age that a reading of unknown age may have: no statement is waited for longer.
const MAX_AGE: Duration = Duration::from_secs(60);
/// Difference of the two clocks up to which neither counts as set: the estimate is slowed down instead.
const MAX_DRIFT: Duration = Duration::from_secs(1);
/// An estimate that is ahead of the last reading loses one part in this many. Otherwise it would keep whatever this host's clock gains on the
/// database's; a hundredth is more than any clock gains, and at most 10 ms between two readings.
const RUN_DOWN: u32 = 100;

/// A time of the database's clock at a moment of this host's.
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

#[derive(Debug, Default)]
pub struct Clock {
    last: Mutex<Option<Reading>>,
    steps: AtomicU64,
}

impl Clock {
    /// Records a reading of unknown age, of at most a minute. Prefer [`Self::observe_answer`], which bounds the age by the round trip.
    pub fn observe(&self, time: Timestamp) {
        let mut last = self.last.lock();
        let moment = Instant::now();
        let reading = next(*last, time, MAX_AGE, moment);
        self.count_step(*last, reading, moment);
        *last = Some(reading);
    }

    /// Records a reading that was requested at `asked`. Returns the estimate after it.
    pub fn observe_answer(&self, time: Timestamp, asked: Instant) -> Timestamp {
        let mut last = self.last.lock();
        let moment = Instant::now();
        let reading = next(*last, time, moment.saturating_duration_since(asked), moment);
        self.count_step(*last, reading, moment);
        *last = Some(reading);
        reading.now
    }

    /// The estimate. None: the last reading is older than a second.
    pub fn fresh(&self) -> Option<Timestamp> {
        let last = self.last.lock();
        let moment = Instant::now();
        let is_fresh = |last: &Reading| moment.saturating_duration_since(last.at) < STALE_AFTER;
        last.filter(is_fresh).map(|last| last.estimate(moment))
    }

    /// The estimate; zero before the first reading.
    pub fn now(&self) -> Timestamp {
        // Under the lock, or a later reading could be returned before this one.
        let last = self.last.lock();
        last.map_or(Timestamp(0), |last| last.estimate(Instant::now()))
    }

    /// How often the database's clock stepped back.
    pub fn steps(&self) -> u64 {
        self.steps.load(Ordering::Relaxed)
    }

    fn count_step(&self, last: Option<Reading>, reading: Reading, moment: Instant) {
        if let Some(last) = last.map(|last| last.estimate(moment)).filter(|last| *last > reading.now) {
            self.steps.fetch_add(1, Ordering::Relaxed);
            let by = reading.now.until(last);
            tracing::warn!(?by, "the database's clock stepped back; deadlines are moved back by as much");
        }
    }
}

/// The reading after a new one of at most this age.
fn next(last: Option<Reading>, time: Timestamp, age: Duration, moment: Instant) -> Reading {
    match last.map(|last| last.estimate(moment)) {
        Some(estimate) if estimate > time && time.after(age).after(MAX_DRIFT) >= estimate => {
            Reading { now: estimate, at: moment, is_ahead: true }
        }
        Some(_) | None => Reading { now: time, at: moment, is_ahead: false },
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
    fn a_late_reading_does_not_set_the_estimate_back() {
        let begin = Instant::now();
        let reading = next(None, START, NO_TIME, begin);
        for age in [millis(3), Duration::from_secs(29)] {
            // Read at the beginning, received `age` later.
            let after = next(Some(reading), START, age, begin + age);
            assert_eq!(after.estimate(begin + age), START.after(age));
            assert!(after.estimate(begin + age + millis(1)) > after.estimate(begin + age));
        }
    }

    #[test]
    fn the_higher_of_two_bounds_stays() {
        let begin = Instant::now();
        let reading = next(None, START, NO_TIME, begin);
        let ahead = next(Some(reading), START.after(millis(7)), millis(9), begin + millis(5));
        assert_eq!((ahead.estimate(begin + millis(5)), ahead.is_ahead), (START.after(millis(7)), false));
    }

    #[test]
    fn a_clock_that_was_set_back_replaces_the_estimate() {
        let begin = Instant::now();
        let reading = next(None, START, NO_TIME, begin);
        let time = Timestamp(START.0 - 3_600_000_000);
        assert_eq!(next(Some(reading), time, millis(2), begin).estimate(begin), time);
        // An hour is more than any answer's age; two seconds are more than that of one which took two milliseconds.
        assert_eq!(next(Some(reading), time, MAX_AGE, begin).estimate(begin), time);
        let slightly = Timestamp(START.0 - 2_000_000);
        assert_eq!(next(Some(reading), slightly, millis(2), begin).estimate(begin), slightly);
        assert_eq!(next(Some(reading), slightly, MAX_AGE, begin).estimate(begin), START);
    }

    #[test]
    fn an_estimate_that_gains_on_the_database_is_slowed_down_and_never_goes_back() {
        let begin = Instant::now();
        // Half a second ahead to begin with, and faster than any clock that is slewed.
        let mut reading = next(None, START.after(millis(500)), NO_TIME, begin);
        let mut before = START;
        for second in 1..=120_u32 {
            let (moment, passed) = (begin + millis(1_000) * second, millis(1_000) * second);
            let time = START.after(passed - passed / 1_000);
            reading = next(Some(reading), time, millis(1), moment);
            let estimate = reading.estimate(moment);
            assert!(estimate > before, "second {second}");
            assert!(estimate >= time);
            before = estimate;
            if second > 60 {
                assert!(time.until(estimate) <= millis(2), "{:?} in second {second}", time.until(estimate));
            }
        }
    }

    #[test]
    fn a_reading_is_fresh_for_a_second() {
        let clock = Clock::default();
        assert_eq!((clock.now(), clock.fresh()), (Timestamp(0), None));
        assert_eq!(clock.observe_answer(START, Instant::now()), START);
        clock.observe(Timestamp(START.0 - 1_000));
        assert!(clock.fresh().is_some_and(|now| now >= START));
        *clock.last.lock() = Some(Reading { now: START, at: Instant::now() - STALE_AFTER, is_ahead: false });
        assert!(clock.fresh().is_none() && clock.now() >= START.after(STALE_AFTER));
    }
}
