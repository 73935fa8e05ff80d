//! What the feed did since the start.

use std::sync::atomic::{AtomicU64, Ordering};

/// Counters.
#[derive(Debug, Default)]
#[allow(missing_docs)] // The words say it.
pub struct Counters {
    pub steps_told: AtomicU64,
    pub snapshots_told: AtomicU64,
    pub gaps_told: AtomicU64,
    pub snapshots_read: AtomicU64,
    pub histories_read: AtomicU64,
    pub hints_sent: AtomicU64,
    pub hints_received: AtomicU64,
    pub refreshed: AtomicU64,
}

impl Counters {
    /// Counts.
    pub fn add(counter: &AtomicU64, by: usize) {
        counter.fetch_add(by as u64, Ordering::Relaxed);
    }
}
