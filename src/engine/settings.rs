//! Bounds of the engine.

use std::time::Duration;

/// Bounds of the engine.
#[derive(Clone, Debug)]
pub struct EngineSettings {
    /// Operations that may wait before each kind of lane; a tenth is for heartbeats and the ends of attempts alone.
    pub queue_operations: usize,
    /// Bytes of user objects that may wait before all lanes together; a tenth as above.
    pub queue_bytes: usize,
    /// Time that an operation may wait for a lane.
    pub queue_timeout: Duration,
    /// Entries of the cache.
    pub cache_entries: usize,
    /// Bytes of the cache; segments may take a quarter as much beside them.
    pub cache_bytes: usize,
    /// Segments of the cache.
    pub segment_cache_entries: usize,
}
