//! ListQueues: queues by name, each with bounded counts of its stages.
//!
//! A page is four reads of one snapshot: names of queues by the indexes of ready and of waiting stages, leases by queue, stages that wait for a
//! time by queue, and then counts of the queues of the page. None of them reads a number of rows that grows with a table.

use std::collections::{BTreeMap, BTreeSet};

use postgres_types::ToSql;
use tokio_postgres::Row;

use crate::domain::id::{Name, NamespaceId};
use crate::domain::time::Timestamp;
use crate::error::Result;
use crate::store::Store;
use crate::store::bounded::{BoundedCount, NameCursor};
use crate::store::page::WALK_SETUP;
use crate::store::pg::connection::{Run, unavailable};
use crate::store::pg::snapshot::Snapshot;

/// A queue that has ready, waiting, leased or delayed stages.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct QueueState {
    /// The name.
    pub name: Name,
    /// Stages that can be leased.
    pub ready: BoundedCount,
    /// When the oldest ready stage became ready. None: none is ready.
    pub oldest_ready: Option<Timestamp>,
    /// Stages that wait for a permit.
    pub waiting: BoundedCount,
    /// Stages that are leased. Capped: not all leases of the namespace were looked at.
    pub leased: BoundedCount,
    /// Stages that wait for a time. Capped: not all timers of the namespace were looked at.
    pub delayed: BoundedCount,
}

/// A page of queues in the order of their names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct QueuePage {
    /// The queues.
    pub queues: Vec<QueueState>,
    /// Where the next page begins. None: there is no next page.
    pub next: Option<NameCursor>,
}

/// What one page may read.
#[derive(Clone, Copy, Debug)]
pub(in crate::store) struct QueueBounds {
    /// Ready stages, and waiting ones, that are counted in one queue.
    pub(in crate::store) of_queue: i64,
    /// Stages after which no further queue is counted.
    pub(in crate::store) of_page: i64,
    /// Queues of all namespaces whose names are looked at.
    pub(in crate::store) names: i64,
    /// Leases of the namespace. Each costs a look at what was submitted of its stage, about 10 µs.
    pub(in crate::store) leases: i64,
    /// Timers of jobs of the namespace, and timers of stages. Each costs as much as a lease.
    pub(in crate::store) timers: i64,
    /// Stages that are looked at of the jobs with these timers.
    pub(in crate::store) delayed: i64,
}

/// The bounds that the comments of ListQueues name.
const BOUNDS: QueueBounds =
    QueueBounds { of_queue: 10_000, of_page: 50_000, names: 1_000, leases: 5_000, timers: 5_000, delayed: 20_000 };

impl Store {
    /// Queues of a namespace behind a name, at most `limit`.
    pub async fn list_queues(&self, namespace: NamespaceId, after: &str, limit: u32) -> Result<QueuePage> {
        self.queues_within(BOUNDS, namespace, after, limit).await
    }

    pub(in crate::store) async fn queues_within(
        &self,
        bounds: QueueBounds,
        namespace: NamespaceId,
        after: &str,
        limit: u32,
    ) -> Result<QueuePage> {
        let client = self.reads.get().await?;
        read_page(&Snapshot::under(&client, WALK_SETUP), bounds, namespace, after, limit as usize).await
    }
}

async fn read_page(
    snapshot: &Snapshot<'_>,
    bounds: QueueBounds,
    namespace: NamespaceId,
    after: &str,
    limit: usize,
) -> Result<QueuePage> {
    let one_more = i64::try_from(limit).unwrap_or(i64::MAX).saturating_add(1);
    let of_names: [&(dyn ToSql + Sync); 4] = [&namespace.0, &after, &one_more, &bounds.names];
    let of_leases: [&(dyn ToSql + Sync); 2] = [&namespace.0, &bounds.leases];
    let of_timers: [&(dyn ToSql + Sync); 3] = [&namespace.0, &bounds.timers, &bounds.delayed];
    let (found, leased, delayed) = futures::try_join!(
        snapshot.rows(include_str!("../sql/ready/queue_names.sql"), &of_names),
        snapshot.rows(include_str!("../sql/lease/leased_queues.sql"), &of_leases),
        snapshot.rows(include_str!("../sql/ready/delayed_queues.sql"), &of_timers),
    )
    .map_err(|error| unavailable(&error))?;
    let leased = CountsByQueue::of_leases(&leased, bounds.leases);
    let delayed = CountsByQueue::of_delayed(&delayed);
    // The walk over names ended here, although there can be more.
    let end: Option<&str> = found.iter().find(|row| row.get(2)).map(|row| row.get(0));
    let own = found.iter().filter(|row| row.get(1)).map(|row| row.get::<_, &str>(0));
    let others = leased.counts.keys().chain(delayed.counts.keys()).copied();
    let mut names: BTreeSet<&str> = own.chain(others).collect();
    names.retain(|name| *name > after && end.is_none_or(|end| *name <= end));
    let is_full = names.len() > limit;
    let names: Vec<&str> = names.into_iter().take(limit).collect();
    let of_counts: [&(dyn ToSql + Sync); 4] = [&namespace.0, &names, &bounds.of_queue, &bounds.of_page];
    let counted = snapshot.rows(include_str!("../sql/ready/count_queues.sql"), &of_counts).await;
    let counted = counted.map_err(|error| unavailable(&error))?;
    let queue = |row: &Row| {
        let name: &str = row.get(0);
        QueueState {
            name: name.into(),
            ready: BoundedCount::of(row.get(1), bounds.of_queue),
            oldest_ready: row.get(2),
            waiting: BoundedCount::of(row.get(3), bounds.of_queue),
            leased: leased.of_queue(name),
            delayed: delayed.of_queue(name),
        }
    };
    let queues: Vec<QueueState> = counted.iter().map(queue).collect();
    let next = match queues.last() {
        Some(last) if is_full || queues.len() < names.len() => Some(NameCursor::after(&*last.name)),
        Some(_) | None => end.map(NameCursor::after),
    };
    Ok(QueuePage { queues, next })
}

/// Stages of a namespace by queue, as far as the namespace was looked at.
struct CountsByQueue<'a> {
    counts: BTreeMap<&'a str, i64>,
    is_capped: bool,
}

impl<'a> CountsByQueue<'a> {
    /// Leases. All that were looked at are counted, also those of stages that are in no queue.
    fn of_leases(rows: &'a [Row], bound: i64) -> Self {
        let all: i64 = rows.iter().map(|row| row.get::<_, i64>(1)).sum();
        Self { counts: counts(rows), is_capped: all > bound }
    }

    /// Stages that wait for a time.
    fn of_delayed(rows: &'a [Row]) -> Self {
        Self { counts: counts(rows), is_capped: rows.first().is_some_and(|row| row.get(2)) }
    }

    fn of_queue(&self, name: &str) -> BoundedCount {
        let count = self.counts.get(name).copied().unwrap_or(0);
        BoundedCount { is_capped: self.is_capped, ..BoundedCount::of(count, i64::MAX) }
    }
}

/// Counts of queues. Rows without a queue are of stages that are in none.
fn counts(rows: &[Row]) -> BTreeMap<&str, i64> {
    rows.iter().filter_map(|row| Some((row.get::<_, Option<&str>>(0)?, row.get(1)))).collect()
}
