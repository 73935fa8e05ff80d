//! The speed of the lanes, which bounds by time what may wait and how large a group may be.
//!
//! A bound on the number of operations alone lets seconds of work wait when operations are large or the database is slow, as packets do in a
//! large network buffer. As in CoDel (Nichols and Jacobson, 2012), the time in the queue is bounded, not its length.

use std::time::Duration;

use crate::operation::MAX_GROUP_ROWS;

/// Work that may wait before the lanes of small operations, as time. Above it new work is refused.
pub const MAX_WAIT: Duration = Duration::from_millis(250);
/// The same before the lane of large operations: clients that load in batches send several at once, and nothing else waits behind them.
pub const MAX_BULK_WAIT: Duration = Duration::from_secs(5);
/// Time that committing one group should take at most, because what arrives meanwhile waits for it. Much smaller groups cost throughput.
const MAX_GROUP_TIME: Duration = Duration::from_millis(50);
/// Rows that a group may have at least, however slow the database is.
const MIN_GROUP_ROWS: usize = 1_000;
/// Rows from which on a group is a sample: most of the time of smaller ones is the round trip and the flush.
const MIN_SAMPLE_ROWS: usize = 250;
/// Weight of one sample in the moving average.
const SAMPLE_SHARE: f64 = 0.2;
/// The speed before the first sample: the order of magnitude of a small machine.
const FIRST_ROWS_PER_SECOND: f64 = 100_000.0;

/// Rows per second that one lane commits, as an exponential moving average.
#[derive(Clone, Copy, Debug)]
pub struct Pace {
    rows_per_second: f64,
    max_wait: Duration,
}

impl Default for Pace {
    fn default() -> Self {
        Self::new(MAX_WAIT)
    }
}

impl Pace {
    /// The pace before the first sample. `max_wait` is the work that may wait, as time.
    pub fn new(max_wait: Duration) -> Self {
        Self { rows_per_second: FIRST_ROWS_PER_SECOND, max_wait }
    }

    /// Notes a group: its rows (see [`crate::operation::Weight`]), and its time from the queue to the replies.
    pub fn note(&mut self, rows: usize, took: Duration) {
        if rows >= MIN_SAMPLE_ROWS {
            let sample = rows as f64 / took.as_secs_f64().max(0.001);
            self.rows_per_second += (sample - self.rows_per_second) * SAMPLE_SHARE;
        }
    }

    /// Rows that may wait: those of `max_wait`, and one full group in any case.
    pub fn max_waiting_rows(&self) -> usize {
        self.rows_in(self.max_wait).max(MAX_GROUP_ROWS)
    }

    /// Rows that a group may have.
    pub fn max_group_rows(&self) -> usize {
        self.rows_in(MAX_GROUP_TIME).clamp(MIN_GROUP_ROWS, MAX_GROUP_ROWS)
    }

    /// Time that a lane takes for some rows.
    pub fn time_for(&self, rows: usize) -> Duration {
        Duration::try_from_secs_f64(rows as f64 / self.rows_per_second.max(1.0)).unwrap_or(Duration::MAX)
    }

    fn rows_in(&self, time: Duration) -> usize {
        // Positive, and far below 2^53.
        (self.rows_per_second * time.as_secs_f64()) as usize
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bounds_follow_what_was_measured_within_limits() {
        let mut pace = Pace::new(MAX_WAIT);
        for _ in 0..100 {
            pace.note(5_000, Duration::from_millis(100));
        }
        assert_eq!((pace.max_waiting_rows() + 50) / 100, 125, "a quarter of a second at 50,000 rows a second");
        assert_eq!((pace.max_group_rows() + 50) / 100, 25);
        assert_eq!(pace.time_for(20_000).as_millis(), 400);
        for _ in 0..100 {
            pace.note(1_000, Duration::from_secs(1));
        }
        assert_eq!((pace.max_waiting_rows(), pace.max_group_rows()), (MAX_GROUP_ROWS, MIN_GROUP_ROWS));
        let before = pace.rows_per_second;
        pace.note(6, Duration::from_millis(1));
        assert_eq!(pace.rows_per_second, before, "a small group says nothing");
    }
}
