//! Log lines that strangers can cause: one in a while stands for all.

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// Between two lines of the same kind.
const INTERVAL: Duration = Duration::from_secs(10);

/// Lets one line through in each interval and counts the others.
#[derive(Debug, Default)]
pub(super) struct Sparse(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    last: Option<Instant>,
    suppressed: u64,
}

impl Sparse {
    /// How many lines were suppressed since the last one; `None` if this one is suppressed too.
    pub(super) fn pass(&self) -> Option<u64> {
        self.pass_at(Instant::now())
    }

    fn pass_at(&self, now: Instant) -> Option<u64> {
        let mut state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if state.last.is_some_and(|last| now.duration_since(last) < INTERVAL) {
            state.suppressed += 1;
            return None;
        }
        state.last = Some(now);
        Some(std::mem::take(&mut state.suppressed))
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
}
