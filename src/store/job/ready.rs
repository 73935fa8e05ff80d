//! Reads of ready stages.

use postgres_types::ToSql;
use tokio_postgres::Row;
use uuid::Uuid;

use crate::domain::id::{JobKey, Name, NamespaceId};
use crate::domain::ready::{ReadyPosition, ReadyStage};
use crate::domain::time::Timestamp;
use crate::error::Result;
use crate::store::Store;
use crate::store::job::queries::signed;
use crate::store::load::number;

/// A part of a queue of ready stages.
#[derive(Clone, Debug)]
pub struct HeadRange {
    /// The namespace of the queue.
    pub namespace: NamespaceId,
    /// The name of the queue.
    pub queue: Name,
    /// Whether stages that are leased alone are read, or the others.
    pub alone: bool,
    /// The position from which stages are read.
    pub from: ReadyPosition,
    /// Stages at most, 1 to 2,000.
    pub limit: usize,
}

impl Store {
    /// The first ready stages of each range, in the order in which they are leased.
    pub async fn ready_heads(&self, ranges: &[HeadRange]) -> Result<Vec<Vec<ReadyStage>>> {
        let namespaces: Vec<i32> = ranges.iter().map(|range| range.namespace.0).collect();
        let queues: Vec<&str> = ranges.iter().map(|range| &*range.queue).collect();
        let alone: Vec<bool> = ranges.iter().map(|range| range.alone).collect();
        let ranks: Vec<i32> = ranges.iter().map(|range| range.from.rank).collect();
        let times: Vec<Timestamp> = ranges.iter().map(|range| range.from.ready_at).collect();
        let uids: Vec<Uuid> = ranges.iter().map(|range| range.from.uid).collect();
        let stages: Vec<i32> = ranges.iter().map(|range| signed(range.from.stage_no)).collect();
        let limits: Vec<i64> = ranges.iter().map(|range| i64::try_from(range.limit).unwrap_or(i64::MAX)).collect();
        let params: [&(dyn ToSql + Sync); 8] = [&namespaces, &queues, &alone, &ranks, &times, &uids, &stages, &limits];
        let rows = self.background(include_str!("../sql/ready/pick_ready.sql"), &params).await?;
        let mut found: Vec<Vec<ReadyStage>> = ranges.iter().map(|_| Vec::new()).collect();
        for row in &rows {
            let at = number(row.get(0)) as usize - 1;
            found[at].push(ready_stage(row, 1, ranges[at].queue.clone()));
        }
        Ok(found)
    }

    /// At most `limit` ready stages of the group that `head` is of, those that wait for a permit included. Stages that are leased alone are not.
    pub async fn ready_group(&self, head: &ReadyStage, limit: usize) -> Result<Vec<ReadyStage>> {
        let group_key = head.group_key.as_deref();
        let limit = i64::try_from(limit).unwrap_or(i64::MAX);
        let params: [&(dyn ToSql + Sync); 4] = [&head.key.namespace.0, &&*head.queue, &group_key, &limit];
        let rows = self.background(include_str!("../sql/ready/pick_group.sql"), &params).await?;
        Ok(rows.iter().map(|row| ready_stage(row, 0, head.queue.clone())).collect())
    }
}

/// A ready stage from seven columns that begin at a position: namespace_id, job_uid, stage_no, priority, ready_at, group_key, alone.
pub(in crate::store) fn ready_stage(row: &Row, at: usize, queue: Name) -> ReadyStage {
    ReadyStage {
        key: JobKey { namespace: NamespaceId(row.get(at)), uid: row.get(at + 1) },
        stage_no: number(row.get(at + 2)),
        queue,
        priority: row.get(at + 3),
        ready_at: row.get(at + 4),
        group_key: row.get::<_, Option<&str>>(at + 5).map(Into::into),
        alone: row.get(at + 6),
    }
}
