//! Bounds the log lines that callers can cause: a few in each interval, with the number of those left out.

use std::time::{Duration, Instant};

use parking_lot::Mutex;

/// Length of an interval.
pub const INTERVAL: Duration = Duration::from_secs(10);

/// Passes a bounded number of log lines in each interval, and counts the others.
#[derive(Debug)]
pub struct Sparse {
    lines: u32,
    state: Mutex<IntervalState>,
}

#[derive(Debug)]
struct IntervalState {
    began: Option<Instant>,
    passed: u32,
    suppressed: u64,
}

impl Default for Sparse {
    fn default() -> Self {
        Self::of(1)
    }
}

impl Sparse {
    /// Passes `lines` lines in each interval.
    pub const fn of(lines: u32) -> Self {
        Self { lines, state: Mutex::new(IntervalState { began: None, passed: 0, suppressed: 0 }) }
    }

    /// Asks to log a line. Returns the number of lines that were suppressed before it. None: this line is suppressed, too.
    pub fn pass(&self) -> Option<u64> {
        self.pass_at(Instant::now())
    }

    /// Takes the number of lines that were suppressed. None: there are none, or their interval is not over.
    pub fn take_suppressed(&self) -> Option<u64> {
        self.take_suppressed_at(Instant::now())
    }

    fn pass_at(&self, now: Instant) -> Option<u64> {
        let mut state = self.state.lock();
        if state.is_over(now) {
            (state.began, state.passed) = (Some(now), 0);
        }
        if state.passed >= self.lines {
            state.suppressed += 1;
            return None;
        }
        state.passed += 1;
        Some(std::mem::take(&mut state.suppressed))
    }

    fn take_suppressed_at(&self, now: Instant) -> Option<u64> {
        let mut state = self.state.lock();
        (state.suppressed > 0 && state.is_over(now)).then(|| std::mem::take(&mut state.suppressed))
    }
}

impl IntervalState {
    fn is_over(&self, now: Instant) -> bool {
        self.began.is_none_or(|began| now.duration_since(began) >= INTERVAL)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_has_the_number_of_lines_suppressed_before_it() {
        let (sparse, start) = (Sparse::default(), Instant::now());
        assert_eq!(sparse.pass_at(start), Some(0));
        assert!((0..5).all(|_| sparse.pass_at(start).is_none()));
        assert_eq!(sparse.pass_at(start + INTERVAL), Some(5));
        assert_eq!(sparse.pass_at(start + INTERVAL), None);
    }

    #[test]
    fn suppressed_lines_can_be_taken_once_after_their_interval() {
        let (sparse, start) = (Sparse::of(3), Instant::now());
        assert!((0..3).all(|_| sparse.pass_at(start) == Some(0)));
        assert!((0..4).all(|_| sparse.pass_at(start).is_none()));
        assert_eq!(sparse.take_suppressed_at(start), None, "a line in this interval may still have the number");
        assert_eq!(sparse.take_suppressed_at(start + INTERVAL), Some(4));
        assert_eq!(sparse.take_suppressed_at(start + INTERVAL), None);
        assert_eq!(sparse.pass_at(start + INTERVAL), Some(0));
    }
}
