//! Positions of the primary's log at known moments.

use std::collections::VecDeque;
use std::time::Duration;

use tokio::time::Instant;

use crate::store::pg::log_position::{LogEnd, ReplicaLog};

/// Marks that are kept: a minute of them, the longest staleness of a read.
const MAX_MARKS: usize = 241;
/// The timeline of a primary that was never a standby.
const FIRST_TIMELINE: &str = "00000001";

/// A moment, and a position of the log that lies behind each write that was answered before.
#[derive(Clone, Copy, Debug)]
struct Mark {
    at: Instant,
    position: i64,
}

/// Positions of the primary's log, oldest first.
///
/// After a failover the old standby can have writes that the new primary lost, and be cut off from it. Its positions then say nothing, so of a new
/// timeline only positions count that lie behind all that the replica had when it began.
#[derive(Debug, Default)]
pub struct Marks {
    marks: VecDeque<Mark>,
    /// The timeline of the primary. None: it was not read yet.
    timeline: Option<String>,
    /// The position up to which positions say nothing.
    floor: i64,
}

impl Marks {
    /// Notes what both databases said, asked at a moment.
    ///
    /// # Errors
    /// If the second is no replica of the first, with the reason.
    pub fn note(&mut self, at: Instant, end: &LogEnd, log: ReplicaLog) -> Result<(), &'static str> {
        if log.cluster != end.cluster {
            return Err("it is no replica of this database");
        }
        let received = log.received.ok_or("it is not a standby")?;
        if self.timeline.as_ref() != Some(&end.timeline) {
            self.marks.clear();
            if self.timeline.is_some() || end.timeline != FIRST_TIMELINE {
                self.floor = received;
            }
            self.timeline = Some(end.timeline.clone());
        }
        if self.marks.len() == MAX_MARKS {
            self.marks.pop_front();
        }
        self.marks.push_back(Mark { at, position: end.position });
        Ok(())
    }

    /// The position that a state has which is at most so old now. None: no position is new enough.
    pub fn needed(&self, now: Instant, max_staleness: Duration) -> Option<i64> {
        let is_new_enough = |mark: &&Mark| now.duration_since(mark.at) <= max_staleness && mark.position > self.floor;
        self.marks.iter().find(is_new_enough).map(|mark| mark.position)
    }

    /// Forgets the positions, because no read asks for the replica, or it failed.
    pub fn forget(&mut self) {
        self.marks.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn end(position: i64, timeline: &str) -> LogEnd {
        LogEnd { position, timeline: timeline.to_owned(), cluster: 1 }
    }

    fn log(received: i64) -> ReplicaLog {
        ReplicaLog { received: Some(received), cluster: 1 }
    }

    #[test]
    fn first_position_that_is_new_enough_is_needed() {
        let (start, mut marks) = (Instant::now(), Marks::default());
        assert_eq!(marks.needed(start, SECOND), None);
        for i in 0..300 {
            let noted = marks.note(start + SECOND * i, &end(100 + i64::from(i), FIRST_TIMELINE), log(0));
            assert_eq!(noted, Ok(()));
        }
        let now = start + SECOND * 300;
        assert_eq!(marks.needed(now, SECOND / 2), None);
        assert_eq!(marks.needed(now, SECOND), Some(399));
        assert_eq!(marks.needed(now, SECOND * 10), Some(390));
        assert_eq!(marks.needed(now, SECOND * 1_000), Some(159), "older ones are not kept");
        marks.forget();
        assert_eq!(marks.needed(now, SECOND * 10), None);
    }

    #[test]
    fn after_a_failover_positions_that_the_replica_had_say_nothing() {
        let (now, mut marks) = (Instant::now(), Marks::default());
        let mut needed = |position, timeline: &str, received| {
            assert_eq!(marks.note(now, &end(position, timeline), log(received)), Ok(()));
            marks.needed(now, SECOND)
        };
        assert_eq!(needed(1_000, FIRST_TIMELINE, 1_000), Some(1_000));
        assert_eq!(needed(900, "00000002", 1_000), None);
        assert_eq!(needed(1_000, "00000002", 1_000), None);
        assert_eq!(needed(1_001, "00000002", 1_000), Some(1_001));
        let mut later = Marks::default();
        assert_eq!(later.note(now, &end(900, "00000002"), log(1_000)), Ok(()));
        assert_eq!(later.needed(now, SECOND), None, "it may have happened before this server started");
    }

    #[test]
    fn other_databases_are_no_replica() {
        let (now, mut marks) = (Instant::now(), Marks::default());
        let stranger = ReplicaLog { received: Some(1), cluster: 2 };
        assert!(marks.note(now, &end(1, FIRST_TIMELINE), stranger).is_err());
        let primary = ReplicaLog { received: None, cluster: 1 };
        assert!(marks.note(now, &end(1, FIRST_TIMELINE), primary).is_err());
        assert_eq!(marks.needed(now, SECOND), None);
    }
}
