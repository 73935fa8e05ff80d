//! The bounded pool for reads: 20 connections at most, 30 s to wait for one, 60 s per command, and none kept for ever.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use deadpool::Runtime;
use deadpool::managed::{
    BuildError, Hook, HookError, Manager, Metrics, Object, Pool, PoolError, RecycleError, RecycleResult, TimeoutType,
};
use deadpool_postgres::ClientWrapper;
use futures::future::BoxFuture;
use parking_lot::Mutex;
use tokio::sync::Semaphore;

use super::connection::READER_SETUP;
use super::no_connection::NoConnection;
use super::reader::Reader;
use super::target::{CONNECT_TIMEOUT, Target};
use crate::error::{Error, Result};
use crate::figures::Sparse;

/// Bounds of the pool.
#[derive(Clone, Debug)]
pub struct PoolSettings {
    /// Connections at most.
    pub max_connections: usize,
    /// Connections that are kept open even when idle.
    pub min_connections: usize,
    /// How long a call waits for one.
    pub acquire_timeout: Duration,
    /// How long a command may take.
    pub command_timeout: Duration,
    /// After how many uses a connection is retired.
    pub max_uses: usize,
    /// After how much idleness a connection is retired.
    pub max_idle: Duration,
    /// Reads at once; the others wait their turn before they ask for a connection.
    pub max_reads: usize,
}

/// Makes the connections of a pool.
pub struct Connections {
    target: Target,
    setup: String,
}

impl Connections {
    /// Where they lead.
    pub(super) fn target(&self) -> &Target {
        &self.target
    }
}

/// A connection of a pool.
pub type Pooled = Object<Connections>;

impl Manager for Connections {
    type Type = ClientWrapper;
    type Error = NoConnection;

    async fn create(&self) -> std::result::Result<ClientWrapper, NoConnection> {
        self.target.pause().await;
        self.target.open(&self.setup).await
    }

    async fn recycle(&self, client: &mut ClientWrapper, _: &Metrics) -> RecycleResult<NoConnection> {
        if client.is_closed() { Err(RecycleError::message("closed")) } else { Ok(()) }
    }
}

/// Reads of committed state.
#[derive(Clone)]
pub struct ReadPool {
    pool: Pool<Connections>,
    turns: Arc<Semaphore>,
    settings: PoolSettings,
    rejected: Arc<AtomicU64>,
    /// Connections made before this moment are not used again.
    renewed: Arc<Mutex<Option<Instant>>>,
}

/// What the pool is doing now.
#[derive(Clone, Copy, Debug)]
pub struct PoolFigures {
    /// The bound.
    pub max_connections: usize,
    /// Open now.
    pub connections: usize,
    /// Of those, unused.
    pub idle: usize,
    /// Calls that wait for one.
    pub waiting: usize,
    /// Calls that were turned away since the start.
    pub rejected: u64,
}

impl ReadPool {
    /// A pool that opens connections as they are needed.
    pub fn new(target: &Target, settings: PoolSettings) -> std::result::Result<Self, BuildError> {
        let (max_uses, max_idle) = (settings.max_uses, settings.max_idle);
        let timeout_ms = settings.command_timeout.as_millis();
        let setup = format!("SET statement_timeout = {timeout_ms}; {READER_SETUP}");
        let manager = Connections { target: target.clone(), setup };
        let renewed: Arc<Mutex<Option<Instant>>> = Arc::default();
        let last_renewed = renewed.clone();
        let pool = Pool::builder(manager)
            .max_size(settings.max_connections)
            .runtime(Runtime::Tokio1)
            .wait_timeout(Some(settings.acquire_timeout))
            .create_timeout(Some(CONNECT_TIMEOUT))
            .pre_recycle(Hook::sync_fn(move |_, metrics| {
                let is_old = last_renewed.lock().is_some_and(|renewed| metrics.created < renewed);
                if is_old || metrics.recycle_count >= max_uses || metrics.last_used() >= max_idle {
                    return Err(HookError::message("retired"));
                }
                Ok(())
            }))
            .build()?;
        let turns = Arc::new(Semaphore::new(settings.max_reads));
        Ok(Self { pool, turns, settings, rejected: Arc::default(), renewed })
    }

    /// The same connections for reads of another kind, of which at most `max_reads` run at once, so that they leave some to the others.
    pub fn share(&self, max_reads: usize) -> Self {
        Self { turns: Arc::new(Semaphore::new(max_reads)), ..self.clone() }
    }

    /// The most connections there can be.
    pub fn max_connections(&self) -> usize {
        self.settings.max_connections
    }

    /// A connection for one read, within the bounds. It goes back when dropped.
    pub fn get(&self) -> BoxFuture<'_, Result<Reader>> {
        // In a box, as for `Run::rows`.
        Box::pin(self.get_unboxed())
    }

    async fn get_unboxed(&self) -> Result<Reader> {
        let wait = tokio::time::timeout(self.settings.acquire_timeout, self.turns.clone().acquire_owned());
        let Ok(Ok(turn)) = wait.await else {
            self.rejected.fetch_add(1, Ordering::Relaxed);
            return Err(overloaded());
        };
        match self.pool.get().await {
            Ok(client) => Ok(Reader::new(client, turn)),
            Err(PoolError::Timeout(TimeoutType::Wait)) => {
                self.rejected.fetch_add(1, Ordering::Relaxed);
                Err(overloaded())
            }
            Err(PoolError::Backend(error)) => {
                static LINES: Sparse = Sparse::of(1);
                if let Some(suppressed) = LINES.pass() {
                    tracing::warn!(%error, suppressed, "no connection to the database for a read");
                }
                Err(error.into())
            }
            Err(error) => {
                static LINES: Sparse = Sparse::of(1);
                if let Some(suppressed) = LINES.pass() {
                    tracing::warn!(%error, suppressed, "no connection from the pool");
                }
                Err(Error::StoreUnavailable)
            }
        }
    }

    /// What the pool is doing now.
    pub fn figures(&self) -> PoolFigures {
        let status = self.pool.status();
        PoolFigures {
            max_connections: status.max_size,
            connections: status.size,
            idle: status.available,
            waiting: status.waiting,
            rejected: self.rejected.load(Ordering::Relaxed),
        }
    }

    /// Uses none of the connections again that are there now: they lead to a server that takes no writes any more.
    pub fn renew(&self) {
        *self.renewed.lock() = Some(Instant::now());
        self.pool.retain(|_, _| false);
    }

    /// Closes idle connections that have been unused for too long, but for the smallest number that is kept; returns how many.
    pub fn retire_idle(&self) -> usize {
        let (max_idle, mut spare) = (self.settings.max_idle, self.pool.status().size);
        let retained = self.pool.retain(|_, metrics| {
            let goes = metrics.last_used() >= max_idle && spare > self.settings.min_connections;
            spare -= usize::from(goes);
            !goes
        });
        retained.removed.len()
    }
}

fn overloaded() -> Error {
    Error::Overloaded { why: "no database connection came free in time", retry_after: Duration::from_secs(1) }
}
