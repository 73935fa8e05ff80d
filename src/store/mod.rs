//! The only place that knows Postgres: connections, the group commit, loads, queries and migrations.
//!
//! SQL stands in files under `sql/`, one statement (or one part of the commit statement) each.

pub mod changes;
pub mod commit;
pub mod connection;
pub mod due;
mod health;
mod list_jobs;
pub mod listen;
pub mod load;
pub mod migrate;
pub mod partitions;
pub mod pool;
mod queries;
pub mod reader;
pub mod types;

use std::sync::Arc;

use connection::Target;
use health::Pulse;
use pool::{PoolSettings, ReadPool};

/// The database, as the engine and the readers use it.
#[derive(Clone)]
pub struct Store {
    /// Where it is, for connections of one's own.
    pub target: Target,
    /// Connections for reads.
    pub reads: ReadPool,
    pulse: Arc<Pulse>,
}

impl Store {
    /// Opens nothing yet; connections are made as they are needed.
    pub fn new(target: Target, settings: PoolSettings) -> Result<Self, deadpool_postgres::BuildError> {
        let reads = ReadPool::new(&target, settings)?;
        Ok(Self { target, reads, pulse: Arc::default() })
    }
}

#[cfg(test)]
pub(crate) mod tests;
