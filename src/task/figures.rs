//! Figures that have to be looked up: what waits in queues, the names of namespaces, which breakers are open.

use std::time::{Duration, Instant};

use super::Chore;
use crate::domain::id::NamespaceId;
use crate::domain::permit::ResourceKey;
use crate::engine::Engine;
use crate::error::Result;

/// The share of the time that counting ready stages may take: one in so many.
const REST: u32 = 100;

/// Counts what is ready, by queue, for all servers.
pub struct ReadyQueues {
    engine: Engine,
    next: Instant,
}

impl ReadyQueues {
    /// A counter that has not counted yet.
    pub fn new(engine: Engine) -> Self {
        Self { engine, next: Instant::now() }
    }
}

impl Chore for ReadyQueues {
    const NAME: &'static str = "ready_queues";
    const EVERY: Duration = Duration::from_secs(10);

    async fn run(&mut self) -> Result<usize> {
        let began = Instant::now();
        if began < self.next {
            return Ok(0);
        }
        let shared = self.engine.shared();
        let ready = shared.store.ready_queues().await?;
        // A slow database is asked less often.
        self.next = began + began.elapsed() * REST;
        let found = ready.len();
        shared.jobs.queues.note_ready(ready);
        Ok(found)
    }
}

/// Finds out what figures need to be shown, and says in the log what was not said yet.
pub struct Figures {
    engine: Engine,
    looked: Instant,
}

/// Between two looks at open breakers, which another server may have closed.
const BREAKERS_EVERY: Duration = Duration::from_secs(10);

impl Figures {
    /// One who has not looked yet.
    pub fn new(engine: Engine) -> Self {
        Self { engine, looked: Instant::now() }
    }

    async fn name_namespaces(&self) -> Result<usize> {
        let shared = self.engine.shared();
        let queues = &shared.jobs.queues;
        let mut unnamed = queues.unnamed();
        unnamed.extend(shared.permits.breakers.open().into_iter().map(|(key, _)| key.namespace));
        unnamed.retain(|namespace| queues.namespace(*namespace).is_none());
        if unnamed.is_empty() {
            return Ok(0);
        }
        let named = shared.store.names_of_namespaces(&unnamed).await?;
        let is_gone = |id: &&NamespaceId| named.iter().all(|(found, _)| found != *id);
        // A deleted namespace is asked for only once.
        let gone = unnamed.iter().filter(is_gone).map(|id| (*id, format!("deleted-{}", id.0)));
        let found = named.len();
        queues.name(gone.collect::<Vec<_>>().into_iter().chain(named));
        Ok(found)
    }

    async fn look_at_breakers(&mut self) -> Result<()> {
        let shared = self.engine.shared();
        let open: Vec<ResourceKey> = shared.permits.breakers.open().into_iter().map(|(key, _)| key).collect();
        if open.is_empty() || self.looked.elapsed() < BREAKERS_EVERY {
            return Ok(());
        }
        self.looked = Instant::now();
        let found = shared.store.followed_resources(&open).await?;
        for key in open {
            shared.permits.breakers.observe(key, found.get(&key).map(|resource| &**resource), self.engine.now());
        }
        Ok(())
    }
}

impl Chore for Figures {
    const NAME: &'static str = "figures";
    const EVERY: Duration = Duration::from_secs(1);
    // Each server has figures of its own.
    const BY_TURNS: bool = false;

    async fn run(&mut self) -> Result<usize> {
        self.engine.shared().jobs.say_unsaid();
        self.look_at_breakers().await?;
        self.name_namespaces().await
    }
}
