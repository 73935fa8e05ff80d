//! The head of one queue, and the times at which it is read from the front.

use std::time::Duration;

use tokio::time::Instant;

use super::window::Window;
use crate::domain::ready::ReadyPosition;

/// Pause after a read from the front, as a multiple of the read's duration: such reads take at most 1/31 of the time.
const FRONT_SHARE: u32 = 30;
/// Duration up to which a read from the front is cheap. A cheap read is repeated without a pause if it may find something.
// Debug builds and the machines that test them are slower by more than ten times.
const CHEAP: Duration = Duration::from_millis(if cfg!(debug_assertions) { 500 } else { 20 });

/// The first ready stages of one queue, in memory.
#[derive(Debug, Default)]
pub struct Head {
    /// Stages that may be leased together with others.
    pub plain: Window,
    /// Stages that are leased alone, because their last attempt lost its lease.
    pub alone: Window,
    /// Start of the last read from the front. None: there was none.
    front_began: Option<Instant>,
    /// End of the last read from the front. None: there was none.
    front_ended: Option<Instant>,
    /// Duration of the last read from the front.
    front_cost: Duration,
    /// End of the last read of any part. None: there was none.
    read_ended: Option<Instant>,
    /// Whether a hint reported ready stages, at any position, since the last read from the front.
    pub is_hinted: bool,
    /// Whether a commit of this server moved a stage that is not in a window, since the last read from the front.
    pub is_moved: bool,
}

impl Head {
    pub fn window(&mut self, alone: bool) -> &mut Window {
        if alone { &mut self.alone } else { &mut self.plain }
    }

    pub fn len(&self) -> usize {
        self.plain.len() + self.alone.len()
    }

    /// Time until the queue should be read from its front. None: now. The pause is 30 times the duration of the last such read, and at
    /// least `every` without a hint or move. After a cheap read there is no pause if a stage moved, or if a poll arrived at or after its start and
    /// the head is empty: `since` is the arrival of the newest such poll.
    pub fn front_due_in(&self, every: Duration, since: Option<Instant>) -> Option<Duration> {
        let (began, ended) = self.front_began.zip(self.front_ended)?;
        if (self.is_moved || since.is_some_and(|since| since >= began)) && self.front_cost <= CHEAP {
            return None;
        }
        let rest = self.front_cost * FRONT_SHARE;
        let rest = if self.is_hinted || self.is_moved { rest } else { rest.max(every) };
        rest.checked_sub(ended.elapsed()).filter(|rest| !rest.is_zero())
    }

    /// Whether the queue was read from its front, and neither a hint nor a move reported stages that the head lacks since.
    pub fn has_all_that_is_known(&self) -> bool {
        self.front_began.is_some() && !self.is_hinted && !self.is_moved
    }

    /// Notes a read that started at `began`, at the position `from`, and took `cost`.
    pub fn was_read(&mut self, from: ReadyPosition, began: Instant, cost: Duration) {
        self.read_ended = Some(Instant::now());
        if from == ReadyPosition::FRONT {
            (self.front_began, self.front_ended, self.front_cost) = (Some(began), self.read_ended, cost);
            (self.is_hinted, self.is_moved) = (false, false);
        }
    }

    /// Whether the last read of any part ended at least `age` ago, or there was none.
    pub fn is_older_than(&self, age: Duration) -> bool {
        self.read_ended.is_none_or(|ended| ended.elapsed() >= age)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_front_that_is_dear_to_read_is_read_rarely() {
        let every = Duration::from_millis(500);
        let mut head = Head::default();
        assert_eq!(head.front_due_in(every, None), None, "it was never read");
        let now = Instant::now();
        (head.front_began, head.front_ended, head.front_cost) = (Some(now), Some(now), Duration::from_millis(1));
        assert!(head.front_due_in(every, None).is_some_and(|rest| rest > Duration::from_millis(400)));
        assert_eq!(head.front_due_in(every, Some(Instant::now())), None, "a poll came and it costs little");
        head.is_hinted = true;
        assert!(head.front_due_in(every, None).is_none_or(|rest| rest <= Duration::from_millis(30)));
        head.front_cost = Duration::from_secs(1);
        assert!(head.front_due_in(every, Some(Instant::now())).is_some_and(|rest| rest > Duration::from_secs(20)));
    }
}
