//! ListWorkers: workers by name, each with the leases that it holds.
//!
//! A page is one statement: it reads a bounded number of leases, groups them by worker, and looks up what was submitted of the stages of the
//! workers of the page alone. Leases have no index by worker, which each lease would pay for.

use serde::Deserialize;
use tokio_postgres::Row;

use crate::domain::id::{Name, NamespaceId};
use crate::domain::time::Timestamp;
use crate::error::{Error, Result};
use crate::store::Store;
use crate::store::bounded::{BoundedCount, NameCursor};
use crate::store::page::WALK_SETUP;
use crate::store::pg::connection::{Run, unavailable};
use crate::store::pg::snapshot::Snapshot;

/// A worker that holds leases.
#[derive(Clone, Debug, PartialEq)]
pub struct WorkerState {
    /// The worker, as it called itself.
    pub worker_id: Name,
    /// Its leases. Capped: not all leases of the namespace were looked at.
    pub leases: BoundedCount,
    /// Queues of the stages that it has leased, by name, as many as are returned.
    pub queues: Vec<String>,
    /// Whether there are more queues.
    pub has_more_queues: bool,
    /// Stages that it has leased, those that were leased first, as many as are returned.
    pub stages: Vec<LeasedStage>,
    /// When its oldest lease began. None: its stages are gone.
    pub oldest_start: Option<Timestamp>,
    /// When one of its leases was last renewed or granted.
    pub last_renewal: Timestamp,
    /// When the first of its leases ends.
    pub next_end: Timestamp,
}

/// A stage that a worker has leased, as the statement returns it.
#[derive(Clone, Debug, PartialEq, Deserialize)]
pub struct LeasedStage {
    /// Id of the job.
    pub job_id: String,
    /// Name of the stage.
    pub name: String,
    /// Its queue. None: it is run by name.
    pub queue: Option<String>,
    /// When the lease began.
    pub start: Option<Timestamp>,
    /// When the lease ends.
    pub end: Timestamp,
    /// Progress of the attempt, 0 to 1.
    pub progress: f64,
}

/// A page of workers in the order of their names.
#[derive(Clone, Debug, PartialEq)]
pub struct WorkerPage {
    /// The workers.
    pub workers: Vec<WorkerState>,
    /// Where the next page begins. None: there is no next page.
    pub next: Option<NameCursor>,
}

/// What one page may read and return.
#[derive(Clone, Copy, Debug)]
pub(in crate::store) struct WorkerBounds {
    /// Leases of the namespace that are looked at.
    pub(in crate::store) leases: i64,
    /// Queues of one worker that are returned.
    pub(in crate::store) queues: i64,
    /// Stages of one worker that are returned.
    pub(in crate::store) stages: i64,
}

/// The bounds that the comments of ListWorkers name.
const BOUNDS: WorkerBounds = WorkerBounds { leases: 10_000, queues: 20, stages: 10 };

impl Store {
    /// Workers of a namespace that hold leases, behind a name, at most `limit`.
    pub async fn list_workers(&self, namespace: NamespaceId, after: &str, limit: u32) -> Result<WorkerPage> {
        self.workers_within(BOUNDS, namespace, after, limit).await
    }

    pub(in crate::store) async fn workers_within(
        &self,
        bounds: WorkerBounds,
        namespace: NamespaceId,
        after: &str,
        limit: u32,
    ) -> Result<WorkerPage> {
        let client = self.reads.get().await?;
        let snapshot = Snapshot::under(&client, WALK_SETUP);
        let sql = include_str!("../sql/lease/list_workers.sql");
        let one_more = i64::from(limit) + 1;
        let WorkerBounds { leases, queues, stages } = bounds;
        let rows = snapshot.rows(sql, &[&namespace.0, &after, &one_more, &leases, &stages]).await;
        let rows = rows.map_err(|error| unavailable(&error))?;
        let of_page = rows.iter().take(limit as usize);
        let workers: Vec<WorkerState> = of_page.map(|row| worker(row, leases, queues)).collect::<Result<_>>()?;
        let next = workers.last().filter(|_| rows.len() > workers.len());
        let next = next.map(|last| NameCursor::after(&*last.worker_id));
        Ok(WorkerPage { workers, next })
    }
}

fn worker(row: &Row, looked_at: i64, queues: i64) -> Result<WorkerState> {
    let all: i64 = row.get(1);
    let stages =
        serde_json::from_str(row.get(4)).map_err(|error| Error::bug(format_args!("leased stages: {error}")))?;
    let mut names: Vec<String> = row.get(3);
    let has_more_queues = names.len() as i64 > queues;
    names.truncate(usize::try_from(queues).unwrap_or(usize::MAX));
    Ok(WorkerState {
        worker_id: row.get::<_, &str>(0).into(),
        leases: BoundedCount { is_capped: all > looked_at, ..BoundedCount::of(row.get(2), i64::MAX) },
        queues: names,
        has_more_queues,
        stages,
        oldest_start: row.get::<_, Option<i64>>(5).map(Timestamp),
        last_renewal: row.get(6),
        next_end: row.get(7),
    })
}
