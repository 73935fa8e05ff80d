//! The only place that knows Postgres: connections, the group commit, loads, queries and migrations.
//!
//! SQL stands in files under `sql/`, one statement (or one part of the commit statement) each.

pub mod commit;
pub mod connection;
pub mod due;
mod list_jobs;
pub mod load;
pub mod migrate;
pub mod partitions;
pub mod pool;
mod queries;
pub mod types;

use std::time::Duration;

use connection::{Run, Target};
use pool::{PoolSettings, ReadPool};

/// How long a look at the database's health may take.
const HEALTH_PATIENCE: Duration = Duration::from_secs(2);

/// The database, as the engine and the readers use it.
#[derive(Clone)]
pub struct Store {
    /// Where it is, for connections of one's own.
    pub target: Target,
    /// Connections for reads.
    pub reads: ReadPool,
}

impl Store {
    /// Opens nothing yet; connections are made as they are needed.
    pub fn new(target: Target, settings: PoolSettings) -> Result<Self, deadpool_postgres::BuildError> {
        let reads = ReadPool::new(&target, settings)?;
        Ok(Self { target, reads })
    }

    /// Whether the database answers, can be written, and has room for the history of the next days.
    pub async fn is_ready(&self) -> bool {
        let look = async {
            let client = self.reads.get().await.ok()?;
            let rows = client.rows(include_str!("sql/health.sql"), &[]).await.ok()?;
            rows.first().map(|row| row.get::<_, bool>(0))
        };
        tokio::time::timeout(HEALTH_PATIENCE, look).await.ok().flatten().unwrap_or(false)
    }
}

#[cfg(test)]
pub(crate) mod tests;
