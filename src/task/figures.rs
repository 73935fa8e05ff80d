//! Background jobs that read what metrics show: ready stages by queue, names of namespaces, open breakers.

use std::time::{Duration, Instant};

use super::job::BackgroundJob;
use crate::domain::id::NamespaceId;
use crate::domain::permit::ResourceKey;
use crate::engine::Engine;
use crate::error::Result;

/// Counting ready stages takes at most one part in this many of the time.
const TIME_SHARE: u32 = 100;

/// Counts the ready stages of each queue, for all servers.
pub struct ReadyQueues {
    engine: Engine,
    next: Instant,
}

impl ReadyQueues {
    pub fn new(engine: Engine) -> Self {
        Self { engine, next: Instant::now() }
    }
}

impl BackgroundJob for ReadyQueues {
    const NAME: &'static str = "ready_queues";
    const EVERY: Duration = Duration::from_secs(10);

    async fn run(&mut self) -> Result<usize> {
        let began = Instant::now();
        if began < self.next {
            return Ok(0);
        }
        let shared = self.engine.shared();
        let ready = shared.store.ready_queues().await?;
        // A slow count is repeated less often.
        self.next = began + began.elapsed() * TIME_SHARE;
        let found = ready.len();
        shared.jobs.queues.note_ready(ready);
        Ok(found)
    }
}

/// Reads what the figures of this server need to be shown, and logs lines that were held back.
pub struct FigureReads {
    engine: Engine,
    breakers_read: Instant,
}

/// Time between two reads of open breakers, which another server may have closed.
const BREAKERS_EVERY: Duration = Duration::from_secs(10);

impl FigureReads {
    /// Reads breakers for the first time after [`BREAKERS_EVERY`].
    pub fn new(engine: Engine) -> Self {
        Self { engine, breakers_read: Instant::now() }
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
        // A deleted namespace gets a name too, so that it is not read again.
        let gone = unnamed.iter().filter(is_gone).map(|id| (*id, format!("deleted-{}", id.0)));
        let found = named.len();
        queues.name(gone.collect::<Vec<_>>().into_iter().chain(named));
        Ok(found)
    }

    async fn read_breakers(&mut self) -> Result<()> {
        let shared = self.engine.shared();
        let open: Vec<ResourceKey> = shared.permits.breakers.open().into_iter().map(|(key, _)| key).collect();
        if open.is_empty() || self.breakers_read.elapsed() < BREAKERS_EVERY {
            return Ok(());
        }
        self.breakers_read = Instant::now();
        let found = shared.store.for_background().resources(&open).await?;
        for key in open {
            shared.permits.breakers.observe(key, found.get(&key).map(|resource| &**resource), self.engine.now());
        }
        Ok(())
    }
}

impl BackgroundJob for FigureReads {
    const NAME: &'static str = "figures";
    const EVERY: Duration = Duration::from_secs(1);
    // Each server has its own figures.
    const SINGLETON: bool = false;

    async fn run(&mut self) -> Result<usize> {
        self.engine.shared().jobs.log_suppressed();
        self.read_breakers().await?;
        self.name_namespaces().await
    }
}
