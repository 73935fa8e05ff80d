//! What is due by the clock: reads and clean-ups of background jobs.

use std::time::Duration;

use postgres_types::ToSql;
use tokio_postgres::Row;
use uuid::Uuid;

use super::Store;
use super::job::partitions;
use super::load::number;
use super::pg::connection::{Run, unavailable};
use super::pg::walk::Walk;
use crate::domain::id::{JobKey, NamespaceId, StageNo};
use crate::domain::time::Timestamp;
use crate::error::Result;

impl Store {
    /// At most `limit` expired leases with the secrets of their tokens. `held_since`: only those granted or renewed since then. `due_since`: only
    /// those of which the check is due since then.
    pub async fn due_leases(
        &self,
        held_since: Option<Timestamp>,
        due_since: Option<Timestamp>,
        limit: i64,
    ) -> Result<Vec<(JobKey, StageNo, Uuid)>> {
        let rows =
            self.background(include_str!("sql/lease/due_leases.sql"), &[&limit, &held_since, &due_since]).await?;
        Ok(rows.iter().map(|row| (job_key(row), number(row.get(2)), row.get(3))).collect())
    }

    /// Postpones the check of leases that cannot be taken yet: of renewed ones to their end, of expired ones that were granted or renewed before
    /// `held_since` by `pause`. `due_since`: only of those of which the check is due since then. Returns how many, at most `limit`.
    pub async fn postpone_leases(
        &self,
        (held_since, pause): (Option<Timestamp>, Duration),
        due_since: Option<Timestamp>,
        limit: i64,
    ) -> Result<usize> {
        let params: [&(dyn ToSql + Sync); 4] = [&limit, &held_since, &pause.as_secs_f64(), &due_since];
        self.background(include_str!("sql/lease/postpone_leases.sql"), &params).await.map(|rows| rows.len())
    }

    /// Jobs and stages of which a timer is due, at most `limit` rows of jobs and as many of stages. None: a timer of the job itself.
    pub async fn due_timers(&self, limit: i64) -> Result<Vec<(JobKey, Option<StageNo>)>> {
        let jobs = self.background(include_str!("sql/job/due_jobs.sql"), &[&limit]).await?;
        let stages = self.background(include_str!("sql/job/due_stages.sql"), &[&limit]).await?;
        let jobs = jobs.iter().flat_map(|row| {
            let (key, stages): (JobKey, Vec<i32>) = (job_key(row), row.get(3));
            let own = (row.get(2) || stages.is_empty()).then_some(None);
            own.into_iter().chain(stages.into_iter().map(|no| Some(number(no)))).map(move |no| (key, no))
        });
        Ok(jobs.chain(stages.iter().map(|row| (job_key(row), Some(number(row.get(2)))))).collect())
    }

    /// Deletes remembered requests older than a day, in the next pages of a walk over `requests`; returns how many.
    pub async fn forget_requests(&self, walk: &mut Walk) -> Result<usize> {
        self.walk_on(walk, include_str!("sql/request/forget_requests.sql"), &[]).await.map(|rows| rows.len())
    }

    /// Deletes outcomes of groups older than ten minutes, in the next pages of a walk over `write_groups`; returns how many.
    pub async fn forget_groups(&self, walk: &mut Walk) -> Result<usize> {
        self.walk_on(walk, include_str!("sql/group/forget_groups.sql"), &[]).await.map(|rows| rows.len())
    }

    /// Deletes entries of the audit log that are older than it is kept; returns how many, at most `limit`.
    pub async fn forget_audit_events(&self, limit: i64) -> Result<usize> {
        self.background(include_str!("sql/audit/forget_audit_events.sql"), &[&limit]).await.map(|rows| rows.len())
    }

    /// Deletes requests and events of deleted namespaces; returns how many rows, at most `limit` of each kind.
    pub async fn sweep_namespaces(&self, limit: i64) -> Result<usize> {
        let requests = self.background(include_str!("sql/namespace/sweep_requests.sql"), &[&limit]).await?;
        let events = self.background(include_str!("sql/namespace/sweep_events.sql"), &[&limit]).await?;
        let swept = requests.len() + events.len();
        if swept == 0 {
            self.background(include_str!("sql/namespace/forget_remains.sql"), &[]).await?;
        }
        Ok(swept)
    }

    /// Shortens leases that end later than they possibly can, because the clock stepped back, in the next pages of a walk over `leases`; returns
    /// how many, at most `limit`.
    pub async fn shorten_leases(&self, walk: &mut Walk, limit: i64) -> Result<usize> {
        self.walk_all(walk, include_str!("sql/lease/shorten_leases.sql"), limit).await.map(|rows| rows.len())
    }

    /// Jobs, and stages of jobs that hold them in their own row, of which a timer is later than it possibly can be, because the clock stepped
    /// back; in the next pages of a walk over `jobs`, at most `limit`.
    pub async fn jobs_ahead(&self, walk: &mut Walk, limit: i64) -> Result<Vec<(JobKey, Option<StageNo>)>> {
        let rows = self.walk_all(walk, include_str!("sql/job/jobs_ahead.sql"), limit).await?;
        Ok(rows.iter().map(|row| (job_key(row), row.get::<_, Option<i32>>(2).map(number))).collect())
    }

    /// The same of stages in rows of their own, in the next pages of a walk over `stages`.
    pub async fn stages_ahead(&self, walk: &mut Walk, limit: i64) -> Result<Vec<(JobKey, StageNo)>> {
        let rows = self.walk_all(walk, include_str!("sql/job/stages_ahead.sql"), limit).await?;
        Ok(rows.iter().map(|row| (job_key(row), number(row.get(2)))).collect())
    }

    /// Creates the partitions of history for the next days and drops those older than `keep_days`; returns how many were dropped.
    pub async fn keep_partitions(&self, keep_days: i32) -> Result<usize> {
        let client = self.reserved.get().await?;
        partitions::ensure(&client).await?;
        partitions::drop_old(&client, keep_days).await
    }

    pub(super) async fn background(&self, sql: &'static str, params: &[&(dyn ToSql + Sync)]) -> Result<Vec<Row>> {
        let client = self.reserved.get().await?;
        client.rows(sql, params).await.map_err(|error| unavailable(&error))
    }
}

fn job_key(row: &Row) -> JobKey {
    JobKey { namespace: NamespaceId(row.get(0)), uid: row.get(1) }
}
