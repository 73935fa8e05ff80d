//! State that the lanes of a server share: cache, clock, contention and figures.

use std::sync::Arc;

use super::cache::Cache;
use super::clock::Clock;
use super::contention::Contention;
use super::dispatcher::heads::Heads;
use super::grace::Grace;
use super::last_write::LastWrite;
use super::permits::Permits;
use super::settings::EngineSettings;
use crate::feed::Hub;
use crate::figures::jobs::JobFigures;
use crate::figures::writer::WriterFigures;
use crate::store::Store;

/// Shared by all lanes of a server.
pub struct Shared {
    /// The database, for reads outside of groups.
    pub store: Store,
    /// Publishes commits to watchers.
    pub hub: Arc<Hub>,
    /// Bounds of the engine.
    pub settings: EngineSettings,
    /// Committed state as this server last saw it.
    pub cache: Cache,
    pub clock: Clock,
    /// Leases and permits that do not expire for now.
    pub grace: Grace,
    /// Counters and histograms of the lanes.
    pub figures: WriterFigures,
    /// Counters of what commits did to jobs.
    pub jobs: Arc<JobFigures>,
    /// What follows from commits of resources.
    pub permits: Permits,
    /// The first ready stages of each polled queue.
    pub heads: Heads,
    /// What is known of others that write or lock what this server writes.
    pub(super) contention: Contention,
    /// When a group was last committed.
    pub(super) last_write: LastWrite,
}

impl Shared {
    pub(super) fn new(store: Store, hub: Arc<Hub>, settings: EngineSettings) -> Self {
        Self {
            store,
            hub,
            cache: Cache::of_settings(&settings),
            settings,
            clock: Clock::default(),
            grace: Grace::default(),
            figures: WriterFigures::default(),
            jobs: Arc::default(),
            permits: Permits::new(),
            heads: Heads::default(),
            contention: Contention::default(),
            last_write: LastWrite::default(),
        }
    }
}
