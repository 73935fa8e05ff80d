//! Settings of each part, taken from [`Config`]. The parts have no defaults of their own, so tests run with the
//! defaults of the server.

use std::time::Duration;

use bytesize::ByteSize;

use crate::admission::{ClassRate, ClientRates};
use crate::config::{CallRate, Config};
use crate::engine::EngineSettings;
use crate::feed::FeedSettings;
use crate::rpc::GateSettings;
use crate::store::pool::PoolSettings;
use crate::task::TaskSettings;

/// Maximum number of concurrent reads; more do not make Postgres faster.
const MAX_READS: usize = 50;
/// Interval of wake-ups of watchers: with many of them, each gets several changes at a time.
const FEED_TICK: Duration = Duration::from_millis(4);

impl From<&Config> for PoolSettings {
    fn from(config: &Config) -> Self {
        Self {
            max_connections: config.pool_max as usize,
            min_connections: config.pool_min as usize,
            acquire_timeout: config.pool_acquire_timeout,
            command_timeout: config.statement_timeout,
            max_uses: usize::try_from(config.connection_max_queries).unwrap_or(usize::MAX),
            max_idle: config.connection_max_idle,
            max_reads: MAX_READS,
        }
    }
}

impl From<&Config> for FeedSettings {
    fn from(config: &Config) -> Self {
        Self {
            tick: FEED_TICK,
            keepalive: config.watch_keepalive,
            conflate: config.watch_conflation,
            listen: config.listen_notify,
        }
    }
}

impl From<&Config> for EngineSettings {
    fn from(config: &Config) -> Self {
        Self {
            queue_operations: config.queue_operations as usize,
            queue_bytes: bytes(config.queue_bytes),
            queue_timeout: config.queue_timeout,
            cache_entries: config.cache_entries as usize,
            cache_bytes: bytes(config.cache_bytes),
            segment_cache_entries: config.segment_cache_entries as usize,
        }
    }
}

impl From<&Config> for GateSettings {
    fn from(config: &Config) -> Self {
        Self { max_operations: config.timeline_operations as usize, max_wait: config.timeline_wait }
    }
}

impl From<&Config> for TaskSettings {
    fn from(config: &Config) -> Self {
        Self { reap_grace: config.reap_grace, history_days: i32::try_from(config.history_days).unwrap_or(i32::MAX) }
    }
}

impl From<&Config> for ClientRates {
    fn from(config: &Config) -> Self {
        let rate = |rate: CallRate| rate.get().map(|(items, period)| ClassRate { items, period });
        Self {
            read: rate(config.rate_limit_read),
            write: rate(config.rate_limit_write),
            watch: rate(config.rate_limit_watch),
            essential: rate(config.rate_limit_essential),
        }
    }
}

fn bytes(size: ByteSize) -> usize {
    usize::try_from(size.as_u64()).unwrap_or(usize::MAX)
}
