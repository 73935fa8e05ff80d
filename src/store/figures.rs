//! What is looked up for figures alone: bounded, and by indexes.

use std::time::Duration;

use super::Store;
use crate::domain::id::NamespaceId;
use crate::error::Result;
use crate::figures::queues::{MAX_QUEUES, ReadyQueue};

/// Ready stages that are counted at most, in all queues; of one queue at most a tenth of it.
const MAX_COUNTED: i64 = 100_000;

impl Store {
    /// What waits in queues, at most [`MAX_QUEUES`] of them in the order of their names.
    pub async fn ready_queues(&self) -> Result<Vec<ReadyQueue>> {
        let queues = i64::try_from(MAX_QUEUES).unwrap_or(i64::MAX);
        let rows = self.background(include_str!("sql/ready_queues.sql"), &[&queues, &MAX_COUNTED]).await?;
        let queue = |row: &tokio_postgres::Row| ReadyQueue {
            namespace: row.get(0),
            queue: row.get(1),
            stages: u64::try_from(row.get::<_, i64>(2)).unwrap_or(0),
            oldest: Duration::try_from_secs_f64(row.get(3)).unwrap_or_default(),
        };
        Ok(rows.iter().map(queue).collect())
    }

    /// The names of namespaces; those that are gone are absent.
    pub async fn names_of_namespaces(&self, ids: &[NamespaceId]) -> Result<Vec<(NamespaceId, String)>> {
        let ids: Vec<i32> = ids.iter().map(|id| id.0).collect();
        let rows = self.background(include_str!("sql/names_of_namespaces.sql"), &[&ids]).await?;
        Ok(rows.iter().map(|row| (NamespaceId(row.get(0)), row.get(1))).collect())
    }
}
