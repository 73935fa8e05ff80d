//! Figures of the read replica.

use super::page::Page;
use super::{Counter, Gauge};

/// Figures of the read replica.
#[derive(Debug, Default)]
pub struct ReplicaFigures {
    /// 1: the replica answers and belongs to the primary. 0: it does not, or no read has asked for it lately.
    pub usable: Gauge,
    /// Reads that the replica answered.
    pub reads: Counter,
    /// Reads that were sent to the replica and then to the primary: it was further behind than they allowed, or failed.
    pub fallbacks: Counter,
}

impl ReplicaFigures {
    /// Adds the figures to a page.
    pub fn show(&self, page: &mut Page) {
        page.show("replica_usable", "1 while the read replica can be used, else 0", &self.usable);
        page.show("replica_reads", "Reads that the read replica answered", &self.reads);
        page.show("replica_fallbacks", "Reads that went from the read replica to the primary", &self.fallbacks);
    }
}
