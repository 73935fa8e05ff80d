//! Changes of jobs since a revision: their state and their history, read in one snapshot.

use std::sync::Arc;

use foldhash::HashMap;
use postgres_types::ToSql;
use tokio_postgres::Row;
use uuid::Uuid;

use crate::domain::event::JobEvent;
use crate::domain::id::{JobKey, NamespaceId};
use crate::domain::job::Job;
use crate::domain::time::Timestamp;
use crate::error::Result;
use crate::store::commit::columns::HISTORY_ENTRY_BYTES;
use crate::store::job::queries::event;
use crate::store::pg::connection::{DbError, Run, unavailable};
use crate::store::pg::snapshot::Snapshot;
use crate::store::{Store, load};

/// A job and its history since a revision.
#[derive(Clone, Debug)]
pub struct JobWithHistory {
    /// The job as of the snapshot.
    pub job: Arc<Job>,
    /// The events since the revision, in order.
    pub events: Vec<Arc<JobEvent>>,
    /// Whether there can be more events than were read.
    pub has_more: bool,
    /// The revision of the oldest event that history still has. None: not read, or there is none.
    pub oldest: Option<i64>,
    /// When the snapshot was read, by the database's clock.
    pub now: Timestamp,
}

/// Several jobs with their history since known revisions.
#[derive(Clone, Debug)]
pub struct JobsWithHistory {
    /// The jobs that exist.
    pub jobs: HashMap<JobKey, JobWithHistory>,
    /// When the snapshot was read, by the database's clock.
    pub now: Timestamp,
}

/// Jobs of which history was written.
#[derive(Debug)]
pub struct WrittenJobs {
    /// Each with the newest version that was written, and whether the job was created then.
    pub jobs: HashMap<JobKey, (i64, bool)>,
    /// The transaction to continue from.
    pub next: i64,
    /// Whether more was written than was asked for.
    pub is_cut: bool,
}

/// The jobs and versions in the history of a group.
fn history_entries(bytes: &[u8]) -> impl Iterator<Item = (JobKey, i64)> {
    bytes.chunks_exact(HISTORY_ENTRY_BYTES).filter_map(|entry| {
        let (namespace, rest) = entry.split_first_chunk()?;
        let (uid, version) = rest.split_first_chunk()?;
        let key = JobKey { namespace: NamespaceId(i32::from_be_bytes(*namespace)), uid: Uuid::from_bytes(*uid) };
        Some((key, i64::from_be_bytes(version.try_into().ok()?)))
    })
}

impl Store {
    /// A job with at most `limit` events after a revision. None: there is no such job.
    pub async fn changes_after(&self, key: JobKey, revision: i64, limit: u32) -> Result<Option<JobWithHistory>> {
        let client = self.reads.get().await?;
        let snapshot = Snapshot::of(&client);
        let read = async {
            let Some(job) = load::jobs(&snapshot, &[key], &HashMap::default()).await?.remove(&key) else {
                return Ok(None);
            };
            let (since, most) = (job.meta.create_time, i64::from(limit));
            let of_job: [&(dyn ToSql + Sync); 3] = [&key.namespace.0, &key.uid, &since];
            let newer: [&(dyn ToSql + Sync); 5] = [&key.namespace.0, &key.uid, &since, &revision, &most];
            let (now, oldest, rows) = futures::try_join!(
                load::clock(&snapshot),
                snapshot.rows(include_str!("../sql/history/oldest_event.sql"), &of_job),
                snapshot.rows(include_str!("../sql/history/list_events.sql"), &newer),
            )?;
            Ok(Some((job, oldest.first().and_then(|row| row.get(0)), rows, now)))
        };
        let read = read.await.map_err(|error: DbError| unavailable(&error))?;
        let Some((job, oldest, rows, now)) = read else { return Ok(None) };
        let events = rows.iter().map(|row| event(row, 0).map(Arc::new)).collect::<Result<Vec<_>>>()?;
        let has_more = events.len() >= limit as usize;
        Ok(Some(JobWithHistory { job, events, has_more, oldest, now }))
    }

