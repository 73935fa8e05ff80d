//! Figures of the dispatcher: how ready stages are found.

use super::Counter;
use super::page::Page;

/// Figures of the dispatcher. All of them only grow.
#[derive(Debug, Default)]
pub struct DispatchFigures {
    /// Statements that read heads of queues.
    pub reads: Counter,
    /// Queues that were read from their fronts.
    pub fronts: Counter,
    /// Stages that were read.
    pub stages: Counter,
    /// Picked stages that another server leased first, or that were no longer ready.
    pub races_lost: Counter,
}

impl DispatchFigures {
    /// Adds the figures to a page.
    pub fn show(&self, page: &mut Page) {
        page.show("ready_reads", "Statements that read ready stages", &self.reads);
        page.show("ready_fronts_read", "Queues that were read from their fronts", &self.fronts);
        page.show("ready_stages_read", "Ready stages that were read", &self.stages);
        page.show(
            "lease_races_lost",
            "Picked stages that another server leased first, or that were no longer ready",
            &self.races_lost,
        );
    }
}
