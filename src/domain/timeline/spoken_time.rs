//! How long something was spoken: the length of the union of ranges, so that what overlaps counts once.

use std::time::Duration;

/// The union of ranges that come in the order of their starts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SpokenTime {
    /// Length of the ranges that no later one can touch.
    closed: Duration,
    /// The range that later ones may extend: start and end.
    open: Option<(Duration, Duration)>,
}

impl SpokenTime {
    /// Adds a range. Starts do not decrease.
    pub fn add(&mut self, start: Duration, end: Duration) {
        debug_assert!(start <= end && self.open.is_none_or(|(before, _)| before <= start), "ranges come in order");
        match &mut self.open {
            Some((_, open_end)) if start <= *open_end => *open_end = (*open_end).max(end),
            _ => {
                self.closed = self.total();
                self.open = Some((start, end));
            }
        }
    }

    /// Length of the union.
    pub fn total(&self) -> Duration {
        self.closed.saturating_add(self.open.map_or(Duration::ZERO, |(start, end)| end.saturating_sub(start)))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn each_moment_counts_once(ranges in proptest::collection::vec((0u64..40, 0u64..12), 0..12)) {
            let mut ranges = ranges;
            ranges.sort_unstable();
            let mut spoken = SpokenTime::default();
            for (start, length) in &ranges {
                spoken.add(Duration::from_secs(*start), Duration::from_secs(start + length));
            }
            let covered = (0..60).filter(|at| ranges.iter().any(|(start, length)| (*start..start + length).contains(at)));
            prop_assert_eq!(spoken.total(), Duration::from_secs(covered.count() as u64));
        }
    }
}
