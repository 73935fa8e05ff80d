//! Connections that the server closes before their clients do. Each one is counted; one per reason and interval is
//! logged.

use std::fmt::Display;
use std::sync::Arc;

use crate::admission::Statistics;
use crate::figures::Sparse;
use crate::figures::door::Closed;

/// Counts and logs closed connections. Clones share the intervals.
#[derive(Debug, Clone)]
pub(super) struct ClosedConnections {
    statistics: Arc<Statistics>,
    /// Log interval of each reason: a flood of one kind must not hide the first line of another.
    lines: Arc<[Sparse; Closed::COUNT]>,
}

impl ClosedConnections {
    pub(super) fn new(statistics: &Arc<Statistics>) -> Self {
        Self { statistics: Arc::clone(statistics), lines: Arc::default() }
    }

    /// Counts a connection without a log line.
    pub(super) fn count(&self, reason: Closed) {
        self.statistics.door.closed(reason);
    }

    /// Counts a connection and logs why it was closed. `peer` None: the connection was gone already.
    pub(super) fn warn(&self, reason: Closed, peer: Option<impl Display>, why: &str) {
        self.count(reason);
        if let Some(suppressed) = self.lines[reason as usize].pass() {
            tracing::warn!(peer = peer.map(tracing::field::display), suppressed, "connection closed: {why}");
        }
    }
}
