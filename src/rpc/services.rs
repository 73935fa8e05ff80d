//! The parts of a running server that every call needs.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use tokio_util::sync::CancellationToken;

use super::namespaces::Namespaces;
use super::timeline::gate::TimelineGate;
use super::worker_instances::WorkerInstances;
use crate::admission::{RateLimiter, Statistics};
use crate::domain::time::Timestamp;
use crate::engine::Engine;
use crate::engine::dispatcher::Dispatcher;
use crate::error::Result;
use crate::feed::Hub;
use crate::store::Store;
use crate::store::replica::Replica;
use crate::task::BackgroundJobs;

/// The parts of a running server that calls need; cheap to clone.
#[derive(Clone)]
pub struct Services {
    /// Decides and commits every write.
    pub engine: Engine,
    /// Serves every read but those of watches.
    pub store: Store,
    /// Answers reads that may be stale. None: there is no read replica.
    pub replica: Option<Arc<Replica>>,
    /// The services over the primary, where these read from the replica. None: these do.
    pub primary: Option<Arc<Services>>,
    /// The store for the reads of watches; its share of the pool leaves connections to all other reads.
    pub watch_store: Store,
    /// The feed of committed changes.
    pub hub: Arc<Hub>,
    /// Grants leases to waiting workers.
    pub dispatcher: Arc<Dispatcher>,
    /// Counts and latencies of calls, for GetStatistics.
    pub statistics: Arc<Statistics>,
    /// The rate limits of clients and the refusals by them.
    pub rate_limiter: Arc<RateLimiter>,
    /// What runs in the background, for GetStatistics.
    pub loops: Arc<BackgroundJobs>,
    /// Lets a bounded number of calls of timelines through to the database.
    pub timeline_gate: Arc<TimelineGate>,
    /// Workers that share an id.
    pub worker_instances: Arc<WorkerInstances>,
    /// The namespaces by name.
    pub namespaces: Arc<Namespaces>,
    /// Cancelled when the drain begins; waiting calls are then answered at once.
    pub shutdown: CancellationToken,
    /// When the server started, by its own clock.
    pub started: SystemTime,
}

impl Services {
    /// Returns the database's time; asks the database if the last reading is too old.
    pub(super) async fn now(&self) -> Result<Timestamp> {
        let clock = &self.engine.shared().clock;
        if let Some(now) = clock.fresh() {
            return Ok(now);
        }
        let now = self.store.clock().await?;
        clock.observe(now);
        Ok(now)
    }

    /// Returns the time since the server started; zero if its clock was set back to before the start.
    pub(super) fn uptime(&self) -> Duration {
        self.started.elapsed().unwrap_or_default()
    }
}
