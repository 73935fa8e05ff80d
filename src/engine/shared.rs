//! What the lanes have in common: the cache, the clock, who is contended, and what is counted.

use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::{Mutex, MutexGuard};

use super::EngineSettings;
use super::cache::Cache;
use super::clock::Clock;
use super::dispatcher::heads::Heads;
use super::grace::Grace;
use super::held::HeldTables;
use super::last_write::LastWrite;
use super::permits::Permits;
use super::recent::Recent;
use crate::feed::Hub;
use crate::figures::jobs::JobFigures;
use crate::figures::writer::WriterFigures;
use crate::store::Store;

/// How long a key that another server was writing goes the locked way.
const CONTENDED_FOR: Duration = Duration::from_secs(1);
/// How long the cached state of a key that another server has written is looked up again before each decision.
const VISITED_FOR: Duration = Duration::from_secs(10);

/// How long one who wrote what this server writes is reckoned with.
const RIVALS_FOR: Duration = Duration::from_secs(10);

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
    /// Whose leases and permits are spared.
    pub grace: Grace,
    /// What lanes count.
    pub figures: WriterFigures,
    /// What commits did to jobs.
    pub jobs: Arc<JobFigures>,
    /// What follows from commits of resources.
    pub permits: Permits,
    /// What can be leased next.
    pub heads: Heads,
    /// Keys that other servers write too: what is cached of them is not believed.
    pub(super) visited: Recent,
    /// Whether others write what this server writes.
    pub(super) rivals: Rivals,
    /// Keys that were written by others between our look and our commit: their operations take the locks first.
    pub(super) contended: Recent,
    /// Tables that foreign sessions hold: operations on them wait apart.
    pub(super) held_tables: HeldTables,
    /// When a write was last done.
    pub(super) last_write: LastWrite,
}

impl Shared {
    pub(super) fn new(store: Store, hub: Arc<Hub>, settings: EngineSettings) -> Self {
        Self {
            store,
            hub,
            cache: Cache::new(settings.cache_entries, settings.cache_bytes),
            settings,
            clock: Clock::default(),
            grace: Grace::default(),
            figures: WriterFigures::default(),
            jobs: Arc::default(),
            permits: Permits::new(),
            heads: Heads::default(),
            visited: Recent::new(VISITED_FOR),
            rivals: Rivals::default(),
            contended: Recent::new(CONTENDED_FOR),
            held_tables: HeldTables::default(),
            last_write: LastWrite::default(),
        }
    }
}

/// Others who write what this server writes. As long as none was seen lately, updates of records are their own proof: that saves a pass over
/// the rows, and if one of them is not what was decided on after all, the whole group is undone and decided again. With rivals
/// about, rows are locked first, so that those who were beaten are none of the others' business.
#[derive(Default)]
pub(super) struct Rivals {
    seen: Mutex<Option<Instant>>,
}

impl Rivals {
    /// Somebody else wrote, or held, what this server wanted to write.
    pub fn seen(&self) {
        *self.lock() = Some(Instant::now());
    }

    /// Whether that was lately.
    pub fn are_about(&self) -> bool {
        self.lock().is_some_and(|seen| seen.elapsed() < RIVALS_FOR)
    }

    fn lock(&self) -> MutexGuard<'_, Option<Instant>> {
        self.seen.lock()
    }
}
