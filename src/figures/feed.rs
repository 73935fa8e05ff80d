//! What watchers are told.

use super::kinds::SHORT;
use super::{Counter, Gauge, Histogram, Page};

/// Figures of the feed; all but `watchers` only grow.
#[derive(Debug)]
pub struct FeedFigures {
    /// Watches that are open now.
    pub watchers: Gauge,
    /// Changes that were told, once for each watcher.
    pub steps_told: Counter,
    /// Snapshots that were told, once for each watcher.
    pub snapshots_told: Counter,
    /// Gaps that were told: history did not reach back.
    pub gaps_told: Counter,
    /// Reads of snapshots.
    pub snapshots_read: Counter,
    /// Reads of history for watchers who resumed or were slow.
    pub histories_read: Counter,
    /// Hints that were told to other servers.
    pub hints_sent: Counter,
    /// Hints that were heard, this server's own among them.
    pub hints_received: Counter,
    /// Jobs that were read because another server changed them.
    pub refreshed: Counter,
    /// From the commit of a change, or from when this server heard of it, until a watcher takes it.
    pub lag: Histogram,
}

impl Default for FeedFigures {
    fn default() -> Self {
        Self {
            watchers: Gauge::default(),
            steps_told: Counter::default(),
            snapshots_told: Counter::default(),
            gaps_told: Counter::default(),
            snapshots_read: Counter::default(),
            histories_read: Counter::default(),
            hints_sent: Counter::default(),
            hints_received: Counter::default(),
            refreshed: Counter::default(),
            lag: Histogram::of_durations(SHORT),
        }
    }
}

impl FeedFigures {
    /// Watches that are open now.
    pub fn watching(&self) -> u64 {
        u64::try_from(self.watchers.get()).unwrap_or(0)
    }

    /// Puts them on a page.
    pub fn show(&self, page: &mut Page) {
        page.show("watchers", "Watches that are open", &self.watchers);
        page.show("changes_told", "Changes that were told, once for each watcher", &self.steps_told);
        page.show("snapshots_told", "Snapshots that were told, once for each watcher", &self.snapshots_told);
        page.show("gaps_told", "Watchers who were told that history does not reach back", &self.gaps_told);
        page.show("snapshots_read", "Reads of snapshots from the database", &self.snapshots_read);
        page.show("histories_read", "Reads of history for watchers who resumed or were slow", &self.histories_read);
        page.show("hints_sent", "Hints of commits that were sent to other servers", &self.hints_sent);
        page.show(
            "hints_received",
            "Hints of commits that were heard, this server's own among them",
            &self.hints_received,
        );
        page.show("jobs_refreshed", "Jobs that were read because another server changed them", &self.refreshed);
        page.show_seconds("watch_lag", "From the commit of a change until a watcher takes it", &self.lag);
    }
}
