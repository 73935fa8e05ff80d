//! Figures of the lanes.

use super::Counter;
use super::kinds::{Histogram, Labelled};
use super::kinds::{SHORT, SIZES};
use super::page::Page;

/// Label of the kind of a lane.
const LANE: &str = "lane";
/// Names of the kinds of lanes, in the order of [`LaneKind`].
const LANES: &[&str] = &["main", "bulk", "locking", "leases"];

/// The kind of a lane.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LaneKind {
    /// The three lanes that share the main queue.
    Main = 0,
    /// The lane for large operations.
    Bulk = 1,
    /// The lane for contended keys, which locks rows first.
    Locking = 2,
    /// The lane for heartbeats.
    Leases = 3,
}

impl LaneKind {
    /// All kinds, in the order of their numbers.
    pub const ALL: [LaneKind; 4] = [Self::Main, Self::Bulk, Self::Locking, Self::Leases];

    /// Value of the label `lane`.
    pub fn name(self) -> &'static str {
        LANES[self as usize]
    }
}

/// Figures of all lanes. All of them only grow.
#[derive(Debug)]
pub struct WriterFigures {
    groups: Labelled<Counter>,
    operations: Labelled<Counter>,
    refused: Labelled<Counter>,
    conflicts: Labelled<Counter>,
    group_sizes: Labelled<Histogram>,
    commits: Labelled<Histogram>,
    queue_waits: Labelled<Histogram>,
    /// Operations that were moved to the locking lane.
    pub contended: Counter,
    /// Operations that were refused with OVERLOADED.
    pub rejected: Counter,
    /// Operations that ended with OUTCOME_UNKNOWN.
    pub unknown: Counter,
}

/// The figures of one kind of lane.
#[derive(Clone, Debug)]
pub struct LaneFigures {
    /// Groups that ended for any reason.
    pub groups: Counter,
    /// Operations that were answered, refusals included.
    pub operations: Counter,
    /// Operations that were refused by their decision.
    pub refused: Counter,
    /// Operations that were decided again because they lost to a concurrent write.
    pub conflicts: Counter,
    /// Number of operations in each group.
    pub group_sizes: Histogram,
    /// Duration of each commit, from sending the group to the result.
    pub commits: Histogram,
    /// Time that each operation waited in the queue.
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

    /// Number of groups of all lanes.
    pub fn groups(&self) -> u64 {
        self.groups.sum()
    }

    /// Number of operations of all lanes that were answered.
    pub fn operations(&self) -> u64 {
        self.operations.sum()
    }

    /// Number of operations of all lanes that were decided again.
    pub fn conflicts(&self) -> u64 {
        self.conflicts.sum()
    }

    /// Adds the figures to a page.
    pub fn show(&self, page: &mut Page) {
        page.show("groups", "Groups of writes that were sent to the database, by lane", &self.groups);
        page.show("operations", "Operations that were answered, refusals included, by lane", &self.operations);
        page.show("operations_refused", "Operations that their decision refused, by lane", &self.refused);
        page.show(
            "conflicts",
            "Operations that were decided again because they lost to a concurrent write, by lane",
            &self.conflicts,
        );
        page.show("group_size", "Operations in a group, by lane", &self.group_sizes);
        page.show_seconds("commit_duration", "Duration of the commit of a group, by lane", &self.commits);
        page.show_seconds("queue_wait", "Time that an operation waited before a lane took it", &self.queue_waits);
        page.show("operations_contended", "Operations that were moved to the lane for contended keys", &self.contended);
        page.show("operations_rejected", "Operations that were refused as OVERLOADED", &self.rejected);
        page.show("operations_unknown", "Operations that ended with OUTCOME_UNKNOWN", &self.unknown);
    }
}
