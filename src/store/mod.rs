//! The only place that knows Postgres: connections, the group commit, loads, queries and migrations.
//!
//! SQL stands in files under `sql/`, one statement (or one part of the commit statement) each.

pub mod aggregate;
pub mod audit;
pub mod changes;
pub mod commit;
pub mod connection;
pub mod credentials;
pub mod due;
mod figures;
pub mod health;
pub mod held;
mod in_row;
#[cfg(test)]
mod in_row_tests;
pub mod inspect;
mod lease_reads;
mod list_jobs;
mod list_records;
pub mod listen;
pub mod load;
pub mod migrate;
pub mod no_connection;
mod page;
pub mod partitions;
pub mod permits;
pub mod pool;
mod queries;
pub mod reader;
pub mod ready;
mod records;
mod sessions;
mod target;
mod target_hosts;
pub mod target_text;
mod tls;
pub mod types;
pub mod walk;

use std::sync::Arc;

use connection::Target;
use health::Pulse;
use pool::{PoolFigures, PoolSettings, ReadPool};

/// Connections that users' reads cannot use up: one for the dispatcher's look, the others for what it hands out and for the loops.
const RESERVED: usize = 4;

/// The database, as the engine and the readers use it.
#[derive(Clone)]
pub struct Store {
    /// Where it is, for connections of one's own.
    pub target: Target,
    /// Connections for reads.
    pub reads: ReadPool,
    /// A few more for what must go on while reads use up theirs: the dispatcher, the loops, and what workers get with leases.
    reserved: ReadPool,
    /// Half of these, for what calls look up there: it keeps the others from nothing.
    repeats: ReadPool,
    /// One for credentials: a revoked key is refused within seconds, however busy the others are.
    credentials: ReadPool,
    pulse: Arc<tokio::sync::Mutex<Pulse>>,
    lease_reads: Arc<lease_reads::LeaseReads>,
}

impl Store {
    /// Opens nothing yet; connections are made as they are needed.
    pub fn new(target: Target, settings: PoolSettings) -> Result<Self, deadpool::managed::BuildError> {
        let reserved =
            ReadPool::new(&target, PoolSettings { max_connections: RESERVED, min_connections: 1, ..settings.clone() })?;
        let one = PoolSettings { max_connections: 1, min_connections: 1, ..settings.clone() };
        let credentials = ReadPool::new(&target, one)?;
        let reads = ReadPool::new(&target, settings)?;
        let repeats = reserved.share(RESERVED / 2);
        Ok(Self { target, reads, reserved, repeats, credentials, pulse: Arc::default(), lease_reads: Arc::default() })
    }

    /// The same database for reads of watches, which begin by the thousand after a restart: they use half of the connections at most.
    pub fn for_watches(&self) -> Self {
        Self { reads: self.reads.share((self.reads.max_connections() / 2).max(1)), ..self.clone() }
    }

    /// The same database for background work: its reads use connections that reads of calls cannot use up.
    pub fn for_background(&self) -> Self {
        Self { reads: self.reserved.clone(), ..self.clone() }
    }

    /// What each pool of connections is doing now, by name.
    pub fn pools(&self) -> [(&'static str, PoolFigures); 2] {
        [("reads", self.reads.figures()), ("reserved", self.reserved.figures())]
    }

    /// Closes connections that have been idle for too long; returns how many.
    pub fn retire_idle(&self) -> usize {
        self.reads.retire_idle() + self.reserved.retire_idle() + self.credentials.retire_idle()
    }

    /// Uses none of the connections again that are there now.
    fn renew(&self) {
        self.reads.renew();
        self.reserved.renew();
        self.credentials.renew();
    }
}

#[cfg(test)]
mod cost_tests;
#[cfg(test)]
mod page_cost_tests;
#[cfg(test)]
mod plan_tests;
#[cfg(test)]
pub(crate) mod tests;
