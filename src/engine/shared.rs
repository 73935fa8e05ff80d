//! What the lanes have in common: the cache, the clock, who is contended, and what is counted.

use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::Duration;

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
            contended: Recent::new(CONTENDED_FOR),
        }
    }
}
