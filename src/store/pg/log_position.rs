//! Positions of the write-ahead log: where the primary's ends, and how far a replica has replayed it.

use super::connection::{DbResult, Run};

/// The end of the primary's log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogEnd {
    /// Bytes from the beginning of the log.
    pub position: i64,
    /// The timeline, which changes when another host becomes the primary.
    pub timeline: String,
    /// The identity of the cluster, which its replicas share.
    pub cluster: i64,
}

/// What a replica has of the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ReplicaLog {
    /// Bytes from the beginning of the log that it has received. None: it is no replica.
    pub received: Option<i64>,
    /// The identity of its cluster.
    pub cluster: i64,
}

/// Reads the end of the primary's log.
pub(in crate::store) async fn log_end(client: &impl Run) -> DbResult<Option<LogEnd>> {
    let rows = client.rows(include_str!("../sql/database/log_position.sql"), &[]).await?;
    Ok(rows.first().map(|row| LogEnd { position: row.get(0), timeline: row.get(1), cluster: row.get(2) }))
}

/// Reads what a replica has of the log.
pub(in crate::store) async fn replica_log(client: &impl Run) -> DbResult<Option<ReplicaLog>> {
    let rows = client.rows(include_str!("../sql/database/replica_position.sql"), &[]).await?;
    Ok(rows.first().map(|row| ReplicaLog { received: row.get(0), cluster: row.get(1) }))
}

/// Whether a replica has replayed the log up to a position.
pub(in crate::store) async fn has_replayed(client: &impl Run, position: i64) -> DbResult<bool> {
    let rows = client.rows(include_str!("../sql/database/has_replayed.sql"), &[&position]).await?;
    Ok(rows.first().is_some_and(|row| row.get(0)))
}
