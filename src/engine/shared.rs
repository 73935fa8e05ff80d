//! What the lanes have in common: the cache, the clock, who is contended, and what is counted.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use super::EngineSettings;
use super::cache::Cache;
use super::clock::Clock;
use super::followers::Followers;
use super::permits::Permits;
use super::recent::Recent;
use crate::domain::record::RecordKey;
use crate::feed::Hub;
use crate::store::Store;

/// How long a key that another server was writing goes the locked way.
const CONTENDED_FOR: Duration = Duration::from_secs(1);
/// How long the cached state of a key that another server has written is looked up again before each decision.
const VISITED_FOR: Duration = Duration::from_secs(10);

/// How long one who wrote what this server writes is reckoned with.
const RIVALS_FOR: Duration = Duration::from_secs(10);

/// Counters since the start.
#[derive(Debug, Default)]
#[allow(missing_docs)] // The words say it.
pub struct Figures {
    pub groups: AtomicU64,
    pub operations: AtomicU64,
    pub refused: AtomicU64,
    pub conflicts: AtomicU64,
    pub contended: AtomicU64,
    pub rejected: AtomicU64,
    pub unknown: AtomicU64,
}

/// Shared by all lanes of a server.
pub struct Shared {
    /// The database.
    pub store: Store,
    /// Who wants to hear of commits.
    pub hub: Arc<Hub>,
    /// Bounds.
    pub settings: EngineSettings,
    /// Last seen committed state.
    pub cache: Cache,
    /// The database's clock.
    pub clock: Clock,
    /// What is counted.
    pub figures: Figures,
    /// Who wants to hear of records that change.
    pub followers: Arc<Followers<RecordKey>>,
    /// What follows from commits of resources.
    pub permits: Permits,
    /// Keys that other servers write too: what is cached of them is not believed.
    pub(super) visited: Recent,
    /// Whether others write what this server writes.
    pub(super) rivals: Rivals,
    /// Keys that were written by others between our look and our commit: their operations take the locks first.
    pub(super) contended: Recent,
}

impl Shared {
    pub(super) fn new(store: Store, hub: Arc<Hub>, settings: EngineSettings) -> Self {
        Self {
            store,
            hub,
            cache: Cache::new(settings.cache_entries, settings.cache_bytes),
            settings,
            clock: Clock::default(),
            figures: Figures::default(),
            followers: Arc::default(),
            permits: Permits::new(),
            visited: Recent::new(VISITED_FOR),
            rivals: Rivals::default(),
            contended: Recent::new(CONTENDED_FOR),
        }
    }
}

/// Others who write what this server writes. As long as none was seen lately, updates of records are their own proof: that saves a pass over
/// the rows, and if one of them is not what was decided on after all, the whole group is undone and decided again. With rivals
/// about, rows are locked first, so that those who were beaten are none of the others' business.
pub(super) struct Rivals {
    since: Instant,
    /// When one was seen, in milliseconds after `since`, and 1 more; 0 if none ever was.
    seen: AtomicU64,
}

impl Default for Rivals {
    fn default() -> Self {
        Self { since: Instant::now(), seen: AtomicU64::new(0) }
    }
}

impl Rivals {
    /// Somebody else wrote, or held, what this server wanted to write.
    pub fn seen(&self) {
        self.seen.store(self.millis() + 1, Ordering::Relaxed);
    }

    /// Whether that was lately.
    pub fn are_about(&self) -> bool {
        match self.seen.load(Ordering::Relaxed) {
            0 => false,
            seen => u128::from(self.millis().saturating_sub(seen)) < RIVALS_FOR.as_millis(),
        }
    }

    fn millis(&self) -> u64 {
        u64::try_from(self.since.elapsed().as_millis()).unwrap_or(u64::MAX - 1)
    }
}