    /// Several jobs, with history of those that are known. If that takes more than `limit` events, all come without history, and `has_more` says
    /// so.
    pub async fn changes_since(
        &self,
        keys: &[JobKey],
        known: &HashMap<JobKey, Arc<Job>>,
        limit: u32,
    ) -> Result<JobsWithHistory> {
        // Watches of changes by other servers do not wait for users' reads.
        let client = self.reserved.get().await?;
        let snapshot = Snapshot::of(&client);
        let read = async {
            let (now, found) = futures::try_join!(load::clock(&snapshot), load::jobs(&snapshot, keys, known))?;
            let (with_history, without): (Vec<_>, Vec<_>) =
                found.into_values().partition(|job| known.contains_key(&job.key));
            let rows = newer_events(&snapshot, &with_history, known, limit).await?;
            Ok((now, with_history, without, rows))
        };
        let (now, mut jobs, without, rows) = read.await.map_err(|error: DbError| unavailable(&error))?;
        let is_full = rows.len() >= limit as usize;
        jobs.extend(without);
        let of = |job| JobWithHistory { job, events: Vec::new(), has_more: is_full, oldest: None, now };
        let mut changes: Vec<JobWithHistory> = jobs.into_iter().map(of).collect();
        for row in rows.iter().filter(|_| !is_full) {
            let i: i32 = row.get(0);
            if let Some(of) = usize::try_from(i - 1).ok().and_then(|i| changes.get_mut(i)) {
                of.events.push(Arc::new(event(row, 1)?));
            }
        }
        Ok(JobsWithHistory { jobs: changes.into_iter().map(|changes| (changes.job.key, changes)).collect(), now })
    }

    /// Jobs of which finished transactions from `xid` on wrote history, in at most `groups` groups with `jobs` entries in all. Groups are remembered for
    /// ten minutes.
    pub async fn jobs_since(&self, xid: i64, groups: u32, jobs: u32) -> Result<WrittenJobs> {
        let client = self.reserved.get().await?;
        let max_bytes = i64::from(jobs) * HISTORY_ENTRY_BYTES as i64;
        // One more group shows whether there are more.
        let params: [&(dyn ToSql + Sync); 3] = [&xid, &(i64::from(groups) + 1), &max_bytes];
        let rows = client.rows(include_str!("../sql/job/jobs_since.sql"), &params).await;
        let rows = rows.map_err(|error| unavailable(&error))?;
        let next = rows.first().map_or(xid, |row| row.get(0));
        let bytes = rows.last().and_then(|row| row.get::<_, Option<i64>>(1)).unwrap_or(0);
        let is_cut = rows.len() > groups as usize || bytes > max_bytes;
        let mut jobs: HashMap<JobKey, (i64, bool)> = HashMap::default();
        for (key, version) in rows.iter().filter_map(|row| row.get::<_, Option<&[u8]>>(2)).flat_map(history_entries) {
            let (newest, is_new) = jobs.entry(key).or_insert((version, false));
            *newest = version.max(*newest);
            *is_new |= version == 1;
        }
        Ok(WrittenJobs { jobs, next, is_cut })
    }
}

async fn newer_events(
    snapshot: &impl Run,
    jobs: &[Arc<Job>],
    known: &HashMap<JobKey, Arc<Job>>,
    limit: u32,
) -> std::result::Result<Vec<Row>, DbError> {
    let namespaces: Vec<i32> = jobs.iter().map(|job| job.key.namespace.0).collect();
    let uids: Vec<Uuid> = jobs.iter().map(|job| job.key.uid).collect();
    let since: Vec<Timestamp> = jobs.iter().map(|job| job.meta.create_time).collect();
    let revisions: Vec<i64> = jobs.iter().map(|job| known.get(&job.key).map_or(0, |known| known.revision)).collect();
    let limit = i64::from(limit);
    let params: [&(dyn ToSql + Sync); 5] = [&namespaces, &uids, &since, &revisions, &limit];
    snapshot.rows(include_str!("../sql/history/load_events.sql"), &params).await
}
