//! What the lanes have in common: the cache, the clock, who is contended, and what is counted.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::atomic::AtomicU64;
use std::time::{Duration, Instant};

use super::EngineSettings;
use super::cache::Cache;
use super::clock::Clock;
use super::world::Key;
use crate::feed::Hub;
use crate::store::Store;

/// How long a key that another server was writing goes the locked way.
const CONTENDED_FOR: Duration = Duration::from_secs(1);
/// How many contended keys are remembered; beyond it the oldest are forgotten, which costs a retry.
const MAX_CONTENDED: usize = 10_000;

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
    contended: Mutex<HashMap<Key, Instant>>,
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
            contended: Mutex::default(),
        }
    }

    pub(super) fn mark_contended(&self, keys: impl IntoIterator<Item = Key>) {
        let mut contended = self.contended.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        let now = Instant::now();
        if contended.len() > MAX_CONTENDED {
            contended.retain(|_, since| now.duration_since(*since) < CONTENDED_FOR);
        }
        if contended.len() <= MAX_CONTENDED {
            contended.extend(keys.into_iter().map(|key| (key, now)));
        }
    }

    /// Whether any key is contended at all, which is asked first because it is rare.
    pub(super) fn has_contended(&self) -> bool {
        !self.contended.lock().unwrap_or_else(|poisoned| poisoned.into_inner()).is_empty()
    }

    pub(super) fn is_contended(&self, keys: &[Key]) -> bool {
        let mut contended = self.contended.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        keys.iter().any(|key| match contended.get(key) {
            Some(since) if since.elapsed() < CONTENDED_FOR => true,
            Some(_) => {
                contended.remove(key);
                false
            }
            None => false,
        })
    }
}
