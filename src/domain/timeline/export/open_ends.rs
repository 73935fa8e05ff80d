//! Ends of subtitles whose segments have none: the next start of the same speaker, at most 5 s after their own start.

use std::collections::VecDeque;
use std::time::Duration;

use super::ExportedSegment;

/// Longest subtitle of a segment without an end.
const MAX_OPEN: Duration = Duration::from_secs(5);
/// Subtitles that wait at once. Beyond it the first one ends after [`MAX_OPEN`]: so many starts within 5 s belong to no meeting.
const MAX_WAITING: usize = 1_000;

/// Subtitles in the order of their starts, from the first one whose end is not known.
#[derive(Debug, Default)]
pub(super) struct OpenEnds {
    waiting: VecDeque<Waiting>,
}

#[derive(Debug)]
struct Waiting {
    segment: ExportedSegment,
    start: Duration,
    /// None: not known yet.
    end: Option<Duration>,
}

impl OpenEnds {
    /// Adds a segment, not before the one added last, and returns those that can be written, with start and end. A segment without a start has no
    /// place among subtitles and is dropped.
    pub(super) fn push(&mut self, segment: ExportedSegment) -> VecDeque<(ExportedSegment, Duration, Duration)> {
        let Some(start) = segment.start else { return VecDeque::new() };
        debug_assert!(self.waiting.back().is_none_or(|last| last.start <= start), "segments come in order");
        for earlier in self.waiting.iter_mut().filter(|earlier| earlier.end.is_none()) {
            let latest = earlier.start.saturating_add(MAX_OPEN);
            if start >= latest {
                earlier.end = Some(latest);
            } else if start > earlier.start && segment.speaker == earlier.segment.speaker {
                earlier.end = Some(start);
            }
        }
        let end = segment.end;
        self.waiting.push_back(Waiting { segment, start, end });
        if self.waiting.len() > MAX_WAITING
            && let Some(first) = self.waiting.front_mut()
        {
            first.end.get_or_insert(first.start.saturating_add(MAX_OPEN));
        }
        self.closed()
    }

    /// Closes all that wait.
    pub(super) fn finish(&mut self) -> VecDeque<(ExportedSegment, Duration, Duration)> {
        for waiting in &mut self.waiting {
            waiting.end.get_or_insert(waiting.start.saturating_add(MAX_OPEN));
        }
        self.closed()
    }

    fn closed(&mut self) -> VecDeque<(ExportedSegment, Duration, Duration)> {
        let mut closed = VecDeque::new();
        while let Some(Waiting { segment, start, end }) = self.waiting.pop_front() {
            match end {
                Some(end) => closed.push_back((segment, start, end)),
                None => {
                    self.waiting.push_front(Waiting { segment, start, end });
                    break;
                }
            }
        }
        closed
    }
}
