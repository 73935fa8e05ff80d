//! Reads of stages that can be leased.

use postgres_types::ToSql;
use tokio_postgres::Row;
use uuid::Uuid;

use super::Store;
use super::load::number;
use super::queries::signed;
use crate::domain::id::{JobKey, Name, NamespaceId};
use crate::domain::ready::{ReadyPosition, ReadyStage};
use crate::domain::time::Timestamp;
use crate::error::Result;

/// The part of a queue that is read.
#[derive(Clone, Debug)]
pub struct HeadRange {
    /// The namespace.
    pub namespace: NamespaceId,
    /// The queue.
    pub queue: Name,
    /// Whether stages that are leased alone are read, or the others.
    pub alone: bool,
    /// The first place.
    pub from: ReadyPosition,
    /// Stages at most, 1 to 2,000.
    pub limit: usize,
}

impl Store {
    /// Stages that can be leased, of each range the first in order.
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
        let rows = self.background(include_str!("sql/pick_ready.sql"), &params).await?;
        let mut found: Vec<Vec<ReadyStage>> = ranges.iter().map(|_| Vec::new()).collect();
        for row in &rows {
            let at = number(row.get(0)) as usize - 1;
            found[at].push(ready(row, &ranges[at].queue));
        }
        Ok(found)
    }

    /// Stages of the group of one that can be leased with it, at most so many, those that wait for a permit included.
    pub async fn ready_group(&self, head: &ReadyStage, limit: usize) -> Result<Vec<ReadyStage>> {
        let group_key = head.group_key.as_deref();
        let limit = i64::try_from(limit).unwrap_or(i64::MAX);
        let params: [&(dyn ToSql + Sync); 4] = [&head.key.namespace.0, &&*head.queue, &group_key, &limit];
        let rows = self.background(include_str!("sql/pick_group.sql"), &params).await?;
        Ok(rows.iter().map(|row| ready(row, &head.queue)).collect())
    }
}

fn ready(row: &Row, queue: &Name) -> ReadyStage {
    ReadyStage {
        key: JobKey { namespace: NamespaceId(row.get(1)), uid: row.get(2) },
        stage_no: number(row.get(3)),
        queue: queue.clone(),
        priority: row.get(4),
        ready_at: row.get(5),
        group_key: row.get::<_, Option<&str>>(6).map(Into::into),
        alone: row.get(7),
    }
}
