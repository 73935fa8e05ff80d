//! ListWaiters: callers and stages that wait for a permit of a resource, in the order of priority and time.
//!
//! A page is read in one snapshot: a bounded part of the wait queues of the resource, what was submitted of the stages of the page, and counts that
//! end at a bound.

use postgres_types::ToSql;
use serde::{Deserialize, Serialize};
use tokio_postgres::Row;
use uuid::Uuid;

use crate::domain::id::Name;
use crate::domain::permit::wait_queue::Waiter;
use crate::domain::permit::{PermitClaim, PermitMode, ResourceKey};
use crate::domain::time::Timestamp;
use crate::error::{Error, Result};
use crate::store::Store;
use crate::store::bounded::BoundedCount;
use crate::store::page::WALK_SETUP;
use crate::store::pg::connection::{Run, unavailable};
use crate::store::pg::snapshot::Snapshot;

/// Stages that are counted, as the comments of ListWaiters say.
const COUNTED: i64 = 10_000;

/// A caller or a stage in the wait queue of a resource.
#[derive(Clone, Debug, PartialEq)]
pub struct WaiterState {
    /// Who waits.
    pub requester: PermitRequester,
    /// Mode in which the resource is claimed.
    pub mode: PermitMode,
    /// Amount that is claimed.
    pub amount: i64,
    /// Priority; higher is served first.
    pub priority: i32,
    /// Arrival of a caller, or when a stage became ready.
    pub since: Timestamp,
}

/// Who waits for a permit.
#[derive(Clone, Debug, PartialEq)]
pub enum PermitRequester {
    /// A call of AcquirePermit.
    Caller {
        /// Holder, as it names itself.
        holder: Name,
        /// When the caller stops waiting.
        until: Timestamp,
    },
    /// A ready stage.
    Stage {
        /// Id of the job.
        job_id: String,
        /// Name of the stage.
        name: String,
        /// Its queue.
        queue: String,
    },
}

/// A position in the list of waiters. Callers have no job. The id of a caller is that of its permit, and is a secret.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct WaiterCursor {
    /// Priority.
    pub priority: i32,
    /// Arrival of a caller, or when a stage became ready.
    pub since: Timestamp,
    /// Key of the stage's job. Nil: a caller.
    pub job: Uuid,
    /// Number of the stage in its job. 0: a caller.
    pub stage: i32,
}

impl WaiterCursor {
    /// The position ahead of all waiters.
    pub const START: Self = Self { priority: i32::MAX, since: Timestamp(0), job: Uuid::nil(), stage: 0 };
}

/// A page of the waiters of a resource.
#[derive(Clone, Debug, PartialEq)]
pub struct WaiterPage {
    /// The waiters.
    pub waiters: Vec<WaiterState>,
    /// Where the next page begins. None: there is no next page.
    pub next: Option<WaiterCursor>,
    /// Callers that wait for the resource.
    pub callers: i64,
    /// Stages that wait for the resource.
    pub stages: BoundedCount,
}

impl Store {
    /// The waiters of a resource behind a position, at most `limit`. None: there is no such resource.
    pub async fn list_waiters(
        &self,
        resource: ResourceKey,
        after: &WaiterCursor,
        limit: u32,
    ) -> Result<Option<WaiterPage>> {
        self.waiters_within(COUNTED, resource, after, limit).await
    }

    pub(in crate::store) async fn waiters_within(
        &self,
        counted: i64,
        resource: ResourceKey,
        after: &WaiterCursor,
        limit: u32,
    ) -> Result<Option<WaiterPage>> {
        let client = self.reads.get().await?;
        let snapshot = Snapshot::under(&client, WALK_SETUP);
        let (namespace, uid) = (resource.namespace.0, resource.uid);
        let WaiterCursor { priority, since, job, stage } = after;
        let one_more = i64::from(limit) + 1;
        let of_count: [&(dyn ToSql + Sync); 3] = [&namespace, &uid, &counted];
        let of_list: [&(dyn ToSql + Sync); 7] = [&namespace, &uid, priority, since, job, stage, &one_more];
        let counts = snapshot.rows(include_str!("../sql/permit/count_waiters.sql"), &of_count);
        let rows = snapshot.rows(include_str!("../sql/permit/list_waiters.sql"), &of_list);
        let (counts, rows) = futures::try_join!(counts, rows).map_err(|error| unavailable(&error))?;
        let Some(counts) = counts.first() else { return Ok(None) };
        let default_mode = if counts.get(0) { PermitMode::Shared } else { PermitMode::Exclusive };
        let of_page = &rows[..rows.len().min(limit as usize)];
        let waiters = of_page.iter().map(|row| waiter(row, resource, default_mode));
        Ok(Some(WaiterPage {
            waiters: waiters.collect::<Result<Vec<_>>>()?,
            next: of_page.last().filter(|_| rows.len() > of_page.len()).map(position),
            callers: counts.get(1),
            stages: BoundedCount::of(counts.get(2), counted),
        }))
    }
}

fn position(row: &Row) -> WaiterCursor {
    WaiterCursor { priority: row.get(0), since: row.get(1), job: row.get(2), stage: row.get(3) }
}

fn waiter(row: &Row, resource: ResourceKey, default_mode: PermitMode) -> Result<WaiterState> {
    let broken = |error| Error::bug(format_args!("a waiter: {error}"));
    let caller: Option<Waiter> = row.get::<_, Option<&str>>(4).map(serde_json::from_str).transpose().map_err(broken)?;
    let (requester, claims) = match caller {
        Some(Waiter { holder, until, claims, .. }) => (PermitRequester::Caller { holder, until }, claims),
        None => {
            let [queue, job_id, name] =
                [5, 6, 7].map(|column| row.get::<_, Option<String>>(column).unwrap_or_default());
            let claims = row.get::<_, Option<&str>>(8).map_or(Ok(Vec::new()), serde_json::from_str).map_err(broken)?;
            (PermitRequester::Stage { job_id, name, queue }, claims)
        }
    };
    let claim: Option<&PermitClaim> = claims.iter().find(|claim| ResourceKey::uid_of(&claim.resource) == resource.uid);
    Ok(WaiterState {
        requester,
        mode: claim.and_then(|claim| claim.mode).unwrap_or(default_mode),
        amount: claim.map_or(1, |claim| claim.amount),
        priority: row.get(0),
        since: row.get(1),
    })
}
