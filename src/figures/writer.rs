//! What the lanes commit.

use super::kinds::{SHORT, SIZES};
use super::{Counter, Histogram, Labelled, Page};

/// The label of a lane.
const LANE: &str = "lane";
/// The kinds of lanes, in the order of [`LaneKind`].
const LANES: &[&str] = &["main", "bulk", "locking", "leases"];

/// Which lane.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LaneKind {
    /// The three that share the main queue.
    Main = 0,
    /// The one for large operations.
    Bulk = 1,
    /// The one that locks rows first: contended keys.
    Locking = 2,
    /// The one for heartbeats.
    Leases = 3,
}

impl LaneKind {
    /// All, in the order of their numbers.
    pub const ALL: [LaneKind; 4] = [Self::Main, Self::Bulk, Self::Locking, Self::Leases];

    /// The name in figures.
    pub fn name(self) -> &'static str {
        LANES[self as usize]
    }
}

/// Figures of all lanes; all only grow.
#[derive(Debug)]
pub struct WriterFigures {
    groups: Labelled<Counter>,
    operations: Labelled<Counter>,
    refused: Labelled<Counter>,
    conflicts: Labelled<Counter>,
    group_sizes: Labelled<Histogram>,
    commits: Labelled<Histogram>,
    queue_waits: Labelled<Histogram>,
    /// Operations that were passed on to the locking lane.
    pub contended: Counter,
    /// Operations that were refused because too much work waits.
    pub rejected: Counter,
    /// Operations of which it is not known whether they were applied.
    pub unknown: Counter,
}

/// The figures of one kind of lane, resolved.
#[derive(Clone, Debug)]
pub struct LaneFigures {
    /// Groups that ended, however.
    pub groups: Counter,
    /// Operations that were answered, refusals included.
    pub operations: Counter,
    /// Operations that their decision refused.
    pub refused: Counter,
    /// Operations that were decided again because another writer was faster.
    pub conflicts: Counter,
    /// Operations of each group that was decided.
    pub group_sizes: Histogram,
    /// How long each commit took, from sending the group to its answer.
    pub commits: Histogram,
    /// How long each operation waited in the queue before a lane took it.
    pub queue_waits: Histogram,
}

impl Default for WriterFigures {
    fn default() -> Self {
        let counters = || Labelled::new(LANE, LANES, Counter::default);
        let waits = || Labelled::new(LANE, LANES, || Histogram::of_durations(SHORT));
        Self {
            groups: counters(),
            operations: counters(),
            refused: counters(),
            conflicts: counters(),
            group_sizes: Labelled::new(LANE, LANES, || Histogram::of_numbers(SIZES)),
            commits: waits(),
            queue_waits: waits(),
            contended: Counter::default(),
            rejected: Counter::default(),
            unknown: Counter::default(),
        }
    }
}

impl WriterFigures {
    /// The figures that a lane updates.
    pub fn lane(&self, kind: LaneKind) -> LaneFigures {
        let place = kind as usize;
        LaneFigures {
            groups: self.groups.at(place).clone(),
            operations: self.operations.at(place).clone(),
            refused: self.refused.at(place).clone(),
            conflicts: self.conflicts.at(place).clone(),
            group_sizes: self.group_sizes.at(place).clone(),
            commits: self.commits.at(place).clone(),
            queue_waits: self.queue_waits.at(place).clone(),
        }
    }

    /// Groups of all lanes.
    pub fn groups(&self) -> u64 {
        self.groups.sum()
    }

    /// Operations that were answered, of all lanes.
    pub fn operations(&self) -> u64 {
        self.operations.sum()
    }

    /// Operations that were decided again, of all lanes.
    pub fn conflicts(&self) -> u64 {
        self.conflicts.sum()
    }

    /// Puts them on a page.
    pub fn show(&self, page: &mut Page) {
        page.show("groups", "Groups of writes that were sent to the database, by lane", &self.groups);
        page.show("operations", "Operations that were answered, refusals included, by lane", &self.operations);
        page.show("operations_refused", "Operations that their decision refused, by lane", &self.refused);
        page.show(
            "conflicts",
            "Operations that were decided again because another writer was faster, by lane",
            &self.conflicts,
        );
        page.show("group_size", "Operations in a group, by lane", &self.group_sizes);
        page.show_seconds("commit_duration", "How long the commit of a group took, by lane", &self.commits);
        page.show_seconds("queue_wait", "How long an operation waited before a lane took it", &self.queue_waits);
        page.show("operations_contended", "Operations that took the path for contended keys", &self.contended);
        page.show("operations_rejected", "Operations that were refused as OVERLOADED", &self.rejected);
        page.show("operations_unknown", "Operations whose outcome could not be found out", &self.unknown);
    }
}
