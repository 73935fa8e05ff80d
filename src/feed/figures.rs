//! What the feed did since the start.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use super::Hub;

/// Counters; all but `watchers` only grow.
#[derive(Debug, Default)]
#[allow(missing_docs)] // The words say it.
pub struct Counters {
    pub watchers: AtomicU64,
    pub steps_told: AtomicU64,
    pub snapshots_told: AtomicU64,
    pub gaps_told: AtomicU64,
    pub snapshots_read: AtomicU64,
    pub histories_read: AtomicU64,
    pub hints_sent: AtomicU64,
    pub hints_received: AtomicU64,
    pub refreshed: AtomicU64,
}

/// Somebody who watches, until he no longer does.
pub struct Watching(Arc<Hub>);

impl Watching {
    /// Counts him.
    pub fn begin(hub: &Arc<Hub>) -> Self {
        hub.counters.watchers.fetch_add(1, Ordering::Relaxed);
        Self(hub.clone())
    }
}

impl Drop for Watching {
    fn drop(&mut self) {
        self.0.counters.watchers.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Counters {
    /// Counts.
    pub fn add(counter: &AtomicU64, by: usize) {
        counter.fetch_add(by as u64, Ordering::Relaxed);
    }
}
