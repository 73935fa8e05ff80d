//! Log lines that strangers or workers can cause: a few in a while stand for all.

use std::time::{Duration, Instant};

use parking_lot::Mutex;

/// The interval in which so many lines of one kind are let through.
pub const INTERVAL: Duration = Duration::from_secs(10);

/// Lets one line, or a few, through in each interval and counts the others.
#[derive(Debug)]
pub struct Sparse {
    lines: u32,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
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
    /// Lets so many lines through in each interval.
    pub const fn of(lines: u32) -> Self {
        Self { lines, state: Mutex::new(State { began: None, passed: 0, suppressed: 0 }) }
    }

    /// How many lines were suppressed since the last one; `None` if this one is suppressed too.
    pub fn pass(&self) -> Option<u64> {
        self.pass_at(Instant::now())
    }

    /// How many lines were suppressed, once the interval in which that happened is over and if no line said so since.
    pub fn unsaid(&self) -> Option<u64> {
        self.unsaid_at(Instant::now())
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

    fn unsaid_at(&self, now: Instant) -> Option<u64> {
        let mut state = self.state.lock();
        (state.suppressed > 0 && state.is_over(now)).then(|| std::mem::take(&mut state.suppressed))
    }
}

impl State {
    fn is_over(&self, now: Instant) -> bool {
        self.began.is_none_or(|began| now.duration_since(began) >= INTERVAL)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_line_in_an_interval_tells_of_the_others() {
        let (sparse, start) = (Sparse::default(), Instant::now());
        assert_eq!(sparse.pass_at(start), Some(0));
        assert!((0..5).all(|_| sparse.pass_at(start).is_none()));
        assert_eq!(sparse.pass_at(start + INTERVAL), Some(5));
        assert_eq!(sparse.pass_at(start + INTERVAL), None);
    }

    #[test]
    fn several_lines_in_an_interval_and_what_they_did_not_say() {
        let (sparse, start) = (Sparse::of(3), Instant::now());
        assert!((0..3).all(|_| sparse.pass_at(start) == Some(0)));
        assert!((0..4).all(|_| sparse.pass_at(start).is_none()));
        assert_eq!(sparse.unsaid_at(start), None, "the next line may still say it");
        assert_eq!(sparse.unsaid_at(start + INTERVAL), Some(4));
        assert_eq!(sparse.unsaid_at(start + INTERVAL), None);
        assert_eq!(sparse.pass_at(start + INTERVAL), Some(0));
    }
}
