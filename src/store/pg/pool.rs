//! The bounded pool for reads: 20 connections at most, 30 s to wait for one, 60 s per statement, and a bounded life of each.

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

use super::connection::{READER_SETUP, unavailable};
use super::log_position::has_replayed;
use super::no_connection::NoConnection;
use super::reader::Reader;
use super::target::{CONNECT_TIMEOUT, Target};
use crate::error::{Error, Result};
use crate::figures::Sparse;

/// Bounds of the pool.
#[derive(Clone, Debug)]
pub struct PoolSettings {
    /// The number of connections at most.
    pub max_connections: usize,
    /// Connections that are kept open even when idle.
    pub min_connections: usize,
    /// How long a call waits for a connection.
    pub acquire_timeout: Duration,
    /// How long a statement may take.
    pub command_timeout: Duration,
    /// The number of uses after which a connection is closed.
    pub max_uses: usize,
    /// How long a connection may be unused before it is closed.
    pub max_idle: Duration,
    /// Concurrent reads; further ones wait before they ask for a connection.
    pub max_reads: usize,
}

/// Makes the connections of a pool.
pub struct Connections {
    target: Target,
    setup: String,
}

impl Connections {
    /// The database that they connect to.
    pub(in crate::store) fn target(&self) -> &Target {
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

/// A pool of connections for reads of committed state.
#[derive(Clone)]
pub struct ReadPool {
    pool: Pool<Connections>,
    slots: Arc<Semaphore>,
    settings: PoolSettings,
    rejected: Arc<AtomicU64>,
    /// Connections made before this moment are not used again.
    renewed: Arc<Mutex<Option<Instant>>>,
    /// The position of the write-ahead log that a replica must have replayed. None: these are connections to the primary.
    replayed: Option<i64>,
}

/// The state of a pool.
#[derive(Clone, Copy, Debug)]
pub struct PoolFigures {
    /// The number of connections at most.
    pub max_connections: usize,
    /// The number of open connections.
    pub connections: usize,
    /// Open connections that are unused.
    pub idle: usize,
    /// Calls that wait for a connection.
    pub waiting: usize,
    /// Calls that got no connection in time, since the start.
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
        let slots = Arc::new(Semaphore::new(settings.max_reads));
        Ok(Self { pool, slots, settings, rejected: Arc::default(), renewed, replayed: None })
    }

    /// The same connections for reads of another kind, of which at most `max_reads` run at once, so that they leave some to the others.
    pub fn share(&self, max_reads: usize) -> Self {
        Self { slots: Arc::new(Semaphore::new(max_reads)), ..self.clone() }
    }

    /// The same connections for reads of a state that has all writes up to a position of the write-ahead log. Each connection is asked when it is
    /// taken, because a replica that was restarted may be behind what it has shown before.
    pub fn replayed_up_to(&self, position: i64) -> Self {
        Self { replayed: Some(position), ..self.clone() }
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
        let wait = tokio::time::timeout(self.settings.acquire_timeout, self.slots.clone().acquire_owned());
        let Ok(Ok(slot)) = wait.await else {
            self.rejected.fetch_add(1, Ordering::Relaxed);
            return Err(overloaded());
        };
        match self.pool.get().await {
            Ok(client) => self.checked(Reader::new(client, slot)).await,
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

    async fn checked(&self, reader: Reader) -> Result<Reader> {
        let Some(position) = self.replayed else { return Ok(reader) };
        match has_replayed(&reader, position).await {
            Ok(true) => Ok(reader),
            // The caller asks the primary instead.
            Ok(false) => Err(Error::StoreUnavailable),
            Err(error) => Err(unavailable(&error)),
        }
    }

    /// The state of the pool.
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

    /// Closes all connections that exist now after their current use: their server accepts no writes any more.
    pub fn renew(&self) {
        *self.renewed.lock() = Some(Instant::now());
        self.pool.retain(|_, _| false);
    }

    /// Closes connections that have been unused for longer than `max_idle`, down to `min_connections`; returns how many.
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
