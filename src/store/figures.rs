//! Reads for metrics: bounded, and by indexes.

use std::time::Duration;

use super::Store;
use crate::domain::id::NamespaceId;
use crate::error::Result;
use crate::figures::queues::{MAX_QUEUES, ReadyQueue};

/// Ready stages that are counted at most, in all queues together; in one queue at most a tenth of that.
const MAX_COUNTED: i64 = 100_000;

impl Store {
    /// The number and age of ready stages of the first `MAX_QUEUES` queues, in the order of their names.
    pub async fn ready_queues(&self) -> Result<Vec<ReadyQueue>> {
        let queues = i64::try_from(MAX_QUEUES).unwrap_or(i64::MAX);
        let rows = self.background(include_str!("sql/ready/ready_queues.sql"), &[&queues, &MAX_COUNTED]).await?;
        let queue = |row: &tokio_postgres::Row| ReadyQueue {
            namespace: row.get(0),
            queue: row.get(1),
            stages: u64::try_from(row.get::<_, i64>(2)).unwrap_or(0),
            oldest: Duration::try_from_secs_f64(row.get(3)).unwrap_or_default(),
        };
        Ok(rows.iter().map(queue).collect())
    }

    /// The names of namespaces; deleted ones are absent.
    pub async fn names_of_namespaces(&self, ids: &[NamespaceId]) -> Result<Vec<(NamespaceId, String)>> {
        let ids: Vec<i32> = ids.iter().map(|id| id.0).collect();
        let rows = self.background(include_str!("sql/namespace/names_of_namespaces.sql"), &[&ids]).await?;
        Ok(rows.iter().map(|row| (NamespaceId(row.get(0)), row.get(1))).collect())
    }
}
