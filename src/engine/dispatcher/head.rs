//! The head of one queue, and when it is worth reading it.

use std::time::Duration;

use tokio::time::Instant;

use super::window::Window;
use crate::domain::ready::ReadyPosition;

/// Reads from the front take at most this part of the time.
const FRONT_SHARE: u32 = 30;
/// A read from the front that takes less is made whenever it may find something.
const CHEAP: Duration = Duration::from_millis(20);

/// The head of one queue.
#[derive(Debug, Default)]
pub struct Head {
    /// Stages that are leased with others.
    pub plain: Window,
    /// Stages that are leased alone.
    pub alone: Window,
    /// When the last read from the front began. None: there was none.
    front_began: Option<Instant>,
    /// When it ended.
    front_ended: Option<Instant>,
    /// What it cost.
    front_cost: Duration,
    /// When a read of any part of it ended.
    read_ended: Option<Instant>,
    /// Somebody hinted that stages became ready, wherever in it.
    pub is_hinted: bool,
    /// A commit of this server moved a stage that is not known here.
    pub is_moved: bool,
}

impl Head {
    pub fn window(&mut self, alone: bool) -> &mut Window {
        if alone { &mut self.alone } else { &mut self.plain }
    }

    pub fn len(&self) -> usize {
        self.plain.len() + self.alone.len()
    }

    /// When the queue is to be read from its front. Not before `every` has passed since the last time, unless something hints that it is worth it, and
    /// never more than a share of the time. None: now. `since`: a poll came then for which nothing is known here.
    pub fn front_due_in(&self, every: Duration, since: Option<Instant>) -> Option<Duration> {
        let (began, ended) = self.front_began.zip(self.front_ended)?;
        if (self.is_moved || since.is_some_and(|since| since >= began)) && self.front_cost <= CHEAP {
            return None;
        }
        let rest = self.front_cost * FRONT_SHARE;
        let rest = if self.is_hinted || self.is_moved { rest } else { rest.max(every) };
        rest.checked_sub(ended.elapsed()).filter(|rest| !rest.is_zero())
    }

    /// Notes that a part of it was read.
    pub fn was_read(&mut self, from: ReadyPosition, began: Instant, cost: Duration) {
        self.read_ended = Some(Instant::now());
        if from == ReadyPosition::FRONT {
            (self.front_began, self.front_ended, self.front_cost) = (Some(began), self.read_ended, cost);
            (self.is_hinted, self.is_moved) = (false, false);
        }
    }

    /// Whether no part of it was read for so long.
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
