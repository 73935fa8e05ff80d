//! Figures of watches and of hints between servers.

use super::kinds::Histogram;
use super::kinds::SHORT;
use super::page::Page;
use super::{Counter, Gauge};

/// Figures of the feed; all but `watchers` only grow.
#[derive(Debug)]
pub struct FeedFigures {
    /// Number of open watches, of any kind.
    pub watchers: Gauge,
    /// Steps of jobs that were sent, once for each watch.
    pub steps_sent: Counter,
    /// Snapshots of jobs that were sent, once for each watch.
    pub snapshots_sent: Counter,
    /// Gaps that were sent: history did not reach back to the revision of a watch.
    pub gaps_sent: Counter,
    /// Reads of snapshots of jobs.
    pub snapshots_read: Counter,
    /// Reads of history for watches that resumed or fell behind.
    pub histories_read: Counter,
    /// Messages with hints that were sent to other servers.
    pub hints_sent: Counter,
    /// Messages with hints that were received, those of this server included.
    pub hints_received: Counter,
    /// Jobs that were read because another server changed them.
    pub refreshed: Counter,
    /// Time from the commit of a step, or from when this server learned of it, until a watch takes it.
    pub lag: Histogram,
}

impl Default for FeedFigures {
    fn default() -> Self {
        Self {
            watchers: Gauge::default(),
            steps_sent: Counter::default(),
            snapshots_sent: Counter::default(),
            gaps_sent: Counter::default(),
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
    /// Number of open watches.
    pub fn watching(&self) -> u64 {
        u64::try_from(self.watchers.get()).unwrap_or(0)
    }

    /// Adds the figures to a page.
    pub fn show(&self, page: &mut Page) {
        page.show("watchers", "Watches that are open", &self.watchers);
        page.show("changes_told", "Changes that were sent, once for each watch", &self.steps_sent);
        page.show("snapshots_told", "Snapshots that were sent, once for each watch", &self.snapshots_sent);
        page.show(
            "gaps_told",
            "Gaps that were sent: history did not reach back to the revision of a watch",
            &self.gaps_sent,
        );
        page.show("snapshots_read", "Reads of snapshots from the database", &self.snapshots_read);
        page.show("histories_read", "Reads of history for watches that resumed or fell behind", &self.histories_read);
        page.show("hints_sent", "Hints of commits that were sent to other servers", &self.hints_sent);
        page.show(
            "hints_received",
            "Hints of commits that were received, those of this server included",
            &self.hints_received,
        );
        page.show("jobs_refreshed", "Jobs that were read because another server changed them", &self.refreshed);
        page.show_seconds("watch_lag", "Time from the commit of a change until a watch takes it", &self.lag);
    }
}
